"""Shops that are unlike the seeded one: orders at midnight, months without any, a limit that changes, zones west and east."""

from __future__ import annotations

import random
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from tests.kpi import expected
from tests.kpi.test_replay import assert_day
from tests.warehouse.play import Play

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

OPENED = date(2024, 1, 18)
ENDS = date(2025, 3, 3)
CLOSED = date(2024, 4, 1)  # a month without an order
LIMITS = [
    (date.min, Decimal("0.08")),
    (date(2024, 5, 13), Decimal("0.25")),
    (date(2024, 9, 30), Decimal("0.04")),
]
ONE_DAY = timedelta(days=1)
STATUSES = {"placed": 1, "delivered": 4, "cancelled": 5, "refunded": 6}
ORDER = """
    WITH placed AS (
        INSERT INTO oceanrecords.orders (customer_id, address_id, payment_method_id, order_status_id, ordered_at,
            paid_at, shipped_at, delivered_at, cancelled_at, refunded_at)
        VALUES (%(customer)s, %(address)s, 1, %(status)s, %(ordered)s,
            %(delivered)s, %(delivered)s, %(delivered)s, %(cancelled)s, %(refunded)s)
        RETURNING order_id
    )
    INSERT INTO oceanrecords.order_lines (order_id, line_number, product_id, quantity, unit_price)
    SELECT order_id, 1, %(product)s, %(quantity)s, 10 FROM placed
"""


def edge(chance: random.Random, day: date, zone: ZoneInfo) -> datetime:
    """Return the first moment of a day in a zone, the last one, or one between."""
    first = datetime.combine(day, time(), zone)
    last = datetime.combine(day + ONE_DAY, time(), zone) - timedelta(microseconds=1)
    return chance.choice([first, last, first.replace(hour=chance.randrange(4, 24))])


def trade(play: Play, zone: ZoneInfo, seed: int) -> None:
    """Place orders on most days, and lose every fifth, on the same day or up to seven weeks later."""
    chance = random.Random(seed)
    day = OPENED
    while day <= ENDS:
        is_open = day.replace(day=1) != CLOSED and (day == OPENED or chance.random() < 0.4)
        for _ in range(chance.randint(1, 3) if is_open else 0):
            ordered = edge(chance, day, zone)
            later = max(
                ordered,
                edge(chance, day + chance.choice([0, chance.randrange(50)]) * ONE_DAY, zone),
            )
            last = max(later, edge(chance, later.date() + chance.randrange(20) * ONE_DAY, zone))
            status = chance.choices(list(STATUSES), [2, 6, 1, 1])[0]
            play.shop.connection.execute(
                ORDER.encode(),
                {
                    "customer": play.customer,
                    "address": play.address,
                    "product": play.product,
                    "quantity": chance.randint(1, 30),
                    "status": STATUSES[status],
                    "ordered": ordered,
                    "delivered": later if status in ("delivered", "refunded") else None,
                    "cancelled": later if status == "cancelled" else None,
                    "refunded": last if status == "refunded" else None,
                },
            )
        day += ONE_DAY


def days() -> list[date]:
    """Return the days that are looked at: the ends and the middle of each month, and the days about the opening."""
    found = [OPENED - timedelta(days=40), OPENED - ONE_DAY, OPENED, OPENED + ONE_DAY]
    month = OPENED.replace(day=1)
    while month <= ENDS:
        end = expected.next_month(month)
        found += [month, month + ONE_DAY, month.replace(day=17), end - 2 * ONE_DAY, end - ONE_DAY]
        month = end
    return sorted({day for day in found if day <= ENDS})


@pytest.fixture
def shop(play: Play) -> Play:
    """A shop with a customer and a product, and no orders."""
    play.shop.now = datetime(2023, 6, 1, tzinfo=ZoneInfo("UTC"))
    play.open()
    play.shop.connection.execute("DELETE FROM oceanrecords.order_lines")
    play.shop.connection.execute("DELETE FROM oceanrecords.orders")
    for valid_from, share in LIMITS[1:]:
        play.loader.execute("INSERT INTO kpi.lost_order_limit VALUES (%s, %s)", [valid_from, share])
    return play


@pytest.mark.parametrize("zone", ["America/St_Johns", "Pacific/Pago_Pago", "Pacific/Kiritimati"])
def test_a_shop_in_a_zone(shop: Play, zone: str) -> None:
    shop.loader.execute("UPDATE etl.setting SET value = %s WHERE name = 'time_zone'", [zone])
    trade(shop, ZoneInfo(zone), 7)
    shop.run()
    orders = expected.orders(shop.loader, zone)
    assert orders != expected.orders(shop.loader)
    assert any(one.lost_on == one.day for one in orders)
    for day in days():
        assert_day(shop.loader, orders, day, LIMITS)


def test_what_people_set_for_a_month_without_orders(shop: Play) -> None:
    """A target counts without an order; a new currency is one for all figures."""
    trade(shop, ZoneInfo("UTC"), 7)
    shop.run()
    shop.loader.execute("INSERT INTO kpi.sales_target VALUES (%s, DEFAULT, 3000)", [CLOSED])
    shop.loader.execute("UPDATE etl.setting SET value = '2024-04-11' WHERE name = 'business_date'")
    shop.loader.execute("UPDATE etl.setting SET value = 'CHF' WHERE name = 'currency'")
    rows = shop.rows("SELECT headline, sales, compared_with, change_percent FROM kpi.headline")
    told = {row[0]: row[1:] for row in rows}
    assert told["Month to date"] == (0, None, None)
    assert told["Target to date"] == (1000, 1000, -100)
    assert told["Forecast"][1] == 3000
    assert shop.value("SELECT string_agg(DISTINCT currency, ' ') FROM kpi.freshness") == "CHF"
    assert shop.rows("SELECT kpi, unit, month_to_date, is_provisional FROM kpi.overview") == [
        ("Sales", "CHF", 0, False),
        ("Average Order Value", "CHF", None, False),
        ("Lost Order Deviation", "pp", None, False),
        (
            "Average Order Fulfillment",
            "hours",
            shop.value(
                "SELECT known_fulfilment_hours FROM kpi.month WHERE month_start = %s", CLOSED
            ),
            False,
        ),
    ]
    assert "CHF" in shop.value("SELECT note FROM kpi.headline WHERE headline = 'Target to date'")
