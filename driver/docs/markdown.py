"""Pictures and dictionary as Markdown files, and the pictures within a file of one's own."""

from __future__ import annotations

import re
from collections.abc import Callable

from driver.docs import mermaid
from driver.docs.catalog import Catalog, Relation
from driver.docs.lineage import Lineage, Node
from driver.errors import UserError

_BLOCK = re.compile(
    r"(?P<start><!-- picture: (?P<name>[^>]+?) -->\n).*?(?P<end><!-- end of picture -->)", re.DOTALL
)
_MADE = "Made by `oceanrecords docs` from the database and its catalog."


def _fenced(text: str) -> str:
    return f"```mermaid\n{text}\n```"


def _cell(text: str | None) -> str:
    return (text or "").replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def pictures(catalog: Catalog) -> dict[str, Callable[[], str]]:
    """Return the pictures that a file of one's own may have, by name, as Mermaid text."""
    found: dict[str, Callable[[], str]] = {"data flow": lambda: mermaid.flow(catalog)}
    for schema in catalog.operational:
        found[schema] = lambda schema=schema: mermaid.operational(catalog, schema)  # type: ignore[misc]
    for fact in catalog.facts.values():
        found[fact.name] = lambda fact=fact: mermaid.star(catalog, fact)  # type: ignore[misc]
    return found


def refresh(text: str, catalog: Catalog) -> str:
    """Return a Markdown text whose marked pictures are as the database is.

    A picture stands between `<!-- picture: NAME -->` and `<!-- end of picture -->`.

    Raises:
        UserError: if the text marks no picture, or one that there is not.
    """
    known = pictures(catalog)

    def drawn(found: re.Match[str]) -> str:
        name = found["name"].strip()
        if name not in known:
            raise UserError(f"There is no picture '{name}'.", f"Pictures are: {', '.join(known)}.")
        return f"{found['start']}{_fenced(known[name]())}\n{found['end']}"

    refreshed, count = _BLOCK.subn(drawn, text)
    if not count:
        raise UserError(
            "The file marks no picture.",
            "A picture stands between <!-- picture: data flow --> and <!-- end of picture -->.",
        )
    return refreshed


def files(catalog: Catalog, lineage: Lineage) -> dict[str, str]:
    """Return all files by name."""
    made = {
        "README.md": _index(catalog),
        "operational-system.md": _operational(catalog),
        "stars.md": _stars(catalog),
        "tasks.md": _tasks(catalog),
        "lineage.md": _lineage(catalog, lineage),
        "dictionary.md": _dictionary(catalog),
    }
    return {name: text.rstrip() + "\n" for name, text in made.items()}


def _index(catalog: Catalog) -> str:
    lines = ["# The warehouse in pictures", "", _MADE, "", "## Layers", ""]
    lines += [_fenced(mermaid.flow(catalog)), "", "| schema | what it is |", "|---|---|"]
    lines += [f"| `{one.schema}` | {_cell(one.comment)} |" for one in catalog.layers]
    lines += [
        "",
        "## Further pages",
        "",
        "- [Operational system](operational-system.md)",
        "- [Stars](stars.md)",
        "- [Tasks and the last run](tasks.md)",
        "- [Lineage of the key figures](lineage.md)",
        "- [Data dictionary](dictionary.md)",
    ]
    return "\n".join(lines)


def _operational(catalog: Catalog) -> str:
    lines = ["# Operational system", "", _MADE]
    for schema in catalog.operational:
        lines += ["", f"## {schema}", "", _fenced(mermaid.operational(catalog, schema))]
    if not catalog.operational:
        lines += ["", "It is on another server: schema `source` holds foreign tables."]
    return "\n".join(lines)


def _stars(catalog: Catalog) -> str:
    lines = ["# Stars", "", _MADE]
    for fact in catalog.facts.values():
        comment = catalog.relations[fact.table].comment or ""
        lines += ["", f"## {fact.name}", "", comment, "", _fenced(mermaid.star(catalog, fact))]
    return "\n".join(lines)


def _tasks(catalog: Catalog) -> str:
    lines = ["# Tasks", "", _MADE, ""]
    if catalog.run:
        run = catalog.run
        lines += [f"Run {run.run_id}, {run.started_at:%Y-%m-%d %H:%M} UTC: {run.status}.", ""]
    else:
        lines += ["No run has been made yet.", ""]
    lines += [_fenced(mermaid.tasks(catalog)), ""]
    lines += ["| task | status | seconds | read | new | changed | deleted | queued |"]
    lines += ["|---|---|--:|--:|--:|--:|--:|--:|"]
    for task in catalog.tasks:
        seconds = "" if task.seconds is None else f"{task.seconds:.3f}"
        counts = " | ".join(
            f"{task.rows[one]:,}" for one in ("read", "inserted", "updated", "deleted", "queued")
        )
        status = task.status + (f" ({task.sqlstate})" if task.sqlstate else "")
        lines.append(f"| `{_cell(task.name)}` | {status} | {seconds} | {counts} |")
    return "\n".join(lines)


def _lineage(catalog: Catalog, lineage: Lineage) -> str:
    lines = ["# Lineage of the key figures", "", _MADE]
    lines += ["Each column with where it comes from in the end."]
    for relation in catalog.of("kpi"):
        lines += ["", f"## {relation.name}", "", relation.comment or "", ""]
        lines += [_fenced(mermaid.made_of(catalog, lineage, relation.name)), ""]
        lines += ["| column | operational columns | other |", "|---|---|---|"]
        for column in relation.columns:
            leaves = lineage.leaves(Node(relation.name, column.name))
            ours = [str(one) for one in leaves if lineage.is_operational(one)]
            other = [
                str(one)
                for one in leaves
                if not lineage.is_operational(one) and one != Node(relation.name, column.name)
            ]
            cells = [", ".join(f"`{_cell(one)}`" for one in some) for some in (ours, other)]
            lines.append(f"| `{_cell(column.name)}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _dictionary(catalog: Catalog) -> str:
    lines = ["# Data dictionary", "", _MADE]
    for layer in catalog.layers:
        lines += ["", f"## {layer.schema}", "", layer.comment or ""]
        for relation in catalog.of(layer.schema):
            lines += _relation(relation)
        routines = [one for one in catalog.routines if one.name.schema == layer.schema]
        if routines:
            lines += ["", f"### Routines of {layer.schema}", "", "| routine | what it does |"]
            lines += ["|---|---|"]
        for one in routines:
            call = f"{one.name}{one.signature}"
            lines.append(f"| `{_cell(call)}` | {_cell(one.comment)} |")
    return "\n".join(lines)


def _relation(relation: Relation) -> list[str]:
    lines = [
        "",
        f"### {relation.name}",
        "",
        f"{relation.kind.capitalize()}. {relation.comment or ''}",
    ]
    # Only the contract and the stars have one.
    has_sensitivity = any(column.sensitivity for column in relation.columns)
    told = " sensitivity |" if has_sensitivity else ""
    lines += ["", f"| column | type | what it holds |{told}"]
    lines.append("|---|---|---|---|" if told else "|---|---|---|")
    for column in relation.columns:
        mark = " (key)" if column.is_key else ""
        shown = f" {_cell(column.sensitivity)} |" if has_sensitivity else ""
        lines.append(
            f"| `{_cell(column.name)}`{mark} | {_cell(column.type)} | {_cell(column.comment)} |"
            f"{shown}"
        )
    return lines
