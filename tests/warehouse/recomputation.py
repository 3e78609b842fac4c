"""The stars, computed once more from the operational tables, by other means than the engine's.

The engine works set by set, on pending keys, in SQL. This module takes the notes of the observer (`observer.sql`: what
each batch could see, and which object was loaded when), goes through them one by one, member by member, as a clerk
would who keeps a card for each customer, and writes down what the warehouse should hold. `compare` then tells what it
holds instead. Surrogate keys are translated into (member, start of the version), so their values do not matter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

Row = dict[str, Any]
Key = tuple[Any, ...]
Connection = psycopg.Connection[Any]

OBSERVER = Path(__file__).with_name("observer.sql")
INVARIANTS = Path(__file__).with_name("invariants.sql")
SETTLED = Path(__file__).with_name("settled.sql")
MICROSECOND = timedelta(microseconds=1)
UNKNOWN = "Unknown"
NOT_YET = "Not yet"

SOURCE_KEYS: dict[str, tuple[str, ...]] = {
    "addresses": ("address_id",),
    "customers": ("customer_id",),
    "customers_addresses": ("customer_id", "address_id"),
    "order_lines": ("order_id", "line_number"),
    "order_statuses": ("order_status_id",),
    "orders": ("order_id",),
    "payment_methods": ("payment_method_id",),
    "product_prices": ("product_id", "valid_from"),
    "product_subtypes": ("product_subtype_id",),
    "product_types": ("product_type_id",),
    "products": ("product_id",),
    "suppliers": ("supplier_id",),
}


def observe(connection: Connection) -> None:
    """Put the observer beside a warehouse that has not been loaded yet."""
    connection.execute(OBSERVER.read_bytes())


# Notes ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """A load of an object.

    Attributes:
        name: the dimension, fact or aggregate.
        mirrors: the batch that each mirror had reached.
        quarantined: keys that were in quarantine, so that their rows were left as they were.
        taken_out: keys of rows that left the star afterwards, because the row they refer to was not there.
    """

    name: str
    mirrors: dict[str, int]
    quarantined: set[Key]
    taken_out: set[Key]


@dataclass
class Notes:
    """What the observer noted.

    Attributes:
        tables: rows of each operational table by batch and key.
        tombstones: by batch, (number, table, key, moment) of each deletion.
        mirrors: batches that reached the mirror of each table, in their order.
        loads: objects loaded, in their order.
    """

    tables: dict[str, dict[int, dict[Key, Row]]]
    tombstones: dict[int, list[tuple[int, str, Key, datetime]]]
    mirrors: dict[str, list[int]]
    loads: list[Load]

    @classmethod
    def read(cls, connection: Connection) -> Notes:
        tables: dict[str, dict[int, dict[Key, Row]]] = {}
        with connection.cursor(row_factory=dict_row) as cursor:
            for table, columns in SOURCE_KEYS.items():
                batches: dict[int, dict[Key, Row]] = defaultdict(dict)
                cursor.execute(sql.SQL("SELECT * FROM proof.{}").format(sql.Identifier(table)))
                for row in cursor:
                    batches[row["batch_id"]][tuple(row[column] for column in columns)] = row
                tables[table] = batches
            tombstones: dict[int, list[tuple[int, str, Key, datetime]]] = defaultdict(list)
            for row in cursor.execute("SELECT * FROM proof.deleted_rows ORDER BY deleted_row_id"):
                name = row["table_name"]
                if name in SOURCE_KEYS:
                    key = tuple(_parsed(row["row_key"][column]) for column in SOURCE_KEYS[name])
                    tombstones[row["batch_id"]].append(
                        (row["deleted_row_id"], name, key, row["deleted_at"])
                    )
            mirrors: dict[str, list[int]] = defaultdict(list)
            for row in cursor.execute("SELECT * FROM proof.mirror_log ORDER BY sequence"):
                mirrors[row["source_table"]].append(row["batch_id"])
            taken_out: dict[int, set[Key]] = defaultdict(set)
            for row in cursor.execute("SELECT * FROM proof.taken_out"):
                taken_out[row["after_load"]].add((row["order_id"], row["line_number"]))
            loads = [
                Load(
                    row["object"],
                    row["mirrors"],
                    {_row_key(key) for key in row["quarantined"]},
                    taken_out[row["sequence"]],
                )
                for row in cursor.execute("SELECT * FROM proof.load_log ORDER BY sequence")
            ]
        return cls(tables, tombstones, mirrors, loads)

    def present(self, table: str, batch: int | None) -> dict[Key, Row]:
        """Return the rows that a batch saw in a table."""
        return {} if batch is None else self.tables[table].get(batch, {})

    def deletion(self, table: str, key: Key, batch: int) -> datetime:
        """Return the moment of the deletion that made a key absent in a batch.

        It is the last one since the mirror last saw the row.
        """
        seen = self.mirrors[table]
        before = seen[: seen.index(batch)]
        last = next(b for b in reversed(before) if key in self.present(table, b))
        known = {number for number, *_ in self.tombstones[last]}
        return max(
            moment
            for number, name, deleted, moment in self.tombstones[batch]
            if (name, deleted) == (table, key) and number not in known
        )

    def last_seen(self, table: str) -> dict[Key, Row]:
        """Return each row that ever reached the mirror, as it last was."""
        rows: dict[Key, Row] = {}
        for batch in self.mirrors[table]:
            rows |= self.present(table, batch)
        return rows


def _row_key(key: Row) -> Key:
    """Return a key that is packed as JSON, an order line's in its order."""
    return tuple(key[column] for column in sorted(key, reverse=True))


