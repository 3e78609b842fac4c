"""`oceanrecords plan`: what the next run loads completely, why, and what that changes."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.conftest import Finished
from tests.support.database import Database

SHOUT = """
DO $replace$ BEGIN
EXECUTE format('CREATE OR REPLACE VIEW work.dim_status AS SELECT %s FROM (%s) AS q', (
    SELECT string_agg(CASE attname WHEN 'status_name' THEN 'upper(status_name) AS status_name' ELSE quote_ident(attname) END, ', ' ORDER BY attnum)
    FROM pg_attribute WHERE attrelid = 'work.dim_status'::regclass AND attnum > 0
), rtrim(pg_get_viewdef('work.dim_status'::regclass), ';'));
END $replace$
"""


def test_a_plan_names_objects_reasons_and_rows(
    cli: Callable[..., Finished], database: Database
) -> None:
    assert "dim_status\n  it was never loaded" in cli("plan").stdout
    assert cli("run").returncode == 0
    assert "Nothing is loaded completely" in cli("plan").stdout
    assert json.loads(cli("plan", "--json").stdout) == []

    database.execute(SHOUT)
    told = cli("plan")
    assert told.returncode == 0
    assert "dim_status\n  view work.dim_status has changed" in told.stdout
    assert "rows" not in told.stdout
    told = cli("plan", "--rows", "--sample", "2")
    assert told.returncode == 0, told.stderr
    assert "rows: 6" in told.stdout
    assert told.stdout.count("PLACED") == 1
    (answer,) = json.loads(cli("plan", "--rows", "--json").stdout)
    assert (answer["object"], answer["kind"]) == ("dim_status", "dimension")
    assert len(answer["rows"]["sample"]) == 3
    assert database.value("SELECT count(*) FROM dwh.dim_status WHERE status_name = 'PLACED'") == 0
    assert cli("plan", "nonsense", "--rows").returncode == 1

    assert cli("run").returncode == 0
    assert database.value("SELECT count(*) FROM dwh.dim_status WHERE status_name = 'PLACED'") == 1
    assert "Nothing is loaded completely" in cli("plan").stdout
