"""The table of key figures."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.support.database import Database
from tests.warehouse.play import Play

VIEWS = """
    SELECT c.relname
    FROM pg_class AS c
    WHERE c.relnamespace = 'kpi'::regnamespace
        AND c.relkind = 'v'
    ORDER BY c.relname
"""


@pytest.fixture
def grown(play: Play) -> Play:
    """A shop of which each month of 2024 sold a hundred more than the one before."""
    play.shop.now = datetime(2023, 12, 1, tzinfo=UTC)
    play.open()
    play.shop.connection.execute("DELETE FROM oceanrecords.order_lines")
    play.shop.connection.execute("DELETE FROM oceanrecords.orders")
    for month in range(1, 13):
        play.shop.now = datetime(2024, month, 1, 9, tzinfo=UTC)
        number = play.shop.order(play.customer, play.address, {play.product: 10 * month})
        if month == 12:
            play.shop.advance(number, "cancelled")
    play.loader.execute("UPDATE etl.setting SET value = '2024-12-31' WHERE name = 'business_date'")
    play.run()
    return play


def overview(play: Play, *countries: str) -> dict[str, dict[str, Any]]:
    columns = (
        "kpi",
        "unit",
        "month_to_date",
        "monthly_average",
        "growth_percent",
        "trend",
        "is_up_good",
    )
    rows = play.rows(
        f"SELECT {', '.join(columns)} FROM kpi.overview_of(VARIADIC %s) ORDER BY position",
        list(countries),
    )
    return {row[0]: dict(zip(columns[1:], row[1:], strict=True)) for row in rows}


def test_figures(grown: Play) -> None:
    found = overview(grown)
    assert list(found) == [
        "Sales",
        "Average Order Value",
        "Lost Order Deviation",
        "Average Order Fulfillment",
    ]
    assert found["Sales"] == {
        "unit": "EUR",
        "month_to_date": 0,
        "monthly_average": 600,
        "growth_percent": -100,
        "trend": "▁▂▂▃▄▅▅▆▇▇█",
        "is_up_good": True,
    }
    assert found["Lost Order Deviation"]["month_to_date"] == 92
    assert found["Lost Order Deviation"]["monthly_average"] == -8
    assert found["Lost Order Deviation"]["trend"] == "▄" * 11
    assert not found["Lost Order Deviation"]["is_up_good"]
    assert found["Average Order Value"]["month_to_date"] is None
    # Nothing was delivered: a dot a month, and no figure.
    assert found["Average Order Fulfillment"]["trend"] == "·" * 11
    assert found["Average Order Fulfillment"]["monthly_average"] is None
    assert grown.rows("SELECT kpi, trend FROM kpi.overview ORDER BY position") == [
        (name, row["trend"]) for name, row in found.items()
    ]


def test_average_and_trend_are_of_twelve_full_months(grown: Play) -> None:
    for month in (1, 2):
        grown.shop.now = datetime(2025, month, 1, 9, tzinfo=UTC)
        grown.shop.order(grown.customer, grown.address, {grown.product: 200})
    grown.loader.execute("UPDATE etl.setting SET value = '2025-03-01' WHERE name = 'business_date'")
    grown.run()
    sales = overview(grown)["Sales"]
    assert len(sales["trend"]) == 12
    # March to November of 2024, December that was lost, January and February of 2025.
    assert sales["monthly_average"] == round(Decimal(sum(range(300, 1101, 100)) + 4000) / 12, 10)


def test_country_narrows_it_down(grown: Play) -> None:
    assert overview(grown, "Germany")["Sales"]["monthly_average"] is None, "it has one customer"
    grown.loader.execute("UPDATE etl.setting SET value = '0' WHERE name = 'small_group'")
    assert overview(grown, "Germany") == overview(grown)
    elsewhere = overview(grown, "France")
    assert elsewhere["Sales"]["monthly_average"] == 0
    assert elsewhere["Average Order Value"]["monthly_average"] is None
    assert overview(grown, "Germany", "France") == overview(grown)


@pytest.mark.parametrize("is_loaded", [False, True])
def test_empty_warehouse(database: Database, is_loaded: bool) -> None:
    if is_loaded:
        database.execute("CALL etl.run()")
    counts = {
        row["relname"]: len(database.rows(f"SELECT * FROM kpi.{row['relname']}"))
        for row in database.rows(VIEWS)
    }
    assert 28 <= counts.pop("calendar") <= 31
    assert counts == {
        "country": 0,
        "customer_count": 1,
        "freshness": 1,
        "headline": 4,
        "limit_crossing": 0,
        "loss_curve": 0,
        "month": 1,
        "order_daily": 0,
        "overview": 4,
        "period": 4,
        "product": 0,
        "product_monthly": 0,
        "product_type": 0,
        "quarter": 1,
        "subtype_monthly": 0,
    }
    is_after_the_first = database.value("SELECT whole_days > 0 FROM work.kpi_clock")
    assert database.rows("SELECT month_to_date, growth_percent, trend FROM kpi.overview")[0] == {
        "month_to_date": 0 if is_after_the_first else None,
        "growth_percent": None,
        "trend": "",
    }
    # Without orders there is nothing that may still be lost.
    assert not database.value(
        "SELECT bool_or(is_provisional OR is_last_month_provisional) FROM kpi.overview"
    )
    assert database.value("SELECT complete_until IS NOT NULL FROM kpi.freshness") is is_loaded
    assert database.value("SELECT is_stale FROM kpi.freshness") is not is_loaded


def test_freshness_tells_the_last_good_run(play: Play) -> None:
    play.run()
    good = play.value("SELECT max(run_id) FROM etl.run")
    play.loader.execute(
        "CREATE FUNCTION pg_temp.refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $refuse$BEGIN RAISE EXCEPTION 'not today'; END$refuse$"
    )
    play.loader.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON dwh.dim_customer"
        " FOR EACH ROW EXECUTE FUNCTION pg_temp.refuse()"
    )
    play.shop.customer("Grace")
    play.run(expect="partial")
    row = play.row("SELECT * FROM kpi.freshness")
    assert row["last_successful_run_id"] == good
    assert row["last_run_id"] > good
    assert row["last_run_status"] == "partial"
