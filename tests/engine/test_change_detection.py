"""How changes are found: by a time of change, by comparing all rows, and by transaction id when everything is read anew."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.engine.library import Library
from tests.support.database import Database

pytestmark = pytest.mark.installed("engine")


class Shelf:
    """A source table `items` of three columns, mirrored in a way that the test chooses."""

    def __init__(self, database: Database, changes: str, deletes: str) -> None:
        self.warehouse = Library(database.connect())
        self.database = database
        self.warehouse.execute(
            """
            CREATE SCHEMA shelf;
            CREATE TABLE shelf.items (
                item_id integer PRIMARY KEY,
                label text,
                changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
                row_xid xid8 NOT NULL DEFAULT pg_current_xact_id()
            );
            CREATE VIEW source.items AS SELECT item_id, label, changed_at, row_xid FROM shelf.items;
            """
        )
        self.warehouse.execute(
            "INSERT INTO etl.source_table (source_table, key_columns, change_detection,"
            " change_column, delete_detection) VALUES ('items', '{item_id}', %s, %s, %s)",
            changes,
            {"timestamp": "changed_at", "snapshot": "row_xid"}.get(changes),
            deletes,
        )
        self.warehouse.execute("CALL etl.build()")
        self.write("INSERT INTO shelf.items VALUES (1, 'one'), (2, 'two')")
        self.run()

    def write(self, query: str) -> None:
        self.warehouse.execute(query)

    def writer(self) -> psycopg.Connection[Any]:
        """A second writer, whose transactions are its own affair."""
        return self.database.connect(autocommit=False)

    def run(self) -> None:
        self.warehouse.run()

    def mirror(self) -> dict[int, str]:
        """Labels of the rows that the mirror holds as alive."""
        rows = self.warehouse.rows(
            "SELECT item_id, label FROM stage.items WHERE deleted_at IS NULL"
        )
        return dict(rows)

    def read(self) -> int:
        """How many rows the last run extracted."""
        rows: int = self.warehouse.value(
            "SELECT coalesce(sum(rows_read), 0)::integer FROM etl.task_status WHERE task = 'extract:items'"
        )
        return rows


@pytest.fixture(params=["timestamp", "comparison"])
def shelf(database: Database, request: pytest.FixtureRequest) -> Shelf:
    return Shelf(database, request.param, "comparison")


@pytest.fixture
def timed(database: Database) -> Shelf:
    return Shelf(database, "timestamp", "none")


def test_new_and_changed_rows_arrive(shelf: Shelf) -> None:
    shelf.write("INSERT INTO shelf.items VALUES (3, 'three')")
    shelf.write(
        "UPDATE shelf.items SET label = 'ONE', changed_at = clock_timestamp() WHERE item_id = 1"
    )
    shelf.run()
    assert shelf.mirror() == {1: "ONE", 2: "two", 3: "three"}


def test_deleted_rows_are_found_by_comparing_keys(shelf: Shelf) -> None:
    shelf.write("DELETE FROM shelf.items WHERE item_id = 1")
    shelf.run()
    assert shelf.mirror() == {2: "two"}
    assert (
        shelf.warehouse.value("SELECT count(*) FROM stage.items WHERE deleted_at IS NOT NULL") == 1
    )


def test_rows_that_come_back_are_alive_again(shelf: Shelf) -> None:
    shelf.write("DELETE FROM shelf.items WHERE item_id = 1")
    shelf.run()
    shelf.write("INSERT INTO shelf.items VALUES (1, 'one again')")
    shelf.run()
    assert shelf.mirror() == {1: "one again", 2: "two"}


def test_a_key_that_changes_is_a_deletion_and_a_new_row(shelf: Shelf) -> None:
    shelf.write(
        "UPDATE shelf.items SET item_id = 7, changed_at = clock_timestamp() WHERE item_id = 1"
    )
    shelf.run()
    assert shelf.mirror() == {2: "two", 7: "one"}


def test_nothing_new_changes_no_row_of_the_mirror(shelf: Shelf) -> None:
    before = shelf.warehouse.rows("SELECT ctid::text, xmin::text FROM stage.items ORDER BY 1")
    shelf.run()
    after = shelf.warehouse.rows("SELECT ctid::text, xmin::text FROM stage.items ORDER BY 1")
    assert after == before


def test_rows_that_are_read_again_unchanged_are_dropped_from_the_batch(shelf: Shelf) -> None:
    """The batch decides which objects are loaded: unchanged rows must touch nothing."""
    shelf.run()
    assert shelf.read() == 2
    assert shelf.warehouse.value("SELECT count(*) FROM delta.items") == 0
    shelf.write(
        "UPDATE shelf.items SET label = 'ONE', changed_at = clock_timestamp() WHERE item_id = 1"
    )
    shelf.run()
    assert shelf.read() == 2
    assert shelf.warehouse.rows(
        "SELECT item_id, delta_operation, label FROM delta.items ORDER BY 2"
    ) == [
        (1, "before", "one"),
        (1, "upsert", "ONE"),
    ]


def test_a_full_refresh_takes_up_only_what_differs(database: Database) -> None:
    """By transaction id a row is read because it has changed; when all are read, most have not."""
    known = Shelf(database, "snapshot", "none")
    known.write(
        "INSERT INTO shelf.items SELECT n, 'item ' || n FROM generate_series(3, 12000) AS n"
    )
    known.run()
    assert known.read() == 11998
    known.write("UPDATE stage.items SET label = 'wrong' WHERE item_id = 7")
    known.write("CALL etl.run(NULL, '{items}')")
    assert known.read() == 1
    assert known.warehouse.rows(
        "SELECT item_id, delta_operation, label FROM delta.items ORDER BY 2"
    ) == [
        (7, "before", "wrong"),
        (7, "upsert", "item 7"),
    ]
    assert known.mirror()[7] == "item 7"


@pytest.mark.parametrize("deletes", ["none", "comparison"])
def test_a_full_refresh_finds_what_no_time_of_change_tells(
    database: Database, deletes: str
) -> None:
    stale = Shelf(database, "timestamp", deletes)
    stale.write("UPDATE shelf.items SET label = NULL WHERE item_id = 1")
    stale.write("DELETE FROM shelf.items WHERE item_id = 2")
    stale.write("INSERT INTO shelf.items VALUES (3, 'three', '2000-01-01')")
    stale.write("CALL etl.run(NULL, '{items}')")
    if deletes == "none":
        assert (stale.read(), stale.mirror()) == (2, {1: None, 2: "two", 3: "three"})
    else:
        assert (stale.read(), stale.mirror()) == (3, {1: None, 3: "three"})
    stale.write("INSERT INTO shelf.items VALUES (2, 'two', '2000-01-01')")
    stale.write("CALL etl.run(NULL, '{items}')")
    assert stale.mirror() == {1: None, 2: "two", 3: "three"}


def test_without_detection_deleted_rows_stay(timed: Shelf) -> None:
    timed.write("DELETE FROM shelf.items WHERE item_id = 1")
    timed.run()
    assert timed.mirror() == {1: "one", 2: "two"}


def test_a_nulled_column_is_a_change(database: Database) -> None:
    compared = Shelf(database, "comparison", "comparison")
    compared.write("UPDATE shelf.items SET label = NULL WHERE item_id = 1")
    compared.run()
    assert compared.mirror()[1] is None


def test_comparison_needs_no_time_of_change(database: Database) -> None:
    compared = Shelf(database, "comparison", "comparison")
    compared.write("UPDATE shelf.items SET label = 'unmarked' WHERE item_id = 1")
    compared.run()
    assert compared.mirror()[1] == "unmarked"


def test_a_row_that_commits_after_the_run_is_not_lost(timed: Shelf) -> None:
    """Its time of change lies before the last watermark, which was held back to its transaction's start."""
    writer = timed.writer()
    timed.write("UPDATE etl.source_table SET lookback = '0' WHERE source_table = 'items'")
    writer.execute("INSERT INTO shelf.items VALUES (3, 'late')")
    timed.run()
    writer.commit()
    timed.run()
    assert timed.mirror()[3] == "late"


