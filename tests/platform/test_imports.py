"""Packages import downwards only, and a command imports only what it uses."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Each package with those below it.
LAYERS = {
    "base": set(),
    "simulator": {"base"},
    "metabase": {"base"},
    "driver": {"base", "simulator", "metabase"},
    "benchmarks": {"base", "simulator", "metabase", "driver"},
}
# Slow to import, and of use to few commands.
SLOW = (
    "faker",
    "jinja2",
    "jsonschema",
    "metabase_api",
    "requests",
    "sqlglot",
    "waitress",
    "yaml",
    "yoyo",
)


def imports(path: Path) -> set[str]:
    """The packages that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", LAYERS)
def test_packages_import_downwards_only(package: str) -> None:
    paths = list((ROOT / package).rglob("*.py"))
    assert paths
    for path in paths:
        upwards = (imports(path) & LAYERS.keys()) - LAYERS[package] - {package}
        assert not upwards, (path, upwards)


def test_every_command_is_a_module_of_one_folder() -> None:
    from driver.cli import _COMMANDS

    modules = {command.module for command in _COMMANDS.values()}
    folder = {
        f"driver.commands.{path.stem}" for path in (ROOT / "driver" / "commands").glob("*.py")
    }
    assert modules <= folder


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["--version"], ("psycopg", "rich", *SLOW)),
        (["status", "--dsn-is-no-option-of-it"], SLOW),
        (["kpi", "--wrong"], SLOW),
        (["docs", "--wrong"], SLOW),
    ],
)
def test_a_command_imports_only_what_it_uses(
    arguments: list[str], unwanted: tuple[str, ...]
) -> None:
    code = (
        "import sys; from driver.cli import app\n"
        f"try: app({arguments!r})\n"
        "except SystemExit: pass\n"
        "print(*sorted(name.split('.')[0] for name in sys.modules))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(finished.stdout.splitlines()[-1].split())
    assert not loaded & set(unwanted)
