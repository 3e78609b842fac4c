"""Months: gaps, the running one, growth like with like, limits, days, and nothing to divide by."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.kpi import expected
from tests.warehouse.play import Play


def at(day: str, time: str = "12:00") -> datetime:
    return datetime.fromisoformat(f"{day}T{time}").replace(tzinfo=UTC)


def today(play: Play, day: str) -> None:
    play.loader.execute("UPDATE etl.setting SET value = %s WHERE name = 'business_date'", [day])


def order(play: Play, moment: datetime, pieces: int = 1) -> int:
    """Place an order of so many pieces at 10.00."""
    play.shop.now = moment
    return play.shop.order(play.customer, play.address, {play.product: pieces})


@pytest.fixture
def shop(play: Play) -> Play:
    """A shop that has sold nothing yet, with products at 10.00 and 25.50 since 2024."""
    play.shop.now = at("2024-12-01")
    play.open()
    play.shop.connection.execute("DELETE FROM oceanrecords.order_lines")
    play.shop.connection.execute("DELETE FROM oceanrecords.orders")
    return play


def months(play: Play, *columns: str) -> list[tuple[Any, ...]]:
    return play.rows(f"SELECT {', '.join(columns)} FROM kpi.month ORDER BY month_start")


def test_months_without_orders_are_there(shop: Play) -> None:
    order(shop, at("2025-01-01"))
    order(shop, at("2025-04-01"))
    today(shop, "2025-05-03")
    shop.run()
    assert months(
        shop, "month_name", "orders", "sales", "average_order_value", "lost_deviation_points"
    ) == [
        ("Jan 2025", 1, 10, 10, -8),
        ("Feb 2025", 0, 0, None, None),
        ("Mar 2025", 0, 0, None, None),
        ("Apr 2025", 1, 10, 10, -8),
        ("May 2025", 0, 0, None, None),
    ]
    assert months(shop, "sales_growth_percent") == [(None,), (-100,), (None,), (None,), (-100,)]
    assert shop.rows("SELECT quarter_name, sales, average_order_value FROM kpi.quarter") == [
        ("2025 Q1", 10, 10),
        ("2025 Q2", 10, 10),
    ]


def test_running_month_is_told_from_a_full_one(shop: Play) -> None:
    order(shop, at("2025-02-01"))
    today(shop, "2025-03-31")
    shop.run()
    assert months(shop, "is_complete", "whole_days") == [(True, 28), (False, 30)]
    assert shop.rows("SELECT is_complete FROM kpi.quarter") == [(False,)]
    today(shop, "2025-04-01")
    assert months(shop, "is_complete", "whole_days") == [(True, 28), (True, 31), (False, 0)]
    assert shop.rows("SELECT is_complete FROM kpi.quarter") == [(True,), (False,)]


def test_growth_compares_as_many_days(shop: Play) -> None:
    order(shop, at("2025-03-01"), 4)
    order(shop, at("2025-03-10"), 4)
    order(shop, at("2025-03-11"), 100)
    order(shop, at("2025-04-10"), 10)
    order(shop, at("2025-04-11"), 1000)
    today(shop, "2025-04-11")
    shop.run()
    # Ten days of April against ten days of March; of today it is not known yet what it will be.
    assert months(shop, "sales_growth_percent") == [(None,), (25,)]
    assert months(shop, "sales") == [(1080,), (10100,)]
    today(shop, "2025-04-01")
    assert months(shop, "sales_growth_percent")[-1] == (None,)


def test_growth_is_clipped_to_the_shorter_month_on_both_sides(shop: Play) -> None:
    order(shop, at("2025-02-01"), 5)
    order(shop, at("2025-02-28"), 5)
    order(shop, at("2025-03-28"), 20)
    order(shop, at("2025-03-29"), 1000)
    today(shop, "2025-03-31")
    shop.run()
    # Of the 30 days of March that are over, 28 are compared with the 28 of February.
    assert months(shop, "sales_growth_percent", "whole_days", "compared_days") == [
        (None, 28, 28),
        (100, 30, 28),
    ]
    assert shop.value("SELECT month_to_date FROM kpi.overview WHERE kpi = 'Sales'") == 10200


def test_growth_is_compared_at_equal_age(shop: Play) -> None:
    """A loss that took twenty days is not held against last month while this month has had ten."""
    order(shop, at("2025-01-15"))
    for day, lost in (("2025-02-03", "2025-02-23"), ("2025-02-04", "2025-02-07")):
        number = order(shop, at(day), 3)
        shop.shop.now = at(lost)
        shop.shop.advance(number, "cancelled")
    order(shop, at("2025-02-05"), 1)
    for day in ("2025-03-03", "2025-03-04"):
        order(shop, at(day), 3)
    lost_now = order(shop, at("2025-03-05"), 1)
    shop.shop.now = at("2025-03-08")
    shop.shop.advance(lost_now, "cancelled")
    today(shop, "2025-03-11")
    shop.run()
    # On the eleventh of February forty had been sold, and one of three orders was lost.
    figures = months(shop, "sales_growth_percent", "lost_share_change_points", "before_sales")
    assert figures[-1] == (50, 0, 40)
    assert months(shop, "is_mature")[-1] == (False,)
    assert months(shop, "sales")[1] == (10,)
    today(shop, "2025-02-11")
    assert months(shop, "sales", "lost_orders") == [(10, 0), (40, 1)]


def test_first_morning_of_a_month(shop: Play) -> None:
    order(shop, at("2025-01-01"), 3)
    order(shop, at("2025-02-01"), 4)
    order(shop, at("2025-03-01", "06:00"))
    today(shop, "2025-03-01")
    shop.run()
    row = shop.row("SELECT * FROM kpi.overview WHERE kpi = 'Sales'")
    assert (row["month_to_date"], row["last_month"], row["note"]) == (None, 40, "No full day yet")
    assert (row["growth_percent"], row["monthly_average"]) == (None, 35)
    headline = shop.rows("SELECT headline, sales, note FROM kpi.headline ORDER BY position")
    assert headline[0][:2] == ("Yesterday", 0)
    assert headline[1] == ("Month to date", None, "No full day yet")


def test_a_month_that_no_load_has_seen(shop: Play) -> None:
    """The last load was on the last day of a month: the month before that one is the last complete one."""
    first = shop.value("SELECT date_trunc('month', now() AT TIME ZONE 'UTC')::date")
    names = [f"{expected.before_month(expected.before_month(first)):%b %Y}"]
    names.append(f"{expected.before_month(first):%b %Y}")
    for name, pieces in zip(names, (3, 4), strict=True):
        day = datetime.strptime(name, "%b %Y").replace(tzinfo=UTC)
        order(shop, day, pieces)
    shop.run()
    shop.loader.execute("UPDATE etl.batch SET read_at = %s", [at(f"{first - timedelta(days=1)}")])
    note = f"No full day yet; the last complete month is {names[0]}"
    row = shop.row("SELECT * FROM kpi.overview WHERE kpi = 'Sales'")
    assert (row["month_to_date"], row["last_month"], row["note"]) == (None, 30, note)
    days = shop.rows("SELECT headline, period FROM kpi.headline ORDER BY position")
    assert days[0] == ("Last full day", f"{first - timedelta(days=2):%a %-d %b %Y}")


def test_part_of_a_month_counts_in_no_average(shop: Play) -> None:
    order(shop, at("2024-11-20"), 1)
    for month in ("2024-12", "2025-01", "2025-02"):
        order(shop, at(f"{month}-10"), 30)
    today(shop, "2025-03-15")
    shop.run()
    row = shop.row("SELECT monthly_average, trend FROM kpi.overview WHERE kpi = 'Sales'")
    assert row == {"monthly_average": 300, "trend": "▄▄▄"}


def test_target_and_forecast(shop: Play) -> None:
    show_small_groups(shop)
    for day in range(1, 32):
        order(shop, at(f"2025-01-{day:02}"), 10)
    for day in range(1, 15):
        order(shop, at(f"2025-02-{day:02}"), 10)
    today(shop, "2025-02-15")
    shop.run()
    query = (
        "SELECT headline, sales, compared_with, change_percent FROM kpi.headline ORDER BY position"
    )
    assert shop.rows(query) == [
        ("Yesterday", 100, 100, 0),
        ("Month to date", 1400, None, None),
        ("Target to date", None, None, None),
        ("Forecast", 2800, None, None),
    ]
    shop.loader.execute("INSERT INTO kpi.sales_target VALUES ('2025-02-01', DEFAULT, 2000)")
    assert shop.rows(query)[2:] == [
        ("Target to date", 1000, 1000, 40),
        ("Forecast", 2800, 2000, 40),
    ]
    # A target for all countries is none for one of them.
    of_one = query.replace("kpi.headline", "kpi.headline_of('Germany')")
    assert shop.rows(of_one)[2] == ("Target to date", None, None, None)
    shop.loader.execute("INSERT INTO kpi.sales_target VALUES ('2025-02-01', 'Germany', 2800)")
    assert shop.rows(of_one)[2] == ("Target to date", 1400, 1400, 0)


def test_what_moved(shop: Play) -> None:
    show_small_groups(shop)
    abroad = shop.shop.address(shop.customer, "Lyon", country_code="FR", postal_code="69001")
    order(shop, at("2025-01-01"), 1)
    order(shop, at("2025-02-05"), 30)
    order(shop, at("2025-03-05"), 10)
    shop.shop.now = at("2025-03-06")
    shop.shop.order(shop.customer, abroad, {shop.other_product: 2})
    order(shop, at("2025-04-01"), 1000)
    today(shop, "2025-04-02")
    shop.run()
    query = "SELECT member, sales, sales_before, change, period FROM kpi.movement_of(%s)"
    words = "Mar 2025 against Feb 2025, as known then"
    assert shop.rows(query, "country") == [
        ("France", 51, 0, 51, words),
        ("Germany", 100, 300, -200, words),
    ]
    assert [row[3] for row in shop.rows(query, "product")] == [51, -200]
    assert [row[3] for row in shop.rows(query, "product_subtype")] == [-149]
    of = "SELECT change FROM kpi.movement_of('country', {})"
    assert shop.rows(of.format("p_countries => ARRAY['France']")) == [(51,)]
    assert shop.rows(of.format("'2025-02-01', '2025-02-28'")) == [(290,)]
    # Before business began there is nothing to compare with.
    assert shop.rows(of.format("'2025-01-01', '2025-01-01'")) == []
    assert shop.rows(of.format("'2025-02-01', '2025-03-31'")) == []


def test_part_of_a_month_is_not_compared_with_a_whole_one(shop: Play) -> None:
    order(shop, at("2025-01-30"))
    order(shop, at("2025-02-05"), 30)
    order(shop, at("2025-03-05"), 60)
    today(shop, "2025-04-01")
    shop.run()
    assert months(shop, "sales_growth_percent") == [(None,), (None,), (100,), (None,)]


def test_limit_holds_from_its_day_on(shop: Play) -> None:
    shop.loader.execute("INSERT INTO kpi.lost_order_limit VALUES ('2025-02-15', 0.20)")
    lost = order(shop, at("2025-02-14"))
    shop.shop.advance(lost, "cancelled")
    for _ in range(3):
        order(shop, at("2025-02-15"))
    today(shop, "2025-04-01")
    shop.run()
    # One order by the limit of 8 percent, three by that of 20.
    assert months(shop, "lost_share_percent", "lost_limit_percent", "lost_deviation_points") == [
        (25, 17, 8),
        (None, 20, None),
        (None, 20, None),
    ]
    shop.loader.execute("DELETE FROM kpi.lost_order_limit WHERE valid_from = '-infinity'")
    assert months(shop, "lost_limit_percent", "lost_deviation_points")[0] == (None, None)


def test_lost_orders_bring_no_sales(shop: Play) -> None:
    refunded = order(shop, at("2025-02-03"), 3)
    shop.shop.advance(refunded, "paid", "shipped", "delivered")
    today(shop, "2025-03-01")
    shop.run()
    figures = ("orders", "lost_orders", "sales", "average_order_value", "fulfilled_orders")
    assert months(shop, *figures)[0] == (1, 0, 30, 30, 1)
    assert shop.value("SELECT sum(sales) FROM kpi.product_monthly") == 30

    shop.shop.advance(refunded, "refunded")
    shop.run()
    assert months(shop, *figures)[0] == (1, 1, 0, None, 1)
    assert shop.value("SELECT count(*) FROM kpi.product_monthly") == 0
    assert months(shop, "lost_deviation_points")[0] == (92,)


def test_fulfilment_counts_when_delivered(shop: Play) -> None:
    number = order(shop, at("2025-01-30"))
    shop.shop.now = at("2025-02-02", "11:57")
    shop.shop.advance(number, "paid", "shipped", "delivered")
    today(shop, "2025-03-01")
    shop.run()
    found = shop.value("SELECT delivered_at - ordered_at FROM oceanrecords.orders")
    # The fact stores four decimals.
    hours = round(Decimal(found.total_seconds()) / 3600, 4)
    assert 71 < hours < 73
    figures = months(shop, "orders", "fulfilled_orders", "fulfilment_hours", "fulfilment_days")
    assert figures[0] == (1, 0, None, None)
    assert figures[1] == (0, 1, hours, round(hours / 24, 10))


def test_time_zone_decides_the_month(shop: Play) -> None:
    shop.loader.execute("UPDATE etl.setting SET value = 'Europe/Athens' WHERE name = 'time_zone'")
    order(shop, at("2025-01-31", "21:30"))
    order(shop, at("2025-01-31", "22:30"))
    today(shop, "2025-02-10")
    shop.run()
    assert months(shop, "month_start", "orders") == [(date(2025, 1, 1), 1), (date(2025, 2, 1), 1)]


def test_today_is_that_of_the_time_zone(shop: Play) -> None:
    shop.run()
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        shop.loader.execute("UPDATE etl.setting SET value = %s WHERE name = 'time_zone'", [zone])
        row = shop.row(
            "SELECT today, (now() AT TIME ZONE %s)::date AS wanted FROM kpi.freshness", zone
        )
        assert row["today"] == row["wanted"]


def test_days_that_are_not_loaded_are_not_whole(shop: Play) -> None:
    order(shop, at("2025-03-01"))
    shop.run()
    # As if nothing had been loaded since: months that have passed in the meantime are not complete.
    shop.loader.execute("UPDATE etl.batch SET read_at = '2025-03-05 10:00+00'")
    rows = months(shop, "is_complete", "whole_days")
    assert rows[0] == (False, 4)
    assert not any(is_complete for is_complete, _ in rows)
    freshness = shop.row("SELECT complete_until, whole_until, is_stale FROM kpi.freshness")
    assert freshness["complete_until"] == at("2025-03-05", "10:00")
    assert freshness["whole_until"] == date(2025, 3, 5)
    assert freshness["is_stale"]


def show_small_groups(shop: Play) -> None:
    shop.loader.execute("UPDATE etl.setting SET value = '0' WHERE name = 'small_group'")


def test_address_that_comes_late(shop: Play) -> None:
    show_small_groups(shop)
    order(shop, at("2025-01-02"))
    today(shop, "2025-02-01")
    # Orders and lines without their dimensions: everything is unknown, and counted all the same.
    facts = ["orders", "order_lines", "order_statuses", "fact_order", "fact_order_line"]
    shop.run([*facts, "agg_order_daily", "agg_product_monthly", "agg_customer_quarterly"])
    assert shop.rows("SELECT country, sales FROM kpi.order_daily") == [("Unknown", 10)]
    assert shop.rows(
        "SELECT country, product_type, product_name, sales FROM kpi.product_monthly"
    ) == [("Unknown", "Unknown", "Unknown", 10)]
    # An order whose customer is unknown counts for no customer.
    assert shop.value("SELECT sum(unique_customers) FROM kpi.customer_count") == 0
    shop.run()
    assert shop.rows("SELECT country, sales FROM kpi.order_daily") == [("Germany", 10)]
    assert shop.rows("SELECT country, product_type, sales FROM kpi.product_monthly") == [
        ("Germany", "Vinyl", 10)
    ]
    assert shop.value("SELECT sum(unique_customers) FROM kpi.customer_count_of('Germany')") == 1


def test_somebody_in_two_countries_is_one_customer(shop: Play) -> None:
    show_small_groups(shop)
    abroad = shop.shop.address(shop.customer, "Lyon", country_code="FR", postal_code="69001")
    order(shop, at("2025-01-05"))
    shop.shop.now = at("2025-02-05")
    shop.shop.order(shop.customer, abroad, {shop.product: 1})
    shop.run()
    query = "SELECT sum(unique_customers) FROM kpi.customer_count_of({})"
    for countries in ("", "'France'", "'Germany'", "'France', 'Germany'"):
        assert shop.value(query.format(countries)) == 1


def test_product_keeps_the_place_in_which_it_was_sold(shop: Play) -> None:
    order(shop, at("2025-01-05"))
    shop.run()
    blues = shop.shop.subtype(shop.kind, "Blues")
    shop.shop.now = at("2025-02-01")
    shop.shop.update(
        "products", {"product_id": shop.product}, product_subtype_id=blues, name="Renamed"
    )
    order(shop, at("2025-02-05"))
    shop.run()
    assert shop.rows(
        "SELECT month_start, product_subtype, product_name FROM kpi.product_monthly ORDER BY 1"
    ) == [(date(2025, 1, 1), "Jazz", "Renamed"), (date(2025, 2, 1), "Blues", "Renamed")]
