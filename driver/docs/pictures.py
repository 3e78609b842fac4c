"""The pictures of a warehouse: boxes and lines, without places.

The page lays them out with ELK in the browser (templates/draw.js), Markdown with Mermaid.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

from base import output
from base.output import plural
from driver.docs.catalog import Catalog, Column, Fact, Layer, Name, Object, Relation, Task
from driver.docs.lineage import Lineage, Node

_SHORT_TYPES = {
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
    "character varying": "varchar",
    "double precision": "float8",
}
# What the engine does to reach a layer.
STEPS = {
    "delta": "extract",
    "stage": "merge",
    "work": "transform",
    "dwh": "load",
    "kpi": "summarize",
}
_MARKS = {"succeeded": "✓", "failed": "✗", "running": "…", "skipped": "-", "pending": "·"}
_HOUSEKEEPING = ("valid_from", "valid_to", "is_current", "run_id", "is_deleted")


@dataclass(frozen=True)
class Row:
    """A column within a box.

    Attributes:
        type: SQL type.
        mark: in front of the name, such as 'PK'.
        note: at the right.
        style: classes of the page.
        title: tooltip.
    """

    name: str
    type: str = ""
    mark: str = ""
    note: str = ""
    style: str = ""
    title: str = ""


@dataclass(frozen=True)
class Box:
    """A table, a task, or a group of them.

    Attributes:
        over: small line above the title.
        note: small line below the title.
        link: id of the element of the page that the title leads to.
        style: classes of the page.
        column: place from the left; lines between boxes of a column divide it further.
    """

    id: str
    title: str
    rows: tuple[Row, ...] = ()
    over: str = ""
    note: str = ""
    link: str = ""
    style: str = ""
    column: int | None = None


@dataclass(frozen=True)
class Line:
    """A line from one box to another, or from one row to another.

    Attributes:
        start_end, end_end: cardinality ('one', 'maybe', 'many'), 'arrow', or nothing.
    """

    start: str
    end: str
    start_row: str = ""
    end_row: str = ""
    style: str = "flow"
    label: str = ""
    start_end: str = ""
    end_end: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes:
        description: for those who cannot see it.
        headings: of the columns, from the left.
    """

    id: str
    title: str
    description: str
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    headings: tuple[str, ...] = ()

    def upstream(self, box: str) -> Picture:
        """Return the part of the picture that leads to a box."""
        found, waiting = set(), [box]
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting += [line.start for line in self.lines if line.end == one]
        return replace(
            self,
            boxes=tuple(one for one in self.boxes if one.id in found),
            lines=tuple(one for one in self.lines if one.end in found),
        )


def short_type(name: str) -> str:
    """Return a type in its short form."""
    for long, short in _SHORT_TYPES.items():
        name = name.replace(long, short)
    return name


def common_columns(relations: Iterable[Relation]) -> list[str]:
    """Return the columns that most tables have, which a picture leaves out."""
    tables = list(relations)
    counts = Counter(
        column.column
        for table in tables
        for column in table.columns
        if not (column.is_key or column.is_reference)
    )
    return [name for name, count in counts.items() if count > 2 and count >= 0.6 * len(tables)]


def flow_layers(catalog: Catalog) -> list[Layer]:
    """Return the layers that data flows through, in order."""
    return [layer for layer in catalog.layers if layer.position <= 7]


def counts(catalog: Catalog, layer: Layer) -> list[str]:
    """Return how many relations of each kind a layer has."""
    kinds = Counter(relation.kind for relation in catalog.of(layer.schema))
    return [plural(count, kind) for kind, count in kinds.most_common()]


def layers(catalog: Catalog) -> Picture:
    """Return the layers as a chain, driven by the engine."""
    chain = flow_layers(catalog)
    boxes = [
        Box(
            one.schema,
            one.schema,
            note=" and ".join(sorted({f"{it.kind}s" for it in catalog.of(one.schema)})),
        )
        for one in chain
    ]
    lines = [
        Line(one.schema, two.schema, label=STEPS.get(two.schema, ""))
        for one, two in pairwise(chain)
    ]
    boxes.append(Box("etl", "etl", note="catalog, runs, queue"))
    lines += [
        Line("etl", one.schema, style="flow wait-end") for one in chain if one.schema in STEPS
    ]
    return Picture("layers-flow", "Layers", "Data flow between layers.", tuple(boxes), tuple(lines))


