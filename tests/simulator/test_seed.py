"""The history: the same for a seed, like a business, all or nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from base.errors import UserError
from simulator.seed import SeedResult, seed
from tests.conftest import Finished
from tests.simulator.conftest import END
from tests.support.database import Database

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

INVARIANTS = Path(__file__).with_name("invariants.sql").read_text(encoding="utf-8")
TABLES = [
    "customers",
    "addresses",
    "customers_addresses",
    "suppliers",
    "product_types",
    "product_subtypes",
    "products",
    "product_prices",
    "payment_methods",
    "order_statuses",
    "order_status_transitions",
    "orders",
    "order_lines",
]


def checksums(database: Database) -> dict[str, str]:
    """Return a checksum of each table, without row_xid."""
    with psycopg.connect(database.dsn) as connection:
        connection.execute("SET timezone = 'UTC'")
        return {
            table: connection.execute(
                f"""
                SELECT md5(string_agg(line, '|' ORDER BY line))
                FROM (
                    SELECT (to_jsonb(t) - 'row_xid')::text AS line FROM oceanrecords.{table} AS t
                ) AS lines
                """.encode()
            ).fetchone()[0]  # type: ignore[index]
            for table in TABLES
        }


def definitions(database: Database) -> list[dict[str, Any]]:
    """Return constraints, indexes and triggers with their states."""
    return database.rows(
        """
        SELECT conrelid::regclass::text AS on_table, conname::text AS name,
            pg_get_constraintdef(oid) AS definition, convalidated::text AS state
        FROM pg_constraint WHERE connamespace = 'oceanrecords'::regnamespace
        UNION ALL
        SELECT tablename, indexname, indexdef, '' FROM pg_indexes WHERE schemaname = 'oceanrecords'
        UNION ALL
        SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(pg_trigger.oid), tgenabled::text
        FROM pg_trigger INNER JOIN pg_class ON pg_class.oid = tgrelid
        WHERE relnamespace = 'oceanrecords'::regnamespace AND NOT tgisinternal
        ORDER BY 1, 2, 3
        """
    )


def plant(database: Database, **options: Any) -> SeedResult:
    return seed(database.connect(), **({"orders": 1500, "months": 12, "until": END} | options))


def test_a_seed_decides_everything(new_database: Callable[..., Database]) -> None:
    one, same, other = new_database(), new_database(), new_database()
    first, second = plant(one, seed=3), plant(same, seed=3)
    plant(other, seed=4)
    assert first == second
    assert checksums(one) == checksums(same)
    different = {table for table, sum_ in checksums(other).items() if sum_ != checksums(one)[table]}
    assert different >= {"customers", "addresses", "orders", "order_lines", "product_prices"}


def test_the_words_are_the_same_in_every_process() -> None:
    program = (
        "from simulator import vocabulary, world\n"
        "for country in world.COUNTRIES:\n"
        "    print(vocabulary.words(country.code, 42))\n"
        "print(list(vocabulary.companies(300, 42)))\n"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2", "3")
    }
    assert len(told) == 1
    assert told.pop().count("Words(") == 12


def test_the_size_of_a_chunk_decides_nothing(
    new_database: Callable[..., Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = new_database(), new_database()
    plant(one)
    monkeypatch.setattr("simulator.seed._ORDERS_PER_CHUNK", 137)
    plant(other)
    assert checksums(one) == checksums(other)


def test_history_has_as_much_as_was_asked_for(database: Database) -> None:
    result = plant(database)
    for table in ("orders", "order_lines", "customers", "addresses", "products", "suppliers"):
        assert database.value(f"SELECT count(*) FROM oceanrecords.{table}") == getattr(
            result, table
        )
    assert result.orders == 1500
    assert 2.5 < result.order_lines / result.orders < 3.5
    assert (result.starts_on, result.ends_on) == (date(2025, 1, 15), END)
    span = database.rows(
        "SELECT min(ordered_at) AS first, max(ordered_at) AS last, max(updated_at) AS changed "
        "FROM oceanrecords.orders"
    )[0]
    assert span["first"].date() >= result.starts_on
    assert span["last"].date() == END - timedelta(days=1)
    assert span["changed"].date() < END


@pytest.mark.parametrize(("orders", "months"), [(1, 1), (7, 240), (300, 1)])
def test_the_smallest_histories_hold_too(database: Database, orders: int, months: int) -> None:
    result = plant(database, orders=orders, months=months)
    assert result.orders == orders
    assert database.rows(INVARIANTS) == []


def test_all_relations_hold(database: Database) -> None:
    plant(database, orders=4000, months=24)
    assert database.rows(INVARIANTS) == []


def test_everything_is_put_back(database: Database) -> None:
    before = definitions(database)
    plant(database)
    assert definitions(database) == before
    assert all(row["state"] in ("true", "", "O", "A") for row in before)


def test_numbers_go_on_after_the_history(database: Database) -> None:
    result = plant(database)
    database.execute(
        "INSERT INTO oceanrecords.customers (first_name, last_name, email) VALUES ('A', 'B', 'a@b.cd')"
    )
    assert database.value("SELECT max(customer_id) FROM oceanrecords.customers") == (
        result.customers + 1
    )
    database.execute(
        "INSERT INTO oceanrecords.products (product_subtype_id, supplier_id, sku, name, price) "
        "VALUES (1, 1, 'X', 'X', 1)"
    )
    assert database.value("SELECT count(*) FROM oceanrecords.product_prices WHERE price = 1") == 1


def test_rows_carry_the_transaction_of_the_seed(database: Database) -> None:
    plant(database)
    for table in set(TABLES) - {"payment_methods", "order_statuses", "order_status_transitions"}:
        assert database.value(f"SELECT count(DISTINCT row_xid) FROM oceanrecords.{table}") == 1


def test_a_system_that_is_full_is_refused(database: Database) -> None:
    plant(database)
    with pytest.raises(UserError, match="not empty: table customers") as refused:
        plant(database)
    assert "--reset" in (refused.value.hint or "")


def test_reset_leaves_tombstones_and_the_new_history(new_database: Callable[..., Database]) -> None:
    one, fresh = new_database(), new_database()
    before = plant(one, seed=1, orders=500)
    plant(one, seed=2, reset=True)
    plant(fresh, seed=2)
    assert checksums(one) == checksums(fresh)
    assert definitions(one) == definitions(fresh)
    buried = one.rows(
        "SELECT table_name, count(*) AS number FROM oceanrecords.deleted_rows GROUP BY table_name"
    )
    assert {row["table_name"]: row["number"] for row in buried}["orders"] == before.orders
    assert {row["table_name"]: row["number"] for row in buried}["order_lines"] == before.order_lines
    assert (
        one.value(
            "SELECT count(*) FROM oceanrecords.deleted_rows WHERE table_name = 'orders' "
            "AND row_key @> '{\"order_id\": 500}'"
        )
        == 1
    )


def test_an_interrupted_seed_leaves_nothing(database: Database) -> None:
    before = definitions(database)

    def interrupt(step: str, share: float) -> None:
        if step == "foreign keys":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plant(database, progress=interrupt)
    assert database.value("SELECT count(*) FROM oceanrecords.orders") == 0
    assert definitions(database) == before
    plant(database)


def test_an_interrupted_reset_keeps_the_old_history(database: Database) -> None:
    plant(database, seed=1)
    before = checksums(database)

    def interrupt(step: str, share: float) -> None:
        if step == "orders":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plant(database, seed=2, reset=True, progress=interrupt)
    assert checksums(database) == before
    assert database.value("SELECT count(*) FROM oceanrecords.deleted_rows") == 0


def test_ctrl_c_ends_the_command_at_once_and_leaves_nothing(database: Database) -> None:
    command = [str(Path(sys.executable).with_name("oceanrecords")), "simulate", "seed"]
    process = subprocess.Popen(
        [*command, "--orders", "400000"],
        env=os.environ | {"OCEANRECORDS_DSN": database.dsn},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(
        database,
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE '%INSERT INTO oceanrecords.orders%' "
        "AND datname = current_database() AND pid <> pg_backend_pid()",
    )
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in told
    wait_until(
        database,
        "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
    )
    assert database.value("SELECT count(*) FROM oceanrecords.customers") == 0


def wait_until(database: Database, condition: str) -> None:
    """Wait until a query returns true; fail after a minute."""
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute("SET statement_timeout = '60s'")
        connection.execute("CREATE SCHEMA IF NOT EXISTS waiting")
        connection.execute(
            f"""
            DO $wait$
            BEGIN
                WHILE NOT ({condition}) LOOP
                    PERFORM pg_stat_clear_snapshot();
                    PERFORM pg_sleep(0.02);
                END LOOP;
            END;
            $wait$
            """.encode()
        )


def test_a_system_in_use_is_told_clearly(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulator.seed._LOCK_TIMEOUT", "100ms")
    reader = database.connect(autocommit=False)
    reader.execute("SELECT FROM oceanrecords.orders")
    with pytest.raises(UserError, match="in use"):
        plant(database)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"orders": 0}, "number of orders cannot be 0"),
        ({"orders": 100_000_001}, "number of orders cannot be 100,000,001"),
        ({"months": 0}, "number of months cannot be 0"),
        ({"months": 241}, "number of months cannot be 241"),
        ({"seed": 2**63}, "seed cannot be"),
        ({"until": date(1900, 1, 1)}, "cannot end on 1900-01-01"),
    ],
)
def test_what_cannot_be_is_refused(database: Database, options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        plant(database, **options)


def test_the_command_seeds_and_tells(cli: Callable[..., Finished], database: Database) -> None:
    finished = cli("simulate", "seed", "--orders", "200", "--months", "3", "--until", "2025-06-30")
    assert finished.returncode == 0, finished.stderr
    assert "History from 2025-03-30 to 2025-06-29" in finished.stdout
    finished = cli("simulate", "seed")
    assert finished.returncode == 1
    assert "not empty" in finished.stderr
    assert "Traceback" not in finished.stderr
    finished = cli("simulate", "seed", "--orders", "100", "--until", "7", "--reset", "--json")
    assert finished.returncode == 0, finished.stderr
    assert '"orders": 100' in finished.stdout


@pytest.mark.parametrize("until", ["soon", "2025-02-30"])
def test_a_day_that_is_none_is_refused(cli: Callable[..., Finished], until: str) -> None:
    finished = cli("simulate", "seed", "--until", until)
    assert finished.returncode == 2
    assert "Traceback" not in finished.stderr


def test_without_the_schema_the_way_out_is_told(
    oceanrecords: Callable[..., Finished], empty_database: Database
) -> None:
    finished = oceanrecords("simulate", "seed", env={"OCEANRECORDS_DSN": empty_database.dsn})
    assert finished.returncode == 1
    assert "oceanrecords migrate" in finished.stderr
    assert "Traceback" not in finished.stderr


# Like a business ---------------------------------------------------------------------------------


@pytest.fixture
def business(database: Database) -> psycopg.Connection[Any]:
    """Three years of history."""
    connection = database.connect()
    seed(connection, orders=24_000, months=36, seed=11, until=END)
    return connection


def column(connection: psycopg.Connection[Any], query: str) -> list[Any]:
    return [row[0] for row in connection.execute(query.encode()).fetchall()]


def test_the_history_looks_like_a_business(business: psycopg.Connection[Any]) -> None:
    years = column(
        business,
        "SELECT count(*) FROM oceanrecords.orders "
        "GROUP BY (date '2026-01-14' - (ordered_at AT TIME ZONE 'UTC')::date) / 365 "
        "HAVING count(*) > 1000 "
        "ORDER BY (date '2026-01-14' - (ordered_at AT TIME ZONE 'UTC')::date) / 365 DESC",
    )
    assert len(years) == 3
    assert years[0] * 1.2 < years[1] < years[2] / 1.2, "growth"

    months = dict(
        business.execute(
            "SELECT extract(month FROM ordered_at AT TIME ZONE 'UTC')::integer, count(*) "
            "FROM oceanrecords.orders GROUP BY 1"
        ).fetchall()
    )
    assert months[12] > 1.5 * months[7], "season"

    weekdays = dict(
        business.execute(
            "SELECT extract(isodow FROM ordered_at AT TIME ZONE 'UTC')::integer, count(*) "
            "FROM oceanrecords.orders GROUP BY 1"
        ).fetchall()
    )
    assert min(weekdays[5], weekdays[6]) > 1.1 * max(weekdays[2], weekdays[3]), "weekdays"

    hours = dict(
        business.execute(
            "SELECT extract(hour FROM ordered_at AT TIME ZONE 'UTC')::integer, count(*) "
            "FROM oceanrecords.orders GROUP BY 1"
        ).fetchall()
    )
    assert hours[14] > 5 * hours[6], "hours"
    assert 3 not in hours, "night"

    sales = column(
        business,
        "SELECT count(*) FROM oceanrecords.order_lines GROUP BY product_id ORDER BY 1 DESC",
    )
    assert sum(sales[: len(sales) // 20]) > 0.3 * sum(sales), "best-sellers"
    assert sum(sales[len(sales) // 2 :]) > 0.08 * sum(sales), "long tail"

    orders_of_customer = column(
        business, "SELECT count(*) FROM oceanrecords.orders GROUP BY customer_id ORDER BY 1"
    )
    assert orders_of_customer[0] == 1
    assert orders_of_customer[-1] > 10, "repeat customers"

    assert column(
        business,
        "SELECT count(*) > 50 FROM (SELECT FROM oceanrecords.customers_addresses "
        "GROUP BY address_id HAVING count(*) > 1) AS shared",
    ) == [True], "shared addresses"
    assert column(
        business,
        """
        SELECT count(*) > 30
        FROM oceanrecords.customers_addresses AS one
        INNER JOIN oceanrecords.customers_addresses AS other
            ON other.address_id = one.address_id AND other.customer_id > one.customer_id
        INNER JOIN oceanrecords.customers AS c ON c.customer_id = one.customer_id
        INNER JOIN oceanrecords.customers AS d
            ON d.customer_id = other.customer_id AND d.last_name = c.last_name
        """,
    ) == [True], "families"

    lost = column(
        business,
        """
        SELECT 100.0 * count(*) FILTER (WHERE s.is_lost) / count(*)
        FROM oceanrecords.orders AS o
        INNER JOIN oceanrecords.order_statuses AS s USING (order_status_id)
        WHERE o.ordered_at < '2025-12-01'
        GROUP BY date_trunc('month', o.ordered_at AT TIME ZONE 'UTC')
        """,
    )
    assert min(lost) < 5, "good months"
    assert max(lost) > 11, "bad months"

    fulfilment = dict(
        business.execute(
            """
            SELECT a.country_code, avg(extract(epoch FROM o.delivered_at - o.ordered_at))::float8
            FROM oceanrecords.orders AS o INNER JOIN oceanrecords.addresses AS a USING (address_id)
            WHERE o.delivered_at IS NOT NULL GROUP BY 1
            """
        ).fetchall()
    )
    assert len(fulfilment) == 12
    assert fulfilment["US"] > 1.8 * fulfilment["DE"], "fulfilment by country"

    countries = dict(
        business.execute(
            "SELECT country_code, count(*) FROM oceanrecords.addresses GROUP BY 1"
        ).fetchall()
    )
    assert countries["DE"] > 5 * countries["SE"], "countries of unequal weight"

    assert column(
        business,
        "SELECT avg(number) BETWEEN 2 AND 8 FROM (SELECT count(*) AS number "
        "FROM oceanrecords.product_prices GROUP BY product_id) AS prices",
    ) == [True], "price changes"

    open_orders = business.execute(
        "SELECT order_status_id, min(ordered_at) > '2025-12-20' FROM oceanrecords.orders "
        "WHERE order_status_id <= 3 GROUP BY 1 ORDER BY 1"
    ).fetchall()
    assert open_orders == [(1, True), (2, True), (3, True)], "the newest orders are still open"


@pytest.mark.slow
def test_memory_stays_flat_and_the_driver_small(database: Database) -> None:
    program = (
        "import pathlib, sys, psycopg\n"
        "from simulator.seed import seed\n"
        "with psycopg.connect(sys.argv[1], autocommit=True) as connection:\n"
        "    seed(connection, orders=int(sys.argv[2]), until=None)\n"
        "print(pathlib.Path('/proc/self/status').read_text())\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program, database.dsn, "200000"],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    peak = next(line for line in finished.stdout.splitlines() if line.startswith("VmHWM"))
    assert int(peak.split()[1]) / 1024 < 100
