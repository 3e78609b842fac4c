"""Quality checks: catalog rows with SQL, done by every run, told by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.operations.conftest import RUNS
from tests.support.database import Database

Json = Callable[..., tuple[int, Any]]


def run(database: Database) -> dict[str, Any]:
    """Do a run that has something to do, and return its task of checks."""
    with database.connect() as connection:
        connection.execute("UPDATE oceanrecords.suppliers SET name = name WHERE supplier_id = 1")
        connection.execute("CALL etl.run()")
    return database.rows("SELECT * FROM etl.task_status WHERE kind = 'check'")[0]


def add(
    database: Database, name: str, query: str, severity: str = "fail", every: str = "0"
) -> None:
    database.execute(
        "INSERT INTO etl.quality_check (check_name, severity, description, query, run_every) "
        "VALUES (%s, %s, 'A test.', %s, %s::interval)",
        name,
        severity,
        query,
        every,
    )


def results(database: Database, name: str) -> list[dict[str, Any]]:
    return database.rows(
        "SELECT * FROM etl.check_result WHERE check_name = %s ORDER BY result_id", name
    )


def test_a_loaded_warehouse_passes_every_check(loaded: Database) -> None:
    rows = loaded.rows("SELECT check_name, status, run_id FROM etl.check_status")
    assert {row["status"] for row in rows} == {"passed"}
    # The last run of them found nothing to write.
    last_done = {row["check_name"]: row["run_id"] for row in rows}
    assert last_done.pop("loaded_orders_equal_lines") < RUNS
    assert last_done.pop("loaded_orders_equal_stage") < RUNS
    assert set(last_done.values()) == {RUNS}
    assert len(rows) >= 12


def test_heavy_checks_wait_for_their_interval(loaded: Database) -> None:
    done = run(loaded)["rows_read"]
    every_run = "SELECT count(*) FROM etl.quality_check WHERE run_every = '0'"
    nothing_written = "written_objects IS NULL"
    assert done == loaded.value(f"{every_run} AND {nothing_written}")
    loaded.execute("UPDATE etl.check_result SET checked_at = checked_at - interval '8 days'")
    assert run(loaded)["rows_read"] == loaded.value(
        f"SELECT count(*) FROM etl.quality_check WHERE {nothing_written}"
    )


def test_a_check_of_what_the_run_wrote_is_left_out_when_it_wrote_nothing(loaded: Database) -> None:
    add(loaded, "names", "SELECT 1 AS bad FROM dwh.dim_customer WHERE full_name = 'No One'")
    loaded.execute(
        "UPDATE etl.quality_check SET written_objects = '{dim_customer}' WHERE check_name = 'names'"
    )
    run(loaded)
    assert results(loaded, "names") == []
    loaded.execute(
        "UPDATE oceanrecords.customers SET first_name = 'No', last_name = 'One' WHERE customer_id = 1"
    )
    assert run(loaded)["status"] == "failed"
    assert run(loaded)["status"] == "succeeded"
    (found,) = results(loaded, "names")
    assert found["status"] == "failed"


def test_a_new_heavy_check_waits_for_its_interval_too(loaded: Database) -> None:
    add(loaded, "heavy", "SELECT 1 WHERE false", every="1 day")
    run(loaded)
    assert results(loaded, "heavy") == []
    loaded.execute(
        "UPDATE etl.quality_check SET added_at = added_at - interval '1 day' WHERE check_name = 'heavy'"
    )
    run(loaded)
    assert len(results(loaded, "heavy")) == 1


def test_a_failed_check_makes_the_run_partial_and_its_findings_stay(loaded: Database) -> None:
    add(
        loaded,
        "no_germans",
        "SELECT s.supplier_id, s.country_code FROM dwh.dim_supplier AS s;  -- all\n",
    )
    task = run(loaded)
    suppliers = loaded.value("SELECT count(*) FROM dwh.dim_supplier")
    assert (task["status"], task["sqlstate"]) == ("failed", "ET011")
    assert f"no_germans (violating rows: {suppliers})" in task["message"]
    assert loaded.value("SELECT status FROM etl.run ORDER BY run_id DESC LIMIT 1") == "partial"
    (found,) = results(loaded, "no_germans")
    assert (found["status"], found["violations"]) == ("failed", suppliers)
    assert len(found["sample"]) == 5
    assert set(found["sample"][0]) == {"supplier_id", "country_code"}


def test_a_warning_is_recorded_and_breaks_nothing(loaded: Database) -> None:
    add(loaded, "a_warning", "SELECT 1 AS one", severity="warn")
    assert run(loaded)["status"] == "succeeded"
    assert results(loaded, "a_warning")[0]["status"] == "failed"


def test_broken_sql_is_told_by_name_and_stops_no_other(loaded: Database) -> None:
    add(loaded, "a_broken_one", "SELECT * FROM nowhere.nothing")
    add(loaded, "z_other", "SELECT 1 WHERE false")
    task = run(loaded)
    assert task["status"] == "failed"
    assert (
        'a_broken_one (cannot be executed: relation "nowhere.nothing" does not exist'
        in task["message"]
    )
    assert results(loaded, "a_broken_one")[0]["status"] == "error"
    assert results(loaded, "z_other")[0]["status"] == "passed"
    # It is due again in the next run, whatever its interval: nobody knows whether it holds.
    loaded.execute(
        "UPDATE etl.quality_check SET run_every = '1 day', added_at = added_at - interval '1 day', query = 'SELECT 1 WHERE false'"
        " WHERE check_name = 'a_broken_one'"
    )
    assert run(loaded)["status"] == "succeeded"


def test_a_disabled_check_is_not_done(loaded: Database) -> None:
    add(loaded, "off", "SELECT 1")
    loaded.execute("UPDATE etl.quality_check SET is_enabled = false WHERE check_name = 'off'")
    assert run(loaded)["status"] == "succeeded"
    assert results(loaded, "off") == []


@pytest.mark.parametrize(
    ("check", "damage"),
    [
        ("orders_equal_lines", "UPDATE dwh.fact_order SET gross_amount = gross_amount + 1 WHERE order_id = 100"),
        ("orders_equal_lines", "DELETE FROM dwh.fact_order_line WHERE order_id = 100"),
        ("totals_equal_source", "UPDATE dwh.fact_order_line SET quantity = quantity + 1 WHERE order_id = 100"),
        ("totals_equal_source", "DELETE FROM dwh.fact_order_line WHERE order_id = 100"),
        ("deleted_rows_count_nothing", "UPDATE dwh.fact_order SET is_deleted = true WHERE order_id = 100"),
        ("aggregates_equal_facts", "UPDATE dwh.agg_order_daily SET sales = sales + 1 WHERE day = (SELECT min(day) FROM dwh.agg_order_daily)"),
        ("one_current_version", "ALTER TABLE dwh.dim_supplier DROP CONSTRAINT dim_supplier_versions;"
         "INSERT INTO dwh.dim_supplier SELECT 99999, supplier_id, supplier_name, country_code, country, valid_from, valid_to, true, run_id FROM dwh.dim_supplier WHERE supplier_id = 1"),
        ("no_overlap", "ALTER TABLE dwh.dim_customer DROP CONSTRAINT dim_customer_versions;"
         "INSERT INTO dwh.dim_customer SELECT 99999, customer_id, first_name, last_name, full_name, email, phone, segment, customer_since, '2025-01-01', '2025-02-01', false, run_id FROM dwh.dim_customer WHERE customer_id = 1 AND is_current"),
        ("no_orphan_keys", "UPDATE dwh.fact_order SET customer_key = 123456789 WHERE order_id = 100"),
        ("freshness", "UPDATE etl.watermark SET read_at = read_at - interval '1 day' WHERE source_table = 'orders'"),
        ("queue_age", "INSERT INTO etl.reprocessing_queue (fact, fact_key, key_column, dimension, dimension_key, run_id, queued_at) "
         "VALUES ('fact_order', '{\"order_id\": 1}', 'customer_key', 'dim_customer', '{\"customer_id\": 0}', 1, now() - interval '8 days')"),
        ("quarantine_empty", "INSERT INTO etl.quarantine (object, row_key, sqlstate, reason, run_id) VALUES ('orders', '{\"order_id\": null}', '23502', 'no key', 1)"),
    ],
)  # fmt: skip
def test_each_check_finds_what_it_is_for(loaded: Database, check: str, damage: str) -> None:
    assert loaded.rows("SELECT status FROM etl.run_checks(ARRAY[%s])", check) == [
        {"status": "passed"}
    ]
    loaded.execute(damage)
    assert loaded.rows("SELECT status FROM etl.run_checks(ARRAY[%s])", check) == [
        {"status": "failed"}
    ]


@pytest.mark.parametrize("damage", ["gross_amount = gross_amount + 1", "line_count = 0"])
def test_what_a_run_writes_wrongly_is_found_by_that_run(loaded: Database, damage: str) -> None:
    loaded.execute(
        "CREATE FUNCTION public.spoil() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$BEGIN UPDATE dwh.fact_order SET {damage} WHERE order_id = NEW.order_id; RETURN NULL; END$$;"
        "CREATE TRIGGER spoil AFTER UPDATE ON dwh.fact_order FOR EACH ROW WHEN (pg_trigger_depth() = 0) "
        "EXECUTE FUNCTION public.spoil();"
        "UPDATE oceanrecords.order_lines SET quantity = quantity + 1 WHERE order_id = 100"
    )
    task = run(loaded)
    assert task["status"] == "failed"
    assert "loaded_orders_equal_lines (violating rows: 1)" in task["message"]


def test_the_source_may_move_on(loaded: Database) -> None:
    loaded.execute(
        "UPDATE oceanrecords.order_lines SET quantity = quantity + 1 WHERE order_id < 50;"
        "DELETE FROM oceanrecords.order_lines WHERE order_id = 60;"
        "DELETE FROM oceanrecords.order_lines WHERE order_id = 61; DELETE FROM oceanrecords.orders WHERE order_id = 61;"
    )
    assert {row["status"] for row in loaded.rows("SELECT * FROM etl.run_checks()")} == {"passed"}


def test_a_failed_load_is_no_violation_besides(loaded: Database) -> None:
    # Lines cannot be written: the orders move on, their lines wait.
    loaded.execute(
        "UPDATE oceanrecords.order_lines SET quantity = quantity + 1 WHERE order_id < 50;"
        "ALTER TABLE dwh.fact_order_line RENAME TO fact_order_line_gone;"
        "UPDATE etl.check_result SET checked_at = checked_at - interval '25 hours';"
        "UPDATE etl.task SET is_enabled = false WHERE task = 'fact:fact_order_line';"
        "ALTER TABLE dwh.fact_order_line_gone RENAME TO fact_order_line;"
    )
    assert run(loaded)["status"] == "succeeded"


def test_the_command_tells_and_does(
    loaded: Database, json_of: Json, oceanrecords: Callable[..., Any]
) -> None:
    status, answer = json_of(loaded, "check")
    assert status == 0
    before = loaded.value("SELECT count(*) FROM etl.check_result")
    assert {one["status"] for one in answer} == {"passed"}

    status, answer = json_of(loaded, "check", "--name", "no_overlap")
    assert (status, len(answer), answer[0]["run_id"]) == (0, 1, None)
    assert loaded.value("SELECT count(*) FROM etl.check_result") == before + 1

    loaded.execute("UPDATE dwh.fact_order SET gross_amount = gross_amount + 1 WHERE order_id = 100")
    shown = oceanrecords("check", "--all", env={"OCEANRECORDS_DSN": loaded.dsn})
    assert shown.returncode == 1
    assert "orders_equal_lines  1 violating row" in shown.stdout
    assert "order_id 100" in shown.stdout


def test_an_unknown_check_is_refused(loaded: Database, oceanrecords: Callable[..., Any]) -> None:
    done = oceanrecords("check", "--name", "nope", env={"OCEANRECORDS_DSN": loaded.dsn})
    assert done.returncode == 1
    assert 'Check "nope" does not exist' in done.stderr


def test_a_check_cannot_be_told_twice_or_without_a_query(loaded: Database) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        add(loaded, "empty", "")
    with pytest.raises(psycopg.errors.UniqueViolation):
        add(loaded, "no_overlap", "SELECT 1")


def test_newer_keys_of_an_unknown_table(loaded: Database) -> None:
    with pytest.raises(psycopg.Error) as error:
        loaded.rows("SELECT * FROM etl.newer_keys('nope')")
    assert error.value.sqlstate == "ET002"
