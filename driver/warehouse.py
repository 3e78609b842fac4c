"""Rows of the warehouse's own tables, typed: what crosses from one module to another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import psycopg
from psycopg import sql
from psycopg.rows import class_row, dict_row

Row = TypeVar("Row")


@dataclass(frozen=True)
class Run:
    """A row of etl.run_status; the attributes are its columns."""

    run_id: int
    status: str
    origin: str
    only_tasks: list[str] | None
    full_refresh: list[str] | None
    resumed: int
    started_at: datetime
    ended_at: datetime | None
    seconds: Decimal | None
    tasks: int
    succeeded: int
    failed: int
    skipped: int
    rows_written: int
    rows_queued: int
    rows_quarantined: int
    compared_because: str | None = None

    @property
    def scope(self) -> str:
        """Who asked for it, and for what."""
        parts = [self.origin]
        if self.only_tasks:
            parts.append("only " + ", ".join(self.only_tasks))
        if self.full_refresh:
            parts.append("full refresh of " + ", ".join(self.full_refresh))
        if self.resumed:
            parts.append("resumed once" if self.resumed == 1 else f"resumed {self.resumed} times")
        return "; ".join(parts)


@dataclass(frozen=True)
class Task:
    """A task of a run; the attributes are the columns of etl.task_status."""

    run_id: int
    task: str
    kind: str
    object: str
    status: str
    attempts: int
    started_at: datetime | None
    ended_at: datetime | None
    seconds: Decimal | None
    rows_read: int
    rows_inserted: int
    rows_updated: int
    rows_deleted: int
    rows_queued: int
    rows_quarantined: int
    sqlstate: str | None
    message: str | None
    detail: str | None
    hint: str | None
    context: str | None
    position: int
    waits_for: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens to it in its run."""
        return self.status not in ("pending", "running")

    @property
    def rows_written(self) -> int:
        """Rows that it inserted, updated or marked as deleted."""
        return self.rows_inserted + self.rows_updated + self.rows_deleted

    @property
    def rows(self) -> int:
        """Rows that it is measured by: an extraction reads, all others write."""
        return self.rows_read if self.kind == "extract" else self.rows_written

    @property
    def is_idle(self) -> bool:
        """Whether it succeeded and found nothing to do."""
        return self.status == "succeeded" and not (
            self.rows_read or self.rows_written or self.rows_queued or self.rows_quarantined
        )


@dataclass(frozen=True)
class Failing:
    """A row of etl.failing_task; the attributes are its columns."""

    task: str
    kind: str
    object: str
    run_id: int
    failed_at: datetime | None
    attempts: int
    sqlstate: str | None
    message: str | None
    detail: str | None
    hint: str | None


@dataclass(frozen=True)
class Health:
    """A row of etl.health; the attributes are its columns."""

    topic: str
    status: str
    object: str | None
    message: str
    remedy: str


@dataclass(frozen=True)
class Watermark:
    """A row of etl.watermark_status; the attributes are its columns."""

    kind: str
    object: str
    batch_id: int | None
    complete_until: datetime | None
    lag: timedelta | None
    is_stale: bool


@dataclass(frozen=True)
class Queued:
    """A row of etl.queue_status; the attributes are its columns."""

    fact: str
    dimension: str
    entries: int
    ready: int
    oldest: datetime
    age: timedelta
    old_entries: int


@dataclass(frozen=True)
class QueueEntry:
    """A row of etl.reprocessing_queue with its age; the attributes are its columns."""

    fact: str
    fact_key: Any
    key_column: str
    dimension: str
    dimension_key: Any
    is_ready: bool
    attempts: int
    queued_at: datetime
    tried_at: datetime
    age: timedelta
    run_id: int


@dataclass(frozen=True)
class Quarantined:
    """A row of etl.quarantine_status; the attributes are its columns."""

    object: str
    row_count: int
    oldest: datetime
    age: timedelta
    latest_reason: str | None
    accepted: int


@dataclass(frozen=True)
class QuarantinedRow:
    """A row of etl.quarantine; the attributes are its columns."""

    object: str
    row_key: Any
    sqlstate: str
    reason: str
    original_row: Any
    attempts: int
    quarantined_at: datetime
    tried_at: datetime
    run_id: int
    is_retried: bool
    accepted_at: datetime | None
    accepted_by: str | None


@dataclass(frozen=True)
class Check:
    """A row of etl.check_status; the attributes are its columns."""

    check_name: str
    severity: str
    description: str
    run_every: timedelta
    is_enabled: bool
    status: str | None
    violations: int | None
    sample: list[dict[str, Any]] | None
    checked_at: datetime | None
    seconds: Decimal | None
    message: str | None
    run_id: int | None


@dataclass(frozen=True)
class Job:
    """A row of etl.schedule_status; the attributes are its columns."""

    worker: int
    every: str
    cron_schedule: str
    cron_database: str
    installed_at: datetime
    job_id: int | None
    command: str | None
    username: str | None
    is_active: bool | None
    last_fired_at: datetime | None
    last_outcome: str | None
    last_message: str | None
    cron_error: str | None
    cron_error_at: datetime | None
    time_zone: str


