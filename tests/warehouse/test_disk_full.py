"""A disk that is really full: a tablespace on a file system of a megabyte, which grows when the test says so."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.database import Database
from tests.support.servers import RunningServer
from tests.warehouse.play import Play

TABLESPACE = "tiny"


@pytest.fixture
def tiny_disk(server: RunningServer) -> Iterator[Callable[[str], None]]:
    """A tablespace on a disk of one megabyte; returns what gives the disk another size."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a file system of its own")
    place = Path(server.host).parent / "tiny"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        place.rmdir()
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        folder = place / "space"
        folder.mkdir(mode=0o700)
        data = server.cluster.data.stat()
        os.chown(folder, data.st_uid, data.st_gid)
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute(f"CREATE TABLESPACE {TABLESPACE} LOCATION '{folder}'".encode())

        def resize(size: str) -> None:
            subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)

        yield resize
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute(f"DROP TABLESPACE {TABLESPACE}".encode())
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
        place.rmdir()


# The engine does the same on every server; a full disk is the file system's matter.
@pytest.mark.server("embedded")
@pytest.mark.parametrize(
    ("table", "task"),
    [
        ("stage.customers", "extract:customers"),
        ("delta.customers", "extract:customers"),
        ("dwh.dim_customer", "dimension:dim_customer"),
    ],
)
def test_a_full_disk_ends_one_task_and_the_next_run_goes_on(
    tiny_disk: Callable[[str], None], database: Database, table: str, task: str
) -> None:
    play = Play.on(database.connect)
    play.open()
    if table.startswith("delta."):
        play.run()
    database.execute(f"ALTER TABLE {table} SET TABLESPACE {TABLESPACE}")
    database.execute(
        "INSERT INTO oceanrecords.customers (first_name, last_name, email)"
        " SELECT 'Eve', repeat('x', 100), format('%s@example.org', n) FROM generate_series(1, 8000) AS n"
    )
    play.run(expect="partial")
    failed = play.row(
        "SELECT status, attempts, sqlstate, message FROM etl.task_status WHERE task = %s", task
    )
    assert (failed["status"], failed["sqlstate"], failed["attempts"]) == ("failed", "53100", 3)
    assert "No space left on device" in failed["message"]
    # The orders do not need that disk.
    assert play.value("SELECT count(*) FROM dwh.fact_order") == len(play.orders)

    tiny_disk("100m")
    play.run()
    play.assert_right()
    assert play.value("SELECT count(*) FROM dwh.dim_customer") == 1 + 1 + 8000
