"""What is printed: tables that cut nothing, data as text, errors as JSON, names that must exist."""

from __future__ import annotations

import io
import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.text import Text

from base import output
from driver.commands import sql
from simulator.seed import seed
from tests.conftest import Finished
from tests.support.database import Database

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

ESCAPE = "\x1b"


def drawn(table: output.Table, width: int) -> str:
    written = io.StringIO()
    output.HouseConsole(file=written, width=width).print(table)
    return written.getvalue()


def wide_table(rows: int = 3) -> output.Table:
    table = output.table(
        "object", "rows_inserted", "rows_updated", "age", "seen", "reason",
        right=("rows_inserted", "rows_updated", "age"), wrap=("reason",), spare=("seen",),
    )  # fmt: skip
    for number in range(rows):
        table.add_row(
            f"fact_order_{number}", f"{10**9 + number:,}", f"{2 * 10**9 + number:,}", "12 min 05 s",
            "2026-03-01 14:03", "a reason of several words that may take several lines",
        )  # fmt: skip
    return table


@pytest.mark.parametrize("width", [*range(20, 130, 3), 10_000])
@pytest.mark.parametrize("rows", [1, 3])
def test_a_table_never_cuts_a_number(width: int, rows: int) -> None:
    text = drawn(wide_table(rows), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for number in range(rows):
        assert f"fact_order_{number}" in text
        assert f"{10**9 + number:,}" in text
        assert f"{2 * 10**9 + number:,}" in text
    for word in ("several", "lines"):
        assert text.count(word) >= rows


def test_a_table_in_a_pipe_has_one_line_a_row() -> None:
    assert len(drawn(wide_table(), output._WIDTH_OF_A_PIPE).splitlines()) == 2 + 3


def test_columns_that_say_nothing_go_first() -> None:
    table = output.table("object", "queued", "rows", right=("queued", "rows"))
    table.add_row("fact_order_line", "·", "1,234,567")
    assert "queued" in drawn(table, 80)
    assert "queued" not in drawn(table, 30)


@pytest.mark.parametrize(
    "hostile",
    [
        "x[/bold red]",
        "[bold red]FAKE",
        "[/]",
        "[quiet]",
        "a\\",
        "{}",
        "{0}",
        ":warning:",
        "[link=x]",
    ],
)
def test_text_of_the_data_is_text(hostile: str) -> None:
    table = output.table("name")
    table.add_row(hostile)
    assert hostile in drawn(table, 80)
    written = io.StringIO()
    output.HouseConsole(file=written, width=80, theme=output._THEME).say("[ok]✓[/] {} is", hostile)
    assert written.getvalue() == f"✓ {hostile} is\n"


@pytest.mark.parametrize("control", [ESCAPE, "\x07", "\x9b", "\r", "\x08", "\u202e", "\x7f"])
def test_control_characters_are_shown_and_not_obeyed(control: str) -> None:
    written = io.StringIO()
    console = output.HouseConsole(file=written, width=80)
    table = output.table("name", "rows", right=("rows",))
    table.add_row(f"a{control}b", "1")
    table.add_row(Text(f"c{control}d", style="bold"), "2")
    console.print(table)
    console.print(Text(f"e{control}f"))
    console.print(f"g{control}h")
    assert control not in written.getvalue()
    for letters in ("ab", "cd", "ef", "gh"):
        assert re.search(f"{letters[0]}.?{letters[1]}", written.getvalue())


def test_a_name_with_a_line_break_makes_no_line_of_its_own() -> None:
    table = output.table("name")
    table.add_row("x\n● Run 5 succeeded")
    assert len(drawn(table, 80).splitlines()) == 3


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_without_the_glyphs_gets_others(
    cli: Callable[..., Finished], encoding: str
) -> None:
    finished = cli("doctor", env={"PYTHONIOENCODING": encoding})
    assert finished.returncode == 0, finished.stderr
    assert ("v server" if encoding != "utf-8" else "✓ server") in finished.stdout
    assert json.loads(cli("doctor", "--json", env={"PYTHONIOENCODING": encoding}).stdout)


def test_a_statement_is_not_cut_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    terminal = output.HouseConsole(file=written, width=80, force_terminal=True, no_color=False)
    monkeypatch.setattr(sql, "console", terminal)
    statement = f"SELECT {', '.join(f'column_{number}' for number in range(40))}"
    sql._render([{"step": 1, "title": "dimension:dim_x", "statement": statement}])
    assert statement in Text.from_ansi(written.getvalue()).plain


# -- commands -------------------------------------------------------------------------------------


@pytest.fixture
def shop(database: Database) -> Database:
    """Fifteen months of orders, loaded."""
    connection = database.connect()
    seed(connection, orders=150, months=15, seed=5)
    connection.execute("CALL etl.run()")
    return database


COMMANDS: list[tuple[str, ...]] = [
    ("status",),
    ("status", "--all"),
    ("kpi", "--all"),
    ("ls",),
    ("settings", "list"),
    ("check",),
    ("queue",),
    ("quarantine",),
    ("migrate", "--list"),
    ("trace", "order", "1"),
    ("trace", "run", "1"),
    ("reconcile",),
    ("doctor",),
]


def test_every_command_fits_its_terminal_and_cuts_no_number(
    cli: Callable[..., Finished], shop: Database
) -> None:
    for command in COMMANDS:
        for width in (40, 80):
            finished = cli(*command, env={"COLUMNS": str(width)})
            assert finished.returncode == 0, (command, finished.stderr)
            tables = [line for line in finished.stdout.splitlines() if "─" in line]
            assert all(len(line) <= width for line in tables), (command, width)
            assert not re.search(r"\d[.,]?…|…[.,]?\d|(^|  )…(  |$)", finished.stdout), command


def test_newest_rows_come_first(cli: Callable[..., Finished], shop: Database) -> None:
    newest = shop.rows("SELECT month_start::text FROM kpi.month ORDER BY month_start DESC LIMIT 12")
    (answer,) = json.loads(cli("kpi", "month", "--json").stdout)
    assert [row["month_start"] for row in answer["rows"]] == [row["month_start"] for row in newest]
    assert answer["more"]
    since = newest[2]["month_start"]
    (answer,) = json.loads(cli("kpi", "month", "--since", since, "--json").stdout)
    assert (len(answer["rows"]), answer["more"]) == (3, False)
    (answer,) = json.loads(cli("kpi", "month", "--limit", "2", "--json").stdout)
    assert len(answer["rows"]) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("kpi", "month", "--since", "yesterday"),
        ("kpi", "overview", "--since", "2026-01-01"),
        ("kpi", "month", "--limit", "0"),
        ("kpi", "month", "--limit", "1000000000"),
        ("run", "--every", "400d"),
        ("run", "--every", "0.1s"),
        ("status", "--runs", "-1"),
        ("--dsn", "", "status"),
        ("ls", "a+b+c"),
        ("settings", "set", "stale_after"),
    ],
)
def test_absurd_values_are_refused(
    cli: Callable[..., Finished], arguments: tuple[str, ...]
) -> None:
    finished = cli(*arguments)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("queue", "--fact", "fact_oder"),
        ("queue", "--fact", "dim_product"),
        ("queue", "--fact", "fact_oder", "--retry"),
        ("quarantine", "fact_oder"),
        ("quarantine", "fact_oder", "--retry"),
        ("kpi", "moth"),
        ("sql", "dim_prodct"),
        ("ls", "+dim_prodct"),
        ("ls", "--exclude", "dim_prodct"),
        ("ls", "kind:dimensoin"),
        ("run", "--only", "dim_prodct"),
        ("run", "--exclude", "dim_prodct"),
        ("run", "--full-refresh", "dim_prodct"),
        ("reconcile", "dim_prodct"),
        ("check", "--name", "no_overlp"),
        ("check", "--name", "totls"),
        ("plan", "dim_prodct"),
        ("users", "grants", "oceanrecords_ownr"),
        ("migrate", "--to", "engine/0001.enigne"),
        ("source", "marks", "--write", "marks.sql", "--schema", "oceanrecord"),
        ("trace", "prodct", "1"),
        ("settings", "get", "stale_aftr"),
    ],
)
def test_a_misspelt_name_is_refused_and_another_is_proposed(
    cli: Callable[..., Finished], arguments: tuple[str, ...]
) -> None:
    finished = cli(*arguments)
    assert (finished.returncode, finished.stdout) == (1, "")
    assert re.search("does not exist|there is no", finished.stderr)
    if "dim_product" not in arguments:
        assert "Did you mean" in finished.stderr
    told = cli(*arguments, "--json")
    assert (told.returncode, told.stderr) == (1, "")
    error = json.loads(told.stdout)["error"]
    assert set(error) == {"code", "message", "detail", "hint"}
    assert error["code"] in ("ET002", "ET045")


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (("run", "--workers", "0"), 2, "usage"),
        (("nonsense",), 2, "usage"),
        (("status", "--nonsense"), 2, "usage"),
        (("trace",), 2, "usage"),
        (("--dsn", "postgresql://127.0.0.1:1/x", "status"), 1, "08001"),
        (("--dsn", "", "status"), 2, "usage"),
        (("trace", "product", "99999999"), 1, "ET047"),
        (("settings", "set", "stale_after", "soon"), 1, "ET019"),
        (("migrate", "--to", "9999"), 1, "ET002"),
    ],
)
def test_errors_are_json_too(
    cli: Callable[..., Finished], arguments: tuple[str, ...], status: int, code: str
) -> None:
    finished = cli(*arguments, "--json")
    assert (finished.returncode, finished.stderr) == (status, "")
    error = json.loads(finished.stdout)["error"]
    assert set(error) == {"code", "message", "detail", "hint"}
    assert error["code"] == code
    assert error["message"]


