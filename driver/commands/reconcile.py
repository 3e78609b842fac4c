"""`oceanrecords reconcile`: compare the warehouse with its source."""

from __future__ import annotations

import json
import threading
from decimal import Decimal
from functools import partial
from typing import Annotated, Any

import psycopg
import typer
from psycopg import sql
from psycopg.types.json import set_json_loads
from rich.text import Text

from base import output, state
from base.connection import Target, connect_to, resolve
from base.errors import EXIT_ERROR
from base.options import ExcludeOption, JsonOption, LimitOption, complete_object
from base.output import console, emit, error_console
from driver.live import RunView
from driver.rows import plain
from driver.run import run as work
from driver.selection import Catalog
from driver.warehouse import rows as warehouse_rows

EXAMPLES = (
    "Examples: oceanrecords reconcile · oceanrecords reconcile fact_order orders · "
    "oceanrecords reconcile --repair · oceanrecords reconcile --slices 7 --workers 2"
)
# Source, dimensions, facts, aggregates, queue: each may need a round after the one before it.
_ROUNDS = 8
_SIGNS = {"equal": ("✓", "ok"), "different": ("✗", "bad"), "skipped": ("-", "warn")}
_KINDS = {"missing": "is missing", "surplus": "should not be there", "different": "differs"}

# What the engine compares besides the objects of the catalog.
_ENTRIES = ("reprocessing_queue", "quarantine")
_DIFFERENCES = (
    "SELECT kind, row_key, columns, expected, actual FROM etl.reconciliation_difference "
    "WHERE reconciliation_id = %s AND object = %s ORDER BY difference_id LIMIT %s"
)
# Keys and values of rows are for stewards: a service sees which columns differ.
_WITHOUT_VALUES = _DIFFERENCES.replace("row_key, columns, expected, actual", "columns")


def reconcile(
    context: typer.Context,
    objects: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SELECTOR]...",
            help="Source tables, dimensions, facts, aggregates (see `ls`); all by default.",
            autocompletion=complete_object,
        ),
    ] = None,
    exclude: ExcludeOption = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Load what differs by runs, upstream first, until everything agrees.",
        ),
    ] = False,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=64, help="Connections that share the objects.")
    ] = 1,
    slices: Annotated[
        int,
        typer.Option(
            "--slices",
            min=1,
            max=1000,
            help="Compare the next of so many slices of the keys; as many calls compare "
            "everything. Saves comparisons, not reading.",
        ),
    ] = 1,
    limit: LimitOption = 10,
    as_json: JsonOption = False,
) -> None:
    """Compare source, stage and stars by counts, sums and checksums, and name what differs.

    Rows that changed in the source after the last run are left out, and counted. Exit status 1 if
    something differs (after the repair, with --repair), could not be compared, or is pending.
    """
    target = resolve(state.of(context).dsn)
    objects = _objects(target, objects or [], exclude or [])
    answer = _once(target, objects, limit, workers, slices)
    before, rounds = answer, 0
    while repair and answer["differences"] and rounds < _ROUNDS:
        if not as_json:
            _render(answer)
            console.print()
        handed_over, may_run = _repair(target, answer["reconciliation_id"])
        if not handed_over:
            break
        rounds += 1
        shown_on = error_console if as_json else console
        if not may_run:
            # A steward asks for repairs; the service that loads the warehouse makes them.
            answer["repair"] = {"run": None, "before": before, "rounds": 0}
            shown_on.say(
                "[title]Repair[/]  the next run loads {}: this login may not start one",
                output.plural(handed_over, "difference"),
            )
            break
        shown_on.say(
            "[title]Repair[/]  {} handed to a run", output.plural(handed_over, "difference")
        )
        with RunView(shown_on, brief=True) as view:
            outcome = work(target, origin="repair", follow=view.follow)
        last = answer
        answer = _once(target, objects, limit, workers, 1)
        answer["repair"] = {"run": outcome.run, "before": before, "rounds": rounds}
        if not as_json:
            console.print()
        if _found(answer) == _found(last):
            break
    emit(answer, as_json=as_json, render=_render)
    if answer["status"] != "equal":
        raise typer.Exit(EXIT_ERROR)


def _objects(target: Target, selectors: list[str], exclude: list[str]) -> list[str] | None:
    """Return the objects to compare; None for all."""
    if not selectors and not exclude:
        return None
    with connect_to(target) as connection:
        catalog = Catalog.read(connection)
        if not exclude and {*selectors} <= {*catalog.objects, *_ENTRIES}:
            return selectors
        return catalog.select(selectors, exclude)


