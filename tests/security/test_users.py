"""Users: who may manage them, what is left of them, what is noted, what is not told."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from tests.security.conftest import People, attempt
from tests.support.database import Database
from tests.support.servers import RunningServer

PASSWORD = "correct horse battery staple"
NASTY = 'x"; drop table y; --'
Cli = Callable[..., Any]


@pytest.fixture
def logins(database: Database) -> Any:
    """Names that are not there yet, removed at the end."""
    made: list[str] = []

    def name(stem: str = "ana") -> str:
        made.append(f"{stem}_{uuid4().hex[:8]}")
        return made[-1]

    yield name
    database.close()
    for login in made:
        if database.value("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s)", login):
            for command in ("DROP OWNED BY {}", "DROP ROLE {}"):
                statement = sql.SQL(command).format(sql.Identifier(login)).as_string()
                database.execute(statement)


def state_of(statement: Callable[[], Any]) -> str | None:
    with pytest.raises(psycopg.Error) as caught:
        statement()
    return caught.value.sqlstate


def test_the_command_line_manages_users(cli: Cli, database: Database, logins: Any) -> None:
    login = logins()
    added = cli(
        "users", "add", login, "--level", "analyst", "--country", "de", "--json",
        env={"OCEANRECORDS_USER_PASSWORD": PASSWORD},
    )  # fmt: skip
    assert added.returncode == 0, added.stderr
    assert json.loads(added.stdout) | {"added_at": None} == {
        "login": login,
        "is_managed": True,
        "is_service": False,
        "can_log_in": True,
        "levels": ["analyst"],
        "row_values": ["DE"],
        "valid_until": None,
        "added_at": None,
        "added_by": "postgres",
    }
    stored = database.value("SELECT rolpassword FROM pg_authid WHERE rolname = %s", login)
    assert stored.startswith("SCRAM-SHA-256$")
    assert cli("users", "grant", login, "steward", "auditor").returncode == 0
    assert cli("users", "revoke", login, "steward").returncode == 0
    again = cli("users", "revoke", login, "steward")
    assert (again.returncode, f'user "{login}" does not have access level' in again.stderr) == (
        1,
        True,
    )
    assert cli("users", "rows", login, "--country", "AT", "--country=FR").returncode == 0
    listed = json.loads(cli("users", "list", "--json").stdout)
    (user,) = [one for one in listed if one["login"] == login]
    assert user["levels"] == ["analyst", "auditor"]
    assert user["row_values"] == ["AT", "FR"]
    assert json.loads(cli("users", "rows", login, "--none", "--json").stdout)["row_values"] == []
    assert cli("users", "remove", login).returncode == 0
    acts = database.rows("SELECT act FROM audit.act WHERE target = %s ORDER BY act_id", login)
    assert [row["act"] for row in acts] == [
        "user added",
        "level granted",
        "password set",
        "rows set",
        "level granted",
        "level granted",
        "level revoked",
        "rows set",
        "rows set",
        "user removed",
    ]


def test_nothing_is_left_of_a_user(people: People) -> None:
    login = people.add("ana", "analyst", "steward", countries=("DE",))
    database = people.database
    database.execute(f"GRANT SELECT (email) ON dwh.dim_customer TO {login}")
    database.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA dwh GRANT SELECT ON TABLES TO {login}")
    session = people.connect("ana")
    database.execute("CALL etl.remove_user(%s)", login)
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")
    assert database.value("SELECT count(*) FROM pg_roles WHERE rolname = %s", login) == 0
    for table in ("etl.user_account", "etl.row_access"):
        assert database.value(f"SELECT count(*) FROM {table} WHERE login = %s", login) == 0
    left = (
        "SELECT count(*) FROM pg_auth_members AS m WHERE NOT EXISTS"
        " (SELECT FROM pg_roles AS r WHERE r.oid = m.member)"
    )
    assert database.value(left) == 0
    acl = database.value(
        "SELECT coalesce(attacl::text, '') FROM pg_attribute WHERE attrelid = 'dwh.dim_customer'::regclass AND attname = 'email'"
    )
    assert login not in acl


def test_who_owns_something_is_not_removed_by_mistake(people: People) -> None:
    login = people.add("ana", "analyst")
    people.database.execute(f"CREATE SCHEMA of_ana AUTHORIZATION {login}")
    try:
        with pytest.raises(psycopg.Error) as caught:
            people.database.execute("CALL etl.remove_user(%s)", login)
        assert caught.value.sqlstate == "ET037"
        assert "of_ana" in str(caught.value.diag.message_detail)
    finally:
        people.database.execute("CALL etl.remove_user(%s, p_drop_owned => true)", login)
    assert people.database.value("SELECT to_regnamespace('of_ana') IS NULL")


def test_a_name_that_is_reused_inherits_no_country(people: People) -> None:
    login = people.add("ana", "analyst", countries=("*",))
    people.database.execute(f"DROP ROLE {login}")
    people.database.execute("CALL etl.add_user(%s, '{analyst}')", login)
    assert people.database.value("SELECT count(*) FROM etl.row_access WHERE login = %s", login) == 0


def test_membership_gives_nothing_to_give_on(people: People) -> None:
    login = people.add("ana", "analyst")
    database = people.database
    database.execute(f"GRANT oceanrecords_steward TO {login} WITH ADMIN OPTION")
    database.execute("CALL etl.grant_level(%s, 'steward')", login)
    rows = database.rows(
        "SELECT to_jsonb(m) AS m FROM pg_auth_members AS m JOIN pg_roles AS r ON r.oid = m.member WHERE r.rolname = %s",
        login,
    )
    assert len(rows) == 2
    for row in rows:
        assert row["m"]["admin_option"] is False
        assert row["m"].get("inherit_option", True) is True
        assert row["m"].get("set_option", False) is False


def test_nobody_raises_his_own_level(database: Database, people: People) -> None:
    for name in ("analyst", "auditor", "business", "steward"):
        login = people.add(name, name)
        connection = people.connect(name)
        for call in (
            f"CALL etl.grant_level('{login}', 'steward')",
            "CALL etl.add_user('friend', '{steward}')",
            f"CALL etl.set_user_rows('{login}', '{{*}}')",
            f"GRANT oceanrecords_steward TO {login}",
        ):
            assert attempt(connection, call) == "42501", call
    assert (
        state_of(
            lambda: database.execute(
                "CALL etl.add_user(session_user::text, '{steward}', p_is_existing => true)"
            )
        )
        == "ET033"
    )


def test_an_administrator_who_is_no_superuser(server: RunningServer, new_database: Any) -> None:
    """CREATEROLE, and the warehouse migrated by him: he manages users, but not himself."""
    database = new_database(migrated=False)
    admin = f"admin_{uuid4().hex[:8]}"
    other = f"ana_{uuid4().hex[:8]}"
    database.execute(f"CREATE ROLE {admin} LOGIN CREATEROLE")
    try:
        groups = database.value(
            "SELECT string_agg(rolname, ', ') FROM pg_roles WHERE rolname LIKE 'oceanrecords\\_%' AND NOT rolcanlogin"
        )
        if groups:
            database.execute(f"GRANT {groups} TO {admin} WITH ADMIN OPTION")
        database.execute(f"GRANT ALL ON DATABASE {database.name} TO {admin}")
        database.execute(f"GRANT pg_read_all_stats TO {admin}")
        from base.connection import Target
        from driver.migrate import Migrator

        dsn = psycopg.conninfo.make_conninfo(database.dsn, user=admin)
        Migrator(Target(dsn, "tests")).apply()
        assert database.value("SELECT count(*) FROM etl.permission_gap") == 0
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CALL etl.run()")
            assert connection.execute("SELECT status FROM etl.run").fetchall() == [("succeeded",)]
            connection.execute(f"CALL etl.add_user('{other}', '{{analyst}}')".encode())
            connection.execute(f"CALL etl.set_user_rows('{other}', '{{DE}}')".encode())
            assert attempt(connection, f"CALL etl.grant_level('{admin}', 'steward')") == "ET033"
            with psycopg.connect(dsn, user=other) as reader:
                assert reader.execute("SELECT count(*) FROM analysis.fact_order").fetchall() == [
                    (0,)
                ]
            connection.execute(f"CALL etl.remove_user('{other}')".encode())
        assert database.value("SELECT count(*) FROM pg_roles WHERE rolname = %s", other) == 0
    finally:
        for role in (other, admin):
            if database.value("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s)", role):
                database.execute(f"REASSIGN OWNED BY {role} TO postgres")
                database.execute(f"DROP OWNED BY {role}")
                database.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("CALL etl.add_user('', '{analyst}')", "ET034"),
        ("CALL etl.add_user('pg_me', '{analyst}')", "ET034"),
        ("CALL etl.add_user('oceanrecords_etl', '{analyst}')", "ET034"),
        ("CALL etl.add_user('postgres_', NULL, 'a plain password')", "ET034"),
        ("CALL etl.add_user(repeat('x', 64), '{analyst}')", "ET034"),
        ("CALL etl.add_user('nobody_yet', '{no_level}')", "ET035"),
        ("CALL etl.add_user('nobody_yet', '{etl}')", "ET036"),
        ("CALL etl.grant_level('nobody_yet', 'analyst')", "ET035"),
        ("CALL etl.remove_user('nobody_yet')", "ET035"),
        ("CALL etl.remove_user('oceanrecords_steward')", "ET034"),
    ],
)
def test_what_is_refused_leaves_nothing(database: Database, call: str, code: str) -> None:
    assert state_of(lambda: database.execute(call)) == code
    assert database.value("SELECT count(*) FROM etl.user_account") == 0
    assert (
        database.value("SELECT count(*) FROM pg_roles WHERE rolname IN ('nobody_yet', 'postgres_')")
        == 0
    )


def test_names_are_never_code(cli: Cli, database: Database) -> None:
    """As login, level, country, subject and key."""
    database.execute("CREATE TABLE public.y ()")
    password = {"OCEANRECORDS_USER_PASSWORD": PASSWORD}
    try:
        assert cli("users", "add", NASTY, "--level", "business", env=password).returncode == 0
        assert cli("users", "rows", NASTY, "--country", "DE").returncode == 0
        assert cli("users", "grant", NASTY, "analyst").returncode == 0
        for arguments in (
            ("users", "grant", NASTY, NASTY),
            ("users", "revoke", NASTY, NASTY),
            ("users", "rows", NASTY, "--country", NASTY),
            ("users", "rows", NASTY, f"--{NASTY}", "DE"),
            ("users", "add", NASTY, "--no-password"),
            ("forget", NASTY, "1"),
            ("forget", "customer", NASTY),
            ("trace", NASTY, "1"),
            ("trace", "customer", NASTY),
            ("queue", NASTY),
            ("sql", NASTY),
            ("run", "--only", NASTY),
            ("reconcile", NASTY),
        ):
            done = cli(*arguments)
            assert done.returncode in (1, 2), (arguments, done.stdout)
            assert "Traceback" not in done.stderr
            assert "syntax error" not in done.stderr, (arguments, done.stderr)
    finally:
        if database.value("SELECT EXISTS (SELECT FROM etl.user_account)"):
            assert cli("users", "remove", NASTY).returncode == 0
    assert database.value("SELECT to_regclass('public.y') IS NOT NULL")
    assert database.value("SELECT count(*) FROM pg_roles WHERE rolname = %s", NASTY) == 0


def test_catalog_rows_are_never_code(database: Database) -> None:
    database.execute("CREATE TABLE public.y ()")
    database.execute(
        "INSERT INTO etl.permission (level, object_kind, schema_name, object_name, privileges)"
        " VALUES ('analyst', 'relation', %s, %s, '{SELECT}')", NASTY, NASTY,
    )  # fmt: skip
    database.execute("CALL etl.apply_permissions()")
    schema = sql.Identifier(NASTY).as_string()
    database.execute(f"CREATE SCHEMA {schema}")
    database.execute(f"CREATE TABLE {schema}.{schema} ({schema} text)")
    # Of the owner: a level that owns a schema becomes a member of pg_read_all_stats, on the whole server.
    database.execute("INSERT INTO etl.access_schema VALUES (%s, 'owner')", NASTY)
    database.execute("CALL etl.apply_permissions()")
    readable = "SELECT has_table_privilege('oceanrecords_analyst', format('%%I.%%I', %s::text, %s::text), 'SELECT')"
    assert database.value(readable, NASTY, NASTY)
    assert database.value("SELECT to_regclass('public.y') IS NOT NULL")


def test_the_audit_trail_only_grows(database: Database) -> None:
    database.execute("SELECT audit.note('tried', 'x')")
    for role in (None, "oceanrecords_owner"):
        with database.connect() as connection:
            if role:
                connection.execute(f"SET ROLE {role}".encode())
            for statement in (
                "UPDATE audit.act SET act = 'x'",
                "DELETE FROM audit.act",
                "TRUNCATE audit.act",
            ):
                assert attempt(connection, statement) == ("42501" if role else "ET038")
    with database.connect() as connection:
        connection.execute("SET session_replication_role = replica")
        assert attempt(connection, "DELETE FROM audit.act") == "ET038"
        connection.execute(
            "INSERT INTO audit.act (act_id, acted_at, actor, act, target, hash)"
            " VALUES (999, '2001-01-01', 'somebody else', 'forged', '', '')"
        )
        connection.execute("SET ROLE oceanrecords_owner")
        assert (
            attempt(connection, "INSERT INTO audit.act (act, target) VALUES ('x', 'x')") == "42501"
        )
        for statement in (
            "CREATE OR REPLACE FUNCTION audit.note(p_act text, p_target text, p_details jsonb)"
            " RETURNS void LANGUAGE sql AS ''",
            "DROP TRIGGER sign ON audit.act",
            "SELECT setval('audit.act_act_id_seq', 99)",
        ):
            assert attempt(connection, statement) in ("42501", "42P01"), statement
    row = database.rows(
        "SELECT actor, acted_at > now() - interval '1 hour' AS is_now FROM audit.act WHERE act = 'forged'"
    )
    assert row == [{"actor": "postgres", "is_now": True}]


def test_no_password_and_no_personal_data_in_the_log(
    own_server: Callable[..., RunningServer], oceanrecords: Cli, tmp_path: Path
) -> None:
    """Everything is logged; and the login works, over a connection that asks for the password."""
    from tests.conftest import migrate_database

    loud = own_server(
        log_statement="all", log_min_messages="info", password_encryption="scram-sha-256"
    )
    migrate_database(**psycopg.conninfo.conninfo_to_dict(loud.dsn()))
    hba = loud.cluster.data / "pg_hba.conf"
    hba.write_text("host all ana 127.0.0.1/32 scram-sha-256\n" + hba.read_text())
    with psycopg.connect(loud.dsn(), autocommit=True) as connection:
        connection.execute("SELECT pg_reload_conf()")
    environment = {"OCEANRECORDS_DSN": loud.dsn()}
    added = oceanrecords(
        "users", "add", "ana", "--level", "business",
        env=environment | {"OCEANRECORDS_USER_PASSWORD": PASSWORD},
    )  # fmt: skip
    assert added.returncode == 0, added.stderr
    file = tmp_path / "secret"
    file.write_text("another secret word\n")
    changed = oceanrecords(
        "users", "password", "ana", "--password-file", str(file), env=environment
    )
    assert changed.returncode == 0, changed.stderr
    with psycopg.connect(
        host="127.0.0.1",
        port=loud.port,
        dbname="postgres",
        user="ana",
        password="another secret word",
    ) as reader:
        assert reader.execute("SELECT count(*) FROM kpi.overview").fetchone() == (4,)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(
            host="127.0.0.1", port=loud.port, dbname="postgres", user="ana", password=PASSWORD
        )
    simulated = oceanrecords("simulate", "seed", "--orders", "50", "--months", "2", env=environment)
    assert simulated.returncode == 0, simulated.stderr
    assert oceanrecords("run", env=environment).returncode == 0
    with psycopg.connect(loud.dsn(), autocommit=True) as connection:
        row = connection.execute(
            "SELECT email, last_name FROM dwh.dim_customer WHERE customer_id = 3"
        ).fetchone()
        assert row is not None
    forgotten = oceanrecords("forget", "customer", "3", env=environment)
    assert forgotten.returncode == 0, forgotten.stderr
    log = loud.log.read_text(encoding="utf-8")
    assert "etl.add_user" in log
    assert "etl.forget" in log
    for secret in (PASSWORD, "another secret word", row[0]):
        assert secret not in log
        assert secret not in added.stdout + added.stderr + changed.stdout + forgotten.stdout


def test_the_history_of_runs_quotes_no_row(play: Any) -> None:
    """A rule that a table of the mirror breaks with a customer's row."""
    play.loader.execute(
        "ALTER TABLE stage.customers ADD CONSTRAINT no_ada CHECK (first_name <> 'Zoe')"
    )
    play.shop.customer("Zoe")
    play.run(expect="partial")
    told = play.row(
        "SELECT sqlstate, message, detail FROM etl.task_run WHERE task = 'stage:customers' ORDER BY run_id DESC LIMIT 1"
    )
    assert told["sqlstate"] == "23514"
    assert "no_ada" in told["message"]
    everything = play.value("SELECT string_agg(t::text, ' ') FROM etl.task_run AS t")
    assert "Zoe" not in everything.replace("no_ada", "")
    assert "Withheld" in told["detail"]