BEFORE_MIGRATION = [
    "run", "status", "queue", "quarantine x", "ls", "sql x", "kpi", "kpi x", "check", "reconcile",
    "trace product 1", "docs", "settings list", "users list", "schedule list", "source status",
    "simulate tick", "queue --fact x", "run --only x",
]  # fmt: skip


def test_a_database_without_the_warehouse_gets_one_sentence(
    oceanrecords: Callable[..., Finished], empty_database: Database
) -> None:
    told = set()
    for command in BEFORE_MIGRATION:
        finished = oceanrecords("--dsn", empty_database.dsn, *command.split(), "--json")
        assert finished.returncode == 1, command
        error = json.loads(finished.stdout)["error"]
        told.add((error["message"], error["hint"]))
    assert len(told) == 1
    assert "oceanrecords migrate" in told.pop()[1]


def test_run_streams_lines_of_json(cli: Callable[..., Finished], shop: Database) -> None:
    shop.execute("UPDATE oceanrecords.customers SET first_name = 'Ada' WHERE customer_id = 1")
    lines = [json.loads(line) for line in cli("run", "--json").stdout.splitlines()]
    assert lines[-1]["event"] == "run"
    ends = [line for line in lines[:-1] if line["task"] == "dimension:dim_customer"][-1:]
    assert [(line["event"], line["status"]) for line in ends] == [("task", "succeeded")]
    assert ends[0]["rows_inserted"] + ends[0]["rows_updated"] == 1
    assert {line["run_id"] for line in lines} == {lines[-1]["run_id"]}


