"""What Metabase sends by e-mail: the dashboard each morning, and an alert when there is a need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metabase import identity
from metabase.compare import covers
from metabase.definition import Dashboard
from metabase.walk import Action, Walk

_RAW = "cron/raw"


def deliver(
    walk: Walk, definition: Dashboard, dashboard: int | None, cards: Mapping[str, int]
) -> None:
    """Bring subscription and alert to the definition.

    Without recipients neither is touched.

    Parameters:
        dashboard: id of the dashboard on the server; None while it is only planned.
        cards: id on the server by key of the question.

    Raises:
        UserError: if the server does not keep what was written.
    """
    if definition.subscription is None and definition.alert is None:
        return
    if not walk.options.recipients:
        walk.warn(
            "No recipients are given, so that subscription and alert are left alone; "
            "--recipient or METABASE_RECIPIENTS names them."
        )
        return
    if not walk.is_fresh:
        properties = walk.client.properties()
        if properties.get("email-configured?") is False:
            walk.warn(
                "Metabase has no e-mail server, so that subscription and alert are not sent; "
                "Admin, Settings, Email sets one."
            )
    _subscription(walk, definition, dashboard, cards)
    _alert(walk, definition, cards)


def _subscription(
    walk: Walk, definition: Dashboard, dashboard: int | None, cards: Mapping[str, int]
) -> None:
    if definition.subscription is None:
        return
    channel = {
        "channel_type": "email",
        "enabled": True,
        "schedule_type": "daily",
        "schedule_hour": definition.subscription.hour,
        "schedule_day": None,
        "schedule_frame": None,
        "details": {identity.CHANNEL_MARK: definition.key},
        "recipients": [{"email": one} for one in walk.options.recipients],
    }
    name = definition.name
    pulses = [
        one
        for archived in ("false", "true")
        if dashboard is not None
        for one in walk.rows("/api/pulse", dashboard_id=dashboard, archived=archived)
    ]
    found = next((one for one in pulses if _own_channel(one, definition.key)), None)
    if found is None:
        if walk.change("create", "subscription", name):
            body = {
                "name": name,
                "cards": [
                    {"id": cards[question.key], "include_csv": False, "include_xls": False}
                    for question, _ in definition.tiles
                ],
                "channels": [channel],
                "dashboard_id": dashboard,
                "skip_if_empty": False,
                "parameters": [],
            }
            made = walk.client.post("/api/pulse", body)
            _verify_subscription(walk, definition, dashboard, int(made["id"]), name, channel)
        return
    changed = _subscription_differences(found, name, channel, definition.key)
    action: Action = "restore" if found.get("archived") else "update"
    if changed and walk.change(action, "subscription", name, *changed):
        own = _own_channel(found, definition.key)
        assert own is not None
        body = {
            "name": name,
            "archived": False,
            "channels": [
                {**one, **channel} if one["id"] == own["id"] else one for one in found["channels"]
            ],
        }
        walk.client.put(f"/api/pulse/{found['id']}", body)
        _verify_subscription(walk, definition, dashboard, int(found["id"]), name, channel)


def _own_channel(pulse: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    """Return the channel of a subscription that has our mark."""
    for channel in pulse.get("channels") or ():
        if (channel.get("details") or {}).get(identity.CHANNEL_MARK) == key:
            return dict(channel)
    return None


def _subscription_differences(
    found: Mapping[str, Any], name: str, channel: Mapping[str, Any], key: str
) -> tuple[str, ...]:
    own = _own_channel(found, key) or {}
    changed = [
        what
        for what, value in channel.items()
        if what != "recipients" and not covers(value, own.get(what))
    ]
    if _addresses(channel) != _addresses(own):
        changed.append("recipients")
    if found.get("name") != name:
        changed.append("name")
    if found.get("archived"):
        changed.append("archived")
    return tuple(changed)


def _addresses(channel: Mapping[str, Any]) -> set[str]:
    return {str(one.get("email")).casefold() for one in channel.get("recipients") or ()}


def _verify_subscription(
    walk: Walk,
    definition: Dashboard,
    dashboard: int | None,
    number: int,
    name: str,
    channel: Mapping[str, Any],
) -> None:
    assert dashboard is not None
    stored = walk.rows("/api/pulse", dashboard_id=dashboard)
    found = next((one for one in stored if one["id"] == number), {})
    walk.verify(
        "subscription", name, _subscription_differences(found, name, channel, definition.key)
    )


def _alert(walk: Walk, definition: Dashboard, cards: Mapping[str, int]) -> None:
    if definition.alert is None:
        return
    question = definition.questions[definition.alert.question]
    card = cards.get(question.key)
    wanted = {
        "payload_type": "notification/card",
        "active": True,
        "payload": {"card_id": card, "send_condition": "has_result", "send_once": False},
        "subscriptions": [
            {
                "type": "notification-subscription/cron",
                # Seconds, minutes, hours, day of the month, month, day of the week, year.
                "cron_schedule": f"0 0 {definition.alert.hour} * * ? *",
                "ui_display_type": _RAW,
            }
        ],
        "handlers": [
            {
                "channel_type": "channel/email",
                "recipients": [
                    {"type": "notification-recipient/raw-value", "details": {"value": one}}
                    for one in walk.options.recipients
                ],
            }
        ],
    }
    rows = (
        walk.rows("/api/notification", card_id=card, include_inactive="true")
        if card is not None
        else []
    )
    # What people set up in Metabase has another kind of schedule ('cron/builder').
    ours = sorted(
        (
            one
            for one in rows
            if any(each.get("ui_display_type") == _RAW for each in one.get("subscriptions") or ())
        ),
        key=lambda one: int(one["id"]),
    )
    if not ours:
        if walk.change("create", "alert", question.name):
            made = walk.client.post("/api/notification", wanted)
            _verify_alert(walk, question.name, int(made["id"]), wanted)
        return
    number = int(ours[0]["id"])
    changed = _alert_differences(wanted, ours[0])
    if changed and walk.change("update", "alert", question.name, *changed):
        walk.client.put(f"/api/notification/{number}", wanted)
        _verify_alert(walk, question.name, number, wanted)


def _alert_differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[str, ...]:
    changed = [
        key
        for key in ("payload_type", "active", "payload", "subscriptions")
        if not covers(wanted[key], found.get(key))
    ]
    if _receivers(wanted) != _receivers(found):
        changed.append("recipients")
    return tuple(changed)


def _receivers(notification: Mapping[str, Any]) -> set[str]:
    return {
        str(
            (one.get("details") or {}).get("value") or (one.get("user") or {}).get("email")
        ).casefold()
        for handler in notification.get("handlers") or ()
        for one in handler.get("recipients") or ()
    }


def _verify_alert(walk: Walk, name: str, number: int, wanted: Mapping[str, Any]) -> None:
    found = walk.client.get(f"/api/notification/{number}")
    walk.verify("alert", name, _alert_differences(wanted, found))
