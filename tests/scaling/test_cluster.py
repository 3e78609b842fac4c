"""The warehouse on a Citus cluster: what it loads equals a recomputation, as on one server.

    OCEANRECORDS_CITUS_DSN=postgresql://postgres@coordinator/postgres pytest --server citus

The database of the DSN has the extension and knows the nodes (docs/scaling.md); the login is a superuser on all of them. The tests make a
database of their own on each node and drop it. They follow one another: each goes on with the warehouse that the one before has left.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.warehouse import recomputation

CLUSTER = os.environ.get("OCEANRECORDS_CITUS_DSN", "")
pytestmark = pytest.mark.skipif(not CLUSTER, reason="needs a Citus cluster: --server citus")

DAMAGE = """
UPDATE dwh.fact_order SET quantity = quantity + 1
    WHERE order_id IN (SELECT order_id FROM dwh.fact_order ORDER BY 1 LIMIT 3);
DELETE FROM stage.order_lines WHERE order_id = (SELECT min(order_id) FROM stage.order_lines);
UPDATE stage.customers SET first_name = 'Wrong' WHERE customer_id = (SELECT min(customer_id) FROM stage.customers);
UPDATE dwh.agg_order_daily SET sales = sales + 1;
"""


@dataclass
class Cluster:
    """A warehouse on the cluster.

    Attributes:
        dsn: its database on the coordinator.
        connection: to that database (autocommit).
    """

    dsn: str
    connection: psycopg.Connection[Any]

    def cli(self, *arguments: str, status: int = 0) -> None:
        """Run `oceanrecords`; its exit status must be the expected one."""
        done = subprocess.run(
            [sys.executable, "-m", "driver", *arguments],
            env=os.environ | {"OCEANRECORDS_DSN": self.dsn},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr

    def value(self, query: str) -> Any:
        row = self.connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]

    def assert_right(self) -> None:
        assert recomputation.compare(self.connection) == []


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A loaded warehouse of one server that was spread afterwards."""
    name = f"test_{uuid4().hex[:12]}"
    with psycopg.connect(CLUSTER, autocommit=True) as coordinator:
        nodes = coordinator.execute(
            "SELECT nodename, nodeport FROM pg_dist_node WHERE groupid > 0"
        ).fetchall()
        own = coordinator.execute("SELECT nodename, nodeport FROM pg_dist_node WHERE groupid = 0")
        first = own.fetchone() or (
            conninfo_to_dict(CLUSTER).get("host", "localhost"),
            int(conninfo_to_dict(CLUSTER).get("port") or 5432),
        )
    assert nodes, "the cluster has no node: citus_add_node()"
    servers = [CLUSTER, *(make_conninfo(CLUSTER, host=host, port=port) for host, port in nodes)]
    dsn = make_conninfo(CLUSTER, dbname=name)
    try:
        for server in servers:
            with psycopg.connect(server, autocommit=True) as admin:
                admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            with psycopg.connect(make_conninfo(server, dbname=name), autocommit=True) as made:
                made.execute("CREATE EXTENSION citus")
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("SELECT citus_set_coordinator_host(%s, %s)", first)
            for node in nodes:
                connection.execute("SELECT citus_add_node(%s, %s)", node)
            # A warehouse that was spread before has left a login, which the migrations of another one refuse.
            connection.execute(
                "DO $$BEGIN IF to_regrole('oceanrecords_owner') IS NOT NULL THEN ALTER ROLE oceanrecords_owner NOLOGIN; END IF; END$$"
            )
            made_by = Cluster(dsn, connection)
            made_by.cli("migrate")
            recomputation.observe(connection)
            # Citus spreads no table with a trigger.
            connection.execute("DROP TRIGGER note_taken_out ON dwh.fact_order_line")
            made_by.cli("simulate", "seed", "--orders", "1000")
            made_by.cli("run")
            made_by.cli("migrate", "--optional", "citus")
            yield made_by
    finally:
        for server in servers:
            with psycopg.connect(server, autocommit=True) as admin:
                admin.execute(
                    sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
                )


