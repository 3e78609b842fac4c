"""Attacks of every kind, each tried by logins of every level against a server that invites them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import psycopg
import pytest

from tests.conftest import Finished
from tests.security.conftest import DENIED, LEVELS, People, attempt
from tests.support.database import Database

# What must fail for every level, by kind. {login} is the attacker, {other} another login.
REFUSED = {
    "role": (
        "SET ROLE oceanrecords_owner",
        "SET ROLE postgres",
        "SET LOCAL ROLE {other}",
        "SELECT set_config('role', 'oceanrecords_owner', false)",
        "SET SESSION AUTHORIZATION postgres",
        "GRANT oceanrecords_steward TO {login}",
        "GRANT {other} TO {login}",
        "REVOKE oceanrecords_analyst FROM {other}",
        "ALTER ROLE {login} CONNECTION LIMIT -1",
        "ALTER ROLE {login} SET temp_file_limit = -1",
        "ALTER ROLE {other} SET search_path = public",
        "ALTER ROLE oceanrecords_owner SET search_path = public",
        "ALTER DATABASE {database} SET search_path = public",
        "ALTER SYSTEM SET log_statement = 'none'",
        "ALTER ROLE {login} SET session_preload_libraries = 'auto_explain'",
        "ALTER ROLE {login} VALID UNTIL 'infinity'",
        "COMMENT ON ROLE {other} IS 'mine'",
        "REASSIGN OWNED BY oceanrecords_owner TO {login}",
        "SET ROLE pg_read_all_stats",
        "SET session_replication_role = replica",
        "SET log_statement = 'none'",
    ),
    "default privileges": (
        "ALTER DEFAULT PRIVILEGES FOR ROLE oceanrecords_owner GRANT SELECT ON TABLES TO PUBLIC",
        "ALTER DEFAULT PRIVILEGES FOR ROLE postgres GRANT SELECT ON TABLES TO PUBLIC",
    ),
    "code": (
        "CREATE EVENT TRIGGER own ON ddl_command_end EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger()",
        "CREATE CAST (text AS boolean) WITH INOUT AS IMPLICIT",
        "CREATE LANGUAGE plpython3u",
        "DO LANGUAGE plperlu 'system(1)'",
        "CREATE FUNCTION pg_catalog.own() RETURNS int LANGUAGE sql RETURN 1",
        "CREATE OPERATOR pg_catalog.=== (LEFTARG = text, RIGHTARG = text, PROCEDURE = texteq)",
        "CREATE OR REPLACE FUNCTION audit.note(p_act text, p_target text, p_details jsonb)"
        " RETURNS void LANGUAGE sql AS ''",
        "CREATE OR REPLACE PROCEDURE etl.run(text[], text[], text) LANGUAGE sql AS ''",
        "ALTER FUNCTION etl.forget(text, text) OWNER TO {login}",
        "ALTER FUNCTION etl.get_setting(text) SECURITY DEFINER",
        "ALTER FUNCTION etl.forget(text, text) SET search_path = public",
        "LOAD 'auto_explain'",
        "SET dynamic_library_path = '/tmp'",
        "SET allow_system_table_mods = on",
        "CREATE DOMAIN public.own AS int CHECK (VALUE > 0)",
        "CREATE AGGREGATE public.own(int) (sfunc = int4pl, stype = int)",
        'CREATE COLLATION public.own FROM "C"',
        "CREATE CONVERSION public.own FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8",
        "CREATE TEXT SEARCH DICTIONARY public.own (TEMPLATE = simple)",
        "CREATE ACCESS METHOD own TYPE INDEX HANDLER bthandler",
        "CREATE FUNCTION pg_temp.own() RETURNS int LANGUAGE sql RETURN 1",
        "ALTER EXTENSION btree_gist UPDATE",
        "SELECT pg_import_system_collations('public')",
    ),
    "views": (
        "CREATE OR REPLACE VIEW etl.user_status AS SELECT 1 AS login",
        "CREATE OR REPLACE VIEW analysis.dim_customer AS SELECT * FROM dwh.dim_customer",
        "ALTER VIEW analysis.dim_customer SET (security_barrier = false)",
        "ALTER VIEW analysis.dim_customer SET (security_invoker = true)",
        "ALTER VIEW analysis.dim_customer OWNER TO {login}",
        "CREATE RULE own AS ON INSERT TO kpi.month DO INSTEAD NOTHING",
        "COMMENT ON VIEW kpi.month IS 'mine'",
    ),
    "rows": (
        "ALTER TABLE dwh.fact_order DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE dwh.fact_order NO FORCE ROW LEVEL SECURITY",
        "CREATE POLICY own ON dwh.dim_customer USING (true)",
        "CREATE STATISTICS public.own ON email, phone FROM dwh.dim_customer",
        "ANALYZE VERBOSE pg_catalog.pg_authid; SELECT * FROM pg_authid",
        "CREATE INDEX ON dwh.dim_customer (email)",
        "REINDEX TABLE dwh.dim_customer",
        "CLUSTER dwh.dim_customer",
        "SELECT setval('etl.run_run_id_seq', 1)",
    ),
    "catalog": (
        "SELECT * FROM pg_shadow",
        "SELECT * FROM pg_statistic",
        "SELECT * FROM pg_statistic_ext_data",
        "SELECT * FROM pg_user_mapping",
        "SELECT * FROM pg_largeobject",
        "SELECT * FROM pg_hba_file_rules",
        "SELECT * FROM pg_file_settings",
        "UPDATE pg_authid SET rolsuper = true",
        "DELETE FROM pg_auth_members",
        "SHOW data_directory",
    ),
    "files": (
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "COPY etl.setting FROM PROGRAM 'true'",
        "COPY (SELECT 1) TO '/tmp/own'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_read_binary_file('PG_VERSION')",
        "SELECT pg_ls_dir('.')",
        "SELECT pg_stat_file('PG_VERSION')",
        "SELECT pg_ls_logdir()",
        "SELECT pg_current_logfile()",
        "SELECT lo_import('/etc/passwd')",
        "SELECT lo_create(0)",
        "SELECT lo_from_bytea(0, 'x')",
    ),
    "outside": (
        "CREATE EXTENSION dblink",
        "CREATE EXTENSION citext",
        "CREATE EXTENSION postgres_fdw",
        "CREATE SERVER own FOREIGN DATA WRAPPER postgres_fdw",
        "CREATE PUBLICATION own FOR ALL TABLES",
        "CREATE SUBSCRIPTION own CONNECTION 'dbname=postgres' PUBLICATION x WITH (connect = false)",
        "SELECT pg_create_logical_replication_slot('own', 'test_decoding')",
        "SELECT pg_replication_origin_create('own')",
        "SELECT pg_export_snapshot(), pg_read_file('PG_VERSION')",
    ),
    "server": (
        "SELECT pg_reload_conf()",
        "SELECT pg_rotate_logfile()",
        "SELECT pg_switch_wal()",
        "SELECT pg_create_restore_point('own')",
        "SELECT pg_ls_tmpdir()",
        "SELECT * FROM pg_shmem_allocations",
        "SELECT pg_stat_reset_single_table_counters('dwh.dim_customer'::regclass)",
        "SELECT pg_stat_reset()",
        "SELECT pg_terminate_backend({pid})",
        "SELECT pg_cancel_backend({pid})",
        "SELECT pg_log_backend_memory_contexts({pid})",
        "CHECKPOINT",
        "CREATE DATABASE own",
        "DROP DATABASE {database}",
        "CREATE TABLESPACE own LOCATION '/tmp'",
    ),
    "locks": (
        "LOCK TABLE dwh.fact_order IN ROW EXCLUSIVE MODE",
        "LOCK TABLE analysis.fact_order IN ACCESS EXCLUSIVE MODE",
        "LOCK TABLE kpi.month IN EXCLUSIVE MODE",
        "LOCK TABLE etl.run IN SHARE MODE",
        "SELECT FROM etl.run_control FOR UPDATE",
        "SELECT FROM etl.run FOR SHARE",
    ),
    "pseudonyms": (
        "SELECT secret FROM etl.pseudonym_secret",
        "CALL etl.rotate_pseudonyms()",
        "CALL etl.publish()",
        "SELECT query_to_xml('SELECT * FROM etl.pseudonym_secret', true, true, '')",
        "SELECT * FROM ts_stat('SELECT to_tsvector(secret) FROM etl.pseudonym_secret')",
        "SELECT ts_rewrite('a'::tsquery, 'SELECT secret::tsquery, secret::tsquery FROM etl.pseudonym_secret')",
        "EXPLAIN SELECT FROM etl.pseudonym_secret WHERE secret > 'm'",
    ),
    "audit": (
        "SELECT audit.note('forged', 'x')",
        "INSERT INTO audit.act (act, target) VALUES ('forged', 'x')",
        "ALTER TABLE audit.act DISABLE TRIGGER ALL",
        "DROP TABLE audit.act",
        "SELECT audit._analyze('dwh.dim_customer')",
        "SELECT audit.note('forged', 'x')",
        "LOCK TABLE audit.act IN SHARE ROW EXCLUSIVE MODE",
    ),
}
# Refused, but not for want of a privilege: there is no such object, or the command does not fit.
OTHERWISE = ("42704", "42883", "0A000", "58P01", "42809", "25001", "3F000", "55000")


@pytest.mark.parametrize("level", LEVELS)
def test_what_no_level_may(people: People, level: str) -> None:
    database = people.database
    login = people.add(level, level, countries=("FR",))
    other = people.add("other", "analyst", countries=("*",))
    victim = people.connect("other")
    connection = people.connect(level)
    names = {"login": login, "other": other, "database": database.name}
    allowed = []
    for kind, statements in REFUSED.items():
        for statement in statements:
            text = statement.format(pid=victim.info.backend_pid, **names)
            code = attempt(connection, text)
            if code != DENIED and code not in OTHERWISE:
                allowed.append((kind, text, code))
    assert allowed == []
    assert victim.execute("SELECT count(*) FROM analysis.fact_order").fetchone() == (2,)


# PostgreSQL lets who inherits a role do these. They must not change what the others of the level have.
HARMLESS = (
    "DROP OWNED BY oceanrecords_{level}",
    "DROP OWNED BY oceanrecords_{level} CASCADE",
    "REASSIGN OWNED BY oceanrecords_{level} TO {login}",
    "ALTER DEFAULT PRIVILEGES FOR ROLE oceanrecords_{level} REVOKE ALL ON TABLES FROM oceanrecords_{level}",
    "REVOKE SELECT ON ALL TABLES IN SCHEMA kpi, etl, analysis, dwh FROM oceanrecords_{level}",
    "GRANT SELECT ON ALL TABLES IN SCHEMA kpi, analysis, dwh, stage TO {other}",
    "ALTER ROLE {login} SET statement_timeout = 0",
)


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_is_not_damaged_by_one_of_its_members(people: People, level: str) -> None:
    database = people.database
    privileges = "SELECT p::text FROM etl._present_privileges() AS p ORDER BY 1"
    login, other = people.add(level, level), people.add("other", "business")
    before = database.rows(privileges)
    with people.connect(level) as connection:
        for statement in HARMLESS:
            with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.format(level=level, login=login, other=other).encode())
    assert database.rows(privileges) == before
    assert database.rows("SELECT * FROM etl.direct_grant") == []


# -- code of the caller in routines that have the rights of their owner ---------------------------


def plant(connection: psycopg.Connection[object], schema: str) -> None:
    """Put functions, operators, a table and a type where a careless search path would find them."""
    shadow = "RAISE NOTICE 'planted as %', current_user; RETURN"
    for function in (
        f"format(text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN {shadow} 'x'; END $$",
        f"now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN {shadow} NULL; END $$",
        f"clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN {shadow} NULL; END $$",
        f"pg_backend_pid() RETURNS int LANGUAGE plpgsql AS $$ BEGIN {shadow} 1; END $$",
        f"quote_ident(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN {shadow} 'x'; END $$",
        f"same(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN {shadow} true; END $$",
        f"same(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN {shadow} true; END $$",
        f"same(name, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN {shadow} true; END $$",
    ):
        connection.execute(f"CREATE FUNCTION {schema}.{function}".encode())
    for types in ("text, text", "bigint, bigint", "name, text"):
        left, right = types.split(", ")
        connection.execute(
            f"CREATE OPERATOR {schema}.= (LEFTARG = {left}, RIGHTARG = {right}, PROCEDURE = {schema}.same)".encode()
        )
    connection.execute(f"CREATE TYPE {schema}.jsonb AS ENUM ('x')".encode())


CALLS = """
    SELECT p.prokind::text AS kind, p.oid::regproc::text AS name, p.proargtypes::regtype[]::text[] AS types
    FROM pg_proc AS p
    JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname IN ('etl', 'kpi', 'audit', 'dwh', 'oceanrecords', 'analysis')
        AND has_function_privilege(%s, p.oid, 'EXECUTE') AND has_schema_privilege(%s, n.oid, 'USAGE')
        AND p.prorettype <> 'trigger'::regtype AND p.provariadic = 0
        -- A worker's own steps take rows of its run, and are tried by way of etl.run.
        AND NOT EXISTS (SELECT FROM unnest(p.proargtypes) AS t (id) JOIN pg_type AS y ON y.oid = t.id AND y.typtype = 'c')
    ORDER BY 2
