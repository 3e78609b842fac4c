"""Staleness and alerts: who is told, and that telling breaks nothing."""

from __future__ import annotations

import json
import re
from typing import Any

import psycopg
import pytest

from tests.operations.conftest import RUNS
from tests.support.database import Database


def run(database: Database) -> str:
    """Do a run, and return how it ended."""
    with database.connect() as connection:
        connection.execute("CALL etl.run()")
    return str(database.value("SELECT status FROM etl.run ORDER BY run_id DESC LIMIT 1"))


def hook(database: Database, name: str, body: str) -> None:
    """Make a hook procedure that notes what it is told, and set it."""
    database.execute(
        'CREATE SCHEMA IF NOT EXISTS "Ops";'
        'CREATE TABLE IF NOT EXISTS "Ops".page (kind text, message text, details jsonb);'
        f"CREATE PROCEDURE {name}(p_kind text, p_message text, p_details jsonb) LANGUAGE plpgsql "
        f"AS $$BEGIN {body} END$$;"
    )
    database.execute("UPDATE etl.setting SET value = %s WHERE name = 'alert_hook'", name)


NOTE = 'INSERT INTO "Ops".page VALUES (p_kind, p_message, p_details);'


def fail_the_next_run(database: Database) -> None:
    database.execute(
        "INSERT INTO etl.quality_check VALUES ('always', 'fail', 'Never holds.', 'SELECT 1 AS one')"
    )


def alerts(database: Database) -> list[dict[str, Any]]:
    return database.rows("SELECT * FROM etl.alert ORDER BY alert_id")


def test_age_is_that_of_the_oldest_thing(loaded: Database) -> None:
    fresh = loaded.rows("SELECT * FROM etl.staleness")[0]
    assert not fresh["is_stale"]
    assert (fresh["last_success_run_id"], fresh["consecutive_failures"]) == (RUNS, 0)

    loaded.execute(
        "UPDATE etl.watermark SET read_at = read_at - interval '2 hours' WHERE source_table = 'orders'"
    )
    stale = loaded.rows("SELECT * FROM etl.staleness")[0]
    assert stale["is_stale"]
    assert stale["age"].total_seconds() > 7200
    loaded.execute("UPDATE etl.setting SET value = '3 hours' WHERE name = 'stale_after'")
    assert not loaded.value("SELECT is_stale FROM etl.staleness")


def test_a_warehouse_that_was_never_loaded_is_stale_and_raises_no_alert(database: Database) -> None:
    row = database.rows("SELECT * FROM etl.staleness")[0]
    assert row["is_stale"]
    assert row["age"] is None
    database.execute("SELECT etl.start_run()")
    assert alerts(database) == []


def test_failures_are_counted_until_a_success(loaded: Database) -> None:
    fail_the_next_run(loaded)
    assert [run(loaded), run(loaded)] == ["partial", "partial"]
    row = loaded.rows("SELECT * FROM etl.staleness")[0]
    last = (row["consecutive_failures"], row["last_failure_status"], row["last_failure_run_id"])
    assert last == (2, "partial", RUNS + 2)
    loaded.execute("DELETE FROM etl.quality_check WHERE check_name = 'always'")
    assert run(loaded) == "succeeded"
    assert loaded.value("SELECT consecutive_failures FROM etl.staleness") == 0


def test_the_hook_is_told_of_a_failed_check_and_a_bad_run(loaded: Database) -> None:
    hook(loaded, '"Ops"."Page it"', NOTE)
    fail_the_next_run(loaded)
    assert run(loaded) == "partial"
    pages = loaded.rows('SELECT * FROM "Ops".page')
    assert [page["kind"] for page in pages] == ["check", "run"]
    assert pages[0]["message"] == "Check always failed. Violating rows: 1."
    assert pages[1]["message"] == f"Run {RUNS + 1} ended partial: check:quality failed."
    assert pages[1]["details"]["tasks"][0]["sqlstate"] == "ET011"
    assert all(alert["hook_error"] is None for alert in alerts(loaded))


