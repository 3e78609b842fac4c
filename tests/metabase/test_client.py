"""The client's way with a server that does not do as it should, and with secrets."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from metabase_api import Metabase_API

from base.errors import UserError
from metabase.client import (
    ApiError,
    Client,
    Credentials,
    major_version,
    spoken,
    wait_for,
)
from tests.metabase.standin import Standin, State

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

KEY = "mb_a_secret_key"
WORD = "a secret password"


@pytest.fixture
def state() -> State:
    state = State()
    state.add_user("admin@example.com", WORD, superuser=True)
    state.add_key(KEY)
    return state


def test_key_and_password_open_the_server(state: State) -> None:
    with Standin(state) as server:
        by_key = Client(server.url, Credentials(api_key=KEY))
        by_word = Client(server.url, Credentials(user="admin@example.com", password=WORD))
        assert by_key.get("/api/user/current")["is_superuser"]
        assert by_word.get("/api/user/current")["email"] == "admin@example.com"
        assert len(server.requests) == 3, "one log-in, and no check before each request"


def test_a_wrong_key(state: State) -> None:
    with Standin(state) as server, pytest.raises(ApiError, match="does not know this API key"):
        Client(server.url, Credentials(api_key="mb_wrong")).get("/api/user/current")


def test_a_wrong_password(state: State) -> None:
    credentials = Credentials(user="admin@example.com", password="wrong")
    with Standin(state) as server, pytest.raises(ApiError, match="does not accept this user"):
        Client(server.url, credentials).get("/api/user/current")


def test_no_right(state: State) -> None:
    state.add_key("mb_clerk", superuser=False)
    with Standin(state) as server, pytest.raises(ApiError, match="does not permit GET") as caught:
        Client(server.url, Credentials(api_key="mb_clerk")).get("/api/database")
    assert "Administrators" in str(caught.value.hint)


def test_a_session_that_ended_is_renewed_once(state: State) -> None:
    with Standin(state) as server:
        client = Client(server.url, Credentials(user="admin@example.com", password=WORD))
        client.get("/api/user/current")
        state.sessions.clear()
        assert client.get("/api/user/current")["id"]
        state.users[0].password = "changed"
        state.sessions.clear()
        with pytest.raises(ApiError, match="does not accept"):
            client.get("/api/user/current")


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match="cannot be reached") as caught:
            Client(url).get("/api/health")
    assert "METABASE_URL" in str(caught.value.hint)
    assert caught.value.detail == "Connection refused"


def test_no_answer_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UserError, match="did not answer within 0 seconds"):
            Client(url, timeout=0.2).get("/api/health")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((200, "<html>Log in</html>", {"Content-Type": "text/html"}), "not answer like a Metabase"),
        (
            (302, "", {"Location": "https://login.example.com/"}),
            "leads elsewhere, to https://login",
        ),
        ((502, "<html>Bad gateway</html>", {}), "with status 502"),
        ((503, '{"status": "initializing"}', {}), "is not ready"),
    ],
)
def test_something_else_answers(answer: tuple[int, str, dict[str, str]], message: str) -> None:
    with Standin() as server:
        server.answer_with = lambda method, path: answer
        with pytest.raises(UserError, match=message):
            Client(server.url, Credentials(api_key=KEY)).get("/api/user/current")


def test_a_redirect_is_not_followed_with_the_key(state: State) -> None:
    with Standin(state) as elsewhere, Standin(state) as server:
        server.answer_with = lambda method, path: (307, "", {"Location": elsewhere.url + path})
        with pytest.raises(UserError, match="leads elsewhere"):
            Client(server.url, Credentials(api_key=KEY)).get("/api/user/current")
        assert elsewhere.requests == []


def test_too_many_log_ins(state: State) -> None:
    with Standin(state) as server:
        server.answer_with = lambda method, path: (429, "Too many attempts!", {})
        with pytest.raises(UserError, match="no more log-ins"):
            Client(server.url, Credentials(user="a@b.c", password="x")).get("/api/user/current")


@pytest.mark.parametrize("url", ["localhost:3000", "ftp://x", "http://", "metabase", ""])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(UserError, match="is not the address of a server"):
        Client(url)


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(UserError) as caught:
        Client("http://admin:hunter2@localhost:3000")
    assert "hunter2" not in f"{caught.value.message}{caught.value.hint}"


def test_a_server_that_never_starts() -> None:
    with Standin(State(starting_seconds=3600)) as server:
        slept: list[float] = []
        client = Client(server.url, sleep=slept.append)
        with pytest.raises(UserError, match="still starting after 20 seconds"):
            client.wait_until_ready(20)
    assert sum(slept) == pytest.approx(20)
    assert slept[:4] == [0.1, 0.2, 0.4, 0.8]
    assert max(slept) == 5


def test_waiting_ends_as_soon_as_the_condition_holds() -> None:
    answers = iter([(False, "no"), (False, "no"), (True, "yes")])
    slept: list[float] = []
    wait_for(lambda: next(answers), 60, slept.append, UserError)
    assert slept == [0.1, 0.2]


# -- secrets --------------------------------------------------------------------------------------


def test_secrets_are_not_shown() -> None:
    shown = repr(Credentials(KEY, "admin@example.com", WORD))
    assert KEY not in shown
    assert WORD not in shown
    assert "admin@example.com" in shown


def test_credentials_come_from_the_environment_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{WORD}\nsecond line\n")
    read = Credentials.from_environment
    assert read(environment={"METABASE_API_KEY": KEY}).api_key == KEY
    env = {"METABASE_USER": "a@b.c", "METABASE_PASSWORD": WORD}
    assert read(environment=env).password == WORD
    env = {"METABASE_USER": "a@b.c", "METABASE_PASSWORD_FILE": str(file)}
    assert read(environment=env).password == WORD
    assert read(user="a@b.c", password_file=file, environment={}).password == WORD
    asked: list[str] = []
    assert read(
        user="a@b.c", prompt=lambda text: asked.append(text) or WORD, environment={}
    ).password
    assert asked == ["Metabase password of a@b.c"]


@pytest.mark.parametrize("env", [{}, {"METABASE_USER": "a@b.c"}, {"METABASE_PASSWORD": WORD}])
def test_no_credentials(env: dict[str, str]) -> None:
    with pytest.raises(UserError, match="No credentials"):
        Credentials.from_environment(environment=env)


def test_password_files_that_do_not_do(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    with pytest.raises(UserError, match="is empty"):
        Credentials.from_environment(user="a@b.c", password_file=empty, environment={})
    with pytest.raises(UserError, match="cannot be read: No such file"):
        Credentials.from_environment(user="a@b.c", password_file=tmp_path / "none", environment={})


# -- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "number"),
    [("v0.57.2", 57), ("v1.58.3.1", 58), ("v0.64.2.2", 64), ("vLOCAL_DEV", None), (None, None)],
)
def test_versions(tag: str | None, number: int | None) -> None:
    assert major_version(tag) == number


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("Not found.", "Not found."),
        ("<html>", None),
        ({"message": "no", "errors": {"host": "wrong"}}, "no; host: wrong"),
        ({"errors": {"user": {"email": "must be one"}}}, "user: email: must be one"),
        ({"status": "failed", "error": "syntax"}, "syntax"),
        ([1], None),
        ({}, None),
    ],
)
def test_what_the_server_says(body: object, words: str | None) -> None:
    assert spoken(body) == words


# -- how it gets there ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "credentials", [Credentials(api_key=KEY), Credentials(user="a@b.c", password=WORD)]
)
@pytest.mark.parametrize("url", ["http://metabase.example.com", "http://10.0.0.7:3000"])
def test_credentials_do_not_cross_the_network_in_plain_text(
    url: str, credentials: Credentials
) -> None:
    with pytest.raises(UserError, match="in plain text") as caught:
        Client(url, credentials)
    assert "--allow-http" in str(caught.value.hint)
    assert Client(url, credentials, allow_http=True).url == url
    assert Client(url).url == url, "without credentials there is nothing to hide"


@pytest.mark.parametrize(
    "url", ["http://localhost:3000", "http://127.0.0.1:3000", "http://[::1]:3000", "https://x.org"]
)
def test_this_machine_and_https_need_no_permission(url: str) -> None:
    assert Client(url, Credentials(api_key=KEY)).url == url


def test_the_session_is_closed_at_the_end(state: State) -> None:
    with Standin(state) as server:
        credentials = Credentials(user="admin@example.com", password=WORD)
        with Client(server.url, credentials) as client:
            client.get("/api/user/current")
            assert len(state.sessions) == 1
        assert not state.sessions
        last = server.requests[-1]
        assert (last.method, last.path, last.status) == ("DELETE", "/api/session", 204)


def test_the_session_is_closed_after_an_error_too(state: State) -> None:
    with Standin(state) as server:
        credentials = Credentials(user="admin@example.com", password=WORD)
        with pytest.raises(ApiError), Client(server.url, credentials) as client:
            client.get("/api/card/4711")
        assert not state.sessions


def test_a_key_has_no_session_to_close(state: State) -> None:
    with Standin(state) as server:
        with Client(server.url, Credentials(api_key=KEY)) as client:
            client.get("/api/user/current")
        assert [one.method for one in server.requests] == ["GET"]


def test_a_server_that_is_gone_by_the_end_does_no_harm(state: State) -> None:
    with Standin(state) as server:
        client = Client(server.url, Credentials(user="admin@example.com", password=WORD))
        client.get("/api/user/current")
    client.close()


def test_every_request_goes_through_metabase_api(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package sends, and each request has a time limit and is followed nowhere."""
    sent: list[tuple[str, dict[str, object]]] = []

    def watch(method: str) -> None:
        original = getattr(Metabase_API, method)

        def send(self: Metabase_API, endpoint: str, *args: str, **kwargs: object) -> object:
            sent.append((method, kwargs))
            return original(self, endpoint, *args, **kwargs)

        monkeypatch.setattr(Metabase_API, method, send)

    for method in ("get", "post", "put", "delete"):
        watch(method)
    with Standin(state) as server:
        credentials = Credentials(user="admin@example.com", password=WORD)
        with Client(server.url, credentials, timeout=7) as client:
            client.post("/api/collection", {"name": "x"})
            client.put("/api/setting/anon-tracking-enabled", {"value": False})
            client.get("/api/collection")
        assert [method for method, _ in sent] == ["post", "post", "put", "get", "delete"]
        assert len(server.requests) == len(sent)
    assert all(one["timeout"] == 7 and one["allow_redirects"] is False for _, one in sent)
