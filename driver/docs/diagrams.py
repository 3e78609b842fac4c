"""The pictures of a warehouse, drawn from its catalog."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from html import escape

from driver import output
from driver.docs import layout, svg
from driver.docs.catalog import Catalog, Column, Fact, Layer, Name, Reference, Relation, Task
from driver.docs.layout import Box, Line
from driver.docs.lineage import Lineage, Node
from driver.docs.svg import Card, Row

_SHORT_TYPES = {
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
    "character varying": "varchar",
    "double precision": "float8",
}
# What the engine does between two layers.
_STEPS = {"delta": "extract", "stage": "merge", "work": "transform", "dwh": "load", "kpi": "sum up"}
_MARKS = {"succeeded": "✓", "failed": "✗", "running": "…", "skipped": "-", "pending": "·"}
_HISTORY = ("valid_from", "valid_to", "is_current")


def short_type(name: str) -> str:
    """Return a type in the short form that people write."""
    for long, short in _SHORT_TYPES.items():
        name = name.replace(long, short)
    return name


def anchor(name: Name) -> str:
    """Return the address of a relation's entry in the dictionary."""
    return f"#{name}"


def common_columns(relations: Iterable[Relation]) -> list[str]:
    """Return the columns that nearly all tables have, which a picture leaves out."""
    tables = list(relations)
    counts = Counter(
        column.name
        for table in tables
        for column in table.columns
        if not (column.is_key or column.is_reference)
    )
    return [name for name, count in counts.items() if count > 2 and count >= 0.6 * len(tables)]


def tables_of(catalog: Catalog, schema: str) -> list[Relation]:
    """Return the tables of a schema."""
    return [one for one in catalog.of(schema) if one.kind in ("table", "foreign table")]


# -- ER diagram of the operational system ---------------------------------------------------------


def entity(column: Column, *, with_type: bool = True) -> Row:
    """Return a column as a line of a card."""
    mark = "PK" if column.is_key else "FK" if column.is_reference else ""
    style = "key" if column.is_key else ""
    note = short_type(column.type) if with_type else ""
    if with_type and column.is_nullable:
        note += "?"
    return Row(column.name, mark, note, style, column.comment or "")


def operational(catalog: Catalog, schema: str) -> str:
    """Return the ER diagram of an operational schema."""
    tables = tables_of(catalog, schema)
    common = set(common_columns(tables))
    names = {table.name for table in tables}
    references = [one for one in catalog.references if one.child in names and one.parent in names]
    cards = {
        str(table.name): Card(
            table.name.name,
            [entity(column) for column in table.columns if column.name not in common],
            anchor(table.name),
            style="layer-1",
        )
        for table in tables
    }
    rank = layout.ranks(cards, [(str(one.parent), str(one.child)) for one in references])
    alone = set(cards) - {str(one) for two in references for one in (two.child, two.parent)}
    last = max(rank.values(), default=0)
    boxes = [
        Box(name, card.width, card.height, last if name in alone else rank[name])
        for name, card in cards.items()
    ]
    drawn = [
        (
            one,
            Line(
                str(one.parent),
                str(one.child),
                cards[str(one.parent)].row_at(one.parent_columns[0]),
                cards[str(one.child)].row_at(one.columns[0]),
            ),
        )
        for one in references
        if one.parent != one.child
    ]
    size = layout.place(boxes, [line for _, line in drawn], gap_x=58, gap_y=20)
    body = [_relationship(one, line) for one, line in drawn]
    body += [cards[box.id].draw(box.x, box.y, f' data-node="{escape(box.id)}"') for box in boxes]
    return svg.diagram(
        f"er-{schema}",
        f"Tables of {schema}",
        f"{len(tables)} tables and {len(references)} references between them.",
        size.width,
        size.height,
        body,
    )


def _relationship(one: Reference, line: Line) -> str:
    many = "one-end" if one.is_unique else "many"
    ends = (
        f' marker-start="url(#{"maybe" if one.is_optional else "one"})" marker-end="url(#{many})"'
    )
    edge = f' data-from="{escape(line.start)}" data-to="{escape(line.end)}"'
    return svg.path(line.points, "edge reference", ends + edge)