def test_rows_younger_than_the_oldest_transaction_wait_for_it(timed: Shelf) -> None:
    """Nothing is lost by it: they come as soon as that transaction has ended."""
    writer = timed.writer()
    writer.execute("SELECT")
    timed.write("INSERT INTO shelf.items VALUES (3, 'three')")
    timed.run()
    assert 3 not in timed.mirror()
    writer.rollback()
    timed.run()
    assert timed.mirror()[3] == "three"


def test_a_clock_that_is_late_is_made_up_for_by_the_lookback(timed: Shelf) -> None:
    timed.write(
        "INSERT INTO shelf.items VALUES (3, 'from a late clock', now() - interval '5 minutes')"
    )
    timed.run()
    assert timed.mirror()[3] == "from a late clock"


def test_what_is_older_than_the_lookback_comes_with_a_full_refresh(timed: Shelf) -> None:
    """The limit of this way of detection, and the way out."""
    timed.write("INSERT INTO shelf.items VALUES (3, 'very late', now() - interval '1 hour')")
    timed.run()
    assert 3 not in timed.mirror()
    timed.write("CALL etl.run(NULL, '{items}')")
    assert timed.mirror()[3] == "very late"


def test_rows_beyond_the_lookback_are_not_read_again(timed: Shelf) -> None:
    timed.write("UPDATE etl.source_table SET lookback = '0' WHERE source_table = 'items'")
    timed.run()
    timed.run()
    assert timed.read() == 0


