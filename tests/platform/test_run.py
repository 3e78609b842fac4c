"""`oceanrecords run`: exit status, progress, interruption, a second run beside it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Finished
from tests.support.database import Database
from tests.support.waiting import wait_for

PROGRAM = str(Path(sys.executable).with_name("oceanrecords"))

BREAK_DIM_STATUS = """
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $refuse$
BEGIN
    RAISE EXCEPTION 'not today' USING DETAIL = 'a test', HINT = 'try tomorrow';
END
$refuse$;
CREATE TRIGGER refuse BEFORE INSERT ON dwh.dim_status FOR EACH ROW EXECUTE FUNCTION public.refuse();
"""


def last_line(stdout: str) -> dict[str, Any]:
    """Return what `run --json` says of the run; the lines before speak of its tasks."""
    lines = [json.loads(line) for line in stdout.splitlines()]
    assert [line["event"] for line in lines[:-1]] == ["task"] * (len(lines) - 1)
    assert lines[-1]["event"] == "run"
    return dict(lines[-1])


def test_a_run_loads_and_a_second_one_finds_nothing_new(
    cli: Callable[..., Finished], database: Database
) -> None:
    first = cli("run")
    assert first.returncode == 0, first.stderr
    assert re.search(r"✓ dim_status +6 new", first.stdout)
    assert re.search(r"Run 1 succeeded: \d+ tasks, [\d,]+ rows written", first.stdout)
    assert re.search(r"✓ quality +\d+ checks", first.stdout)
    assert database.value("SELECT count(*) FROM dwh.dim_status WHERE status_key > 0") == 6
    second = last_line(cli("run", "--json").stdout)
    assert (second["status"], second["rows_written"]) == ("succeeded", 0)
    # One row of the log tells it.
    assert (second["tasks"], second["task_runs"]) == (0, [])
    assert database.value("SELECT count(*) FROM etl.task_run WHERE run_id = 2") == 0
    assert database.value("SELECT count(*) FROM etl.batch WHERE run_id = 2") == 0


def test_several_workers_share_one_run(cli: Callable[..., Finished], database: Database) -> None:
    finished = cli("run", "--workers", "3", "--json")
    assert finished.returncode == 0, finished.stderr
    answer = last_line(finished.stdout)
    assert {task["status"] for task in answer["task_runs"]} == {"succeeded"}
    assert answer["tasks"] == len(answer["task_runs"])
    assert database.value("SELECT count(*) FROM etl.run") == 1


def test_a_partial_run_exits_with_3_and_says_what_failed(
    cli: Callable[..., Finished], database: Database
) -> None:
    database.execute(BREAK_DIM_STATUS)
    finished = cli("run")
    assert finished.returncode == 3
    assert re.search(r"✗ dim_status +not today", finished.stdout)
    assert "Run 1 partial" in finished.stdout
    status = cli("status")
    assert status.returncode == 0
    for word in ("dim_status", "failed: not today", "a test", "try tomorrow", "P0001"):
        assert word in status.stdout
    database.execute("DROP TRIGGER refuse ON dwh.dim_status")
    assert cli("run").returncode == 0


def test_a_failed_run_exits_with_1(cli: Callable[..., Finished], database: Database) -> None:
    database.execute(BREAK_DIM_STATUS)
    assert cli("run").returncode == 3
    finished = cli("run", "--only", "dim_status")
    assert finished.returncode == 1
    assert "failed" in finished.stdout


def test_only_and_full_refresh_confine_the_run(cli: Callable[..., Finished]) -> None:
    assert cli("run").returncode == 0
    only = last_line(cli("run", "--only", "dim_status", "--json").stdout)
    assert [task["object"] for task in only["task_runs"]] == ["dim_status"]
    refresh = last_line(cli("run", "--full-refresh", "dim_payment", "--json").stdout)
    assert refresh["full_refresh"] == ["dim_payment"]
    everything = last_line(cli("run", "--full-refresh", "--json").stdout)
    assert everything["full_refresh"] == ["all"]


def test_an_unknown_task_is_named(cli: Callable[..., Finished]) -> None:
    finished = cli("run", "--only", "dim_nonsense")
    assert finished.returncode == 1
    assert "dim_nonsense" in finished.stderr
    assert "ET002" in finished.stderr


@pytest.fixture
def blocked_run(database: Database) -> tuple[subprocess.Popen[str], psycopg.Connection[Any]]:
    """A run that waits for a table which the test has locked, and the lock's connection."""
    listener = database.connect()
    listener.execute("LISTEN etl_progress")
    holder = database.connect(autocommit=False)
    holder.execute("LOCK TABLE dwh.dim_status IN ACCESS EXCLUSIVE MODE")
    process = subprocess.Popen(
        [PROGRAM, "--dsn", database.dsn, "run", "--workers", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    for notification in listener.notifies(timeout=60):
        event = json.loads(notification.payload)
        if (event["task"], event["status"]) == ("dimension:dim_status", "running"):
            return process, holder
    pytest.fail(f"the run did not come to the locked table: {process.poll()}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_stops_its_backends_and_can_be_continued(
    blocked_run: tuple[subprocess.Popen[str], psycopg.Connection[Any]],
    number: signal.Signals,
    database: Database,
    cli: Callable[..., Finished],
) -> None:
    process, holder = blocked_run
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Run 1 was interrupted" in stderr
    assert "To resume the run" in stderr
    assert "Traceback" not in stderr
    workers = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name LIKE 'oceanrecords worker %'"
    )
    wait_for(lambda: database.value(workers) == 0, "the workers' backends to end")
    holder.rollback()
    assert database.value("SELECT status FROM etl.run_status") == "interrupted"
    finished = cli("run", "--json")
    assert finished.returncode == 0, finished.stderr
    answer = last_line(finished.stdout)
    assert (answer["run_id"], answer["status"]) == (1, "succeeded")


def test_a_second_run_beside_a_live_one_is_refused(
    blocked_run: tuple[subprocess.Popen[str], psycopg.Connection[Any]],
    cli: Callable[..., Finished],
) -> None:
    process, holder = blocked_run
    finished = cli("run")
    assert finished.returncode == 1
    assert "run 1 is already running" in finished.stderr
    assert "ET001" in finished.stderr
    holder.rollback()
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Run 1 succeeded" in stdout


def test_a_lost_server_is_told_without_a_traceback(
    blocked_run: tuple[subprocess.Popen[str], psycopg.Connection[Any]],
    database: Database,
) -> None:
    process, holder = blocked_run
    database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name LIKE 'oceanrecords %' AND datname = current_database()"
    )
    _, stderr = process.communicate(timeout=60)
    holder.rollback()
    assert process.returncode == 1
    assert "Run 1 was cut off" in stderr
    assert "To resume the run" in stderr
    assert "Traceback" not in stderr


