"""The warehouse on a Citus cluster: what it loads equals a recomputation, as on one server.

    OCEANRECORDS_CITUS_DSN=postgresql://postgres@coordinator/postgres pytest --server citus

The database of the DSN has the extension and knows the nodes (docs/scaling.md); the login is a superuser on all of them. The tests make a
database of their own on each node and drop it. They follow one another: each goes on with the warehouse that the one before has left.
"""

from __future__ import annotations

import contextlib
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

from tests.support.waiting import wait_for
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

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `oceanrecords`."""
        return subprocess.Popen(
            [sys.executable, "-m", "driver", *arguments],
            env=os.environ | {"OCEANRECORDS_DSN": self.dsn},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def cli(self, *arguments: str, status: int | None = 0) -> str:
        """Run `oceanrecords`; its exit status must be the expected one (None for any). Returns what it says."""
        process = self.start(*arguments)
        said, _ = process.communicate()
        assert status is None or process.returncode == status, said
        return said

    def value(self, query: str) -> Any:
        row = self.connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]

    def assert_right(self) -> None:
        assert recomputation.compare(self.connection) == []

    def make(self) -> None:
        """Migrate, with what the recomputation needs to know."""
        # A warehouse that was spread before has left a login, which the migrations of another one refuse.
        self.connection.execute(
            "DO $$BEGIN IF to_regrole('oceanrecords_owner') IS NOT NULL THEN ALTER ROLE oceanrecords_owner NOLOGIN; END IF; END$$"
        )
        self.cli("migrate")
        recomputation.observe(self.connection)
        # Citus spreads no table with a trigger.
        self.connection.execute("DROP TRIGGER note_taken_out ON dwh.fact_order_line")


def nodes() -> list[str]:
    """Return a DSN of each node, that of the coordinator first."""
    with psycopg.connect(CLUSTER, autocommit=True) as coordinator:
        others = coordinator.execute(
            "SELECT nodename, nodeport FROM pg_dist_node WHERE groupid > 0 ORDER BY groupid"
        ).fetchall()
    assert others, "the cluster has no node: citus_add_node()"
    return [CLUSTER, *(make_conninfo(CLUSTER, host=host, port=port) for host, port in others)]


def address(dsn: str) -> tuple[str, int]:
    """Return host and port of a server, as the others reach it."""
    with psycopg.connect(CLUSTER, autocommit=True) as coordinator:
        own = coordinator.execute("SELECT nodename, nodeport FROM pg_dist_node WHERE groupid = 0")
        found = own.fetchone()
    parts = conninfo_to_dict(dsn)
    if found and dsn == CLUSTER:
        return found
    return str(parts.get("host", "localhost")), int(parts.get("port") or 5432)


@contextlib.contextmanager
def databases() -> Iterator[Cluster]:
    """A database of its own on each node."""
    name = f"test_{uuid4().hex[:12]}"
    servers = nodes()
    dsn = make_conninfo(CLUSTER, dbname=name)
    try:
        for server in servers:
            with psycopg.connect(server, autocommit=True) as admin:
                admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            with psycopg.connect(make_conninfo(server, dbname=name), autocommit=True) as made:
                made.execute("CREATE EXTENSION citus")
        connection = psycopg.connect(dsn, autocommit=True)
        connection.execute("SELECT citus_set_coordinator_host(%s, %s)", address(CLUSTER))
        for node in servers[1:]:
            connection.execute("SELECT citus_add_node(%s, %s)", address(node))
        made_by = Cluster(dsn, connection)
        yield made_by
        made_by.connection.close()
    finally:
        for server in servers:
            with psycopg.connect(server, autocommit=True) as admin:
                admin.execute(
                    sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
                )


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A loaded warehouse of one server that was spread afterwards."""
    with databases() as made:
        made.make()
        made.cli("simulate", "seed", "--orders", "1000")
        made.cli("run")
        made.cli("migrate", "--optional", "citus")
        yield made


