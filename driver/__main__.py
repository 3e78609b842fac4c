"""The program `oceanrecords`, and `python -m driver`: starts the command line, quickly.

Imports are most of what a short command takes, and a third of that was the garbage collector's:
it visits all modules again and again while they are loaded, and once more at the end. They live as
long as the program, so it is told to leave them alone.
"""

from __future__ import annotations

import gc

gc.disable()

from driver import cli  # noqa: E402  # the collector has to rest first

gc.freeze()
gc.enable()


def main() -> None:
    """Run the command line."""
    cli.app()


if __name__ == "__main__":
    main()
