"""A source on another server: the same rows as from a local one, each of them once, and only those that changed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.source.conftest import TEMPLATE, Link, make_source
from tests.source.test_reconciliation import reconcile
from tests.support.database import Database, temporary_database
from tests.support.servers import Servers
from tests.warehouse.play import Play

# What may differ between two warehouses of the same shop: who loaded a row, and the numbers of the surrogate keys.
_OWN = "(batch_id|run_id|.*_key)"


def content(database: Database) -> dict[str, list[dict[str, Any]]]:
    """Return mirrors and stars, without what is a warehouse's own."""
    tables = database.rows(
        "SELECT table_schema || '.' || table_name AS name,"
        " string_agg(quote_ident(column_name), ', ' ORDER BY ordinal_position) AS columns"
        " FROM information_schema.columns"
        f" WHERE table_schema IN ('stage', 'dwh') AND column_name !~ '^{_OWN}$'"
        " GROUP BY table_schema, table_name"
    )
    return {
        table["name"]: database.rows(
            f"SELECT t::text AS row FROM (SELECT {table['columns']} FROM {table['name']}) AS t ORDER BY t::text"
        )
        for table in tables
    }


def assert_same_as_local(link: Link, local: Play) -> None:
    """The remote warehouse holds what the source's own one does, which reads its tables directly."""
    link.play.run()
    local.run()
    link.assert_mirrored()
    remote, direct = content(link.warehouse), content(link.source)
    assert remote.keys() == direct.keys()
    for name, rows in direct.items():
        assert remote[name] == rows, name
    assert direct["stage.orders"]


def test_a_remote_source_gives_what_a_local_one_gives(connected: Link) -> None:
    play = connected.play
    local = Play(connected.source.connect, connected.source.connect(), play.shop)
    play.open()
    assert_same_as_local(connected, local)
    play.shop.update("customers", {"customer_id": play.customer}, segment="business")
    play.shop.change_price(play.product, "12.50")
    play.orders.append(
        play.shop.order(play.customer, play.address, {play.product: 1, play.other_product: 3})
    )
    assert_same_as_local(connected, local)
    play.shop.delete("order_lines", order_id=play.orders[1], line_number=2)
    assert_same_as_local(connected, local)
    assert_same_as_local(connected, local)


SETTINGS = {
    "TimeZone": "Asia/Kathmandu",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "iso_8601",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "quote_all_identifiers": "on",
    "search_path": "evil",
    "client_encoding": "LATIN1",
    "array_nulls": "off",
    "standard_conforming_strings": "off",
    "transform_null_equals": "on",
    "default_transaction_isolation": "serializable",
}


@pytest.mark.parametrize("side", ["warehouse", "source"])
def test_settings_of_a_database_change_nothing(connected: Link, side: str) -> None:
    play = connected.play
    play.open()
    play.run()
    changed = getattr(connected, side)
    for name, value in SETTINGS.items():
        changed.execute(f"ALTER DATABASE \"{changed.name}\" SET {name} = '{value}'")
    with connected.source.connect(autocommit=False) as writer:
        writer.execute("UPDATE oceanrecords.customers SET first_name = 'Zoé'")
        writer.execute("UPDATE oceanrecords.products SET price = price + 1")
        writer.execute(
            "DELETE FROM oceanrecords.order_lines WHERE order_id = %s AND line_number = 1",
            [play.orders[0]],
        )
    with connected.warehouse.connect() as loader:
        loader.execute("CALL etl.run()")
        assert loader.execute(
            "SELECT status FROM etl.run ORDER BY run_id DESC LIMIT 1"
        ).fetchall() == [("succeeded",)]
    assert reconcile(connected) == []
    changed.execute(f'ALTER DATABASE "{changed.name}" RESET ALL')
    connected.assert_mirrored()


def test_a_row_deleted_and_made_again_under_its_key_is_alive(connected: Link) -> None:
    play = connected.play
    play.open()
    play.run()
    order = play.orders[0]
    line = "order_id = %s AND line_number = 1"
    row = connected.source.rows(f"SELECT * FROM oceanrecords.order_lines WHERE {line}", order)[0]
    play.shop.delete("order_lines", order_id=order, line_number=1)
    again = {key: row[key] for key in ("order_id", "line_number", "product_id", "unit_price")}
    play.shop.insert("order_lines", **again, quantity=7)
    play.run()
    connected.assert_mirrored()
    assert play.value(f"SELECT deleted_at FROM stage.order_lines WHERE {line}", order) is None
    play.shop.delete("order_lines", order_id=order, line_number=1)
    play.run()
    connected.assert_mirrored()
    assert play.value(f"SELECT deleted_at FROM stage.order_lines WHERE {line}", order) is not None


