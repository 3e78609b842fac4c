"""`oceanrecords check`: results of the data quality checks."""

from __future__ import annotations

from typing import Annotated

import psycopg
import typer
from rich.text import Text

from base import output, state
from base.connection import connect
from base.errors import EXIT_ERROR, EXIT_USAGE, UserError, unknown
from base.options import FailOption, JsonOption, complete_check
from base.output import console, emit
from driver.rows import plain
from driver.warehouse import Check, Problem, fetch

EXAMPLES = (
    "Examples: oceanrecords check · oceanrecords check --all · "
    "oceanrecords check --name totals_equal_source"
)


def check(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            metavar="CHECK",
            help="Run this check now; may be repeated.",
            autocompletion=complete_check,
        ),
    ] = None,
    do_all: Annotated[bool, typer.Option("--all", help="Run all checks now.")] = False,
    fail: FailOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the latest results of the quality checks, or run them now.

    Exit status 1 if a check of severity fail did not pass; with --fail also if the warehouse is
    stale, a task failed, or rows have waited too long.
    """
    if names and do_all:
        raise UserError("--all takes no --name.", exit_code=EXIT_USAGE)
    with connect(state.of(context).dsn) as connection:
        if names or do_all:
            _run(connection, names)
        answer = fetch(
            connection,
            Check,
            "WHERE check_name = ANY (coalesce(%s, ARRAY[check_name])) "
            "ORDER BY severity, check_name",
            names,
        )
        problems = fetch(connection, Problem, "WHERE kind <> 'check'") if fail else []
    emit(answer, as_json=as_json, render=_render)
    if any(one.severity == "fail" and one.status in ("failed", "error") for one in answer):
        raise typer.Exit(EXIT_ERROR)
    if problems:
        if not as_json:
            for problem in problems:
                console.say(
                    "[bad]![/] {}: {} [quiet]{}[/]", problem.kind, problem.message, problem.remedy
                )
        raise typer.Exit(EXIT_ERROR)


def _run(connection: psycopg.Connection, names: list[str] | None) -> None:
    known = [row[0] for row in connection.execute("SELECT check_name FROM etl.quality_check")]
    for name in names or []:
        if name not in known:
            raise unknown("check", name, known, lists="oceanrecords check")
    connection.execute("SELECT etl.run_checks(%s)", [names])


def _render(answer: list[Check]) -> None:
    if not answer:
        console.print("There are no checks. [quiet]Each is one row of etl.quality_check.[/]")
        return
    console.print(_table(answer))
    for one in answer:
        if one.status in ("failed", "error"):
            console.print()
            _explain(one)
    console.print()
    console.print(_summary(answer))


def _table(answer: list[Check]) -> output.Table:
    table = output.table(
        "", "check", "severity", "holds when", "violations", "took", "at", "every",
        title="Quality checks", wrap=("holds when",),
        spare=("every", "at", "took", "severity"), quiet=("severity", "holds when", "every"),
    )  # fmt: skip
    for one in answer:
        table.add_row(
            output.mark(one.status or "pending"),
            Text(one.check_name, style="" if one.is_enabled else "dim"),
            one.severity,
            one.description,
            one.violations,
            output.duration(one.seconds),
            one.checked_at or Text("never", style="yellow"),
            _every(one),
        )
    return table


def _every(one: Check) -> str:
    if not one.is_enabled:
        return "disabled"
    every = one.run_every
    return output.seconds(every) if every else "run"


def _explain(one: Check) -> None:
    """Say what a check found: its error, or the first violating rows."""
    style = "bad" if one.severity == "fail" else "warn"
    line = Text(one.check_name, style=style)
    if one.status == "error":
        line.append(f"  its query cannot be executed: {one.message}", style="default")
        console.print(line, soft_wrap=True)
        return
    line.append(f"  {output.plural(one.violations or 0, 'violating row')}", style="default")
    console.print(line)
    for row in one.sample or []:
        console.print(Text(f"  {plain(row)}", style="dim"), soft_wrap=True)
    hidden = (one.violations or 0) - len(one.sample or [])
    if hidden:
        console.say("  [quiet]{} more: oceanrecords sql check:quality[/]", f"{hidden:,}")


def _summary(answer: list[Check]) -> Text:
    bad = [one for one in answer if one.status in ("failed", "error")]
    severe = sum(one.severity == "fail" for one in bad)
    never = sum(one.status is None for one in answer)
    passed = len(answer) - len(bad) - never
    text = Text("● ", style="bad" if severe else "warn" if bad else "ok")
    text.append(f"{passed} of {output.plural(len(answer), 'check')} passed", style="default")
    if bad:
        text.append(f", {severe} failed, {len(bad) - severe} warned", style="default")
    if never:
        text.append(f", {never} never run: oceanrecords check --all, or a run", style="default")
    return text