# -- the chain of the audit trail -----------------------------------------------------------------


TAMPERING = {
    "changed": "UPDATE audit.act SET target = 'somebody else' WHERE act_id = 3",
    "moved": "UPDATE audit.act SET acted_at = acted_at - interval '1 day' WHERE act_id = 3",
    "removed": "DELETE FROM audit.act WHERE act_id = 3",
    "put in between": "UPDATE audit.act SET act_id = act_id + 1 WHERE act_id > 2; INSERT INTO audit.act"
    " SELECT 3, acted_at, actor, 'user removed', 'x', '{}', hash FROM audit.act WHERE act_id = 2",
    "another hash": "UPDATE audit.act SET hash = sha256('x') WHERE act_id = 3",
}


@pytest.mark.parametrize("how", TAMPERING)
def test_tampering_breaks_the_chain(cli: Cli, database: Database, how: str) -> None:
    for number in range(5):
        database.execute("SELECT audit.note('tried', %s, '{\"n\": 1}')", str(number))
    whole = cli("users", "audit", "--verify", "--json", env={"PGTZ": "Asia/Tokyo"})
    assert whole.returncode == 0
    assert json.loads(whole.stdout)["first_broken"] is None
    with database.connect() as connection:
        connection.execute("ALTER TABLE audit.act DISABLE TRIGGER ALL")
        connection.execute("ALTER TABLE audit.act DISABLE TRIGGER USER")
        with connection.transaction():
            connection.execute("ALTER TABLE audit.act DROP CONSTRAINT act_pkey")
            connection.execute(TAMPERING[how].encode())
    found = cli("users", "audit", "--verify", "--json", env={"PGTZ": "America/New_York"})
    assert found.returncode == 1
    assert json.loads(found.stdout)["first_broken"] == 3
    assert "broken at entry 3" in cli("users", "audit", "--verify").stdout


