"""The installation replaces what CREATE OR REPLACE cannot, and keeps owners, grants and comments."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from base.connection import Target
from base.errors import UserError
from base.sqlfile import statements
from driver import project
from driver.migrate import Migrator
from driver.project import Part
from tests.support.database import Database

BASE = """
CREATE OR REPLACE FUNCTION kpi.answer() RETURNS integer LANGUAGE sql STABLE AS $$ SELECT 42; $$;
COMMENT ON FUNCTION kpi.answer() IS 'The answer.';
"""
VIEW = """
CREATE OR REPLACE VIEW kpi.one AS SELECT 1 AS a, 'x'::text AS b;
COMMENT ON VIEW kpi.one IS 'One.';
COMMENT ON COLUMN kpi.one.b IS 'The second.';
"""


@pytest.fixture
def reader(database: Database) -> Iterator[str]:
    name = f"reader_{database.name}"
    database.execute(f"CREATE ROLE {name}")
    yield name
    database.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


@pytest.fixture
def install(database: Database, tmp_path: Path) -> Callable[..., None]:
    """Installs the engine, then files of the test's own."""

    def run(**files: str) -> None:
        contents = tmp_path / "plpgsql" / "install.txt"
        contents.parent.mkdir(exist_ok=True)
        for name, text in files.items():
            (contents.parent / f"{name}.sql").write_text(text, encoding="utf-8")
        contents.write_text("".join(f"{name}.sql\n" for name in files), encoding="utf-8")
        parts = [project.engine(), Part("extra", tmp_path / "none", contents)]
        Migrator(Target(database.dsn, "tests"), parts=parts).apply()

    return run


def test_a_view_gets_other_columns_and_keeps_its_grants(
    install: Callable[..., None], database: Database, reader: str
) -> None:
    install(view=VIEW)
    database.execute(
        f"GRANT SELECT ON kpi.one TO {reader} WITH GRANT OPTION; CREATE SCHEMA own;"
        "CREATE VIEW own.mine WITH (security_barrier) AS SELECT a FROM kpi.one;"
        f"GRANT SELECT (a) ON own.mine TO {reader}; COMMENT ON VIEW own.mine IS 'Mine.'"
    )
    install(view=VIEW.replace("'x'::text AS b", "2::bigint AS b").replace("second", "third"))
    assert database.rows("SELECT * FROM kpi.one") == [{"a": 1, "b": 2}]
    assert database.value(
        f"SELECT has_table_privilege('{reader}', 'kpi.one', 'SELECT WITH GRANT OPTION')"
    )
    assert database.value("SELECT col_description('kpi.one'::regclass, 2)") == "The third."
    assert database.rows("SELECT * FROM own.mine") == [{"a": 1}]
    assert database.value(f"SELECT has_column_privilege('{reader}', 'own.mine', 'a', 'SELECT')")
    assert database.value("SELECT obj_description('own.mine'::regclass)") == "Mine."
    assert database.value(
        "SELECT reloptions::text FROM pg_class WHERE oid = 'own.mine'::regclass"
    ) == ("{security_barrier=true}")


def test_grants_outlive_a_migration_that_fails_after_a_view_was_dropped(
    install: Callable[..., None], database: Database, reader: str, tmp_path: Path
) -> None:
    """The migration that dropped the view is applied, so only what was saved knows the grants."""
    install(view=VIEW)
    database.execute(f"CREATE ROLE gone_{reader}")
    database.execute(f"GRANT SELECT ON kpi.one TO {reader}, gone_{reader}")
    steps = tmp_path / "none"
    steps.mkdir()
    (steps / "0001.drop.sql").write_text("-- Drops.\nDROP VIEW kpi.one;\n")
    (steps / "0002.fail.sql").write_text("-- Fails.\nSELECT 1 / 0;\n")
    with pytest.raises(UserError, match="division by zero"):
        install(view=VIEW)
    assert database.value("SELECT to_regclass('kpi.one') IS NULL")
    database.execute(f"DROP ROLE gone_{reader}")
    (steps / "0002.fail.sql").write_text("-- Does not fail.\nSELECT 1;\n")
    with pytest.raises(UserError):
        install(view=VIEW.replace("SELECT 1 AS a", "SELECT 1 / 0 AS a FROM no_such_table"))
    install(view=VIEW)
    assert database.value(f"SELECT has_table_privilege('{reader}', 'kpi.one', 'SELECT')")
    assert database.value("SELECT count(*) FROM yoyo.saved_view") == 0