# -- ER diagrams of the stars ---------------------------------------------------------------------


def star(catalog: Catalog, fact: Fact) -> str:
    """Return one star: a fact in the middle, its dimensions around it."""
    relation = catalog.relations[fact.table]
    middle = Card(
        fact.name,
        [
            _fact_row(fact, column)
            for column in relation.columns
            if column.name not in ("run_id", "is_deleted")
        ],
        anchor(fact.table),
        style="fact",
    )
    sides: dict[str, list[str]] = {}
    for column in relation.columns:
        if column.name in fact.roles:
            sides.setdefault(fact.roles[column.name], []).append(column.name)
    cards = {name: _dimension_card(catalog, name) for name in sides}
    ties = {name: [(role, catalog.dimensions[name].surrogate_key) for role in roles]
            for name, roles in sides.items()}  # fmt: skip
    for other, columns in _fact_references(catalog, fact):
        cards[other] = Card(other, [], anchor(catalog.facts[other].table), style="fact")
        ties[other] = [(columns[0], "")]
    left, right = _halves({name: card.height for name, card in cards.items()})
    boxes = [Box(name, cards[name].width, cards[name].height, 0) for name in left]
    boxes.append(Box("", middle.width, middle.height, 1))
    boxes += [Box(name, cards[name].width, cards[name].height, 2) for name in right]
    lines = []
    for name in (*left, *right):
        for role, key in ties[name]:
            at, key_at = middle.row_at(role), cards[name].row_at(key)
            lines.append(Line(name, "", key_at, at) if name in left else Line("", name, at, key_at))
    size = layout.place(boxes, lines, gap_x=96, gap_y=18)
    body = []
    for line in lines:
        ends = (
            ' marker-start="url(#one)" marker-end="url(#many)"'
            if line.end == ""
            else ' marker-start="url(#many-start)" marker-end="url(#one-end)"'
        )
        edge = f' data-from="{escape(line.start)}" data-to="{escape(line.end)}"'
        body.append(svg.path(line.points, "edge reference", ends + edge))
    for box in boxes:
        card = cards[box.id] if box.id else middle
        body.append(card.draw(box.x, box.y, f' data-node="{escape(box.id)}"'))
    return svg.diagram(
        f"star-{fact.name}",
        f"Star of {fact.name}",
        f"{fact.name} with {', '.join(sides)}.",
        size.width,
        size.height,
        body,
    )


def _fact_row(fact: Fact, column: Column) -> Row:
    mark = "PK" if column.is_key else "FK" if column.name in fact.roles else ""
    style = "key" if column.is_key else "measure" if column.name in fact.measures else ""
    if column.name in fact.measures:
        mark = "Σ"
    return Row(column.name, mark, short_type(column.type), style, column.comment or "")


def _dimension_card(catalog: Catalog, name: str) -> Card:
    """Return a dimension without the columns that every dimension has."""
    dimension = catalog.dimensions[name]
    rows = []
    for column in catalog.relations[dimension.table].columns:
        if column.name in (*_HISTORY, "run_id"):
            continue
        mark = "PK" if column.name == dimension.surrogate_key else ""
        if column.name in dimension.business_key:
            mark = "BK"
        is_history = dimension.types.get(column.name) == 2
        rows.append(
            Row(
                column.name,
                mark,
                "history" if is_history else "",
                "key" if mark == "PK" else "history" if is_history else "",
                column.comment or "",
            )
        )
    return Card(name, rows, anchor(dimension.table), style="dimension")


def _fact_references(catalog: Catalog, fact: Fact) -> list[tuple[str, tuple[str, ...]]]:
    """Return the other facts that a fact's rows belong to."""
    by_table = {one.table: name for name, one in catalog.facts.items()}
    return [
        (by_table[one.parent], one.columns)
        for one in catalog.references
        if one.child == fact.table and one.parent in by_table and one.parent != fact.table
    ]


