"""The commands of README.md run as they are printed there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from driver.server import EmbeddedServer
from tests.conftest import Finished

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

README = Path(__file__).parents[2] / "README.md"
# They do not end by themselves, or start everything over.
ENDLESS = ("--watch", "serve", "--every", "demo", "psql")
QUICK = {"--orders 20000": "--orders 3000"}


def commands() -> list[str]:
    """The lines that call the program, without the comments behind them."""
    found = re.findall(r"^ {4}(oceanrecords [a-z][^\n]*)$", README.read_text(), flags=re.MULTILINE)
    lines = [re.sub(r"\s+#.*", "", line).strip() for line in found]
    return [line for line in lines if not any(word in line.split() for word in ENDLESS)]


@pytest.mark.slow
def test_the_examples_of_the_readme_run_as_printed(
    oceanrecords: Callable[..., Finished], tmp_path: Path
) -> None:
    lines = commands()
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
