"""The statements of the simulator: one per file, in the folder `sql` next to this module.

They are the simulator's own and no part of the operational system, which knows nothing of it.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def statement(name: str) -> bytes:
    """Return the statement kept in sql/<name>.sql, with its %(parameters)s.

    Parameters:
        name: path below the folder `sql`, without the extension.

    Raises:
        FileNotFoundError: if there is no such statement.
    """
    return files("simulator").joinpath("sql", f"{name}.sql").read_bytes()
