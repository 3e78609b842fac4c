"""Random histories: after any sequence of changes and faults, the warehouse holds the right rows.

A history is a list of actions. Customers, orders and prices are added, changed, deleted and added again. Writers commit late,
by a clock that sometimes goes back. Runs with one to three workers load the warehouse while writes to mirrors, dimensions and
facts fail, are retried, or kill their worker. A transformation changes, the sessions of the workers have settings of all kinds, and some writers are replicas. Writers act during a run: it is blocked at a table, writers begin, act, commit
and roll back, sometimes the blocked worker is killed, and then the run continues. At the end all faults are removed, and after
one more run the star schemas must equal the recomputation row by row.

`pytest tests/warehouse/test_histories.py --histories 5000` plays more of them. A failing history is printed, as short as
possible, with a line that repeats it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Literal

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, event, example, given, settings
from hypothesis import strategies as st
from psycopg import sql

from tests.support.database import Database
from tests.support.waiting import wait_for
from tests.warehouse import faults
from tests.warehouse.play import Play
from tests.warehouse.recomputation import broken_invariants
from tests.warehouse.reused import prepare_reset
from tests.warehouse.shop import NothingThereError, Shop

SOURCES = (
    "addresses",
    "customers",
    "order_lines",
    "order_statuses",
    "orders",
    "payment_methods",
    "product_prices",
    "product_subtypes",
    "product_types",
    "products",
    "suppliers",
)
OF_PRODUCT = ["products", "product_prices", "product_subtypes", "product_types"]
BREAKABLE = (
    *(f"delta.{name}" for name in SOURCES),
    *(f"stage.{name}" for name in SOURCES),
    "dwh.dim_address",
    "dwh.dim_customer",
    "dwh.dim_payment",
    "dwh.dim_product",
    "dwh.dim_product",
    "dwh.dim_product",
    "dwh.dim_status",
    "dwh.dim_supplier",
    "dwh.fact_order",
    "dwh.fact_order_line",
    "etl.watermark",
    "etl.reprocessing_queue",
)
# Where a run can be blocked while writers act: in its extraction, its merges, each load, and at the end of a task.
HOLDABLE = (
    "delta.order_lines",
    "delta.orders",
    "delta.products",
    "stage.order_lines",
    "stage.orders",
    "stage.products",
    "dwh.dim_customer",
    "dwh.dim_product",
    "dwh.fact_order",
    "dwh.fact_order_line",
    "dwh.agg_product_monthly",
    "etl.extraction",
    "etl.watermark",
)
HOW = ("P0001", "23505", "40P01", faults.DIE)
# What a run may be restricted to. Four tables describe a product: they are only loaded together.
PARTS: tuple[list[str], ...] = (
    ["orders"],
    ["order_lines"],
    ["customers", "dim_customer"],
    [*OF_PRODUCT, "dim_product"],
    ["dim_customer", "dim_address"],
    ["fact_order"],
    ["fact_order_line"],
    [*SOURCES, "customers_addresses"],
)
REFRESHES = (
    "all",
    "orders",
    "order_lines",
    "customers",
    "dim_customer",
    "dim_product",
    "fact_order",
    "fact_order_line",
    "agg_product_monthly",
)


@dataclass
class Things:
    """Rows that exist, or existed once."""

    customers: list[int] = field(default_factory=list)
    addresses: list[int] = field(default_factory=list)
    homes: list[tuple[int, int]] = field(default_factory=list)
    suppliers: list[int] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    subtypes: list[int] = field(default_factory=list)
    products: list[int] = field(default_factory=list)
    orders: list[int] = field(default_factory=list)
    lines: list[tuple[int, int]] = field(default_factory=list)


# A number chooses among existing rows, so that histories stay meaningful while they are shortened.
pick = st.integers(0, 7)


def pick_of(things: list[Any], number: int) -> Any:
    """Choose one; the highest numbers choose the latest."""
    if not things:
        raise NothingThereError
    return things[-1 - number % len(things)]


def gone(shop: Shop, table: str, column: str, numbers: list[int]) -> list[int]:
    """Return those numbers whose rows were deleted.

    A key is free once its row is deleted, so no writer can use it again before that time: the
    clock advances to the last deletion.
    """
    deleted = shop.connection.execute(
        "SELECT max(deleted_at) FROM oceanrecords.deleted_rows WHERE table_name = %s", [table]
    ).fetchone()
    if deleted is not None and deleted[0] is not None:
        shop.now = max(shop.now, deleted[0])
    query = sql.SQL("SELECT {0} FROM oceanrecords.{1} WHERE {0} = ANY (%s)")
    rows = shop.connection.execute(
        query.format(sql.Identifier(column), sql.Identifier(table)), [numbers]
    )
    there = {number for (number,) in rows}
    return [number for number in numbers if number not in there]


@dataclass(frozen=True)
class Business:
    """An action of the business."""

    name: str
    a: int
    b: int
    n: int

    def perform(self, shop: Shop, things: Things) -> None:
        getattr(self, f"_{self.name}")(shop, things)

    def _customer(self, shop: Shop, things: Things) -> None:
        things.customers.append(shop.customer("Eve", segment=("consumer", "business")[self.n % 2]))
        self._home(shop, things)

    def _home(self, shop: Shop, things: Things) -> None:
        customer = pick_of(things.customers, self.a)
        address = shop.address(customer, city=f"City {self.n}")
        things.addresses.append(address)
        things.homes.append((customer, address))

    def _share_home(self, shop: Shop, things: Things) -> None:
        pair = pick_of(things.customers, self.a), pick_of(things.addresses, self.b)
        shop.move_in(*pair)
        things.homes.append(pair)

    def _product(self, shop: Shop, things: Things) -> None:
        product = shop.product(
            pick_of(things.subtypes, self.a), pick_of(things.suppliers, self.b), Decimal(self.n + 1)
        )
        things.products.append(product)

    def _assortment(self, shop: Shop, things: Things) -> None:
        if self.a % 3 == 0:
            things.kinds.append(shop.product_type(f"Type {shop.now}"))
        elif self.a % 3 == 1:
            things.subtypes.append(shop.subtype(pick_of(things.kinds, self.b), f"{shop.now}"))
        else:
            things.suppliers.append(shop.supplier(name=f"Label of {shop.now}"))

    def _order(self, shop: Shop, things: Things) -> None:
        customer, address = pick_of(things.homes, self.a)
        lines = {pick_of(things.products, self.b + i): self.n + 1 for i in range(self.n % 3)}
        # Some orders are recorded late.
        ordered_at = shop.now - timedelta(hours=self.n * 7 if self.n > 4 else 0)
        order = shop.order(customer, address, lines, ordered_at=ordered_at)
        things.orders.append(order)
        things.lines += [(order, number) for number in range(1, len(lines) + 1)]

    def _line(self, shop: Shop, things: Things) -> None:
        order, number = pick_of(things.orders, self.a), self.n % 4 + 1
        shop.line(order, number, pick_of(things.products, self.b), self.n + 1)
        things.lines.append((order, number))

    def _change_line(self, shop: Shop, things: Things) -> None:
        order, number = pick_of(things.lines, self.a)
        key = {"order_id": order, "line_number": number}
        if self.n % 2:
            shop.update("order_lines", key, quantity=self.n + 2)
        else:
            shop.update("order_lines", key, product_id=pick_of(things.products, self.b))

    def _move_line(self, shop: Shop, things: Things) -> None:
        line = pick_of(things.lines, self.a)
        to = pick_of(things.orders, self.b), self.n % 4 + 1
        shop.update(
            "order_lines",
            dict(zip(("order_id", "line_number"), line, strict=True)),
            order_id=to[0],
            line_number=to[1],
        )
        things.lines.append(to)

    def _delete_line(self, shop: Shop, things: Things) -> None:
        order, number = pick_of(things.lines, self.a)
        shop.delete("order_lines", order_id=order, line_number=number)

    def _advance(self, shop: Shop, things: Things) -> None:
        order = pick_of(things.orders, self.a)
        row = shop.connection.execute(
            "SELECT order_status_id FROM oceanrecords.orders WHERE order_id = %s", [order]
        ).fetchone()
        if row is None:
            raise NothingThereError
        following = {1: ("paid", "cancelled"), 2: ("shipped", "cancelled"), 3: ("delivered",)}
        statuses = following.get(row[0], ("refunded",))
        shop.advance(order, statuses[(self.n // 4) % len(statuses)])

    def _change_order(self, shop: Shop, things: Things) -> None:
        key = {"order_id": pick_of(things.orders, self.a)}
        if self.n % 2:
            shop.update("orders", key, payment_method_id=self.n % 5 + 1)
        elif self.n % 4:
            shop.update("orders", key, ordered_at=shop.now - timedelta(hours=self.n * 5))
        else:
            customer, address = pick_of(things.homes, self.b)
            shop.update("orders", key, customer_id=customer, address_id=address)

    def _delete_order(self, shop: Shop, things: Things) -> None:
        shop.delete("orders", order_id=pick_of(things.orders, self.a))

    def _order_again(self, shop: Shop, things: Things) -> None:
        """A deleted order is added again under its number."""
        customer, address = pick_of(things.homes, self.b)
        order = pick_of(gone(shop, "orders", "order_id", things.orders), self.a)
        shop.order(customer, address, {pick_of(things.products, self.n): 1}, order_id=order)

    def _change_customer(self, shop: Shop, things: Things) -> None:
        key = {"customer_id": pick_of(things.customers, self.a)}
        if self.n % 3:
            shop.update("customers", key, segment=("consumer", "business")[self.n % 2])
        else:
            shop.update("customers", key, first_name=f"Eve {self.n}", phone=f" {self.n}")

    def _delete_customer(self, shop: Shop, things: Things) -> None:
        shop.delete("customers", customer_id=pick_of(things.customers, self.a))

    def _customer_again(self, shop: Shop, things: Things) -> None:
        customer = pick_of(gone(shop, "customers", "customer_id", things.customers), self.a)
        shop.customer("Eva", customer_id=customer, segment=("consumer", "business")[self.n % 2])
        pair = customer, pick_of(things.addresses, self.b)
        shop.move_in(*pair)
        things.homes.append(pair)

    def _change_address(self, shop: Shop, things: Things) -> None:
        key = {"address_id": pick_of(things.addresses, self.a)}
        if self.n % 3:
            shop.update("addresses", key, city=f"City {self.n % 4}")
        else:
            shop.update("addresses", key, street=f"Road {self.n}", country_code="FR")

    def _change_price(self, shop: Shop, things: Things) -> None:
        shop.change_price(pick_of(things.products, self.a), Decimal(self.n + 1))

    def _late_price(self, shop: Shop, things: Things) -> None:
        """A price of some hours ago, recorded now."""
        shop.insert(
            "product_prices",
            product_id=pick_of(things.products, self.a),
            valid_from=shop.now - timedelta(hours=self.b * 3 + 1),
            price=Decimal(self.n + 1),
        )

    def _change_product(self, shop: Shop, things: Things) -> None:
        key = {"product_id": pick_of(things.products, self.a)}
        change: dict[str, Any] = (
            {"supplier_id": pick_of(things.suppliers, self.b)},
            {"product_subtype_id": pick_of(things.subtypes, self.b)},
            {"name": f"Record {self.n}", "is_active": False},
            {"price": Decimal(self.n + 1), "supplier_id": pick_of(things.suppliers, self.b)},
        )[self.n % 4]
        shop.update("products", key, **change)

    def _delete_product(self, shop: Shop, things: Things) -> None:
        shop.delete("products", product_id=pick_of(things.products, self.a))

    def _product_again(self, shop: Shop, things: Things) -> None:
        shop.product(
            pick_of(things.subtypes, self.b),
            pick_of(things.suppliers, self.b),
            Decimal(self.n + 1),
            product_id=pick_of(gone(shop, "products", "product_id", things.products), self.a),
        )

    def _reclassify(self, shop: Shop, things: Things) -> None:
        if self.n % 3 == 0:
            key = {"product_type_id": pick_of(things.kinds, self.a)}
            shop.update("product_types", key, name=f"Renamed {shop.now}")
        elif self.n % 3 == 1:
            key = {"product_subtype_id": pick_of(things.subtypes, self.a)}
            shop.update("product_subtypes", key, product_type_id=pick_of(things.kinds, self.b))
        else:
            key = {"supplier_id": pick_of(things.suppliers, self.a)}
            shop.update("suppliers", key, name=f"Renamed {shop.now}")

    def _redefine(self, shop: Shop, _things: Things) -> None:
        if self.n % 2:
            key = {"order_status_id": self.a % 6 + 1}
            shop.update("order_statuses", key, is_lost=self.b % 2 == 0)
        else:
            shop.update("payment_methods", {"payment_method_id": self.a % 5 + 1}, name=f"P{self.n}")

    def _rewrite(self, shop: Shop, _things: Things) -> None:
        """Rows are updated to the values that they have."""
        with shop.transaction() as connection:
            connection.execute("UPDATE oceanrecords.orders SET order_id = order_id")
            connection.execute("UPDATE oceanrecords.products SET name = name")

    def _time_goes_by(self, shop: Shop, _things: Things) -> None:
        shop.wait(hours=self.n * 4)

    def _clock_goes_back(self, shop: Shop, _things: Things) -> None:
        shop.wait(hours=-self.n)


ACTIONS = sorted(name[1:] for name in vars(Business) if name.startswith("_") and name[1] != "_")


@dataclass(frozen=True)
class Late:
    """A second writer, which commits at any time: its transaction begins with its first action."""

    action: Business | Literal["commit", "rollback"]


@dataclass(frozen=True)
class Break:
    """From here on, `times` writes to a table fail, or kill their worker."""

    table: str
    how: str
    times: int


@dataclass(frozen=True)
class Replica:
    """An action of a writer for which ordinary triggers do not fire, as logical replication is."""

    action: Business


@dataclass(frozen=True)
class Change:
    """A transformation changes, or changes back, as it does at the end of the history.

    Not the time zone: an attribute of type 0 keeps the day of the zone in which it was loaded.
    """


@dataclass(frozen=True)
class Session:
    """From here on, the workers' sessions have other settings."""

    settings: str


