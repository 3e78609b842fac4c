"""What the business does, followed from the operational row to the star."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import psycopg
import pytest

from tests.warehouse.faults import background, wait_until_blocked
from tests.warehouse.play import Play

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

MICROSECOND = timedelta(microseconds=1)

VERSION_OF_LINE = """
    SELECT d.price FROM dwh.fact_order_line JOIN dwh.dim_product AS d USING (product_key)
    WHERE order_id = %s AND line_number = 1
"""


# Place order, update order, new customer address, price change ---------------------------------------------------------


def test_a_placed_order_becomes_a_fact_with_its_lines(trading: Play) -> None:
    shop = trading.shop
    order = shop.order(
        trading.customer, trading.address, {trading.product: 2, trading.other_product: 1}
    )
    trading.run()
    fact = trading.row("SELECT * FROM dwh.fact_order WHERE order_id = %s", order)
    assert (fact["line_count"], fact["quantity"], fact["gross_amount"]) == (2, 3, Decimal("45.50"))
    assert fact["ordered_date_key"] == int(shop.now.strftime("%Y%m%d"))
    assert (fact["shipped_date_key"], fact["delivered_date_key"]) == (-2, -2)
    assert not fact["is_lost"]
    trading.assert_right()


def test_an_order_without_lines_is_a_fact_with_nothing_to_sum(trading: Play) -> None:
    order = trading.shop.order(trading.customer, trading.address)
    trading.run()
    fact = trading.row("SELECT * FROM dwh.fact_order WHERE order_id = %s", order)
    assert (fact["line_count"], fact["quantity"], fact["gross_amount"]) == (0, 0, 0)
    trading.assert_right()


def test_an_updated_order_shows_its_status_and_how_long_it_took(trading: Play) -> None:
    shop, order = trading.shop, trading.orders[0]
    ordered = trading.value("SELECT ordered_at FROM dwh.fact_order WHERE order_id = %s", order)
    shop.advance(order, "paid", "shipped")
    shop.wait(days=2)
    shop.advance(order, "delivered")
    trading.run()
    fact = trading.row(
        "SELECT f.*, status_code FROM dwh.fact_order AS f JOIN dwh.dim_status USING (status_key)"
        " WHERE order_id = %s",
        order,
    )
    assert fact["status_code"] == "delivered"
    assert fact["delivered_date_key"] == int(shop.now.strftime("%Y%m%d"))
    hours = Decimal((shop.now - ordered) // timedelta(minutes=1)) / 60
    assert fact["hours_to_fulfil"] == round(hours, 4)
    trading.assert_right()


def test_a_cancelled_order_is_lost(trading: Play) -> None:
    trading.shop.advance(trading.orders[0], "cancelled")
    trading.run()
    assert trading.value("SELECT is_lost FROM dwh.fact_order") is True
    trading.assert_right()


def test_what_counts_as_lost_follows_the_status(trading: Play) -> None:
    """A status that is reclassified takes all its orders along."""
    trading.shop.update("order_statuses", {"order_status_id": 1}, is_lost=True)
    trading.run()
    assert trading.value("SELECT is_lost FROM dwh.fact_order") is True
    trading.assert_right()


def test_a_new_address_becomes_a_member_that_orders_can_use(trading: Play) -> None:
    address = trading.shop.address(trading.customer, city="Lisbon", country_code="PT")
    order = trading.shop.order(trading.customer, address, {trading.product: 1})
    trading.run()
    found = trading.row(
        "SELECT address_id, city, country FROM dwh.fact_order JOIN dwh.dim_address AS a USING (address_key)"
        " WHERE order_id = %s",
        order,
    )
    assert found == {"address_id": address, "city": "Lisbon", "country": "Portugal"}
    trading.assert_right()


def test_a_shared_address_stays_one_member(trading: Play) -> None:
    other = trading.shop.customer("Bob")
    trading.shop.move_in(other, trading.address)
    trading.shop.order(other, trading.address, {trading.product: 1})
    trading.run()
    assert trading.value("SELECT count(*) FROM dwh.dim_address WHERE address_id IS NOT NULL") == 1
    trading.assert_right()


def test_a_changed_price_opens_a_version_and_old_lines_stay_on_the_old_one(trading: Play) -> None:
    changed_at = trading.shop.change_price(trading.product, "12.00")
    order = trading.shop.order(trading.customer, trading.address, {trading.product: 1})
    trading.run()
    versions = trading.rows(
        "SELECT price, nullif(valid_from, '-infinity'), nullif(valid_to, 'infinity'), is_current"
        " FROM dwh.dim_product WHERE product_id = %s ORDER BY dim_product.valid_from",
        trading.product,
    )
    assert versions == [
        (Decimal("10.00"), None, changed_at, False),
        (Decimal("12.00"), changed_at, None, True),
    ]
    assert trading.value(VERSION_OF_LINE, trading.orders[0]) == 10
    assert trading.value(VERSION_OF_LINE, order) == 12
    trading.assert_right()


# What the change of one thing does to another --------------------------------------------------------------------------


def test_a_changed_line_changes_the_measures_of_its_order(trading: Play) -> None:
    order = trading.orders[0]
    trading.shop.update("order_lines", {"order_id": order, "line_number": 1}, quantity=7)
    trading.run()
    fact = trading.row("SELECT * FROM dwh.fact_order WHERE order_id = %s", order)
    assert (fact["quantity"], fact["gross_amount"]) == (7, 70)
    trading.assert_right()


def test_a_line_that_moves_to_another_order_changes_both(trading: Play) -> None:
    shop = trading.shop
    other = shop.order(trading.customer, trading.address, {trading.other_product: 1})
    trading.run()
    shop.update(
        "order_lines",
        {"order_id": trading.orders[0], "line_number": 1},
        order_id=other,
        line_number=2,
    )
    trading.run()
    assert trading.rows("SELECT quantity FROM dwh.fact_order ORDER BY order_id") == [(0,), (3,)]
    trading.assert_right()


def test_two_lines_that_change_places_keep_their_measures(trading: Play) -> None:
    """The keys are all there as before, under other rows."""
    shop = trading.shop
    order = shop.order(
        trading.customer, trading.address, {trading.product: 2, trading.other_product: 5}
    )
    trading.run()
    for old, new in ((1, 3), (2, 1), (3, 2)):
        shop.update("order_lines", {"order_id": order, "line_number": old}, line_number=new)
    trading.run()
    assert trading.rows(
        "SELECT quantity FROM dwh.fact_order_line WHERE order_id = %s AND NOT is_deleted"
        " ORDER BY line_number",
        order,
    ) == [(5,), (2,)]
    trading.assert_right()


def test_a_line_whose_product_is_corrected_takes_that_products_version(trading: Play) -> None:
    trading.shop.update(
        "order_lines",
        {"order_id": trading.orders[0], "line_number": 1},
        product_id=trading.other_product,
    )
    trading.run()
    assert trading.value(VERSION_OF_LINE, trading.orders[0]) == Decimal("25.50")
    trading.assert_right()


def test_an_order_updated_five_times_between_two_runs_ends_as_it_last_was(trading: Play) -> None:
    shop, order = trading.shop, trading.orders[0]
    shop.update("orders", {"order_id": order}, payment_method_id=2)
    shop.advance(order, "paid")
    shop.update("orders", {"order_id": order}, payment_method_id=3)
    shop.advance(order, "shipped", "delivered")
    trading.run()
    fact = trading.row(
        "SELECT status_code, payment_code FROM dwh.fact_order"
        " JOIN dwh.dim_status USING (status_key) JOIN dwh.dim_payment USING (payment_key)"
    )
    assert fact == {"status_code": "delivered", "payment_code": "invoice"}
    trading.assert_right()


def test_a_corrected_moment_of_ordering_moves_the_order_to_another_version(trading: Play) -> None:
    """The version of a line is that of its order's moment, which may be corrected."""
    shop = trading.shop
    changed_at = shop.change_price(trading.product, "12.00")
    trading.run()
    shop.update("orders", {"order_id": trading.orders[0]}, ordered_at=changed_at)
    trading.run()
    assert trading.value(VERSION_OF_LINE, trading.orders[0]) == 12
    trading.assert_right()


