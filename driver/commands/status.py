"""`oceanrecords status`, `queue`, `sql` and `kpi`: what ran, what waits, what came out."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Annotated, Any, LiteralString

import psycopg
import typer
from psycopg import sql as compose
from psycopg.rows import dict_row
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from driver import output, state, watch
from driver.commands import health
from driver.commands.options import JsonOption
from driver.connection import connect
from driver.errors import EXIT_USAGE, UserError
from driver.output import console, emit

STATUS_EXAMPLES = (
    "Examples: oceanrecords status · oceanrecords status --watch · oceanrecords status --json"
)
QUARANTINE_EXAMPLES = (
    "Examples: oceanrecords quarantine · oceanrecords quarantine fact_order --retry"
)
QUEUE_EXAMPLES = (
    "Examples: oceanrecords queue · oceanrecords queue --fact fact_order_line --limit 100"
)
SQL_EXAMPLES = "Examples: oceanrecords sql dim_product · oceanrecords sql fact_order | less"
KPI_EXAMPLES = (
    "Examples: oceanrecords kpi · oceanrecords kpi NAME --limit 24 · oceanrecords kpi --json"
)

_OVERVIEW = "overview"


def _rows(
    connection: psycopg.Connection,
    query: LiteralString | compose.Composed,
    parameters: Sequence[Any] | dict[str, Any] | None = None,
) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, parameters).fetchall()


# -- status ---------------------------------------------------------------------------------------


def status(
    context: typer.Context,
    runs: Annotated[
        int, typer.Option("--runs", min=1, max=1000, help="How many runs to show.")
    ] = 5,
    show_all: Annotated[
        bool, typer.Option("--all", help="Every task and watermark, also where nothing happened.")
    ] = False,
    watching: Annotated[
        bool, typer.Option("--watch", help="Full screen, and keeps moving until Ctrl-C.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the last runs, the tasks of the latest, how far everything is, and what waits."""
    if watching:
        _watch(context, as_json=as_json)
        return
    with connect(state.of(context).dsn) as connection:
        answer = {
            "runs": _rows(
                connection, "SELECT * FROM etl.run_status ORDER BY run_id DESC LIMIT %s", [runs]
            ),
            "tasks": _rows(connection, "SELECT * FROM etl.task_status ORDER BY position"),
            "watermarks": _rows(connection, "SELECT * FROM etl.watermark_status"),
            "queue": _rows(connection, "SELECT * FROM etl.queue_status ORDER BY fact, dimension"),
            "quarantine": _rows(connection, "SELECT * FROM etl.quarantine_status ORDER BY object"),
            "schema_drift": _rows(connection, "SELECT * FROM etl.schema_drift"),
            "health": health.health(connection),
        }
    emit(answer, as_json=as_json, render=lambda data: _render_status(data, show_all))


def _watch(context: typer.Context, *, as_json: bool) -> None:
    if as_json or not console.is_terminal:
        raise UserError(
            "--watch needs a terminal, and shows no JSON.",
            "Without it the status is told once: oceanrecords status",
            EXIT_USAGE,
        )
    signal.signal(signal.SIGTERM, _interrupt)
    with (
        connect(state.of(context).dsn, application_name="oceanrecords watch") as connection,
        contextlib.suppress(KeyboardInterrupt),
    ):
        watch.watch(connection, console)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _render_status(answer: dict[str, Any], show_all: bool) -> None:
    if not answer["runs"]:
        console.print("Nothing has been loaded yet.")
        console.print("[quiet]load the warehouse with[/] oceanrecords run")
        return
    console.print(_runs_table(answer["runs"]))
    for run in answer["runs"]:
        if run["compared_because"]:
            line = Text(f"  run {run['run_id']}: ", style="dim")
            line.append(f"{run['compared_because']}: all tables are compared with their mirrors")
            console.print(line, soft_wrap=True)
    console.print()
    console.print(_tasks_table(answer["tasks"], show_all))
    for task in answer["tasks"]:
        if task["status"] in ("failed", "skipped") and task["message"]:
            line = Text(f"  {task['object']}: ", style="dim")
            line.append(f"{task['status']}: {task['message']}", style="default")
            if task.get("sqlstate"):
                line.append(f"  {task['sqlstate']}", style="dim")
            if task["attempts"] > 1:
                line.append(f"  tried {task['attempts']} times", style="dim")
            console.print(line, soft_wrap=True)
            for label in ("detail", "hint"):
                if task.get(label):
                    console.print(Text(f"    {label}: {task[label]}", style="dim"), soft_wrap=True)
    console.print()
    console.print(_watermark_table(answer["watermarks"], show_all))
    console.print()
    if answer["queue"]:
        console.print(_queue_table(answer["queue"]))
    else:
        console.print("[title]Reprocessing queue[/]  [quiet]empty[/]")
    if answer["quarantine"]:
        console.print()
        console.print(_quarantine_table(answer["quarantine"]))
    if answer["schema_drift"]:
        console.print()
        console.print("[title]Schema drift[/]")
        console.print(rows_table(answer["schema_drift"]))
    console.print()
    health.render(answer["health"])


