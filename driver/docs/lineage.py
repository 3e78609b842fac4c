"""Column-level lineage: what every column derives from, back to the operational system.

The engine's catalog describes loads (`etl.lineage_step`). sqlglot parses the definitions of views
and SQL functions; these rules give the origins of each output column.

- A column derives from every column in its expression, also from the conditions of a CASE.
- `count(*)`, or a number summed per row, derives from the key of the relation that the query reads.
- A column of a reference table, which no task loads (a calendar, names of countries), also derives
  from the columns of the join that finds it.
- Conditions of WHERE and joins select rows; they are no origin.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import sqlglot
from sqlglot import exp

from base.errors import UserError
from driver.docs.catalog import Catalog, Definition, Name


class Node(NamedTuple):
    """A column of a relation."""

    relation: Name
    column: str

    def __str__(self) -> str:
        return f"{self.relation}.{self.column}"


@dataclass(frozen=True)
class Origin:
    """What a column is made of, in part.

    Attributes:
        node: the column it comes from.
        how: 'taken' as it is, 'computed', 'counted', or what the engine's load does, such as
            'looked up'.
    """

    node: Node
    how: str


Nodes = frozenset[Node]
_NONE: Nodes = frozenset()


@dataclass
class _Source:
    """A relation within a query: what each of its columns, and each of its rows, is made of.

    Attributes:
        rest: what columns are made of that are not known by name (of a function, say).
        found_by: what its rows are found by, where it is a reference table.
        how: columns that are not taken as they are, where it is a query.
    """

    columns: dict[str, Nodes]
    rows: Nodes = _NONE
    rest: Nodes | None = None
    found_by: Nodes = _NONE
    how: dict[str, str] = field(default_factory=dict)

    def column(self, name: str) -> Nodes | None:
        found = self.columns.get(name, self.rest)
        return None if found is None else found | self.found_by


@dataclass
class _Output:
    """What a query gives.

    Attributes:
        how: of each column, as in `Origin`.
    """

    columns: list[tuple[str, Nodes]]
    rows: Nodes
    how: list[str] = field(default_factory=list)


@dataclass
class _Scope:
    """The relations that a query may name, by alias, and those of the queries around it.

    Attributes:
        rows: what the rows that the query goes over are made of.
    """

    sources: dict[str, _Source]
    ctes: dict[str, _Source]
    outer: _Scope | None = None
    rows: Nodes = _NONE

    def chain(self) -> Iterator[_Scope]:
        scope: _Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.outer


class Lineage:
    """The columns of a warehouse and what each is made of.

    Parameters:
        catalog: the catalog of the database.

    Raises:
        UserError: if the definition of a view cannot be read.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._origins: dict[Node, list[Origin]] = {}
        loaded = {step.target for step in catalog.steps if step.target != step.origin}
        self._references = {
            name
            for name, relation in catalog.relations.items()
            if relation.kind == "table"
            and name not in loaded
            and name.schema not in (*catalog.operational, "etl", "source", "delta")
        }
        self._outputs: dict[tuple[str, Name], _Output] = {}
        steps: dict[Node, list[Origin]] = defaultdict(list)
        for step in catalog.steps:
            steps[Node(step.target, step.column)].append(
                Origin(Node(step.origin, step.origin_column), step.how)
            )
        self._origins.update(steps)
        for kind, name in catalog.definitions:
            if kind == "view" and name.schema != "etl":
                self._read_view(name)

    # -- asking -----------------------------------------------------------------------------------

    def origins(self, node: Node) -> list[Origin]:
        """Return what a column is made of, one step back."""
        return self._origins.get(node, [])

    def upstream(self, node: Node) -> dict[Node, list[Origin]]:
        """Return a column and all that it comes from, with the origins of each."""
        found: dict[Node, list[Origin]] = {}
        waiting = [node]
        while waiting:
            one = waiting.pop(0)
            if one not in found:
                found[one] = self.origins(one)
                waiting.extend(origin.node for origin in found[one])
        return found

    def leaves(self, node: Node) -> list[Node]:
        """Return where a column comes from in the end, in the order of names."""
        return sorted(one for one, origins in self.upstream(node).items() if not origins)

    def is_operational(self, node: Node) -> bool:
        """Return whether a column belongs to the operational system.

        Lineage ends at the foreign tables of a source on another server.
        """
        relation = self._catalog.relations.get(node.relation)
        return node.relation.schema in self._catalog.operational or (
            relation is not None and relation.kind == "foreign table"
        )

    # -- reading ----------------------------------------------------------------------------------

    def _read_view(self, name: Name) -> None:
        output = self._output("view", name)
        for (column, nodes), how in zip(output.columns, output.how, strict=True):
            self._origins[Node(name, column)] = [Origin(one, how) for one in sorted(nodes)]

    def _output(self, kind: str, name: Name) -> _Output:
        """Return what a view or function gives; functions may call one another."""
        if (kind, name) not in self._outputs:
            self._outputs[kind, name] = _Output([], _NONE)  # for one that calls itself
            definition = self._catalog.definitions[kind, name]
            found = self._query(_parse(definition), _Scope({}, {}))
            if definition.columns:
                found.columns = [
                    (column, nodes)
                    for column, (_, nodes) in zip(definition.columns, found.columns, strict=False)
                ]
                found.how = found.how[: len(found.columns)]
            self._outputs[kind, name] = found
        return self._outputs[kind, name]

    def _query(self, query: exp.Expr, outer: _Scope) -> _Output:
        while isinstance(query, exp.Subquery | exp.Paren):
            query = query.this
        ctes = dict(outer.ctes)
        with_ = query.args.get("with_")
        for cte in with_.expressions if with_ else []:
            if with_ and with_.args.get("recursive"):
                ctes[cte.alias] = _Source({}, rest=_NONE)
            output = self._query(cte.this, _Scope({}, ctes, outer))
            ctes[cte.alias] = _named(output, cte.args.get("alias"))
        scope = _Scope({}, ctes, outer)
        if isinstance(query, exp.SetOperation):
            left = self._query(query.left, scope)
            right = self._query(query.right, scope)
            return _Output(
                [
                    (name, nodes | other)
                    for (name, nodes), (_, other) in zip(left.columns, right.columns, strict=True)
                ],
                left.rows | right.rows,
                _united(left, right),
            )
        if isinstance(query, exp.Values):
            return self._values(query, scope)
        if isinstance(query, exp.Select):
            return self._select(query, scope)
        return _Output([], _NONE)

    def _select(self, query: exp.Select, scope: _Scope) -> _Output:
        from_ = query.args.get("from_")
        rows = self._add(from_.this, scope) if from_ is not None else _NONE
        self._join(query.args.get("joins") or [], scope)
        for lateral in query.args.get("laterals") or []:
            self._add(lateral, scope)
        output = _Output([], rows)
        for item in query.expressions:
            if isinstance(item, exp.Star) or (
                isinstance(item, exp.Column) and isinstance(item.this, exp.Star)
            ):
                for name, nodes, how in self._star(item, scope):
                    output.columns.append((name, nodes))
                    output.how.append(how)
                continue
            expression = item.unalias()
            nodes, counted = self._expression(expression, scope, rows)
            bare = _bare(expression)
            if _counts(expression):
                nodes, counted = nodes | rows, True
            how = self._how(bare, scope) if isinstance(bare, exp.Column) else "computed"
            output.columns.append((item.alias_or_name, nodes))
            output.how.append("counted" if counted and nodes == rows else how)
        return output

    def _star(self, item: exp.Expr, scope: _Scope) -> Iterator[tuple[str, Nodes, str]]:
        seen = set()
        table = item.table if isinstance(item, exp.Column) else None
        for alias, source in scope.sources.items():
            if table in (None, "", alias):
                for name in source.columns:
                    if name not in seen:
                        seen.add(name)
                        yield name, source.column(name) or _NONE, source.how.get(name, "taken")

    def _add(self, item: exp.Expr, scope: _Scope) -> Nodes:
        """Add what stands in FROM to the scope; return what its rows are made of."""
        if isinstance(item, exp.Paren):
            return self._add(item.this, scope)
        if isinstance(item, exp.Subquery) and not _is_query(item):
            rows = self._add(item.this, scope)  # joins in brackets
            self._join(item.args.get("joins") or [], scope)
            return rows
        source = self._source(item, scope)
        alias = item.alias_or_name or f"?{len(scope.sources)}"
        if not scope.sources:
            scope.rows = source.rows
        scope.sources[alias] = source
        # Joins that stand in brackets belong to the first table in them.
        self._join(item.args.get("joins") or [], scope)
        return source.rows

    def _source(self, item: exp.Expr, scope: _Scope) -> _Source:
        alias = item.args.get("alias")
        if isinstance(item, exp.Lateral):
            inner = item.this
            if isinstance(inner, exp.Query):
                return _named(self._query(inner, scope), alias)
            return self._function(inner, None, alias, scope)
        if isinstance(item, exp.Subquery):
            return _named(self._query(item.this, scope), alias)
        if isinstance(item, exp.Values):
            return _named(self._values(item, scope), alias)
        if isinstance(item, exp.Table) and isinstance(item.this, exp.Identifier):
            if not item.db:
                for one in scope.chain():
                    if item.name in one.ctes:
                        known = one.ctes[item.name]
                        hows = [known.how.get(name, "taken") for name in known.columns]
                        output = _Output(list(known.columns.items()), known.rows, hows)
                        return _named(output, alias, known.rest)
            return _named(self._table(Name(item.db, item.name)), alias)
        if isinstance(item, exp.Table):
            return self._function(item.this, item.db, alias, scope)
        return self._function(item, None, alias, scope)

    def _table(self, name: Name) -> _Output:
        relation = self._catalog.relations.get(name)
        if relation is None:
            return _Output([], _NONE)
        columns: list[tuple[str, Nodes]] = [
            (column.column, frozenset({Node(name, column.column)})) for column in relation.columns
        ]
        return _Output(columns, self._row_key(name))

    def _row_key(self, name: Name) -> Nodes:
        """Return the columns that stand for the rows of a relation."""
        relation = self._catalog.relations[name]
        key = relation.key
        if name.schema == "source":
            key = tuple(self._catalog.sources.get(name.name, key))
        if key:
            return frozenset(Node(name, column) for column in key)
        if ("view", name) in self._catalog.definitions:
            output = self._output("view", name)
            carried = frozenset(
                Node(name, column)
                for column, nodes in output.columns
                if nodes and nodes <= output.rows
            )
            return carried or output.rows
        return frozenset(Node(name, column.column) for column in relation.columns[:1])

    def _function(
        self, call: exp.Expr, schema: str | None, alias: exp.Expr | None, scope: _Scope
    ) -> _Source:
        known = Name(schema or "", call.name)
        if ("function", known) in self._catalog.definitions:
            return _named(self._output("function", known), alias)
        nodes, _ = self._expression(call, scope, _NONE)
        names = [column.name for column in alias.args.get("columns") or []] if alias else []
        return _Source(dict.fromkeys(names, nodes), rest=nodes)

    def _values(self, values: exp.Expr, scope: _Scope) -> _Output:
        rows = next((one.rows for one in scope.chain() if one.rows), _NONE)
        columns: list[Nodes] = []
        for row in values.expressions:
            cells = row.expressions if isinstance(row, exp.Tuple) else [row]
            for place, cell in enumerate(cells):
                nodes = rows if _counts(cell) else self._expression(cell, scope, _NONE)[0]
                if place == len(columns):
                    columns.append(nodes)
                else:
                    columns[place] |= nodes
        names = [(f"column{place}", nodes) for place, nodes in enumerate(columns, start=1)]
        hows = ["counted" if nodes and nodes == rows else "computed" for nodes in columns]
        return _Output(names, _NONE, hows)

    def _join(self, joins: Iterable[exp.Expr], scope: _Scope) -> None:
        for join in joins:
            before = set(scope.sources)
            self._add(join.this, scope)
            added = [alias for alias in scope.sources if alias not in before]
            if not added:
                continue
            item = join.this
            if not (
                isinstance(item, exp.Table)
                and isinstance(item.this, exp.Identifier)
                and Name(item.db, item.name) in self._references
            ):
                continue
            scope.sources[added[0]].found_by = self._found_by(join, added[0], scope)

    def _found_by(self, join: exp.Expr, alias: str, scope: _Scope) -> Nodes:
        """Return the columns by which the rows of a joined table are found."""
        found: Nodes = _NONE
        for column in join.args.get("using") or []:
            for other, source in scope.sources.items():
                if other != alias and column.name in source.columns:
                    found |= source.columns[column.name]
                    break
        on = join.args.get("on")
        for equal in on.find_all(exp.EQ) if on is not None else []:
            for side, other in ((equal.left, equal.right), (equal.right, equal.left)):
                if isinstance(side, exp.Column) and side.table == alias:
                    nodes, _ = self._expression(other, scope, _NONE)
                    found |= nodes
        return found

    def _expression(
        self, expression: exp.Expr | None, scope: _Scope, rows: Nodes
    ) -> tuple[Nodes, bool]:
        """Return the columns of an expression, and whether it counts rows."""
        if expression is None:
            return _NONE, False
        if isinstance(expression, exp.Column):
            return self._column(expression, scope), False
        if isinstance(expression, exp.Query | exp.Subquery):
            output = self._query(expression, scope)
            return _NONE.union(*(nodes for _, nodes in output.columns)), False
        if isinstance(expression, exp.Exists):
            return self._query(expression.this, scope).rows, True
        if isinstance(expression, exp.Count) and isinstance(expression.this, exp.Star):
            return rows, True
        nodes, counted = _NONE, False
        for child in expression.iter_expressions():
            more, counts = self._expression(child, scope, rows)
            nodes, counted = nodes | more, counted or counts
        return nodes, counted

    def _how(self, column: exp.Column, scope: _Scope) -> str:
        """Return how a column came to be in the query that it is taken from."""
        for one in scope.chain():
            for alias, source in one.sources.items():
                if column.table in ("", alias) and column.name in source.columns:
                    return "looked up" if source.found_by else source.how.get(column.name, "taken")
        return "computed"

    def _column(self, column: exp.Column, scope: _Scope) -> Nodes:
        name, table = column.name, column.table
        for one in scope.chain():
            if table:
                if table in one.sources:
                    return one.sources[table].column(name) or _NONE
                continue
            found = [
                source.column(name) or _NONE
                for source in one.sources.values()
                if name in source.columns or source.rest is not None
            ]
            if found:
                return _NONE.union(*found)
            if name in one.sources:  # a row as a whole
                source = one.sources[name]
                return _NONE.union(source.rest or _NONE, *source.columns.values())
        return _NONE  # a parameter


