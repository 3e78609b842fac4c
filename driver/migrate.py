"""Applies the migrations with yoyo over psycopg 3, then installs what they do not keep.

The engine and the business have migrations of their own, each in its own order. yoyo's tables are
in the schema `yoyo`, with the checksum of each applied file. A session-level advisory lock, which a
killed process cannot leave behind, serializes the migrations of a database.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import io
import logging
import re
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb
from yoyo import exceptions as yoyo_exceptions
from yoyo import read_migrations
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import parse_uri
from yoyo.migrations import Migration, MigrationStep, get_migration_hash, topological_sort

from base import sqlfile
from base.connection import Target, connect_to, describe
from base.errors import UserError, from_database, unknown
from driver import project
from driver.install import dressed_views, install
from driver.project import Part
from driver.warehouse import advisory_holder, lock_holders

_SCHEMA = "yoyo"
_LOCK_KEY = 0x6F726D67  # the letters 'ormg'
_LOCK_NOT_AVAILABLE = "55P03"
LOCK_TIMEOUT = "60s"  # an open transaction that has read a view keeps it from being replaced

# Drafts of version 1 have it under the name with the underscore.
_AWAIT_NO_RUN = (
    "SELECT p.proname FROM pg_proc AS p "
    "WHERE p.oid IN (to_regprocedure('etl.await_no_run()'), to_regprocedure('etl._await_no_run()'))"
)

# A contract that has changed needs its views back before it is installed.
_REMOTE = (
    "If the contract has changed: oceanrecords source disconnect --even-if-empty, migrate, "
    "source contract, source connect."
)
# The name by which `apply` reports the installation of the routines.
INSTALLING = "routines"

# yoyo logs tracebacks of errors that the user reads as a sentence.
logging.getLogger("yoyo").addHandler(logging.NullHandler())
logging.getLogger("yoyo").propagate = False


@dataclass(frozen=True)
class MigrationState:
    """One migration and whether the database has it.

    Attributes:
        name: 'engine' or the name of the business, /, and the file's name without its suffix.
        applied_at: when it was applied (UTC), None if it is pending.
        reversible: whether it can be rolled back.
        summary: the first line of the comment that opens the file.
    """

    name: str
    applied_at: datetime | None
    reversible: bool
    summary: str


def _wait_for_lock(connection: psycopg.Connection) -> None:
    """Wait for the lock on migrations; at a timeout, name its holder."""
    connection.execute("SELECT set_config('lock_timeout', %s, false)", [LOCK_TIMEOUT])
    try:
        connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK_KEY])
    except psycopg.errors.LockNotAvailable as error:
        raise UserError(
            f"Another session has held the lock on migrations for {LOCK_TIMEOUT}.",
            "Wait until it has ended, or end it: SELECT pg_terminate_backend(…)",
            detail=advisory_holder(connection, _LOCK_KEY),
        ) from error
    connection.execute("RESET lock_timeout")


def _wait_for_run(connection: psycopg.Connection, on_wait: Callable[[], None]) -> None:
    """Wait until no run is live; the installation keeps new ones from starting by itself.

    Raises:
        UserError: if one is still live after the setting wait_limit, with its workers.
    """
    row = connection.execute(_AWAIT_NO_RUN).fetchone()
    if row is None:
        return

    def waits(_: psycopg.errors.Diagnostic) -> None:
        on_wait()

    connection.add_notice_handler(waits)
    try:
        connection.execute(sql.SQL("SELECT etl.{}()").format(sql.Identifier(row[0])))
    except psycopg.Error as error:
        raise from_database(error, context="The migration cannot start") from error
    finally:
        connection.remove_notice_handler(waits)


class _Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]
    """yoyo's psycopg 3 backend, connected as the rest of the program connects.

    Parameters:
        bookkeeping: work in the schema of yoyo's tables; migrations themselves create objects
            without a schema in public.
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
        return connect_to(self._target, application_name="oceanrecords migrate")

    def init_connection(self, connection: psycopg.Connection) -> None:
        """Prepare a connection."""
        connection.execute("SET client_min_messages = warning")
        connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
        if not self._bookkeeping:
            connection.execute("SET search_path = public, pg_temp")
        else:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {_SCHEMA}")
            connection.execute(f"SET search_path = {_SCHEMA}")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS checksum "
                "(migration_id text PRIMARY KEY, sha256 text NOT NULL)"
            )
            connection.execute(
                "CREATE TABLE IF NOT EXISTS saved_view "
                "(name text PRIMARY KEY, saved jsonb NOT NULL)"
            )

    def mark_one(self, migration: Any, log: bool = True) -> None:
        """Note that a migration is applied, and the checksum of its file."""
        super().mark_one(migration, log=log)
        self.execute(
            "INSERT INTO checksum VALUES (:id, :sum) "
            "ON CONFLICT (migration_id) DO UPDATE SET sha256 = excluded.sha256",
            {"id": migration.id, "sum": checksum(Path(migration.path))},
        )

    def unmark_one(self, migration: Any, log: bool = True) -> None:
        """Note that a migration is undone."""
        super().unmark_one(migration, log=log)
        self.execute("DELETE FROM checksum WHERE migration_id = :id", {"id": migration.id})

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
    """The engine and a business, against one database.

    Parameters:
        business: the business that was chosen, see `project.chosen`; None takes the one that the
            database holds, and OceanRecords for a database that holds nothing.
        engine_only: leave out any business.
        parts: what to migrate instead of the engine and a business; nothing is installed then
            but the files that they list.
    """

    def __init__(
        self,
        target: Target,
        business: Part | None = None,
        *,
        engine_only: bool = False,
        parts: Sequence[Part] | None = None,
    ) -> None:
        self.target = target
        self._business = business
        self._engine_only = engine_only
        self._given = parts
        self._parts: list[Part] = list(parts or ())
        self._read: list[Migration] = []

    def states(self) -> list[MigrationState]:
        """Return every migration in order, without writing anything to the database.

        Raises:
            UserError: if a migration file cannot be read, or the database not be reached.
        """
        with connect_to(self.target) as connection:
            self._choose(connection)
            applied = _applied(connection)
        return [
            MigrationState(
                migration.id,
                applied.get(migration.id),
                _is_reversible(migration),
                _summary(migration),
            )
            for migration in self._migrations()
        ]

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
            on_start: called with the name of each migration as it starts, and INSTALLING.
            on_wait: called when another migration holds the lock.

        Returns:
            The names of the migrations applied.

        Raises:
            UserError: naming the migration that failed, the file and the line; that migration
                leaves no trace. Also if the database holds another business, comes from a version
                that cannot be upgraded, or an applied migration was edited.
        """
        done: list[str] = []
        with self._locked(on_wait) as connection:
            self._choose(connection)
            migrations = self._migrations()
            wanted = migrations
            if until is not None:
                wanted = migrations[: migrations.index(self._find(until)) + 1]
            applied = _applied(connection)
            self._compare(connection, applied)
            with self._backend() as backend:
                if any(m.id not in applied for m in wanted):
                    _save_views(connection)
                for migration in wanted:
                    if migration.id not in applied:
                        on_start(migration.id)
                        self._process(backend, migration, "apply")
                        done.append(migration.id)
            if len(wanted) == len(migrations):
                on_start(INSTALLING)
                self._install()
        return done

    def optional(self) -> list[str]:
        """Return the names of the optional migrations, which only their own name applies."""
        return sorted(path.stem for path in _optional_folder().glob("*.sql"))

    def apply_optional(self, name: str, *, on_wait: Callable[[], None] = lambda: None) -> None:
        """Apply an optional migration in one transaction, also when it has been applied before.

        Parameters:
            name: one of `optional()`.
            on_wait: called when another migration holds the lock.

        Raises:
            UserError: if there is none of that name, others are pending, or it fails; it leaves no
                trace then.
        """
        if name not in self.optional():
            raise unknown("optional migration", name, self.optional())
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
            sqlfile.run(connection, _optional_folder() / f"{name}.sql")

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
            on_start: called with the name of each migration as its rollback starts.
            on_wait: called when another migration holds the lock.

        Returns:
            The names of the migrations undone, latest first.

        Raises:
            UserError: if one of them has no safe way back (nothing is undone then), or fails.
        """
        with self._locked(on_wait) as connection:
            self._choose(connection)
            moments = _applied(connection)
            stay = self._find(until) if until is not None else None
            if stay is not None and stay.id not in moments:
                raise UserError(
                    f"Migration {stay.id} is not applied, so nothing can be rolled back to it.",
                    "See `oceanrecords migrate --list`.",
                )
            applied = [one for one in self._migrations() if one.id in moments]
            # What was applied last may be of the engine, although the business comes after it.
            applied.sort(key=lambda one: moments[one.id], reverse=True)
            going = applied[: applied.index(stay)] if stay is not None else applied[:1]
            for migration in going:
                if not _is_reversible(migration):
                    raise UserError(
                        f"Migration {migration.id} cannot be rolled back: it would lose data.",
                        "Nothing was undone. Restore a backup, or write a new migration.",
                    )
            with self._backend() as backend:
                for migration in going:
                    on_start(migration.id)
                    self._process(backend, migration, "rollback")
        return [migration.id for migration in going]

    # -- parts --------------------------------------------------------------

    def _choose(self, connection: psycopg.Connection) -> None:
        """Decide what is migrated, by options and database.

        Raises:
            UserError: if the database holds another business, or one whose folder nothing names.
        """
        if self._given is not None:
            return
        parts = [project.engine()]
        held = project.held(connection)
        wanted = self._business
        if self._engine_only and (held or wanted):
            name = held or (wanted.name if wanted else "")
            raise UserError(
                f"--engine-only does not go with the business {name!r}"
                + (f", which {describe(self.target)} holds." if held else "."),
                "Use another database for an engine alone, or leave the option out.",
                exit_code=2,
            )
        if wanted is None and held not in (None, project.BUILT_IN) and not self._engine_only:
            raise UserError(
                f"{describe(self.target)} holds the business {held!r}, whose folder is unknown.",
                f"Name its folder: oceanrecords --project DIR …, {project.VARIABLE}, or change to "
                "the folder.",
            )
        if wanted is not None and held not in (None, wanted.name):
            raise UserError(
                f"{describe(self.target)} holds the business {held!r}; {wanted.name!r} cannot be "
                "added, because a database holds one business.",
                "Create another database on the server: createdb NAME, then name it with --dsn.",
            )
        if not self._engine_only and not (
            wanted is None and held is None and _is_engine_alone(connection)
        ):
            parts.append(wanted or project.built_in())
        self._parts = parts

    def _migrations(self) -> list[Migration]:
        """Return all migrations, those of the engine first, each part in its own order."""
        if not self._read:
            for part in self._parts:
                try:
                    found = read_migrations(str(part.migrations))
                    ordered = list(topological_sort(found)) if part.migrations.is_dir() else []
                except yoyo_exceptions.BadMigration as error:
                    raise UserError(
                        "A migration cannot be read.",
                        f"Look at the files in {part.migrations}.",
                        detail=str(error),
                    ) from error
                for migration in ordered:
                    migration.id = f"{part.name}/{migration.id}"
                    migration.hash = get_migration_hash(migration.id)
                    _point_at_lines(migration)
                self._read += ordered
        return self._read

    def _find(self, name: str) -> Migration:
        """Return the migration of a name, with or without its part, or of a name's beginning."""
        known = self._migrations()
        exact = [m for m in known if name in (m.id, m.id.partition("/")[2])]
        matching = exact or [
            m for m in known if m.id.startswith(name) or m.id.partition("/")[2].startswith(name)
        ]
        if not matching:
            names = [part for one in known for part in (one.id, one.id.partition("/")[2])]
            raise unknown("migration", name, names, lists="oceanrecords migrate --list")
        if len(matching) > 1:
            raise UserError(
                f"More than one migration begins with '{name}'.",
                f"Name one of them: {', '.join(m.id for m in matching)}.",
            )
        return matching[0]

    def _compare(self, connection: psycopg.Connection, applied: dict[str, datetime]) -> None:
        """Refuse a database whose applied migrations are not those of this version.

        Raises:
            UserError: naming the first that differs.
        """
        if not applied:
            return
        place = describe(self.target)
        known = {migration.id: migration for migration in self._migrations()}
        row = connection.execute("SELECT to_regclass('yoyo.checksum') IS NOT NULL").fetchone()
        if not (row and row[0]) or any("/" not in name for name in applied):
            raise UserError(
                f"{place} was installed by a version before 1.0.0, which cannot be upgraded.",
                "Keep the history of its dimensions (oceanrecords export-history DIR), and "
                "install this version into a new database: createdb NEW; with --dsn …/NEW: "
                "oceanrecords migrate, import-history DIR, run.",
            )
        noted: dict[str, str] = dict(
            connection.execute("SELECT migration_id, sha256 FROM yoyo.checksum").fetchall()
        )
        for name in applied:
            if name not in known:
                if name.partition("/")[0] in {part.name for part in self._parts}:
                    raise UserError(
                        f"{place} has the migration {name}, which this version does not have.",
                        "Use the version that applied it, or a later one.",
                    )
            elif name in noted and noted[name] != checksum(Path(known[name].path)):
                raise UserError(
                    f"Migration {name} was edited after it was applied to {place}.",
                    f"Restore {known[name].path} as it was, and write the change as a new "
                    "migration.",
                )

    def _install(self) -> None:
        """Install the parts' files in one transaction.

        Raises:
            UserError: naming the file of the statement that failed.
        """
        if self._given is not None and not any(part.files() for part in self._given):
            return
        try:
            with connect_to(
                self.target, autocommit=False, application_name="oceanrecords migrate"
            ) as connection:
                connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                saved = connection.execute("DELETE FROM yoyo.saved_view RETURNING saved").fetchall()
                install(connection, self._parts, [view for (view,) in saved])
        except psycopg.errors.LockNotAvailable as error:
            raise self._kept_waiting("The installation") from error
        except psycopg.Error as error:
            notes = getattr(error, "__notes__", None) or ["the installation"]
            failed = from_database(error, context=notes[-1].removeprefix("while installing "))
            if self._is_source_remote():
                failed.hint = _REMOTE
            raise failed from error

    def _is_source_remote(self) -> bool:
        with connect_to(self.target) as connection:
            row = connection.execute(
                "SELECT EXISTS (SELECT FROM pg_foreign_server WHERE srvname = 'etl_source')"
            ).fetchone()
        return bool(row and row[0])

    @contextlib.contextmanager
    def _backend(self) -> Iterator[_Backend]:
        """Yield yoyo's backend with its tables in place."""
        with contextlib.ExitStack() as stack:
            try:
                backend = _Backend(self.target, bookkeeping=True)
                stack.callback(backend.connection.close)
                backend.init_database()
                backend.ensure_internal_schema_updated()
                # yoyo's own lock is a row, which a killed process leaves behind. While this session
                # holds the advisory lock, no other one needs it.
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
        try:
            # yoyo prints what a SELECT returns; a migration has nothing to say on standard output.
            with contextlib.redirect_stdout(io.StringIO()):
                if action == "rollback":
                    backend.rollback_one(migration)
                else:
                    backend.apply_one(migration)
        except yoyo_exceptions.BadMigration as error:
            raise UserError(
                f"Migration {migration.id} cannot be read.",
                f"Look at {migration.path}.",
                detail=str(error),
            ) from error
        except psycopg.Error as error:  # of a migration in Python
            raise from_database(error, context=Path(migration.path).name) from error
        except UserError as error:
            if error.code == _LOCK_NOT_AVAILABLE:
                raise self._kept_waiting(f"Migration {migration.id}") from error
            if error.code in ("2BP01", "0A000") and "view" in (error.detail or ""):
                error.hint = (
                    "In the migration, drop these views first: DROP VIEW IF EXISTS …; the files of "
                    "the business create them again, with their grants."
                )
            raise

    def _kept_waiting(self, what: str) -> UserError:
        """Return the error of a lock timeout, with the sessions that hold locks."""
        holding = None
        with (
            connect_to(self.target, application_name="oceanrecords migrate lock") as connection,
            contextlib.suppress(psycopg.Error),  # where the engine is not installed yet
        ):
            holding = lock_holders(connection)
        return UserError(
            f"{what} waited {LOCK_TIMEOUT} for a lock, and left no trace.",
            "Let the session end its transaction, or end it: SELECT pg_terminate_backend(…); "
            "then run the command again.",
            detail=holding or "The session that held it has ended.",
            code=_LOCK_NOT_AVAILABLE,
        )