"""
NASTY = "x'\"; DROP TABLE public.y; --"
ARGUMENTS = {
    "text": "%(nasty)s",
    "name": "%(nasty)s::name",
    "text[]": "ARRAY[%(nasty)s, '$1', '%%s', '%%I']",
    "jsonb": "jsonb_build_object(%(nasty)s, %(nasty)s)",
    "bigint": "1",
    "integer": "1",
    "boolean": "true",
    "bytea": "'\\x01'",
}


@pytest.mark.parametrize("level", ["etl", "steward", "business", "auditor"])
def test_routines_execute_neither_arguments_nor_objects_of_their_caller(
    people: People, level: str
) -> None:
    """In a database that was upgraded, where everybody makes objects in public and temporary ones."""
    database = people.database
    login = people.add(level, level)
    database.execute(
        f"GRANT TEMPORARY ON DATABASE {database.name} TO PUBLIC; GRANT CREATE ON SCHEMA public TO PUBLIC;"
        "CREATE TABLE public.y (a integer)"
    )
    calls = database.rows(CALLS, login, login)
    assert calls or level == "business"
    connection = people.connect(level)
    said: list[str] = []
    connection.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
    plant(connection, "public")
    plant(connection, "pg_temp")
    connection.execute("SET search_path = public, pg_temp, pg_catalog")
    codes: dict[str, str | None] = {}
    for call in calls:
        arguments = ", ".join(ARGUMENTS.get(one, f"NULL::{one}") for one in call["types"])
        verb = "CALL" if call["kind"] == "p" else "SELECT"
        try:
            connection.execute(f"{verb} {call['name']}({arguments})".encode(), {"nasty": NASTY})
        except psycopg.Error as error:
            codes[call["name"]] = error.sqlstate
    # An argument that became code would most likely be a syntax error, or name what there is not.
    broken = {name: code for name, code in codes.items() if code in ("42601", "42703", "42P01")}
    assert broken == {}
    assert database.value("SELECT to_regclass('public.y')") is not None
    assert {one for one in said if one.startswith("planted")} <= {f"planted as {login}"}


def test_the_program_executes_no_object_of_others(
    people: People, cli: Callable[..., Finished]
) -> None:
    """What lies in public, where everybody may create, is not what the administrator's commands call."""
    database = people.database
    login = people.add("loader", "etl")
    database.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
    with people.connect("loader") as connection:
        plant(connection, "public")
        connection.execute(
            "CREATE OR REPLACE FUNCTION public.same(name, text) RETURNS boolean LANGUAGE plpgsql AS"
            f" $$ BEGIN IF current_user = 'postgres' THEN ALTER ROLE {login} SUPERUSER; END IF; RETURN true; END $$"
        )
    for command in (
        ("users", "list"),
        ("users", "grants"),
        ("doctor",),
        ("status",),
        ("migrate",),
        ("run",),
    ):
        done = cli(*command)
        assert "planted" not in done.stdout + done.stderr, command
        assert not database.value("SELECT rolsuper FROM pg_roles WHERE rolname = %s", login)
    assert (
        database.rows(
            "SELECT FROM pg_depend WHERE refobjid = 'public.format(text,text)'::regprocedure AND deptype = 'n'"
        )
        == []
    )


