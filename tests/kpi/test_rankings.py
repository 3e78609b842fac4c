"""Rankings read the smallest tables that have the answer, and say what a plain sum over the operational tables says."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from pytest_postgresql.executors import NoopExecutor

from simulator.seed import seed
from tests.support.database import temporary_database
from tests.support.servers import RunningServer
from tests.warehouse.play import Play

LEVELS = {"product": "name", "product_subtype": "subtype", "country": "country"}
# Nothing here reads the warehouse, but for the names of countries. Days are those of UTC.
SOLD = """
    SELECT p.product_id, p.name, s.name AS subtype, t.name AS type, coalesce(c.country, 'Unknown') AS country,
        l.quantity, l.quantity * l.unit_price AS sales, (o.ordered_at AT TIME ZONE 'UTC')::date AS day,
        CASE WHEN st.is_lost THEN
            (coalesce(o.cancelled_at, o.refunded_at, o.ordered_at) AT TIME ZONE 'UTC')::date END AS lost_on
    FROM oceanrecords.orders AS o
    JOIN oceanrecords.order_statuses AS st USING (order_status_id)
    JOIN oceanrecords.order_lines AS l USING (order_id)
    JOIN oceanrecords.products AS p USING (product_id)
    JOIN oceanrecords.product_subtypes AS s USING (product_subtype_id)
    JOIN oceanrecords.product_types AS t USING (product_type_id)
    JOIN oceanrecords.addresses AS a USING (address_id)
    LEFT JOIN work.country AS c USING (country_code)
"""
CHOSEN = """
    (cardinality(%(countries)s::text[]) = 0 OR country = ANY (%(countries)s))
    AND (cardinality(%(types)s::text[]) = 0 OR type = ANY (%(types)s))
    AND (cardinality(%(subtypes)s::text[]) = 0 OR subtype = ANY (%(subtypes)s))
    AND (cardinality(%(products)s::text[]) = 0 OR name = ANY (%(products)s))
"""
PLAIN = f"""
WITH sold AS ({SOLD})
SELECT {{member}}, sum(quantity)::bigint, sum(sales), round(100 * sum(sales) / sum(sum(sales)) OVER (), 10)
FROM sold
WHERE lost_on IS NULL
    AND (%(first)s::date IS NULL OR day >= %(first)s)
    AND (%(last)s::date IS NULL OR day <= %(last)s)
    AND {CHOSEN}
