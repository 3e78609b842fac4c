"""Placement on a cluster: what is spread, what is refused, and the forms of statements that Citus takes.

Citus is on neither server. That the warehouse runs on it is tried on a cluster (docs/scaling.md); these tests hold the
generated statements against the list of forms that a cluster refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlglot
from sqlglot import exp
from sqlglot.tokens import Token, Tokenizer, TokenType

from tests.support.database import Database

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

# PostgreSQL calls them stable, as their results depend on settings; Citus refuses them where they decide on rows.
STABLE = {"jsonb_build_object", "to_jsonb", "format", "jsonb_populate_record", "current_timestamp"}
VOLATILE = {"clock_timestamp", "random", "gen_random_uuid"}
STARTS = {TokenType.INSERT, TokenType.UPDATE, TokenType.DELETE, TokenType.SELECT, TokenType.WITH}


def _statements(body: str) -> Iterator[str]:
    """Cut the SQL statements out of a PL/pgSQL body."""
    tokens = Tokenizer(dialect="postgres").tokenize(body)
    part: list[Token] = []
    for token in tokens:
        if token.token_type is TokenType.SEMICOLON:
            yield from _statement(body, part)
            part = []
        else:
            part.append(token)


def _statement(body: str, part: list[Token]) -> Iterator[str]:
    depth = 0
    for number, token in enumerate(part):
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        before = part[number - 1].text.upper() if number else "BEGIN"
        if (
            depth == 0
            and token.token_type in STARTS
            and before in {"BEGIN", "THEN", "ELSE", "LOOP", "IN", "SQL", "EXCEPTION", "DECLARE"}
        ):
            text = body[token.start : part[-1].end + 1]
            # The variables that a statement writes to are no part of its SQL.
            text = re.sub(r"\n\s*INTO (?:STRICT )?[\w.]+(?:,\s*[\w.]+)*(?=\n)", "", text)
            yield re.sub(r"\s+LOOP\b.*", "", text, flags=re.DOTALL)
            return


def _direct(node: exp.Expression | None) -> Iterator[exp.Table]:
    """Tables that a FROM or USING clause names outside of subqueries."""
    if node is None:
        return
    for table in node.find_all(exp.Table):
        if table.find_ancestor(exp.Subquery, exp.CTE, exp.Select) is None or (
            table.find_ancestor(exp.Subquery, exp.Select, exp.Update, exp.Delete) is node.parent
        ):
            yield table


def _name(table: exp.Expression) -> str:
    return f"{table.args['db'].name}.{table.name}" if table.args.get("db") else table.name


def _calls(node: exp.Expression, change: exp.Expression) -> set[str]:
    """Names of the functions in a part of a change, without those of its subqueries."""
    return {
        call.sql(dialect="postgres").split("(")[0].lower()
        for call in node.find_all(exp.Func)
        if call.find_ancestor(exp.Select, exp.Update, exp.Delete, exp.Insert) is change
    }


def refused(statement: str, spread: set[str]) -> list[str]:
    """Say why Citus would refuse a statement; `spread` has the tables that are on several nodes."""
    reasons: list[str] = []
    tree = sqlglot.parse_one(statement, dialect="postgres")
    for change in tree.find_all(exp.Update, exp.Delete, exp.Insert):
        target = change.this.this if isinstance(change.this, exp.Schema) else change.this
        is_spread = _name(target) in spread
        returning = change.args.get("returning")
        if is_spread and returning is not None and _calls(returning, change) & (STABLE | VOLATILE):
            reasons.append("a function in RETURNING is not immutable")
        if isinstance(change, exp.Insert):
            continue
        sources = change.args.get("from_") or change.args.get("from")
        named = {
            _name(table)
            for part in [sources, *(change.args.get("using") or [])]
            for table in _direct(part)
        }
        ctes = {cte.alias for cte in tree.find_all(exp.CTE)}
        beside = {name for name in named - ctes if (name in spread) != is_spread}
        if beside:
            reasons.append(f"{_name(target)} is changed from {', '.join(sorted(beside))}")
        for part in [change.args.get("where"), *(change.expressions or [])]:
            if is_spread and part is not None and _calls(part, change) & (STABLE | VOLATILE):
                reasons.append("a function that decides on rows is not immutable")
    for values in tree.find_all(exp.Values):
        if values.find_ancestor(exp.Lateral) and list(values.find_all(exp.Column)):
            reasons.append("VALUES refers to columns")
    return reasons


SPREAD = """
SELECT r.relation::text AS name
FROM etl.object_placement AS p
CROSS JOIN LATERAL unnest(p.relations) AS r (relation)
WHERE p.placement <> 'local'
"""
BODIES = """
SELECT p.proname AS name, p.prosrc AS body
FROM pg_proc AS p
WHERE p.pronamespace = 'compiled'::regnamespace
ORDER BY p.proname
"""


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE dwh.f AS f SET a = w.a FROM work.w AS w WHERE w.k = f.k",
        "UPDATE etl.q AS q SET a = f.a FROM dwh.f AS f WHERE f.k = q.k",
        "DELETE FROM dwh.f AS f USING etl.q AS q WHERE q.k = f.k",
        "DELETE FROM dwh.f AS f WHERE f.k = 1 RETURNING jsonb_build_object('k', f.k)",
        "UPDATE dwh.f AS f SET a = format('%s', f.k)",
        "DELETE FROM dwh.f AS f WHERE f.at < clock_timestamp()",
        "SELECT 1 FROM dwh.f AS f CROSS JOIN LATERAL (VALUES (f.a), (f.b)) AS v",
    ],
)
def test_a_form_that_citus_refuses_is_found(statement: str) -> None:
    assert refused(statement, {"dwh.f"})


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE dwh.f AS f SET a = w.a FROM (SELECT * FROM work.w) AS w WHERE w.k = f.k",
        "UPDATE dwh.f AS f SET a = g.a FROM dwh.g AS g WHERE g.k = f.k",
        "UPDATE etl.q AS q SET a = format('%s', q.k)",
    ],
)
def test_a_form_that_citus_takes_is_left_alone(statement: str) -> None:
    assert not refused(statement, {"dwh.f", "dwh.g"})


def test_compiled_statements_have_forms_that_citus_takes(database: Database) -> None:
    spread = {row["name"] for row in database.rows(SPREAD)}
    seen = 0
    found: list[str] = []
    for row in database.rows(BODIES):
        assert "*<>" not in row["body"], row["name"]
        for statement in _statements(row["body"]):
            seen += 1
            found += [f"{row['name']}: {reason}" for reason in refused(statement, spread)]
    assert seen > 300
    assert not found


def _placements(database: Database) -> dict[str, Any]:
    return {
        row["object"]: (row["placement"], row["distribution_column"])
        for row in database.rows("SELECT * FROM etl.object_placement")
    }


def test_placement_is_derived(database: Database) -> None:
    found = _placements(database)
    assert {name for name, place in found.items() if place == ("distributed", "order_id")} == {
        "fact_order",
        "fact_order_line",
        "orders",
        "order_lines",
    }
    for name, (placement, column) in found.items():
        if name.startswith("dim_"):
            assert (placement, column) == ("reference", None), name
        elif not name.startswith("fact_") and name not in {"orders", "order_lines"}:
            assert (placement, column) == ("local", None), name


def test_placement_is_declared_and_taken_back(database: Database) -> None:
    database.execute("SELECT etl.place('fact_order_line', 'local')")
    found = _placements(database)
    assert found["fact_order_line"] == ("local", None)
    assert found["fact_order"] == ("distributed", "order_id")
    database.execute("SELECT etl.place('fact_order_line', NULL)")
    assert _placements(database)["fact_order_line"] == ("distributed", "order_id")


@pytest.mark.parametrize(
    ("name", "placement", "sqlstate"),
    [
        ("fact_order", "reference", "ET003"),
        ("dim_customer", "distributed", "ET003"),
        ("agg_order_daily", "distributed", "ET003"),
        ("orders", "nowhere", "ET003"),
        ("no_such", "local", "ET002"),
    ],
)
def test_an_impossible_placement_is_refused(
    database: Database, name: str, placement: str, sqlstate: str
) -> None:
    with pytest.raises(psycopg.Error) as raised:
        database.rows("SELECT etl.place(%s, %s)", name, placement)
    assert raised.value.sqlstate == sqlstate
    assert database.value("SELECT count(*) FROM etl.placement") == 0


def test_on_one_server_nothing_is_distributed(database: Database) -> None:
    assert database.value("SELECT etl._is_distributed(NULL)") is False
    assert database.value("SELECT etl._is_distributed('dwh.fact_order')") is False


def test_spreading_without_citus_is_refused(cli: Any, database: Database) -> None:
    finished = cli("migrate", "--optional", "citus")
    assert finished.returncode == 1
    assert "the extension citus is not installed" in finished.stderr
    assert "CREATE EXTENSION citus" in finished.stderr
    assert "Traceback" not in finished.stderr
