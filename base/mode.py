"""What the command line asked of all output. It imports nothing: every command needs it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Mode:
    """What is printed, and how.

    Attributes:
        json: errors are JSON on standard output.
        lines: JSON is written as one line each.
        quiet: nothing but errors and JSON is printed.
    """

    json: bool = False
    lines: bool = False
    quiet: bool = False


mode = Mode()
