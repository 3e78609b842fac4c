"""The stand-in's socket and addresses."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from tests.metabase.standin.state import Json, RefusedError, Row, State, User


@dataclass(frozen=True)
class Request:
    """A request that was answered.

    Attributes:
        method: GET, POST, PUT or DELETE.
        path: without the query.
        status: of the answer; 0 when the connection was cut.
        body: what was sent.
    """

    method: str
    path: str
    status: int
    body: Json = field(default=None, repr=False)

    @property
    def writes(self) -> bool:
        """Whether it was to change something."""
        reading = self.path == "/api/session" or self.path.endswith("/query")
        return self.method != "GET" and not reading and self.path != "/api/dataset"


class _CutError(Exception):
    """The connection is to be cut."""


class Standin:
    """A running stand-in.

    Parameters:
        state: what it starts with; a fresh server otherwise.
        port: 0 for any that is free.

    Attributes:
        cut: numbers of requests, from 0, at which the connection is cut.
        cut_when: 'after' the request took effect, or 'before' it.
        answer_with: when set, called with method and path; a (status, body, headers) from it is the
            answer, None lets the stand-in answer itself.
    """

    def __init__(self, state: State | None = None, port: int = 0) -> None:
        self.state = state or State()
        self.requests: list[Request] = []
        self.cut: set[int] = set()
        self.cut_when: Literal["before", "after"] = "after"
        self.answer_with: Callable[[str, str], tuple[int, str, Row] | None] | None = None
        self._lock = threading.RLock()
        handler = type("Handler", (_Handler,), {"standin": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )

    def __enter__(self) -> Standin:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def writes(self) -> list[Request]:
        """The requests that were to change something."""
        return [request for request in self.requests if request.writes]

    def answer(
        self, method: str, path: str, query: Row, headers: Json, body: Json
    ) -> tuple[int, Json]:
        """Answer one request, one after the other."""
        with self._lock:
            number = len(self.requests)
            cut = number in self.cut
            if cut and self.cut_when == "before":
                self.requests.append(Request(method, path, 0, body))
                raise _CutError
            try:
                answer = self._route(method, path, query, headers, body)
                status = 204 if answer is None else 200
            except RefusedError as refusal:
                status, answer = refusal.status, refusal.body
            except Exception as error:  # as a server does: say something, and go on
                status, answer = 500, {"message": f"{type(error).__name__}: {error}"}
            self.requests.append(Request(method, path, 0 if cut else status, body))
            if cut:
                raise _CutError
            return status, answer

    def _route(self, method: str, path: str, query: Row, headers: Json, body: Json) -> Json:
        state = self.state
        match method, path.strip("/"):
            case "GET", "api/health":
                return state.health()
            case "GET", "api/session/properties":
                return state.properties(state.user(headers))
            case "POST", "api/session":
                return state.log_in(body or {})
            case "POST", "api/setup":
                return state.set_up(body or {})
            case "DELETE", "api/session":
                return state.log_out(headers)
        user = state.user(headers)
        if user is None:
            raise RefusedError(401, "Unauthenticated")
        return self._route_for(user, method, path.strip("/"), query, body)

    def _route_for(self, user: User, method: str, path: str, query: Row, body: Json) -> Json:
        state = self.state
        if (method, path) == ("GET", "api/user/current"):
            return {"id": user.id, "email": user.email, "is_superuser": user.is_superuser}
        if (method, path) == ("POST", "api/dataset"):
            state.may_query(user, body)
            return state.run_query(body)
        if (method, path) == ("GET", "api/collection"):
            return state.list_collections(user, archived=query.get("archived") == "true")
        if (method, path) == ("GET", "api/card"):
            rows = state.list_cards(str(query.get("f", "all")))
            return [row for row in rows if state._right(user, row["collection_id"]) != "none"]
        found = re.fullmatch(r"api/card/([\w-]+)(?:/(query|copy))?", path)
        if found:
            return self._card(user, method, found[1], found[2], body)
        if method == "GET":
            found = re.fullmatch(r"api/(collection|dashboard)/(\d+)(/items)?", path)
            if found:
                number = int(found[2])
                if found[1] == "collection":
                    state.may(user, "read", number)
                    models = query.get("models")
                    wanted = models if isinstance(models, list) else [models] if models else []
                    if found[3]:
                        return state.items(number, wanted)
                    return dict(state._existing(state.collections, number))
                shown = state.get_dashboard(number)
                state.may(user, "read", shown["collection_id"])
                return shown
        if not user.is_superuser:
            raise RefusedError(403, "You don't have permissions to do that.")
        return self._route_for_administrator(user, method, path, query, body)

    def _card(
        self, user: User, method: str, reference: str, action: str | None, body: Json
    ) -> Json:
        state = self.state
        row = state.get_card(reference)
        writes = method == "PUT" or action == "copy"
        state.may(user, "write" if writes else "read", row["collection_id"])
        match method, action:
            case "POST", "query":
                state.may_view(user, row.get("database_id"))
                return state.run_card(reference, body or {})
            case "POST", "copy":
                return state.copy_card(reference)
            case "PUT", None:
                return state.update_card(reference, body)
            case "GET", None:
                return row
        raise RefusedError(404, "API endpoint does not exist.")

    def _route_for_administrator(
        self, user: User, method: str, path: str, query: Row, body: Json
    ) -> Json:
        state = self.state
        number = int(found[1]) if (found := re.search(r"/(\d+)", path)) else 0

        def asked(key: str) -> bool:
            return query.get(key) == "true"

        match method, re.sub(r"/\d+", "/ID", path):
            case "GET", "api/database":
                return state.list_databases(user)
            case "POST", "api/database":
                return state.create_database(body)
            case "GET", "api/database/ID":
                return state.get_database(number, tables=query.get("include") == "tables")
            case "PUT", "api/database/ID":
                return state.update_database(number, body)
            case "POST", "api/database/ID/sync_schema":
                return state.sync(number)
            case "GET", "api/database/ID/metadata":
                return state.get_metadata(number, hidden=asked("include_hidden"))
            case "PUT", "api/table/ID":
                return state.update_table(number, body)
            case "PUT", "api/field/ID":
                return state.update_field(number, body)
            case "PUT", "api/setting/anon-tracking-enabled":
                return state.change_setting("anon-tracking-enabled", body)
            case "POST", "api/collection":
                return state.create_collection(body)
            case "PUT", "api/collection/ID":
                return state.update_collection(number, body)
            case "GET", "api/collection/graph":
                return state.get_collection_graph()
            case "PUT", "api/collection/graph":
                return state.put_collection_graph(body)
            case "POST", "api/card":
                return state.create_card(body)
            case "GET", "api/dashboard":
                return state.list_dashboards(str(query.get("f", "all")))
            case "POST", "api/dashboard/ID/copy":
                return state.copy_dashboard(number, body or {})
            case "POST", "api/dashboard":
                return state.create_dashboard(body)
            case "PUT", "api/dashboard/ID":
                return state.update_dashboard(number, body)
            case "GET", "api/pulse":
                dashboard = int(query["dashboard_id"]) if "dashboard_id" in query else None
                return state.list_pulses(dashboard, archived=asked("archived"))
            case "POST", "api/pulse":
                return state.create_pulse(user, body)
            case "PUT", "api/pulse/ID":
                return state.update_pulse(number, body)
            case "GET", "api/notification":
                card = int(query["card_id"]) if "card_id" in query else None
                return state.list_notifications(card, inactive=asked("include_inactive"))
            case "GET", "api/notification/ID":
                return state.get_notification(number)
            case "POST", "api/notification":
                return state.create_notification(user, body)
            case "PUT", "api/notification/ID":
                return state.update_notification(number, body)
            case "GET", "api/permissions/group":
                return state.list_groups()
            case "POST", "api/permissions/group":
                return state.create_group(body)
            case "GET", "api/permissions/group/ID":
                return state.get_group(number)
            case "GET", "api/permissions/graph":
                return state.get_data_graph()
            case "PUT", "api/permissions/graph":
                return state.put_data_graph(body)
        raise RefusedError(404, "API endpoint does not exist.")


class _Handler(BaseHTTPRequestHandler):
    standin: Standin
    protocol_version = "HTTP/1.1"
    # Head and body in one packet: two of them wait for each other's acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def log_message(self, *_: Any) -> None:
        """Be silent."""

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        given = self.standin.answer_with and self.standin.answer_with(self.command, parts.path)
        if given:
            status, text, headers = given
            self._send(status, text.encode(), headers)
            return
        query = {key: one if len(one) > 1 else one[0] for key, one in parse_qs(parts.query).items()}
        body = json.loads(raw) if raw else None
        try:
            status, answer = self.standin.answer(
                self.command, parts.path, query, self.headers, body
            )
        except _CutError:
            self.close_connection = True
            return
        if answer is None:
            self._send(status, b"", {})
        elif isinstance(answer, str):
            self._send(status, answer.encode(), {"Content-Type": "text/plain"})
        else:
            self._send(status, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: Row) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
