"""The demonstration: from an empty database to a warehouse that has failed and repaired itself.

It works in a database of its own, which it creates again each time, so that it can be repeated or
interrupted at will and touches nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import conninfo, sql
from psycopg.rows import dict_row

from base.connection import Target, connect_to
from base.errors import UserError
from base.server import EmbeddedServer
from driver.migrate import Migrator
from driver.run import Follow, Outcome, run

# The simulator and the dashboard are imported where they are used: every other command of the
# program would wait for what they need.
if TYPE_CHECKING:
    from simulator.actions import TickResult
    from simulator.seed import SeedResult

DATABASE = "oceanrecords_demo"
BROKEN = "dim_product"

_BREAK = """
    CREATE FUNCTION dwh.demo_refusal() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN RAISE EXCEPTION 'broken on purpose by the demonstration'; END$$;
    CREATE TRIGGER demo_refusal BEFORE INSERT OR UPDATE ON dwh.dim_product
    EXECUTE FUNCTION dwh.demo_refusal();
"""
_REPAIR = "DROP FUNCTION dwh.demo_refusal() CASCADE"


@dataclass(frozen=True)
class Scale:
    """How much the demonstration plays.

    Attributes:
        orders: orders of history.
        months: months of history.
        days: days of business played after it, the last of them today.
        ticks_a_day: rounds of the simulator on each day.
    """

    orders: int = 20_000
    months: int = 24
    days: int = 4
    ticks_a_day: int = 4


class Demo:
    """The steps of the demonstration, in the order in which they make sense.

    Parameters:
        target: a database on the server that takes the demonstration's own.
        scale: how much is played.
        chance: number that decides everything that is left to chance.
    """

    def __init__(self, target: Target, scale: Scale, chance: int = 42) -> None:
        self._server = target
        self._scale = scale
        self._random = random.Random(chance)
        self._chance = chance
        midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        self._history_ends = midnight - timedelta(days=scale.days)
        given = conninfo.make_conninfo(target.conninfo, dbname=DATABASE)
        self.target = Target(given, "the demonstration", target.embedded)

    def create_database(self) -> None:
        """Make the demonstration's database, empty.

        Raises:
            UserError: if the role may not create databases.
        """
        name = sql.Identifier(DATABASE)
        with connect_to(self._server) as connection:
            try:
                connection.execute("SET client_min_messages = warning")
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
                connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
            except psycopg.errors.InsufficientPrivilege as error:
                raise UserError(
                    f"The role {connection.info.user} may not create the database {DATABASE}, "
                    "in which the demonstration plays.",
                    "ALTER ROLE … CREATEDB, or leave --dsn out and use the embedded server.",
                ) from error

    def migrate(self) -> int:
        """Apply all migrations, and return their number."""
        return len(Migrator(self.target).apply())

    def seed(self, progress: Callable[[str, float], None]) -> SeedResult:
        """Fill the operational system with its history."""
        from simulator.seed import seed

        with connect_to(self.target) as connection:
            return seed(
                connection,
                orders=self._scale.orders,
                months=self._scale.months,
                seed=self._chance,
                until=self._history_ends.date(),
                progress=progress,
            )

    def load(self, follow: Follow | None = None) -> Outcome:
        """Run the warehouse with two workers."""
        return run(self.target, workers=2, follow=follow or (lambda *_: None))

    def days(self) -> list[datetime]:
        """Return the days to be played, each as its first moment."""
        return [self._history_ends + timedelta(days=day) for day in range(self._scale.days)]

    def play_day(self, day: datetime) -> TickResult:
        """Play a day of business, a few rounds between morning and evening."""
        from simulator.actions import TickPlan, TickResult, tick

        hours = timedelta(hours=12) / self._scale.ticks_a_day
        plan = TickPlan(span=hours)
        total = TickResult()
        with connect_to(self.target) as connection:
            for number in range(self._scale.ticks_a_day):
                clock = day + timedelta(hours=9) + number * hours
                total += tick(connection, plan, self._random, clock=clock)
        return total

    def play_launch(self) -> TickResult:
        """Play a round at this moment in which products are launched, and bought at once."""
        from simulator.actions import TickPlan, tick

        plan = TickPlan(products=3, orders=40, prices=5)
        with connect_to(self.target) as connection:
            return tick(connection, plan, self._random)

    def break_dimension(self) -> None:
        """Make every load of the dimension fail."""
        self._execute(_BREAK)

    def repair_dimension(self) -> None:
        """Let the dimension load again."""
        self._execute(_REPAIR)

    def queue(self) -> list[dict[str, Any]]:
        """Return how much waits in the reprocessing queue, by fact and dimension."""
        return self.rows("SELECT * FROM etl.queue_status ORDER BY fact, dimension")

    def reconcile(self) -> dict[str, Any]:
        """Compare the warehouse with its source, and return the verdict."""
        with connect_to(self.target) as connection:
            connection.execute("CALL etl.reconcile()")
        (verdict,) = self.rows(
            "SELECT overall_status AS status, overall_differences AS differences,"
            " count(*) AS objects, sum(expected_rows) AS rows"
            " FROM etl.reconciliation_status GROUP BY 1, 2"
        )
        return verdict

    def write_dashboard(self) -> Path:
        """Write the dashboard as a page that needs no network, and return where it is."""
        from metabase import definition, preview

        page = EmbeddedServer().home / "dashboard.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        with connect_to(self.target) as connection:
            preview.write(preview.render(connection, definition.load()), page)
        return page

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Return the rows of a query on the demonstration's database."""
        with connect_to(self.target) as connection:
            return connection.cursor(row_factory=dict_row).execute(query.encode()).fetchall()

    def _execute(self, statement: str) -> None:
        with connect_to(self.target) as connection:
            connection.execute(statement.encode())