READABLE = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS relation, string_agg(quote_ident(a.attname), ', ') AS columns
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname IN (SELECT schema_name FROM etl.access_schema)
    AND c.relkind IN ('r', 'v', 'f')
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


# Nodes that are killed ---------------------------------------------------------------------------


CHECKPOINTER = "SELECT backend_start FROM pg_stat_activity WHERE backend_type = 'checkpointer' AND NOT pg_is_in_recovery()"


def began(dsn: str) -> Any:
    """Return when a server began to write, after a start or a recovery; None while it does not."""
    try:
        with psycopg.connect(dsn, autocommit=True) as connection:
            row = connection.execute(CHECKPOINTER.encode()).fetchone()
            return row and row[0]
    except psycopg.Error:
        return None


def kill(dsn: str, way: str) -> None:
    """Kill a server, or crash it through a backend, and wait until it has recovered."""
    before = began(dsn)
    assert before
    with psycopg.connect(dsn, autocommit=True) as admin:
        row = admin.execute(
            "SELECT (SELECT setting FROM pg_config WHERE name = 'BINDIR'), current_setting('data_directory'), pg_backend_pid()"
        ).fetchone()
        assert row is not None
        programs, data, backend = row
        # A session of its own: the server would take what it has started along.
        command = {
            "immediate": f"setsid {programs}/pg_ctl -D {data} -m immediate -w restart >/dev/null 2>&1 &",
            "quit": f"kill -QUIT {backend}",
        }[way]
        with contextlib.suppress(psycopg.OperationalError):
            admin.execute(
                sql.SQL("COPY (SELECT 1) TO PROGRAM {}").format(sql.Literal(f"cat; {command}"))
            )
    wait_for(lambda: (now := began(dsn)) and now > before, "the server", 60)


@pytest.fixture
def late_writer() -> Iterator[None]:
    """Nodes that write what no commit waits for as late as possible."""
    for server in nodes():
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
            admin.execute("SELECT pg_reload_conf()")
    yield
    for server in nodes():
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute("ALTER SYSTEM RESET wal_writer_delay")
            admin.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize(
    ("node", "way", "kind"),
    [
        (1, "immediate", "stage"),
        (1, "quit", "fact"),
        (0, "immediate", "fact"),
        (0, "quit", "aggregate"),
    ],
)
def test_a_node_that_is_killed_in_the_middle_of_a_run_loses_nothing(
    cluster: Cluster, late_writer: None, node: int, way: str, kind: str
) -> None:
    cluster.cli("simulate", "burst", "--percent", "20")
    last = cluster.value("SELECT max(run_id) FROM etl.run")
    process = cluster.start("run", "--workers", "2")
    reached = (
        f"SELECT count(*) FROM etl.task_run WHERE run_id > {last} AND kind = '{kind}'"
        " AND status IN ('running', 'succeeded') AND rows_read IS DISTINCT FROM 0"
    )
    wait_for(lambda: cluster.value(reached), f"a {kind}", 60)
    kill(make_conninfo(nodes()[node], dbname="postgres"), way)
    process.communicate()
    cluster.connection.close()
    cluster.connection = psycopg.connect(cluster.dsn, autocommit=True)
    # It was in the middle.
    again = cluster.value(
        f"SELECT count(*) FROM etl.task_run WHERE run_id > {last} AND attempts > 1"
    )
    assert process.returncode or again
    cluster.cli("run", status=None)
    cluster.cli("run")
    cluster.cli("reconcile")
    cluster.assert_right()


# Other ways to get there -------------------------------------------------------------------------


def test_an_empty_cluster_is_spread_before_its_first_load() -> None:
    with databases() as made:
        made.make()
        made.cli("migrate", "--optional", "citus")
        made.cli("simulate", "seed", "--orders", "300")
        made.cli("run", "--workers", "2")
        made.assert_right()
        made.cli("simulate", "tick")
        made.cli("run")
        made.cli("reconcile")
        for command in (("kpi",), ("check",), ("status",), ("ls",)):
            made.cli(*command)
        made.assert_right()
        # Nothing stays on the coordinator: what is spread is on the nodes.
        assert made.value("SELECT count(*) FROM ONLY dwh.fact_order") > 0
        assert (
            made.value(
                "SELECT sum(pg_relation_size(logicalrelid)) FROM pg_dist_partition WHERE partmethod = 'h'"
            )
            == 0
        )


