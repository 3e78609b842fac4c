"""`oceanrecords metabase`: plan, provision, status and export."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer
from rich.text import Text

from base import output, state
from base.connection import connect
from base.errors import UserError
from base.options import JsonOption
from base.output import console, emit
from driver import project
from driver.warehouse import advisory_holder
from metabase import analysis
from metabase import export as exporter
from metabase import warehouse as warehouses
from metabase.client import Client, Credentials, read_secret
from metabase.definition import Dashboard, load
from metabase.provisioner import Change, Options, Provisioner, Report, new_password
from metabase.warehouse import ANALYST_ROLE, DEFAULT_ROLE, Warehouse

app = typer.Typer(
    name="metabase",
    help="Bring a Metabase server to the dashboard's definition.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Server: METABASE_URL. Login: METABASE_API_KEY, or METABASE_USER and METABASE_PASSWORD.",
)

_DATABASE_NAME = "OceanRecords warehouse"
_LOCK_KEY = 0x6F726D70  # the letters 'ormp'
_SIGNS = {"create": "+", "update": "~", "restore": "↺", "archive": "-"}
_STYLES = {"create": "ok", "update": "warn", "restore": "warn", "archive": "bad"}

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="METABASE_URL", metavar="URL", help="Address of the server."),
]
User = Annotated[
    str | None,
    typer.Option("--user", envvar="METABASE_USER", metavar="EMAIL", help="Its administrator."),
]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        envvar="METABASE_PASSWORD_FILE",
        help="File with the administrator's password; otherwise METABASE_PASSWORD, or a prompt.",
    ),
]
Definition = Annotated[
    Path | None,
    typer.Option("--definition", metavar="DIR", help="Folder with dashboard.yaml and questions/."),
]
DatabaseName = Annotated[
    str, typer.Option("--database-name", help="What Metabase calls the warehouse.")
]
WarehouseHost = Annotated[
    str | None,
    typer.Option(
        "--warehouse-host",
        envvar="METABASE_WAREHOUSE_HOST",
        help="The warehouse's host as Metabase sees it. [default: as seen from here]",
    ),
]
WarehousePort = Annotated[
    int | None,
    typer.Option(
        "--warehouse-port",
        envvar="METABASE_WAREHOUSE_PORT",
        min=1,
        max=65535,
        help="Its port as Metabase sees it. [default: as seen from here]",
    ),
]
WarehouseUser = Annotated[
    str,
    typer.Option(
        "--warehouse-user",
        envvar="METABASE_WAREHOUSE_USER",
        help="The read-only login that Metabase uses.",
    ),
]
WarehousePasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--warehouse-password-file",
        envvar="METABASE_WAREHOUSE_PASSWORD_FILE",
        help="File with its password; otherwise the variable below without _FILE, or a prompt.",
    ),
]
WarehouseSsl = Annotated[
    bool,
    typer.Option(
        "--warehouse-ssl",
        help="Let Metabase demand encryption; without it, it encrypts where the server can.",
    ),
]
AllowHttp = Annotated[
    bool,
    typer.Option(
        "--allow-http",
        envvar="METABASE_ALLOW_HTTP",
        help="Send key or password over plain http to another machine.",
    ),
]
Recipients = Annotated[
    list[str] | None,
    typer.Option(
        "--recipient",
        envvar="METABASE_RECIPIENTS",
        metavar="EMAIL",
        help="Who gets subscription and alert; once per address. Without it both are left alone.",
    ),
]
ForAnalysts = Annotated[
    bool,
    typer.Option(
        "--analysts",
        help="Also models, metrics and the query builder for analysts, with a login of their own.",
    ),
]
AnalystUser = Annotated[
    str,
    typer.Option(
        "--analyst-user",
        envvar="METABASE_ANALYST_USER",
        show_default=False,
        help="The read-only login of level analyst that Metabase uses.",
    ),
]
CreateRole = Annotated[
    bool,
    typer.Option(
        "--create-role",
        help="Make the read-only login in the warehouse if it is missing. Without a password "
        "given, it gets one that only Metabase knows.",
    ),
]
Prune = Annotated[
    bool, typer.Option("--prune", help="Archive questions that the definition no longer has.")
]
Adopt = Annotated[
    bool,
    typer.Option("--adopt", help="Take over a collection, dashboard or question of the same name."),
]
ResetPassword = Annotated[
    bool, typer.Option("--reset-password", help="Send the warehouse's password to Metabase again.")
]
Wait = Annotated[
    float,
    typer.Option("--wait", min=0, metavar="SECONDS", help="Patience with its start and its sync."),
]


@dataclass(frozen=True)
class _Target:
    """The server and the warehouse that a command addresses."""

    url: str | None
    user: str | None
    password_file: Path | None
    definition: Path | None
    warehouse: Warehouse
    given_host: str | None
    given_port: int | None
    create_role: bool
    password_file_of_role: Path | None
    analyst_user: str | None
    allow_http: bool
    options: Options


_Command = Callable[..., None]


def _shared(
    context: typer.Context,
    url: Url = None,
    user: User = None,
    password_file: PasswordFile = None,
    definition: Definition = None,
    database_name: DatabaseName = _DATABASE_NAME,
    warehouse_host: WarehouseHost = None,
    warehouse_port: WarehousePort = None,
    warehouse_user: WarehouseUser = DEFAULT_ROLE,
    warehouse_password_file: WarehousePasswordFile = None,
    warehouse_ssl: WarehouseSsl = False,
    create_role: CreateRole = False,
    analysts: ForAnalysts = False,
    analyst_user: AnalystUser = ANALYST_ROLE,
    recipient: Recipients = None,
    allow_http: AllowHttp = False,
    prune: Prune = False,
    adopt: Adopt = False,
    reset_password: ResetPassword = False,
    wait: Wait = 60,
) -> _Target:
    """Gather the options that the commands share."""
    return _Target(
        url,
        user,
        _path(password_file),
        _path(definition) or project.dashboard(state.of(context).project, state.of(context).dsn),
        Warehouse(
            database_name, host="", port=0, database="", user=warehouse_user, ssl=warehouse_ssl
        ),
        warehouse_host,
        warehouse_port,
        create_role,
        _path(warehouse_password_file),
        analyst_user if analysts else None,
        allow_http,
        Options(
            prune=prune,
            adopt=adopt,
            reset_password=reset_password,
            wait_seconds=wait,
            recipients=_addresses(recipient),
        ),
    )


def _targeted(*without: str, wait: float) -> Callable[[_Command], _Command]:
    """Give a command the shared options; it gets them as one parameter `target`.

    Parameters:
        without: options that the command does not have.
        wait: seconds to wait for the server unless `--wait` says otherwise.
    """
    offered = {
        name: one.replace(default=wait if name == "wait" else one.default)
        for name, one in signature(_shared, eval_str=True).parameters.items()
        if name not in ("context", *without)
    }

    def give(command: _Command) -> _Command:
        own = {
            name: one
            for name, one in signature(command, eval_str=True).parameters.items()
            if name != "target"
        }

        def run(**given: Any) -> None:
            chosen = {name: given.pop(name) for name in offered}
            command(target=_shared(given["context"], **chosen), **given)

        context = own.pop("context")
        merged = {"context": context, **own, **offered}
        merged["as_json"] = merged.pop("as_json")
        keyword = [one.replace(kind=Parameter.KEYWORD_ONLY) for one in merged.values()]
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = Signature(keyword)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in keyword}
        return run

    return give


def _addresses(given: Iterable[str] | None) -> tuple[str, ...]:
    """Return e-mail addresses, which the environment may separate by commas.

    Raises:
        UserError: if one is no address.
    """
    found = [one for text in given or () for one in text.replace(",", " ").split()]
    for one in found:
        name, _, domain = one.partition("@")
        if not name or "." not in domain:
            raise UserError(
                f"'{one}' is not an e-mail address.",
                "Write --recipient someone@example.com, once per address.",
            )
    return tuple(dict.fromkeys(found))


def _path(given: str | Path | None) -> Path | None:
    """Return a path, which some versions of Typer leave as text."""
    return None if given is None else Path(given)


_READ_ONLY = ("warehouse_password_file", "create_role", "prune", "adopt", "reset_password")


@app.command(epilog="Example: oceanrecords metabase plan --create-role")
@_targeted("warehouse_password_file", wait=60)
def plan(context: typer.Context, target: _Target, as_json: JsonOption = False) -> None:
    """Show what `provision` would change; nothing is written."""
    with _prepared(context, target) as prepared:
        role = _plan_roles(prepared, target)
        with _server(target) as (client, credentials):
            report = _provisioner(prepared, target, client, credentials).plan()
    emit(_as_dict(report, role), as_json=as_json, render=lambda _: _show(report, role, done=False))


@app.command(epilog="Example: oceanrecords metabase provision --create-role")
@_targeted(wait=180)
def provision(
    context: typer.Context,
    target: _Target,
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Do not run every question at the end.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring the server to the definition; a second call changes nothing."""
    with (
        _prepared(context, target) as prepared,
        _server(target) as (client, credentials),
    ):
        _only_one_at_a_time(prepared.connection)
        role = _plan_roles(prepared, target)
        if target.create_role:
            _create_roles(prepared)
        progress = None if as_json else _show_change
        provisioner = _provisioner(prepared, target, client, credentials, progress)
        report = provisioner.provision()
        if not no_check:
            provisioner.check()
    emit(_as_dict(report, role), as_json=as_json, render=lambda _: _show(report, role, done=True))
    _complain(report)