def test_a_supplier_change_is_history_too(trading: Play) -> None:
    shop = trading.shop
    supplier = shop.supplier(name="Blue Note")
    shop.update("products", {"product_id": trading.product}, supplier_id=supplier)
    order = shop.order(trading.customer, trading.address, {trading.product: 1})
    trading.run()
    names = trading.rows(
        "SELECT order_id, supplier_name FROM dwh.fact_order_line"
        " JOIN dwh.dim_supplier USING (supplier_key) ORDER BY order_id"
    )
    assert names == [(trading.orders[0], "Label 1"), (order, "Blue Note")]
    trading.assert_right()


def test_a_renamed_type_opens_a_version_of_each_of_its_products(trading: Play) -> None:
    trading.shop.update("product_types", {"product_type_id": trading.kind}, name="Records")
    trading.run()
    assert trading.value("SELECT count(*) FROM dwh.dim_product WHERE product_type = 'Records'") == 2
    assert trading.value("SELECT count(*) FROM dwh.dim_product WHERE product_type = 'Vinyl'") == 2
    trading.assert_right()


def test_a_corrected_name_overwrites_all_versions(trading: Play) -> None:
    shop = trading.shop
    shop.update("customers", {"customer_id": trading.customer}, segment="business")
    trading.run()
    shop.update("customers", {"customer_id": trading.customer}, last_name="Lovelace")
    trading.run()
    assert trading.rows(
        "SELECT full_name, segment FROM dwh.dim_customer WHERE customer_id IS NOT NULL"
        " ORDER BY valid_from"
    ) == [("Ada Lovelace", "consumer"), ("Ada Lovelace", "business")]
    trading.assert_right()


