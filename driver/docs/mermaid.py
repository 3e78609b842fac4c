"""The pictures as Mermaid text, which GitHub and many editors draw."""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import pairwise

from driver.docs.catalog import Catalog, Column, Fact, Name
from driver.docs.diagrams import (
    common_columns,
    flow_layers,
    needed_edges,
    short_type,
    tables_of,
    task_note,
)
from driver.docs.lineage import Lineage, Node

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HOUSEKEEPING = ("valid_from", "valid_to", "is_current", "run_id", "is_deleted")


def _name(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else '"' + name.replace('"', "'") + '"'


def _type(name: str) -> str:
    """Return a type as Mermaid takes it: one word, without precision."""
    return re.sub(r"[^A-Za-z0-9_\[\]]", "_", re.sub(r"\(.*?\)", "", short_type(name)))


def _attribute(column: Column, mark: str = "", note: str = "") -> str:
    name = re.sub(r"[^A-Za-z0-9_]", "_", column.name)
    told = f' "{note}"' if note else ""
    return f"        {_type(column.type)} {name}{' ' + mark if mark else ''}{told}"


def operational(catalog: Catalog, schema: str) -> str:
    """Return the ER diagram of an operational schema."""
    tables = tables_of(catalog, schema)
    common = set(common_columns(tables))
    names = {table.name for table in tables}
    lines = ["erDiagram"]
    for one in catalog.references:
        if one.child in names and one.parent in names:
            parent_end = "|o" if one.is_optional else "||"
            child_end = "o|" if one.is_unique else "o{"
            label = ", ".join(one.columns)
            lines.append(
                f"    {_name(one.parent.name)} {parent_end}--{child_end} "
                f'{_name(one.child.name)} : "{label}"'
            )
    for table in tables:
        lines.append(f"    {_name(table.name.name)} {{")
        for column in table.columns:
            if column.name not in common:
                marks = [
                    mark
                    for mark, holds in (("PK", column.is_key), ("FK", column.is_reference))
                    if holds
                ]
                lines.append(_attribute(column, ", ".join(marks)))
        lines.append("    }")
    return "\n".join(lines)


def star(catalog: Catalog, fact: Fact) -> str:
    """Return one star: a fact and its dimensions."""
    lines = ["erDiagram"]
    roles: dict[str, list[str]] = defaultdict(list)
    relation = catalog.relations[fact.table]
    for column in relation.columns:
        if column.name in fact.roles:
            roles[fact.roles[column.name]].append(column.name)
    for dimension, columns in roles.items():
        lines.append(f'    {_name(dimension)} ||--o{{ {_name(fact.name)} : "{", ".join(columns)}"')
    by_table = {one.table: name for name, one in catalog.facts.items()}
    for one in catalog.references:
        if one.child == fact.table and one.parent in by_table and one.parent != fact.table:
            lines.append(
                f"    {_name(by_table[one.parent])} ||--o{{ {_name(fact.name)} : "
                f'"{", ".join(one.columns)}"'
            )
    lines.append(f"    {_name(fact.name)} {{")
    for column in relation.columns:
        if column.name not in _HOUSEKEEPING:
            mark = "PK" if column.is_key else "FK" if column.name in fact.roles else ""
            note = "measure" if column.name in fact.measures else ""
            lines.append(_attribute(column, mark, note))
    lines.append("    }")
    for dimension in roles:
        known = catalog.dimensions[dimension]
        lines.append(f"    {_name(dimension)} {{")
        for column in catalog.relations[known.table].columns:
            if column.name in _HOUSEKEEPING:
                continue
            note = "history" if known.types.get(column.name) == 2 else ""
            if column.name in known.business_key:
                note = "business key"
            lines.append(
                _attribute(column, "PK" if column.name == known.surrogate_key else "", note)
            )
        lines.append("    }")
    return "\n".join(lines)


def flow(catalog: Catalog) -> str:
    """Return the data flow through the layers."""
    lines = ["flowchart LR"]
    chain = flow_layers(catalog)
    for layer in chain:
        kinds = sorted({relation.kind for relation in catalog.of(layer.schema)})
        what = " and ".join(f"{kind}s" for kind in kinds)
        shape = ('[("', '")]') if layer.is_operational else ('["', '"]')
        lines.append(f"    {layer.schema}{shape[0]}{layer.schema}<br/>{what}{shape[1]}")
    steps = {
        "delta": "extract",
        "stage": "merge",
        "work": "transform",
        "dwh": "load",
        "kpi": "sum up",
    }
    for before, after in pairwise(chain):
        label = f"|{steps[after.schema]}|" if after.schema in steps else ""
        lines.append(f"    {before.schema} -->{label} {after.schema}")
    lines.append('    etl["etl<br/>catalog, runs, queue"]')
    driven = " & ".join(one.schema for one in chain if 3 <= one.position <= 6)
    lines.append(f"    etl -. drives .-> {driven}")
    return "\n".join(lines)


def tasks(catalog: Catalog) -> str:
    """Return the task graph with what the last run did."""
    numbers = {task.name: f"t{place}" for place, task in enumerate(catalog.tasks)}
    lines = ["flowchart LR"]
    kinds: dict[str, list[str]] = defaultdict(list)
    for task in catalog.tasks:
        kinds[task.kind].append(
            f'        {numbers[task.name]}["{task.object}<br/>{task_note(task)}"]:::{task.status}'
        )
    for kind, nodes in kinds.items():
        lines += [f"    subgraph {kind}", *nodes, "    end"]
    for before, after, wait_for in needed_edges(catalog):
        arrow = "-->" if wait_for == "success" else "-.->"
        lines.append(f"    {numbers[before]} {arrow} {numbers[after]}")
    lines += [
        "    classDef succeeded stroke:#0b7a4b",
        "    classDef failed stroke:#b3261e,stroke-width:3px",
        "    classDef skipped stroke:#b5521b",
    ]
    return "\n".join(lines)


def made_of(catalog: Catalog, lineage: Lineage, view: Name) -> str:
    """Return the tables that a view is made of, back to the operational ones."""
    edges: set[tuple[Name, Name]] = set()
    for column in catalog.relations[view].columns:
        for node, origins in lineage.upstream(Node(view, column.name)).items():
            edges |= {
                (origin.node.relation, node.relation)
                for origin in origins
                if origin.node.relation != node.relation
            }
    names = sorted({name for edge in edges for name in edge} | {view})
    numbers = {name: f"r{place}" for place, name in enumerate(names)}
    lines = ["flowchart LR"]
    by_schema: dict[str, list[Name]] = defaultdict(list)
    for name in names:
        by_schema[name.schema].append(name)
    for schema, members in by_schema.items():
        lines.append(f"    subgraph {schema}")
        lines += [f'        {numbers[name]}["{name.name}"]' for name in members]
        lines.append("    end")
    lines += [f"    {numbers[one]} --> {numbers[two]}" for one, two in sorted(edges)]
    return "\n".join(lines)
