"""Named databases: `--target prod`, from a file in the project's folder or the user's own.

    # oceanrecords.toml
    default = "dev"

    [targets.dev]
    dsn = "postgresql://localhost/warehouse_dev"

    [targets.prod]
    dsn = "service=warehouse"

The file holds no secrets: passwords are for ~/.pgpass, a service file or PGPASSWORD.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from base.errors import EXIT_USAGE, UserError, unknown

PROJECT_FILE = "oceanrecords.toml"
VARIABLE = "OCEANRECORDS_TARGET"
_KEYS = {"dsn"}


class TargetDsn(str):
    """A connection string that knows where it comes from.

    Attributes:
        origin: target and file, for people.
    """

    origin: str

    def __new__(cls, dsn: str, origin: str) -> TargetDsn:
        """Make one."""
        made = super().__new__(cls, dsn)
        made.origin = origin
        return made


@dataclass(frozen=True)
class NamedTarget:
    """A target of a file.

    Attributes:
        dsn: its connection string, without a password.
        file: where it is declared.
        is_default: whether it is used when nothing else is named.
    """

    name: str
    dsn: str
    file: Path
    is_default: bool

    def as_dsn(self) -> TargetDsn:
        """Return its connection string with its origin."""
        return TargetDsn(self.dsn, f"target {self.name} of {self.file}")


def files() -> list[Path]:
    """Return the files that are read; a target of the first hides its namesake in the second."""
    home = os.environ.get("XDG_CONFIG_HOME")
    folder = Path(home) if home and Path(home).is_absolute() else Path.home() / ".config"
    return [Path.cwd() / PROJECT_FILE, folder / "oceanrecords" / "config.toml"]


def read() -> list[NamedTarget]:
    """Return the declared targets, by name.

    Raises:
        UserError: if a file cannot be read, or holds what it must not.
    """
    found: dict[str, NamedTarget] = {}
    default: str | None = None
    declared: list[tuple[Path, str, str]] = []
    for file in files():
        content = _load(file)
        if content is None:
            continue
        if default is None and "default" in content:
            default = str(content["default"])
        for name, one in _targets(file, content).items():
            declared.append((file, name, one))
    for file, name, dsn in declared:
        found.setdefault(name, NamedTarget(name, dsn, file, name == default))
    if default is not None and default not in found:
        raise unknown("default target", default, found, lists="oceanrecords db targets")
    return sorted(found.values(), key=lambda one: one.name)


def find(name: str) -> TargetDsn:
    """Return the connection string of a target.

    Raises:
        UserError: if there is none of that name.
    """
    targets = {one.name: one for one in read()}
    if name not in targets:
        error = unknown("target", name, targets, lists="oceanrecords db targets")
        error.exit_code = EXIT_USAGE
        if not targets:
            error.hint = f'Declare it in {PROJECT_FILE}: [targets.{name}] dsn = "…"'
        raise error
    return targets[name].as_dsn()


def default() -> TargetDsn | None:
    """Return the connection string of the default target; None where no file names one."""
    if not any(file.is_file() for file in files()):
        return None
    return next((one.as_dsn() for one in read() if one.is_default), None)


def _load(file: Path) -> dict[str, Any] | None:
    import tomllib  # most commands read no file

    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{file} cannot be read.", detail=reason) from error


def _targets(file: Path, content: dict[str, Any]) -> dict[str, str]:
    """Return names and connection strings of a file's targets.

    Raises:
        UserError: if something else is there, or a password.
    """
    from psycopg import ProgrammingError, conninfo

    unknown_keys = sorted(set(content) - {"default", "targets"})
    if unknown_keys:
        raise unknown(f"key of {file}", unknown_keys[0], ["default", "targets"])
    tables = content.get("targets", {})
    if not isinstance(tables, dict):
        raise UserError(f'"targets" of {file} is not a table.', "Write [targets.NAME].")
    result = {}
    for name, table in tables.items():
        place = f'Target "{name}" of {file}'
        if not isinstance(table, dict) or not isinstance(table.get("dsn"), str) or not table["dsn"]:
            raise UserError(f"{place} has no dsn.", 'Write dsn = "postgresql://host/database".')
        extra = sorted(set(table) - _KEYS)
        if extra:
            raise unknown(f"key of target {name}", extra[0], _KEYS)
        try:
            settings = conninfo.conninfo_to_dict(table["dsn"])
        except ProgrammingError:
            # libpq's own message quotes parts of the string.
            raise UserError(
                f"The dsn of {place[0].lower()}{place[1:]} cannot be read.",
                "Write postgresql://user@host:5432/database, or 'host=… dbname=… user=…'.",
            ) from None
        if "password" in settings or "sslpassword" in settings:
            raise UserError(
                f"{place} holds a password.",
                "Remove it, and use ~/.pgpass, a service file or PGPASSWORD.",
            )
        result[name] = table["dsn"]
    return result
