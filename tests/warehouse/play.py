"""A shop, its warehouse, and the questions that tests ask of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests.warehouse.recomputation import broken_invariants, compare, observe
from tests.warehouse.shop import Shop

Connect = Callable[[], psycopg.Connection[Any]]


@dataclass
class Play:
    """What a test acts with.

    Attributes:
        connect: opens one more connection (autocommit).
        loader: connection that the runs use.
        shop: acts on the operational system.
    """

    connect: Connect
    loader: psycopg.Connection[Any]
    shop: Shop
    # Set by `open`: what there is in the shop.
    customer: int = 0
    address: int = 0
    supplier: int = 0
    kind: int = 0
    subtype: int = 0
    product: int = 0
    other_product: int = 0
    orders: list[int] = field(default_factory=list)

    @classmethod
    def on(cls, connect: Connect) -> Play:
        """Begin on a warehouse that has not been loaded yet, and put the observer beside it."""
        play = cls.observed(connect)
        observe(play.loader)
        return play

    @classmethod
    def observed(cls, connect: Connect) -> Play:
        """Begin on a warehouse that has its observer already."""
        return cls(connect, connect(), Shop(connect()))

    def open(self) -> None:
        """Set the shop up: a customer with an address, two products of one supplier, an order."""
        shop = self.shop
        self.customer = shop.customer("Ada")
        self.address = shop.address(self.customer)
        self.supplier = shop.supplier()
        self.kind = shop.product_type("Vinyl")
        self.subtype = shop.subtype(self.kind, "Jazz")
        self.product = shop.product(self.subtype, self.supplier, "10.00")
        self.other_product = shop.product(self.subtype, self.supplier, "25.50")
        shop.wait(days=1)
        self.orders = [shop.order(self.customer, self.address, {self.product: 2})]

    def tolerate_quarantine(self) -> None:
        """Let runs succeed that put rows into quarantine: what matters is which rows are loaded."""
        self.loader.execute(
            "UPDATE etl.setting SET value = '1000000' WHERE name = 'quarantine_tolerated'"
        )

    def run(
        self,
        only: list[str] | None = None,
        full_refresh: list[str] | None = None,
        expect: str | None = "succeeded",
    ) -> str:
        """Load the warehouse; return the status of the run, which must be the expected one."""
        self.loader.execute("CALL etl.run(%s, %s, 'test')", [only, full_refresh])
        status = str(self.value("SELECT status FROM etl.run ORDER BY run_id DESC LIMIT 1"))
        assert expect in (None, status), f"run is {status}: {self.failures()}"
        return status

    def failures(self) -> list[Any]:
        """Return what the last run says of its tasks that did not succeed."""
        return self.loader.execute(
            "SELECT task, status, sqlstate, message, context FROM etl.task_status"
            " WHERE status <> 'succeeded' ORDER BY position"
        ).fetchall()

    def row(self, query: str, *parameters: Any) -> dict[str, Any]:
        """Return the only row of a query."""
        with self.loader.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(query.encode(), parameters or None).fetchall()
        assert len(rows) == 1, f"{len(rows)} rows instead of one: {query}"
        return rows[0]

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return self.loader.execute(query.encode(), parameters or None).fetchall()

    def value(self, query: str, *parameters: Any) -> Any:
        """Return the only value of a query."""
        (value,) = self.row(query, *parameters).values()
        return value

    def assert_right(self) -> None:
        """The warehouse is what the recomputation says, and every invariant holds."""
        problems = compare(self.loader) + broken_invariants(self.loader, settled=True)
        assert not problems, "\n" + "\n".join(sorted(problems))
