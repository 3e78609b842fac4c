"""`oceanrecords reconcile`: does the warehouse hold what the source holds."""

from __future__ import annotations

import json
from typing import Annotated, Any

import psycopg
import typer
from psycopg.rows import dict_row
from rich.text import Text

from driver import output, state
from driver.commands.options import MOST_ROWS, ExcludeOption, JsonOption, complete_object
from driver.connection import Target, connect_to, resolve
from driver.errors import EXIT_ERROR, from_database, suggest
from driver.live import RunView
from driver.output import console, emit, error_console
from driver.run import run as work
from driver.selection import Catalog, is_plain

EXAMPLES = (
    "Examples: oceanrecords reconcile · oceanrecords reconcile fact_order orders · "
    "oceanrecords reconcile --repair"
)
_SIGNS = {"equal": ("✓", "ok"), "different": ("✗", "bad"), "skipped": ("-", "warn")}
_KINDS = {"missing": "is missing", "surplus": "should not be there", "different": "differs"}


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
        typer.Option("--repair", help="Load what differs again by a run, then compare once more."),
    ] = False,
    limit: Annotated[
        int,
        typer.Option(
            "--limit", min=1, max=MOST_ROWS, help="Differing rows of each object to show."
        ),
    ] = 10,
    as_json: JsonOption = False,
) -> None:
    """Compare source, stage and stars by counts, sums and checksums, and name what differs.

    What changed in the source after the last run is left out. Exit status 1 when something differs
    (after the repair, if one was asked for) or could not be compared.
    """
    target = resolve(state.of(context).dsn)
    objects = _objects(target, objects or [], exclude or [])
    answer = _once(target, objects, limit)
    if repair and answer["differences"]:
        if not as_json:
            _render(answer)
            console.print()
        handed_over = _repair(target, answer["reconciliation_id"])
        shown_on = error_console if as_json else console
        shown_on.say(
            "[title]Repair[/]  {} handed to a run", output.plural(handed_over, "difference")
        )
        with RunView(shown_on, brief=True) as view:
            outcome = work(target, origin="repair", follow=view.follow)
        before, answer = answer, _once(target, objects, limit)
        answer["repair"] = {"run": outcome.run, "before": before}
        if not as_json:
            console.print()
    emit(answer, as_json=as_json, render=_render)
    if answer["status"] != "equal":
        raise typer.Exit(EXIT_ERROR)


def _objects(target: Target, selectors: list[str], exclude: list[str]) -> list[str] | None:
    """Return the objects to compare; None for all."""
    if not selectors and not exclude:
        return None
    with connect_to(target) as connection:
        catalog = Catalog.read(connection)
        if not exclude and all(map(is_plain, selectors)):
            wrong = next((name for name in selectors if name not in catalog.objects), None)
            if wrong is None:
                return selectors
            # The engine says which objects can be compared.
            try:
                connection.execute("CALL etl.reconcile(%s, NULL)", [[wrong]])
            except psycopg.Error as error:
                raise suggest(from_database(error), wrong, catalog.objects) from error
        return catalog.select(selectors, exclude)


def _once(target: Target, objects: list[str] | None, limit: int) -> dict[str, Any]:
    """Reconcile, and return the whole answer with the first differences of each object."""
    with connect_to(target, application_name="oceanrecords reconcile") as connection:
        with error_console.status("comparing source, stage and stars"):
            row = connection.execute("CALL etl.reconcile(%s, NULL)", [objects or None]).fetchone()
        reconciliation_id = row[0] if row else None
        answer = _rows(
            connection,
            "SELECT * FROM etl.reconciliation WHERE reconciliation_id = %s",
            reconciliation_id,
        )[0]
        answer["comparisons"] = _rows(
            connection,
            "SELECT o.* FROM etl.reconciliation_object AS o LEFT JOIN etl.task AS t "
            "ON t.object = o.object AND t.kind IN ('stage', 'dimension', 'fact', 'aggregate') "
            "WHERE o.reconciliation_id = %s ORDER BY t.position",
            reconciliation_id,
        )
        for one in answer["comparisons"]:
            one["rows"] = _rows(
                connection,
                "SELECT kind, row_key, columns, expected, actual "
                "FROM etl.reconciliation_difference "
                "WHERE reconciliation_id = %s AND object = %s ORDER BY difference_id LIMIT %s",
                reconciliation_id,
                one["object"],
                limit,
            )
    return answer