def _parsed(value: Any) -> Any:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


# Dimensions ----------------------------------------------------------------------------------------------------------


@dataclass
class Version:
    """A version of a member: valid from `start` (None: since ever) until `end` (None: still)."""

    start: datetime | None
    end: datetime | None
    tracked: Row

    def covers(self, moment: datetime) -> bool:
        return (self.start is None or moment >= self.start) and (
            self.end is None or moment < self.end
        )


@dataclass
class State:
    """A member as the source showed it: attributes by the way they take a change."""

    kept: Row
    overwritten: Row
    tracked: Row
    changed_at: datetime


@dataclass
class Member:
    """The card of one member, kept observation by observation."""

    kept: Row = field(default_factory=dict)
    overwritten: Row = field(default_factory=dict)
    versions: list[Version] = field(default_factory=list)
    # Versions before the member was last deleted, and what happened since it is there (again).
    _past: list[Version] = field(default_factory=list)
    _moves: list[tuple[datetime | None, Row]] = field(default_factory=list)

    @property
    def is_there(self) -> bool:
        return bool(self.versions) and self.versions[-1].end is None

    def see(self, state: State, log: list[tuple[datetime, Row]] | None = None) -> None:
        """The member is there. `log` tells some of the tracked attributes for all moments."""
        if not self.versions:
            self.kept = state.kept
            self._moves = [(None, state.tracked)]
        elif not self.is_there:
            self._past = self.versions
            end = self.versions[-1].end
            assert end is not None
            self._moves = [(max(state.changed_at, end), state.tracked)]
        elif state.tracked != self._moves[-1][1]:
            self._moves.append((_after(self.versions[-1], state.changed_at), state.tracked))
        self.overwritten = state.overwritten
        if self._past and log is not None:
            end = self._past[-1].end
            assert end is not None
            self._past = _retold(self._past, log)
            log = [(moment, word) for moment, word in log if moment >= end]
        self.versions = _merged(self._past + _era(self._moves, log or None))

    def miss(self, deleted_at: Callable[[], datetime]) -> None:
        """The member is not there."""
        if self.is_there:
            last = self.versions[-1]
            self.versions = [
                *self.versions[:-1],
                Version(last.start, _after(last, deleted_at()), last.tracked),
            ]

    def at(self, moment: datetime) -> Version | None:
        return next((v for v in self.versions if v.covers(moment)), None)


def _after(version: Version, moment: datetime) -> datetime:
    """Return the moment, or the next possible one after the version's start."""
    return moment if version.start is None else max(moment, version.start + MICROSECOND)


def _era(
    moves: list[tuple[datetime | None, Row]], log: list[tuple[datetime, Row]] | None
) -> list[Version]:
    """Return the versions of an uninterrupted presence. The log's first word holds from its start."""
    start = moves[0][0]
    moments = [moment for moment, _ in moves]
    if log is not None:
        moments += [moment for moment, _ in log if start is None or moment > start]
    ordered = sorted(set(moments), key=lambda moment: (moment is not None, moment))
    versions: list[Version] = []
    for position, moment in enumerate(ordered):
        tracked = dict(_latest(moves, moment))
        if log is not None:
            tracked |= _latest(log, moment)
        end = ordered[position + 1] if position + 1 < len(ordered) else None
        versions.append(Version(moment, end, tracked))
    return versions


