"""`oceanrecords kpi`: the views of schema kpi."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

import psycopg
import typer
from psycopg import sql

from base import output, state
from base.connection import connect
from base.errors import EXIT_USAGE, UserError, not_installed, unknown
from base.options import JsonOption, LimitOption, complete_kpi
from base.output import console, emit
from driver.rows import rows_table
from driver.warehouse import rows

EXAMPLES = (
    "Examples: oceanrecords kpi · oceanrecords kpi month --limit 24 · "
    "oceanrecords kpi month --since 2026-01-01 · oceanrecords kpi --define"
)
_OVERVIEW = "overview"
_VIEWS = """
    SELECT
        c.relname AS name,
        obj_description(c.oid, 'pg_class') AS meaning,
        (
            SELECT a.attname
            FROM pg_attribute AS a
            WHERE a.attrelid = c.oid
                AND a.attnum > 0
                AND a.atttypid IN ('date'::regtype, 'timestamptz'::regtype, 'timestamp'::regtype)
            ORDER BY a.attnum
            LIMIT 1
        ) AS time_column,
        ARRAY(
            SELECT a.attname::text
            FROM pg_attribute AS a
            WHERE a.attrelid = c.oid
                AND col_description(c.oid, a.attnum) LIKE '%business currency%'
        ) AS amounts
    FROM pg_class AS c
    WHERE c.relnamespace = to_regnamespace('kpi')
        AND c.relkind IN ('v', 'm')
    -- Figures first, then what explains them.
    ORDER BY c.relname IN ('definition', 'freshness'), c.relname
"""


def kpi(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="One view of schema kpi; the overview by default.",
            autocompletion=complete_kpi,
        ),
    ] = None,
    limit: LimitOption = 12,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="DATE", help="Only rows from this date on: 2026-01-31."),
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", help="Every view.")] = False,
    define: Annotated[
        bool, typer.Option("--define", help="Show the definitions; with a NAME, that one.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the views of schema kpi, newest rows first."""
    if define:
        if since is not None or show_all:
            raise UserError("--define takes neither --since nor --all.", exit_code=EXIT_USAGE)
        _define(context, name, as_json=as_json)
        return
    start = _date(since)
    if name is not None and show_all:
        raise UserError("--all takes no name of a view.", exit_code=EXIT_USAGE)
    with connect(state.of(context).dsn) as connection:
        views = rows(connection, _VIEWS)
        known = [view["name"] for view in views]
        if not known and connection.execute("SELECT to_regnamespace('kpi') IS NULL").fetchone() == (
            True,
        ):
            raise not_installed('schema "kpi" does not exist')
        if name is not None and name not in known:
            raise unknown("KPI", name, known)
        if name is None and not show_all and (start is None or len(known) == 1):
            name = _OVERVIEW if _OVERVIEW in known else None
        chosen = [view for view in views if name is None or view["name"] == name]
        if start is not None:
            chosen = [view for view in chosen if view["time_column"]]
            if not chosen:
                raise UserError(
                    f"--since does not fit KPI {name}: it has no column of dates.",
                    f"These have one: {', '.join(v['name'] for v in views if v['time_column'])}.",
                    EXIT_USAGE,
                )
        decimals = _currency_decimals(connection)
        for view in chosen:
            view["rows"] = rows(connection, _query(view, start, limit + 1))
    amounts = {view["name"]: dict.fromkeys(view["amounts"], decimals) for view in chosen}
    for view in chosen:
        del view["time_column"], view["amounts"]
        view["more"] = len(view["rows"]) > limit
        view["rows"] = view["rows"][:limit]
    emit(
        chosen,
        as_json=as_json,
        render=lambda answer: _render(answer, amounts=amounts, currency_decimals=decimals),
    )
    others = [view for view in known if view != name]
    if not as_json and name == _OVERVIEW and others:
        console.say("\n[quiet]More: oceanrecords kpi {}[/]", " | ".join(others), soft_wrap=False)


def _currency_decimals(connection: psycopg.Connection[Any]) -> int:
    """Return the decimals of amounts in the currency of the warehouse."""
    row = connection.execute(
        "SELECT y.decimals FROM etl.setting AS s JOIN etl.currency AS y ON y.currency = s.value"
        " WHERE s.name = 'currency'"
    ).fetchone()
    return row[0] if row else 2