def _repair(target: Target, reconciliation_id: int) -> int:
    with connect_to(target) as connection:
        row = connection.execute("SELECT etl.repair(%s)", [reconciliation_id]).fetchone()
    return int(row[0]) if row else 0


def _rows(connection: psycopg.Connection, query: str, *parameters: Any) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query.encode(), parameters).fetchall()


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
        "equal": ("ok", "source, stage and stars agree"),
        "different": ("bad", _told(answer["differences"])),
        "incomplete": ("warn", "nothing differs, but not everything could be compared"),
    }[answer["status"]]
    took = output.seconds(answer["ended_at"] - answer["started_at"])
    console.say(
        f"[{style}]●[/] Reconciliation {{}}: {{}}, {{}}", answer["reconciliation_id"], words, took
    )
    if answer["status"] == "different" and "repair" not in answer:
        console.print("  [quiet]oceanrecords reconcile --repair loads them again[/]")


def _table(answer: dict[str, Any]) -> output.Table:
    table = output.table(
        "comparison", "object", "", "rows", "instead of", "differ", "left out", "sums", "took",
        title=f"Reconciliation {answer['reconciliation_id']}",
        right=("rows", "instead of", "differ", "left out", "took"),
        wrap=("sums",), spare=("took", "sums"),
    )  # fmt: skip
    before = None
    for one in answer["comparisons"]:
        sign, style = _SIGNS[one["status"]]
        unequal = one["expected_rows"] != one["actual_rows"]
        table.add_row(
            Text("" if one["comparison"] == before else one["comparison"], style="dim"),
            one["object"],
            Text(sign, style=style),
            output.number(one["actual_rows"]),
            output.number(one["expected_rows"]) if unequal else "",
            Text(output.number(one["differences"]), style="bad" if one["differences"] else "dim"),
            Text(output.number(one["ignored_rows"]), style="dim"),
            _sums(one),
            output.seconds(one["seconds"]),
        )
        before = one["comparison"]
    return table


def _sums(one: dict[str, Any]) -> Text:
    """Return the sums as they are, with what they should be where that differs."""
    text = Text(style="dim")
    expected = one["expected_sums"] or {}
    for name, value in (one["actual_sums"] or {}).items():
        text.append(("" if not text else ", ") + f"{name} {value:,}")
        if name in expected and expected[name] != value:
            text.append(f" instead of {expected[name]:,}", style="bad")
    return text


def _render_differences(one: dict[str, Any]) -> None:
    console.say("[title]{}[/]  [bad]{}[/]", one["object"], _told(one["differences"]))
    for row in one["rows"]:
        key = ", ".join(f"{name} {value}" for name, value in row["row_key"].items())
        line = Text(f"  {key} ")
        line.append(_KINDS[row["kind"]], style="bad")
        if row["kind"] == "different":
            for column in row["columns"]:
                line.append(f"\n    {column}: ", style="dim")
                line.append(_value(row["actual"][column]), style="bad")
                line.append(" instead of ", style="dim")
                line.append(_value(row["expected"][column]), style="ok")
        else:
            whole = row["expected"] or row["actual"]
            rest = {name: value for name, value in whole.items() if name not in row["row_key"]}
            line.append(f"\n    {_value(rest)}", style="dim")
        console.print(line, soft_wrap=True)
    hidden = one["differences"] - len(one["rows"])
    if hidden:
        console.say("  [quiet]{} more; --limit shows more of them[/]", f"{hidden:,}")


def _told(differences: int) -> str:
    return f"{differences:,} rows differ" if differences != 1 else "1 row differs"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value(part)}" for name, part in value.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
