"""What an exact incremental extraction needs: row_xid, tombstones, the point of extraction, the price log."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.support.database import Database

TABLES = """
    SELECT relname AS name FROM pg_class
    WHERE relnamespace = 'oceanrecords'::regnamespace AND relkind = 'r'
"""
NEW_CUSTOMER = """
    INSERT INTO oceanrecords.customers (first_name, last_name, email, row_xid)
    VALUES ('Cy', 'Dahl', 'cy@example.com', {})
"""


def xid(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
    assert row is not None
    return int(row[0])


def row_xid(connection: psycopg.Connection[Any], table: str, condition: str = "true") -> int:
    row = connection.execute(
        f"SELECT row_xid::text::bigint FROM oceanrecords.{table} WHERE {condition}".encode()
    ).fetchone()
    assert row is not None
    return int(row[0])


def tombstones(connection: psycopg.Connection[Any]) -> list[tuple[str, dict[str, Any]]]:
    rows = connection.execute(
        "SELECT table_name, row_key FROM oceanrecords.deleted_rows ORDER BY deleted_row_id"
    ).fetchall()
    return [(row[0], row[1]) for row in rows]


@pytest.mark.parametrize("claimed", ["DEFAULT", "'1'", "NULL", "'18446744073709551615'"])
def test_an_inserted_row_carries_its_transaction(database: Database, claimed: str) -> None:
    connection = database.connect()
    with connection.transaction():
        connection.execute(NEW_CUSTOMER.format(claimed).encode())
        assert row_xid(connection, "customers") == xid(connection)


def test_a_copied_row_carries_its_transaction(database: Database) -> None:
    connection = database.connect()
    with connection.transaction():
        with connection.cursor().copy(
            "COPY oceanrecords.suppliers (name, country_code, row_xid) FROM STDIN"
        ) as copy:
            copy.write_row(("Okto", "SE", "7"))
        assert row_xid(connection, "suppliers") == xid(connection)


def test_an_updated_row_carries_its_transaction_whatever_is_claimed(shop: Database) -> None:
    connection = shop.connect()
    with connection.transaction():
        connection.execute("UPDATE oceanrecords.customers SET phone = '1', row_xid = '3'")
        assert row_xid(connection, "customers", "customer_id = 1") == xid(connection)
        connection.execute("UPDATE oceanrecords.customers SET phone = phone")
        assert row_xid(connection, "customers", "customer_id = 2") == xid(connection)


def test_a_savepoint_does_not_hide_the_top_level_transaction(shop: Database) -> None:
    connection = shop.connect()
    with connection.transaction():
        with connection.transaction():
            connection.execute(NEW_CUSTOMER.format("DEFAULT").encode())
            with connection.transaction():
                connection.execute("UPDATE oceanrecords.suppliers SET country_code = 'NO'")
                connection.execute("DELETE FROM oceanrecords.order_lines WHERE line_number = 2")
        top = xid(connection)
        assert row_xid(connection, "customers", "first_name = 'Cy'") == top
        assert row_xid(connection, "suppliers") == top
        assert row_xid(connection, "deleted_rows") == top


def test_what_a_rolled_back_savepoint_wrote_is_not_marked(shop: Database) -> None:
    connection = shop.connect()
    before = row_xid(connection, "suppliers")
    with connection.transaction():
        with connection.transaction(force_rollback=True):
            connection.execute("UPDATE oceanrecords.suppliers SET country_code = 'NO'")
            connection.execute("DELETE FROM oceanrecords.order_lines")
        assert row_xid(connection, "suppliers") == before
        assert tombstones(connection) == []


def test_an_upsert_carries_its_transaction(shop: Database) -> None:
    connection = shop.connect()
    with connection.transaction():
        connection.execute(
            """
            INSERT INTO oceanrecords.suppliers (name, country_code, row_xid)
            VALUES ('Nordlys', 'FI', '5')
            ON CONFLICT (name) DO UPDATE
            SET country_code = excluded.country_code, row_xid = '6'
            """
        )
        assert row_xid(connection, "suppliers", "country_code = 'FI'") == xid(connection)


def test_a_merge_carries_its_transaction(shop: Database) -> None:
    connection = shop.connect()
    with connection.transaction():
        connection.execute(
            """
            MERGE INTO oceanrecords.suppliers AS s
            USING (VALUES ('Nordlys', 'FI'), ('Okto', 'SE')) AS n (name, country_code)
                ON n.name = s.name
            WHEN MATCHED THEN UPDATE SET country_code = n.country_code, row_xid = '6'
            WHEN NOT MATCHED THEN INSERT (name, country_code, row_xid)
                VALUES (n.name, n.country_code, '6')
            """
        )
        assert row_xid(connection, "suppliers", "name = 'Nordlys'") == xid(connection)
        assert row_xid(connection, "suppliers", "name = 'Okto'") == xid(connection)


def test_every_table_has_the_marks_and_an_index_on_row_xid(database: Database) -> None:
    indexed = database.rows(
        """
        SELECT c.relname AS name
        FROM pg_index AS i
        INNER JOIN pg_class AS c ON c.oid = i.indrelid
        INNER JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
        WHERE c.relnamespace = 'oceanrecords'::regnamespace AND a.attname = 'row_xid'
        """
    )
    tables = {row["name"] for row in database.rows(TABLES)}
    assert {row["name"] for row in indexed} == tables
    marked = database.rows(
        """
        SELECT attrelid::regclass::text AS name FROM pg_attribute
        WHERE attrelid::regclass::text LIKE 'oceanrecords.%'
            AND attname IN ('created_at', 'updated_at') AND attnotnull
        GROUP BY attrelid HAVING count(*) = 2
        """
    )
    assert {f"oceanrecords.{name}" for name in tables - {"deleted_rows"}} <= {
        row["name"] for row in marked
    }


def test_a_deleted_row_leaves_a_tombstone_of_the_deleting_transaction(shop: Database) -> None:
    connection = shop.connect()
    with connection.transaction():
        connection.execute("DELETE FROM oceanrecords.order_lines WHERE line_number = 1")
        assert row_xid(connection, "deleted_rows") == xid(connection)
    assert tombstones(connection) == [("order_lines", {"order_id": 1, "line_number": 1})]


def test_what_goes_along_leaves_tombstones_too(shop: Database) -> None:
    connection = shop.connect()
    connection.execute("DELETE FROM oceanrecords.orders")
    assert sorted(tombstones(connection), key=str) == [
        ("order_lines", {"order_id": 1, "line_number": 1}),
        ("order_lines", {"order_id": 1, "line_number": 2}),
        ("orders", {"order_id": 1}),
    ]


def test_deletes_of_every_table_leave_tombstones_with_the_whole_key(shop: Database) -> None:
    connection = shop.connect()
    for table in ("orders", "products", "product_subtypes", "product_types", "suppliers"):
        connection.execute(f"DELETE FROM oceanrecords.{table}".encode())
    for table in ("customers", "addresses", "order_status_transitions", "order_statuses"):
        connection.execute(f"DELETE FROM oceanrecords.{table}".encode())
    connection.execute("DELETE FROM oceanrecords.payment_methods")
    keys: dict[str, set[str]] = {}
    for table, key in tombstones(connection):
        keys.setdefault(table, set()).update(key)
    expected = connection.execute(
        """
        SELECT c.relname, array_agg(a.attname::text)
        FROM pg_index AS i
        INNER JOIN pg_class AS c ON c.oid = i.indrelid
        INNER JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
        WHERE c.relnamespace = 'oceanrecords'::regnamespace AND i.indisprimary
            AND c.relname <> 'deleted_rows'
        GROUP BY c.relname
        """
    ).fetchall()
    assert keys == {table: set(columns) for table, columns in expected}


def test_a_changed_key_leaves_a_tombstone_for_the_old_one(shop: Database) -> None:
    connection = shop.connect()
    connection.execute("UPDATE oceanrecords.order_lines SET line_number = 3 WHERE line_number = 1")
    assert tombstones(connection) == [("order_lines", {"order_id": 1, "line_number": 1})]
    connection.execute("UPDATE oceanrecords.order_lines SET quantity = 3")
    assert len(tombstones(connection)) == 1


def test_a_tombstone_reads_the_same_in_every_time_zone(shop: Database) -> None:
    connection = shop.connect()
    connection.execute("SET timezone = 'Asia/Tokyo'")
    connection.execute("DELETE FROM oceanrecords.orders")
    connection.execute("DELETE FROM oceanrecords.products")
    moments = [
        key["valid_from"] for table, key in tombstones(connection) if table == "product_prices"
    ]
    assert len(moments) == 2
    assert all(moment.endswith("+00:00") for moment in moments)


def test_who_may_delete_need_not_be_able_to_write_tombstones(shop: Database) -> None:
    connection = shop.connect()
    role = f"clerk_{shop.name}"
    connection.execute(f"CREATE ROLE {role}".encode())
    try:
        connection.execute(f"GRANT USAGE ON SCHEMA oceanrecords TO {role}".encode())
        connection.execute(
            f"GRANT SELECT, UPDATE, DELETE ON oceanrecords.order_lines, oceanrecords.products "
            f"TO {role}".encode()
        )
        connection.execute(
            f"GRANT EXECUTE ON FUNCTION oceanrecords.business_time() TO {role}".encode()
        )
        connection.execute(f"SET ROLE {role}".encode())
        connection.execute("DELETE FROM oceanrecords.order_lines WHERE line_number = 1")
        connection.execute("UPDATE oceanrecords.products SET price = 99")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(
                "INSERT INTO oceanrecords.deleted_rows (table_name, row_key) VALUES ('orders', '{}')"
            )
        connection.execute("RESET ROLE")
        assert len(tombstones(connection)) == 1
    finally:
        connection.execute("RESET ROLE")
        connection.execute(f"DROP OWNED BY {role}".encode())
        connection.execute(f"DROP ROLE {role}".encode())


def test_the_point_of_extraction_tells_what_commits_late(shop: Database) -> None:
    """A row written before, and committed after, another reader's snapshot is new to that reader."""
    late, reader = shop.connect(), shop.connect()
    late.autocommit = False
    late.execute("UPDATE oceanrecords.suppliers SET country_code = 'NO'")
    point = reader.execute(
        "SELECT snapshot::text, system_identifier FROM oceanrecords.extraction_point"
    )
    snapshot, system = point.fetchone() or ("", 0)
    late.commit()
    missed = """
        SELECT count(*) FROM oceanrecords.suppliers
        WHERE NOT pg_visible_in_snapshot(row_xid, %s::pg_snapshot)
            AND row_xid >= pg_snapshot_xmin(%s::pg_snapshot)
    """
    assert reader.execute(missed, (snapshot, snapshot)).fetchone() == (1,)
    assert system == shop.value("SELECT system_identifier FROM pg_control_system()")


