"""A warehouse that was dumped and restored goes on, and is exact."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from tests.support.database import Database

Answer = Callable[..., tuple[int, Any]]


def restore(old: Database, new: Database, folder: Path) -> None:
    """Dump a database into a file, and restore the file into another database."""
    binaries, file = Path(old.server.cluster.binaries), folder / "warehouse.dump"
    for program, arguments in (
        ("pg_dump", ["--format=custom", f"--file={file}", f"--dbname={old.dsn}"]),
        ("pg_restore", ["--exit-on-error", f"--dbname={new.dsn}", str(file)]),
    ):
        finished = subprocess.run(
            [binaries / program, *arguments], capture_output=True, text=True, check=False
        )
        assert finished.returncode == 0, finished.stderr


def load(database: Database) -> None:
    """Run; the run must succeed."""
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute("CALL etl.run()")
    assert database.value("SELECT status FROM etl.run ORDER BY run_id DESC LIMIT 1") == "succeeded"


def test_a_restored_warehouse_runs_and_reconciles(
    loaded: Database, new_database: Callable[..., Database], json_of: Answer, tmp_path: Path
) -> None:
    restored = new_database(migrated=False)
    restore(loaded, restored, tmp_path)
    status, answer = json_of(restored, "migrate")
    assert (status, answer["applied"]) == (0, [])
    assert restored.value("SELECT count(*) FROM etl.direct_grant") == loaded.value(
        "SELECT count(*) FROM etl.direct_grant"
    )
    before = restored.rows("SELECT * FROM kpi.month ORDER BY month_start")
    restored.execute("DELETE FROM oceanrecords.order_lines WHERE order_id = 7 AND line_number = 1")
    restored.execute("UPDATE oceanrecords.customers SET segment = 'business' WHERE customer_id < 9")
    load(restored)
    status, answer = json_of(restored, "reconcile")
    assert (status, answer["status"]) == (0, "equal"), answer
    assert restored.rows("SELECT * FROM kpi.month ORDER BY month_start") != before
    # The next one finds changes by their transactions again.
    restored.execute("UPDATE oceanrecords.customers SET segment = 'consumer' WHERE customer_id = 3")
    load(restored)
    assert (
        restored.value("SELECT segment FROM dwh.dim_customer WHERE customer_id = 3 AND is_current")
        == "consumer"
    )
    assert json_of(restored, "reconcile")[1]["status"] == "equal"


def test_the_old_and_the_restored_one_go_their_own_ways(
    loaded: Database, new_database: Callable[..., Database], tmp_path: Path
) -> None:
    restored = new_database(migrated=False)
    restore(loaded, restored, tmp_path)
    restored.execute("UPDATE oceanrecords.suppliers SET name = name || ' elsewhere'")
    load(restored)
    name = "SELECT count(*) FROM dwh.dim_supplier WHERE supplier_name LIKE '% elsewhere'"
    assert restored.value(name) > 0
    assert loaded.value(name) == 0
