"""`oceanrecords trace`: a business key, or a run, through all layers."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from datetime import datetime
from itertools import groupby
from typing import Annotated, Any

import psycopg
import typer
from rich.text import Text

from base import output, state
from base.connection import connect
from base.errors import did_you_mean, from_database
from base.options import JsonOption, LimitOption, complete_trace
from base.output import console, emit
from driver.commands.status import render_fault, tasks_table
from driver.rows import plain
from driver.trace import Section, trace
from driver.warehouse import Task, tasks_of

EXAMPLES = (
    "Examples: oceanrecords trace product 42 · oceanrecords trace order_line 17 1 · "
    "oceanrecords trace run 3 --json"
)

_TITLES = {
    "source": "Operational system",
    "delta": "Latest batch",
    "stage": "Stage",
    "work": "Work",
    "dwh": "Stars",
    "etl": "Engine",
}
_VALIDITY = ("valid_from", "valid_to", "is_current")
_ENDS = {"-infinity": "…", "infinity": "now"}
_UNKNOWN_KIND = "ET045"
_HOUSEKEEPING = ("row_xid",)
# Left out where rows stand side by side.
_MARKS = ("created_at", "updated_at", "is_current")


def trace_command(
    context: typer.Context,
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="product, order, customer … or run; any table's name.",
            autocompletion=complete_trace,
        ),
    ],
    key: Annotated[
        list[str],
        typer.Argument(metavar="KEY...", help="Business key; all parts of it, in their order."),
    ],
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Show a business key in every layer, past and present, or what a run did.

    The source row, its mirror, pending keys, every version with its validity and the facts that
    point at it, queue, quarantine, and the runs that wrote them.
    """
    with connect(state.of(context).dsn) as connection:
        tasks: list[Task] = []
        try:
            sections = trace(connection, kind, key, limit)
            if kind.lower() == "run":
                tasks = tasks_of(connection, int(key[0]))
        except psycopg.Error as error:
            if error.sqlstate != _UNKNOWN_KIND:
                raise
            rows = connection.execute("SELECT kind, object FROM etl.trace_kind").fetchall()
            known = {name for row in rows for name in row}
            told = from_database(error)
            told.hint = f"{did_you_mean(kind, known)} {told.hint or ''}".strip()
            raise told from error
    answer = {"kind": kind, "key": key, "sections": [asdict(section) for section in sections]}
    if kind.lower() == "run":
        emit(answer, as_json=as_json, render=lambda _: _render_run(sections, tasks))
    else:
        emit(answer, as_json=as_json, render=lambda _: _render(kind, key, sections))


# -- a key ----------------------------------------------------------------------------------------


def _render(kind: str, key: list[str], sections: list[Section]) -> None:
    console.print(Text(f"{kind} {' '.join(key)}", style="bold"))
    *found, runs = sections
    # Queue and quarantine of every object come together, behind the layers.
    order = list(_TITLES)
    found.sort(key=lambda section: order.index(section.layer))
    for layer, group in groupby(found, key=lambda section: section.layer):
        console.print()
        console.print(Text(_TITLES[layer], style="bold cyan"))
        empty = []
        for section in group:
            if section.rows:
                _render_section(section)
            else:
                empty.append(section.relation)
        if empty:
            nothing = f"  nothing in {', '.join(dict.fromkeys(empty))}"
            console.print(Text(nothing, style="dim"), width=output.readable_width())
    if runs.rows:
        console.print()
        console.print(Text("Runs that wrote this", style="bold cyan"))
        console.print(_runs_table(runs.rows))


def _render_section(section: Section) -> None:
    head = Text("  ")
    head.append(section.relation, style="bold")
    head.append(f"  {section.title}", style="dim")
    console.print(head)
    table = _table(section.rows) if len(section.rows) > 1 and not _is_history(section) else None
    if table is not None:
        console.print(table)
    else:
        before: dict[str, Any] | None = None
        for row in section.rows:
            for line in _entry(row, before if _is_history(section) else None):
                output.print_indented(line, 4, 4)
            before = row
    if section.has_more:
        console.print(Text("    and more; --limit shows them", style="dim"))


def _is_history(section: Section) -> bool:
    """Tell versions of one member, which are read as what changed from one to the next."""
    first = section.rows[0]
    return "valid_from" in first and "valid_to" in first and "key_column" not in first


def _table(rows: list[dict[str, Any]]) -> output.Table | None:
    """Return rows side by side, without what says nothing; None where that is too wide."""
    names = [
        name
        for name in rows[0]
        if name not in (*_HOUSEKEEPING, *_MARKS) and any(row[name] is not None for row in rows)
    ]
    numbers = [
        name for name in names if all(isinstance(row[name], int | float | None) for row in rows)
    ]
    table = output.table(*names, right=numbers, indent=4)
    for row in rows:
        table.add_row(*("" if row[name] is None else _value(row[name]) for name in names))
    return table if table.natural_width <= console.width else None