# The price log -----------------------------------------------------------------------------------


def prices(connection: psycopg.Connection[Any]) -> list[tuple[int, ...]]:
    return connection.execute(
        "SELECT price FROM oceanrecords.product_prices WHERE product_id = 1 ORDER BY valid_from"
    ).fetchall()


def test_every_price_is_logged_and_nothing_else(shop: Database) -> None:
    connection = shop.connect()
    connection.execute("UPDATE oceanrecords.products SET price = 25 WHERE product_id = 1")
    connection.execute(
        "UPDATE oceanrecords.products SET price = 25, name = 'x' WHERE product_id = 1"
    )
    connection.execute("UPDATE oceanrecords.products SET name = 'y' WHERE product_id = 1")
    assert prices(connection) == [(20,), (25,)]
    assert connection.execute(
        """
        SELECT bool_and(p.valid_from = s.created_at) FROM oceanrecords.product_prices AS p
        INNER JOIN oceanrecords.products AS s USING (product_id, price) WHERE product_id = 2
        """
    ).fetchone() == (True,)


def test_two_prices_never_hold_from_one_moment(shop: Database) -> None:
    connection = shop.connect()
    with connection.transaction():
        connection.execute("SET LOCAL oceanrecords.clock = '2030-01-01 09:00:00+00'")
        for price in (21, 22, 23):
            connection.execute("UPDATE oceanrecords.products SET price = %s", (price,))
    assert prices(connection) == [(20,), (21,), (22,), (23,)]
    row = connection.execute(
        """
        SELECT max(valid_from) - '2030-01-01 09:00:00+00' = interval '2 microseconds'
        FROM oceanrecords.product_prices WHERE product_id = 1
        """
    ).fetchone()
    assert row == (True,)


