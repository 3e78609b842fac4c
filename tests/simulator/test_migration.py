"""The operational system comes with its migration, and goes only when nothing is lost with it."""

from __future__ import annotations

import pytest

from base.connection import Target
from base.errors import UserError
from driver.migrate import Migrator
from tests.simulator.conftest import SHOP
from tests.support.database import Database

FIRST = "oceanrecords/0001.operational-system"


def is_there(database: Database) -> bool:
    return bool(database.value("SELECT to_regnamespace('oceanrecords') IS NOT NULL"))


def test_it_goes_as_it_came(empty_database: Database) -> None:
    migrator = Migrator(Target(empty_database.dsn, "tests"))
    for _ in range(2):
        assert migrator.apply(until=FIRST)[-1] == FIRST
        assert is_there(empty_database)
        assert migrator.roll_back() == [FIRST]
        assert not is_there(empty_database)


def test_business_is_not_rolled_back(empty_database: Database) -> None:
    migrator = Migrator(Target(empty_database.dsn, "tests"))
    migrator.apply(until=FIRST)
    empty_database.execute(SHOP)
    with pytest.raises(UserError, match="holds customers or products") as refused:
        migrator.roll_back()
    assert "DROP SCHEMA oceanrecords CASCADE" in (refused.value.hint or "")
    assert empty_database.value("SELECT count(*) FROM oceanrecords.orders") == 1


def test_what_others_built_on_it_is_not_rolled_back(empty_database: Database) -> None:
    migrator = Migrator(Target(empty_database.dsn, "tests"))
    migrator.apply(until=FIRST)
    empty_database.execute(
        "CREATE VIEW customer_names AS SELECT last_name FROM oceanrecords.customers"
    )
    with pytest.raises(UserError, match="depend"):
        migrator.roll_back()
    assert is_there(empty_database)
