"""The engine is free of business: a lending library loads, keeps history and reprocesses with the same routines.

Its warehouse consists of tables, views and catalog rows alone (the files in `library/`).
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from tests.engine.library import Library
from tests.support.database import Database

ENGINE = Path(__file__).parents[2] / "plpgsql" / "engine"
ROUTINES = """
    SELECT md5(string_agg(pg_get_functiondef(p.oid), '' ORDER BY p.oid::regprocedure::text))
    FROM pg_proc AS p WHERE p.pronamespace = 'etl'::regnamespace AND p.prokind <> 'a'
"""


def test_it_needs_no_routine_of_its_own(new_database: object, library: Library) -> None:
    """Not one routine in the schemas of the warehouse differs from an installation without the library."""
    assert callable(new_database)
    without: Database = new_database()
    assert library.value(ROUTINES) == without.value(ROUTINES)
    of_work = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'work'::regnamespace"
    assert library.value(of_work) == without.value(of_work)


def test_no_routine_of_the_engine_names_the_retailer() -> None:
    """The engine's files speak of no table of the operational system."""
    words = ("customer", "order_line", "product", "supplier", "payment")
    for path in ENGINE.rglob("*.sql"):
        code = "\n".join(
            line.partition("--")[0] for line in path.read_text(encoding="utf-8").splitlines()
        )
        assert not [word for word in words if f"stage.{word}" in code or f"dim_{word}" in code], (
            path
        )


def test_it_loads(library: Library) -> None:
    member, book = library.member(" Ann "), library.book("978-1")
    loan = library.lend(member, book)
    library.run()
    assert library.loan(loan) == {
        "member_id": member,
        "member_name": "Ann",
        "category": "adult",
        "title": "A book",
        "days_out": None,
        "loan_count": 1,
        "returned_date_key": -2,
        "is_deleted": False,
    }


def test_it_follows_changes(library: Library) -> None:
    loan = library.lend(library.member("Ann"), library.book("978-1"))
    library.run()
    library.take_back(loan)
    library.run()
    assert library.loan(loan)["days_out"] == Decimal(3)


def test_it_keeps_history(library: Library) -> None:
    """A member who grows up borrows as an adult; what she borrowed as a child stays a child's loan."""
    member, book = library.member("Ann", "child"), library.book("978-1")
    before = library.lend(member, book)
    library.run()
    library.execute("UPDATE library.members SET category = 'adult', name = 'Anna'")
    after = library.lend(member, book)
    library.run()
    assert library.loan(before)["category"] == "child"
    assert library.loan(after)["category"] == "adult"
    assert library.loan(before)["member_name"] == "Anna"


def test_it_reprocesses(library: Library) -> None:
    """A loan to a member who has not arrived waits, and is resolved by the next run."""
    library.run()
    library.execute(
        "CREATE FUNCTION dwh.refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'not today'; END $$"
    )
    library.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON dwh.dim_member FOR EACH ROW"
        " EXECUTE FUNCTION dwh.refuse()"
    )
    loan = library.lend(library.member("Ann"), library.book("978-1"))
    library.run(expect="partial")
    assert library.loan(loan)["member_id"] is None
    assert library.rows("SELECT fact, key_column FROM etl.reprocessing_queue") == [
        ("fact_loan", "member_key")
    ]
    library.execute("DROP TRIGGER refuse ON dwh.dim_member")
    library.run()
    assert library.loan(loan)["member_name"] == "Ann"
    assert library.value("SELECT count(*) FROM etl.reprocessing_queue") == 0


def test_what_a_run_of_a_part_made_ready_is_resolved_by_the_next(library: Library) -> None:
    """The dimension alone is loaded again. Then nothing is new, and only the queue says that there is work."""
    library.run()
    library.execute(
        "CREATE FUNCTION dwh.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$;"
        " CREATE TRIGGER refuse BEFORE INSERT ON dwh.dim_member FOR EACH ROW EXECUTE FUNCTION dwh.refuse()"
    )
    loan = library.lend(library.member("Ann"), library.book("978-1"))
    library.run(expect="partial")
    assert library.loan(loan)["member_id"] is None
    library.execute("DROP TRIGGER refuse ON dwh.dim_member")
    library.execute("CALL etl.run('{dim_member}')")
    library.run()
    assert library.loan(loan)["member_name"] == "Ann"
    assert library.value("SELECT count(*) FROM etl.reprocessing_queue") == 0


def test_it_follows_deletions(library: Library) -> None:
    member = library.member("Ann")
    loan = library.lend(member, library.book("978-1"))
    library.run()
    library.execute("DELETE FROM library.loans")
    library.execute("DELETE FROM library.members")
    library.run()
    fact = library.loan(loan)
    assert (fact["is_deleted"], fact["loan_count"]) == (True, 0)
    assert library.rows("SELECT is_current FROM dwh.dim_member WHERE member_key > 0") == [(False,)]


