"""The catalog: what it accepts, what it refuses and how it says so, and that everything in the database explains itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.engine.library import Library
from tests.support.database import Database

ROOT = Path(__file__).parents[2]
SCHEMAS = "('etl', 'source', 'delta', 'stage', 'work', 'dwh', 'kpi', 'oceanrecords')"


# Errors ----------------------------------------------------------------------------------------------------------------


def test_every_error_code_is_provoked_by_a_test() -> None:
    """Codes that routines raise, and codes that some test expects. A code that its own file catches undoes work and reaches nobody."""
    raised = {
        code
        for path in (ROOT / "plpgsql").rglob("*.sql")
        for code in re.findall(r"ERRCODE = '((?:ET|OR)\d{3})'", path.read_text(encoding="utf-8"))
        if f"WHEN SQLSTATE '{code}'" not in path.read_text(encoding="utf-8")
    }
    expected = {
        code
        for path in (ROOT / "tests").rglob("*.py")
        for code in re.findall(r"\b(?:ET|OR)\d{3}\b", path.read_text(encoding="utf-8"))
    }
    assert raised - expected == set()


@pytest.mark.parametrize(
    ("call", "sqlstate", "message"),
    [
        ("SELECT etl.start_run('{nonsense}')", "ET002", 'there is no task or object "nonsense"'),
        ("CALL etl.run('{dim_product,nope}')", "ET002", 'there is no task or object "nope"'),
        ("CALL etl.run(NULL, '{nope}')", "ET002", 'there is no task or object "nope"'),
        ("CALL etl.run('{all}')", "ET002", 'there is no task or object "all"'),
        ("SELECT * FROM etl.object_sql('nope')", "ET002", 'there is no task or object "nope"'),
        ("SELECT etl.get_setting('nope')", "ET002", 'there is no setting "nope"'),
        ("SELECT etl.retry_quarantine('nope')", "ET002", 'there is no task or object "nope"'),
        ("SELECT etl._this_batch(1)", "ET004", "a batch must be extracted on one snapshot"),
        ("CALL etl.work()", "ET006", "there is no run to work on"),
        ("CALL etl.work(99)", "ET006", "there is no run to work on"),
    ],
)
def test_a_wrong_call_is_refused_with_a_name_and_a_way_out(
    connection: psycopg.Connection[object], call: str, sqlstate: str, message: str
) -> None:
    with pytest.raises(psycopg.Error) as refused:
        connection.execute(call.encode())
    diagnosis = refused.value.diag
    assert refused.value.sqlstate == sqlstate
    assert message in str(diagnosis.message_primary)
    assert diagnosis.message_hint
    assert connection.execute("SELECT count(*) FROM etl.run").fetchone() == (0,)


def test_nothing_is_left_of_a_run_that_was_refused(library: Library) -> None:
    """The next run starts as if the refused one had never been asked for."""
    with pytest.raises(psycopg.Error):
        library.execute("CALL etl.run('{nonsense}')")
    library.run()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            "INSERT INTO etl.source_table (source_table, key_columns, change_column)"
            " VALUES ('ghosts', '{id}', 'x')",
            'catalog of "ghosts": there is no relation source.ghosts',
        ),
        (
            "UPDATE etl.source_table SET key_columns = '{isbn,edition}' WHERE source_table = 'books'",
            'catalog of "books": source.books has no column "edition"',
        ),
        (
            "UPDATE etl.source_table SET change_column = 'nope' WHERE source_table = 'books'",
            'catalog of "books": source.books has no column "nope"',
        ),
        (
            "INSERT INTO etl.dimension_attribute VALUES ('dim_book', 'weight', 1)",
            'catalog of "dim_book": work.dim_book has no column "weight"',
        ),
        (
            "UPDATE etl.dimension SET surrogate_key = 'nope' WHERE dimension = 'dim_book'",
            'catalog of "dim_book": dwh.dim_book has no column "nope"',
        ),
        (
            "UPDATE etl.dimension SET transform_view = 'work.fact_loan' WHERE dimension = 'dim_book'",
            'catalog of "dim_book": work.fact_loan has no column',
        ),
        (
            "UPDATE etl.dimension SET history_view = 'work.fact_loan' WHERE dimension = 'dim_book'",
            'catalog of "dim_book": work.fact_loan has no column "valid_from"',
        ),
        (
            "UPDATE etl.fact SET measures = '{fine}' WHERE fact = 'fact_loan'",
            'catalog of "fact_loan": work.fact_loan has no column "fine"',
        ),
        (
            "UPDATE etl.fact_dimension SET lookup_columns = '{reader}' WHERE key_column = 'member_key'",
            'catalog of "fact_loan": work.fact_loan has no column "reader"',
        ),
        (
            "UPDATE etl.fact_dimension SET as_of_column = 'reader' WHERE key_column = 'member_key'",
            'catalog of "fact_loan": work.fact_loan has no column "reader"',
        ),
        (
            "UPDATE etl.fact_dimension SET lookup_columns = '{member_id,isbn}'"
            " WHERE key_column = 'member_key'",
            'key "member_key" looks up dim_member by {member_id,isbn}',
        ),
        (
            "INSERT INTO etl.fact_dimension VALUES ('fact_loan', 'nope_key', 'dim_book', '{isbn}')",
            'catalog of "fact_loan": dwh.fact_loan has no column "nope_key"',
        ),
        (
            "ALTER TABLE dwh.fact_loan DROP borrowed_at",
            'catalog of "fact_loan": dwh.fact_loan has no column "borrowed_at"',
        ),
        (
            "INSERT INTO etl.dependency VALUES ('dim_ghost', 'books', 'SELECT isbn FROM changed')",
            '"dim_ghost" depends on source table "books", but is neither a dimension nor a fact',
        ),
        (
            "UPDATE etl.fact_dimension SET lookup_role = 'member_key' WHERE key_column = 'book_key'",
            'catalog of "fact_loan": dwh.dim_member has no column "isbn"',
        ),
        (
            "UPDATE etl.fact_dimension SET lookup_role = 'member_key' WHERE key_column = 'member_key'",
            'key "member_key" is looked up by "member_key", which is looked up by another key itself',
        ),
        (
            "CREATE TABLE dwh.agg_loan (member_key bigint PRIMARY KEY, loans bigint, run_id bigint);"
            " CREATE VIEW work.agg_loan AS SELECT loan_id, member_key, 1::bigint AS loans"
            " FROM dwh.fact_loan WHERE NOT is_deleted;"
            " INSERT INTO etl.aggregate (aggregate, aggregate_table, contribution_view, contribution_key, group_key, measures)"
            " VALUES ('agg_loan', 'dwh.agg_loan', 'work.agg_loan', '{loan_id}', '{member_key}', '{loans}');"
            " INSERT INTO etl.aggregate_fact VALUES ('agg_loan', 'fact_loan', '{member_key}')",
            'catalog of "agg_loan": its contributions read column "is_deleted" of fact_loan, which is not watched',
        ),
        (
            "CREATE TABLE dwh.agg_loan (member_key bigint PRIMARY KEY, loans bigint, run_id bigint);"
            " CREATE TABLE dwh.agg_parity (parity bigint PRIMARY KEY, loans bigint, run_id bigint);"
            " CREATE VIEW work.agg_loan AS SELECT loan_id, member_key, member_key % 2 AS parity, 1::bigint AS loans FROM dwh.fact_loan;"
            " INSERT INTO etl.aggregate (aggregate, aggregate_table, contribution_view, contribution_key, group_key, measures,"
            " finer_aggregate, finer_expressions)"
            " VALUES ('agg_loan', 'dwh.agg_loan', 'work.agg_loan', '{loan_id}', '{member_key}', '{loans}', NULL, NULL),"
            " ('agg_parity', 'dwh.agg_parity', 'work.agg_loan', '{loan_id}', '{parity}', '{loans}', 'agg_loan', '{c.nobody % 2}');"
            " INSERT INTO etl.aggregate_fact (aggregate, fact) VALUES ('agg_loan', 'fact_loan')",
            'catalog of "agg_parity": c.nobody % 2 AS parity cannot be made of dwh.agg_loan',
        ),
    ],
)
@pytest.mark.server("embedded")
def test_a_fault_of_the_catalog_is_named_and_changes_nothing(
    library: Library, fault: str, message: str
) -> None:
    library.execute(fault)
    tasks = library.rows("SELECT * FROM etl.task ORDER BY task")
    with pytest.raises(psycopg.Error) as refused:
        library.execute("CALL etl.build()")
    assert refused.value.sqlstate == "ET003"
    assert message in str(refused.value)
    assert refused.value.diag.message_hint
    assert library.rows("SELECT * FROM etl.task ORDER BY task") == tasks


@pytest.mark.parametrize(
    ("fault", "constraint"),
    [
        ("UPDATE etl.source_table SET key_columns = '{}'", "key_columns"),
        ("UPDATE etl.source_table SET change_detection = 'magic'", "change_detection"),
        ("UPDATE etl.source_table SET change_column = NULL", "source_table_check"),
        ("UPDATE etl.source_table SET lookback = '-1 minute'", "lookback"),
        ("UPDATE etl.dimension_attribute SET scd_type = 3", "scd_type"),
        ("UPDATE etl.task_edge SET wait_for = 'luck'", "wait_for"),
        ("UPDATE etl.task SET max_attempts = 0", "max_attempts"),
        ("INSERT INTO etl.task_edge VALUES ('fact:fact_order', 'fact:fact_order', 'end')", "check"),
    ],
)
def test_the_catalog_refuses_what_has_no_meaning(
    connection: psycopg.Connection[object], fault: str, constraint: str
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation) as refused:
        connection.execute(fault.encode())
    assert constraint in str(refused.value.diag.constraint_name)


# Build -----------------------------------------------------------------------------------------------------------------

STRUCTURE = f"""
    SELECT c.oid, c.relname, c.relfilenode, c.xmin::text, obj_description(c.oid),
        (SELECT array_agg((a.xmin::text, a.attname) ORDER BY a.attnum) FROM pg_attribute AS a
        WHERE a.attrelid = c.oid)::text
    FROM pg_class AS c WHERE c.relnamespace::regnamespace::text IN {SCHEMAS} ORDER BY c.oid