def test_no_level_attaches_the_triggers_of_the_warehouse(people: People) -> None:
    """A trigger function that has its owner's rights would write what the attacker's table holds."""
    database = people.database
    database.execute(f"GRANT TEMPORARY ON DATABASE {database.name} TO PUBLIC")
    functions = database.rows(
        "SELECT p.oid::regprocedure::text AS name FROM pg_proc AS p WHERE p.prorettype = 'trigger'::regtype"
        " AND p.pronamespace::regnamespace::text IN ('etl', 'audit', 'oceanrecords')"
    )
    assert len(functions) > 5
    for level in LEVELS:
        people.add(level, level)
        connection = people.connect(level)
        connection.execute("CREATE TEMPORARY TABLE own (customer_id int)")
        for row in functions:
            statement = f"CREATE TRIGGER own AFTER DELETE ON own FOR EACH ROW EXECUTE FUNCTION {row['name']}"
            assert attempt(connection, statement) == DENIED, (level, row["name"])


# -- rights that outlive their end ----------------------------------------------------------------


def test_a_cursor_does_not_outlive_a_country(people: People) -> None:
    """A cursor, or a snapshot, keeps what the login saw when it was opened."""
    login = people.add("ana", "analyst", countries=("DE", "FR"))
    session = people.connect("ana")
    session.execute("DECLARE kept CURSOR WITH HOLD FOR SELECT * FROM analysis.fact_order")
    people.database.execute("CALL etl.set_user_rows(%s, '{DE,FR}')", login)
    session.execute("FETCH 1 FROM kept")
    people.database.execute("CALL etl.set_user_rows(%s, '{DE}')", login)
    with pytest.raises(psycopg.OperationalError):
        session.execute("FETCH ALL FROM kept")


