"""Decides which source tables are facts, which are dimensions, and which are folded into them.

Nothing here reads a database. A guess carries a note, which the files mark with REVIEW.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from driver.scaffold.contract import RESERVED, WITH_ZONE, contracts
from driver.scaffold.model import (
    At,
    Attribute,
    Contract,
    Dimension,
    Fact,
    Field,
    Join,
    Lookup,
    Model,
    Pairs,
)
from driver.scaffold.source import Column, Reference, Source
from driver.scaffold.text import quoted, shorten, singular, snake, unique, words

_FOLD_DEPTH = 2
_NO_EVENT = re.compile(
    r"(^|_)(updated|modified|changed|deleted|last_?update|last_?modified|birth|born|dob|hired?"
    r"|valid|expir\w*|since|registered|joined|discontinued|until)"
)
_LATE = re.compile(r"(^|_)(created|inserted)")
_NO_MEASURE = re.compile(
    r"(^|_)(id|no|nr|number|code|year|month|day|zip|postal|phone|lat|lng|lon|latitude|longitude"
    r"|version|position|rank|flag|type|status|class|line|sort|order)(_|$)|id$"
)
# Attributes whose earlier values seldom matter: names, and quantities that change all the time.
_TYPE_1 = re.compile(
    r"(^|_)(name|title|description|phone|fax|e?mail|address|street|url|notes?|comments?|homepage"
    r"|photo|first|last|text|label|stock|on_hand|on_order|balance|quantity|count)(_|$)|name$"
)
_LONG_TEXT = re.compile(r"(^|_)(description|comments?|notes?|body|html|xml|json|text|content)(_|$)")
_TIME_SUFFIX = re.compile(r"_(at|on|date|time|day|ts|timestamp)$")
_ZONE = "(SELECT etl.get_setting('time_zone'))"


@dataclass
class _Candidate:
    """The evidence that a table is a fact.

    Attributes:
        event: its own column with the time of an event, None if it has none.
        rank: 1 is a sure event, 4 an unsure one, 9 none.
        measures: names of columns that can be summed up.
        parent: for details such as order lines, the reference to the table that has the time.
    """

    event: Column | None = None
    rank: int = 9
    measures: list[str] = field(default_factory=list)
    parent: Reference | None = None


def build(source: Source) -> Model:
    """Return the draft for a source."""
    return _Builder(source).model()


class _Builder:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._contracts = {c.at: c for c in contracts(source)}
        self._candidates = {at: _candidate(c) for at, c in self._contracts.items()}
        self._dimensions: dict[At, Dimension] = {}

    def model(self) -> Model:
        facts_at = self._fact_tables()
        # What a fact, or the table above it, refers to is a dimension.
        referring: list[At] = []
        for at in facts_at:
            parent = self._candidates[at].parent
            referring += [at] if parent is None else [at, parent.at]
        targets = [r.at for at in referring for r in self._references(at)]
        wanted = list(dict.fromkeys(at for at in targets if at not in facts_at))
        if not facts_at:
            # No event anywhere: every table is a dimension.
            wanted = [at for at, c in self._contracts.items() if c.fields]
        taken: list[str] = []
        for at in wanted:
            stem = singular(self._contracts[at].name)
            taken.append(unique(f"dim_{'calendar_' if stem == 'date' else ''}{stem}", taken))
            self._dimensions[at] = self._dimension(at, taken[-1], facts_at)
        facts: list[Fact] = []
        for at in facts_at:
            stem = singular(self._contracts[at].name)
            facts.append(self._fact(at, unique(f"fact_{stem}", (f.name for f in facts))))
        joined = [j for star in (*self._dimensions.values(), *facts) for j in star.joins]
        used = {*facts_at, *wanted, *(j.contract.at for j in joined)}
        return Model(
            self._source,
            tuple(self._contracts.values()),
            tuple(self._dimensions.values()),
            tuple(facts),
            tuple(c for at, c in self._contracts.items() if at not in used),
            self._calendar(facts_at),
        )

    def _calendar(self, facts_at: list[At]) -> tuple[int, int] | None:
        years = [
            int(day[:4])
            for at in facts_at
            for days in self._contracts[at].table.days.values()
            for day in days
        ]
        return (min(years), max(years)) if years else None

    # -- references ---------------------------------------------------------

    def _references(self, at: At) -> list[Reference]:
        """Return the references of a table that lead to the key of another table of the draft."""
        contract = self._contracts[at]
        found = []
        for r in contract.table.references:
            target = self._contracts.get(r.at)
            if target is None or r.at == at or target.is_hashed or target.table.key != r.to:
                continue
            if all(contract.field(column) for column in r.columns):
                found.append(r)
        return found

    def _pairs(self, reference: Reference, owner: Contract, alias: str) -> Pairs:
        """Return the columns of a reference as contract and mirror name them."""
        target = self._contracts[reference.at]
        pairs = []
        for column, to in zip(reference.columns, reference.to, strict=True):
            one, other = owner.field(column), target.field(to)
            assert one is not None
            assert other is not None
            pairs.append((alias, one.name, other.name))
        return tuple(pairs)

    # -- which tables are facts ---------------------------------------------

    def _fact_tables(self) -> list[At]:
        referrers: dict[At, list[At]] = {at: [] for at in self._contracts}
        for at in self._contracts:
            for r in self._references(at):
                referrers[r.at].append(at)
        facts = {at for at in self._contracts if self._is_fact(at, referrers[at])}
        for at in self._contracts:
            if at in facts:
                continue
            parents = [
                r for r in self._references(at) if r.at in facts and self._is_detail_of(at, r.at)
            ]
            key = set(self._contracts[at].table.key)
            parents.sort(key=lambda r: (not set(r.columns) <= key, r.columns))
            self._candidates[at].parent = next(iter(parents), None)
        facts |= {at for at, one in self._candidates.items() if one.parent is not None}
        return [at for at in self._contracts if at in facts]

    def _is_fact(self, at: At, referrers: list[At]) -> bool:
        candidate, links = self._candidates[at], self._references(at)
        is_lookup = bool(referrers) and not any(self._is_detail_of(r, at) for r in referrers)
        if candidate.event is None or (not links and (referrers or not candidate.measures)):
            return False
        if candidate.rank >= 3:
            return not is_lookup and bool(candidate.measures and links)
        return candidate.rank == 1 or not is_lookup

    def _is_detail_of(self, at: At, parent: At) -> bool:
        """Whether rows of a table are details of those of another, such as order lines."""
        candidate, key = self._candidates[at], set(self._contracts[at].table.key)
        if candidate.event is not None and candidate.rank <= 3:
            return False
        references = self._references(at)
        first = next((r for r in references if r.at == parent), None)
        if first is None:
            return False
        return bool(candidate.measures) or (set(first.columns) <= key and len(references) > 1)

    # -- dimensions ---------------------------------------------------------

    def _dimension(self, at: At, name: str, facts_at: list[At]) -> Dimension:
        base = self._contracts[at]
        key = _key(base)
        taken = {f"{name.removeprefix('dim_')}_key", *RESERVED, *base.key}
        attributes = [
            _attribute(base, one, "t", one.name, taken)
            for one in base.fields
            if one.name not in base.key and not one.is_audit
        ]
        joins: list[Join] = []
        for join in self._folds(base, "t", None, {at, *facts_at}, joins):
            prefix = _role(join.on, join.contract)
            for one in join.contract.fields:
                if one.name in join.contract.key or one.is_audit or join.contract.is_link(one):
                    continue
                full = one.name if one.name.startswith(prefix) else f"{prefix}_{one.name}"
                full = shorten(full, 58)
                attributes.append(_attribute(join.contract, one, join.alias, full, taken))
        texts = [a.name for a in attributes if a.type in ("text", "character varying")]
        named = [one for one in texts if re.search(r"(name|title|label)$", one)]
        # A family name identifies people, a given name does not.
        labels = [*(n for n in named if "first" not in n), *named, *texts]
        return Dimension(name, base, key, tuple(joins), tuple(attributes), next(iter(labels), None))

    def _folds(
        self, base: Contract, alias: str, parent: Join | None, closed: set[At], made: list[Join]
    ) -> Iterator[Join]:
        """Add the lookup tables along the foreign keys to `made`, and yield each."""
        for reference in self._references(base.at):
            if reference.at in closed:
                continue
            target = self._contracts[reference.at]
            join = Join(f"j{len(made) + 1}", target, self._pairs(reference, base, alias), parent)
            made.append(join)
            yield join
            if join.depth < _FOLD_DEPTH:
                yield from self._folds(target, join.alias, join, closed | {reference.at}, made)

    # -- facts --------------------------------------------------------------

    def _fact(self, at: At, name: str) -> Fact:
        base, candidate = self._contracts[at], self._candidates[at]
        joins: tuple[Join, ...] = ()
        origin, alias, column = base, "t", candidate.event
        if candidate.parent is not None:
            origin, alias = self._contracts[candidate.parent.at], "p"
            joins = (Join("p", origin, self._pairs(candidate.parent, base, "t"), None),)
            column = self._candidates[origin.at].event
        assert column is not None
        at_event = origin.field(column.name)
        assert at_event is not None
        taken = {*RESERVED, *base.key}
        event, note = _event(at_event, alias, taken)
        if candidate.rank > 1 and not joins:
            note = "; ".join(filter(None, ["which column is the time of the event", note]))
        lookups, fields = self._lookups([(base, "t"), *((j.contract, "p") for j in joins)], taken)
        dates, date_lookups = _dates(
            [(at_event, alias), *((f, "t") for f in base.fields if f is not at_event)],
            at_event, taken,
        )  # fmt: skip
        links = {a.expression for a in fields}
        details, measures = [], []
        for one in base.fields:
            value = f"t.{quoted(one.name)}"
            if one.name in base.key or one.column is None or one.is_audit or value in links:
                continue
            if one is at_event or one.column.category == "D":
                continue
            if one.column.name in candidate.measures:
                free = unique(one.name, taken)
                measures.append(Attribute(free, value, one.type, f"Measure: {one.comment}"))
            elif not _LONG_TEXT.search(one.name):
                free = unique(one.name, taken)
                details.append(Attribute(free, value, one.type, one.comment))
            else:
                continue
            taken.add(free)
        count = unique(f"{name.removeprefix('fact_')}_count", taken)
        measures.append(Attribute(count, "1", "integer", "Measure: 1, to be counted."))
        known = {*base.key, *(d.name for d in details)}
        return Fact(
            name, base, _key(base), joins, event, note,
            tuple(a for a in fields if a.name not in known),
            dates, (*lookups, *date_lookups), tuple(details), tuple(measures),
        )  # fmt: skip

    def _lookups(
        self, owners: list[tuple[Contract, str]], taken: set[str]
    ) -> tuple[list[Lookup], list[Attribute]]:
        """Return the keys of dimensions, and the columns of the view that find them."""
        lookups: list[Lookup] = []
        fields: dict[str, Attribute] = {}
        for owner, alias in owners:
            for reference in self._references(owner.at):
                dimension = self._dimensions.get(reference.at)
                if dimension is None:
                    continue
                pairs = self._pairs(reference, owner, alias)
                columns = []
                for _, one, _ in pairs:
                    name = one if alias == "t" else f"{singular(owner.name)}_{one}"
                    value = f"{alias}.{quoted(one)}"
                    fields.setdefault(name, Attribute(name, value, owner.named(one).type))
                    columns.append(name)
                role = unique(f"{_role(pairs, dimension.base)}_key", taken)
                taken.add(role)
                comment = f"{words(role.removesuffix('_key'))}, in the version valid at the event."
                lookups.append(
                    Lookup(role, dimension, tuple(columns), -1, comment, reference.is_guess)
                )
        return lookups, list(fields.values())


def _candidate(contract: Contract) -> _Candidate:
    table = contract.table
    stem = snake(singular(table.name.split("_")[-1]))[:4]
    linked = {c for r in table.references for c in r.columns} | set(table.key)
    found = _Candidate()
    for column in table.columns:
        name = snake(column.name)
        is_number = column.category == "N" and not re.match(r"oid|reg", column.base_type)
        if is_number and column.name not in linked and not _NO_MEASURE.search(name):
            found.measures.append(column.name)
        if column.category != "D" or column.base_type.startswith("time "):
            continue
        if _NO_EVENT.search(name) or not contract.field(column.name):
            continue
        if _LATE.search(name):
            rank = 4
        elif stem in name or name in ("date", "day", "at", "ts", "time", "timestamp", "moment"):
            rank = 1
        else:
            rank = 2 if column.is_not_null else 3
        if rank < found.rank:
            found.event, found.rank = column, rank
    return found


def _key(base: Contract) -> tuple[Attribute, ...]:
    fields = [base.named(name) for name in base.key]
    return tuple(Attribute(f.name, f"t.{quoted(f.name)}", f.type, f.comment) for f in fields)


def _attribute(contract: Contract, one: Field, alias: str, name: str, taken: set[str]) -> Attribute:
    free = unique(name, taken)
    taken.add(free)
    scd_type = 1 if _TYPE_1.search(one.name) else 2
    value = f"{alias}.{quoted(one.name)}"
    return Attribute(free, value, one.type, one.comment, scd_type, contract.is_personal(one))


def _role(pairs: Pairs, target: Contract) -> str:
    """Return what a referenced row is to the row that refers to it, such as ship_via."""
    if len(pairs) == 1:
        stem = re.sub(r"_(id|no|nr|code|key|number)$|(?<=[a-z])id$", "", pairs[0][1])
        if stem and stem not in ("id", "code"):
            return stem
    return singular(target.name)


def _event(one: Field, alias: str, taken: set[str]) -> tuple[Attribute, str]:
    """Return the time of the event, and what to review about it."""
    stem = _TIME_SUFFIX.sub("", one.name)
    name = unique(f"{stem}_at" if stem != "date" else "happened_at", taken)
    taken.add(name)
    value = f"{alias}.{quoted(one.name)}"
    if not one.type.endswith("with time zone"):
        value += "::timestamp" if one.type == "date" else ""
        value += f" AT TIME ZONE {_ZONE}"
    comment = "Time of the event."
    if one.column is not None and one.column.is_not_null:
        return Attribute(name, value, WITH_ZONE, comment), ""
    note = "rows without a time of the event find the first versions"
    return Attribute(name, f"coalesce({value}, '-infinity')", WITH_ZONE, comment), note


def _dates(
    fields: list[tuple[Field, str]], at_event: Field, taken: set[str]
) -> tuple[tuple[Attribute, ...], list[Lookup]]:
    """Return the dates of a fact, and the keys of the calendar that they find."""
    dates: list[Attribute] = []
    lookups: list[Lookup] = []
    for one, alias in fields:
        if one.column is None or one.column.category != "D":
            continue
        if one.is_audit and one is not at_event:
            continue
        if one.type.startswith("time "):
            continue
        stem = _TIME_SUFFIX.sub("", one.name)
        stem = "event" if stem == "date" else stem
        day = unique(f"{stem}_on", {*taken, *(d.name for d in dates)})
        value = f"{alias}.{quoted(one.name)}"
        if one.type.endswith("with time zone"):
            value = f"({value} AT TIME ZONE {_ZONE})::date"
        elif one.type != "date":
            value += "::date"
        dates.append(Attribute(day, value, "date"))
        role = unique(f"{stem}_date_key", taken)
        taken.add(role)
        comment = f"Date: {words(stem)}" + ("." if one is at_event else "; -2 while there is none.")
        lookups.append(Lookup(role, None, (day,), -1 if one is at_event else -2, comment))
    return tuple(dates), lookups
