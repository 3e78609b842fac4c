"""Every level tries every object of the database; an object that nobody declared fails here."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql

from tests.security.conftest import LEVELS, Connection, People, attempt, read_all
from tests.support.database import Database

DENIED = "42501"

RELATIONS = """
    SELECT c.oid, n.nspname, c.relname, c.relkind,
        array_agg(a.attname::text ORDER BY a.attnum) FILTER (WHERE a.attnum > 0) AS columns,
        array_agg(a.attnum::integer ORDER BY a.attnum) FILTER (WHERE a.attnum > 0) AS numbers
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND NOT a.attisdropped
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
        AND n.nspname NOT LIKE 'pg\\_%'
        AND n.nspname NOT IN ('proof', 'cron')
        AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    GROUP BY c.oid, n.nspname, c.relname, c.relkind
"""
ROUTINES = """
    SELECT p.oid, n.nspname, p.proname, p.prokind,
        (SELECT string_agg('NULL::' || format_type(t.id, NULL), ', ' ORDER BY t.number)
        FROM unnest(p.proargtypes) WITH ORDINALITY AS t (id, number)) AS arguments
    FROM pg_proc AS p
    JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'proof', 'cron')
        AND n.nspname NOT LIKE 'pg\\_%'
        AND p.prorettype <> 'trigger'::regtype
        AND NOT EXISTS (
            SELECT FROM pg_depend AS d
            WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
        )
