"""A forgotten customer is gone from every layer and version, and stays so; facts and totals do not change."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.security.conftest import People
from tests.support.database import Database
from tests.support.waiting import wait_for
from tests.warehouse.faults import Background, background
from tests.warehouse.play import Play

SECRETS = ("Marie", "Sklodowska", "marie.curie@example.org", "+33 1 2345", "Rue Cuvier")

TOTALS = """
    SELECT (SELECT jsonb_agg(to_jsonb(f) - 'run_id' ORDER BY f.order_id) FROM dwh.fact_order AS f)
        || (SELECT jsonb_agg(to_jsonb(l) - 'run_id' ORDER BY l.order_id, l.line_number) FROM dwh.fact_order_line AS l)
        || (SELECT jsonb_agg(to_jsonb(a) - 'run_id' ORDER BY a.customer_id, a.country) FROM dwh.agg_customer_quarterly AS a)
        || (SELECT jsonb_agg(to_jsonb(a) - 'run_id' ORDER BY a.customer_id) FROM dwh.agg_customer_total_quarterly AS a)
        || (SELECT jsonb_agg(to_jsonb(a) - 'run_id' ORDER BY a.day, a.country) FROM dwh.agg_order_daily AS a)
"""
RELATIONS = """
    SELECT format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'v', 'f')
        AND n.nspname IN ('oceanrecords', 'source', 'delta', 'stage', 'work', 'dwh', 'kpi', 'etl', 'audit', 'analysis')
