"""Migrations: in order, all or nothing, one at a time, with errors that point at the line."""

from __future__ import annotations

import json
import re
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from base import resources
from base.connection import Target
from base.errors import UserError
from driver.migrate import Migrator, checksum
from driver.project import Part
from tests.conftest import Finished
from tests.support.database import Database


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three migrations, the first of which cannot be undone."""
    made = tmp_path / "steps"
    made.mkdir()
    (made / "0001.one.sql").write_text(
        "-- The first.\n-- It has: no way back.\nCREATE TABLE one (a int);\n"
    )
    (made / "0002.two.sql").write_text(
        "-- The second\n--\n-- depends: 0001.one\n\n-- More of it.\n"
        "CREATE TABLE two (a int);\nSELECT '100 %', $$a; b$$;\n"
    )
    (made / "0002.two.rollback.sql").write_text("DROP TABLE two;\n")
    (made / "0003.three.sql").write_text("CREATE TABLE three (a int);\n")
    (made / "0003.three.rollback.sql").write_text("DROP TABLE three;\n")
    return made


@pytest.fixture
def migrator(empty_database: Database, folder: Path) -> Migrator:
    return migrator_of(empty_database, folder)


def migrator_of(database: Database, folder: Path) -> Migrator:
    part = Part("shop", folder, folder / "install.txt")
    return Migrator(Target(database.dsn, "test"), parts=[part])


def tables(database: Database) -> set[str]:
    found = database.rows(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
    )
    return {row["relname"] for row in found}


def test_all_are_applied_once(migrator: Migrator, empty_database: Database) -> None:
    assert migrator.apply() == ["shop/0001.one", "shop/0002.two", "shop/0003.three"]
    assert migrator.apply() == []
    assert tables(empty_database) == {"one", "two", "three"}


def test_states_tell_what_is_pending_and_write_nothing(
    migrator: Migrator, empty_database: Database
) -> None:
    states = migrator.states()
    assert [(one.name, one.applied_at, one.reversible) for one in states] == [
        ("shop/0001.one", None, False),
        ("shop/0002.two", None, True),
        ("shop/0003.three", None, True),
    ]
    assert [one.summary for one in states] == ["The first", "The second", ""]
    assert empty_database.value("SELECT to_regnamespace('yoyo')") is None
    migrator.apply(until="0001")
    assert [one.applied_at is not None for one in migrator.states()] == [True, False, False]


def test_to_stops_there(migrator: Migrator, empty_database: Database) -> None:
    assert migrator.apply(until="0002") == ["shop/0001.one", "shop/0002.two"]
    assert tables(empty_database) == {"one", "two"}
    assert migrator.apply(until="shop/0003") == ["shop/0003.three"]


def test_a_name_that_is_none_or_several(migrator: Migrator) -> None:
    with pytest.raises(UserError, match='Migration "0009" does not exist'):
        migrator.apply(until="0009")
    with pytest.raises(UserError, match="More than one"):
        migrator.apply(until="000")


def test_rollback_undoes_the_latest_or_all_after_one(
    migrator: Migrator, empty_database: Database
) -> None:
    migrator.apply()
    assert migrator.roll_back() == ["shop/0003.three"]
    assert migrator.apply() == ["shop/0003.three"]
    assert migrator.roll_back(until="0001") == ["shop/0003.three", "shop/0002.two"]
    assert tables(empty_database) == {"one"}


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
    fresh = migrator_of(empty_database, folder)
    with pytest.raises(UserError) as caught:
        fresh.apply()
    assert caught.value.message == '0002.two.sql, line 7: type "no_such_type" does not exist'
    assert tables(empty_database) == {"one"}
    assert [one.applied_at is not None for one in fresh.states()] == [True, False, False]


def test_a_file_that_is_no_python_is_told(
    empty_database: Database, migrator: Migrator, folder: Path
) -> None:
    (folder / "0004.four.py").write_text("steps = [\n")
    with pytest.raises(UserError, match="cannot be read"):
        migrator.apply()


def test_two_at_once_take_turns(migrator: Migrator, empty_database: Database, folder: Path) -> None:
    holder = empty_database.connect()
    holder.execute("SELECT pg_advisory_lock(1869770087)")
    waiting = threading.Event()
    done: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: done.append(migrator.apply(on_wait=waiting.set))),
        threading.Thread(target=lambda: done.append(migrator_of(empty_database, folder).apply())),
    ]
    for thread in threads:
        thread.start()
    assert waiting.wait(30)
    assert tables(empty_database) == set()
    holder.close()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == [[], ["shop/0001.one", "shop/0002.two", "shop/0003.three"]]


def test_the_holder_of_the_lock_is_named(
    migrator: Migrator, empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any login can take it; one in another database of the server is not in the way."""
    monkeypatch.setattr("driver.migrate.LOCK_TIMEOUT", "10ms")
    elsewhere = psycopg.connect(empty_database.server.dsn(), application_name="elsewhere")
    elsewhere.execute("SELECT pg_advisory_lock(1869770087)")
    holder = empty_database.connect(application_name="idler")
    holder.execute("SELECT pg_advisory_lock(1869770087)")
    with elsewhere, pytest.raises(UserError, match="lock on migrations") as caught:
        migrator.apply()
    assert f"process id {holder.info.backend_pid}" in (caught.value.detail or "")
    assert "idler" in (caught.value.detail or "")
    holder.close()
    assert len(migrator.apply()) == 3


