"""Business users need schema kpi and nothing else; and all that is in it explains itself."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.kpi.expected import next_month
from tests.kpi.test_overview import VIEWS
from tests.support.database import Database
from tests.warehouse.play import Play

Cli = Callable[..., subprocess.CompletedProcess[str]]
ROLE = "oceanrecords_business"
FUNCTIONS = ("month_of", "quarter_of", "customer_count_of", "overview_of", "headline_of")


@pytest.fixture
def reader(database: Database) -> psycopg.Connection[tuple[object, ...]]:
    """A connection of somebody who may use schema kpi and read its views."""
    database.execute("CALL etl.run()")
    connection = database.connect()
    connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(ROLE)))
    return connection


def test_all_of_kpi_can_be_read(
    database: Database, reader: psycopg.Connection[tuple[object, ...]]
) -> None:
    for row in database.rows(VIEWS):
        if row["relname"] == "order_daily":  # a day of a country often has few customers
            continue
        reader.execute(sql.SQL("SELECT * FROM kpi.{}").format(sql.Identifier(row["relname"])))
    for name in FUNCTIONS:
        reader.execute(sql.SQL("SELECT * FROM kpi.{}('Germany')").format(sql.Identifier(name)))


@pytest.mark.parametrize(
    "table", ["dwh.fact_order", "dwh.dim_customer", "etl.setting", "work.kpi_clock"]
)
def test_nothing_else_can_be_read(
    reader: psycopg.Connection[tuple[object, ...]], table: str
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.execute(f"SELECT * FROM {table}".encode())


def test_functions_do_not_trust_the_callers_path(
    reader: psycopg.Connection[tuple[object, ...]],
) -> None:
    reader.execute("CREATE TEMPORARY TABLE agg_order_daily (day date)")
    reader.execute("SET search_path = pg_temp, public")
    assert len(reader.execute("SELECT * FROM kpi.overview").fetchall()) == 4


def test_no_row_of_kpi_is_about_a_person(database: Database) -> None:
    assert (
        database.rows(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'kpi'"
            " AND column_name ~ 'customer_(id|key)|name$' AND column_name ~ 'customer|first|last|full'"
        )
        == []
    )


def test_docs_have_the_definitions_of_the_catalog(database: Database) -> None:
    page = (Path(__file__).parents[2] / "docs" / "kpis.md").read_text()
    rows = database.rows("SELECT kpi, definition, leaves_out, as_of FROM kpi.definition")
    assert len(rows) == 4
    for row in rows:
        for text in row.values():
            assert text in page


def test_definitions_on_the_command_line(cli: Cli, database: Database) -> None:
    known = database.rows("SELECT * FROM kpi.definition ORDER BY position")
    assert json.loads(cli("kpi", "--define", "--json").stdout) == known
    one = cli("kpi", "lost order deviation", "--define")
    assert one.returncode == 0
    assert known[2]["definition"][:40] in one.stdout
    assert "Sales" not in one.stdout.splitlines()[0]
    refused = cli("kpi", "Profit", "--define")
    assert refused.returncode == 1
    assert "Sales" in refused.stderr


def test_everything_in_kpi_has_a_comment(database: Database) -> None:
    assert (
        database.rows(
            """
            SELECT c.relname, a.attname
            FROM pg_class AS c
            CROSS JOIN LATERAL (
                SELECT 0 AS attnum, NULL AS attname
                UNION ALL
                SELECT t.attnum, t.attname FROM pg_attribute AS t WHERE t.attrelid = c.oid AND t.attnum > 0
            ) AS a
            WHERE c.relnamespace = 'kpi'::regnamespace
                AND c.relkind IN ('v', 'r')
                AND col_description(c.oid, a.attnum) IS NULL
                AND (a.attnum > 0 OR obj_description(c.oid, 'pg_class') IS NULL)
            """
        )
        == []
    )
    assert (
        database.rows(
            "SELECT p.proname FROM pg_proc AS p WHERE p.pronamespace = 'kpi'::regnamespace"
            " AND obj_description(p.oid, 'pg_proc') IS NULL"
        )
        == []
    )


def test_amounts_say_their_currency(database: Database) -> None:
    """The command line and Metabase know amounts by that."""
    amounts = database.rows(
        """
        SELECT c.relname, a.attname, col_description(c.oid, a.attnum) LIKE '%business currency%' AS is_told
        FROM pg_class AS c
        JOIN pg_attribute AS a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'kpi'::regnamespace
            AND c.relkind IN ('v', 'r')
            AND a.atttypid = 'numeric'::regtype
            AND (a.attname ~ 'sales$|order_value$|amount$' OR (c.relname, a.attname) = ('headline', 'compared_with'))
        """
    )
    assert len(amounts) > 15
    assert [one for one in amounts if not one["is_told"]] == []


def test_amounts_have_the_decimals_of_the_currency(cli: Cli, database: Database) -> None:
    """None of yen, three of dinars: in the overview and in every other view."""
    play = Play.on(database.connect)
    play.open()
    play.run()
    ordered_on = play.value("SELECT max(day) FROM kpi.order_daily")
    database.execute(
        "UPDATE etl.setting SET value = %s WHERE name = 'business_date'",
        f"{next_month(ordered_on)}",
    )
    for currency, amount in (("JPY", "20"), ("EUR", "20.00"), ("KWD", "20.000")):
        database.execute("UPDATE etl.setting SET value = %s WHERE name = 'currency'", currency)
        lines = cli("kpi").stdout.splitlines()
        assert amount in next(one for one in lines if one.startswith(f"Sales, {currency}")).split()
        assert amount in cli("kpi", "order_daily").stdout.split()
