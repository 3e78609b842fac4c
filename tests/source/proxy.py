"""A network that a test can cut: a TCP proxy on localhost."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time


class Proxy:
    """Passes connections on to a server, counts what comes back, and fails on request.

    Attributes:
        port: where it listens.
        received: bytes that the server has sent through it.
        cuts: number of connections that were cut.
        refusals: times (monotonic seconds) at which a connection was refused.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.received = 0
        self.cuts = 0
        self.refusals: list[float] = []
        self._remaining: int | None = None
        self._words: bytes | None = None
        self._times = 0
        self._is_down = False
        self._is_silent = False
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_after(self, received: int, *, times: int = 1, stay_down: bool = False) -> None:
        """Cut the connection that brings the next so many bytes.

        Parameters:
            received: bytes that still come through.
            times: how often.
            stay_down: refuse all connections from then on, until `restore`.
        """
        with self._lock:
            self._remaining, self._allowance = received, received
            self._times, self._stay_down = times, stay_down

    def cut_on(self, words: bytes) -> None:
        """Cut the connection when the client says these words next; the server does not hear them."""
        with self._lock:
            self._words = words

    def fall_silent(self) -> None:
        """Take all connections from now on, and never answer, until `restore`."""
        self._is_silent = True

    def restore(self) -> None:
        """Let everything through again."""
        with self._lock:
            self._is_down, self._is_silent, self._remaining = False, False, None

    def close(self) -> None:
        # A close alone would leave the socket to the thread that waits for a connection.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in list(self._sockets):
            _reset(one)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._is_down:
                self.refusals.append(time.monotonic())
                _reset(client)
                continue
            if self._is_silent:
                self._sockets |= {client}
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                _reset(client)
                continue
            self._sockets |= {client, server}
            for source, target in ((client, server), (server, client)):
                threading.Thread(
                    target=self._pump, args=(source, target, source is server), daemon=True
                ).start()

    def _pump(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not (self._may_pass(len(data)) if is_answer else self._may_be_said(data)):
                    break
                target.sendall(data)
        _reset(source)
        _reset(target)

    def _may_be_said(self, data: bytes) -> bool:
        with self._lock:
            if self._words is None or self._words not in data:
                return True
            self.cuts += 1
            self._words = None
            return False

    def _may_pass(self, size: int) -> bool:
        with self._lock:
            self.received += size
            if self._remaining is None:
                return True
            self._remaining -= size
            if self._remaining > 0:
                return True
            self.cuts += 1
            self._times -= 1
            self._is_down = self._stay_down
            self._remaining = self._allowance if self._times else None
            return False


def _reset(one: socket.socket) -> None:
    """Close a socket as a broken network does: at once, with a reset."""
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # A close alone would wait for the other thread's recv.
        one.shutdown(socket.SHUT_RDWR)
    one.close()