@dataclass(frozen=True)
class Mend:
    """All faults are removed."""


@dataclass(frozen=True)
class Run:
    """The warehouse is loaded by some workers, perhaps in part, completely, or while others write.

    Attributes:
        workers: how many.
        only: the part that is loaded, of PARTS.
        full_refresh: the object that is loaded completely.
        held: table at which the first worker that writes to it is blocked until the writers have acted.
        beside: what writers do during the run; without `held`, at any time.
        kills: how many of the workers that reach the table are killed there, one after the other.
    """

    workers: int = 1
    only: int | None = None
    full_refresh: str | None = None
    held: str | None = None
    beside: tuple[Business | Late, ...] = ()
    kills: int = 0


# Foreign keys are no matter to a replica: only actions that refer to no other row.
BY_REPLICA = ("change_address", "change_customer", "delete_line", "rewrite")
SESSIONS = (
    "RESET ALL",
    "SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'SQL, DMY'",
    "SET IntervalStyle = 'iso_8601'; SET bytea_output = 'escape'; SET extra_float_digits = -15",
    "SET quote_all_identifiers = on; SET search_path = nowhere",
    "SET default_transaction_isolation = 'serializable'; SET plan_cache_mode = force_generic_plan",
)
business = st.builds(Business, name=st.sampled_from(ACTIONS), a=pick, b=pick, n=st.integers(0, 9))
late = st.one_of(
    st.builds(Late, action=business),
    st.builds(Late, action=st.sampled_from(["commit", "rollback"])),
)
runs = st.one_of(
    st.builds(Run, workers=st.integers(1, 3)),
    st.builds(
        Run,
        workers=st.integers(1, 3),
        held=st.none() | st.sampled_from(HOLDABLE),
        beside=st.lists(st.one_of(business, late), min_size=1, max_size=6).map(tuple),
        kills=st.sampled_from([0, 0, 1, 2]),
    ),
    st.builds(
        Run,
        workers=st.integers(1, 2),
        only=st.none() | st.integers(0, len(PARTS) - 1),
        full_refresh=st.none() | st.sampled_from(REFRESHES),
    ),
)
steps = st.one_of(
    st.builds(Mend),
    st.builds(Change),
    st.builds(Session, settings=st.sampled_from(SESSIONS)),
    st.builds(
        Replica,
        action=st.builds(
            Business, name=st.sampled_from(BY_REPLICA), a=pick, b=pick, n=st.integers(0, 9)
        ),
    ),
    business,
    business,
    business,
    business,
    business,
    business,
    business,
    late,
    late,
    st.builds(
        Break,
        table=st.sampled_from(BREAKABLE),
        how=st.sampled_from(HOW),
        times=st.sampled_from([1, 2, 5, faults.FOR_EVER]),
    ),
    runs,
    runs,
)


