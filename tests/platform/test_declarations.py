"""`oceanrecords test` and `oceanrecords seed`: what is declared in files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator.seed import seed
from tests.conftest import Finished
from tests.support.database import Database

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

BUSINESS = Path(__file__).parent.parent / "transformations"

SUPPLIER = """
tests:
  - name: a supplier's name is trimmed
    object: dim_supplier
    given:
      suppliers:
        - {supplier_id: 1, name: "  Acme ", country_code: DE}
    expect:
      - {supplier_id: 1, supplier_name: Acme, country: Germany}
"""


@pytest.fixture
def test_file(tmp_path: Path) -> Callable[[str], None]:
    """Writes the file that `oceanrecords test` reads by default."""

    def write(text: str) -> None:
        folder = tmp_path / "warehouse-tests"
        folder.mkdir(exist_ok=True)
        (folder / "one.yaml").write_text(text)

    return write


def contents(database: Database) -> dict[str, Any]:
    """All rows of mirrors, keys that wait, and the stars."""
    tables = database.rows(
        "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables "
        "WHERE schemaname IN ('stage', 'work', 'dwh', 'delta') ORDER BY 1"
    )
    return {
        one["name"]: database.value(
            f"SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {one['name']} AS t"
        )
        for one in tables
    }


def test_the_transformations_of_the_business(
    cli: Callable[..., Finished], database: Database
) -> None:
    seed(database.connect(), orders=60, months=2, seed=1)
    database.execute("CALL etl.run()")
    before = contents(database)
    finished = cli("test", str(BUSINESS))
    assert finished.returncode == 0, finished.stdout
    assert "9 tests passed" in finished.stdout
    assert contents(database) == before


def test_a_transformation_that_changed_is_noticed(
    cli: Callable[..., Finished], database: Database, test_file: Callable[[str], None]
) -> None:
    test_file(SUPPLIER)
    assert cli("test").returncode == 0
    view = database.value("SELECT pg_get_viewdef('work.dim_supplier')")
    assert "TRIM" in view
    database.execute(
        "CREATE OR REPLACE VIEW work.dim_supplier AS "
        + view.replace("TRIM(BOTH FROM s.name)", "upper(TRIM(BOTH FROM s.name))")
    )
    finished = cli("test")
    assert finished.returncode == 1
    assert "supplier_name Acme" in finished.stdout
    assert "supplier_name ACME" in finished.stdout
    (result,) = json.loads(cli("test", "--json").stdout)
    assert result["status"] == "failed"
    assert {one["problem"] for one in result["differences"]} == {"missing", "surplus"}


@pytest.mark.parametrize(
    ("given", "expect", "words"),
    [
        ("suppliers: [{supplier_id: 1, nam: x}]", "[]", 'no column "nam"'),
        ("supplers: [{supplier_id: 1}]", "[]", 'no table "supplers"'),
        ("suppliers: [1]", "[]", "not a list of rows"),
        ("suppliers: [{supplier_id: x}]", "[]", "invalid input syntax"),
        ("suppliers: [{supplier_id: 1}, {supplier_id: 1}]", "[]", "duplicate key"),
        ("suppliers: []", "[{supplier_nam: x}]", 'no column "supplier_nam"'),
    ],
)
def test_a_wrong_test_is_an_error_and_not_a_failure(
    cli: Callable[..., Finished],
    database: Database,
    test_file: Callable[[str], None],
    given: str,
    expect: str,
    words: str,
) -> None:
    test_file(
        f"tests:\n  - object: dim_supplier\n    given: {{{given}}}\n    expect: {expect}\n"
        "  - {object: dim_supplier, expect: []}\n"
    )
    before = contents(database)
    (result, other) = json.loads(cli("test", "--json").stdout)
    assert result["status"] == "error"
    assert words in result["message"]
    assert other["status"] == "passed"
    assert contents(database) == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tests: [{expect: []}]", "no object"),
        ("tests: [{object: dim_supplier}]", "expects nothing"),
        ("tests: [{object: dim_supplier, expects: []}]", "Did you mean expect"),
        ("test: []", "Did you mean tests"),
        ("checks: [{uniq: x}]", "no single rule"),
        ("checks: [{unique: x}]", "cannot be read"),
        ("- 1", "not a table"),
        ("{", "cannot be read"),
        ("", "no tests"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    cli: Callable[..., Finished], test_file: Callable[[str], None], text: str, words: str
) -> None:
    test_file(text)
    finished = cli("test")
    assert finished.returncode in (1, 2)
    assert words in finished.stderr
    assert "warehouse-tests" in finished.stderr or "key" in finished.stderr
    assert cli("test", "nowhere").returncode == 2


GOOD = [
    "unique: public.one (a)",
    "unique: public.one (a, b)",
    "not_null: public.one (a)",
    "accepted_values: public.one (b) in x, 'y'",
    "relationships: public.one (c) -> public.two (c)",
]
BAD = [
    ("unique: public.one (d)", 1),
    ("not_null: public.one (b)", 1),
    ("not_null: public.one (a, b)", 1),
    ("accepted_values: public.one (b) in x", 1),
    ("relationships: public.one (d) -> public.two (c)", 1),
]


def test_generic_checks_find_what_violates_them(
    cli: Callable[..., Finished], database: Database, test_file: Callable[[str], None]
) -> None:
    database.execute(
        "CREATE TABLE public.two AS SELECT 1 AS c; "
        "CREATE TABLE public.one AS SELECT * FROM (VALUES (1, 'x', 1, 5), (2, 'y', NULL, 5), "
        "(3, NULL, 1, NULL)) AS v (a, b, c, d)"
    )
    test_file("checks:\n" + "".join(f"  - {one}\n" for one in [*GOOD, *(bad for bad, _ in BAD)]))
    results = json.loads(cli("test", "--json").stdout)
    assert [one["status"] for one in results] == ["passed"] * len(GOOD) + ["failed"] * len(BAD)
    assert [len(one["differences"]) for one in results[len(GOOD) :]] == [count for _, count in BAD]
    test_file("checks:\n  - unique: public.three (a)\n  - unique: public.one (z)\n")
    assert {one["status"] for one in json.loads(cli("test", "--json").stdout)} == {"error"}


def test_a_locked_mirror_is_waited_for_a_while_only(
    cli: Callable[..., Finished], database: Database, test_file: Callable[[str], None]
) -> None:
    test_file(SUPPLIER)
    holder = database.connect(autocommit=False)
    holder.execute("SELECT FROM stage.suppliers")
    (result,) = json.loads(cli("test", "--json").stdout)
    assert result["status"] == "error"
    assert "lock timeout" in result["message"]


# -- seeds ----------------------------------------------------------------------------------------


def test_a_seed_makes_its_table_and_then_keeps_it(
    cli: Callable[..., Finished], database: Database, tmp_path: Path
) -> None:
    (tmp_path / "seeds").mkdir()
    file = tmp_path / "seeds" / "public.region.csv"
    file.write_text(
        "code,name,share,is_eu,since,seen_at,zip\n"
        "DE,Europe,83.2,true,1990-10-03,2026-01-01T00:00:00Z,01067\n"
        'US,"North\nAmerica",331,FALSE,1776-07-04,2026-01-01 00:00+01,\n'
    )
    assert "created, 2 rows" in cli("seed").stdout
    types = database.rows(
        "SELECT column_name, data_type FROM information_schema.columns "
        "WHERE table_name = 'region' ORDER BY ordinal_position"
    )
    assert [one["data_type"] for one in types] == [
        "text", "text", "numeric", "boolean", "date", "timestamp with time zone", "text",
    ]  # fmt: skip
    assert database.value("SELECT zip FROM public.region WHERE code = 'DE'") == "01067"
    assert database.value("SELECT zip IS NULL FROM public.region WHERE code = 'US'")
    (again,) = json.loads(cli("seed", "--json").stdout)
    assert (again["inserted"], again["deleted"], again["rows"]) == (0, 0, 2)
    file.write_text(file.read_text().replace("83.2", "84").replace("DE", "DE"))
    (changed,) = json.loads(cli("seed", "--json").stdout)
    assert (changed["inserted"], changed["deleted"], changed["rows"]) == (1, 1, 2)


def test_all_seeds_are_one_transaction(
    cli: Callable[..., Finished], database: Database, tmp_path: Path
) -> None:
    (tmp_path / "public.a.csv").write_text("x\n1\n")
    (tmp_path / "public.b.csv").write_text("x\n1\n")
    assert cli("seed", str(tmp_path)).returncode == 0
    (tmp_path / "public.a.csv").write_text("x\n1\n2\n")
    (tmp_path / "public.b.csv").write_text("x\nnonsense\n")
    finished = cli("seed", str(tmp_path))
    assert finished.returncode == 1
    assert "public.b.csv" in finished.stderr
    assert database.value("SELECT count(*) FROM public.a") == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1\n", "line 2"),
        ("a,a\n1,2\n", "does not name its columns"),
        ("", "does not name its columns"),
        ('a\n"x\n', "cannot be read"),
    ],
)
def test_a_seed_that_cannot_be_read_is_named(
    cli: Callable[..., Finished], database: Database, tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "public.a.csv").write_text(text)
    finished = cli("seed", str(tmp_path / "public.a.csv"))
    assert finished.returncode == 1
    assert words in finished.stderr
    assert not database.rows("SELECT FROM pg_tables WHERE schemaname = 'public'")


def test_a_seed_needs_a_table(cli: Callable[..., Finished], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    assert cli("seed", str(tmp_path / "a.csv")).returncode == 2
    assert cli("seed", str(tmp_path / "a.csv"), "--table", "public.a").returncode == 0
    assert cli("seed", "nowhere").returncode == 2
