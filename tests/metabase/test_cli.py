"""`oceanrecords metabase …`, as a person runs it, against the stand-in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from uuid import uuid4

import pytest
import typer
from psycopg import sql

from driver.commands.metabase import _LOCK_KEY, app
from metabase import warehouse as warehouses
from metabase.definition import load
from tests.metabase.conftest import ADMIN
from tests.metabase.standin import Standin
from tests.support.database import Database

# A process a command takes its time; what leans on PostgreSQL's version is tested without one.
pytestmark = pytest.mark.server("embedded")

Run = Callable[..., CompletedProcess[str]]

QUESTIONS = load().questions


@pytest.fixture
def login(database: Database) -> Iterator[str]:
    """Name of a login that is not there yet."""
    name = f"suite_{uuid4().hex[:8]}"
    yield name
    with database.connect() as connection:
        if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (name,)).fetchone():
            for command in ("DROP OWNED BY {}", "DROP ROLE {}"):
                connection.execute(sql.SQL(command).format(sql.Identifier(name)))


@pytest.fixture
def run(cli: Run, standin: Standin, login: str, database: Database) -> Run:
    """Runs `oceanrecords metabase …` on the stand-in."""
    environment = {
        "METABASE_URL": standin.url,
        "METABASE_USER": str(ADMIN.user),
        "METABASE_PASSWORD": str(ADMIN.password),
        "METABASE_WAREHOUSE_USER": login,
        "METABASE_WAREHOUSE_HOST": "127.0.0.1",
    }

    def metabase(*arguments: str, env: dict[str, str] | None = None) -> CompletedProcess[str]:
        done = cli("metabase", *arguments, env=environment | (env or {}))
        assert "Traceback" not in done.stderr
        assert str(ADMIN.password) not in done.stdout + done.stderr
        return done

    return metabase


def test_plan_provision_and_again(run: Run, standin: Standin, login: str) -> None:
    planned = run("plan", "--create-role")
    assert planned.returncode == 0, planned.stderr
    assert f"create role {login}" in planned.stdout
    assert "oceanrecords metabase provision" in planned.stdout
    assert not standin.writes
    done = run("provision", "--create-role")
    assert done.returncode == 0, done.stderr
    assert f"{len(QUESTIONS)} of {len(QUESTIONS)} questions answer" in done.stdout
    assert f"{standin.url}/dashboard/" in done.stdout
    written = len(standin.writes)
    again = run("provision", "--create-role")
    assert again.returncode == 0, again.stderr
    assert "is as defined; nothing to do" in again.stdout
    assert len(standin.writes) == written
    # The password was made up, and a run that has to write no connection needs none.
    assert run("provision").returncode == 0


def test_the_part_for_analysts_and_the_mail(
    run: Run, standin: Standin, database: Database, login: str
) -> None:
    analyst = f"{login}_analyst"
    arguments = ("--analysts", "--analyst-user", analyst, "--recipient", "boss@example.com")
    try:
        planned = run("plan", "--create-role", *arguments)
        assert f"create role {analyst}" in planned.stdout, planned.stderr
        done = run("provision", "--create-role", *arguments, "--json")
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert answer["questions"]["metric/sales"] == 1
        assert {"subscription", "alert", "metadata"} <= {one["kind"] for one in answer["changes"]}
        details = [row["details"] for row in standin.state.databases.values()]
        assert {one["user"]: one["schema-filters-patterns"] for one in details} == {
            login: "kpi",
            analyst: "analysis",
        }
        assert standin.state.sessions == {}, "the administrator's session is closed"
        again = run("plan", *arguments)
        assert "nothing to do" in again.stdout, again.stdout + again.stderr
        environment = {"METABASE_RECIPIENTS": "boss@example.com", "METABASE_ANALYST_USER": analyst}
        again = run("plan", "--analysts", env=environment)
        assert "nothing to do" in again.stdout, again.stdout + again.stderr
    finally:
        with database.connect() as connection:
            for command in ("DROP OWNED BY {}", "DROP ROLE {}"):
                connection.execute(sql.SQL(command).format(sql.Identifier(analyst)))


def test_two_at_once(run: Run, standin: Standin, database: Database) -> None:
    with database.connect() as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK_KEY])
        failed = run("provision", "--create-role")
        assert failed.returncode == 1
        assert "Another session holds the lock" in failed.stderr
        assert f"process id {connection.info.backend_pid}" in failed.stderr
        assert not standin.writes
    assert run("provision", "--create-role").returncode == 0


def test_a_recipient_that_is_no_address(run: Run, standin: Standin) -> None:
    failed = run("plan", "--create-role", "--recipient", "boss")
    assert failed.returncode == 1
    assert "'boss' is not an e-mail address" in failed.stderr
    assert standin.requests == []


def test_a_password_over_plain_http_to_another_machine(run: Run) -> None:
    failed = run("plan", "--create-role", "--url", "http://metabase.example.com")
    assert failed.returncode == 1
    assert "in plain text" in failed.stderr
    assert "--allow-http" in failed.stderr


def test_answers_in_json(run: Run) -> None:
    done = run("provision", "--create-role", "--json")
    answer = json.loads(done.stdout)
    assert answer["changes"]
    assert answer["questions"]["kpi_overview"] == 4
    answer = json.loads(run("status", "--json").stdout)
    assert answer["in_sync"]
    assert answer["changes"] == []
    assert answer["dashboard_url"].endswith(str(answer["ids"]["dashboard"]))
    assert json.loads(run("plan", "--json").stdout)["in_sync"]


def test_status_tells_what_differs(run: Run, standin: Standin) -> None:
    run("provision", "--create-role")
    card = next(row for row in standin.state.cards.values() if row["name"] == "Top products")
    card["display"] = "bar"
    shown = run("status")
    assert shown.returncode == 0, shown.stderr
    assert "differs" in shown.stdout
    assert "1 change to make" in shown.stdout


def test_a_question_that_does_not_answer_is_an_error(
    run: Run, database: Database, standin: Standin
) -> None:
    run("provision", "--create-role")
    database.execute("DROP VIEW kpi.country")
    failed = run("status")
    assert failed.returncode == 1
    assert "Question countries does not answer" in failed.stderr
    assert "kpi.country" in failed.stderr


def test_export_and_provision_from_it(run: Run, standin: Standin, tmp_path: Path) -> None:
    run("provision", "--create-role")
    out = tmp_path / "mine"
    exported = run("export", "--out", str(out), "--json")
    assert exported.returncode == 0, exported.stderr
    assert len(json.loads(exported.stdout)["files"]) == len(QUESTIONS) + 1
    planned = run("plan", "--definition", str(out))
    assert "nothing to do" in planned.stdout, planned.stdout + planned.stderr
    refused = run("export", "--out", str(out))
    assert refused.returncode == 1
    assert "exists already" in refused.stderr


ERRORS: dict[str, tuple[list[str], dict[str, str], str]] = {
    "no address": ([], {"METABASE_URL": ""}, "No Metabase server is named"),
    "nobody there": ([], {"METABASE_URL": "http://127.0.0.1:9"}, "cannot be reached"),
    "no credentials": ([], {"METABASE_PASSWORD": ""}, "No credentials"),
    "no role": ([], {}, "has no role suite_"),
    "no definition": (["--definition", "/nowhere"], {}, "dashboard.yaml does not exist"),
}


@pytest.mark.parametrize("case", ERRORS)
@pytest.mark.parametrize("command", ["plan", "provision"])
def test_errors_are_one_sentence_and_a_hint(
    case: str, command: str, run: Run, standin: Standin
) -> None:
    arguments, environment, message = ERRORS[case]
    role = [] if case == "no role" else ["--create-role"]
    failed = run(command, *role, *arguments, "--wait", "0", env=environment)
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert message in failed.stderr
    assert "hint" in failed.stderr
    assert not standin.writes


def test_the_password_of_the_login_is_asked_for_before_it_is_needed(
    run: Run, standin: Standin, database: Database, login: str
) -> None:
    with database.connect() as connection:
        warehouses.create_role(connection, login)
    failed = run("provision")
    assert failed.returncode == 1
    assert f"The password of {login} is needed" in failed.stderr
    assert "METABASE_WAREHOUSE_PASSWORD" in failed.stderr
    assert not standin.writes


def test_a_broken_question_is_found_before_anything_is_sent(
    run: Run, standin: Standin, definition_folder: Path
) -> None:
    (definition_folder / "questions" / "countries.sql").write_text("SELECT land FROM kpi.country")
    failed = run("provision", "--create-role", "--definition", str(definition_folder))
    assert failed.returncode == 1
    assert "questions/countries.sql" in failed.stderr
    assert "land" in failed.stderr
    assert standin.requests == []


def test_no_option_takes_a_secret() -> None:
    group = typer.main.get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        options = [option for parameter in command.params for option in parameter.opts]
        assert "--url" in options, name
        assert not {"--password", "--api-key", "--warehouse-password"} & set(options), name
