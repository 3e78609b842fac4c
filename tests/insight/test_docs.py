"""The site: complete, true, in a real browser without a network, and without any data."""

from __future__ import annotations

import html
import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import psycopg
import pytest

from driver.docs import catalog, markdown, pictures, site
from driver.docs.catalog import Catalog
from driver.docs.lineage import Lineage
from tests.conftest import Finished
from tests.preview.browser import Browser
from tests.support.database import Database

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

STRUCTURE = Path(__file__).parents[2] / "docs" / "structure.md"

# Measures what was drawn. A hidden picture has no size, so each is shown for that.
MEASURE = """
<script>
const measure = () => {
  document.documentElement.classList.remove("scripted");
  return [...document.querySelectorAll("svg.diagram")].map((picture) => {
    const box = picture.getBBox();
    const cards = [...picture.querySelectorAll(".card")];
    const places = cards.map((card) => card.querySelector(".paper").getBoundingClientRect());
    return {
      id: picture.id, width: box.width, height: box.height,
      shapes: picture.querySelectorAll("rect, path").length,
      texts: picture.querySelectorAll("text").length,
      nodes: cards.map((card) => card.dataset.node),
      wide: cards.flatMap((card) => {
        const paper = card.querySelector(".paper").getBBox();
        return [...card.querySelectorAll("text")]
          .filter((text) => text.getBBox().x + text.getBBox().width > paper.x + paper.width + 1)
          .map((text) => text.textContent);
      }),
      overlaps: places.some((one, place) => places.slice(place + 1).some((two) =>
        one.left < two.right && two.left < one.right && one.top < two.bottom && two.top < one.bottom)),
    };
  });
};
new MutationObserver(() => { document.body.dataset.answer = JSON.stringify(measure()); })
  .observe(document.body, { attributes: true, attributeFilter: ["data-state"] });
</script>
"""


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "a":
            self.links.append(found["href"])
        self.loaded += [found[key] for key in ("src", "srcset", "data") if key in found]
        if tag == "link":
            self.loaded.append(found["href"])


def links_of(text: str) -> _Links:
    reader = _Links()
    reader.feed(text)
    return reader


def look(browser: Browser, page: Path, rest: str = "", *flags: str, width: int = 1440) -> str:
    """Return the document as the browser has it, after it has logged nothing."""
    dom, console = browser.run(
        page.as_uri() + rest, "--dump-dom", f"--window-size={width},1200", *flags
    )
    assert console == []
    assert 'data-state="ready"' in dom
    return dom


def test_opens_without_a_network_and_its_links_lead_somewhere(browser: Browser, page: Path) -> None:
    assert not [one for one in links_of(page.read_text()).loaded if not one.startswith("data:")]
    assert "default-src 'none'" in page.read_text()
    dom = look(browser, page, "", "--proxy-server=127.0.0.1:9")
    assert "The warehouse in pictures" in dom
    found = links_of(dom)
    assert len(found.ids) == len(set(found.ids))
    assert len(found.links) > 300
    assert {link for link in found.links if link.removeprefix("#") not in found.ids} == set()


def drawn(page: Path) -> dict[str, Any]:
    """Return the pictures of the page, by id."""
    found = re.search(
        r'<script type="application/json" id="pictures">(.*?)</script>', page.read_text()
    )
    assert found is not None
    return {one["id"]: one for one in json.loads(found[1])}


def test_every_picture_has_its_boxes_apart_and_all_text_inside_them(
    browser: Browser, page: Path, tmp_path: Path
) -> None:
    measured = tmp_path / "measured.html"
    measured.write_text(page.read_text().replace("</body>", f"{MEASURE}</body>"))
    dom = look(browser, measured)
    found = re.search(r'data-answer="([^"]*)"', dom)
    assert found is not None
    shown = {one["id"]: one for one in json.loads(html.unescape(found[1]))}
    wanted = drawn(page)
    for name in (
        "er-oceanrecords", "star-fact_order", "star-fact_order_line", "table-flow", "task-graph", "initial-state"
    ):  # fmt: skip
        assert shown[name]["shapes"] >= 10, name
    assert len([name for name in shown if name.startswith("lineage-kpi.")]) > 40
    for one in shown.values():
        assert one["width"] > 100, one
        assert one["height"] > 20, one
        assert one["shapes"] >= 3, one
        assert one["texts"] >= 2, one
        assert one["wide"] == [], one
        assert not one["overlaps"], one["id"]
        assert one["nodes"] == [box["id"] for box in wanted[one["id"]]["boxes"]]
    assert shown.keys() == wanted.keys()
    assert len(shown) == page.read_text().count('data-picture="')