"""


def declared(database: Database, level: str) -> set[tuple[int, int, str]]:
    """What a level may do: object, column (0 for all of it), privilege; the owner may do all."""
    rows = database.rows(
        """
        SELECT w.object_id::bigint AS object_id, w.column_number::integer AS column_number, w.privilege
        FROM etl._wanted_privileges() AS w
        JOIN etl.access_level AS l ON l.role_name = pg_get_userbyid(w.role_id)
        WHERE l.level = %s
        """,
        level,
    )
    return {(row["object_id"], row["column_number"], row["privilege"]) for row in rows}


def usable_schemas(database: Database, level: str) -> set[str]:
    rows = database.rows(
        "SELECT schema_name FROM etl.permission WHERE object_kind = 'schema' AND level = %s"
        " AND 'USAGE' = ANY (privileges)",
        level,
    )
    return {row["schema_name"] for row in rows}


def name(row: dict[str, object]) -> str:
    return sql.Identifier(str(row["nspname"]), str(row["relname"])).as_string()


@pytest.fixture
def connection(people: People, request: pytest.FixtureRequest) -> Connection:
    people.add(request.param, request.param)
    return people.connect(request.param)


def test_everything_is_declared(database: Database) -> None:
    assert database.rows("SELECT * FROM etl.permission_gap") == []


def test_a_new_object_is_found_and_open_to_nobody(people: People) -> None:
    database = people.database
    database.execute("CREATE TABLE dwh.new_table (email text)")
    database.execute("CREATE VIEW kpi.new_view AS SELECT 1 AS one")
    database.execute("CREATE FUNCTION etl.new_routine() RETURNS int LANGUAGE sql RETURN 1")
    database.execute("CREATE SCHEMA new_schema")
    database.execute("CALL etl.apply_permissions()")
    found = database.rows(
        "SELECT object_name FROM etl.permission_gap WHERE schema_name <> 'proof' ORDER BY 1"
    )
    assert [row["object_name"] for row in found] == [
        "new_routine",
        "new_schema",
        "new_table",
        "new_view",
    ]
    for level in set(LEVELS) - {"etl"}:
        people.add(level, level)
        for statement in (
            "SELECT FROM dwh.new_table",
            "SELECT FROM kpi.new_view",
            "SELECT etl.new_routine()",
            "CREATE TABLE new_schema.mine ()",
        ):
            assert people.try_as(level, statement) == DENIED, (level, statement)


@pytest.mark.parametrize("connection", [one for one in LEVELS if one != "etl"], indirect=True)
def test_a_level_may_do_what_is_declared_and_nothing_else(
    database: Database, connection: Connection, request: pytest.FixtureRequest
) -> None:
    level = request.node.callspec.params["connection"]
    wanted = declared(database, level)
    schemas = usable_schemas(database, level)
    surprises = []

    def expect(what: str, statement: str, allowed: bool) -> None:
        state = attempt(connection, statement)
        if (state != DENIED) is not allowed:
            surprises.append(f"{what}: {'denied' if allowed else 'allowed'} ({state})")

    for row in database.rows(RELATIONS):
        oid, relation = int(row["oid"]), name(row)
        inside = row["nspname"] in schemas
        if row["relkind"] == "S":
            expect(relation, f"SELECT nextval('{relation}')", False)
            continue
        for number, column in zip(row["numbers"], row["columns"], strict=True):
            allowed = (oid, 0, "SELECT") in wanted or (oid, number, "SELECT") in wanted
            quoted = sql.Identifier(column).as_string()
            expect(
                f"SELECT {relation}.{column}",
                f"SELECT {quoted} FROM {relation} LIMIT 0",
                inside and allowed,
            )
        first = sql.Identifier(row["columns"][0]).as_string()
        # A view that cannot be written at all is refused with another error, where it is allowed.
        if row["relkind"] == "r":
            for privilege, statement in (
                ("INSERT", f"INSERT INTO {relation} DEFAULT VALUES"),
                ("UPDATE", f"UPDATE {relation} SET {first} = DEFAULT WHERE false"),
                ("DELETE", f"DELETE FROM {relation} WHERE false"),
                ("TRUNCATE", f"TRUNCATE {relation} CASCADE"),
            ):
                allowed = inside and (oid, 0, privilege) in wanted
                expect(f"{privilege} {relation}", statement, allowed)
            expect(f"DROP {relation}", f"DROP TABLE {relation}", False)
            expect(f"ALTER {relation}", f"ALTER TABLE {relation} ADD mine int", False)

    for row in database.rows(ROUTINES):
        oid = int(row["oid"])
        allowed = row["nspname"] in schemas and (oid, 0, "EXECUTE") in wanted
        routine = sql.Identifier(row["nspname"], row["proname"]).as_string()
        if row["prokind"] == "p":
            held = database.value(
                "SELECT has_function_privilege(%s, %s::oid, 'EXECUTE')", connection.info.user, oid
            )
            if held is not ((oid, 0, "EXECUTE") in wanted):
                surprises.append(f"CALL {routine}: {held}")
        else:
            expect(
                f"EXECUTE {routine}",
                f"EXPLAIN SELECT * FROM {routine}({row['arguments'] or ''})",
                allowed,
            )

    for row in database.rows("SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_'"):
        schema = sql.Identifier(row["nspname"]).as_string()
        expect(f"CREATE in {schema}", f"CREATE TABLE {schema}.mine ()", False)
    assert surprises == []


@pytest.mark.parametrize("connection", LEVELS, indirect=True)
def test_what_a_level_may_read_it_can_read(connection: Connection) -> None:
    """Rows and all: what a view calls is asked for its permission as it is executed."""
    assert len(read_all(connection)) > 8


def test_the_etl_role_owns_the_warehouse_and_nothing_of_the_operational_system(
    database: Database,
) -> None:
    owners = database.rows(
        "SELECT DISTINCT s.schema_name, pg_get_userbyid(o.owner_id) AS owner, s.owner_level"
        " FROM etl.access_object AS o JOIN etl.access_schema AS s USING (schema_name)"
    )
    for row in owners:
        expected = "oceanrecords_etl" if row["owner_level"] == "etl" else database.server.user
        assert row["owner"] == expected, row
    assert {row["schema_name"] for row in owners} >= {"dwh", "stage", "etl", "kpi", "audit"}


def test_no_routine_is_for_everybody(database: Database) -> None:
    database.execute("CREATE FUNCTION public.to_come() RETURNS int LANGUAGE sql RETURN 1")
    open_to_all = """
        SELECT p.oid::regprocedure::text AS routine
        FROM pg_proc AS p
        CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS g
        WHERE g.grantee = 0
            AND p.pronamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
            AND NOT EXISTS (
                SELECT FROM pg_depend AS d
                WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
            )
    """
    assert database.rows(open_to_all) == []


def test_applying_again_changes_nothing(database: Database) -> None:
    before = database.value("SELECT count(*) FROM audit.act")
    database.execute("CALL etl.apply_permissions()")
    assert database.value("SELECT count(*) FROM audit.act") == before


def test_what_is_not_declared_is_revoked(database: Database) -> None:
    database.execute("GRANT SELECT (email) ON dwh.dim_customer TO oceanrecords_business")
    database.execute("GRANT ALL ON dwh.fact_order TO oceanrecords_auditor, PUBLIC")
    database.execute("GRANT EXECUTE ON PROCEDURE etl.build() TO PUBLIC")
    database.execute("CALL etl.apply_permissions()")
    assert (
        database.rows(
            "SELECT * FROM etl._present_privileges() EXCEPT SELECT * FROM etl._wanted_privileges()"
        )
        == []
    )


def test_definers_are_the_declared_ones_and_look_at_no_path_of_the_caller(
    database: Database,
) -> None:
    found = database.rows(
        """
        SELECT n.nspname || '.' || p.proname AS routine, p.proconfig
        FROM pg_proc AS p
        JOIN pg_namespace AS n ON n.oid = p.pronamespace
        WHERE p.prosecdef AND n.nspname NOT IN ('pg_catalog', 'cron')
        """
    )
    assert {row["routine"] for row in found} == {
        "etl._reconcile",
        "etl.forget",
        "etl.object_sql",
        "etl.repair",
        "etl.retry_quarantine",
        "etl.retry_queue",
        "etl.trace",
        "etl.trace_run",
        "kpi.customer_count_of",
        "kpi.month_of",
        "kpi.overview_of",
        "kpi.quarter_of",
        "oceanrecords._leave_tombstone",
        "oceanrecords._log_price",
    }
    for row in found:
        assert "search_path=pg_catalog, pg_temp" in row["proconfig"], row


def test_a_definer_without_a_fixed_path_is_refused(database: Database) -> None:
    database.execute("INSERT INTO etl.definer_routine VALUES ('etl', 'run', 'wanted')")
    with pytest.raises(psycopg.Error) as caught:
        database.execute("CALL etl.apply_permissions()")
    assert caught.value.sqlstate == "ET031"