def _runs_table(runs: list[dict[str, Any]]) -> Table:
    numeric = ("run", "took", "tasks", "failed", "rows", "queued")
    table = output.table(
        "run", "status", "started", "took", "tasks", "failed", "rows", "queued", "by",
        title="Runs", right=numeric,
    )  # fmt: skip
    for run in runs:
        table.add_row(
            str(run["run_id"]),
            output.status(run["status"]),
            output.moment(run["started_at"]),
            output.seconds(run["seconds"]),
            f"{run['succeeded']}/{run['tasks']}",
            output.number(run["failed"]),
            output.number(run["rows_written"]),
            output.number(run["rows_queued"]),
            Text(_scope(run), style="dim"),
        )
    return table


def _scope(run: dict[str, Any]) -> str:
    parts = [str(run["origin"])]
    if run.get("only_tasks"):
        parts.append("only " + ", ".join(run["only_tasks"]))
    if run.get("full_refresh"):
        parts.append("rebuild " + ", ".join(run["full_refresh"]))
    if run.get("resumed"):
        parts.append(f"resumed {run['resumed']} times")
    return "; ".join(parts)


def _tasks_table(tasks: list[dict[str, Any]], show_all: bool) -> Table:
    """Return the tasks of a run; those of the same kind that found nothing are told in one line."""
    numeric = ("took", "read", "new", "changed", "deleted", "queued")
    run_id = tasks[0]["run_id"] if tasks else ""
    table = output.table(
        "kind", "object", "", "took", "read", "new", "changed", "deleted", "queued",
        title=f"Tasks of run {run_id}", right=numeric,
    )  # fmt: skip
    for kind, same_kind in groupby(tasks, key=lambda task: task["kind"]):
        group = list(same_kind)
        shown = [task for task in group if show_all or not _is_idle(task)]
        label = Text(kind, style="dim")
        for task in shown:
            table.add_row(
                label,
                task["object"],
                output.mark(task["status"]),
                output.seconds(task["seconds"]),
                output.number(task["rows_read"]),
                output.number(task["rows_inserted"]),
                output.number(task["rows_updated"]),
                output.number(task["rows_deleted"]),
                output.number(task["rows_queued"]),
            )
            label = Text("")
        idle = [task for task in group if task not in shown]
        if idle:
            told = f"{len(idle)} more" if shown else f"all {len(idle)}"
            took = sum(float(task["seconds"] or 0) for task in idle)
            table.add_row(
                label, Text(f"{told}, no change", style="dim"), output.mark("succeeded"),
                Text(output.seconds(took), style="dim"),
            )  # fmt: skip
    return table


def _is_idle(task: dict[str, Any]) -> bool:
    """Tell a task that did well and found nothing to do."""
    counts = ("rows_read", "rows_inserted", "rows_updated", "rows_deleted", "rows_queued")
    return task["status"] == "succeeded" and not any(task[count] for count in counts)


def _watermark_table(watermarks: list[dict[str, Any]], show_all: bool) -> Table:
    """Return how far each thing is; things of a kind that are equally far are told in one line."""
    table = output.table(
        "kind", "object", "batch", "complete until", "lag", title="Watermarks",
        right=("batch", "lag"),
    )  # fmt: skip
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for one in watermarks:
        mark = (one["kind"], one["batch_id"], one["object"] if show_all else None)
        groups.setdefault(mark, []).append(one)
    kind_before = None
    for (kind, batch, _), group in groups.items():
        one = group[0]
        is_all = len(group) == sum(other["kind"] == kind for other in watermarks)
        name = (
            f"all {len(group)}"
            if is_all and len(group) > 2
            else ", ".join(other["object"] for other in group)
        )
        table.add_row(
            Text("" if kind == kind_before else kind, style="dim"),
            name,
            "" if batch is None else str(batch),
            output.moment(one["complete_until"]) or Text("never", style="yellow"),
            Text(output.seconds(one["lag"]), style="yellow" if one.get("is_stale") else ""),
        )
        kind_before = kind
    return table