def test_pictures_show_what_there_is(known: Catalog) -> None:
    picture = pictures.operational(known, "oceanrecords")
    tables = known.tables("oceanrecords")
    assert len(tables) >= 14
    assert [box.id for box in picture.boxes] == [str(table.name) for table in tables]
    references = [one for one in known.references if one.child.schema == "oceanrecords"]
    assert len(picture.lines) == len(references) >= 13
    for fact in known.facts.values():
        star = pictures.star(known, fact)
        assert {box.id for box in star.boxes} >= set(fact.roles.values())
        ends = {(line.start, line.start_row) for line in star.lines} | {
            (line.end, line.end_row) for line in star.lines
        }
        assert ends >= {(fact.fact, key) for key in fact.roles}
    assert {box.id for box in pictures.tasks(known).boxes} == {task.name for task in known.tasks}


def test_the_initial_state_has_every_object_in_the_order_of_its_creation(known: Catalog) -> None:
    picture = pictures.initial_state(known)
    column = {box.id: box.column or 0 for box in picture.boxes}
    assert column.keys() >= known.objects.keys()
    order = (
        "migrations of engine",
        "control tables",
        "dim_date",
        "orders",
        "dim_product",
        "fact_order",
    )
    assert [column[one] for one in order] == sorted({column[one] for one in order})
    assert all(column[line.start] <= column[line.end] for line in picture.lines)
    notes = {box.id: box.note for box in picture.boxes}
    assert notes["fact_order"] == "loaded · 400 rows"
    assert notes["dim_date"].startswith("filled by a migration")
    migrations = next(box for box in picture.boxes if box.id == "migrations of oceanrecords")
    assert "0003.stars" in {row.name for row in migrations.rows}
    assert ("dim_product", "fact_order_line") in {(line.start, line.end) for line in picture.lines}


def test_the_initial_state_of_an_empty_warehouse(connection: psycopg.Connection[Any]) -> None:
    picture = pictures.initial_state(catalog.read(connection))
    assert {box.note for box in picture.boxes if box.id.startswith("fact_")} == {"not loaded"}


def test_the_page_has_the_sql_of_every_transformation_and_every_check(
    warehouse: Database, page: Path
) -> None:
    text = html.unescape(page.read_text())
    for row in warehouse.rows(
        "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'compiled'::regnamespace AND proname ~ '^(load|plan)_'"
    ):
        assert row["prosrc"].strip() in text, row["proname"]
    assert "CREATE VIEW work.dim_product AS\n" in text
    for row in warehouse.rows("SELECT check_name, description FROM etl.quality_check"):
        assert f'id="check-{row["check_name"]}"' in text
        assert row["description"] in text


def test_lines_of_the_task_graph_imply_all_that_tasks_wait_for(known: Catalog) -> None:
    after: dict[str, set[str]] = {}
    for before, task, _ in pictures.needed_edges(known):
        after.setdefault(before, set()).add(task)

    def reach(task: str) -> set[str]:
        return {one for next_ in after.get(task, ()) for one in {next_} | reach(next_)}

    assert all(edge.task in reach(edge.predecessor) for edge in known.edges)
    assert sum(map(len, after.values())) < len(known.edges)


def test_links_of_the_markdown_lead_somewhere(files: dict[str, str]) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", files["README.md"]):
        assert link in files


SEARCH = """
<script>
const answers = {};
for (const words of ["delivered_at", "fact_order_line", "dim_product", "overlap", "dim_product plan_cache_mode", "no-such-word"]) {
  const query = document.getElementById("query");
  query.value = words;
  query.dispatchEvent(new Event("input"));
  answers[words] = [...document.querySelectorAll("#results a")].map((link) => link.textContent);
}
document.body.dataset.answer = JSON.stringify(answers);
</script>
"""


def test_search_finds_columns_tasks_checks_and_sql(
    browser: Browser, page: Path, tmp_path: Path
) -> None:
    searched = tmp_path / "searched.html"
    searched.write_text(page.read_text().replace("</body>", f"{SEARCH}</body>"))
    found = re.search(r'data-answer="([^"]*)"', look(browser, searched))
    assert found is not None
    hits = json.loads(html.unescape(found[1]))
    assert "dwh.fact_order.delivered_at column" in hits["delivered_at"]
    assert all("fact_order_line" in one for one in hits["fact_order_line"][:5])
    assert "dimension:dim_product task" in hits["dim_product"]
    assert "no_overlap check" in hits["overlap"]
    assert set(hits["dim_product plan_cache_mode"]) >= {"dim_product SQL"}
    assert hits["no-such-word"] == []