def test_the_first_value_is_kept_where_the_catalog_says_so(trading: Play) -> None:
    """SCD type 0: the day on which a customer was first known survives a corrected row."""
    before = trading.value("SELECT customer_since FROM dwh.dim_customer WHERE customer_id = 1")
    trading.shop.update(
        "customers", {"customer_id": 1}, created_at="2020-01-01 00:00+00", segment="business"
    )
    trading.run()
    assert trading.rows(
        "SELECT DISTINCT customer_since FROM dwh.dim_customer WHERE customer_id = 1"
    ) == [(before,)]
    trading.assert_right()


# Moments ---------------------------------------------------------------------------------------------------------------


def test_what_happens_at_the_moment_of_a_change_belongs_to_the_new_version(trading: Play) -> None:
    shop = trading.shop
    changed_at = shop.change_price(trading.product, "12.00")
    at = shop.order(trading.customer, trading.address, {trading.product: 1}, ordered_at=changed_at)
    before = shop.order(
        trading.customer, trading.address, {trading.product: 1}, ordered_at=changed_at - MICROSECOND
    )
    trading.run()
    assert trading.value(VERSION_OF_LINE, at) == 12
    assert trading.value(VERSION_OF_LINE, before) == 10
    trading.assert_right()


def test_an_order_older_than_the_customer_is_known_takes_the_first_version(trading: Play) -> None:
    order = trading.shop.order(
        trading.customer, trading.address, {trading.product: 1}, ordered_at="2019-05-01 12:00+00"
    )
    trading.run()
    assert trading.value("SELECT customer_key FROM dwh.fact_order WHERE order_id = %s", order) > 0
    trading.assert_right()


def test_the_business_time_zone_decides_the_date(play: Play) -> None:
    """Half past eleven in the evening in UTC is the next day in Tokyo."""
    play.loader.execute("UPDATE etl.setting SET value = 'Asia/Tokyo' WHERE name = 'time_zone'")
    play.open()
    order = play.shop.order(
        play.customer, play.address, {play.product: 1}, ordered_at="2025-03-01 23:30+00"
    )
    play.run()
    assert play.rows(
        "SELECT o.ordered_date_key, l.ordered_date_key FROM dwh.fact_order AS o"
        " JOIN dwh.fact_order_line AS l USING (order_id) WHERE order_id = %s",
        order,
    ) == [(20250302, 20250302)]
    play.assert_right()