def _save_views(connection: psycopg.Connection) -> None:
    """Keep the views that a migration may drop until an installation has put them back.

    If a migration or the installation fails, the next one finds here what they were granted.
    """
    for view in dressed_views(connection):
        connection.execute(
            "INSERT INTO yoyo.saved_view VALUES (%s, %s) "
            "ON CONFLICT (name) DO UPDATE SET saved = excluded.saved",
            [view["name"], Jsonb(view)],
        )


def checksum(path: Path) -> str:
    """Return the SHA-256 of a migration's file; how its lines end does not count."""
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def _is_engine_alone(connection: psycopg.Connection) -> bool:
    """Whether a database has the engine, and never had a business."""
    row = connection.execute("SELECT to_regprocedure('etl.build()') IS NOT NULL").fetchone()
    return bool(row and row[0]) and not any(
        not name.startswith(f"{project.ENGINE}/") for name in _applied(connection)
    )


def _optional_folder() -> Path:
    return project.engine().migrations / "optional"


def _applied(connection: psycopg.Connection) -> dict[str, datetime]:
    """Return the migrations that a database has, with when each was applied (UTC)."""
    row = connection.execute("SELECT to_regclass('yoyo._yoyo_migration') IS NOT NULL").fetchone()
    if not (row and row[0]):
        return {}
    rows = connection.execute("SELECT migration_id, applied_at_utc FROM yoyo._yoyo_migration")
    return {name: applied_at.replace(tzinfo=UTC) for name, applied_at in rows}


def _rollback_file(migration: Migration) -> Path:
    path = Path(migration.path)
    return path.with_name(f"{path.stem}.rollback.sql")


def _point_at_lines(migration: Migration) -> None:
    """Let a migration in SQL run as its files, so that an error names file and line."""
    migration.load()
    if not migration.path.endswith(".sql"):
        return
    apply, rollback = (
        partial(sqlfile.run, path=path) if path.exists() else None
        for path in (Path(migration.path), _rollback_file(migration))
    )
    migration.steps = [MigrationStep(0, apply, rollback)]


def _is_reversible(migration: Migration) -> bool:
    """Whether a migration can be rolled back."""
    return any(
        getattr(getattr(step, "step", step), "_rollback", None) is not None
        for step in migration.steps or []
    )


def _summary(migration: Migration) -> str:
    """Return the first sentence of the comment that opens a migration."""
    first, *_ = re.split(r"\n\s*\n", getattr(migration.module, "__doc__", None) or "", maxsplit=1)
    text = " ".join(first.split())
    return re.split(r"(?<=\w\w)[.:](?: |$)", text, maxsplit=1)[0]