def test_a_transaction_of_the_source_that_commits_late_is_not_missed(connected: Link) -> None:
    play = connected.play
    play.open()
    late = connected.source.connect(autocommit=False)
    late.execute("UPDATE oceanrecords.customers SET phone = '+49 40 1'")
    play.shop.customer("Grace")
    play.run()
    assert play.rows("SELECT phone FROM stage.customers ORDER BY customer_id") == [(None,), (None,)]
    play.shop.customer("Mary")
    play.run()
    late.commit()
    play.run()
    connected.assert_mirrored()
    assert play.value("SELECT count(*) FROM stage.customers WHERE phone = '+49 40 1'") == 1
    read = "SELECT rows_read FROM etl.task_status WHERE task = 'extract:customers'"
    assert play.value(read) == 1
    play.run(only=["extract:customers", "stage:customers"])
    assert play.value(read) == 0


def test_all_tables_of_a_batch_are_read_on_one_snapshot_of_the_source(connected: Link) -> None:
    play = connected.play
    play.open()
    play.run()
    batches = connected.warehouse.rows(
        "SELECT b.snapshot::text, b.system_identifier FROM etl.batch AS b ORDER BY b.batch_id DESC LIMIT 1"
    )
    identifier = connected.source.value("SELECT system_identifier FROM pg_control_system()")
    assert batches[0]["system_identifier"] == identifier
    reading = connected.warehouse.connect(autocommit=False)
    reading.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    point = "SELECT snapshot::text FROM source.extraction_point"
    first = reading.execute(point).fetchall()
    play.shop.order(play.customer, play.address, {play.product: 1})
    assert reading.execute("SELECT count(*) FROM source.orders").fetchall() == [(1,)]
    assert reading.execute("SELECT count(*) FROM source.order_lines").fetchall() == [(1,)]
    assert reading.execute(point).fetchall() == first
    reading.rollback()
    assert reading.execute(point).fetchall() != first


def remote_sql(link: Link, routine: str) -> list[str]:
    """Return what is asked of the source when a compiled routine of a table is called."""
    asked: list[str] = []
    reading = link.warehouse.connect(autocommit=False)
    reading.add_notice_handler(
        lambda notice: asked.extend(re.findall(r"Remote SQL: (.*)", notice.message_primary or ""))
    )
    reading.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    reading.execute("LOAD 'auto_explain'")
    for setting in (
        "log_min_duration = 0",
        "log_nested_statements = on",
        "log_verbose = on",
        "log_level = notice",
    ):
        reading.execute(f"SET auto_explain.{setting}".encode())
    reading.execute(
        f"""
        SELECT compiled.{routine}
        FROM jsonb_populate_record(NULL::etl.batch, jsonb_build_object(
            'batch_id', 1, 'run_id', 1, 'snapshot', '100:300:',
            'tables_with_tombstones', (SELECT jsonb_agg(s.source_table) FROM etl.source_table AS s)
        )) AS b
        CROSS JOIN jsonb_populate_record(NULL::etl.watermark, '{{"snapshot": "100:200:150"}}') AS w
        """.encode()
    )
    reading.rollback()
    return asked


def extraction(table: str) -> str:
    return f"extract_{table}(b, w, '2026-01-01 00:00+00', '2026-01-02 00:00+00')"


_RANGE = (
    "((row_xid >= '100')) AND ((row_xid < '300'))"
    " AND ((NOT pg_visible_in_snapshot(row_xid, '100:200:150'::pg_snapshot)))"
)


def test_the_source_itself_picks_the_changed_rows(connected: Link) -> None:
    for table in connected.tables():
        changed, deleted = remote_sql(connected, extraction(table))
        assert changed.endswith(
            f" FROM oceanrecords.{table}"
            " WHERE ((((row_xid >= '100') AND (row_xid < '300')"
            " AND (NOT pg_visible_in_snapshot(row_xid, '100:200:150'::pg_snapshot)))"
            " OR (row_xid IS NULL)))"
        )
        assert deleted == (
            "SELECT row_key, deleted_at FROM oceanrecords.deleted_rows"
            f" WHERE {_RANGE} AND ((table_name = '{table}'))"
        )


def test_rows_found_by_time_of_change_are_picked_at_the_source(connected: Link) -> None:
    connected.warehouse.execute(
        "UPDATE etl.source_table SET change_detection = 'timestamp', change_column = 'updated_at',"
        " delete_detection = 'comparison' WHERE source_table = 'customers';"
        "CALL etl.build()"
    )
    changed, keys = remote_sql(connected, extraction("customers"))
    assert "updated_at >= '2026-01-01" in changed
    assert "updated_at < '2026-01-02" in changed
    assert "updated_at IS NULL" in changed
    assert "updated_at = '-infinity'" in changed
    # Keys are all that a comparison of keys needs.
    assert keys == "SELECT customer_id FROM oceanrecords.customers"


