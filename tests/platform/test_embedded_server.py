"""The embedded server's life: set up once, started and stopped often, killed, started again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from base.cluster import Cluster, make_directory
from base.errors import UserError
from base.server import EmbeddedServer
from tests.conftest import Finished


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "home"
    yield folder
    server = EmbeddedServer(folder)
    if server.exists():
        server.cluster.stop(mode="immediate")


@pytest.fixture
def db(oceanrecords: Callable[..., Finished], home: Path) -> Callable[..., Finished]:
    def run(*arguments: str) -> Finished:
        return oceanrecords("db", *arguments, env={"OCEANRECORDS_HOME": str(home)})

    return run


def query(home: Path, statement: bytes) -> list[tuple[object, ...]]:
    with psycopg.connect(EmbeddedServer(home).conninfo(), autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_stopping_and_starting_keeps_data_socket_and_port(
    db: Callable[..., Finished], home: Path
) -> None:
    assert db("status").returncode == 1
    assert db("start").returncode == 0
    first = json.loads(db("url", "--json").stdout)["url"]
    query(home, b"CREATE TABLE kept AS SELECT 42 AS answer")
    again = db("start")
    assert again.returncode == 0
    assert "runs already" in again.stdout

    assert db("stop").returncode == 0
    assert not EmbeddedServer(home).is_running()
    assert db("stop").returncode == 0
    assert db("url").returncode == 1

    assert db("start").returncode == 0
    assert json.loads(db("url", "--json").stdout)["url"] == first
    assert query(home, b"SELECT answer FROM kept") == [(42,)]
    assert json.loads(db("status", "--json").stdout)["version"].startswith("18.")


def test_several_starts_at_once_start_one_server(db: Callable[..., Finished], home: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        finished = list(pool.map(lambda _: db("start", "--json"), range(4)))
    assert [one.returncode for one in finished] == [0] * 4, [one.stderr for one in finished]
    assert sum(json.loads(one.stdout)["started"] for one in finished) == 1
    assert query(home, b"SELECT 1") == [(1,)]


def test_a_killed_server_is_started_again(db: Callable[..., Finished], home: Path) -> None:
    assert db("start").returncode == 0
    query(home, b"CREATE TABLE kept AS SELECT 42 AS answer")
    server = EmbeddedServer(home)
    postmaster = server.cluster.postmaster()
    assert postmaster is not None
    postmaster.kill()
    postmaster.wait(10)
    assert (server.cluster.data / "postmaster.pid").exists()
    assert not server.is_running()
    assert db("status").returncode == 1
    assert db("start").returncode == 0
    assert query(home, b"SELECT answer FROM kept") == [(42,)]


def test_a_pid_file_that_names_another_process_does_not_deceive(
    db: Callable[..., Finished], home: Path
) -> None:
    assert db("start").returncode == 0
    server = EmbeddedServer(home)
    pid_file = server.cluster.data / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    server.stop()
    lines[0] = str(os.getppid())
    pid_file.write_text("\n".join(lines) + "\n")
    assert not server.is_running()
    assert json.loads(db("status", "--json").stdout)["running"] is False


def test_an_interrupted_set_up_is_begun_anew(db: Callable[..., Finished], home: Path) -> None:
    half_made = home / "postgres" / "data.partial"
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18\n")
    assert db("start").returncode == 0
    assert not half_made.exists()
    assert query(home, b"SELECT 1") == [(1,)]


def test_a_home_too_deep_for_a_socket_works(
    oceanrecords: Callable[..., Finished], tmp_path: Path
) -> None:
    home = tmp_path / ("deep" * 20) / "Ünï $HOME \"quoted\" 'home'"
    home.parent.mkdir()
    server = EmbeddedServer(home)
    assert home not in server.socket_directory.parents
    try:
        finished = oceanrecords("db", "start", env={"OCEANRECORDS_HOME": str(home)})
        assert finished.returncode == 0, finished.stderr
        assert query(home, b"SELECT 1") == [(1,)]
        assert server.socket_directory.stat().st_mode & 0o077 == 0
    finally:
        server.stop()
        if server.socket_directory.exists():
            server.socket_directory.rmdir()


def test_tcp_asks_for_the_password_and_the_url_has_it(
    db: Callable[..., Finished], home: Path
) -> None:
    assert db("start").returncode == 0
    url = db("url", "--tcp").stdout.strip()
    with psycopg.connect(url) as connection:
        assert connection.info.host == "127.0.0.1"
    secret = EmbeddedServer(home).password()
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(url.replace(secret, "wrong"))
    assert secret not in db("url").stdout
    assert (home / "postgres" / "password").stat().st_mode & 0o077 == 0


def test_psql_is_one_command_away(db: Callable[..., Finished]) -> None:
    assert db("start").returncode == 0
    finished = db("psql", "-AtXc", "SELECT current_database()")
    assert finished.stdout.strip() == "oceanrecords"


def test_data_of_another_version_is_left_alone(db: Callable[..., Finished], home: Path) -> None:
    assert db("start").returncode == 0
    server = EmbeddedServer(home)
    server.stop()
    (server.cluster.data / "PG_VERSION").write_text("17\n")
    finished = db("start")
    assert finished.returncode == 1
    assert "PostgreSQL 17" in finished.stderr
    assert "OCEANRECORDS_HOME" in finished.stderr


def test_a_server_that_does_not_start_shows_its_log(
    db: Callable[..., Finished], home: Path
) -> None:
    assert db("start").returncode == 0
    server = EmbeddedServer(home)
    server.stop()
    with (server.cluster.data / "postgresql.conf").open("a") as file:
        file.write("no_such_setting = on\n")
    finished = db("start")
    assert finished.returncode == 1
    assert "does not start" in finished.stderr
    assert "no_such_setting" in finished.stderr


def test_a_home_that_cannot_be_made(oceanrecords: Callable[..., Finished], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    finished = oceanrecords("db", "start", env={"OCEANRECORDS_HOME": str(tmp_path / "file" / "x")})
    assert finished.returncode == 1
    assert "OCEANRECORDS_HOME" in finished.stderr


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="initdb cannot be started"):
        Cluster(tmp_path, tmp_path / "data").initialise()


def test_importing_the_program_does_not_need_a_server(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", "import driver.cli"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (finished.returncode, finished.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


# -- what root does with files that the server's account can replace ------------------------------

as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root, which runs the server as another"
)


@as_root
def test_no_file_of_the_servers_account_is_followed(
    db: Callable[..., Finished], home: Path, tmp_path: Path
) -> None:
    """It could put a link to any file of root's where root writes or reads."""
    assert db("start").returncode == 0
    server = EmbeddedServer(home)
    data = server.cluster.data
    assert db("stop").returncode == 0
    victim = tmp_path / "victim"
    victim.write_text("a line that only root may read\n")
    victim.chmod(0o600)
    account = data.lstat()
    for name in ("start.log.new", "start.log", "oceanrecords.conf.new", "oceanrecords.conf"):
        (data / name).unlink(missing_ok=True)
        (data / name).symlink_to(victim)
        os.chown(data / name, account.st_uid, account.st_gid, follow_symlinks=False)
    (data / "postgresql.conf.new").symlink_to(victim)
    started = db("start")
    assert started.returncode == 0, started.stderr
    assert db("stop").returncode == 0
    # Nor does an error show what a link leads to.
    (data / "postgresql.auto.conf").write_text("no_such_setting = on\n")
    refused = db("start")
    assert refused.returncode == 1
    assert "only root" not in refused.stdout + refused.stderr
    for name in ("PG_VERSION", "postmaster.pid", "postgresql.conf"):
        (data / name).unlink(missing_ok=True)
        (data / name).symlink_to(victim)
        for command in (("status",), ("start",)):
            told = db(*command)
            assert "only root" not in told.stdout + told.stderr
    found = victim.lstat()
    assert (found.st_uid, found.st_mode & 0o777) == (0, 0o600)
    assert victim.read_text() == "a line that only root may read\n"


