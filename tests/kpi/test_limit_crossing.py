"""The share of lost orders rises above its limit: each crossing is new on one day, and the alert is sent once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from pytest_postgresql.executors import NoopExecutor

from simulator.seed import seed
from tests.kpi import expected
from tests.support.database import temporary_database
from tests.support.servers import RunningServer
from tests.warehouse.play import Play

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

ENDS = date(2025, 4, 2)
LIMIT = Decimal("0.06")
ONE_DAY = timedelta(days=1)
NEW = "SELECT month_start, crossed_on, lost_share_percent FROM kpi.limit_crossing WHERE is_new ORDER BY 1, 2"

# Midnight some days ago, and all runs at that time.
MIDNIGHT = (
    "(date_trunc('day', now() AT TIME ZONE 'UTC') - {} * interval '1 day') AT TIME ZONE 'UTC'"
)
RUNS_AT = f"UPDATE etl.run SET started_at = {MIDNIGHT}, ended_at = {MIDNIGHT}"


@pytest.fixture(scope="module")
def history(
    server: RunningServer, request: pytest.FixtureRequest
) -> Iterator[psycopg.Connection[Any]]:
    """A warehouse with nine months of orders, loaded once, and a limit that is crossed often."""
    template: NoopExecutor = request.getfixturevalue(f"{server.name}_template")
    with temporary_database(server, template.template_dbname) as made, made.connect() as connection:
        seed(connection, orders=900, months=9, seed=23, until=ENDS)
        connection.execute("UPDATE kpi.lost_order_limit SET limit_share = %s", [LIMIT])
        connection.execute("CALL etl.run()")
        yield connection


def share(orders: list[expected.Order], month: date, day: date) -> Decimal | None:
    """Return the share of lost orders of a month, as known when a day ended."""
    until = min(day + ONE_DAY, expected.next_month(month))
    return expected.Sums.of(orders, month, until, day + ONE_DAY).lost_share


def test_each_crossing_is_new_once(history: psycopg.Connection[Any]) -> None:
    orders = expected.orders(history)
    wanted = []
    found = []
    day = date(2024, 10, 1)
    while day < ENDS:
        for month in (expected.before_month(day), day.replace(day=1)):
            now, before = share(orders, month, day), share(orders, month, day - ONE_DAY)
            if (now or 0) > LIMIT >= (before or 0):
                wanted.append((month, day, expected.percent(now)))
        today = (day + ONE_DAY).isoformat()
        history.execute("UPDATE etl.setting SET value = %s WHERE name = 'business_date'", [today])
        # On the first of a month the month before the last one is no longer looked at.
        found += history.execute(NEW).fetchall()
        day += ONE_DAY
    assert len(wanted) > 5
    assert found == [one for one in wanted if expected.before_month(one[1] + ONE_DAY) <= one[0]]


def test_a_late_load_tells_once(trading: Play) -> None:
    """The order of the day before yesterday is lost on that day, and the load of yesterday was missed."""
    two_days_ago = MIDNIGHT.format(1.5)
    trading.loader.execute(
        f"UPDATE oceanrecords.orders SET ordered_at = {two_days_ago}, cancelled_at = {two_days_ago},"
        " order_status_id = (SELECT min(order_status_id) FROM oceanrecords.order_statuses WHERE is_lost)".encode()
    )
    trading.loader.execute("UPDATE kpi.lost_order_limit SET valid_from = 'infinity'")
    trading.run()
    assert trading.rows("SELECT FROM kpi.limit_crossing") == [], "no limit is known"
    trading.loader.execute("UPDATE kpi.lost_order_limit SET valid_from = '-infinity'")
    assert trading.rows(NEW) == [], "nothing was loaded a day ago: all is history"
    trading.loader.execute(RUNS_AT.format(2, 2).encode())
    trading.run()
    assert len(trading.rows(NEW)) == 1
    trading.loader.execute(RUNS_AT.format(1, 1).encode())
    assert trading.rows(NEW) == []
    trading.run()
    assert trading.rows(NEW) == []
    # A check that fails makes a run partial: what was told is not told again.
    trading.loader.execute("UPDATE etl.run SET status = 'partial'")
    assert trading.rows(NEW) == []
    # A run of some tasks told nothing.
    trading.loader.execute(
        f"UPDATE etl.run SET started_at = {MIDNIGHT.format(2)} WHERE run_id = (SELECT min(run_id) FROM etl.run)".encode()
    )
    trading.loader.execute(
        "UPDATE etl.run SET only_tasks = '{dimension:dim_status}' WHERE run_id > (SELECT min(run_id) FROM etl.run)"
    )
    assert len(trading.rows(NEW)) == 1