def _found(answer: dict[str, Any]) -> list[tuple[str, int]]:
    """Return what a reconciliation found, to see whether a repair changed anything."""
    return [(one["object"], one["differences"]) for one in answer["comparisons"]]


def _once(
    target: Target, objects: list[str] | None, limit: int, workers: int, slices: int
) -> dict[str, Any]:
    """Reconcile, and return the whole answer with the first differences of each object."""
    with connect_to(target, application_name="oceanrecords reconcile") as connection:
        with error_console.status("comparing source, stage and stars"):
            reconciliation_id = _share(target, connection, objects, workers, slices)
        # Values are compared as they are stored: 1.0 is another one than 1.00.
        set_json_loads(partial(json.loads, parse_float=Decimal), connection)
        answer = warehouse_rows(
            connection,
            "SELECT * FROM etl.reconciliation WHERE reconciliation_id = %s",
            reconciliation_id,
        )[0]
        answer["comparisons"] = warehouse_rows(
            connection,
            "SELECT * FROM etl.reconciliation_object WHERE reconciliation_id = %s "
            "ORDER BY position, object",
            reconciliation_id,
        )
        may_see = connection.execute(
            "SELECT has_column_privilege('etl.reconciliation_difference', 'row_key', 'SELECT')"
        ).fetchone()
        rows = _DIFFERENCES if may_see == (True,) else _WITHOUT_VALUES
        for one in answer["comparisons"]:
            one["rows"] = warehouse_rows(connection, rows, reconciliation_id, one["object"], limit)
    return answer


