"""The ways of building the stars that are compared, each in a database of its own."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import psycopg

from base.cluster import SUPERUSER
from benchmarks.dbt_environment import DbtEnvironment
from benchmarks.measure import BenchmarkError, Finished, Measurement, measured, run_program
from benchmarks.server import Server, statement
from benchmarks.world import World, oceanrecords


class Peer(ABC):
    """One way of building the stars.

    Attributes:
        name: short name, also of its database.
        title: name in the report.
        schema: schema of its stars.
        aggregates: whether it also builds the aggregates.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    schema: ClassVar[str]
    aggregates: ClassVar[bool] = False

    def __init__(self, server: Server, database: str | None = None) -> None:
        self.server = server
        self.database = database or f"peer_{self.name}"

    def set_up(self) -> None:  # noqa: B027
        """Get ready what the peer needs outside the database."""

    def versions(self) -> dict[str, str]:
        """Return the versions of the programs that the peer brings along."""
        return {}

    def begin(self, world: World) -> None:
        """Make the peer's database anew: operational data, and stars that are still empty."""
        world.begin(self.database)
        self.install()

    def install(self) -> None:  # noqa: B027
        """Prepare a new copy of the operational data; not measured, as a migration would not be."""

    @abstractmethod
    def load(self) -> Measurement:
        """Bring the stars up to date with the operational data, and measure it."""

    @abstractmethod
    def refresh(self) -> Measurement:
        """Build the stars anew although they are there, and measure it."""


class Ours(Peer):
    """This warehouse with all that it keeps: delta, mirror, stars, aggregates, checks."""

    name = "ours"
    title = "ours, everything"
    schema = "dwh"
    aggregates = True
    workers = 2

    def load(self) -> Measurement:
        return self.run("--workers", str(self.workers))

    def refresh(self) -> Measurement:
        return self.run("--workers", str(self.workers), "--full-refresh")

    def run(self, *arguments: str) -> Measurement:
        """Measure `oceanrecords run` with some options; notes the seconds of each task."""
        with measured(self.server, self.database) as result:
            finished = oceanrecords(self.server.dsn(self.database), "run", "--json", *arguments)
            result.wall_seconds = finished.seconds
        result.client_bytes = finished.peak_bytes
        answer: dict[str, Any] = json.loads(
            finished.output.splitlines()[-1]
        )  # the run, after its tasks
        result.sql_seconds = float(answer["seconds"])
        result.extra["tasks"] = {
            task["task"]: float(task["seconds"]) for task in answer["task_runs"] if task["seconds"]
        }
        return result


class OursStars(Ours):
    """This warehouse for the stars alone: its aggregates and checks taken out of the catalog."""

    name = "stars"
    title = "ours, stars alone"
    aggregates = False

    def install(self) -> None:
        with self.server.connect(self.database) as connection:
            connection.execute(statement("stars_alone"))


class OursOneWorker(Ours):
    """This warehouse with everything, by one worker."""

    name = "one_worker"
    title = "ours, one worker"
    workers = 1


class OursByPsql(Ours):
    """The warehouse of another peer of ours, run without the program: `CALL etl.run()` by psql."""

    name = "ours_psql"
    title = f"{Ours.title}, by psql"

    def load(self) -> Measurement:
        dsn = self.server.dsn(self.database)
        with measured(self.server, self.database) as result:
            psql = str(self.server.embedded.cluster.binaries / "psql")
            finished = run_program([psql, "-Xq", dsn, "-c", "CALL etl.run()"])
            result.wall_seconds = finished.seconds
        result.client_bytes = finished.peak_bytes
        with self.server.connect(self.database) as connection:
            row = connection.execute(statement("last_run")).fetchone()
        if row is None or row[0] is None:
            raise BenchmarkError(f"The run by psql in {self.database} did not succeed.")
        result.sql_seconds = float(row[0])
        return result


class OursStarsByPsql(OursByPsql):
    """The same for the stars alone."""

    name = "stars_psql"
    title = f"{OursStars.title}, by psql"
    aggregates = False


