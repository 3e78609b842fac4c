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


def test_damage_is_repaired(cluster: Cluster) -> None:
    cluster.connection.execute(DAMAGE)
    cluster.cli("reconcile", status=1)
    cluster.cli("reconcile", "--repair")
    cluster.cli("run", "--full-refresh", "all")
    cluster.cli("reconcile")
    cluster.assert_right()


def test_a_customer_is_forgotten_on_all_nodes(cluster: Cluster) -> None:
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
