"""What is told to who may not see the data, and what is logged, holds neither personal data nor a password."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.conftest import Finished
from tests.security.conftest import People, read_all
from tests.source.conftest import PASSWORD, Link

FIRST, LAST, EMAIL = "Zebulonia", "Quuxworthington", "zq.hidden@leaky.example"
PHONE, STREET = "33987654321", "Rue des Fuites 77"
LOGIN_PASSWORD = "Pl4inly-in-the-DSN"
WRONG_PASSWORD = "not-the-0ne"
SECRETS = (
    FIRST,
    LAST,
    EMAIL,
    PHONE,
    PHONE[::-1],
    STREET,
    LOGIN_PASSWORD,
    WRONG_PASSWORD,
    PASSWORD,
    "s3cret",
)
CHECKS = """
    INSERT INTO etl.quality_check (check_name, severity, description, query, run_every)
    VALUES
        ('no_customers', 'fail', 'Shows rows.', 'SELECT * FROM dwh.dim_customer', '0'),
        ('quotes', 'fail', 'Its error quotes.', 'SELECT email::integer FROM dwh.dim_customer WHERE customer_id > 0', '0'),
        ('quotes_number', 'fail', 'Its error quotes, too.', 'SELECT phone::integer FROM dwh.dim_customer WHERE phone <> ''''', '0')
"""


def go_wrong(link: Link) -> None:
    """Load a customer, and let everything fail that quotes rows as it fails."""
    play, warehouse = link.play, link.warehouse
    play.open()
    customer = play.shop.customer(FIRST, last_name=LAST, email=EMAIL, phone=PHONE)
    address = play.shop.address(customer, street=STREET, city="Lyon", country_code="FR")
    play.shop.order(customer, address, {play.product: 3})
    warehouse.execute(CHECKS)
    play.run(expect="partial")
    assert EMAIL in str(warehouse.rows("SELECT c::text FROM dwh.dim_customer AS c"))
    assert EMAIL in str(warehouse.rows("SELECT sample FROM etl.check_result"))

    def refuse(table: str, condition: str) -> None:
        warehouse.execute(
            f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS refuse,"
            f" ADD CONSTRAINT refuse CHECK (segment <> 'business' OR {condition}) NOT VALID"
        )

    # A row that is refused is set aside with the server's error, which quotes it.
    refuse("dwh.dim_customer", "false")
    play.shop.update("customers", {"customer_id": customer}, segment="business")
    play.run(expect="partial")
    assert EMAIL in str(warehouse.rows("SELECT q::text FROM etl.quarantine AS q"))
    # One too many, and the task fails with what is wrong with the last one.
    refuse("dwh.dim_customer", "email::integer > 0")
    warehouse.execute("UPDATE etl.setting SET value = '0' WHERE name = 'quarantine_limit'")
    play.shop.update("customers", {"customer_id": customer}, phone=PHONE[::-1])
    play.run(expect="partial")
    assert "ET008" in str(play.failures())
    # Where rows are not set aside, the task fails with the error itself.
    for condition, state in (
        ("false", "23514"),
        ("email::integer > 0", "22P02"),
        ("phone::integer > 0", "22003"),
    ):
        refuse("stage.customers", condition)
        play.shop.update(
            "customers", {"customer_id": customer}, phone=PHONE, last_name=f"{LAST} {state}"
        )
        play.run(expect="partial")
        failed = play.value("SELECT sqlstate FROM etl.task_status WHERE task = 'stage:customers'")
        assert failed == state
    # A reconciliation that finds somebody's row changed.
    warehouse.execute(
        f"UPDATE stage.customers SET email = '{EMAIL}' WHERE customer_id = {play.customer}"
    )
    play.loader.execute("CALL etl.reconcile()")
    assert EMAIL in str(warehouse.rows("SELECT d::text FROM etl.reconciliation_difference AS d"))


@pytest.fixture
def logs(connected: Link) -> Callable[[], dict[str, str]]:
    """Tells what the servers' logs say since the test began."""
    files = {"warehouse": connected.warehouse.server.log, "source": connected.source.server.log}
    sizes = {name: file.stat().st_size for name, file in files.items()}

    def read() -> dict[str, str]:
        return {
            f"log of the {name}": file.read_bytes()[sizes[name] :].decode(errors="replace")
            for name, file in files.items()
        }

    return read


def test_nothing_that_is_told_holds_personal_data_or_a_password(
    connected: Link,
    logs: Callable[[], dict[str, str]],
    oceanrecords: Callable[..., Finished],
    tmp_path: Path,
) -> None:
    people = People(connected.warehouse)
    told: dict[str, str] = {}
    try:
        # Whoever may connect hears notifications.
        people.add("ear", "business")
        ear = people.connect("ear")
        for channel in ("etl_alert", "etl_progress"):
            ear.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        go_wrong(connected)
        connected.warehouse.execute("NOTIFY etl_alert, 'the end'")
        heard = (notification.payload for notification in ear.notifies(timeout=60))
        told["notifications"] = "\n".join(takewhile(lambda one: one != "the end", heard))
        for level in ("auditor", "business", "analyst"):
            people.add(level, level, countries=("*",) if level == "analyst" else ())
            texts = read_all(people.connect(level))
            told |= {f"{name} as {level}": text for name, text in texts.items()}
    finally:
        connected.warehouse.close()
        people.remove()

    dsn = psycopg.conninfo.make_conninfo(connected.warehouse.dsn, password=LOGIN_PASSWORD)
    place = f"127.0.0.1:{connected.warehouse.server.port}"
    commands = {
        "run": (3, "run", "--json"),
        "doctor": (1, "doctor", "--json"),  # it names what failed
        "status": (0, "status"),
        "status as JSON": (0, "status", "--json"),
        "source": (0, "source", "status", "--json"),
        "docs": (0, "docs", "--out", str(tmp_path / "docs")),
        "preview": (0, "dashboard", "preview", "--out", str(tmp_path / "preview.html")),
        # What cannot connect tells where, and not with what.
        "no database": (1, "--dsn", f"{dsn} dbname=nowhere", "status"),
        "no server": (1, "--dsn", f"postgresql://u:{LOGIN_PASSWORD}@127.0.0.1:1/x", "doctor"),
        "refused": (1, "--dsn", f"postgresql://postgres:{WRONG_PASSWORD}@{place}/x", "status"),
        "no port": (1, "--dsn", f"postgresql://u:{LOGIN_PASSWORD}@h:port@/x", "status"),
        "source refused": (1, "source", "connect", *connected.arguments()),
    }
    settings = {"OCEANRECORDS_DSN": dsn, "OCEANRECORDS_SOURCE_PASSWORD": WRONG_PASSWORD}
    for name, (status, *arguments) in commands.items():
        done = oceanrecords(*arguments, env=settings)
        assert done.returncode == status, (name, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        told[name] = done.stdout + done.stderr
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in written} >= {".html", ".md"}
    told |= {path.name: path.read_text(encoding="utf-8") for path in written}
    told |= logs()

    # All of it is there, and tells of what went wrong.
    for name in (*commands, "preview.html", "log of the warehouse", "log of the source"):
        assert told[name], name
    for name in ("etl.task_run as auditor", "etl.alert as auditor", "notifications", "run"):
        assert "cannot be executed" in told[name], name
    assert "ET008" in told["etl.task_run as auditor"]
    assert "stage.customers" in told["index.html"]
    assert "masked" in told["analysis.dim_customer as analyst"]
    found = [(name, secret) for name, text in told.items() for secret in SECRETS if secret in text]
    assert found == []
    # Nor is there a connection string with another password.
    for name, text in told.items():
        assert not re.search(r"postgres(ql)?://[^\s/@:]*:[^\s@*]+@", text), name
