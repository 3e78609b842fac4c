"""Speaks to a Metabase server through `metabase-api`, with checks around each of its requests.

Every request is one of the package's `get`, `post`, `put` and `delete`, and it holds the key or the
session. Around them stand the checks that it does not make: a time limit, no redirect (which would
carry the key elsewhere), no credentials over plain http to another machine, and an error that says
what to do. Its log-in and its check of the session are overridden for the same reasons: it logs in
without a time limit, follows redirects with the password, and asks before each request whether the
session is alive; here a session that has ended is renewed when a request says so.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import requests
from metabase_api import Metabase_API

from base.errors import UserError

OLDEST_VERSION = 57
TIMEOUT_SECONDS = 60.0

Method = Literal["get", "post", "put", "delete"]
Json = Any


@dataclass(frozen=True)
class Credentials:
    """Who speaks to the server. Secrets are never shown.

    Attributes:
        api_key: a key of the group Administrators, or None.
        user: e-mail address of an administrator, or None.
        password: that user's password, or None.
    """

    api_key: str | None = field(default=None, repr=False)
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def from_environment(
        cls,
        *,
        user: str | None = None,
        password_file: Path | None = None,
        prompt: Callable[[str], str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Credentials:
        """Take them from METABASE_API_KEY, or METABASE_USER and METABASE_PASSWORD.

        Parameters:
            user: wins over METABASE_USER.
            password_file: holds the password; otherwise METABASE_PASSWORD_FILE names it.
            prompt: asks the user for a missing password; None without a terminal.
            environment: instead of the process's.

        Raises:
            UserError: if neither a key nor a user with a password is given.
        """
        env = os.environ if environment is None else environment
        key = env.get("METABASE_API_KEY") or _from_file(env.get("METABASE_API_KEY_FILE"))
        chosen = user or env.get("METABASE_USER")
        file = str(password_file) if password_file else env.get("METABASE_PASSWORD_FILE")
        password = _from_file(file) or env.get("METABASE_PASSWORD")
        if chosen and not password and prompt and not key:
            password = prompt(f"Metabase password of {chosen}")
        if not key and not (chosen and password):
            raise UserError(
                "No credentials for Metabase are given.",
                "Set METABASE_API_KEY, or METABASE_USER and METABASE_PASSWORD "
                "(or METABASE_PASSWORD_FILE).",
            )
        return cls(key, chosen, password)


def _from_file(name: str | None) -> str | None:
    return read_secret(Path(name)) if name else None


def read_secret(path: Path) -> str:
    """Return the first line of a file that holds a secret.

    Raises:
        UserError: if it cannot be read, or is empty.
    """
    try:
        secret = path.read_text(encoding="utf-8").split("\n", 1)[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UserError(f"The password file {path} cannot be read: {reason}.") from error
    if not secret:
        raise UserError(f"The password file {path} is empty.")
    return secret


class ApiError(UserError):
    """The server refused a request.

    Parameters:
        message: one sentence.
        hint: the way out.
        status: HTTP status.
        detail: the server's own words.
        body: what it answered, as JSON or text.
    """

    def __init__(
        self, message: str, hint: str | None, *, status: int, detail: str | None, body: Json
    ) -> None:
        super().__init__(message, hint, detail=detail)
        self.status = status
        self.body = body


class _Api(Metabase_API):  # type: ignore[misc]
    """`metabase-api`, with a time limit on each request, and none that is followed elsewhere.

    Parameters:
        domain: address of the server.
        credentials: of the login; None for anonymous requests.
        log_in: opens a session, and returns it.
    """

    def __init__(
        self,
        domain: str,
        credentials: Credentials | None,
        timeout: float,
        log_in: Callable[[], str],
    ) -> None:
        # The package's constructor asks for database 1 to try a key, without a time limit.
        self.domain = domain
        self.email = credentials.user if credentials and not credentials.api_key else None
        self.auth = None
        self.is_admin = True
        self.session_id: str | None = None
        self.header: dict[str, str] = {}
        self._timeout = timeout
        self._log_in = log_in
        if credentials and credentials.api_key:
            self.header = {"X-API-KEY": credentials.api_key}

    def authenticate(self) -> None:
        """Open a session, and go on with it."""
        self.header = {}
        self.use(self._log_in())

    def use(self, session: str | None) -> None:
        """Go on with a session, or with none."""
        self.session_id = session
        self.header = {"X-Metabase-Session": session} if session else {}

    def validate_session(self) -> bool:
        """Leave the session alone; a request that is refused renews it."""
        return True

    def send(self, method: Method, path: str, **arguments: Any) -> requests.Response:
        """Send a request; it ends in time, and is not followed elsewhere."""
        limits = {"timeout": self._timeout, "allow_redirects": False}
        response = getattr(self, method)(path, "raw", **limits, **arguments)
        assert isinstance(response, requests.Response)
        return response


class Client:
    """A connection to one server. As a context manager it closes the session that it opened.

    Parameters:
        url: address of the server, 'https://metabase.example.com'.
        credentials: None for requests that need none.
        allow_http: send credentials over plain http to another machine.

    Raises:
        UserError: if the address is none, or credentials would cross the network in plain text.
    """

    def __init__(
        self,
        url: str,
        credentials: Credentials | None = None,
        *,
        timeout: float = TIMEOUT_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
        allow_http: bool = False,
    ) -> None:
        self.url = _checked_url(url)
        if credentials and not allow_http:
            _refuse_plain_text(self.url)
        self.sleep = sleep
        self._timeout = timeout
        self._credentials = credentials
        self._api = _Api(self.url, credentials, timeout, self._open_session)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session that was opened, if any; a server that is gone by then has none."""
        if self._api.session_id is None:
            return
        with contextlib.suppress(UserError):
            self._send("delete", "/api/session")
        self._api.use(None)

    def anonymous(self) -> Client:
        """Return a connection to the same server without credentials."""
        return Client(self.url, timeout=self._timeout, sleep=self.sleep)

    # -- requests ---------------------------------------------------------------------------------

    def get(self, path: str, **params: str | int) -> Json:
        """Return the answer to GET, as JSON."""
        return self._call("get", path, params=params)

    def find(self, path: str, **params: str | int) -> Json:
        """Return the answer to GET, or None when there is no such thing (404)."""
        try:
            return self.get(path, **params)
        except ApiError as error:
            if error.status == requests.codes.not_found:
                return None
            raise

    def post(self, path: str, body: Json) -> Json:
        """Return the answer to POST, as JSON."""
        return self._call("post", path, body=body)

    def put(self, path: str, body: Json) -> Json:
        """Return the answer to PUT, as JSON."""
        return self._call("put", path, body=body)

    def _call(
        self,
        method: Method,
        path: str,
        *,
        body: Json = None,
        params: Mapping[str, Any] | None = None,
    ) -> Json:
        self._log_in_if_needed()
        response = self._send(method, path, body=body, params=params)
        if response.status_code == requests.codes.unauthorized and self._can_log_in():
            self._api.authenticate()
            response = self._send(method, path, body=body, params=params)
        return self._answer(response, method, path)

    def _send(
        self,
        method: Method,
        path: str,
        *,
        body: Json = None,
        params: Mapping[str, Any] | None = None,
    ) -> requests.Response:
        arguments: dict[str, Any] = {}
        if params:
            arguments["params"] = params
        if body is not None:
            arguments["json"] = body
        try:
            return self._api.send(method, path, **arguments)
        except requests.exceptions.SSLError as error:
            raise UserError(
                f"The certificate of Metabase at {self.url} is not trusted.",
                "REQUESTS_CA_BUNDLE names a file of the authorities to trust.",
            ) from error
        except requests.exceptions.Timeout as error:
            raise UserError(
                f"Metabase at {self.url} did not answer within {self._timeout:.0f} seconds.",
                "Check that the server is well, and repeat the command.",
            ) from error
        except requests.exceptions.RequestException as error:
            raise UserError(
                f"Metabase at {self.url} cannot be reached.",
                "Check that it runs, and its address in METABASE_URL.",
                detail=_reason(error),
            ) from error

    def _answer(self, response: requests.Response, method: str, path: str) -> Json:
        if response.is_redirect:
            raise UserError(
                f"{self.url} leads elsewhere, to {response.headers.get('location', '?')}.",
                "Put the address of Metabase itself into METABASE_URL.",
            )
        if response.ok and not response.content:
            return None
        body = _body(response)
        if response.ok:
            if isinstance(body, str):
                raise UserError(
                    f"{self.url} does not answer like a Metabase server.",
                    "Check the address in METABASE_URL, and that no log-in page stands before it.",
                )
            return body
        raise self._refusal(response.status_code, body, method, path)

    def _refusal(self, status: int, body: Json, method: str, path: str) -> ApiError:
        words = spoken(body)
        hint: str | None
        if status == requests.codes.unauthorized:
            if self._credentials and self._credentials.api_key:
                message = f"Metabase at {self.url} does not know this API key."
                hint = "Check METABASE_API_KEY; keys are made under Admin, Settings, API keys."
            else:
                message = f"Metabase at {self.url} does not accept this user and password."
                hint = "Check METABASE_USER and METABASE_PASSWORD."
        elif status == requests.codes.forbidden:
            message = f"Metabase does not permit {method.upper()} {path}."
            hint = "Use a key of the group Administrators, or an administrator's account."
        elif status == requests.codes.service_unavailable:
            message = f"Metabase at {self.url} is not ready."
            hint = "Wait until it has started, and repeat the command."
        elif status == requests.codes.not_found:
            message = f"Metabase has no {path}."
            hint = None
        else:
            message = f"Metabase refuses {method.upper()} {path} with status {status}."
            hint = None
        return ApiError(message, hint, status=status, detail=words, body=body)

    # -- who --------------------------------------------------------------------------------------

    def _can_log_in(self) -> bool:
        return bool(
            self._credentials
            and not self._credentials.api_key
            and self._credentials.user
            and self._credentials.password
        )

    def _log_in_if_needed(self) -> None:
        if not self._api.header and self._can_log_in():
            self._api.authenticate()

    def _open_session(self) -> str:
        assert self._credentials is not None
        body = {"username": self._credentials.user, "password": self._credentials.password}
        response = self._send("post", "/api/session", body=body)
        if response.status_code == requests.codes.too_many:
            raise UserError(
                f"Metabase at {self.url} takes no more log-ins for now.",
                "Wait a minute, and repeat the command.",
            )
        if response.status_code == requests.codes.bad_request:
            # Older servers answer a wrong password so.
            response.status_code = requests.codes.unauthorized
        return str(self._answer(response, "post", "/api/session")["id"])

    def use_session(self, session: str) -> None:
        """Go on with a session that the server has opened."""
        self._api.use(session)

    # -- what -------------------------------------------------------------------------------------

    def wait_until_ready(self, seconds: float) -> None:
        """Wait until the server has started.

        Raises:
            UserError: if it cannot be reached, or is not ready by then.
        """
        anonymous = self.anonymous()

        def health() -> tuple[bool, str]:
            try:
                answer = anonymous.get("/api/health")
            except ApiError as error:
                if error.status != requests.codes.service_unavailable:
                    raise
                return False, spoken(error.body) or "starting"
            return answer.get("status") == "ok", str(answer.get("status"))

        wait_for(
            health,
            seconds,
            self.sleep,
            lambda state: UserError(
                f"Metabase at {self.url} is still starting after {seconds:.0f} seconds ({state}).",
                "Repeat the command, or give it more time with --wait.",
            ),
        )

    def properties(self) -> dict[str, Any]:
        """Return the server's public settings."""
        anonymous = self.anonymous()
        answer = anonymous.get("/api/session/properties")
        if not isinstance(answer, dict):
            raise UserError(
                f"{self.url} does not answer like a Metabase server.",
                "Check the address in METABASE_URL.",
            )
        return answer