def test_an_address_chooses_a_column(browser: Browser, page: Path) -> None:
    dom = look(browser, page, "#of-kpi.month.sales")
    assert re.findall(r'<article class="column current" id="([^"]+)"', dom) == [
        "of-kpi.month.sales"
    ]
    opened = look(browser, page, "#dwh.fact_order")
    assert re.search(r'<details class="entry" id="dwh.fact_order"[^>]* open=""', opened)


@pytest.mark.parametrize("width", [360, 800, 1440])
def test_the_page_is_no_wider_than_the_window(
    browser: Browser, page: Path, tmp_path: Path, width: int
) -> None:
    measured = tmp_path / "measured.html"
    script = "<script>document.body.dataset.wide = document.documentElement.scrollWidth - innerWidth</script>"
    measured.write_text(page.read_text().replace("</body>", f"{script}</body>"))
    dom = look(browser, measured, width=width)
    found = re.search(r'data-wide="(-?\d+)"', dom)
    assert found is not None
    assert int(found[1]) <= 0


def test_tasks_are_those_of_the_latest_run(warehouse: Database, page: Path) -> None:
    text = page.read_text()
    for row in warehouse.rows("SELECT * FROM etl.task_status"):
        part = text[text.index(f'<tr id="task-{row["task"]}"') :].split("</tr>")[0]
        assert f'status-{row["status"]}"' in part
        if row["rows_read"]:
            assert f">{row['rows_read']:,}<" in part


def test_a_failed_task_is_told_without_its_message(database: Database) -> None:
    connection = database.connect()
    connection.execute("CALL etl.run()")
    connection.execute(
        "UPDATE etl.task_run SET status = 'failed', sqlstate = '23514', message = 'secret of Ann'"
        " WHERE task = 'dimension:dim_customer'"
    )
    made = site.files(catalog.read(connection))
    assert re.search(r'"id": "dimension:dim_customer"[^}]*status-failed', made["index.html"])
    assert "23514" in made["index.html"]
    assert "failed (23514)" in made["tasks.md"]
    assert not any("secret of Ann" in text for text in made.values())


def test_before_the_first_run(connection: psycopg.Connection[Any]) -> None:
    made = site.files(catalog.read(connection))
    assert "Nothing has been loaded yet." in made["index.html"]
    assert "No run has been made yet." in made["tasks.md"]


def test_no_data_gets_into_the_site(warehouse: Database, files: dict[str, str]) -> None:
    # A library has numbers of its own, and one of them may be the server's port.
    library = Path(site.__file__).with_name("templates") / "elk.min.js"
    page = files["index.html"]
    assert library.read_text() in page
    everything = "\n".join({**files, "index.html": page.replace(library.read_text(), "")}.values())
    for row in warehouse.rows("SELECT * FROM oceanrecords.customers"):
        for column in ("email", "phone"):
            assert not row[column] or row[column] not in everything
        assert f"{row['first_name']} {row['last_name']}" not in everything
    for row in warehouse.rows("SELECT street FROM oceanrecords.addresses"):
        assert row["street"] not in everything
    for part in (warehouse.name, warehouse.server.host, str(warehouse.server.port), warehouse.dsn):
        assert part not in everything


def test_names_of_a_database_are_text_in_the_page(
    database: Database, browser: Browser, tmp_path: Path
) -> None:
    nasty = "</script><img src=x onerror=alert(1)> & \"x\" | 'y'"
    database.execute(
        'CREATE TABLE dwh."{0}" ("{0}" text); COMMENT ON TABLE dwh."{0}" IS \'{1}\''.format(
            nasty.replace('"', '""'), nasty.replace("'", "''")
        )
    )
    with database.connect() as connection:
        made = site.files(catalog.read(connection))
    site.write(made, tmp_path)
    dom = look(browser, tmp_path / "index.html")
    assert "<img" not in re.sub("(?s)<script.*?</script>", "", dom)
    assert html.escape(nasty, quote=False) in html.unescape(dom).replace(
        "&", "&amp;"
    ) or nasty in html.unescape(dom)