@app.command(epilog="Example: oceanrecords metabase status --json")
@_targeted(*_READ_ONLY, wait=10)
def status(context: typer.Context, target: _Target, as_json: JsonOption = False) -> None:
    """Show the server, whether it is as defined, and whether each question answers."""
    with (
        _prepared(context, target, check=False) as prepared,
        _server(target) as (client, credentials),
    ):
        provisioner = _provisioner(prepared, target, client, credentials)
        report = provisioner.plan()
        provisioner.check()
    emit(
        _as_dict(report, None),
        as_json=as_json,
        render=lambda _: _show_status(report, prepared.dashboard),
    )
    _complain(report)


@app.command(epilog="Example: oceanrecords metabase export --out my-dashboard")
@_targeted(*_READ_ONLY, "analysts", "analyst_user", "recipient", wait=10)
def export(
    context: typer.Context,
    target: _Target,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write to.")],
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite a definition that exists.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write what the server has as a definition, to keep what was changed there by hand."""
    with (
        _prepared(context, target, check=False) as prepared,
        _server(target) as (client, credentials),
    ):
        report = _provisioner(prepared, target, client, credentials).plan()
        read = exporter.read(client, prepared.dashboard, report.ids)
        files = exporter.write(read.dashboard, Path(out), force=force)

    def render(_: object) -> None:
        for warning in read.warnings:
            console.print(f"! {warning}", style="warn")
        console.print(f"Wrote {output.plural(len(files), 'file')} to {out}", style="ok")

    emit({"files": files, "warnings": read.warnings}, as_json=as_json, render=render)


# -- preparing ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Prepared:
    """What was found out before the server is spoken to."""

    connection: psycopg.Connection[Any]
    dashboard: Dashboard
    warehouse: Warehouse
    models: analysis.Definition | None = None
    detail: Dashboard | None = None
    analyst_warehouse: Warehouse | None = None


@contextmanager
def _prepared(
    context: typer.Context, target: _Target, *, check: bool = True
) -> Iterator[_Prepared]:
    """Read and check the definition, and find out where the warehouse is."""
    dashboard = load(target.definition)
    with connect(state.of(context).dsn, application_name="oceanrecords metabase") as connection:
        info = connection.info
        warehouse = replace(
            target.warehouse,
            host=target.given_host or _network_host(info),
            port=target.given_port or info.port,
            database=info.dbname,
        )
        prepared = _Prepared(connection, dashboard, warehouse)
        if target.analyst_user:
            prepared = replace(
                prepared,
                models=analysis.load(),
                detail=load(analysis.DETAIL),
                analyst_warehouse=replace(
                    warehouse,
                    name=f"{warehouse.name} for analysts",
                    user=target.analyst_user,
                    schema=analysis.SCHEMA,
                ),
            )
        for one, questions in _parts(prepared) if check else ():
            known = warehouses.role_state(connection, one.user, one.schema)
            if not target.create_role:
                warehouses.check_role(connection, one.user, one.schema)
            as_role = one.user if known.exists and not known.faults else None
            warehouses.check_questions(connection, questions, as_role)
        yield replace(prepared, dashboard=warehouses.resolve(connection, dashboard))


def _parts(prepared: _Prepared) -> list[tuple[Warehouse, Dashboard]]:
    """Return the connections that Metabase is to have, one per login, and what is asked on each."""
    parts = [(prepared.warehouse, prepared.dashboard)]
    if prepared.analyst_warehouse and prepared.detail:
        parts.append((prepared.analyst_warehouse, prepared.detail))
    return parts


def _provisioner(
    prepared: _Prepared,
    target: _Target,
    client: Client,
    credentials: Credentials,
    progress: Callable[[Change], None] | None = None,
) -> Provisioner:
    connection, warehouse = prepared.connection, prepared.warehouse
    analysts = None
    if prepared.models and prepared.analyst_warehouse:
        analyst = prepared.analyst_warehouse
        analysts = analysis.Analysts(
            prepared.models,
            analyst,
            lambda: _role_password(connection, target, analyst.user),
            warehouses.catalog(connection, analyst.schema),
            prepared.detail,
        )
    return Provisioner(
        client,
        credentials,
        prepared.dashboard,
        warehouse,
        password=lambda: _role_password(connection, target, warehouse.user),
        options=target.options,
        progress=progress,
        catalog=warehouses.catalog(connection, warehouse.schema),
        analysts=analysts,
    )


def _network_host(info: psycopg.ConnectionInfo) -> str:
    """Return the host of a connection; a socket's folder is of no use to another program."""
    host = info.host or "localhost"
    return "localhost" if host.startswith(("/", "@")) else host


@contextmanager
def _server(target: _Target) -> Iterator[tuple[Client, Credentials]]:
    """Open the connection to Metabase; the session that it opens ends with it."""
    if not target.url:
        raise UserError(
            "No Metabase server is named.",
            "Set METABASE_URL, or add --url http://localhost:3000",
        )
    credentials = Credentials.from_environment(
        user=target.user, password_file=target.password_file, prompt=_prompt()
    )
    with Client(target.url, credentials, allow_http=target.allow_http) as client:
        yield client, credentials


def _prompt() -> Any:
    if not sys.stdin.isatty():
        return None
    return lambda text: typer.prompt(text, hide_input=True, err=True)


def _only_one_at_a_time(connection: psycopg.Connection[Any]) -> None:
    """Keep a second run away until the connection ends: both would make what is missing."""
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK_KEY]).fetchone()
    if row != (True,):
        raise UserError(
            "Another session holds the lock on provisioning Metabase from this warehouse.",
            "Wait until it has ended, or end it: SELECT pg_terminate_backend(…)",
            detail=advisory_holder(connection, _LOCK_KEY),
        )


