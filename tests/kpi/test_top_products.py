"""The ranking of products reads the smallest aggregates that can tell, and says what the plain sum says."""

from __future__ import annotations

import itertools
from datetime import date
from typing import Any

import pytest

from tests.warehouse.play import Play

PLAIN = """
SELECT product_name, sum(quantity)::bigint, sum(sales), round(100 * sum(sales) / sum(sum(sales)) OVER (), 1)
FROM kpi.product_monthly
WHERE (%(first)s::date IS NULL OR month_start >= date_trunc('month', %(first)s::timestamp))
    AND (%(last)s::date IS NULL OR month_start <= %(last)s::date)
    AND (cardinality(%(countries)s::text[]) = 0 OR country = ANY (%(countries)s))
    AND (cardinality(%(types)s::text[]) = 0 OR product_type = ANY (%(types)s))
GROUP BY product_id, product_name
ORDER BY 3 DESC, product_id
LIMIT %(limit)s
"""
RANKED = (
    "SELECT * FROM kpi.top_products_of(%(first)s, %(last)s, %(countries)s, %(types)s, %(limit)s)"
)
MONTHS = 26


@pytest.fixture
def sold(trading: Play) -> Play:
    """More than two years of sales to two countries, of three products and two types."""
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
    return trading


def answers(play: Play, **chosen: Any) -> tuple[list[Any], list[Any]]:
    """Return what the ranking says, and the plain sum."""
    values = {"first": None, "last": None, "countries": [], "types": [], "limit": 10} | chosen
    return (
        play.loader.execute(RANKED, values).fetchall(),
        play.loader.execute(PLAIN, values).fetchall(),
    )


def test_every_period(sold: Play) -> None:
    months: list[date | None] = [
        row[0]
        for row in sold.rows("SELECT DISTINCT month_start FROM kpi.product_monthly ORDER BY 1")
    ]
    assert len(months) > MONTHS - 2
    for first, last in itertools.product([None, *months], repeat=2):
        ranked, plain = answers(sold, first=first, last=last and last.replace(day=17))
        assert ranked == plain, (first, last)


@pytest.mark.parametrize("countries", [[], ["France"], ["Germany", "France"], ["Atlantis"]])
@pytest.mark.parametrize("types", [[], ["Vinyl"], ["Books", "Vinyl"], ["Nothing"]])
def test_countries_and_types(sold: Play, countries: list[str], types: list[str]) -> None:
    middle = sold.value("SELECT max(month_start) - 200 FROM kpi.product_monthly")
    for first, last in itertools.product((None, middle), (None, middle.replace(year=2100))):
        for limit in (1, 10):
            ranked, plain = answers(
                sold, first=first, last=last, countries=countries, types=types, limit=limit
            )
            assert ranked == plain


def test_after_changes(sold: Play) -> None:
    """Quarters are kept by what months hand on."""
    sold.shop.update("orders", {"order_id": sold.orders[0]}, address_id=sold.address)
    lines = sold.rows("SELECT order_id, line_number FROM oceanrecords.order_lines")
    for order, line in lines[::5]:
        sold.shop.update("order_lines", {"order_id": order, "line_number": line}, quantity=40)
    sold.run()
    first = sold.value("SELECT min(month_start) + 100 FROM kpi.product_monthly")
    for period in ({}, {"first": first}, {"last": first}):
        ranked, plain = answers(sold, **period)
        assert ranked == plain
    assert sold.rows("SELECT * FROM etl.aggregate_differences()") == []


def test_nothing_sold(play: Play) -> None:
    play.run()
    assert answers(play) == ([], [])
    assert answers(play, first=date(2025, 1, 1), countries=["Germany"]) == ([], [])