# -- dictionary ------------------------------------------------------------------------------------


def test_everything_has_a_comment(database: Database) -> None:
    assert database.rows("SELECT * FROM etl.dictionary_gap") == []


def test_what_has_no_comment_is_named(cli: Callable[..., Finished], database: Database) -> None:
    database.execute(
        "CREATE SCHEMA other; CREATE TABLE dwh.nobody (x integer);"
        " CREATE FUNCTION kpi.nothing() RETURNS integer LANGUAGE sql AS 'SELECT 1';"
        " COMMENT ON COLUMN dwh.fact_order.quantity IS NULL"
    )
    gaps = {
        (row["kind"], row["object"]) for row in database.rows("SELECT * FROM etl.dictionary_gap")
    }
    assert gaps == {
        ("schema", "other"),
        ("table", "dwh.nobody"),
        ("column", "dwh.nobody.x"),
        ("function", "kpi.nothing"),
        ("column", "dwh.fact_order.quantity"),
    }
    finished = cli("docs")
    assert finished.returncode == 0
    assert "COMMENT ON" in finished.stdout
    assert "and 2 more" in finished.stdout


def test_the_dictionary_is_complete(warehouse: Database, files: dict[str, str]) -> None:
    """Every table, column and public routine, with its comment, in both forms."""
    page, text = files["index.html"], files["dictionary.md"]
    rows = warehouse.rows(
        """
        SELECT format('%s.%s', n.nspname, c.relname) AS relation, a.attname AS name, col_description(c.oid, a.attnum) AS comment
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE n.nspname IN ('oceanrecords', 'source', 'delta', 'stage', 'work', 'dwh', 'kpi', 'etl') AND c.relkind IN ('r', 'v')
        """
    )
    assert len(rows) > 1000
    entries = {part.split('"')[0]: part for part in page.split('<details class="entry" id="')[1:]}
    for row in rows:
        entry = entries[row["relation"]].split("</details>")[0]
        assert f'<th scope="row">{row["name"]}' in entry
        assert str(html.escape(row["comment"], quote=False)) in html.unescape(entry).replace(
            "&", "&amp;"
        ).replace("<", "&lt;").replace(">", "&gt;") or row["comment"] in html.unescape(entry)
    for row in warehouse.rows(
        "SELECT proname FROM pg_proc WHERE pronamespace::regnamespace::text IN ('etl', 'kpi') AND proname !~ '^_'"
    ):
        assert f"</span>{row['proname']}</span>" in page
        assert re.search(rf"`(etl|kpi)\.{row['proname']}\(", text)


# -- Markdown --------------------------------------------------------------------------------------


def test_the_committed_pictures_are_those_of_a_new_database(database: Database) -> None:
    """Out of date? `oceanrecords docs --refresh docs/structure.md` on a migrated database draws them again."""
    with database.connect() as connection:
        known = catalog.read(connection)
    text = STRUCTURE.read_text()
    assert markdown.refresh(text, known) == text
    for name in pictures.named(known):
        assert f"<!-- picture: {name} -->" in text
    assert text.count("```mermaid") == len(pictures.named(known))


@pytest.mark.parametrize("page", ["declarations", "commands"])
def test_the_committed_reference_is_current(database: Database, page: str) -> None:
    """Out of date? `oceanrecords docs --refresh docs/PAGE.md` writes it again."""
    with database.connect() as connection:
        known = catalog.read(connection)
    text = STRUCTURE.with_name(f"{page}.md").read_text(encoding="utf-8")
    assert markdown.refresh(text, known) == text


def test_the_reference_has_every_declaration(database: Database) -> None:
    """What a business may call is on the page, with every parameter explained."""
    page = STRUCTURE.with_name("declarations.md").read_text(encoding="utf-8")
    for row in database.rows(
        "SELECT p.proname, a.name FROM pg_proc AS p CROSS JOIN LATERAL unnest(p.proargnames) AS a (name)"
        " WHERE p.pronamespace = 'etl'::regnamespace AND p.proname ~ '^define_'"
    ):
        section = page.split(f"### etl.{row['proname']}\n")[1].split("### ")[0]
        explained = re.search(rf"^\| `{row['name']}` \|.*\| (.*) \|$", section, re.M)
        assert explained, row
        assert len(explained[1]) > 3, row


