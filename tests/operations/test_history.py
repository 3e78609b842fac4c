"""The history of dimensions, which the source no longer has, moves to a new warehouse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Finished
from tests.operations.test_backup import Answer, load
from tests.support.database import Database

pytestmark = pytest.mark.server("embedded")

SHOP = """
CREATE SCHEMA shop;
CREATE TABLE shop.items (item_id bigint PRIMARY KEY, colour text NOT NULL, born date);
CREATE TABLE shop.sales (sale_id bigint PRIMARY KEY, item_id bigint REFERENCES shop.items, sold_at timestamptz NOT NULL, amount numeric NOT NULL);
INSERT INTO shop.items SELECT g, 'red, "bright"', '2024-01-01' FROM generate_series(1, 5) AS g;
INSERT INTO shop.sales SELECT g, 1 + g % 5, now(), g FROM generate_series(1, 20) AS g;
"""
VERSIONS = (
    "SELECT item_key, item_id, colour, born, valid_from::text, valid_to::text, is_current FROM dwh.dim_item "
    "WHERE item_key > 0 ORDER BY 1"
)


@pytest.fixture
def shop(
    new_database: Callable[..., Database], oceanrecords: Callable[..., Finished]
) -> Callable[[], Database]:
    """Makes the shop's source with an empty warehouse."""

    def make() -> Database:
        made = new_database(migrated=False)
        made.execute(SHOP)
        oceanrecords("--dsn", made.dsn, "new", "shop", "--schema", "shop")
        done = oceanrecords("--dsn", made.dsn, "--project", "shop", "migrate")
        assert done.returncode == 0, done.stderr
        return made

    return make


def test_history_moves_to_a_new_warehouse(
    shop: Callable[[], Database], json_of: Answer, tmp_path: Path
) -> None:
    old, new = shop(), shop()
    load(old)
    old.execute("UPDATE shop.items SET colour = 'blue' WHERE item_id < 3")
    load(old)
    status, answer = json_of(old, "export-history", "history")
    assert (status, answer) == (0, [{"dimension": "dim_item", "versions": 8}])
    # What has happened meanwhile: a member was deleted, one has changed, one is new.
    for change in (
        "UPDATE shop.items SET colour = 'blue' WHERE item_id = 1",
        "UPDATE shop.items SET colour = 'green' WHERE item_id = 2",
        "DELETE FROM shop.sales WHERE item_id = 3; DELETE FROM shop.items WHERE item_id = 3",
        "INSERT INTO shop.items VALUES (6, 'new', NULL)",
    ):
        new.execute(change)
    status, answer = json_of(new, "import-history", "history")
    assert (status, answer) == (0, [{"dimension": "dim_item", "versions": 7, "left_out": []}])
    assert new.rows(VERSIONS) == old.rows(VERSIONS)
    load(new)
    assert json_of(new, "reconcile")[1]["status"] == "equal"
    colours: dict[int, list[Any]] = {}
    for row in new.rows(VERSIONS):
        colours.setdefault(row["item_id"], []).append((row["colour"], row["is_current"]))
    red = 'red, "bright"'
    assert colours == {
        1: [(red, False), ("blue", True)],
        2: [(red, False), ("blue", False), ("green", True)],
        3: [(red, False)],
        4: [(red, True)],
        5: [(red, True)],
        6: [("new", True)],
    }
    status, answer = json_of(new, "import-history", "history")
    assert status == 1
    assert "has versions already" in answer["error"]["message"]


def test_what_cannot_be_imported_is_named(
    shop: Callable[[], Database], oceanrecords: Callable[..., Finished], tmp_path: Path
) -> None:
    new = shop()
    for name, text, message in (
        ("dim_other", "a\n1\n", "has no dimension dim_other"),
        ("dim_item", "item_key,item_id\n1,1\n", "does not name is_current, valid_from, valid_to"),
        (
            "dim_item",
            "item_key,item_id,valid_from,valid_to,is_current\nx,1,now,infinity,t\n",
            "dim_item.csv: invalid input syntax",
        ),
    ):
        folder = tmp_path / "history"
        folder.mkdir(exist_ok=True)
        for file in folder.iterdir():
            file.unlink()
        (folder / f"{name}.csv").write_text(text)
        refused = oceanrecords("--dsn", new.dsn, "import-history", "history")
        assert refused.returncode == 1
        assert message in refused.stderr
        assert new.value("SELECT count(*) FROM dwh.dim_item WHERE item_key > 0") == 0