def _retold(past: list[Version], log: list[tuple[datetime, Row]]) -> list[Version]:
    """Return versions of earlier lives. What the log tells of one holds from its moment, not before."""
    told: list[Version] = []
    words: list[Row] = []
    for position, version in enumerate(past):
        if position and version.start != past[position - 1].end:
            words = []
        assert version.end is not None
        since = past[position - 1].end if position else None
        heard = [
            (moment, word)
            for moment, word in log
            if (since is None or moment >= since) and moment < version.end
        ]
        start = version.start
        for moment, word in heard:
            if start is None or moment > start:
                told.append(Version(start, moment, version.tracked | (words[-1] if words else {})))
                start = moment
            words.append(word)
        told.append(Version(start, version.end, version.tracked | (words[-1] if words else {})))
    return _merged(told)


def _latest(words: Iterable[tuple[datetime | None, Row]], moment: datetime | None) -> Row:
    words = list(words)
    told = words[0][1]
    for since, word in words[1:]:
        if moment is not None and since is not None and since <= moment:
            told = word
    return told


def _merged(versions: list[Version]) -> list[Version]:
    """Return the versions, equal neighbours without a gap between them made one."""
    merged: list[Version] = []
    for version in versions:
        if merged and merged[-1].end == version.start and merged[-1].tracked == version.tracked:
            merged[-1] = Version(merged[-1].start, version.end, version.tracked)
        else:
            merged.append(version)
    return merged


@dataclass(frozen=True)
class Dimension:
    """What a dimension should be: where its members come from, and what is told of them."""

    table: str
    surrogate_key: str
    business_key: str
    source: str
    state: Callable[[Recomputation, Row, Mapping[str, int]], State]
    log: str | None = None


def _customer(world: Recomputation, row: Row, _mirrors: Mapping[str, int]) -> State:
    first, last = row["first_name"].strip(" "), row["last_name"].strip(" ")
    return State(
        kept={"customer_since": world.day(row["created_at"])},
        overwritten={
            "first_name": first,
            "last_name": last,
            "full_name": f"{first} {last}",
            "email": row["email"].strip(" ").lower(),
            "phone": (row["phone"] or "").strip(" ") or None,
        },
        tracked={"segment": row["segment"]},
        changed_at=row["updated_at"],
    )


def _address(world: Recomputation, row: Row, _mirrors: Mapping[str, int]) -> State:
    code = row["country_code"]
    return State(
        kept={},
        overwritten={
            "street": row["street"].strip(" "),
            "postal_code": row["postal_code"].strip(" ").upper(),
        },
        tracked={
            "city": row["city"].strip(" "),
            "country_code": code,
            "country": world.countries.get(code, code),
        },
        changed_at=row["updated_at"],
    )


def _payment(_world: Recomputation, row: Row, _mirrors: Mapping[str, int]) -> State:
    attributes = {"payment_code": row["code"], "payment_name": row["name"]}
    return State({}, attributes, {}, row["updated_at"])


def _status(_world: Recomputation, row: Row, _mirrors: Mapping[str, int]) -> State:
    attributes = {
        "status_code": row["code"],
        "status_name": row["name"],
        "is_lost": row["is_lost"],
    }
    return State({}, attributes, {}, row["updated_at"])


def _supplier(world: Recomputation, row: Row, _mirrors: Mapping[str, int]) -> State:
    code = row["country_code"]
    attributes = {
        "supplier_name": row["name"].strip(" "),
        "country_code": code,
        "country": world.countries.get(code, code),
    }
    return State({}, attributes, {}, row["updated_at"])


def _product(world: Recomputation, row: Row, mirrors: Mapping[str, int]) -> State:
    subtypes = world.notes.present("product_subtypes", mirrors["product_subtypes"])
    subtype = subtypes[(row["product_subtype_id"],)]
    types = world.notes.present("product_types", mirrors["product_types"])
    kind = types[(subtype["product_type_id"],)]
    return State(
        kept={"launched_on": world.day(row["created_at"])},
        overwritten={
            "sku": row["sku"],
            "product_name": row["name"].strip(" "),
            "is_active": row["is_active"],
        },
        tracked={
            "product_subtype": subtype["name"],
            "product_type": kind["name"],
            "supplier_id": row["supplier_id"],
        },
        changed_at=max(row["updated_at"], subtype["updated_at"], kind["updated_at"]),
    )


