"""The dashboard over HTTP, kept until the warehouse has something new to show.

`Site` is a WSGI application. It reads the warehouse as the read-only business level over a small
pool, renders each page once for each state of the warehouse, and answers the choices of filters
that the page does not carry. A second page, with the orders behind the figures, reads as a login of
level analyst.
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

import psycopg
from psycopg import sql
from psycopg_pool import ConnectionPool, PoolTimeout

from base import wsgi
from base.errors import UserError, not_installed
from metabase import preview, preview_data
from metabase.definition import Dashboard

ROLE = "oceanrecords_business"
ORDERS = "/orders/"
STATEMENT_TIMEOUT = "30s"
POOL_TIMEOUT = 10.0  # seconds
FRESH_FOR = 2.0  # seconds for which the warehouse is not asked whether it has changed
MOST_ANSWERS = 500
MOST_VALUES = 100

_TABLES = """
    SELECT c.relname FROM pg_class AS c
    WHERE c.relnamespace = 'kpi'::regnamespace AND c.relkind = 'r'
        AND has_table_privilege(c.oid, 'SELECT')
    ORDER BY c.relname
"""
_CHECKSUM = "SELECT md5(string_agg(t::text, chr(10) ORDER BY t::text)) FROM kpi.{} AS t"

State = tuple[Any, ...]
Pool = ConnectionPool[psycopg.Connection[Any]]


def open_pool(conninfo: str, role: str = ROLE, schema: str = "kpi") -> Pool:
    """Open a pool whose connections read as a role, and cannot write.

    Parameters:
        conninfo: libpq connection string of a login that is a member of the role.
        role: the role; the business level by default.
        schema: schema that the role must be able to read.

    Raises:
        UserError: if the server cannot be reached, or the role cannot be used.
    """

    def configure(connection: psycopg.Connection[Any]) -> None:
        connection.execute("SET default_transaction_read_only = on")
        connection.execute(
            sql.SQL("SET statement_timeout = {}").format(sql.Literal(STATEMENT_TIMEOUT))
        )
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))

    with psycopg.connect(conninfo, autocommit=True) as probe:
        try:
            configure(probe)
        except psycopg.errors.InvalidParameterValue as error:
            raise UserError(
                f"The role {role} does not exist.",
                "Create the levels with: oceanrecords migrate; a login with: oceanrecords users",
            ) from error
        except psycopg.errors.InsufficientPrivilege as error:
            raise UserError(
                f"The login may not read as {role}.", f"GRANT {role} TO CURRENT_USER"
            ) from error
        row = probe.execute(
            "SELECT coalesce(has_schema_privilege(to_regnamespace(%s), 'USAGE'), false)", [schema]
        ).fetchone()
        if row != (True,) and schema == "kpi":
            raise not_installed('schema "kpi" does not exist')
        if row != (True,):
            raise UserError(
                f"The role {role} may not read schema {schema}.",
                "Name a login of level analyst; `oceanrecords users list` shows them.",
            )
    return ConnectionPool(
        conninfo,
        kwargs={"autocommit": True},
        min_size=1,
        max_size=4,
        timeout=POOL_TIMEOUT,
        configure=configure,
        check=ConnectionPool.check_connection,
        name="dashboard",
        open=True,
    )


def _state(connection: psycopg.Connection[Any]) -> State:
    """Return the freshness of the warehouse, and what people write in schema kpi, as one value."""
    tables = [name for (name,) in connection.execute(_TABLES)]
    sums = [
        connection.execute(sql.SQL(_CHECKSUM).format(sql.Identifier(name))).fetchone()
        for name in tables
    ]
    freshness = dict(preview_data.read_clock(connection, served=True, has_periods=False).freshness)
    del freshness["read_at"]
    return (freshness, *sums)


@dataclass
class _View:
    """One page: whose data it shows, and what is kept of it."""

    dashboard: Dashboard
    pool: Pool
    page: bytes = b""
    answers: OrderedDict[str, bytes] = field(default_factory=OrderedDict)


class Site(wsgi.Pages):
    """The WSGI application.

    Parameters:
        pool: see `open_pool`.
        hosts: host names, without port, that requests may name.
        orders: definition and pool of the page with the orders behind the figures; None for none.
    """

    def __init__(
        self,
        pool: Pool,
        dashboard: Dashboard,
        hosts: Iterable[str],
        orders: tuple[Dashboard, Pool] | None = None,
    ) -> None:
        self._pool = pool
        self._views = {"/": _View(dashboard, pool)}
        if orders:
            self._views[ORDERS] = _View(*orders)
        super().__init__(self.respond, hosts)
        self._lock = threading.Lock()
        self._state: State | None = None
        self._checked_at = float("-inf")

    def page(self, path: str = "/") -> bytes:
        """Return a page; it is rendered again when the warehouse has changed.

        Parameters:
            path: of the address, `/` or `ORDERS`.

        Raises:
            UserError, psycopg.Error: if the warehouse cannot be shown.
        """
        view = self._views[path]
        with self._lock:
            self._refresh(view)
            if not view.page:
                view.page = self._render(view, is_first=path == "/").encode()
            return view.page

    def _render(self, view: _View, *, is_first: bool) -> str:
        clock = None
        if not is_first:
            with self._pool.connection() as connection:
                clock = preview_data.read_clock(connection, served=True)
        orders = ORDERS.lstrip("/") if is_first and ORDERS in self._views else ""
        with view.pool.connection() as connection:
            return preview.render(
                connection, view.dashboard, served=True, orders=orders, clock=clock
            )

    def answer(self, query: str, path: str = "/") -> bytes:
        """Return the answer of a question as JSON.

        Parameters:
            query: of the address: `question`, and values by key of the filter, several if need be.

        Raises:
            ValueError: if the question, a filter or a date is unknown.
            psycopg.Error: if the warehouse cannot be asked.
        """
        view = self._views[path]
        given = parse_qs(query, max_num_fields=MOST_VALUES)
        keys = given.pop("question", [])
        question = view.dashboard.questions.get(keys[0]) if len(keys) == 1 else None
        if question is None or question.position is None:
            raise ValueError("there is no such question")
        chosen: dict[str, Any] = {}
        for key, values in given.items():
            if key not in question.follows:
                raise ValueError(f"question {question.key} has no such filter")
            is_date = view.dashboard.filters[key].type == "date"
            chosen[key] = date.fromisoformat(values[-1]) if is_date else values
        with self._lock:
            self._refresh(view)
            key = json.dumps([question.key, sorted(given.items())])
            found = view.answers.get(key)
            if found is None:
                with view.pool.connection() as connection:
                    rows = preview_data.ask(connection, question, chosen)
                found = view.answers[key] = json.dumps(rows).encode()
                while len(view.answers) > MOST_ANSWERS:
                    view.answers.popitem(last=False)
            return found

    def _refresh(self, view: _View) -> None:
        """Forget what is kept if the warehouse has something new."""
        if time.monotonic() - self._checked_at < FRESH_FOR and view.page:
            return
        with self._pool.connection() as connection:
            state = _state(connection)
        if state != self._state:
            for each in self._views.values():
                each.page = b""
                each.answers.clear()
            self._state = state
        self._checked_at = time.monotonic()

    def respond(self, path: str, query: str) -> wsgi.Response:
        """Answer a request: a page, or the answer of a question."""
        path = path.removesuffix("index.html")
        try:
            if path in self._views:
                return wsgi.html(self.page(path))
            if path.endswith("/answer") and path.removesuffix("answer") in self._views:
                body = self.answer(query, path.removesuffix("answer"))
                return HTTPStatus.OK, "application/json", body
        except ValueError as error:
            return wsgi.text(HTTPStatus.BAD_REQUEST, f"{error}.")
        except PoolTimeout:
            return wsgi.text(HTTPStatus.SERVICE_UNAVAILABLE, "The warehouse cannot be reached.")
        return wsgi.text(HTTPStatus.NOT_FOUND, f"The pages are: {' '.join(self._views)}")