def test_quiet_prints_errors_only(cli: Callable[..., Finished], shop: Database) -> None:
    for command in (("run",), ("status",), ("kpi",), ("sql", "dim_product"), ("ls",)):
        for arguments in (("--quiet", *command), (*command, "--quiet")):
            finished = cli(*arguments)
            assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")
    assert "does not exist" in cli("kpi", "nonsense", "--quiet").stderr
    assert json.loads(cli("kpi", "--json", "--quiet").stdout)
    shop.execute(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE EXCEPTION 'no'; END$$; CREATE TRIGGER refuse BEFORE INSERT OR UPDATE "
        "ON dwh.dim_supplier FOR EACH ROW EXECUTE FUNCTION public.refuse(); "
        "UPDATE oceanrecords.suppliers SET name = name || 'x'"
    )
    finished = cli("run", "--quiet")
    assert (finished.returncode, finished.stdout) == (3, "")
    assert "partial" in finished.stderr


# -- selections -----------------------------------------------------------------------------------


def selected(cli: Callable[..., Finished], *arguments: str) -> list[str]:
    finished = cli("ls", *arguments, "--json")
    assert finished.returncode == 0, finished.stdout
    return [one["object"] for one in json.loads(finished.stdout)]


def test_selectors_walk_the_graph(cli: Callable[..., Finished], database: Database) -> None:
    everything = selected(cli)
    assert set(everything) == {
        row["object"] for row in database.rows("SELECT object FROM etl.object_status")
    }
    assert selected(cli, "dim_supplier") == ["dim_supplier"]
    assert set(selected(cli, "+dim_supplier")) == {"suppliers", "dim_supplier"}
    assert {"suppliers", "dim_supplier", "fact_order_line"} <= set(selected(cli, "suppliers+"))
    assert set(selected(cli, "suppliers+1")) == {"suppliers", "dim_supplier"}
    assert set(selected(cli, "1+fact_order_line")) >= {"dim_product", "fact_order_line"}
    assert "product_types" not in selected(cli, "1+fact_order_line")
    assert set(selected(cli, "fact_*")) == {"fact_order", "fact_order_line"}
    assert set(selected(cli, "kind:fact")) == {"fact_order", "fact_order_line"}
    assert selected(cli, "+fact_order,kind:fact") == ["fact_order"]
    assert selected(cli, "kind:fact", "--exclude", "fact_order") == ["fact_order_line"]
    database.execute("INSERT INTO etl.object_tag VALUES ('dim_date', 'calendar')")
    assert selected(cli, "tag:calendar") == ["dim_date"]
    finished = cli("ls", "dim_date", "--exclude", "tag:calendar")
    assert finished.returncode == 1
    assert "is empty" in finished.stderr


