"""`oceanrecords db`: the embedded server, and connections to the server in use."""

from __future__ import annotations

import os
import shutil
import urllib.parse
from dataclasses import asdict, replace
from typing import Annotated, Any

import typer
from psycopg import conninfo

from base import output, state
from base import targets as named
from base.cluster import SUPERUSER, embedded_binaries
from base.connection import Target, connect_to, describe, readable_version, resolve
from base.errors import UserError
from base.options import JsonOption
from base.output import console, emit, print_json
from base.server import DATABASE, EmbeddedServer

app = typer.Typer(
    help="The embedded server: start, stop, status, connect.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@app.command(epilog="Example: oceanrecords db start")
def start(as_json: JsonOption = False) -> None:
    """Start the embedded server. The first start initializes it."""
    server = EmbeddedServer()
    waiting = "Starting PostgreSQL" if server.exists() else "Setting up PostgreSQL"
    if as_json:
        started = server.start()
        print_json({"started": started, "running": True, "home": server.home, "port": server.port})
        return
    with console.status(f"{waiting} in {server.home} …"):
        started = server.start()
    console.say(
        "[ok]●[/] PostgreSQL {} on port {}, [quiet]data in {}[/]",
        "started" if started else "runs already", server.port, server.folder,
    )  # fmt: skip


@app.command(epilog="Example: oceanrecords db stop")
def stop(as_json: JsonOption = False) -> None:
    """Stop the embedded server; its data stays."""
    server = EmbeddedServer()
    if as_json:
        print_json({"stopped": server.stop(), "running": False, "home": server.home})
        return
    with console.status("Stopping PostgreSQL …"):
        stopped = server.stop()
    said = "stopped" if stopped else "was not running"
    console.say("[quiet]○[/] PostgreSQL {}, [quiet]data in {}[/]", said, server.folder)


@app.command(epilog="Example: oceanrecords db status --json")
def status(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show the server that the commands use, and whether it answers.

    Exit status 1 when it does not.
    """
    given = state.of(context)
    server = EmbeddedServer()
    try:
        target = resolve(given.dsn)
    except UserError:
        if given.dsn is not None or os.environ.get("OCEANRECORDS_DSN"):
            raise
        emit(
            {"running": False, "origin": "embedded server", "home": str(server.home)},
            as_json=as_json,
            render=_render_stopped,
        )
        raise typer.Exit(1) from None
    with connect_to(target) as connection:
        row = connection.execute(
            "SELECT pg_postmaster_start_time(), pg_database_size(current_database()), "
            "current_database(), current_user"
        ).fetchone()
        version = readable_version(connection.info.server_version)
    since, size, database, role = row or (None, 0, "", "")
    answer = {
        "running": True,
        "origin": target.origin,
        "version": version,
        "place": describe(target),
        "database": database,
        "role": role,
        "started_at": since,
        "size_bytes": size,
        "home": str(server.home) if target.embedded else None,
    }
    emit(answer, as_json=as_json, render=_render_running)


def _render_stopped(answer: dict[str, Any]) -> None:
    console.say("[quiet]○[/] The embedded server in {} is not running", answer["home"])
    console.print("  [quiet]start it with[/] oceanrecords db start")


def _render_running(answer: dict[str, Any]) -> None:
    console.say(
        "[ok]●[/] PostgreSQL {} answers [quiet]({})[/]", answer["version"], answer["origin"]
    )
    since = answer["started_at"].astimezone().strftime("%Y-%m-%d %H:%M:%S")
    for label, value in (
        ("database", answer["place"]),
        ("role", answer["role"]),
        ("size", f"{answer['size_bytes'] / 2**20:,.0f} MiB"),
        ("running since", since),
        ("home", answer["home"]),
    ):
        if value:
            console.say("  [quiet]{}[/]{}", f"{label:<14}", value)


@app.command(epilog="Example: oceanrecords db targets")
def targets(as_json: JsonOption = False) -> None:
    """List the named targets."""
    answer = [{**asdict(one), "file": str(one.file)} for one in named.read()]
    emit(answer, as_json=as_json, render=_render_targets)


def _render_targets(answer: list[dict[str, Any]]) -> None:
    if not answer:
        console.say("There are no targets. [quiet]They are declared in {}[/]", named.PROJECT_FILE)
        return
    table = output.table("target", "", "database", "declared in", spare=("declared in",))
    for one in answer:
        table.add_row(
            one["name"],
            "default" if one["is_default"] else "",
            describe(Target(one["dsn"], "")),
            one["file"],
        )
    console.print(table)


@app.command(epilog='Example: psql "$(oceanrecords db url)"')
def url(
    context: typer.Context,
    tcp: Annotated[
        bool,
        typer.Option(
            "--tcp",
            help="Over TCP with the password in the URL, for programs that cannot use a socket.",
        ),
    ] = False,
    database: Annotated[
        str | None,
        typer.Option("--database", metavar="NAME", help="Another database of the server."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the database's URL, for other programs.

    A URL given by --dsn or OCEANRECORDS_DSN is printed without its password.
    """
    target = resolve(state.of(context).dsn)
    if database is not None:
        given = conninfo.make_conninfo(target.conninfo, dbname=database)
        target = replace(target, conninfo=given)
    if tcp and not target.embedded:
        raise UserError("--tcp is for the embedded server only.", exit_code=2)
    if tcp:
        server = EmbeddedServer()
        secret = urllib.parse.quote(server.password(), safe="")
        name = urllib.parse.quote(database or DATABASE)
        answer = f"postgresql://{SUPERUSER}:{secret}@127.0.0.1:{server.port}/{name}"
    else:
        answer = _url(target)
    emit(
        {"url": answer, "origin": target.origin},
        as_json=as_json,
        render=lambda data: print(data["url"]),
    )


def _url(target: Target) -> str:
    """Return a target as a URL without its password."""
    with connect_to(target) as connection:
        host, port = connection.info.host, connection.info.port
        user, database = connection.info.user, connection.info.dbname
    given = conninfo.conninfo_to_dict(target.conninfo) if target.conninfo else {}
    spoken_for = {"host", "hostaddr", "port", "user", "dbname", "password"}
    settings = {key: str(value) for key, value in given.items() if key not in spoken_for}
    quoted = urllib.parse.quote
    if host.startswith("/"):
        netloc = f"{quoted(user, safe='')}@"
        settings = {"host": host, "port": str(port), **settings}
    else:
        name = f"[{host}]" if ":" in host else host
        netloc = f"{quoted(user, safe='')}@{name}:{port}"
    query = urllib.parse.urlencode(settings, safe="/", quote_via=urllib.parse.quote)
    return f"postgresql://{netloc}/{quoted(database, safe='')}{'?' + query if query else ''}"


@app.command(
    epilog="Example: oceanrecords db psql -c 'SELECT count(*) FROM dwh.fact_order'",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def psql(context: typer.Context) -> None:
    """Open psql on the database. Further arguments go to psql."""
    target = resolve(state.of(context).dsn)
    program = shutil.which("psql") or str(embedded_binaries() / "psql")
    environment = dict(os.environ)
    settings = conninfo.conninfo_to_dict(target.conninfo) if target.conninfo else {}
    secret = settings.pop("password", None)
    if secret:  # not among the arguments, where everybody on the machine could read it
        environment["PGPASSWORD"] = str(secret)
    arguments = [program]
    if settings:
        arguments += ["-d", conninfo.make_conninfo("", **settings)]
    os.execve(program, [*arguments, *context.args], environment)  # noqa: S606
