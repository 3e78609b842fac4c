"""Maintenance: old history goes, what is still needed stays."""

from __future__ import annotations

from tests.operations.conftest import RUNS
from tests.support.database import Database


def run(database: Database) -> int:
    """Do a run that has something to do, and return its number."""
    with database.connect() as connection:
        connection.execute("UPDATE oceanrecords.suppliers SET name = name WHERE supplier_id = 1")
        connection.execute("CALL etl.run()")
    rows = database.rows("SELECT run_id, status FROM etl.run ORDER BY run_id DESC LIMIT 1")
    assert rows[0]["status"] == "succeeded"
    return int(rows[0]["run_id"])


def age(database: Database, run_id: int, days: int) -> None:
    database.execute(
        "UPDATE etl.run SET started_at = started_at - make_interval(days => %s), "
        "ended_at = ended_at - make_interval(days => %s) WHERE run_id = %s",
        days,
        days,
        run_id,
    )


def test_old_runs_go_with_their_batches_and_the_needed_ones_stay(loaded: Database) -> None:
    runs = [*range(1, RUNS + 1), *(run(loaded) for _ in range(2))]
    for run_id in runs:
        age(loaded, run_id, 40)
    loaded.execute("UPDATE etl.setting SET value = '0' WHERE name = 'maintenance_every'")
    # A mirror that has not moved for long still needs its batch.
    loaded.execute("UPDATE etl.task SET is_enabled = false WHERE object = 'suppliers'")
    needed = loaded.value(
        "SELECT b.run_id FROM etl.watermark AS w JOIN etl.batch AS b USING (batch_id) WHERE w.source_table = 'suppliers'"
    )
    last = run(loaded)

    assert needed == runs[-1]
    assert [row["run_id"] for row in loaded.rows("SELECT run_id FROM etl.run ORDER BY run_id")] == [
        needed,
        last,
    ]
    assert {row["run_id"] for row in loaded.rows("SELECT DISTINCT run_id FROM etl.batch")} == {
        needed,
        last,
    }
    assert {row["run_id"] for row in loaded.rows("SELECT DISTINCT run_id FROM etl.task_run")} == {
        needed,
        last,
    }
    assert (
        loaded.value(
            "SELECT count(*) FROM etl.watermark AS w LEFT JOIN etl.batch AS b USING (batch_id) WHERE b.batch_id IS NULL"
        )
        == 0
    )
    deleted = loaded.value(
        "SELECT deleted FROM etl.maintenance ORDER BY maintenance_id DESC LIMIT 1"
    )
    assert deleted["run"] == len(runs) - 1


def test_it_is_done_once_an_interval_and_costs_nothing_else(loaded: Database) -> None:
    run(loaded)
    run(loaded)
    assert loaded.value("SELECT count(*) FROM etl.maintenance") == 1
    loaded.execute(
        "UPDATE etl.maintenance SET maintained_at = maintained_at - interval '61 minutes'"
    )
    run(loaded)
    assert loaded.value("SELECT count(*) FROM etl.maintenance") == 2


def test_old_results_go_but_the_last_of_each(loaded: Database) -> None:
    loaded.execute("SELECT count(*) FROM etl.run_checks()")
    loaded.execute("UPDATE etl.check_result SET checked_at = checked_at - interval '31 days'")
    loaded.execute("UPDATE etl.quality_check SET is_enabled = false")
    checks = loaded.value("SELECT count(*) FROM etl.quality_check")
    for _ in range(2):
        with loaded.connect() as connection:
            connection.execute("CALL etl.reconcile('{suppliers}')")
    loaded.execute("UPDATE etl.reconciliation SET ended_at = ended_at - interval '91 days'")
    loaded.execute(
        "INSERT INTO etl.alert (kind, message, details, raised_at) VALUES ('run', 'old', '{}', now() - interval '31 days')"
    )
    loaded.execute(
        "INSERT INTO etl.scheduled_start (worker, outcome, message, fired_at) VALUES (1, 'left', 'old', now() - interval '31 days')"
    )
    loaded.execute("UPDATE etl.setting SET value = '0' WHERE name = 'maintenance_every'")
    run(loaded)
    assert loaded.value("SELECT count(*) FROM etl.check_result") == checks
    assert loaded.rows("SELECT reconciliation_id FROM etl.reconciliation") == [
        {"reconciliation_id": 2}
    ]
    assert (
        loaded.value("SELECT count(*) FROM etl.reconciliation_object WHERE reconciliation_id = 1")
        == 0
    )
    assert loaded.value("SELECT count(*) FROM etl.alert") == 0
    assert loaded.value("SELECT count(*) FROM etl.scheduled_start") == 0


def test_rows_written_tells_of_the_stars_alone(loaded: Database) -> None:
    age(loaded, 1, 40)
    loaded.execute("UPDATE etl.setting SET value = '0' WHERE name = 'maintenance_every'")
    last = run(loaded)
    assert loaded.value("SELECT rows_written FROM etl.run_status WHERE run_id = %s", last) == 0
