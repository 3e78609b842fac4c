"""Runs on a schedule: pg_cron that really fires, starts that leave, and clear words where it is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from tests.conftest import migrate_database
from tests.support.database import Database
from tests.support.servers import RunningServer
from tests.support.waiting import wait_for
from tests.warehouse.faults import background

Json = Callable[..., tuple[int, Any]]


def starts(database: Database) -> list[tuple[int, str, str]]:
    """Return what each start did: worker, outcome, words."""
    rows = database.rows(
        "SELECT worker, outcome, message FROM etl.schedule_history ORDER BY start_id"
    )
    return [(row["worker"], row["outcome"], row["message"]) for row in rows]


def start(database: Database, worker: int = 1, gap: str = "30 seconds") -> None:
    """Do what a job of the schedule does."""
    with database.connect() as connection:
        connection.execute("CALL etl.scheduled_run(%s, %s::interval)", [worker, gap])


# -- what a start does ------------------------------------------------------------------------------


def test_a_start_does_a_run(database: Database) -> None:
    start(database)
    assert starts(database) == [(1, "started", "started run 1")]
    run = database.rows("SELECT origin, status FROM etl.run")[0]
    assert run == {"origin": "pg_cron", "status": "succeeded"}


def test_starts_that_were_missed_do_not_pile_up(database: Database) -> None:
    for _ in range(4):
        start(database)
    assert [one[1] for one in starts(database)] == ["started", "left", "left", "left"]
    assert starts(database)[1][2] == "left: run 1 of the same start has ended"
    # When its time has come, the next one starts again.
    database.execute("UPDATE etl.scheduled_start SET fired_at = fired_at - interval '31 seconds'")
    start(database)
    assert starts(database)[-1][1] == "started"
    assert database.value("SELECT count(*) FROM etl.run") == 2


@pytest.fixture
def held(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """A connection that keeps runs from ending, until it rolls back."""
    connection = database.connect(autocommit=False)
    connection.execute("LOCK TABLE dwh.dim_customer")
    yield connection
    connection.rollback()


def at_work(database: Database, workers: int) -> bool:
    query = "SELECT count(*) FROM etl.worker AS w WHERE etl._is_live(w.pid, w.lock_key)"
    return bool(database.value(query) == workers)


def test_the_jobs_of_one_moment_share_a_run(
    database: Database, held: psycopg.Connection[Any]
) -> None:
    with background(lambda: start(database, 2)):
        wait_for(lambda: at_work(database, 1), "the first job")
        with background(lambda: start(database, 1)):
            wait_for(lambda: at_work(database, 2), "the second job")
            held.rollback()
    assert starts(database) == [(2, "started", "started run 1"), (1, "joined", "joined run 1")]
    assert database.value("SELECT status FROM etl.run") == "succeeded"
    assert database.value("SELECT resumed FROM etl.run") == 0


def test_a_start_leaves_a_live_run_alone(database: Database, held: psycopg.Connection[Any]) -> None:
    def run() -> None:
        with database.connect() as connection:
            connection.execute("CALL etl.run()")

    with background(run):
        wait_for(lambda: at_work(database, 1), "the run")
        start(database)
        held.rollback()
    assert starts(database) == [(1, "left", "left: run 1 was running")]
    assert database.value("SELECT count(*) FROM etl.run") == 1


def test_a_start_takes_a_dead_run_up(database: Database) -> None:
    database.execute("SELECT etl.start_run()")
    start(database)
    assert starts(database) == [(1, "started", "resumed run 1, which had been interrupted")]
    assert database.rows("SELECT status, resumed FROM etl.run") == [
        {"status": "succeeded", "resumed": 1}
    ]


def test_a_start_that_fails_is_noted_and_fails(database: Database) -> None:
    database.execute("ALTER TABLE etl.task_run RENAME COLUMN position TO place")
    with pytest.raises(psycopg.Error) as error:
        start(database)
    assert error.value.sqlstate == "ET015"
    assert [one[1] for one in starts(database)] == ["failed"]


# -- intervals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "schedule"),
    [
        ("1 minute", "* * * * *"),
        ("60 seconds", "* * * * *"),
        ("5 minutes", "*/5 * * * *"),
        ("00:30", "*/30 * * * *"),
        ("1 hour", "0 * * * *"),
        ("6 hours", "0 */6 * * *"),
        # It comes every hour, and the first one of a day of the business starts the run.
        ("1 day", "0 * * * *"),
        ("*/10 6-22 * * 1-5", "*/10 6-22 * * 1-5"),
        ("30 seconds", "30 seconds"),
    ],
)
def test_intervals_become_schedules(database: Database, every: str, schedule: str) -> None:
    assert database.value("SELECT etl._cron_schedule(%s, '1.6')", every) == schedule


@pytest.mark.parametrize(
    ("zone", "schedule"),
    [
        ("Europe/Berlin", "0 * * * *"),
        ("Asia/Kolkata", "30 * * * *"),
        ("Asia/Kathmandu", "15 * * * *"),
    ],
)
def test_a_day_is_that_of_the_business(database: Database, zone: str, schedule: str) -> None:
    """Wherever its midnight is, one run a day; the others of the day leave without a trace."""
    database.execute("UPDATE etl.setting SET value = %s WHERE name = 'time_zone'", zone)
    assert database.value("SELECT etl._cron_schedule('1 day', '1.6')") == schedule
    daily = "CALL etl.scheduled_run(%s, '30 seconds', true)"
    database.execute(daily, 1)
    assert [one[1] for one in starts(database)] == ["started"]
    # The start was at the end of yesterday, or at the beginning of today.
    moved = (
        "UPDATE etl.scheduled_start SET fired_at = "
        f"date_trunc('day', now(), '{zone}') + %s::interval"
    )
    database.execute(moved, "0")
    if database.value(f"SELECT now() - date_trunc('day', now(), '{zone}') > interval '1 minute'"):
        database.execute(daily, 1)
        assert len(starts(database)) == 1
    database.execute(moved, "-1 second")
    if database.value(f"SELECT now() - date_trunc('day', now(), '{zone}') > interval '1 minute'"):
        database.execute(daily, 1)
        assert [one[1] for one in starts(database)] == ["started", "started"]
        database.execute(daily, 2)
        assert starts(database)[2][1] == "left"


@pytest.mark.parametrize(
    "every",
    ["7 minutes", "90 minutes", "5 hours", "2 days", "0", "-1 minute", "1.5 seconds", "soon", ""],
)
def test_intervals_that_cron_cannot_express_are_refused(database: Database, every: str) -> None:
    with pytest.raises(psycopg.Error) as error:
        database.value("SELECT etl._cron_schedule(%s, '1.6')", every)
    assert error.value.sqlstate == "ET014"
    assert "whole minutes that divide an hour" in str(error.value.diag.message_hint)


def test_seconds_need_a_newer_pg_cron(database: Database) -> None:
    with pytest.raises(psycopg.Error) as error:
        database.value("SELECT etl._cron_schedule('30 seconds', '1.4-1')")
    assert error.value.sqlstate == "ET014"
    assert error.value.diag.message_detail == "Seconds are understood from pg_cron 1.5 on."


# -- pg_cron ----------------------------------------------------------------------------------------


@pytest.mark.server("embedded")
def test_without_pg_cron_the_way_is_told(
    database: Database, oceanrecords: Callable[..., Any]
) -> None:
    environment = {"OCEANRECORDS_DSN": database.dsn}
    done = oceanrecords("schedule", "install", env=environment)
    assert done.returncode == 1
    assert "this server does not have pg_cron" in done.stderr
    for word in ("postgresql-18-cron", "shared_preload_libraries", "cron.database_name"):
        assert word in done.stderr
    assert "Nothing is scheduled" in oceanrecords("schedule", "list", env=environment).stdout
    assert (
        "has not started a run yet" in oceanrecords("schedule", "history", env=environment).stdout
    )


@pytest.fixture
def cron(server: RunningServer) -> Iterator[str]:
    """The database that pg_cron lives in, on the shared server."""
    dsn = server.dsn("postgres")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_cron")
    yield dsn
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DELETE FROM cron.job")


def jobs(dsn: str) -> list[tuple[str, str, str, str]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(
            "SELECT jobname, schedule, command, database FROM cron.job ORDER BY jobname"
        ).fetchall()


@pytest.mark.server("debian")
def test_jobs_are_installed_in_another_database(
    database: Database, cron: str, json_of: Json, oceanrecords: Callable[..., Any]
) -> None:
    name = database.name
    status, answer = json_of(
        database, "schedule", "install", "--every", "5 minutes", "--workers", "3"
    )
    assert status == 0
    assert [one["worker"] for one in answer] == [1, 2, 3]
    assert answer[0]["cron_database"] == "postgres"
    workers = [job for job in jobs(cron) if "worker" in job[0]]
    assert workers == [
        (f"etl {name} worker {n}", "*/5 * * * *", f"CALL etl.scheduled_run({n}, '00:02:30')", name)
        for n in (1, 2, 3)
    ]
    assert [job[3] for job in jobs(cron) if "prune" in job[0]] == ["postgres"]

    # A second installation changes what is there.
    status, answer = json_of(database, "schedule", "install", "--every", "1 hour", "--workers", "2")
    assert len(answer) == 2
    assert [job[1] for job in jobs(cron) if "worker" in job[0]] == ["0 * * * *"] * 2

    done = oceanrecords("schedule", "remove", env={"OCEANRECORDS_DSN": database.dsn})
    assert "3 jobs removed" in done.stdout
    assert jobs(cron) == []
    assert json_of(database, "schedule", "list") == (0, [])


@pytest.mark.server("debian")
def test_in_sql_the_statements_for_the_other_database_are_told(
    database: Database, cron: str
) -> None:
    with pytest.raises(psycopg.Error) as error:
        database.execute("SELECT etl.schedule_install('5 minutes', 2)")
    assert error.value.sqlstate == "ET013"
    assert 'pg_cron lives in database "postgres"' in str(error.value)
    with psycopg.connect(cron, autocommit=True) as connection:
        connection.execute(str(error.value.diag.message_detail).encode())
    assert len(jobs(cron)) == 3
    with pytest.raises(psycopg.Error) as error:
        database.execute("SELECT etl.schedule_remove()")
    assert error.value.sqlstate == "ET013"
    with psycopg.connect(cron, autocommit=True) as connection:
        connection.execute(str(error.value.diag.message_detail).encode())
    assert jobs(cron) == []


OWNER = "keeper"


@pytest.fixture
def owned(server: RunningServer, template: str) -> Iterator[Database]:
    """A warehouse that was made by the ordinary role which owns its database; its connections are that role's."""
    assert template  # migrated by an administrator, so the server has the group roles
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(
            f"CREATE ROLE {OWNER} LOGIN IN ROLE oceanrecords_etl, oceanrecords_owner".encode()
        )
        connection.execute(f"CREATE DATABASE kept OWNER {OWNER}".encode())
    dsn = psycopg.conninfo.make_conninfo(server.dsn("kept"), user=OWNER)
    migrate_database(**psycopg.conninfo.conninfo_to_dict(dsn))
    made = Database(server, "kept", dsn)
    yield made
    made.close()
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("DELETE FROM cron.job WHERE username = %s", [OWNER])
        connection.execute("DROP DATABASE kept WITH (FORCE)")
        connection.execute(f"DROP OWNED BY {OWNER}; DROP ROLE {OWNER}".encode())


