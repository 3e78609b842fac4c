"""The command line as a stranger meets it: help, usage, completion, errors without tracebacks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from driver.cli import app
from tests.conftest import Finished
from tests.support.database import Database

COMMANDS = ("db", "migrate", "doctor", "run", "status", "queue", "sql", "kpi")


def test_help_names_every_command(oceanrecords: Callable[..., Finished]) -> None:
    finished = oceanrecords("--help")
    assert finished.returncode == 0
    for command in COMMANDS:
        assert f" {command} " in finished.stdout


@pytest.mark.parametrize("command", ["migrate", "doctor", "run", "status", "queue", "sql", "kpi"])
def test_help_of_a_command_has_an_example(
    oceanrecords: Callable[..., Finished], command: str
) -> None:
    finished = oceanrecords(command, "--help")
    assert finished.returncode == 0
    assert f"oceanrecords {command}" in finished.stdout.split("Example", 1)[1]


def _commands() -> Iterator[tuple[str, ...]]:
    root = typer.main.get_command(app)
    context = typer.Context(root, info_name="oceanrecords")
    for name in root.list_commands(context):
        yield (name,)
        _, command, _ = root.resolve_command(context, [name])
        yield from ((name, sub) for sub in getattr(command, "commands", ()))


def test_help_fits_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for command in _commands():
        finished = CliRunner().invoke(app, [*command, "--help"], prog_name="oceanrecords")
        assert finished.exit_code == 0, (command, finished.output)
        lines = [line.rstrip() for line in finished.stdout.splitlines()]
        assert all(len(line) <= 80 for line in lines), command
        assert not re.search(r"\w…\s", finished.stdout), command
        # Each line of the text has as many words as fit.
        text = lines[: next(place for place, line in enumerate(lines) if line.startswith("╭"))]
        for line, following in pairwise(text):
            if line.strip() and following.strip():
                assert len(line) + 1 + len(following.split()[0]) > 79, (command, line)
        # Each example is a line to copy, unless it is longer than the terminal is wide.
        assert " · " not in finished.stdout, command


def test_version_is_the_distributions(oceanrecords: Callable[..., Finished]) -> None:
    assert oceanrecords("--version").stdout.strip() == (
        f"oceanrecords {version('oceanrecords-warehouse')}"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("run", "--workers", "0"),
        ("run", "dim_product"),
        ("run", "--every", "soon"),
        ("run", "--every", "1m", "--only", "dim_product"),
        ("migrate", "--list", "--rollback"),
        ("migrate", "--to", ""),
        ("queue", "--limit", "none"),
        ("--project", "", "status"),
        ("docs", "--out", ""),
        ("export-history", ""),
        ("import-history", " "),
        ("new", "", "--schema", "shop"),
        ("seed", ""),
        ("test", ""),
        ("source", "marks", "--write", ""),
        ("source", "status", "--older-than", "soon"),
        ("simulate", "tick", "--span", "soon"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_why(
    oceanrecords: Callable[..., Finished], arguments: tuple[str, ...]
) -> None:
    finished = oceanrecords(*arguments, env={"OCEANRECORDS_DSN": "host=/nowhere"})
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert finished.stderr.strip()
    assert "Traceback" not in finished.stderr


def test_completion_offers_the_commands(oceanrecords: Callable[..., Finished]) -> None:
    finished = oceanrecords(
        env={
            "_OCEANRECORDS_COMPLETE": "complete_bash",
            "COMP_WORDS": "oceanrecords d",
            "COMP_CWORD": "1",
        }
    )
    assert {"db", "doctor"} <= set(finished.stdout.split())


def test_an_error_of_the_database_is_told_with_its_hint_and_code(
    cli: Callable[..., Finished],
) -> None:
    finished = cli("sql", "no_such_object")
    assert finished.returncode == 1
    assert finished.stdout == ""
    sentence, hint, code = finished.stderr.splitlines()
    assert "no_such_object" in sentence
    assert hint.startswith("hint")
    assert "ET002" in code


def test_commands_before_migrate_say_what_to_do(
    oceanrecords: Callable[..., Finished], empty_database: Database
) -> None:
    for command in (("status",), ("run",), ("queue",), ("sql", "dim_product")):
        finished = oceanrecords(*command, env={"OCEANRECORDS_DSN": empty_database.dsn})
        assert finished.returncode == 1, command
        assert "etl" in finished.stderr
        assert "oceanrecords migrate" in finished.stderr
        assert "Traceback" not in finished.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("db", "status"),
        ("db", "url"),
        ("doctor",),
        ("migrate", "--list"),
        ("migrate",),
        ("status",),
        ("ls",),
        ("settings", "list"),
        ("quarantine",),
        ("check",),
        ("queue",),
        ("sql", "dim_product"),
        ("kpi",),
    ],
)
def test_whatever_answers_answers_in_json(
    cli: Callable[..., Finished], arguments: tuple[str, ...]
) -> None:
    finished = cli(*arguments, "--json")
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout) is not None


def test_output_into_a_closed_pipe_is_no_error(
    oceanrecords: Callable[..., Finished], database: Database, tmp_path: Path
) -> None:
    import subprocess
    import sys

    program = Path(sys.executable).with_name("oceanrecords")
    finished = subprocess.run(
        ["bash", "-c", f"{program} --dsn '{database.dsn}' sql dim_product | head -n 1"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        timeout=60,
    )
    assert finished.stdout.startswith("-- 1.")
    assert finished.stderr == ""
