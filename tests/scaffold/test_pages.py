"""The tutorial and the how-to that goes on from it can be followed word by word."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.support.database import Database

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

DOCS = Path(__file__).parents[2] / "docs"
PAGES = (
    "your-own-warehouse.md",
    "when-your-source-changes.md",
)  # the second goes on from the first
BY_HAND = "a-business-by-hand.md"
FENCE = re.compile(r"^( *)```(sql|sh|text)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


@dataclass
class Block:
    """A block of a page."""

    page: str
    line: int
    language: str
    text: str


def blocks(page: str) -> Iterator[Block]:
    source = (DOCS / page).read_text(encoding="utf-8")
    for found in FENCE.finditer(source):
        text = re.sub(rf"^{found[1]}", "", found[3], flags=re.MULTILINE)
        yield Block(page, source.count("\n", 0, found.start()) + 1, found[2], text)


def matches(expected: str, actual: str) -> bool:
    """Whether a text is as expected; … stands for anything, … alone in a line for any lines."""
    pattern = ""
    for line in expected.rstrip("\n").split("\n"):
        if line.strip() == "…":
            pattern += r"(?:.*\n)*?"
        else:
            parts = [re.escape(part.rstrip()) for part in line.split("…")]
            pattern += r"[^\n]*".join(parts) + r"[^\n]*\n" if "…" in line else parts[0] + r" *\n"
    return re.fullmatch(pattern + r"(?:.*\n)*", actual.rstrip("\n") + "\n") is not None


def follow(pages: tuple[str, ...], empty_database: Database, tmp_path: Path) -> None:
    """Execute each block of the pages, and compare what it prints with the block below it."""
    settings = os.environ | {
        "OCEANRECORDS_DSN": empty_database.dsn,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "COLUMNS": "160",
        "NO_COLOR": "1",
    }
    said = ""
    for page in pages:
        for block in blocks(page):
            place = f"{block.page}, line {block.line}"
            if block.language == "text":
                assert matches(block.text, said), f"{place}: {said}"
            elif block.language == "sql":
                with psycopg.connect(empty_database.dsn, autocommit=True) as connection:
                    cursor = connection.execute(block.text.encode())
                    rows = cursor.fetchall() if cursor.description else []
                said = "\n".join("|".join(_shown(value) for value in row) for row in rows)
            elif "db start" in block.text:
                said = "● PostgreSQL started on port 5432"  # the test's own server stands in for it
            else:
                finished = subprocess.run(
                    ["bash", "-euo", "pipefail", "-c", block.text],
                    cwd=tmp_path, env=settings, capture_output=True, text=True, check=False,
                )  # fmt: skip
                said = finished.stdout
                assert finished.returncode == 0, f"{place}: {said}{finished.stderr}"


def test_the_tutorial_and_its_sequel_do_what_they_say(
    empty_database: Database, tmp_path: Path
) -> None:
    follow(PAGES, empty_database, tmp_path)
    assert empty_database.value(
        "SELECT count(*) > 0 FROM dwh.dim_customer WHERE city = 'Harbour' AND phone IS NULL"
    )


def test_a_business_by_hand_takes_less_than_sixty_lines(
    empty_database: Database, tmp_path: Path
) -> None:
    follow((BY_HAND,), empty_database, tmp_path)
    files = [path for path in (tmp_path / "shop").rglob("*") if path.is_file()]
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files) < 60


def _shown(value: object) -> str:
    return {True: "t", False: "f"}[value] if isinstance(value, bool) else str(value)


@pytest.mark.parametrize(
    ("expected", "actual", "fits"),
    [
        ("a\nb", "a\nb\nc", True),
        ("a …\nb", "a x\nb", True),
        ("…\nb", "x\ny\nb", True),
        ("a\nb", "a\nx", False),
        ("a …", "b", False),
    ],
)
def test_how_texts_are_compared(expected: str, actual: str, fits: bool) -> None:
    assert matches(expected, actual) is fits


def test_every_command_that_a_page_names_exists() -> None:
    from driver.cli import _COMMANDS

    for page in (*PAGES, BY_HAND, "coming-from-dbt.md"):
        text = (DOCS / page).read_text(encoding="utf-8")
        for name in re.findall(r"oceanrecords (?:--\w+ \S+ )*([a-z]+(?:-[a-z]+)*)", text):
            assert name in _COMMANDS, (page, name)
