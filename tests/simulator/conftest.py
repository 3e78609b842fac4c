"""A shop made by hand, and one with a history."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import psycopg
import pytest

from base.connection import Target
from driver.migrate import Migrator
from simulator.seed import seed
from tests.support.database import Database, temporary_database
from tests.support.servers import RunningServer

END = date(2026, 1, 15)
"""The day before which seeded histories of these tests end."""

SHOP = """
    INSERT INTO oceanrecords.customers (first_name, last_name, email)
    VALUES ('Ada', 'Berg', 'ada@example.com'), ('Bo', 'Berg', 'bo@example.com');
    INSERT INTO oceanrecords.addresses (street, postal_code, city, country_code)
    VALUES ('Kai 1', '20095', 'Hamburg', 'DE'), ('Quai 2', '75001', 'Paris', 'FR');
    INSERT INTO oceanrecords.customers_addresses (customer_id, address_id) VALUES (1, 1), (2, 2);
    INSERT INTO oceanrecords.suppliers (name, country_code) VALUES ('Nordlys', 'SE');
    INSERT INTO oceanrecords.product_types (name) VALUES ('Vinyl');
    INSERT INTO oceanrecords.product_subtypes (product_type_id, name)
    VALUES (1, 'Jazz LP'), (1, 'Rock LP');
    INSERT INTO oceanrecords.products (product_subtype_id, supplier_id, sku, name, price)
    VALUES (1, 1, 'A-1', 'Slow Tides', 20), (2, 1, 'A-2', 'Neon Whales', 30);
    INSERT INTO oceanrecords.orders (customer_id, address_id, payment_method_id, ordered_at)
    VALUES (1, 1, 1, '2025-03-01 12:00:00+00');
    INSERT INTO oceanrecords.order_lines (order_id, line_number, product_id, quantity, unit_price)
    VALUES (1, 1, 1, 2, 20), (1, 2, 2, 1, 30);
"""


@pytest.fixture
def shop(database: Database) -> Database:
    """A shop with two customers, two products, and an order of two lines that is placed."""
    database.execute(SHOP)
    return database


@pytest.fixture(scope="session")
def seeded_template(server: RunningServer) -> Iterator[str]:
    """Name of a database with a small history, to be copied."""
    with temporary_database(server, None) as made:
        Migrator(Target(made.dsn, "tests")).apply()
        seed(made.connect(), orders=1500, months=12, seed=7, until=END)
        made.close()
        yield made.name


@pytest.fixture
def template(template: str, request: pytest.FixtureRequest) -> str:
    """Name of what `database` is a copy of: with a history in the tests that take `seeded`."""
    if "seeded" in request.fixturenames:
        copied: str = request.getfixturevalue("seeded_template")
        return copied
    return template


@pytest.fixture
def seeded(database: Database) -> psycopg.Connection[Any]:
    """A connection (autocommit) to `database`, which has a small history."""
    return database.connect()
