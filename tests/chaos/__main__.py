"""Chaos for some minutes, then the proof that nothing was lost: `python -m tests.chaos --minutes 10 [--remote]`.

On a Debian server of its own, a simulator runs at full speed, pg_cron starts a run every minute with two workers, and a
command line loads the warehouse every second. Backends of the warehouse are terminated at random, and now and then the
command line is killed. Then everything stops, and a last run and a reconciliation must find no difference. With `--remote`
the business is on a second server, whose postmaster gets SIGKILL now and then and is started again. Takes a minute more than
`--minutes`; exit status 0 if nothing differs.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

from tests.support.servers import RunningServer, Servers, why_not_debian

PROGRAM = str(Path(sys.executable).with_name("oceanrecords"))
PASSWORD = "of the chaos"
# Backends that work for the warehouse: workers of pg_cron and of the command line.
VICTIMS = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = 'warehouse' AND pid <> pg_backend_pid() AND state = 'active'
        AND backend_type IN ('client backend', 'pg_cron') AND query ~* 'etl\\.'
"""


class FailedError(Exception):
    """Something that must not fail did."""


class Chaos:
    """A warehouse, its business, and the fault injection.

    Parameters:
        servers: makes the servers.
        remote: whether the business is on a second one.
        orders: size of the history that is there in the beginning.
        seed: of the generator that picks moments and victims.
    """

    def __init__(self, servers: Servers, *, remote: bool, orders: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.kills = 0
        self.client_kills = 0
        self.source_kills = 0
        self.source: RunningServer | None = None
        self.server = servers.create("debian", **{"cron.use_background_workers": "on"})
        self.admin = psycopg.connect(self.server.dsn(), autocommit=True)
        self.admin.execute("CREATE EXTENSION pg_cron")
        self.warehouse = self._database(self.server, "warehouse")
        self.business = self.warehouse
        if remote:
            self.source = servers.create("embedded")
            self.business = self._database(self.source, "shop")
        self.program(self.business, "simulate", "seed", "--orders", str(orders))
        if self.source is not None:
            self._connect_source(self.source)
        self.program(self.warehouse, "run", "--workers", "2")

    def _connect_source(self, source: RunningServer) -> None:
        with psycopg.connect(self.business, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'".encode())
            grants = connection.execute("SELECT * FROM etl.source_grants('reader')").fetchall()
            for (statement,) in grants:
                connection.execute(statement)
        self.program(
            self.warehouse,
            *("source", "connect", "--host", "127.0.0.1", "--port", str(source.port)),
            *("--dbname", "shop", "--user", "reader"),
            OCEANRECORDS_SOURCE_PASSWORD=PASSWORD,
        )

    def _database(self, server: RunningServer, name: str) -> str:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        dsn = server.dsn(name)
        self.program(dsn, "migrate")
        return dsn

    def program(self, dsn: str, *arguments: str, **environment: str) -> str:
        """Run the command line on a database and return what it says; it must succeed."""
        done = subprocess.run(
            [PROGRAM, *arguments],
            env=self._environment(dsn) | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise FailedError(
                f"oceanrecords {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done.stdout

    def background(self, dsn: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the command line and let it go on."""
        return subprocess.Popen(
            [PROGRAM, *arguments],
            env=self._environment(dsn),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @staticmethod
    def _environment(dsn: str) -> dict[str, str]:
        return os.environ | {"OCEANRECORDS_DSN": dsn, "NO_COLOR": "1", "COLUMNS": "120"}

    def rage(self, seconds: float) -> None:
        """Trade, load, and kill, all at once."""
        self.program(self.warehouse, "schedule", "install", "--every", "1 minute", "--workers", "2")
        stream = self._stream()
        loop: subprocess.Popen[bytes] | None = None
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                if loop is None or loop.poll() is not None:
                    loop = self.background(self.warehouse, "run", "--workers", "2", "--every", "1s")
                time.sleep(self.random.uniform(0.05, 2.0))
                if self.random.random() < 0.15:
                    loop.kill()
                    loop.wait()
                    self.client_kills += 1
                self._kill_one()
                if stream.poll() is not None:
                    raise FailedError(f"the business ended by itself: {stream.returncode}")
                if self.source is not None and self.random.random() < 0.05:
                    self._crash(self.source)
                    stream.terminate()
                    stream.wait(60)
                    stream = self._stream()
        finally:
            for one in filter(None, (loop, stream)):
                one.terminate()
                one.wait(60)
            self.program(self.warehouse, "schedule", "remove")

    def _stream(self) -> subprocess.Popen[bytes]:
        return self.background(self.business, "simulate", "stream", "--every", "0.2s")

    def _crash(self, source: RunningServer) -> None:
        """Kill the postmaster of the source, and start it after a pause, in which runs do not reach it."""
        postmaster = source.cluster.postmaster()
        if postmaster is None:
            raise FailedError("the source ended by itself")
        postmaster.kill()
        postmaster.wait(30)
        time.sleep(self.random.uniform(0, 3))
        source.start()
        self.source_kills += 1

    def _kill_one(self) -> None:
        victims = [pid for (pid,) in self.admin.execute(VICTIMS.encode())]
        if victims:
            self.admin.execute("SELECT pg_terminate_backend(%s)", [self.random.choice(victims)])
            self.kills += 1

    def prove(self) -> None:
        """Load what is left, and compare everything; a difference raises."""
        deadline = time.monotonic() + 120
        while self.admin.execute(VICTIMS.encode()).fetchone() and time.monotonic() < deadline:
            time.sleep(0.1)
        # The first may take up a run that had died, with the failures that it had.
        subprocess.run(
            [PROGRAM, "run"],
            env=self._environment(self.warehouse),
            capture_output=True,
            check=False,
        )
        self.program(self.warehouse, "run", "--workers", "2")
        print(self.program(self.warehouse, "reconcile"))
        self.program(self.warehouse, "check", "--all")
        with psycopg.connect(self.business) as business:
            lines = _one(
                business,
                "SELECT count(*), sum(quantity * unit_price) FROM oceanrecords.order_lines",
            )
        with psycopg.connect(self.warehouse) as warehouse:
            facts = _one(
                warehouse,
                "SELECT count(*), sum(amount) FROM dwh.fact_order_line WHERE NOT is_deleted",
            )
            waiting = _one(warehouse, "SELECT count(*) FROM etl.reprocessing_queue")
            refused = _one(warehouse, "SELECT count(*) FROM etl.quarantine")
        if (lines, waiting, refused) != (facts, (0,), (0,)):
            raise FailedError(
                f"lines {lines}, facts {facts}, queued {waiting}, quarantined {refused}"
            )
        print(f"lines and amount of the business and of the warehouse: {lines[0]}, {lines[1]}")

    def report(self) -> None:
        """Say what was done and what came of it."""
        print(
            f"backends ended: {self.kills}, command lines killed: {self.client_kills},"
            f" source killed: {self.source_kills}"
        )
        with psycopg.connect(self.warehouse) as connection:
            for title, query in (
                (
                    "runs",
                    "SELECT status, count(*), sum(resumed) AS resumed FROM etl.run GROUP BY 1 ORDER BY 1",
                ),
                (
                    "scheduled starts",
                    "SELECT outcome, count(*) FROM etl.schedule_history GROUP BY 1 ORDER BY 1",
                ),
                (
                    "tasks with an error",
                    "SELECT status, sqlstate, count(*) FROM etl.task_run WHERE sqlstate IS NOT NULL GROUP BY 1, 2 ORDER BY 3 DESC",
                ),
            ):
                rows = connection.execute(query.encode()).fetchall()
                print(f"{title}: {'; '.join(' '.join(map(str, row)) for row in rows)}")


def _one(connection: psycopg.Connection[Any], query: str) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row


def main() -> int:
    """Do what the arguments say; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="how long (default: 10)")
    parser.add_argument(
        "--remote", action="store_true", help="the business is on a second server, which crashes"
    )
    parser.add_argument("--orders", type=int, default=20_000, help="orders to begin with")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    if reason := why_not_debian():
        print(f"Debian's server cannot be used: {reason}", file=sys.stderr)
        return 2
    print(f"seed {options.seed}", flush=True)
    with closing(Servers()) as servers:
        chaos = Chaos(servers, remote=options.remote, orders=options.orders, seed=options.seed)
        try:
            chaos.rage(options.minutes * 60)
            chaos.prove()
        except FailedError as error:
            print(error, file=sys.stderr)
            return 1
        finally:
            chaos.report()
    print("nothing was lost, nothing was loaded twice")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
