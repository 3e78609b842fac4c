"""`oceanrecords doctor`: is everything there that the warehouse needs, and what to do if not."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import psycopg
import typer
from psycopg import sql
from rich.text import Text

from base import output, state
from base.connection import (
    NEWEST_VERSION,
    OLDEST_VERSION,
    Target,
    connect_to,
    describe,
    readable_version,
    resolve,
)
from base.errors import UserError, from_database
from base.options import FailOption, JsonOption
from base.output import console, emit
from driver import project
from driver.migrate import Migrator
from driver.warehouse import Problem, fetch

EXAMPLES = (
    "Examples: oceanrecords doctor · oceanrecords doctor --json · oceanrecords doctor --no-fail"
)

# Who owns the warehouse; migration engine/0005.security makes it.
_OWNER = "oceanrecords_owner"

Verdict = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        check: what was looked at.
        status: 'ok', 'warning' (works without), or 'failed' (does not work without).
        message: what was found.
        remedy: what to do about it; empty when all is well.
    """

    check: str
    status: Verdict
    message: str
    remedy: str = ""


def doctor(context: typer.Context, fail: FailOption = True, as_json: JsonOption = False) -> None:
    """Check the server, privileges and roles, extensions, migrations and the state of the data.

    Exit status 1 when something is missing that the warehouse cannot do without; unless --no-fail
    is given also when the warehouse is stale, a task or a check failed, or rows have waited too
    long.
    """
    findings = list(examine(state.of(context).dsn, fail=fail is not False))
    emit([asdict(one) for one in findings], as_json=as_json, render=_render)
    if any(one.status == "failed" for one in findings):
        raise typer.Exit(1)


def examine(dsn: str | None, *, fail: bool = True) -> Iterator[Finding]:
    """Yield the findings; the later checks are left out when the server cannot be reached.

    Parameters:
        dsn: the value of `--dsn`.
        fail: whether the state of the data counts as much as the installation.
    """
    try:
        target = resolve(dsn)
        connection = connect_to(target)
    except UserError as error:
        yield Finding("server", "failed", error.message, error.hint or "")
        return
    with connection:
        for check in _CHECKS:
            try:
                yield from check(connection, target)
            except psycopg.Error as error:
                told = from_database(error)
                yield Finding(
                    check.__name__.strip("_").replace("_", " "),
                    "failed",
                    told.message,
                    told.hint or "",
                )
        yield from _health(connection, fail=fail)


def _server(connection: psycopg.Connection, target: Target) -> Iterator[Finding]:
    version = connection.info.server_version
    yield Finding("server", "ok", f"{describe(target)} answers ({target.origin})")
    known = OLDEST_VERSION <= version // 10000 <= NEWEST_VERSION
    yield Finding(
        "version",
        "ok" if known else "warning",
        f"PostgreSQL {readable_version(version)}",
        "" if known else f"Tested on PostgreSQL {OLDEST_VERSION} to {NEWEST_VERSION} only.",
    )
    if _value(connection, "SELECT pg_is_in_recovery()"):
        yield Finding(
            "writable", "failed", "The server is a standby.", "Name the primary with --dsn."
        )


def _rights(connection: psycopg.Connection, _target: Target) -> Iterator[Finding]:
    role, database, may = _row(
        connection,
        "SELECT current_user, current_database(), "
        "has_database_privilege(current_database(), 'CREATE')",
    )
    yield Finding(
        "rights",
        "ok" if may else "failed",
        f"role {role} may {'' if may else 'not '}create schemas in {database}",
        "" if may else f'GRANT CREATE ON DATABASE "{database}" TO "{role}";',
    )


