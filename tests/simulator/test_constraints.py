"""The operational system refuses bad data: each constraint is provoked, by one bad statement."""

from __future__ import annotations

import psycopg
import pytest

from tests.support.database import Database

CUSTOMER = "UPDATE oceanrecords.customers SET {} WHERE customer_id = 1"
ADDRESS = "UPDATE oceanrecords.addresses SET {} WHERE address_id = 1"
SUPPLIER = "UPDATE oceanrecords.suppliers SET {}"
PRODUCT = "UPDATE oceanrecords.products SET {} WHERE product_id = 1"
LINE = "UPDATE oceanrecords.order_lines SET {} WHERE line_number = 1"
PRICE = """
    INSERT INTO oceanrecords.product_prices (product_id, valid_from, price) VALUES (1, {}, {})
"""
ORDER = """
    INSERT INTO oceanrecords.orders (
        customer_id, address_id, order_status_id, payment_method_id,
        ordered_at, paid_at, shipped_at, delivered_at, cancelled_at, refunded_at
    )
    VALUES ({address}, {status}, {method}, {moments})
"""


def order(
    status: int, *moments: str | None, address: str = "1, 1", method: int = 1, first: str = "1"
) -> str:
    """Return an INSERT of an order with its moments, each a day in March 2025."""
    days = [first, *moments]
    literals = [
        "NULL" if day is None else f"'{day if day.isalpha() else f'2025-03-{day}'}'" for day in days
    ]
    literals += ["NULL"] * (6 - len(literals))
    return ORDER.format(address=address, status=status, method=method, moments=", ".join(literals))