def _halves(heights: dict[str, float]) -> tuple[list[str], list[str]]:
    """Part cards, in their order, into two columns of about the same height."""
    total = sum(heights.values())
    left: list[str] = []
    height = 0.0
    for name, one in heights.items():
        if left and height + one / 2 > total / 2:
            break
        left.append(name)
        height += one
    return left, [name for name in heights if name not in left]


# -- layers ---------------------------------------------------------------------------------------


def flow_layers(catalog: Catalog) -> list[Layer]:
    """Return the layers that data flows through, in order."""
    return [layer for layer in catalog.layers if layer.position <= 7]


def layers(catalog: Catalog) -> str:
    """Return the layers as a chain of cards."""
    width, gap, height = 128.0, 66.0, 172.0
    body = []
    chain = flow_layers(catalog)
    for place, layer in enumerate(chain):
        x = place * (width + gap)
        if place:
            y = 60
            body.append(
                svg.path([(x - gap + 2, y), (x - 4, y)], "edge flow", ' marker-end="url(#arrow)"')
            )
            step = _STEPS.get(layer.schema)
            if step:
                body.append(svg.text(x - gap / 2, y - 9, step, "step", "middle"))
        body.append(_layer_card(catalog, layer, x, width, height))
    total = len(chain) * (width + gap) - gap
    engine = next((one for one in catalog.layers if one.schema == "etl"), None)
    if engine is not None and len(chain) > 2:
        x = 2 * (width + gap) if catalog.operational else width + gap
        body.append(
            f'<g class="engine"><rect x="{svg.number(x)}" y="{svg.number(height + 26)}" rx="8" '
            f'width="{svg.number(total - x - width - gap)}" height="34"/>'
            + svg.text(x + 12, height + 47, engine.schema, "title")
            + svg.text(
                x + 46, height + 47, f"drives all of it: {len(catalog.tasks)} tasks a run", "note"
            )
            + "</g>"
        )
    return svg.diagram(
        "layers-flow",
        "Layers",
        "Data flows from " + " to ".join(layer.schema for layer in chain) + ".",
        total,
        height + 62,
        body,
    )


def _layer_card(catalog: Catalog, layer: Layer, x: float, width: float, height: float) -> str:
    relations = catalog.of(layer.schema)
    kinds = Counter(relation.kind for relation in relations)
    told = [f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in kinds.most_common()]
    rows = sum(relation.rows or 0 for relation in relations)
    parts = [
        f'<g class="card layer-{layer.position}" transform="translate({svg.number(x)} 0)">',
        f'<a href="#schema-{escape(layer.schema)}"><rect class="paper" width="{width}" '
        f'height="{height}" rx="10"/>',
        f'<path class="head" d="M0 10a10 10 0 0 1 10-10h{width - 20}a10 10 0 0 1 10 10'
        f'v26h-{width}z"/>',
        svg.text(12, 24, layer.schema, "title"),
        "</a>",
    ]
    lines = [*told, f"≈ {rows:,} rows" if rows else ""]
    y = 58.0
    for line in lines:
        if line:
            parts.append(svg.text(12, y, line, "count"))
            y += 17
    y = 112.0
    for line in _wrapped(re.split("[:.,]", layer.comment or "")[0], 17)[:4]:
        parts.append(svg.text(12, y, line, "note"))
        y += 15
    return "".join(parts) + "</g>"


def _wrapped(content: str, width: int) -> list[str]:
    lines = [""]
    for word in content.split():
        if len(lines[-1]) + len(word) + 1 > width and lines[-1]:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


# -- tables and what they are made of -------------------------------------------------------------


def table_edges(catalog: Catalog, lineage: Lineage) -> set[tuple[Name, Name]]:
    """Return which relation is made of which, as (origin, target), without the engine's own."""
    edges = set()
    for name, relation in catalog.relations.items():
        if catalog.position(name) > 7 or name.schema == "delta":
            continue
        for column in relation.columns:
            for origin in lineage.origins(Node(name, column.name)):
                other = origin.node.relation
                if other != name and catalog.position(other) <= 7:
                    edges.add((other, name))
    return edges