# -- ER diagrams ----------------------------------------------------------------------------------


def operational(catalog: Catalog, schema: str) -> Picture:
    """Return the ER diagram of an operational schema."""
    tables = catalog.tables(schema)
    common = set(common_columns(tables))
    names = {table.name for table in tables}
    references = [one for one in catalog.references if {one.child, one.parent} <= names]
    return Picture(
        f"er-{schema}",
        f"Tables of {schema}",
        f"{plural(len(tables), 'table')}, {plural(len(references), 'reference')} between them.",
        tuple(
            Box(
                str(table.name),
                table.object,
                tuple(_entity(one) for one in table.columns if one.column not in common),
                link=str(table.name),
                style="layer-1",
            )
            for table in tables
        ),
        tuple(
            Line(
                str(one.parent),
                str(one.child),
                one.parent_columns[0],
                one.columns[0],
                "reference",
                ", ".join(one.columns),
                "maybe" if one.is_optional else "one",
                "maybe" if one.is_unique else "many",
            )
            for one in references
        ),
    )


def _entity(column: Column) -> Row:
    type_ = short_type(column.type)
    return Row(
        column.column,
        type_,
        "PK" if column.is_key else "FK" if column.is_reference else "",
        type_ + ("?" if column.is_nullable else ""),
        "key" if column.is_key else "",
        column.comment or "",
    )


def star(catalog: Catalog, fact: Fact) -> Picture:
    """Return one star: a fact between its dimensions."""
    relation = catalog.relations[fact.name]
    middle = Box(
        fact.fact,
        fact.fact,
        tuple(
            Row(
                column.column,
                short_type(column.type),
                _fact_mark(fact, column),
                short_type(column.type),
                "key" if column.is_key else "measure" if column.column in fact.measures else "",
                column.comment or "",
            )
            for column in relation.columns
            if column.column not in _HOUSEKEEPING
        ),
        link=str(fact.name),
        style="fact",
        column=1,
    )
    roles: dict[str, list[str]] = defaultdict(list)
    for column in relation.columns:
        if column.column in fact.roles:
            roles[fact.roles[column.column]].append(column.column)
    boxes = {name: _dimension(catalog, name) for name in roles}
    by_table = {one.name: one for one in catalog.facts.values()}
    for one in catalog.references:
        if one.child == fact.name and one.parent in by_table and one.parent != fact.name:
            other = by_table[one.parent].fact
            boxes[other] = Box(other, other, link=str(one.parent), style="fact")
            roles[other] = [one.columns[0]]
    # Boxes, in their order, in two columns of about the same height.
    total, height = sum(len(box.rows) + 2 for box in boxes.values()), 0
    lines = []
    for name, box in boxes.items():
        own = len(box.rows) + 2
        is_left = not height or height + own / 2 <= total / 2
        height += own
        boxes[name] = replace(box, column=0 if is_left else 2)
        key = catalog.dimensions[name].surrogate_key if name in catalog.dimensions else ""
        for role in roles[name]:
            line = Line(name, fact.fact, key, role, "reference", role, "one", "many")
            if not is_left:
                line = Line(fact.fact, name, role, key, "reference", role, "many", "one")
            lines.append(line)
    return Picture(
        f"star-{fact.fact}",
        f"Star of {fact.fact}",
        f"{fact.fact} with {', '.join(roles)}.",
        (middle, *boxes.values()),
        tuple(lines),
    )


def _fact_mark(fact: Fact, column: Column) -> str:
    if column.column in fact.measures:
        return "Σ"
    return "PK" if column.is_key else "FK" if column.column in fact.roles else ""


