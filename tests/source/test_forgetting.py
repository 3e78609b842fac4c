"""A customer is forgotten in the warehouse while the operational system, on another server, still has the data."""

from __future__ import annotations

from tests.security.test_forget import where_it_is
from tests.source.conftest import Link
from tests.source.test_reconciliation import reconcile

SECRETS = ("Marie", "Sklodowska", "marie.curie@example.org", "+33 1 2345", "Rue Cuvier")
REMOTE = {"source.customers", "source.addresses"}
ROWS = """
    SELECT c.xmin::text, c::text FROM oceanrecords.customers AS c
    UNION ALL
    SELECT a.xmin::text, a::text FROM oceanrecords.addresses AS a
    ORDER BY 2
"""


def test_what_is_forgotten_here_stays_so_though_the_source_still_has_it(connected: Link) -> None:
    play = connected.play
    play.open()
    marie = play.shop.customer("Marie", email="marie.curie@example.org", phone="+33 1 2345")
    paris = play.shop.address(marie, city="Paris", street="Rue Cuvier 12")
    play.shop.order(marie, paris, {play.product: 1})
    play.run()
    play.shop.update("customers", {"customer_id": marie}, segment="business")
    play.run()
    known = where_it_is(connected.warehouse, *SECRETS).keys()
    assert known >= REMOTE | {"stage.customers", "stage.addresses", "dwh.dim_customer"}
    there = connected.source.rows(ROWS)
    facts = "SELECT count(*), sum(amount) FROM dwh.fact_order_line"
    before = play.rows(facts)

    play.loader.execute("SELECT * FROM etl.forget('customer', %s)", [str(marie)])
    # Read through the connection, never written to.
    assert where_it_is(connected.warehouse, *SECRETS).keys() == REMOTE
    assert connected.source.rows(ROWS) == there
    left = "SELECT relation, row_count FROM etl.forget_preview('customer', %s) WHERE NOT is_reached"
    assert play.rows(left, str(marie)) == [("source.addresses", 1), ("source.customers", 1)]
    play.run()
    assert where_it_is(connected.warehouse, *SECRETS).keys() == REMOTE

    # After a change on the source server the next load extracts the row again.
    play.shop.update("customers", {"customer_id": marie}, last_name="Sklodowska")
    play.shop.update("addresses", {"address_id": paris}, street="Rue Cuvier 14")
    there = connected.source.rows(ROWS)
    play.run()
    assert where_it_is(connected.warehouse, *SECRETS).keys() == REMOTE
    play.run(full_refresh=["all"])
    assert where_it_is(connected.warehouse, *SECRETS).keys() == REMOTE
    play.loader.execute("TRUNCATE stage.customers, stage.addresses")
    play.run(full_refresh=["all"])
    assert where_it_is(connected.warehouse, *SECRETS).keys() == REMOTE

    assert reconcile(connected) == []
    assert play.rows(facts) == before
    assert connected.source.rows(ROWS) == there
    name = "SELECT DISTINCT first_name, email FROM dwh.dim_customer WHERE customer_id = %s"
    assert play.rows(name, marie) == [("Forgotten", f"forgotten-{marie}@forgotten.invalid")]

    # These rows are what holds it back: without them the same refresh brings it.
    play.loader.execute("DELETE FROM etl.forgotten_row")
    play.run(full_refresh=["all"])
    assert "stage.customers" in where_it_is(connected.warehouse, "Marie")