def test_numbers_of_acts_have_no_gaps_and_cannot_be_taken(database: Database) -> None:
    with database.connect() as connection:
        assert attempt(connection, "SELECT audit.note('undone', 'x')") is None
    database.execute("SELECT audit.note('done', 'x')")
    row = database.rows("SELECT count(*) AS acts, max(act_id) AS last FROM audit.act")
    assert row[0]["acts"] == row[0]["last"]
    assert (
        database.rows(
            "SELECT FROM pg_class WHERE relkind = 'S' AND relnamespace = 'audit'::regnamespace"
        )
        == []
    )


def test_a_steward_who_reads_a_customer_is_noted(people: People) -> None:
    login = people.add("sten", "steward")
    with people.connect("sten") as connection:
        connection.execute("SELECT * FROM etl.trace('customer', '{1}')")
    row = people.database.rows("SELECT actor, target FROM audit.act WHERE act = 'traced'")
    assert row == [{"actor": login, "target": "customer 1"}]


# -- sessions, passwords, names -------------------------------------------------------------------


@pytest.mark.parametrize("level", ["analyst", "business", "etl", "steward"])
def test_a_session_does_not_outlive_the_level(people: People, level: str) -> None:
    login = people.add("ana", level, countries=("*",))
    session = people.connect("ana")
    session.execute("SELECT 1")
    people.database.execute("CALL etl.revoke_level(%s, %s)", login, level)
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")


