"""What the real database says of the definition, and of the login."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from base.errors import UserError
from metabase import analysis, export
from metabase import warehouse as warehouses
from metabase.definition import Column, Dashboard, DefinitionError
from metabase.warehouse import DEFAULT_ROLE
from tests.support.database import Database

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")


def with_sql(dashboard: Dashboard, key: str, text: str) -> Dashboard:
    question = replace(dashboard.questions[key], sql=text)
    return replace(dashboard, questions={**dashboard.questions, key: question})


def wrong(database: Database, dashboard: Dashboard, role: str | None = None) -> DefinitionError:
    with database.connect() as connection, pytest.raises(DefinitionError) as caught:
        warehouses.check_questions(connection, dashboard, role)
    return caught.value


@pytest.fixture
def role(database: Database) -> Iterator[str]:
    """Name of a role that is not there yet, and is dropped at the end."""
    name = f"reader_{uuid4().hex[:8]}"
    yield name
    with database.connect() as connection:
        if warehouses.role_state(connection, name).exists:
            for command in ("DROP OWNED BY {}", "DROP ROLE {}"):
                connection.execute(sql.SQL(command).format(sql.Identifier(name)))


def test_the_questions_are_answered_as_the_login(
    kpi_database: Database, dashboard: Dashboard
) -> None:
    with kpi_database.connect() as connection:
        warehouses.check_questions(connection, dashboard, DEFAULT_ROLE)
        row = connection.execute("SELECT current_user = session_user").fetchone()
        assert row == (True,), "the connection is itself again"


def test_a_column_that_is_not_returned(database: Database, dashboard: Dashboard) -> None:
    question = dashboard.questions["top_products"]
    columns = {**question.columns, "profit": Column("profit", "Profit", "money", 0)}
    questions = {**dashboard.questions, "top_products": replace(question, columns=columns)}
    error = wrong(database, replace(dashboard, questions=questions))
    (problem,) = error.problems
    assert problem.question == "top_products"
    assert problem.key == "columns.profit"
    assert problem.message == "its SQL does not return profit"
    assert "member, quantity, sales" in problem.hint


def test_descriptions_name_the_filters_and_what_counts(
    database: Database, dashboard: Dashboard
) -> None:
    with database.connect() as connection:
        resolved = warehouses.resolve(connection, dashboard)
    described = {key: one.description for key, one in resolved.questions.items()}
    assert (
        "Follows the filters: Period, Country.\n\nWhat counts\nSales" in described["sales_growth"]
    )
    assert described["freshness"].endswith("Follows the filters: none.")
    assert described["countries"] == dashboard.questions["countries"].description
    for key, one in dashboard.questions.items():
        assert export.undefined(described[key]) == one.description


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT nothing FROM kpi.month", 'without filters: column "nothing" does not exist'),
        ("SELECT * FROM kpi.no_such_view", 'relation "kpi.no_such_view" does not exist'),
        ("SELECT country, country FROM kpi.country", "returns the column country twice"),
        (
            "SELECT country FROM kpi.country WHERE TRUE [[AND nothing = {{country}}]]",
            'with all filters: column "nothing" does not exist',
        ),
        ("SELECT 1 AS country) AS x; DROP TABLE dwh.fact_order; --", "syntax error"),
    ],
)
def test_statements_that_the_database_refuses(
    text: str, message: str, database: Database, dashboard: Dashboard
) -> None:
    changed = with_sql(dashboard, "countries", text)
    question = replace(changed.questions["countries"], filters={"country": "country"})
    changed = replace(changed, questions={**changed.questions, "countries": question})
    error = wrong(database, changed)
    assert message in error.message
    assert "questions/countries.sql" in error.message or "dashboard.yaml" in error.message
    assert database.value("SELECT to_regclass('dwh.fact_order') IS NOT NULL")


def test_a_question_that_needs_more_than_schema_kpi(
    kpi_database: Database, dashboard: Dashboard
) -> None:
    changed = with_sql(dashboard, "countries", "SELECT country FROM dwh.dim_address")
    with kpi_database.connect() as connection:
        warehouses.check_questions(connection, changed)
    error = wrong(kpi_database, changed, DEFAULT_ROLE)
    assert "permission denied" in error.message


def test_a_question_cannot_write(database: Database, dashboard: Dashboard) -> None:
    text = "SELECT nextval('pg_temp.counter')::text AS country"
    with database.connect() as connection:
        connection.execute("CREATE TEMPORARY SEQUENCE counter")
        changed = with_sql(dashboard, "countries", text)
        warehouses.check_questions(connection, changed)
        row = connection.execute("SELECT is_called FROM counter").fetchone()
        assert row == (False,), "LIMIT 0 evaluates nothing"


# -- the login ------------------------------------------------------------------------------------


def test_a_login_is_made_once(database: Database, role: str) -> None:
    with database.connect() as connection:
        with pytest.raises(UserError, match=f"no role {role}") as caught:
            warehouses.check_role(connection, role)
        assert "--create-role" in str(caught.value.hint)
        assert warehouses.create_role(connection, role)
        assert not warehouses.create_role(connection, role)
        warehouses.check_role(connection, role)


def test_a_login_of_another_warehouse_sees_the_rows_of_this_one(
    database: Database, new_database: Any, role: str
) -> None:
    """The role is the server's, so it exists; which rows it sees is each warehouse's own."""
    for warehouse in (database, new_database()):
        with warehouse.connect() as connection:
            assert warehouses.create_role(connection, role, analysis.SCHEMA)
            assert not warehouses.create_role(connection, role, analysis.SCHEMA)
        rows = "SELECT row_values FROM etl.user_status WHERE login = %s"
        assert warehouse.value(rows, role) == ["*"]
        warehouse.execute("CALL etl.set_user_rows(%s, '{DE}')", role)
        with warehouse.connect() as connection:
            assert not warehouses.create_role(connection, role, analysis.SCHEMA)
        assert warehouse.value(rows, role) == ["DE"]


def test_the_login_sees_schema_kpi_alone(database: Database, role: str) -> None:
    with database.connect() as connection:
        warehouses.create_role(connection, role)
        connection.execute("CREATE VIEW kpi.to_come AS SELECT 1 AS one")
        connection.execute(
            "INSERT INTO etl.permission (level, object_kind, schema_name, object_name, privileges)"
            " VALUES ('business', 'relation', 'kpi', 'to_come', '{SELECT}')"
        )
        connection.execute("CALL etl.apply_permissions()")
    settings = psycopg.conninfo.conninfo_to_dict(database.dsn)
    with psycopg.connect(**{**settings, "user": role}, autocommit=True) as reader:
        assert reader.execute("SELECT one FROM to_come").fetchall() == [(1,)]
        for statement in (
            "SELECT * FROM dwh.fact_order",
            "SELECT * FROM stage.orders",
            "SELECT * FROM etl.run",
            "SELECT * FROM oceanrecords.customers",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(statement)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            reader.execute("CREATE TEMPORARY TABLE mine (one integer)")


def test_a_login_that_lacks_something_is_mended(database: Database, role: str) -> None:
    with database.connect() as connection:
        warehouses.create_role(connection, role)
        connection.execute(
            sql.SQL("REVOKE oceanrecords_business FROM {}").format(sql.Identifier(role))
        )
        with pytest.raises(UserError, match="does not see schema kpi") as caught:
            warehouses.check_role(connection, role)
        assert "--create-role" in str(caught.value.hint)
        assert warehouses.create_role(connection, role)
        warehouses.check_role(connection, role)


@pytest.mark.parametrize(
    ("grant", "message"),
    [
        (
            "GRANT USAGE ON SCHEMA dwh TO {0}; GRANT SELECT ON dwh.dim_customer TO {0}",
            "dwh.dim_cus",
        ),
        (
            "GRANT USAGE ON SCHEMA dwh TO {0}; GRANT SELECT (email) ON dwh.dim_customer TO {0}",
            "dwh.",
        ),
        ("GRANT UPDATE ON kpi.lost_order_limit TO {0}", "kpi.lost_order_limit"),
        ("ALTER ROLE {0} CREATEDB", "rights of an administrator"),
    ],
)
def test_a_login_with_too_much_is_refused(
    grant: str, message: str, database: Database, role: str
) -> None:
    with database.connect() as connection:
        warehouses.create_role(connection, role)
        connection.execute(sql.SQL(grant).format(sql.Identifier(role)))
        for check in (warehouses.check_role, warehouses.create_role):
            with pytest.raises(UserError) as caught:
                check(connection, role)
            assert message in caught.value.message
            assert "Revoke" in str(caught.value.hint)


def test_the_password_is_sent_as_a_secret(database: Database, role: str) -> None:
    with database.connect() as connection:
        warehouses.create_role(connection, role)
        warehouses.set_password(connection, role, 'it\'s a "secret" of €')
        stored = database.value("SELECT rolpassword FROM pg_authid WHERE rolname = %s", role)
        assert stored.startswith("SCRAM-SHA-256$")


def test_somebody_who_may_not_make_roles(database: Database, role: str) -> None:
    with database.connect() as connection:
        connection.execute("CREATE ROLE powerless_builder")
        try:
            connection.execute("SET ROLE powerless_builder")
            with pytest.raises(UserError, match="may not make the role"):
                warehouses.create_role(connection, role)
        finally:
            connection.execute("RESET ROLE")
            connection.execute("DROP ROLE powerless_builder")


def test_a_database_that_is_no_warehouse(empty_database: Database) -> None:
    with empty_database.connect() as connection, pytest.raises(UserError, match="not installed"):
        warehouses.check_role(connection, DEFAULT_ROLE)