def let_owner_schedule(cron: str, oceanrecords: Callable[..., Any], owned: Database) -> None:
    """Do what the hints say until the owner of the warehouse may schedule."""
    hints = []
    for _ in range(3):
        done = oceanrecords("schedule", "install", env={"OCEANRECORDS_DSN": owned.dsn})
        if done.returncode == 0:
            break
        hint = " ".join(done.stderr.split("hint", 1)[1].split()).replace('"', "")
        statements = hint[hint.index("GRANT") : hint.rindex(";")]
        hints.append(statements)
        with psycopg.connect(cron, autocommit=True) as connection:
            connection.execute(statements.encode())
    assert hints == [
        f"GRANT pg_read_all_settings TO {OWNER}",
        f"GRANT USAGE ON SCHEMA cron TO {OWNER}; "
        f"GRANT EXECUTE ON FUNCTION cron.schedule_in_database TO {OWNER}",
    ]


# The jobs are those of an ordinary role: what it may do, a superuser may do.
@pytest.mark.server("debian")
@pytest.mark.slow
def test_pg_cron_starts_a_run_with_two_workers_and_leaves_a_live_one(
    owned: Database, cron: str, oceanrecords: Callable[..., Any]
) -> None:
    database = owned
    let_owner_schedule(cron, oceanrecords, owned)

    def run() -> None:
        with database.connect() as connection:
            connection.execute("CALL etl.run()")

    holder = database.connect(autocommit=False)
    holder.execute("LOCK TABLE dwh.dim_customer")
    environment = {"OCEANRECORDS_DSN": database.dsn}
    with background(run):
        wait_for(lambda: at_work(database, 1), "a run of our own")
        done = oceanrecords(
            "schedule", "install", "--every", "1 minute", "--workers", "2", env=environment
        )
        assert done.returncode == 0, done.stderr
        wait_for(lambda: len(starts(database)) == 2, "pg_cron to fire", 130)
        assert {one[1:] for one in starts(database)} == {("left", "left: run 1 was running")}
        holder.rollback()
    # Something to do for either worker, which neither can end before the other has begun.
    holder.execute("SELECT etl._request_refresh('{dim_customer,dim_product}')")
    holder.commit()
    holder.execute("LOCK TABLE dwh.dim_customer, dwh.dim_product")
    busy = "SELECT count(DISTINCT worker_pid) FROM etl.task_run WHERE run_id = 2 AND status = 'running'"
    wait_for(lambda: database.value(busy) == 2, "two workers that pg_cron starts", 130)
    holder.rollback()
    wait_for(
        lambda: (
            database.value("SELECT status FROM etl.run ORDER BY run_id DESC LIMIT 1") != "running"
        ),
        "its end",
    )

    assert sorted(one[1] for one in starts(database)) == ["joined", "left", "left", "started"]
    last = database.rows(
        "SELECT run_id, origin, status, resumed FROM etl.run ORDER BY run_id DESC LIMIT 1"
    )
    assert last == [{"run_id": 2, "origin": "pg_cron", "status": "succeeded", "resumed": 0}]
    workers = "SELECT count(DISTINCT worker_pid) FROM etl.task_run WHERE run_id = 2"
    assert database.value(workers) == 2
    shown = oceanrecords("schedule", "history", env=environment).stdout
    assert "left: run 1 was running" in shown
    assert "joined run 2" in shown
    with psycopg.connect(cron, autocommit=True) as connection:
        owner = connection.execute("SELECT DISTINCT username FROM cron.job").fetchall()
        assert ("keeper",) in owner
        # pg_cron writes the details a moment later.
        failures = (
            "SELECT count(*) FROM cron.job_run_details WHERE database = %s AND status = 'failed'"
        )
        row = connection.execute(failures, [database.name]).fetchone()
    assert row == (0,)