DIMENSIONS: dict[str, Dimension] = {
    dimension.table: dimension
    for dimension in (
        Dimension("dim_customer", "customer_key", "customer_id", "customers", _customer),
        Dimension("dim_address", "address_key", "address_id", "addresses", _address),
        Dimension("dim_payment", "payment_key", "payment_method_id", "payment_methods", _payment),
        Dimension("dim_status", "status_key", "order_status_id", "order_statuses", _status),
        Dimension("dim_supplier", "supplier_key", "supplier_id", "suppliers", _supplier),
        Dimension(
            "dim_product",
            "product_key",
            "product_id",
            "products",
            _product,
            log="product_prices",
        ),
    )
}


# The whole -----------------------------------------------------------------------------------------------------------


class Recomputation:
    """The stars as they should be, once the last run has succeeded with all its tasks."""

    def __init__(self, connection: Connection) -> None:
        self.notes = Notes.read(connection)
        zone = connection.execute("SELECT value FROM etl.setting WHERE name = 'time_zone'")
        self.zone = ZoneInfo(_only(zone))
        self.countries: dict[str, str] = dict(
            connection.execute("SELECT country_code, country FROM work.country").fetchall()
        )
        days = connection.execute("SELECT full_date FROM dwh.dim_date WHERE date_key > 0")
        self.calendar: set[date] = {day for (day,) in days}

    def day(self, moment: datetime) -> date:
        """Return the date of a moment in the business time zone."""
        return moment.astimezone(self.zone).date()

    def now(self, table: str) -> dict[Key, Row]:
        """Return the rows that are in a mirror."""
        batches = self.notes.mirrors[table]
        return self.notes.present(table, batches[-1] if batches else None)

    @cached_property
    def members(self) -> dict[str, dict[Any, Member]]:
        """The cards of all members, by dimension and business key."""
        cards: dict[str, dict[Any, Member]] = {name: {} for name in DIMENSIONS}
        for load in self.notes.loads:
            if load.name in DIMENSIONS:
                self._load(DIMENSIONS[load.name], load, cards[load.name])
        return cards

    def _load(self, dimension: Dimension, load: Load, cards: dict[Any, Member]) -> None:
        mirrors = load.mirrors
        batch = mirrors.get(dimension.source)
        rows = self.notes.present(dimension.source, batch)
        log: dict[Any, list[tuple[datetime, Row]]] | None = None
        if dimension.log is not None:
            log = defaultdict(list)
            for (member, moment), row in sorted(
                self.notes.present(dimension.log, mirrors.get(dimension.log)).items()
            ):
                log[member].append((moment, {"price": row["price"]}))
        for (member,), row in rows.items():
            if (member,) in load.quarantined:
                continue
            card = cards.setdefault(member, Member())
            card.see(dimension.state(self, row, mirrors), log[member] if log is not None else None)
        for member, card in cards.items():
            if batch is not None and (member,) not in rows.keys() | load.quarantined:
                card.miss(partial(self.notes.deletion, dimension.source, (member,), batch))

    def lookup(self, dimension: str, member: Any, moment: datetime) -> Any:
        """Return (member, start of the version) as of a moment, or Unknown."""
        card = self.members[dimension].get(member)
        version = card.at(moment) if card is not None else None
        return UNKNOWN if version is None else (member, version.start)

    def calendar_day(self, moment: datetime | None) -> Any:
        """Return the date of a moment where the calendar has it."""
        if moment is None:
            return NOT_YET
        day = self.day(moment)
        return day if day in self.calendar else UNKNOWN

    @cached_property
    def orders(self) -> dict[Key, Row]:
        """Expected rows of fact_order."""
        alive = self.now("orders")
        lost = {key[0]: row["is_lost"] for key, row in self.now("order_statuses").items()}
        losing = {
            key[0]: row["is_lost"] for key, row in self.notes.last_seen("order_statuses").items()
        }
        lines: dict[Any, list[Row]] = defaultdict(list)
        for (order, _), row in self.now("order_lines").items():
            lines[order].append(row)
        loaded = self._ever_loaded("fact_order", lambda m: self._mirrored("orders", m))
        expected: dict[Key, Row] = {}
        for key, row in self.notes.last_seen("orders").items():
            if key not in loaded:
                continue
            there = key in alive
            own = lines[key[0]] if there else []
            ordered = row["ordered_at"]
            expected[key] = {
                "customer_key": self.lookup("dim_customer", row["customer_id"], ordered),
                "address_key": self.lookup("dim_address", row["address_id"], ordered),
                "payment_key": self.lookup("dim_payment", row["payment_method_id"], ordered),
                "status_key": self.lookup("dim_status", row["order_status_id"], ordered),
                "ordered_date_key": self.calendar_day(ordered),
                "shipped_date_key": self.calendar_day(row["shipped_at"]),
                "delivered_date_key": self.calendar_day(row["delivered_at"]),
                "ordered_at": ordered,
                "shipped_at": row["shipped_at"],
                "delivered_at": row["delivered_at"],
                "lost_at": (row["cancelled_at"] or row["refunded_at"])
                if losing.get(row["order_status_id"], False)
                else None,
                "line_count": len(own),
                "quantity": sum(line["quantity"] for line in own),
                "gross_amount": sum(
                    (line["quantity"] * line["unit_price"] for line in own), Decimal(0)
                ),
                "hours_to_fulfil": _hours(ordered, row["delivered_at"]) if there else None,
                "is_lost": there and lost.get(row["order_status_id"], False),
                "is_deleted": not there,
            }
        return expected

    @cached_property
    def order_lines(self) -> dict[Key, Row]:
        """Expected rows of fact_order_line."""
        orders_now = self.now("orders")
        lines_now = self.now("order_lines")
        orders = self.notes.last_seen("orders")
        loaded = self._ever_loaded("fact_order_line", self._complete_lines)
        expected: dict[Key, Row] = {}
        for key, row in self.notes.last_seen("order_lines").items():
            if key not in loaded:
                continue
            there = key in lines_now and (key[0],) in orders_now
            ordered = orders[(key[0],)]["ordered_at"]
            card = self.members["dim_product"].get(row["product_id"])
            version = card.at(ordered) if card is not None else None
            expected[key] = {
                "product_key": self.lookup("dim_product", row["product_id"], ordered),
                "supplier_key": UNKNOWN
                if version is None
                else self.lookup("dim_supplier", version.tracked["supplier_id"], ordered),
                "ordered_date_key": self.calendar_day(ordered),
                "ordered_at": ordered,
                "quantity": row["quantity"] if there else 0,
                "unit_price": row["unit_price"],
                "amount": row["quantity"] * row["unit_price"] if there else Decimal(0),
                "is_deleted": not there,
            }
        return expected

    @cached_property
    def aggregates(self) -> dict[str, dict[Key, Row]]:
        """Expected rows of the aggregates, by group."""
        daily: dict[Key, Row] = {}
        losses: dict[Key, Row] = {}
        monthly: dict[Key, Row] = {}
        quarterly: dict[Key, Row] = {}
        for key, order in self.orders.items():
            day, delivered = order["ordered_date_key"], order["delivered_date_key"]
            country = self._tracked("dim_address", order["address_key"], "country")
            if not order["is_deleted"] and day != UNKNOWN:
                sales = Decimal(0) if order["is_lost"] else order["gross_amount"]
                lost = int(order["is_lost"])
                _add(daily, (day, country), orders=1, lost_orders=lost, sales=sales)
                if lost:
                    lost_on = self.day(order["lost_at"]) if order["lost_at"] else day
                    amount = order["gross_amount"]
                    _add(losses, (day, lost_on, country), lost_orders=1, lost_amount=amount)
                customer = order["customer_key"]
                member = -1 if customer == UNKNOWN else customer[0]
                months = {f"{name}_month_orders": 0 for name in ("first", "second", "third")}
                months[list(months)[(day.month - 1) % 3]] = 1
                _add(quarterly, (_quarter(day), member, country), orders=1, **months)
            if not order["is_deleted"] and isinstance(delivered, date):
                hours = order["hours_to_fulfil"]
                _add(daily, (delivered, country), fulfilled_orders=1, hours_to_fulfil=hours)
            for line in self._lines_of.get(key[0], []):
                if order["is_deleted"] or order["is_lost"] or line["is_deleted"] or day == UNKNOWN:
                    continue
                product = line["product_key"]
                group = (
                    day.replace(day=1),
                    country,
                    self._tracked("dim_product", product, "product_type"),
                    self._tracked("dim_product", product, "product_subtype"),
                    -1 if product == UNKNOWN else product[0],
                )
                _add(monthly, group, quantity=line["quantity"], sales=line["amount"])
        return {
            "agg_order_daily": daily,
            "agg_order_lost_daily": losses,
            "agg_product_monthly": monthly,
            "agg_customer_quarterly": quarterly,
        }

    @cached_property
    def _lines_of(self) -> dict[Any, list[Row]]:
        lines: dict[Any, list[Row]] = defaultdict(list)
        for key, line in self.order_lines.items():
            lines[key[0]].append(line)
        return lines

    def _tracked(self, dimension: str, version: Any, attribute: str) -> Any:
        """Return an attribute of the version that a fact points to."""
        if version == UNKNOWN:
            return UNKNOWN
        member, start = version
        versions = self.members[dimension][member].versions
        return next(v.tracked[attribute] for v in versions if v.start == start)

    def _mirrored(self, table: str, mirrors: Mapping[str, int]) -> set[Key]:
        return set(self.notes.present(table, mirrors.get(table)))

    def _complete_lines(self, mirrors: Mapping[str, int]) -> set[Key]:
        orders = self._mirrored("orders", mirrors)
        return {key for key in self._mirrored("order_lines", mirrors) if (key[0],) in orders}

    def _ever_loaded(self, fact: str, keys: Callable[[Mapping[str, int]], set[Key]]) -> set[Key]:
        loaded: set[Key] = set()
        for load in self.notes.loads:
            if load.name == fact:
                loaded |= keys(load.mirrors) - load.quarantined
                loaded -= load.taken_out
        return loaded