def test_other_workers_follow_when_the_first_is_lost(
    cli: Callable[..., Finished], database: Database
) -> None:
    """While one worker extracts, the others would only be in its way; one that dies has heirs."""
    assert cli("run").returncode == 0
    # Something is new, or the run would have ended before any worker began.
    database.execute("UPDATE oceanrecords.order_statuses SET name = name || '.'")
    holder = database.connect(autocommit=False)
    holder.execute("LOCK TABLE oceanrecords.order_statuses IN ACCESS EXCLUSIVE MODE")
    process = subprocess.Popen(
        [PROGRAM, "--dsn", database.dsn, "run", "--workers", "2", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )

    def is_extracting(worker: int) -> bool:
        query = (
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = %s AND query LIKE '%%etl.work%%' AND wait_event = 'relation')"
        )
        return bool(database.value(query, f"oceanrecords worker {worker}"))

    wait_for(lambda: is_extracting(1), "the first worker")
    second = database.rows(
        "SELECT pid, query FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'oceanrecords worker 2'"
    )
    assert [row["query"] for row in second if "etl.work" in row["query"]] == []
    database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'oceanrecords worker 1'"
    )
    wait_for(lambda: is_extracting(2), "the second worker")
    holder.rollback()
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    answer = last_line(stdout)
    assert answer["status"] == "succeeded"
    assert database.rows(
        "SELECT DISTINCT worker_pid AS pid FROM etl.task_run WHERE run_id = 2"
    ) == [{"pid": second[0]["pid"]}]


def test_every_runs_again_until_it_is_stopped(database: Database) -> None:
    """Its connections stay; one that was lost is opened again by the next run."""
    process = subprocess.Popen(
        [PROGRAM, "--dsn", database.dsn, "run", "--every", "1s"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    pid = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name = 'oceanrecords worker 1'"
    )
    lines = [process.stdout.readline()]
    first = database.value(pid)
    lines += [process.stdout.readline() for _ in range(2)]
    assert database.value(pid) == first
    database.execute("SELECT pg_terminate_backend(%s)", first)
    lines += [process.stdout.readline() for _ in range(2)]
    assert database.value(pid) != first
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert ["succeeded" in line for line in lines] == [True] * 5
    assert process.returncode == 130
    assert "Traceback" not in stderr


def test_progress_on_a_terminal_ends_with_the_same_words(database: Database) -> None:
    main, side = pty.openpty()
    process = subprocess.Popen(
        [PROGRAM, "--dsn", database.dsn, "run"],
        stdin=subprocess.DEVNULL,
        stdout=side,
        stderr=side,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "30"},
    )
    os.close(side)
    shown = b""
    while select.select([main], [], [], 60)[0]:
        try:
            piece = os.read(main, 65536)
        except OSError:  # the terminal's other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(main)
    assert process.wait(30) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert "Run 1 succeeded" in text
    assert "✓ dim_status" in text


