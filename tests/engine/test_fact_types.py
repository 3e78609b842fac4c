"""A column of a fact, which no dimension explains, may be of any type: it is loaded, changed, deleted and reconciled like a number."""

from __future__ import annotations

import pytest

from tests.engine.test_contract import TYPES, lab
from tests.engine.test_define import Lab

# What is tested here does not depend on the version of the server.
pytestmark = [pytest.mark.server("embedded"), pytest.mark.installed("engine")]

__all__ = ["lab"]


@pytest.mark.parametrize("name", TYPES)
def test_a_column_of_any_type_is_loaded_changed_and_deleted(lab: Lab, name: str) -> None:
    """Equal values that are not identical differ; a full refresh changes nothing; reconciliation agrees."""
    first, second, equal = TYPES[name]
    lab.execute(f"CREATE TABLE lab.events (event_id bigint PRIMARY KEY, odd {name})")
    lab.execute("CREATE VIEW source.events AS SELECT * FROM lab.events")
    lab.execute("SELECT etl.define_source('events')")
    lab.execute("CALL etl.build()")
    lab.execute(
        "CREATE VIEW work.fact_event AS SELECT event_id, odd, 1 AS pieces, deleted_at FROM stage.events"
    )
    lab.execute("SELECT etl.define_fact('fact_event', '{event_id}', '{pieces}', '{}')")
    lab.execute("CALL etl.build()")
    lab.execute(f"INSERT INTO lab.events VALUES (1, {first}), (2, {first}), (3, {first})")
    assert lab.run() == "succeeded"
    lab.execute(f"UPDATE lab.events SET odd = {second} WHERE event_id = 1")
    if equal:
        lab.execute(f"UPDATE lab.events SET odd = {equal} WHERE event_id = 2")
    lab.execute("DELETE FROM lab.events WHERE event_id = 3")
    assert lab.run() == "succeeded"
    for _ in range(2):
        assert lab.rows(
            "SELECT f.event_id, f.odd::text IS NOT DISTINCT FROM e.odd::text, f.is_deleted, f.pieces"
            " FROM dwh.fact_event AS f LEFT JOIN lab.events AS e USING (event_id) ORDER BY 1"
        ) == [(1, True, False, 1), (2, True, False, 1), (3, False, True, None)]
        lab.execute("CALL etl.run(NULL, '{events,fact_event}')")
        assert lab.rows(
            "SELECT sum(rows_inserted + rows_updated + rows_deleted) FROM etl.task_run"
            " WHERE run_id = (SELECT max(run_id) FROM etl.run)"
        ) == [(0,)]
    lab.execute("CALL etl.reconcile('{events,fact_event}')")
    assert (
        lab.rows(
            "SELECT object, status, message FROM etl.reconciliation_status WHERE status <> 'equal'"
        )
        == []
    )