"""


def where_it_is(database: Database, *secrets: str) -> dict[str, str]:
    """Look for words in every row of every relation of the database."""
    found = {}
    with database.connect() as connection:
        for (relation,) in connection.execute(RELATIONS.replace("%", "%%").encode(), []).fetchall():
            row = connection.execute(
                f"SELECT string_agg(t::text, ' ') FROM {relation} AS t".encode()
            ).fetchone()
            assert row is not None
            for secret in secrets:
                if secret in (row[0] or ""):
                    found[relation] = secret
    return found


@pytest.fixture
def marie(play: Play, database: Database) -> int:
    """A customer with two versions, rows in quarantine, in a reconciliation and in a sample."""
    customer = int(
        play.value("SELECT customer_id FROM oceanrecords.customers WHERE first_name = 'Marie'")
    )
    key = {"customer_id": customer}
    play.shop.update("customers", key, segment="business")
    play.run()
    play.shop.update("customers", key, last_name="Sklodowska")
    play.run()
    assert play.value("SELECT count(*) FROM dwh.dim_customer WHERE customer_id = %s", customer) == 2
    row = json.dumps(
        {"customer_id": customer, "first_name": "Marie", "email": "marie.curie@example.org"}
    )
    play.loader.execute(
        "INSERT INTO etl.quarantine (object, row_key, sqlstate, reason, original_row, run_id)"
        " VALUES ('customers', jsonb_build_object('customer_id', %s), '22000', 'bad: Marie', %s, 1),"
        " ('dim_customer', jsonb_build_object('customer_id', %s), '22000', 'bad: Marie', %s, 1)",
        [customer, row, customer, row],
    )
    play.loader.execute(
        "UPDATE stage.customers SET last_name = 'Sklodowska!' WHERE customer_id = %s", [customer]
    )
    play.loader.execute("DELETE FROM etl.quarantine WHERE object = 'dim_customer'")
    play.loader.execute("CALL etl.reconcile()")
    play.loader.execute(
        "UPDATE stage.customers SET last_name = 'Sklodowska' WHERE customer_id = %s", [customer]
    )
    play.loader.execute(
        "INSERT INTO etl.check_result (check_name, severity, status, violations, sample, seconds)"
        " SELECT check_name, severity, 'failed', 1, jsonb_build_array(%s::jsonb), 0 FROM etl.quality_check LIMIT 1",
        [row],
    )
    return customer


def test_personal_data_are_gone_from_every_layer_and_version(
    database: Database, play: Play, marie: int
) -> None:
    before = play.value(TOTALS)
    assert where_it_is(database, *SECRETS).keys() >= {
        "oceanrecords.customers",
        "oceanrecords.addresses",
        "stage.customers",
        "delta.customers",
        "dwh.dim_customer",
        "dwh.dim_address",
        "work.dim_customer_decision",
        "etl.quarantine",
        "etl.check_result",
    }
    play.loader.execute("SELECT * FROM etl.forget('customer', %s)", [str(marie)])
    assert where_it_is(database, *SECRETS) == {}
    assert play.value(TOTALS) == before
    assert play.row(
        "SELECT subject_key, forgotten_by FROM etl.forgotten_subject WHERE subject = 'customer'"
    ) == {"subject_key": str(marie), "forgotten_by": "postgres"}
    assert play.row("SELECT act, target, details FROM audit.act ORDER BY act_id DESC LIMIT 1") == {
        "act": "forgotten",
        "target": f"customer {marie}",
        "details": {},
    }
    # The other customer is who he was.
    assert play.value("SELECT count(*) FROM dwh.dim_customer WHERE first_name = 'Ada'") == 1
    assert play.value("SELECT count(*) FROM dwh.dim_address WHERE street = 'Kai 1'") == 1
    assert play.value("SELECT count(*) FROM dwh.dim_customer WHERE customer_id = %s", marie) == 2


def test_it_survives_loads_and_a_full_refresh_whatever_the_source_brings(
    database: Database, play: Play, marie: int
) -> None:
    """The source here has the data again, as one that cannot be written to would have them still."""
    play.loader.execute("SELECT * FROM etl.forget('customer', %s)", [str(marie)])
    before = play.value(TOTALS)
    play.shop.update(
        "customers", {"customer_id": marie}, first_name="Marie", last_name="Sklodowska",
        email="marie.curie@example.org", phone="+33 1 2345",
    )  # fmt: skip
    play.loader.execute(
        "UPDATE oceanrecords.addresses SET street = 'Rue Cuvier 12' WHERE city = 'Paris'"
    )
    known = {
        "oceanrecords.customers",
        "source.customers",
        "oceanrecords.addresses",
        "source.addresses",
    }

    play.run()
    assert where_it_is(database, *SECRETS).keys() == known
    play.run(full_refresh=["all"])
    assert where_it_is(database, *SECRETS).keys() == known
    # From nothing, straight from the source.
    play.loader.execute("TRUNCATE stage.customers, stage.addresses")
    batch = play.value("SELECT max(batch_id) FROM etl.batch")
    play.run(full_refresh=["all"])
    assert play.value(
        "SELECT bool_or(is_bulk) FROM etl.extraction WHERE source_table = 'customers' AND batch_id > %s",
        batch,
    )
    assert where_it_is(database, *SECRETS).keys() == known
    assert play.value(TOTALS) == before


def test_again_and_for_nobody(play: Play, marie: int) -> None:
    forget = "SELECT * FROM etl.forget(%s, %s)"
    assert play.loader.execute(forget, ["customer", str(marie)]).fetchall() != []
    assert play.loader.execute(forget, ["customer", str(marie)]).fetchall() == []
    for subject, key, code in (
        ("customer", "4711", "ET040"),
        ("customer", "Marie", "ET041"),
        ("customer", "", "ET041"),
        ("supplier", "1", "ET042"),
    ):
        with pytest.raises(psycopg.Error) as caught:
            play.loader.execute(forget, [subject, key])
        assert caught.value.sqlstate == code, (subject, key)
        assert caught.value.diag.message_hint, (subject, key)
    assert play.value("SELECT count(*) FROM etl.forgotten_subject") == 1


def test_an_address_is_kept_while_somebody_else_lives_there(play: Play, marie: int) -> None:
    paris = play.value("SELECT address_id FROM oceanrecords.addresses WHERE city = 'Paris'")
    pierre = play.shop.customer("Pierre")
    play.shop.insert("customers_addresses", customer_id=pierre, address_id=paris)
    # Not loaded yet: the source is asked, not the mirror alone.
    play.loader.execute("SELECT * FROM etl.forget('customer', %s)", [str(marie)])
    street = "SELECT DISTINCT street FROM dwh.dim_address WHERE city = 'Paris'"
    assert play.value(street) == "Rue Cuvier 12"
    play.loader.execute("SELECT * FROM etl.forget('customer', %s)", [str(pierre)])
    assert play.value(street) == "Forgotten"


def test_a_customer_that_was_never_loaded(database: Database, play: Play) -> None:
    new = play.shop.customer("Newcomer")
    play.loader.execute("SELECT * FROM etl.forget('customer', %s)", [str(new)])
    play.run()
    assert where_it_is(database, "Newcomer") == {}


def test_it_waits_for_a_live_run(database: Database, play: Play, marie: int) -> None:
    run_id = play.value("SELECT etl.start_run('{customers}')")
    worker, forgetter = database.connect(), database.connect()
    replaced: list[Any] = []
    worker.execute("SELECT etl._enlist(%s)", [run_id])
    # A worker counts as live while it executes something.
    working = Background(lambda: worker.execute("SELECT pg_sleep(600)"))
    wait_for(lambda: database.value("SELECT etl._live_run() IS NOT NULL"), "the run to be live")
    forget = "SELECT * FROM etl.forget('customer', %s)"
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND pid = %s"
    with background(lambda: replaced.extend(forgetter.execute(forget, [str(marie)]))):
        wait_for(
            lambda: database.value(waits, forgetter.info.backend_pid),
            "forgetting to wait for the run",
        )
        assert database.value("SELECT count(*) FROM etl.forgotten_subject") == 0
        database.execute("SELECT pg_terminate_backend(%s)", worker.info.backend_pid)
        assert isinstance(working.join(), psycopg.OperationalError)
    assert replaced != []
    assert database.value("SELECT count(*) FROM etl.forgotten_subject") == 1


def test_nothing_is_paid_where_nobody_is_forgotten(play: Play) -> None:
    assert play.value("SELECT count(*) FROM etl.forgotten_row") == 0
    assert play.value("SELECT etl._suppress_forgotten('customers', 'delta.customers', 1)") == 0


def test_the_command_tells_what_it_reached(cli: Callable[..., Any], play: Play, marie: int) -> None:
    done = cli("forget", "customer", str(marie), "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["remaining"] == []
    assert "will be erased in" in done.stderr, "also where nobody is asked"
    assert "dwh.dim_customer" in done.stderr
    assert {"dwh.dim_customer", "stage.customers", "oceanrecords.customers"} <= {
        row["relation"] for row in answer["replaced"]
    }
    again = cli("forget", "customer", str(marie))
    assert "Nothing was left to replace" in again.stdout
    assert "backups" in again.stdout
    assert cli("forget", "customer", "4711").returncode == 1


def test_a_steward_may_and_is_noted(people: People, marie: int) -> None:
    login = people.add("sten", "steward")
    people.connect("sten").execute("SELECT * FROM etl.forget('customer', %s)", [str(marie)])
    assert people.database.value("SELECT actor FROM audit.act WHERE act = 'forgotten'") == login
    assert people.database.value("SELECT forgotten_by FROM etl.forgotten_subject") == login


# -- keys, statistics, retention, waiting ---------------------------------------------------------


@pytest.mark.parametrize("spelling", ["0{}", " {} ", "+{}", "000{}"])
def test_every_spelling_of_a_key_is_the_same_customer(
    database: Database, play: Play, marie: int, spelling: str
) -> None:
    """Two share a flat; whoever goes last takes the street along."""
    home = play.value(
        "SELECT address_id FROM oceanrecords.addresses WHERE street = 'Rue Cuvier 12'"
    )
    mate = play.shop.customer("Pierre", email="pierre@example.org")
    database.execute(
        "INSERT INTO oceanrecords.customers_addresses (customer_id, address_id) VALUES (%s, %s)",
        mate, home,
    )  # fmt: skip
    play.run()
    database.execute("SELECT * FROM etl.forget('customer', %s)", spelling.format(marie))
    assert database.value("SELECT count(*) FROM dwh.dim_address WHERE street = 'Rue Cuvier 12'")
    database.execute("SELECT * FROM etl.forget('customer', %s)", spelling.format(mate))
    assert where_it_is(database, *SECRETS, "Pierre") == {}
    keys = database.rows("SELECT subject_key FROM etl.forgotten_subject ORDER BY 1")
    assert [row["subject_key"] for row in keys] == sorted([str(marie), str(mate)])


def test_a_dump_and_the_statistics_do_not_have_the_name(
    database: Database, play: Play, marie: int
) -> None:
    """Two share a flat. All of the database is searched as a thief of a backup would do it."""
    home = play.value(
        "SELECT address_id FROM oceanrecords.addresses WHERE street = 'Rue Cuvier 12'"
    )
    mate = play.shop.customer("Pierre", email="pierre@example.org")
    play.shop.insert("customers_addresses", customer_id=mate, address_id=home)
    play.run()
    database.execute("ANALYZE")

    def found(*secrets: str) -> set[str]:
        dump = database.server.cluster.run(
            "pg_dump", [f"--dbname={database.dsn}", "--no-comments"], timeout=300
        )
        statistics = database.value("SELECT string_agg(s::text, ' ') FROM pg_stats AS s")
        return {one for one in secrets if one in dump + statistics}

    assert found(*SECRETS, "Pierre") == {*SECRETS, "Pierre"}
    database.execute("SELECT * FROM etl.forget('customer', %s)", f"0{marie}")
    assert found(*SECRETS, "Pierre") == {"Rue Cuvier", "Pierre"}, "Pierre still lives there"
    database.execute("SELECT * FROM etl.forget('customer', %s)", f" {mate} ")
    assert found(*SECRETS, "Pierre") == set()


@pytest.mark.parametrize("key", ["", "  ", "seven", "7x", "7.5", "99999999999999999999"])
def test_what_is_no_key_is_refused(database: Database, key: str) -> None:
    with pytest.raises(psycopg.Error) as caught:
        database.execute("SELECT * FROM etl.forget('customer', %s)", key)
    assert caught.value.sqlstate == "ET041"
    assert caught.value.diag.message_hint == "Write a value of type bigint."
    assert database.value("SELECT count(*) FROM etl.forgotten_subject") == 0


def test_statistics_forget_as_well(database: Database, play: Play, marie: int) -> None:
    database.execute("ANALYZE")
    statistics = (
        "SELECT string_agg(s::text, ' ') FROM (SELECT most_common_vals::text, histogram_bounds::text"
        " FROM pg_stats WHERE schemaname IN ('oceanrecords', 'stage', 'dwh', 'delta', 'work')) AS s"
    )
    known = database.value(statistics)
    assert "marie.curie@example.org" in known
    assert "Rue Cuvier" in known
    database.execute("SELECT * FROM etl.forget('customer', %s)", str(marie))
    left = database.value(statistics)
    assert [secret for secret in SECRETS if secret in left] == []


def test_a_customer_who_got_another_number_is_forgotten_under_the_old_one(
    database: Database, play: Play
) -> None:
    old = play.shop.customer("Irene", email="irene@example.org")
    play.run()
    database.execute("DELETE FROM oceanrecords.customers WHERE customer_id = %s", old)
    new = play.shop.customer("Irene", email="Irene@example.org")
    play.run()
    assert play.value("SELECT count(*) FROM dwh.dim_customer WHERE first_name = 'Irene'") == 2
    database.execute("SELECT * FROM etl.forget('customer', %s)", str(new))
    assert where_it_is(database, "Irene", "irene@example.org") == {}


def test_data_of_a_deleted_customer_are_erased_after_a_while(
    database: Database, play: Play
) -> None:
    gone = play.shop.customer("Zelda", email="zelda@example.org")
    stays = play.shop.customer("Otto", email="otto@example.org")
    play.run()
    database.execute("DELETE FROM oceanrecords.customers WHERE customer_id = %s", gone)
    database.execute("UPDATE etl.setting SET value = '0 s' WHERE name = 'maintenance_every'")
    play.run()
    name = "SELECT DISTINCT full_name, email FROM dwh.dim_customer WHERE customer_id = %s"
    assert play.rows(name, gone)[0][1] == "zelda@example.org", "within 90 days"
    database.execute(
        "UPDATE stage.customers SET deleted_at = now() - interval '91 days' WHERE customer_id = %s",
        gone,
    )
    database.execute(
        "UPDATE etl.personal_column SET kept_after_deletion = NULL WHERE column_name = 'full_name'"
    )
    play.run()
    assert play.rows(name, gone) == [("Zelda Example", f"forgotten-{gone}@forgotten.invalid")] or (
        play.rows(name, gone)[0][1] == f"forgotten-{gone}@forgotten.invalid"
    )
    assert "Zelda" in play.rows(name, gone)[0][0], "a name that is kept for ever"
    mirror = "SELECT first_name, email FROM stage.customers WHERE customer_id = %s"
    assert play.rows(mirror, gone) == [("Forgotten", f"forgotten-{gone}@forgotten.invalid")]
    assert play.rows(mirror, stays) == [("Otto", "otto@example.org")]
    play.run(full_refresh=["dim_customer"])
    assert play.rows(name, gone)[0][1] == f"forgotten-{gone}@forgotten.invalid"


def test_who_keeps_it_waiting_is_named(database: Database, play: Play, marie: int) -> None:
    database.execute("ALTER FUNCTION etl.forget(text, text) SET lock_timeout = '200ms'")
    with database.connect() as other:
        other.execute("SET application_name = 'the till'")
        with other.transaction():
            other.execute(
                "UPDATE oceanrecords.customers SET phone = '1' WHERE customer_id = %s", [marie]
            )
            with pytest.raises(psycopg.Error) as caught:
                database.execute("SELECT * FROM etl.forget('customer', %s)", str(marie))
            assert caught.value.sqlstate == "ET049"
            assert str(other.info.backend_pid) in str(caught.value.diag.message_detail)
            assert "the till" in str(caught.value.diag.message_detail)
    assert database.value("SELECT count(*) FROM etl.forgotten_subject") == 0


def test_on_a_terminal_it_shows_what_it_will_erase_and_asks(
    database: Database, play: Play, marie: int
) -> None:
    def answer(word: str) -> tuple[int, str]:
        program = str(Path(sys.executable).with_name("oceanrecords"))
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ.update({"OCEANRECORDS_DSN": database.dsn, "COLUMNS": "160"})
            os.execv(program, [program, "forget", "customer", str(marie)])
        os.write(terminal, word.encode())
        said = b""
        with contextlib.suppress(OSError):
            while part := os.read(terminal, 4096):
                said += part
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said.decode()

    status, said = answer("n\n")
    assert status == 1
    assert "dwh.dim_customer" in said
    assert "email" in said
    assert "Marie" not in said
    assert "Rue Cuvier" in str(database.rows("SELECT street FROM dwh.dim_address"))
    status, said = answer("y\n")
    assert status == 0, said
    assert "Not reached" in said
    assert "backups" in said
    assert where_it_is(database, *SECRETS) == {}
