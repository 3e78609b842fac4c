"""A source made in the manner of others, and the draft of a warehouse for it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.database import Database, temporary_database
from tests.support.program import Program
from tests.support.servers import RunningServer

SOURCES = Path(__file__).with_name("sources")
SCHEMAS = {
    "orders": ("orders",),
    "rental": ("rental",),
    "clinic": ("clinic_people", "clinic_sales", "clinic_stock"),
    "keyless": ("keyless",),
    "names": ("My Shop",),
}


@dataclass
class Draft:
    """A drafted business and its database, with the commands that a person would call."""

    name: str
    folder: Path
    database: Database
    program: Program

    def call(self, *arguments: str, expect: int = 0) -> str:
        finished = self.program.call(
            *("--project", str(self.folder), "--dsn", self.database.dsn, *arguments),
            env=os.environ | {"COLUMNS": "160", "NO_COLOR": "1"},
        )
        assert finished.returncode == expect, finished.stdout + finished.stderr
        return finished.stdout

    def new(self) -> str:
        schemas = [part for one in SCHEMAS[self.name] for part in ("--schema", one)]
        return self.call("new", str(self.folder), *schemas)

    def load(self, expect: int = 0) -> None:
        """Run, and find source, mirrors and stars in agreement."""
        self.call("run", expect=expect)
        answer = json.loads(self.call("reconcile", "--json"))
        assert answer["status"] == "equal", answer

    def follow(self) -> str:
        """Follow the changes of the source as the guide says; return the patch."""
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


@pytest.fixture(scope="session")
def drafts(
    server: RunningServer, tmp_path_factory: pytest.TempPathFactory, program: Program
) -> Iterator[Callable[[str], Draft]]:
    """Makes a source and its draft, migrated and loaded, once for all tests, which copy it."""
    made: dict[str, Draft] = {}
    with contextlib.ExitStack() as stack:

        def get(name: str) -> Draft:
            if name not in made:
                database = stack.enter_context(temporary_database(server, None))
                database.execute((SOURCES / f"{name}.sql").read_text(encoding="utf-8"))
                folder = tmp_path_factory.mktemp(name) / name
                draft = Draft(name, folder, database, program)
                draft.new()
                draft.call("migrate")
                # Two of these rows are of a date that no calendar has.
                draft.load(expect=3 if name == "names" else 0)
                made[name] = draft
            return made[name]

        yield get


@pytest.fixture
def draft(
    server: RunningServer, drafts: Callable[[str], Draft], tmp_path: Path
) -> Iterator[Callable[[str], Draft]]:
    """Makes a copy of a draft and its database for one test."""
    with contextlib.ExitStack() as stack:

        def make(name: str) -> Draft:
            origin = drafts(name)
            database = stack.enter_context(temporary_database(server, origin.database.name))
            folder = tmp_path / name
            shutil.copytree(origin.folder, folder)
            return Draft(name, folder, database, origin.program)

        yield make
