"""What rows depend on besides the mirrors: where it changes, exactly what was made with it is loaded anew."""

from __future__ import annotations

from typing import Any

import pytest

from tests.warehouse.play import Play

PLAN = "SELECT object, reasons FROM etl.planned_refresh"


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
    readers = {"dim_customer", "dim_product", "fact_order", "fact_order_line"}
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
    assert (
        trading.value(
            "SELECT count(*) FROM dwh.dim_product WHERE product_key > 0 AND label IS DISTINCT FROM upper(product_name)"
        )
        == 0
    )
    assert trading.value("SELECT nickname FROM dwh.dim_customer WHERE customer_key > 0") == "Ada"