class World:
    """A shop and its warehouse, played through one history after the other."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.played = 0
        # The clock of the shop stands in the past: rows that it deletes were deleted long ago.
        database.execute("UPDATE etl.personal_column SET kept_after_deletion = NULL")
        # The first run need not compare all definitions again.
        database.value("SELECT etl._request_changed()")
        prepare_reset(database)
        self.play = Play.observed(database.connect)
        self.helpers: list[psycopg.Connection[Any]] = []
        self.broken: set[str] = set()
        self.session = "RESET ALL"
        self.original: str | None = None  # the view that was replaced
        self.late = Shop(database.connect())
        self.holder = database.connect()
        self.open_transaction: contextlib.ExitStack | None = None
        for shop in (self.play.shop, self.late):
            shop.connection.execute("SET lock_timeout = '20ms'")

    def begin(self) -> None:
        """Begin a history: a few customers have ordered, nothing is loaded yet."""
        if self.open_transaction is not None:
            self.commit_late(keep=False)
        self.mend()
        self.change_back()
        self.session = "RESET ALL"
        self.play.loader.execute("SELECT pristine.restore()")
        shop = self.play.shop = Shop(self.play.shop.connection)
        kinds = [shop.product_type("Vinyl"), shop.product_type("Books")]
        things = self.things = Things(
            suppliers=[shop.supplier(), shop.supplier()],
            kinds=kinds,
            subtypes=[shop.subtype(kind, "Jazz") for kind in kinds],
        )
        for number in range(3):
            for name in ("product", "customer", "order"):
                Business(name, number, number, number).perform(shop, things)

    def end(self) -> None:
        """End a history: faults and changes are removed, everything is committed and loaded."""
        self.commit_late(keep=True)
        self.mend()
        self.change_back()
        self.run(Run())
        # The first may have resumed a dead run, with its failures. Rows that an injected fault sent to quarantine are retried.
        self.play.value("SELECT etl.retry_quarantine()")
        assert self.run(Run()) == "succeeded", self.play.failures()
        self.play.assert_right()
        self.played += 1

    def step(self, step: Any) -> None:
        match step:
            case Business():
                self.act(self.play.shop, step)
            case Late(action=Business() as action):
                self.act_late(action)
            case Late(action=word):
                self.commit_late(keep=word == "commit")
            case Break():
                faults.break_table(self.play.loader, step.table, step.how, step.times)
                self.broken.add(step.table)
            case Replica():
                connection = self.play.shop.connection
                connection.execute("SET session_replication_role = replica")
                self.act(self.play.shop, step.action)
                connection.execute("RESET session_replication_role")
            case Change():
                self.change()
            case Session():
                self.session = step.settings
            case Mend():
                self.mend()
            case Run():
                self.run(step)

    def act(self, shop: Shop, action: Business) -> None:
        """Try an action; rules of the operational system or the lock of another writer may refuse it."""
        refused = (
            NothingThereError,
            psycopg.errors.IntegrityError,
            psycopg.errors.LockNotAvailable,
            psycopg.errors.RaiseException,
        )
        try:
            with contextlib.suppress(*refused):
                action.perform(shop, self.things)
        except psycopg.Error as error:
            if error.sqlstate not in ("OR001", "OR003"):
                raise

    def act_late(self, action: Business) -> None:
        if self.open_transaction is None:
            self.late.now = self.play.shop.now
            self.open_transaction = contextlib.ExitStack()
            self.open_transaction.enter_context(_transaction(self.late.connection))
        self.act(self.late, action)

    def commit_late(self, *, keep: bool) -> None:
        if self.open_transaction is not None:
            if not keep:
                self.late.connection.execute("SELECT set_config('test.roll_back', 'yes', true)")
            self.open_transaction.close()
            self.open_transaction = None

    def mend(self) -> None:
        for table in self.broken:
            faults.mend_table(self.play.loader, table)
        self.broken.clear()

    def change(self) -> None:
        view, self.original = self.original, None
        if view is None:
            self.original = self.play.value("SELECT pg_get_viewdef('work.dim_payment'::regclass)")
            name = r"(\w*\.?name) AS payment_name"
            view, found = re.subn(name, r"upper(\1) AS payment_name", self.original)
            assert found == 1
        self.play.loader.execute(f"CREATE OR REPLACE VIEW work.dim_payment AS {view}".encode())

    def change_back(self) -> None:
        if self.original is not None:
            self.change()

    def run(self, run: Run) -> str:
        only = None if run.only is None else PARTS[run.only]
        refresh = None if run.full_refresh is None else [run.full_refresh]
        try:
            start = self.worker(0).execute("SELECT etl.start_run(%s, %s, 'test')", [only, refresh])
        except psycopg.Error:
            # If nothing has changed in the source, the start itself moves the watermark.
            assert "etl.watermark" in self.broken
            return "not started"
        row = start.fetchone()
        assert row is not None
        workers = [self.worker(number) for number in range(run.workers)]
        work = [
            faults.Background(partial(worker.execute, "CALL etl.work(%s)", row))
            for worker in workers
        ]
        if run.held is None:
            self.act_beside(run)
        else:
            self.hold(run, work)
        for one in work:
            error = one.join()
            # A killed worker, or one that joined after the end, is no failure of the run.
            if error is not None and not isinstance(error, psycopg.OperationalError):
                raise error
        broken = broken_invariants(self.play.loader, settled=False)
        assert not broken, broken
        return str(self.play.value("SELECT status FROM etl.run WHERE run_id = %s", row[0]))

    def act_beside(self, run: Run) -> None:
        for step in run.beside:
            self.step(step)

    def hold(self, run: Run, work: list[faults.Background]) -> None:
        """Let writers act, and kill workers, while the run waits for a table (if it reaches it)."""
        assert run.held is not None
        with self.holder.transaction():
            self.holder.execute(
                sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(
                    sql.Identifier(*run.held.split("."))
                )
            )
            self.await_arrival(run.held, work)
            self.act_beside(run)
            for _ in range(run.kills):
                for pid in self.await_arrival(run.held, work)[:1]:
                    self.play.value("SELECT pg_terminate_backend(%s, 10000)", pid)

    def await_arrival(self, table: str, work: list[faults.Background]) -> list[int]:
        """Wait until workers wait for a table, or all have ended; return those that wait."""
        query = (
            "SELECT l.pid FROM pg_locks AS l WHERE NOT l.granted AND l.relation = %s::regclass"
            " AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())"
        )
        waiting: list[int] = []

        def has_arrived() -> bool:
            waiting[:] = [pid for (pid,) in self.play.rows(query, table)]
            return bool(waiting) or not any(one.is_running for one in work)

        wait_for(has_arrived, f"a worker to come to {table}")
        if waiting:
            event(f"writers or deaths while a worker waited for {table}")
        return waiting

    def worker(self, number: int) -> psycopg.Connection[Any]:
        """Return the connection of a worker, a new one after it was killed."""
        while len(self.helpers) <= number:
            self.helpers.append(self.database.connect())
        if self.helpers[number].closed:
            self.helpers[number] = self.database.connect()
        self.helpers[number].execute(self.session.encode())
        return self.helpers[number]


@contextlib.contextmanager
def _transaction(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """A transaction that the setting test.roll_back rolls back at its end."""
    with connection.transaction():
        yield
        row = connection.execute("SELECT current_setting('test.roll_back', true)").fetchone()
        if row == ("yes",):
            raise psycopg.Rollback


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


# Other modules show that the engine works on every server; here the number of histories counts.
# However many there are, no wait in a history is longer than tests.support.waiting allows.
@pytest.mark.server("embedded")
@pytest.mark.slow
@pytest.mark.timeout(0)
def test_random_histories_end_in_the_right_stars(
    world: World, request: pytest.FixtureRequest
) -> None:
    """After any history and a last run, the warehouse equals the recomputation."""

    @settings(
        max_examples=request.config.getoption("--histories"),
        deadline=None,
        print_blob=True,
        database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    # A start with nothing new moves the watermarks itself, past a batch that failed.
    @example([Run(), Break("etl.watermark", "P0001", faults.FOR_EVER), Run()])
    @example([Run(), Break("etl.watermark", faults.DIE, 1), Run()])
    @given(history=st.lists(steps, min_size=16, max_size=48))
    def play(history: list[Any]) -> None:
        world.begin()
        for step in history:
            world.step(step)
        world.end()

    try:
        play()
    finally:
        print(f"{world.played} histories played to their end")
