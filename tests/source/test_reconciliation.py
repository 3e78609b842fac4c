"""Reconciliation and checks when the operational system is on another server."""

from __future__ import annotations

from typing import Any

from psycopg.conninfo import conninfo_to_dict

from tests.source.conftest import Link


def reconcile(link: Link) -> list[dict[str, Any]]:
    """Reconcile, and return the differences; everything must have been compared."""
    with link.warehouse.connect() as connection:
        row = connection.execute("CALL etl.reconcile()").fetchone()
    assert row is not None
    rows = link.warehouse.rows("SELECT object, status, message FROM etl.reconciliation_status")
    assert [one for one in rows if one["status"] == "skipped"] == []
    return link.warehouse.rows(
        "SELECT object, kind, row_key, columns FROM etl.reconciliation_difference "
        "WHERE reconciliation_id = %s ORDER BY object",
        row[0],
    )


def test_a_wrong_row_is_named_and_repaired_across_servers(connected: Link) -> None:
    play = connected.play
    play.open()
    second = play.shop.order(play.customer, play.address, {play.product: 1, play.other_product: 3})
    play.run()
    assert reconcile(connected) == []

    # After the watermark, on the other server: no difference.
    play.shop.update("customers", {"customer_id": play.customer}, first_name="Newer")
    play.shop.delete("order_lines", order_id=second, line_number=2)
    assert reconcile(connected) == []

    line = {"order_id": play.orders[0], "line_number": 1}
    connected.warehouse.execute(
        "UPDATE stage.order_lines SET quantity = quantity + 1 WHERE order_id = %s AND line_number = 1",
        play.orders[0],
    )
    connected.warehouse.execute(
        "DELETE FROM stage.suppliers WHERE supplier_id = (SELECT max(supplier_id) FROM stage.suppliers)"
    )
    found = reconcile(connected)
    assert found[0] == {
        "object": "order_lines",
        "kind": "different",
        "row_key": line,
        "columns": ["quantity"],
    }
    assert [(one["object"], one["kind"]) for one in found[1:]] == [("suppliers", "missing")]

    connected.warehouse.execute("SELECT etl.repair()")
    play.run()
    assert reconcile(connected) == []
    connected.assert_mirrored()


def test_checks_compare_with_the_other_server(connected: Link) -> None:
    play = connected.play
    play.open()
    other = play.shop.order(play.customer, play.address, {play.product: 1})
    play.run()
    checks = "SELECT status FROM etl.run_checks('{totals_equal_source}')"
    assert connected.warehouse.value(checks) == "passed"
    more = "SET quantity = quantity + 1 WHERE order_id = %s"
    connected.source.execute(f"UPDATE oceanrecords.order_lines {more}", other)
    assert connected.warehouse.value(checks) == "passed"
    connected.warehouse.execute(f"UPDATE dwh.fact_order_line {more}", play.orders[0])
    assert connected.warehouse.value(checks) == "failed"


def test_a_repair_fetches_only_the_rows_that_are_wrong(connected: Link) -> None:
    connected.play.open()
    connected.customers(5000)
    connected.play.run()
    start = connected.proxy.received
    connected.play.run()
    nothing = connected.proxy.received - start
    connected.warehouse.execute(
        "UPDATE stage.customers SET last_name = 'wrong' WHERE customer_id IN (17, 4000)"
    )
    assert len(reconcile(connected)) == 2
    connected.warehouse.execute("SELECT etl.repair()")
    start = connected.proxy.received
    connected.play.run()
    # A run with nothing new ends after one question; the whole table is a hundred times as much.
    assert connected.proxy.received - start - nothing < 6000
    connected.assert_mirrored()


def test_a_source_that_asks_for_no_password_is_compared(link: Link) -> None:
    """Reconciliations run with the rights of the owner, who is no superuser."""
    parts = conninfo_to_dict(link.source.dsn)
    link.connect(password=None, p_host=parts["host"], p_port=int(str(parts["port"])))
    play = link.play
    play.open()
    play.run()
    owner = "SELECT r.rolsuper FROM pg_proc AS p JOIN pg_roles AS r ON r.oid = p.proowner"
    assert link.warehouse.value(f"{owner} WHERE p.proname = 'compare_next_object'") is False
    assert reconcile(link) == []
    link.warehouse.execute("UPDATE stage.customers SET last_name = 'wrong'")
    assert [one["object"] for one in reconcile(link)] == ["customers"]