def test_an_order_with_a_date_outside_the_calendar_is_left_out_of_the_stars(trading: Play) -> None:
    order = trading.shop.order(
        trading.customer, trading.address, {trading.product: 1}, ordered_at="1997-12-31 12:00+00"
    )
    trading.run(expect="partial")
    assert trading.rows("SELECT object, row_key FROM etl.quarantine ORDER BY object") == [
        ("fact_order", {"order_id": order}),
        ("fact_order_line", {"order_id": order, "line_number": 1}),
    ]
    trading.assert_right()


def test_several_price_changes_between_two_runs_are_all_in_the_history(trading: Play) -> None:
    shop = trading.shop
    orders = []
    for price in ("11.00", "12.00", "13.00", "10.00"):
        shop.change_price(trading.product, price)
        orders.append(shop.order(trading.customer, trading.address, {trading.product: 1}))
    trading.run()
    assert trading.rows(
        "SELECT price FROM dwh.dim_product WHERE product_id = %s ORDER BY valid_from",
        trading.product,
    ) == [(Decimal(price),) for price in (10, 11, 12, 13, 10)]
    assert [trading.value(VERSION_OF_LINE, order) for order in orders] == [11, 12, 13, 10]
    trading.assert_right()


def test_a_price_and_its_supplier_that_change_together_make_one_version(trading: Play) -> None:
    supplier = trading.shop.supplier()
    trading.shop.update(
        "products", {"product_id": trading.product}, price=Decimal(15), supplier_id=supplier
    )
    trading.run()
    assert (
        trading.value("SELECT count(*) FROM dwh.dim_product WHERE product_id = %s", trading.product)
        == 2
    )
    trading.assert_right()


def test_a_change_by_a_clock_that_went_back_follows_the_latest_version(trading: Play) -> None:
    """The order in which the warehouse learned of changes wins over a clock that contradicts it."""
    shop = trading.shop
    shop.update("customers", {"customer_id": trading.customer}, segment="business")
    trading.run()
    shop.wait(days=-1)
    shop.update("customers", {"customer_id": trading.customer}, segment="consumer")
    trading.run()
    assert trading.rows(
        "SELECT segment FROM dwh.dim_customer WHERE customer_id IS NOT NULL ORDER BY valid_from"
    ) == [("consumer",), ("business",), ("consumer",)]
    trading.assert_right()


# Late knowledge --------------------------------------------------------------------------------------------------------


def test_a_late_price_splits_a_version_and_facts_follow(trading: Play) -> None:
    """A price that became known after facts were loaded: those after its moment move to it."""
    shop = trading.shop
    before = shop.order(trading.customer, trading.address, {trading.product: 1})
    moment = shop.wait(hours=1)
    after = shop.order(trading.customer, trading.address, {trading.product: 1})
    trading.run()
    shop.insert("product_prices", product_id=trading.product, valid_from=moment, price=Decimal(11))
    trading.run()
    assert trading.value(VERSION_OF_LINE, before) == 10
    assert trading.value(VERSION_OF_LINE, after) == 11
    assert trading.value("SELECT count(*) FROM etl.reprocessing_queue") == 0
    trading.assert_right()


def test_a_late_price_between_two_known_ones_splits_only_there(trading: Play) -> None:
    shop = trading.shop
    moment = shop.wait(hours=1)
    shop.wait(hours=1)
    between = shop.order(trading.customer, trading.address, {trading.product: 1})
    shop.change_price(trading.product, "20.00")
    last = shop.order(trading.customer, trading.address, {trading.product: 1})
    trading.run()
    keys = dict(
        trading.rows(
            "SELECT price, product_key FROM dwh.dim_product WHERE product_id = %s", trading.product
        )
    )
    shop.insert("product_prices", product_id=trading.product, valid_from=moment, price=Decimal(15))
    trading.run()
    assert [trading.value(VERSION_OF_LINE, order) for order in (between, last)] == [15, 20]
    after = dict(
        trading.rows(
            "SELECT price, product_key FROM dwh.dim_product WHERE product_id = %s", trading.product
        )
    )
    assert after | keys == after, "a version that was there has got another key"
    trading.assert_right()


