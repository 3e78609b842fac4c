"""Values of settings are checked as they are written; and however they came there, they are never statements."""

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

# Of each setting: values that go in, and values that do not.
INTERVALS = (
    ("0", "1 microsecond", "15 minutes", "1 day 02:00", "PT5M"),
    (
        "",
        "soon",
        "15 minuts",
        "-1 second",
        "1 day -25 hours",
        "infinity",
        "-infinity",
        "300000 years",
    ),
)
COUNTS = (("0", "5", "1000000"), ("", "-1", "many", "1.5", "1e3", "99999999999999999999"))
CASES = {
    "alert_hook": (
        ("", "ops.page", "ops.page(text, text, jsonb)"),
        ("ops.nowhere", "ops.page(", "ops.page(text)", "pg_catalog.now()", "page", "x; DROP TABLE etl.run"),
    ),
    "business_date": (
        ("", "2025-12-31", "2024-02-29"),
        ("2025-02-29", "31.12.2025", "01/02/2025", "infinity", "today", "2025-12-31 10:00", "-"),
    ),
    "checks_kept": INTERVALS,
    "compare_sources_every": INTERVALS,
    "currency": (("EUR", "USD"), ("", "eur", "EURO", "E1R", "€")),
    "maintenance_every": INTERVALS,
    "password_length": COUNTS,
    "quarantine_limit": COUNTS,
    "quarantine_share_limit": (("0", "0.5", "100"), ("", "-1", "101", "many", "NaN")),
    "quarantine_tolerated": COUNTS,
    "queue_old_after": INTERVALS,
    "reconciliation_rows_kept": COUNTS,
    "reconciliations_kept": INTERVALS,
    "runs_kept": INTERVALS,
    "small_group": COUNTS,
    "source_retry_pause": INTERVALS,
    "stale_after": INTERVALS,
    "time_zone": (
        ("UTC", "Europe/Berlin", "europe/berlin", "America/Argentina/Buenos_Aires"),
        ("", "Berlin", "Berlin1", "Europe/Berlin ", "+02:00", "UTC+25", "Mars/Olympus_Mons"),
    ),
    "wait_limit": INTERVALS,
}  # fmt: skip
UPDATE = "UPDATE etl.setting SET value = %s WHERE name = %s"


@pytest.mark.parametrize("name", CASES)
def test_a_setting_takes_what_fits_and_nothing_else(database: Database, name: str) -> None:
    database.execute("CREATE SCHEMA ops")
    database.execute("CREATE PROCEDURE ops.page(text, text, jsonb) LANGUAGE sql AS 'SELECT 1'")
    fit, unfit = CASES[name]
    connection = database.connect()
    for value in fit:
        assert connection.execute(UPDATE, [value, name]).rowcount == 1, value
    for value in (*unfit, *VALUES):
        with pytest.raises(psycopg.Error) as caught:
            connection.execute(UPDATE, [value, name])
        assert caught.value.sqlstate == "ET019", value
        told = f'the setting "{name}" cannot be "{value}": it takes '
        assert (caught.value.diag.message_primary or "").startswith(told)
        assert caught.value.diag.message_hint
    assert database.value("SELECT value FROM etl.setting WHERE name = %s", name) == fit[-1]


def test_every_setting_is_tried_and_its_default_fits(database: Database) -> None:
    settings = database.rows("SELECT name, value_type FROM etl.setting ORDER BY name")
    assert [row["name"] for row in settings] == list(CASES)
    assert [row["name"] for row in settings if row["value_type"] == "text"] == []
    database.execute("UPDATE etl.setting SET value = value")


def test_settings_of_one_s_own_are_checked_as_they_are_added(database: Database) -> None:
    add = "INSERT INTO etl.setting (name, value, value_type, description) VALUES (%s, %s, %s, '')"
    database.execute(add, "anything", "x", "text")
    database.execute(add, "pause", "1 hour", "interval")
    with pytest.raises(psycopg.Error, match='"limit" cannot be "few": it takes a whole number'):
        database.execute(add, "limit", "few", "count")
    with pytest.raises(psycopg.errors.CheckViolation):
        database.execute(add, "odd", "x", "no such type")


@pytest.fixture
def unchecked(database: Database) -> None:
    """Values may come by other ways: a time zone goes with an update of the server's system."""
    database.execute("ALTER TABLE etl.setting DISABLE TRIGGER check_value")


@pytest.mark.usefixtures("unchecked")
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


@pytest.mark.usefixtures("unchecked")
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
