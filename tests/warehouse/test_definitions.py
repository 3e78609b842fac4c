"""What rows depend on besides the mirrors: where it changes, exactly what was made with it is loaded anew."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.warehouse.faults import blocked_run
from tests.warehouse.play import Play

PLAN = "SELECT object, reasons FROM etl.plan()"


def replaced(play: Play, view: str, column: str, expression: str) -> None:
    """Replace a view by one that gives a column otherwise."""
    play.loader.execute(
        f"""
        DO $replace$
        DECLARE
            v_columns text;
        BEGIN
            SELECT string_agg(CASE attname WHEN '{column}'
                THEN '({expression})::' || format_type(atttypid, atttypmod) || ' AS {column}' ELSE quote_ident(attname) END, ', ' ORDER BY attnum)
            INTO v_columns FROM pg_attribute WHERE attrelid = '{view}'::regclass AND attnum > 0;
            EXECUTE format('CREATE OR REPLACE VIEW {view} AS SELECT %s FROM (%s) AS q', v_columns, rtrim(pg_get_viewdef('{view}'::regclass), ';'));
        END
        $replace$
        """.encode()
    )


def plan(play: Play) -> dict[str, list[str]]:
    return dict(play.rows(PLAN))


def reasons(play: Play) -> Any:
    return play.value("SELECT reload_reasons FROM etl.run ORDER BY run_id DESC LIMIT 1")


def test_a_loaded_warehouse_plans_nothing(play: Play) -> None:
    play.open()
    assert set(map(tuple, plan(play).values())) == {("it was never loaded",)}
    play.run()
    assert plan(play) == {}
    play.run()
    assert reasons(play) is None
    # Installing everything again changes no definition.
    play.loader.execute("CALL etl.build()")
    assert plan(play) == {}
    play.loader.execute("SELECT etl._request_refresh('{dim_status}')")
    assert plan(play) == {"dim_status": ["a full refresh is requested"]}


def test_a_transformation_that_was_replaced_is_loaded_anew(trading: Play) -> None:
    replaced(trading, "work.dim_supplier", "supplier_name", "upper(supplier_name)")
    replaced(trading, "work.fact_order_line", "amount", "amount * 2")
    told = {
        "dim_supplier": ["view work.dim_supplier has changed"],
        "fact_order_line": ["view work.fact_order_line has changed"],
    }
    assert plan(trading) == told
    # Checks find that the amounts are not those of the source.
    trading.run(expect="partial")
    assert reasons(trading) == told
    assert plan(trading) == {}
    lower = "SELECT count(*) FROM dwh.dim_supplier WHERE supplier_key > 0 AND is_current AND supplier_name <> upper(supplier_name)"
    assert trading.value(lower) == 0
    assert trading.value("SELECT sum(amount) FROM dwh.fact_order_line") == 2 * 20
    # Aggregates have taken the difference.
    assert trading.rows("SELECT * FROM etl.aggregate_differences()") == []
    trading.run(expect=None)
    assert reasons(trading) is None


def test_a_change_of_the_time_zone_loads_what_reads_it(trading: Play) -> None:
    readers = {"agg_order_lost_daily", "dim_customer", "dim_product", "fact_order"}
    readers |= {"fact_order_line"}
    trading.loader.execute(
        "UPDATE etl.setting SET value = 'Pacific/Kiritimati' WHERE name = 'time_zone'"
    )
    told = plan(trading)
    assert set(told) == readers
    assert told["fact_order"] == ["setting time_zone has changed from UTC to Pacific/Kiritimati"]
    trading.run()
    assert set(reasons(trading)) == readers
    wrong = """
        SELECT count(*) FROM dwh.fact_order AS f JOIN oceanrecords.orders AS o USING (order_id)
        JOIN dwh.dim_date AS d ON d.date_key = f.ordered_date_key
        WHERE d.full_date <> (o.ordered_at AT TIME ZONE 'Pacific/Kiritimati')::date
    """
    assert trading.value(wrong) == 0
    # Any other setting is none of their business.
    trading.loader.execute("UPDATE etl.setting SET value = '1 hour' WHERE name = 'stale_after'")
    assert plan(trading) == {}


@pytest.mark.parametrize("language", ["sql", "plpgsql", "parsed"])
def test_a_function_that_a_view_calls_by_way_of_another_counts(
    trading: Play, language: str
) -> None:
    """By what PostgreSQL notes of it, or by its name in the body; and the setting that it reads."""

    def body(expression: str) -> str:
        return {
            "sql": f"LANGUAGE sql AS $$ SELECT {expression} $$",
            "plpgsql": f"LANGUAGE plpgsql AS $$ BEGIN RETURN {expression}; END $$",
            "parsed": f"LANGUAGE sql RETURN {expression}",
        }[language]

    function = "CREATE OR REPLACE FUNCTION work.{}(p_text text) RETURNS text STABLE {}"
    statements = [
        function.format("inner_name", body("p_text || etl.get_setting('currency')")),
        function.format("outer_name", body("work.inner_name(p_text)")),
    ]
    for statement in statements:
        trading.loader.execute(statement.encode())
    replaced(trading, "work.dim_supplier", "supplier_name", "work.outer_name(supplier_name)")
    trading.run()
    assert plan(trading) == {}
    trading.loader.execute("UPDATE etl.setting SET value = 'NOK' WHERE name = 'currency'")
    assert plan(trading)["dim_supplier"] == ["setting currency has changed from EUR to NOK"]
    trading.run()
    trading.loader.execute(
        function.format("inner_name", body("lower(p_text) || etl.get_setting('currency')")).encode()
    )
    assert plan(trading) == {"dim_supplier": ["function work.inner_name(text) has changed"]}
    trading.run()
    (name,) = trading.value(
        "SELECT array_agg(supplier_name) FROM dwh.dim_supplier WHERE is_current AND supplier_key > 0"
    )
    assert name == name[:-3].lower() + "NOK"


def test_the_declaration_counts(trading: Play) -> None:
    trading.loader.execute(
        "UPDATE etl.dimension_attribute SET scd_type = 1 WHERE dimension = 'dim_customer' AND attribute = 'segment'"
    )
    assert plan(trading) == {"dim_customer": ["attribute segment has changed"]}


def test_a_new_attribute_is_filled_into_the_versions_that_are_there(trading: Play) -> None:
    trading.shop.change_price(trading.product, "12.00")
    trading.run()
    versions = "SELECT count(*) FROM dwh.dim_customer"
    before = trading.value(versions)
    products = trading.value("SELECT count(*) FROM dwh.dim_product")
    trading.loader.execute("ALTER TABLE dwh.dim_customer ADD COLUMN nickname text")
    trading.loader.execute("ALTER TABLE dwh.dim_product ADD COLUMN label text")
    for view, column, expression in (
        ("work.dim_customer", "nickname", "left(full_name, 3)"),
        ("work.dim_product", "label", "upper(product_name)"),
    ):
        trading.loader.execute(
            f"""
            DO $replace$ BEGIN
            EXECUTE format('CREATE OR REPLACE VIEW {view} AS SELECT q.*, {expression} AS {column} FROM (%s) AS q',
                rtrim(pg_get_viewdef('{view}'::regclass), ';'));
            END $replace$
            """.encode()
        )
    trading.loader.execute(
        "INSERT INTO etl.dimension_attribute VALUES ('dim_customer', 'nickname', 2), ('dim_product', 'label', 2)"
    )
    trading.loader.execute("CALL etl.build()")
    assert "attribute nickname is new" in plan(trading)["dim_customer"]
    trading.run()
    assert trading.value(versions) == before
    assert trading.value("SELECT count(*) FROM dwh.dim_product") == products
    written = "SELECT rows_updated FROM etl.task_run WHERE object = 'dim_product' ORDER BY run_id DESC LIMIT 1"
    assert trading.value(written) == products - 1, "the versions that were filled, without -1"
    assert (
        trading.value(
            "SELECT count(*) FROM dwh.dim_product WHERE product_key > 0 AND label IS DISTINCT FROM upper(product_name)"
        )
        == 0
    )
    assert trading.value("SELECT nickname FROM dwh.dim_customer WHERE customer_key > 0") == "Ada"


def test_a_plan_counts_what_would_change_and_writes_nothing(trading: Play) -> None:
    replaced(trading, "work.dim_supplier", "supplier_name", "upper(supplier_name)")
    replaced(trading, "work.fact_order_line", "amount", "amount * 2")
    content = (
        "SELECT (SELECT jsonb_agg(to_jsonb(d)) FROM dwh.dim_supplier AS d),"
        " (SELECT jsonb_agg(to_jsonb(f)) FROM dwh.fact_order_line AS f)"
    )
    before = trading.rows(content)
    state = trading.rows("SELECT object, needs_reload, fingerprint, loaded_at FROM etl.load_state")
    with trading.loader.cursor(row_factory=dict_row) as cursor:
        planned = {
            row["object"]: row for row in cursor.execute("SELECT * FROM etl.plan_rows()").fetchall()
        }
    assert set(planned) == {"dim_supplier", "fact_order_line"}
    line = planned["fact_order_line"]
    assert (line["rows_updated"], line["rows_inserted"], line["message"]) == (1, 0, None)
    assert line["sample"] == [
        {
            "operation": "update",
            "key": {"order_id": 1, "line_number": 1},
            "before": {"amount": 20.00},
            "after": {"amount": 40.00},
        }
    ]
    assert planned["dim_supplier"]["sample"]
    assert trading.rows(content) == before
    assert state == trading.rows(
        "SELECT object, needs_reload, fingerprint, loaded_at FROM etl.load_state"
    )
    replaced(trading, "work.fact_order_line", "amount", "amount / (quantity - quantity)")
    assert trading.value("SELECT rows_quarantined FROM etl.plan_rows('{fact_order_line}')") == 1
    assert trading.rows("SELECT * FROM etl.quarantine") == []
    with blocked_run(trading, "dwh.dim_supplier"), pytest.raises(psycopg.Error) as refused:
        trading.connect().execute("SELECT * FROM etl.plan_rows()")
    assert refused.value.sqlstate == "ET001"  # and what ET061 undoes is never seen


# What the session looks like ---------------------------------------------------------------------------------------------

HOSTILE = """
SET TimeZone = 'Asia/Tokyo';
SET DateStyle = 'SQL, DMY';
SET IntervalStyle = 'iso_8601';
SET bytea_output = 'escape';
SET extra_float_digits = -15;
SET quote_all_identifiers = on;
SET search_path = '';
"""


def test_the_settings_of_the_session_do_not_matter(trading: Play) -> None:
    """Rows are loaded, queued and retried by sessions that look different in all that PostgreSQL offers."""
    usual, strange = trading.loader, trading.connect()
    strange.execute(HOSTILE.encode())
    shop = trading.shop
    for number, connection in enumerate((strange, usual, strange)):
        trading.loader = connection
        shop.change_price(trading.product, f"{20 + number}.00")
        shop.update("customers", {"customer_id": trading.customer}, first_name=f"Ada{number}")
        shop.order(trading.customer, trading.address, {trading.product: 1})
        connection.execute("SELECT etl.retry_queue(), etl.retry_quarantine()")
        connection.execute("CALL etl.run()")
        assert usual.execute(
            "SELECT status FROM etl.run ORDER BY run_id DESC LIMIT 1"
        ).fetchone() == ("succeeded",)
        assert strange.execute("SELECT * FROM etl.plan()").fetchall() == []
    trading.loader = usual
    trading.assert_right()
    strange.execute("BEGIN")
    strange.execute("SELECT etl._begin_transaction(NULL)")
    key = strange.execute(
        "SELECT jsonb_build_object('t', timestamptz '2026-01-02 00:00+00', 'i', interval '26 hours', 'f', 0.1::float8, 'b', '\\x00ff'::bytea)::text"
    ).fetchone()
    assert key == (
        '{"b": "\\\\x00ff", "f": 0.1, "i": "26:00:00", "t": "2026-01-02T00:00:00+00:00"}',
    )
    strange.execute("COMMIT")
    assert strange.execute("SHOW TimeZone").fetchone() == ("Asia/Tokyo",)


def test_public_functions_pin_what_they_depend_on(play: Play) -> None:
    loose = play.rows(
        "SELECT p.proname FROM pg_proc AS p WHERE p.pronamespace = 'etl'::regnamespace AND p.prokind = 'f'"
        " AND p.proname NOT LIKE '\\_%' AND NOT 'TimeZone=UTC' = ANY (coalesce(p.proconfig, '{}'))"
    )
    assert loose == [("get_setting",)]


def test_an_engine_that_compiles_other_rows_loads_the_object_completely(trading: Play) -> None:
    trading.loader.execute(
        "DO $$BEGIN EXECUTE replace(pg_get_functiondef('compiled.verify_dim_supplier'::regproc),"
        " 'BEGIN', E'BEGIN\n    -- An earlier version of the engine.'); END$$"
    )
    changed = ["routine compiled.verify_dim_supplier has changed"]
    assert plan(trading) == {"dim_supplier": changed}
    trading.run()
    assert plan(trading) == {}
    trading.loader.execute("CALL etl.build()")
    assert plan(trading) == {"dim_supplier": changed}


def test_a_reference_table_that_somebody_locks_stops_no_run(trading: Play) -> None:
    with trading.connect() as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE work.country IN ACCESS EXCLUSIVE MODE")
        trading.run()
        other.execute("ROLLBACK")
    trading.loader.execute("UPDATE work.country SET country = upper(country)")
    assert "table work.country has changed" in plan(trading)["dim_supplier"]


def rewritten(play: Play, view: str, part: str, other: str) -> None:
    """Replace a part of a view's definition."""
    definition = play.value("SELECT pg_get_viewdef(%s::regclass)", view)
    assert part in definition, definition
    play.loader.execute(
        f"CREATE OR REPLACE VIEW {view} AS {definition.replace(part, other)}".encode()
    )