def _quarter(day: date) -> date:
    return day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1)


def _add(groups: dict[Key, Row], group: Key, **measures: Any) -> None:
    row = groups.setdefault(group, defaultdict(int))
    for name, value in measures.items():
        row[name] += value


def _hours(start: datetime, end: datetime | None) -> Decimal | None:
    if end is None:
        return None
    hours = Decimal((end - start) // MICROSECOND) / Decimal(3_600_000_000)
    return hours.quantize(Decimal("0.0001"), ROUND_HALF_UP)


def _only(cursor: psycopg.Cursor[Any]) -> Any:
    (row,) = cursor.fetchall()
    return row[0]


# Comparison ----------------------------------------------------------------------------------------------------------


def compare(connection: Connection) -> list[str]:
    """Compare the warehouse with what it should be, after a run that succeeded with all its tasks.

    Returns:
        one line for each difference, naming table, key, column, expected and actual value; none when all is right.
    """
    world = Recomputation(connection)
    differences = _unread(connection)
    for table in SOURCE_KEYS:
        differences += _compare_stage(connection, world, table)
    surrogates: dict[str, dict[int, Any]] = {"dim_date": _calendar_keys(connection)}
    for name in DIMENSIONS:
        found, surrogates[name] = _compare_dimension(connection, world, name)
        differences += found
    waiting: set[tuple[str, Key, str]] = set()
    for fact, key_columns, expected in (
        ("fact_order", ("order_id",), world.orders),
        ("fact_order_line", ("order_id", "line_number"), world.order_lines),
    ):
        differences += _compare_fact(connection, fact, key_columns, expected, surrogates)
        waiting |= {
            (fact, key, column)
            for key, row in expected.items()
            for column in ROLES[fact]
            if row[column] == UNKNOWN
            and not row["is_deleted"]
            # A line of an unknown product has no supplier to wait for.
            and not (column == "supplier_key" and row["product_key"] == UNKNOWN)
        }
    differences += _compare_queue(connection, waiting)
    for aggregate, groups in world.aggregates.items():
        differences += _compare_aggregate(connection, aggregate, groups)
    return differences


def _unread(connection: Connection) -> list[str]:
    """Return what the mirrors lack though it was committed at the snapshot up to which they are complete.

    The notes hold what batches saw. A run that finds nothing new makes no batch; this shows that nothing was new.
    """
    lacking = []
    for table, key in SOURCE_KEYS.items():
        query = sql.SQL(
            "SELECT {} FROM oceanrecords.{table} AS s JOIN etl.watermark AS w ON w.source_table = {name}"
            " WHERE pg_visible_in_snapshot(s.row_xid, w.snapshot) AND NOT EXISTS (SELECT FROM proof.{table} AS p"
            " WHERE p.batch_id = w.batch_id AND p.row_xid = s.row_xid AND ({}))"
        ).format(
            sql.SQL(", ").join(sql.Identifier("s", column) for column in key),
            sql.SQL(" AND ").join(
                sql.SQL("{} = {}").format(sql.Identifier("p", column), sql.Identifier("s", column))
                for column in key
            ),
            table=sql.Identifier(table),
            name=sql.Literal(table),
        )
        lacking += [f"{table} {_shown(row)}: not read" for row in connection.execute(query)]
    deleted = connection.execute(
        "SELECT t.table_name, t.row_key FROM oceanrecords.deleted_rows AS t JOIN etl.watermark AS w ON w.source_table = t.table_name"
        " WHERE pg_visible_in_snapshot(t.row_xid, w.snapshot) AND NOT EXISTS (SELECT FROM proof.deleted_rows AS p"
        " WHERE p.batch_id = w.batch_id AND p.deleted_row_id = t.deleted_row_id)"
    )
    return lacking + [f"{table} {_shown(key)}: deletion not read" for table, key in deleted]


def broken_invariants(connection: Connection, *, settled: bool) -> list[str]:
    """Return what is broken of that which must always hold, in words.

    Parameters:
        connection: to the warehouse.
        settled: whether the last run succeeded with all its tasks, so that nothing may be left to do.
    """
    broken: list[str] = []
    for path in (INVARIANTS, SETTLED) if settled else (INVARIANTS,):
        rows = connection.execute(path.read_bytes()).fetchall()
        broken += [f"{rule}: {culprit}" for rule, culprit in rows]
    return broken


def _difference(table: str, key: Any, column: str, expected: Any, actual: Any) -> str:
    return f"{table} {key} {column}: expected {_shown(expected)}, actual {_shown(actual)}"


def _shown(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, tuple):
        return f"({', '.join(_shown(part) for part in value)})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {_shown(part)}' for name, part in value.items())}}}"
    return str(value)


def _compare_keys(table: str, expected: Iterable[Any], actual: Iterable[Any]) -> list[str]:
    wanted, found = set(expected), set(actual)
    return [f"{table} {_shown(key)}: row is missing" for key in wanted - found] + [
        f"{table} {_shown(key)}: row is too much" for key in found - wanted
    ]


def _compare_stage(connection: Connection, world: Recomputation, table: str) -> list[str]:
    """The mirror holds every row of the source, and marks those that are gone."""
    key_columns = SOURCE_KEYS[table]
    mirror: dict[Key, Row] = {}
    gone: set[Key] = set()
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(sql.SQL("SELECT * FROM stage.{}").format(sql.Identifier(table)))
        for row in cursor:
            key = tuple(row[column] for column in key_columns)
            if row.pop("deleted_at") is None:
                mirror[key] = row
            else:
                gone.add(key)
    expected = world.now(table)
    differences = _compare_keys(f"stage.{table}", expected, mirror)
    ever = set(world.notes.last_seen(table))
    differences += _compare_keys(f"stage.{table} (deleted)", ever - set(expected), gone)
    for key in expected.keys() & mirror.keys():
        for column, value in mirror[key].items():
            if column != "batch_id" and value != expected[key][column]:
                differences.append(
                    _difference(f"stage.{table}", key, column, expected[key][column], value)
                )
    return differences


def _calendar_keys(connection: Connection) -> dict[int, Any]:
    rows = connection.execute("SELECT date_key, full_date FROM dwh.dim_date").fetchall()
    return dict(rows) | {-1: UNKNOWN, -2: NOT_YET}


def _compare_dimension(
    connection: Connection, world: Recomputation, name: str
) -> tuple[list[str], dict[int, Any]]:
    """Compare all versions of all members; return the differences and what each surrogate key means."""
    dimension = DIMENSIONS[name]
    actual: dict[Any, Row] = {}
    surrogates: dict[int, Any] = {-1: UNKNOWN}
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            sql.SQL(
                "SELECT {columns}, nullif(valid_from, '-infinity') AS valid_from,"
                " nullif(valid_to, 'infinity') AS valid_to FROM dwh.{table} WHERE {key} <> -1"
            ).format(
                columns=sql.SQL(", ").join(map(sql.Identifier, _plain_columns(connection, name))),
                table=sql.Identifier(name),
                key=sql.Identifier(dimension.surrogate_key),
            )
        )
        for row in cursor:
            row.pop("run_id")
            key = (row.pop(dimension.business_key), row.pop("valid_from"))
            surrogates[row.pop(dimension.surrogate_key)] = key
            actual[key] = row
    expected: dict[Any, Row] = {}
    for member, card in world.members[name].items():
        for version in card.versions:
            expected[(member, version.start)] = {
                **card.kept,
                **card.overwritten,
                **version.tracked,
                "valid_to": version.end,
                "is_current": version.end is None,
            }
    if dimension.log is not None:
        _join_written_versions(expected, actual, surrogates)
    return _compare_rows(f"dwh.{name}", expected, actual), surrogates