def test_a_session_that_does_not_end_is_named(people: People) -> None:
    login = people.add("ana", "analyst", "business")
    session = people.connect("ana")
    backend = session.info.backend_pid
    os.kill(backend, signal.SIGSTOP)
    try:
        with pytest.raises(psycopg.Error, match=f"session {backend}") as caught:
            people.database.execute("CALL etl.revoke_level(%s, 'business')", login)
        assert caught.value.sqlstate == "ET043"
    finally:
        os.kill(backend, signal.SIGCONT)


def test_a_password_is_held_to_the_rules_by_the_database(
    cli: Cli, database: Database, logins: Any
) -> None:
    login = logins()
    for password, why in (
        ("short", "shorter than 8"),
        (login, "guessed from the login"),
        (login[::-1], "guessed from the login"),
    ):
        refused = cli("users", "add", login, env={"OCEANRECORDS_USER_PASSWORD": password})
        assert refused.returncode == 1, password
        assert why in refused.stderr
        assert database.value("SELECT count(*) FROM pg_roles WHERE rolname = %s", login) == 0
    database.execute("UPDATE etl.setting SET value = '20' WHERE name = 'password_length'")
    refused = cli("users", "add", login, env={"OCEANRECORDS_USER_PASSWORD": "only nineteen chars"})
    assert "shorter than 20" in refused.stderr
    added = cli(
        "users",
        "add",
        login,
        "--valid-until",
        "2030-01-31",
        env={"OCEANRECORDS_USER_PASSWORD": PASSWORD},
    )
    assert added.returncode == 0, added.stderr
    assert database.value(
        "SELECT rolvaliduntil > '2030-01-30' FROM pg_roles WHERE rolname = %s", login
    )