GROUP BY {{group}}
ORDER BY 3 DESC, 1
LIMIT %(limit)s
"""
RANKED = (
    "SELECT * FROM kpi.ranking_of(%(level)s, %(first)s, %(last)s, %(countries)s, %(types)s,"
    " %(subtypes)s, %(products)s, %(limit)s)"
)
MOVED = f"""
WITH sold AS ({SOLD}), moved AS (
    SELECT {{member}} AS member,
        coalesce(sum(sales) FILTER (WHERE day >= %(first)s AND day < %(until)s
            AND (lost_on IS NULL OR lost_on >= %(known)s)), 0) AS sales,
        coalesce(sum(sales) FILTER (WHERE day >= %(before)s AND day < %(before_until)s
            AND (lost_on IS NULL OR lost_on >= %(before_known)s)), 0) AS sales_before
    FROM sold
    WHERE {CHOSEN}
    GROUP BY {{group}}
)
SELECT member, sales, sales_before, sales - sales_before FROM moved WHERE sales <> sales_before ORDER BY 4 DESC, 1
"""
NOTHING = {"countries": [], "types": [], "subtypes": [], "products": []}
MONTHS = 26
# Plain sums know no small groups; tests/security tests what becomes of them.
SHOW_SMALL_GROUPS = "UPDATE etl.setting SET value = '0' WHERE name = 'small_group'"


@pytest.fixture(scope="module")
def sold(server: RunningServer, request: pytest.FixtureRequest) -> Iterator[Play]:
    """More than two years of sales to two countries, of three products and two types.

    Tests share it: whatever one of them changes, rankings are what plain sums are.
    """
    template: NoopExecutor = request.getfixturevalue(f"{server.name}_template")
    with temporary_database(server, template.template_dbname) as made:
        made.execute(SHOW_SMALL_GROUPS)
        trading = Play.on(made.connect)
        trading.open()
        shop = trading.shop
        books = shop.product_type("Books")
        atlas = shop.product(shop.subtype(books, "Maps"), trading.supplier, "31.00")
        abroad = shop.address(trading.customer, "Lyon", country_code="FR")
        for month in range(MONTHS):
            shop.wait(days=30.5)
            shop.order(
                trading.customer,
                abroad if month % 3 else trading.address,
                {trading.product: 1 + month * 7 % 11, trading.other_product: 1 + month % 4},
            )
            shop.order(trading.customer, trading.address, {atlas: 1 + month * 5 % 9})
        trading.run()
        yield trading


def answers(connection: psycopg.Connection[Any], **chosen: Any) -> tuple[list[Any], list[Any]]:
    """Return what the ranking says, and the plain sum."""
    values = {"level": "product", "first": None, "last": None, "limit": 10, **NOTHING} | chosen
    member = LEVELS[values["level"]]
    group = "product_id, name" if member == "name" else member
    return (
        connection.execute(RANKED, values).fetchall(),
        connection.execute(PLAIN.format(member=member, group=group).encode(), values).fetchall(),
    )


def test_every_period(sold: Play) -> None:
    """Also those that begin or end within a month: 17 days of the last one."""
    months: list[date | None] = [
        row[0]
        for row in sold.rows("SELECT DISTINCT month_start FROM kpi.product_monthly ORDER BY 1")
    ]
    assert len(months) > MONTHS - 2
    for first, last in itertools.product([None, *months], repeat=2):
        for end in (last and last.replace(day=17), last and last - timedelta(days=1)):
            ranked, plain = answers(sold.loader, first=first, last=end)
            assert ranked == plain, (first, end)
            begin = first and first.replace(day=12)
            ranked, plain = answers(sold.loader, first=begin, last=end)
            assert ranked == plain, (begin, end)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("countries", [[], ["France"], ["Germany", "France"], ["Atlantis"]])
@pytest.mark.parametrize("types", [[], ["Vinyl"], ["Books", "Vinyl"], ["Nothing"]])
def test_countries_and_types(
    sold: Play, level: str, countries: list[str], types: list[str]
) -> None:
    middle = sold.value("SELECT max(month_start) - 200 FROM kpi.product_monthly")
    name = sold.value("SELECT min(product_name) FROM kpi.product")
    for first, last in itertools.product((None, middle), (None, middle.replace(year=2100))):
        for more in ({}, {"limit": 1}, {"subtypes": ["Maps"]}, {"products": [name, "Nothing"]}):
            ranked, plain = answers(
                sold.loader,
                level=level,
                first=first,
                last=last,
                countries=countries,
                types=types,
                **more,
            )
            assert ranked == plain, more


def test_after_changes(sold: Play) -> None:
    """Quarters are maintained from the changes of the months."""
    sold.shop.update("orders", {"order_id": sold.orders[0]}, address_id=sold.address)
    lines = sold.rows("SELECT order_id, line_number FROM oceanrecords.order_lines")
    for order, line in lines[::5]:
        sold.shop.update("order_lines", {"order_id": order, "line_number": line}, quantity=40)
    sold.run()
    first = sold.value("SELECT min(month_start) + 100 FROM kpi.product_monthly")
    for period in ({}, {"first": first}, {"last": first}):
        ranked, plain = answers(sold.loader, **period)
        assert ranked == plain
    assert sold.rows("SELECT * FROM etl.aggregate_differences()") == []


def test_nothing_sold(play: Play) -> None:
    play.run()
    assert answers(play.loader) == ([], [])
    assert answers(play.loader, first=date(2025, 1, 1), countries=["Germany"]) == ([], [])
    assert play.rows("SELECT * FROM kpi.movement_of('product')") == []


def test_unknown_level(play: Play) -> None:
    for call in ("ranking_of('planet')", "movement_of('planet')"):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="planet"):
            play.rows(f"SELECT * FROM kpi.{call}")


@pytest.fixture(scope="module")
def history(
    server: RunningServer, request: pytest.FixtureRequest
) -> Iterator[psycopg.Connection[Any]]:
    """A warehouse with eight months of orders up to April 2025, loaded once."""
    template: NoopExecutor = request.getfixturevalue(f"{server.name}_template")
    with temporary_database(server, template.template_dbname) as made, made.connect() as connection:
        connection.execute(SHOW_SMALL_GROUPS)
        seed(connection, orders=1500, months=8, seed=29, until=date(2025, 4, 2))
        connection.execute("CALL etl.run()")
        yield connection


def day(text: str) -> date:
    return date.fromisoformat(f"2025-{text}")


# Today, first and last day that are chosen, then the period, the one before, and up to which day each is known.
PERIODS = [
    ("03-15", None, None, "02-01", "03-01", "01-01", "02-01", "02-15"),
    ("03-01", None, None, "02-01", "03-01", "01-01", "02-01", "02-01"),
    ("03-15", None, "01-31", "01-01", "02-01", "2024-12-01", "01-01", "02-12"),
    ("03-15", "01-01", "03-31", "01-01", "03-01", "2024-11-01", "01-01", "01-15"),
    ("03-15", "02-01", None, "02-01", "03-01", "01-01", "02-01", "02-15"),
    ("03-15", "03-01", "03-31", "03-01", "03-15", "02-01", "02-15", "02-15"),
    ("03-31", "03-01", None, "03-01", "03-29", "02-01", "03-01", "03-03"),
    ("03-15", "02-13", "03-14", "02-13", "03-15", "01-14", "02-13", "02-13"),
    ("03-15", "02-13", None, "02-13", "03-15", "01-14", "02-13", "02-13"),
    ("03-31", "03-01", "03-30", "03-01", "03-31", "01-30", "03-01", "03-01"),
    ("03-15", "03-01", "03-10", "03-01", "03-11", "02-19", "03-01", "03-05"),
    ("03-15", "01-01", "03-10", "01-01", "03-11", "2024-10-24", "01-01", "01-05"),
    ("03-15", "01-01", "01-10", "01-01", "01-11", "2024-12-22", "01-01", "03-05"),
]


@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize("level", LEVELS)
def test_movements_are_known_at_the_same_age(
    history: psycopg.Connection[Any], level: str, period: tuple[str | None, ...]
) -> None:
    today, chosen_first, chosen_last, *rest = (
        None if one is None else date.fromisoformat(one) if len(one) == 10 else day(one)
        for one in period
    )
    assert today is not None
    names = ("first", "until", "before", "before_until", "before_known")
    values: dict[str, Any] = {**dict(zip(names, rest, strict=True)), "known": today, **NOTHING}
    member = LEVELS[level]
    group = "product_id, name" if member == "name" else member
    with history.transaction(force_rollback=True):
        history.execute(
            "UPDATE etl.setting SET value = %s WHERE name = 'business_date'", [today.isoformat()]
        )
        for choice in ({}, {"countries": ["Germany", "France"]}, {"types": ["Vinyl"]}):
            values |= NOTHING | choice
            found = history.execute(
                "SELECT member, sales, sales_before, change FROM kpi.movement_of(%s, %s, %s,"
                " %s, %s, 1000000)",
                [level, chosen_first, chosen_last, values["countries"], values["types"]],
            ).fetchall()
            wanted = history.execute(
                MOVED.format(member=member, group=group).encode(), values
            ).fetchall()
            assert found
            assert found == wanted


def test_no_movement_without_two_periods(history: psycopg.Connection[Any]) -> None:
    with history.transaction(force_rollback=True):
        history.execute("UPDATE etl.setting SET value = '2025-03-15' WHERE name = 'business_date'")
        for first, last in (
            ("2024-09-01", "2025-02-28"),
            ("2025-04-01", None),
            ("infinity", "-infinity"),
        ):
            assert (
                history.execute(
                    "SELECT * FROM kpi.movement_of('country', %s, %s)", [first, last]
                ).fetchall()
                == []
            )


def test_movements_of_few_and_of_all(history: psycopg.Connection[Any]) -> None:
    everything = history.execute(
        "SELECT * FROM kpi.movement_of('product', p_limit => 100000)"
    ).fetchall()
    few = history.execute("SELECT * FROM kpi.movement_of('product', p_limit => 2)").fetchall()
    assert few == [*everything[:2], *everything[-2:]]
    change: Decimal = sum((row[3] for row in everything), Decimal(0))
    row = history.execute(
        "SELECT known_sales - before_sales FROM kpi.month WHERE is_complete ORDER BY month_start DESC LIMIT 1"
    ).fetchone()
    assert row == (change,)


@pytest.mark.parametrize("today", [day("01-01"), day("01-31"), day("02-15")], ids=str)
@pytest.mark.parametrize("level", LEVELS)
def test_what_comes_after_a_business_date_is_not_known(
    history: psycopg.Connection[Any], level: str, today: date
) -> None:
    """Orders of later days do not count, and orders that are lost later are not lost yet."""
    member = LEVELS[level]
    group = "product_id, name" if member == "name" else member
    values: dict[str, Any] = {"level": level, "limit": 10, **NOTHING}
    known = PLAIN.replace("WHERE lost_on IS NULL", "WHERE (lost_on IS NULL OR lost_on > %(today)s)")
    with history.transaction(force_rollback=True):
        history.execute(
            "UPDATE etl.setting SET value = %s WHERE name = 'business_date'", [today.isoformat()]
        )
        first = today.replace(day=1)
        for begin, end in (
            (None, None),
            (first, None),
            (None, day("12-31")),
            (day("01-01"), today),
        ):
            for choice in ({}, {"countries": ["Germany"]}, {"types": ["Vinyl"]}):
                values |= {"first": begin, "last": end, "today": today} | NOTHING | choice
                wanted = history.execute(
                    known.format(member=member, group=group).encode(),
                    values | {"last": min(end or today, today)},
                ).fetchall()
                assert wanted
                assert history.execute(RANKED, values).fetchall() == wanted, (begin, end, choice)
        for view in ("product_monthly", "subtype_monthly"):
            total = history.execute(f"SELECT sum(quantity), sum(sales) FROM kpi.{view}".encode())
            wanted = history.execute(
                f"WITH sold AS ({SOLD}) SELECT sum(quantity), sum(sales) FROM sold"
                " WHERE day <= %(today)s AND (lost_on IS NULL OR lost_on > %(today)s)".encode(),
                values,
            ).fetchall()
            assert total.fetchall() == wanted