def _dimension(catalog: Catalog, name: str) -> Box:
    """Return a dimension without the columns that every dimension has."""
    dimension = catalog.dimensions[name]
    rows = []
    for column in catalog.relations[dimension.name].columns:
        if column.column in _HOUSEKEEPING:
            continue
        mark = "PK" if column.column == dimension.surrogate_key else ""
        if column.column in dimension.business_key:
            mark = "BK"
        note = "history" if dimension.types.get(column.column) == 2 else ""
        rows.append(
            Row(
                column.column,
                short_type(column.type),
                mark,
                note,
                "key" if mark == "PK" else note,
                column.comment or "",
            )
        )
    return Box(name, name, tuple(rows), link=str(dimension.name), style="dimension")


# -- flows ----------------------------------------------------------------------------------------


def table_flow(catalog: Catalog, lineage: Lineage) -> Picture:
    """Return which table derives from which, over all layers, without the engine's own."""
    edges = set()
    for name, relation in catalog.relations.items():
        if catalog.position(name) > 7 or name.schema == "delta":
            continue
        for column in relation.columns:
            for origin in lineage.origins(Node(name, column.column)):
                other = origin.node.relation
                # The contract's own relations, such as the tombstones, feed nothing.
                if (
                    other != name
                    and catalog.position(other) <= 7
                    and all(
                        it.schema != "source" or it.name in catalog.sources for it in (other, name)
                    )
                ):
                    edges.add((other, name))
    names = sorted({one for edge in edges for one in edge})
    return Picture(
        "table-flow",
        "What each table derives from",
        f"{len(names)} tables and views, "
        f"{plural(len(edges), 'line')} from each to what derives from it.",
        tuple(
            Box(
                str(name),
                name.name,
                link=str(name),
                style=f"chip layer-{catalog.position(name)}",
                column=0 if catalog.position(name) == 1 else None,
            )
            for name in names
        ),
        tuple(Line(str(one), str(two)) for one, two in sorted(edges)),
    )


def needed_edges(catalog: Catalog) -> list[tuple[str, str, str]]:
    """Return the edges (predecessor, task, wait_for) that no longer path implies."""
    after: dict[str, set[str]] = defaultdict(set)
    for edge in catalog.edges:
        after[edge.predecessor].add(edge.task)
    reached: dict[str, set[str]] = {}

    def reach(task: str) -> set[str]:
        if task not in reached:
            reached[task] = set()
            for one in after[task]:
                reached[task] |= {one} | reach(one)
        return reached[task]

    return [
        (edge.predecessor, edge.task, edge.wait_for)
        for edge in catalog.edges
        if not any(edge.task in reach(one) for one in after[edge.predecessor] - {edge.task})
    ]


def task_note(task: Task) -> str:
    """Return the result of a task in the last run, in a few characters."""
    if task.status in ("never", "pending", "skipped"):
        return "not run" if task.status == "never" else task.status
    rows = task.inserted + task.updated + task.deleted
    rows = rows or (task.read if task.kind == "extract" else 0)
    result = f"{rows:,} row{'s' if rows != 1 else ''}" if rows else "no change"
    return f"{output.seconds(task.seconds)} · {'failed' if task.status == 'failed' else result}"


def tasks(catalog: Catalog) -> Picture:
    """Return the task graph with the result of each task in the last run."""
    kinds = list(dict.fromkeys(task.kind for task in catalog.tasks))
    return Picture(
        "task-graph",
        "Tasks",
        f"{plural(len(catalog.tasks), 'task')} in the order in which they wait for each other.",
        tuple(
            Box(
                task.name,
                task.object,
                note=f"{_MARKS.get(task.status, '')} {task_note(task)}".strip(),
                link=f"task-{task.name}",
                style=f"task status-{task.status}",
                column=kinds.index(task.kind),
            )
            for task in catalog.tasks
        ),
        tuple(
            Line(one, two, style=f"flow wait-{wait_for}")
            for one, two, wait_for in needed_edges(catalog)
        ),
        tuple(kinds),
    )


_KINDS = ("source", "dimension", "fact", "aggregate")
_STATES = {"loaded": "succeeded", "full refresh requested": "pending", "not loaded": "never"}


