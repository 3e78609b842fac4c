"""Versions of a member never overlap, whoever writes them: an exclusion constraint of each dimension sees to it."""

from __future__ import annotations

import psycopg
import pytest

from tests.warehouse.faults import Background, wait_until_blocked
from tests.warehouse.play import Play

# A version of the same customer that holds from one moment to another.
VERSION = (
    "INSERT INTO dwh.dim_customer SELECT 90000 + random() * 9999, customer_id, first_name, last_name, full_name,"
    " email, phone, segment, customer_since, {valid_from!r}, {valid_to!r}, {valid_to!r} = 'infinity', run_id"
    " FROM dwh.dim_customer WHERE customer_id = {customer} AND is_current"
)
CLOSE = "UPDATE dwh.dim_customer SET valid_to = {at!r}, is_current = false WHERE customer_id = {customer} AND is_current"
GUARDS = """
SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint
WHERE contype = 'x' AND connamespace = 'dwh'::regnamespace ORDER BY 1, 2
"""


@pytest.fixture
def shop(play: Play) -> Play:
    """A loaded shop."""
    play.open()
    play.run()
    return play


def version(shop: Play, valid_from: str, valid_to: str = "infinity") -> str:
    return VERSION.format(customer=shop.customer, valid_from=valid_from, valid_to=valid_to)


def close(shop: Play, at: str) -> str:
    return CLOSE.format(customer=shop.customer, at=at)


def test_an_overlapping_version_is_refused(shop: Play) -> None:
    with pytest.raises(psycopg.errors.ExclusionViolation) as refused:
        shop.loader.execute(version(shop, "2025-01-01", "2025-02-01"))
    assert refused.value.diag.constraint_name == "dim_customer_versions"
    assert shop.value("SELECT count(*) FROM dwh.dim_customer WHERE customer_key > 0") == 1


def test_a_version_that_is_lengthened_into_the_next_is_refused(shop: Play) -> None:
    shop.loader.execute(close(shop, "2025-01-01"))
    shop.loader.execute(
        "INSERT INTO dwh.dim_customer SELECT 95000, customer_id, first_name, last_name, full_name, email, phone, segment,"
        " customer_since, '2025-01-01', 'infinity', true, run_id FROM dwh.dim_customer WHERE customer_id = %s",
        [shop.customer],
    )
    lengthen = "UPDATE dwh.dim_customer SET valid_to = '2025-01-02' WHERE valid_to = '2025-01-01'"
    with pytest.raises(psycopg.errors.ExclusionViolation):
        shop.loader.execute(lengthen)
    # What changes places within one statement does not overlap when it is over.
    shop.loader.execute(
        "UPDATE dwh.dim_customer SET valid_from = CASE WHEN is_current THEN '2025-01-02' ELSE valid_from END,"
        " valid_to = CASE WHEN is_current THEN valid_to ELSE '2025-01-02' END WHERE customer_id = %s",
        [shop.customer],
    )


def test_a_version_that_is_given_to_another_member_is_looked_at(shop: Play) -> None:
    other = shop.shop.customer("Bea")
    shop.run()
    with pytest.raises(psycopg.errors.ExclusionViolation):
        shop.loader.execute(
            "UPDATE dwh.dim_customer SET customer_id = %s WHERE customer_id = %s",
            [other, shop.customer],
        )


def test_members_that_stand_for_unknown_are_no_versions(shop: Play) -> None:
    unknown = "INSERT INTO dwh.dim_status SELECT -2, order_status_id, status_code, 'None', is_lost, valid_from, valid_to, is_current, run_id FROM dwh.dim_status WHERE status_key = -1"
    shop.loader.execute(unknown)


def test_writers_wait_for_each_other_and_see_what_was_committed(shop: Play) -> None:
    """Neither sees what the other has not committed; together they would overlap."""
    shop.loader.execute(close(shop, "2025-01-01"))
    copy = (
        "INSERT INTO dwh.dim_customer SELECT {key}, customer_id, first_name, last_name, full_name, email, phone, segment,"
        " customer_since, '{valid_from}', 'infinity', true, run_id FROM dwh.dim_customer WHERE valid_to = '2025-01-01'"
    )
    one, other = shop.connect(), shop.connect()
    one.execute("BEGIN")
    one.execute(copy.format(key=95001, valid_from="2025-03-01"))
    late = Background(
        lambda: other.execute(copy.format(key=95002, valid_from="2025-02-01").encode())
    )
    wait_until_blocked(shop.loader, other)
    one.execute("COMMIT")
    assert isinstance(late.join(), psycopg.errors.ExclusionViolation)


def test_each_dimension_is_guarded_after_the_initial_load_and_once(shop: Play) -> None:
    dimensions = shop.rows(
        "SELECT dimension_table::text FROM etl.dimension WHERE transform_view IS NOT NULL ORDER BY 1"
    )
    guards = shop.rows(GUARDS)
    assert [table for table, _ in guards] == [table for (table,) in dimensions]
    assert all("DEFERRABLE" in definition for _, definition in guards)
    shop.loader.execute("CALL etl.build()")
    assert shop.rows(GUARDS) == guards


def test_a_dimension_with_an_exclusion_constraint_of_its_own_is_left_alone(shop: Play) -> None:
    shop.loader.execute(
        "ALTER TABLE dwh.dim_status DROP CONSTRAINT dim_status_versions;"
        "ALTER TABLE dwh.dim_status ADD CONSTRAINT own EXCLUDE USING gist (order_status_id WITH =, tstzrange(valid_from, valid_to) WITH &&)"
    )
    shop.loader.execute("CALL etl.build()")
    assert len(shop.rows(GUARDS)) == len(dict(shop.rows(GUARDS)))
    assert not dict(shop.rows(GUARDS))["dwh.dim_status"].endswith("DEFERRABLE")


def test_what_was_written_in_bulk_is_checked_at_its_end(shop: Play) -> None:
    shop.loader.execute("BEGIN")
    rebuild = shop.value("SELECT etl._begin_bulk('dwh.dim_customer')")
    shop.loader.execute(version(shop, "2025-01-01", "2025-02-01"))
    with pytest.raises(psycopg.errors.ExclusionViolation):
        shop.loader.execute("SELECT etl._finish_bulk('dwh.dim_customer', %s)", [rebuild])
    shop.loader.execute("ROLLBACK")
    assert "dwh.dim_customer" in dict(shop.rows(GUARDS))