def test_a_lock_left_by_a_killed_program_does_not_block(
    migrator: Migrator, empty_database: Database
) -> None:
    migrator.apply(until="0001")
    empty_database.execute(
        "INSERT INTO yoyo.yoyo_lock (locked, ctime, pid) VALUES (1, now(), 999999)"
    )
    assert migrator.apply(until="0002") == ["shop/0002.two"]


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


def test_an_applied_migration_that_was_edited_is_refused(
    migrator: Migrator, empty_database: Database, folder: Path
) -> None:
    migrator.apply(until="0002")
    (folder / "0001.one.sql").write_text("CREATE TABLE one (a int, b int);\n")
    with pytest.raises(UserError, match=r"shop/0001.one was edited after it was applied") as caught:
        migrator_of(empty_database, folder).apply()
    assert "new migration" in (caught.value.hint or "")
    assert tables(empty_database) == {"one", "two"}


def test_a_migration_that_this_version_lacks_is_refused(
    migrator: Migrator, empty_database: Database, folder: Path
) -> None:
    migrator.apply()
    for path in folder.glob("0003.*"):
        path.unlink()
    with pytest.raises(UserError, match=r"shop/0003.three, which this version does not have"):
        migrator_of(empty_database, folder).apply()


def test_a_database_from_before_the_baseline_is_refused(empty_database: Database) -> None:
    """yoyo's history of the versions before 1.0.0 named no part, and kept no checksum."""
    empty_database.execute(
        "CREATE SCHEMA yoyo; CREATE TABLE yoyo._yoyo_migration (migration_hash varchar(64) "
        "PRIMARY KEY, migration_id varchar(255), applied_at_utc timestamp); "
        "INSERT INTO yoyo._yoyo_migration VALUES ('x', '0002.engine', now())"
    )
    with pytest.raises(
        UserError, match=r"a version before 1\.0\.0, which cannot be upgr"
    ) as caught:
        Migrator(Target(empty_database.dsn, "test")).apply()
    assert "new database" in (caught.value.hint or "")
    assert empty_database.value("SELECT to_regnamespace('etl') IS NULL")


def test_released_migrations_are_frozen() -> None:
    """An edit of a migration that was released never reaches a database that has applied it."""
    folder = resources.migrations()
    released = {}
    for line in (folder / "released.sha256").read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        released[name] = digest
    present = {str(path.relative_to(folder)): checksum(path) for path in folder.rglob("[0-9]*.sql")}
    assert released == present, (
        "`make released` adds new migrations; released ones stay as they are"
    )


def test_the_version_is_told_in_one_place(oceanrecords: Callable[..., Finished]) -> None:
    root = Path(__file__).parents[2]
    declared = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    version = declared["project"]["version"]
    assert oceanrecords("--version").stdout.split()[-1] == version
    changes = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[(\d[^]]*)\]", changes, re.MULTILINE)[0] == version