def test_a_prepared_transaction_of_a_user_is_found(people: People) -> None:
    """It keeps its locks when the session, and even the login, has gone."""
    login = people.add("ana", "analyst", countries=("*",))
    with people.connect("ana") as session:
        session.execute("BEGIN; SELECT FROM analysis.fact_order; PREPARE TRANSACTION 'of ana'")
    flaws = people.database.rows(
        "SELECT problem, remedy FROM etl.access_flaw WHERE object = %s", login
    )
    assert [row["remedy"] for row in flaws] == ["ROLLBACK PREPARED 'of ana';"]


# -- power given past the catalog -----------------------------------------------------------------

PAST_THE_CATALOG = (
    "GRANT pg_read_all_data TO {login}",
    "GRANT pg_read_all_data TO oceanrecords_business",
    "GRANT oceanrecords_owner TO {login}",
    "GRANT oceanrecords_steward TO oceanrecords_business",
    "GRANT oceanrecords_analyst TO {login} WITH ADMIN OPTION",
    "GRANT {login} TO {stranger}",
    "ALTER DEFAULT PRIVILEGES FOR ROLE oceanrecords_owner GRANT SELECT ON TABLES TO {login}",
    "ALTER DEFAULT PRIVILEGES FOR ROLE oceanrecords_owner IN SCHEMA stage GRANT SELECT ON TABLES TO PUBLIC",
    "GRANT CREATE ON DATABASE {database} TO {login}",
    "GRANT TEMPORARY ON DATABASE {database} TO {login}",
    "GRANT SET ON PARAMETER session_replication_role TO {login}",
    "ALTER ROLE {login} BYPASSRLS",
    "ALTER ROLE {login} CREATEROLE",
    "ALTER ROLE {login} SUPERUSER",
)


