"""Limits of the levels: one login cannot use up what the loads need."""

from __future__ import annotations

import contextlib

import psycopg
import pytest

from base.connection import Target
from base.errors import UserError
from driver.migrate import Migrator
from tests.security.conftest import DENIED, LEVELS, People
from tests.warehouse.play import Play


def limits(people: People, name: str) -> dict[str, str | None]:
    rows = people.database.rows(
        "SELECT name, present FROM etl.access_limit WHERE login = %s", people.logins[name]
    )
    return {row["name"]: row["present"] for row in rows}


def test_each_level_has_its_limits(people: People) -> None:
    for level in LEVELS:
        people.add(level, level)
    assert (
        people.database.rows("SELECT FROM etl.access_limit WHERE wanted IS DISTINCT FROM present")
        == []
    )
    assert people.database.rows("SELECT * FROM etl.access_flaw WHERE problem LIKE 'limits%%'") == []
    with people.connect("business") as connection:
        assert connection.execute("SHOW statement_timeout").fetchone() == ("2min",)
        assert connection.execute("SHOW temp_file_limit").fetchone() == ("4GB",)
        with pytest.raises(psycopg.Error) as caught:
            connection.execute("SET temp_file_limit = -1")
        assert caught.value.sqlstate == DENIED
    with people.connect("etl") as connection:
        assert connection.execute("SHOW statement_timeout").fetchone() == ("0",)


def test_one_login_leaves_connections_for_the_loads(people: People) -> None:
    people.add("bob", "business")
    people.add("loader", "etl")
    with contextlib.ExitStack() as stack:
        for _ in range(15):
            stack.enter_context(people.connect("bob"))
        with pytest.raises(psycopg.OperationalError, match="too many connections for role"):
            people.connect("bob")
        people.connect("loader").close()


def test_limits_follow_levels_and_can_be_changed(people: People) -> None:
    login = people.add("ana", "analyst")
    assert limits(people, "ana")["connections"] == "10"
    database = people.database
    database.execute("CALL etl.grant_level(%s, 'business')", login)
    assert limits(people, "ana")["connections"] == "15"
    assert limits(people, "ana")["statement_timeout"] == "600000ms"
    database.execute("CALL etl.revoke_level(%s, 'analyst')", login)
    assert limits(people, "ana")["statement_timeout"] == "120000ms"
    database.execute("UPDATE etl.access_level SET connection_limit = 3 WHERE level = 'business'")
    assert database.value("SELECT problem FROM etl.access_flaw WHERE object = %s", login) == (
        f'limits of the user "{login}" are not as its levels say: connections 15, not 3'
    )
    database.execute("CALL etl.apply_permissions()")
    assert limits(people, "ana")["connections"] == "3"


@pytest.mark.parametrize("level", LEVELS)
def test_no_level_makes_large_objects(people: People, level: str) -> None:
    people.add(level, level)
    for call in (
        "lo_create(0)",
        "lo_creat(-1)",
        "lo_from_bytea(0, 'x')",
        "lo_import('/etc/passwd')",
    ):
        assert people.try_as(level, f"SELECT {call}") == DENIED, call


def test_an_idle_analyst_who_keeps_a_migration_waiting_is_named(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    people.add("ana", "analyst", countries=("*",))
    monkeypatch.setattr("driver.migrate.LOCK_TIMEOUT", "300ms")
    migrator = Migrator(Target(people.database.dsn, "tests"))
    with people.connect("ana") as connection, connection.transaction():
        # It does not hide under the name of a migration.
        connection.execute("SET application_name = 'oceanrecords migrate'")
        connection.execute("SELECT count(*) FROM analysis.dim_customer")
        with pytest.raises(UserError, match="waited 300ms for a lock") as caught:
            migrator.apply()
        assert f"process id {connection.info.backend_pid} " in str(caught.value.detail)
        assert people.logins["ana"] in str(caught.value.detail)
    migrator.apply()


def test_an_idle_analyst_delays_neither_loads_nor_forgetting(people: People, play: Play) -> None:
    """What the analyst has read stays readable, so only a change of the views has to wait."""
    people.add("ana", "analyst", countries=("*",))
    marie = play.shop.customer("Marie")
    play.run()
    with people.connect("ana") as ana, ana.transaction():
        ana.execute("SELECT count(*) FROM analysis.dim_customer")
        ana.execute("SELECT count(*) FROM analysis.fact_order_line")
        play.shop.customer("Otto")
        play.loader.execute("SET lock_timeout = '2s'")
        play.run()
        play.run(full_refresh=["all"])
        play.loader.execute("SELECT * FROM etl.forget('customer', %s)", [str(marie)])
        ana.execute("SELECT count(*) FROM analysis.dim_customer")
    name = "SELECT DISTINCT first_name FROM dwh.dim_customer WHERE customer_id = %s"
    assert play.rows(name, marie) == [("Forgotten",)]
