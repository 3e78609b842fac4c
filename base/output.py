"""How answers look: text for people, JSON for programs.

Text from the database is data. Two rules keep it that way: markup is read in this program's own
templates only (`say`), and control characters become visible signs before they reach a terminal.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import zip_longest
from pathlib import Path
from typing import Any, TextIO, TypeVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.text import Text
from rich.theme import Theme

from base.errors import UserError
from base.mode import mode

_THEME = Theme(
    {
        "ok": "green",
        "warn": "yellow",
        "bad": "red",
        "busy": "cyan",
        "quiet": "dim",
        "title": "bold",
        "name": "bold",
    }
)

# A pipe has no width: nothing is wrapped for it.
_WIDTH_OF_A_PIPE = 100_000
# Prose and lists of fields are read by people even when they are in a file.
READABLE_WIDTH = 120
_NARROWEST = 20


# -- characters -----------------------------------------------------------------------------------

# ruff: noqa: RUF001  # these characters are what it is about
# Controls, and the marks that change the direction of what follows.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_GLYPHS = str.maketrans(
    {
        "✓": "v", "✗": "x", "●": "*", "○": "o", "…": "...", "·": ".", "→": "->", "←": "<-",
        "↻": "~", "↺": "~", "├": "|", "└": "`", "─": "-", "—": "-", "–": "-", "│": "|", "’": "'",
        "▁": "_", "▂": ".", "▃": ",", "▄": "-", "▅": "~", "▆": "+", "▇": "*", "█": "#",
        "×": "x", "≥": ">=", "≤": "<=",
    }
)  # fmt: skip


def visible(text: str) -> str:
    """Return text with a sign for each character that a terminal would obey."""
    return _UNSAFE.sub(_sign, text)


def _sign(match: re.Match[str]) -> str:
    number = ord(match[0])
    if number < 0x20:
        return chr(0x2400 + number)
    return "␡" if number == 0x7F else "�"


def one_line(value: object) -> str:
    """Return a value of the data as one line of text."""
    return visible(str(value).replace("\t", " ").replace("\n", "␊"))


def _replace_glyph(error: UnicodeError) -> tuple[str, int]:
    """Give an encoder something that it can write in place of what it cannot."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    replaced = ""
    for character in error.object[error.start : error.end]:
        glyph = character.translate(_GLYPHS)
        replaced += glyph if glyph.isascii() else "?"
    return replaced, error.end


codecs.register_error("oceanrecords.glyph", _replace_glyph)


