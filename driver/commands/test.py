"""`oceanrecords test`: transformations and generic checks, declared in YAML files.

tests:
  - name: a supplier's name is trimmed
    object: dim_supplier
    given:
      suppliers:
        - {supplier_id: 1, name: "  Acme ", country_code: DE}
    expect:
      - {supplier_id: 1, supplier_name: Acme, country: Germany}

checks:
  - unique: dwh.dim_customer (customer_id, valid_from)
  - not_null: dwh.fact_order (order_id)
  - accepted_values: dwh.dim_product (product_type) in Vinyl, CD
  - relationships: dwh.fact_order (customer_key) -> dwh.dim_customer (customer_key)
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer
from rich.text import Text

from base import output, state
from base.connection import connect
from base.errors import EXIT_ERROR, EXIT_USAGE, UserError, from_database, unknown
from base.mode import mode
from base.options import JsonOption, file_or_folder
from base.output import console, emit, error_console
from driver.rows import plain

EXAMPLES = (
    "Examples: oceanrecords test · oceanrecords test warehouse-tests/dim_supplier.yaml · "
    "oceanrecords test --name 'a supplier*'"
)
FOLDER = "warehouse-tests"
_KEYS = ("name", "object", "given", "expect")
_RULES = ("unique", "not_null", "accepted_values", "relationships")
_TABLE = r"(?P<{0}table>[^()]+?)\s*\((?P<{0}columns>[^()]+)\)"
_CHECK = re.compile(
    _TABLE.format("") + r"\s*(?:in\s+(?P<values>.+)|->\s*" + _TABLE.format("other_") + r")?\s*",
    re.DOTALL,
)
_SHOWN = 5


@dataclass
class Result:
    """The outcome of one test or check.

    Attributes:
        name: what it is called.
        file: where it is declared.
        status: 'passed', 'failed' (it found differences) or 'error' (it could not be run).
        differences: for a test rows that are missing or surplus; for a check violating rows.
        more: how many further rows there are.
        message: why it could not be run.
        seconds: how long it took.
    """

    name: str
    file: str
    status: str
    differences: list[dict[str, Any]] = field(default_factory=list)
    more: int = 0
    message: str | None = None
    hint: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class _Case:
    """A test or a check of a file."""

    name: str
    file: Path
    kind: str  # 'test', or the rule of a check
    content: dict[str, Any]


def run_tests(
    context: typer.Context,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]...",
            parser=file_or_folder,
            help=f"YAML files or folders; {FOLDER} by default.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="PATTERN", help="Only those whose names match: 'a *'."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Test transformations (rows in, expected rows out) and check tables by generic rules.

    A test fills the mirrors with its rows, reads the transformation, and rolls everything back;
    meanwhile these tables are locked. Exit status 1 when anything failed.
    """
    cases = list(_cases(paths or [Path(FOLDER)]))
    if name is not None:
        from fnmatch import fnmatchcase

        cases = [case for case in cases if fnmatchcase(case.name, name)]
        if not cases:
            raise UserError(f'No test or check has a name like "{name}".', exit_code=EXIT_USAGE)
    results = []
    with connect(state.of(context).dsn, application_name="oceanrecords test") as connection:
        for case in cases:
            result = _run(connection, case)
            results.append(result)
            if not as_json:
                _render(result)
    failed = sum(result.status != "passed" for result in results)
    if as_json:
        emit(results, as_json=True, render=lambda _: None)
    else:
        shown_on = error_console if mode.quiet and failed else console
        style = "bad" if failed else "ok"
        shown_on.say(f"[{style}]●[/] {{}}", _summary(len(results), failed))
    if failed:
        raise typer.Exit(EXIT_ERROR)


def _summary(count: int, failed: int) -> str:
    tests = output.plural(count, "test")
    return f"{failed} of {tests} failed" if failed else f"{tests} passed"


# -- files ----------------------------------------------------------------------------------------


def _cases(paths: list[Path]) -> Iterator[_Case]:
    """Read the files.

    Raises:
        UserError: if a path does not exist, a file cannot be read, or nothing is declared.
    """
    found = 0
    for path in paths:
        if not path.exists():
            raise UserError(
                f"{path} does not exist.",
                "Name a YAML file with tests: and checks:, or a folder of such files.",
                EXIT_USAGE,
            )
        files = sorted([*path.rglob("*.yaml"), *path.rglob("*.yml")]) if path.is_dir() else [path]
        for file in files:
            for case in _cases_of(file):
                found += 1
                yield case
    if not found:
        raise UserError(
            f"There are no tests in {', '.join(map(str, paths))}.", exit_code=EXIT_USAGE
        )


