"""What is kept of an error holds names, and no value of a row, in whatever language the server speaks."""

from __future__ import annotations

import pytest

from tests.support.database import Database

KEPT = (
    ("22012", "division by zero"),
    ("22003", "integer out of range"),
    ("22003", "numeric field overflow"),
    ("22001", "value too long for type character varying(10)"),
    ("23502", 'null value in column "email" of relation "customers" violates not-null constraint'),
    ("23505", 'duplicate key value violates unique constraint "customers_email_key"'),
    ("23514", 'new row for relation "customers" violates check constraint "no_ada"'),
    ("42P01", 'relation "dwh.fact_order" does not exist'),
    ("42883", "function work.f(integer, text) does not exist"),
    ("42501", "permission denied for schema proof"),
    ("40P01", "deadlock detected"),
    ("ET009", "no date for 2050-01-01 in the calendar"),
)
WITHHELD = (
    ("22P02", 'invalid input syntax for type integer: "SECRET"'),
    ("22P02", 'invalid input syntax for type numeric: "a "quoted" SECRET"'),
    ("22007", "ungültige Eingabesyntax für Typ date: »SECRET«"),
    ("22003", "Wert »SECRET« ist außerhalb des gültigen Bereichs für Typ integer"),
    ("22003", 'value "SECRET" is out of range for type smallint'),
    ("22008", 'date/time field value out of range: "SECRET"'),
    ("22023", "invalid value: SECRET"),
    ("22P02", "malformed array literal: SECRET"),
    ("22032", "invalid JSON: SECRET"),
    ("23505", "doppelter Schlüsselwert »SECRET« verletzt Unique-Constraint »k«"),
    ("42601", 'syntax error at or near "SECRET"'),
    ("42704", 'type "SECRET" does not exist'),
    ("42P01", 'relation "SECRET at example.org" does not exist'),
    ("42703", 'column "SECRET@example.org" does not exist'),
    ("42883", "function f(SECRET) does not exist: SECRET"),
    ("HV000", 'could not read "SECRET"'),
    ("22012", "division by zero\nSECRET"),
    ("38000", "SECRET failed"),
)


@pytest.mark.parametrize(("code", "message"), KEPT)
def test_a_message_of_names_is_kept(database: Database, code: str, message: str) -> None:
    assert database.value("SELECT etl._without_values(%s, %s)", code, message) == message


@pytest.mark.parametrize(("code", "message"), WITHHELD)
def test_a_message_that_may_hold_a_value_is_withheld(
    database: Database, code: str, message: str
) -> None:
    kept = database.value("SELECT etl._without_values(%s, %s)", code, message)
    assert "SECRET" not in kept
    assert "withheld" in kept
    assert "SECRET" not in database.value(
        "SELECT etl._without_values(%s, lower(%s))", code, message
    )