def _role(connection: psycopg.Connection, _target: Target) -> Iterator[Finding]:
    """Yield whether the role may own the warehouse, or make the roles that it needs."""
    role, is_superuser, may_create, belongs = _row(
        connection,
        "SELECT rolname, rolsuper, rolcreaterole, CASE WHEN to_regrole(%(owner)s) IS NOT NULL "
        "THEN pg_has_role(%(owner)s, 'USAGE') END FROM pg_roles WHERE rolname = current_user",
        owner=_OWNER,
    )
    quoted = sql.Identifier(role).as_string()
    if is_superuser:
        yield Finding("role", "ok", f"{role} is a superuser")
    elif belongs:
        users = "may" if may_create else "may not"
        yield Finding("role", "ok", f"{role} belongs to {_OWNER}, and {users} manage users")
    elif belongs is False:
        yield Finding(
            "role",
            "failed",
            f"{role} does not belong to {_OWNER}, which owns the warehouse",
            f"GRANT {_OWNER} TO {quoted};",
        )
    elif may_create:
        yield Finding("role", "ok", f"{role} may create the group roles")
    else:
        yield Finding(
            "role",
            "failed",
            f"{role} may not create the group roles that the warehouse needs",
            f"ALTER ROLE {quoted} CREATEROLE; or migrate as a superuser",
        )


def _permissions(connection: psycopg.Connection, _target: Target) -> Iterator[Finding]:
    """Yield what is wrong with group roles, logins and what everybody may do."""
    if not _value(connection, "SELECT to_regclass('etl.access_flaw') IS NOT NULL"):
        return
    flaws = connection.execute(
        "SELECT is_fatal, problem, remedy FROM etl.access_flaw ORDER BY is_fatal DESC, problem"
    ).fetchall()
    for is_fatal, problem, remedy in flaws:
        yield Finding("permissions", "failed" if is_fatal else "warning", problem, remedy)
    if not flaws:
        yield Finding("permissions", "ok", "group roles are there, nothing is open to everybody")


def _extensions(connection: psycopg.Connection, target: Target) -> Iterator[Finding]:
    major = connection.info.server_version // 10000
    installed, available = _extension(connection, "btree_gist")
    if installed or available:
        yield Finding("btree_gist", "ok", f"{'installed' if installed else 'available'}")
    else:
        yield Finding(
            "btree_gist",
            "failed",
            "The extension is not on the server.",
            f"Install the package postgresql-{major} on Debian and Ubuntu, "
            f"postgresql{major}-contrib on Red Hat.",
        )
    installed, available = _extension(connection, "pg_cron")
    if installed:
        yield Finding("pg_cron", "ok", "installed")
    elif target.embedded:
        yield Finding(
            "pg_cron",
            "ok",
            "not part of the embedded server; `oceanrecords run --every 1m` does its work",
        )
    elif available:
        yield Finding(
            "pg_cron",
            "warning",
            "available, not installed in this database",
            "Optional, for runs on a schedule: shared_preload_libraries = 'pg_cron', "
            "cron.database_name, restart, CREATE EXTENSION pg_cron. "
            "Or `oceanrecords run --every 1m`.",
        )
    else:
        yield Finding(
            "pg_cron",
            "warning",
            "not on the server",
            "Optional, for runs on a schedule. "
            f"Install the package postgresql-{major}-cron on Debian "
            f"and Ubuntu, pg_cron_{major} on Red Hat. "
            "Or `oceanrecords run --every 1m`.",
        )


def _migrations(_connection: psycopg.Connection, target: Target) -> Iterator[Finding]:
    try:
        states = Migrator(target, project.chosen()).states()
    except UserError as error:
        yield Finding("migrations", "failed", error.message, error.hint or "")
        return
    pending = [one.name for one in states if one.applied_at is None]
    if not pending:
        yield Finding("migrations", "ok", f"all {len(states)} applied")
    else:
        yield Finding(
            "migrations",
            "failed",
            f"{len(pending)} of {len(states)} pending, from {pending[0]}",
            "oceanrecords migrate",
        )


