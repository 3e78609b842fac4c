"""What the service of the loads tries in order to become more, and what the administrator does then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.security.conftest import DENIED, People, attempt
from tests.support.database import Database

Cli = Callable[..., Any]

# Statements with which code of the service would be executed by the administrator's next command.
PLANTED = {
    "function": "CREATE FUNCTION {schema}.own() RETURNS boolean LANGUAGE sql RETURN true",
    "table": "CREATE TABLE {schema}.own (x int DEFAULT 1)",
    "operator": "CREATE OPERATOR {schema}.= (LEFTARG = text, RIGHTARG = text, PROCEDURE = texteq)",
    "domain": "CREATE DOMAIN {schema}.own AS int CHECK (VALUE > 0)",
    "type": "CREATE TYPE {schema}.own AS ENUM ('a')",
    "view": "CREATE VIEW {schema}.own AS SELECT 1 AS one",
}
CHANGED = {
    "trigger": "CREATE TRIGGER own BEFORE INSERT ON {table} FOR EACH STATEMENT"
    " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "rule": "CREATE RULE own AS ON INSERT TO {table} DO ALSO SELECT 1",
    "default": "ALTER TABLE {table} ADD own int DEFAULT 1",
    "check": "ALTER TABLE {table} ADD CHECK (true)",
    "policy": "CREATE POLICY own ON {table} USING (true)",
    "owner": "ALTER TABLE {table} OWNER TO CURRENT_USER",
    "rename": "ALTER TABLE {table} RENAME TO own",
    "statistics": "CREATE STATISTICS public.own ON {columns} FROM {table}",
    "inheritance": "CREATE TABLE public.own () INHERITS ({table})",
}
TEXTS = {
    "check": "INSERT INTO etl.quality_check (check_name, severity, description, query)"
    " VALUES ('own', 'warn', 'own', 'SELECT 1')",
    "key query": "UPDATE etl.dependency SET key_query = 'SELECT 1'",
    "hook": "UPDATE etl.setting SET value = 'stage.own' WHERE name = 'alert_hook'",
    "transformation": "UPDATE etl.dimension SET transform_view = 'pg_class'",
    "roll-up": "UPDATE etl.aggregate SET finer_expressions = '{1}'",
    "subject": "UPDATE etl.personal_object SET key_query = 'SELECT 1'",
    "replacement": "UPDATE etl.personal_column SET replacement = 'x()'",
    "permission": "UPDATE etl.permission SET privileges = '{ALL}'",
    "definer": "INSERT INTO etl.definer_routine VALUES ('etl', 'run', 'own')",
    "published rows": "UPDATE etl.published_view SET rows_query = 'SELECT 1'",
    "sensitivity": "UPDATE etl.column_sensitivity SET sensitivity = 'public'",
    "country": "INSERT INTO etl.row_access (login, value) VALUES (CURRENT_USER, '*')",
}


def test_the_service_owns_and_changes_nothing(people: People) -> None:
    """No object, no piece of one and no text that another role executes."""
    people.add("loader", "etl")
    connection = people.connect("loader")
    allowed = []
    for row in people.database.rows("SELECT schema_name FROM etl.access_schema"):
        for kind, statement in PLANTED.items():
            if attempt(connection, statement.format(schema=row["schema_name"])) is None:
                allowed.append((kind, row["schema_name"]))
    tables = people.database.rows(
        """
        SELECT o.identity,
            (SELECT quote_ident(min(a.attname)) || ', ' || quote_ident(max(a.attname)) FROM pg_attribute AS a
            WHERE a.attrelid = o.object_id AND a.attnum > 0 AND NOT a.attisdropped) AS columns
        FROM etl.access_object AS o
        WHERE o.object_kind = 'relation' AND o.keyword = 'TABLE'
        """
    )
    assert len(tables) > 60
    for row in tables:
        for kind, statement in CHANGED.items():
            text = statement.format(table=row["identity"], columns=row["columns"])
            if attempt(connection, text) is None:
                allowed.append((kind, row["identity"]))
    for row in people.database.rows(
        "SELECT identity FROM etl.access_object WHERE object_kind = 'routine'"
    ):
        kind = "ROUTINE"
        if attempt(connection, f"ALTER {kind} {row['identity']} OWNER TO CURRENT_USER") is None:
            allowed.append((kind, row["identity"]))
    for kind, statement in TEXTS.items():
        if attempt(connection, statement) != DENIED:
            allowed.append(("text", kind))
    for statement in (
        "CREATE SCHEMA own",
        "CREATE TEMPORARY TABLE own ()",
        "CREATE EXTENSION postgres_fdw",
        "CREATE EVENT TRIGGER own ON ddl_command_end EXECUTE FUNCTION pg_catalog.own()",
        "CREATE SERVER own FOREIGN DATA WRAPPER postgres_fdw",
        "CREATE CAST (text AS int) WITH INOUT AS IMPLICIT",
        "SET ROLE oceanrecords_owner",
        "SET session_replication_role = replica",
    ):
        if attempt(connection, statement) is None:
            allowed.append(("statement", statement))
    assert allowed == []


WALLS = (
    "ALTER ROLE {login} SUPERUSER",
    "RESET ROLE; ALTER ROLE {login} SUPERUSER",
    "SET ROLE postgres; ALTER ROLE {login} SUPERUSER",
    "SET SESSION AUTHORIZATION DEFAULT; ALTER ROLE {login} SUPERUSER",
    "PERFORM set_config('role', 'postgres', false); ALTER ROLE {login} SUPERUSER",
    "SET LOCAL ROLE NONE; ALTER ROLE {login} SUPERUSER",
)


@pytest.mark.parametrize("wall", WALLS)
def test_text_of_the_catalog_never_has_the_rights_of_the_administrator(
    people: People, cli: Cli, wall: str
) -> None:
    """Even if code got into the catalog: a superuser's commands execute it as the owner."""
    database = people.database
    login = people.add("loader", "etl")
    attack = wall.format(login=login)
    tried = " ".join(
        f"BEGIN {part}; EXCEPTION WHEN OTHERS THEN INSERT INTO stage.tried VALUES (current_user); END;"
        for part in (attack,)
    )
    database.execute(
        "CREATE TABLE stage.tried (who text);"
        f"CREATE FUNCTION stage.own() RETURNS boolean LANGUAGE plpgsql AS $own$ BEGIN {tried} RETURN true; END $own$;"
        "CREATE FUNCTION stage.own_trigger() RETURNS trigger LANGUAGE plpgsql AS"
        " $own$ BEGIN PERFORM stage.own(); RETURN NULL; END $own$;"
        "CREATE TRIGGER own AFTER INSERT OR UPDATE ON dwh.dim_customer FOR EACH STATEMENT EXECUTE FUNCTION stage.own_trigger();"
        "CREATE TRIGGER own AFTER INSERT OR UPDATE ON etl.run FOR EACH STATEMENT EXECUTE FUNCTION stage.own_trigger();"
        "INSERT INTO etl.quality_check (check_name, severity, description, query)"
        " VALUES ('own', 'warn', 'own', 'SELECT 1 WHERE NOT stage.own()');"
        "UPDATE etl.personal_object SET key_query = 'SELECT $1::bigint WHERE stage.own()'"
        " WHERE object = 'customers';"
        "UPDATE oceanrecords.customers SET segment = 'business', first_name = 'New'"
    )
    database.execute("CALL etl.apply_permissions()")
    for command in (
        ("run",),
        ("check", "--all"),
        ("status",),
        ("reconcile",),
        ("forget", "customer", "1", "--yes"),
    ):
        cli(*command)
        assert not database.value("SELECT rolsuper FROM pg_roles WHERE rolname = %s", login), (
            command
        )
    who = {row["who"] for row in database.rows("SELECT who FROM stage.tried")}
    assert who == {"oceanrecords_owner"}, "it was executed, and had the owner's rights"


def test_every_step_that_a_procedure_calls_has_the_rights_of_the_owner(database: Database) -> None:
    """A procedure that commits cannot have them itself, so what it calls has."""
    called = database.rows(
        """
        SELECT DISTINCT f.proname
        FROM pg_proc AS p
        JOIN pg_proc AS f ON f.pronamespace = p.pronamespace AND f.prokind = 'f'
            AND p.prosrc ~ format('etl\\.%s\\s*\\(', f.proname)
        WHERE p.pronamespace = 'etl'::regnamespace AND p.prokind = 'p' AND p.prosrc ~ '\\mCOMMIT\\M'
            AND NOT f.prosecdef AND f.provolatile = 'v'
        """
    )
    assert called == []


def test_the_service_uses_the_command_line(
    people: People, oceanrecords: Cli, database: Database
) -> None:
    people.add("loader", "etl")
    dsn = psycopg.conninfo.make_conninfo(database.dsn, user=people.logins["loader"])
    for command in (
        ("run",),
        ("run", "--full-refresh", "dim_product"),
        ("status",),
        ("check", "--all"),
        ("queue",),
        ("sql", "dim_customer"),
    ):
        done = oceanrecords("--dsn", dsn, *command)
        assert done.returncode == 0, (command, done.stderr)