@pytest.mark.parametrize("grant", PAST_THE_CATALOG)
def test_power_past_the_catalog_is_found_and_taken_back(people: People, grant: str) -> None:
    database = people.database
    login = people.add("ana", "analyst", countries=("DE",))
    stranger = people.add("stranger")
    names = {"login": login, "stranger": stranger, "database": database.name}
    database.execute(grant.format(**names))
    found = database.rows("SELECT grantee, statement FROM etl.direct_grant")
    assert found, grant
    flaws = database.rows("SELECT problem FROM etl.access_flaw")
    assert any("not declared" in row["problem"] for row in flaws), flaws
    database.execute("SELECT etl.revoke_direct_grants()")
    assert database.rows("SELECT grantee, statement FROM etl.direct_grant") == []
    assert database.rows("SELECT problem FROM etl.access_flaw") == []
    # What was given by the product is still there.
    assert people.try_as("ana", "SELECT FROM analysis.fact_order") is None


def test_a_hook_of_the_owner_s_has_no_more_rights_than_the_owner(database: Database) -> None:
    """The administrator names it; its text can be replaced by whoever has the owner's rights."""
    database.execute(
        "CREATE PROCEDURE stage.page(text, text, jsonb) LANGUAGE plpgsql AS"
        " $$ BEGIN CREATE TABLE stage.who AS SELECT current_user AS who; END $$"
    )
    database.execute("CALL etl.apply_permissions()")
    database.execute("UPDATE etl.setting SET value = 'stage.page' WHERE name = 'alert_hook'")
    with database.connect() as connection:
        connection.execute("SET ROLE oceanrecords_owner")
        connection.execute("SELECT etl._alert('stale', 'x', '{}')")
    assert database.value("SELECT who FROM stage.who") == "oceanrecords_owner"


@pytest.mark.parametrize("level", LEVELS)
def test_pg_cron_starts_nothing_for_a_level(people: People, level: str) -> None:
    """In the database where it lives, too."""
    login = people.add(level, level)
    dsn = psycopg.conninfo.make_conninfo(people.database.server.dsn(), user=login)
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute("SELECT FROM pg_extension WHERE extname = 'pg_cron'").fetchone()
        for statement in (
            "SELECT cron.schedule('own', '* * * * *', 'SELECT 1')",
            "SELECT cron.schedule_in_database('own', '* * * * *', 'SELECT 1', current_database(), 'postgres')",
            "INSERT INTO cron.job (schedule, command, nodename, nodeport, database, username)"
            " VALUES ('* * * * *', 'SELECT 1', '', 0, 'postgres', 'postgres')",
        ):
            # Another test may create the extension meanwhile.
            expected = (DENIED,) if row else (DENIED, "3F000", "42P01")
            assert attempt(connection, statement) in expected, statement