def _bare(expression: exp.Expr) -> exp.Expr:
    """Return an expression without casts and brackets around it."""
    while isinstance(expression, exp.Cast | exp.Paren):
        expression = expression.this
    return expression


def _counts(expression: exp.Expr) -> bool:
    """Return whether an expression is a number other than zero: its sum counts rows."""
    bare = _bare(expression)
    return isinstance(bare, exp.Literal) and not bare.is_string and float(bare.this) != 0


def _united(left: _Output, right: _Output) -> list[str]:
    """Return how the columns of a union came to be; a side that is a constant has no say."""
    hows = []
    for (_, one), how, (_, two), other in zip(
        left.columns, left.how, right.columns, right.how, strict=True
    ):
        if how == other or not two:
            hows.append(how)
        else:
            hows.append("computed" if one else other)
    return hows


def _is_query(item: exp.Expr) -> bool:
    """Return whether brackets contain a query, not joins."""
    while isinstance(item, exp.Subquery):
        item = item.this
    return isinstance(item, exp.Select | exp.SetOperation | exp.Values)


def _parse(definition: Definition) -> exp.Expr:
    try:
        parsed = sqlglot.parse(definition.query, dialect="postgres")
    except sqlglot.errors.SqlglotError as error:
        raise UserError(
            f"The definition of {definition.name} cannot be read for its lineage.",
            "Please report the view; the other commands are not affected.",
            detail=str(error).splitlines()[0],
        ) from error
    queries = [one for one in parsed if one is not None]
    return queries[-1]


def _named(output: _Output, alias: exp.Expr | None, rest: Nodes | None = None) -> _Source:
    """Return an output as a relation, its columns named as the alias says."""
    names = [column.name for column in (alias.args.get("columns") or [])] if alias else []
    columns = {
        (names[place] if place < len(names) else name): nodes
        for place, (name, nodes) in enumerate(output.columns)
    }
    how = {name: one for name, one in zip(columns, output.how, strict=False) if one != "taken"}
    return _Source(columns, output.rows, rest, how=how)
