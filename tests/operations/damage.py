"""Kinds of damage that tests inject into a loaded warehouse, and the result of reconciliation and repair for each.

`python -m tests.operations.damage` writes them as a table into docs/reliability.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN = "<!-- damage: written by python -m tests.operations.damage -->"
END = "<!-- end of damage -->"

# Customers of the prepared warehouse, beyond those of the simulator.
TWO_VERSIONS, GONE, GONE_WITH_TWO_VERSIONS, CAME_BACK = 6, 900001, 900002, 900003
# Orders: one whose line 1 was deleted, one whose customer is missing, one outside the calendar.
WITH_DELETED_LINE, WITHOUT_CUSTOMER, OUTSIDE_CALENDAR = 20, 15, 16


@dataclass(frozen=True)
class Damage:
    """One kind of damage.

    Attributes:
        layer: the layer that is damaged.
        what: the damage, for the table.
        sql: the statements.
        found: whether a reconciliation reports a difference, or is incomplete.
        repaired: whether `--repair` restores all rows.
        note: why not, or a remark.
        moved: table and start of the key of rows that cannot stay as they were.
    """

    layer: str
    what: str
    sql: str
    found: bool = True
    repaired: bool = True
    note: str = ""
    moved: tuple[str, str] = ("", "")


def _mirror(what: str, sql: str, **rest: object) -> Damage:
    return Damage("mirror (`stage`)", what, sql, **rest)  # type: ignore[arg-type]


def _dimension(what: str, sql: str, **rest: object) -> Damage:
    return Damage("dimension (`dwh`)", what, sql, **rest)  # type: ignore[arg-type]


def _fact(what: str, sql: str, **rest: object) -> Damage:
    return Damage("fact (`dwh`)", what, sql, **rest)  # type: ignore[arg-type]


def _aggregate(what: str, sql: str, **rest: object) -> Damage:
    return Damage("aggregate (`dwh`)", what, sql, **rest)  # type: ignore[arg-type]


def _control(what: str, sql: str, **rest: object) -> Damage:
    return Damage("queue, quarantine, watermark (`etl`, `work`)", what, sql, **rest)  # type: ignore[arg-type]


_VERSION = f"customer_id = {TWO_VERSIONS}"
_LINE = "order_id = 21 AND line_number = 1"
_QUEUE = "INSERT INTO etl.reprocessing_queue (fact, fact_key, key_column, dimension, dimension_key, run_id) VALUES"
_QUARANTINE = "INSERT INTO etl.quarantine (object, row_key, sqlstate, reason, run_id) VALUES"
_OTHER_CUSTOMER = "(SELECT max(d.customer_key) FROM dwh.dim_customer AS d WHERE d.customer_id = 9)"
# Members of the row in quarantine are not damaged: the warehouse cannot load that row again.
_OUTSIDE = f"FROM stage.orders AS q WHERE q.order_id = {OUTSIDE_CALENDAR}"
_CUSTOMERS_OUTSIDE = f"(SELECT q.customer_id {_OUTSIDE})"
_PAYMENTS_OUTSIDE = f"(SELECT q.payment_method_id {_OUTSIDE})"
_NO_SOURCE = "the source keeps no log of it"
_NO_PRIMARY_KEY = "the second row is deleted; the load fails until the primary key is back"
_FREE_CUSTOMERS = f"FROM stage.orders AS o WHERE o.customer_id NOT IN {_CUSTOMERS_OUTSIDE}"
_NO_CHECKS = (
    "ALTER TABLE dwh.dim_customer DROP CONSTRAINT dim_customer_check,"
    " DROP CONSTRAINT dim_customer_check1, DROP CONSTRAINT dim_customer_check2"
)
_FIRST_DAY = "day = (SELECT min(day) FROM dwh.agg_order_daily)"

DAMAGES = [
    _mirror(
        "text changed", "UPDATE stage.customers SET first_name = 'Nobody' WHERE customer_id = 5"
    ),
    _mirror("text emptied", "UPDATE stage.suppliers SET name = '' WHERE supplier_id = 1"),
    _mirror(
        "number changed", f"UPDATE stage.order_lines SET quantity = quantity + 1 WHERE {_LINE}"
    ),
    _mirror(
        "amount changed by a cent",
        f"UPDATE stage.order_lines SET unit_price = unit_price + 0.01 WHERE {_LINE}",
    ),
    _mirror(
        "time changed",
        "UPDATE stage.orders SET ordered_at = ordered_at - interval '1 minute' WHERE order_id = 22",
    ),
    _mirror(
        "value replaced by NULL",
        "UPDATE stage.orders SET paid_at = NULL WHERE paid_at > '-infinity'",
    ),
    _mirror(
        "NULL replaced by a value",
        "UPDATE stage.orders SET refunded_at = now() WHERE order_id = 23",
    ),
    _mirror(
        "flag inverted", "UPDATE stage.products SET is_active = NOT is_active WHERE product_id = 4"
    ),
    _mirror(
        "flag of a small table inverted",
        "UPDATE stage.order_statuses SET is_lost = NOT is_lost WHERE order_status_id = 4",
    ),
    _mirror("reference changed", "UPDATE stage.orders SET customer_id = 9 WHERE order_id = 24"),
    _mirror(
        "log of prices changed",
        "UPDATE stage.product_prices SET price = price + 1 WHERE product_id = 3",
    ),
    _mirror("row missing", f"DELETE FROM stage.order_lines WHERE {_LINE}"),
    _mirror(
        "row of a link table missing", "DELETE FROM stage.customers_addresses WHERE customer_id = 5"
    ),
    _mirror(
        "row that the source does not have",
        "INSERT INTO stage.suppliers SELECT 9999, 'Ghost', country_code, created_at, updated_at,"
        " batch_id, NULL FROM stage.suppliers WHERE supplier_id = 1",
    ),
    _mirror(
        "row marked as deleted",
        "UPDATE stage.addresses SET deleted_at = now() WHERE address_id = 4",
    ),
    _mirror(
        "deleted row unmarked",
        f"UPDATE stage.order_lines SET deleted_at = NULL WHERE order_id = {WITH_DELETED_LINE}",
    ),
    _mirror("key changed", "UPDATE stage.products SET product_id = 88888 WHERE product_id = 7"),
    _mirror("table emptied", "DELETE FROM stage.payment_methods"),
    _mirror(
        "values of two rows swapped",
        "UPDATE stage.customers AS c SET first_name = o.first_name, email = o.email FROM stage.customers AS o"
        " WHERE (c.customer_id, o.customer_id) IN ((5, 9), (9, 5))",
    ),
    _mirror(
        "mirror and star wrong in the same way",
        f"UPDATE stage.order_lines SET quantity = quantity + 1 WHERE {_LINE};"
        f" UPDATE dwh.fact_order_line SET quantity = quantity + 1, amount = amount + unit_price WHERE {_LINE}",
    ),
    _mirror(
        "row doubled, its primary key dropped",
        "ALTER TABLE stage.payment_methods DROP CONSTRAINT payment_methods_pkey;"
        " INSERT INTO stage.payment_methods SELECT * FROM stage.payment_methods WHERE payment_method_id = 2",
    ),
    _mirror(
        "deleted row missing",
        f"DELETE FROM stage.customers WHERE customer_id = {GONE}",
        found=False,
        repaired=False,
        note="the source does not have it any more",
    ),
    _mirror(
        "time of a deletion changed",
        f"UPDATE stage.customers SET deleted_at = deleted_at - interval '1 day' WHERE customer_id = {GONE}",
        found=False,
        note="the version that it closed is compared with the tombstone",
    ),
    _mirror(
        "batch of a row changed",
        "UPDATE stage.customers SET batch_id = 1 WHERE customer_id = 6",
        found=False,
        note="batches and runs of rows are not compared",
    ),
    # Dimensions -------------------------------------------------------------------------------------------
    _dimension(
        "overwritten attribute (type 1) of the current version",
        "UPDATE dwh.dim_customer SET phone = '000' WHERE customer_id = 5",
    ),
    _dimension(
        "the same replaced by NULL",
        "UPDATE dwh.dim_customer SET phone = NULL WHERE phone IS NOT NULL AND is_current",
    ),
    _dimension(
        "overwritten attribute of an earlier version",
        f"UPDATE dwh.dim_customer SET email = 'x@example.org' WHERE {_VERSION} AND NOT is_current",
    ),
    _dimension(
        "tracked attribute (type 2) of the current version",
        "UPDATE dwh.dim_customer SET segment = 'other' WHERE customer_id = 5",
    ),
    _dimension(
        "several attributes at once",
        "UPDATE dwh.dim_address SET street = 'X', city = 'Y', country = 'Z' WHERE address_id = 4",
    ),
    _dimension(
        "tracked attribute of an earlier version, with a log in the source",
        "UPDATE dwh.dim_product SET price = price + 1 WHERE product_id = 3 AND NOT is_current",
    ),
    _dimension(
        "tracked attribute of an earlier version, without a log",
        f"UPDATE dwh.dim_customer SET segment = 'other' WHERE {_VERSION} AND NOT is_current",
        found=False,
        repaired=False,
        note=_NO_SOURCE,
    ),
    _dimension(
        "first value (type 0)",
        "UPDATE dwh.dim_customer SET customer_since = customer_since - 9 WHERE customer_id = 5",
    ),
    _dimension(
        "first value of one version among several",
        f"UPDATE dwh.dim_customer SET customer_since = customer_since - 9 WHERE {_VERSION} AND is_current",
    ),
    _dimension(
        "first version begins late",
        "UPDATE dwh.dim_customer SET valid_from = '2020-01-01' WHERE customer_id = 5",
    ),
    _dimension(
        "first of several versions begins late",
        f"UPDATE dwh.dim_customer SET valid_from = '2020-01-01' WHERE {_VERSION} AND NOT is_current",
    ),
    _dimension(
        "gap between versions",
        f"UPDATE dwh.dim_customer SET valid_to = valid_to - interval '1 day' WHERE {_VERSION} AND NOT is_current",
    ),
    _dimension(
        "gap of a member that was deleted and came back begins early",
        "UPDATE dwh.dim_customer SET valid_to = valid_to - interval '1 microsecond' "
        f"WHERE customer_id = {CAME_BACK} AND NOT is_current",
    ),
    _dimension(
        "gap between versions of a dimension with a log",
        "UPDATE dwh.dim_product SET valid_to = valid_to - interval '1 microsecond' WHERE product_id = 3 AND NOT is_current",
    ),
    _dimension(
        "current version closed",
        "UPDATE dwh.dim_customer SET valid_to = now(), is_current = false WHERE customer_id = 5",
    ),
    _dimension(
        "version of a deleted member reopened",
        f"UPDATE dwh.dim_customer SET valid_to = 'infinity', is_current = true WHERE customer_id = {GONE}",
    ),
    _dimension(
        "version of a deleted member ends early",
        f"UPDATE dwh.dim_customer SET valid_to = valid_to - interval '1 microsecond' WHERE customer_id = {GONE}",
    ),
    _dimension(
        "overwritten attribute of one version of a deleted member",
        "UPDATE dwh.dim_customer SET phone = '000' WHERE valid_to < 'infinity' AND valid_from > '-infinity' "
        f"AND customer_id = {GONE_WITH_TWO_VERSIONS}",
    ),
    _dimension(
        "attribute of the only version of a deleted member",
        f"UPDATE dwh.dim_customer SET phone = '000' WHERE customer_id = {GONE}",
        found=False,
        repaired=False,
        note="the source does not have it any more",
    ),
    _dimension(
        "current version missing", f"DELETE FROM dwh.dim_customer WHERE {_VERSION} AND is_current"
    ),
    _dimension(
        "first of several versions missing, without a log",
        f"DELETE FROM dwh.dim_customer WHERE {_VERSION} AND NOT is_current",
        repaired=False,
        note="the next version is extended to the beginning; " + _NO_SOURCE,
        moved=("dwh.dim_customer", f"[{TWO_VERSIONS},"),
    ),
    _dimension("member missing", "DELETE FROM dwh.dim_address WHERE address_id = 4"),
    _dimension(
        "member that the source does not have",
        "INSERT INTO dwh.dim_supplier (supplier_id, supplier_name, country_code, country, valid_from, valid_to, is_current, run_id) "
        "VALUES (4711, 'Ghost', 'DE', 'Germany', '-infinity', 'infinity', true, 0)",
    ),
    _dimension(
        "business key changed",
        "UPDATE dwh.dim_customer SET customer_id = 888888 WHERE customer_id = "
        f"(SELECT min(o.customer_id) FROM stage.orders AS o WHERE o.customer_id NOT IN {_CUSTOMERS_OUTSIDE})",
    ),
    _dimension(
        "nearly all members missing",
        f"DELETE FROM dwh.dim_payment WHERE payment_key > 0 AND payment_method_id NOT IN {_PAYMENTS_OUTSIDE}",
    ),
    _dimension(
        "business keys of two members swapped",
        f"UPDATE dwh.dim_customer SET customer_id = -5 WHERE customer_id = (SELECT min(o.customer_id) {_FREE_CUSTOMERS});"
        f" UPDATE dwh.dim_customer SET customer_id = (SELECT min(o.customer_id) {_FREE_CUSTOMERS}) WHERE customer_id = 9;"
        " UPDATE dwh.dim_customer SET customer_id = 9 WHERE customer_id = -5",
    ),
    _dimension(
        "surrogate key changed",
        "UPDATE dwh.dim_customer SET customer_key = customer_key + 100000 WHERE customer_id = "
        f"(SELECT min(o.customer_id) {_FREE_CUSTOMERS})",
    ),
    _dimension(
        "sequence behind the largest key",
        "SELECT setval(pg_get_serial_sequence('dwh.dim_customer', 'customer_key'), 1)",
    ),
    _dimension(
        "first value and tracked attribute of one version",
        f"UPDATE dwh.dim_customer SET segment = 'other', customer_since = customer_since - 9 WHERE {_VERSION} AND is_current",
    ),
    _dimension(
        "overlapping versions, their constraint dropped",
        "ALTER TABLE dwh.dim_customer DROP CONSTRAINT dim_customer_versions;"
        f" UPDATE dwh.dim_customer SET valid_to = valid_to + interval '2 days' WHERE {_VERSION} AND NOT is_current",
    ),
    _dimension(
        "boundary between two versions moved, without a log",
        f"UPDATE dwh.dim_customer SET valid_to = valid_to - interval '9 days' WHERE {_VERSION} AND NOT is_current;"
        f" UPDATE dwh.dim_customer SET valid_from = valid_from - interval '9 days' WHERE {_VERSION} AND is_current",
        found=False,
        repaired=False,
        note=_NO_SOURCE,
    ),
    _dimension(
        "boundary between two versions moved, with a log",
        "UPDATE dwh.dim_product SET valid_to = valid_to - interval '9 days' WHERE product_id = 3 AND NOT is_current;"
        " UPDATE dwh.dim_product SET valid_from = valid_from - interval '9 days' WHERE product_id = 3 AND is_current",
        repaired=False,
        note="the same history in one version more: a version that facts may refer to stays",
    ),
    _dimension(
        "version split in two equal ones",
        "UPDATE dwh.dim_customer SET valid_to = '2025-12-01', is_current = false WHERE customer_id = 5;"
        " INSERT INTO dwh.dim_customer (customer_id, first_name, last_name, full_name, email, phone, segment, customer_since,"
        " valid_from, valid_to, is_current, run_id) SELECT customer_id, first_name, last_name, full_name, email, phone, segment,"
        " customer_since, valid_to, 'infinity', true, run_id FROM dwh.dim_customer WHERE customer_id = 5",
        found=False,
        repaired=False,
        note="both hold the same values",
    ),
    _dimension(
        "current version not marked as current, its constraint dropped",
        f"{_NO_CHECKS}; UPDATE dwh.dim_customer SET is_current = false WHERE customer_id = 5",
    ),
    _dimension(
        "earlier version marked as current, its constraint dropped",
        f"{_NO_CHECKS}; UPDATE dwh.dim_customer SET is_current = true WHERE {_VERSION} AND NOT is_current",
    ),
    _dimension(
        "surrogate keys of two members swapped",
        f"{_NO_CHECKS}; UPDATE dwh.dim_customer SET customer_key = -customer_key - 100 WHERE customer_id IN (7, 9);"
        " UPDATE dwh.dim_customer SET customer_id = 16 - customer_id WHERE customer_key < -100;"
        " UPDATE dwh.dim_customer SET customer_key = -customer_key - 100 WHERE customer_key < -100",
    ),
    _dimension(
        "undeclared default member",
        "INSERT INTO dwh.dim_supplier (supplier_key, supplier_name, country_code, country, valid_from, valid_to, is_current, run_id)"
        " OVERRIDING SYSTEM VALUE VALUES (-3, 'Ghost', 'DE', 'Germany', '-infinity', 'infinity', true, 0)",
    ),
    _dimension(
        "Unknown member changed, its note lost",
        "DELETE FROM etl.default_member WHERE dimension = 'dim_supplier';"
        " UPDATE dwh.dim_supplier SET supplier_name = 'X' WHERE supplier_key = -1",
        repaired=False,
        note="what it should be is not known any more",
    ),
    _dimension(
        "Unknown member changed",
        "UPDATE dwh.dim_product SET product_name = 'X' WHERE product_key = -1",
    ),
    _dimension(
        "Unknown member begins late",
        "UPDATE dwh.dim_status SET valid_from = '2020-01-01' WHERE status_key = -1",
    ),
    _dimension("Unknown member missing", "DELETE FROM dwh.dim_supplier WHERE supplier_key = -1"),
    _dimension(
        "Not Yet member changed", "UPDATE dwh.dim_date SET day_name = 'X' WHERE date_key = -2"
    ),
    _dimension(
        "calendar: first day of the month",
        "UPDATE dwh.dim_date SET month_start = month_start - 1 WHERE full_date = '2025-12-05'",
    ),
    _dimension(
        "calendar: name",
        "UPDATE dwh.dim_date SET day_name = 'Freitag' WHERE full_date = '2025-12-05'",
    ),
    _dimension(
        "calendar: flag",
        "UPDATE dwh.dim_date SET is_weekend = NOT is_weekend WHERE full_date = '2025-12-05'",
    ),
    _dimension("calendar: day missing", "DELETE FROM dwh.dim_date WHERE full_date = '2025-12-05'"),
    # Facts ------------------------------------------------------------------------------------------------
    _fact(
        "measure changed by a cent",
        f"UPDATE dwh.fact_order_line SET amount = amount + 0.01 WHERE {_LINE}",
    ),
    _fact(
        "measure of type boolean",
        "UPDATE dwh.fact_order SET is_lost = NOT is_lost WHERE order_id = 30",
    ),
    _fact(
        "measure replaced by NULL",
        f"UPDATE dwh.fact_order SET hours_to_fulfil = NULL WHERE delivered_at IS NOT NULL AND order_id <> {OUTSIDE_CALENDAR}",
    ),
    _fact(
        "two measures that cancel out",
        "UPDATE dwh.fact_order_line SET quantity = quantity + CASE order_id WHEN 21 THEN 1 ELSE -1 END WHERE order_id IN (21, 22) AND line_number = 1",
    ),
    _fact("price", f"UPDATE dwh.fact_order_line SET unit_price = 0 WHERE {_LINE}"),
    _fact(
        "time",
        "UPDATE dwh.fact_order SET ordered_at = ordered_at + interval '1 second' WHERE order_id = 30",
    ),
    _fact(
        "time replaced by NULL",
        f"UPDATE dwh.fact_order SET shipped_at = NULL WHERE shipped_at IS NOT NULL AND order_id <> {OUTSIDE_CALENDAR}",
    ),
    _fact(
        "key of another member",
        f"UPDATE dwh.fact_order SET customer_key = {_OTHER_CUSTOMER} WHERE order_id = 30",
    ),
    _fact(
        "key of another version",
        "UPDATE dwh.fact_order_line AS f SET product_key = d.product_key FROM dwh.dim_product AS d "
        f"JOIN dwh.dim_product AS o USING (product_id) WHERE f.product_key = o.product_key AND d.product_key <> o.product_key AND f.order_id <> {OUTSIDE_CALENDAR}",
    ),
    _fact("key of a role", "UPDATE dwh.fact_order_line SET supplier_key = -1 WHERE order_id = 21"),
    _fact(
        "key -1 without an entry in the queue",
        "UPDATE dwh.fact_order SET address_key = -1 WHERE order_id = 30",
    ),
    _fact(
        "key -2 of a date", "UPDATE dwh.fact_order SET ordered_date_key = -2 WHERE order_id = 30"
    ),
    _fact("date", "UPDATE dwh.fact_order SET ordered_date_key = 20251205 WHERE order_id = 30"),
    _fact(
        "key without a member", "UPDATE dwh.fact_order SET status_key = 77777 WHERE order_id = 30"
    ),
    _fact("row missing", f"DELETE FROM dwh.fact_order_line WHERE {_LINE}"),
    _fact(
        "row that the mirror does not give",
        "INSERT INTO dwh.fact_order_line SELECT order_id, 99, product_key, supplier_key, ordered_date_key, "
        f"ordered_at, 1, 1, 1, false, run_id FROM dwh.fact_order_line WHERE {_LINE}",
    ),
    _fact(
        "key of the row changed", f"UPDATE dwh.fact_order_line SET line_number = 77 WHERE {_LINE}"
    ),
    _fact("marked as deleted", f"UPDATE dwh.fact_order_line SET is_deleted = true WHERE {_LINE}"),
    _fact(
        "marked as deleted, measures at 0",
        f"UPDATE dwh.fact_order_line SET is_deleted = true, quantity = 0, amount = 0 WHERE {_LINE}",
    ),
    _fact(
        "deleted row unmarked",
        f"UPDATE dwh.fact_order_line SET is_deleted = false WHERE order_id = {WITH_DELETED_LINE} AND line_number = 1",
    ),
    _fact(
        "deleted row with a measure",
        f"UPDATE dwh.fact_order_line SET quantity = 3 WHERE order_id = {WITH_DELETED_LINE} AND line_number = 1",
    ),
    _fact(
        "table emptied",
        f"DELETE FROM dwh.fact_order_line WHERE NOT is_deleted AND order_id <> {OUTSIDE_CALENDAR}",
    ),
    _fact(
        "measures of two rows swapped",
        "UPDATE dwh.fact_order_line AS f SET quantity = o.quantity, amount = o.amount, unit_price = o.unit_price FROM dwh.fact_order_line AS o"
        " WHERE f.line_number = 1 AND o.line_number = 1 AND (f.order_id, o.order_id) IN ((21, 22), (22, 21))",
    ),
    _fact(
        "keys of two roles swapped",
        "UPDATE dwh.fact_order SET ordered_date_key = delivered_date_key, delivered_date_key = ordered_date_key"
        f" WHERE delivered_date_key > 0 AND ordered_date_key <> delivered_date_key AND order_id <> {OUTSIDE_CALENDAR}",
    ),
    _fact(
        "key -2 in place of a member",
        "UPDATE dwh.fact_order SET customer_key = -2 WHERE order_id = 30",
    ),
    _fact(
        "row doubled, its primary key dropped",
        "ALTER TABLE dwh.fact_order_line DROP CONSTRAINT fact_order_line_pkey;"
        f" INSERT INTO dwh.fact_order_line SELECT * FROM dwh.fact_order_line WHERE {_LINE}",
    ),
    _fact(
        "deleted row missing",
        f"DELETE FROM dwh.fact_order_line WHERE order_id = {WITH_DELETED_LINE} AND line_number = 1",
        found=False,
        repaired=False,
        note="it counts for nothing",
    ),
    # Aggregates -------------------------------------------------------------------------------------------
    _aggregate(
        "measure of a group",
        "UPDATE dwh.agg_order_daily SET sales = sales + 1 WHERE day = (SELECT min(day) FROM dwh.agg_order_daily)",
    ),
    _aggregate(
        "group missing",
        "DELETE FROM dwh.agg_order_daily WHERE day = (SELECT min(day) FROM dwh.agg_order_daily)",
    ),
    _aggregate(
        "group without a fact",
        "INSERT INTO dwh.agg_order_daily VALUES ('2001-01-01', 'Atlantis', 1, 0, 5, 0, 0, 0)",
    ),
    _aggregate(
        "group at zero",
        "INSERT INTO dwh.agg_order_daily VALUES ('2001-01-01', 'Atlantis', 0, 0, 0, 0, 0, 0)",
    ),
    _aggregate(
        "group of a coarser aggregate",
        "UPDATE dwh.agg_product_total SET sales = sales + 1 WHERE product_id = 3",
    ),
    _aggregate(
        "a fine aggregate that coarser ones are made of",
        "UPDATE dwh.agg_product_monthly SET quantity = quantity + 1 WHERE product_id = 3",
    ),
    _aggregate(
        "a difference that waits, invented",
        "INSERT INTO work.agg_order_daily_difference VALUES ('2025-12-05', 'Germany', 1, 0, 5, 0, 0)",
    ),
    _aggregate("table emptied", "DELETE FROM dwh.agg_customer_quarterly"),
    _aggregate(
        "group under another name",
        f"UPDATE dwh.agg_order_daily SET country = 'Atlantis' WHERE {_FIRST_DAY}",
    ),
    _aggregate(
        "group doubled, its primary key dropped",
        "ALTER TABLE dwh.agg_order_daily DROP CONSTRAINT agg_order_daily_pkey;"
        f" INSERT INTO dwh.agg_order_daily SELECT * FROM dwh.agg_order_daily WHERE {_FIRST_DAY}",
        repaired=False,
        note=_NO_PRIMARY_KEY,
    ),
    _aggregate(
        "group in two halves, its primary key dropped",
        "ALTER TABLE dwh.agg_order_daily DROP CONSTRAINT agg_order_daily_pkey;"
        f" UPDATE dwh.agg_order_daily SET orders = orders + 1 WHERE {_FIRST_DAY};"
        f" INSERT INTO dwh.agg_order_daily SELECT day, country, -1, 0, 0, 0, 0, 0 FROM dwh.agg_order_daily WHERE {_FIRST_DAY}",
        repaired=False,
        note=_NO_PRIMARY_KEY,
    ),
    # Control tables ---------------------------------------------------------------------------------------
    _control("entry of the queue lost", "DELETE FROM etl.reprocessing_queue"),
    _control(
        "entry of the queue names another member",
        "UPDATE etl.reprocessing_queue SET dimension_key = '{\"customer_id\": 5}'",
    ),
    _control(
        "entry of the queue for a key that is resolved",
        f"{_QUEUE} ('fact_order', '{{\"order_id\": 30}}', 'customer_key', 'dim_customer', '{{\"customer_id\": 999999}}', 1)",
    ),
    _control(
        "stale entry of the queue over a wrong fact",
        f"UPDATE dwh.fact_order SET customer_key = {_OTHER_CUSTOMER} WHERE order_id = 30; "
        f"{_QUEUE} ('fact_order', '{{\"order_id\": 30}}', 'customer_key', 'dim_customer', '{{\"customer_id\": 999999}}', 1)",
    ),
    _control(
        "entry of the queue for a row that is not there",
        f"{_QUEUE} ('fact_order', '{{\"order_id\": 777777}}', 'customer_key', 'dim_customer', '{{\"customer_id\": 5}}', 1)",
    ),
    _control(
        "entry of the queue without a key",
        f"{_QUEUE} ('fact_order', '{{}}', 'customer_key', 'dim_customer', '{{\"customer_id\": 5}}', 1)",
    ),
    _control(
        "entry of the queue for a column that is no key",
        f"{_QUEUE} ('fact_order', '{{\"order_id\": 30}}', 'nonsense', 'dim_customer', '{{\"customer_id\": 5}}', 1)",
    ),
    _control(
        "entry in quarantine whose key is no key",
        f"{_QUARANTINE} ('dim_customer', '[1]', '22003', 'invented', 1)",
    ),
    _control(
        "entry in quarantine for a right fact",
        f"{_QUARANTINE} ('fact_order', '{{\"order_id\": 30}}', '22003', 'invented', 1)",
    ),
    _control(
        "entry in quarantine over a wrong fact",
        "UPDATE dwh.fact_order SET quantity = 1000 WHERE order_id = 30; "
        f"{_QUARANTINE} ('fact_order', '{{\"order_id\": 30}}', 'ET009', 'invented', 1)",
    ),
    _control(
        "entry in quarantine over a wrong member",
        "UPDATE dwh.dim_customer SET phone = '000' WHERE customer_id = 5; "
        f"{_QUARANTINE} ('dim_customer', '{{\"customer_id\": 5}}', '22001', 'invented', 1)",
    ),
    _control(
        "entry in quarantine over a wrong row of a mirror",
        "UPDATE stage.customers SET phone = '000' WHERE customer_id = 5; "
        f"{_QUARANTINE} ('customers', '{{\"customer_id\": 5}}', '22021', 'invented', 1)",
    ),
    _control(
        "entry in quarantine of a row that is not there",
        f"{_QUARANTINE} ('customers', '{{\"customer_id\": 777777}}', '23505', 'invented', 1)",
    ),
    _control(
        "entry in quarantine of an unknown object",
        f"{_QUARANTINE} ('nonsense', '{{\"id\": 1}}', '22003', 'invented', 1)",
    ),
    _control("entry in quarantine lost", "DELETE FROM etl.quarantine"),
    _control(
        "entry of the queue for a member that is there",
        "UPDATE dwh.fact_order SET customer_key = -1 WHERE order_id = 30; "
        f"{_QUEUE} ('fact_order', '{{\"order_id\": 30}}', 'customer_key', 'dim_customer',"
        " (SELECT jsonb_build_object('customer_id', customer_id) FROM stage.orders WHERE order_id = 30), 1)",
    ),
    _control(
        "entry of the queue made ready",
        "UPDATE etl.reprocessing_queue SET is_ready = true",
        found=False,
        note="nothing is wrong: the next run looks it up once more",
    ),
    _control(
        "pending key over a wrong fact",
        "UPDATE dwh.fact_order SET quantity = 1000 WHERE order_id = 30; INSERT INTO work.fact_order_key VALUES (30)",
        note="incomplete; the next run repairs it",
    ),
    _control(
        "watermark moved past a change",
        "UPDATE oceanrecords.customers SET phone = '4711' WHERE customer_id = 7; "
        "UPDATE etl.watermark SET snapshot = pg_current_snapshot() WHERE source_table = 'customers'",
    ),
    _control(
        "watermark moved back",
        "UPDATE etl.watermark SET snapshot = '3:3:' WHERE source_table = 'customers'",
        found=False,
        note="nothing is wrong: the next run reads more",
    ),
    _control(
        "change past the disabled triggers of the source",
        "ALTER TABLE oceanrecords.customers DISABLE TRIGGER USER;"
        " UPDATE oceanrecords.customers SET phone = '4711' WHERE customer_id = 7;"
        " ALTER TABLE oceanrecords.customers ENABLE TRIGGER USER",
    ),
    _control(
        "watermark in the future",
        "UPDATE etl.watermark SET snapshot = '99999999:99999999:' WHERE source_table = 'customers'",
        found=False,
        note="nothing is wrong: the next run compares the table",
    ),
    _control(
        "tombstones lost",
        "DELETE FROM oceanrecords.deleted_rows",
        found=False,
        note="gaps of a time that they do not reach back to count as right",
    ),
    _control(
        "compiled load replaced by one that does nothing",
        "CREATE OR REPLACE FUNCTION compiled.load_fact_order(p_run_id bigint) RETURNS etl.load_result"
        " LANGUAGE sql AS 'SELECT (0, 0, 0, 0, 0, 0)::etl.load_result'",
        found=False,
        note="the rows are right; `etl.build()` compiles it again",
    ),
    _control(
        "watermark lost",
        "DELETE FROM etl.watermark WHERE source_table = 'customers'",
        note="incomplete; the next run repairs it",
    ),
    _control(
        "full refresh requested",
        "UPDATE etl.load_state SET needs_reload = true WHERE object = 'fact_order'",
        note="incomplete; the next run repairs it",
    ),
]


def table() -> str:
    """Return the table of docs/reliability.md."""
    lines = []
    for layer, damages in groupby(DAMAGES, key=lambda damage: damage.layer):
        lines += ["", f"| {layer} | found | repaired | |", "|---|---|---|---|"]
        lines += [
            f"| {one.what} | {_word(one.found)} | {_word(one.repaired) if one.found else '-'} | {one.note} |"
            for one in damages
        ]
    found = sum(one.found for one in DAMAGES)
    repaired = sum(one.found and one.repaired for one in DAMAGES)
    head = f"{len(DAMAGES)} kinds of damage, {found} found, {repaired} of them repaired, none made worse."
    return "\n".join([BEGIN, "", head, *lines, "", END])


def _word(is_so: bool) -> str:
    return "yes" if is_so else "no"


def document(text: str) -> str:
    """Return the document with the present table in it."""
    before, _, rest = text.partition(BEGIN)
    return before + table() + rest.partition(END)[2]


if __name__ == "__main__":
    DOCUMENT.write_text(document(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
