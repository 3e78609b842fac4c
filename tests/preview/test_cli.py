"""`oceanrecords dashboard preview` and `serve`."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from metabase import definition
from metabase.serve import FRESH_FOR, ROLE, Site, open_pool
from tests.support.database import Database

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

Finished = subprocess.CompletedProcess[str]
Cli = Callable[..., Finished]


def test_preview_writes_one_file(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "monday.html"
    done = cli("dashboard", "preview", "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["file"] == str(out)
    assert answer["bytes"] == out.stat().st_size
    assert len(answer["tiles"]) == 14
    assert [path.name for path in tmp_path.iterdir()] == ["monday.html"]
    again = cli("dashboard", "preview", "--out", str(out))
    assert again.returncode == 0
    assert "14 tiles in" in again.stdout


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
    assert "The warehouse is not installed in this database" in done.stderr
    assert 'schema "kpi" does not exist' in done.stderr
    assert len(done.stderr) < 300
    assert not out.exists()


def test_address_of_the_orders_is_checked(cli: Cli, tmp_path: Path) -> None:
    out = str(tmp_path / "page.html")
    done = cli("dashboard", "preview", "--out", out, "--orders", "javascript:alert(1)")
    assert done.returncode == 1
    assert "is not the address of a page" in done.stderr
    assert cli("dashboard", "preview", "--out", out, "--orders", "https://b.i/9").returncode == 0


@pytest.fixture
def other_login(database: Database) -> Iterator[str]:
    """A login that may connect, and nothing else."""
    name = f"suite_{uuid4().hex[:8]}"
    database.execute(f"CREATE ROLE {name} LOGIN")
    database.execute(f'GRANT CONNECT ON DATABASE "{database.name}" TO {name}')
    yield name
    database.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


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
    deadline = time.monotonic() + 30
    while '"last_run_id":1' not in urllib.request.urlopen(address).read().decode():
        assert time.monotonic() < deadline

    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(address + "other")
    assert refused.value.code == 404
    refused.value.close()

    with urllib.request.urlopen(
        address + "answer?question=kpi_overview&country=France&country=Chad"
    ) as answer:
        assert json.load(answer)[0][0] == "Sales"
    for query in (
        "question=nothing",
        "question=kpi_overview&from=2024-01-01",
        "question=top_products&from=2024-13-01",
        "",
    ):
        assert status(address + "answer?" + query) == 400
    assert status(address + "answer?question=top_products&from=2024-01-05") == 200
    assert status(address + "orders/") == 404
    for host in ("evil.example", "evil.example:80", "", "127.0.0.1.evil.example"):
        assert status(address, Host=host) == 421
    assert status(address, method="POST") == 405
    readers = database.rows(
        "SELECT count(*) AS number FROM pg_stat_activity WHERE application_name = 'oceanrecords dashboard'"
    )
    assert 1 <= readers[0]["number"] <= 4

    database.execute("DROP SCHEMA kpi CASCADE")
    time.sleep(FRESH_FOR)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(address)
    assert refused.value.code == 503
    assert "kpi" in refused.value.read().decode()
    refused.value.close()

    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""


def status(address: str, method: str = "GET", **headers: str) -> int:
    """Return the status of a request that is refused."""
    request = urllib.request.Request(address, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        refused.close()
        return refused.code


def test_page_is_kept_until_the_warehouse_changes(database: Database) -> None:
    dashboard = definition.load()
    with open_pool(database.dsn) as pool:
        site = Site(pool, dashboard, ["localhost"])
        first = site.page()
        assert site.page() is first
        database.execute("INSERT INTO kpi.sales_target VALUES ('2025-01-01', DEFAULT, 10)")
        site._checked_at = float("-inf")
        assert site.page() is not first


def test_site_reads_as_the_business_level_and_cannot_write(database: Database) -> None:
    with open_pool(database.dsn) as pool, pool.connection() as connection:
        assert connection.execute("SELECT current_user").fetchone() == (ROLE,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT * FROM dwh.fact_order")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("CREATE TEMPORARY TABLE mine (n integer)")


def test_login_without_the_level(oceanrecords: Cli, database: Database, other_login: str) -> None:
    dsn = make_conninfo(database.dsn, user=other_login)
    done = oceanrecords("--dsn", dsn, "dashboard", "serve", "--port", "0")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert ROLE in done.stderr


def test_port_in_use(cli: Cli) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = cli("dashboard", "serve", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "cannot be used" in done.stderr
    assert "--port" in done.stderr


def test_targets_of_a_file(cli: Cli, database: Database, tmp_path: Path) -> None:
    path = tmp_path / "targets.csv"
    path.write_text("month,sales\n2025-03,1000\n2025-04-01,1200.50\n")
    assert cli("dashboard", "targets", str(path)).returncode == 0
    path.write_text("month,country,sales\n2025-04,,1300\n")
    done = cli("dashboard", "targets", str(path))
    assert done.returncode == 0, done.stderr
    assert "1 target set, 2 in all" in done.stdout
    known = database.rows("SELECT month_start::text, country, sales::float FROM kpi.sales_target")
    assert [tuple(row.values()) for row in known] == [
        ("2025-03-01", "All countries", 1000),
        ("2025-04-01", "All countries", 1300),
    ]
    assert "Apr 2025" in cli("dashboard", "targets").stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has not the columns"),
        ("month,amount\n2025-03,1\n", "has not the columns"),
        ("month,sales\n2025-13,1\n", "line 2: '2025-13' is not a month"),
        ("month,sales\n2025-03,1\n2025-03-15,1\n", "line 3"),
        ("month,sales\n2025-03,much\n", "line 2: 'much' is not an amount"),
        ("month,sales\n2025-03,-1\n", "is not an amount"),
        ("month,sales\n2025-03,NaN\n", "is not an amount"),
        ("month,sales\n2025-03,1\n2025-03,2\n", "line 2 has the same target"),
        ("month,country,sales\n2025-03,Atlantis,1\n", "Atlantis"),
    ],
)
def test_targets_that_are_wrong(
    cli: Cli, database: Database, tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "targets.csv"
    path.write_text(text)
    done = cli("dashboard", "targets", str(path))
    assert done.returncode == 1
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert database.rows("SELECT * FROM kpi.sales_target") == []
