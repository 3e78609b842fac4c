"""The engine without any business, a business of one's own, and what keeps businesses apart."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from base.errors import UserError
from driver import project
from driver.cli import _COMMANDS
from tests.conftest import Finished
from tests.support.database import Database, temporary_database
from tests.support.servers import RunningServer

SHOP = """
CREATE SCHEMA shop;
CREATE TABLE shop.items (item_id bigint PRIMARY KEY, name text NOT NULL);
CREATE TABLE shop.sales (
    sale_id bigint PRIMARY KEY, item_id bigint REFERENCES shop.items, sold_at timestamptz NOT NULL, amount numeric NOT NULL
);
INSERT INTO shop.items SELECT g, 'Item ' || g FROM generate_series(1, 5) AS g;
INSERT INTO shop.sales SELECT g, 1 + g % 5, now() - g * interval '1 hour', g FROM generate_series(1, 20) AS g;
"""

# All that people read of an installation: comments, sources of routines and views, catalog rows.
TEXTS = """
SELECT 'comment on ' || pg_describe_object(classoid, objoid, objsubid) AS place, description AS text FROM pg_description
WHERE classoid <> 'pg_proc'::regclass OR objoid >= 16384
UNION ALL SELECT 'comment on role', description FROM pg_shdescription
UNION ALL SELECT 'routine ' || p.oid::regprocedure, p.prosrc FROM pg_proc AS p
WHERE p.oid >= 16384 AND p.pronamespace::regnamespace::text IN ('etl', 'dwh', 'kpi', 'work', 'source', 'audit', 'analysis')
UNION ALL SELECT 'view ' || c.oid::regclass, pg_get_viewdef(c.oid) FROM pg_class AS c
WHERE c.relkind = 'v' AND c.relnamespace::regnamespace::text IN ('etl', 'dwh', 'kpi', 'work', 'source', 'audit', 'analysis')
UNION ALL SELECT 'setting', name || value || description FROM etl.setting
UNION ALL SELECT 'check', check_name || description || query FROM etl.quality_check
UNION ALL SELECT 'level', level || description FROM etl.access_level
UNION ALL SELECT 'permission', schema_name || object_name || origin FROM etl.permission
"""
# The name is fine as that of the program, of its database connection and of the group roles.
PROGRAM = re.compile(
    r"oceanrecords(?=_(etl|owner|analyst|application|auditor|business|steward)\b)"
    rf"|oceanrecords (?=(warehouse|{'|'.join(_COMMANDS)})\b)"
)
BUSINESS = re.compile(
    r"oceanrecords|customer|\bproducts?\b|supplier|retailer|fact_order|(country|countries)\b|dim_(customer|product|status)|lost order",
    re.IGNORECASE,
)


@pytest.fixture
def alone(server: RunningServer, engine_template: str) -> Iterator[Database]:
    """A database with the engine alone."""
    with temporary_database(server, engine_template) as made:
        yield made


@pytest.fixture
def call(alone: Database, oceanrecords: Callable[..., Finished]) -> Callable[..., Finished]:
    """Runs the program on the engine alone."""

    def run(*arguments: str) -> Finished:
        return oceanrecords("--dsn", alone.dsn, *arguments)

    return run


def test_nothing_of_it_speaks_of_the_retailer(alone: Database) -> None:
    found = []
    for row in alone.rows(TEXTS):
        text = PROGRAM.sub("", row["text"] or "")
        match = BUSINESS.search(text)
        if match:
            found.append((row["place"], text[max(match.start() - 30, 0) : match.end() + 30]))
    assert found == []
    assert alone.value("SELECT to_regnamespace('oceanrecords') IS NULL")
    assert alone.value("SELECT count(*) FROM etl.setting WHERE name = 'currency'") == 0


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (("run",), 0),
        (("status",), 0),
        (("doctor",), 0),
        (("check", "--all"), 0),
        (("kpi",), 0),
        (("kpi", "--all"), 0),
        (("reconcile",), 0),
        (("queue",), 0),
        (("quarantine",), 0),
        (("source", "status"), 0),
        (("users", "list"), 0),
        (("migrate", "--list"), 0),
        (("migrate",), 0),
        (("docs", "--out", "pages"), 0),
        (("trace", "order", "1"), 1),
        (("forget", "customer", "1", "--yes"), 1),
        (("users", "add", "ana", "--country", "DE", "--no-password"), 2),
        (("simulate", "seed", "--orders", "10"), 1),
    ],
)
def test_every_command_copes_with_it(
    call: Callable[..., Finished], command: tuple[str, ...], status: int
) -> None:
    call("run")
    finished = call(*command)
    assert finished.returncode == status, finished.stdout + finished.stderr
    assert "unforeseen" not in finished.stderr
    assert "Traceback" not in finished.stderr


def test_the_documentation_of_it_names_no_business(
    call: Callable[..., Finished], tmp_path: Path
) -> None:
    assert call("docs", "--out", str(tmp_path / "pages")).returncode == 0
    for page in (tmp_path / "pages").iterdir():
        text = PROGRAM.sub("", page.read_text(encoding="utf-8").replace("`oceanrecords docs`", ""))
        text = text.replace("<code>oceanrecords docs</code>", "")
        text = re.sub(r'<meta name="generator"[^>]*>', "", text)
        found = BUSINESS.search(text)
        assert found is None, text[max(found.start() - 60, 0) : found.end() + 60]


def test_it_stays_alone_until_a_business_is_named(
    alone: Database, call: Callable[..., Finished]
) -> None:
    assert call("migrate").returncode == 0
    assert alone.value("SELECT to_regclass('dwh.fact_order') IS NULL")
    listed = json.loads(call("migrate", "--list", "--json").stdout)
    assert {one["migration"].partition("/")[0] for one in listed} == {"engine"}
    assert call("--project", "oceanrecords", "migrate").returncode == 0
    assert alone.value("SELECT name FROM etl.business") == "oceanrecords"
    assert alone.value("SELECT to_regclass('dwh.fact_order') IS NOT NULL")


def test_a_database_holds_one_business(
    database: Database, oceanrecords: Callable[..., Finished], tmp_path: Path
) -> None:
    database.execute(SHOP)
    on = ("--dsn", database.dsn)
    assert oceanrecords(*on, "new", "shop", "--schema", "shop").returncode == 0
    refused = oceanrecords(*on, "--project", "shop", "migrate")
    assert refused.returncode == 1
    assert "holds the business 'oceanrecords'; 'shop' cannot be added" in refused.stderr
    assert "createdb" in refused.stderr
    assert database.value("SELECT to_regclass('dwh.fact_sale') IS NULL")
    refused = oceanrecords(*on, "migrate", "--engine-only")
    assert refused.returncode == 2
    assert "--engine-only" in refused.stderr


def test_two_databases_of_a_server_hold_two_businesses(
    new_database: Callable[..., Database], oceanrecords: Callable[..., Finished], tmp_path: Path
) -> None:
    """They share the server and the group roles, and nothing else."""
    retailer, shop = new_database(), new_database(migrated=False)
    shop.execute(SHOP)
    on = ("--dsn", shop.dsn)
    assert oceanrecords(*on, "new", "shop", "--schema", "shop").returncode == 0
    # In the folder, no option is needed.
    folder = tmp_path / "shop"
    assert oceanrecords(*on, "migrate", cwd=folder).returncode == 0
    assert oceanrecords(*on, "run", cwd=folder).returncode == 0
    assert oceanrecords("--dsn", retailer.dsn, "run").returncode == 0
    assert shop.value("SELECT count(*) FROM dwh.fact_sale") == 20
    assert retailer.value("SELECT to_regclass('dwh.fact_sale') IS NULL")
    shop.execute("UPDATE etl.setting SET value = 'Asia/Tokyo' WHERE name = 'time_zone'")
    assert retailer.value("SELECT value FROM etl.setting WHERE name = 'time_zone'") == "UTC"
    # Away from the folder, the database says which business it holds.
    refused = oceanrecords(*on, "migrate")
    assert refused.returncode == 1
    assert "holds the business 'shop', whose folder is unknown" in refused.stderr
    assert "--project DIR" in refused.stderr
    assert oceanrecords(*on, "status").returncode == 0
    examined = oceanrecords(*on, "doctor", "--json")
    assert examined.returncode == 0, examined.stdout
    findings = {one["check"]: one["status"] for one in json.loads(examined.stdout)}
    assert findings["migrations"] == "warning"


def test_settings_of_the_folder_do_not_undo_those_of_the_database(
    empty_database: Database, oceanrecords: Callable[..., Finished], tmp_path: Path
) -> None:
    empty_database.execute(SHOP)
    on = ("--dsn", empty_database.dsn, "--project", "shop")
    oceanrecords("--dsn", empty_database.dsn, "new", "shop", "--schema", "shop")
    toml = tmp_path / "shop" / "warehouse.toml"
    text = toml.read_text(encoding="utf-8")
    zone = "SELECT value FROM etl.setting WHERE name = 'time_zone'"
    toml.write_text(text.replace('"UTC"', '"Europe/Berlin"'), encoding="utf-8")
    assert oceanrecords(*on, "migrate").returncode == 0
    assert empty_database.value(zone) == "Europe/Berlin"
    empty_database.execute("UPDATE etl.setting SET value = 'Europe/Paris' WHERE name = 'time_zone'")
    assert oceanrecords(*on, "migrate").returncode == 0
    assert empty_database.value(zone) == "Europe/Paris"
    toml.write_text(text.replace('"UTC"', '"Europe/Rome"'), encoding="utf-8")
    assert oceanrecords(*on, "migrate").returncode == 0
    assert empty_database.value(zone) == "Europe/Rome"
    toml.write_text(text.replace("time_zone", "tme_zone"), encoding="utf-8")
    refused = oceanrecords(*on, "migrate")
    assert refused.returncode == 1
    assert 'setting "tme_zone" does not exist' in refused.stderr


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name = 'engine'", "name must be a name of small letters"),
        ("name = 'shop'\ncolour = 'red'", "colour is none of calendar, name, schemas, settings"),
        (
            "name = 'shop'\ncalendar = [2030-01-01, 2020-01-01]",
            "calendar must be two dates in order",
        ),
        ("name = 'shop'\nschemas = 'shop'", "schemas must be a list of names"),
        ("name = 'shop'\n[settings]\nruns_kept = 3", "settings must be a table of texts"),
        ("name = ", "cannot be read"),
    ],
)
def test_a_faulty_warehouse_toml_is_told_by_key(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "warehouse.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        project.read(tmp_path)
    assert problem in caught.value.message


def test_a_folder_without_a_business_is_refused(
    oceanrecords: Callable[..., Finished], alone: Database
) -> None:
    finished = oceanrecords("--dsn", alone.dsn, "--project", "nowhere", "migrate")
    assert finished.returncode == 2
    assert "nowhere is not the folder of a business: it has no warehouse.toml" in finished.stderr