def test_a_price_older_than_all_known_ones_is_the_first(trading: Play) -> None:
    shop = trading.shop
    shop.insert(
        "product_prices",
        product_id=trading.product,
        valid_from="2024-01-01 00:00+00",
        price=Decimal(8),
    )
    order = shop.order(
        trading.customer, trading.address, {trading.product: 1}, ordered_at="2024-06-01 00:00+00"
    )
    trading.run()
    assert trading.value(VERSION_OF_LINE, order) == 8
    assert trading.value(VERSION_OF_LINE, trading.orders[0]) == 10
    trading.assert_right()


def test_a_late_price_equal_to_the_next_one_moves_its_start(trading: Play) -> None:
    shop = trading.shop
    moment = shop.wait(hours=1)
    shop.wait(hours=1)
    order = shop.order(trading.customer, trading.address, {trading.product: 1})
    shop.change_price(trading.product, "20.00")
    trading.run()
    shop.insert("product_prices", product_id=trading.product, valid_from=moment, price=Decimal(20))
    trading.run()
    assert trading.value(VERSION_OF_LINE, order) == 20
    assert (
        trading.value("SELECT count(*) FROM dwh.dim_product WHERE product_id = %s", trading.product)
        == 2
    )
    trading.assert_right()


# Deletes and come-backs ------------------------------------------------------------------------------------------------


def test_a_deleted_line_leaves_the_sums_and_stays_marked(trading: Play) -> None:
    trading.shop.delete("order_lines", order_id=trading.orders[0], line_number=1)
    trading.run()
    line = trading.row("SELECT * FROM dwh.fact_order_line")
    assert (line["is_deleted"], line["quantity"], line["amount"]) == (True, 0, 0)
    assert trading.value("SELECT gross_amount FROM dwh.fact_order") == 0
    trading.assert_right()


def test_a_deleted_order_takes_its_lines_along(trading: Play) -> None:
    shop, order = trading.shop, trading.orders[0]
    shop.advance(order, "paid", "shipped", "delivered")
    trading.run()
    shop.delete("orders", order_id=order)
    trading.run()
    fact = trading.row("SELECT * FROM dwh.fact_order")
    assert (fact["is_deleted"], fact["gross_amount"], fact["hours_to_fulfil"]) == (True, 0, None)
    assert trading.value("SELECT is_deleted FROM dwh.fact_order_line") is True
    trading.assert_right()


def test_a_deleted_lost_order_is_lost_no_more(trading: Play) -> None:
    trading.shop.advance(trading.orders[0], "cancelled")
    trading.run()
    trading.shop.delete("orders", order_id=trading.orders[0])
    trading.run()
    assert trading.value("SELECT is_lost FROM dwh.fact_order") is False
    trading.assert_right()


def test_a_line_that_comes_back_counts_again(trading: Play) -> None:
    trading.shop.delete("order_lines", order_id=trading.orders[0], line_number=1)
    trading.run()
    trading.shop.line(trading.orders[0], 1, trading.product, 4)
    trading.run()
    assert trading.value("SELECT quantity FROM dwh.fact_order") == 4
    trading.assert_right()


def test_a_row_deleted_and_inserted_again_between_two_runs_is_alive(trading: Play) -> None:
    trading.shop.delete("order_lines", order_id=trading.orders[0], line_number=1)
    trading.shop.line(trading.orders[0], 1, trading.other_product, 6)
    trading.run()
    assert trading.rows("SELECT quantity, is_deleted FROM dwh.fact_order_line") == [(6, False)]
    trading.assert_right()


def test_a_row_born_and_deleted_between_two_runs_leaves_no_trace(trading: Play) -> None:
    order = trading.shop.order(trading.customer, trading.address, {trading.product: 1})
    trading.shop.delete("orders", order_id=order)
    trading.run()
    assert trading.value("SELECT count(*) FROM dwh.fact_order") == 1
    trading.assert_right()


def test_a_deleted_customer_is_closed_at_the_moment_of_deletion(trading: Play) -> None:
    customer = trading.shop.customer("Bob")
    trading.run()
    trading.shop.delete("customers", customer_id=customer)
    trading.run()
    version = trading.row(
        "SELECT valid_to, is_current FROM dwh.dim_customer WHERE customer_id = %s", customer
    )
    assert version == {"valid_to": trading.shop.now, "is_current": False}
    trading.assert_right()