def test_a_view_that_stops_seeing_deletions_is_refused_while_another_sees_them(
    trading: Play,
) -> None:
    """The mirror keeps deleted rows for the other view. Without a build, they used to stay in the object."""
    seen = " AND (s.deleted_at IS NULL)"
    before = trading.value("SELECT pg_get_viewdef('work.fact_order'::regclass)")
    rewritten(trading, "work.fact_order", seen, "")
    for _ in range(2):
        with pytest.raises(psycopg.Error, match=r"work\.fact_order.*deleted_at") as refused:
            trading.run()
        assert refused.value.sqlstate == "ET003"
        assert "deleted_at IS NULL" in (refused.value.diag.message_hint or "")
    trading.loader.execute(f"CREATE OR REPLACE VIEW work.fact_order AS {before}".encode())
    trading.run()
    trading.assert_right()


def test_a_mirror_follows_its_only_view_which_stops_seeing_deletions(trading: Play) -> None:
    """Neither what was deleted before nor what is deleted later stays in the object."""
    shop = trading.shop
    kind = shop.product_type("Tape")
    trading.run()
    deleted = "SELECT count(*) FROM stage.product_types WHERE deleted_at IS NOT NULL"
    product_type = "SELECT product_type FROM dwh.dim_product WHERE product_id = %s AND is_current"

    def delete_type(number: int) -> None:
        # As replication does: the subtypes stay.
        trading.loader.execute("SET session_replication_role = replica")
        trading.loader.execute(
            "DELETE FROM oceanrecords.product_types WHERE product_type_id = %s", [number]
        )
        trading.loader.execute("RESET session_replication_role")
        trading.run()

    delete_type(trading.kind)
    assert trading.value(deleted) == 1
    rewritten(trading, "work.dim_product", " AND (t.deleted_at IS NULL)", "")
    trading.run()
    assert trading.value(deleted) == 0
    assert trading.value(product_type, trading.product) == "Unknown"
    shop.update("product_subtypes", {"product_subtype_id": trading.subtype}, product_type_id=kind)
    trading.run()
    assert trading.value(product_type, trading.product) == "Tape"
    delete_type(kind)
    assert trading.value(deleted) == 0
    assert trading.value(product_type, trading.product) == "Unknown"