def wait_for(
    condition: Callable[[], tuple[bool, str]],
    seconds: float,
    sleep: Callable[[float], None],
    late: Callable[[str], UserError],
) -> None:
    """Wait until a condition holds, asking ever more seldom: after 0.1 s, 0.2 s, … 5 s.

    Parameters:
        condition: returns whether it holds, and the state in words.
        late: makes the error from the last state.

    Raises:
        UserError: what `late` made, if it does not hold by then.
    """
    pause, waited = 0.1, 0.0
    while True:
        holds, state = condition()
        if holds:
            return
        if waited >= seconds:
            raise late(state)
        pause = min(pause, max(seconds - waited, 0.01))
        sleep(pause)
        waited += pause
        pause = min(pause * 2, 5.0)


def major_version(tag: str | None) -> int | None:
    """Return 57 of 'v0.57.2' and of 'v1.57.2' (Enterprise); None for a build without a number."""
    match = re.match(r"v?[01]\.(\d+)", tag or "")
    return int(match.group(1)) if match else None


def spoken(body: Json) -> str | None:
    """Return the words in an error that the server answered."""
    if isinstance(body, str):
        text = body.strip()
        return None if text.startswith("<") else text[:500] or None
    if not isinstance(body, Mapping):
        return None
    said = (body.get(key) for key in ("message", "error", "cause", "status"))
    words = [text for text in said if isinstance(text, str) and text.strip()][:1]
    for key in ("errors", "specific-errors"):
        if body.get(key):
            words.append(_flat(body[key]))
            break
    return "; ".join(words)[:500] or None


