"""The layers of the engine: what a file calls lies in it or above it on the contents page, plpgsql/install.txt."""

from __future__ import annotations

import re
from graphlib import CycleError, TopologicalSorter
from itertools import groupby
from pathlib import Path

import pytest

PLPGSQL = Path(__file__).parents[2] / "plpgsql"

COMMENT = re.compile(r"/\*.*?\*/|--[^\n]*", re.DOTALL)
ADVICE = re.compile(r"\b(?:HINT|DETAIL)\s*=\s*(?:format\(\s*)?'(?:[^']|'')*'")
# INSERT INTO etl.run (…) names the table, not the procedure of the same name.
INSERTION = re.compile(r"\bINSERT\s+INTO\s+etl\.\w+")
ROUTINE = re.compile(r"^CREATE (?:OR REPLACE )?(?:FUNCTION|PROCEDURE)\s+etl\.(\w+)", re.MULTILINE)
VIEW = re.compile(r"^CREATE (?:OR REPLACE )?VIEW\s+etl\.(\w+)", re.MULTILINE)
CALL = re.compile(r"\betl\.(\w+)(?:\s*\(|'::reg)")
NAME = re.compile(r"\betl\.(\w+)")

Graph = dict[str, set[str]]


# The graph -------------------------------------------------------------------------------------------------------------


def code(text: str) -> str:
    """Return SQL without comments and without the texts in which messages name routines to people."""
    return INSERTION.sub("", ADVICE.sub("", COMMENT.sub("", text)))


def call_graph(files: dict[str, str]) -> Graph:
    """Return for each file the other files whose routines it calls and whose views it reads."""
    plain = {name: code(text) for name, text in files.items()}
    routines = {found: name for name, text in plain.items() for found in ROUTINE.findall(text)}
    views = {found: name for name, text in plain.items() for found in VIEW.findall(text)}
    return {
        name: (
            {routines[found] for found in CALL.findall(text) if found in routines}
            | {views[found] for found in NAME.findall(text) if found in views}
        )
        - {name}
        for name, text in plain.items()
    }


def cycle(graph: Graph) -> list[str]:
    """Return the files of one cycle, the first one again at the end; an empty list when there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def upward_calls(graph: Graph, page: list[str]) -> list[str]:
    """Return the calls from a file to one that the contents page names later, or not at all."""
    position = {name: number for number, name in enumerate(page)}
    return [
        f"{caller} calls {called}"
        for caller in page
        for called in sorted(graph.get(caller, ()))
        if position.get(called, len(page)) > position[caller]
    ]


def layer(name: str) -> str:
    """Return the folder of a file: 'engine/base/lock.sql' is of 'base'."""
    return name.split("/")[1]


def contents() -> dict[str, str]:
    """Return the engine's files on the contents page, in their order, each with its sentence."""
    lines = (PLPGSQL / "install.txt").read_text(encoding="utf-8").splitlines()
    named = (line.partition("#")[::2] for line in lines if line.startswith("engine/"))
    return {name.strip(): sentence.strip() for name, sentence in named}


@pytest.fixture(scope="module")
def graph() -> Graph:
    """Return the call graph of the engine."""
    files = (PLPGSQL / "engine").rglob("*.sql")
    return call_graph(
        {path.relative_to(PLPGSQL).as_posix(): path.read_text(encoding="utf-8") for path in files}
    )


# The engine ------------------------------------------------------------------------------------------------------------


def test_the_contents_page_names_every_file_of_the_engine(graph: Graph) -> None:
    page = contents()
    assert set(graph) == set(page)
    assert [name for name, sentence in page.items() if not sentence] == []


def test_every_layer_stands_in_one_place() -> None:
    layers = [found for found, _ in groupby(contents(), layer)]
    assert len(layers) == len(set(layers))
    assert layers[0] == "base"


def test_files_of_the_engine_form_no_cycle(graph: Graph) -> None:
    assert cycle(graph) == []


def test_no_file_of_the_engine_calls_upwards(graph: Graph) -> None:
    assert upward_calls(graph, list(contents())) == []


def test_the_graph_sees_what_is_called(graph: Graph) -> None:
    """Calls of each kind: by PERFORM, in a template, in a SELECT, and of a view by a view."""
    assert "engine/base/session.sql" in graph["engine/run/work.sql"]
    assert "engine/load/quarantine.sql" in graph["engine/load/fact.sql"]
    assert "engine/base/column.sql" in graph["engine/load/fact_template.sql"]
    assert "engine/watch/status.sql" in graph["engine/watch/staleness.sql"]
    assert graph["engine/base/sql_text.sql"] == set()


# The test itself -------------------------------------------------------------------------------------------------------

LOW = "CREATE OR REPLACE FUNCTION etl._low()\nRETURNS void AS $$ SELECT 1 $$;\n"
HIGH = "CREATE OR REPLACE PROCEDURE etl.high()\nAS $$ BEGIN PERFORM etl._low(); END $$;\n"


def test_a_cycle_is_found() -> None:
    found = cycle(call_graph({"low": LOW.replace("SELECT 1", "SELECT etl.high()"), "high": HIGH}))
    assert set(found) == {"low", "high"}
    assert cycle(call_graph({"low": LOW, "high": HIGH})) == []


def test_a_call_upwards_is_found() -> None:
    graph = call_graph({"low": LOW, "high": HIGH})
    assert upward_calls(graph, ["low", "high"]) == []
    assert upward_calls(graph, ["high", "low"]) == ["high calls low"]


@pytest.mark.parametrize(
    "text",
    [
        "-- As in etl._low().",
        "/* As in\netl._low(). */",
        "RAISE EXCEPTION 'no' USING HINT = 'CALL etl._low() does ''it''.';",
        "RAISE EXCEPTION 'no' USING DETAIL = format('CALL etl._low(%s)', 1);",
        "INSERT INTO etl._low (a) VALUES (1);",
        "SELECT etl._lower();",
    ],
)
def test_what_only_names_a_routine_is_no_call(text: str) -> None:
    assert call_graph({"low": LOW, "other": text})["other"] == set()


@pytest.mark.parametrize(
    "text",
    [
        "SELECT etl._low ();",
        "SELECT 'etl._low'::regproc;",
        "EXECUTE 'SELECT etl._low()';",
        "SELECT * FROM etl.seen AS s;",
    ],
)
def test_every_kind_of_call_is_found(text: str) -> None:
    low = LOW + "CREATE OR REPLACE VIEW etl.seen AS SELECT 1;\n"
    assert call_graph({"low": low, "other": text})["other"] == {"low"}