def table_flow(catalog: Catalog, lineage: Lineage) -> str:
    """Return which table is made of which, over all layers."""
    edges = table_edges(catalog, lineage)
    # The contract's own relations, such as the tombstones, are not what anything is made of.
    edges = {
        (one, two)
        for one, two in edges
        if all(it.schema != "source" or it.name in catalog.sources for it in (one, two))
    }
    names = sorted({str(one) for edge in edges for one in edge})
    position = {str(one): catalog.position(one) for edge in edges for one in edge}
    ties = [(str(one), str(two)) for one, two in sorted(edges)]
    rank = layout.ranks(names, ties, [name for name in names if position[name] == 1])
    cards = {
        name: Card(name.split(".", 1)[1], [], f"#{name}", style=f"chip layer-{position[name]}")
        for name in names
    }
    for name, card in cards.items():
        card.least_width = max(one.width for it, one in cards.items() if rank[it] == rank[name])
    boxes = [Box(name, card.width, card.height, rank[name]) for name, card in cards.items()]
    lines = [Line(one, two) for one, two in ties]
    size = layout.place(boxes, lines, gap_x=44, gap_y=7)
    body = [
        svg.path(
            line.points,
            "edge flow",
            f' data-from="{escape(line.start)}" data-to="{escape(line.end)}"',
        )
        for line in lines
    ]
    body += [cards[box.id].draw(box.x, box.y, f' data-node="{escape(box.id)}"') for box in boxes]
    return svg.diagram(
        "table-flow",
        "What each table is made of",
        f"{len(names)} tables and views, {len(ties)} lines from each to what is made of it.",
        size.width,
        size.height,
        body,
    )


# -- tasks ----------------------------------------------------------------------------------------


def needed_edges(catalog: Catalog) -> list[tuple[str, str, str]]:
    """Return the edges (predecessor, task, wait_for) that no longer way implies."""
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
    """Return what the last run did to a task, in a few characters."""
    if task.status in ("never", "pending"):
        return "not run" if task.status == "never" else "pending"
    if task.status == "skipped":
        return "skipped"
    changed = sum(task.rows[one] for one in ("inserted", "updated", "deleted"))
    rows = changed or (task.rows["read"] if task.kind == "extract" else 0)
    told = f"{rows:,} row{'s' if rows != 1 else ''}" if rows else "no change"
    if task.status == "failed":
        told = "failed"
    return f"{output.seconds(task.seconds)} · {told}"


def tasks(catalog: Catalog) -> str:
    """Return the task graph with what the last run did to each task."""
    edges = needed_edges(catalog)
    by_name = {task.name: task for task in catalog.tasks}
    # A kind is a column of its own, or several where its tasks wait for one another.
    rank = layout.ranks(
        by_name,
        [(one, two) for one, two, _ in edges if by_name[one].kind == by_name[two].kind],
        by_name,
    )
    kinds = list(dict.fromkeys(task.kind for task in catalog.tasks))
    columns: dict[str, int] = {}
    last = -1
    for kind in kinds:
        ranks_ = sorted({rank[task.name] for task in catalog.tasks if task.kind == kind})
        for task in catalog.tasks:
            if task.kind == kind:
                columns[task.name] = last + 1 + ranks_.index(rank[task.name])
        last += len(ranks_)
    widths = {
        kind: max(
            max(len(task.object) * svg.CHARACTER + 34, len(task_note(task)) * 6.1 + 34)
            for task in catalog.tasks
            if task.kind == kind
        )
        for kind in kinds
    }
    boxes = [Box(task.name, widths[task.kind], 38, columns[task.name]) for task in catalog.tasks]
    lines = [Line(one, two) for one, two, _ in edges]
    size = layout.place(boxes, lines, gap_x=40, gap_y=9)
    top = 26
    body = []
    for (_, _, wait_for), line in zip(edges, lines, strict=True):
        line.points = [(x, y + top) for x, y in line.points]
        body.append(
            svg.path(
                line.points,
                f"edge flow wait-{wait_for}",
                f' data-from="{escape(line.start)}" data-to="{escape(line.end)}"',
            )
        )
    titled: set[str] = set()
    for box in sorted(boxes, key=lambda one: one.rank):
        task = by_name[box.id]
        if task.kind not in titled:
            titled.add(task.kind)
            body.append(svg.text(box.x + 2, 11, task.kind, "kind-title"))
        body.append(_task_box(task, box, top))
    return svg.diagram(
        "task-graph",
        "Tasks",
        f"{len(by_name)} tasks in the order in which they wait for one another.",
        size.width,
        size.height + top,
        body,
    )


