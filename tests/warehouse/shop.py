"""The operational system in a test's hands: each action is one transaction at a chosen moment of the business clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import sql

STATUSES = {"placed": 1, "paid": 2, "shipped": 3, "delivered": 4, "cancelled": 5, "refunded": 6}


class NothingThereError(Exception):
    """There is nothing to act upon."""


class Shop:
    """Acts on the operational tables through one connection, with a clock of its own.

    Attributes:
        connection: autocommit; every action is a transaction on it, unless one is open already.
        now: the business clock; each action moves it on by a minute first, so that no two share a moment.
    """

    def __init__(self, connection: psycopg.Connection[Any], now: datetime | None = None) -> None:
        self.connection = connection
        self.now = now or datetime(2025, 3, 10, 8, 0, tzinfo=UTC)

    def wait(self, **duration: float) -> datetime:
        """Move the clock on, e.g. `wait(days=1)`; return the moment."""
        self.now += timedelta(**duration)
        return self.now

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[Any]]:
        """A transaction at the next moment of the clock."""
        self.wait(minutes=1)
        with self.connection.transaction():
            self.connection.execute(
                "SELECT set_config('oceanrecords.clock', %s, true)", [self.now.isoformat()]
            )
            yield self.connection

    # Rows of any table -------------------------------------------------------------------------------------------

    def insert(self, table: str, **values: Any) -> Any:
        """Insert a row; return its first column."""
        with self.transaction() as connection:
            statement = sql.SQL("INSERT INTO oceanrecords.{} ({}) VALUES ({}) RETURNING *").format(
                sql.Identifier(table),
                sql.SQL(", ").join(map(sql.Identifier, values)),
                sql.SQL(", ").join(sql.Placeholder() for _ in values),
            )
            row = connection.execute(statement, list(values.values())).fetchone()
        assert row is not None
        return row[0]

    def update(self, table: str, key: Mapping[str, Any], **values: Any) -> None:
        """Update the row with a key; there must be one."""
        with self.transaction() as connection:
            statement = sql.SQL("UPDATE oceanrecords.{} SET {} WHERE {}").format(
                sql.Identifier(table), _pairs(values, ", "), _pairs(key, " AND ")
            )
            done = connection.execute(statement, [*values.values(), *key.values()])
            if done.rowcount != 1:
                raise NothingThereError(f"{table} has {done.rowcount} rows with {key}")

    def delete(self, table: str, **key: Any) -> None:
        """Delete the row with a key; there must be one."""
        with self.transaction() as connection:
            statement = sql.SQL("DELETE FROM oceanrecords.{} WHERE {}").format(
                sql.Identifier(table), _pairs(key, " AND ")
            )
            done = connection.execute(statement, list(key.values()))
            if done.rowcount != 1:
                raise NothingThereError(f"{table} has {done.rowcount} rows with {key}")

    # What the business does --------------------------------------------------------------------------------------

    def customer(self, first_name: str = "Ada", **values: Any) -> int:
        """A new customer; the e-mail address is made up."""
        number = self._next("customers")
        details = {
            "first_name": first_name,
            "last_name": "Byron",
            "email": f"{first_name}.{number}@example.org",
            "segment": "consumer",
        }
        customer: int = self.insert("customers", **details | values)
        return customer

    def address(self, customer: int | None = None, city: str = "Hamburg", **values: Any) -> int:
        """A new address, of a customer where one is given."""
        details = {
            "street": "Kai 1",
            "postal_code": "20457",
            "city": city,
            "country_code": "DE",
        }
        address: int = self.insert("addresses", **details | values)
        if customer is not None:
            self.move_in(customer, address)
        return address

    def move_in(self, customer: int, address: int) -> None:
        """An address that exists becomes one of the customer's."""
        self.insert("customers_addresses", customer_id=customer, address_id=address)

    def supplier(self, **values: Any) -> int:
        number = self._next("suppliers")
        supplier: int = self.insert(
            "suppliers", **{"name": f"Label {number}", "country_code": "GB"} | values
        )
        return supplier

    def product_type(self, name: str) -> int:
        kind: int = self.insert("product_types", name=name)
        return kind

    def subtype(self, product_type: int, name: str) -> int:
        subtype: int = self.insert("product_subtypes", product_type_id=product_type, name=name)
        return subtype

    def product(
        self, subtype: int, supplier: int, price: str | Decimal = "10.00", **values: Any
    ) -> int:
        number = self._next("products")
        details = {
            "product_subtype_id": subtype,
            "supplier_id": supplier,
            "sku": f"SKU-{number}",
            "name": f"Record {number}",
            "price": Decimal(price),
        }
        product: int = self.insert("products", **details | values)
        return product

    def change_price(self, product: int, price: str | Decimal) -> datetime:
        """Set a product's price; return the moment from which it holds."""
        self.update("products", {"product_id": product}, price=Decimal(price))
        return self.now

    def order(
        self, customer: int, address: int, lines: Mapping[int, int] | None = None, **values: Any
    ) -> int:
        """Place an order: quantity by product, at the products' prices."""
        with self.transaction() as connection:
            fields = {
                "customer_id": customer,
                "address_id": address,
                "payment_method_id": 1,
                "ordered_at": self.now,
            } | values
            row = connection.execute(
                sql.SQL(
                    "INSERT INTO oceanrecords.orders ({}) VALUES ({}) RETURNING order_id"
                ).format(
                    sql.SQL(", ").join(map(sql.Identifier, fields)),
                    sql.SQL(", ").join(sql.Placeholder() for _ in fields),
                ),
                list(fields.values()),
            ).fetchone()
            assert row is not None
            order: int = row[0]
            for number, (product, quantity) in enumerate((lines or {}).items(), start=1):
                connection.execute(
                    "INSERT INTO oceanrecords.order_lines"
                    " (order_id, line_number, product_id, quantity, unit_price)"
                    " SELECT %s, %s, product_id, %s, price FROM oceanrecords.products"
                    " WHERE product_id = %s",
                    [order, number, quantity, product],
                )
        return order

    def line(self, order: int, number: int, product: int, quantity: int = 1) -> None:
        """Add a line to an order."""
        self.insert(
            "order_lines",
            order_id=order,
            line_number=number,
            product_id=product,
            quantity=quantity,
            unit_price=Decimal("9.50"),
        )

    def advance(self, order: int, *statuses: str) -> None:
        """Move an order along its life, e.g. `advance(order, "paid", "shipped")`."""
        for status in statuses:
            self.update("orders", {"order_id": order}, order_status_id=STATUSES[status])

    def _next(self, table: str) -> int:
        row = self.connection.execute(
            sql.SQL("SELECT count(*) FROM oceanrecords.{}").format(sql.Identifier(table))
        ).fetchone()
        gone = self.connection.execute(
            "SELECT count(*) FROM oceanrecords.deleted_rows WHERE table_name = %s", [table]
        ).fetchone()
        assert row is not None
        assert gone is not None
        number: int = row[0] + gone[0] + 1
        return number


def _pairs(values: Mapping[str, Any], separator: str) -> sql.Composed:
    return sql.SQL(separator).join(
        sql.SQL("{} = %s").format(sql.Identifier(column)) for column in values
    )
