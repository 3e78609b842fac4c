"""The pieces of diagrams: text, cards and lines as SVG, coloured by the page's style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

CHARACTER = 6.65  # of the page's monospaced font at 11 px, generously
TITLE_CHARACTER = 7.9
OVER_CHARACTER = 6.6
ROW = 18.0
HEAD = 30.0


def number(value: float) -> str:
    """Return a coordinate, as short as it can be."""
    return f"{value:.1f}".rstrip("0").rstrip(".")


def text(x: float, y: float, content: str, style: str = "", anchor: str = "") -> str:
    """Return a line of text.

    Parameters:
        x, y: its base line.
        style: classes.
        anchor: 'end' or 'middle'; otherwise it starts at x.
    """
    attributes = f' class="{style}"' if style else ""
    if anchor:
        attributes += f' text-anchor="{anchor}"'
    return f'<text x="{number(x)}" y="{number(y)}"{attributes}>{escape(content)}</text>'


def path(points: Sequence[tuple[float, float]], style: str, extra: str = "") -> str:
    """Return a line through points: straight through layers, curved between them."""
    (x, y), *rest = points
    data = [f"M{number(x)} {number(y)}"]
    for place, (to_x, to_y) in enumerate(rest):
        if place % 2 == 1 or to_y == y:
            data.append(f"L{number(to_x)} {number(to_y)}")
        else:
            reach = (to_x - x) / 2
            data.append(
                f"C{number(x + reach)} {number(y)} {number(to_x - reach)} {number(to_y)} "
                f"{number(to_x)} {number(to_y)}"
            )
        x, y = to_x, to_y
    return f'<path class="{style}" d="{"".join(data)}"{extra}/>'


@dataclass(frozen=True)
class Row:
    """A line of a card.

    Attributes:
        mark: what stands before the name, such as 'PK'.
        note: what stands at the right, such as the type.
        style: classes.
        title: shown when pointed at.
    """

    name: str
    mark: str = ""
    note: str = ""
    style: str = ""
    title: str = ""


@dataclass
class Card:
    """A table: a title and its columns.

    Attributes:
        over: a small line above the title.
        link: address of what the title leads to.
        style: classes.
        least_width: in pixels, to be as wide as others.
    """

    title: str
    rows: list[Row]
    link: str = ""
    over: str = ""
    style: str = ""
    least_width: float = 0.0

    @property
    def head(self) -> float:
        """Height of the title."""
        return HEAD + (10 if self.over else 0)

    @property
    def mark_width(self) -> float:
        """Width of the column of marks."""
        return 24 if any(row.mark for row in self.rows) else 0

    @property
    def width(self) -> float:
        """Width in pixels."""
        widest = max(
            (
                len(row.name) * CHARACTER
                + (len(row.note) * CHARACTER * 0.94 + 16 if row.note else 0)
                for row in self.rows
            ),
            default=0,
        )
        return max(
            widest + self.mark_width + 22,
            len(self.title) * TITLE_CHARACTER + 24,
            len(self.over) * OVER_CHARACTER + 24,
            self.least_width,
        )

    @property
    def height(self) -> float:
        """Height in pixels."""
        return self.head + (len(self.rows) * ROW + 8 if self.rows else 0)

    def row_at(self, name: str) -> float | None:
        """Return the middle of a row, from the card's upper edge."""
        for place, row in enumerate(self.rows):
            if row.name == name:
                return self.head + 4 + (place + 0.5) * ROW
        return None

    def draw(self, x: float, y: float, extra: str = "") -> str:
        """Return the card as SVG."""
        width, height, head = self.width, self.height, self.head
        parts = [
            f'<g class="card {self.style}" transform="translate({number(x)} {number(y)})"{extra}>',
            f'<rect class="paper" width="{number(width)}" height="{number(height)}" rx="8"/>',
        ]
        title = (text(11, 15, self.over, "over") if self.over else "") + text(
            11, head - 10, self.title, "title"
        )
        shape = (
            f'<path class="head" d="M0 8a8 8 0 0 1 8-8h{number(width - 16)}a8 8 0 0 1 8 8'
            f'v{number(head - 8)}h-{number(width)}z"/>'
            if self.rows
            else f'<rect class="head" width="{number(width)}" height="{number(height)}" rx="8"/>'
        )
        if self.link:
            parts.append(f'<a href="{escape(self.link)}">{shape}{title}</a>')
        else:
            parts.append(shape + title)
        for place, row in enumerate(self.rows):
            base = head + 4 + place * ROW + 13
            line = text(11 + self.mark_width, base, row.name, f"name {row.style}".strip())
            if row.mark:
                line = text(11, base - 0.5, row.mark, "mark") + line
            if row.note:
                line += text(width - 11, base, row.note, "note", "end")
            title_ = f"<title>{escape(row.title)}</title>" if row.title else ""
            parts.append(f'<g class="row">{title_}{line}</g>')
        parts.append("</g>")
        return "".join(parts)


def diagram(
    name: str, title: str, description: str, width: float, height: float, body: Sequence[str]
) -> str:
    """Return a whole picture.

    Parameters:
        name: its id.
        title, description: for those who cannot see it.
        width, height: in pixels, without the margin.
        body: what is in it.
    """
    margin = 8
    full_width, full_height = width + 2 * margin, height + 2 * margin
    box = f"{-margin} {-margin} {number(full_width)} {number(full_height)}"
    return (
        f'<svg class="diagram" id="{escape(name)}" role="group" aria-labelledby="{escape(name)}-t '
        f'{escape(name)}-d" viewBox="{box}" '
        f'style="--w:{number(full_width)}px">'
        f'<title id="{escape(name)}-t">{escape(title)}</title>'
        f'<desc id="{escape(name)}-d">{escape(description)}</desc>{"".join(body)}</svg>'
    )
