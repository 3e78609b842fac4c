"""Where every column comes from: against the planner's own dependencies, and by changing the source."""

from __future__ import annotations

from typing import Any

import pytest

from driver.docs import catalog
from driver.docs.catalog import Catalog, Name
from driver.docs.lineage import Lineage, Node
from tests.engine.conftest import STEPS
from tests.support.database import Database

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

# Columns of key figures that no operational column has a part in: constants, settings, the warehouse's own diary.
OWN = {
    "kpi.freshness": {
        "complete_until",
        "age",
        "is_stale",
        "last_run_id",
        "last_run_status",
        "last_run_at",
        "last_successful_run_id",
        "last_successful_run_at",
        "today",
        "whole_until",
        "time_zone",
        "currency",
        "currency_decimals",
    },
    "kpi.period": {"position", "kind"},
    "kpi.lost_order_limit": "*",
    "kpi.definition": "*",
    "kpi.sales_target": "*",
    "kpi.overview": {"position", "kpi", "unit", "is_up_good", "is_last_month_provisional"},
    "kpi.headline": {"position", "headline", "period", "compared_to"},
}


def node(text: str) -> Node:
    schema, relation, column = text.split(".")
    return Node(Name(schema, relation), column)


def operational(lineage: Lineage, text: str) -> set[str]:
    """Return the operational columns that a column comes from."""
    return {
        str(leaf).removeprefix("oceanrecords.")
        for leaf in lineage.leaves(node(text))
        if lineage.is_operational(leaf)
    }


def test_every_column_of_a_key_figure_comes_from_the_operational_system(
    known: Catalog, lineage: Lineage
) -> None:
    columns = [(one.name, column.column) for one in known.of("kpi") for column in one.columns]
    assert len(columns) > 50
    without = {
        f"{relation}.{column}"
        for relation, column in columns
        if not operational(lineage, f"{relation}.{column}")
    }
    expected = {
        f"{relation}.{column}"
        for relation, column in columns
        if (own := OWN.get(str(relation))) and (own == "*" or column in own)
    }
    assert without == expected


CONSTANTS = (
    Node(Name("work", "kpi_small_country"), "shown_as"),
    Node(Name("etl", "currency"), "decimals"),
)


def test_every_leaf_is_a_table(known: Catalog, lineage: Lineage) -> None:
    """A way never ends in a view unless the view's column is a constant."""
    for relation in known.of("kpi"):
        for column in relation.columns:
            start = Node(relation.name, column.column)
            for leaf in lineage.leaves(start):
                assert known.relations[leaf.relation].kind == "table" or leaf in (
                    start,
                    *CONSTANTS,
                ), leaf


@pytest.mark.parametrize(
    ("column", "origins"),
    [
        ("kpi.product_monthly.sales", {"order_lines.quantity", "order_lines.unit_price"}),
        ("kpi.product_monthly.product_name", {"products.name"}),
        ("kpi.product_monthly.product_type", {"product_types.name"}),
        ("kpi.order_daily.country", {"addresses.country_code"}),
        ("kpi.order_daily.orders", {"orders.order_id"}),
        ("kpi.order_daily.hours_to_fulfil", {"orders.ordered_at", "orders.delivered_at"}),
        ("kpi.month.lost_orders", {"order_statuses.is_lost"}),
        (
            "kpi.month.sales",
            {"order_lines.quantity", "order_lines.unit_price", "order_statuses.is_lost"},
        ),
        ("dwh.dim_product.price", {"products.price", "product_prices.price"}),
        ("dwh.dim_customer.full_name", {"customers.first_name", "customers.last_name"}),
        ("dwh.dim_supplier.country", {"suppliers.country_code"}),
        ("dwh.fact_order.is_deleted", {"deleted_rows.deleted_at"}),
        ("stage.orders.paid_at", {"orders.paid_at"}),
    ],
)
def test_known_ways(lineage: Lineage, column: str, origins: set[str]) -> None:
    assert operational(lineage, column) == origins


def test_a_way_passes_through_every_layer(lineage: Lineage) -> None:
    passed = {one.relation.schema for one in lineage.upstream(node("kpi.month.sales"))}
    assert passed == {"kpi", "dwh", "work", "stage", "source", "oceanrecords"}