@pytest.mark.parametrize(
    "name",
    [
        "ana\u200b",
        "\u200bana",
        "a\u00adna",
        " ana",
        "ana ",
        "ana\u00a0b",
        "\u0430na",
        "an\u0430",
        "\u0430n\u0430",
        "\u202eana",
        "\uff41na",
        "ana\ufeff",
        "\u03bflga",
        "\u0440\u0435t\u0435r",
        "\u0430\u0440\u0435",
    ],
)
def test_a_name_that_cannot_be_told_from_another_is_refused(database: Database, name: str) -> None:
    assert state_of(lambda: database.execute("CALL etl.add_user(%s, '{analyst}')", name)) == "ET034"


def test_a_name_in_another_alphabet_is_a_name(database: Database, logins: Any) -> None:
    for name in ("Ольга", logins("jürgen"), "李明"):
        database.execute("CALL etl.add_user(%s, '{analyst}')", name)
        database.execute("CALL etl.remove_user(%s)", name)


def test_a_later_namesake_inherits_no_country(people: People) -> None:
    login = people.add("ana", "analyst", countries=("*",))
    database = people.database
    database.execute(
        f"DROP ROLE {login}; CREATE ROLE {login} LOGIN; GRANT oceanrecords_analyst TO {login}"
    )
    with people.connect("ana") as connection:
        assert connection.execute("SELECT count(*) FROM analysis.fact_order").fetchone() == (0,)
    assert database.value("SELECT row_values FROM etl.user_status WHERE login = %s", login) == []
    database.execute("CALL etl.set_user_rows(%s, '{*}')", login)
    with people.connect("ana") as connection:
        assert connection.execute("SELECT count(*) > 0 FROM analysis.fact_order").fetchone() == (
            True,
        )