def _date(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(f"{text}-01" if len(text) == 7 else text)
    except ValueError:
        raise UserError(
            f'--since "{text}" is not a date.', "Write 2026-01-31, or 2026-01.", EXIT_USAGE
        ) from None


def _query(view: dict[str, Any], since: date | None, limit: int) -> sql.Composed:
    name = view["time_column"]
    column = sql.SQL("NULL::date") if name is None else sql.Identifier(name)
    return sql.SQL(
        "SELECT * FROM kpi.{view} WHERE {since}::date IS NULL OR {column} >= {since}::date "
        "ORDER BY {column} DESC NULLS LAST LIMIT {limit}"
    ).format(
        view=sql.Identifier(view["name"]),
        column=column,
        since=sql.Literal(since),
        limit=sql.Literal(limit),
    )


def _define(context: typer.Context, name: str | None, *, as_json: bool) -> None:
    """Print the definitions of the KPIs."""
    with connect(state.of(context).dsn) as connection:
        row = connection.execute("SELECT to_regclass('kpi.definition') IS NULL").fetchone()
        if row == (True,):
            raise not_installed('table "kpi.definition" does not exist')
        known = rows(connection, "SELECT * FROM kpi.definition ORDER BY position")
    answer = [one for one in known if name is None or one["kpi"].casefold() == name.casefold()]
    if not answer:
        raise unknown("figure", str(name), [one["kpi"] for one in known])
    emit(answer, as_json=as_json, render=_render_definitions)


def _render_definitions(answer: list[dict[str, Any]]) -> None:
    for number, one in enumerate(answer):
        if number:
            console.print()
        console.say("[title]{}[/]  [quiet]{}[/]", one["kpi"], one["unit"])
        for title, key in (
            ("Counts", "definition"),
            ("Leaves out", "leaves_out"),
            ("As of", "as_of"),
        ):
            console.say("[quiet]{}:[/] {}", title, one[key], soft_wrap=False)


def _render_overview(overview: list[dict[str, Any]], currency_decimals: int) -> None:
    """Print the columns of the overview that fit on a screen; values common to all rows, once."""
    table = output.table(
        "kpi", "month to date", "last month", "average", "change", "trend",
        right=("month to date", "last month", "average", "change"),
    )  # fmt: skip
    for row in overview:
        change = ""
        if row["growth_percent"] is not None:
            change = f"{row['growth_percent']:+,.1f} %"
        if row["change_points"] is not None:
            change = f"{row['change_points']:+,.2f} pp"
        decimals = 2 if row["unit"] in ("pp", "hours") else currency_decimals
        values = (row["month_to_date"], row["last_month"], row["monthly_average"])
        table.add_row(
            f"{row['kpi']}, {row['unit']}",
            *("" if value is None else f"{value:,.{decimals}f}" for value in values),
            change,
            row["trend"],
        )
    console.print(table)
    for note in dict.fromkeys(row["note"] for row in overview):
        console.say("[quiet]{}[/]", note, soft_wrap=False)
    provisional = [row["kpi"] for row in overview if row["is_provisional"]]
    if provisional:
        words = f"Provisional, for orders may still be lost: {', '.join(provisional)}"
        console.say("[quiet]{}[/]", words, soft_wrap=False)


def _render(
    answer: list[dict[str, Any]], amounts: dict[str, dict[str, int]], currency_decimals: int
) -> None:
    if not answer:
        console.print("There are no KPIs: schema kpi has no views.")
    for number, one in enumerate(answer):
        if number:
            console.print()
        console.say(
            "[title]{}[/]  [quiet]{}[/]", one["name"], one["meaning"] or "", soft_wrap=False
        )
        if not one["rows"]:
            console.print("  [quiet]no rows[/]")
            continue
        if one["name"] == _OVERVIEW:
            _render_overview(one["rows"], currency_decimals)
        else:
            console.print(rows_table(one["rows"], decimals=amounts[one["name"]]))
        if one["more"]:
            shown = output.plural(len(one["rows"]), "row")
            console.say("[quiet]Only the first {}; --limit shows more.[/]", shown)
