"""Connecting a source and disconnecting it: all or nothing, without the password in a log, and with messages that help."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from base.connection import Target
from driver.migrate import Migrator
from tests.conftest import Finished
from tests.source.conftest import PASSWORD, READER, TEMPLATE, Link, make_template
from tests.support.database import Database, temporary_database
from tests.support.servers import RunningServer
from tests.warehouse.faults import background, wait_until_blocked

Run = Callable[..., Finished]

KINDS = """
    SELECT c.relname, c.relkind::text AS kind, obj_description(c.oid, 'pg_class') AS comment, c.relacl::text AS acl,
        (SELECT string_agg(format('%s %s %s', a.attname, format_type(a.atttypid, a.atttypmod), col_description(c.oid, a.attnum)), ', ' ORDER BY a.attnum)
            FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0) AS columns
    FROM pg_class AS c
    WHERE c.relnamespace = 'source'::regnamespace
    ORDER BY c.relname
"""


def contract(link: Link) -> list[dict[str, Any]]:
    return link.warehouse.rows(KINDS)


def test_connect_status_disconnect(link: Link, source_cli: Run) -> None:
    before = contract(link)
    assert {row["kind"] for row in before} == {"v"}
    connected = source_cli("connect", *link.arguments())
    assert connected.returncode == 0, connected.stderr
    assert (
        f"15 relations are read from schema oceanrecords of {link.source.name}" in connected.stdout
    )
    assert "compares all rows" in connected.stdout

    during = contract(link)
    assert {row["kind"] for row in during} == {"f"}
    for one, other in zip(before, during, strict=True):
        assert one | {"kind": "f"} == other

    status = json.loads(source_cli("status", "--json").stdout)
    assert status["location"] == "remote"
    assert (status["host"], status["port"]) == ("127.0.0.1", link.proxy.port)
    assert (status["database_name"], status["user_name"]) == (link.source.name, READER)
    assert status["is_reachable"]
    assert status["server_version"] == link.source.value("SHOW server_version").split()[0]
    assert status["system_identifier"] == link.source.value(
        "SELECT system_identifier FROM pg_control_system()"
    )
    assert abs(status["clock_difference"]) < 5
    shown = source_cli("status").stdout
    assert f"{link.source.name} on 127.0.0.1:{link.proxy.port} as {READER}" in shown

    gone = source_cli("disconnect")
    assert gone.returncode == 0, gone.stderr
    assert contract(link) == before
    assert json.loads(source_cli("status", "--json").stdout)["location"] == "local"
    assert link.warehouse.value("SELECT count(*) FROM pg_foreign_server") == 0
    again = source_cli("disconnect")
    assert again.returncode == 0
    assert "already" in again.stdout


def test_connecting_again_changes_nothing_and_keeps_the_watermarks(
    connected: Link, source_cli: Run
) -> None:
    connected.play.open()
    connected.play.run()
    before = contract(connected)
    answer = source_cli("connect", *connected.arguments(sslmode="disable"), "--fetch-size", "500")
    assert answer.returncode == 0, answer.stderr
    assert "continues from the watermarks" in answer.stdout
    assert contract(connected) == before
    assert connected.warehouse.value("SELECT fetch_size FROM etl.source_connection") == 500
    connected.play.run()
    read = "SELECT coalesce(sum(rows_read), 0) FROM etl.task_status WHERE kind = 'extract'"
    assert connected.play.value(read) == 0


def test_from_local_to_remote_and_back_with_mirrors_that_are_full(link: Link) -> None:
    local = link.play
    local.shop.connection.close()
    at_home = Link(link.warehouse, link.warehouse, link.proxy)
    at_home.play.open()
    at_home.play.shop.customer("Local")
    at_home.play.run()
    at_home.assert_mirrored()

    far = Link(link.warehouse, link.source, link.proxy)
    far.play.open()
    far.connect()
    far.play.run()
    far.assert_mirrored()
    assert far.play.value("SELECT count(*) FROM stage.customers WHERE deleted_at IS NOT NULL") == 1
    far.play.shop.customer("Remote")
    far.play.run()
    far.assert_mirrored()

    at_home.play.shop.customer("Home")
    at_home.play.loader.execute("SELECT etl.disconnect_source()")
    at_home.play.run()
    at_home.assert_mirrored()


def test_another_database_of_the_same_server_is_not_taken_for_the_same(
    connected: Link, source_server: RunningServer
) -> None:
    connected.play.open()
    connected.play.run()
    with temporary_database(source_server, TEMPLATE) as other:
        second = Link(connected.warehouse, other, connected.proxy)
        second.play.open()
        second.play.shop.customer("Elsewhere")
        # A transaction later than those, so that their snapshot sees all of the other database.
        connected.play.shop.customer("Later")
        connected.play.run()
        assert second.connect()["is_rebaselined"]
        second.play.run()
        second.assert_mirrored()
        second.play.loader.close()
        second.play.shop.connection.close()
        connected.play.loader.close()


def test_the_same_database_under_another_address(connected: Link) -> None:
    connected.play.open()
    connected.play.run()
    answer = connected.connect(p_host="localhost", p_keep_watermarks=True)
    assert not answer["is_rebaselined"]
    connected.play.run()
    read = "SELECT coalesce(sum(rows_read), 0) FROM etl.task_status WHERE kind = 'extract'"
    assert connected.play.value(read) == 0


def test_disconnecting_does_not_empty_the_warehouse_by_surprise(
    connected: Link, source_cli: Run
) -> None:
    connected.play.open()
    connected.play.run()
    refused = source_cli("disconnect")
    assert refused.returncode == 1
    assert "ET029" in refused.stderr
    assert "mark every row as deleted" in refused.stderr
    assert connected.warehouse.value("SELECT location FROM etl.source_connection") == "remote"
    assert source_cli("disconnect", "--even-if-empty").returncode == 0
    assert connected.warehouse.value("SELECT location FROM etl.source_connection") == "local"


def test_migrating_keeps_the_connection(connected: Link) -> None:
    before = contract(connected)
    Migrator(Target(connected.warehouse.dsn, "tests")).apply()
    assert contract(connected) == before
    connected.play.open()
    connected.play.run()
    connected.assert_mirrored()


def test_migrating_works_while_the_source_is_away(connected: Link) -> None:
    connected.proxy.close()
    Migrator(Target(connected.warehouse.dsn, "tests")).apply()
    assert {row["kind"] for row in contract(connected)} == {"f"}


def test_readers_of_the_contract_keep_their_right(link: Link) -> None:
    link.warehouse.execute("DROP ROLE IF EXISTS contract_reader")
    link.warehouse.execute("CREATE ROLE contract_reader")
    try:
        link.warehouse.execute("GRANT USAGE ON SCHEMA source TO contract_reader")
        link.warehouse.execute("GRANT SELECT ON source.orders TO contract_reader")
        link.connect()
        link.play.open()
        with link.warehouse.connect() as connection:
            connection.execute("SET ROLE contract_reader")
            assert connection.execute("SELECT count(*) FROM source.orders").fetchall() == [(1,)]
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SELECT count(*) FROM source.customers")
    finally:
        link.warehouse.execute("DROP OWNED BY contract_reader; DROP ROLE contract_reader")


def test_a_role_with_the_printed_rights_and_no_others(link: Link, source_cli: Run) -> None:
    link.source.execute("DROP ROLE IF EXISTS other_reader")
    link.source.execute("CREATE ROLE other_reader LOGIN PASSWORD 'other'")
    try:
        refused = source_cli(
            "connect", *link.arguments(user="other_reader"), env={"OCEANRECORDS_SOURCE_PASSWORD": "other"}
        )  # fmt: skip
        assert refused.returncode == 1
        assert "ET025" in refused.stderr
        assert "schema oceanrecords" in refused.stderr
        grants = source_cli("grants", "--user", "other_reader")
        assert grants.returncode == 0
        link.source.execute(grants.stdout)
        done = source_cli(
            "connect", *link.arguments(user="other_reader"), env={"OCEANRECORDS_SOURCE_PASSWORD": "other"}
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        link.play.open()
        link.play.run()
        link.assert_mirrored()
        link.play.loader.close()
    finally:
        link.source.execute("DROP OWNED BY other_reader; DROP ROLE other_reader")


def _refusals() -> list[Any]:
    return [
        pytest.param({"host": "nowhere.invalid"}, None, "ET021", "nowhere.invalid", id="host"),
        pytest.param({"port": 1}, None, "ET021", "127.0.0.1:1 cannot be reached", id="port"),
        pytest.param({"user": "nobody_here"}, None, "ET022", "nobody_here", id="role"),
        pytest.param({"dbname": "no_such_shop"}, None, "ET023", "no_such_shop", id="database"),
        pytest.param({"schema": "nosuch"}, None, "ET024", 'schema "nosuch" does not exist', id="schema"),
        pytest.param({"sslmode": "require"}, None, "ET021", "SSL connection", id="ssl"),
        pytest.param(
            {}, "DROP TABLE oceanrecords.order_lines CASCADE", "ET024", "oceanrecords.order_lines", id="table"
        ),
        pytest.param(
            {},
            "ALTER TABLE oceanrecords.customers RENAME COLUMN phone TO telephone",
            "ET024",
            'column "phone" does not exist (oceanrecords.customers)',
            id="column",
        ),
        pytest.param(
            {},
            f"REVOKE SELECT (price) ON oceanrecords.products FROM {READER}",
            "ET025",
            "permission denied for table products",
            id="right",
        ),
    ]  # fmt: skip


@pytest.mark.parametrize(("changed", "statement", "code", "words"), _refusals())
def test_each_failure_has_a_message_of_its_own(
    link: Link,
    source_cli: Run,
    changed: dict[str, str | int],
    statement: str | None,
    code: str,
    words: str,
) -> None:
    if statement:
        link.source.execute(statement)
    before = contract(link)
    finished = source_cli("connect", *link.arguments(**changed))
    assert finished.returncode == 1
    assert code in finished.stderr
    assert words in finished.stderr
    assert "hint" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert PASSWORD not in finished.stderr
    # Nothing half done.
    assert contract(link) == before
    assert link.warehouse.value("SELECT count(*) FROM pg_foreign_server") == 0


def test_a_wrong_password_leaves_the_existing_connection(connected: Link, source_cli: Run) -> None:
    finished = source_cli(
        "connect", *connected.arguments(), env={"OCEANRECORDS_SOURCE_PASSWORD": "wrong one"}
    )
    assert finished.returncode == 1
    assert "ET022" in finished.stderr
    assert f'refuses the login of "{READER}"' in finished.stderr
    assert "wrong one" not in finished.stderr
    connected.play.open()
    connected.play.run()
    connected.assert_mirrored()


@pytest.mark.server("embedded")
def test_the_loads_may_use_a_connection_that_asks_for_no_password(link: Link) -> None:
    """A password was given, and the source did not ask for it: the connection worked for the superuser alone."""
    link.connect(p_host=link.source.server.host, p_port=link.source.server.port)
    link.play.open()
    link.play.run()
    link.assert_mirrored()


def test_a_password_that_is_not_asked_for_is_only_for_superusers(
    link: Link, tmp_path: Path
) -> None:
    with pytest.raises(psycopg.Error) as caught:
        link.play.loader.execute(
            "SELECT etl._raise_source_error('2F003', 'password is required', NULL, c) FROM etl.source_connection AS c"
        )
    assert caught.value.sqlstate == "ET022"


@pytest.mark.parametrize(
    ("version", "is_standby", "words"),
    [
        (120005, False, "PostgreSQL 12.5, which is too old"),
        (90624, False, "PostgreSQL 9.6, which is too old"),
        (150004, True, "hot standby"),
    ],
)
def test_servers_that_do_not_tell_exact_snapshots_are_refused(
    database: Database, version: int, is_standby: bool, words: str
) -> None:
    with pytest.raises(psycopg.Error, match=words) as caught:
        database.execute("SELECT etl._check_source_server(%s, %s)", version, is_standby)
    assert caught.value.sqlstate == "ET026"


def test_what_stands_on_the_contract_is_named(link: Link, source_cli: Run) -> None:
    link.warehouse.execute(
        "CREATE VIEW public.loud AS SELECT upper(code) FROM source.order_statuses"
    )
    finished = source_cli("connect", *link.arguments())
    assert finished.returncode == 1
    assert "ET027" in finished.stderr
    assert "loud" in finished.stderr
    assert {row["kind"] for row in contract(link)} == {"v"}


def test_a_role_that_may_not_install_the_extension_gets_the_statement_for_a_superuser(
    link: Link,
) -> None:
    link.warehouse.execute("DROP ROLE IF EXISTS plain")
    link.warehouse.execute("CREATE ROLE plain")
    try:
        link.warehouse.execute("GRANT USAGE ON SCHEMA etl TO plain")
        link.warehouse.execute("GRANT EXECUTE ON ALL ROUTINES IN SCHEMA etl TO plain")
        connection = link.warehouse.connect()
        connection.execute("SET ROLE plain")
        with pytest.raises(psycopg.Error) as caught:
            connection.execute("SELECT etl._ensure_wrapper()")
        assert caught.value.sqlstate == "ET020"
        assert "CREATE EXTENSION postgres_fdw" in str(caught.value.diag.message_hint)
    finally:
        link.warehouse.execute("DROP OWNED BY plain; DROP ROLE plain")


def test_the_source_is_not_changed_under_a_live_run(link: Link, source_cli: Run) -> None:
    run_id = link.play.value("SELECT etl.start_run()")
    holder = link.warehouse.connect(autocommit=False)
    holder.execute("LOCK TABLE stage.customers IN ACCESS EXCLUSIVE MODE")
    worker = link.warehouse.connect()

    with background(lambda: worker.execute("CALL etl.work(%s)", [run_id])):
        wait_until_blocked(link.play.loader, worker)
        refused = source_cli("connect", *link.arguments())
        holder.rollback()
    assert refused.returncode == 1
    assert "ET001" in refused.stderr


def test_a_view_that_computes_is_read_under_its_own_name(link: Link) -> None:
    link.warehouse.execute(
        "CREATE OR REPLACE VIEW source.suppliers AS SELECT supplier_id, upper(name) AS name,"
        " country_code, created_at, updated_at, row_xid FROM oceanrecords.suppliers"
    )
    found = link.warehouse.rows("SELECT relation::text, base_table::text FROM etl._contract()")
    tables = {row["relation"]: row["base_table"] for row in found}
    assert tables["suppliers"] is None
    assert tables["orders"] == "orders"
    assert tables["tombstones"] == "deleted_rows"
    assert tables["columns"] == "extraction_columns"


def test_status_counts_open_transactions_of_the_source(connected: Link, source_cli: Run) -> None:
    idle = connected.source.connect(autocommit=False)
    idle.execute("SELECT 1")
    status = json.loads(source_cli("status", "--older-than", "0s", "--json").stdout)
    assert status["hidden_sessions"] >= 1
    connected.source.execute(f"GRANT pg_read_all_stats TO {READER}")
    try:
        status = json.loads(source_cli("status", "--older-than", "0s", "--json").stdout)
        assert status["open_transactions"] >= 1
        assert status["hidden_sessions"] == 0
        assert "older than 0s" in source_cli("status", "--older-than", "0s").stdout
    finally:
        connected.source.execute(f"REVOKE pg_read_all_stats FROM {READER}")


def test_status_reports_a_source_that_does_not_answer(connected: Link, source_cli: Run) -> None:
    connected.proxy.close()
    finished = source_cli("status")
    assert finished.returncode == 1
    assert f"127.0.0.1:{connected.proxy.port} cannot be reached" in finished.stdout
    assert "Traceback" not in finished.stderr


# The password --------------------------------------------------------------------------------------------------------


def test_the_password_comes_from_a_file_or_a_command(
    link: Link, source_cli: Run, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD + "\n", encoding="utf-8")
    for options in (["--password-file", str(secret)], ["--password-command", f"cat {secret}"]):
        done = source_cli(
            "connect", *link.arguments(), *options, env={"OCEANRECORDS_SOURCE_PASSWORD": "wrong"}
        )
        assert done.returncode == 0, done.stderr
    both = source_cli(
        "connect", *link.arguments(), "--password-file", str(secret), "--password-command", "true"
    )
    assert both.returncode == 2
    missing = source_cli("connect", *link.arguments(), "--password-file", str(tmp_path / "none"))
    assert missing.returncode == 1
    assert "none cannot be read" in missing.stderr
    empty = source_cli("connect", *link.arguments(), "--password-command", "true")
    assert empty.returncode == 1
    assert "holds no password" in empty.stderr
    option = source_cli("connect", *link.arguments(), "--option", "password=abc")
    assert option.returncode == 2
    assert "abc" not in option.stderr


def test_the_password_is_in_the_user_mapping_and_nowhere_else(
    own_server: Callable[..., RunningServer],
    shop_database: Database,
    oceanrecords: Run,
    make_link: Callable[[Database, Database], Link],
) -> None:
    loud = own_server(
        shared_preload_libraries="pg_stat_statements",
        **{
            "pg_stat_statements.track": "all",
            "pg_stat_statements.track_utility": "on",
            "log_statement": "all",
            "log_min_duration_statement": 0,
            "log_min_error_statement": "debug5",
            "log_min_messages": "info",
            "log_error_verbosity": "verbose",
            "log_parameter_max_length_on_error": -1,
            "log_duration": "on",
        },
    )
    make_template(loud)
    with temporary_database(loud, TEMPLATE) as warehouse:
        warehouse.execute("CREATE EXTENSION pg_stat_statements")
        link = make_link(warehouse, shop_database)
        sessions = link.play.loader

        def connect(password: str) -> Finished:
            return oceanrecords(
                "source",
                "connect",
                *link.arguments(),
                env={"OCEANRECORDS_DSN": warehouse.dsn, "OCEANRECORDS_SOURCE_PASSWORD": password},
            )

        wrong, right = connect("a-wrong-secret"), connect(PASSWORD)
        assert (wrong.returncode, right.returncode) == (1, 0), right.stderr
        link.play.open()
        link.play.run()
        link.connect(sessions)
        # A password that the mapping cannot be made with: the error must not quote the statement.
        sessions.execute("CREATE TEMPORARY TABLE source_password (password text)")
        with sessions.cursor() as cursor, cursor.copy("COPY source_password FROM STDIN") as copy:
            copy.write_row(["another-secret"])
        with pytest.raises(psycopg.Error) as caught:
            sessions.execute("SELECT etl._create_user_mapping('x')")
        logged = "\n".join(
            str(part)
            for part in (
                caught.value,
                caught.value.diag.context,
                wrong.stderr,
                wrong.stdout,
                right.stdout,
                right.stderr,
                loud.log.read_text(encoding="utf-8", errors="replace"),
                warehouse.rows("SELECT query FROM pg_stat_statements"),
                warehouse.rows("SELECT query FROM pg_stat_activity"),
                warehouse.rows("SELECT * FROM etl.source_connection"),
                warehouse.rows("SELECT * FROM etl.task_run"),
            )
        )
        assert "etl.connect_source" in logged
        assert "CREATE TEMPORARY TABLE source_password" in logged
        assert "already exists" in str(caught.value)
        for secret in (PASSWORD, "s3cret", "a-wrong-secret", "another-secret"):
            assert secret not in logged, [line for line in logged.splitlines() if secret in line][
                :3
            ]
        assert "s3cret" in str(warehouse.rows("SELECT umoptions FROM pg_user_mappings"))
        sessions.close()


def test_a_password_for_statements_that_are_kept_is_refused_where_it_cannot_be_hidden(
    own_server: Callable[..., RunningServer],
) -> None:
    loud = own_server(
        shared_preload_libraries="pg_stat_statements", **{"pg_stat_statements.track": "all"}
    )
    make_template(loud)
    with temporary_database(loud, TEMPLATE) as warehouse:
        warehouse.execute("CREATE ROLE plain")
        warehouse.execute("GRANT USAGE ON SCHEMA etl TO plain")
        warehouse.execute("GRANT EXECUTE ON ALL ROUTINES IN SCHEMA etl TO plain")
        with warehouse.connect() as connection:
            connection.execute(sql.SQL("SET ROLE plain"))
            with pytest.raises(psycopg.Error) as caught:
                connection.execute("SELECT etl._create_user_mapping('x')")
        assert caught.value.sqlstate == "ET028"
