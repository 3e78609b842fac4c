"""`oceanrecords users`: logins, their levels of permission and the rows that they see."""

from __future__ import annotations

import difflib
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer
import typer.core
from rich.text import Text

from base import output, state
from base import password as password_of
from base.connection import connect
from base.errors import EXIT_USAGE, UserError, unknown
from base.options import JsonOption, LimitOption
from base.output import console, emit
from driver.warehouse import rows as rows_of

PASSWORD_VARIABLE = "OCEANRECORDS_USER_PASSWORD"  # noqa: S105
_ROLES = "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_'"

app = typer.Typer(
    help="Who may log in, with which levels of permission, and who sees which rows.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Login = Annotated[str, typer.Argument(metavar="NAME", help="The login.")]
ValidUntil = Annotated[
    datetime | None,
    typer.Option(
        "--valid-until",
        metavar="DATE",
        formats=["%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S"],
        help="When the password expires, in the time zone of this machine.",
    ),
]


class _WithRows(typer.core.TyperCommand):
    """A command with an option that has the name of the row filter, which the business declares."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {name for one in self.get_params(ctx) for name in one.opts}
        rest, given = [], iter(args)
        for argument in given:
            name, _, value = argument.partition("=")
            if not name.startswith("--") or name in known or name == "--":
                rest.append(argument)
                continue
            close = difflib.get_close_matches(name, known, 1, 0.8)
            if "=" not in argument:
                value = next(given, "")
            if close:
                raise UserError(f"No such option: {name}", f"Did you mean {close[0]}?", EXIT_USAGE)
            if not value or value.startswith("--"):
                raise UserError(f"Option {name} requires a value.", exit_code=EXIT_USAGE)
            rest += ["--ATTRIBUTE", f"{name[2:]}={value}"]
        return super().parse_args(ctx, rest)


Rows = Annotated[
    list[str] | None,
    typer.Option(
        "--ATTRIBUTE",
        metavar="VALUE",
        help="Rows that an analyst sees: --country DE where the row filter is the country; may be "
        "repeated, '*' for all, '??' for rows without a value.",
    ),
]


@app.command(
    cls=_WithRows,
    epilog="Example: oceanrecords users add ana --level analyst --country DE --country AT",
)
def add(
    context: typer.Context,
    login: Login,
    level: Annotated[
        list[str] | None, typer.Option("--level", help="Level of permission; may be repeated.")
    ] = None,
    rows: Rows = None,
    password_file: password_of.FileOption = None,
    no_password: Annotated[
        bool,
        typer.Option("--no-password", help="Set no password; the login cannot log in with one."),
    ] = False,
    service: Annotated[
        bool, typer.Option("--service", help="The user is a program, not a person.")
    ] = False,
    existing: Annotated[
        bool,
        typer.Option(
            "--existing",
            help="Accept a login that the server has; it gets only what is named here.",
        ),
    ] = False,
    valid_until: ValidUntil = None,
    as_json: JsonOption = False,
) -> None:
    """Add a user.

    The password comes from --password-file, the variable OCEANRECORDS_USER_PASSWORD, or a prompt.
    Only its SCRAM verifier leaves this program: no log and no process list shows it.
    """
    if rows:
        _check_attribute(context, rows)
    password = None if no_password else _password(password_file, login, is_needed=not existing)
    with _connect(context) as connection, connection.transaction():
        connection.execute(
            "CALL etl.add_user(%s, %s, NULL, p_is_service => %s, p_is_existing => %s, "
            "p_valid_until => %s)",
            [
                login,
                level or [],
                service,
                existing,
                valid_until.astimezone() if valid_until else None,
            ],
        )
        if password is not None:
            _set_password(connection, login, password)
        if rows:
            _set_rows(connection, login, rows)
    _answer(context, login, as_json)


@app.command(epilog="Example: oceanrecords users remove ana")
def remove(
    context: typer.Context,
    login: Login,
    drop_owned: Annotated[
        bool,
        typer.Option("--drop-owned", help="Drop the objects of the user in this database as well."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove a user: sessions, memberships, permissions, rows and the login itself."""
    with _connect(context) as connection:
        connection.execute("CALL etl.remove_user(%s, %s)", [login, drop_owned])
    emit(
        {"login": login, "removed": True},
        as_json=as_json,
        render=lambda _: console.print(Text(f"User {login} is removed.")),
    )


@app.command("list", epilog="Example: oceanrecords users list --json")
def list_users(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the users with their levels and the rows that they see."""
    with _connect(context) as connection:
        users = _users(connection)
    emit(users, as_json=as_json, render=_render)


@app.command(epilog="Example: oceanrecords users grant ana steward")
def grant(
    context: typer.Context,
    login: Login,
    levels: Annotated[list[str], typer.Argument(metavar="LEVEL...", help="Levels to give.")],
    as_json: JsonOption = False,
) -> None:
    """Give a user levels of permission."""
    with _connect(context) as connection, connection.transaction():
        for level in levels:
            connection.execute("CALL etl.grant_level(%s, %s)", [login, level])
    _answer(context, login, as_json)


@app.command(epilog="Example: oceanrecords users revoke ana steward")
def revoke(
    context: typer.Context,
    login: Login,
    levels: Annotated[list[str], typer.Argument(metavar="LEVEL...", help="Levels to take.")],
    as_json: JsonOption = False,
) -> None:
    """Take levels of permission from a user, and end the sessions of that user."""
    with _connect(context) as connection:
        with connection.transaction():
            for level in levels:
                connection.execute("CALL etl.revoke_level(%s, %s)", [login, level])
        # The login may have opened a session before the commit.
        connection.execute("SELECT etl.end_sessions(%s)", [login])
    _answer(context, login, as_json)


@app.command(
    "rows",
    cls=_WithRows,
    epilog="Examples: oceanrecords users rows ana --country DE --country AT · oceanrecords users "
    "rows ana --none",
)
def set_rows(
    context: typer.Context,
    login: Login,
    rows: Rows = None,
    none: Annotated[bool, typer.Option("--none", help="Let the user see no row.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Set the rows that a user sees, by values of the row filter; without options, show them."""
    if none and rows:
        raise UserError("--none and values exclude each other.", exit_code=2)
    if none or rows:
        with _connect(context) as connection, connection.transaction():
            _set_rows(connection, login, rows or [])
    _answer(context, login, as_json)


@app.command(epilog="Examples: oceanrecords users grants · oceanrecords users grants --revoke ana")
def grants(
    context: typer.Context,
    role: Annotated[
        str | None,
        typer.Argument(metavar="[ROLE]", help="Role that has them, or PUBLIC; all by default."),
    ] = None,
    revoke: Annotated[bool, typer.Option("--revoke", help="Take them away.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List privileges, memberships and attributes that the catalog does not give."""
    with _connect(context) as connection:
        roles = {"PUBLIC", *(name for (name,) in connection.execute(_ROLES).fetchall())}
        if role is not None and role not in roles:
            raise unknown("role", role, roles)
        found = rows_of(
            connection,
            "SELECT grantee, privilege, object_kind, schema_name, object_name, grantor "
            "FROM etl.direct_grant WHERE grantee = coalesce(%s, grantee) "
            "ORDER BY grantee, schema_name, object_name, privilege",
            role,
        )
        if revoke:
            connection.execute("SELECT etl.revoke_direct_grants(%s)", [role])
    answer = {"grants": found, "revoked": revoke}
    emit(answer, as_json=as_json, render=_render_grants)


@app.command(epilog="Examples: oceanrecords users audit · oceanrecords users audit --verify")
def audit(
    context: typer.Context,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Verify that the trail is whole; exit status 1 if not."),
    ] = False,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Show the audit trail of users and permissions, or verify it."""
    with _connect(context) as connection:
        if verify:
            (found,) = rows_of(connection, "SELECT * FROM audit.verify()")
            emit(found, as_json=as_json, render=_render_chain)
            if found["first_broken"] is not None:
                raise typer.Exit(1)
            return
        acts = rows_of(
            connection,
            "SELECT act_id, acted_at, actor, act, target, details FROM audit.act "
            "ORDER BY act_id DESC LIMIT %s",
            limit,
        )
    emit(acts, as_json=as_json, render=_render_acts)


@app.command(epilog="Example: oceanrecords users password ana --password-file secret.txt")
def password(
    context: typer.Context,
    login: Login,
    password_file: password_of.FileOption = None,
    valid_until: ValidUntil = None,
    as_json: JsonOption = False,
) -> None:
    """Set the password of a user (see `users add`)."""
    secret = _password(password_file, login, is_needed=True)
    assert secret is not None
    with _connect(context) as connection:
        _set_password(connection, login, secret, valid_until)
    _answer(context, login, as_json)


# -- parts ----------------------------------------------------------------------------------------


def _connect(context: typer.Context) -> psycopg.Connection[Any]:
    return connect(state.of(context).dsn, application_name="oceanrecords users")


def _set_rows(connection: psycopg.Connection[Any], login: str, rows: list[str]) -> None:
    """Set the values of the row filter, each given as attribute=value."""
    values = [one.split("=", 1)[1] for one in rows]
    attribute = _attribute(rows) if rows else None
    connection.execute("CALL etl.set_user_rows(%s, %s, %s)", [login, values, attribute])


def _attribute(rows: list[str]) -> str:
    """Return the attribute of values that are given as attribute=value.

    Raises:
        UserError: if there are several.
    """
    attributes = sorted({one.split("=", 1)[0] for one in rows})
    if len(attributes) > 1:
        raise UserError(
            f"Rows are chosen by one attribute, not by {' and '.join(attributes)}.",
            exit_code=EXIT_USAGE,
        )
    return attributes[0]


def _check_attribute(context: typer.Context, rows: list[str]) -> None:
    """Refuse an option that is none, before a password is asked for.

    Raises:
        UserError: if the row filter has another name.
    """
    given = _attribute(rows)
    with _connect(context) as connection:
        row = connection.execute("SELECT attribute FROM etl.row_filter").fetchone()
    if row is None or row[0] != given:
        raise UserError(
            f"No such option: --{given}",
            f"Rows are chosen by --{row[0]}." if row else "This business has no row filter.",
            EXIT_USAGE,
        )


def _set_password(
    connection: psycopg.Connection[Any],
    login: str,
    secret: str,
    valid_until: datetime | None = None,
) -> None:
    """Send the password's SCRAM verifier, never the password."""
    verifier = connection.pgconn.encrypt_password(
        secret.encode(), login.encode(), b"scram-sha-256"
    ).decode()
    connection.execute(
        "CALL etl.set_user_password(%s, %s, %s, %s)",
        [login, verifier, len(secret), valid_until.astimezone() if valid_until else None],
    )


def _password(file: Path | None, login: str, *, is_needed: bool) -> str | None:
    """Return the password; None if none is needed or given.

    Raises:
        UserError: if a password is needed and not given.
    """
    found = password_of.read(PASSWORD_VARIABLE, file)
    if found is None and is_needed:
        if not sys.stdin.isatty():
            raise UserError(
                f"There is no password for {login}.",
                f"Use --password-file, {PASSWORD_VARIABLE} or --no-password.",
                exit_code=2,
            )
        found = str(
            typer.prompt(
                f"Password of {login}", hide_input=True, confirmation_prompt=True, err=True
            )
        )
    return found


def _users(connection: psycopg.Connection[Any], login: str | None = None) -> list[dict[str, Any]]:
    return rows_of(
        connection,
        "SELECT * FROM etl.user_status WHERE login = coalesce(%s, login) ORDER BY login",
        login,
    )


def _answer(context: typer.Context, login: str, as_json: bool) -> None:
    with _connect(context) as connection:
        users = _users(connection, login)
        if not users:
            known = [one["login"] for one in _users(connection)]
            raise unknown("user", login, known, lists="oceanrecords users list")
    emit(users[0], as_json=as_json, render=lambda user: _render([user]))


def _render_chain(found: dict[str, Any]) -> None:
    if found["first_broken"] is not None:
        console.print(f"The audit trail is broken at entry {found['first_broken']}.", style="bad")
    else:
        console.print(
            f"The audit trail is whole: {output.plural(found['acts'], 'entry', 'entries')}.",
            style="ok",
        )
    if found["last_act"] is not None:
        console.print(
            f"Last entry {found['last_act']}, hash {found['last_hash']}. Store both outside the "
            "server: they show whether the trail was replaced.",
            style="quiet",
            soft_wrap=True,
        )


def _render_acts(acts: list[dict[str, Any]]) -> None:
    table = output.table(
        "", "when", "actor", "act", "target", "details", right=[""], wrap=["details"]
    )
    for one in acts:
        details = json.dumps(one["details"], ensure_ascii=False) if one["details"] else ""
        table.add_row(
            str(one["act_id"]), one["acted_at"], one["actor"], one["act"], one["target"], details
        )
    console.print(table)


def _render_grants(answer: dict[str, Any]) -> None:
    if not answer["grants"]:
        console.print("No role has privileges that are not declared.")
        return
    table = output.table("role", "privilege", "kind", "object", "granted by", quiet=["kind"])
    for one in answer["grants"]:
        name = f"{one['schema_name']}.{one['object_name']}"
        table.add_row(one["grantee"], one["privilege"], one["object_kind"], name, one["grantor"])
    console.print(table)
    count = output.plural(len(answer["grants"]), "privilege")
    if answer["revoked"]:
        console.print(f"{count} revoked.")
    else:
        console.print(f"{count} not declared; --revoke takes them away.")


def _render(users: list[dict[str, Any]]) -> None:
    if not users:
        console.print("No users. `oceanrecords users add` adds one.", style="quiet")
        return
    table = output.table("login", "levels", "rows", "", "added", "by", quiet=[""])
    for user in users:
        kind = "service" if user["is_service"] else ""
        if not user["is_managed"]:
            kind = "not added here"
        elif not user["can_log_in"]:
            kind = "cannot log in"
        levels, rows = ", ".join(user["levels"]) or "none", ", ".join(user["row_values"])
        table.add_row(user["login"], levels, rows, kind, user["added_at"], user["added_by"])
    console.print(table)