@as_root
def test_no_permission_of_a_folder_above_changes(
    oceanrecords: Callable[..., Finished], tmp_path: Path
) -> None:
    """The server's account cannot go into a closed home: the data lie elsewhere."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    home = closed / "home"
    before = {folder: folder.stat().st_mode for folder in (closed, *closed.parents)}
    env = {"OCEANRECORDS_HOME": str(home)}
    try:
        started = oceanrecords("db", "start", env=env)
        assert started.returncode == 0, started.stderr
        assert query(home, b"SELECT 1") == [(1,)]
        assert {folder: folder.stat().st_mode for folder in before} == before
        assert oceanrecords("db", "stop", env=env).returncode == 0
        assert oceanrecords("db", "start", env=env).returncode == 0
        place = EmbeddedServer(home).cluster.data.parent
        assert place.parent == Path("/var/lib/oceanrecords")
    finally:
        EmbeddedServer(home).stop()
    shutil.rmtree(home)
    other = closed / "other"
    try:
        assert oceanrecords("db", "start", env={"OCEANRECORDS_HOME": str(other)}).returncode == 0
        assert not place.exists(), "what nobody can start any more is removed"
    finally:
        EmbeddedServer(other).stop()
        shutil.rmtree(EmbeddedServer(other).cluster.data.parent)


@as_root
def test_a_socket_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir(mode=0o755)
    (tmp_path / "run").symlink_to(target)
    with pytest.raises(UserError, match="belongs to another user"):
        make_directory(tmp_path / "run", None)
    assert target.stat().st_mode & 0o777 == 0o755