def test_status_before_the_first_run_says_what_to_do(cli: Callable[..., Finished]) -> None:
    finished = cli("status")
    assert finished.returncode == 0
    assert "oceanrecords run" in finished.stdout


def test_status_tells_runs_tasks_watermarks_and_queue(cli: Callable[..., Finished]) -> None:
    assert cli("run").returncode == 0
    answer = json.loads(cli("status", "--json").stdout)
    assert answer["runs"][0]["status"] == "succeeded"
    assert {task["kind"] for task in answer["tasks"]} >= {"extract", "stage", "dimension", "fact"}
    assert all(one["lag"] is not None for one in answer["watermarks"])
    assert answer["queue"] == []
    shown = cli("status", env={"COLUMNS": "80"}).stdout
    for word in ("Runs", "Tasks of run 1", "Watermarks", "Reprocessing queue"):
        assert word in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_sql_prints_what_the_task_runs(cli: Callable[..., Finished]) -> None:
    finished = cli("sql", "dim_product")
    assert finished.returncode == 0
    assert finished.stdout.startswith("-- 1. ")
    assert "dwh.dim_product" in finished.stdout


def test_a_lock_that_is_never_released_fails_the_task_and_names_its_holder(
    cli: Callable[..., Finished], database: Database
) -> None:
    database.execute("UPDATE etl.setting SET value = '200 ms' WHERE name = 'wait_limit'")
    holder = database.connect(autocommit=False)
    holder.execute("SET application_name = 'forgotten window'")
    holder.execute("LOCK TABLE dwh.dim_status IN ACCESS EXCLUSIVE MODE")
    finished = cli("run")
    assert finished.returncode == 3
    assert re.search(r"✗ dim_status +a lock was not granted within 200ms", finished.stdout)
    failed = database.rows(
        "SELECT sqlstate, detail, hint FROM etl.failing_task WHERE object = 'dim_status'"
    )[0]
    assert failed["sqlstate"] == "55P03"
    assert f"process id {holder.info.backend_pid}" in failed["detail"]
    assert 'application "forgotten window"' in failed["detail"]
    assert f"pg_terminate_backend({holder.info.backend_pid})" in failed["hint"]
    holder.rollback()
    assert cli("run").returncode == 0


def test_a_lock_on_the_log_of_runs_ends_the_command_and_names_its_holder(
    cli: Callable[..., Finished], database: Database
) -> None:
    assert cli("run").returncode == 0
    database.execute("UPDATE etl.setting SET value = '200 ms' WHERE name = 'wait_limit'")
    holder = database.connect(autocommit=False)
    holder.execute("LOCK TABLE etl.task_run IN ACCESS EXCLUSIVE MODE")
    finished = cli("run", "--full-refresh", "dim_status")
    assert finished.returncode == 1
    assert f"process id {holder.info.backend_pid}" in finished.stderr
    holder.rollback()
    assert cli("run").returncode == 0


def test_a_closed_output_does_not_stop_the_load(
    blocked_run: tuple[subprocess.Popen[str], psycopg.Connection[Any]], database: Database
) -> None:
    process, holder = blocked_run
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    wait_for(
        lambda: database.value("SELECT waits_for FROM etl.task_status WHERE object = 'dim_status'"),
        "the status to name what the task waits for",
    )
    holder.rollback()
    process.communicate(timeout=60)
    assert database.value("SELECT status FROM etl.run") == "succeeded"


def test_a_run_says_which_session_a_task_waits_for(
    blocked_run: tuple[subprocess.Popen[str], psycopg.Connection[Any]],
) -> None:
    process, holder = blocked_run
    assert process.stdout is not None
    lines = [process.stdout.readline()]
    while "waits for a lock" not in lines[-1]:
        assert lines[-1], lines
        lines.append(process.stdout.readline())
    assert "dim_status" in lines[-1]
    assert f"process id {holder.info.backend_pid}" in lines[-1]
    holder.rollback()
    process.communicate(timeout=60)
    assert process.returncode == 0
