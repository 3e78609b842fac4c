"""`oceanrecords doctor` finds what is missing, and says what to do about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from driver.server import free_port
from tests.conftest import Finished
from tests.support.database import Database
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
    assert {found[check]["status"] for check in ("server", "version", "rights", "btree_gist")} == {
        "ok"
    }


def test_a_migrated_database_wants_a_first_run_and_then_nothing(
    cli: Callable[..., Finished],
) -> None:
    finished = cli("doctor", "--json")
    assert finished.returncode == 0
    assert findings(finished)["last run"]["remedy"] == "oceanrecords run"
    assert cli("run").returncode == 0
    finished = cli("doctor", "--json")
    assert findings(finished)["last run"]["status"] == "ok"
    assert "Ready" in cli("doctor").stdout


def test_a_warehouse_older_than_promised_is_stale(
    cli: Callable[..., Finished], database: Database
) -> None:
    assert cli("run").returncode == 0
    assert findings(cli("doctor", "--json"))["freshness"]["status"] == "ok"
    database.execute("UPDATE etl.setting SET value = '1 microsecond' WHERE name = 'stale_after'")
    finished = cli("doctor", "--json")
    assert finished.returncode == 0
    found = findings(finished)["freshness"]
    assert found["status"] == "warning"
    assert "1 microsecond" in found["message"]
    assert "oceanrecords run" in found["remedy"]


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