def test_runs_and_reconciliations_take_selectors(
    cli: Callable[..., Finished], shop: Database
) -> None:
    def objects(*arguments: str) -> set[str]:
        run = json.loads(cli("run", *arguments, "--json").stdout.splitlines()[-1])
        assert run["status"] == "succeeded"
        return {task["object"] for task in run["task_runs"]}

    shop.execute("UPDATE oceanrecords.suppliers SET name = name || ' Ltd'")
    assert objects("--select", "+dim_supplier") == {"suppliers", "dim_supplier"}
    assert "dim_supplier" not in objects("--exclude", "dim_supplier")
    refreshed = json.loads(
        cli("run", "--full-refresh", "1+dim_supplier", "--exclude", "suppliers", "--json")
        .stdout.splitlines()[-1]
    )  # fmt: skip
    assert refreshed["full_refresh"] == ["dim_supplier"]
    compared = json.loads(cli("reconcile", "+dim_supplier", "--json").stdout)
    assert {one["object"] for one in compared["comparisons"]} == {"suppliers", "dim_supplier"}
    assert {one["title"].split(" - ")[0] for one in json.loads(cli("sql", "+dim_supplier", "--json").stdout)} >= {
        "stage:suppliers", "dimension:dim_supplier",
    }  # fmt: skip