READABLE = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS relation, string_agg(quote_ident(a.attname), ', ') AS columns
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname IN (SELECT schema_name FROM etl.access_schema)
    AND c.relkind IN ('r', 'v', 'f')
    -- It reads rows of the login: who is no analyst has none.
    AND c.oid <> 'work.visible_address'::regclass
    AND has_schema_privilege(%(login)s, n.oid, 'USAGE')
    AND has_column_privilege(%(login)s, c.oid, a.attnum, 'SELECT')
GROUP BY 1
ORDER BY 1
"""

KPI_CALLS = """
SELECT count(*) FROM kpi.customer_count_of('Germany', 'France');
SELECT count(*) FROM kpi.headline_of('Germany');
SELECT count(*) FROM kpi.month_of('Germany', 'France');
SELECT count(*) FROM kpi.quarter_of('Germany');
SELECT count(*) FROM kpi.overview_of('Germany');
SELECT count(*) FROM kpi.ranking_of('product', p_from => current_date - 40, p_to => current_date - 3);
SELECT count(*) FROM kpi.ranking_of('product_subtype', p_countries => '{Germany}');
SELECT count(*) FROM kpi.ranking_of('product', p_from => current_date - 40);
SELECT count(*) FROM kpi.movement_of('country', current_date - 40, current_date - 5)
"""

OF_GERMANY = """
SELECT (SELECT count(*) FROM dwh.fact_order AS f JOIN dwh.dim_address AS a USING (address_key) WHERE a.country_code = 'DE'),
    (
        SELECT count(*)
        FROM dwh.fact_order_line AS l
        JOIN dwh.fact_order AS f USING (order_id)
        JOIN dwh.dim_address AS a USING (address_key)
        WHERE a.country_code = 'DE'
    ),
    (SELECT count(*) FROM dwh.dim_address AS a WHERE a.country_code = 'DE')
