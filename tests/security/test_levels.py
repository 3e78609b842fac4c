"""What each level is for, said by hand: what it sees, and what it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.security.conftest import LEVELS, People, attempt
from tests.support.database import Database

DENIED = "42501"
PERSONAL = ("first_name", "last_name", "full_name", "email", "phone")


@pytest.mark.parametrize("level", ["analyst", "application", "auditor", "business", "steward"])
def test_nobody_changes_a_fact_or_becomes_more(people: People, level: str) -> None:
    login = people.add(level, level, countries=("*",))
    connection = people.connect(level)
    for statement in (
        "UPDATE dwh.fact_order SET quantity = 1",
        "DELETE FROM dwh.fact_order",
        "DELETE FROM etl.run",
        "UPDATE etl.setting SET value = 'x'",
        "INSERT INTO etl.row_access (login, value) VALUES (current_user, '*')",
        "INSERT INTO etl.permission (level, object_kind, schema_name, object_name, privileges)"
        " VALUES ('analyst', 'relation', 'dwh', '*', '{SELECT}')",
        "CALL etl.apply_permissions()",
        "CALL etl.run()",
        f"CALL etl.grant_level('{login}', 'steward')",
        f"CALL etl.set_user_rows('{login}', '{{*}}')",
        "GRANT oceanrecords_etl TO current_user",
        "GRANT oceanrecords_steward TO current_user",
        f"GRANT oceanrecords_{level} TO pg_monitor",
        "ALTER ROLE current_user CREATEROLE",
        "ALTER ROLE current_user SUPERUSER",
        "SET ROLE oceanrecords_etl",
        "SET SESSION AUTHORIZATION postgres",
        "CREATE ROLE accomplice",
        "SELECT secret FROM etl.pseudonym_secret",
        "INSERT INTO audit.act (acted_at, actor, act, target) VALUES (now(), 'x', 'x', 'x')",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql RETURN 1",
    ):
        assert attempt(connection, statement) == DENIED, statement


def allow_temporary(people: People) -> None:
    """Let everybody make temporary objects, as another administrator might."""
    people.database.execute(f"GRANT TEMPORARY ON DATABASE {people.database.name} TO PUBLIC")


def test_an_analyst_sees_no_personal_data(people: People) -> None:
    people.add("ana", "analyst", countries=("*",))
    connection = people.connect("ana")
    row = connection.execute(
        "SELECT string_agg(to_jsonb(c)::text, '') FROM analysis.dim_customer AS c"
    ).fetchone()
    street = connection.execute(
        "SELECT string_agg(to_jsonb(c)::text, '') FROM analysis.dim_address AS c"
    ).fetchone()
    assert row
    assert street
    for secret in ("Marie", "Ada", "Byron", "marie.curie@example.org", "+33 1 2345"):
        assert secret not in row[0]
    assert "Rue Cuvier" not in street[0]
    assert "Paris" in street[0]
    for statement in (
        "SELECT email FROM dwh.dim_customer",
        "SELECT email FROM stage.customers",
        "SELECT email FROM oceanrecords.customers",
        "SELECT original_row FROM etl.quarantine",
        "SELECT * FROM work.dim_customer",
        "SELECT * FROM kpi.month",
    ):
        assert attempt(connection, statement) == DENIED, statement


def test_pseudonyms_count_as_customers_do(people: People) -> None:
    people.add("ana", "analyst", countries=("*",))
    connection = people.connect("ana")
    query = (
        "SELECT count(DISTINCT customer_id), sum(orders), min(customer_id) > 1000"
        " FROM {}.agg_customer_quarterly"
    )
    masked = connection.execute(query.format("analysis").encode()).fetchone()
    (plain,) = people.database.rows(query.format("dwh").replace("min(", "1000 + min("))
    assert masked is not None
    assert masked[:2] == tuple(plain.values())[:2]
    assert masked[2], "a pseudonym is not the customer's number"
    both = connection.execute(
        "SELECT count(*) FROM analysis.agg_customer_quarterly JOIN analysis.dim_customer USING (customer_id)"
    ).fetchone()
    assert both == (2,), "the same pseudonym everywhere"


def test_an_auditor_sees_control_tables_but_no_row_of_the_source(people: People) -> None:
    people.add("aud", "auditor")
    connection = people.connect("aud")
    for view in ("run_status", "task_status", "watermark_status", "queue_status", "user_status"):
        assert attempt(connection, f"SELECT * FROM etl.{view}") is None, view
    assert attempt(connection, "SELECT * FROM audit.act") is None
    assert attempt(connection, "SELECT object, sqlstate FROM etl.quarantine") is None
    for statement in (
        "SELECT original_row FROM etl.quarantine",
        "SELECT reason FROM etl.quarantine",
        "SELECT expected FROM etl.reconciliation_difference",
        "SELECT sample FROM etl.check_result",
        "SELECT * FROM dwh.dim_customer",
        "SELECT * FROM etl.trace('customer', '{1}')",
        "SELECT * FROM etl.forget('customer', '1')",
    ):
        assert attempt(connection, statement) == DENIED, statement


def test_a_steward_looks_after_the_warehouse(people: People) -> None:
    people.add("sten", "steward")
    connection = people.connect("sten")
    for statement in (
        "SELECT email FROM dwh.dim_customer",
        "SELECT * FROM etl.quarantine",
        "SELECT * FROM work.dim_customer",
        "SELECT * FROM stage.customers",
        "SELECT etl.retry_queue()",
        "SELECT etl.retry_quarantine()",
        "SELECT * FROM etl.trace('customer', '{1}')",
        "SELECT * FROM etl.trace_run(1)",
        "SELECT * FROM etl.object_sql('dim_customer')",
        "SELECT * FROM etl.forget('customer', '1')",
    ):
        assert attempt(connection, statement) is None, statement
    connection.execute("CALL etl.reconcile()")
    assert attempt(connection, "SELECT etl.repair()") is None
    assert attempt(connection, "UPDATE dwh.dim_customer SET email = 'x'") == DENIED
    assert attempt(connection, "DELETE FROM etl.quarantine") == DENIED


def test_a_steward_does_not_become_more_by_temporary_objects(people: People) -> None:
    """A view of the caller would be read with the rights of the owner of the warehouse."""
    allow_temporary(people)
    people.add("sten", "steward")
    for relation in (
        "VIEW reconciled_of_customers AS SELECT pg_temp.grab() AS customer_id",
        "TABLE reconciled_ignored (customer_id bigint)",
    ):
        connection = people.connect("sten")
        connection.execute(
            "CREATE FUNCTION pg_temp.grab() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN"
            " UPDATE etl.setting SET value = 'XXX' WHERE name = 'currency'; RETURN 1; END $$"
        )
        connection.execute(f"CREATE TEMPORARY {relation}".encode())
        assert attempt(connection, "SELECT 1") is None
        with pytest.raises(psycopg.Error) as caught:
            connection.execute("CALL etl.reconcile('{dim_customer}')")
        assert caught.value.sqlstate == "ET039"
    assert people.database.value("SELECT value FROM etl.setting WHERE name = 'currency'") == "EUR"


def test_a_business_user_sees_key_figures_alone(people: People) -> None:
    people.add("bob", "business")
    connection = people.connect("bob")
    assert connection.execute("SELECT count(*) FROM kpi.overview").fetchone() == (4,)
    for schema in ("dwh", "analysis", "stage", "work", "etl", "oceanrecords", "audit", "source"):
        assert attempt(connection, f"CREATE TABLE {schema}.mine ()") == DENIED
    assert attempt(connection, "SELECT * FROM analysis.fact_order") == DENIED


def test_the_application_works_and_deletes_no_history(people: People) -> None:
    people.add("app", "application")
    connection = people.connect("app")
    for statement in (
        "INSERT INTO oceanrecords.customers (first_name, last_name, email) VALUES ('A', 'B', 'a@b.c')",
        "UPDATE oceanrecords.products SET price = price + 1",
        "UPDATE oceanrecords.orders SET order_status_id = 2 WHERE order_status_id = 1",
        "DELETE FROM oceanrecords.order_lines",
    ):
        assert attempt(connection, statement) is None, statement
    for statement in (
        "DELETE FROM oceanrecords.orders",
        "DELETE FROM oceanrecords.products",
        "DELETE FROM oceanrecords.product_prices",
        "UPDATE oceanrecords.product_prices SET price = 1",
        "DELETE FROM oceanrecords.deleted_rows",
        "UPDATE oceanrecords.order_status_transitions SET to_status_id = 1",
        "TRUNCATE oceanrecords.orders CASCADE",
        "ALTER TABLE oceanrecords.deleted_rows DISABLE TRIGGER ALL",
        "SELECT * FROM dwh.fact_order",
    ):
        assert attempt(connection, statement) == DENIED, statement


def test_the_schedule_runs_the_warehouse_without_being_a_superuser(people: People) -> None:
    people.add("loader", "etl")
    connection = people.connect("loader")
    connection.execute("CALL etl.run(p_full_refresh => '{all}')")
    status = "SELECT status FROM etl.run ORDER BY run_id DESC LIMIT 1"
    assert people.database.value(status) == "succeeded"
    for statement in (
        "DELETE FROM audit.act",
        "ALTER TABLE audit.act DISABLE TRIGGER ALL",
        "DROP TABLE audit.act",
        "DELETE FROM oceanrecords.orders",
        "UPDATE oceanrecords.customers SET segment = 'business'",
        "CREATE ROLE accomplice",
        "CALL etl.build()",
        "UPDATE etl.setting SET value = 'x'",
        "DELETE FROM etl.run",
        "SELECT email FROM stage.customers",
        "SET ROLE oceanrecords_owner",
    ):
        assert attempt(connection, statement) == DENIED, statement


def test_a_superuser_still_runs_everything(people: People) -> None:
    people.database.execute("CALL etl.run(p_full_refresh => '{all}')")
    status = "SELECT status FROM etl.run ORDER BY run_id DESC LIMIT 1"
    assert people.database.value(status) == "succeeded"


def test_the_levels_are_these(people: People) -> None:
    rows = people.database.rows(
        "SELECT level FROM etl.access_level WHERE level NOT IN"
        " (SELECT owner_level FROM etl.access_schema WHERE owner_level IS NOT NULL) ORDER BY level"
    )
    assert tuple(row["level"] for row in rows) == LEVELS
    for service in (False, True):
        with pytest.raises(psycopg.Error) as caught:
            people.database.execute(
                "CALL etl.add_user('boss_to_be', '{owner}', p_is_service => %s)", service
            )
        assert caught.value.sqlstate == "ET036"


# -- countries ------------------------------------------------------------------------------------


def test_an_analyst_sees_his_countries_in_every_fact_and_dimension(people: People) -> None:
    people.add("nobody", "analyst")
    people.add("german", "analyst", countries=("DE",))
    people.add("french", "analyst", countries=("FR",))
    people.add("both", "analyst", countries=("DE", "FR"))
    people.add("boss", "analyst", countries=("*",))
    figures: dict[str, tuple[object, ...]] = {}
    for name in ("nobody", "german", "french", "both", "boss"):
        connection = people.connect(name)
        found = []
        for query in (
            "SELECT count(*), sum(gross_amount) FROM analysis.fact_order",
            "SELECT count(*), sum(amount) FROM analysis.fact_order_line",
            # Joins with every dimension lose nothing.
            "SELECT count(*), sum(gross_amount) FROM analysis.fact_order JOIN analysis.dim_customer USING (customer_key)"
            " JOIN analysis.dim_address USING (address_key)",
            "SELECT count(*), sum(amount) FROM analysis.fact_order_line JOIN analysis.dim_product USING (product_key)"
            " JOIN analysis.dim_supplier USING (supplier_key)",
            "SELECT sum(orders), sum(sales) FROM analysis.agg_order_daily",
            "SELECT sum(quantity), sum(sales) FROM analysis.agg_product_monthly",
            "SELECT sum(quantity), sum(sales) FROM analysis.agg_product_total_monthly",
            "SELECT sum(quantity), sum(sales) FROM analysis.agg_product_total_quarterly",
            "SELECT sum(quantity), sum(sales) FROM analysis.agg_subtype_monthly",
            "SELECT sum(orders), count(*) FROM analysis.agg_customer_quarterly",
            "SELECT sum(orders), count(*) FROM analysis.agg_customer_total_quarterly",
            "SELECT string_agg(DISTINCT country_code, ',' ORDER BY country_code), count(*) FROM analysis.dim_address",
            "SELECT count(*) FILTER (WHERE customer_key > 0), 0 FROM analysis.dim_customer",
        ):
            row = connection.execute(query.encode()).fetchone()
            assert row is not None
            found.append(tuple(value or 0 for value in row))
        figures[name] = tuple(found)

    assert all(set(one) == {0} for one in figures["nobody"]), "no entry, nothing to see"
    german, french, both, boss = (figures[one] for one in ("german", "french", "both", "boss"))
    assert german[11] == ("DE", 1)
    assert french[11] == ("FR", 1)
    for one in (german, french, both, boss):
        assert one[0] == one[2], "a join with customer and address loses no order"
        assert one[1] == one[3], "a join with product and supplier loses no line"
        assert (
            one[0][1] == one[1][1] == one[4][1] == one[5][1] == one[6][1] == one[7][1] == one[8][1]
        )
        assert one[12][0] == {1: 1, 2: 2}[one[0][0]]
    assert german[0][0] == french[0][0] == 1
    assert german[0][1] != french[0][1]
    assert both[:11] == boss[:11]


def test_a_supplier_elsewhere_has_no_name(people: People) -> None:
    country = people.database.value(
        "SELECT country_code FROM dwh.dim_supplier WHERE supplier_key > 0"
    )
    other = "FR" if country != "FR" else "DE"
    people.add("ana", "analyst", countries=(other,))
    rows = people.connect("ana").execute(
        "SELECT supplier_id, supplier_name, country FROM analysis.dim_supplier WHERE supplier_key > 0"
    )
    assert rows.fetchall() == [(None, "Supplier elsewhere", "Elsewhere")]


def test_a_function_of_the_reader_sees_no_hidden_row(people: People) -> None:
    allow_temporary(people)
    people.add("ana", "analyst", countries=("FR",))
    connection = people.connect("ana")
    notices: list[str] = []
    connection.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
    connection.execute(
        "CREATE FUNCTION pg_temp.peep(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001"
        " AS $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$"
    )
    connection.execute("SELECT * FROM analysis.dim_address WHERE pg_temp.peep(city)")
    assert notices == ["Paris"]


def test_facts_are_joined_with_the_countries_not_asked_one_by_one(people: People) -> None:
    """A subplan per row would not stay fast on millions of facts; a join does."""
    people.add("ana", "analyst", countries=("FR",))
    connection = people.connect("ana")
    for fact in ("fact_order", "fact_order_line"):
        plan = connection.execute(
            f"EXPLAIN SELECT sum(quantity) FROM analysis.{fact}".encode()
        ).fetchall()
        text = "\n".join(line for (line,) in plan)
        assert "Join" in text or "Nested Loop" in text, text
        assert "Function Scan" not in text
        # What is left of subplans is hashed, or done once.
        for line in text.splitlines():
            if "SubPlan" in line and "hashed" not in line.lower() and "Filter" in line:
                raise AssertionError(text)


def test_a_service_reconciles_and_sees_no_row(people: People, oceanrecords: Any) -> None:
    """It sees how many rows differ, and in which columns."""
    people.add("loader", "etl")
    people.connect("loader").execute("CALL etl.run()")
    people.database.execute("UPDATE dwh.dim_status SET status_name = 'secret' WHERE status_key = 1")
    url = psycopg.conninfo.make_conninfo(people.database.dsn, user=people.logins["loader"])
    found = oceanrecords("reconcile", "dim_status", env={"OCEANRECORDS_DSN": url})
    assert found.returncode == 1, found.stderr
    assert "a row differs: status_name" in found.stdout
    assert "secret" not in found.stdout
    repaired = oceanrecords("reconcile", "--repair", "--json", env={"OCEANRECORDS_DSN": url})
    assert repaired.returncode == 0, repaired.stderr


def test_a_steward_asks_for_a_repair_that_the_service_makes(
    people: People, oceanrecords: Any
) -> None:
    people.add("sten", "steward")
    people.database.execute("UPDATE dwh.dim_status SET status_name = 'wrong' WHERE status_key = 1")
    url = psycopg.conninfo.make_conninfo(people.database.dsn, user=people.logins["sten"])
    asked = oceanrecords("reconcile", "dim_status", "--repair", env={"OCEANRECORDS_DSN": url})
    assert asked.returncode == 1
    assert "the next run loads 1 difference" in asked.stdout
    with people.database.connect() as connection:
        connection.execute("CALL etl.run()")
    assert oceanrecords("reconcile", env={"OCEANRECORDS_DSN": url}).returncode == 0


def test_the_columns_that_pgaudit_watches_are_those_of_people(database: Database) -> None:
    """The statements of docs/security.md; no login has the level that they need."""
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
    role = f"reads_{database.name}"
    start = page.index("    CREATE ROLE reads_personal_data")
    text = page[start : page.index("\n\n", start)].replace("reads_personal_data", role)
    try:
        with database.connect() as connection:
            for statement in text.split(";\n"):
                connection.execute(statement.encode())
        watched = database.rows(
            "SELECT DISTINCT table_name::text, column_name::text"
            " FROM information_schema.column_privileges WHERE grantee = %s ORDER BY 1, 2",
            role,
        )
        assert watched == database.rows(
            "SELECT DISTINCT object::text AS table_name, column_name::text FROM etl.personal_column ORDER BY 1, 2"
        )
        assert database.rows("SELECT * FROM etl.direct_grant") == []
        assert database.rows("SELECT * FROM etl.access_flaw") == []
    finally:
        database.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