def _queue_table(queue: list[dict[str, Any]]) -> Table:
    table = output.table(
        "fact", "waits for", "rows", "ready", "oldest", "age",
        title="Reprocessing queue", right=("rows", "ready", "age"),
    )  # fmt: skip
    for one in queue:
        table.add_row(
            one["fact"],
            one["dimension"],
            output.number(one["entries"]),
            output.number(one["ready"]),
            output.moment(one["oldest"]),
            output.seconds(one["age"]),
        )
    return table


def _quarantine_table(quarantine: list[dict[str, Any]]) -> Table:
    table = output.table(
        "object", "rows", "oldest", "age", "latest reason",
        title="Quarantine", right=("rows", "age"), wrap=("latest reason",),
    )  # fmt: skip
    for one in quarantine:
        table.add_row(
            one["object"],
            output.number(one["row_count"]),
            output.moment(one["oldest"]),
            output.seconds(one["age"]),
            one["latest_reason"],
        )
    return table


# -- queue ----------------------------------------------------------------------------------------


def queue(
    context: typer.Context,
    fact: Annotated[
        str | None, typer.Option("--fact", metavar="FACT", help="Only what this fact waits for.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100000, help="Rows to show.")] = 20,
    retry: Annotated[
        bool, typer.Option("--retry", help="Let the next run look all of them up again.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the facts' rows that wait for a dimension's member, the oldest first.

    The next run resolves them by itself once the member is there.
    """
    with connect(state.of(context).dsn) as connection:
        if retry:
            connection.execute("SELECT etl.retry_queue(%s)", [fact])
        answer = {
            "summary": _rows(
                connection,
                "SELECT * FROM etl.queue_status WHERE %(fact)s::text IS NULL OR fact = %(fact)s "
                "ORDER BY fact, dimension",
                {"fact": fact},
            ),
            "entries": _rows(
                connection,
                "SELECT * FROM etl.queue_entry WHERE %(fact)s::text IS NULL OR fact = %(fact)s "
                "ORDER BY queued_at LIMIT %(limit)s",
                {"fact": fact, "limit": limit},
            ),
        }
    emit(answer, as_json=as_json, render=_render_queue)


def _render_queue(answer: dict[str, Any]) -> None:
    if not answer["summary"]:
        console.print("The reprocessing queue is empty: every fact has found its members.")
        return
    console.print(_queue_table(answer["summary"]))
    console.print()
    table = output.table(
        "fact", "key", "column", "waits for", "member", "tries", "age", title="Oldest rows",
        right=("tries", "age"),
    )  # fmt: skip
    for one in answer["entries"]:
        table.add_row(
            one["fact"],
            _key(one["fact_key"]),
            one["key_column"],
            one["dimension"],
            _key(one["dimension_key"]),
            str(one["attempts"]),
            output.seconds(one["age"]),
        )
    console.print(table)
    total = sum(one["entries"] for one in answer["summary"])
    if total > len(answer["entries"]):
        rest = total - len(answer["entries"])
        console.print(f"[quiet]… and {rest:,} more; --limit shows more of them[/]")


def _key(value: Any) -> str:
    """Return a business key, which the database gives as JSON, for people."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(str(part) for part in value)
    return "" if value is None else str(value)


# -- quarantine -----------------------------------------------------------------------------------


def quarantine(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[OBJECT]", help="Source table, dimension or fact; all by default."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100000, help="Rows to show.")] = 20,
    retry: Annotated[
        bool, typer.Option("--retry", help="Let the next run try all of them again.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the rows that cannot be loaded, each with its reason.

    A row is tried again by itself when it changes in the source.
    """
    with connect(state.of(context).dsn) as connection:
        if retry:
            connection.execute("SELECT etl.retry_quarantine(%s)", [name])
        answer = {
            "summary": _rows(
                connection,
                "SELECT * FROM etl.quarantine_status "
                "WHERE %(name)s::text IS NULL OR object = %(name)s ORDER BY object",
                {"name": name},
            ),
            "entries": _rows(
                connection,
                "SELECT * FROM etl.quarantine WHERE %(name)s::text IS NULL OR object = %(name)s "
                "ORDER BY quarantined_at LIMIT %(limit)s",
                {"name": name, "limit": limit},
            ),
        }
    emit(answer, as_json=as_json, render=_render_quarantine)


def _render_quarantine(answer: dict[str, Any]) -> None:
    if not answer["summary"]:
        console.print("The quarantine is empty: every row could be loaded.")
        return
    console.print(_quarantine_table(answer["summary"]))
    console.print()
    table = output.table(
        "object", "key", "code", "reason", "tries", "since", title="Oldest rows", right=("tries",),
        wrap=("reason",),
    )  # fmt: skip
    for one in answer["entries"]:
        table.add_row(
            one["object"],
            _key(one["row_key"]),
            one["sqlstate"],
            one["reason"],
            str(one["attempts"]),
            output.moment(one["quarantined_at"]),
        )
    console.print(table)


# -- sql ------------------------------------------------------------------------------------------


def sql(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="OBJECT", help="A source table, dimension, fact or task.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Print the SQL that the tasks of an object run, in its order."""
    with connect(state.of(context).dsn) as connection:
        answer = _rows(
            connection,
            "SELECT step, title, statement FROM etl.object_sql(%s) ORDER BY step",
            [name],
        )
    emit(answer, as_json=as_json, render=_render_sql)


def _render_sql(answer: list[dict[str, Any]]) -> None:
    text = "\n".join(
        f"-- {one['step']}. {one['title']}\n{one['statement'].strip().rstrip(';')};\n"
        for one in answer
    )
    if console.is_terminal and not console.no_color:
        console.print(Syntax(text, "postgresql", theme="ansi_dark", background_color="default"))
    else:
        console.file.write(text)


# -- kpi ------------------------------------------------------------------------------------------


def kpi(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="One view of schema kpi; the overview by default."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Rows of each view to show.")] = 12,
    show_all: Annotated[bool, typer.Option("--all", help="Every view.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the KPIs, as the views of schema kpi give them."""
    with connect(state.of(context).dsn) as connection:
        views = _rows(
            connection,
            "SELECT c.relname AS name, pg_catalog.obj_description(c.oid, 'pg_class') AS meaning "
            "FROM pg_catalog.pg_class AS c WHERE c.relnamespace = to_regnamespace('kpi') "
            "AND c.relkind IN ('v', 'm') ORDER BY c.relname",
        )
        known = [view["name"] for view in views]
        if name is not None and name not in known:
            raise UserError(
                f"There is no KPI '{name}'.",
                f"There are: {', '.join(known)}" if known else "Install them: oceanrecords migrate",
            )
        if name is None and not show_all and _OVERVIEW in known:
            name = _OVERVIEW
        answer = []
        for view in views:
            if name is None or view["name"] == name:
                query = compose.SQL("SELECT * FROM kpi.{} LIMIT %s").format(
                    compose.Identifier(view["name"])
                )
                answer.append({**view, "rows": _rows(connection, query, [limit + 1])})
    for one in answer:
        one["more"] = len(one["rows"]) > limit
        one["rows"] = one["rows"][:limit]
    emit(answer, as_json=as_json, render=_render_kpis)
    others = [view for view in known if view != name]
    if not as_json and name == _OVERVIEW and others:
        console.print(f"\n[quiet]More: oceanrecords kpi {' | '.join(others)}[/]", soft_wrap=True)


def _render_kpis(answer: list[dict[str, Any]]) -> None:
    if not answer:
        console.print("There are no KPIs yet. [quiet]Install them with[/] oceanrecords migrate")
        return
    for number, one in enumerate(answer):
        if number:
            console.print()
        console.print(f"[title]{one['name']}[/]  [quiet]{one['meaning'] or ''}[/]", soft_wrap=True)
        if not one["rows"]:
            console.print("  [quiet]no rows[/]")
            continue
        console.print(rows_table(one["rows"]))
        if one["more"]:
            console.print("[quiet]… and more; --limit shows more of them[/]")


def rows_table(rows: list[dict[str, Any]]) -> Table:
    """Return rows of any query as a table: numbers to the right, moments and durations readable."""
    columns = list(rows[0])
    numeric = [
        column
        for column in columns
        if any(isinstance(row[column], int | float | Decimal | timedelta) for row in rows)
    ]
    table = output.table(*columns, right=numeric)
    for row in rows:
        table.add_row(*(_cell(name, row[name]) for name in columns))
    return table


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return output.moment(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return output.seconds(value)
    if isinstance(value, int):
        is_label = name.endswith(("_key", "_id", "year", "year_number"))
        return str(value) if is_label else f"{value:,}"
    if isinstance(value, float | Decimal):
        return f"{value:,.2f}"
    return str(value)