def test_a_source_on_another_server_is_followed() -> None:
    source = f"test_source_{uuid4().hex[:8]}"
    host, port = address(CLUSTER)
    with databases() as made, psycopg.connect(CLUSTER, autocommit=True) as admin:
        made.make()
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(source)))
        shop = Cluster(
            make_conninfo(CLUSTER, dbname=source),
            psycopg.connect(make_conninfo(CLUSTER, dbname=source), autocommit=True),
        )
        try:
            shop.cli("migrate")
            shop.cli("simulate", "seed", "--orders", "300")
            made.cli("migrate", "--optional", "citus")
            login = str(conninfo_to_dict(CLUSTER).get("user", "postgres"))
            made.cli(
                "source", "connect", "--host", host, "--port", str(port), "--dbname", source, "--user", login, "--no-password"
            )  # fmt: skip
            made.cli("run")
            for _ in range(2):
                shop.cli("simulate", "tick")
                made.cli("run", "--workers", "2")
            shop.connection.execute(
                "DELETE FROM oceanrecords.order_lines WHERE order_id = (SELECT max(order_id) FROM oceanrecords.orders)"
            )
            made.cli("run")
            made.cli("reconcile")
            for table in ("orders", "order_lines", "customers"):
                there = shop.value(f"SELECT count(*) FROM oceanrecords.{table}")
                assert (
                    made.value(f"SELECT count(*) FROM stage.{table} WHERE deleted_at IS NULL")
                    == there
                )
                assert there > 0
            assert made.value(
                "SELECT sum(amount) FROM dwh.fact_order_line WHERE NOT is_deleted"
            ) == shop.value("SELECT sum(quantity * unit_price) FROM oceanrecords.order_lines")
        finally:
            shop.connection.close()
            # The warehouse's connection to it.
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(source)))


def test_the_jobs_of_a_schedule_share_a_run(cluster: Cluster) -> None:
    with psycopg.connect(make_conninfo(CLUSTER, dbname="postgres"), autocommit=True) as admin:
        loaded = admin.execute("SHOW shared_preload_libraries").fetchone()
        if not loaded or "pg_cron" not in loaded[0]:
            pytest.skip("pg_cron is not among shared_preload_libraries of the coordinator")
        admin.execute("CREATE EXTENSION IF NOT EXISTS pg_cron")
    cluster.cli("simulate", "tick")
    last = cluster.value("SELECT max(run_id) FROM etl.run")
    try:
        cluster.cli("schedule", "install", "--every", "1 minute", "--workers", "2")
        wait_for(
            lambda: cluster.value(
                f"SELECT count(*) FROM etl.run WHERE run_id > {last} AND origin = 'pg_cron' AND status = 'succeeded'"
            ),
            "a run of pg_cron",
            150,
        )
    finally:
        cluster.cli("schedule", "remove")
    outcomes = cluster.value("SELECT array_agg(DISTINCT outcome) FROM etl.schedule_history")
    assert "started" in outcomes
    assert "failed" not in outcomes
    cluster.assert_right()


# Last: what is forgotten is no longer what a recomputation makes of the source ---------------------


def test_a_customer_is_forgotten_on_all_nodes(cluster: Cluster) -> None:
    # Personal data in a distributed table, which no column of OceanRecords is.
    cluster.connection.execute(
        "INSERT INTO etl.personal_object (subject, object, key_columns, key_query)"
        " VALUES ('customer', 'orders', '{order_id}', 'SELECT o.order_id FROM stage.orders AS o WHERE o.customer_id = $1::bigint');"
        " INSERT INTO etl.personal_column (subject, object, column_name, replacement) VALUES ('customer', 'orders', 'paid_at', 'CASE WHEN r.paid_at IS NOT NULL THEN r.ordered_at END');"
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