def test_a_customer_that_comes_back_is_a_new_version_after_a_gap(trading: Play) -> None:
    shop = trading.shop
    customer = shop.customer("Bob")
    trading.run()
    shop.delete("customers", customer_id=customer)
    gone_at = shop.now
    trading.run()
    shop.wait(days=3)
    shop.customer("Bob", customer_id=customer, email="bob@example.net")
    trading.run()
    assert trading.rows(
        "SELECT nullif(valid_to, 'infinity'), email FROM dwh.dim_customer WHERE customer_id = %s"
        " ORDER BY dim_customer.valid_from",
        customer,
    ) == [(gone_at, "bob@example.net"), (None, "bob@example.net")]
    trading.assert_right()


def test_an_order_from_the_time_when_its_customer_was_gone_is_unknown_and_waits(
    trading: Play,
) -> None:
    shop = trading.shop
    customer = shop.customer("Bob")
    trading.run()
    shop.delete("customers", customer_id=customer)
    trading.run()
    gap = shop.wait(days=1)
    shop.wait(days=1)
    shop.customer("Bob", customer_id=customer)
    address = shop.address(customer)
    order = shop.order(customer, address, ordered_at=gap)
    trading.run()
    assert trading.value("SELECT customer_key FROM dwh.fact_order WHERE order_id = %s", order) == -1
    trading.assert_right()


def test_a_product_that_comes_back_keeps_the_prices_of_its_former_life(trading: Play) -> None:
    """The price log goes with the product; what the warehouse has seen of it stays."""
    shop = trading.shop
    product = shop.product(trading.subtype, trading.supplier, "5.00")
    trading.run()
    shop.change_price(product, "6.00")
    trading.run()
    shop.delete("products", product_id=product)
    trading.run()
    shop.wait(days=1)
    shop.product(trading.subtype, trading.supplier, "7.00", product_id=product)
    trading.run()
    assert trading.rows(
        "SELECT price FROM dwh.dim_product WHERE product_id = %s ORDER BY valid_from", product
    ) == [(Decimal(5),), (Decimal(6),), (Decimal(7),)]
    trading.assert_right()


def test_a_late_price_from_a_former_life_holds_from_its_date_to_the_deletion(trading: Play) -> None:
    """What was known before its date stays, and it says nothing of the present life."""
    shop = trading.shop
    product = shop.product(trading.subtype, trading.supplier, "5.00")
    early = shop.order(trading.customer, trading.address, {product: 1})
    moment = shop.wait(hours=1)
    late = shop.order(trading.customer, trading.address, {product: 1})
    trading.run()
    shop.delete("order_lines", order_id=early, line_number=1)
    shop.delete("order_lines", order_id=late, line_number=1)
    shop.delete("products", product_id=product)
    trading.run()
    shop.wait(days=1)
    shop.product(trading.subtype, trading.supplier, "7.00", product_id=product)
    trading.run()
    shop.insert("product_prices", product_id=product, valid_from=moment, price=Decimal(6))
    shop.line(early, 1, product)
    shop.line(late, 1, product)
    trading.run()
    assert trading.rows(
        "SELECT price, valid_from = %s, valid_from = '-infinity', is_current FROM dwh.dim_product"
        " WHERE product_id = %s ORDER BY valid_from",
        moment,
        product,
    ) == [
        (Decimal(5), False, True, False),
        (Decimal(6), True, False, False),
        (Decimal(7), False, False, True),
    ]
    assert trading.value(VERSION_OF_LINE, early) == 5
    assert trading.value(VERSION_OF_LINE, late) == 6
    trading.assert_right()
    before = trading.value(
        "SELECT json_agg(d ORDER BY product_key)::text FROM dwh.dim_product AS d"
    )
    trading.run(full_refresh=["dim_product"])
    assert before == trading.value(
        "SELECT json_agg(d ORDER BY product_key)::text FROM dwh.dim_product AS d"
    )


