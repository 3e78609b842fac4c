"""The dashboard over HTTP: one page, kept until the warehouse has something new to show.

`Site` is a WSGI application. It reads the warehouse as the read-only business level over a small
pool, renders the page once for each state of the warehouse, and answers the choices of filters that
the page does not carry.
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

import psycopg
from psycopg import sql
from psycopg_pool import ConnectionPool, PoolTimeout

from base import wsgi
from base.errors import UserError
from metabase import preview, preview_data
from metabase.definition import Dashboard

ROLE = "oceanrecords_business"
STATEMENT_TIMEOUT = "30s"
POOL_TIMEOUT = 10.0  # seconds
FRESH_FOR = 2.0  # seconds for which the warehouse is not asked whether it has changed
MOST_ANSWERS = 500
MOST_VALUES = 100

_STATE = """
    SELECT
        f.complete_until, f.last_run_id, f.is_stale, f.today, f.whole_until, f.time_zone,
        f.currency,
        (SELECT array_agg(t::text ORDER BY t::text) FROM kpi.sales_target AS t),
        (SELECT array_agg(l::text ORDER BY l::text) FROM kpi.lost_order_limit AS l),
        (SELECT array_agg(d::text ORDER BY d::text) FROM kpi.definition AS d)
    FROM kpi.freshness AS f
"""

State = tuple[Any, ...]


def open_pool(conninfo: str) -> ConnectionPool[psycopg.Connection[Any]]:
    """Open a pool whose connections read as the business level, and cannot write.

    Parameters:
        conninfo: libpq connection string of a login that may take on the role.

    Raises:
        UserError: if the server cannot be reached, or the login may not take on the role.
    """

    def configure(connection: psycopg.Connection[Any]) -> None:
        connection.execute("SET default_transaction_read_only = on")
        connection.execute(
            sql.SQL("SET statement_timeout = {}").format(sql.Literal(STATEMENT_TIMEOUT))
        )
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(ROLE)))

    with psycopg.connect(conninfo, autocommit=True) as probe:
        try:
            configure(probe)
        except psycopg.errors.InvalidParameterValue as error:
            raise UserError(
                f"The role {ROLE} does not exist.", "Create it with: oceanrecords migrate"
            ) from error
        except psycopg.errors.InsufficientPrivilege as error:
            raise UserError(
                f"The login may not read as {ROLE}.", f"GRANT {ROLE} TO CURRENT_USER"
            ) from error
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


class Site(wsgi.Pages):
    """The WSGI application.

    Parameters:
        pool: see `open_pool`.
        dashboard: the definition.
        hosts: host names, without port, that requests may name.
    """

    def __init__(
        self,
        pool: ConnectionPool[psycopg.Connection[Any]],
        dashboard: Dashboard,
        hosts: Iterable[str],
    ) -> None:
        self._pool = pool
        self._dashboard = dashboard
        super().__init__(self.respond, hosts)
        self._lock = threading.Lock()
        self._state: State | None = None
        self._checked_at = float("-inf")
        self._page = b""
        self._answers: OrderedDict[str, bytes] = OrderedDict()

    def page(self) -> bytes:
        """Return the page; it is rendered again when the warehouse has changed.

        Raises:
            UserError, psycopg.Error: if the warehouse cannot be shown.
        """
        with self._lock:
            self._refresh()
            if not self._page:
                with self._pool.connection() as connection:
                    html = preview.render(connection, self._dashboard, served=True)
                self._page = html.encode()
            return self._page

    def answer(self, query: str) -> bytes:
        """Return the answer of a question as JSON.

        Parameters:
            query: of the address: `question`, and values by key of the filter, several if need be.

        Raises:
            ValueError: if the question or a filter is unknown.
            psycopg.Error: if the warehouse cannot be asked.
        """
        given = parse_qs(query, max_num_fields=MOST_VALUES)
        keys = given.pop("question", [])
        question = self._dashboard.questions.get(keys[0]) if len(keys) == 1 else None
        if question is None or question.position is None:
            raise ValueError("there is no such question")
        for key in given:
            if key not in question.filters.values() or self._dashboard.filters[key].type != "text":
                raise ValueError(f"question {question.key} has no such filter")
        with self._lock:
            self._refresh()
            key = json.dumps([question.key, sorted(given.items())])
            found = self._answers.get(key)
            if found is None:
                with self._pool.connection() as connection:
                    rows = preview_data.ask(connection, question, given)
                found = self._answers[key] = json.dumps(rows).encode()
                while len(self._answers) > MOST_ANSWERS:
                    self._answers.popitem(last=False)
            return found

    def _refresh(self) -> None:
        """Forget what is kept if the warehouse has something new."""
        if time.monotonic() - self._checked_at < FRESH_FOR and self._page:
            return
        with self._pool.connection() as connection:
            state = connection.execute(_STATE).fetchone()
        if state != self._state:
            self._page = b""
            self._answers.clear()
            self._state = state
        self._checked_at = time.monotonic()

    def respond(self, path: str, query: str) -> wsgi.Response:
        """Answer a request: the page, or the answer of a question."""
        try:
            if path in ("/", "/index.html"):
                return wsgi.html(self.page())
            if path == "/answer":
                return HTTPStatus.OK, "application/json", self.answer(query)
        except ValueError as error:
            return wsgi.text(HTTPStatus.BAD_REQUEST, f"{error}.")
        except PoolTimeout:
            return wsgi.text(HTTPStatus.SERVICE_UNAVAILABLE, "The warehouse cannot be reached.")
        return wsgi.text(HTTPStatus.NOT_FOUND, "There is one page here: /")
