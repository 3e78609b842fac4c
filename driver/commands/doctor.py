"""`oceanrecords doctor`: whether the warehouse has what it needs, and whether its data are sound.

What must be known before the warehouse is installed is judged here; the rest are rows of views.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, cast

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
from driver.warehouse import Health, fetch

EXAMPLES = (
    "Examples: oceanrecords doctor · oceanrecords doctor --json · oceanrecords doctor --no-fail"
)

# The group role that owns the warehouse; migration engine/0005.security creates it.
_OWNER = "oceanrecords_owner"

Verdict = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        check: what was checked.
        status: 'ok', 'warning' (works without), or 'failed' (does not work without).
        message: what was found.
        remedy: the way out; empty if all is well.
    """

    check: str
    status: Verdict
    message: str
    remedy: str = ""


def doctor(context: typer.Context, fail: FailOption = True, as_json: JsonOption = False) -> None:
    """Check the server, privileges and roles, extensions, migrations and the state of the data.

    Exit status 1 if the warehouse cannot work; also, unless --no-fail is given, if it is stale, a
    task or a check failed, or rows have waited too long.
    """
    given = state.of(context)
    findings = list(examine(given.dsn, given.project, fail=fail is not False))
    emit([asdict(one) for one in findings], as_json=as_json, render=_render)
    if any(one.status == "failed" for one in findings):
        raise typer.Exit(1)