def _flat(errors: Json) -> str:
    if isinstance(errors, Mapping):
        return ", ".join(f"{key}: {_flat(value)}" for key, value in errors.items())
    if isinstance(errors, list):
        return ", ".join(_flat(value) for value in errors)
    return str(errors)


def _body(response: requests.Response) -> Json:
    try:
        return response.json()
    except ValueError:
        return response.text


def _reason(error: Exception) -> str:
    """Return the innermost reason of a failed connection."""
    found = re.findall(r"\[Errno -?\d+\] ([^'\")]+)", str(error))
    if found:
        return str(found[-1])
    if "Connection aborted" in str(error) or "RemoteDisconnected" in str(error):
        return "The connection was cut before an answer came."
    return type(error).__name__


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(
            f"'{url}' is not the address of a server.",
            "Write it like https://metabase.example.com, in METABASE_URL or with --url.",
        )
    if parts.username or parts.password:
        raise UserError(
            "The address of Metabase holds a user or a password.",
            "Put them into METABASE_USER and METABASE_PASSWORD.",
        )
    return url.rstrip("/")


def _refuse_plain_text(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" or _is_this_machine(str(parts.hostname)):
        return
    raise UserError(
        f"Key or password would go to {url} in plain text.",
        "Put https:// into METABASE_URL, or add --allow-http where the network is trusted.",
    )


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