@dataclass(frozen=True)
class Start:
    """A row of etl.schedule_history; the attributes are its columns."""

    start_id: int
    fired_at: datetime
    worker: int
    outcome: str
    message: str
    run_id: int | None
    run_status: str | None
    run_seconds: Decimal | None
    rows_written: int | None


@dataclass(frozen=True)
class Problem:
    """A row of etl.problem; the attributes are its columns."""

    kind: str
    object: str | None
    message: str
    remedy: str


@dataclass(frozen=True)
class Object:
    """A row of etl.object_status; the attributes are its columns."""

    object: str
    kind: str
    layer: str | None
    table_name: str | None
    row_estimate: int
    batch_id: int | None
    complete_until: datetime | None
    is_stale: bool
    upstream: list[str]
    downstream: list[str]
    tags: list[str]
    position: int | None
    placement: str | None


@dataclass(frozen=True)
class Setting:
    """A row of etl.setting; the attributes are its columns."""

    name: str
    value: str
    value_type: str
    default_value: str | None
    description: str


_VIEWS: dict[type[Any], str] = {
    Run: "etl.run_status",
    # As etl.task_status, which has the latest run only. Short waits for a lock are not asked for.
    Task: """(
        SELECT t.*, extract(epoch FROM coalesce(
            t.ended_at, CASE WHEN t.status = 'running' THEN clock_timestamp() END
        ) - t.started_at) AS seconds,
        CASE WHEN t.status = 'running' AND clock_timestamp() > t.started_at + interval '1 second'
            THEN etl.describe_sessions(pg_blocking_pids(t.worker_pid)) END AS waits_for
        FROM etl.task_run AS t
    ) AS t""",
    Health: "etl.health",
    Watermark: "etl.watermark_status",
    Queued: "etl.queue_status",
    QueueEntry: """(
        SELECT q.*, clock_timestamp() - q.queued_at AS age FROM etl.reprocessing_queue AS q
    ) AS q""",
    Quarantined: "etl.quarantine_status",
    QuarantinedRow: "etl.quarantine",
    Check: "etl.check_status",
    Job: "etl.schedule_status",
    Start: "etl.schedule_history",
    Failing: "etl.failing_task",
    Problem: "etl.problem",
    Object: "etl.object_status",
    Setting: "etl.setting",
}


def rows(
    connection: psycopg.Connection[Any], query: str | sql.Composed, *parameters: object
) -> list[dict[str, Any]]:
    """Return rows of a query of this program by the names of their columns."""
    text = query.encode() if isinstance(query, str) else query
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(text, parameters or None).fetchall()


def fetch(
    connection: psycopg.Connection[Any],
    kind: type[Row],
    rest: str = "",
    *parameters: object,
) -> list[Row]:
    """Return rows of the view that a class stands for.

    Parameters:
        kind: one of the classes of this module.
        rest: WHERE, ORDER BY and LIMIT.
        parameters: values for the placeholders in `rest`.
    """
    columns = ", ".join(field.name for field in fields(kind))  # type: ignore[arg-type]
    query = f"SELECT {columns} FROM {_VIEWS[kind]} {rest}"  # noqa: S608  # all of it is of this program
    with connection.cursor(row_factory=class_row(kind)) as cursor:
        return cursor.execute(query.encode(), parameters or None).fetchall()


def tasks_of(connection: psycopg.Connection[Any], run_id: int | None) -> list[Task]:
    """Return the tasks of a run in their order; none without a run."""
    if run_id is None:
        return []
    return fetch(connection, Task, "WHERE run_id = %s ORDER BY position", run_id)


def latest_runs(connection: psycopg.Connection[Any], limit: int) -> list[Run]:
    """Return the latest runs, newest first."""
    return fetch(connection, Run, "ORDER BY run_id DESC LIMIT %s", limit)


def advisory_holder(connection: psycopg.Connection[Any], key: int) -> str | None:
    """Return who holds an advisory lock in this database, in a sentence; None if none does.

    Any login can take any such lock, so a command that waits for one names its holder.
    """
    row = connection.execute(
        """
        SELECT format(
            'Held by process id %%s (role "%%s", application "%%s").',
            l.pid, a.usename, a.application_name
        )
        FROM pg_locks AS l
        JOIN pg_stat_activity AS a ON a.pid = l.pid AND a.datid = l.database
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
            AND a.datname = current_database()
            AND ((l.classid::bigint << 32) | l.objid::bigint) = %s
        """,
        [key],
    ).fetchone()
    return row[0] if row else None


def lock_holders(connection: psycopg.Connection[Any]) -> str | None:
    """Return a sentence that names the sessions that hold locks on tables, workers excepted."""
    row = connection.execute("SELECT etl.describe_sessions(etl.lock_holders())").fetchone()
    return row[0] if row else None


def by_kind(tasks: Sequence[Task]) -> list[tuple[str, list[Task]]]:
    """Return tasks by kind, the kinds in the order of their first tasks."""
    groups: dict[str, list[Task]] = {}
    for task in tasks:
        groups.setdefault(task.kind, []).append(task)
    return list(groups.items())