def _join_written_versions(
    expected: dict[Any, Row], actual: dict[Any, Row], surrogates: dict[int, Any]
) -> None:
    """Join neighbours that have become equal since they were written: facts may refer to either.

    A log that says less than before, as of a member that was deleted and added again between two
    runs, makes earlier versions equal. The dimension keeps both.
    """
    validity = {"valid_to", "is_current"}
    for key in sorted(actual.keys() - expected.keys(), key=str):
        member, start = key
        before = next(
            (k for k, row in actual.items() if k[0] == member and row["valid_to"] == start), None
        )
        if start is None or before is None:
            continue
        row, earlier = actual[key], actual[before]
        if all(row[name] == earlier[name] for name in row.keys() - validity):
            actual[before] = actual.pop(key)
            for surrogate, meaning in surrogates.items():
                if meaning == key:
                    surrogates[surrogate] = before


def _plain_columns(connection: Connection, name: str) -> list[str]:
    """Return the columns of a dimension but its validity, whose infinite ends Python cannot hold."""
    rows = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
        " AND NOT attisdropped AND attname NOT IN ('valid_from', 'valid_to')",
        [f"dwh.{name}"],
    ).fetchall()
    return [column for (column,) in rows]


def _compare_rows(table: str, expected: dict[Any, Row], actual: dict[Any, Row]) -> list[str]:
    differences = _compare_keys(table, expected, actual)
    for key in expected.keys() & actual.keys():
        wanted, found = expected[key], actual[key]
        if wanted.keys() != found.keys():
            differences.append(
                f"{table}: columns expected {sorted(wanted)}, actual {sorted(found)}"
            )
            break
        differences += [
            _difference(table, _shown(key), column, value, found[column])
            for column, value in wanted.items()
            if value != found[column]
        ]
    return differences


