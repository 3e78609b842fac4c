"""The dashboard as one self-contained page, which needs neither server nor network.

The page has the answers of all questions inside, compressed as the browser itself can undo it, and
draws its charts as plain SVG. A charting library would be most of the page: Vega-Lite with its
runtime is 898 kB, the drawing of lines and bars here 12 kB.
"""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import asdict, replace
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from base import version
from base.errors import UserError
from metabase import preview_data
from metabase.definition import Dashboard, Position
from metabase.preview_data import Clock, Page, Tile
from metabase.warehouse import check_questions

_TEMPLATES = Path(__file__).parent / "templates"


def render(
    connection: psycopg.Connection[Any],
    dashboard: Dashboard,
    *,
    served: bool = False,
    orders: str = "",
    clock: Clock | None = None,
) -> str:
    """Return the page.

    Parameters:
        connection: autocommit connection to the warehouse; schema kpi is all that is read.
        served: whether a server stands behind it, which answers what the page does not carry.
        orders: see `render_page`.
        clock: see `metabase.preview_data.gather`.

    Raises:
        DefinitionError: if a question does not return what the definition says.
        UserError: if the definition has nothing to show.
        psycopg.Error: if the warehouse has no schema kpi, or it may not be read.
    """
    check_questions(connection, dashboard)
    page = preview_data.gather(connection, dashboard, served=served, clock=clock)
    return render_page(page, orders=orders)


def render_page(page: Page, *, orders: str = "") -> str:
    """Return the page of what has been gathered.

    Parameters:
        orders: address of the page with the orders behind the figures; empty if there is none.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("preview.html.j2").render(
        name=page.dashboard.name,
        description=page.dashboard.description,
        tiles=[(tile.question, position) for tile, position in _placed(page)],
        ends=[page.dashboard.filters[key] for key in page.ends],
        filters=page.filters,
        periods=page.clock.periods,
        version=version(),
        style=_text("preview.css"),
        script=_script(_text("preview.js")),
        served=page.is_served,
        has_meanings={
            tile.question.key: [
                page.meanings[name] for name in tile.question.figures if name in page.meanings
            ]
            for tile in page.tiles
        },
        data=_json({**page_data(page), "orders": orders}),
        bulk=_packed(bulk_data(page)),
    )


def write(html: str, path: Path) -> None:
    """Write the page to a file, all of it or nothing.

    Raises:
        UserError: if the file cannot be written.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder.", "Name a file with --out, such as dashboard.html.")
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.write_text(html, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise UserError(
            f"{path} cannot be written: {error.strerror}.",
            "Name a file in a folder that exists and may be written to with --out.",
        ) from error


@cache
def _text(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _script(text: str) -> str:
    """Return a script that no part of which ends or hides the element that holds it."""
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _json(data: Any) -> str:
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=_json_value)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _json_value(value: Any) -> Any:
    if isinstance(value, date | datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in the page")


def _placed(page: Page) -> list[tuple[Tile, Position]]:
    """Return tiles with their places; cards go across the top, and what stands below moves up."""
    placed = [(tile, tile.question.position) for tile in page.tiles if tile.question.position]
    cards = [place for tile, place in placed if tile.question.display == "cards"]
    return [
        (
            tile,
            place
            if tile.question.display == "cards"
            else replace(
                place, row=place.row - sum(one.height for one in cards if one.row < place.row)
            ),
        )
        for tile, place in placed
    ]


def page_data(page: Page) -> dict[str, Any]:
    """Return what the page's script reads, made of dicts, lists and scalars."""
    return {
        "is_served": page.is_served,
        "currency": page.clock.freshness["currency"],
        "period": list(page.ends),
        "periods": [
            {"kind": one.kind, "name": one.period, "first": one.first_day, "last": one.last_day}
            for one in page.clock.periods
        ],
        "filters": [{"key": one.key, "name": one.name, "type": one.type} for one in page.filters],
        "tiles": [_tile(tile) for tile in page.tiles],
        "freshness": dict(page.clock.freshness),
    }


def bulk_data(page: Page) -> dict[str, Any]:
    """Return the part of the page's data that is worth compressing: the answers."""
    return {
        "answers": {
            tile.question.key: {"\u001f".join(key): rows for key, rows in tile.answers.items()}
            for tile in page.tiles
        },
        "values": {key: list(values) for key, values in page.values.items()},
    }


def _packed(data: Any) -> str:
    """Return data as JSON, compressed by gzip, in base64."""
    return base64.b64encode(gzip.compress(_json(data).encode(), 9, mtime=0)).decode("ascii")


def _tile(tile: Tile) -> dict[str, Any]:
    question = tile.question
    return {
        "key": question.key,
        "name": question.name,
        "display": question.display,
        "columns": [asdict(column) for column in question.columns.values()],
        "x": question.x,
        "y": list(question.y),
        "goal": question.goal and asdict(question.goal),
        "choices": list(tile.choices),
        "cuts": tile.cuts,
        "click": question.click and asdict(question.click),
    }