def examine(dsn: str | None, option: str | None = None, *, fail: bool = True) -> Iterator[Finding]:
    """Yield the findings; only the first if the server cannot be reached.

    Parameters:
        dsn: the value of `--dsn`.
        option: the value of `--project`.
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
                for one in check(connection, target, option):
                    softened = check is _health and not fail and one.status == "failed"
                    yield replace(one, status="warning") if softened else one
            except psycopg.Error as error:
                told = from_database(error)
                name = check.__name__.strip("_")
                yield Finding(name, "failed", told.message, told.hint or "")


def _server(
    connection: psycopg.Connection, target: Target, _option: str | None
) -> Iterator[Finding]:
    version = connection.info.server_version
    yield Finding("server", "ok", f"{describe(target)} answers ({target.origin})")
    known = OLDEST_VERSION <= version // 10000 <= NEWEST_VERSION
    yield Finding(
        "version",
        "ok" if known else "warning",
        f"PostgreSQL {readable_version(version)}",
        "" if known else f"Tested on PostgreSQL {OLDEST_VERSION} to {NEWEST_VERSION} only.",
    )
    if _row(connection, "SELECT pg_is_in_recovery()")[0]:
        yield Finding(
            "writable", "failed", "The server is a standby.", "Name the primary with --dsn."
        )


def _role(
    connection: psycopg.Connection, _target: Target, _option: str | None
) -> Iterator[Finding]:
    """Yield whether the role may create schemas, and own the warehouse or create its roles."""
    role, is_superuser, can_create_roles, is_owner, database, can_create = _row(
        connection,
        "SELECT rolname, rolsuper, rolcreaterole, CASE WHEN to_regrole(%(owner)s) IS NOT NULL "
        "THEN pg_has_role(%(owner)s, 'USAGE') END, current_database(), "
        "has_database_privilege(current_database(), 'CREATE') "
        "FROM pg_roles WHERE rolname = current_user",
        {"owner": _OWNER},
    )
    quoted = sql.Identifier(role).as_string()
    yield Finding(
        "rights",
        "ok" if can_create else "failed",
        f"role {role} may {'' if can_create else 'not '}create schemas in {database}",
        "" if can_create else f'GRANT CREATE ON DATABASE "{database}" TO {quoted};',
    )
    message, remedy = f"{role} may create the group roles", ""
    if is_superuser:
        message = f"{role} is a superuser"
    elif is_owner:
        users = "may" if can_create_roles else "may not"
        message = f"{role} is a member of {_OWNER}, and {users} manage users"
    elif is_owner is False:
        message = f"{role} is not a member of {_OWNER}, which owns the warehouse"
        remedy = f"GRANT {_OWNER} TO {quoted};"
    elif not can_create_roles:
        message = f"{role} may not create the group roles that the warehouse needs"
        remedy = f"ALTER ROLE {quoted} CREATEROLE; or migrate as a superuser"
    yield Finding("role", "failed" if remedy else "ok", message, remedy)


def _extensions(
    connection: psycopg.Connection, target: Target, _option: str | None
) -> Iterator[Finding]:
    major = connection.info.server_version // 10000
    found: dict[str, bool] = dict(
        connection.execute(
            "SELECT name, installed_version IS NOT NULL FROM pg_available_extensions "
            "WHERE name IN ('btree_gist', 'pg_cron')"
        ).fetchall()
    )
    if "btree_gist" in found:
        yield Finding("btree_gist", "ok", "installed" if found["btree_gist"] else "available")
    else:
        yield Finding(
            "btree_gist",
            "failed",
            "The extension is not on the server.",
            f"Install the package postgresql-{major} on Debian and Ubuntu, "
            f"postgresql{major}-contrib on Red Hat.",
        )
    every = "`oceanrecords run --every 1m`"
    if found.get("pg_cron"):
        yield Finding("pg_cron", "ok", "installed")
    elif target.embedded:
        yield Finding("pg_cron", "ok", f"not part of the embedded server; {every} replaces it")
    elif "pg_cron" in found:
        yield Finding(
            "pg_cron",
            "warning",
            "available, not installed in this database",
            "Optional, for runs on a schedule: shared_preload_libraries = 'pg_cron', "
            f"cron.database_name, restart, CREATE EXTENSION pg_cron. Or {every}.",
        )
    else:
        yield Finding(
            "pg_cron",
            "warning",
            "not on the server",
            f"Optional, for runs on a schedule: package postgresql-{major}-cron on Debian and "
            f"Ubuntu, pg_cron_{major} on Red Hat. Or {every}.",
        )


def _migrations(
    connection: psycopg.Connection, target: Target, option: str | None
) -> Iterator[Finding]:
    verdict: Verdict = "failed"
    try:
        business = project.chosen(option)
        if business is None and project.held(connection) not in (None, project.BUILT_IN):
            # Nothing names the folder of the business; all the rest can be examined.
            verdict = "warning"
        states = Migrator(target, business).states()
    except UserError as error:
        yield Finding("migrations", verdict, error.message, error.hint or "")
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


def _permissions(
    connection: psycopg.Connection, _target: Target, _option: str | None
) -> Iterator[Finding]:
    """Yield what the database says about roles and privileges (view etl.access_flaw)."""
    if _row(connection, "SELECT to_regclass('etl.access_flaw')")[0] is None:
        return
    flaws = connection.execute(
        "SELECT is_fatal, problem, remedy FROM etl.access_flaw ORDER BY is_fatal DESC, problem"
    ).fetchall()
    for is_fatal, problem, remedy in flaws:
        yield Finding("permissions", "failed" if is_fatal else "warning", problem, remedy)
    if not flaws:
        yield Finding("permissions", "ok", "group roles exist, nothing is granted to PUBLIC")


def _health(
    connection: psycopg.Connection, _target: Target, _option: str | None
) -> Iterator[Finding]:
    """Yield what the database says about runs and data (view etl.health)."""
    if _row(connection, "SELECT to_regclass('etl.health')")[0] is None:
        return
    for one in fetch(connection, Health, "ORDER BY position, object"):
        message = one.message if one.object is None else f"{one.object}: {one.message}"
        yield Finding(one.topic, cast(Verdict, one.status), message, one.remedy)


_CHECKS = (_server, _role, _extensions, _migrations, _permissions, _health)


def _row(connection: psycopg.Connection, query: str, values: Any = None) -> tuple[Any, ...]:
    row = connection.execute(query.encode(), values).fetchone()
    assert row is not None
    return row


def _render(answer: list[dict[str, Any]]) -> None:
    table = output.table("", "", wrap=("",))
    for one in answer:
        table.add_row(Text.assemble(output.mark(one["status"]), f" {one['check']}"), one["message"])
        if one["remedy"]:
            table.add_row("", Text(one["remedy"], "quiet"))
    console.print(table)
    failed = sum(one["status"] == "failed" for one in answer)
    if failed:
        console.say("\n[bad]{}[/]", output.plural(failed, "check failed", "checks failed"))
    else:
        console.print("\n[ok]Ready[/]")
