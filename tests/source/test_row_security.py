"""Rows that a policy of the source hides are not taken for deleted ones: the run stops at the table."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.test_define import DIMENSION, FACT, OPERATIONAL, SOURCES, VIEWS, Lab
from tests.support.database import Database

pytestmark = pytest.mark.server("embedded")

POLICY = "ALTER TABLE {0} ENABLE ROW LEVEL SECURITY; CREATE POLICY one ON {0} USING (false)"
OUTCOME = "SELECT sqlstate FROM etl.task_run WHERE kind = 'extract' AND object = %s ORDER BY run_id DESC LIMIT 1"


def test_a_policy_on_a_local_table_stops_it(database: Database) -> None:
    lab = Lab(database.connect())
    lab.execute(OPERATIONAL)
    lab.declare(SOURCES, VIEWS, DIMENSION, FACT)
    lab.execute("INSERT INTO lab.things VALUES (1, 'one', 'red'), (2, 'two', 'blue')")
    assert lab.run() == "succeeded"
    # Superusers see all rows: on a managed server, the owner of the contract is no superuser.
    lab.execute(
        "GRANT USAGE ON SCHEMA lab, source TO pg_monitor; GRANT CREATE ON SCHEMA source TO pg_monitor;"
        " GRANT SELECT ON lab.things TO pg_monitor; ALTER VIEW source.things OWNER TO pg_monitor;"
    )
    lab.execute(POLICY.format("lab.things"))
    assert lab.run() == "partial"
    assert lab.value(OUTCOME, "things") == "42501"
    living = "SELECT count(*) FROM dwh.dim_thing WHERE is_current AND thing_key > 0"
    assert lab.value(living) == 2
    lab.execute("ALTER TABLE lab.things DISABLE ROW LEVEL SECURITY")
    assert lab.run() == "succeeded"
    assert lab.value(living) == 2


def test_a_policy_on_another_server_stops_its_table(connected: Any) -> None:
    connected.warehouse.execute("CALL etl.run()")
    assert (
        connected.warehouse.value("SELECT status FROM etl.run ORDER BY run_id DESC LIMIT 1")
        == "succeeded"
    )
    connected.source.execute(POLICY.format("oceanrecords.suppliers"))
    connected.warehouse.execute("CALL etl.run(NULL, '{suppliers}')")
    assert connected.warehouse.value(OUTCOME, "suppliers") == "42501"
