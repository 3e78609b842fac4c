"""Values of settings are values: one that is no fit value is an error that quotes it, and never a statement."""

from __future__ import annotations

import psycopg
import pytest

from tests.support.database import Database
from tests.warehouse.play import Play

VALUES = ('x"; drop table y; --', "x'; drop table y; --", "UTC'); drop table y; --")
# Whatever reads a setting.
READERS = (
    "CALL etl.run()",
    "CALL etl.reconcile()",
    "SELECT * FROM etl.run_checks()",
    "SELECT * FROM etl.watermark_status",
    "SELECT * FROM etl.queue_status",
    "SELECT * FROM etl.staleness",
    "SELECT * FROM work.kpi_clock",
)


def test_a_time_zone_that_is_none_fails_the_load_in_its_words(
    database: Database, play: Play
) -> None:
    database.execute("CREATE TABLE public.y (a integer)")
    before = play.rows("SELECT * FROM dwh.fact_order ORDER BY order_id")
    for value in VALUES:
        database.execute("UPDATE etl.setting SET value = %s WHERE name = 'time_zone'", value)
        play.shop.order(play.customer, play.address, {play.product: 1})
        play.run(expect=None)
        told = play.rows("SELECT reason FROM etl.quarantine") + play.rows(
            "SELECT message FROM etl.task_status WHERE status = 'failed'"
        )
        assert any("time zone" in text and value in text for (text,) in told), told
    assert play.rows("SELECT * FROM dwh.fact_order ORDER BY order_id") == before
    assert play.value("SELECT to_regclass('public.y')") is not None
    database.execute("UPDATE etl.setting SET value = 'UTC' WHERE name = 'time_zone'")
    play.loader.execute("SELECT * FROM etl.retry_quarantine()")
    play.run()
    assert play.value("SELECT count(*) FROM dwh.fact_order") == len(before) + len(VALUES)
    assert play.value("SELECT count(*) FROM etl.quarantine") == 0
    play.loader.execute("CALL etl.reconcile()")
    assert play.value("SELECT count(*) FROM etl.reconciliation_difference") == 0


@pytest.mark.parametrize("value", VALUES, ids=["name", "value", "list"])
def test_no_setting_s_value_is_executed(database: Database, play: Play, value: str) -> None:
    """All settings that there are, those of tomorrow too."""
    database.execute("CREATE TABLE public.y (a integer)")
    names = [name for (name,) in play.rows("SELECT name FROM etl.setting ORDER BY name")]
    assert {"time_zone", "alert_hook", "stale_after", "quarantine_limit"} <= set(names)
    database.execute("UPDATE etl.setting SET value = %s", value)
    errors: list[psycopg.Error] = []
    for statement in READERS:
        try:
            play.loader.execute(statement.encode())
        except psycopg.Error as error:
            errors.append(error)
    # The value is told as it is, as input of a type or as a name that there is not.
    assert errors
    for error in errors:
        assert (error.sqlstate or "")[:2] in ("22", "ET"), error
        assert value in str(error)
    assert play.value("SELECT to_regclass('public.y')") is not None
    assert play.value("SELECT count(*) FROM etl.setting WHERE value = %s", value) == len(names)