def test_an_order_that_comes_back_counts_again(trading: Play) -> None:
    shop, order = trading.shop, trading.orders[0]
    shop.delete("orders", order_id=order)
    trading.run()
    shop.order(trading.customer, trading.address, {trading.product: 9}, order_id=order)
    trading.run()
    assert trading.rows("SELECT quantity, is_deleted FROM dwh.fact_order") == [(9, False)]
    trading.assert_right()


# Nothing new -----------------------------------------------------------------------------------------------------------


def _fingerprint(play: Play) -> dict[str, list[tuple[object, ...]]]:
    """Physical identity of every row of stage and dwh: an update, even to equal values, changes it."""
    tables = play.rows(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
        " WHERE schemaname IN ('stage', 'dwh') ORDER BY 1"
    )
    return {
        name: play.rows(f"SELECT ctid::text, xmin::text, xmax::text FROM {name} ORDER BY 1")
        for (name,) in tables
    }


def test_running_twice_with_nothing_new_changes_not_one_row(trading: Play) -> None:
    trading.shop.change_price(trading.product, "12.00")
    trading.shop.delete("order_lines", order_id=trading.orders[0], line_number=1)
    trading.run()
    before = _fingerprint(trading)
    trading.run()
    assert _fingerprint(trading) == before
    assert (
        trading.value(
            "SELECT coalesce(sum(rows_read), 0) FROM etl.task_status WHERE kind <> 'check'"
        )
        == 0
    )


def test_a_row_written_with_the_same_values_changes_nothing_in_the_stars(trading: Play) -> None:
    before = {n: r for n, r in _fingerprint(trading).items() if n.startswith("dwh.")}
    with trading.shop.transaction() as connection:
        connection.execute("UPDATE oceanrecords.orders SET order_id = order_id")
        connection.execute("UPDATE oceanrecords.customers SET first_name = first_name")
    trading.run()
    assert {n: r for n, r in _fingerprint(trading).items() if n.startswith("dwh.")} == before
    trading.assert_right()


# Writers that commit late ----------------------------------------------------------------------------------------------


@pytest.fixture
def late(trading: Play) -> psycopg.Connection[object]:
    """A second writer with an open transaction, which has placed an order before the run."""
    connection = trading.connect()
    connection.execute("BEGIN")
    _write_order(connection, trading, "late")
    return connection


def _write_order(connection: psycopg.Connection[object], play: Play, street: str) -> None:
    """Place an order from a writer's own transaction; its address bears a name to find it by."""
    connection.execute(
        "WITH a AS (INSERT INTO oceanrecords.addresses (street, postal_code, city, country_code)"
        " VALUES (%s, '1', 'Rome', 'IT') RETURNING address_id), c AS ("
        " INSERT INTO oceanrecords.customers_addresses (customer_id, address_id)"
        " SELECT %s, address_id FROM a RETURNING *)"
        " SELECT * FROM c",
        [street, play.customer],
    )
    connection.execute(
        "INSERT INTO oceanrecords.orders (customer_id, address_id, payment_method_id, ordered_at)"
        " SELECT %s, address_id, 1, '2025-03-12 10:00+00' FROM oceanrecords.addresses"
        " WHERE street = %s",
        [play.customer, street],
    )


def _orders_to(play: Play, street: str) -> int:
    count: int = play.value(
        "SELECT count(*) FROM dwh.fact_order JOIN dwh.dim_address USING (address_key)"
        " WHERE street = %s",
        street,
    )
    return count


def test_a_transaction_open_before_the_run_and_committed_after_it_is_not_lost(
    trading: Play, late: psycopg.Connection[object]
) -> None:
    trading.shop.order(trading.customer, trading.address, {trading.product: 1})
    trading.run()
    assert _orders_to(trading, "late") == 0
    late.execute("COMMIT")
    trading.run()
    assert _orders_to(trading, "late") == 1
    trading.assert_right()


def test_it_is_not_lost_over_many_runs(trading: Play, late: psycopg.Connection[object]) -> None:
    for _ in range(3):
        trading.shop.order(trading.customer, trading.address, {trading.product: 1})
        trading.run()
    late.execute("COMMIT")
    trading.run()
    assert _orders_to(trading, "late") == 1
    trading.assert_right()