def test_rows_that_are_counted_are_told_from_values(lineage: Lineage) -> None:
    (origin,) = lineage.origins(node("work.agg_customer_quarterly.orders"))
    assert (str(origin.node), origin.how) == ("dwh.fact_order.order_id", "counted")
    hows = {origin.how for origin in lineage.origins(node("dwh.fact_order.customer_key"))}
    assert hows == {"looked up"}


def test_views_take_no_column_that_postgresql_does_not_know_of(
    warehouse: Database, known: Catalog, lineage: Lineage
) -> None:
    """pg_depend tells which columns a view reads as a whole; no column of it may come from another."""
    read: dict[Name, set[str]] = {}
    for row in warehouse.rows(
        """
        SELECT n.nspname AS schema, v.relname AS view, format('%s.%s.%s', m.nspname, t.relname, a.attname) AS origin
        FROM pg_rewrite AS r
        JOIN pg_class AS v ON v.oid = r.ev_class
        JOIN pg_namespace AS n ON n.oid = v.relnamespace
        JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
        JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        JOIN pg_class AS t ON t.oid = d.refobjid
        JOIN pg_namespace AS m ON m.oid = t.relnamespace
        WHERE d.refobjsubid > 0
        """
    ):
        read.setdefault(Name(row["schema"], row["view"]), set()).add(row["origin"])
    checked = 0
    for kind, view in known.definitions:
        calls = any(
            f"{name}(" in known.definitions[kind, view].query
            for other, name in known.definitions
            if other == "function"
        )
        if kind != "view" or view.schema == "etl" or calls:
            continue
        for column in known.relations[view].columns:
            if column.column in OWN.get(str(view), ()):
                continue  # a constant, of whatever the rows are made of
            for origin in lineage.origins(Node(view, column.column)):
                # What counts rows stands for the key of what it counts.
                table = known.relations[origin.node.relation]
                counts = origin.node.column in table.key and any(
                    one.startswith(f"{table.name}.") for one in read[view]
                )
                assert counts or str(origin.node) in read[view], (view, column.column, origin)
                checked += 1
    assert checked > 150


# The numbers of the parameters are those of places in the loads: a change of a value that decides on no row.
@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("order_lines.unit_price", "UPDATE oceanrecords.order_lines SET unit_price = unit_price + 7 WHERE order_id % 3 = 0"),
        ("order_lines.quantity", "UPDATE oceanrecords.order_lines SET quantity = quantity + 1 WHERE order_id % 3 = 0"),
        ("products.name", "UPDATE oceanrecords.products SET name = 'New ' || name WHERE product_id % 2 = 0"),
    ],
)  # fmt: skip
def test_a_change_in_the_source_reaches_what_lineage_says_and_nothing_else(
    database: Database, column: str, change: str
) -> None:
    """The warehouse itself is asked: which columns of the key figures are other than before?"""
    from simulator.seed import seed

    with database.connect() as connection:
        seed(connection, orders=300, months=4, seed=9)
        connection.execute("CALL etl.run()")
        known = catalog.read(connection)
        lineage = Lineage(known)
        views = [one for one in known.of("kpi") if str(one.name) not in ("kpi.freshness",)]

        def values() -> dict[str, Any]:
            found = {}
            for view in views:
                for one in view.columns:
                    query = (
                        f'SELECT array_agg(t."{one.column}"::text ORDER BY t."{one.column}"::text)'
                        f' FROM {view.name} AS t'
                    )  # fmt: skip
                    row = connection.execute(query.encode()).fetchone()
                    found[f"{view.name}.{one.column}"] = row
            return found

        before = values()
        connection.execute(change.encode())
        connection.execute("CALL etl.run()")
        after = values()
    changed = {name for name in before if before[name] != after[name]}
    reached = {name for name in before if column in operational(lineage, name)}
    assert changed, "the change had no effect at all"
    assert changed <= reached