def test_settings_are_listed_changed_and_restored(
    cli: Callable[..., Finished], database: Database
) -> None:
    listed = {one["name"]: one for one in json.loads(cli("settings", "list", "--json").stdout)}
    assert set(listed) == {row["name"] for row in database.rows("SELECT name FROM etl.setting")}
    assert all(one["default_value"] == one["value"] for one in listed.values())
    assert cli("settings", "set", "stale_after", "1 hour").returncode == 0
    assert cli("settings", "get", "stale_after").stdout == "1 hour\n"
    changed = json.loads(cli("settings", "get", "stale_after", "--json").stdout)
    assert (changed["value"], changed["default_value"]) == ("1 hour", "15 minutes")
    assert cli("settings", "set", "stale_after", "--default").returncode == 0
    assert cli("settings", "get", "stale_after").stdout == "15 minutes\n"


def test_completion_offers_names_of_the_warehouse(
    cli: Callable[..., Finished], database: Database
) -> None:
    def offered(words: str) -> set[str]:
        finished = cli(
            env={
                "_OCEANRECORDS_COMPLETE": "complete_bash",
                "COMP_WORDS": f"oceanrecords {words}",
                "COMP_CWORD": str(len(words.split(" "))),
            }
        )
        assert finished.stderr == ""
        return set(finished.stdout.split())

    assert offered("sql dim_p") == {"dim_payment", "dim_product"}
    assert offered("run --only +dim_p") == {"+dim_payment", "+dim_product"}
    assert offered("kpi mon") == {"month"}
    assert offered("settings get stale") == {"stale_after"}
    assert "fact_order" in offered("queue --fact fact")
    assert offered("check --name no_o") == {"no_orphan_keys", "no_overlap"}


def test_completion_is_silent_without_a_server(oceanrecords: Callable[..., Finished]) -> None:
    finished = oceanrecords(
        env={
            "OCEANRECORDS_DSN": "postgresql://127.0.0.1:1/x",
            "_OCEANRECORDS_COMPLETE": "complete_bash",
            "COMP_WORDS": "oceanrecords sql d",
            "COMP_CWORD": "2",
        }
    )
    assert (finished.returncode, finished.stdout.strip(), finished.stderr) == (0, "", "")


# -- what fails the command -----------------------------------------------------------------------


def test_a_stale_warehouse_fails_where_it_is_asked_to(
    cli: Callable[..., Finished], shop: Database
) -> None:
    for command in (("status", "--fail"), ("check", "--fail"), ("doctor",), ("status",)):
        assert cli(*command).returncode == 0, command
    shop.execute("UPDATE etl.setting SET value = '1 microsecond' WHERE name = 'stale_after'")
    for command, expected in (
        (("status", "--fail"), 1), (("check", "--fail"), 1), (("doctor",), 1),
        (("status",), 0), (("check",), 0), (("doctor", "--no-fail"), 0),
    ):  # fmt: skip
        assert cli(*command).returncode == expected, command


def problems(database: Database) -> list[tuple[str, str | None]]:
    return [
        (row["kind"], row["object"])
        for row in database.rows("SELECT kind, object FROM etl.problem ORDER BY 1, 2")
    ]


def test_what_waits_too_long_is_a_problem(database: Database) -> None:
    assert problems(database) == []
    database.execute("CALL etl.run()")
    assert problems(database) == []
    database.execute(
        "INSERT INTO etl.quarantine (object, row_key, sqlstate, reason, run_id, quarantined_at) "
        """VALUES ('dim_product', '{"product_id": 1}', '23514', 'x', 1, now() - interval '8 days'),"""
        """('dim_product', '{"product_id": 2}', '23514', 'x', 1, now())"""
    )
    assert problems(database) == [("quarantine", "dim_product")]
    database.execute("UPDATE etl.setting SET value = '9 days' WHERE name = 'queue_old_after'")
    assert problems(database) == []


