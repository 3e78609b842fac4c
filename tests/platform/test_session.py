"""The driver's own sessions: settings that others made, encodings, poolers, forged notifications."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo

from base.connection import connect
from simulator.seed import seed
from tests.conftest import Finished
from tests.support.database import Database
from tests.support.servers import RunningServer
from tests.support.waiting import wait_for

UNUSUAL = {
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "iso_8601",
    "TimeZone": "Asia/Tokyo",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "quote_all_identifiers": "on",
    "client_encoding": "latin1",
    "search_path": "nowhere",
    "standard_conforming_strings": "off",
    "default_transaction_isolation": "serializable",
}


def make_unusual(database: Database) -> None:
    for name, value in UNUSUAL.items():
        database.execute(f"ALTER DATABASE {database.name} SET {name} = '{value}'")


def test_a_session_does_not_depend_on_settings_of_others(database: Database) -> None:
    with connect(database.dsn) as connection:
        usual = {name: connection.execute(f"SHOW {name}").fetchone() for name in UNUSUAL}
    make_unusual(database)
    for autocommit in (True, False):
        with connect(database.dsn, autocommit=autocommit) as connection:
            assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
            assert {n: connection.execute(f"SHOW {n}").fetchone() for n in UNUSUAL} == usual
            connection.rollback()
            assert connection.execute("SHOW TimeZone").fetchone() == ("UTC",)


def test_the_environment_does_not_change_a_session(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    monkeypatch.setenv("PGDATESTYLE", "SQL, DMY")
    monkeypatch.setenv("PGOPTIONS", "-c intervalstyle=iso_8601")
    monkeypatch.setenv("PGCLIENTENCODING", "latin1")
    with connect(database.dsn) as connection:
        row = connection.execute(
            "SELECT timestamptz '2026-03-01 12:00Z'::text, interval '1 day'::text, "
            "current_setting('client_encoding')"
        ).fetchone()
    assert row == ("2026-03-01 12:00:00+00", "1 day", "UTF8")


def test_every_command_works_in_a_database_with_unusual_settings(
    cli: Callable[..., Finished], database: Database, tmp_path: Path
) -> None:
    seed(database.connect(), orders=60, months=3, seed=1)
    make_unusual(database)
    for command in (
        "run", "run --workers 2", "status", "check --all", "reconcile", "kpi --all", "queue",
        "quarantine", "ls", "sql fact_order", "trace order 1", "trace run 1", "settings list",
        "doctor", "docs --out site", "users list", "source status", "simulate tick", "run",
        "migrate", "migrate --list",
    ):  # fmt: skip
        finished = cli(*command.split())
        assert finished.returncode == 0, (command, finished.stdout, finished.stderr)


def test_limits_of_the_database_do_not_cut_off_a_load(
    cli: Callable[..., Finished], database: Database
) -> None:
    limits = ("statement_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout")
    seed(database.connect(), orders=60, months=3, seed=1)
    for name in limits:
        database.execute(f"ALTER DATABASE {database.name} SET {name} = '50ms'")
    for command in ("run --workers 2", "reconcile", "simulate tick", "run", "migrate"):
        finished = cli(*command.split())
        assert finished.returncode == 0, (command, finished.stdout, finished.stderr)


def test_limits_of_a_role_hold(database: Database) -> None:
    database.execute(f"ALTER DATABASE {database.name} SET statement_timeout = '3min'")
    database.execute(
        f"ALTER ROLE CURRENT_USER IN DATABASE {database.name} SET statement_timeout = '2min'"
    )
    with connect(database.dsn) as connection:
        assert connection.execute("SHOW statement_timeout").fetchone() == ("2min",)
    with connect(conninfo.make_conninfo(database.dsn, options="-c statement_timeout=90s")) as own:
        assert own.execute("SHOW statement_timeout").fetchone() == ("90s",)


def test_a_read_only_database_is_named_as_such(
    cli: Callable[..., Finished], database: Database
) -> None:
    database.execute(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    finished = cli("run")
    assert finished.returncode == 1
    assert "default_transaction_read_only" in finished.stderr


def test_a_database_of_another_encoding_is_refused_before_anything_is_made(
    server: RunningServer, oceanrecords: Callable[..., Finished]
) -> None:
    name = "latin_test"
    with psycopg.connect(server.dsn(), autocommit=True) as administrator:
        administrator.execute(
            f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE_PROVIDER libc "
            "LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        )
        dsn = conninfo.make_conninfo(server.dsn(), dbname=name)
        try:
            for command in ("migrate", "doctor", "run", "status"):
                finished = oceanrecords("--dsn", dsn, command)
                assert finished.returncode == 1, command
                assert "UTF8" in finished.stdout + finished.stderr
            with psycopg.connect(dsn) as connection:
                schemas = connection.execute(
                    "SELECT nspname FROM pg_namespace "
                    "WHERE nspname IN ('etl', 'dwh', 'oceanrecords', 'yoyo')"
                ).fetchall()
            assert schemas == []
        finally:
            administrator.execute(f"DROP DATABASE {name}")


# -- notifications --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        "x",
        "",
        "{}",
        "[]",
        "null",
        '{"run_id": 2}',
        json.dumps(
            {"run_id": 2, "task": "dimension:dim_forged", "kind": "dimension", "status": "failed"}
        ),
    ],
)
def test_a_forged_notification_is_neither_shown_nor_heeded(
    cli: Callable[..., Finished], database: Database, payload: str
) -> None:
    connection = database.connect()
    seed(connection, orders=60, months=2, seed=1)
    assert cli("run").returncode == 0
    database.execute("UPDATE oceanrecords.customers SET first_name = first_name || 'x'")
    is_over = threading.Event()

    def flood() -> None:
        with psycopg.connect(database.dsn, autocommit=True) as forger:
            while not is_over.is_set():
                forger.execute("SELECT pg_notify('etl_progress', %s)", [payload])

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        finished = cli("run", "--workers", "2")
    finally:
        is_over.set()
        thread.join()
    assert finished.returncode == 0, finished.stderr
    assert "dim_forged" not in finished.stdout + finished.stderr
    assert "Run 2 succeeded" in finished.stdout


# -- poolers --------------------------------------------------------------------------------------

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def pooler(database: Database, mode: str, size: int) -> Iterator[str]:
    """A PgBouncer in front of a database; yields its connection string."""
    # A folder that another account may read: PgBouncer refuses to run as root.
    with tempfile.TemporaryDirectory(prefix="oceanrecords-pgbouncer-") as folder:
        yield from _pooler(database, Path(folder), mode, size)


def _pooler(database: Database, folder: Path, mode: str, size: int) -> Iterator[str]:
    settings = conninfo.conninfo_to_dict(database.dsn)
    port = free_port()
    folder.chmod(0o755)
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        f"[databases]\n{database.name} = host={settings['host']} port={settings['port']} "
        f"user={settings['user']} dbname={database.name}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nauth_type = any\npool_mode = {mode}\ndefault_pool_size = {size}\n"
        "unix_socket_dir =\nignore_startup_parameters = extra_float_digits,options\n"
    )
    assert PGBOUNCER is not None
    command = [PGBOUNCER, "-q", str(configuration)]
    if os.getuid() == 0:
        command = ["setpriv", "--reuid=nobody", "--clear-groups", *command]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    dsn = f"host=127.0.0.1 port={port} dbname={database.name} user={settings['user']}"

    def answers() -> bool:
        assert process.poll() is None, "PgBouncer does not run"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_for(answers, "PgBouncer")
        yield dsn
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


@pytest.mark.skipif(PGBOUNCER is None, reason="PgBouncer is not installed")
@pytest.mark.parametrize("size", [1, 5])
def test_a_transaction_pooler_is_refused_before_anything_is_locked(
    database: Database, oceanrecords: Callable[..., Finished], size: int
) -> None:
    with pooler(database, "transaction", size) as dsn:
        for command in ("migrate", "run", "status", "reconcile", "doctor"):
            finished = oceanrecords("--dsn", dsn, command)
            assert finished.returncode == 1, command
            assert "through a pooler" in finished.stdout + finished.stderr
    assert database.value("SELECT count(*) FROM etl.run") == 0
    assert (
        database.value(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        == 0
    )


@pytest.mark.skipif(PGBOUNCER is None, reason="PgBouncer is not installed")
def test_a_session_pooler_works(database: Database, oceanrecords: Callable[..., Finished]) -> None:
    with pooler(database, "session", 12) as dsn:
        for command in (
            "migrate",
            "run --workers 2",
            "status",
            "check --all",
            "reconcile",
            "doctor",
        ):
            finished = oceanrecords("--dsn", dsn, *command.split())
            assert finished.returncode == 0, (command, finished.stdout, finished.stderr)