def _share(
    target: Target,
    connection: psycopg.Connection,
    objects: list[str] | None,
    workers: int,
    slices: int,
) -> int:
    """Reconcile with several connections on one snapshot; return the reconciliation."""
    row = connection.execute(
        "SELECT etl.begin_reconciliation(%s, %s)", [objects or None, slices]
    ).fetchone()
    reconciliation_id = int(row[0]) if row else 0
    errors: list[Exception] = []
    snapshot = ""

    def compare() -> None:
        """Compare objects on the snapshot until none is left."""
        query = "SELECT etl.compare_next_object(%s)"
        try:
            with connect_to(target, application_name="oceanrecords reconcile") as own:
                compared: Any = True
                while compared:
                    with own.transaction():
                        own.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                        own.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot))
                        (compared,) = own.execute(query, [reconciliation_id]).fetchone() or (None,)
        except Exception as error:
            errors.append(error)

    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        (snapshot,) = connection.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
        threads = [
            threading.Thread(target=compare, name="oceanrecords reconcile", daemon=True)
            for _ in range(workers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    connection.execute("SELECT etl.end_reconciliation(%s)", [reconciliation_id])
    return reconciliation_id


def _repair(target: Target, reconciliation_id: int) -> tuple[int, bool]:
    """Hand differences to the next run; return how many, and whether this login may start it."""
    with connect_to(target) as connection:
        row = connection.execute(
            "SELECT etl.repair(%s), bool_or(has_function_privilege(p.oid, 'EXECUTE')) "
            "FROM pg_proc AS p "
            "WHERE p.pronamespace = 'etl'::regnamespace AND p.proname = 'start_run'",
            [reconciliation_id],
        ).fetchone()
    return (int(row[0]), bool(row[1])) if row else (0, False)


def _render(answer: dict[str, Any]) -> None:
    console.print(_table(answer))
    for one in answer["comparisons"]:
        if one["message"]:
            console.print(Text(f"  {one['object']}: {one['message']}", style="dim"), soft_wrap=True)
    for one in answer["comparisons"]:
        if one["differences"]:
            console.print()
            _render_differences(one)
    console.print()
    style, words = {
        "equal": ("ok", _agreed(answer)),
        "different": ("bad", _told(answer["differences"]) + _also(answer["left_out"])),
        "incomplete": ("warn", _incomplete(answer)),
    }[answer["status"]]
    took = output.seconds(answer["ended_at"] - answer["started_at"])
    console.say(
        f"[{style}]●[/] Reconciliation {{}}: {{}}, {{}}", answer["reconciliation_id"], words, took
    )
    if answer["status"] == "different" and "repair" not in answer:
        console.print("  [quiet]To load them again, run: oceanrecords reconcile --repair[/]")


_REASONS = {
    "changed": "changed since the last run",
    "quarantined": "in quarantine",
    "forgotten": "with personal data replaced",
    "pending": "pending, which the next run loads",
    "following": "following from a difference upstream",
    "unlogged": "of past versions that no log of the source confirms",
}


def _left_out(counts: dict[str, int]) -> list[str]:
    return [
        f"{output.plural(counts[reason], 'row')} {words}"
        for reason, words in _REASONS.items()
        if counts.get(reason)
    ]


def _also(counts: dict[str, int]) -> str:
    left_out = _left_out(counts)
    return f"; left out: {', '.join(left_out)}" if left_out else ""


def _agreed(answer: dict[str, Any]) -> str:
    """Say that everything agrees, and in the same sentence what that does not include."""
    words = "source, stage and stars agree"
    if answer["slices"] > 1:
        words = f"slice {answer['slice'] + 1} of {answer['slices']} agrees"
    elif answer["objects"]:
        names = answer["objects"]
        words = f"{', '.join(names)} {'agrees' if len(names) == 1 else 'agree'}"
    left_out = _left_out(answer["left_out"])
    return words + (f", except {', '.join(left_out)}" if left_out else "")


def _incomplete(answer: dict[str, Any]) -> str:
    skipped = sum(one["status"] == "skipped" for one in answer["comparisons"])
    words = "nothing differs"
    if skipped:
        words = f"{output.plural(skipped, 'object')} could not be compared"
    return words + _also(answer["left_out"])


def _table(answer: dict[str, Any]) -> output.Table:
    table = output.table(
        "comparison", "object", "", "rows", "instead of", "differ", "left out", "sums", "took",
        title=f"Reconciliation {answer['reconciliation_id']}",
        right=("instead of", "differ"), wrap=("sums",), spare=("took", "sums"),
        quiet=("comparison", "left out"),
    )  # fmt: skip
    before = None
    for one in answer["comparisons"]:
        sign, style = _SIGNS[one["status"]]
        unequal = one["expected_rows"] != one["actual_rows"]
        table.add_row(
            "" if one["comparison"] == before else one["comparison"],
            one["object"],
            Text(sign, style=style),
            one["actual_rows"],
            one["expected_rows"] if unequal else "",
            Text(output.shown(one["differences"]), style="bad" if one["differences"] else "dim"),
            one["ignored_rows"],
            _sums(one),
            output.duration(one["seconds"]),
        )
        before = one["comparison"]
    return table


def _sum(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:,}"  # JSON has no number NaN


def _sums(one: dict[str, Any]) -> Text:
    """Return the sums as they are, with what they should be where that differs."""
    text = Text(style="dim")
    expected = one["expected_sums"] or {}
    for name, value in (one["actual_sums"] or {}).items():
        text.append(("" if not text else ", ") + f"{name} {_sum(value)}")
        if name in expected and expected[name] != value:
            text.append(f" instead of {_sum(expected[name])}", style="bad")
    return text


def _render_differences(one: dict[str, Any]) -> None:
    console.say("[title]{}[/]  [bad]{}[/]", one["object"], _told(one["differences"]))
    for row in one["rows"]:
        if "row_key" not in row:
            columns = ", ".join(row["columns"])
            console.say("  a row {}", f"{_KINDS[row['kind']]}: {columns}".removesuffix(": "))
            continue
        line = Text(f"  {plain(row['row_key'])} ")
        line.append(_KINDS[row["kind"]], style="bad")
        if row["kind"] == "different":
            for column in row["columns"]:
                line.append(f"\n    {column}: ", style="dim")
                line.append(plain(row["actual"][column]), style="bad")
                line.append(" instead of ", style="dim")
                line.append(plain(row["expected"][column]), style="ok")
        else:
            whole = row["expected"] or row["actual"]
            rest = {name: value for name, value in whole.items() if name not in row["row_key"]}
            line.append(f"\n    {plain(rest)}", style="dim")
        console.print(line, soft_wrap=True)
    if one["rows"] and "row_key" not in one["rows"][0]:
        console.print("  [quiet]level steward sees keys and values[/]")
    hidden = one["differences"] - len(one["rows"])
    if hidden:
        console.say("  [quiet]{} more; --limit shows more of them[/]", f"{hidden:,}")


def _told(differences: int) -> str:
    return f"{differences:,} rows differ" if differences != 1 else "1 row differs"
