"""Applies the migrations with yoyo over psycopg 3.

yoyo's own tables live in the schema `yoyo`. A session-level advisory lock, which a killed process
cannot leave behind, keeps two migrations of one database apart.
"""

from __future__ import annotations

import contextlib
import getpass
import io
import logging
import re
import socket
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from yoyo import exceptions as yoyo_exceptions
from yoyo import read_migrations
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import parse_uri
from yoyo.migrations import Migration, MigrationList, topological_sort

from driver import resources, sqlfile
from driver.connection import Target, connect_to
from driver.errors import UserError, from_database

_SCHEMA = "yoyo"
_LOCK_KEY = 0x6F726D67  # the letters 'ormg'
_PATIENCE = "60s"
_HOLDER = """
SELECT format(
    'Held by process id %%s (role "%%s", application "%%s").',
    a.pid, a.usename, a.application_name
)
FROM pg_locks AS l
JOIN pg_stat_activity AS a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted
    AND l.classid = 0 AND l.objid = %s::oid AND l.objsubid = 1
"""

# yoyo logs tracebacks of what is told to the user in a sentence anyway.
logging.getLogger("yoyo").addHandler(logging.NullHandler())
logging.getLogger("yoyo").propagate = False


@dataclass(frozen=True)
class MigrationState:
    """One migration and whether the database has it.

    Attributes:
        name: the file's name without its suffix.
        applied_at: when it was applied (UTC), None if it is pending.
        reversible: whether it can be rolled back.
        summary: the first line of the comment that opens the file.
    """

    name: str
    applied_at: datetime | None
    reversible: bool
    summary: str


