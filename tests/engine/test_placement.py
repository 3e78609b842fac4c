"""Placement on a cluster: what is spread, what is refused, and the forms of statements that Citus takes.

Citus is on neither server. That the warehouse runs on it is tried on a cluster (docs/scaling.md); these tests hold the
generated statements against the list of forms that a cluster refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import date
from typing import Any

import psycopg
import pytest
import sqlglot
from sqlglot import exp
from sqlglot.tokens import Token, Tokenizer, TokenType

from simulator.seed import seed
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


def _scalar(subquery: exp.Subquery) -> exp.Expression | None:
    """Return the SELECT in whose list a subquery stands for one value; None for one in FROM or WHERE."""
    node: exp.Expression | None = subquery
    while node is not None and not isinstance(node.parent, exp.Select):
        node = node.parent
        if isinstance(node, (exp.From, exp.Join, exp.Where, exp.Lateral)):
            return None
    return node.parent if node is not None and node.arg_key == "expressions" else None


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
    for subquery in tree.find_all(exp.Subquery):
        names = {table.alias_or_name for table in subquery.find_all(exp.Table)}
        names |= {part.alias for part in subquery.find_all(exp.Subquery, exp.Lateral, exp.CTE)}
        reads = {_name(table) for table in subquery.find_all(exp.Table)} & spread
        outer = {column.table for column in subquery.find_all(exp.Column)} - names - {""}
        if reads and outer and isinstance(_scalar(subquery), exp.Select):
            reasons.append(f"a subquery for each row reads {', '.join(sorted(reads))}")
    for union in tree.find_all(exp.Union):
        is_empty = any(
            isinstance(part, exp.Select) and not part.expressions
            for part in union.unnest_operands()
        )
        if is_empty and {_name(table) for table in union.find_all(exp.Table)} & spread:
            reasons.append("parts of a UNION have no columns")
    for values in tree.find_all(exp.Values):
        if values.find_ancestor(exp.Lateral) and list(values.find_all(exp.Column)):
            reasons.append("VALUES refers to columns")
        calls = {
            call.sql(dialect="postgres").split("(")[0].lower() for call in values.find_all(exp.Func)
        }
        if calls & STABLE and {_name(table) for table in tree.find_all(exp.Table)} & spread:
            reasons.append("a function in VALUES is not immutable")
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
        "SELECT (SELECT max(v.a) FROM (VALUES (jsonb_build_object('k', f.k))) AS v (a)) FROM dwh.f AS f",
        "SELECT EXISTS (SELECT FROM etl.q UNION ALL SELECT FROM dwh.f)",
        "SELECT jsonb_build_object('n', (SELECT count(*) FROM dwh.f AS f WHERE f.k = d.k)) FROM dwh.d AS d",
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
        "SELECT d.k, (SELECT max(f.k) FROM dwh.f AS f) FROM dwh.d AS d",
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


# What the engine writes when it runs: reconciliation, repair, erasure and trace are not compiled.
DYNAMIC = """
CALL etl.run();
UPDATE dwh.fact_order SET quantity = quantity + 1 WHERE order_id < 9;
DELETE FROM stage.order_lines WHERE order_id = 9;
UPDATE stage.customers SET first_name = 'Wrong' WHERE customer_id = 2;
UPDATE dwh.dim_customer SET first_name = 'Wrong' WHERE customer_id = 3;
UPDATE dwh.agg_order_daily SET sales = sales + 1;
INSERT INTO etl.personal_object (subject, object, key_columns, key_query)
VALUES ('customer', 'orders', '{order_id}', 'SELECT o.order_id FROM stage.orders AS o WHERE o.customer_id = $1::bigint');
INSERT INTO etl.personal_column (subject, object, column_name, replacement) VALUES ('customer', 'orders', 'paid_at', 'r.ordered_at');
GRANT SELECT, UPDATE (paid_at) ON oceanrecords.orders TO oceanrecords_owner;
CALL etl.reconcile();
SELECT count(etl.repair());
SELECT count(*) FROM etl.forget('customer', '1');
UPDATE oceanrecords.orders SET updated_at = updated_at;
CALL etl.run(NULL, '{orders,order_lines,customers,fact_order,dim_customer}');
CALL etl.reconcile();
SELECT count(*) FROM etl.trace('customer', '{2}');
SELECT count(*) FROM etl.trace('order', '{2}')
"""


def test_statements_of_a_reconciliation_have_forms_that_citus_takes(database: Database) -> None:
    spread = {row["name"] for row in database.rows(SPREAD)}
    mentions = re.compile("|".join(rf"\b{re.escape(name)}\b" for name in spread))
    seen: set[str] = set()

    def note(notice: psycopg.errors.Diagnostic) -> None:
        text = notice.message_primary or ""
        if "plan:" in text:
            statement = json.loads(text[text.index("{") :])["Query Text"]
            if mentions.search(statement):
                seen.add(statement)

    with psycopg.connect(database.dsn, autocommit=True) as connection:
        seed(connection, orders=40, months=3, seed=5, until=date(2026, 1, 1))
        connection.execute("LOAD 'auto_explain'")
        for setting in (
            "log_min_duration = 0",
            "log_nested_statements = on",
            "log_format = json",
            "log_level = notice",
        ):
            connection.execute(f"SET auto_explain.{setting}".encode())
        connection.add_notice_handler(note)
        for statement in DYNAMIC.split(";"):
            connection.execute(statement.encode())
    assert len(seen) > 90
    for part in ("reconciled_", "forgotten_row", "jsonb_build_object('fact_order"):
        assert any(part in statement for statement in seen), part
    assert {statement: found for statement in seen if (found := refused(statement, spread))} == {}


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
