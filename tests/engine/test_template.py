"""Templates of compiled SQL: how a placeholder is written out, and what a wrong one says."""

from __future__ import annotations

import json

import psycopg
import pytest

VALUES = {
    "table": 'dwh."Fact"',
    "key": ["id", "Part"],
    "columns": ["amount", "code"],
    "none": [],
    "text": "first\nsecond",
    "casts": {"code": "text"},
}


def render(connection: psycopg.Connection[object], template: str) -> object:
    row = connection.execute(
        "SELECT etl._render(%s, %s)", [template, json.dumps(VALUES)]
    ).fetchone()
    assert isinstance(row, tuple)
    return row[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT {{key}} FROM {{table}}", 'SELECT id, "Part" FROM dwh."Fact"'),
        ("SELECT {{k.key}}{{, k.none}}", 'SELECT k.id, k."Part"'),
        ("SELECT 1{{, k.key}}", 'SELECT 1, k.id, k."Part"'),
        ("ON {{k.key = v.key}}", 'ON k.id = v.id AND k."Part" = v."Part"'),
        ("ON {{k.none = v.none}}", "ON true"),
        (
            "WHERE {{f.columns <> w.columns}}",
            "WHERE record_image_ne(ROW(f.amount, f.code::text), ROW(w.amount, w.code::text))",
        ),
        ("WHERE {{f.none <> w.none}}", "WHERE false"),
        ("SET {{columns := w.columns}}", "SET amount = w.amount,\n    code = w.code"),
        ("    {{text}}", "    first\n    second"),
        ("nothing", "nothing"),
    ],
)
def test_a_placeholder_is_written_out(
    connection: psycopg.Connection[object], text: str, expected: str
) -> None:
    assert render(connection, text) == expected


@pytest.mark.parametrize("text", ["{{missing}}", "{{k.key = v.missing}}", "{{key key}}"])
def test_a_placeholder_without_a_value_is_refused(
    connection: psycopg.Connection[object], text: str
) -> None:
    with pytest.raises(psycopg.Error) as refused:
        render(connection, text)
    assert refused.value.sqlstate == "ET050"