def _task_box(task: Task, box: Box, top: float) -> str:
    title = f"{task.name}: {task.status}" + (f", code {task.sqlstate}" if task.sqlstate else "")
    return (
        f'<g class="task status-{task.status}" data-node="{escape(task.name)}" '
        f'transform="translate({svg.number(box.x)} {svg.number(box.y + top)})">'
        f'<a href="#task-{escape(task.name)}"><title>{escape(title)}</title>'
        f'<rect class="paper" width="{svg.number(box.width)}" height="{box.height}" rx="8"/>'
        f'<rect class="bar" width="4" height="{box.height - 12}" x="6" y="6" rx="2"/>'
        + svg.text(18, 16, task.object, "name")
        + svg.text(18, 30, f"{_MARKS.get(task.status, '')} {task_note(task)}".strip(), "note")
        + "</a></g>"
    )


# -- lineage --------------------------------------------------------------------------------------


def lineage_of(catalog: Catalog, lineage: Lineage, node: Node) -> str:
    """Return where a column comes from, column by column and layer by layer."""
    upstream = lineage.upstream(node)
    columns: dict[Name, list[str]] = defaultdict(list)
    for one in upstream:
        columns[one.relation].append(one.column)
    ties = sorted(
        {
            (str(origin.node.relation), str(one.relation))
            for one, origins in upstream.items()
            for origin in origins
            if origin.node.relation != one.relation
        }
    )
    operational_ = [str(one) for one in columns if one.schema in catalog.operational]
    rank = layout.ranks([str(one) for one in columns], ties, operational_)
    cards = {}
    for name, found in columns.items():
        relation = catalog.relations[name]
        order = {column.name: place for place, column in enumerate(relation.columns)}
        cards[str(name)] = Card(
            name.name,
            [
                Row(
                    column,
                    style="target" if Node(name, column) == node else "",
                    title=_comment(relation, column),
                )
                for column in sorted(found, key=lambda one: order.get(one, 0))
            ],
            anchor(name),
            over=name.schema,
            style=f"small layer-{catalog.position(name)}",
        )
    boxes = [Box(name, card.width, card.height, rank[name]) for name, card in cards.items()]
    lines, hows = [], []
    for one, origins in upstream.items():
        for origin in origins:
            if origin.node.relation != one.relation:
                start, end = str(origin.node.relation), str(one.relation)
                lines.append(
                    Line(
                        start,
                        end,
                        cards[start].row_at(origin.node.column),
                        cards[end].row_at(one.column),
                    )
                )
                hows.append(origin.how)
    size = layout.place(boxes, lines, gap_x=30, gap_y=14)
    body = [
        svg.path(
            line.points,
            f"edge how-{how.replace(' ', '-')}",
            f' data-from="{escape(line.start)}" data-to="{escape(line.end)}"',
        )
        for line, how in zip(lines, hows, strict=True)
    ]
    body += [cards[box.id].draw(box.x, box.y, f' data-node="{escape(box.id)}"') for box in boxes]
    return svg.diagram(
        f"lineage-{node}",
        f"Where {node} comes from",
        "It comes from " + ", ".join(str(leaf) for leaf in lineage.leaves(node)) + ".",
        size.width,
        size.height,
        body,
    )


def _comment(relation: Relation, column: str) -> str:
    found = relation.column(column)
    return (found.comment or "") if found else ""