class _Cursor(psycopg.Cursor[Any]):
    """A cursor that lets an error know the statement which caused it."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> _Cursor:
        try:
            return super().execute(query, params, **options)
        except psycopg.Error as error:
            if not hasattr(error, "failed_statement"):
                error.failed_statement = query  # type: ignore[attr-defined]
            raise


def _wait_for_lock(connection: psycopg.Connection) -> None:
    """Wait for the lock on migrations, which any login can take: not for ever, and by name."""
    connection.execute("SELECT set_config('lock_timeout', %s, false)", [_PATIENCE])
    try:
        connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK_KEY])
    except psycopg.errors.LockNotAvailable as error:
        holder = connection.execute(_HOLDER, [_LOCK_KEY]).fetchone()
        raise UserError(
            f"Another session has held the lock on migrations for {_PATIENCE}.",
            "Wait until it has ended, or end it: SELECT pg_terminate_backend(…)",
            detail=holder[0] if holder else None,
        ) from error
    connection.execute("RESET lock_timeout")


def _wait_for_run(connection: psycopg.Connection, on_wait: Callable[[], None]) -> None:
    """Wait until no run is live; the installation keeps new ones from starting by itself.

    Raises:
        UserError: if one is still live after the setting wait_limit, with its workers.
    """
    row = connection.execute("SELECT to_regprocedure('etl._await_no_run()') IS NOT NULL").fetchone()
    if not (row and row[0]):
        return
    try:
        row = connection.execute("SELECT etl._live_run()").fetchone()
        if row and row[0] is not None:
            on_wait()
        connection.execute("SELECT etl._await_no_run()")
    except psycopg.Error as error:
        raise from_database(error, context="The migration cannot start") from error


class _Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]
    """yoyo's psycopg 3 backend, connected as the rest of the program connects.

    Parameters:
        target: the database.
        bookkeeping: work in the schema of yoyo's tables; migrations themselves see the role's own
            search path.
    """

    def __init__(self, target: Target, *, bookkeeping: bool) -> None:
        self._target = target
        self._bookkeeping = bookkeeping
        super().__init__(parse_uri("postgresql+psycopg:///"), "_yoyo_migration")

    def copy(self) -> _Backend:
        """Return a backend on a connection of its own, for the steps of one migration."""
        return _Backend(self._target, bookkeeping=False)

    def connect(self, dburi: object) -> psycopg.Connection:  # noqa: ARG002
        """Connect to the target, whatever the URI says."""
        return connect_to(
            self._target, application_name="oceanrecords migrate", cursor_factory=_Cursor
        )

    def init_connection(self, connection: psycopg.Connection) -> None:
        """Prepare a connection."""
        connection.execute("SET client_min_messages = warning")
        if self._bookkeeping:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {_SCHEMA}")
            connection.execute(f"SET search_path = {_SCHEMA}")

    def get_log_data(self, migration: Any = None, operation: str = "apply") -> dict[str, Any]:
        """Return yoyo's log row, without its look-up of this machine's name in the network."""
        try:
            account = getpass.getuser()
        except (KeyError, OSError):
            account = "unknown"
        return {
            "id": str(uuid.uuid4()),
            "migration_id": migration.id if migration else None,
            "migration_hash": migration.hash if migration else None,
            "username": account,
            "hostname": socket.gethostname(),
            "created_at_utc": datetime.now(UTC).replace(tzinfo=None),
            "operation": operation,
        }


class Migrator:
    """The migrations of one folder, against one database.

    Parameters:
        target: the database.
        folder: the migrations; None takes those of the installation.
    """

    def __init__(self, target: Target, folder: Path | None = None) -> None:
        self.target = target
        self.folder = folder or resources.migrations()
        self.migrations: MigrationList = read_migrations(str(self.folder))

    def states(self) -> list[MigrationState]:
        """Return every migration in order, without writing anything to the database.

        Raises:
            UserError: if a migration file cannot be read, or the database not be reached.
        """
        with connect_to(self.target) as connection:
            applied = _applied(connection)
        result = []
        for migration in self._in_order():
            result.append(
                MigrationState(
                    migration.id,
                    applied.get(migration.id),
                    _is_reversible(migration),
                    _summary(migration),
                )
            )
        return result

    def apply(
        self,
        *,
        until: str | None = None,
        on_start: Callable[[str], None] = lambda _name: None,
        on_wait: Callable[[], None] = lambda: None,
    ) -> list[str]:
        """Apply what is pending, then install the routines, even if nothing was pending.

        The routines need all migrations: they are left alone when `until` stops before the last.

        Parameters:
            until: the last migration to apply, named in full or by its beginning; None for all.
            on_start: told the name of each migration (and hook) as it starts.
            on_wait: told when another migration holds the lock.

        Returns:
            The names of the migrations applied.

        Raises:
            UserError: naming the migration that failed, the file and the line; that migration
                leaves no trace.
        """
        migrations = list(self._in_order())
        if until is not None:
            last = migrations.index(self._find(until))
            wanted = migrations[: last + 1]
        else:
            wanted = migrations
        done: list[str] = []
        with self._backend(on_wait) as backend:
            pending = {migration.id for migration in backend.to_apply(self.migrations)}
            for migration in wanted:
                if migration.id in pending:
                    on_start(migration.id)
                    self._process(backend, migration, "apply")
                    done.append(migration.id)
            if len(wanted) == len(migrations):
                for hook in self.migrations.post_apply:
                    on_start(hook.id)
                    self._process(backend, hook, "hook")
        return done

    def optional(self) -> list[str]:
        """Return the names of the optional migrations, which only their own name applies."""
        return sorted(path.stem for path in (self.folder / "optional").glob("*.sql"))

    def apply_optional(self, name: str, *, on_wait: Callable[[], None] = lambda: None) -> None:
        """Apply an optional migration in one transaction, also when it has been applied before.

        Parameters:
            name: one of `optional()`.
            on_wait: told when another migration holds the lock.

        Raises:
            UserError: if there is none of that name, others are pending, or it fails; it leaves no
                trace then.
        """
        if name not in self.optional():
            raise UserError(
                f"There is no optional migration '{name}'.",
                f"There is: {', '.join(self.optional()) or 'none'}.",
                exit_code=2,
            )
        pending = [one.name for one in self.states() if one.applied_at is None]
        if pending:
            raise UserError(
                f"Migration {pending[0]} is pending.", "Apply it first: oceanrecords migrate"
            )
        with (
            self._locked(on_wait),
            connect_to(
                self.target, autocommit=False, application_name="oceanrecords migrate"
            ) as connection,
        ):
            connection.execute("SET LOCAL client_min_messages = warning")
            sqlfile.run(connection, self.folder / "optional" / f"{name}.sql")

    def roll_back(
        self,
        *,
        until: str | None = None,
        on_start: Callable[[str], None] = lambda _name: None,
        on_wait: Callable[[], None] = lambda: None,
    ) -> list[str]:
        """Undo the latest migration, or all that came after one.

        Parameters:
            until: the migration to go back to, which stays; None undoes the latest only.
            on_start: told the name of each migration as its rollback starts.
            on_wait: told when another migration holds the lock.

        Returns:
            The names of the migrations undone, latest first.

        Raises:
            UserError: if one of them has no safe way back (nothing is undone then), or fails.
        """
        stay = self._find(until) if until is not None else None
        with self._backend(on_wait) as backend:
            applied = list(backend.to_rollback(self.migrations))
            if stay is not None and stay not in applied:
                raise UserError(
                    f"Migration {stay.id} is not applied, so there is no going back to it.",
                    "See `oceanrecords migrate --list`.",
                )
            going = applied[: applied.index(stay)] if stay is not None else applied[:1]
            for migration in going:
                if not _is_reversible(migration):
                    raise UserError(
                        f"Migration {migration.id} cannot be rolled back: it would lose data.",
                        "Nothing was undone. Restore a backup, or write a new migration.",
                    )
            for migration in going:
                on_start(migration.id)
                self._process(backend, migration, "rollback")
        return [migration.id for migration in going]

    # -- parts --------------------------------------------------------------

    def _in_order(self) -> Iterator[Migration]:
        try:
            yield from topological_sort(self.migrations)
        except yoyo_exceptions.BadMigration as error:
            raise UserError(
                "A migration cannot be read.",
                f"Look at the files in {self.folder}.",
                detail=str(error),
            ) from error

    def _find(self, name: str) -> Migration:
        matching = [m for m in self._in_order() if m.id == name or m.id.startswith(name)]
        exact = [m for m in matching if m.id == name]
        if len(exact or matching) != 1:
            problem = (
                "There is no migration" if not matching else "More than one migration begins with"
            )
            raise UserError(f"{problem} '{name}'.", "See `oceanrecords migrate --list`.")
        return (exact or matching)[0]

    @contextlib.contextmanager
    def _backend(self, on_wait: Callable[[], None]) -> Iterator[_Backend]:
        """Hold the lock, and yield yoyo's backend with its tables in place."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._locked(on_wait))
            try:
                backend = _Backend(self.target, bookkeeping=True)
                stack.callback(backend.connection.close)
                backend.init_database()
                backend.ensure_internal_schema_updated()
                # yoyo's own lock is a row, which a killed process leaves behind; that ours is held
                # proves that nobody needs it.
                backend.break_lock()
                stack.enter_context(backend.lock())
            except yoyo_exceptions.LockTimeout as error:
                raise UserError(
                    "Another program migrates this database.", "Wait for it.", detail=str(error)
                ) from error
            except psycopg.Error as error:
                raise from_database(error, context="yoyo's tables cannot be set up") from error
            yield backend

    @contextlib.contextmanager
    def _locked(self, on_wait: Callable[[], None]) -> Iterator[psycopg.Connection]:
        with connect_to(self.target, application_name="oceanrecords migrate lock") as connection:
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK_KEY]).fetchone()
            if not (row and row[0]):
                on_wait()
                _wait_for_lock(connection)
            _wait_for_run(connection, on_wait)
            yield connection

    def _process(self, backend: _Backend, migration: Migration, action: str) -> None:
        """Apply or undo one migration in its transaction.

        Raises:
            UserError: with the file and line of the statement that failed.
        """
        path = Path(migration.path)
        if action == "rollback" and path.suffix == ".sql":
            path = _rollback_file(path)
        try:
            # yoyo prints what a SELECT returns; a migration has nothing to say on standard output.
            with contextlib.redirect_stdout(io.StringIO()):
                if action == "rollback":
                    backend.rollback_one(migration)
                else:
                    backend.apply_one(migration, mark=action == "apply")
        except yoyo_exceptions.BadMigration as error:
            raise UserError(
                f"Migration {migration.id} cannot be read.", f"Look at {path}.", detail=str(error)
            ) from error
        except psycopg.Error as error:
            raise _failed(error, path) from error