def _make_printable(stream: TextIO | Any) -> None:
    """Let a stream replace what its encoding lacks, instead of failing."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="oceanrecords.glyph")


_make_printable(sys.stdout)
_make_printable(sys.stderr)

# -- consoles -------------------------------------------------------------------------------------


class HouseConsole(Console):
    """A console that prints data as text."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print; of markup, text may have the styles of this program only."""
        if mode.quiet and not self.stderr:
            return
        shown = (house_markup(one) if isinstance(one, str) else one for one in objects)
        if self.is_terminal:
            options["soft_wrap"] = False  # people read lines that end at spaces
        super().print(*shown, **options)

    def say(self, template: str, *values: object, end: str = "\n", soft_wrap: bool = True) -> None:
        """Print a template of this program, with values of the data in it.

        Parameters:
            template: text with markup, and {} where a value goes.
            values: put there letter for letter, in the style of the place.
            end: what follows.
            soft_wrap: leave the wrapping of long lines to the terminal, so that they can be copied.
        """
        self.print(said(template, *values), end=end, soft_wrap=soft_wrap)

    def render(self, renderable: Any, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render, with a sign for each control character that is not the console's own."""
        for segment in super().render(renderable, options):
            if segment.control is None and _UNSAFE.search(segment.text):
                yield Segment(visible(segment.text), segment.style)
            else:
                yield segment


_TAG = re.compile(r"\[(/|ok|warn|bad|busy|quiet|title|name)\]")


def house_markup(text: str) -> Text:
    """Return text with the styles of this program: [ok]…[/]. All other brackets are text."""
    result = Text()
    styles: list[str] = []
    place = 0
    for match in _TAG.finditer(text):
        if match[1] == "/" and not styles:
            continue
        result.append(text[place : match.start()], styles[-1] if styles else "")
        place = match.end()
        if match[1] == "/":
            styles.pop()
        else:
            styles.append(match[1])
    return result.append(text[place:], styles[-1] if styles else "")


_PLACE = "\ue000"


def said(template: str, *values: object) -> Text:
    """Return a template of this program as text, with values of the data in it (see `say`)."""
    text = house_markup(template.replace("{}", _PLACE))
    result = Text()
    rest = text
    for value in values:
        place = rest.plain.index(_PLACE)
        style = rest.get_style_at_offset(console, place)
        result.append_text(rest[:place])
        if isinstance(value, Text):
            result.append_text(value)
        else:
            result.append(one_line(value), style)
        rest = rest[place + 1 :]
    return result.append_text(rest)


def _console(*, stderr: bool) -> HouseConsole:
    return HouseConsole(theme=_THEME, highlight=False, stderr=stderr, width=_width(stderr))


def _width(stderr: bool) -> int | None:
    """Return the width to print at; None for that of the terminal."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return max(int(given), _NARROWEST)
    stream = sys.stderr if stderr else sys.stdout
    try:
        has_terminal = stream.isatty()
    except (AttributeError, ValueError):
        has_terminal = False
    return None if has_terminal else _WIDTH_OF_A_PIPE


console = _console(stderr=False)
error_console = _console(stderr=True)


def print_indented(line: Text, indent: int, hanging: int = 0) -> None:
    """Print a line behind blanks; where it takes several, all of them are behind blanks.

    Parameters:
        line: what to print.
        indent: blanks in front of the first line.
        hanging: further blanks in front of the others.
    """
    width = max(console.width - indent - hanging, 10)
    for place, part in enumerate(line.wrap(console, width)):
        part.rstrip()
        console.print(Text(" " * (indent + (hanging if place else 0))) + part, no_wrap=True)


def readable_width() -> int:
    """Return the width for prose: that of the terminal, or one that people can read."""
    return min(console.width, READABLE_WIDTH if console.width == _WIDTH_OF_A_PIPE else 10**6)


# -- answers --------------------------------------------------------------------------------------

Answer = TypeVar("Answer")

_SIGNS = {
    "succeeded": "✓", "ok": "✓", "passed": "✓", "failed": "✗", "warning": "!", "error": "!",
    "running": "…", "skipped": "-", "pending": "·",
}  # fmt: skip
_STATUS_STYLE = {
    "succeeded": "ok",
    "ok": "ok",
    "passed": "ok",
    "error": "bad",
    "applied": "ok",
    "running": "busy",
    "live": "busy",
    "partial": "warn",
    "warning": "warn",
    "pending": "quiet",
    "skipped": "warn",
    "interrupted": "warn",
    "failed": "bad",
    "stopped": "quiet",
}


def emit(data: Answer, *, as_json: bool, render: Callable[[Answer], None]) -> None:
    """Answer a command.

    Parameters:
        data: the answer, made of dataclasses, dicts, lists and scalars.
        as_json: print it as JSON on standard output.
        render: otherwise called with the data, to show it to a person.
    """
    if as_json:
        print_json(data)
    else:
        render(data)


def print_json(data: Any, *, as_line: bool | None = None) -> None:
    """Print data as JSON: timestamps in ISO 8601, durations in seconds.

    Parameters:
        data: what to print.
        as_line: as one line; None lets the mode decide.
    """
    in_lines = mode.lines if as_line is None else as_line
    # An encoding other than UTF-8 would lose characters; JSON can escape them.
    encoding = (getattr(console.file, "encoding", None) or "utf-8").lower().replace("-", "")
    text = json.dumps(
        data,
        default=_json_value,
        indent=None if in_lines else 2,
        ensure_ascii=encoding != "utf8",
    )
    text = _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    console.file.write(text + "\n")
    if in_lines:
        console.file.flush()


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        if not value.is_finite():
            return str(value)
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    if hasattr(value, "__dataclass_fields__"):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    return str(value)


# -- tables ---------------------------------------------------------------------------------------

_GAP = 2
_COMFORT = 32  # columns for a text that may take several lines


@dataclass
class _Column:
    """A column of a table.

    Attributes:
        name: the heading.
        is_number: to the right, and never broken.
        wraps: the first to be narrowed.
        style: style of its cells that have none.
    """

    name: str
    is_number: bool
    wraps: bool
    style: str = ""


@dataclass
class Table:
    """A table that never cuts a value.

    At a width that is too small for it, headings and text take several lines; then columns that
    can be spared go; then the table goes on below itself, with its first column again; and at
    last each row becomes a list of fields.

    Attributes:
        title: a line above.
        spare: headings of columns that can be left out, the first to go first.
        indent: blanks in front of each line.
        rows: the cells of each row.
    """

    columns: list[_Column]
    title: str | None = None
    spare: Sequence[str] = ()
    indent: int = 0
    rows: list[list[Text]] = field(default_factory=list)

    def add_row(self, *cells: object) -> None:
        """Add a row of values, each shown as its type asks; what is not given is empty."""
        row = []
        for column, cell in zip_longest(self.columns, cells):
            column.is_number |= is_number(cell)
            row.append(self._cell(cell, column.style))
        self.rows.append(row)

    @staticmethod
    def _cell(cell: object, style: str) -> Text:
        if not isinstance(cell, Text):
            return Text(one_line(shown(cell)), style)
        if "\n" in cell.plain or _UNSAFE.search(cell.plain):
            cell = cell.copy()
            # A sign takes the place of one character, so styles stay where they are.
            cell.plain = one_line(cell.plain)
        return cell

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it for the width that there is."""
        if self.title:
            yield Text(self.title, style="bold")
        width = options.max_width - self.indent
        for lines in self._layout(console, width):
            for line in lines:
                line.rstrip()
                line.no_wrap, line.overflow = True, "ignore"
                yield Text(" " * self.indent) + line if self.indent else line

    @property
    def natural_width(self) -> int:
        """The width at which nothing is broken."""
        wanted = sum(self._natural(place) + _GAP for place in range(len(self.columns))) - _GAP
        return max(wanted, 0) + self.indent

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Any:
        """Measure it as it is drawn."""
        from rich.measure import Measurement

        wanted = min(max(self.natural_width, 1), options.max_width)
        return Measurement(wanted, wanted)

    def _layout(self, console: Console, width: int) -> Iterable[list[Text]]:
        chosen = list(range(len(self.columns)))
        if self.natural_width - self.indent > width:
            said = [place for place in chosen if place == 0 or not self._says_nothing(place)]
            chosen = said if len(said) > 1 else chosen
        # Rather without a column that can be spared than with a text of one word a line; and
        # rather that than without the others.
        for comfort in (_COMFORT, 0):
            left = list(chosen)
            for name in ("", *self.spare):
                left = [place for place in left if not name or self.columns[place].name != name]
                if self._least(left, comfort) <= width:
                    yield self._draw(console, left, width)
                    return
        chosen = [place for place in chosen if self.columns[place].name not in self.spare]
        if len(self.rows) > 1:
            blocks = self._blocks(chosen, width)
            if blocks:
                for number, block in enumerate(blocks):
                    if number:
                        yield [Text("")]
                    yield self._draw(console, block, width)
                return
        yield self._fields(console, width)

    def _natural(self, place: int) -> int:
        column = self.columns[place]
        cells = max((row[place].cell_len for row in self.rows), default=0)
        return max(cells, len(column.name))

    def _minimum(self, place: int) -> int:
        """Return the width below which a value or a word of a column would be broken."""
        column = self.columns[place]
        words = [len(word) for word in _heading(column.name)]
        for row in self.rows:
            cell = row[place]
            if column.is_number:
                words.append(cell.cell_len)
            else:
                words += [Text(word).cell_len for word in cell.plain.split(" ")]
        return max(words, default=0)

    def _least(self, chosen: Sequence[int], comfort: int = 0) -> int:
        total = 0
        for place in chosen:
            least = self._minimum(place)
            if self.columns[place].wraps:
                least = max(least, min(comfort, self._natural(place)))
            total += least + _GAP
        return total - _GAP

    def _says_nothing(self, place: int) -> bool:
        """Return whether a column has only zeros and blanks."""
        return all(row[place].plain in ("", "·") for row in self.rows)

    def _blocks(self, chosen: Sequence[int], width: int) -> list[list[int]]:
        """Return the columns in groups that fit, each led by the first text; none if none fits."""
        named = [place for place in chosen if self.columns[place].name]
        texts = [place for place in named[:2] if not self.columns[place].is_number]
        lead = [*(texts or named or chosen)][:1]
        blocks = [list(lead)]
        for place in chosen:
            if place in lead:
                continue
            if self._least([*blocks[-1], place]) <= width:
                blocks[-1].append(place)
            elif self._least([*lead, place]) <= width and len(blocks[-1]) > len(lead):
                blocks.append([*lead, place])
            else:
                return []
        return blocks

    def _draw(self, console: Console, chosen: Sequence[int], width: int) -> list[Text]:
        widths = {place: self._minimum(place) for place in chosen}
        room = width - self._least(chosen)
        # What is short by most gets its room last; text that may wrap, after all others.
        for place in sorted(
            chosen,
            key=lambda one: (self.columns[one].wraps, self._natural(one) - widths[one]),
        ):
            more = min(room, self._natural(place) - widths[place])
            widths[place] += more
            room -= more
        if not any(self.columns[place].name for place in chosen):
            return self._body(console, chosen, widths)
        heading: list[list[Text]] = []
        for place in chosen:
            lines = _fill(self.columns[place].name, widths[place])
            heading.append([Text(line, style="dim") for line in lines])
        deepest = max((len(lines) for lines in heading), default=0)
        heading = [[Text("")] * (deepest - len(lines)) + lines for lines in heading]
        result = self._side_by_side(heading, chosen, widths)
        total = sum(widths[place] + _GAP for place in chosen) - _GAP
        result.append(Text("─" * max(total, 1), style="dim"))
        return result + self._body(console, chosen, widths)

    def _body(self, console: Console, chosen: Sequence[int], widths: dict[int, int]) -> list[Text]:
        result = []
        for row in self.rows:
            cells = [list(row[place].wrap(console, max(widths[place], 1))) for place in chosen]
            result += self._side_by_side(cells, chosen, widths)
        return result

    def _side_by_side(
        self, cells: list[list[Text]], chosen: Sequence[int], widths: dict[int, int]
    ) -> list[Text]:
        result = []
        for number in range(max((len(lines) for lines in cells), default=1) or 1):
            line = Text("")
            for lines, place in zip(cells, chosen, strict=True):
                part = lines[number].copy() if number < len(lines) else Text("")
                part.rstrip()
                blanks = " " * max(widths[place] - part.cell_len, 0)
                if self.columns[place].is_number:
                    line.append(blanks)
                    line.append_text(part)
                else:
                    line.append_text(part)
                    line.append(blanks)
                line.append(" " * _GAP)
            result.append(line)
        return result

    def _fields(self, console: Console, width: int) -> list[Text]:
        """Return each row as lines of name and value."""
        names = max((len(column.name) for column in self.columns), default=0)
        result = []
        for number, row in enumerate(self.rows):
            if number:
                result.append(Text(""))
            for column, cell in zip(self.columns, row, strict=True):
                if not cell.plain:
                    continue
                if names + _GAP + self._longest_word(cell) <= width:
                    parts = cell.wrap(console, max(width - names - _GAP, 1))
                    for place, part in enumerate(parts):
                        name = column.name if place == 0 else ""
                        result.append(Text(f"{name:<{names + _GAP}}", style="dim") + part)
                else:
                    result.append(Text(column.name, style="dim"))
                    result += list(cell.wrap(console, max(width, 1)))
        return result

    @staticmethod
    def _longest_word(cell: Text) -> int:
        return max(Text(word).cell_len for word in cell.plain.split(" "))


def _heading(name: str) -> list[str]:
    """Return the parts that a heading can be broken into; an underscore stays with its part."""
    return [part for part in re.split(r"(?<=_)| ", name) if part] or [""]


def _fill(name: str, width: int) -> list[str]:
    """Return a heading in lines of a width."""
    lines = [""]
    for part in _heading(name):
        blank = " " if lines[-1] and not lines[-1].endswith("_") else ""
        if lines[-1] and len(lines[-1]) + len(blank) + len(part) > width:
            lines.append(part)
        else:
            lines[-1] += blank + part
    return lines


def table(
    *columns: str,
    title: str | None = None,
    right: Sequence[str] = (),
    wrap: Sequence[str] = (),
    spare: Sequence[str] = (),
    quiet: Sequence[str] = (),
    indent: int = 0,
) -> Table:
    """Return an empty table in the house's style.

    Parameters:
        columns: the headings.
        title: a line above, left-aligned.
        right: the headings of columns that read as numbers, although they are given as text.
        wrap: the headings whose columns are narrowed first.
        spare: the headings whose columns may be left out, the first to go first.
        quiet: the headings whose columns stand back.
        indent: blanks in front of each line.
    """
    made = [
        _Column(name, name in right, name in wrap, "dim" if name in quiet else "")
        for name in columns
    ]
    return Table(made, title, spare, indent)


# -- values ---------------------------------------------------------------------------------------


def status(word: str | None) -> Text:
    """Return a status word in its colour."""
    return Text(word or "", style=_STATUS_STYLE.get(word or "", ""))


def mark(word: str) -> Text:
    """Return a status as one sign in its colour."""
    return Text(_SIGNS.get(word, "?"), style=_STATUS_STYLE.get(word, ""))


def is_number(value: object) -> bool:
    """Return whether a value reads as a number: a count, a measure or a duration."""
    return isinstance(value, int | float | Decimal | timedelta) and not isinstance(value, bool)


def shown(value: object) -> str:
    """Return a value for people: a count with thousands separated, a zero as a quiet sign."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, timedelta):
        return seconds(value)
    if isinstance(value, int | float | Decimal):
        return f"{value:,}" if value else "·"
    return str(value)


def duration(value: float | Decimal | None) -> timedelta | None:
    """Return seconds as a duration, which a table shows as one."""
    return None if value is None else timedelta(seconds=float(value))


def plural(count: int, word: str, words: str | None = None) -> str:
    """Return '1 row', '2 rows', '0 rows'."""
    return f"{count:,} {word if count == 1 else words or word + 's'}"


def seconds(value: float | Decimal | timedelta | None) -> str:
    """Return a duration for people: '12 ms', '3.4 s', '5 min 02 s', '3 h 05 min', '12 d 4 h'.

    Parameters:
        value: seconds, or a timedelta.
    """
    if value is None:
        return ""
    total = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if total < 0:
        return f"-{seconds(-total)}"
    if total < 1:
        return f"{total * 1000:.0f} ms"
    if total < 60:
        return f"{total:.1f} s"
    whole = round(total)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def moment(value: datetime | None) -> str:
    """Return a timestamp in the local time zone: '14:03:22' today, '2026-03-01 14:03' before."""
    if value is None:
        return ""
    try:
        local = value.astimezone()
    except OverflowError:  # the first and the last days that there are
        return value.isoformat(" ", "minutes")
    if local.date() == datetime.now().astimezone().date():
        return local.strftime("%H:%M:%S")
    return local.strftime("%Y-%m-%d %H:%M")


def print_error(error: UserError) -> None:
    """Print an error: as JSON where JSON was asked for, else as a sentence on standard error."""
    if mode.json:
        print_json({"error": error.as_dict()})
        return
    sentence = Text("error ", style="bold red")
    sentence.append(error.message, style="default not bold")
    error_console.print(sentence, soft_wrap=True)
    for label, text in (("detail", error.detail), ("hint", error.hint)):
        if text:
            error_console.print(Text(f"{label:<7}{text}", style="quiet"), soft_wrap=True)
    if error.code:
        error_console.print(Text(f"code   {error.code}", style="quiet"), soft_wrap=True)