"""


def test_building_twice_changes_nothing(library: Library) -> None:
    """Not a table, not a column, not a comment, not a catalog row is written again."""
    rows = (
        "SELECT ctid::text, xmin::text, task FROM etl.task"
        " UNION ALL SELECT ctid::text, xmin::text, task FROM etl.task_edge"
        " UNION ALL SELECT ctid::text, xmin::text, object FROM etl.load_state ORDER BY 3, 1"
    )
    before = library.rows(STRUCTURE), library.rows(rows)
    library.execute("CALL etl.build()")
    assert (library.rows(STRUCTURE), library.rows(rows)) == before


def test_settings_of_a_task_survive_a_build(library: Library) -> None:
    library.execute(
        "UPDATE etl.task SET max_attempts = 9, is_enabled = false WHERE task = 'fact:fact_loan'"
    )
    library.execute("CALL etl.build()")
    assert library.row(
        "SELECT max_attempts, is_enabled FROM etl.task WHERE task = 'fact:fact_loan'"
    ) == {"max_attempts": 9, "is_enabled": False}


def test_tasks_wait_for_what_they_need(library: Library) -> None:
    """A fact waits for the success of its stages and for the end of its dimensions."""
    assert library.rows(
        "SELECT predecessor, wait_for FROM etl.task_edge WHERE task = 'fact:fact_loan' ORDER BY 1"
    ) == [
        ("dimension:dim_book", "end"),
        ("dimension:dim_member", "end"),
        ("stage:loans", "success"),
    ]


def test_tasks_come_in_the_order_of_the_graph_then_of_their_names(library: Library) -> None:
    tasks = library.rows("SELECT kind, object FROM etl.task ORDER BY position")
    kinds = ["fill", "extract", "stage", "dimension", "fact", "aggregate", "check", "maintain"]
    order = [(kinds.index(kind), name) for kind, name in tasks]
    assert order == sorted(order)


def test_a_new_attribute_of_a_dimension_is_filled_by_a_full_refresh(library: Library) -> None:
    library.member("Ann")
    library.run()
    library.execute("ALTER TABLE dwh.dim_member ADD initial text")
    library.execute(
        "CREATE OR REPLACE VIEW work.dim_member AS SELECT member_id, trim(name) AS member_name,"
        " category, updated_at AS effective_at, deleted_at, left(name, 1) AS initial"
        " FROM stage.members"
    )
    library.execute("INSERT INTO etl.dimension_attribute VALUES ('dim_member', 'initial', 1)")
    library.execute("CALL etl.build()")
    library.execute("CALL etl.run(NULL, '{dim_member}')")
    assert library.value("SELECT initial FROM dwh.dim_member WHERE member_key > 0") == "A"


def test_attributes_may_change_their_type(library: Library) -> None:
    """From type 2 to 1: what was history is overwritten from the next change on; no version is lost."""
    member = library.member("Ann", "child")
    library.run()
    library.execute("UPDATE library.members SET category = 'adult'")
    library.run()
    library.execute("UPDATE etl.dimension_attribute SET scd_type = 1 WHERE attribute = 'category'")
    library.execute("CALL etl.build()")
    library.execute("UPDATE library.members SET category = 'senior'")
    library.run()
    assert library.rows(
        "SELECT category FROM dwh.dim_member WHERE member_id = %s ORDER BY valid_from", member
    ) == [("senior",), ("senior",)]


def test_a_dimension_of_kept_attributes_alone_never_changes(library: Library) -> None:
    library.execute("UPDATE etl.dimension_attribute SET scd_type = 0 WHERE dimension = 'dim_book'")
    library.execute("CALL etl.build()")
    library.book("978-1", "First title")
    library.run()
    library.execute("UPDATE library.books SET title = 'Second title'")
    library.run()
    assert library.value("SELECT title FROM dwh.dim_book WHERE book_key > 0") == "First title"


# Names -----------------------------------------------------------------------------------------------------------------

EVIL = 'x"; drop table y; --'
QUOTED = '"x""; drop table y; --"'


@pytest.fixture
def hostile(database: Database) -> Library:
    """A source table, a dimension, a fact and their columns that all bear a hostile name."""
    connection = database.connect()
    connection.execute("CREATE TABLE y (a integer)")
    connection.execute(
        f"""
        CREATE SCHEMA evil;
        CREATE TABLE evil.rows (id integer PRIMARY KEY, {QUOTED} text, at timestamptz DEFAULT clock_timestamp());
        CREATE VIEW source.{QUOTED} AS SELECT id AS {QUOTED}, {QUOTED} AS "it's", at FROM evil.rows;
        INSERT INTO etl.source_table (source_table, key_columns, change_detection, change_column, delete_detection)
        VALUES ('{EVIL}', ARRAY['{EVIL}']::name[], 'timestamp', 'at', 'comparison');
        CALL etl.build();

        CREATE TABLE dwh.{QUOTED} (
            "key; --" bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, {QUOTED} integer, "it's" text,
            valid_from timestamptz, valid_to timestamptz, is_current boolean, run_id bigint
        );
        INSERT INTO dwh.{QUOTED} VALUES (-1, NULL, 'Unknown', '-infinity', 'infinity', true, 0);
        CREATE TABLE dwh."fact'; --" (
            {QUOTED} integer PRIMARY KEY, "dim "" key" bigint NOT NULL, "how many; --" integer NOT NULL,
            at timestamptz NOT NULL, is_deleted boolean NOT NULL, run_id bigint NOT NULL
        );
        CREATE VIEW work.{QUOTED} AS
        SELECT {QUOTED}, "it's", at AS effective_at, deleted_at FROM stage.{QUOTED};
        CREATE VIEW work."fact'; --" AS
        SELECT {QUOTED}, {QUOTED} AS "look up", at, 1 AS "how many; --", deleted_at FROM stage.{QUOTED};
        """.encode()
    )
    connection.execute(
        """
        INSERT INTO etl.dimension (dimension, dimension_table, transform_view, surrogate_key, business_key)
        VALUES (%(evil)s, %(dwh)s, %(work)s, 'key; --', ARRAY[%(evil)s]::name[])
        """,
        {"evil": EVIL, "dwh": f"dwh.{QUOTED}", "work": f"work.{QUOTED}"},
    )
    connection.execute("INSERT INTO etl.dimension_attribute VALUES (%s, 'it''s', 2)", [EVIL])
    connection.execute(
        "INSERT INTO etl.fact VALUES ('fact''; --', 'dwh.\"fact''; --\"', 'work.\"fact''; --\"',"
        " ARRAY[%s]::name[], '{\"how many; --\"}')",
        [EVIL],
    )
    connection.execute(
        "INSERT INTO etl.fact_dimension VALUES ('fact''; --', 'dim \" key', %s, '{\"look up\"}', 'at')",
        [EVIL],
    )
    connection.execute(
        "INSERT INTO etl.dependency VALUES (%(evil)s, %(evil)s, %(query)s), ('fact''; --', %(evil)s, %(query)s)",
        {"evil": EVIL, "query": f"SELECT {QUOTED} FROM changed"},
    )
    connection.execute("CALL etl.build()")
    return Library(connection)


def test_hostile_names_are_names_and_nothing_else(hostile: Library) -> None:
    """Insert, change, delete, refresh: every generated statement quotes every name."""
    hostile.execute("INSERT INTO evil.rows VALUES (1, 'a'), (2, 'b')")
    hostile.run()
    hostile.execute(f"UPDATE evil.rows SET {QUOTED} = 'c', at = clock_timestamp() WHERE id = 1")
    hostile.execute("DELETE FROM evil.rows WHERE id = 2")
    hostile.run()
    hostile.execute("CALL etl.run(NULL, '{all}')")
    hostile.run()
    assert hostile.rows(
        f'SELECT "it\'s", is_current FROM dwh.{QUOTED} WHERE "key; --" > 0 ORDER BY {QUOTED}, valid_from'
    ) == [("a", False), ("c", True), ("b", False)]
    assert hostile.rows(
        f'SELECT {QUOTED}, is_deleted, "how many; --" FROM dwh."fact\'; --" ORDER BY 1'
    ) == [(1, False, 1), (2, True, 0)]
    assert hostile.value("SELECT count(*) FROM y") == 0


def test_hostile_names_are_shown_by_the_status_views(hostile: Library) -> None:
    hostile.run()
    assert hostile.value("SELECT count(*) FROM etl.task_status WHERE object = %s", EVIL) == 3
    assert hostile.rows("SELECT statement FROM etl.object_sql(%s)", EVIL)


# Explanations ----------------------------------------------------------------------------------------------------------


def test_every_table_and_column_has_a_comment(database: Database) -> None:
    missing = database.rows(
        f"""
        SELECT c.oid::regclass::text || coalesce('.' || a.attname, '') AS name
        FROM pg_class AS c
        LEFT JOIN LATERAL (
            SELECT 0 AS attnum, NULL::name AS attname
            UNION ALL
            SELECT a.attnum, a.attname FROM pg_attribute AS a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        ) AS a ON true
        WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p') AND c.relnamespace::regnamespace::text IN {SCHEMAS}
            AND CASE a.attnum WHEN 0 THEN obj_description(c.oid, 'pg_class') ELSE col_description(c.oid, a.attnum) END
                IS NULL
        ORDER BY 1
        """
    )
    assert [row["name"] for row in missing] == []


def test_every_schema_routine_and_type_has_a_comment(database: Database) -> None:
    missing = database.rows(
        f"""
        SELECT 'schema ' || n.nspname AS name FROM pg_namespace AS n
        WHERE n.nspname IN {SCHEMAS} AND obj_description(n.oid, 'pg_namespace') IS NULL
        UNION ALL
        SELECT 'routine ' || p.oid::regprocedure FROM pg_proc AS p
        WHERE p.pronamespace::regnamespace::text IN {SCHEMAS} AND obj_description(p.oid, 'pg_proc') IS NULL
            AND left(p.proname, 1) <> '_'
        UNION ALL
        SELECT 'type ' || t.oid::regtype FROM pg_type AS t JOIN pg_class AS c ON c.oid = t.typrelid
        WHERE c.relkind = 'c' AND t.typnamespace::regnamespace::text IN {SCHEMAS}
            AND obj_description(t.oid, 'pg_type') IS NULL
        """
    )
    assert [row["name"] for row in missing] == []


def test_every_internal_routine_has_a_header_in_its_file() -> None:
    """A public routine has a COMMENT ON; what an internal one is for stands above it."""
    bare = [
        f"{path.name}: {name}"
        for path in sorted((ROOT / "plpgsql" / "engine").rglob("*.sql"))
        for above, name in re.findall(
            r"(.*)\nCREATE OR REPLACE (?:FUNCTION|PROCEDURE) (etl\._\w+)\(", path.read_text()
        )
        if not above.startswith(("--", "*/"))
    ]
    assert bare == []


def test_every_routine_pins_its_search_path_unless_it_commits(database: Database) -> None:
    """A routine with SET cannot COMMIT, and is not inlined: those that do, or are, qualify every name instead."""
    unpinned = database.rows(
        """
        SELECT p.proname FROM pg_proc AS p
        WHERE p.pronamespace::regnamespace::text IN ('etl', 'oceanrecords', 'kpi', 'work', 'source')
            AND p.proconfig IS NULL AND p.prosqlbody IS NULL AND p.prosrc !~ 'COMMIT'
            AND p.prosrc !~ 'CALL etl'
            AND NOT (p.prolang = (SELECT oid FROM pg_language WHERE lanname = 'sql') AND p.proname ~ '^kpi_')
        """
    )
    assert [row["proname"] for row in unpinned] == []


# Static analysis -------------------------------------------------------------------------------------------------------


# What is there at run time alone: temporary tables, foreign tables of a connected source, another extension.
MADE_AT_RUN_TIME = re.compile(
    r"""relation\ "(pg_temp\.\w+|cron\.\w+|etl\._source_\w+)"\ does\ not\ exist
    |column\ p\.oldest_transaction_started_at\ does\ not\ exist
    |cannot\ determinate\ a\ result\ of\ dynamic\ SQL""",  # of compiled routines
    re.VERBOSE,
)


@pytest.mark.server("debian")
def test_plpgsql_check_finds_nothing(connection: psycopg.Connection[Any]) -> None:
    """No error, no warning, nothing unused, in any PL/pgSQL routine.

    Left out are hints on conversions of constants, and those on SQL injection: the engine writes SQL for a living, and
    the hostile names above tell that it does so with care.
    """
    connection.execute("CREATE EXTENSION plpgsql_check")
    connection.execute("CREATE TEMPORARY TABLE so_that_pg_temp_exists ()")
    found = connection.execute(
        """
        SELECT p.oid::regprocedure::text, c.lineno, c.level, c.message
        FROM pg_proc AS p
        JOIN pg_language AS l ON l.oid = p.prolang AND l.lanname = 'plpgsql'
        CROSS JOIN LATERAL plpgsql_check_function_tb(
            p.oid, coalesce((SELECT t.tgrelid FROM pg_trigger AS t WHERE t.tgfoid = p.oid LIMIT 1), 0),
            newtable => (SELECT t.tgnewtable FROM pg_trigger AS t WHERE t.tgfoid = p.oid LIMIT 1),
            fatal_errors => false, other_warnings => true, extra_warnings => true,
            performance_warnings => false, security_warnings => false
        ) AS c
        WHERE p.pronamespace::regnamespace::text IN ('etl', 'compiled', 'oceanrecords', 'work', 'kpi', 'source')
        ORDER BY 1, 2
        """
    ).fetchall()
    partly_seen = {row[0] for row in found if MADE_AT_RUN_TIME.search(row[3])}
    problems = [
        row
        for row in found
        if not MADE_AT_RUN_TIME.search(row[3])
        # Of a statement that could not be looked into, nobody knows what it uses; nor of RETURN QUERY EXECUTE.
        and not (row[2] == "warning extra" and (row[0] in partly_seen or "maybe" in row[3]))
        # Templates declare the same variables for all tables; a table without a time of change does not read all of them.
        and not (row[0].startswith("compiled.") and row[3].startswith("never read variable"))
    ]
    assert not problems, "\n" + "\n".join(map(str, problems))