def test_a_large_batch_leaves_the_table_of_changes_with_the_next_run(database: Database) -> None:
    """A small one stays to be looked at until there are other changes."""
    shelf = Shelf(database, "snapshot", "none")
    held = "SELECT count(*) FROM delta.items"
    shelf.write("INSERT INTO shelf.items VALUES (3, 'three')")
    shelf.run()
    shelf.run()
    assert shelf.warehouse.value(held) == 1
    shelf.write(
        "INSERT INTO shelf.items SELECT n, repeat('x', 100) FROM generate_series(4, 40000) AS n"
    )
    shelf.run()
    assert shelf.warehouse.value("SELECT pg_relation_size('delta.items') > 4 * 1024 * 1024")
    shelf.write("UPDATE shelf.items SET label = 'one', row_xid = DEFAULT WHERE item_id IN (1, 3)")
    shelf.run()
    assert shelf.warehouse.value(held) == 4  # two rows, as they were and as they are
    assert len(shelf.mirror()) == 40000


def test_new_keys_between_and_beyond_existing_ones_are_inserted(database: Database) -> None:
    """Only the changed row is an update."""
    shelf = Shelf(database, "snapshot", "none")
    shelf.write("INSERT INTO shelf.items VALUES (9, 'nine')")
    shelf.run()
    shelf.write(
        "UPDATE shelf.items SET label = 'IX', row_xid = DEFAULT WHERE item_id = 9;"
        "INSERT INTO shelf.items VALUES (-1, 'less'), (5, 'five'), (10, 'ten')"
    )
    shelf.run()
    assert shelf.mirror() == {-1: "less", 1: "one", 2: "two", 5: "five", 9: "IX", 10: "ten"}
    counted = "SELECT rows_inserted, rows_updated FROM etl.task_status WHERE task = 'stage:items'"
    assert shelf.warehouse.rows(counted) == [(3, 1)]


def test_a_table_that_cannot_be_looked_at_holds_up_no_other(database: Database) -> None:
    """All are looked at together, but the one that is to blame fails alone, and says why."""
    shelf = Shelf(database, "snapshot", "none")
    shelf.write("CREATE VIEW source.others AS SELECT item_id, label, row_xid FROM shelf.items")
    shelf.write(
        "INSERT INTO etl.source_table (source_table, key_columns, change_detection, change_column,"
        " delete_detection) VALUES ('others', '{item_id}', 'snapshot', 'row_xid', 'none')"
    )
    shelf.write("CALL etl.build()")
    shelf.run()
    shelf.write("DROP VIEW source.others")
    shelf.write("INSERT INTO shelf.items VALUES (3, 'three')")
    shelf.write("CALL etl.run()")
    assert shelf.mirror() == {1: "one", 2: "two", 3: "three"}
    failed = shelf.warehouse.rows(
        "SELECT task, sqlstate FROM etl.task_status WHERE status = 'failed' ORDER BY task"
    )
    assert failed == [("extract:others", "42P01")]


