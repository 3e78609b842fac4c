"""`oceanrecords dashboard preview` and `serve`."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.database import Database

Finished = subprocess.CompletedProcess[str]
Cli = Callable[..., Finished]


def test_preview_writes_one_file(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "monday.html"
    done = cli("dashboard", "preview", "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["file"] == str(out)
    assert answer["bytes"] == out.stat().st_size
    assert len(answer["tiles"]) == 8
    assert [path.name for path in tmp_path.iterdir()] == ["monday.html"]
    again = cli("dashboard", "preview", "--out", str(out))
    assert again.returncode == 0
    assert "8 tiles in" in again.stdout


@pytest.mark.parametrize("place", ["missing/page.html", "folder"])
def test_place_that_cannot_be_written(cli: Cli, tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    done = cli("dashboard", "preview", "--out", str(tmp_path / place))
    assert done.returncode == 1
    assert str(tmp_path / place) in done.stderr
    assert "--out" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "folder").iterdir()) == []


def test_database_without_a_warehouse(
    oceanrecords: Cli, empty_database: Database, tmp_path: Path
) -> None:
    out = tmp_path / "page.html"
    done = oceanrecords("--dsn", empty_database.dsn, "dashboard", "preview", "--out", str(out))
    assert done.returncode == 1
    assert "kpi" in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()


@pytest.fixture
def serving(database: Database, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The server, and its address."""
    program = str(Path(sys.executable).with_name("oceanrecords"))
    process = subprocess.Popen(
        [program, "dashboard", "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ
        | {"OCEANRECORDS_DSN": database.dsn, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"},
        cwd=tmp_path,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://\S+", line)
    if found is None:
        process.kill()
        pytest.fail(f"no address in {line!r}: {process.communicate()[1]}")
    yield process, found[0]
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_serve_answers_with_the_figures_of_the_moment(
    serving: tuple[subprocess.Popen[str], str], database: Database
) -> None:
    process, address = serving
    with urllib.request.urlopen(address) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-store"
        before = answer.read().decode()
    assert '"last_run_id":null' in before
    database.execute("CALL etl.run()")
    with urllib.request.urlopen(address) as answer:
        assert '"last_run_id":1' in answer.read().decode()

    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(address + "other")
    assert refused.value.code == 404
    refused.value.close()

    database.execute("DROP SCHEMA kpi CASCADE")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(address)
    assert refused.value.code == 503
    assert "kpi" in refused.value.read().decode()
    refused.value.close()

    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""


def test_port_in_use(cli: Cli) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = cli("dashboard", "serve", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "cannot be used" in done.stderr
    assert "--port" in done.stderr