def _plan_roles(prepared: _Prepared, target: _Target) -> str | None:
    """Return what is to be done about the logins, or None."""
    if not target.create_role:
        return None
    planned = []
    for one, _ in _parts(prepared):
        known = warehouses.role_state(prepared.connection, one.user, one.schema)
        if not known.exists:
            planned.append(f"create role {one.user}")
        elif known.faults:
            planned.append(f"grant role {one.user} what it lacks")
    return ", ".join(planned) or None


def _create_roles(prepared: _Prepared) -> None:
    for one, questions in _parts(prepared):
        warehouses.create_role(prepared.connection, one.user, one.schema)
        warehouses.check_questions(prepared.connection, questions, one.user)


def _role_password(connection: psycopg.Connection[Any], target: _Target, role: str) -> str:
    """Return the password of a login; with --create-role it becomes its password."""
    variable = (
        "METABASE_ANALYST_PASSWORD"
        if role == target.analyst_user
        else "METABASE_WAREHOUSE_PASSWORD"
    )
    password = os.environ.get(variable)
    if target.password_file_of_role and role != target.analyst_user:
        password = read_secret(target.password_file_of_role)
    if target.create_role:
        password = password or new_password()
        warehouses.set_password(connection, role, password)
        return password
    prompt = _prompt()
    if not password and prompt:
        password = prompt(f"Password of {role} in the warehouse")
    if not password:
        raise UserError(
            f"The password of {role} is needed, with which Metabase reads the warehouse.",
            f"Set {variable}, or add --create-role, which gives it one that only Metabase knows.",
        )
    return str(password)


