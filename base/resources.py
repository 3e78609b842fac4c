"""Finds the data that travels with the program: migrations and PL/pgSQL."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

from base.errors import UserError


def directory(name: str) -> Path:
    """Return the folder of a data package next to `base`.

    The neighbour of this very package is meant, never another folder of that name on the import
    path (`migrations` is a common one).

    Parameters:
        name: 'migrations' or 'plpgsql'.

    Raises:
        UserError: if the installation lacks it.
    """
    found = Path(str(importlib.resources.files("base"))).parent / name
    if not found.is_dir():
        raise UserError(
            f"The installation is incomplete: its folder '{name}' is missing.",
            "Install the package again: pip install --force-reinstall oceanrecords-warehouse",
        )
    return found


def migrations() -> Path:
    """Return the folder of the yoyo migrations: one folder for the engine, one per business."""
    return directory("migrations")


def plpgsql() -> Path:
    """Return the folder of the PL/pgSQL sources."""
    return directory("plpgsql")