BAD = [
    ("customers_first_name_not_blank", CUSTOMER.format("first_name = ' '")),
    ("customers_last_name_not_blank", CUSTOMER.format("last_name = ''")),
    ("customers_email_is_address", CUSTOMER.format("email = 'ada at example'")),
    ("customers_email_is_address", CUSTOMER.format("email = 'ada@example'")),
    ("customers_email_key", CUSTOMER.format("email = 'BO@example.COM'")),
    ("customers_phone_not_blank", CUSTOMER.format("phone = ''")),
    ("customers_segment_known", CUSTOMER.format("segment = 'friend'")),
    ("customers_pkey", CUSTOMER.format("customer_id = 2")),
    ("addresses_street_not_blank", ADDRESS.format("street = ''")),
    ("addresses_postal_code_not_blank", ADDRESS.format("postal_code = ' '")),
    ("addresses_city_not_blank", ADDRESS.format("city = ''")),
    ("addresses_country_code_is_iso", ADDRESS.format("country_code = 'de'")),
    ("addresses_country_code_is_iso", ADDRESS.format("country_code = 'DEU'")),
    ("addresses_country_code_is_iso", ADDRESS.format("country_code = E'DE\\n'")),
    ("addresses_pkey", ADDRESS.format("address_id = 2")),
    (
        "customers_addresses_pkey",
        "INSERT INTO oceanrecords.customers_addresses (customer_id, address_id) VALUES (1, 1)",
    ),
    (
        "customers_addresses_customer_id_fkey",
        "INSERT INTO oceanrecords.customers_addresses (customer_id, address_id) VALUES (9, 1)",
    ),
    (
        "customers_addresses_address_id_fkey",
        "INSERT INTO oceanrecords.customers_addresses (customer_id, address_id) VALUES (1, 9)",
    ),
    ("suppliers_name_not_blank", SUPPLIER.format("name = ''")),
    ("suppliers_country_code_is_iso", SUPPLIER.format("country_code = 'S1'")),
    (
        "suppliers_name_key",
        "INSERT INTO oceanrecords.suppliers (name, country_code) VALUES ('Nordlys', 'NO')",
    ),
    (
        "suppliers_pkey",
        "INSERT INTO oceanrecords.suppliers (supplier_id, name, country_code) VALUES (1, 'X', 'NO')",
    ),
    ("product_types_name_not_blank", "UPDATE oceanrecords.product_types SET name = ''"),
    ("product_types_name_key", "INSERT INTO oceanrecords.product_types (name) VALUES ('Vinyl')"),
    (
        "product_types_pkey",
        "INSERT INTO oceanrecords.product_types (product_type_id, name) VALUES (1, 'CD')",
    ),
    ("product_subtypes_name_not_blank", "UPDATE oceanrecords.product_subtypes SET name = ' '"),
    (
        "product_subtypes_product_type_id_name_key",
        "UPDATE oceanrecords.product_subtypes SET name = 'Jazz LP'",
    ),
    (
        "product_subtypes_product_type_id_fkey",
        "UPDATE oceanrecords.product_subtypes SET product_type_id = 9",
    ),
    (
        "product_subtypes_pkey",
        "UPDATE oceanrecords.product_subtypes SET product_subtype_id = 1 WHERE name = 'Rock LP'",
    ),
    ("products_sku_not_blank", PRODUCT.format("sku = ''")),
    ("products_sku_key", PRODUCT.format("sku = 'A-2'")),
    ("products_name_not_blank", PRODUCT.format("name = ''")),
    ("products_price_in_range", PRODUCT.format("price = 0")),
    ("products_price_in_range", PRODUCT.format("price = -1")),
    ("products_price_in_range", PRODUCT.format("price = 'NaN'")),
    ("products_price_in_range", PRODUCT.format("price = 1000000.01")),
    ("products_product_subtype_id_fkey", PRODUCT.format("product_subtype_id = 9")),
    ("products_supplier_id_fkey", PRODUCT.format("supplier_id = 9")),
    ("products_supplier_id_fkey", "DELETE FROM oceanrecords.suppliers"),
    (
        "products_pkey",
        """
        INSERT INTO oceanrecords.products (
            product_id, product_subtype_id, supplier_id, sku, name, price
        ) VALUES (1, 1, 1, 'A-3', 'Again', 5)
        """,
    ),
    ("product_prices_price_in_range", PRICE.format("'2030-01-01'", "0")),
    ("product_prices_price_in_range", PRICE.format("'2030-01-01'", "'NaN'")),
    ("product_prices_valid_from_is_finite", PRICE.format("'infinity'", "5")),
    (
        "product_prices_pkey",
        """
        INSERT INTO oceanrecords.product_prices (product_id, valid_from, price)
        SELECT product_id, valid_from, 5 FROM oceanrecords.product_prices
        """,
    ),
    (
        "product_prices_product_id_fkey",
        "INSERT INTO oceanrecords.product_prices (product_id, valid_from, price) "
        "VALUES (9, '2030-01-01', 5)",
    ),
    ("payment_methods_code_is_word", "UPDATE oceanrecords.payment_methods SET code = 'Gift card'"),
    ("payment_methods_code_key", "UPDATE oceanrecords.payment_methods SET code = 'card'"),
    ("payment_methods_name_not_blank", "UPDATE oceanrecords.payment_methods SET name = ''"),
    (
        "payment_methods_pkey",
        "INSERT INTO oceanrecords.payment_methods (payment_method_id, code, name) "
        "VALUES (1, 'cash', 'Cash')",
    ),
    ("order_statuses_code_is_word", "UPDATE oceanrecords.order_statuses SET code = '1'"),
    ("order_statuses_code_key", "UPDATE oceanrecords.order_statuses SET code = 'paid'"),
    ("order_statuses_name_not_blank", "UPDATE oceanrecords.order_statuses SET name = ''"),
    (
        "order_statuses_pkey",
        "INSERT INTO oceanrecords.order_statuses (order_status_id, code, name, is_lost) "
        "VALUES (1, 'lost', 'Lost', true)",
    ),
    (
        "order_status_transitions_move",
        "INSERT INTO oceanrecords.order_status_transitions VALUES (1, 1)",
    ),
    (
        "order_status_transitions_pkey",
        "INSERT INTO oceanrecords.order_status_transitions VALUES (1, 2)",
    ),
    (
        "order_status_transitions_to_status_id_fkey",
        "INSERT INTO oceanrecords.order_status_transitions VALUES (1, 9)",
    ),
    (
        "order_status_transitions_from_status_id_fkey",
        "INSERT INTO oceanrecords.order_status_transitions VALUES (9, 1)",
    ),
    ("orders_address_is_of_customer", order(1, address="1, 2")),
    ("orders_address_is_of_customer", "DELETE FROM oceanrecords.customers WHERE customer_id = 1"),
    ("orders_payment_method_id_fkey", order(1, method=9)),
    (
        "orders_order_status_id_fkey",
        "DELETE FROM oceanrecords.order_status_transitions; "
        "DELETE FROM oceanrecords.order_statuses",
    ),
    (
        "orders_pkey",
        "INSERT INTO oceanrecords.orders (order_id, customer_id, address_id, payment_method_id) "
        "VALUES (1, 1, 1, 1)",
    ),
    ("orders_paid_at_fits_status", order(1, "2")),
    ("orders_paid_at_fits_status", order(2)),
    ("orders_paid_at_fits_status", order(3, None, "3")),
    ("orders_shipped_at_fits_status", order(2, "2", "3")),
    ("orders_shipped_at_fits_status", order(3, "2")),
    ("orders_shipped_at_fits_status", order(4, "2", None, "4")),
    ("orders_delivered_at_fits_status", order(3, "2", "3", "4")),
    ("orders_delivered_at_fits_status", order(4, "2", "3")),
    ("orders_delivered_at_fits_status", order(6, "2", "3", None, None, "5")),
    ("orders_cancelled_at_fits_status", order(5)),
    ("orders_cancelled_at_fits_status", order(1, None, None, None, "2")),
    ("orders_shipped_at_fits_status", order(5, "2", "3", None, "4")),
    ("orders_refunded_at_fits_status", order(6, "2", "3", "4")),
    ("orders_refunded_at_fits_status", order(4, "2", "3", "4", None, "5")),
    ("orders_moments_are_finite", order(1, first="infinity")),
    ("orders_moments_are_finite", order(2, "infinity")),
    ("orders_paid_after_ordered", order(2, "2", first="3")),
    ("orders_shipped_after_paid", order(3, "4", "3")),
    ("orders_delivered_after_shipped", order(4, "2", "5", "4")),
    ("orders_cancelled_after_paid", order(5, None, None, None, "2", first="3")),
    ("orders_cancelled_after_paid", order(5, "4", None, None, "3")),
    ("orders_refunded_after_delivered", order(6, "2", "3", "5", None, "4")),
    ("order_lines_line_number_in_range", LINE.format("line_number = 0")),
    ("order_lines_line_number_in_range", LINE.format("line_number = 1001")),
    ("order_lines_quantity_in_range", LINE.format("quantity = 0")),
    ("order_lines_quantity_in_range", LINE.format("quantity = 10001")),
    ("order_lines_unit_price_in_range", LINE.format("unit_price = -0.01")),
    ("order_lines_unit_price_in_range", LINE.format("unit_price = 'NaN'")),
    ("order_lines_order_id_product_id_key", LINE.format("product_id = 2")),
    ("order_lines_pkey", LINE.format("line_number = 2")),
    ("order_lines_order_id_fkey", LINE.format("order_id = 9")),
    ("order_lines_product_id_fkey", LINE.format("product_id = 9")),
    ("order_lines_product_id_fkey", "DELETE FROM oceanrecords.products"),
    (
        "deleted_rows_row_key_is_object",
        "INSERT INTO oceanrecords.deleted_rows (table_name, row_key) VALUES ('orders', '[]')",
    ),
    (
        "deleted_rows_pkey",
        "INSERT INTO oceanrecords.deleted_rows (deleted_row_id, table_name, row_key) "
        "VALUES (1, 'orders', '{}'), (1, 'orders', '{}')",
    ),
]