class Hand(Peer):
    """Hand-written SQL that does the least work possible, in one session."""

    name = "hand"
    title = "by hand"
    schema = "hand"

    def install(self) -> None:
        with self.server.connect(self.database) as connection:
            connection.execute(statement("hand/schema"))

    def load(self) -> Measurement:
        with (
            measured(self.server, self.database) as result,
            psycopg.connect(self.server.dsn(self.database)) as connection,
            psycopg.ClientCursor(connection) as cursor,
        ):
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            row = cursor.execute(
                "SELECT pg_snapshot_xmin(snapshot)::text, snapshot::text FROM hand.watermark"
            ).fetchone()
            if row is None:
                self._execute(cursor, {}, "initial", "+initial_aggregates")
            else:
                self._execute(
                    cursor,
                    {"xmin": row[0], "snapshot": row[1]},
                    "batch",
                    "+batch_aggregates_before",
                    "batch_facts",
                    "+batch_aggregates_after",
                )
        result.sql_seconds = result.wall_seconds
        return result

    def refresh(self) -> Measurement:
        """Refuse: what the source does not log is in the stars alone, and would be lost."""
        raise BenchmarkError("The hand-written SQL has no full refresh.")

    def _execute(
        self, cursor: psycopg.ClientCursor[Any], watermark: dict[str, str], *files: str
    ) -> None:
        """Execute files of sql/hand in turn; those marked + only for a peer with aggregates."""
        for file in files:
            if self.aggregates or not file.startswith("+"):
                cursor.execute(statement(f"hand/{file.removeprefix('+')}"), watermark or None)


class HandEverything(Hand):
    """The same with the aggregates, which take up the difference that a batch makes."""

    name = "hand_everything"
    title = "by hand, everything"
    aggregates = True


class Dbt(Peer):
    """dbt as a competent user writes it: snapshots, incremental models, two threads.

    Its time in SQL is the whole command without what a command takes that builds nothing.
    """

    name = "dbt"
    title = "dbt"
    schema = "dbt"

    def __init__(self, server: Server, database: str | None = None) -> None:
        super().__init__(server, database)
        self.environment = DbtEnvironment(server.embedded.home / "dbt")

    def set_up(self) -> None:
        self.environment.ensure()
        self.start_up()  # reads the project for the first time, which later commands need not

    def versions(self) -> dict[str, str]:
        return self.environment.versions()

    def install(self) -> None:
        with self.server.connect(self.database) as connection:
            connection.execute(statement("dbt_source"))

    def load(self) -> Measurement:
        return self._build()

    def refresh(self) -> Measurement:
        return self._build("--full-refresh")

    def start_up(self) -> float:
        """Return the seconds of a command that builds nothing."""
        return self._run("build", "--select", "tag:nothing").seconds

    def _build(self, *arguments: str) -> Measurement:
        start_up = self.start_up()
        with measured(self.server, self.database) as result:
            finished = self._run("build", *arguments, *self._selection())
            result.wall_seconds = finished.seconds
        result.client_bytes = finished.peak_bytes
        result.sql_seconds = max(0.0, finished.seconds - start_up)
        result.extra["start_up_seconds"] = start_up
        return result

    def _selection(self) -> tuple[str, ...]:
        return () if self.aggregates else ("--exclude", "path:models/aggregates")

    def _run(self, *arguments: str) -> Finished:
        embedded = self.server.embedded
        return run_program(
            self.environment.command(*arguments),
            environment={
                "PGHOST": str(embedded.socket_directory),
                "PGPORT": str(embedded.port),
                "PGUSER": SUPERUSER,
                "PGDATABASE": self.database,
            },
            folder=self.environment.folder,
        )


class DbtEverything(Dbt):
    """The same with the aggregates: incremental models that sum up the touched groups again."""

    name = "dbt_everything"
    title = "dbt, everything"
    aggregates = True


# Who runs without the program what another peer runs with it.
BY_PSQL: dict[str, type[OursByPsql]] = {
    Ours.name: OursByPsql,
    OursStars.name: OursStarsByPsql,
}

PEERS: dict[str, type[Peer]] = {
    peer.name: peer for peer in (Ours, OursStars, Hand, HandEverything, Dbt, DbtEverything)
}