def _failed(error: psycopg.Error, path: Path) -> UserError:
    """Return the error of a migration with its place in the file."""
    statement = getattr(error, "failed_statement", None)
    if path.suffix == ".sql" and isinstance(statement, str):
        text = path.read_text(encoding="utf-8")
        start = text.find(statement.strip())
        if start >= 0:
            start -= len(statement) - len(statement.lstrip())
            return sqlfile.located(error, path, text, max(start, 0))
    # A hook notes which file it was at ("while installing plpgsql/engine/run/run.sql").
    place = (getattr(error, "__notes__", None) or [path.name])[-1].removeprefix("while installing ")
    position = error.diag.statement_position
    if position and isinstance(statement, str):
        place = f"{place}, line {statement.count(chr(10), 0, int(position) - 1) + 1}"
    return from_database(error, context=place)


def _applied(connection: psycopg.Connection) -> dict[str, datetime]:
    """Return the migrations that a database has, with when each was applied (UTC)."""
    row = connection.execute("SELECT to_regclass('yoyo._yoyo_migration') IS NOT NULL").fetchone()
    if not (row and row[0]):
        return {}
    rows = connection.execute("SELECT migration_id, applied_at_utc FROM yoyo._yoyo_migration")
    return {name: moment.replace(tzinfo=UTC) for name, moment in rows}


def _rollback_file(path: Path) -> Path:
    return path.with_name(f"{path.stem}.rollback.sql")


def _is_reversible(migration: Migration) -> bool:
    """Tell whether a migration says how to undo it."""
    path = Path(migration.path)
    if path.suffix == ".sql":
        return _rollback_file(path).exists()
    migration.load()
    return any(
        getattr(getattr(step, "step", step), "_rollback", None) is not None
        for step in migration.steps or []
    )


def _summary(migration: Migration) -> str:
    """Return the first sentence of the comment that opens a migration."""
    migration.load()
    text = " ".join((getattr(migration.module, "__doc__", None) or "").split())
    return re.split(r"(?<=\w\w)[.:](?: |$)", text, maxsplit=1)[0]
