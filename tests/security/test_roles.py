"""The group roles: made once for all databases of a server, by whom may; taken away by the last one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from base.connection import Target
from base.errors import UserError
from driver.migrate import Migrator
from tests.support.database import Database, temporary_database
from tests.support.servers import RunningServer

GROUPS = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'oceanrecords\\_%' AND NOT rolcanlogin"


def migrator(database: Database, user: str | None = None) -> Migrator:
    dsn = psycopg.conninfo.make_conninfo(database.dsn, **({"user": user} if user else {}))
    return Migrator(Target(dsn, "tests"), engine_only=True)


def test_two_databases_are_migrated_at_once_and_the_last_takes_the_roles_along(
    own_server: Callable[..., RunningServer],
) -> None:
    server = own_server()
    with temporary_database(server, None) as one, temporary_database(server, None) as two:
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(migrator(each).apply) for each in (one, two)]:
                assert "engine/0005.security" in done.result()
        assert one.value(GROUPS) == 7

        assert migrator(one).roll_back(until="engine/0004") == [
            "engine/0013.reconciliation",
            "engine/0012.retired",
            "engine/0011.noticed-changes",
            "engine/0010.wording",
            "engine/0009.row-filter",
            "engine/0008.placement",
            "engine/0007.quarantine",
            "engine/0006.terminal",
            "engine/0005.security",
        ]
        assert one.value("SELECT to_regnamespace('audit') IS NULL")
        # The engine alone grants nothing to the application, so nothing keeps its role.
        assert one.value(GROUPS) == 6, "the other database uses them"
        one.execute("CALL etl.run()")
        assert one.value("SELECT status FROM etl.run") == "succeeded", "it runs as before"
        migrator(one).apply()
        assert one.value("SELECT count(*) FROM etl.permission_gap") == 0

        for each in (one, two):
            migrator(each).roll_back(until="engine/0004")
        assert one.value(GROUPS) == 0


def test_what_would_be_lost_keeps_a_rollback_from_happening(empty_database: Database) -> None:
    database = empty_database
    migrator(database).apply()
    database.execute(
        "INSERT INTO etl.forgotten_subject (subject, subject_key) VALUES ('customer', '1')"
    )
    with pytest.raises(UserError, match="forgotten"):
        migrator(database).roll_back(until="engine/0004")
    assert database.value("SELECT count(*) FROM etl.forgotten_subject") == 1


def test_who_may_not_create_roles_is_told_in_a_sentence(
    own_server: Callable[..., RunningServer],
) -> None:
    server = own_server()
    with temporary_database(server, None) as database:
        database.execute("CREATE ROLE builder LOGIN")
        database.execute(f"GRANT ALL ON DATABASE {database.name} TO builder")
        with pytest.raises(UserError) as caught:
            migrator(database, "builder").apply()
        assert (
            'role "builder" may not create the group role "oceanrecords_analyst"'
            in caught.value.message
        )
        assert "CREATEROLE" in str(caught.value.hint)
        # The roles are there, but the builder does not belong to the one that is to own the warehouse.
        with temporary_database(server, None) as other:
            migrator(other).apply()
            with pytest.raises(UserError) as caught:
                migrator(database, "builder").apply()
            assert 'does not belong to the role "oceanrecords_owner"' in caught.value.message
            database.execute("GRANT oceanrecords_owner TO builder")
            migrator(database, "builder").apply()
            assert database.value("SELECT count(*) FROM etl.permission_gap") == 0


def test_a_group_role_with_power_is_refused(own_server: Callable[..., RunningServer]) -> None:
    server = own_server()
    with temporary_database(server, None) as database:
        database.execute("CREATE ROLE oceanrecords_steward LOGIN CREATEROLE")
        with pytest.raises(UserError, match="more than a group: a login, able to create roles"):
            migrator(database).apply()


def test_no_level_has_a_power_of_the_server(database: Database) -> None:
    rows = database.rows(
        "SELECT rolname FROM pg_roles JOIN etl.access_level ON role_name = rolname"
        " WHERE rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls OR rolcanlogin"
    )
    assert rows == []
    members: list[dict[str, Any]] = database.rows(
        "SELECT r.rolname AS member, g.rolname FROM pg_auth_members AS m JOIN pg_roles AS r ON r.oid = m.member"
        " JOIN pg_roles AS g ON g.oid = m.roleid JOIN etl.access_level AS l ON l.role_name = r.rolname"
    )
    assert members == [{"member": "oceanrecords_owner", "rolname": "pg_read_all_stats"}], (
        "a level belongs to nothing else"
    )


def test_a_level_whose_role_is_missing_is_named(database: Database) -> None:
    database.execute(
        "UPDATE etl.access_level SET role_name = 'no_such_role' WHERE level = 'auditor'"
    )
    with pytest.raises(psycopg.Error, match='role "no_such_role" does not exist') as caught:
        database.execute("CALL etl.apply_permissions()")
    assert caught.value.sqlstate == "ET030"


def test_who_owns_the_warehouse_does_not_manage_its_users(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("SET ROLE oceanrecords_owner")
        with pytest.raises(psycopg.Error, match="may not manage users") as caught:
            connection.execute("CALL etl.add_user('friend', '{steward}')")
        assert caught.value.sqlstate == "ET032"