def test_the_hook_is_told_of_staleness_when_a_run_starts(loaded: Database) -> None:
    hook(loaded, '"Ops".page_it', NOTE)
    loaded.execute(
        "UPDATE etl.watermark SET read_at = read_at - interval '2 hours' WHERE source_table = 'orders'"
    )
    assert run(loaded) == "succeeded"
    assert run(loaded) == "succeeded"
    pages = loaded.rows('SELECT * FROM "Ops".page')
    assert [page["kind"] for page in pages] == ["stale"]
    assert pages[0]["message"] == "The warehouse is 2 hours old; limit: 15 minutes."
    health = loaded.rows(
        "SELECT message FROM etl.health WHERE topic IN ('last run', 'freshness') ORDER BY position"
    )
    assert health[0]["message"].startswith("succeeded ")
    assert all(re.search(r" \d+ (second|minute)s? ago", row["message"]) for row in health)


@pytest.mark.parametrize(
    ("age", "words"),
    [
        ("0.9 s", "0 seconds"),
        ("1 s", "1 second"),
        ("119 s", "119 seconds"),
        ("6 min 4 s", "6 minutes"),
        ("119 min", "119 minutes"),
        ("47 h", "47 hours"),
        ("1 month", "30 days"),
    ],
)
def test_an_age_is_told_in_words(loaded: Database, age: str, words: str) -> None:
    assert loaded.value(f"SELECT etl._in_words('{age}')") == words


def test_listeners_are_told_too(loaded: Database) -> None:
    listener = loaded.connect()
    listener.execute("LISTEN etl_alert")
    fail_the_next_run(loaded)
    run(loaded)
    told = [json.loads(one.payload) for one in listener.notifies(timeout=5, stop_after=2)]
    assert [one["kind"] for one in told] == ["check", "run"]


def test_a_hook_that_fails_is_recorded_and_breaks_nothing(loaded: Database) -> None:
    hook(loaded, '"Ops".broken', "RAISE EXCEPTION 'the pager is off';")
    fail_the_next_run(loaded)
    assert run(loaded) == "partial"
    assert {(one["hook_sqlstate"], one["hook_error"]) for one in alerts(loaded)} == {
        ("P0001", "the pager is off")
    }
    assert loaded.value("SELECT count(*) FROM etl.run WHERE ended_at IS NULL") == 0


def test_a_hook_that_commits_or_asserts_breaks_nothing(loaded: Database) -> None:
    fail_the_next_run(loaded)
    hook(loaded, '"Ops".committing', "COMMIT;")
    assert run(loaded) == "partial"
    hook(loaded, '"Ops".asserting', "ASSERT false, 'never';")
    assert run(loaded) == "partial"
    assert [one["hook_sqlstate"] for one in alerts(loaded)] == ["2D000", "2D000", "P0004", "P0004"]


def test_a_hook_that_does_not_exist_is_recorded(loaded: Database) -> None:
    # One that there was when the setting was written.
    loaded.execute("ALTER TABLE etl.setting DISABLE TRIGGER check_value")
    fail_the_next_run(loaded)
    for value in ("ops.nowhere", "ops.page(", "x; DROP TABLE etl.run", "pg_catalog.now()"):
        loaded.execute("UPDATE etl.setting SET value = %s WHERE name = 'alert_hook'", value)
        assert run(loaded) == "partial"
        assert alerts(loaded)[-1]["hook_error"], value
    assert alerts(loaded)[0]["hook_sqlstate"] == "ET010"


def test_a_hook_of_the_wrong_kind_is_refused(loaded: Database) -> None:
    loaded.execute(
        "CREATE FUNCTION public.f(text, text, jsonb) RETURNS integer LANGUAGE sql AS 'SELECT 1'"
    )
    with pytest.raises(psycopg.Error) as error:
        loaded.execute("SELECT etl._hook_call('public.f')")
    assert error.value.sqlstate == "ET010"