@pytest.mark.server("debian")
def test_where_pg_cron_lives_in_the_same_database(
    own_server: Callable[..., RunningServer], json_of: Json
) -> None:
    server = own_server(**{"cron.database_name": "warehouse"})
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE warehouse")
    migrate_database(host=server.host, port=server.port, user=server.user, dbname="warehouse")
    database = Database(server, "warehouse", server.dsn("warehouse"))
    with pytest.raises(psycopg.Error) as error:
        database.execute("SELECT etl.schedule_install('5 minutes')")
    assert (error.value.sqlstate, error.value.diag.message_hint) == (
        "ET012",
        "CREATE EXTENSION pg_cron;",
    )

    database.execute("CREATE EXTENSION pg_cron")
    assert database.value("SELECT etl.schedule_install('10 minutes', 2)") == "*/10 * * * *"
    assert database.value("SELECT etl.schedule_install('5 minutes', 1)") == "*/5 * * * *"
    assert [job[:2] for job in jobs(database.dsn)] == [
        ("etl warehouse prune", "17 3 * * *"),
        ("etl warehouse worker 1", "*/5 * * * *"),
    ]
    _, listed = json_of(database, "schedule", "list")
    assert listed[0]["is_active"] is True
    assert listed[0]["job_id"] is not None

    # Old details of our jobs are pruned by a job of their own.
    database.execute(
        "INSERT INTO cron.job_run_details (jobid, runid, status, username, end_time) "
        "SELECT jobid, 1000 + n, 'succeeded', current_user, now() - make_interval(days => 20 * n) "
        "FROM cron.job CROSS JOIN generate_series(1, 2) AS n WHERE jobname LIKE '%worker%'"
    )
    database.execute(
        str(database.value("SELECT command FROM cron.job WHERE jobname LIKE '%prune'"))
    )
    assert (
        database.value("SELECT count(*) FROM cron.job_run_details WHERE runid IN (1001, 1002)") == 1
    )
    assert database.value("SELECT etl.schedule_remove()") == 2
    database.close()


