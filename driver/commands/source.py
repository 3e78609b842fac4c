"""`oceanrecords source`: the operational system, in this database or on another server."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Annotated, Any

import psycopg
import typer
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from rich.text import Text

from base import output, password, state
from base.connection import connect as connect_to_warehouse
from base.errors import UserError, unknown
from base.options import JsonOption, duration
from base.output import console, emit
from driver import project
from driver.scaffold import marks
from driver.warehouse import rows

PASSWORD_VARIABLE = "OCEANRECORDS_SOURCE_PASSWORD"  # noqa: S105

_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

app = typer.Typer(
    help="Place of the operational system: this database, or another server.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

SourceRole = Annotated[str, typer.Option("--user", help="Role that reads the source.")]
SourceSchema = Annotated[
    str | None,
    typer.Option("--schema", help="Its schema; by default the same as that of the local one."),
]


@app.command(
    epilog="Example: oceanrecords source connect --host shop.example.org --dbname shop "
    "--user warehouse --password-file secret.txt"
)
def connect(
    context: typer.Context,
    host: Annotated[
        str, typer.Option("--host", help="Source server, as the warehouse's server reaches it.")
    ],
    dbname: Annotated[str, typer.Option("--dbname", help="Its database.")],
    user: Annotated[
        str, typer.Option("--user", help="Role that reads the source (see `source grants`).")
    ],
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Its port.")] = 5432,
    schema: SourceSchema = None,
    password_file: password.FileOption = None,
    password_command: Annotated[
        str | None,
        typer.Option(
            "--password-command",
            metavar="COMMAND",
            help="Read the password from the output of a command: 'pass show shop'.",
        ),
    ] = None,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="Log in without a password.")
    ] = False,
    sslmode: Annotated[str, typer.Option("--sslmode", help=", ".join(_SSL_MODES) + ".")] = "prefer",
    fetch_size: Annotated[
        int, typer.Option("--fetch-size", min=1, help="Rows per fetch.")
    ] = 10_000,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="NAME=VALUE",
            help="Another option of libpq or postgres_fdw: sslrootcert=shop.pem.",
        ),
    ] = None,
    keep_watermarks: Annotated[
        bool,
        typer.Option(
            "--keep-watermarks",
            help="It is the same database under another address: continue from the watermarks.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Read the operational system from another server.

    The password comes from --password-file, --password-command, the variable
    OCEANRECORDS_SOURCE_PASSWORD, or is asked for. No log and no process list shows it.
    """
    for name, value in (("--host", host), ("--dbname", dbname), ("--user", user)):
        state.needs(value, name)
    if sslmode not in _SSL_MODES:
        raise unknown("SSL mode", sslmode, _SSL_MODES)
    options = _options(option or [])
    secret = None
    if not no_password:
        secret = password.read(PASSWORD_VARIABLE, password_file, password_command)
        if secret is None and sys.stdin.isatty():
            secret = typer.prompt(
                f"Password of {user}", hide_input=True, default="", show_default=False, err=True
            )
    with _warehouse(context) as connection:
        answer = _connect(
            connection,
            secret or None,
            {
                "host": host,
                "dbname": dbname,
                "user": user,
                "port": port,
                "schema": schema,
                "sslmode": sslmode,
                "fetch_size": fetch_size,
                "options": Jsonb(options),
                "keep_watermarks": keep_watermarks,
            },
        )
        answer |= _status(connection, timedelta(minutes=5))
    emit(answer, as_json=as_json, render=_render_connected)


def _warehouse(context: typer.Context) -> psycopg.Connection[Any]:
    return connect_to_warehouse(state.of(context).dsn, application_name="oceanrecords source")


def _connect(
    connection: psycopg.Connection, secret: str | None, parameters: dict[str, Any]
) -> dict[str, Any]:
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        if secret is not None:
            # The data of COPY reach no log, whereas log_statement shows parameters too.
            cursor.execute("CREATE TEMPORARY TABLE source_password (password text) ON COMMIT DROP")
            with cursor.copy("COPY pg_temp.source_password (password) FROM STDIN") as copy:
                copy.write_row([secret])
        cursor.execute(
            "SELECT relations, remote_schema, is_rebaselined FROM etl.connect_source("
            "p_host => %(host)s, p_dbname => %(dbname)s, p_user => %(user)s, p_port => %(port)s, "
            "p_schema => %(schema)s, p_sslmode => %(sslmode)s, p_fetch_size => %(fetch_size)s, "
            "p_options => %(options)s, p_keep_watermarks => %(keep_watermarks)s)",
            parameters,
        )
        row = cursor.fetchone()
    assert row is not None
    return row


@app.command(epilog="Example: oceanrecords source status --older-than '1 hour' --json")
def status(
    context: typer.Context,
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than", metavar="TIME", help="Age from which open transactions are counted."
        ),
    ] = "5 minutes",
    as_json: JsonOption = False,
) -> None:
    """Show where the operational system is, and whether it can be reached.

    Exit status 1 if it cannot.
    """
    age = duration("--older-than", older_than, 0, 366 * 86400)
    with _warehouse(context) as connection:
        answer = _status(connection, age)
    emit(answer, as_json=as_json, render=lambda data: _render_status(data, older_than))
    if not answer["is_reachable"]:
        raise typer.Exit(1)


