"""The program `oceanrecords`, which the tests call thousands of times.

Four fifths of the time of a short call are imports. So each call is a process of its own, but forked from one that has
imported the packages that most commands need. Those of the project are imported in each call: they look at streams and
environment when they are.

    python program.py       # what is forked: reads calls from the socket that is its standard input
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Lock

PROGRAM = str(Path(sys.executable).with_name("oceanrecords"))
Finished = subprocess.CompletedProcess[str]
# Packages, with those of their modules that they import late themselves. Not faker: forks would share its random numbers.
_IMPORTED = (
    *("concurrent.futures", "decimal", "importlib.metadata", "psutil", "tomllib", "uuid", "yaml"),
    *("psycopg.rows", "psycopg.sql", "psycopg.types.json", "psycopg_pool", "yoyo.migrations"),
    *("rich.console", "rich.live", "rich.markup", "rich.panel", "rich.progress", "rich.table"),
    *("typer.core", "typer.main"),
)
# What the interpreter reads when it starts: another value is for a process that is not forked.
_EARLY = ("LANG", "LC_", "PYTHON", "TZ")
# The number of the process, then its exit status.
_NUMBER = struct.Struct("i")


class Program:
    """Calls the program. The process that is forked starts with the first call and ends with this one."""

    def __init__(self) -> None:
        self._control: socket.socket | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._lock = Lock()
        self._environment: dict[str, str] = {}

    def call(
        self, *arguments: str, env: dict[str, str], cwd: Path | None = None, timeout: float = 120
    ) -> Finished:
        """Run the program like `subprocess.run`, and return what it wrote and its exit status.

        Parameters:
            arguments: of the program.
            env: its whole environment.
            cwd: its folder; otherwise that of the tests.
            timeout: in seconds.
        """
        with self._lock:
            control = self._start()
        folder = str(cwd or Path.cwd())
        if any(
            name.startswith(_EARLY) and value != self._environment.get(name)
            for name, value in env.items()
        ):
            return subprocess.run(
                [PROGRAM, *arguments],
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                env=env,
                cwd=folder,
                timeout=timeout,
                check=False,
            )
        ours, theirs = socket.socketpair()
        with (
            ours,
            tempfile.TemporaryFile("w+", encoding="utf-8") as out,
            tempfile.TemporaryFile("w+", encoding="utf-8") as err,
        ):
            with theirs:
                handed = [theirs.fileno(), out.fileno(), err.fileno()]
                socket.send_fds(control, [b"!"], handed)
            ours.sendall(json.dumps([arguments, env, folder]).encode() + b"\n")
            (process,) = _NUMBER.unpack(ours.recv(_NUMBER.size))
            ours.settimeout(timeout)
            try:
                (status,) = _NUMBER.unpack(ours.recv(_NUMBER.size))
            except TimeoutError:
                os.kill(process, signal.SIGKILL)
                raise subprocess.TimeoutExpired([PROGRAM, *arguments], timeout) from None
            out.seek(0)
            err.seek(0)
            return Finished([PROGRAM, *arguments], status, out.read(), err.read())

    def _start(self) -> socket.socket:
        if self._control is None:
            self._environment = dict(os.environ)
            self._control, theirs = socket.socketpair()
            with theirs:
                # -P: the folder of this file is not where the program looks for modules.
                self._server = subprocess.Popen([sys.executable, "-P", __file__], stdin=theirs)
        return self._control

    def close(self) -> None:
        """End the process that is forked."""
        if self._control is not None and self._server is not None:
            self._control.close()
            self._server.wait(30)


def _serve() -> None:
    """Fork for each call; return in its process, which is then to run the program."""
    for name in _IMPORTED:
        importlib.import_module(name)
    with socket.socket(fileno=0) as control:
        while True:
            _, handed, _, _ = socket.recv_fds(control, 1, 3)
            if not handed:
                os._exit(0)
            if os.fork() == 0:
                break
            for number in handed:
                os.close(number)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
    answer, *streams = handed
    with socket.socket(fileno=answer) as caller:
        with caller.makefile() as lines:
            arguments, environment, folder = json.loads(lines.readline())
        process = os.fork()
        if process:
            caller.sendall(_NUMBER.pack(process))
            ended = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            with contextlib.suppress(BrokenPipeError):  # the caller has lost its patience
                caller.sendall(_NUMBER.pack(ended))
            os._exit(0)
    for number, stream in enumerate([os.open(os.devnull, os.O_RDONLY), *streams]):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [PROGRAM, *arguments]


if __name__ == "__main__":
    _serve()
    from driver.__main__ import main

    main()