def initial_state(catalog: Catalog) -> Picture:
    """Return what is created in which order, with its state: migrations, engine, objects."""
    migrations = _migrations(catalog)
    control = Box(
        "control tables",
        "etl",
        note=", ".join(
            (plural(len(catalog.tables("etl")), "table"), plural(len(catalog.tasks), "task"))
        ),
        link="schema-etl",
        style="task status-succeeded",
        column=1,
    )
    chain = [*migrations, control]
    lines = [Line(one.id, two.id, end_end="arrow") for one, two in pairwise(chain)]
    boxes = []
    for one in catalog.objects.values():
        boxes.append(_object(catalog, one))
        above = [name for name in one.upstream if name in catalog.objects]
        if one.kind == "fact":
            dimensions = [name for name in above if catalog.objects[name].kind != "source"]
            roles = catalog.facts[one.object].roles.values() if one.object in catalog.facts else ()
            above = list(dict.fromkeys([*dimensions, *roles])) or above
        lines += [Line(name, one.object) for name in above or ["control tables"]]
    return Picture(
        "initial-state",
        "Initial state",
        "Migrations create the control tables; declarations create the objects in this order: "
        "calendar, mirrors, dimensions, facts, aggregates.",
        (*chain, *boxes),
        tuple(lines),
        (
            "1. migrations" if migrations else "",
            "2. control tables",
            "3. calendar",
            "4. mirrors",
            "5. dimensions, side by side",
            "6. facts",
            "7. aggregates",
        ),
    )


def _migrations(catalog: Catalog) -> list[Box]:
    """Return the applied migrations, a box per folder."""
    folders: dict[str, list[Row]] = defaultdict(list)
    for one in catalog.migrations:
        applied = f"{one.applied_at:%Y-%m-%d}"
        folders[one.folder].append(Row(one.migration, note=applied, title=f"applied {applied}"))
    return [
        Box(f"migrations of {folder}", folder, tuple(rows), style="layer-9", column=0)
        for folder, rows in folders.items()
    ]


def _object(catalog: Catalog, one: Object) -> Box:
    is_loaded_by_a_task = one.state in _STATES
    return Box(
        one.object,
        one.object,
        note=one.state + (f" · {one.rows:,} rows" if one.rows else ""),
        link=_entry(catalog, one.object),
        style=f"task status-{_STATES.get(one.state, 'succeeded')}",
        column=3 + _KINDS.index(one.kind) if is_loaded_by_a_task else 2,
    )


def _entry(catalog: Catalog, object_: str) -> str:
    """Return the entry of an object's table in the dictionary."""
    for schema in ("dwh", "stage"):
        if Name(schema, object_) in catalog.relations:
            return f"{schema}.{object_}"
    return ""


def lineage_of(catalog: Catalog, lineage: Lineage, node: Node) -> Picture:
    """Return where a column comes from, column by column."""
    upstream = lineage.upstream(node)
    columns: dict[Name, set[str]] = defaultdict(set)
    for one in upstream:
        columns[one.relation].add(one.column)
    return Picture(
        f"lineage-{node}",
        f"Where {node} comes from",
        "It comes from " + ", ".join(str(leaf) for leaf in lineage.leaves(node)) + ".",
        tuple(
            Box(
                str(name),
                name.name,
                tuple(
                    Row(
                        column.column,
                        style="target" if Node(name, column.column) == node else "",
                        title=column.comment or "",
                    )
                    for column in catalog.relations[name].columns
                    if column.column in found
                ),
                over=name.schema,
                link=str(name),
                style=f"small layer-{catalog.position(name)}",
                column=0 if name.schema in catalog.operational else None,
            )
            for name, found in columns.items()
        ),
        tuple(
            Line(
                str(origin.node.relation),
                str(one.relation),
                origin.node.column,
                one.column,
                f"how-{origin.how.replace(' ', '-')}",
            )
            for one, origins in upstream.items()
            for origin in origins
            if origin.node.relation != one.relation
        ),
    )


def named(catalog: Catalog) -> dict[str, Callable[[], Picture]]:
    """Return the pictures that a Markdown file can mark, by name."""
    found: dict[str, Callable[[], Picture]] = {"data flow": lambda: layers(catalog)}
    for schema in catalog.operational:
        found[schema] = lambda schema=schema: operational(catalog, schema)  # type: ignore[misc]
    for fact in catalog.facts.values():
        found[fact.fact] = lambda fact=fact: star(catalog, fact)  # type: ignore[misc]
    return found
