"""Looks at a page with headless Chromium, and reads what it shows."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--v=0",
    "--virtual-time-budget=20000",
)
PATIENCE = 120.0  # seconds
_CONSOLE = re.compile(r":CONSOLE[:(].*")


@dataclass
class Tile:
    """A tile as the browser shows it.

    Attributes:
        rows: values of each row of its table, as the page's script wrote them.
        text: all that can be read.
        marks: classes of what is drawn.
        scope: what it says of filters that it does not follow; empty when nothing.
    """

    rows: list[list[Any]] = field(default_factory=list)
    text: str = ""
    marks: list[str] = field(default_factory=list)
    scope: str = ""


@dataclass
class Shown:
    """A page as the browser shows it.

    Attributes:
        dom: the document as it became.
        console: what the browser logged.
        tiles: by key of the question.
        state: of the page's script.
        foot: the text of the foot.
        title: the title of the document.
    """

    dom: str
    console: list[str]
    tiles: dict[str, Tile]
    state: str
    foot: str
    title: str


class Browser:
    """Starts Chromium anew for each look, with a profile of its own.

    Parameters:
        program: path of Chromium.
        folder: where the profiles go.
    """

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._numbers = itertools.count()

    def look(
        self, page: Path, chosen: dict[str, str] | None = None, *flags: str, width: int = 1440
    ) -> Shown:
        """Open a page and return what it shows when its script has ended.

        Parameters:
            page: the file.
            chosen: values of filters, as the page's address has them.
            flags: more flags for Chromium.
            width: of the window in pixels.
        """
        return self.read(f"{page.as_uri()}#{urlencode(chosen or {})}", *flags, width=width)

    def read(self, address: str, *flags: str, width: int = 1440) -> Shown:
        """Open an address and return what it shows when its script has ended."""
        dom, console = self.run(
            address,
            "--dump-dom",
            f"--window-size={width},1600",
            *flags,
        )
        reader = _Reader()
        reader.feed(dom)
        return Shown(
            dom, console, reader.tiles, reader.state, " ".join(reader.foot), reader.title.strip()
        )

    def run(self, address: str, *flags: str) -> tuple[str, list[str]]:
        """Run Chromium; return its output and what it logged of the page."""
        profile = self._folder / f"profile-{next(self._numbers)}"
        with subprocess.Popen(
            [self._program, *FLAGS, f"--user-data-dir={profile}", *flags, address],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                dom, log = process.communicate(timeout=PATIENCE)
            finally:
                # Its helpers hold the pipes: if they lived on, whoever reads would wait for ever.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == 0, log
        return dom, _CONSOLE.findall(log)


class _Reader(HTMLParser):
    """Picks the tiles out of a document."""

    VOID = ("meta", "link", "br", "img", "input", "hr")

    def __init__(self) -> None:
        super().__init__()
        self.tiles: dict[str, Tile] = {}
        self.state = ""
        self.title = ""
        self.foot: list[str] = []
        self._path: list[tuple[str, dict[str, str]]] = []

    def _within(self, name: str, **attributes: str) -> dict[str, str] | None:
        for tag, found in reversed(self._path):
            if tag == name and all(found.get(key) == one for key, one in attributes.items()):
                return found
        return None

    def _tile(self) -> Tile | None:
        for _, attributes in reversed(self._path):
            if "data-question" in attributes:
                return self.tiles[attributes["data-question"]]
        return None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {key: value or "" for key, value in attrs}
        if tag == "body":
            self.state = attributes.get("data-state", "")
        if "data-question" in attributes:
            self.tiles[attributes["data-question"]] = Tile()
        if tag not in self.VOID:
            self._path.append((tag, attributes))
        tile = self._tile()
        if tile is None:
            return
        if tag == "tr" and self._within("tbody") is not None:
            tile.rows.append([])
        if "data-value" in attributes:
            tile.rows[-1].append(json.loads(attributes["data-value"]))
        if self._within("svg") is not None:
            tile.marks.append(attributes.get("class", tag))

    def handle_endtag(self, tag: str) -> None:
        while self._path:
            name, _ = self._path.pop()
            if name == tag:
                return

    def handle_data(self, data: str) -> None:
        if self._within("script") is not None or self._within("style") is not None:
            return
        if self._within("title") is not None and self._within("svg") is None:
            self.title += data
        if self._within("footer") is not None:
            self.foot.append(data)
        tile = self._tile()
        if tile is not None:
            tile.text += data
            if any(
                found.get("class") == "scope" and "hidden" not in found for _, found in self._path
            ):
                tile.scope += data