@pytest.mark.installed("oceanrecords")
def test_who_uses_no_tombstones_needs_none(database: Database) -> None:
    """The look at all tables asks for tombstones only on behalf of those that have them."""
    shelf = Shelf(database, "snapshot", "none")
    shelf.write("DROP VIEW source.tombstones")
    shelf.write("INSERT INTO shelf.items VALUES (3, 'three')")
    shelf.write("CALL etl.run()")
    assert shelf.mirror() == {1: "one", 2: "two", 3: "three"}
    # Beside the retailer's tables, which do use them: what fails is not this table.
    status = "SELECT status FROM etl.task_status WHERE task = 'extract:items'"
    assert shelf.warehouse.value(status) == "succeeded"


def test_a_table_that_is_swapped_by_renaming_is_noticed(database: Database) -> None:
    """The view of the contract follows the old table: nothing would ever change there again."""
    shelf = Shelf(database, "snapshot", "comparison")
    shelf.write(
        "CREATE TABLE shelf.new_items (LIKE shelf.items INCLUDING ALL);"
        "INSERT INTO shelf.new_items VALUES (1, 'swapped');"
        "ALTER TABLE shelf.items RENAME TO old_items; ALTER TABLE shelf.new_items RENAME TO items"
    )
    shelf.write("CALL etl.run()")
    assert shelf.warehouse.rows(
        "SELECT status, sqlstate, message FROM etl.task_status WHERE task = 'extract:items'"
    ) == [
        (
            "failed",
            "ET007",
            'source table "items" has changed: source.items reads shelf.old_items instead of shelf.items',
        )
    ]
    shelf.write(
        "CREATE OR REPLACE VIEW source.items AS SELECT item_id, label, changed_at, row_xid FROM shelf.items"
    )
    shelf.write("CALL etl.build()")
    # Its rows are older than the watermark: a comparison finds them.
    shelf.write("CALL etl.run(NULL, '{items}')")
    assert shelf.mirror() == {1: "swapped"}


@pytest.mark.parametrize(
    "change",
    [
        "CREATE OR REPLACE VIEW source.items AS SELECT item_id, upper(label) AS label, changed_at, row_xid FROM shelf.items",
        # The same name, and rows that are older than the watermark.
        "DROP VIEW source.items; ALTER TABLE shelf.items RENAME TO old_items; CREATE TABLE shelf.items (LIKE shelf.old_items);"
        " INSERT INTO shelf.items SELECT item_id, upper(label), changed_at, row_xid FROM shelf.old_items; DROP TABLE shelf.old_items;"
        " CREATE VIEW source.items AS SELECT item_id, label, changed_at, row_xid FROM shelf.items",
        # Whoever disables triggers changes rows without a mark.
        "ALTER TABLE shelf.items DISABLE TRIGGER mark; UPDATE shelf.items SET label = upper(label); ALTER TABLE shelf.items ENABLE TRIGGER mark",
    ],
    ids=["view replaced", "table created again", "trigger disabled"],
)
@pytest.mark.parametrize("changes", ["snapshot", "timestamp"])
def test_what_the_contract_reads_has_changed(database: Database, changes: str, change: str) -> None:
    """No row is marked as changed: the next run compares the table, and says why."""
    shelf = Shelf(database, changes, "none")
    shelf.write(
        "CREATE FUNCTION shelf.mark() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN NEW.row_xid := pg_current_xact_id(); NEW.changed_at := clock_timestamp(); RETURN NEW; END';"
        " CREATE TRIGGER mark BEFORE UPDATE ON shelf.items FOR EACH ROW EXECUTE FUNCTION shelf.mark();"
        " UPDATE etl.source_table SET lookback = '0'"
    )
    shelf.run()
    shelf.write(change)
    shelf.run()
    assert shelf.mirror() == {1: "ONE", 2: "TWO"}
    assert shelf.warehouse.value(
        "SELECT reload_reasons -> 'items' FROM etl.run ORDER BY run_id DESC LIMIT 1"
    ) == ["what source.items reads has changed"]
    shelf.run()
    assert shelf.read() == 0