@pytest.mark.parametrize(
    "existing",
    [
        "CREATE ROLE {login} NOLOGIN",
        "CREATE ROLE {login} LOGIN; GRANT pg_read_all_data TO {login}",
        "CREATE ROLE {login} LOGIN; GRANT pg_execute_server_program TO {login}",
        "CREATE ROLE {login} LOGIN; GRANT oceanrecords_owner TO {login}",
        "CREATE ROLE {login} LOGIN CREATEROLE",
        "CREATE ROLE {login} LOGIN; GRANT postgres TO {login}",
    ],
)
def test_an_existing_login_with_power_is_not_taken(
    database: Database, logins: Any, existing: str
) -> None:
    login = logins()
    database.execute(existing.format(login=login))
    call = "CALL etl.add_user(%s, '{analyst}', p_is_existing => true)"
    assert state_of(lambda: database.execute(call, login)) == "ET034"
    assert not database.value("SELECT pg_has_role(%s, 'oceanrecords_analyst', 'MEMBER')", login)


def test_existing_makes_no_service_of_a_person(people: People) -> None:
    login = people.add("ana", "analyst", countries=("DE",))
    call = "CALL etl.add_user(%s, '{etl}', p_is_service => true, p_is_existing => true)"
    assert state_of(lambda: people.database.execute(call, login)) == "ET034"