ROLES: dict[str, dict[str, str]] = {
    "fact_order": {
        "customer_key": "dim_customer",
        "address_key": "dim_address",
        "payment_key": "dim_payment",
        "status_key": "dim_status",
        "ordered_date_key": "dim_date",
        "shipped_date_key": "dim_date",
        "delivered_date_key": "dim_date",
    },
    "fact_order_line": {
        "product_key": "dim_product",
        "supplier_key": "dim_supplier",
        "ordered_date_key": "dim_date",
    },
}


def _compare_fact(
    connection: Connection,
    fact: str,
    key_columns: tuple[str, ...],
    expected: dict[Key, Row],
    surrogates: Mapping[str, Mapping[int, Any]],
) -> list[str]:
    actual: dict[Key, Row] = {}
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(sql.SQL("SELECT * FROM dwh.{}").format(sql.Identifier(fact)))
        for row in cursor:
            row.pop("run_id")
            key = tuple(row.pop(column) for column in key_columns)
            for column, dimension in ROLES[fact].items():
                row[column] = surrogates[dimension].get(row[column], "no such key")
            # A row that was deleted while a key of it was unknown need not learn it any more.
            if row["is_deleted"] and key in expected:
                # Its supplier is known by its product.
                by_product = row.get("product_key") == UNKNOWN
                for column in ROLES[fact]:
                    if row[column] == UNKNOWN or (by_product and column == "supplier_key"):
                        row[column] = expected[key][column]
            actual[key] = row
    return _compare_rows(f"dwh.{fact}", expected, actual)


