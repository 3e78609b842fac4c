"""Each released version, loaded with data, becomes the present one, and that a later one: exact, and without a reload.

Released versions are the repository's tags v1.2.3. The version in hand counts as one, so that a release is upgraded before
it is tagged. The later version is made here: it has what an upgrade may bring.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.database import Database

pytestmark = [pytest.mark.server("embedded"), pytest.mark.slow]

ROOT = Path(__file__).parents[2]
PRESENT = "present"
# What no upgrade may change: the rows of dimensions, facts and aggregates.
STARS = "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname = 'dwh' AND tablename <> 'dim_date'"


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout


def releases() -> list[str]:
    listed = git("tag", "--list", "v*", "--sort=version:refname").decode().split()
    return [tag for tag in listed if re.fullmatch(r"v\d+\.\d+\.\d+", tag)] + [PRESENT]


@dataclass
class Version:
    """The files of a version, with its program."""

    folder: Path

    def call(self, database: Database, *arguments: str) -> Any:
        finished = subprocess.run(
            [sys.executable, "-m", "driver", *arguments, "--json"],
            cwd=self.folder,
            env=os.environ | {"OCEANRECORDS_DSN": database.dsn, "PYTHONPATH": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
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
    made.edit(view, "c.first_day\n", "c.first_day AS first_date\n")
    made.edit(view, "kpi.freshness.first_day IS", "kpi.freshness.first_date IS")
    made.edit("plpgsql/engine/base/settings.sql", "FUNCTION etl.get_setting(p_name text)\nRETURNS text",
              "FUNCTION etl.get_setting(p_name text)\nRETURNS varchar")  # fmt: skip
    return made


def stars(database: Database) -> dict[str, str]:
    return {
        one["name"]: database.value(
            f"SELECT md5(coalesce(string_agg((to_jsonb(t) - '{{initial,run_id}}'::text[])::text, '|' ORDER BY (to_jsonb(t) - '{{initial,run_id}}'::text[])::text), '')) FROM {one['name']} AS t"
        )
        for one in database.rows(STARS)
    }


def is_exact(version: Version, database: Database) -> bool:
    return bool(version.call(database, "reconcile")["status"] == "equal")


@pytest.mark.parametrize("origin", releases())
def test_an_upgrade_is_exact_and_loads_nothing_again(
    origin: str, empty_database: Database, tmp_path: Path
) -> None:
    database = empty_database
    old, present, new = (
        checkout(origin, tmp_path / "old"),
        checkout(PRESENT, tmp_path / "present"),
        later(tmp_path / "later"),
    )
    old.call(database, "migrate")
    old.call(database, "simulate", "seed", "--orders", "150")
    old.call(database, "run")
    database.execute("GRANT SELECT ON kpi.freshness TO pg_monitor")
    for version in (
        present,
        new,
    ):  # the later one fills the new attribute of dim_supplier, and nothing else
        before = stars(database)
        version.call(database, "migrate")
        assert stars(database) == before
        tasks = version.call(database, "run")["task_runs"]
        written = ("rows_inserted", "rows_updated", "rows_deleted")
        assert {t["object"] for t in tasks if any(t[one] for one in written)} <= {"dim_supplier"}
        assert stars(database) == before
        assert is_exact(version, database)
        assert database.value("SELECT has_table_privilege('pg_monitor', 'kpi.freshness', 'SELECT')")
        version.call(database, "simulate", "tick")
        version.call(database, "run")
        assert is_exact(version, database)
