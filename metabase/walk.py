"""What the steps of provisioning have in common: a report, and reading, writing and verifying."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from base.errors import UserError
from metabase.client import Client, Json
from metabase.compare import differences

Action = Literal["create", "update", "restore", "archive"]
Kind = Literal[
    "server",
    "database",
    "metadata",
    "collection",
    "question",
    "model",
    "metric",
    "dashboard",
    "subscription",
    "alert",
    "group",
    "permissions",
]


@dataclass(frozen=True)
class Change:
    """One thing that differs from the definition.

    Attributes:
        action: what is or was done.
        kind: of what.
        name: its name.
        details: the keys that differ.
    """

    action: Action
    kind: Kind
    name: str
    details: tuple[str, ...] = ()


@dataclass
class Report:
    """What was found and done.

    Attributes:
        url: the server.
        version: its version.
        changes: in the order of doing.
        warnings: what a person should know, as sentences.
        ids: id on the server by kind and key ('question/top_products').
        checked: answer of each question that was run: rows, or the error.
    """

    url: str
    version: str | None = None
    changes: list[Change] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)
    checked: dict[str, int | str] = field(default_factory=dict)

    @property
    def dashboard_url(self) -> str | None:
        """Address of the dashboard, once there is one."""
        number = self.ids.get("dashboard")
        return f"{self.url}/dashboard/{number}" if number else None


@dataclass(frozen=True)
class Options:
    """How to go about it.

    Attributes:
        prune: archive questions of this tool that the definition no longer has.
        adopt: take over a collection, dashboard or question of the right name that this tool did
            not make.
        reset_password: send the password of the warehouse's login again.
        wait_seconds: how long to wait for the server's start, and for its sync.
        site_name: name of a fresh server.
        recipients: e-mail addresses that get the subscription and the alert.
    """

    prune: bool = False
    adopt: bool = False
    reset_password: bool = False
    wait_seconds: float = 180.0
    site_name: str = "OceanRecords"
    recipients: tuple[str, ...] = ()


class Walk:
    """One walk over the server, to plan or to provision.

    Parameters:
        writes: whether to make the changes, or only to record them.
    """

    def __init__(
        self,
        client: Client,
        options: Options,
        *,
        writes: bool,
        progress: Callable[[Change], None] | None = None,
    ) -> None:
        self.client = client
        self.options = options
        self.writes = writes
        self.is_fresh = False
        self.report = Report(client.url)
        self._progress = progress
        self._cards: list[dict[str, Any]] | None = None

    def change(self, action: Action, kind: Kind, name: str, *details: str) -> bool:
        """Record a change, and return whether to make it."""
        change = Change(action, kind, name, details)
        self.report.changes.append(change)
        if self.writes and self._progress:
            self._progress(change)
        return self.writes

    def warn(self, sentence: str) -> None:
        """Record what a person should know, once."""
        if sentence not in self.report.warnings:
            self.report.warnings.append(sentence)

    def rows(self, path: str, **params: str | int) -> list[dict[str, Any]]:
        """Return the rows of a list; none on a server that has yet to be set up."""
        return [] if self.is_fresh else rows_of(self.client.get(path, **params))

    def cards(self) -> list[dict[str, Any]]:
        """Return all questions, models and metrics of the server, archived ones last; read once."""
        if self._cards is None:
            live, archived = (self.rows("/api/card", f=one) for one in ("all", "archived"))
            self._cards = [*live, *archived]
        return self._cards

    def known(self, key: str, number: int) -> int:
        """Record the id of a thing on the server."""
        self.report.ids[key] = number
        return number

    def only_one(self, kind: str, found: Iterable[Mapping[str, Any]], hint: str) -> None:
        """Refuse to choose between several things.

        Raises:
            UserError: if there is more than one.
        """
        things = list(found)
        if len(things) > 1:
            names = " and ".join(f"'{one['name']}' (id {one['id']})" for one in things)
            raise UserError(f"It is not clear which {kind} in Metabase is meant: {names}.", hint)

    def adopted(
        self, kind: Kind, strangers: list[dict[str, Any]], path: str
    ) -> dict[str, Any] | None:
        """Return a thing of the right name that was made otherwise, if it may be taken over.

        Raises:
            UserError: if there are several, or `adopt` is not set.
        """
        self.only_one(kind, strangers, "Rename one of them.")
        if not strangers:
            return None
        if not self.options.adopt:
            raise UserError(
                f"Metabase has a {kind} '{strangers[0]['name']}' (id {strangers[0]['id']}) that "
                "was not created by this tool; a second one of that name would be ambiguous.",
                "Rename it, or add --adopt to take it over.",
            )
        found: dict[str, Any] = self.client.get(f"{path}/{strangers[0]['id']}")
        return found

    def bring(
        self, kind: Kind, path: str, found: Mapping[str, Any] | None, wanted: Mapping[str, Any]
    ) -> int | None:
        """Make a thing, change what differs, or take it out of the Trash.

        Parameters:
            kind: what it is.
            path: address of all such things.
            found: what the server has; None if there is none.
            wanted: what it should be; not archived.

        Returns:
            Its id on the server; None while it is only planned.

        Raises:
            UserError: if the server does not keep what was written.
        """
        name, whole = str(wanted["name"]), {**wanted, "archived": False}
        if found is None:
            if not self.change("create", kind, name):
                return None
            number = int(self.client.post(path, dict(wanted))["id"])
        else:
            number = int(found["id"])
            changed = differences(whole, {"archived": False, **found})
            action: Action = "restore" if found.get("archived") else "update"
            if not changed or not self.change(action, kind, name, *changed):
                return number
            keys = dict.fromkeys(one.partition(".")[0] for one in changed)
            self.client.put(f"{path}/{number}", {key: whole[key] for key in keys})
        self.verify_at(kind, name, f"{path}/{number}", whole)
        return number

    def verify_at(self, kind: str, name: str, path: str, wanted: Mapping[str, Any]) -> None:
        """Read a thing back and compare it with what was sent."""
        self.verify(kind, name, differences(wanted, self.client.get(path)))

    def verify(self, kind: str, name: str, changed: tuple[str, ...]) -> None:
        """Refuse to go on when the server did not keep what was sent.

        Raises:
            UserError: if any key differs.
        """
        if changed:
            raise UserError(
                f"Metabase said yes, but did not keep {', '.join(changed)} of {kind} '{name}'.",
                f"This server ({self.report.version or 'of unknown version'}) may differ from "
                "those known to this tool; `oceanrecords metabase plan` tells where it stands.",
            )


def rows_of(answer: Json) -> list[dict[str, Any]]:
    """Return the rows of a list, which some addresses wrap in 'data'."""
    if isinstance(answer, Mapping):
        answer = answer.get("data")
    return list(answer or ())
