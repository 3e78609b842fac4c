"""Each released version, loaded with data, becomes the present one, and that a later one: exact, and without a reload.

Released versions are the repository's tags v1.2.3, and in a clone without tags the commits of RELEASED. If it has none of them, the
version in hand counts as one. The later version is made here: it has what an upgrade may bring.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.support.database import Database

pytestmark = [pytest.mark.server("embedded"), pytest.mark.slow]

ROOT = Path(__file__).parents[2]
PRESENT = "present"
RELEASED = {"v1.0.0": "a8cd796e85bee21b83a07f6ee2ea851f12b2914b"}
# What a dimension that fails keeps from being loaded, and the aggregate that has got the columns below.
DEPENDENT = r"dim_product|fact_order_line|agg_(sub|product)\w+|agg_customer_quarterly"
ADDED = "{initial,run_id,first_month_orders,second_month_orders,third_month_orders}"
# What no upgrade may change: the rows of dimensions, facts and aggregates.
STARS = "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname = 'dwh' AND tablename <> 'dim_date'"


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout


def releases() -> dict[str, str]:
    """The commits of the released versions that this clone has."""
    listed = git("tag", "--list", "v*", "--sort=version:refname").decode().split()
    found = RELEASED | {tag: tag for tag in listed if re.fullmatch(r"v\d+\.\d+\.\d+", tag)}
    has = {
        name: subprocess.run(["git", "cat-file", "-e", commit], cwd=ROOT, stderr=subprocess.DEVNULL)
        for name, commit in found.items()
    }
    return {name: found[name] for name in has if has[name].returncode == 0} or {PRESENT: PRESENT}


@dataclass
class Version:
    """The files of a version, with its program."""

    folder: Path

    def call(self, database: Database, *arguments: str, expect: int = 0) -> Any:
        finished = subprocess.run(
            [sys.executable, "-m", "driver", *arguments, "--json"],
            cwd=self.folder,
            env=os.environ | {"OCEANRECORDS_DSN": database.dsn, "PYTHONPATH": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == expect, finished.stdout + finished.stderr
        return json.loads(
            finished.stdout.splitlines()[-1] if arguments[0] == "run" else finished.stdout
        )

    def add(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.folder / name).read_text(encoding="utf-8")
        assert old in text, name
        self.add(name, text.replace(old, new))


def checkout(version: str, folder: Path) -> Version:
    """Write a version's files to a folder."""
    folder.mkdir()
    if version == PRESENT:
        names = git("ls-files", "--cached", "--others", "--exclude-standard", "-z").decode()
        for name in filter(None, names.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes((ROOT / name).read_bytes())
    else:
        with tarfile.open(fileobj=io.BytesIO(git("archive", version))) as archive:
            archive.extractall(folder, filter="data")
    return Version(folder)


def later(folder: Path) -> Version:
    """Make a version that comes after the present one."""
    made = checkout(PRESENT, folder)
    made.add(
        "migrations/engine/0900.later.sql",
        "-- A table and a column more.\nCREATE TABLE etl.later (name text PRIMARY KEY);\n"
        "COMMENT ON TABLE etl.later IS 'Later.';\nALTER TABLE etl.run ADD COLUMN note text;\n",
    )
    made.add(
        "migrations/oceanrecords/0900.later.sql",
        "-- A new attribute.\nALTER TABLE dwh.dim_supplier ADD COLUMN initial text;\n",
    )
    # A view with a column more, in the middle; one with a renamed column; a routine of another result type, and one that is gone.
    view = "plpgsql/oceanrecords/dim_supplier.sql"
    made.edit(
        view,
        "    s.country_code,\n",
        "    left(trim(s.name), 1) AS initial,\n    s.country_code,\n",
    )
    view = "plpgsql/oceanrecords/kpi_freshness.sql"
    made.edit(view, "c.first_day,\n", "c.first_day AS first_date,\n")
    made.edit(view, "kpi.freshness.first_day IS", "kpi.freshness.first_date IS")
    made.edit("plpgsql/engine/base/settings.sql", "FUNCTION etl.get_setting(p_name text)\nRETURNS text",
              "FUNCTION etl.get_setting(p_name text)\nRETURNS varchar")  # fmt: skip
    return made


def stars(database: Database) -> dict[str, str]:
    return {
        one["name"]: database.value(
            f"SELECT md5(coalesce(string_agg((to_jsonb(t) - '{ADDED}'::text[])::text, '|' ORDER BY (to_jsonb(t) - '{ADDED}'::text[])::text), '')) FROM {one['name']} AS t"
        )
        for one in database.rows(STARS)
    }


def is_exact(version: Version, database: Database) -> bool:
    return bool(version.call(database, "reconcile")["status"] == "equal")


@pytest.fixture
def login(empty_database: Database) -> Iterator[str]:
    """A name for a user, which is gone afterwards."""
    name = f"ana_{uuid4().hex[:8]}"
    yield name
    if empty_database.value("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s)", name):
        empty_database.execute("CALL etl.remove_user(%s, true)", name)


@pytest.mark.parametrize("origin", releases().values(), ids=releases())
def test_an_upgrade_is_exact_and_loads_nothing_again(
    origin: str, empty_database: Database, login: str, tmp_path: Path
) -> None:
    """With users and grants, and with a dimension that has failed and facts that wait for it."""
    database = empty_database
    old, present, new = (
        checkout(origin, tmp_path / "old"),
        checkout(PRESENT, tmp_path / "present"),
        later(tmp_path / "later"),
    )
    old.call(database, "migrate")
    old.call(database, "simulate", "seed", "--orders", "150")
    old.call(database, "run")
    old.call(database, "users", "add", login, "--level", "business", "--no-password")
    database.execute("GRANT SELECT ON kpi.freshness TO pg_monitor")
    database.execute(
        "ALTER TABLE dwh.dim_product ADD CONSTRAINT refuse CHECK (product_key < 0) NOT VALID;"
        "UPDATE etl.setting SET value = '0' WHERE name = 'quarantine_limit';"
        "UPDATE oceanrecords.products SET price = price + 1;"
        "UPDATE oceanrecords.order_lines SET quantity = quantity + 1 WHERE order_id = (SELECT max(order_id) FROM oceanrecords.orders)"
    )
    old.call(database, "run", expect=3)
    assert database.value("SELECT count(*) FROM etl.reprocessing_queue") > 0
    for version, loaded in ((present, DEPENDENT), (new, "dim_supplier")):
        before = stars(database)
        version.call(database, "migrate")
        assert stars(database) == before
        database.execute("ALTER TABLE dwh.dim_product DROP CONSTRAINT IF EXISTS refuse")
        tasks = version.call(database, "run")["task_runs"]
        written = ("rows_inserted", "rows_updated", "rows_deleted")
        others = {t["object"] for t in tasks if any(t[one] for one in written)}
        assert [one for one in others if not re.fullmatch(loaded, one)] == []
        assert is_exact(version, database)
        assert database.value("SELECT count(*) FROM etl.reprocessing_queue") == 0
        assert database.value("SELECT has_table_privilege('pg_monitor', 'kpi.freshness', 'SELECT')")
        with database.connect(user=login) as connection:
            assert connection.execute("SELECT count(*) FROM kpi.freshness").fetchone() == (1,)
        version.call(database, "simulate", "tick")
        version.call(database, "run")
        assert is_exact(version, database)
    # The later version fills the new attribute, and changes nothing else.
    assert database.value("SELECT count(*) FROM etl.batch WHERE compared_because IS NOT NULL") == 0


@pytest.mark.parametrize("origin", releases().values(), ids=releases())
def test_a_draft_goes_on_after_the_step_that_the_changelog_describes(
    origin: str, empty_database: Database, tmp_path: Path
) -> None:
    database, folder = empty_database, tmp_path / "trade"
    old, present = checkout(origin, tmp_path / "old"), checkout(PRESENT, tmp_path / "present")
    database.execute(
        "CREATE SCHEMA trade;"
        "CREATE TABLE trade.customers (customer_id integer PRIMARY KEY, city text);"
        "CREATE TABLE trade.orders (order_id integer PRIMARY KEY, customer_id integer REFERENCES trade.customers, order_date date NOT NULL);"
        "CREATE TABLE trade.lines (order_id integer REFERENCES trade.orders, line integer, amount numeric(9, 2) NOT NULL, PRIMARY KEY (order_id, line));"
        "INSERT INTO trade.customers VALUES (1, 'Bonn');"
        "INSERT INTO trade.orders SELECT g, 1, date '2025-01-01' + g FROM generate_series(1, 9) AS g;"
        "INSERT INTO trade.lines SELECT g, 1, g FROM generate_series(1, 9) AS g"
    )
    old.call(database, "new", str(folder), "--schema", "trade")
    old.call(database, "--project", str(folder), "migrate")
    old.call(database, "run")
    view = folder / "plpgsql" / "fact_line.sql"
    text = view.read_text(encoding="utf-8")
    if "    t.deleted_at\n" in text:
        told = present.call(database, "--project", str(folder), "migrate", expect=1)
        assert "without its column deleted_at" in told["error"]["message"]
        # Until it is mended, the program refuses and the schedule goes on.
        assert "oceanrecords migrate" in present.call(database, "run", expect=1)["error"]["hint"]
        database.execute("CALL etl.run()")
        text = text.replace("    t.deleted_at\n", "    coalesce(t.deleted_at, p.deleted_at) AS deleted_at\n")  # fmt: skip
        view.write_text(text, encoding="utf-8")
    present.call(database, "--project", str(folder), "migrate")
    database.execute("DELETE FROM trade.lines WHERE order_id = 1")
    present.call(database, "run")
    assert is_exact(present, database)
    assert database.value("SELECT sum(amount) FROM dwh.fact_line WHERE NOT is_deleted") == 44
