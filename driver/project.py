"""What a warehouse consists of: the engine, and a business, which is a folder.

A business folder holds `warehouse.toml`, `migrations/`, `plpgsql/` with its `install.txt`, and
`dashboard/`. OceanRecords is the built-in business; its parts are in the
folders `migrations/oceanrecords` and `plpgsql/oceanrecords` of the installation.
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import psycopg

from base import resources
from base.connection import connect
from base.errors import UserError

VARIABLE = "OCEANRECORDS_PROJECT"
FILE = "warehouse.toml"
BUILT_IN = "oceanrecords"
ENGINE = "engine"

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_KEYS = {"name", "schemas", "calendar", "settings"}


@dataclass(frozen=True)
class Part:
    """The engine or a business: what has migrations of its own, and files that are installed.

    Attributes:
        name: 'engine', or the name of the business; it qualifies the names of its migrations.
        migrations: folder of its migrations; it need not exist.
        contents: its `install.txt`, which names the installed files in order; it need not exist.
        settings: values for etl.setting.
        calendar: first and last day that the calendar has to cover, or None.
        schemas: schemas of its operational system.
        folder: the folder of the business; None for what comes with the program.
    """

    name: str
    migrations: Path
    contents: Path
    settings: dict[str, str] = field(default_factory=dict)
    calendar: tuple[date, date] | None = None
    schemas: tuple[str, ...] = ()
    folder: Path | None = None

    @property
    def is_engine(self) -> bool:
        """Whether it is the engine, not a business."""
        return self.name == ENGINE

    def files(self) -> list[Path]:
        """Return the files that are installed, in order.

        Raises:
            UserError: if one that is listed does not exist.
        """
        if not self.contents.is_file():
            return []
        found = []
        for number, line in enumerate(self.contents.read_text(encoding="utf-8").splitlines(), 1):
            name = line.partition("#")[0].strip()
            if not name:
                continue
            path = self.contents.parent / name
            if not path.is_file():
                raise UserError(
                    f"{self.contents}, line {number}: there is no file {name}.",
                    "Correct the line, or add the file.",
                )
            found.append(path)
        return found


def engine() -> Part:
    """Return the engine."""
    return Part(ENGINE, resources.migrations() / ENGINE, resources.plpgsql() / "install.txt")


def built_in() -> Part:
    """Return OceanRecords, the built-in business."""
    return Part(
        BUILT_IN,
        resources.migrations() / BUILT_IN,
        resources.plpgsql() / BUILT_IN / "install.txt",
        schemas=(BUILT_IN,),
    )


def chosen(option: str | None = None) -> Part | None:
    """Return the business that was chosen: `--project`, OCEANRECORDS_PROJECT, the current folder.

    Parameters:
        option: the value of `--project`: a folder, or 'oceanrecords' for the built-in business.

    Returns:
        The business; None when nothing names one.

    Raises:
        UserError: if the folder holds no business, or its warehouse.toml cannot be used.
    """
    origin, value = "--project", option
    if not value:
        origin, value = VARIABLE, os.environ.get(VARIABLE)
    if not value:
        here = Path.cwd()
        return read(here) if (here / FILE).is_file() else None
    folder = Path(value).expanduser()
    if value == BUILT_IN and not (folder / FILE).is_file():
        return built_in()
    if not (folder / FILE).is_file():
        raise UserError(
            f"{origin}: {folder} is not the folder of a business: it has no {FILE}.",
            f"Name a folder made by `oceanrecords new`, or '{BUILT_IN}'.",
            exit_code=2,
        )
    return read(folder)


def held(connection: psycopg.Connection[Any]) -> str | None:
    """Return the name of the business that a database holds, None if it holds none."""
    # A reader of dashboards may not look into schema etl.
    row = connection.execute(
        """
        SELECT FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = 'etl' AND c.relname = 'business'
            AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
        """
    ).fetchone()
    if row is None:
        return None
    row = connection.execute("SELECT max(name) FROM etl.business").fetchone()
    return row[0] if row else None


def expect(option: str | None, connection: psycopg.Connection[Any]) -> None:
    """Refuse a database that holds another business than `--project` names.

    Raises:
        UserError: naming both.
    """
    if not option:
        return
    business, name = chosen(option), held(connection)
    if business and name not in (None, business.name):
        raise UserError(
            f"The database {connection.info.dbname} holds the business {name!r}, not "
            f"{business.name!r}.",
            "Name the database with --dsn, or leave out --project: it is that of the database.",
        )


def dashboard(option: str | None, dsn: str | None) -> Path | None:
    """Return the folder of the dashboard of the business that a database holds.

    Parameters:
        option: the value of `--project`.
        dsn: the database.

    Returns:
        The folder; None for the built-in business, whose dashboard travels with the program.

    Raises:
        UserError: if `--project` names another business, or nothing names the folder.
    """
    business = chosen(option)
    with connect(dsn) as connection:
        name = held(connection)
        place = connection.info.dbname
    if business is None and name in (None, BUILT_IN):
        return None
    if business is None or name not in (None, business.name):
        raise UserError(
            f"The database {place} holds the business {name!r}"
            + (", whose folder is unknown." if business is None else f", not {business.name!r}."),
            f"Name its folder: oceanrecords --project DIR …, {VARIABLE}, or change to the folder.",
        )
    return business.folder / "dashboard" if business.folder else None


def read(folder: Path) -> Part:
    """Return the business in a folder.

    Raises:
        UserError: naming the key of its warehouse.toml that cannot be used.
    """
    folder = folder.resolve()
    path = folder / FILE
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path} cannot be read.", detail=str(error)) from error
    unknown = sorted(set(given) - _KEYS)
    if unknown:
        raise _wrong(path, unknown[0], f"is none of {', '.join(sorted(_KEYS))}")
    name = given.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in (ENGINE, BUILT_IN):
        raise _wrong(
            path, "name",
            "must be a name of small letters, digits, - and _, such as northwind; "
            f"'{ENGINE}' and '{BUILT_IN}' are taken",
        )  # fmt: skip
    schemas = given.get("schemas", [])
    if not isinstance(schemas, list) or not all(isinstance(one, str) for one in schemas):
        raise _wrong(path, "schemas", 'must be a list of names, such as ["northwind"]')
    settings = given.get("settings", {})
    if not isinstance(settings, dict) or not all(isinstance(v, str) for v in settings.values()):
        raise _wrong(path, "settings", 'must be a table of texts, such as currency = "EUR"')
    return Part(
        name,
        folder / "migrations",
        folder / "plpgsql" / "install.txt",
        settings=settings,
        calendar=_calendar(path, given.get("calendar")),
        schemas=tuple(schemas),
        folder=folder,
    )


def _calendar(path: Path, given: Any) -> tuple[date, date] | None:
    if given is None:
        return None
    if isinstance(given, list) and len(given) == 2 and all(type(one) is date for one in given):
        first, last = given
        if first <= last:
            return first, last
    raise _wrong(path, "calendar", "must be two dates in order, such as [2015-01-01, 2035-12-31]")


def _wrong(path: Path, key: str, problem: str) -> UserError:
    return UserError(f"{path}: {key} {problem}.", exit_code=2)
