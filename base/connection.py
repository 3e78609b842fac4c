"""Where the warehouse is, and a connection to it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import psycopg
from psycopg import conninfo

from base import targets
from base.errors import EXIT_USAGE, UserError

OLDEST_VERSION = 15
NEWEST_VERSION = 18

_SELECTING_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE")
_CONNECT_TIMEOUT_SECONDS = "10"


@dataclass(frozen=True)
class Target:
    """The database that the commands work on.

    Attributes:
        conninfo: libpq connection string, perhaps with a password; empty when libpq's own
            variables say it all.
        origin: what chose it, for people.
        embedded: whether it is the embedded server.
    """

    conninfo: str
    origin: str
    embedded: bool = False

    def __repr__(self) -> str:
        return f"Target({describe(self)!r}, origin={self.origin!r})"


def resolve(dsn: str | None = None) -> Target:
    """Choose the database.

    The first of these that is given: `--dsn` or `--target`, OCEANRECORDS_DSN, OCEANRECORDS_TARGET,
    libpq's PG* variables, the default target, the embedded server.

    Parameters:
        dsn: the value of `--dsn`, or the string of the target named; None for neither.

    Raises:
        UserError: if the connection string cannot be read, or the embedded server does not run.
    """
    if dsn is not None:
        if not dsn.strip():
            raise UserError(
                "--dsn must not be empty.",
                "Name a database, or leave the option out.",
                EXIT_USAGE,
            )
        origin = dsn.origin if isinstance(dsn, targets.TargetDsn) else "--dsn"
        return Target(_checked(dsn, origin), origin)
    from_environment = os.environ.get("OCEANRECORDS_DSN")
    if from_environment:
        return Target(_checked(from_environment, "OCEANRECORDS_DSN"), "OCEANRECORDS_DSN")
    named = os.environ.get(targets.VARIABLE)
    if named:
        return resolve(targets.find(named))
    selecting = [name for name in _SELECTING_VARIABLES if os.environ.get(name)]
    if selecting:
        return Target("", ", ".join(selecting))
    default = targets.default()
    if default is not None:
        return resolve(default)
    from base.server import EmbeddedServer  # costs a command on another server its start

    server = EmbeddedServer()
    if not server.is_running():
        state = "is not running" if server.exists() else "has not been set up"
        raise UserError(
            f"The embedded server in {server.home} {state}.",
            "Start it with `oceanrecords db start`, or name another server with --dsn or --target.",
        )
    return Target(server.conninfo(), "embedded server", embedded=True)


def _checked(dsn: str, origin: str) -> str:
    try:
        ports = str(conninfo.conninfo_to_dict(dsn).get("port") or "")
        if ports.strip("0123456789,"):
            raise psycopg.ProgrammingError("invalid port")
    except psycopg.Error as error:
        # libpq's own message quotes parts of the string, which may be parts of a password.
        raise UserError(
            f"The connection string of {origin} cannot be read.",
            "Write postgresql://user@host:5432/database, or 'host=… dbname=… user=…'; "
            "characters such as @ / : in a URL's password are written %40 %2F %3A.",
        ) from error
    return dsn


def describe(target: Target) -> str:
    """Return 'database on host:port as user' of a target, without its password."""
    settings = _effective(target)
    host = settings.get("host") or settings.get("hostaddr") or "the local socket"
    if settings.get("service") and not settings.get("host"):
        host = f"service {settings['service']}"
    port = settings.get("port")
    place = f"{host}:{port}" if port else host
    database = settings.get("dbname") or settings.get("user") or "the default database"
    return f"{database} on {place}"


def _effective(target: Target) -> dict[str, str]:
    settings = {
        str(option.keyword, "utf-8"): str(option.val, "utf-8")
        for option in psycopg.pq.Conninfo.get_defaults()
        if option.val is not None
    }
    given = conninfo.conninfo_to_dict(target.conninfo) if target.conninfo else {}
    settings.update({key: str(value) for key, value in given.items() if value is not None})
    return settings


def connect(
    dsn: str | None = None,
    *,
    autocommit: bool = True,
    application_name: str = "oceanrecords",
) -> psycopg.Connection:
    """Connect to the warehouse's database.

    Parameters:
        dsn: the value of `--dsn`; None lets the environment choose.
        autocommit: leave transactions to the caller (procedures that COMMIT need it on).
        application_name: shown in pg_stat_activity.

    Returns:
        An open connection to a server that is new enough.

    Raises:
        UserError: if the server cannot be reached, refuses the role, or is too old.
    """
    return connect_to(resolve(dsn), autocommit=autocommit, application_name=application_name)


def connect_to(
    target: Target,
    *,
    autocommit: bool = True,
    application_name: str = "oceanrecords",
    cursor_factory: type[psycopg.Cursor] | None = None,
) -> psycopg.Connection:
    """Connect to a target already chosen; see `connect`."""
    settings = {"application_name": application_name, "client_encoding": "utf8"}
    if not _effective(target).get("connect_timeout"):
        settings["connect_timeout"] = _CONNECT_TIMEOUT_SECONDS
    try:
        connection = psycopg.connect(
            conninfo.make_conninfo(target.conninfo, **settings),
            autocommit=autocommit,
            cursor_factory=cursor_factory,
        )
    except psycopg.Error as error:
        raise _unreachable(target, error) from error
    try:
        _refuse_old(target, connection)
        _set_up(target, connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_old(target: Target, connection: psycopg.Connection) -> None:
    version = connection.info.server_version
    if version // 10000 < OLDEST_VERSION:
        raise UserError(
            f"The server of {describe(target)} is PostgreSQL {readable_version(version)}, "
            "which is too old.",
            f"The warehouse needs PostgreSQL {OLDEST_VERSION} to {NEWEST_VERSION}.",
        )


# What a session of this program looks like, whatever the server, database, role or environment
# says. lc_messages is for those only who may set it.
_SESSION = {
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "quote_all_identifiers": "off",
    "search_path": "pg_catalog, pg_temp",  # no schema in which others may create objects
    "standard_conforming_strings": "on",
    "xmloption": "content",
    "default_transaction_isolation": "read committed",
}
_SET_UP = "SELECT " + ", ".join(  # noqa: S608 - constants alone
    [
        *(f"set_config('{name}', '{value}', false)" for name, value in _SESSION.items()),
        "CASE WHEN has_parameter_privilege('lc_messages', 'SET') "
        "THEN set_config('lc_messages', 'C', false) END",
        # As pg_dump does: a load may last longer than an application's statement. What the role or
        # the client limits stays.
        "(SELECT count(set_config(s.name, '0', false)) FROM pg_settings AS s "
        "WHERE s.name IN ('statement_timeout', 'transaction_timeout', "
        "'idle_in_transaction_session_timeout', 'idle_session_timeout') "
        "AND s.source IN ('database', 'configuration file', 'command line'))",
        "pg_backend_pid()",
        "getdatabaseencoding()",
    ]
)


def _set_up(target: Target, connection: psycopg.Connection) -> None:
    """Pin the session's settings; refuse a database or a pooler that the warehouse cannot use.

    Raises:
        UserError: if the database's encoding is not UTF8, or if a pooler shares sessions.
    """
    row = connection.execute(_SET_UP.encode()).fetchone()
    assert row is not None
    *_, pid, encoding = row
    if not connection.autocommit:
        connection.commit()
    if encoding != "UTF8":
        raise UserError(
            f"The encoding of {describe(target)} is {encoding}; the warehouse needs UTF8.",
            "Create another database: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0",
            code="0A000",
        )
    # A pooler gives its clients numbers of its own in place of the server's process ids.
    if pid == connection.info.backend_pid or target in _in_session_mode:
        return
    if _shares_sessions(connection):
        raise UserError(
            f"{describe(target)} is reached through a pooler that shares sessions "
            "between transactions, which the warehouse cannot use.",
            "Connect to the server itself, or set the pooler to session mode "
            "(PgBouncer: pool_mode = session).",
            code="0A000",
        )
    _in_session_mode.add(target)


_PROBES = 2
_in_session_mode: set[Target] = set()  # one look is enough, and takes sessions from the pool


def _shares_sessions(connection: psycopg.Connection) -> bool:
    """Return whether a pooler gives the server of an idle client to another one.

    In session mode a server belongs to its client until that leaves, so the process ids of two
    clients always differ, and that of one never changes.
    """
    own = _process(connection)
    others: list[psycopg.Connection] = []
    try:
        for _ in range(_PROBES):
            others.append(
                psycopg.connect(
                    conninfo.make_conninfo(
                        connection.info.dsn,
                        password=connection.info.password or None,
                        connect_timeout=_CONNECT_TIMEOUT_SECONDS,
                    )
                )
            )
            # Its transaction stays open, so the next one is given another server.
            if _process(others[-1], stay=True) == own:
                return True
        return _process(connection) != own
    except psycopg.OperationalError:
        # The pool is too small for one more session, so the servers cannot be distinguished.
        return _process(connection) != own
    finally:
        for other in others:
            other.close()


def _process(connection: psycopg.Connection, *, stay: bool = False) -> int:
    """Return the server process in use; stay in the transaction, or leave it."""
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    if not stay and not connection.autocommit:
        connection.rollback()
    return int(row[0]) if row else 0


def readable_version(number: int) -> str:
    """Return '15.4' of 150004, and '9.6.24' of 90624."""
    if number >= 100000:
        return f"{number // 10000}.{number % 10000}"
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


# libpq has no codes for why a connection fails: its message contains all words of one line.
_REASONS = (
    (
        r"database .* does not exist",
        "There is no database {}.",
        "Create it with createdb, or specify another one.",
    ),
    (
        r"password|authentication|no pg_hba\.conf entry",
        "The server refuses the login to {}.",
        "Check the role and its password (PGPASSWORD, or a ~/.pgpass file), and pg_hba.conf.",
    ),
    (
        r"role .* does not exist",
        "The server does not know the role, for {}.",
        "Specify another one with user=….",
    ),
    (
        r"permission denied for database|connect privilege",
        "The role may not connect to {}.",
        "GRANT CONNECT ON DATABASE … TO …",
    ),
    (
        r"too many clients|remaining connection slots",
        "The server of {} has no connection left.",
        "Raise max_connections, or try again later.",
    ),
    (
        r"starting up|shutting down|recovery",
        "The server of {} is not ready.",
        "Try again in a few seconds.",
    ),
    (
        r"definition of service",
        "libpq does not know the service of {}.",
        "Check PGSERVICE and pg_service.conf.",
    ),
)


def _unreachable(target: Target, error: psycopg.Error) -> UserError:
    reason = _reason(str(error))
    sentence = "The server of {} cannot be reached."
    hint = f"Check that it runs and listens there (chosen by {target.origin})."
    for pattern, known, way_out in _REASONS:
        if re.search(pattern, reason, flags=re.IGNORECASE):
            sentence, hint = known, way_out
            break
    return UserError(
        sentence.format(describe(target)), hint, detail=reason, code=error.sqlstate or "08001"
    )


def _reason(message: str) -> str:
    """Return the last telling line of libpq's message, without its preamble."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    telling = (
        [line for line in lines if "failed:" in line or "error" in line.lower()] or lines or [""]
    )
    line = telling[-1]
    for mark in ("FATAL:", "failed:"):
        if mark in line:
            return line.split(mark, 1)[1].strip()
    return line
