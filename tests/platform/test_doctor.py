"""`oceanrecords doctor` finds what is missing, and says what to do about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from base.cluster import free_port
from tests.conftest import Finished
from tests.support.database import Database, temporary_database
from tests.support.servers import RunningServer


def findings(finished: Finished) -> dict[str, dict[str, Any]]:
    return {one["check"]: one for one in json.loads(finished.stdout)}


def test_a_database_without_migrations_is_not_ready(
    oceanrecords: Callable[..., Finished], empty_database: Database
) -> None:
    finished = oceanrecords("--dsn", empty_database.dsn, "doctor", "--json")
    assert finished.returncode == 1
    found = findings(finished)
    assert found["migrations"]["status"] == "failed"
    assert found["migrations"]["remedy"] == "oceanrecords migrate"
    checks = ("server", "version", "rights", "role", "btree_gist")
    assert {found[check]["status"] for check in checks} == {"ok"}
    assert "permissions" not in found


def test_a_migrated_database_wants_a_first_run_and_then_nothing(
    cli: Callable[..., Finished],
) -> None:
    finished = cli("doctor", "--json")
    assert finished.returncode == 0
    assert findings(finished)["last run"]["remedy"] == "Run: oceanrecords run"
    assert cli("run").returncode == 0
    finished = cli("doctor", "--json")
    assert findings(finished)["last run"]["status"] == "ok"
    assert "Ready" in cli("doctor").stdout


@pytest.fixture
def closed(database: Database) -> Database:
    """The copy of a database does not take the permissions of the database itself along."""
    database.execute("CALL etl.apply_permissions()")
    return database


def told(finished: Finished, check: str) -> list[tuple[str, str, str]]:
    return [
        (one["status"], one["message"], one["remedy"])
        for one in json.loads(finished.stdout)
        if one["check"] == check
    ]


def test_permissions_as_declared_are_well(cli: Callable[..., Finished], closed: Database) -> None:
    assert closed.rows("SELECT * FROM etl.access_flaw") == []
    finished = cli("doctor", "--json")
    assert told(finished, "permissions") == [
        ("ok", "group roles exist, nothing is granted to PUBLIC", "")
    ]
    assert told(finished, "role") == [("ok", "postgres is a superuser", "")]


def test_what_is_open_to_everybody_is_told(cli: Callable[..., Finished], closed: Database) -> None:
    closed.execute(f"GRANT CONNECT ON DATABASE {closed.name} TO PUBLIC")
    finished = cli("doctor", "--json")
    assert finished.returncode == 0
    assert told(finished, "permissions") == [
        (
            "warning",
            f'everybody may connect to the database "{closed.name}"',
            "Let postgres, or a superuser, execute: CALL etl.apply_permissions();",
        )
    ]


def test_a_login_of_more_than_one_level_is_told(
    cli: Callable[..., Finished], closed: Database
) -> None:
    closed.execute("CALL etl.add_user('pair', '{auditor}'); CALL etl.add_user('one', '{steward}')")
    try:
        # By way of a group, too.
        closed.execute(
            "CREATE ROLE a_group IN ROLE oceanrecords_business; GRANT a_group TO pair, one"
        )
        closed.execute("REVOKE a_group FROM one")
        assert told(cli("doctor", "--json"), "permissions") == [
            (
                "warning",
                'the login "pair" has 2 levels: auditor, business',
                "oceanrecords users revoke pair LEVEL, unless it is meant to have them all",
            )
        ]
    finally:
        closed.execute(
            "DROP ROLE a_group; CALL etl.remove_user('pair'); CALL etl.remove_user('one')"
        )


def test_group_roles_with_powers_or_missing_are_told(
    oceanrecords: Callable[..., Finished], own_server: Callable[..., RunningServer]
) -> None:
    with temporary_database(own_server(), None) as database:
        assert oceanrecords("--dsn", database.dsn, "migrate").returncode == 0
        database.execute("ALTER ROLE oceanrecords_analyst LOGIN CREATEDB")
        finished = oceanrecords("--dsn", database.dsn, "doctor", "--json")
        assert finished.returncode == 0
        ((status, message, remedy),) = told(finished, "permissions")
        assert status == "warning"
        assert message == (
            'the group role "oceanrecords_analyst" is more than a group: '
            "a login, able to create databases"
        )
        database.execute(remedy)
        finished = oceanrecords("--dsn", database.dsn, "doctor", "--json")
        assert [status for status, *_ in told(finished, "permissions")] == ["ok"]

        database.execute("DROP OWNED BY oceanrecords_auditor; DROP ROLE oceanrecords_auditor")
        finished = oceanrecords("--dsn", database.dsn, "doctor", "--json")
        assert finished.returncode == 1
        assert told(finished, "permissions") == [
            (
                "failed",
                'there is no group role "oceanrecords_auditor"',
                "CREATE ROLE oceanrecords_auditor NOLOGIN; then oceanrecords migrate",
            )
        ]


def test_what_the_role_lacks_is_told_with_the_statement_that_gives_it(
    oceanrecords: Callable[..., Finished], own_server: Callable[..., RunningServer]
) -> None:
    with temporary_database(own_server(), None) as database:
        database.execute('CREATE ROLE "a builder" LOGIN')
        database.execute(f'GRANT CREATE ON DATABASE {database.name} TO "a builder"')
        dsn = psycopg.conninfo.make_conninfo(database.dsn, user="a builder")

        def role() -> tuple[str, str, str]:
            (found,) = told(oceanrecords("--dsn", dsn, "doctor", "--json"), "role")
            return found

        status, message, remedy = role()
        assert (status, message) == (
            "failed",
            "a builder may not create the group roles that the warehouse needs",
        )
        database.execute(remedy.split(";")[0])
        assert role() == ("ok", "a builder may create the group roles", "")
        # Somebody else makes them.
        assert oceanrecords("--dsn", database.dsn, "migrate").returncode == 0
        database.execute('ALTER ROLE "a builder" NOCREATEROLE')
        database.execute(f'GRANT CONNECT ON DATABASE {database.name} TO "a builder"')
        status, message, remedy = role()
        assert (status, message) == (
            "failed",
            "a builder is not a member of oceanrecords_owner, which owns the warehouse",
        )
        database.execute(remedy)
        assert role() == (
            "ok",
            "a builder is a member of oceanrecords_owner, and may not manage users",
            "",
        )


def test_a_warehouse_older_than_promised_is_stale(
    cli: Callable[..., Finished], database: Database
) -> None:
    assert cli("run").returncode == 0
    assert findings(cli("doctor", "--json"))["freshness"]["status"] == "ok"
    database.execute("UPDATE etl.setting SET value = '1 microsecond' WHERE name = 'stale_after'")
    finished = cli("doctor", "--json")
    assert finished.returncode == 1
    found = findings(finished)["freshness"]
    assert found["status"] == "failed"
    assert found["message"].endswith("; limit: 0 seconds")
    assert "oceanrecords run" in found["remedy"]
    finished = cli("doctor", "--no-fail", "--json")
    assert finished.returncode == 0
    assert findings(finished)["freshness"]["status"] == "warning"


def test_a_run_that_did_not_succeed_is_pointed_out(
    cli: Callable[..., Finished], database: Database
) -> None:
    database.execute(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $refuse$"
        "BEGIN RAISE EXCEPTION 'no'; END$refuse$;"
        "CREATE TRIGGER refuse BEFORE INSERT ON dwh.dim_status "
        "FOR EACH ROW EXECUTE FUNCTION public.refuse()"
    )
    assert cli("run").returncode == 3
    found = findings(cli("doctor", "--json"))["last run"]
    assert found["status"] == "warning"
    assert found["message"].startswith("partial")
    assert "oceanrecords status" in found["remedy"]


def test_a_server_that_cannot_be_reached_is_the_only_finding(
    oceanrecords: Callable[..., Finished],
) -> None:
    finished = oceanrecords(
        "--dsn", f"host=127.0.0.1 port={free_port()} user=x dbname=x", "doctor", "--json"
    )
    assert finished.returncode == 1
    found = findings(finished)
    assert list(found) == ["server"]
    assert found["server"]["remedy"]


def test_pg_cron_is_optional(cli: Callable[..., Finished], server: RunningServer) -> None:
    found = findings(cli("doctor", "--json"))["pg_cron"]
    assert found["status"] == "warning"
    assert ("available" in found["message"]) == (server.name == "debian")
    assert "oceanrecords run --every" in found["remedy"]


@pytest.mark.server("debian")
def test_pg_cron_is_found_where_it_is_installed(
    oceanrecords: Callable[..., Finished], server: RunningServer
) -> None:
    postgres = Database(server, "postgres", server.dsn())
    postgres.execute("CREATE EXTENSION IF NOT EXISTS pg_cron")
    found = findings(oceanrecords("--dsn", postgres.dsn, "doctor", "--json"))
    assert found["pg_cron"] == {
        "check": "pg_cron", "status": "ok", "message": "installed", "remedy": "",
    }  # fmt: skip


def test_the_status_shows_the_rows_of_the_view_of_health(
    cli: Callable[..., Finished], database: Database
) -> None:
    assert cli("run").returncode == 0
    database.execute(
        "UPDATE etl.setting SET value = '1 microsecond' WHERE name = 'stale_after';"
        "INSERT INTO etl.quality_check (check_name, severity, description, query)"
        " VALUES ('never', 'warn', 'Nothing is.', 'SELECT 1')"
    )
    assert cli("check", "--name", "never").returncode == 0
    answer = json.loads(cli("status", "--json").stdout)
    assert {one["topic"]: one["status"] for one in answer["health"]} == {
        "last run": "ok",
        "freshness": "failed",
        "checks": "warning",
    }
    shown = cli("status").stdout
    assert "! checks          never: 1 violating rows" in shown
    assert "✗ freshness" in shown


def test_the_calendar_needs_no_load(cli: Callable[..., Finished]) -> None:
    assert cli("run").returncode == 0
    objects = {one["object"]: one for one in json.loads(cli("ls", "--json").stdout)}
    assert not objects["dim_date"]["is_stale"]
    assert "never" not in cli("ls").stdout


def test_the_calendar_cannot_be_extended_to_infinity(database: Database) -> None:
    with pytest.raises(psycopg.errors.DatetimeFieldOverflow, match="to infinity"):
        database.execute("SELECT dwh.extend_calendar('-infinity', 'infinity')")
