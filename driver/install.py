"""Installs routines, views and catalog rows: what a migration does not keep, but replaces.

All files run in one transaction. Where CREATE OR REPLACE is not enough (another result type,
renamed columns of a view), the object is dropped and created, and what depends on it is put back
with its owner, grants and comments.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from base import sqlfile
from base.errors import UserError
from driver.project import Part

# Another result type or parameter names of a routine; columns of a view that are not the old ones.
_NOT_REPLACEABLE = ("42P13", "42P16")
# A view still reads a column of a mirror that the contract has lost or retyped.
_IN_USE = ("2BP01", "0A000")

_ROUTINES = """
SELECT p.oid::regprocedure::text, p.proname, p.xmin::text
FROM pg_proc AS p
WHERE p.pronamespace = to_regnamespace('etl')
"""

_VIEWS = """
SELECT c.oid
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'v'
    AND c.relacl IS NOT NULL
    AND n.nspname IN ('analysis', 'kpi', 'work')
"""

_SQL = Path(__file__).with_name("sql")

_BUILD = re.compile(r"CALL\s+etl\.build\s*\(", re.IGNORECASE)
_VIEW = re.compile(r"CREATE\s+OR\s+REPLACE\s+VIEW\s+([^\s(]+)", re.IGNORECASE)
_ROUTINE_HINT = re.compile(r"DROP \w+ (.+\))")


@dataclass
class _SetAside:
    """An object that was dropped and has to be there again.

    Attributes:
        row: its row of dependents.sql.
        by_file: whether the file in hand creates it itself.
    """

    row: dict[str, Any]
    by_file: bool
    is_settled: bool = False


def dressed_views(connection: psycopg.Connection[Any]) -> list[dict[str, Any]]:
    """Return the views with grants, each with its row of dependents.sql.

    A migration may drop them to alter a table; the installation that follows creates them again.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        return [
            row
            for (view,) in connection.execute(_VIEWS).fetchall()
            for row in cursor.execute(
                (_SQL / "dependents.sql").read_bytes(), {"classid": "pg_class", "objid": view}
            ).fetchall()
            if row["id"] == view
        ]


def install(
    connection: psycopg.Connection[Any],
    parts: Sequence[Part],
    dropped: Sequence[dict[str, Any]] = (),
) -> None:
    """Run the files of the parts, register the business, build, and apply the permissions.

    Writes routines, views and catalog rows. The caller commits.

    Parameters:
        connection: in a transaction.
        parts: the engine, then the business if there is one.
        dropped: views as they were, with their grants; some may have to be created again.

    Raises:
        psycopg.Error: with a note that names the file.
        UserError: if an object that is no part of the installation depends on what changes.
    """
    connection.execute("SET LOCAL client_min_messages = warning")
    # On Citus, routines and views stay on the coordinator: etl.build() and
    # etl.apply_permissions() let changes of tables through.
    connection.execute("SET LOCAL citus.enable_ddl_propagation = off")
    before = set(connection.execute(_ROUTINES).fetchall())
    replacer = _Replacer(connection)
    for part in parts:
        if not part.is_engine:
            connection.execute("SELECT etl.begin_declarations(%s)", [part.name])
        for path in part.files():
            try:
                replacer.run(path)
            except Exception as error:
                error.add_note(f"while installing {_place(path)}")
                raise
        if not part.is_engine:
            # What the files do not declare any more leaves the catalog; its tables stay.
            connection.execute("SELECT etl.end_declarations()")
    replacer.finish()
    _drop_outdated(connection, before)
    for part in parts:
        if not part.is_engine:
            _register(connection, part)
    for step in ("build", "publish", "apply_permissions"):
        if step == "apply_permissions":
            replacer.dress_again(dropped)
        try:
            connection.execute(sql.SQL("CALL etl.{}()").format(sql.Identifier(step)))
        except psycopg.Error as error:
            error.add_note(f"while installing etl.{step}()")
            raise


def _place(path: Path) -> str:
    """Return a file's name with the folders below and including `plpgsql`."""
    parts = path.parts
    start = len(parts) - 1 - parts[::-1].index("plpgsql") if "plpgsql" in parts else -1
    return "/".join(parts[start:])


def _drop_outdated(connection: psycopg.Connection[Any], before: set[tuple[Any, ...]]) -> None:
    """Drop routines of the engine that no file defines any more, or not with these parameters."""
    after = set(connection.execute(_ROUTINES).fetchall())
    installed = {name for _, name, _ in after - before}
    for routine, name, _ in before & after:
        if name.startswith("_") or name in installed:
            connection.execute(sql.SQL("DROP ROUTINE {}").format(sql.SQL(routine)))


def _register(connection: psycopg.Connection[Any], business: Part) -> None:
    """Note which business is installed, and take over its settings and calendar.

    Raises:
        UserError: if warehouse.toml names a setting that does not exist.
    """
    row = connection.execute("SELECT settings FROM etl.business").fetchone()
    known: dict[str, str] = row[0] if row else {}
    for name, value in business.settings.items():
        if known.get(name) == value:
            continue
        done = connection.execute(
            "UPDATE etl.setting SET value = %s WHERE name = %s", [value, name]
        )
        if not done.rowcount:
            raise UserError(
                f'warehouse.toml: setting "{name}" does not exist.',
                "To list the settings, run: oceanrecords settings list",
            )
    connection.execute(
        "INSERT INTO etl.business AS b (name, settings) VALUES (%s, %s) "
        "ON CONFLICT (is_only) DO UPDATE SET settings = excluded.settings "
        "WHERE b.settings <> excluded.settings",
        [business.name, Jsonb(business.settings)],
    )
    if business.calendar:
        connection.execute("SELECT dwh.extend_calendar(%s, %s)", business.calendar)