@pytest.mark.server("debian")
def test_an_ordinary_owner_beside_pg_cron_in_the_same_database(
    own_server: Callable[..., RunningServer], json_of: Json
) -> None:
    server = own_server(**{"cron.database_name": "warehouse"})
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("CREATE ROLE keeper LOGIN CREATEROLE")
        connection.execute("CREATE DATABASE warehouse OWNER keeper")
    with psycopg.connect(server.dsn("warehouse"), autocommit=True) as connection:
        connection.execute("CREATE EXTENSION pg_cron")
    dsn = psycopg.conninfo.make_conninfo(server.dsn("warehouse"), user="keeper")
    migrate_database(**psycopg.conninfo.conninfo_to_dict(dsn))
    database = Database(server, "warehouse", dsn)
    # Without rights on pg_cron the warehouse is loaded and looked at all the same.
    with database.connect() as connection:
        connection.execute("CALL etl.run()")
    assert database.value("SELECT status FROM etl.run") == "succeeded"
    assert json_of(database, "schedule", "list") == (0, [])
    with pytest.raises(psycopg.Error) as error:
        database.execute("SELECT etl.schedule_install('5 minutes')")
    assert error.value.sqlstate == "ET018"
    statements = str(error.value.diag.message_hint).split(": ", 1)[1]
    with psycopg.connect(server.dsn("warehouse"), autocommit=True) as connection:
        connection.execute(statements.encode())
    assert database.value("SELECT etl.schedule_install('5 minutes', 2)") == "*/5 * * * *"
    assert database.rows("SELECT DISTINCT username, is_active FROM etl.schedule_status") == [
        {"username": "keeper", "is_active": True}
    ]
    database.execute("UPDATE etl.setting SET value = '0' WHERE name = 'maintenance_every'")
    with database.connect() as connection:
        connection.execute("CALL etl.run()")
    assert database.value("SELECT status FROM etl.run ORDER BY run_id DESC LIMIT 1") == "succeeded"
    assert database.value("SELECT etl.schedule_remove()") == 3
    database.close()


@pytest.mark.parametrize("workers", [0, 65])
@pytest.mark.server("debian")
def test_a_senseless_number_of_workers_is_refused(
    database: Database, cron: str, workers: int
) -> None:
    with pytest.raises(psycopg.Error) as error:
        database.rows("SELECT * FROM etl.schedule_statements('5 minutes', %s)", workers)
    assert error.value.sqlstate == "ET014"