def test_it_follows_a_changed_key(library: Library) -> None:
    """The old member ends, and the new one begins; no row is marked but for the trigger on the key."""
    member = library.member("Ann")
    library.run()
    library.execute("UPDATE library.members SET member_id = member_id + 100")
    library.run()
    current = "SELECT member_id FROM dwh.dim_member WHERE is_current AND member_key > 0"
    assert library.rows(current) == [(member + 100,)]


def test_a_row_that_moves_between_groups_touches_the_one_that_it_leaves(library: Library) -> None:
    """The key of the fact is no key of the source: only the row before the change tells the group."""
    library.execute(
        "CREATE TABLE dwh.fact_genre (genre text PRIMARY KEY, book_count integer NOT NULL,"
        " is_deleted boolean NOT NULL, run_id bigint NOT NULL);"
        "CREATE VIEW work.fact_genre AS SELECT b.genre, count(*)::integer AS book_count"
        " FROM stage.books AS b WHERE b.deleted_at IS NULL GROUP BY b.genre;"
        "INSERT INTO etl.fact (fact, fact_table, transform_view, business_key, measures)"
        " VALUES ('fact_genre', 'dwh.fact_genre', 'work.fact_genre', '{genre}', '{book_count}');"
        "INSERT INTO etl.dependency (object, source_table, key_query)"
        " VALUES ('fact_genre', 'books', 'SELECT genre FROM changed')"
    )
    library.execute("CALL etl.build()")
    for isbn in ("978-1", "978-2", "978-3"):
        library.book(isbn)
    library.run()
    library.execute("UPDATE library.books SET genre = 'Essay' WHERE isbn = '978-1'")
    library.run()
    groups = "SELECT genre, book_count FROM dwh.fact_genre WHERE NOT is_deleted ORDER BY genre"
    assert library.rows(groups) == [("Essay", 1), ("Novel", 2)]
    library.execute("UPDATE library.books SET genre = 'Essay'")
    library.run()
    assert library.rows(groups) == [("Essay", 3)]


def test_a_member_that_a_changed_view_leaves_out_is_closed(library: Library) -> None:
    library.book("978-1")
    library.run()
    library.execute(
        "CREATE OR REPLACE VIEW work.dim_book AS SELECT b.isbn, trim(b.title) AS title, b.genre,"
        " b.updated_at AS effective_at, b.deleted_at FROM stage.books AS b WHERE b.genre <> 'Novel'"
    )
    library.run()
    assert library.rows("SELECT is_current FROM dwh.dim_book WHERE book_key > 0") == [(False,)]


def test_it_follows_a_truncated_table(library: Library) -> None:
    loan = library.lend(library.member("Ann"), library.book("978-1"))
    library.run()
    library.execute("TRUNCATE library.loans")
    library.run()
    assert library.loan(loan)["is_deleted"] is True


def test_it_follows_a_writer_that_replicates(library: Library) -> None:
    """Ordinary triggers do not fire for a session that applies changes as a replica."""
    loan = library.lend(library.member("Ann"), library.book("978-1"))
    library.run()
    library.execute("SET session_replication_role = replica")
    library.execute("UPDATE library.members SET name = 'Anna'")
    library.execute("DELETE FROM library.loans")
    library.execute("RESET session_replication_role")
    library.run()
    fact = library.loan(loan)
    assert (fact["member_name"], fact["is_deleted"]) == ("Anna", True)


def test_it_says_which_sql_it_runs(library: Library) -> None:
    statements = library.rows("SELECT statement FROM etl.object_sql('fact_loan')")
    assert any("INSERT INTO dwh.fact_loan" in statement for (statement,) in statements)


def test_it_runs_beside_the_retailer(library: Library) -> None:
    """Both businesses share a run; the retailer's tables stay empty, and its tasks succeed."""
    library.lend(library.member("Ann"), library.book("978-1"))
    library.run()
    tasks = library.value("SELECT count(*) FROM etl.task_status WHERE status = 'succeeded'")
    assert tasks == library.value("SELECT count(*) FROM etl.task")


def test_it_can_be_taken_away_again(library: Library) -> None:
    """Without its catalog rows its tasks are gone, and the retailer's go on."""
    library.lend(library.member("Ann"), library.book("978-1"))
    library.run()
    for row in ("fact", "dimension"):
        library.execute(
            f"DELETE FROM etl.{row} WHERE {row} IN ('fact_loan', 'dim_member', 'dim_book')"
        )
    library.execute(
        "DELETE FROM etl.dependency WHERE object IN ('fact_loan', 'dim_member', 'dim_book')"
    )
    library.execute(
        "DELETE FROM etl.source_table WHERE source_table IN ('members', 'books', 'loans')"
    )
    library.execute("CALL etl.build()")
    library.run()
    assert library.rows("SELECT task FROM etl.task_status WHERE object ~ 'loan|member|book'") == []