# -- showing --------------------------------------------------------------------------------------


def _as_dict(report: Report, role: str | None) -> dict[str, Any]:
    return {
        "url": report.url,
        "version": report.version,
        "dashboard_url": report.dashboard_url,
        "role": role,
        "in_sync": not report.changes and role is None,
        "changes": [asdict(change) for change in report.changes],
        "warnings": report.warnings,
        "ids": report.ids,
        "questions": report.checked,
    }


def _show_change(change: Change) -> None:
    line = Text(f"{_SIGNS[change.action]} ", style=_STYLES[change.action])
    line.append(f"{change.kind:<13}", style="quiet")
    line.append(change.name, style="default")
    if change.details:
        line.append(f"  {', '.join(change.details)}", style="quiet")
    console.print(line, soft_wrap=True)


def _show(report: Report, role: str | None, *, done: bool) -> None:
    if role:
        console.print(f"{'done: ' if done else '+ '}{role}", style="ok")
    if not done:
        for change in report.changes:
            _show_change(change)
    for warning in report.warnings:
        console.print(f"! {warning}", style="warn", soft_wrap=True)
    count = len(report.changes)
    changes = output.plural(count, "change")
    where = f"Metabase {report.version or ''} at {report.url}"
    if not count:
        console.print(f"{where} is as defined; nothing to do.", style="ok")
    elif done:
        console.print(f"{where}: {changes} made.", style="ok")
    else:
        console.print(f"{where}: {changes} to make. Do it: oceanrecords metabase provision")
    if done:
        _show_checked(report)
    if report.dashboard_url:
        console.print(f"Dashboard: {report.dashboard_url}", soft_wrap=True)


def _show_checked(report: Report) -> None:
    good = sum(isinstance(rows, int) for rows in report.checked.values())
    if report.checked:
        console.print(f"{good} of {len(report.checked)} questions answer.")


def _show_status(report: Report, dashboard: Dashboard) -> None:
    table = output.table("Question", "On the server", "Rows", right=["Rows"])
    changed = {change.name: change.action for change in report.changes if change.kind == "question"}
    for key, question in dashboard.questions.items():
        number = report.ids.get(f"question/{key}")
        answer = report.checked.get(key)
        mark = changed.get(question.name)
        where = f"id {number}" if number else "missing"
        shown = str(answer) if isinstance(answer, int) else "fails" if answer else ""
        table.add_row(question.name, f"{where}, differs" if mark and number else where, shown)
    console.print(table)
    _show(report, None, done=False)


def _complain(report: Report) -> None:
    """End with an error if a question does not answer."""
    bad = {key: words for key, words in report.checked.items() if isinstance(words, str)}
    if bad:
        key, words = next(iter(bad.items()))
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise UserError(
            f"Question {key}{more} does not answer in Metabase.",
            "If the login's password has changed, add --reset-password to provision.",
            detail=words,
        )
