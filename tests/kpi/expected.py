"""The key figures once more, from the operational system's own tables, order by order in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
from psycopg.rows import dict_row

ORDERS = """
    SELECT o.order_id, o.customer_id, o.ordered_at, o.delivered_at, s.is_lost,
        coalesce((SELECT sum(l.quantity * l.unit_price) FROM oceanrecords.order_lines AS l
            WHERE l.order_id = o.order_id), 0) AS amount
    FROM oceanrecords.orders AS o
    JOIN oceanrecords.order_statuses AS s USING (order_status_id)
"""
LINES = """
    SELECT o.ordered_at, l.product_id, l.quantity, l.unit_price
    FROM oceanrecords.order_lines AS l
    JOIN oceanrecords.orders AS o USING (order_id)
    JOIN oceanrecords.order_statuses AS s USING (order_status_id)
    WHERE NOT s.is_lost
"""


@dataclass(frozen=True)
class Order:
    """An order of the operational system."""

    customer_id: int
    day: date
    delivered_on: date | None
    hours: Decimal | None
    is_lost: bool
    amount: Decimal


def orders(connection: psycopg.Connection[Any], time_zone: str = "UTC") -> list[Order]:
    """Return all orders, with their days in a time zone."""
    zone = ZoneInfo(time_zone)

    def day(moment: datetime | None) -> date | None:
        return moment.astimezone(zone).date() if moment else None

    def make(row: dict[str, Any]) -> Order:
        ordered_on = day(row["ordered_at"])
        assert ordered_on is not None
        hours = None
        if row["delivered_at"]:
            duration = row["delivered_at"] - row["ordered_at"]
            microseconds = Decimal(duration // timedelta(microseconds=1))
            hours = rounded(microseconds / Decimal(3_600_000_000), 4)
        return Order(
            row["customer_id"],
            ordered_on,
            day(row["delivered_at"]),
            hours,
            row["is_lost"],
            row["amount"],
        )

    with connection.cursor(row_factory=dict_row) as cursor:
        return [make(row) for row in cursor.execute(ORDERS)]


def rounded(value: Decimal | None, digits: int) -> Decimal | None:
    """Round half away from zero, as the database does."""
    if value is None:
        return None
    return value.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)


def ratio(over: Decimal | int | None, under: Decimal | int | None) -> Decimal | None:
    """Divide, where there is something to divide by."""
    if over is None or not under:
        return None
    return Decimal(over) / Decimal(under)


def growth(now: Decimal | int | None, before: Decimal | int | None) -> Decimal | None:
    """Return the growth in percent."""
    grown = ratio(now, before)
    return None if grown is None else rounded(100 * (grown - 1), 2)


def next_month(day: date) -> date:
    """Return the first day of the next month."""
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


@dataclass(frozen=True)
class Sums:
    """Orders of a span of days, summed up."""

    orders: int
    lost_orders: int
    sales: Decimal
    fulfilled_orders: int
    hours: Decimal

    @classmethod
    def of(cls, all_orders: Iterable[Order], within: Callable[[date], bool]) -> Sums:
        """Sum up the orders of certain days; fulfilment counts on the day of delivery."""
        all_orders = list(all_orders)
        placed = [one for one in all_orders if within(one.day)]
        delivered = [one for one in all_orders if one.delivered_on and within(one.delivered_on)]
        return cls(
            len(placed),
            sum(one.is_lost for one in placed),
            sum((one.amount for one in placed if not one.is_lost), Decimal(0)),
            len(delivered),
            sum((one.hours for one in delivered if one.hours is not None), Decimal(0)),
        )


def months(
    all_orders: Sequence[Order], today: date, limits: Sequence[tuple[date, Decimal]]
) -> list[dict[str, Any]]:
    """Return what kpi.month should say.

    Parameters:
        all_orders: the orders.
        today: the first day that is not over.
        limits: day from which a limit of lost orders holds and the limit, in order.
    """

    def limit(day: date) -> Decimal:
        return [share for valid_from, share in limits if valid_from <= day][-1]

    days = [one.day for one in all_orders] + [
        one.delivered_on for one in all_orders if one.delivered_on
    ]
    first_day = min(days, default=today)
    last_day = max([*days, today])
    whole_days = (today - today.replace(day=1)).days
    rows: list[dict[str, Any]] = []
    start, before_start = first_day.replace(day=1), None
    while start <= last_day:
        end = next_month(start)
        is_complete = end <= today

        def spans(first: date, days: int | None) -> Callable[[date], bool]:
            last = (
                next_month(first)
                if days is None
                else min(first + timedelta(days=days), next_month(first))
            )
            return lambda day: first <= day < last

        whole = Sums.of(all_orders, spans(start, None))
        compared_days = None if is_complete else whole_days
        now = Sums.of(all_orders, spans(start, compared_days))
        before = None
        if before_start is not None and (is_complete or start <= today - timedelta(days=1)):
            before = Sums.of(all_orders, spans(before_start, compared_days))
        allowed = sum((limit(one.day) for one in all_orders if start <= one.day < end), Decimal(0))
        share = ratio(whole.lost_orders, whole.orders)
        limit_share = ratio(allowed, whole.orders) if whole.orders else limit(start)
        hours = ratio(whole.hours, whole.fulfilled_orders)
        rows.append(
            {
                "month_start": start,
                "is_complete": is_complete,
                "orders": whole.orders,
                "lost_orders": whole.lost_orders,
                "sales": whole.sales,
                "average_order_value": rounded(
                    ratio(whole.sales, whole.orders - whole.lost_orders), 2
                ),
                "lost_share_percent": rounded(share and 100 * share, 4)
                if share is not None
                else None,
                "lost_limit_percent": rounded(100 * limit_share, 4)
                if limit_share is not None
                else None,
                "lost_deviation_points": None
                if share is None or limit_share is None
                else rounded(100 * (share - limit_share), 4),
                "fulfilled_orders": whole.fulfilled_orders,
                "fulfilment_hours": rounded(hours, 2),
                "fulfilment_days": rounded(hours / 24, 2) if hours is not None else None,
                "sales_growth_percent": growth(
                    now.sales,
                    before.sales if before and before_start and before_start >= first_day else None,
                ),
                "average_order_value_growth_percent": before
                and growth(
                    ratio(now.sales, now.orders - now.lost_orders),
                    ratio(before.sales, before.orders - before.lost_orders),
                ),
                "lost_share_growth_percent": before
                and growth(
                    ratio(now.lost_orders, now.orders), ratio(before.lost_orders, before.orders)
                ),
                "fulfilment_growth_percent": before
                and growth(
                    ratio(now.hours, now.fulfilled_orders),
                    ratio(before.hours, before.fulfilled_orders),
                ),
            }
        )
        before_start, start = start, end
    return rows


def customers_by_quarter(all_orders: Iterable[Order]) -> dict[str, int]:
    """Return the number of different customers by quarter."""
    found: dict[str, set[int]] = {}
    for one in all_orders:
        name = f"{one.day.year} Q{(one.day.month + 2) // 3}"
        found.setdefault(name, set()).add(one.customer_id)
    return {name: len(customers) for name, customers in found.items()}


def products_by_month(
    connection: psycopg.Connection[Any], time_zone: str = "UTC"
) -> dict[tuple[date, int], tuple[int, Decimal]]:
    """Return pieces and sales by month and product."""
    zone = ZoneInfo(time_zone)
    found: dict[tuple[date, int], tuple[int, Decimal]] = {}
    for ordered_at, product, quantity, unit_price in connection.execute(LINES):
        key = (ordered_at.astimezone(zone).date().replace(day=1), product)
        pieces, sales = found.get(key, (0, Decimal(0)))
        found[key] = (pieces + quantity, sales + quantity * unit_price)
    return found
