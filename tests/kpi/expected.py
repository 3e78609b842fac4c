"""The KPIs once more, from the operational system's own tables, order by order in Python.

Nothing here reads the warehouse. `months`, `overview` and `headline` say what the views of schema kpi should say on a day: what
happened after that day is not known yet, and an earlier period is taken as it was known at the same age.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from psycopg.rows import dict_row

ORDERS = """
    SELECT o.order_id, o.customer_id, o.ordered_at, o.delivered_at, o.cancelled_at, o.refunded_at, s.is_lost,
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
    lost_on: date | None
    amount: Decimal

    def lost(self, before: date) -> bool:
        """Tell whether it is known to be lost when a day begins."""
        return self.is_lost and (self.lost_on or self.day) < before


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
            day(row["cancelled_at"] or row["refunded_at"]),
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
    return None if grown is None else rounded(100 * (grown - 1), 10)


def near(value: float, within: str) -> Any:
    """Return what equals an estimate: powers and logarithms are not exact."""
    return pytest.approx(Decimal(value), abs=Decimal(within))


def next_month(day: date) -> date:
    """Return the first day of the next month."""
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


@dataclass(frozen=True)
class Sums:
    """Orders of a span of days, as known at the start of a day."""

    orders: int
    lost_orders: int
    sales: Decimal
    fulfilled_orders: int
    hours: Decimal

    @classmethod
    def of(cls, all_orders: Iterable[Order], first: date, until: date, known: date) -> Sums:
        """Sum up the orders of the days from `first` to before `until`; fulfilment counts on the day of delivery."""
        all_orders = list(all_orders)
        placed = [one for one in all_orders if first <= one.day < until]
        delivered = [
            one for one in all_orders if one.delivered_on and first <= one.delivered_on < until
        ]
        return cls(
            len(placed),
            sum(one.lost(known) for one in placed),
            sum((one.amount for one in placed if not one.lost(known)), Decimal(0)),
            len(delivered),
            sum((one.hours for one in delivered if one.hours is not None), Decimal(0)),
        )

    @property
    def order_value(self) -> Decimal | None:
        return ratio(self.sales, self.orders - self.lost_orders)

    @property
    def lost_share(self) -> Decimal | None:
        return ratio(self.lost_orders, self.orders)

    @property
    def mean_hours(self) -> Decimal | None:
        return ratio(self.hours, self.fulfilled_orders)


NOTHING = Sums(0, 0, Decimal(0), 0, Decimal(0))


def percent(share: Decimal | None) -> Decimal | None:
    """Return a share in percent."""
    return None if share is None else rounded(100 * share, 10)


def before_month(day: date) -> date:
    """Return the first day of the month before."""
    return (day.replace(day=1) - timedelta(days=1)).replace(day=1)


def loss_curve(all_orders: Sequence[Order], today: date) -> list[tuple[float, float]]:
    """Return by age in days: the part of the final losses that has happened, and the share of the rest that is lost later."""
    recent = [one for one in all_orders if today - timedelta(days=730) <= one.day < today]
    lags = {id(one): ((one.lost_on or one.day) - one.day).days for one in recent if one.lost(today)}
    kept, shares = 1.0, []
    for age in range(max(lags.values(), default=-1) + 1):
        at_risk = [
            one
            for one in recent
            if one.day + timedelta(days=age) < today and lags.get(id(one), age) >= age
        ]
        lost = sum(lags.get(id(one)) == age for one in at_risk)
        if at_risk:
            kept *= 1 - lost / len(at_risk)
        shares.append(kept)
    final = shares[-1] if shares else 1.0
    return [((1 - one) / (1 - final), 1 - final / one) for one in shares]