def test_a_comparison_of_everything_reads_everything_once(connected: Link) -> None:
    asked = remote_sql(connected, "compare_orders(b, '2026-01-02 00:00+00', false)")
    assert len([query for query in asked if "oceanrecords.orders" in query]) == 1


def test_only_changed_rows_cross_the_network(connected: Link) -> None:
    play, proxy = connected.play, connected.proxy
    play.open()
    connected.customers(5000)
    start = proxy.received
    play.run()
    full = proxy.received - start
    assert full > 5000 * 100
    start = proxy.received
    play.run()
    nothing = proxy.received - start
    play.shop.customer("Grace")
    connected.source.execute("DELETE FROM oceanrecords.customers WHERE customer_id = 17")
    start = proxy.received
    play.run()
    incremental = proxy.received - start
    assert incremental - nothing < 2000
    assert nothing < 30_000
    connected.assert_mirrored()


def test_time_of_change_is_right_with_a_late_commit_within_the_lookback(connected: Link) -> None:
    play = connected.play
    play.open()
    connected.warehouse.execute(
        "UPDATE etl.source_table SET change_detection = 'timestamp', change_column = 'updated_at',"
        " delete_detection = 'comparison' WHERE source_table = 'suppliers'"
    )
    play.run()
    late = connected.source.connect(autocommit=False)
    late.execute("UPDATE oceanrecords.suppliers SET name = 'Late'")
    play.run()
    late.commit()
    play.run()
    connected.assert_mirrored()
    assert play.value("SELECT name FROM stage.suppliers") == "Late"


def test_the_source_may_tell_its_oldest_transaction(link: Link) -> None:
    columns = ", ".join(
        row["attname"]
        for row in link.warehouse.rows(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = 'source.extraction_point'::regclass"
            " AND attnum > 0 ORDER BY attnum"
        )
    )
    definition = link.warehouse.value(
        "SELECT pg_get_viewdef('oceanrecords.extraction_point'::regclass)"
    )
    point = f"""
        CREATE OR REPLACE VIEW oceanrecords.extraction_point AS
        SELECT p.*, (
            SELECT min(a.xact_start)
            FROM pg_stat_activity AS a
            WHERE a.datname = current_database()
                AND a.backend_type IS DISTINCT FROM 'autovacuum worker'
        ) AS oldest_transaction_started_at
        FROM ({definition.rstrip(";")}) AS p
    """
    contract = f"""
        CREATE OR REPLACE VIEW source.extraction_point AS
        SELECT {columns}, oldest_transaction_started_at FROM oceanrecords.extraction_point
    """
    link.source.execute(point)
    link.warehouse.execute(point)
    link.warehouse.execute(contract)
    link.warehouse.execute(
        "UPDATE etl.source_table SET change_detection = 'timestamp', change_column = 'updated_at',"
        " delete_detection = 'comparison', lookback = '0' WHERE source_table = 'suppliers'"
    )
    link.connect(p_user="postgres", password=superuser_password(link.source))
    link.play.open()
    late = link.source.connect(autocommit=False)
    late.execute("UPDATE oceanrecords.suppliers SET name = 'Late'")
    started = late.execute("SELECT now()").fetchone()
    link.play.run()
    assert started is not None
    bound = "SELECT read_at FROM etl.watermark WHERE source_table = 'suppliers'"
    assert link.play.value(bound) == started[0]
    late.commit()
    link.play.run()
    assert link.play.value("SELECT name FROM stage.suppliers") == "Late"


def superuser_password(database: Database) -> str:
    """Give the superuser of a server a password, which it needs over TCP."""
    database.execute("ALTER ROLE postgres PASSWORD 'of the test'")
    return "of the test"


@pytest.mark.server("debian")
@pytest.mark.parametrize("kind", ["embedded"])
def test_servers_of_two_versions(
    database: Database,
    servers: Servers,
    kind: str,
    make_link: Callable[[Database, Database], Link],
) -> None:
    newer = make_source(servers.create(kind))
    with temporary_database(newer, TEMPLATE) as shop:
        link = make_link(database, shop)
        link.connect()
        link.play.open()
        link.play.run()
        link.play.shop.change_price(link.play.product, "12.50")
        link.play.run()
        link.assert_mirrored()
        assert _RANGE in remote_sql(link, extraction("orders"))[1]
        shop.close()
        link.play.loader.close()