# -- grants past the product ----------------------------------------------------------------------


def test_what_was_granted_past_the_product_is_found_and_taken_back(
    cli: Cli, people: People
) -> None:
    login = people.add("ana", "analyst")
    database = people.database
    database.execute(
        f"GRANT USAGE ON SCHEMA dwh, stage TO {login};"
        f"GRANT SELECT ON dwh.fact_order TO {login};"
        f"GRANT SELECT (email) ON stage.customers TO {login};"
        f"GRANT EXECUTE ON FUNCTION etl.forget(text, text) TO {login};"
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA dwh GRANT SELECT ON TABLES TO {login};"
        "GRANT SELECT ON dwh.dim_address TO PUBLIC"
    )
    told = cli("doctor").stdout
    assert login in told
    assert "PUBLIC has privileges that are not declared" in told
    assert database.rows("SELECT status FROM etl.run_checks('{permissions_as_declared}')") == [
        {"status": "failed"}
    ]
    listed = json.loads(cli("users", "grants", login, "--json").stdout)["grants"]
    assert len(listed) == 6
    assert cli("users", "grants", login, "--revoke").returncode == 0
    assert database.value("SELECT count(*) FROM etl.direct_grant WHERE grantee = %s", login) == 0
    assert people.try_as("ana", "SELECT FROM dwh.fact_order") == "42501"
    assert cli("users", "grants", "--revoke").returncode == 0
    assert database.rows("SELECT * FROM etl.direct_grant") == []
    assert login not in cli("doctor").stdout


@pytest.mark.parametrize(
    ("arguments", "status", "message", "hint"),
    [
        (("rows", "{}", "--branch", "north"), 1, 'rows cannot be chosen by "branch"', "country"),
        (("rows", "{}", "--country", "Atlantis"), 1, 'country "Atlantis" does not exist', "lists"),
        (("rows", "{}", "--country"), 2, "--country requires a value", ""),
        (("rows", "{}", "--country", "DE", "--branch", "x"), 2, "not by branch and country", ""),
        (("rows", "{}", "--country", "DE", "--none"), 2, "exclude each other", ""),
        (("add", "{}", "--servise", "DE"), 2, "--servise", "--service"),
        (("add", "{}", "--branch", "north"), 2, "No such option: --branch", "--country"),
    ],
)
def test_the_option_of_rows_has_the_name_of_the_row_filter(
    cli: Cli, people: People, arguments: tuple[str, ...], status: int, message: str, hint: str
) -> None:
    login = people.add("ana", "analyst", countries=("FR",))
    refused = cli("users", *(one.format(login) for one in arguments), env={"COLUMNS": "200"})
    assert refused.returncode == status, refused.stdout + refused.stderr
    assert message in refused.stderr
    assert hint in refused.stderr
    values = people.database.value("SELECT row_values FROM etl.user_status WHERE login = %s", login)
    assert values == ["FR"], "nothing changed"
