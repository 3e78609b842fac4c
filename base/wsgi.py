"""Serves pages over HTTP to a browser on this machine: hosts, methods and headers are checked here.

The pages need no password, so a request is answered only for the host names that were given. That
keeps a site in the same browser from reading them under a name of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import psycopg
import waitress  # type: ignore[import-untyped]

from base.errors import UserError, from_database
from base.output import console

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
Start = Callable[[str, list[tuple[str, str]]], object]
Response = tuple[HTTPStatus, str, bytes]


class Pages:
    """A WSGI application.

    Parameters:
        answer: returns status, media type and body for a path and its query.
        hosts: host names, without port, that requests can name.
    """

    def __init__(self, answer: Callable[[str, str], Response], hosts: Iterable[str]) -> None:
        self._answer = answer
        self._hosts = {host.casefold() for host in hosts}

    def __call__(self, environ: Mapping[str, Any], start: Start) -> list[bytes]:
        """Answer a request."""
        status, kind, body = self._respond(environ)
        start(
            f"{status.value} {status.phrase}",
            [
                ("Content-Type", kind),
                ("Content-Length", str(len(body))),
                ("Cache-Control", "no-store"),
                ("X-Content-Type-Options", "nosniff"),
                ("X-Frame-Options", "DENY"),
                ("Referrer-Policy", "no-referrer"),
            ],
        )
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _respond(self, environ: Mapping[str, Any]) -> Response:
        if not self._knows(str(environ.get("HTTP_HOST", ""))):
            return text(
                HTTPStatus.MISDIRECTED_REQUEST,
                "This host name is not served; add it with --allow-host.",
            )
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return text(HTTPStatus.METHOD_NOT_ALLOWED, "GET and HEAD only.")
        try:
            return self._answer(environ.get("PATH_INFO", ""), environ.get("QUERY_STRING", ""))
        except UserError as error:
            return text(HTTPStatus.SERVICE_UNAVAILABLE, error.message)
        except psycopg.Error as error:
            found = from_database(error)
            words = " ".join(part for part in (found.message, found.detail) if part)
            return text(HTTPStatus.SERVICE_UNAVAILABLE, words)

    def _knows(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        return name is not None and name.casefold() in self._hosts


def html(page: bytes) -> Response:
    """Return a page as a response."""
    return HTTPStatus.OK, "text/html; charset=utf-8", page


def text(status: HTTPStatus, words: str) -> Response:
    """Return a sentence as a response."""
    return status, "text/plain; charset=utf-8", f"{words}\n".encode()


def serve(application: Callable[..., Any], host: str, port: int) -> None:
    """Serve an application until Ctrl-C; print its address.

    Parameters:
        host: address to listen on.
        port: TCP port; 0 for a free one.

    Raises:
        UserError: if the address cannot be used.
    """
    logging.getLogger("waitress").setLevel(logging.CRITICAL)
    try:
        server = waitress.create_server(
            application, host=host, port=port, threads=4, channel_timeout=30, ident=None
        )
    except (OSError, OverflowError, ValueError) as error:
        raise UserError(
            f"Port {port} of {host} cannot be used: "
            f"{(getattr(error, 'strerror', None) or str(error)).rstrip('.')}.",
            "Choose an address of this machine with --host, and a free port with --port 0.",
        ) from error
    shown = f"[{host}]" if ":" in host else host
    number = getattr(server, "effective_port", None) or server.effective_listen[0][1]
    console.print(f"[ok]●[/] http://{shown}:{number}/  [quiet]Ctrl-C ends[/]")
    try:
        server.run()
    finally:
        server.close()
    console.print("[quiet]ended[/]")
