"""Every level tries every object of the database; an object that nobody declared fails here."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from psycopg import sql

from base.connection import Target
from driver.migrate import Migrator
from tests.security.conftest import LEVELS, Connection, People, attempt, read_all
from tests.support.database import Database, temporary_database
from tests.support.servers import RunningServer

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
    SELECT p.oid, n.nspname, p.proname,
        -- Procedures, and what indexes and foreign tables call.
        p.prokind = 'p' OR EXISTS (
            SELECT FROM pg_depend AS d
            WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
        ) AS is_called_otherwise,
        (SELECT string_agg('NULL::' || format_type(t.id, NULL), ', ' ORDER BY t.number)
        FROM unnest(p.proargtypes) WITH ORDINALITY AS t (id, number)) AS arguments
    FROM pg_proc AS p
    JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'proof', 'cron')
        AND n.nspname NOT LIKE 'pg\\_%'
        AND p.prorettype <> 'trigger'::regtype
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
        "new_table.email",
        "new_view",
    ]
    for level in LEVELS:
        people.add(level, level)
        for statement in (
            "SELECT FROM dwh.new_table",
            "SELECT FROM kpi.new_view",
            "SELECT etl.new_routine()",
            "CREATE TABLE new_schema.mine ()",
        ):
            assert people.try_as(level, statement) == DENIED, (level, statement)


@pytest.mark.parametrize("connection", LEVELS, indirect=True)
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
        if row["is_called_otherwise"]:
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
    expect("CREATE SCHEMA", "CREATE SCHEMA mine", False)
    expect("CREATE TEMPORARY TABLE", "CREATE TEMPORARY TABLE mine ()", False)
    assert surprises == []


@pytest.mark.parametrize("connection", LEVELS, indirect=True)
def test_what_a_level_may_read_it_can_read(connection: Connection) -> None:
    """Rows and all: what a view calls is asked for its permission as it is executed."""
    assert len(read_all(connection)) > 8


def test_the_owner_owns_the_warehouse_and_nothing_of_the_operational_system(
    database: Database,
) -> None:
    owners = database.rows(
        "SELECT DISTINCT s.schema_name, pg_get_userbyid(o.owner_id) AS owner, s.owner_level"
        " FROM etl.access_object AS o JOIN etl.access_schema AS s USING (schema_name)"
    )
    for row in owners:
        expected = "oceanrecords_owner" if row["owner_level"] else database.server.user
        assert row["owner"] == expected, row
    assert {row["schema_name"] for row in owners} >= {"dwh", "stage", "etl", "kpi", "audit"}


def test_no_routine_of_the_warehouse_is_for_everybody(database: Database) -> None:
    open_to_all = """
        SELECT p.oid::regprocedure::text AS routine
        FROM pg_proc AS p
        CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS g
        WHERE g.grantee = 0
            AND p.pronamespace::regnamespace::text IN (SELECT schema_name FROM etl.access_schema)
    """
    assert database.rows(open_to_all) == []


def test_what_the_same_role_makes_for_another_application_stays_usable(people: People) -> None:
    people.database.execute(
        "CREATE SCHEMA shop; GRANT USAGE ON SCHEMA shop TO PUBLIC;"
        " CREATE FUNCTION shop.price() RETURNS int LANGUAGE sql RETURN 1;"
        " CREATE EXTENSION pg_trgm WITH SCHEMA shop"
    )
    people.database.execute("CALL etl.apply_permissions()")
    people.add("bob", "business")
    assert people.try_as("bob", "SELECT shop.price(), shop.similarity('a', 'b')") is None


def test_the_database_is_not_for_everybody(people: People) -> None:
    database = people.database
    database.execute("CREATE EXTENSION postgres_fdw WITH SCHEMA etl")
    database.execute("GRANT EXECUTE ON ALL ROUTINES IN SCHEMA public, etl TO PUBLIC")
    database.execute(f"GRANT ALL ON DATABASE {database.name} TO PUBLIC, oceanrecords_business")
    database.execute("CALL etl.apply_permissions()")
    rights = database.rows(
        """
        SELECT g.grantee::regrole::text AS role, array_agg(g.privilege_type ORDER BY g.privilege_type) AS rights
        FROM pg_database AS d
        CROSS JOIN LATERAL aclexplode(d.datacl) AS g
        WHERE d.datname = current_database() AND g.grantee <> d.datdba
        GROUP BY g.grantee
        """
    )
    assert {row["role"]: row["rights"] for row in rights} == {
        f"oceanrecords_{level}": ["CONNECT", "TEMPORARY"] if level == "owner" else ["CONNECT"]
        for level in (*LEVELS, "owner")
    }
    assert database.rows("SELECT * FROM etl.access_flaw") == []
    test_no_routine_of_the_warehouse_is_for_everybody(database)
    stranger = people.add("stranger", "analyst")
    people.connect("stranger").close()
    database.execute("CALL etl.revoke_level(%s, 'analyst')", stranger)
    with pytest.raises(psycopg.OperationalError, match="CONNECT"):
        people.connect("stranger")


def test_nobody_needs_a_permission_for_what_an_index_does(people: People) -> None:
    people.database.execute(
        "CREATE TABLE oceanrecords.booked ("
        " room integer, during tstzrange, EXCLUDE USING gist (room WITH =, during WITH &&));"
        "GRANT SELECT, INSERT ON oceanrecords.booked TO oceanrecords_application"
    )
    for level in ("application",):
        people.add(level, level)
        twice = "INSERT INTO oceanrecords.booked SELECT 1, '[now,)' FROM generate_series(1, {})"
        assert people.try_as(level, twice.format(1)) is None
        assert people.try_as(level, twice.format(2)) == "23P01"
        assert people.try_as(level, "SELECT FROM oceanrecords.booked WHERE room = 1") is None


def test_who_does_not_own_the_database_leaves_it_as_it_is(
    own_server: Callable[..., RunningServer],
) -> None:
    server = own_server()
    with temporary_database(server, None) as database:
        database.execute("CREATE ROLE builder LOGIN CREATEROLE")
        database.execute(f"GRANT CREATE ON DATABASE {database.name} TO builder")
        dsn = psycopg.conninfo.make_conninfo(database.dsn, user="builder")
        Migrator(Target(dsn, "tests")).apply()
        flaws = (
            "SELECT problem, remedy FROM etl.access_flaw WHERE problem NOT LIKE '%%does not see%%'"
            " ORDER BY problem"
        )
        everybody, routines = database.rows(flaws)
        assert everybody == {
            "problem": "everybody may connect to and make temporary tables in the database"
            f' "{database.name}"',
            "remedy": "Let postgres, or a superuser, execute: CALL etl.apply_permissions();",
        }
        assert "routines of the extension btree_gist" in routines["problem"]
        assert database.value("SELECT count(*) FROM etl.permission_gap") == 0

        # Who owns the database closes it; what came with an extension is the superuser's.
        database.execute(f"ALTER DATABASE {database.name} OWNER TO builder")
        Migrator(Target(dsn, "tests")).apply()
        assert database.rows(flaws) == [routines]
        database.execute("CALL etl.apply_permissions()")
        assert database.rows(flaws) == []


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
    declared = database.rows(
        "SELECT schema_name || '.' || routine_name AS r FROM etl.definer_routine"
    )
    assert {row["routine"] for row in found} == {row["r"] for row in declared}
    for row in found:
        assert "search_path=pg_catalog, pg_temp" in row["proconfig"], row


def test_a_definer_without_a_fixed_path_is_refused(database: Database) -> None:
    database.execute("INSERT INTO etl.definer_routine VALUES ('etl', 'run', 'wanted')")
    with pytest.raises(psycopg.Error) as caught:
        database.execute("CALL etl.apply_permissions()")
    assert caught.value.sqlstate == "ET031"