def test_a_view_that_reads_another_mirror_is_refused_until_a_dependency_is_declared(
    trading: Play,
) -> None:
    """No change of that mirror would ever reach the object."""
    name = "TRIM(BOTH FROM s.name)"
    rewritten(
        trading,
        "work.dim_supplier",
        name,
        f"{name} || (SELECT min('') FROM stage.customers WHERE deleted_at IS NULL)",
    )
    with pytest.raises(psycopg.Error, match=r"stage\.customers.*no dependency") as refused:
        trading.run()
    assert refused.value.sqlstate == "ET003"


def test_what_a_session_has_for_itself_is_no_definition(trading: Play) -> None:
    """No rows depend on it, so a run does not compare all definitions because of it."""
    signature = "SELECT etl._definition_signature()"
    before = trading.value(signature)
    other = trading.connect()
    other.execute("CREATE FUNCTION pg_temp.one() RETURNS integer LANGUAGE sql RETURN 1")
    other.execute("CREATE TEMPORARY VIEW one AS SELECT 1 AS one")
    other.execute("CREATE TEMPORARY TABLE many AS SELECT 1 AS one")
    other.execute(
        "CREATE TRIGGER two BEFORE UPDATE ON many FOR EACH ROW"
        " EXECUTE FUNCTION suppress_redundant_updates_trigger()"
    )
    assert trading.value(signature) == before
