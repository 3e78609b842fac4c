"""Rows whose key is not usable wait in quarantine alone, and leave it when their key is good or they are gone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.test_source_types import Table
from tests.support.database import Database

pytestmark = [pytest.mark.server("embedded"), pytest.mark.installed("engine")]

# Hashes do not become shorter by compression: the first key just fits into an index entry, the second does not.
HASHES = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, {}) AS n)"
FITS, TOO_LONG = HASHES.format(83), HASHES.format(90)


def tolerant(table: Table) -> Table:
    table.write("UPDATE etl.setting SET value = '100' WHERE name = 'quarantine_tolerated'")
    return table


def quarantine(table: Table) -> list[tuple[Any, ...]]:
    return table.warehouse.rows(
        "SELECT sqlstate, original_row ->> 'value' FROM etl.quarantine WHERE object = 'things' ORDER BY 2"
    )


def assert_agrees(table: Table) -> None:
    table.warehouse.execute("CALL etl.reconcile()")
    differing = table.warehouse.rows(
        "SELECT object, kind, row_key, message FROM etl.reconciliation_status AS s"
        " LEFT JOIN etl.reconciliation_difference AS d USING (reconciliation_id, object)"
        " WHERE s.object IN ('things', 'quarantine') AND (s.status <> 'equal' OR d.kind IS NOT NULL)"
    )
    assert differing == []


@pytest.mark.parametrize("deletes", ["tombstone", "comparison"])
@pytest.mark.parametrize("first", [True, False], ids=["initial load", "later batch"])
def test_rows_whose_key_is_null_leave_quarantine_when_repaired_or_deleted(
    database: Database, deletes: str, first: bool
) -> None:
    table = tolerant(Table(database, deletes=deletes))
    if not first:
        table.write("INSERT INTO lab.things VALUES (1, 'good')")
        table.warehouse.run()
    table.write(
        "INSERT INTO lab.things VALUES (NULL, 'deleted'), (NULL, 'repaired'), (NULL, 'stays'), (2, 'fine')"
    )
    table.warehouse.run()
    assert quarantine(table) == [("23502", "deleted"), ("23502", "repaired"), ("23502", "stays")]
    table.write("SELECT etl.accept_quarantine('things')")

    table.write("UPDATE lab.things SET thing = 3 WHERE value = 'repaired'")
    table.write("DELETE FROM lab.things WHERE value = 'deleted'")
    table.write("INSERT INTO lab.things VALUES (4, 'new')")
    table.warehouse.run()

    assert quarantine(table) == [("23502", "stays")]
    assert table.warehouse.value("SELECT count(accepted_at) FROM etl.quarantine") == 1
    assert ("3", "repaired") in table.mirror()
    assert_agrees(table)
    table.write("DELETE FROM lab.things")
    table.warehouse.execute("CALL etl.run(NULL, '{things}')")
    assert quarantine(table) == []
    assert table.mirror() == []


@pytest.mark.parametrize("deletes", ["tombstone", "comparison"])
@pytest.mark.parametrize("first", [True, False], ids=["initial load", "later batch"])
def test_a_key_too_long_for_an_index_entry_is_isolated(
    database: Database, deletes: str, first: bool
) -> None:
    table = tolerant(Table(database, key="text", deletes=deletes))
    if not first:
        table.write("INSERT INTO lab.things VALUES ('a', 'good')")
        table.warehouse.run()
    table.write(
        f"INSERT INTO lab.things VALUES ({TOO_LONG}, 'too long'), ({FITS}, 'fits'), (repeat('x', 9000), 'short when compressed'), ('b', 'fine')"
    )
    table.warehouse.run()
    assert quarantine(table) == [("54000", "too long")]
    assert {value for _, value in table.mirror()} >= {"fits", "fine", "short when compressed"}
    assert_agrees(table)

    # A retry finds it as it was; a shorter key lets it in.
    table.write("SELECT etl.retry_quarantine('things')")
    table.warehouse.run()
    assert quarantine(table) == [("54000", "too long")]
    table.write("UPDATE lab.things SET thing = 'c' WHERE value = 'too long'")
    table.warehouse.run()
    assert quarantine(table) == []
    table.check()
    assert_agrees(table)


@pytest.mark.parametrize("first", [True, False], ids=["initial load", "later batch"])
def test_a_key_that_is_json_null_is_isolated(database: Database, first: bool) -> None:
    """A repair or a retry names a row by its key as JSON, where it cannot be told from NULL."""
    table = tolerant(Table(database, key="jsonb"))
    if not first:
        table.write("INSERT INTO lab.things VALUES ('1', 'good')")
        table.warehouse.run()
    table.write(
        "INSERT INTO lab.things VALUES ('null', 'no key'), ('[null]', 'fine'), (NULL, 'none')"
    )
    table.warehouse.run()
    assert quarantine(table) == [("23502", "no key"), ("23502", "none")]
    assert "fine" in {value for _, value in table.mirror()}
    assert_agrees(table)

    table.write("UPDATE lab.things SET thing = to_jsonb(value) WHERE value IN ('no key', 'none')")
    table.warehouse.run()
    assert quarantine(table) == []
    table.check()


def test_a_wide_row_without_a_key_is_isolated(database: Database) -> None:
    """It is kept with all its columns, which are more than an index entry holds."""
    table = tolerant(Table(database))
    table.write(f"INSERT INTO lab.things VALUES (NULL, {HASHES.format(500)}), (1, 'fine')")
    table.warehouse.run()
    assert table.mirror() == [("1", "fine")]
    assert table.warehouse.value("SELECT count(*) FROM etl.quarantine") == 1