def test_the_log_stays_in_order_when_the_clock_goes_back(shop: Database) -> None:
    connection = shop.connect()
    with connection.transaction():
        connection.execute("SET LOCAL oceanrecords.clock = '2001-01-01 09:00:00+00'")
        connection.execute("UPDATE oceanrecords.products SET price = 7 WHERE product_id = 1")
    assert prices(connection) == [(20,), (7,)]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE oceanrecords.product_prices SET price = 1",
        "UPDATE oceanrecords.product_prices SET valid_from = valid_from - interval '1 day'",
        "DELETE FROM oceanrecords.product_prices",
    ],
)
def test_the_log_cannot_be_changed(shop: Database, statement: str) -> None:
    with pytest.raises(psycopg.Error, match="price log of product") as refused:
        shop.execute(statement)
    assert refused.value.sqlstate == "OR003"
    assert refused.value.diag.message_hint


def test_the_log_goes_with_its_product(shop: Database) -> None:
    shop.execute("DELETE FROM oceanrecords.order_lines; DELETE FROM oceanrecords.products")
    assert shop.value("SELECT count(*) FROM oceanrecords.product_prices") == 0


def test_a_product_of_an_upsert_is_logged_once(shop: Database) -> None:
    shop.execute(
        """
        INSERT INTO oceanrecords.products (product_subtype_id, supplier_id, sku, name, price)
        VALUES (1, 1, 'A-1', 'Slow Tides', 26)
        ON CONFLICT (sku) DO UPDATE SET price = excluded.price
        """
    )
    assert prices(shop.connect()) == [(20,), (26,)]
