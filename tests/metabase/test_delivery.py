"""Subscription, alert and clicks, against the stand-in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from metabase import identity
from metabase.client import Client
from metabase.definition import Click, Dashboard, DefinitionError, load
from metabase.provisioner import Provisioner
from tests.metabase.conftest import Provision
from tests.metabase.standin import Standin, State

# Of PostgreSQL it leans on nothing in which the versions differ; test_live.py runs on each.
pytestmark = pytest.mark.server("embedded")

MORNING = ("boss@example.com", "sales@example.com")


def only(things: dict[int, dict[str, Any]]) -> dict[str, Any]:
    (row,) = things.values()
    return row


def test_the_dashboard_comes_each_morning_and_the_alert_when_there_is_a_need(
    standin: Standin, provision: Provision, provisioner: Callable[..., Provisioner]
) -> None:
    report = provision(recipients=MORNING)
    pulse, alert = only(standin.state.pulses), only(standin.state.notifications)
    assert pulse["dashboard_id"] == report.ids["dashboard"]
    (channel,) = pulse["channels"]
    assert (channel["schedule_type"], channel["schedule_hour"]) == ("daily", 7)
    assert [one["email"] for one in channel["recipients"]] == list(MORNING)
    assert alert["payload"]["card_id"] == report.ids["question/lost_order_alert"]
    assert alert["payload"]["send_condition"] == "has_result"
    assert alert["subscriptions"][0]["cron_schedule"] == "0 0 8 * * ? *"
    assert provisioner(recipients=MORNING).plan().changes == []
    assert provision(recipients=MORNING).changes == []


def test_without_recipients_both_are_left_alone(standin: Standin, provision: Provision) -> None:
    report = provision()
    assert not standin.state.pulses
    assert not standin.state.notifications
    assert any("--recipient" in one for one in report.warnings)
    provision(recipients=MORNING)
    before = standin.state.essence()
    assert provision().changes == []
    assert standin.state.essence() == before


def test_recipients_are_those_of_the_configuration(standin: Standin, provision: Provision) -> None:
    provision(recipients=MORNING)
    report = provision(recipients=("new@example.com",))
    assert [(one.kind, one.details) for one in report.changes] == [
        ("subscription", ("recipients",)),
        ("alert", ("recipients",)),
    ]
    (channel,) = only(standin.state.pulses)["channels"]
    assert [one["email"] for one in channel["recipients"]] == ["new@example.com"]
    assert provision(recipients=("NEW@example.com",)).changes == []


def test_what_was_ended_or_changed_by_hand_comes_back(
    standin: Standin, client: Client, provision: Provision
) -> None:
    provision(recipients=MORNING)
    before = standin.state.essence()
    pulse, alert = only(standin.state.pulses), only(standin.state.notifications)
    slack = {"channel_type": "slack", "enabled": True, "schedule_type": "hourly", "details": {}}
    client.put(
        f"/api/pulse/{pulse['id']}",
        {
            "archived": True,
            "channels": [{**pulse["channels"][0], "schedule_hour": 22}, slack],
        },
    )
    client.put(f"/api/notification/{alert['id']}", {**alert, "active": False})
    report = provision(recipients=MORNING)
    assert [(one.action, one.kind) for one in report.changes] == [
        ("restore", "subscription"),
        ("update", "alert"),
    ]
    assert provision(recipients=MORNING).changes == []
    channels = only(standin.state.pulses)["channels"]
    assert [one["channel_type"] for one in channels] == ["email", "slack"], "theirs stays"
    channels.pop()
    assert standin.state.essence() == before


def test_an_alert_that_went_with_its_archived_question_is_made_again(
    standin: Standin, client: Client, provision: Provision
) -> None:
    report = provision(recipients=MORNING)
    client.put(f"/api/card/{report.ids['question/lost_order_alert']}", {"archived": True})
    assert not standin.state.notifications
    again = provision(recipients=MORNING)
    assert [(one.action, one.kind) for one in again.changes] == [
        ("restore", "question"),
        ("create", "alert"),
    ]
    assert provision(recipients=MORNING).changes == []


def test_a_subscription_that_went_with_its_archived_dashboard_is_made_again(
    standin: Standin, client: Client, provision: Provision, provisioner: Callable[..., Provisioner]
) -> None:
    report = provision(recipients=MORNING)
    client.put(f"/api/dashboard/{report.ids['dashboard']}", {"archived": True})
    assert not standin.state.pulses
    planned = provisioner(recipients=MORNING).plan().changes
    assert [(one.action, one.kind) for one in planned] == [
        ("restore", "dashboard"),
        ("create", "subscription"),
    ]
    assert provision(recipients=MORNING).changes == planned
    assert provision(recipients=MORNING).changes == []


def test_what_people_subscribed_to_is_theirs(
    standin: Standin, client: Client, provision: Provision
) -> None:
    report = provision(recipients=MORNING)
    pulse, alert = only(standin.state.pulses), only(standin.state.notifications)
    channel = {**pulse["channels"][0], "details": {}, "recipients": [{"email": "me@example.com"}]}
    del channel["id"]
    mine = client.post(
        "/api/pulse",
        {
            "name": "Mine",
            "cards": [
                {
                    "id": report.ids["question/top_products"],
                    "include_csv": False,
                    "include_xls": False,
                }
            ],
            "channels": [channel],
            "dashboard_id": report.ids["dashboard"],
        },
    )
    schedule = {**alert["subscriptions"][0], "ui_display_type": "cron/builder"}
    own = client.post(
        "/api/notification",
        {
            "payload_type": "notification/card",
            "payload": alert["payload"],
            "handlers": alert["handlers"],
            "subscriptions": [schedule],
        },
    )
    assert provision(recipients=("other@example.com",)).changes
    assert standin.state.pulses[mine["id"]] == mine
    assert standin.state.notifications[own["id"]] == own


def test_a_server_without_e_mail_is_said(provision: Provision) -> None:
    with Standin(State(sends_mail=False)) as server:
        report = provision(to=server, recipients=MORNING)
        assert any("no e-mail server" in one for one in report.warnings)


def test_a_click_on_a_country_filters_everything(
    standin: Standin, client: Client, provision: Provision, dashboard: Dashboard
) -> None:
    report = provision()
    shown = client.get(f"/api/dashboard/{report.ids['dashboard']}")
    tile = next(
        one for one in shown["dashcards"] if one["card_id"] == report.ids["question/top_countries"]
    )
    behaviour = tile["visualization_settings"]["column_settings"]['["name","member"]']
    (mapping,) = behaviour["click_behavior"]["parameterMapping"].values()
    assert behaviour["click_behavior"]["type"] == "crossfilter"
    assert mapping["source"] == {"type": "column", "id": "member", "name": "member"}
    assert mapping["target"] == {"type": "parameter", "id": identity.parameter_id("country")}
    assert mapping["id"] in {one["id"] for one in shown["parameters"]}
    question = replace(
        dashboard.questions["sales_by_quarter"], click=Click("quarter_name", "country")
    )
    questions = {**dashboard.questions, "sales_by_quarter": question}
    (change,) = provision(replace(dashboard, questions=questions)).changes
    assert change.details == ("tile sales_by_quarter: visualization_settings",)
    assert [one.kind for one in provision().changes] == ["dashboard"]
    assert provision().changes == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "{ column: member, filter: country }",
            "{ column: land, filter: country }",
            "click.column",
        ),
        ("{ column: member, filter: country }", "{ column: member, filter: x }", "click.filter"),
        ("question: lost_order_alert, hour", "question: none, hour", "no question 'none'"),
        ("subscription: { hour: 7 }", "subscription: { hour: 24 }", "subscription.hour"),
    ],
)
def test_what_is_wrong_in_the_definition_is_named(
    old: str, new: str, message: str, definition_folder: Path
) -> None:
    path = definition_folder / "dashboard.yaml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(DefinitionError) as caught:
        load(definition_folder)
    assert message in str(caught.value.problems[0])