def test_a_function_gets_another_result_and_keeps_its_grants(
    install: Callable[..., None], database: Database, reader: str
) -> None:
    install(base=BASE, view="CREATE OR REPLACE VIEW kpi.shown AS SELECT kpi.answer() AS answer;")
    database.execute(f"GRANT EXECUTE ON FUNCTION kpi.answer() TO {reader}; CREATE SCHEMA own;")
    database.execute("CREATE MATERIALIZED VIEW own.kept AS SELECT answer FROM kpi.shown")
    database.execute("CREATE UNIQUE INDEX kept_answer ON own.kept (answer)")
    install(
        base=BASE.replace("RETURNS integer", "RETURNS text").replace("42", "'42'"),
        view="CREATE OR REPLACE VIEW kpi.shown AS SELECT kpi.answer() AS answer;",
    )
    assert database.rows("SELECT * FROM kpi.shown") == [{"answer": "42"}]
    assert database.rows("SELECT * FROM own.kept") == [{"answer": "42"}]
    assert database.value("SELECT to_regclass('own.kept_answer') IS NOT NULL")
    assert database.value(f"SELECT has_function_privilege('{reader}', 'kpi.answer()', 'EXECUTE')")
    assert not database.value("SELECT has_function_privilege('public', 'kpi.answer()', 'EXECUTE')")


def test_a_transformation_view_that_is_replaced_stays_declared(
    install: Callable[..., None], database: Database
) -> None:
    """The catalog holds the view by its identity, which changes."""
    view = "CREATE OR REPLACE VIEW work.dim_status AS {} FROM (VALUES (1::smallint)) AS s (order_status_id);"
    columns = (
        "SELECT s.order_status_id, 'a'::text AS status_code, 'b'::text AS status_name, false AS is_lost, "
        "NULL::timestamptz AS effective_at, NULL::timestamptz AS deleted_at"
    )
    install(view=view.format(columns.replace("'b'::text AS status_name, false AS is_lost",
                                             "false AS is_lost, 'b'::text AS status_name")))  # fmt: skip
    assert database.value(
        "SELECT transform_view::text FROM etl.dimension WHERE dimension = 'dim_status'"
    ) == ("work.dim_status")


def test_what_uses_a_lost_column_is_named_and_nothing_changes(
    install: Callable[..., None], database: Database
) -> None:
    install(view=VIEW)
    database.execute("CREATE SCHEMA own; CREATE VIEW own.mine AS SELECT b FROM kpi.one")
    with pytest.raises(UserError, match=r"view own.mine uses what this version changes") as caught:
        install(view=VIEW.replace("'x'::text AS b", "2 AS c").replace("one.b", "one.c"))
    assert "Drop own.mine, migrate" in (caught.value.hint or "")
    assert database.rows("SELECT * FROM own.mine") == [{"b": "x"}]


def test_what_cannot_be_put_back_is_refused(
    install: Callable[..., None], database: Database
) -> None:
    install(base=BASE)
    database.execute("CREATE SCHEMA own; CREATE TABLE own.t (a integer DEFAULT kpi.answer())")
    with pytest.raises(UserError, match=r"default value for column a of table own.t depends on"):
        install(base=BASE.replace("RETURNS integer", "RETURNS text").replace("42", "'42'"))
    assert database.value("SELECT kpi.answer()") == 42


def test_an_outdated_overload_of_a_public_routine_goes(
    install: Callable[..., None], database: Database
) -> None:
    database.execute(
        "CREATE FUNCTION etl.get_setting(p_name text, p_old integer) RETURNS text LANGUAGE sql AS 'SELECT NULL'"
    )
    install()
    assert database.value("SELECT count(*) FROM pg_proc WHERE proname = 'get_setting'") == 1


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("SELECT FROM nowhere;", "relation \"nowhere\" does not exist"),
        ("SELECT etl.define_fact(p_none => 1);", "function etl.define_fact(p_none => integer) does not exist"),
    ],
)  # fmt: skip
def test_a_failing_file_is_named_and_nothing_changes(
    install: Callable[..., None], database: Database, statement: str, message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(f"plpgsql/bad.sql: {message}")):
        install(view=VIEW, bad=statement)
    assert database.value("SELECT to_regclass('kpi.one') IS NULL")


def test_a_listed_file_that_is_missing_is_named(database: Database, tmp_path: Path) -> None:
    contents = tmp_path / "install.txt"
    contents.write_text("# first\nnone.sql\n")
    part = Part("shop", tmp_path, contents)
    with pytest.raises(UserError, match=r"install.txt, line 2: there is no file none.sql"):
        part.files()


def test_statements_are_split_outside_quotes_and_comments() -> None:
    text = """
-- a; comment
SELECT 'a;b', "c;d", $x$ e; $$ f; $x$, E'\\';'; /* g; */
DO $$ BEGIN NULL; END $$;
-- the end
"""
    found = [one.strip() for _, one in statements(text)]
    assert len(found) == 2
    assert found[1].startswith("/* g; */\nDO")