AGGREGATES: dict[str, tuple[str, ...]] = {
    "agg_order_daily": ("day", "country"),
    "agg_order_lost_daily": ("day", "lost_on", "country"),
    "agg_product_monthly": (
        "month_start",
        "country",
        "product_type",
        "product_subtype",
        "product_id",
    ),
    "agg_customer_quarterly": ("quarter_start", "customer_id", "country"),
}


def _compare_aggregate(
    connection: Connection, aggregate: str, expected: dict[Key, Row]
) -> list[str]:
    actual: dict[Key, Row] = {}
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(sql.SQL("SELECT * FROM dwh.{}").format(sql.Identifier(aggregate)))
        for row in cursor:
            row.pop("run_id")
            key = tuple(row.pop(column) for column in AGGREGATES[aggregate])
            actual[key] = row
            for measure in row:
                expected.get(key, {}).setdefault(measure, 0)
    return _compare_rows(f"dwh.{aggregate}", expected, actual)


def _compare_queue(connection: Connection, waiting: set[tuple[str, Key, str]]) -> list[str]:
    """The queue holds exactly the rows that carry an unknown key, waiting."""
    rows = connection.execute(
        "SELECT fact, fact_key, key_column, is_ready FROM etl.reprocessing_queue"
    ).fetchall()
    actual = {
        (
            fact,
            tuple(key[column] for column in ("order_id", "line_number") if column in key),
            column,
        )
        for fact, key, column, _ in rows
    }
    differences = _compare_keys("etl.reprocessing_queue", waiting, actual)
    differences += [
        f"etl.reprocessing_queue {key} {column}: is ready and was not tried"
        for _, key, column, ready in rows
        if ready
    ]
    return differences
