"""What the documentation prints can be typed: commands run, SQL executes, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from base.server import EmbeddedServer
from driver import cli as command_line
from simulator.seed import seed
from tests.conftest import Finished
from tests.support.database import Database

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
# tests/scaffold/test_pages.py follows the tutorial and the how-to for changes of the source block by block.
FOLLOWED = ("your-own-warehouse.md", "when-your-source-changes.md", "a-business-by-hand.md")
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
    ROOT / "metabase" / "README.md",
]
# They do not end by themselves, or start everything over.
ENDLESS = ("--watch", "serve", "--every", "demo", "psql")
QUICK = {"--orders 20000": "--orders 3000"}
# Need something else than a database: a file, a schedule, another server, Metabase, a tag of one's own.
# The tests of those commands run them.
ELSEWHERE = (
    "--dsn",
    "--project",
    "--target",
    "--optional",
    "dashboard",
    "doctor",
    "metabase",
    "new",
    "password",
    "schedule",
    "source",
    "tag:",
    "test",
)
SQL = re.compile(r"\s*(--.*\n\s*)*(SELECT|INSERT|UPDATE|DELETE|CALL|CREATE|ALTER|GRANT)\b")
# What a block takes for granted.
GIVEN = """
    CREATE SCHEMA ops;
    CREATE TABLE ops.pager (message text);
    CREATE VIEW kpi.my_figure AS SELECT 1 AS figure;
    ALTER TABLE dwh.fact_order ADD COLUMN channel text;
    INSERT INTO etl.quarantine (object, row_key, sqlstate, reason, run_id)
    VALUES ('fact_order', '{"order_id": 17}', '22003', 'numeric field overflow', 1);
"""
# pg_cron, Citus, another server, the question of a dashboard, roles: their own tests run these.
FOREIGN = (
    "cron.",
    "CREATE EXTENSION citus",
    "citus_",
    "etl.connect_source",
    "[[AND",
    "etl.add_user",
    "reads_personal_data",
)


def blocks(page: Path) -> Iterator[str]:
    """The code blocks of a page, fenced or indented."""
    text = page.read_text(encoding="utf-8")
    for language, block in re.findall(r"^ *```(\w*)\n(.*?)^ *```", text, flags=re.M | re.S):
        if language != "mermaid":
            yield block
    text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S)
    for block in re.findall(r"(?:^|\n)\n((?: {4}.*\n(?:\n(?= {4}))?)+)", text):
        yield re.sub(r"^ {4}", "", block, flags=re.M)


def commands(pages: list[Path]) -> list[str]:
    """The lines that call the program, without the comments behind them."""
    lines = (line for page in pages for block in blocks(page) for line in block.splitlines())
    calls = [
        re.sub(r"\s+#.*|\s*\|.*", "", line) for line in lines if line.startswith("oceanrecords ")
    ]
    return list(dict.fromkeys(calls))


def has(call: str, words: tuple[str, ...]) -> bool:
    return any(one.startswith(word) for one in call.split() for word in words)


@pytest.mark.slow
def test_the_examples_of_the_readme_run_as_printed(
    oceanrecords: Callable[..., Finished], tmp_path: Path
) -> None:
    lines = [line for line in commands([README]) if not has(line, ENDLESS)]
    assert len(lines) >= 5
    home = tmp_path / "home"
    try:
        for line in lines:
            call = line
            for slow, quick in QUICK.items():
                call = call.replace(slow, quick)
            finished = oceanrecords(
                *shlex.split(call)[1:], env={"OCEANRECORDS_HOME": str(home)}, timeout=300
            )
            assert finished.returncode == 0, (line, finished.stdout, finished.stderr)
    finally:
        server = EmbeddedServer(home)
        if server.exists():
            server.cluster.stop(mode="immediate")


def test_every_command_of_the_documentation_is_known() -> None:
    calls = commands(PAGES)
    assert len(calls) > 50
    for call in calls:
        words = [re.sub(r"[;)&]+$", "", word) for word in shlex.split(call)[1:]]
        words = words[: words.index("||")] if "||" in words else words
        finished = CliRunner().invoke(command_line.app, [*words, "--help"])
        assert finished.exit_code == 0, (call, finished.output)


@pytest.mark.slow
def test_commands_and_sql_of_the_documentation_run(
    cli: Callable[..., Finished], database: Database
) -> None:
    with database.connect() as connection:
        seed(connection, orders=300, months=3, seed=1)
        connection.execute("CALL etl.run()")
    # The examples of the reference are in alphabetical order, which no session would have.
    left_out = (*FOLLOWED, "commands.md")
    pages = [page for page in PAGES if page != README and page.name not in left_out]
    calls = [one for one in commands(pages) if not has(one, (*ENDLESS, *ELSEWHERE))]
    assert len(calls) > 15
    try:
        for call in calls:
            finished = cli(
                *shlex.split(call)[1:], env={"OCEANRECORDS_USER_PASSWORD": "a-long-pass-phrase-7"}
            )
            assert finished.returncode == 0, (call, finished.stdout, finished.stderr)
    finally:
        database.execute("DROP ROLE IF EXISTS ana")
    database.execute(GIVEN)
    found = [block for page in [README, *pages] for block in blocks(page) if SQL.match(block)]
    found = [block for block in found if not any(part in block for part in FOREIGN)]
    assert len(found) >= 6
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        for block in found:
            for statement in re.split(r";[^\n]*\n", block):
                if statement.strip():
                    connection.execute(statement.encode())


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if not link.startswith(("http", "#", "mailto:")):
                path, _, part = link.partition("#")
                target = (page.parent / path).resolve()
                assert target.exists(), (page.name, link)
                if part and target.suffix == ".md":
                    heads = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), flags=re.M)
                    slugs = {
                        re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads
                    }
                    assert part in slugs, (page.name, link)


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) < 150
