"""A source made in the manner of others, and the draft of a warehouse for it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Finished
from tests.support.database import Database

SOURCES = Path(__file__).with_name("sources")
SCHEMAS = {
    "orders": ("orders",),
    "rental": ("rental",),
    "clinic": ("clinic_people", "clinic_sales", "clinic_stock"),
    "keyless": ("keyless",),
}


@dataclass
class Draft:
    """A drafted business and its database, with the commands that a person would call."""

    name: str
    folder: Path
    database: Database
    program: Callable[..., Finished]

    def call(self, *arguments: str, expect: int = 0) -> str:
        finished = self.program(
            "--project", str(self.folder), "--dsn", self.database.dsn, *arguments
        )
        assert finished.returncode == expect, finished.stdout + finished.stderr
        return finished.stdout

    def new(self) -> str:
        schemas = [part for one in SCHEMAS[self.name] for part in ("--schema", one)]
        return self.call("new", str(self.folder), *schemas)

    def load(self) -> None:
        """Run, and find source, mirrors and stars in agreement."""
        self.call("run")
        answer = json.loads(self.call("reconcile", "--json"))
        assert answer["status"] == "equal", answer

    def follow(self) -> str:
        """Take in what has changed in the source, as the guide tells; return the patch."""
        patch = self.call("new", str(self.folder))
        assert patch.startswith("--- ")
        subprocess.run(
            ["patch", "--strip=1", "--quiet"], cwd=self.folder, input=patch, text=True, check=True
        )
        self.call("migrate")
        self.load()
        assert self.call("new", str(self.folder)).startswith("The source is as it was")
        return patch

    def execute(self, statement: str) -> None:
        self.database.execute(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in self.database.rows(query)]

    def value(self, query: str) -> Any:
        return self.database.value(query)


@pytest.fixture
def draft(
    empty_database: Database, oceanrecords: Callable[..., Finished], tmp_path: Path
) -> Callable[[str], Draft]:
    """Makes a source and its draft, migrated and loaded."""

    def make(name: str, prepare: str = "", load: bool = True) -> Draft:
        empty_database.execute((SOURCES / f"{name}.sql").read_text(encoding="utf-8"))
        if prepare:
            empty_database.execute(prepare)
        made = Draft(name, tmp_path / name, empty_database, oceanrecords)
        made.new()
        if load:
            made.call("migrate")
            made.load()
        return made

    return make