CONSTRUCTS = {
    "SELECT s.supplier_id AS a, upper(s.name) AS b FROM stage.suppliers AS s": {
        "a": "suppliers.supplier_id",
        "b": "suppliers.name",
    },
    "SELECT q.* FROM (SELECT name AS a FROM stage.suppliers) AS q": {"a": "suppliers.name"},
    "WITH c (x) AS (SELECT name FROM stage.suppliers) SELECT c.x AS a FROM c": {
        "a": "suppliers.name"
    },
    "WITH RECURSIVE r (a) AS (SELECT supplier_id FROM stage.suppliers UNION SELECT a + 1 FROM r WHERE a < 3) SELECT a FROM r": {
        "a": "suppliers.supplier_id"
    },
    "SELECT name AS a FROM stage.suppliers UNION ALL SELECT name FROM stage.product_types": {
        "a": "product_types.name suppliers.name"
    },
    "SELECT p.name AS a, s.name AS b FROM stage.products AS p JOIN stage.suppliers AS s USING (supplier_id)": {
        "a": "products.name",
        "b": "suppliers.name",
    },
    "SELECT CASE WHEN is_active THEN price END AS a FROM stage.products": {
        "a": "products.is_active products.price"
    },
    "SELECT (SELECT max(l.unit_price) FROM stage.order_lines AS l WHERE l.product_id = p.product_id) AS a FROM stage.products AS p": {
        "a": "order_lines.unit_price"
    },
    "SELECT l.n AS a FROM stage.products AS p CROSS JOIN LATERAL (SELECT p.price * 2 AS n) AS l": {
        "a": "products.price"
    },
    "SELECT v.x AS a, v.y AS b FROM stage.products AS p CROSS JOIN LATERAL (VALUES (p.price, p.name), (0, p.sku)) AS v (x, y)": {
        "a": "products.price",
        "b": "products.name products.sku",
    },
    "SELECT g.i AS a FROM stage.order_lines AS l CROSS JOIN LATERAL generate_series(1, l.quantity) AS g (i)": {
        "a": "order_lines.quantity"
    },
    "SELECT lag(price) OVER (PARTITION BY supplier_id ORDER BY product_id) AS a FROM stage.products": {
        "a": "products.price products.product_id products.supplier_id"
    },
    "SELECT count(*) AS a, count(*) FILTER (WHERE is_active) AS b, 5 AS c, 'x' AS d FROM stage.products": {
        "a": "products.product_id",
        "b": "products.is_active products.product_id",
        "c": "products.product_id",
        "d": "",
    },
    "SELECT EXISTS (SELECT FROM stage.suppliers) AS a": {"a": "suppliers.supplier_id"},
    "SELECT c.country AS a FROM stage.suppliers AS s LEFT JOIN work.country AS c ON c.country_code = s.country_code": {
        "a": "suppliers.country_code"
    },
}


def test_constructs_of_sql(connection: Any) -> None:
    for number, query in enumerate(CONSTRUCTS):
        connection.execute(f"CREATE VIEW work.construct_{number} AS {query}".encode())
    lineage = Lineage(catalog.read(connection))
    for number, expected in enumerate(CONSTRUCTS.values()):
        for column, origins in expected.items():
            found = operational(lineage, f"work.construct_{number}.{column}")
            assert found == set(origins.split()), (list(CONSTRUCTS)[number], column)


def test_lineage_ends_at_a_foreign_table(connection: Any) -> None:
    connection.execute(
        """
        CREATE EXTENSION postgres_fdw;
        CREATE SERVER far_away FOREIGN DATA WRAPPER postgres_fdw;
        DROP VIEW source.suppliers;
        CREATE FOREIGN TABLE source.suppliers (
            supplier_id integer, name text, country_code text, created_at timestamptz, updated_at timestamptz, row_xid xid8
        ) SERVER far_away
        """
    )
    lineage = Lineage(catalog.read(connection))
    leaves = lineage.leaves(node("dwh.dim_supplier.supplier_name"))
    assert [str(leaf) for leaf in leaves] == ["source.suppliers.name"]
    assert lineage.is_operational(leaves[0])


def test_a_second_business_has_lineage_too(connection: Any) -> None:
    for step in STEPS:
        connection.execute(step.read_bytes())
    lineage = Lineage(catalog.read(connection))
    leaves = {str(leaf) for leaf in lineage.leaves(node("dwh.dim_book.title"))}
    assert leaves == {"library.books.title"}