def test_mermaid_names_every_table(files: dict[str, str], known: Catalog) -> None:
    for table in known.of("oceanrecords"):
        if table.kind == "table":
            assert f"    {table.object} {{" in files["operational-system.md"]
    for fact in known.facts.values():
        assert f"    {fact.fact} {{" in files["stars.md"]
    blocks = [
        block for text in files.values() for block in re.findall(r"(?s)```mermaid\n(.*?)```", text)
    ]
    assert len(blocks) > 10
    for block in blocks:
        assert block.startswith(("erDiagram\n", "flowchart LR\n"))
        assert block.count("{\n") == len(re.findall(r"^    \}$", block, re.MULTILINE))
        if block.startswith("erDiagram"):
            types = re.findall(r"^        (\S+) \S+", block, re.MULTILINE)
            assert all(re.fullmatch(r"[A-Za-z][\w\[\]]*", one) for one in types)


# -- the command -----------------------------------------------------------------------------------


def test_writes_a_folder(cli: Callable[..., Finished], tmp_path: Path) -> None:
    out = tmp_path / "deep" / "site"
    answer = json.loads(cli("docs", "--out", str(out), "--json").stdout)
    assert answer["files"] == sorted(answer["files"], key=answer["files"].index)
    assert {one.name for one in out.iterdir()} == set(answer["files"])
    assert answer["without_comment"] == []
    first = (out / "index.html").read_text()
    assert cli("docs", "--out", str(out)).returncode == 0
    assert (out / "index.html").read_text() == first


def test_a_file_of_ones_own_is_refreshed(cli: Callable[..., Finished], tmp_path: Path) -> None:
    path = tmp_path / "own.md"
    path.write_text("# Mine\n<!-- picture: fact_order -->\nold\n<!-- end of picture -->\nrest\n")
    assert cli("docs", "--refresh", str(path)).returncode == 0
    text = path.read_text()
    assert text.startswith("# Mine\n<!-- picture: fact_order -->\n```mermaid\nerDiagram\n")
    assert text.endswith("<!-- end of picture -->\nrest\n")
    assert "old" not in text


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--refresh", "missing.md"], 1, "missing.md cannot be refreshed"),
        (["--refresh", "plain.md"], 1, "marks no picture"),
        (["--refresh", "odd.md"], 1, "There is no picture 'moon'"),
        (["--refresh", "plain.md", "--out", "x"], 2, "do not go together"),
        (["--out", "plain.md"], 1, "cannot be written to"),
        (["--out", "x", "serve"], 2, "takes no options"),
    ],
)
def test_bad_input_is_one_sentence(
    cli: Callable[..., Finished], tmp_path: Path, words: list[str], code: int, told: str
) -> None:
    (tmp_path / "plain.md").write_text("nothing\n")
    (tmp_path / "odd.md").write_text("<!-- picture: moon -->\n<!-- end of picture -->\n")
    finished = cli("docs", *words)
    assert finished.returncode == code
    assert told in finished.stderr
    assert "Traceback" not in finished.stderr
    assert (tmp_path / "odd.md").read_text().startswith("<!-- picture: moon -->\n<!--")


def test_serves_the_page_of_the_present_state(database: Database) -> None:
    program = Path(sys.executable).with_name("oceanrecords")
    command = [str(program), "--dsn", database.dsn, "docs", "serve", "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        found = re.search(r"http://\S+/", process.stdout.readline())
        assert found is not None, process.stderr.read()

        def page() -> str:
            return str(urllib.request.urlopen(found[0], timeout=60).read().decode())

        assert "Nothing has been loaded yet." in page()
        database.execute("CALL etl.run()")
        deadline = time.monotonic() + 30
        while "Nothing has been loaded yet." in page():
            assert time.monotonic() < deadline
        for path, host, status in (("other", "localhost", 404), ("", "evil.example", 421)):
            request = urllib.request.Request(found[0] + path, headers={"Host": host})
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request, timeout=60)
            refused.value.close()
            assert refused.value.code == status
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
        assert process.stderr.read() == ""


def test_a_database_without_a_warehouse(
    oceanrecords: Callable[..., Finished], empty_database: Database
) -> None:
    finished = oceanrecords("--dsn", empty_database.dsn, "docs")
    assert finished.returncode == 1
    assert "no warehouse" in finished.stderr
    assert "oceanrecords migrate" in finished.stderr


def test_the_same_warehouse_gives_the_same_site(known: Catalog, files: dict[str, str]) -> None:
    assert site.page(known, Lineage(known)) == files["index.html"]
