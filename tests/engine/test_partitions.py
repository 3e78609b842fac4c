"""A partitioned or inherited source table: rows that move, partitions that come and go, children without triggers."""

from __future__ import annotations

import pytest

from tests.engine.test_source_types import Table
from tests.support.database import Database

pytestmark = [pytest.mark.server("embedded"), pytest.mark.installed("engine")]

PARTITIONED = """
DROP VIEW source.things;
DROP TABLE lab.things;
CREATE TABLE lab.things (
    thing integer, value text, row_xid xid8 DEFAULT pg_current_xact_id(), PRIMARY KEY (thing, value)
) PARTITION BY LIST (value);
CREATE TABLE lab.things_a PARTITION OF lab.things FOR VALUES IN ('a');
CREATE TABLE lab.things_b PARTITION OF lab.things FOR VALUES IN ('b');
CREATE TRIGGER mark BEFORE INSERT OR UPDATE OR DELETE ON lab.things FOR EACH ROW EXECUTE FUNCTION lab.mark();
CREATE VIEW source.things AS SELECT thing, value, row_xid FROM lab.things;
"""
COMPARE = "UPDATE etl.setting SET value = '{}' WHERE name = 'compare_sources_every'"


def compared(table: Table) -> None:
    """What no trigger sees is found when the comparison is due, without a full refresh."""
    table.write(COMPARE.format("0 s"))
    table.warehouse.run()
    table.write(COMPARE.format("1 day"))
    table.check()


def test_rows_that_move_between_partitions_stay_alive(database: Database) -> None:
    table = Table(database, build=False)
    table.write(PARTITIONED)
    table.build()
    table.write("INSERT INTO lab.things VALUES (1, 'a'), (2, 'b'), (3, 'a')")
    table.check()
    table.write("UPDATE lab.things SET value = 'b' WHERE thing = 1")
    table.check()
    # There and back in one transaction, deleted and inserted in another, moved and deleted in a third.
    table.write(
        "BEGIN; UPDATE lab.things SET value = 'a' WHERE thing = 1;"
        " UPDATE lab.things SET value = 'b' WHERE thing = 1; COMMIT"
    )
    table.write(
        "BEGIN; DELETE FROM lab.things WHERE thing = 2; INSERT INTO lab.things VALUES (2, 'a'); COMMIT"
    )
    table.check()
    table.write(
        "BEGIN; UPDATE lab.things SET value = 'b' WHERE thing = 3; DELETE FROM lab.things WHERE thing = 3; COMMIT"
    )
    table.check()
    assert table.mirror() == [("1", "b"), ("2", "a")]


def test_partitions_that_come_and_go_are_noticed(database: Database) -> None:
    table = Table(database, build=False)
    table.write(PARTITIONED)
    table.build()
    table.write("INSERT INTO lab.things VALUES (1, 'a'), (2, 'b'), (3, 'b')")
    table.check()
    table.write("ALTER TABLE lab.things DETACH PARTITION lab.things_b")
    table.warehouse.run()
    assert table.mirror() == [("1", "a")]
    table.write("UPDATE lab.things_b SET thing = 4 WHERE thing = 3")
    table.write("ALTER TABLE lab.things ATTACH PARTITION lab.things_b FOR VALUES IN ('b')")
    table.warehouse.run()
    assert table.mirror() == [("1", "a"), ("2", "b"), ("4", "b")]
    # Emptied and filled with the same keys, of which one stays away.
    table.write("TRUNCATE lab.things_b; INSERT INTO lab.things VALUES (2, 'b')")
    table.warehouse.run()
    assert table.mirror() == [("1", "a"), ("2", "b")]
    table.write("DROP TABLE lab.things_b")
    table.warehouse.run()
    assert table.mirror() == [("1", "a")]


def test_children_of_a_table_are_its_rows(database: Database) -> None:
    """Inserted rows have the mark by default; changes and deletions need triggers of the child, or the comparison."""
    table = Table(database)
    table.write("CREATE TABLE lab.more () INHERITS (lab.things)")
    table.write("INSERT INTO lab.things VALUES (1, 'parent')")
    table.write("INSERT INTO lab.more VALUES (2, 'child'), (3, 'child')")
    table.check()
    table.write("UPDATE lab.more SET value = 'changed' WHERE thing = 2")
    table.write("DELETE FROM lab.more WHERE thing = 3")
    compared(table)
    assert table.mirror() == [("1", "parent"), ("2", "changed")]