def test_each_bad_statement_is_refused_by_its_constraint(shop: Database) -> None:
    connection = shop.connect()
    for constraint, statement in BAD:
        with pytest.raises(psycopg.errors.IntegrityError) as refused, connection.transaction():
            connection.execute(statement.encode())
        assert refused.value.diag.constraint_name == constraint, statement


def test_every_constraint_is_provoked(shop: Database) -> None:
    names = shop.rows(
        """
        SELECT conname AS name
        FROM pg_constraint
        WHERE connamespace = 'oceanrecords'::regnamespace AND contype <> 'n'
        UNION
        SELECT c.relname
        FROM pg_index
        INNER JOIN pg_class AS c ON c.oid = indexrelid
        WHERE indisunique AND c.relnamespace = 'oceanrecords'::regnamespace
        """
    )
    assert {row["name"] for row in names} == {constraint for constraint, _ in BAD}


def test_required_columns_are_required(shop: Database) -> None:
    columns = shop.rows(
        """
        SELECT attrelid::regclass::text AS table_name, attname AS column_name
        FROM pg_attribute
        INNER JOIN pg_class AS c ON c.oid = attrelid
        WHERE c.relnamespace = 'oceanrecords'::regnamespace
            AND c.relkind = 'r' AND attnum > 0 AND NOT attnotnull
        """
    )
    assert {(row["table_name"], row["column_name"]) for row in columns} == {
        ("oceanrecords.customers", "phone"),
        *(
            ("oceanrecords.orders", f"{moment}_at")
            for moment in ("paid", "shipped", "delivered", "cancelled", "refunded")
        ),
    }


def test_good_orders_of_every_status_are_taken(shop: Database) -> None:
    for statement in (
        order(1),
        order(2, "2"),
        order(3, "2", "3"),
        order(4, "2", "3", "4"),
        order(5, None, None, None, "2"),
        order(5, "2", None, None, "3"),
        order(6, "2", "3", "4", None, "5"),
    ):
        shop.execute(statement)
    assert shop.value("SELECT count(DISTINCT order_status_id) FROM oceanrecords.orders") == 6


def test_truncate_is_refused_everywhere(shop: Database) -> None:
    tables = shop.rows(
        """
        SELECT relname AS name FROM pg_class
        WHERE relnamespace = 'oceanrecords'::regnamespace AND relkind = 'r'
            AND relname <> 'deleted_rows'
        """
    )
    assert len(tables) == 13
    connection = shop.connect()
    for table in tables:
        with pytest.raises(psycopg.Error) as refused:
            connection.execute(f"TRUNCATE oceanrecords.{table['name']} CASCADE".encode())
        assert refused.value.sqlstate == "OR002"
        assert refused.value.diag.message_hint


def test_everything_is_described(database: Database) -> None:
    silent = database.rows(
        """
        SELECT attrelid::regclass::text || '.' || attname AS name
        FROM pg_attribute
        INNER JOIN pg_class AS c ON c.oid = attrelid
        WHERE c.relnamespace = 'oceanrecords'::regnamespace AND c.relkind IN ('r', 'v')
            AND attnum > 0 AND col_description(attrelid, attnum) IS NULL
        UNION ALL
        SELECT oid::regclass::text FROM pg_class
        WHERE relnamespace = 'oceanrecords'::regnamespace AND relkind IN ('r', 'v')
            AND obj_description(oid, 'pg_class') IS NULL
        UNION ALL
        SELECT oid::regprocedure::text FROM pg_proc
        WHERE pronamespace = 'oceanrecords'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL
        """
    )
    assert silent == []