def test_a_materialized_view_that_is_refreshed_is_compared(database: Database) -> None:
    """Its rows bear the transactions that wrote them, which the watermark has long passed."""
    shelf = Shelf(database, "snapshot", "none")
    shelf.write(
        "DROP VIEW source.items; CREATE MATERIALIZED VIEW shelf.copies AS SELECT item_id, label, changed_at, row_xid FROM shelf.items;"
        " CREATE VIEW source.items AS SELECT * FROM shelf.copies"
    )
    shelf.run()
    shelf.write("UPDATE shelf.items SET label = upper(label), row_xid = pg_current_xact_id()")
    shelf.run()
    shelf.write("REFRESH MATERIALIZED VIEW shelf.copies")
    shelf.run()
    assert shelf.mirror() == {1: "ONE", 2: "TWO"}


def test_a_column_that_the_contract_has_retyped_stops_its_table_by_name(database: Database) -> None:
    """Otherwise its values would be rounded to the type of the mirror, and reconciliation would agree."""
    shelf = Shelf(database, "snapshot", "none")
    shelf.write(
        "DROP VIEW source.items; ALTER TABLE shelf.items ADD size numeric(6, 2) DEFAULT 1;"
        " CREATE VIEW source.items AS SELECT * FROM shelf.items; CALL etl.build()"
    )
    shelf.run()
    shelf.write(
        "DROP VIEW source.items; ALTER TABLE shelf.items ALTER size TYPE numeric(6, 4);"
        " CREATE VIEW source.items AS SELECT * FROM shelf.items; INSERT INTO shelf.items (item_id, size) VALUES (3, 1.2345)"
    )
    shelf.warehouse.execute("CALL etl.run()")
    failed = "SELECT sqlstate, message FROM etl.task_status WHERE status = 'failed'"
    assert shelf.warehouse.rows(failed) == [
        (
            "ET007",
            'source table "items" has changed: column "size" is numeric(6,4) instead of numeric(6,2)',
        )
    ]
    shelf.write("CALL etl.build()")
    shelf.run()
    assert str(shelf.warehouse.value("SELECT size FROM stage.items WHERE item_id = 3")) == "1.2345"


def test_a_row_dated_in_the_future_arrives_and_so_do_its_changes(timed: Shelf) -> None:
    timed.write("INSERT INTO shelf.items VALUES (3, 'three', now() + interval '10 years')")
    timed.run()
    assert timed.mirror()[3] == "three"
    timed.write("UPDATE shelf.items SET label = 'THREE' WHERE item_id = 3")
    timed.run()
    assert timed.mirror()[3] == "THREE"


def test_a_clock_that_is_set_back_loses_nothing(timed: Shelf) -> None:
    """What is written afterwards is dated before the watermark."""
    timed.write(
        "UPDATE etl.watermark SET read_at = read_at + interval '2 hours', compared_at = compared_at + interval '2 hours';"
        " INSERT INTO shelf.items VALUES (3, 'three', now() - interval '1 hour')"
    )
    timed.run()
    assert timed.mirror()[3] == "three"


def test_a_row_that_comes_back_as_it_was_is_alive_again(database: Database) -> None:
    shelf = Shelf(database, "comparison", "comparison")
    shelf.write("CREATE TABLE shelf.kept AS SELECT * FROM shelf.items WHERE item_id = 1")
    shelf.write("DELETE FROM shelf.items WHERE item_id = 1")
    shelf.run()
    assert shelf.mirror() == {2: "two"}
    shelf.write("INSERT INTO shelf.items SELECT * FROM shelf.kept")
    shelf.run()
    assert shelf.mirror() == {1: "one", 2: "two"}
