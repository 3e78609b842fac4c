"""Pictures as Mermaid text, which GitHub and many editors draw."""

from __future__ import annotations

import re
from collections import defaultdict

from driver.docs.pictures import Box, Picture, Row

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENDS = {"one": ("||", "||"), "maybe": ("|o", "o|"), "many": ("}o", "o{")}
_NOTES = {"Σ": "measure", "BK": "business key"}
_STYLES = (
    "    classDef succeeded stroke:#0b7a4b",
    "    classDef failed stroke:#b3261e,stroke-width:3px",
    "    classDef skipped stroke:#b5521b",
)


def draw(picture: Picture) -> str:
    """Return a picture as Mermaid: tables with keys as an ER diagram, all others as a flowchart."""
    is_er = any(line.style == "reference" for line in picture.lines) or not picture.lines
    return "\n".join(_er(picture) if is_er else _flow(picture))


def _er(picture: Picture) -> list[str]:
    lines = ["erDiagram"]
    titles = {box.id: _name(box.title) for box in picture.boxes}
    ties: dict[tuple[str, str], list[str]] = defaultdict(list)
    for line in picture.lines:
        ends = f"{_ENDS[line.start_end][0]}--{_ENDS[line.end_end][1]}"
        ties[f"{titles[line.start]} {ends}", titles[line.end]].append(line.label)
    lines += [f'    {one} {two} : "{", ".join(labels)}"' for (one, two), labels in ties.items()]
    for box in picture.boxes:
        if box.rows:
            lines += [f"    {titles[box.id]} {{", *map(_attribute, box.rows), "    }"]
    return lines


def _attribute(row: Row) -> str:
    """Return a column; Mermaid takes a type of one word, without precision."""
    type_ = re.sub(r"[^A-Za-z0-9_\[\]]", "_", re.sub(r"\(.*?\)", "", row.type))
    note = _NOTES.get(row.mark) or ("history" if row.style == "history" else "")
    return (
        f"        {type_} {re.sub(r'[^A-Za-z0-9_]', '_', row.name)}"
        + (f" {row.mark}" if row.mark in ("PK", "FK") else "")
        + (f' "{note}"' if note else "")
    )


def _flow(picture: Picture) -> list[str]:
    numbers = {box.id: f"n{place}" for place, box in enumerate(picture.boxes)}
    groups: dict[str, list[Box]] = defaultdict(list)
    for box in picture.boxes:
        heading = picture.headings[box.column or 0] if picture.headings else box.over
        groups[heading].append(box)
    lines = ["flowchart LR"]
    for heading, boxes in groups.items():
        nodes = []
        for box in boxes:
            parts = (box.title, box.note, *(row.name for row in box.rows))
            label = "<br/>".join(_quoted(part) for part in parts if part)
            status = re.search(r"status-(\w+)", box.style)
            nodes.append(f'{numbers[box.id]}["{label}"]' + (f":::{status[1]}" if status else ""))
        if heading:
            nodes = [f'subgraph "{_quoted(heading)}"', *(f"    {one}" for one in nodes), "end"]
        lines += [f"    {one}" for one in nodes]
    for line in picture.lines:
        arrow = "-.->" if "wait-end" in line.style else "-->"
        label = f"|{line.label}|" if line.label else ""
        lines.append(f"    {numbers[line.start]} {arrow}{label} {numbers[line.end]}")
    if any("status-" in box.style for box in picture.boxes):
        lines += _STYLES
    return lines


def _name(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else f'"{_quoted(name)}"'


def _quoted(text: str) -> str:
    return text.replace('"', "'")
