"""The template language of the questions, and its compilation for psycopg."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metabase.questions import Optional, Tag, TemplateError, compile, parse, required_tags, tags
from tests.support.database import Database

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

SQL = """SELECT '100%' AS share
FROM sales
WHERE TRUE
    [[AND day >= {{from}}::date]]
    [[AND country IN ({{ country }})]]"""


def test_parse_tells_text_tags_and_optional_clauses() -> None:
    assert parse("a {{x}} [[b {{ y }} c]]") == (
        "a ",
        Tag("x"),
        " ",
        Optional(("b ", Tag("y"), " c")),
    )


def test_tags_are_named_once_in_their_order() -> None:
    assert tags("{{b}} [[{{a}}]] {{b}}") == ("b", "a")
    assert required_tags("{{b}} [[{{a}}]]") == ("b",)


def test_compile_makes_parameters_and_never_pastes_values() -> None:
    text, parameters = compile(SQL, {"from": date(2025, 1, 1), "country": "'; DROP TABLE x; --"})
    assert "%(from)s::date" in text
    assert "DROP TABLE" not in text
    assert "'100%%'" in text
    assert parameters == {"from": date(2025, 1, 1), "country": "'; DROP TABLE x; --"}


@pytest.mark.parametrize("nothing", [None, "", [], ()])
def test_an_optional_clause_falls_away(nothing: object) -> None:
    text, parameters = compile(SQL, {"from": nothing})
    assert "AND" not in text
    assert parameters == {}


def test_a_list_fills_a_place_with_several_values() -> None:
    text, parameters = compile(SQL, {"country": ["DE", "FR"]})
    assert "IN (%(country__0)s, %(country__1)s)" in text
    assert parameters == {"country__0": "DE", "country__1": "FR"}


def test_zero_and_false_are_values() -> None:
    assert compile("[[{{n}}]]", {"n": 0}) == ("%(n)s", {"n": 0})
    assert compile("[[{{n}}]]", {"n": False}) == ("%(n)s", {"n": False})


def test_a_variable_outside_of_an_optional_clause_needs_a_value() -> None:
    with pytest.raises(KeyError, match="x"):
        compile("SELECT {{x}}", {})


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("SELECT\n[[AND {{x}}", "is not closed", 2),
        ("SELECT ]]", "was not opened", 1),
        ("[[a {{x}} [[b {{y}}]]]]", "inside another one", 1),
        ("[[no variable]]", "has no {{variable}}", 1),
        ("SELECT {{x", "{{ is not closed", 1),
        ("SELECT {{snippet: x}}", "not a plain variable", 1),
        ("SELECT\n\n'{{x}}'", "in quotes or in a comment", 3),
        ('SELECT "{{x}}"', "in quotes or in a comment", 1),
        ("SELECT 1 -- {{x}}", "in quotes or in a comment", 1),
        ("SELECT 1 /* {{x}} */", "in quotes or in a comment", 1),
        ("SELECT $a$ {{x}} $a$", "in quotes or in a comment", 1),
        ("SELECT E'\\'{{x}}'", "in quotes or in a comment", 1),
    ],
)
def test_what_cannot_be_read(text: str, message: str, line: int) -> None:
    with pytest.raises(TemplateError) as caught:
        parse(text)
    assert message in caught.value.message
    assert caught.value.line == line


@pytest.mark.parametrize(
    "text",
    ["SELECT '[[ ]]'", "SELECT 'it''s' -- [[", "SELECT $$[[$$ /* ]] */", 'SELECT "a""[["'],
)
def test_brackets_in_quotes_and_comments_are_text(text: str) -> None:
    assert compile(text, {}) == (text, {})


@given(st.text(alphabet="ab'\"-/*$[]{} \n%\\E", max_size=40))
def test_no_text_is_lost_or_breaks_it(text: str) -> None:
    try:
        parts = parse(text)
    except TemplateError:
        return

    def length(part: object) -> str:
        if isinstance(part, Optional):
            return "[[" + "".join(map(length, part.parts)) + "]]"
        return "{{" + part.name + "}}" if isinstance(part, Tag) else str(part)

    assert "".join(map(length, parts)).replace(" ", "") == text.replace(" ", "")


def test_the_database_takes_it(empty_database: Database) -> None:
    sql = """
        SELECT g::text AS number, '5%' AS share
        FROM generate_series(1, 9) AS g
        WHERE TRUE [[AND g IN ({{some}})]] [[AND g % 2 = {{rest}}]] [[AND g::text <> {{word}}]]
    """
    with empty_database.connect() as connection:
        nasty = "'; SELECT 1; --"
        values = {"some": [1, 2, 3], "rest": 1, "word": nasty}
        rows = connection.execute(*compile(sql, values)).fetchall()
        assert rows == [("1", "5%"), ("3", "5%")]
        assert len(connection.execute(*compile(sql, {})).fetchall()) == 9