class _Replacer:
    """Runs files, and replaces what CREATE OR REPLACE cannot."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._aside: list[_SetAside] = []
        self._stubs: dict[str, tuple[str, str]] = {}

    def run(self, path: Path) -> None:
        """Run a file; statement by statement when one of its objects has to be replaced."""
        text = path.read_text(encoding="utf-8")
        try:
            self._execute(text)
            return
        except psycopg.Error as error:
            if error.sqlstate not in _NOT_REPLACEABLE + _IN_USE or "begin atomic" in text.lower():
                raise
        for _, statement in sqlfile.statements(text):
            try:
                self._execute(statement)
            except psycopg.Error as error:
                if error.sqlstate in _IN_USE and _BUILD.search(statement):
                    self._build_without_views(statement)
                    continue
                if error.sqlstate not in _NOT_REPLACEABLE:
                    raise
                target = self._target(statement, error)
                if target is None:
                    raise
                self._set_aside(*target)
                self._execute(statement)
                self._restore()

    def finish(self) -> None:
        """Put back what is still missing.

        Raises:
            UserError: if something cannot be put back, because it uses what has changed.
        """
        for name, (stub, reason) in self._stubs.items():
            if self._value("SELECT pg_get_viewdef(to_regclass(%s))", name) == stub:
                raise UserError(
                    f"{name} reads what the contract no longer gives: {reason}",
                    f"Bring {name} in line with the contract, and migrate again. Nothing was "
                    "changed.",
                )
        problem = self._restore()
        missing = [one for one in self._aside if not one.is_settled]
        if missing:
            row = missing[0].row
            raise UserError(
                f"{row['description']} uses what this version changes, and is no part of it"
                + (f": {problem}" if problem else "."),
                f"Drop {row['name']}, migrate, create it in its new form. Nothing was changed.",
            )

    def dress_again(self, views: Sequence[dict[str, Any]]) -> None:
        """Give views that were dropped, and are there again, what they had."""
        for row in views:
            if self._value("SELECT to_regclass(%s)::oid", row["name"]) not in (None, row["id"]):
                self._dress(row)

    # -- parts --------------------------------------------------------------

    def _execute(self, statement: str) -> None:
        with self._connection.transaction():
            self._connection.execute(statement.encode())

    def _build_without_views(self, statement: str) -> None:
        """Build while views of the right columns, but without rows, stand in for those on mirrors.

        Those that can be made again as they were are; a later file makes the others.
        """
        found = self._connection.execute((_SQL / "mirror_views.sql").read_bytes()).fetchall()
        for _, head, _, stub in found:
            self._execute(head + stub)
        self._execute(statement)
        for name, head, definition, _ in found:
            try:
                self._execute(head + definition)
            except psycopg.Error as error:
                present = self._value("SELECT pg_get_viewdef(to_regclass(%s))", name)
                self._stubs[name] = (present, error.diag.message_primary or "")

    def _target(self, statement: str, error: psycopg.Error) -> tuple[str, str] | None:
        """Return class and name of the object that a statement could not replace."""
        if error.sqlstate == "42P16":
            found = _VIEW.search(statement)
            return ("pg_class", found[1]) if found else None
        found = _ROUTINE_HINT.search(error.diag.message_hint or "")
        return ("pg_proc", found[1]) if found else None

    def _set_aside(self, kind: str, name: str) -> None:
        """Drop an object and what depends on it, and note all of them.

        Raises:
            UserError: if one of them cannot be put back: a table's column, default or constraint.
        """
        function = "to_regclass" if kind == "pg_class" else "to_regprocedure"
        target = self._value(f"SELECT {function}(%s)::oid", name)
        with self._connection.cursor(row_factory=dict_row) as cursor:
            found = cursor.execute(
                (_SQL / "dependents.sql").read_bytes(), {"classid": kind, "objid": target}
            ).fetchall()
        for row in found:
            if row["definition"] is None:
                raise UserError(
                    f"{row['description']} depends on {name}, which this version changes.",
                    "Remove that dependency, migrate, then restore it. Nothing was changed.",
                )
        drop = "VIEW" if kind == "pg_class" else "ROUTINE"
        self._connection.execute(f"DROP {drop} {name} CASCADE".encode())
        self._aside += [_SetAside(row, row["id"] == target) for row in found]

    def _restore(self) -> str | None:
        """Put back all that can be put back now; return why the last one could not."""
        problem = None
        progress = True
        while progress:
            progress = False
            for one in self._aside:
                if one.is_settled:
                    continue
                if not self._exists(one.row):
                    if one.by_file:
                        continue
                    try:
                        self._execute(one.row["definition"])
                    except psycopg.Error as error:
                        problem = error.diag.message_primary
                        continue
                self._dress(one.row)
                one.is_settled = progress = True
        return problem

    def _exists(self, row: dict[str, Any]) -> bool:
        if row["noun"] is None:  # a trigger goes with its view
            return False
        function = "to_regprocedure" if row["noun"] == "ROUTINE" else "to_regclass"
        return self._value(f"SELECT {function}(%s)", row["name"]) is not None

    def _value(self, query: str, *parameters: Any) -> Any:
        found = self._connection.execute(query.encode(), parameters).fetchone()
        return found[0] if found else None

    def _dress(self, row: dict[str, Any]) -> None:
        """Give an object that was created again its owner, grants, comments and catalog rows."""
        if row["noun"] is None:
            return
        found = self._connection.execute(
            (_SQL / "dress.sql").read_bytes(), {"saved": Jsonb(row)}
        ).fetchall()
        for (statement,) in found:
            self._connection.execute(statement.encode())