def test_what_was_read_is_not_read_again_while_an_old_transaction_stays_open(
    trading: Play, late: psycopg.Connection[object]
) -> None:
    """The watermark is exact: an old open transaction does not hold it back."""
    trading.shop.order(trading.customer, trading.address, {trading.product: 1})
    trading.run()
    trading.run()
    assert (
        trading.value(
            "SELECT coalesce(sum(rows_read), 0) FROM etl.task_status WHERE kind = 'extract'"
        )
        == 0
    )
    late.execute("ROLLBACK")


def test_savepoints_of_a_late_transaction_are_not_lost(
    trading: Play, late: psycopg.Connection[object]
) -> None:
    late.execute("SAVEPOINT one")
    _write_order(late, trading, "kept")
    late.execute("RELEASE one")
    late.execute("SAVEPOINT two")
    _write_order(late, trading, "undone")
    late.execute("ROLLBACK TO two")
    trading.run()
    late.execute("SAVEPOINT three")
    _write_order(late, trading, "after the run")
    late.execute("COMMIT")
    trading.run()
    assert [_orders_to(trading, s) for s in ("late", "kept", "undone", "after the run")] == [
        1,
        1,
        0,
        1,
    ]
    trading.assert_right()


def test_a_prepared_transaction_is_not_lost(
    trading: Play, late: psycopg.Connection[object]
) -> None:
    late.execute("PREPARE TRANSACTION 'late'")
    trading.run()
    trading.run()
    assert _orders_to(trading, "late") == 0
    late.execute("COMMIT PREPARED 'late'")
    trading.run()
    assert _orders_to(trading, "late") == 1
    trading.assert_right()


def test_a_late_update_and_a_late_delete_arrive(trading: Play) -> None:
    shop = trading.shop
    doomed = shop.order(trading.customer, trading.address, {trading.product: 1})
    trading.run()
    late = trading.connect()
    late.execute("BEGIN")
    late.execute("DELETE FROM oceanrecords.orders WHERE order_id = %s", [doomed])
    late.execute(
        "UPDATE oceanrecords.orders SET payment_method_id = 5 WHERE order_id = %s", trading.orders
    )
    shop.order(trading.customer, trading.address, {trading.product: 1})
    trading.run()
    late.execute("COMMIT")
    trading.run()
    assert trading.value("SELECT is_deleted FROM dwh.fact_order WHERE order_id = %s", doomed)
    trading.assert_right()


def test_a_line_committed_with_its_order_never_comes_without_it(trading: Play) -> None:
    """All tables of a batch are read on one snapshot: a commit between two extractions tears nothing.

    A writer commits order and lines while the run has extracted order_lines and waits at orders.
    """
    # Something waits, and the definitions are known: the run asks neither whether anything is new nor what has changed.
    trading.loader.execute("SELECT etl._request_reload('{dim_status}'), etl._request_changed()")
    blocker = trading.connect()
    blocker.execute("BEGIN")
    blocker.execute("LOCK TABLE oceanrecords.orders IN ACCESS EXCLUSIVE MODE")
    runner = trading.connect()
    with background(lambda: runner.execute("CALL etl.run()")):
        wait_until_blocked(trading.loader, runner)
        _write_order(blocker, trading, "in between")
        blocker.execute("COMMIT")
    assert _orders_to(trading, "in between") == 0
    trading.run()
    assert _orders_to(trading, "in between") == 1
    trading.assert_right()


def test_a_late_deletion_alone_is_noticed(trading: Play) -> None:
    """Nothing else is new when it commits: the question whether anything is asks for late tombstones as well."""
    doomed = trading.shop.order(trading.customer, trading.address, {trading.product: 1})
    trading.run()
    late = trading.connect()
    late.execute("BEGIN")
    late.execute("DELETE FROM oceanrecords.orders WHERE order_id = %s", [doomed])
    trading.shop.order(trading.customer, trading.address, {trading.product: 1})
    trading.run()
    late.execute("COMMIT")
    trading.run()
    assert trading.value("SELECT is_deleted FROM dwh.fact_order WHERE order_id = %s", doomed)
    trading.assert_right()