def months(
    all_orders: Sequence[Order], today: date, limits: Sequence[tuple[date, Decimal]]
) -> list[dict[str, Any]]:
    """Return what kpi.month should say on a day.

    Parameters:
        all_orders: the orders.
        today: the first day that is not over; what happens after it is not known.
        limits: day from which a limit of lost orders holds and the limit, in order.
    """

    def limit(day: date) -> Decimal:
        return [share for valid_from, share in limits if valid_from <= day][-1]

    def limit_share(first: date, until: date) -> Decimal | None:
        placed = [one.day for one in past if first <= one.day < until]
        return ratio(sum(map(limit, placed), Decimal(0)), len(placed))

    days = [one.day for one in all_orders] + [
        one.delivered_on for one in all_orders if one.delivered_on
    ]
    first_day = min(days, default=today)
    tomorrow = today + timedelta(days=1)
    past = [
        replace(
            one,
            delivered_on=one.delivered_on
            if one.delivered_on and one.delivered_on < tomorrow
            else None,
        )
        for one in all_orders
        if one.day < tomorrow
    ]
    curve = loss_curve(past, today)
    usual = next((age for age, (part, _) in enumerate(curve) if part >= 0.95), 0)
    rows: list[dict[str, Any]] = []
    start = min(first_day, today).replace(day=1)
    while start <= today:
        end, earlier = next_month(start), before_month(start)
        is_complete = end <= today
        whole_days = (min(today, end) - start).days
        compared_days = whole_days if is_complete else min(whole_days, (start - earlier).days)
        loaded = Sums.of(past, start, end, tomorrow)
        known = now = before = None
        # A month in which business began later than on its first day is compared with nothing.
        is_comparable = earlier >= first_day
        if whole_days:
            known = Sums.of(past, start, start + timedelta(days=whole_days), today)
            if is_complete:
                now = known
                age = today - end
                before = Sums.of(past, earlier, start, start + age) if is_comparable else None
            else:
                now = Sums.of(past, start, start + timedelta(days=compared_days), today)
                until = earlier + timedelta(days=compared_days)
                known_then = earlier + timedelta(days=whole_days)
                before = Sums.of(past, earlier, until, known_then) if is_comparable else None
        known_limit = limit_share(start, start + timedelta(days=whole_days))
        whole_limit = limit_share(start, end)
        later_orders, later_amount = 0.0, 0.0
        for one in past:
            age_days = (today - one.day).days - 1
            if start <= one.day < end and 0 <= age_days < len(curve) and not one.lost(today):
                later_orders += curve[age_days][1]
                later_amount += float(one.amount) * curve[age_days][1]
        expected_share = (
            None
            if known is None or not known.orders
            else (known.lost_orders + later_orders) / known.orders
        )
        rows.append(
            {
                "month_start": start,
                "is_complete": is_complete,
                "is_from_start": start >= first_day,
                "is_mature": is_complete and (today - end).days >= usual,
                "whole_days": whole_days,
                "compared_days": compared_days,
                "orders": loaded.orders,
                "lost_orders": loaded.lost_orders,
                "sales": loaded.sales,
                "average_order_value": rounded(loaded.order_value, 10),
                "lost_share_percent": percent(loaded.lost_share),
                "lost_limit_percent": percent(limit(start) if not loaded.orders else whole_limit),
                "lost_deviation_points": deviation(loaded, whole_limit),
                "fulfilled_orders": loaded.fulfilled_orders,
                "fulfilment_hours": rounded(loaded.mean_hours, 10),
                "fulfilment_days": rounded(
                    loaded.mean_hours / 24 if loaded.mean_hours is not None else None, 10
                ),
                "known_sales": known and known.sales,
                "known_average_order_value": rounded(known and known.order_value, 10),
                "known_lost_share_percent": percent(known and known.lost_share),
                "known_lost_deviation_points": known and deviation(known, known_limit),
                "known_fulfilment_hours": rounded(known and known.mean_hours, 10),
                "before_sales": before and before.sales,
                "before_average_order_value": rounded(before and before.order_value, 10),
                "before_lost_share_percent": percent(before and before.lost_share),
                "before_fulfilment_hours": rounded(before and before.mean_hours, 10),
                "sales_growth_percent": growth(now and now.sales, before and before.sales),
                "average_order_value_growth_percent": growth(
                    now and now.order_value, before and before.order_value
                ),
                "lost_share_change_points": rounded(100 * (now.lost_share - before.lost_share), 10)
                if now and before and now.lost_share is not None and before.lost_share is not None
                else None,
                "fulfilment_growth_percent": growth(
                    now and now.mean_hours, before and before.mean_hours
                ),
                "expected_sales": None
                if known is None
                else near(float(known.sales) - later_amount, "0.02"),
                "expected_lost_share_percent": None
                if expected_share is None
                else near(100 * expected_share, "0.0002"),
                "expected_lost_deviation_points": None
                if expected_share is None or known_limit is None
                else near(100 * (expected_share - float(known_limit)), "0.0002"),
            }
        )
        start = end
    return rows


def deviation(sums: Sums, limit_share: Decimal | None) -> Decimal | None:
    """Return the Lost Order Deviation in percentage points."""
    if sums.lost_share is None or limit_share is None:
        return None
    return rounded(100 * (sums.lost_share - limit_share), 10)


def overview(rows: Sequence[dict[str, Any]], today: date) -> dict[str, dict[str, Any]]:
    """Return what kpi.overview should say, given what kpi.month should say."""
    full = [row for row in rows if row["is_complete"] and row["is_from_start"]][-12:]
    last = next((row for row in reversed(rows) if row["is_complete"]), {})
    now = next((row for row in rows if row["month_start"] == today.replace(day=1)), {})
    found = {}
    for name, column, known, change in (
        ("Sales", "sales", "known_sales", "sales_growth_percent"),
        (
            "Average Order Value",
            "average_order_value",
            "known_average_order_value",
            "average_order_value_growth_percent",
        ),
        (
            "Lost Order Deviation",
            "lost_deviation_points",
            "known_lost_deviation_points",
            "lost_share_change_points",
        ),
        (
            "Average Order Fulfillment",
            "fulfilment_hours",
            "known_fulfilment_hours",
            "fulfilment_growth_percent",
        ),
    ):
        values = [row[column] for row in full]
        there = [value for value in values if value is not None]
        is_share = column == "lost_deviation_points"
        found[name] = {
            "month_to_date": now.get(known),
            "last_month": last.get(column),
            "monthly_average": rounded(sum(there, Decimal(0)) / len(there), 10) if there else None,
            "growth_percent": None if is_share else now.get(change),
            "change_points": now.get(change) if is_share else None,
            "trend_values": values,
            "months": len(values),
        }
    return found


def headline(
    all_orders: Sequence[Order], today: date
) -> dict[str, tuple[Decimal | None, Decimal | None]]:
    """Return sales of yesterday and of the month to date, each with what it is compared with."""
    first_day = min([one.day for one in all_orders], default=today)
    past = [one for one in all_orders if one.day < today]

    def sales(first: date, until: date, known: date) -> Decimal:
        return Sums.of(past, first, until, known).sales

    one_day, week = timedelta(days=1), timedelta(days=7)
    start = today.replace(day=1)
    year_before = start.replace(year=start.year - 1)
    days = min(today - start, next_month(year_before) - year_before)
    return {
        "Yesterday": (
            sales(today - one_day, today, today) if today > first_day else None,
            sales(today - week - one_day, today - week, today - week)
            if today - week - one_day >= first_day
            else None,
        ),
        "Month to date": (
            sales(start, today, today) if today > start else None,
            sales(year_before, year_before + days, year_before + (today - start))
            if today > start and first_day <= year_before
            else None,
        ),
    }


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