def _last_run(connection: psycopg.Connection, _target: Target) -> Iterator[Finding]:
    if not _value(connection, "SELECT to_regclass('etl.run_status') IS NOT NULL"):
        return
    status, age = _row(
        connection,
        "SELECT status, clock_timestamp() - coalesce(ended_at, started_at) FROM etl.run_status "
        "ORDER BY run_id DESC LIMIT 1",
    )
    if status is None:
        yield Finding("last run", "warning", "nothing has been loaded yet", "oceanrecords run")
    elif status in ("succeeded", "running"):
        yield Finding("last run", "ok", f"{status} {output.seconds(age)} ago")
    else:
        yield Finding(
            "last run",
            "warning",
            f"{status} {output.seconds(age)} ago",
            "See `oceanrecords status`, then `oceanrecords run`.",
        )


def _health(connection: psycopg.Connection, *, fail: bool) -> Iterator[Finding]:
    """Yield what the database says is wrong with the data (view etl.problem)."""
    try:
        if not _value(connection, "SELECT to_regclass('etl.problem') IS NOT NULL"):
            return
        problems = fetch(connection, Problem, "ORDER BY kind, object")
        lag, limit = _row(connection, "SELECT age, stale_after FROM etl.staleness")
    except psycopg.Error as error:
        told = from_database(error)
        yield Finding("health", "failed", told.message, told.hint or "")
        return
    for problem in problems:
        yield Finding(
            _HEALTH.get(problem.kind, problem.kind),
            "failed" if fail else "warning",
            problem.message if problem.object is None else f"{problem.object}: {problem.message}",
            problem.remedy,
        )
    if lag is not None and not any(problem.kind == "stale" for problem in problems):
        told_lag = f"complete until {output.seconds(lag)} ago; limit: {output.seconds(limit)}"
        yield Finding("freshness", "ok", told_lag)


_HEALTH = {"stale": "freshness", "run": "tasks", "check": "checks"}


_CHECKS: tuple[Callable[[psycopg.Connection, Target], Iterator[Finding]], ...] = (
    _server,
    _rights,
    _role,
    _extensions,
    _migrations,
    _permissions,
    _last_run,
)


def _extension(connection: psycopg.Connection, name: str) -> tuple[bool, bool]:
    """Return whether an extension is installed here, and whether it could be."""
    installed, available = _row(
        connection,
        "SELECT count(installed_version) > 0, count(*) > 0 FROM pg_available_extensions "
        "WHERE name = %s",
        name,
    )
    return bool(installed), bool(available)


def _row(
    connection: psycopg.Connection, query: str, *parameters: Any, **named: Any
) -> tuple[Any, ...]:
    cursor = connection.execute(query.encode(), named or parameters or None)
    row = cursor.fetchone()
    return row if row is not None else (None,) * len(cursor.description or ())


def _value(connection: psycopg.Connection, query: str) -> Any:
    return _row(connection, query)[0]


def _lines(text: str, indent: int) -> list[str]:
    """Return a text in lines that fit behind an indentation; in one where there is no terminal."""
    if not text or not console.is_terminal:
        return [output.one_line(text)] if text else []
    width = max(console.width - indent, 20)
    return textwrap.wrap(
        output.one_line(text), width, break_long_words=False, break_on_hyphens=False
    )


_MARKS = {"ok": ("✓", "ok"), "warning": ("!", "warn"), "failed": ("✗", "bad")}


def _render(answer: list[dict[str, Any]]) -> None:
    width = max(len(one["check"]) for one in answer) + 2
    for one in answer:
        mark, style = _MARKS[one["status"]]
        line = Text()
        line.append(f"{mark} ", style=style)
        line.append(f"{one['check']:<{width}}")
        for text, tone in ((one["message"], ""), (one["remedy"], "quiet")):
            for part in _lines(text, width + 2):
                line.append(part, tone)
                console.print(line, soft_wrap=True)
                line = Text(" " * (width + 2))
    failed = sum(one["status"] == "failed" for one in answer)
    if failed:
        console.say("\n[bad]{} to repair first[/]", output.plural(failed, "thing"))
    else:
        console.print("\n[ok]Ready[/]")
