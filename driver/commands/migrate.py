"""`oceanrecords migrate`: bring the database's objects up to date, or back."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from base import output, state
from base.connection import describe, resolve
from base.errors import UserError
from base.options import JsonOption
from base.output import console, emit
from driver import project
from driver.migrate import INSTALLING, Migrator

EXAMPLES = (
    "Examples: oceanrecords migrate · oceanrecords migrate --list · "
    "oceanrecords --project northwind migrate · oceanrecords migrate --rollback"
)


def migrate(
    context: typer.Context,
    show_list: Annotated[
        bool, typer.Option("--list", help="Show the migrations, and change nothing.")
    ] = False,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="MIGRATION", help="Stop after this one (its beginning will do)."
        ),
    ] = None,
    rollback: Annotated[
        bool,
        typer.Option(
            "--rollback",
            help="Undo the latest migration, or all after --to. Refused where data would be lost.",
        ),
    ] = False,
    optional: Annotated[
        str | None,
        typer.Option(
            "--optional",
            metavar="NAME",
            help="Apply just this one, which is off by default: citus spreads the warehouse over "
            "a cluster.",
        ),
    ] = None,
    engine_only: Annotated[
        bool,
        typer.Option(
            "--engine-only",
            help="Install the engine without any business. The database stays so until a "
            "--project is named.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Apply the pending migrations, then install the current routines.

    Engine and business have their own migrations. A database holds one business: the one of
    --project, or OceanRecords. Each migration is one transaction: one that fails leaves no trace.
    The command is idempotent.
    """
    if show_list and (to or rollback):
        raise UserError("--list goes alone.", "Leave out --to and --rollback.", exit_code=2)
    if optional is not None and (show_list or to or rollback):
        raise UserError("--optional goes alone.", "Leave out the other options.", exit_code=2)
    if to is not None:
        state.needs(to, "--to")
    target = resolve(state.of(context).dsn)
    migrator = Migrator(target, project.chosen(state.of(context).project), engine_only=engine_only)
    if show_list:
        answer = [
            {
                "migration": one.name,
                "status": "applied" if one.applied_at else "pending",
                "applied_at": one.applied_at,
                "reversible": one.reversible,
                "summary": one.summary,
            }
            for one in migrator.states()
        ]
        emit(answer, as_json=as_json, render=_render_list)
        return

    def waiting() -> None:
        if not as_json:
            console.print("[quiet]waiting for another migration of this database …[/]")

    if optional is not None:
        migrator.apply_optional(optional, on_wait=waiting)
        emit(
            {"applied": [optional]},
            as_json=as_json,
            render=lambda _: console.say("[ok]✓[/] {} [quiet]applied[/]", optional),
        )
        return

    action = migrator.roll_back if rollback else migrator.apply
    if as_json:
        output.print_json({"rolled_back" if rollback else "applied": action(until=to)})
        return
    with console.status("Looking at the database …") as spinner:
        verb = "Undoing" if rollback else "Applying"
        done = action(
            until=to,
            on_start=lambda name: spinner.update(
                "Installing routines …" if name == INSTALLING else f"{verb} {name} …"
            ),
            on_wait=waiting,
        )
    for name in done:
        console.say("[ok]✓[/] {} [quiet]{}[/]", name, "undone" if rollback else "applied")
    if rollback:
        if not done:
            console.print("Nothing to undo.")
    else:
        outcome = (
            f"{len(done)} migration{'s' if len(done) != 1 else ''} applied"
            if done
            else "Up to date"
        )
        routines = "" if to else ", routines installed"
        console.say("{}{} [quiet]({})[/]", outcome, routines, describe(target))


def _render_list(answer: list[dict[str, Any]]) -> None:
    table = output.table(
        "migration", "status", "applied", "undo", "what it does",
        wrap=("what it does",), spare=("undo", "applied"),
    )  # fmt: skip
    for one in answer:
        status = output.status(one["status"])
        table.add_row(
            one["migration"], status, one["applied_at"], one["reversible"], one["summary"]
        )
    console.print(table)
