"""Migrations: in order, all or nothing, one at a time, with errors that point at the line."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from driver.connection import Target
from driver.errors import UserError
from driver.migrate import Migrator
from tests.conftest import Finished
from tests.support.database import Database

HOOK = """
from yoyo import step


def install(connection):
    connection.execute("CREATE TABLE IF NOT EXISTS hook_calls (n serial)")
    connection.execute("INSERT INTO hook_calls DEFAULT VALUES")


steps = [step(install)]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three migrations, the first of which cannot be undone, and a hook."""
    made = tmp_path / "steps"
    made.mkdir()
    (made / "0001.one.sql").write_text(
        "-- The first.\n-- It has: no way back.\nCREATE TABLE one (a int);\n"
    )
    (made / "0002.two.sql").write_text(
        "-- The second.\n\nCREATE TABLE two (a int);\nSELECT '100 %', $$a; b$$;\n"
    )
    (made / "0002.two.rollback.sql").write_text("DROP TABLE two;\n")
    (made / "0003.three.sql").write_text("CREATE TABLE three (a int);\n")
    (made / "0003.three.rollback.sql").write_text("DROP TABLE three;\n")
    (made / "post-apply.py").write_text(HOOK)
    return made


@pytest.fixture
def migrator(empty_database: Database, folder: Path) -> Migrator:
    return Migrator(Target(empty_database.dsn, "test"), folder)


def tables(database: Database) -> set[str]:
    found = database.rows(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
    )
    return {row["relname"] for row in found}


def test_all_are_applied_once_and_the_hook_runs_every_time(
    migrator: Migrator, empty_database: Database
) -> None:
    assert migrator.apply() == ["0001.one", "0002.two", "0003.three"]
    assert migrator.apply() == []
    assert tables(empty_database) == {"one", "two", "three", "hook_calls"}
    assert empty_database.value("SELECT count(*) FROM hook_calls") == 2


def test_states_tell_what_is_pending_and_write_nothing(
    migrator: Migrator, empty_database: Database
) -> None:
    states = migrator.states()
    assert [(one.name, one.applied_at, one.reversible) for one in states] == [
        ("0001.one", None, False),
        ("0002.two", None, True),
        ("0003.three", None, True),
    ]
    assert states[0].summary == "The first"
    assert empty_database.value("SELECT to_regnamespace('yoyo')") is None
    migrator.apply(until="0001")
    assert [one.applied_at is not None for one in migrator.states()] == [True, False, False]


def test_to_stops_there_and_leaves_the_hook_for_later(
    migrator: Migrator, empty_database: Database
) -> None:
    assert migrator.apply(until="0002") == ["0001.one", "0002.two"]
    assert tables(empty_database) == {"one", "two"}
    assert migrator.apply(until="0003.three") == ["0003.three"]
    assert "hook_calls" in tables(empty_database)


def test_a_name_that_is_none_or_several(migrator: Migrator) -> None:
    with pytest.raises(UserError, match="no migration '0009'"):
        migrator.apply(until="0009")
    with pytest.raises(UserError, match="More than one"):
        migrator.apply(until="000")


def test_rollback_undoes_the_latest_or_all_after_one(
    migrator: Migrator, empty_database: Database
) -> None:
    migrator.apply()
    assert migrator.roll_back() == ["0003.three"]
    assert migrator.apply() == ["0003.three"]
    assert migrator.roll_back(until="0001") == ["0003.three", "0002.two"]
    assert tables(empty_database) == {"one", "hook_calls"}


def test_rollback_is_refused_where_data_would_be_lost(
    migrator: Migrator, empty_database: Database
) -> None:
    migrator.apply(until="0001")
    with pytest.raises(UserError, match=r"0001.one cannot be rolled back"):
        migrator.roll_back()
    assert tables(empty_database) == {"one"}


def test_rollback_of_nothing_and_to_what_is_not_there(migrator: Migrator) -> None:
    assert migrator.roll_back() == []
    with pytest.raises(UserError, match=r"0002.two is not applied"):
        migrator.roll_back(until="0002")


def test_a_failure_names_file_and_line_and_leaves_no_trace(
    migrator: Migrator, empty_database: Database, folder: Path
) -> None:
    (folder / "0002.two.sql").write_text(
        "-- The second.\n\nCREATE TABLE two (a int);\n\n"
        "CREATE TABLE other (\n    a int,\n    b no_such_type\n);\n"
    )
    fresh = Migrator(migrator.target, folder)
    with pytest.raises(UserError) as caught:
        fresh.apply()
    assert caught.value.message == '0002.two.sql, line 7: type "no_such_type" does not exist'
    assert tables(empty_database) == {"one"}
    assert [one.applied_at is not None for one in fresh.states()] == [True, False, False]


def test_a_failure_of_the_hook_is_told_and_undone(
    migrator: Migrator, empty_database: Database, folder: Path
) -> None:
    (folder / "post-apply.py").write_text(HOOK.replace("DEFAULT VALUES", "VALUES ('x')"))
    with pytest.raises(UserError, match=r"post-apply.py.*invalid input syntax"):
        Migrator(migrator.target, folder).apply()
    assert "hook_calls" not in tables(empty_database)


def test_a_file_that_is_no_python_is_told(migrator: Migrator, folder: Path) -> None:
    (folder / "0004.four.py").write_text("steps = [\n")
    with pytest.raises(UserError, match="cannot be read"):
        Migrator(migrator.target, folder).apply()


def test_two_at_once_take_turns(migrator: Migrator, empty_database: Database) -> None:
    holder = empty_database.connect()
    holder.execute("SELECT pg_advisory_lock(1869770087)")
    waiting = threading.Event()
    done: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: done.append(migrator.apply(on_wait=waiting.set))),
        threading.Thread(
            target=lambda: done.append(Migrator(migrator.target, migrator.folder).apply())
        ),
    ]
    for thread in threads:
        thread.start()
    assert waiting.wait(30)
    assert tables(empty_database) == set()
    holder.close()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == [[], ["0001.one", "0002.two", "0003.three"]]


def test_a_lock_left_by_a_killed_program_does_not_block(
    migrator: Migrator, empty_database: Database
) -> None:
    migrator.apply(until="0001")
    empty_database.execute(
        "INSERT INTO yoyo.yoyo_lock (locked, ctime, pid) VALUES (1, now(), 999999)"
    )
    assert migrator.apply(until="0002") == ["0002.two"]


def test_the_projects_own_migrations_apply_list_and_apply_again(
    oceanrecords: Callable[..., Finished], empty_database: Database
) -> None:
    dsn = ("--dsn", empty_database.dsn)
    before = json.loads(oceanrecords(*dsn, "migrate", "--list", "--json").stdout)
    assert {one["status"] for one in before} == {"pending"}
    first = oceanrecords(*dsn, "migrate", "--json")
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["applied"] == [one["migration"] for one in before]
    second = oceanrecords(*dsn, "migrate")
    assert second.returncode == 0
    assert "Up to date, routines installed" in second.stdout
    after = json.loads(oceanrecords(*dsn, "migrate", "--list", "--json").stdout)
    assert {one["status"] for one in after} == {"applied"}


def test_a_changed_routine_is_installed_again(
    database: Database, cli: Callable[..., Finished]
) -> None:
    database.execute("DROP FUNCTION etl.object_sql(text)")
    assert cli("sql", "dim_product").returncode == 1
    assert cli("migrate").returncode == 0
    assert cli("sql", "dim_product").returncode == 0


def test_yoyos_tables_stay_out_of_the_way(database: Database) -> None:
    found = database.rows(
        "SELECT DISTINCT relnamespace::regnamespace::text AS schema FROM pg_class "
        "WHERE relname LIKE '%yoyo%'"
    )
    assert found == [{"schema": "yoyo"}]
    with psycopg.connect(database.dsn) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_class "
            "WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
        ).fetchone()
    assert row == (0,)
