"""The lines of `oceanrecords status` that tell whether the warehouse can be trusted."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.rows import dict_row
from rich.text import Text

from base import output
from base.output import console


def health(connection: psycopg.Connection) -> dict[str, Any]:
    """Return age, checks, the last reconciliation and the schedule.

    Parameters:
        connection: to the warehouse.

    Returns:
        'staleness' (a row of etl.staleness), 'checks' (rows of etl.check_status that did not pass),
        'reconciliation' (the last one, or None), 'schedule' (rows of etl.schedule_status).
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        staleness = cursor.execute("SELECT * FROM etl.staleness").fetchone()
        checks = cursor.execute(
            "SELECT check_name, severity, status, violations, message, checked_at "
            "FROM etl.check_status WHERE is_enabled AND status <> 'passed' "
            "ORDER BY severity, check_name"
        ).fetchall()
        reconciliation = cursor.execute(
            "SELECT * FROM etl.reconciliation ORDER BY reconciliation_id DESC LIMIT 1"
        ).fetchone()
        schedule = cursor.execute("SELECT * FROM etl.schedule_status ORDER BY worker").fetchall()
    return {
        "staleness": staleness,
        "checks": checks,
        "reconciliation": reconciliation,
        "schedule": schedule,
    }


def render(answer: dict[str, Any]) -> None:
    """Print the answer of `health`, one line each."""
    console.print("[title]Health[/]")
    for label, line in (
        ("age", _age(answer["staleness"])),
        ("checks", _checks(answer["checks"])),
        ("reconciled", _reconciliation(answer["reconciliation"])),
        ("schedule", _schedule(answer["schedule"])),
    ):
        console.print(Text(f"  {label:<12}", style="dim") + line, soft_wrap=True)


def _age(one: dict[str, Any]) -> Text:
    limit = f", limit {output.seconds(one['stale_after'])}"
    if one["age"] is None and not one["is_stale"]:
        line = Text("nothing is declared", style="yellow")
    elif one["age"] is None:
        line = Text("some object has never been loaded", style="yellow")
    else:
        line = Text(f"{output.seconds(one['age'])}{limit}", "yellow" if one["is_stale"] else "")
    failures = one["consecutive_failures"]
    if failures:
        word = "run" if failures == 1 else "runs"
        line.append(f"; {failures} {word} since the last success did not succeed", style="yellow")
    return line


def _checks(failed: list[dict[str, Any]]) -> Text:
    if not failed:
        return Text("none failed")
    line = Text()
    for one in failed:
        line.append(", " if line else "")
        line.append(one["check_name"], style="red" if one["severity"] == "fail" else "yellow")
        found = "cannot be executed" if one["status"] == "error" else f"{one['violations']:,} rows"
        line.append(f" ({found})")
    return line


def _reconciliation(one: dict[str, Any] | None) -> Text:
    if one is None:
        return Text("never; run: oceanrecords reconcile", style="dim")
    words, style = {
        "equal": ("source, stage and stars agree", ""),
        "different": (f"{one['differences']:,} differing rows", "red"),
        "incomplete": ("nothing differed, but not all could be compared", "yellow"),
    }[one["status"]]
    scope = f" (of {', '.join(one['objects'])})" if one["objects"] else ""
    line = Text(words + scope, style=style)
    repaired = ", repair requested" if one["repair_requested_at"] else ""
    return line.append(f"  {output.moment(one['started_at'])}{repaired}", style="dim")


def _schedule(jobs: list[dict[str, Any]]) -> Text:
    if not jobs:
        return Text("none", style="dim")
    first = jobs[0]
    shared = f", {len(jobs)} workers" if len(jobs) > 1 else ""
    line = Text(f"every {first['every']}{shared}")
    if first["last_message"]:
        last = f"  {output.moment(first['last_fired_at'])} {first['last_message']}"
        line.append(last, style="red" if first["last_outcome"] == "failed" else "dim")
    return line