def _entry(row: dict[str, Any], before: dict[str, Any] | None) -> list[Text]:
    """Return a row as lines of 'name value'; what differs from the version before stands out."""
    hidden: tuple[str, ...] = _HOUSEKEEPING
    mark = Text("· ", style="dim")
    pairs: list[Text] = []
    if "valid_from" in row and "valid_to" in row:
        hidden = (*_HOUSEKEEPING, *_VALIDITY)
        current = row.get("is_current")
        mark = Text("● " if current else "○ ", style="green" if current else "dim")
        validity = f"{_moment(row['valid_from'])} → {_moment(row['valid_to'])}"
        pairs.append(Text(validity, style="bold" if current else ""))
    for name, value in row.items():
        if name in hidden or value is None:
            continue
        changed = before is not None and name in before and before[name] != value
        told = changed and not name.endswith("_key") and name not in ("facts", "run_id")
        pairs.append(
            Text.assemble(
                (f"{output.one_line(name)} ", "dim"),
                (output.one_line(_value(value)), "bold yellow" if told else ""),
            )
        )
    return _flow(mark, pairs, output.readable_width() - 8)  # what print_indented leaves


def _flow(mark: Text, pairs: list[Text], width: int) -> list[Text]:
    """Return pairs one after another in as many lines as it takes; none is broken if it fits."""
    indent = mark.cell_len
    lines = [mark]
    for pair in pairs:
        if indent < lines[-1].cell_len > width - 3 - pair.cell_len:
            lines.append(Text(" " * indent))
        if lines[-1].cell_len > indent:
            lines[-1].append("   ")
        lines[-1].append_text(pair)
    return lines


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value(part)}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(_value(part) for part in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return _moment(value) if value in _ENDS or _is_moment(value) else value
    return plain(value)


def _is_moment(value: str) -> bool:
    if len(value) < 19 or value[10] != "T":
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _moment(value: str | None) -> str:
    """Return a moment as JSON has it for people; infinity reads as an open end."""
    if value in _ENDS or value is None:
        return _ENDS.get(value or "", "")
    found = datetime.fromisoformat(str(value))
    if found.tzinfo is not None:
        with contextlib.suppress(OverflowError):  # the first and the last days that there are
            found = found.astimezone()
    return found.strftime("%Y-%m-%d %H:%M:%S")


def _runs_table(runs: list[dict[str, Any]]) -> output.Table:
    table = output.table(
        "run", "status", "started", "took", "by", "wrote",
        right=("run", "took"), wrap=("wrote",), spare=("by", "took"), indent=2,
    )  # fmt: skip
    for run in runs:
        table.add_row(
            str(run["run_id"]),
            output.status(run["status"]) if run["status"] else Text("pruned", style="dim"),
            _moment(run["started_at"]) if run["started_at"] else "",
            output.seconds(run["seconds"]),
            run["origin"] or "",
            ", ".join(run["wrote"]),
        )
    return table


# -- a run ----------------------------------------------------------------------------------------


def _render_run(sections: list[Section], tasks: list[Task]) -> None:
    run, _, batches, queue, quarantine, checks = sections
    one = run.rows[0]
    head = Text.assemble((f"run {one['run_id']}", "bold"), "  ", output.status(one["status"]))
    head.append(f"  {_moment(one['started_at'])}", style="dim")
    head.append(f"  {output.seconds(one['seconds'])}  by {one['origin']}", style="dim")
    if one["resumed"]:
        head.append(f"  resumed {one['resumed']} times", style="warn")
    console.print(head)
    for name in ("only_tasks", "full_refresh"):
        if one[name]:
            console.print(Text(f"  {name.replace('_', ' ')}: {', '.join(one[name])}", style="dim"))
    console.print()
    console.print(tasks_table(one["run_id"], tasks, show_all=True))
    for task in tasks:
        if task.waits_for or task.message:
            render_fault(task)
    extracted = [row for row in batches.rows if row["rows_extracted"]]
    for number, group in groupby(extracted, key=lambda row: row["batch_id"]):
        told = ", ".join(f"{row['source_table']} {row['rows_extracted']:,}" for row in group)
        told = output.one_line(told)
        console.print()
        console.print(Text.assemble((f"Batch {number}  ", "bold"), told))
    for section in (queue, quarantine):
        if section.rows:
            console.print()
            _render_section(section)
    if checks.rows:
        console.print()
        bad = [row for row in checks.rows if row["status"] != "passed"]
        good = len(checks.rows) - len(bad)
        console.print(Text.assemble(("Checks  ", "bold"), f"{good} of {len(checks.rows)} passed"))
        for row in bad:
            for line in _entry(row, None):
                output.print_indented(line, 2, 4)