"""


@pytest.fixture
def logins(cluster: Cluster) -> Iterator[dict[str, str]]:
    """A login of each level that is for people, and an analyst who sees all rows."""
    suffix = uuid4().hex[:8]
    made = {}
    try:
        for name in ("analyst", "analyst_of_all", "auditor", "business", "steward"):
            login = f"test_{name}_{suffix}"
            level = name.removesuffix("_of_all")
            rows = {"analyst": ["--country", "DE"], "analyst_of_all": ["--country", "*"]}
            cluster.cli(
                "users", "add", login, "--level", level, "--no-password", *rows.get(name, [])
            )
            made[name] = login
        yield made
    finally:
        for login in made.values():
            cluster.cli("users", "remove", login)


def test_each_level_reads_what_it_may_and_no_more(cluster: Cluster, logins: dict[str, str]) -> None:
    failed = []
    for name, login in logins.items():
        relations = cluster.connection.execute(READABLE.encode(), {"login": login}).fetchall()
        assert len(relations) > 10
        with psycopg.connect(make_conninfo(cluster.dsn, user=login), autocommit=True) as session:
            for relation, columns in relations:
                try:
                    session.execute(
                        f"SELECT count(*) FROM (SELECT ROW({columns})::text FROM {relation} OFFSET 0) AS r".encode()
                    )
                except psycopg.Error as error:
                    failed.append((name, relation, str(error)))
    assert failed == []

    with psycopg.connect(
        make_conninfo(cluster.dsn, user=logins["business"]), autocommit=True
    ) as business:
        for call in KPI_CALLS.split(";"):
            business.execute(call.encode())
        products = business.execute("SELECT count(*) FROM kpi.product").fetchone()
        assert products == (
            cluster.value("SELECT count(DISTINCT product_id) FROM dwh.dim_product"),
        )

    expected = cluster.connection.execute(OF_GERMANY.encode()).fetchone()
    assert expected is not None
    assert expected[0] > 0
    read = b"SELECT (SELECT count(*) FROM analysis.fact_order), (SELECT count(*) FROM analysis.fact_order_line), (SELECT count(*) FROM analysis.dim_address)"
    everything = cluster.connection.execute(read.replace(b"analysis", b"dwh")).fetchone()
    for name, rows in (("analyst", expected), ("analyst_of_all", everything)):
        with psycopg.connect(
            make_conninfo(cluster.dsn, user=logins[name]), autocommit=True
        ) as analyst:
            assert analyst.execute(read).fetchone() == rows
            # Personal data is masked, and keys are pseudonyms.
            assert analyst.execute(
                "SELECT DISTINCT email FROM analysis.dim_customer WHERE customer_key > 0"
            ).fetchall() == [("masked",)]
            for denied in (
                "SELECT FROM dwh.fact_order",
                "SELECT * FROM compiled.read_analysis_fact_order()",
                "SELECT * FROM etl.row_access",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    analyst.execute(denied.encode())
    # The superuser in the role of a login sees what the login sees.
    with cluster.connection.transaction():
        cluster.connection.execute(
            sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(logins["analyst"]))
        )
        assert cluster.connection.execute(read).fetchone() == expected
    # Nothing more on the nodes, which hold the parts of the tables.
    shards = cluster.connection.execute(
        "SELECT nodename, nodeport, format('dwh.%I', 'fact_order_' || shardid) FROM citus_shards"
        " WHERE table_name = 'dwh.fact_order'::regclass LIMIT 1"
    ).fetchone()
    assert shards is not None
    with (
        psycopg.connect(
            make_conninfo(cluster.dsn, host=shards[0], port=shards[1], user=logins["analyst"])
        ) as node,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        node.execute(f"SELECT FROM {shards[2]}".encode())


def test_what_was_spread_can_be_migrated_and_traced(cluster: Cluster) -> None:
    before = cluster.connection.execute("TABLE etl.dependency ORDER BY 1, 2").fetchall()
    cluster.cli("migrate")
    assert cluster.connection.execute("TABLE etl.dependency ORDER BY 1, 2").fetchall() == before
    for key in (("customer", "5"), ("order", "5"), ("product", "3"), ("order_line", "5", "1")):
        cluster.cli("trace", *key)
    cluster.assert_right()


def test_tables_are_where_the_catalog_says(cluster: Cluster) -> None:
    misplaced = cluster.connection.execute(
        "SELECT o.object, r.name, o.placement FROM etl.object_placement AS o CROSS JOIN unnest(o.relations) AS r (name)"
        " LEFT JOIN pg_dist_partition AS p ON p.logicalrelid = r.name"
        " WHERE o.placement IS DISTINCT FROM CASE p.partmethod WHEN 'h' THEN 'distributed' WHEN 'n' THEN 'reference' ELSE 'local' END"
    ).fetchall()
    assert misplaced == []
    assert cluster.value("SELECT count(*) FROM pg_dist_partition WHERE partmethod = 'h'") > 4
    cluster.assert_right()


def test_batches_of_two_workers(cluster: Cluster) -> None:
    for _ in range(2):
        cluster.cli("simulate", "tick")
        cluster.cli("run", "--workers", "2")
    cluster.connection.execute(
        "DELETE FROM oceanrecords.order_lines WHERE order_id = (SELECT max(order_id) FROM oceanrecords.orders)"
    )
    cluster.cli("run")
    cluster.assert_right()
    # Nothing new is found by one question, as on one server.
    cluster.cli("run")
    assert (
        cluster.value(
            "SELECT count(*) FROM etl.task_run JOIN (SELECT max(run_id) AS run_id FROM etl.run) AS r USING (run_id)"
        )
        == 0
    )


def test_facts_of_a_failed_dimension_are_repaired_by_the_next_run(cluster: Cluster) -> None:
    cluster.connection.execute(
        "CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'no'; END$$;"
        " CREATE TRIGGER fail BEFORE INSERT ON work.dim_product_decision EXECUTE FUNCTION public.fail()"
    )
    cluster.cli("simulate", "change-price")
    cluster.cli("simulate", "place-order", "--count", "5")
    cluster.cli("run", status=3)
    cluster.connection.execute("DROP FUNCTION public.fail() CASCADE")
    cluster.cli("run")
    assert cluster.value("SELECT count(*) FROM etl.reprocessing_queue") == 0
    cluster.assert_right()


def test_rows_in_quarantine_are_loaded_when_retried(cluster: Cluster) -> None:
    cluster.connection.execute(
        "ALTER TABLE dwh.fact_order_line ADD CONSTRAINT few CHECK (quantity < 2) NOT VALID"
    )
    cluster.cli("simulate", "place-order", "--count", "20")
    cluster.cli("run", status=3)
    assert cluster.value("SELECT count(*) FROM etl.quarantine") > 0
    cluster.connection.execute("ALTER TABLE dwh.fact_order_line DROP CONSTRAINT few")
    cluster.cli("quarantine", "fact_order_line", "--retry")
    cluster.cli("run")
    assert cluster.value("SELECT count(*) FROM etl.quarantine") == 0
    cluster.assert_right()


def test_a_row_without_a_value_in_the_distribution_column_is_set_aside(cluster: Cluster) -> None:
    """The others of its table are loaded, in a batch and in a complete extraction."""
    contract = cluster.value("SELECT pg_get_viewdef('source.order_lines')").rstrip("; ")
    cluster.connection.execute(
        "CREATE TABLE public.keyless AS SELECT * FROM source.order_lines LIMIT 0;"
        " GRANT SELECT ON public.keyless TO oceanrecords_owner;"
        f" CREATE OR REPLACE VIEW source.order_lines AS {contract} UNION ALL SELECT * FROM public.keyless;"
        " INSERT INTO public.keyless SELECT NULL, line_number, product_id, quantity, unit_price, created_at, updated_at, pg_current_xact_id()"
        " FROM oceanrecords.order_lines LIMIT 2".encode()
    )
    entries = "SELECT count(*) FROM etl.quarantine WHERE object = 'order_lines' AND sqlstate = '23502' AND original_row ? 'quantity'"
    cluster.cli("simulate", "place-order", "--count", "5")
    cluster.cli("run", status=3)
    assert cluster.value(entries) == 2
    cluster.assert_right()
    cluster.cli("run", "--full-refresh", "order_lines", status=3)
    assert cluster.value(entries) == 2
    cluster.assert_right()
    cluster.connection.execute(
        f"CREATE OR REPLACE VIEW source.order_lines AS {contract}; DROP TABLE public.keyless".encode()
    )
    cluster.cli("run")
    assert cluster.value(entries) == 0


def test_damage_is_repaired(cluster: Cluster) -> None:
    cluster.connection.execute(DAMAGE)
    cluster.cli("reconcile", status=1)
    cluster.cli("reconcile", "--repair")
    cluster.cli("run", "--full-refresh", "all")
    cluster.cli("reconcile")
    cluster.assert_right()


def test_a_customer_is_forgotten_on_all_nodes(cluster: Cluster) -> None:
    # Personal data in a distributed table, which no column of OceanRecords is.
    cluster.connection.execute(
        "INSERT INTO etl.personal_object (subject, object, key_columns, key_query)"
        " VALUES ('customer', 'orders', '{order_id}', 'SELECT o.order_id FROM stage.orders AS o WHERE o.customer_id = $1::bigint');"
        " INSERT INTO etl.personal_column (subject, object, column_name, replacement) VALUES ('customer', 'orders', 'paid_at', 'r.ordered_at');"
        " GRANT SELECT, UPDATE (paid_at) ON oceanrecords.orders TO oceanrecords_owner"
    )
    email = cluster.value("SELECT email FROM oceanrecords.customers WHERE customer_id = 3")
    assert email
    cluster.cli("forget", "customer", "3", "--yes")
    cluster.cli("run")
    cluster.cli("reconcile")
    for table in ("dwh.dim_customer", "stage.customers"):
        found = cluster.connection.execute(
            f"SELECT count(*) FROM {table} AS t WHERE t::text LIKE '%%' || %s || '%%'".encode(),
            [email],
        ).fetchone()
        assert found == (0,)
    orders = "FROM stage.orders WHERE customer_id = 3 AND paid_at <> ordered_at"
    assert cluster.value(f"SELECT count(*) {orders}") == 0
    cluster.connection.execute(
        "UPDATE oceanrecords.orders SET paid_at = ordered_at + interval '1 second' WHERE customer_id = 3"
    )
    cluster.cli("run")
    assert cluster.value("SELECT count(*) FROM stage.orders WHERE customer_id = 3") > 0
    assert cluster.value(f"SELECT count(*) {orders}") == 0