def _cases_of(file: Path) -> Iterator[_Case]:
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{file} cannot be read.", detail=str(error).replace("\n", " ")) from error
    if content is None:
        return
    if not isinstance(content, dict):
        raise UserError(f"{file} is not a table of tests and checks.", "Write tests: and checks:.")
    for key in content:
        if key not in ("tests", "checks"):
            raise unknown(f"key of {file}", str(key), ["tests", "checks"])
    for number, one in enumerate(content.get("tests") or [], 1):
        place = f"Test {number} of {file}"
        if not isinstance(one, dict) or not one.get("object"):
            raise UserError(f"{place} has no object.", "Write object: dim_supplier.")
        for key in one:
            if key not in _KEYS:
                raise unknown(f"key of test {number} of {file}", str(key), _KEYS)
        if "expect" not in one:
            raise UserError(f"{place} expects nothing.", "Write expect: and the rows, or [].")
        yield _Case(str(one.get("name") or one["object"]), file, "test", one)
    for number, one in enumerate(content.get("checks") or [], 1):
        place = f"Check {number} of {file}"
        rules = [key for key in one if key in _RULES] if isinstance(one, dict) else []
        if len(rules) != 1 or set(one) - {rules[0], "name"}:
            raise UserError(f"{place} names no single rule.", f"Rules are {', '.join(_RULES)}.")
        rule = rules[0]
        match = _CHECK.fullmatch(str(one[rule]))
        if match is None:
            raise UserError(
                f"{place} cannot be read: {one[rule]}",
                "Write dwh.dim_date (date_key), then 'in a, b' or '-> dwh.dim_date (date_key)'.",
            )
        yield _Case(str(one.get("name") or f"{rule} {one[rule]}"), file, rule, match.groupdict())


# -- running --------------------------------------------------------------------------------------


def _run(connection: psycopg.Connection[Any], case: _Case) -> Result:
    started = time.monotonic()
    result = Result(case.name, str(case.file), "passed")
    try:
        rows = _test(connection, case) if case.kind == "test" else _check(connection, case)
        result.differences, result.more = rows[:_SHOWN], max(len(rows) - _SHOWN, 0)
        if rows:
            result.status = "failed"
    except psycopg.Error as error:
        if connection.closed:
            raise
        told = from_database(error)
        if told.code == "3F000" or "not installed" in told.message:
            raise told from error
        result.status, result.message, result.hint = "error", told.message, told.hint
    result.seconds = round(time.monotonic() - started, 3)
    return result


def _test(connection: psycopg.Connection[Any], case: _Case) -> list[dict[str, Any]]:
    rows = connection.execute(
        "SELECT problem, test_row FROM etl.test_transformation(%s, %s, %s)",
        [
            str(case.content["object"]),
            json.dumps(case.content.get("given") or {}, default=_as_text),
            json.dumps(case.content["expect"] or [], default=_as_text),
        ],
    ).fetchall()
    return [{"problem": problem, "row": row} for problem, row in rows]


def _check(connection: psycopg.Connection[Any], case: _Case) -> list[dict[str, Any]]:
    given = case.content
    row = connection.execute(
        "SELECT etl.check_query(%s, %s, %s, %s, %s, %s)",
        [
            case.kind,
            given["table"].strip(),
            _names(given["columns"]),
            _names(given["values"]),
            given["other_table"].strip() if given["other_table"] else None,
            _names(given["other_columns"]),
        ],
    ).fetchone()
    assert row is not None
    # A check reads, whatever its table is a view of.
    with connection.transaction():
        connection.execute("SET TRANSACTION READ ONLY")
        rows = connection.execute(
            f"SELECT to_jsonb(v) FROM ({row[0]}) AS v LIMIT 1000".encode()  # noqa: S608
        ).fetchall()
    return [{"problem": "violation", "row": one} for (one,) in rows]


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip().strip("'\"") for name in text.split(",")]


def _as_text(value: object) -> str:
    """Return what YAML made a date of as text, which the database casts to the column's type."""
    return value.isoformat() if isinstance(value, date | datetime) else str(value)


def _render(result: Result) -> None:
    sign, style = {"passed": ("✓", "ok"), "failed": ("✗", "bad"), "error": ("!", "bad")}[
        result.status
    ]
    line = Text()
    line.append(f"{sign} ", style=style)
    line.append(output.one_line(result.name))
    line.append(f"  {output.seconds(result.seconds)}", style="dim")
    shown_on = error_console if mode.quiet and result.status != "passed" else console
    shown_on.print(line, soft_wrap=True)
    for one in result.differences:
        told = Text(f"    {one['problem']:<10}", style="warn")
        told.append(output.one_line(plain(one["row"])), style="default")
        shown_on.print(told, soft_wrap=True)
    if result.more:
        shown_on.print(Text(f"    and {result.more:,} more", style="dim"))
    for text in (result.message, result.hint):
        if text:
            shown_on.print(Text(f"    {text}", style="dim"), soft_wrap=True)