@app.command(epilog="Example: oceanrecords source disconnect")
def disconnect(
    context: typer.Context,
    even_if_empty: Annotated[
        bool,
        typer.Option(
            "--even-if-empty",
            help="Even if the local tables are empty: the next run then marks all rows as deleted.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Read the operational system of this database again, and drop the other server's login."""
    with _warehouse(context) as connection:
        row = connection.execute("SELECT etl.disconnect_source(%s)", [even_if_empty]).fetchone()
    answer = {"location": "local", "disconnected": bool(row and row[0])}
    emit(answer, as_json=as_json, render=_render_disconnected)


@app.command(
    epilog="Example: oceanrecords source grants --user warehouse | psql -h shop.example.org shop"
)
def grants(
    context: typer.Context,
    user: SourceRole,
    schema: SourceSchema = None,
    as_json: JsonOption = False,
) -> None:
    """Print the GRANT statements that a role on the source server needs."""
    state.needs(user, "--user")
    with _warehouse(context) as connection:
        rows = connection.execute(
            "SELECT * FROM etl.source_grants(%s, %s)", [user, schema]
        ).fetchall()
    emit([row[0] for row in rows], as_json=as_json, render=_render_grants)


@app.command(
    epilog="Example: oceanrecords --project shop source contract --user warehouse "
    "| psql -h shop.example.org shop"
)
def contract(
    context: typer.Context,
    user: SourceRole,
    as_json: JsonOption = False,
) -> None:
    """Print the statements that install the contract of --project in the source's own database.

    A draft needs them when its source is on another server. Then: source connect --schema source
    """
    state.needs(user, "--user")
    business = project.chosen(state.of(context).project)
    with _warehouse(context) as connection:
        rows = connection.execute(
            "SELECT * FROM etl.source_contract(%s, %s)",
            [user, list(business.schemas) if business else []],
        ).fetchall()
    emit([row[0] for row in rows], as_json=as_json, render=_render_grants)


app.command(epilog=marks.EXAMPLE)(marks.marks)


def _status(connection: psycopg.Connection, older_than: timedelta) -> dict[str, Any]:
    (row,) = rows(connection, "SELECT * FROM etl.source_status(%s::interval)", older_than)
    return row


def _options(given: list[str]) -> dict[str, str]:
    """Return NAME=VALUE options as a dict.

    Raises:
        UserError: if one has another form, or would hold a password.
    """
    options = {}
    for one in given:
        name, sign, value = one.partition("=")
        if not (name and sign):
            raise UserError(f"'{name or one}' is not of the form NAME=VALUE.", exit_code=2)
        if "password" in name.lower():
            raise UserError(
                f"The option {name} does not belong on a command line.",
                "Use --password-file, --password-command or OCEANRECORDS_SOURCE_PASSWORD.",
                exit_code=2,
            )
        options[name] = value
    return options


def _render_connected(answer: dict[str, Any]) -> None:
    console.say(
        "[ok]●[/] {} relations are read from schema {} of {} [quiet](PostgreSQL {})[/]",
        answer["relations"], answer["remote_schema"], _place(answer), answer["server_version"],
    )  # fmt: skip
    console.print(
        "[quiet]The next run compares all rows with the mirrors, as this is another database.[/]"
        if answer["is_rebaselined"]
        else "[quiet]The next run continues from the watermarks.[/]",
        soft_wrap=True,
    )


def _render_disconnected(answer: dict[str, Any]) -> None:
    if answer["disconnected"]:
        console.print("[ok]●[/] The operational system of this database is read again.")
        console.print("[quiet]The next run compares all rows with the mirrors.[/]", soft_wrap=True)
    else:
        console.print(
            "[quiet]○[/] The operational system of this database is already read: nothing to do."
        )


def _render_grants(answer: list[str]) -> None:
    for statement in answer:
        console.file.write(statement + "\n")


def _place(answer: dict[str, Any]) -> str:
    if answer["location"] == "local":
        return f"this database ({answer['database_name']})"
    user = f" as {answer['user_name']}" if answer["user_name"] else ""
    return f"{answer['database_name']} on {answer['host']}:{answer['port']}{user}"


def _render_status(answer: dict[str, Any], older_than: str) -> None:
    if not answer["is_reachable"]:
        console.say("[bad]●[/] {}: {}", answer["location"], _place(answer))
        console.print(Text(f"  {answer['problem']}"), soft_wrap=True)
        return
    console.say("[ok]●[/] {}: {}", answer["location"], _place(answer))
    table = output.table("", "", wrap=("",))
    for label, value in (
        ("schema", answer["remote_schema"]),
        ("server", f"PostgreSQL {answer['server_version']}"),
        ("system identifier", str(answer["system_identifier"])),
        ("clock", _clock(answer)),
        ("open transactions", _transactions(answer, older_than)),
    ):
        if value:
            table.add_row(Text(label, style="dim"), Text(value))
    console.print(table)


def _clock(answer: dict[str, Any]) -> str:
    ahead = answer["clock_difference"].total_seconds()
    trip = output.seconds(answer["round_trip"])
    if abs(ahead) < 0.05:
        return f"the same as the warehouse's, answers in {trip}"
    return (
        f"{output.seconds(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} the warehouse's, "
        f"answers in {trip}"
    )


def _transactions(answer: dict[str, Any], older_than: str) -> str:
    count = answer["open_transactions"]
    shown = f"{count or 'none'} older than {older_than}"
    if count:
        shown += (
            f", the oldest since {output.moment(answer['oldest_transaction_started_at'])}; "
            "they delay nothing; their rows are read when they end"
        )
    if answer["hidden_sessions"]:
        shown += (
            f"; {answer['hidden_sessions']} sessions are hidden from the role "
            "(GRANT pg_read_all_stats shows them)"
        )
    return shown
