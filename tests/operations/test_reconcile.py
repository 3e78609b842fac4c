"""Reconciliation: one wrong row among many is found, named and repaired; later changes of the source are no difference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.support.database import Database
from tests.support.waiting import wait_for
from tests.warehouse.faults import Background

Json = Callable[..., tuple[int, Any]]
Where = dict[str, Any]


def reconcile(database: Database, *objects: str, status: str | None = None) -> list[dict[str, Any]]:
    """Reconcile, and return the differences; everything must have been compared."""
    with database.connect() as connection:
        row = connection.execute("CALL etl.reconcile(%s, NULL)", [list(objects) or None]).fetchone()
    assert row is not None
    verdict = database.value(
        "SELECT status FROM etl.reconciliation WHERE reconciliation_id = %s", row[0]
    )
    found = database.rows(
        "SELECT object, kind, row_key, columns, expected, actual "
        "FROM etl.reconciliation_difference WHERE reconciliation_id = %s ORDER BY difference_id",
        row[0],
    )
    assert verdict == (status or ("different" if found else "equal")), database.rows(
        "SELECT object, message FROM etl.reconciliation_status WHERE status = 'skipped'"
    )
    return found


def repair(database: Database) -> None:
    """Repair what the last reconciliation found, by a run that must succeed."""
    database.execute("SELECT etl.repair()")
    with database.connect() as connection:
        connection.execute("CALL etl.run()")
    last = "SELECT status FROM etl.run ORDER BY run_id DESC LIMIT 1"
    assert database.value(last) == "succeeded"


def one(found: list[dict[str, Any]], object_: str) -> dict[str, Any]:
    """Return the only difference of an object."""
    mine = [row for row in found if row["object"] == object_]
    assert len(mine) == 1, found
    return mine[0]


def test_a_loaded_warehouse_agrees_with_its_source(loaded: Database) -> None:
    assert reconcile(loaded) == []
    rows = loaded.rows("SELECT * FROM etl.reconciliation_status")
    loads = "SELECT object FROM etl.task WHERE kind IN ('stage', 'dimension', 'fact', 'aggregate')"
    assert {row["object"] for row in rows} == {
        *(row["object"] for row in loaded.rows(loads)),
        "dim_date",
        "quarantine",
        "reprocessing_queue",
    }
    lines = next(row for row in rows if row["object"] == "fact_order_line")
    total = loaded.rows(
        "SELECT count(*) AS n, sum(quantity) AS quantity FROM oceanrecords.order_lines"
    )[0]
    assert lines["expected_rows"] == lines["actual_rows"] == total["n"]
    assert lines["actual_sums"]["quantity"] == total["quantity"]


def test_a_wrong_value_in_a_mirror_is_reported_once(loaded: Database) -> None:
    name = loaded.value("SELECT first_name FROM oceanrecords.customers WHERE customer_id = 77")
    loaded.execute("UPDATE stage.customers SET first_name = 'Nobody' WHERE customer_id = 77")

    assert reconcile(loaded) == [
        {
            "object": "customers",
            "kind": "different",
            "row_key": {"customer_id": 77},
            "columns": ["first_name"],
            "expected": {"first_name": name},
            "actual": {"first_name": "Nobody"},
        }
    ]
    repair(loaded)
    assert reconcile(loaded) == []
    assert loaded.value("SELECT first_name FROM stage.customers WHERE customer_id = 77") == name


def test_what_follows_from_a_wrong_mirror_is_not_reported(loaded: Database) -> None:
    """Lines take their time from their order, which came in the same batch."""
    loaded.execute(
        "UPDATE stage.orders SET ordered_at = ordered_at - interval '1 minute' WHERE order_id = 1000"
    )
    assert {row["object"] for row in reconcile(loaded)} == {"orders"}
    repair(loaded)
    assert reconcile(loaded) == []


def test_rows_loaded_from_a_wrong_mirror_are_repaired_with_it(loaded: Database) -> None:
    right = loaded.value("SELECT sum(amount) FROM dwh.fact_order_line")
    loaded.execute(
        "UPDATE stage.order_lines SET quantity = quantity + 5 WHERE order_id = 1000;"
        "INSERT INTO work.fact_order_key VALUES (1000);"
        "INSERT INTO work.fact_order_line_key SELECT order_id, line_number FROM stage.order_lines WHERE order_id = 1000;"
    )
    with loaded.connect() as connection:
        connection.execute("CALL etl.run()")
    assert loaded.value("SELECT sum(amount) FROM dwh.fact_order_line") != right

    found = reconcile(loaded)
    assert {row["object"] for row in found} == {"order_lines"}
    assert {row["row_key"]["order_id"] for row in found} == {1000}
    repair(loaded)
    assert reconcile(loaded) == []
    assert loaded.value("SELECT sum(amount) FROM dwh.fact_order_line") == right
    assert loaded.value("SELECT sum(sales) FROM dwh.agg_order_daily") == loaded.value(
        "SELECT sum(gross_amount) FROM dwh.fact_order WHERE NOT is_lost"
    )


def test_a_missing_and_a_surplus_row_of_a_mirror_are_named(loaded: Database) -> None:
    loaded.execute(
        "DELETE FROM stage.order_lines WHERE order_id = 500 AND line_number = 1;"
        "INSERT INTO stage.suppliers SELECT 9999, 'Ghost', country_code, created_at, updated_at, "
        "batch_id, NULL FROM stage.suppliers WHERE supplier_id = 1;"
    )
    found = reconcile(loaded)

    line = one(found, "order_lines")
    assert (line["kind"], line["row_key"]) == ("missing", {"order_id": 500, "line_number": 1})
    assert line["expected"]["quantity"] == loaded.value(
        "SELECT quantity FROM oceanrecords.order_lines WHERE order_id = 500 AND line_number = 1"
    )
    supplier = one(found, "suppliers")
    assert (supplier["kind"], supplier["row_key"]) == ("surplus", {"supplier_id": 9999})
    assert supplier["actual"]["name"] == "Ghost"
    assert len(found) == 2

    repair(loaded)
    assert reconcile(loaded) == []
    assert (
        loaded.value(
            "SELECT count(*) FROM stage.suppliers WHERE supplier_id = 9999 AND deleted_at IS NULL"
        )
        == 0
    )


def test_a_row_wrongly_marked_as_deleted_is_missing(loaded: Database) -> None:
    loaded.execute("UPDATE stage.addresses SET deleted_at = now() WHERE address_id = 40")
    assert one(reconcile(loaded), "addresses")["kind"] == "missing"
    repair(loaded)
    assert reconcile(loaded) == []


def test_a_cent_in_a_fact_is_found(loaded: Database) -> None:
    where = "WHERE order_id = 2345 AND line_number = 1"
    amount = loaded.value(f"SELECT amount FROM dwh.fact_order_line {where}")
    loaded.execute(f"UPDATE dwh.fact_order_line SET amount = amount + 0.01 {where}")

    line = one(reconcile(loaded, "fact_order_line"), "fact_order_line")
    assert line["kind"] == "different"
    assert line["row_key"] == {"order_id": 2345, "line_number": 1}
    assert line["columns"] == ["amount"]
    assert line["expected"] == {"amount": float(amount)}
    assert line["actual"] == {"amount": pytest.approx(float(amount) + 0.01)}

    repair(loaded)
    assert reconcile(loaded) == []


def test_a_wrong_key_is_shown_by_business_keys(loaded: Database) -> None:
    right = loaded.value("SELECT customer_id FROM oceanrecords.orders WHERE order_id = 777")
    wrong = 1 if right != 1 else 2
    loaded.execute(
        "UPDATE dwh.fact_order SET customer_key = "
        "(SELECT customer_key FROM dwh.dim_customer WHERE customer_id = %s AND is_current) "
        "WHERE order_id = 777",
        wrong,
    )
    order = one(reconcile(loaded, "fact_order"), "fact_order")
    assert order["columns"] == ["customer_key"]
    assert order["expected"]["customer_key"]["customer_id"] == right
    assert order["actual"]["customer_key"]["customer_id"] == wrong

    repair(loaded)
    assert reconcile(loaded) == []


def test_missing_and_surplus_facts_are_named(loaded: Database) -> None:
    lines = loaded.value("SELECT count(*) FROM dwh.fact_order_line WHERE order_id = 600")
    loaded.execute(
        "DELETE FROM dwh.fact_order_line WHERE order_id = 600;"
        "INSERT INTO dwh.fact_order_line SELECT order_id, 99, product_key, supplier_key, ordered_date_key, "
        "ordered_at, 1, 1, 1, false, run_id FROM dwh.fact_order_line WHERE order_id = 601 AND line_number = 1;"
    )
    found = reconcile(loaded, "fact_order_line")
    kinds = sorted((row["kind"], row["row_key"]["order_id"]) for row in found)
    assert kinds == [("missing", 600)] * lines + [("surplus", 601)]

    repair(loaded)
    assert reconcile(loaded) == []
    assert loaded.value(
        "SELECT is_deleted FROM dwh.fact_order_line WHERE order_id = 601 AND line_number = 99"
    )


def test_a_deleted_fact_that_still_counts_is_surplus(loaded: Database) -> None:
    loaded.execute("DELETE FROM oceanrecords.order_lines WHERE order_id = 800 AND line_number = 1")
    with loaded.connect() as connection:
        connection.execute("CALL etl.run()")
    loaded.execute(
        "UPDATE dwh.fact_order_line SET quantity = 3 WHERE order_id = 800 AND line_number = 1"
    )
    line = one(reconcile(loaded, "fact_order_line"), "fact_order_line")
    assert (line["kind"], line["row_key"]["order_id"]) == ("surplus", 800)
    repair(loaded)
    assert reconcile(loaded) == []


@pytest.mark.parametrize(
    ("change", "columns"),
    [
        ("segment = CASE segment WHEN 'consumer' THEN 'business' ELSE 'consumer' END", ["segment"]),
        ("email = 'x@example.org', phone = NULL, segment = 'other'", ["email", "phone", "segment"]),
    ],
    ids=["history", "both types"],
)
def test_a_wrong_member_is_corrected_in_place(
    loaded: Database, change: str, columns: list[str]
) -> None:
    loaded.execute("UPDATE stage.customers SET phone = '123' WHERE customer_id = 100")
    loaded.execute("UPDATE oceanrecords.customers SET phone = '123' WHERE customer_id = 100")
    with loaded.connect() as connection:
        connection.execute("CALL etl.run()")
    before = loaded.rows(
        "SELECT to_jsonb(d) - 'run_id' AS d FROM dwh.dim_customer AS d WHERE customer_id = 100"
    )
    loaded.execute(f"UPDATE dwh.dim_customer SET {change} WHERE customer_id = 100 AND is_current")

    member = one(reconcile(loaded), "dim_customer")
    assert (member["kind"], member["row_key"]["customer_id"]) == ("different", 100)
    assert member["columns"] == columns

    repair(loaded)
    assert reconcile(loaded) == []
    after = loaded.rows(
        "SELECT to_jsonb(d) - 'run_id' AS d FROM dwh.dim_customer AS d WHERE customer_id = 100"
    )
    assert after == before


def test_a_repair_leaves_members_that_are_pending_to_their_load(loaded: Database) -> None:
    """A change that the dimension has not loaded yet opens a version, also if another attribute is repaired."""
    before = loaded.value(
        "SELECT segment FROM dwh.dim_customer WHERE customer_id = 100 AND is_current"
    )
    loaded.execute(
        "UPDATE dwh.dim_customer SET phone = '000' WHERE customer_id = 100 AND is_current"
    )
    assert one(reconcile(loaded), "dim_customer")["columns"] == ["phone"]
    after = {"consumer": "business", "business": "consumer"}[before]
    loaded.execute(
        "CREATE FUNCTION dwh.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''refused''; END';"
        "CREATE TRIGGER refuse BEFORE UPDATE ON dwh.dim_customer FOR EACH STATEMENT EXECUTE FUNCTION dwh.refuse();"
        f"UPDATE oceanrecords.customers SET segment = '{after}' WHERE customer_id = 100"
    )
    with loaded.connect() as connection:
        connection.execute("CALL etl.run()")
    assert loaded.value("SELECT count(*) FROM work.dim_customer_key") == 1
    loaded.execute("DROP TRIGGER refuse ON dwh.dim_customer")
    repair(loaded)
    assert reconcile(loaded) == []
    versions = "SELECT segment, is_current FROM dwh.dim_customer WHERE customer_id = 100 ORDER BY valid_from DESC LIMIT 2"
    assert loaded.rows(versions) == [
        {"segment": after, "is_current": True},
        {"segment": before, "is_current": False},
    ]


def test_a_wrong_price_of_the_past_is_found_by_the_log(loaded: Database) -> None:
    version = loaded.rows(
        "SELECT product_key, product_id, price FROM dwh.dim_product WHERE NOT is_current ORDER BY product_key LIMIT 1"
    )[0]
    loaded.execute(
        "UPDATE dwh.dim_product SET price = price + 1 WHERE product_key = %s",
        version["product_key"],
    )

    found = one(reconcile(loaded, "dim_product"), "dim_product")
    assert found["row_key"]["product_id"] == version["product_id"]
    assert found["columns"] == ["price"]
    assert found["expected"]["price"] == float(version["price"])
    repair(loaded)
    assert reconcile(loaded) == []


def test_a_member_that_the_source_does_not_have_is_closed(loaded: Database) -> None:
    loaded.execute(
        "INSERT INTO dwh.dim_supplier (supplier_id, supplier_name, country_code, country, valid_from, valid_to, is_current, run_id) "
        "VALUES (4711, 'Ghost', 'DE', 'Germany', '-infinity', 'infinity', true, 0)"
    )
    member = one(reconcile(loaded, "dim_supplier"), "dim_supplier")
    assert (member["kind"], member["row_key"]["supplier_id"]) == ("surplus", 4711)
    repair(loaded)
    assert reconcile(loaded) == []
    assert not loaded.value("SELECT is_current FROM dwh.dim_supplier WHERE supplier_id = 4711")


def test_wrong_missing_and_surplus_groups_of_an_aggregate(loaded: Database) -> None:
    groups = loaded.rows(
        "SELECT day, country, sales FROM dwh.agg_order_daily ORDER BY day, country LIMIT 2"
    )
    wrong, missing = groups
    total = loaded.value("SELECT sum(sales) FROM dwh.agg_order_daily")
    loaded.execute(
        "UPDATE dwh.agg_order_daily SET sales = sales + 1 WHERE (day, country) = (%s, %s)",
        wrong["day"],
        wrong["country"],
    )
    loaded.execute(
        "DELETE FROM dwh.agg_order_daily WHERE (day, country) = (%s, %s)",
        missing["day"],
        missing["country"],
    )
    loaded.execute(
        "INSERT INTO dwh.agg_order_daily (day, country, orders, lost_orders, sales, fulfilled_orders, hours_to_fulfil, run_id) "
        "VALUES ('2001-01-01', 'Atlantis', 1, 0, 5, 0, 0, 0)"
    )
    found = reconcile(loaded, "agg_order_daily")
    assert {(row["kind"], row["row_key"]["country"], row["row_key"]["day"]) for row in found} == {
        ("different", wrong["country"], str(wrong["day"])),
        ("missing", missing["country"], str(missing["day"])),
        ("surplus", "Atlantis", "2001-01-01"),
    }
    changed = next(row for row in found if row["kind"] == "different")
    assert changed["columns"] == ["sales"]

    repair(loaded)
    assert reconcile(loaded) == []
    assert loaded.value("SELECT sum(sales) FROM dwh.agg_order_daily") == total


def test_changes_after_the_watermark_are_no_difference(loaded: Database) -> None:
    before = loaded.connect(autocommit=False)
    # Open before the last run's snapshot, committed after it.
    before.execute("UPDATE oceanrecords.customers SET last_name = 'Late' WHERE customer_id = 10")
    with loaded.connect() as connection:
        connection.execute("CALL etl.run()")
    before.commit()
    loaded.execute(
        "UPDATE oceanrecords.customers SET last_name = 'Newer' WHERE customer_id = 11;"
        "DELETE FROM oceanrecords.order_lines WHERE order_id = 20 AND line_number = 1;"
        "UPDATE oceanrecords.order_lines SET quantity = quantity + 1 WHERE order_id = 21;"
        "UPDATE oceanrecords.order_lines SET line_number = 50 WHERE order_id = 22 AND line_number = 1;"
        "INSERT INTO oceanrecords.suppliers (name, country_code) VALUES ('New one', 'DE');"
    )
    assert reconcile(loaded) == []
    ignored = {
        row["object"]: row["ignored_rows"]
        for row in loaded.rows("SELECT * FROM etl.reconciliation_status")
    }
    assert ignored["customers"] == 2
    assert ignored["suppliers"] == 1
    # A wrong row among them is still found.
    loaded.execute("UPDATE stage.customers SET last_name = 'Nobody' WHERE customer_id = 12")
    assert one(reconcile(loaded), "customers")["row_key"] == {"customer_id": 12}


def test_concurrent_writers_raise_no_false_alarm(loaded: Database) -> None:
    from tests.warehouse.faults import background

    stop = False

    def write() -> None:
        with psycopg.connect(loaded.dsn, autocommit=True) as connection:
            number = 0
            while not stop:
                number += 1
                connection.execute(
                    "UPDATE oceanrecords.order_lines SET quantity = 1 + quantity %% 9 WHERE order_id = %s",
                    [number % 2500 + 1],
                )
                connection.execute(
                    "UPDATE oceanrecords.customers SET phone = %s WHERE customer_id = %s",
                    [str(number), number % 500 + 1],
                )

    with background(write):
        try:
            for _ in range(3):
                assert reconcile(loaded) == []
                with loaded.connect() as connection:
                    connection.execute("CALL etl.run()")
        finally:
            stop = True
    assert loaded.value("SELECT bool_and(status = 'succeeded') FROM etl.run")


def test_pending_rows_are_left_out(loaded: Database) -> None:
    loaded.execute("INSERT INTO work.fact_order_key VALUES (300)")
    loaded.execute("UPDATE dwh.fact_order SET quantity = 1000 WHERE order_id = 300")
    assert reconcile(loaded, "fact_order", status="incomplete") == []
    assert loaded.value("SELECT left_out FROM etl.reconciliation") == {"pending": 1}
    loaded.execute("DELETE FROM work.fact_order_key")
    assert one(reconcile(loaded, "fact_order"), "fact_order")["columns"] == ["quantity"]


def test_more_than_can_be_kept_rebuilds_the_object(loaded: Database) -> None:
    loaded.execute("UPDATE etl.setting SET value = '5' WHERE name = 'reconciliation_rows_kept'")
    loaded.execute("UPDATE stage.customers SET phone = 'wrong' WHERE customer_id BETWEEN 1 AND 50")
    assert len(reconcile(loaded, "customers")) == 5
    assert loaded.value("SELECT differences FROM etl.reconciliation") == 50
    repair(loaded)
    assert reconcile(loaded) == []


def test_an_object_that_cannot_be_compared_is_reported(loaded: Database, json_of: Json) -> None:
    loaded.execute("DELETE FROM etl.watermark WHERE source_table = 'customers'")
    status, answer = json_of(loaded, "reconcile", "customers")
    assert status == 1
    assert answer["status"] == "incomplete"
    assert answer["comparisons"][0]["message"] == "the table waits to be extracted completely"
    with loaded.connect() as connection, pytest.raises(psycopg.Error) as error:
        connection.execute(
            "SELECT etl._compare_source(s, 1, 0) FROM etl.source_table AS s WHERE s.source_table = 'customers'"
        )
    assert error.value.sqlstate == "ET017"


def test_a_live_run_is_not_disturbed_by_a_repair(loaded: Database) -> None:
    loaded.execute("UPDATE dwh.fact_order SET quantity = 1000 WHERE order_id = 300")
    assert reconcile(loaded, "fact_order")
    worker = loaded.connect()
    run_id = worker.execute("SELECT etl.start_run('{customers}')").fetchone()
    # A worker is live as long as its session executes something while it holds its lock.
    holder = psycopg.connect(loaded.dsn, autocommit=True)
    holder.execute("SELECT etl._enlist(%s)", run_id)
    asleep = Background(lambda: holder.execute("SELECT pg_sleep(60)"))
    wait_for(lambda: loaded.value("SELECT etl._live_run() IS NOT NULL"), "the run to be live")
    with pytest.raises(psycopg.Error) as error:
        loaded.execute("SELECT etl.repair()")
    assert error.value.sqlstate == "ET001"
    holder.cancel()
    asleep.join()
    holder.close()


def test_the_command_names_repairs_and_proves(
    loaded: Database, json_of: Json, oceanrecords: Callable[..., Any]
) -> None:
    loaded.execute(
        "UPDATE dwh.fact_order_line SET amount = amount + 1 WHERE order_id = 33 AND line_number = 1"
    )
    shown = oceanrecords("reconcile", "fact_order_line", env={"OCEANRECORDS_DSN": loaded.dsn})
    assert shown.returncode == 1
    assert "order_id 33, line_number 1 differs" in shown.stdout
    assert "1 row differs" in shown.stdout

    status, answer = json_of(loaded, "reconcile", "--repair")
    assert status == 0
    assert answer["status"] == "equal"
    assert answer["differences"] == 0
    compared = [one["object"] for one in answer["comparisons"]]
    assert len(compared) == len(set(compared)) > 20
    before = answer["repair"]["before"]
    assert before["status"] == "different"
    assert answer["repair"]["run"]["status"] == "succeeded"
    assert (
        loaded.value(
            "SELECT count(*) FROM etl.reconciliation WHERE repair_requested_at IS NOT NULL"
        )
        == 1
    )


def test_an_unknown_object_is_refused(loaded: Database, oceanrecords: Callable[..., Any]) -> None:
    done = oceanrecords("reconcile", "no_such", env={"OCEANRECORDS_DSN": loaded.dsn})
    assert done.returncode == 1
    assert 'Object "no_such" does not exist' in done.stderr
    assert "Traceback" not in done.stderr


def test_in_a_transaction_of_another_kind_it_is_refused(loaded: Database) -> None:
    with pytest.raises(psycopg.Error) as error:
        loaded.execute("SELECT etl.compare_next_object(1)")
    assert error.value.sqlstate == "ET016"


def test_workers_share_the_objects_and_find_the_same(loaded: Database, json_of: Json) -> None:
    loaded.execute(
        "UPDATE stage.customers SET first_name = 'Nobody' WHERE customer_id = 77;"
        "UPDATE dwh.fact_order SET quantity = 1000 WHERE order_id = 300;"
        "UPDATE dwh.agg_order_daily SET sales = sales + 1 WHERE day = (SELECT max(day) FROM dwh.agg_order_daily)"
    )
    answers = [json_of(loaded, "reconcile", "--workers", number) for number in ("1", "3")]
    found = [
        {
            (one["object"], one["status"], one["differences"], one["actual_rows"])
            for one in answer["comparisons"]
        }
        for _, answer in answers
    ]
    assert found[0] == found[1]
    assert {status for status, _ in answers} == {1}
    assert {row[0] for row in found[0] if row[1] == "different"} == {
        "customers",
        "fact_order",
        "agg_order_daily",
    }


def test_workers_claim_objects_and_a_lost_one_leaves_its_object(loaded: Database) -> None:
    number = loaded.value("SELECT etl.begin_reconciliation('{suppliers}', 1)")
    keeper = loaded.connect(autocommit=False)
    keeper.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    snapshot = (keeper.execute("SELECT pg_export_snapshot()").fetchone() or ("",))[0]

    def worker() -> tuple[psycopg.Connection[Any], Any]:
        """Return a worker in its transaction, and what it has compared."""
        own = loaded.connect(autocommit=False)
        own.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        own.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'".encode())
        row = own.execute("SELECT etl.compare_next_object(%s)", [number]).fetchone()
        return own, row and row[0]

    lost, compared = worker()
    assert compared == "suppliers"
    other, compared = worker()
    assert compared is None
    lost.rollback()
    second, compared = worker()
    assert compared == "suppliers"
    second.commit()
    # The snapshot does not see that it has been compared.
    third, compared = worker()
    assert compared is None
    for one_ in (lost, other, second, third, keeper):
        one_.close()
    loaded.execute("SELECT etl.end_reconciliation(%s)", number)
    assert loaded.rows("SELECT overall_status, status FROM etl.reconciliation_status") == [
        {"overall_status": "equal", "status": "equal"}
    ]


def test_as_many_slices_compare_everything_once(loaded: Database, json_of: Json) -> None:
    everything = json_of(loaded, "reconcile")[1]["comparisons"]
    rows = dict.fromkeys((one["object"] for one in everything), 0)
    loaded.execute(
        "UPDATE dwh.fact_order SET quantity = 1000 WHERE order_id = 300;"
        "UPDATE dwh.dim_date SET day_name = 'X' WHERE full_date = '2025-12-05'"
    )
    found = []
    for slice_ in range(3):
        _, answer = json_of(loaded, "reconcile", "--slices", "3")
        assert answer["slice"] == slice_
        for one in answer["comparisons"]:
            rows[one["object"]] += one["actual_rows"]
            found += [(one["object"], row["row_key"]) for row in one["rows"]]
    assert rows == {one["object"]: one["actual_rows"] for one in everything}
    assert sorted(found, key=str) == [
        ("dim_date", {"full_date": "2025-12-05"}),
        ("fact_order", {"order_id": 300}),
    ]
    assert json_of(loaded, "reconcile", "--slices", "3")[1]["slice"] == 0


def test_the_verdict_names_what_was_left_out(
    loaded: Database, oceanrecords: Callable[..., Any]
) -> None:
    loaded.execute(
        "UPDATE oceanrecords.customers SET last_name = 'Newer' WHERE customer_id IN (11, 12)"
    )
    done = oceanrecords("reconcile", env={"OCEANRECORDS_DSN": loaded.dsn})
    assert done.returncode == 0, done.stdout
    assert "agree, except 2 rows changed since the last run" in done.stdout
    loaded.execute(
        "UPDATE dwh.fact_order SET quantity = 1000 WHERE order_id = 300;"
        "INSERT INTO work.fact_order_key VALUES (300)"
    )
    done = oceanrecords("reconcile", "fact_order", env={"OCEANRECORDS_DSN": loaded.dsn})
    assert done.returncode == 1
    assert "agree" not in done.stdout
    assert "1 row pending" in done.stdout


def test_an_interrupted_reconciliation_is_incomplete(loaded: Database) -> None:
    number = loaded.value("SELECT etl.begin_reconciliation(NULL, 1)")
    rows = loaded.rows("SELECT * FROM etl.reconciliation_status")
    assert {row["reconciliation_id"] for row in rows} == {number}
    assert {row["overall_status"] for row in rows} == {"incomplete"}
    assert {row["status"] for row in rows} == {"skipped"}


def test_a_source_with_ids_of_another_server_is_compared(loaded: Database) -> None:
    """Rows from a dump carry transaction ids that this server has not assigned yet."""
    loaded.execute(
        "ALTER TABLE oceanrecords.customers DISABLE TRIGGER USER;"
        "UPDATE oceanrecords.customers SET row_xid = '9999999999', phone = '4711' WHERE customer_id = 5;"
        "UPDATE oceanrecords.customers SET row_xid = '9999999999' WHERE customer_id <> 5;"
        "ALTER TABLE oceanrecords.customers ENABLE TRIGGER USER"
    )
    assert one(reconcile(loaded), "customers")["row_key"] == {"customer_id": 5}
    assert loaded.value("SELECT count(*) FROM etl.newer_keys('customers')") == 0


def test_a_first_value_that_the_source_changed_with_another_is_no_difference(
    loaded: Database,
) -> None:
    """The dimension keeps the first value, also if a change of the same row opens a version."""
    loaded.execute(
        "UPDATE oceanrecords.customers SET created_at = created_at - interval '9 days', "
        "segment = CASE segment WHEN 'consumer' THEN 'business' ELSE 'consumer' END WHERE customer_id = 100;"
        "UPDATE oceanrecords.customers SET created_at = created_at - interval '9 days', phone = '1' WHERE customer_id = 101"
    )
    with loaded.connect() as connection:
        connection.execute("CALL etl.run()")
    first = "SELECT customer_id, customer_since, valid_from::text FROM dwh.dim_customer WHERE customer_id IN (100, 101) ORDER BY 1, 3"
    before = loaded.rows(first)
    assert len(before) == 3
    assert reconcile(loaded) == []
    # With a wrong attribute of the same version, the first value is not reported either.
    loaded.execute(
        "UPDATE dwh.dim_customer SET segment = 'other' WHERE customer_id = 100 AND is_current"
    )
    assert one(reconcile(loaded), "dim_customer")["columns"] == ["segment"]
    repair(loaded)
    assert reconcile(loaded) == []
    assert loaded.rows(first) == before


def test_a_gap_older_than_the_tombstones_is_left_alone(loaded: Database) -> None:
    loaded.execute(
        "INSERT INTO oceanrecords.customers (customer_id, first_name, last_name, email, phone, segment) VALUES "
        "(900001, 'A', 'B', 'a@example.org', '1', 'consumer'), (900002, 'A', 'B', 'b@example.org', '1', 'consumer')"
    )
    for change in (
        "DELETE FROM oceanrecords.customers WHERE customer_id > 900000",
        "INSERT INTO oceanrecords.customers (customer_id, first_name, last_name, email, phone, segment) VALUES "
        "(900001, 'A', 'B', 'a@example.org', '1', 'consumer')",
        "DELETE FROM oceanrecords.deleted_rows",
    ):
        with loaded.connect() as connection:
            connection.execute("CALL etl.run()")
        loaded.execute(change)
    assert reconcile(loaded) == []


def test_the_verdict_names_past_versions_that_no_log_confirms(
    loaded: Database, oceanrecords: Callable[..., Any]
) -> None:
    loaded.execute(
        "UPDATE oceanrecords.customers SET segment = CASE segment WHEN 'consumer' THEN 'business' ELSE 'consumer' END"
        " WHERE customer_id = 100"
    )
    with loaded.connect() as connection:
        connection.execute("CALL etl.run()")
    done = oceanrecords("reconcile", "dim_customer", env={"OCEANRECORDS_DSN": loaded.dsn})
    assert done.returncode == 0, done.stdout
    assert (
        "dim_customer agrees, except 1 row of past versions that no log of the source confirms"
        in done.stdout
    )


def test_a_key_spelled_differently_is_the_same_key(database: Database) -> None:
    """Smith and smith are one key of citext: neither missing nor surplus, in every slice."""
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        for statement in (
            "CREATE EXTENSION citext SCHEMA public",
            "CREATE SCHEMA shop",
            "CREATE TABLE shop.things (code public.citext PRIMARY KEY, name text,"
            " updated_at timestamptz NOT NULL DEFAULT clock_timestamp(), row_xid xid8 NOT NULL DEFAULT pg_current_xact_id())",
            "INSERT INTO shop.things (code, name) SELECT 'Thing ' || i, 'x' FROM generate_series(1, 40) AS i",
            "CREATE VIEW source.things AS SELECT * FROM shop.things",
            "SELECT etl.define_source('things', p_delete_detection => 'comparison')",
            "CALL etl.build()",
            "CREATE VIEW work.dim_thing AS SELECT code, name, updated_at AS effective_at, deleted_at FROM stage.things",
            "SELECT etl.define_dimension('dim_thing', p_key => '{code}', p_type_2 => '{name}')",
            "CALL etl.build()",
            "CALL etl.run()",
            "UPDATE stage.things SET code = upper(code::text)::public.citext",
        ):
            connection.execute(statement.encode())
        connection.execute("UPDATE stage.things SET name = 'y' WHERE code = 'Thing 7'")
        for _ in range(3):
            connection.execute("CALL etl.reconcile('{things}', NULL, 3)")
    assert database.rows(
        "SELECT object, kind, row_key FROM etl.reconciliation_difference WHERE object = 'things'"
    ) == [{"object": "things", "kind": "different", "row_key": {"code": "Thing 7"}}]
