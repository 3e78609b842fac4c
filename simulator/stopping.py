"""Ends a loop when the person at the terminal, or the system, asks for it."""

from __future__ import annotations

import os
import select
import signal
from types import FrameType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignal:
    """Catches the first Ctrl-C or SIGTERM while it is entered; a second one acts as always.

    The signal arrives through a pipe, so that waiting ends with it, whenever it comes.
    """

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe()
        self._before: dict[signal.Signals, Any] = {
            one: signal.signal(one, self._catch) for one in _SIGNALS
        }
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()
        os.close(self._reader)
        os.close(self._writer)

    def is_set(self) -> bool:
        """Return whether to stop."""
        return self.wait(0)

    def wait(self, seconds: float) -> bool:
        """Wait for a signal, and return whether to stop.

        Parameters:
            seconds: how long to wait at most; not at all when negative.
        """
        return bool(select.select([self._reader], [], [], max(0.0, seconds))[0])

    def _catch(self, _number: int, _frame: FrameType | None) -> None:
        os.write(self._writer, b"!")
        self._restore()

    def _restore(self) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)