def test_a_task_that_failed_stays_a_problem_until_it_succeeds(
    cli: Callable[..., Finished], shop: Database
) -> None:
    shop.execute(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE EXCEPTION 'not today'; END$$; CREATE TRIGGER refuse BEFORE INSERT OR UPDATE "
        "ON dwh.dim_supplier FOR EACH ROW EXECUTE FUNCTION public.refuse(); "
        "UPDATE oceanrecords.suppliers SET name = name || 'x'"
    )
    assert cli("run").returncode == 3
    assert ("run", "dim_supplier") in problems(shop)
    # A run of something else neither repairs nor hides it.
    assert cli("run", "--only", "dim_status").returncode == 0
    assert ("run", "dim_supplier") in problems(shop)
    shown = cli("status").stdout
    assert "Failed in earlier runs" in shown
    assert "not today" in shown
    shop.execute("DROP TRIGGER refuse ON dwh.dim_supplier")
    assert cli("run").returncode == 0
    assert ("run", "dim_supplier") not in problems(shop)


def test_the_summary_of_a_run_names_quarantined_rows(
    cli: Callable[..., Finished], shop: Database
) -> None:
    shop.execute(
        "UPDATE oceanrecords.orders SET ordered_at = ordered_at - interval '60 years' "
        "WHERE order_id IN (SELECT order_id FROM oceanrecords.orders ORDER BY 1 LIMIT 2)"
    )
    finished = cli("run")
    shown = finished.stdout
    assert finished.returncode == 3
    assert re.search(r"fact_order .*2 quarantined", shown)
    run: dict[str, Any] = json.loads(cli("status", "--json").stdout)["runs"][0]
    assert run["rows_quarantined"] == shop.value("SELECT count(*) FROM etl.quarantine")
    assert re.search(rf"Run 2 \w+: .*, {run['rows_quarantined']} quarantined", shown)
    assert "oceanrecords quarantine" in shown
    # Accepted rows are no fault of later runs.
    assert cli("quarantine", "accept", "fact_order", "--key", "order_id=1").returncode == 0
    assert cli("quarantine", "accept", "fact_order").returncode == 0
    assert cli("quarantine", "accept", "fact_order_line").returncode == 0
    assert shop.value("SELECT count(*) FROM etl.quarantine WHERE accepted_at IS NULL") == 0
    assert cli("quarantine", "accept", "fact_order", "--undo").returncode == 0
    assert shop.value("SELECT count(*) FROM etl.quarantine WHERE accepted_at IS NULL") == 2
    assert cli("quarantine", "accept").returncode == 2
    assert cli("quarantine", "accept", "fact_order", "--key", "order_id=999").returncode == 1


def test_the_documented_queries_for_prometheus_answer(database: Database) -> None:
    text = (Path(__file__).parents[2] / "docs" / "terminal.md").read_text()
    block = re.search(r"query of postgres_exporter:\n\n((?:    .*\n|\n)+)", text)
    assert block is not None
    declared = yaml.safe_load(textwrap.dedent(block[1]))
    assert set(declared) == {"oceanrecords_problem", "oceanrecords_lag"}
    database.execute("CALL etl.run()")
    database.execute(
        "CREATE ROLE exporter_test LOGIN IN ROLE oceanrecords_steward"
        if not database.rows("SELECT FROM pg_roles WHERE rolname = 'exporter_test'")
        else "SELECT"
    )
    with database.connect() as connection:
        connection.execute("SET ROLE exporter_test")
        for one in declared.values():
            cursor = connection.execute(one["query"].encode())
            columns = [column.name for column in cursor.description or ()]
            assert columns == [name for metric in one["metrics"] for name in metric]
            assert cursor.fetchall()
    database.execute("UPDATE etl.setting SET value = '1 microsecond' WHERE name = 'stale_after'")
    rows = database.rows(declared["oceanrecords_problem"]["query"])
    assert {row["kind"]: row["problems"] for row in rows}["stale"] == 1
