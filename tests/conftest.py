"""The suite runs on real PostgreSQL servers; this file brings them up. How to write a test:

    def test_something(database):              # once on each server that was chosen
        database.execute("INSERT INTO …")
        assert database.value("SELECT count(*) FROM dwh.fact_order") == 0

Fixtures
    database        `Database`: a fresh migrated database
                    (`.dsn`, `.connect()`, `.rows()`, `.value()`, `.execute()`)
    empty_database  `Database`: an empty one
    new_database    function, returns one more migrated database (or `migrated=False`)
    connection      psycopg connection (autocommit) to `database`
    server          `RunningServer`: the server in use (`.name`, `.dsn()`); shared, never stop it
    own_server      function, returns a server of the test's own, to stop, kill and configure:
                    `own_server()`, `own_server(wal_level="replica")`; it is of the kind in use
    cli             function, runs `oceanrecords ARGUMENTS…` on `database`, returns the process
    oceanrecords    the same, without a database chosen

Everything that uses one of them runs on each chosen server: `pytest --server embedded|debian|all`
(default: embedded; OCEANRECORDS_TEST_SERVER names another default).
`pytest --server citus` runs tests/scaling on a cluster instead, and nothing else. `@pytest.mark.server("debian")`
binds a test to one server, for example because only Debian's has pg_cron, pgtap and plpgsql_check;
what `_ON_ONE_SERVER` lists runs on one of those chosen.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from pytest_postgresql import factories
from pytest_postgresql.executors import NoopExecutor

from base.connection import Target
from driver.migrate import Migrator
from tests.support.database import Database, temporary_database
from tests.support.program import Finished, Program
from tests.support.servers import RunningServer, Servers, why_not_debian

KINDS = ("embedded", "debian")
_ENVIRONMENT = ("OCEANRECORDS_", "PG")
# What these tests show does not depend on the version of the server, so one server is enough. What runs on both: routines
# under plpgsql_check, migrations, extraction, loads, locks, plans, privileges, roles, a second business, commands on the
# engine alone, and the KPIs.
_ON_ONE_SERVER = (
    "tests/engine/test_template.py",
    "tests/insight/test_trace.py",
    "tests/kpi/test_overview.py",
    "tests/kpi/test_rankings.py",
    "tests/operations/test_alerts.py",
    "tests/operations/test_checks.py",
    "tests/operations/test_reconcile.py",
    "tests/platform/test_cli.py",
    "tests/platform/test_connection.py",
    "tests/platform/test_doctor.py",
    "tests/platform/test_migrate.py",
    "tests/platform/test_run.py",
    "tests/platform/test_session.py",
    "tests/security/test_error_texts.py",
    "tests/security/test_forget.py",
    "tests/security/test_settings.py",
    "tests/security/test_users.py::test_a_name_that_cannot_be_told_from_another_is_refused",
    "tests/security/test_users.py::test_tampering_breaks_the_chain",
    "tests/security/test_users.py::test_what_is_refused_leaves_nothing",
    "tests/simulator/test_constraints.py",
    "tests/simulator/test_lifecycle.py",
    "tests/source/test_connection.py",
    "tests/source/test_hostile_names.py",
    "tests/source/test_moved_source.py",
    "tests/source/test_network.py",
    "tests/source/test_unreadable_rows.py",
    "tests/warehouse/test_definitions.py",
    "tests/warehouse/test_drift.py",
    "tests/warehouse/test_quarantine.py",
    "tests/warehouse/test_recomputation.py",
)


@dataclass(frozen=True)
class Choice:
    """The servers chosen for this session, and why Debian's is not among them if asked for."""

    kinds: tuple[str, ...]
    left_out: str | None


_CHOICE = pytest.StashKey[Choice]()
_SERVERS = pytest.StashKey[Servers]()
_SESSIONS = """
    SELECT a.datname, a.pid, pg_blocking_pids(a.pid) AS blocked_by, a.state, a.wait_event_type, a.wait_event,
        now() - a.state_change AS since, a.application_name, left(a.query, 300) AS query
    FROM pg_stat_activity AS a
    WHERE a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()
    ORDER BY a.datname, a.pid
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--server",
        choices=[*KINDS, "all", "citus"],
        default=os.environ.get("OCEANRECORDS_TEST_SERVER", "embedded"),
        help="PostgreSQL server(s) to run the tests on; citus: the cluster of OCEANRECORDS_CITUS_DSN, with its own tests",
    )
    parser.addoption(
        "--histories",
        type=int,
        default=100,
        help="how many random histories tests/warehouse/test_histories.py plays (default: 100)",
    )
    parser.addoption(
        "--every-damage",
        action="store_true",
        help="do every kind of damage of tests/operations/damage.py, not a third of them",
    )


def pytest_configure(config: pytest.Config) -> None:
    # The environment of whoever runs the tests must not choose their database.
    chosen = config.getoption("--server")
    kept = (
        "OCEANRECORDS_TEST_",
        "OCEANRECORDS_CITUS_DSN" if chosen == "citus" else "OCEANRECORDS_TEST_",
    )
    for name in list(os.environ):
        if name.startswith(_ENVIRONMENT) and not name.startswith(kept):
            del os.environ[name]
    if chosen == "citus" and not os.environ.get("OCEANRECORDS_CITUS_DSN"):
        raise pytest.UsageError("--server citus needs a cluster: OCEANRECORDS_CITUS_DSN")
    reason = why_not_debian() if chosen in ("debian", "all") else None
    if reason and (chosen == "debian" or os.environ.get("CI") == "true"):
        raise pytest.UsageError(f"Debian's server cannot be used: {reason}")
    wanted = KINDS if chosen == "all" else (str(chosen),)
    kinds = tuple(kind for kind in wanted if kind != "debian" or not reason)
    config.stash[_CHOICE] = Choice(kinds, reason)
    # So that a terminated session takes its servers along.
    signal.signal(signal.SIGTERM, _interrupt)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return three workers for two processors: tests also wait for locks, browsers and time."""
    return ((os.cpu_count() or 1) * 3 + 1) // 2


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run slow tests first: a worker that begins one when the others are done keeps them waiting."""
    if config.getoption("--server") == "citus":
        others = [item for item in items if not item.nodeid.startswith("tests/scaling/")]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item.nodeid.startswith("tests/scaling/")]
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def pytest_report_header(config: pytest.Config) -> str:
    choice = config.stash[_CHOICE]
    left_out = f" (without debian: {choice.left_out})" if choice.left_out else ""
    return f"PostgreSQL servers: {', '.join(choice.kinds)}{left_out}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server" not in metafunc.fixturenames:
        return
    kinds = metafunc.config.stash[_CHOICE].kinds
    marker = metafunc.definition.get_closest_marker("server")
    if marker is not None:
        wanted = tuple(kind for kind in kinds if kind in marker.args)
        if not wanted:
            reason = f"needs the server {' or '.join(marker.args)}"
            parameters = [pytest.param(marker.args[0], marks=pytest.mark.skip(reason=reason))]
            metafunc.parametrize("server", parameters, indirect=True, scope="session")
            return
        kinds = wanted
    elif metafunc.definition.nodeid.startswith(_ON_ONE_SERVER):
        kinds = kinds[:1]
    metafunc.parametrize("server", kinds, indirect=True, scope="session")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell of a test that hung who waits for whom on the servers."""
    report = yield
    if call.excinfo is not None and str(call.excinfo.value).startswith("Timeout"):
        servers = item.config.stash.get(_SERVERS, None)
        for server in servers.running if servers else []:
            with psycopg.connect(server.dsn(), row_factory=dict_row, connect_timeout=10) as watcher:
                sessions = "\n".join(str(row) for row in watcher.execute(_SESSIONS))
            report.sections.append((f"sessions of server {server.name}", sessions))
    return report


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> Iterator[Servers]:
    """All servers of this session."""
    with contextlib.closing(Servers()) as started:
        request.config.stash[_SERVERS] = started
        yield started


@pytest.fixture(scope="session")
def embedded_server(servers: Servers) -> RunningServer:
    return servers.get("embedded")


@pytest.fixture(scope="session")
def debian_server(servers: Servers) -> RunningServer:
    return servers.get("debian")


def migrate_database(**settings: Any) -> None:
    """Migrate a database: the loader of pytest-postgresql's template."""
    settings.pop("autocommit", None)
    dsn = psycopg.conninfo.make_conninfo("", **settings)
    Migrator(Target(dsn, "tests")).apply()


# pytest-postgresql keeps a migrated template on each server; tests' databases are copies of it.
embedded_template = factories.postgresql_noproc(
    depends_on="embedded_server", dbname="warehouse", load=[migrate_database]
)
debian_template = factories.postgresql_noproc(
    depends_on="debian_server", dbname="warehouse", load=[migrate_database]
)


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> RunningServer:
    """The server in use."""
    started: RunningServer = request.getfixturevalue(f"{request.param}_server")
    return started


@pytest.fixture
def template(server: RunningServer, request: pytest.FixtureRequest) -> str:
    """Name of the migrated template on the server in use."""
    executor: NoopExecutor = request.getfixturevalue(f"{server.name}_template")
    return executor.template_dbname


@pytest.fixture(scope="session")
def engine_template(server: RunningServer) -> Iterator[str]:
    """Name of a database with the engine alone, to be copied."""
    with temporary_database(server, None) as made:
        Migrator(Target(made.dsn, "tests"), engine_only=True).apply()
        yield made.name


@pytest.fixture
def database(server: RunningServer, template: str) -> Iterator[Database]:
    """A fresh migrated database."""
    with temporary_database(server, template) as made:
        yield made


@pytest.fixture
def empty_database(server: RunningServer) -> Iterator[Database]:
    """A database with nothing in it."""
    with temporary_database(server, None) as made:
        yield made


@pytest.fixture
def new_database(
    server: RunningServer, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Database]]:
    """Makes further databases: `new_database()`, `new_database(migrated=False)`."""
    with contextlib.ExitStack() as stack:

        def make(*, migrated: bool = True) -> Database:
            source = request.getfixturevalue("template") if migrated else None
            return stack.enter_context(temporary_database(server, source))

        yield make


@pytest.fixture
def connection(database: Database) -> psycopg.Connection[Any]:
    """An autocommit connection to `database`."""
    return database.connect()


@pytest.fixture
def own_server(server: RunningServer, servers: Servers) -> Iterator[Callable[..., RunningServer]]:
    """Makes a server of the test's own, of the kind in use."""
    made: list[RunningServer] = []

    def make(**settings: str | int) -> RunningServer:
        made.append(servers.create(server.name, **settings))
        return made[-1]

    yield make
    for one in made:
        one.stop("immediate")


@pytest.fixture(scope="session")
def program() -> Iterator[Program]:
    """Calls the program in a process of its own, quickly."""
    with contextlib.closing(Program()) as made:
        yield made


@pytest.fixture
def oceanrecords(tmp_path: Path, program: Program) -> Callable[..., Finished]:
    """Runs the program in a folder of the test's own: `oceanrecords("db", "status", env={…})`."""

    def run(
        *arguments: str,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 120,
    ) -> Finished:
        environment = os.environ | {"COLUMNS": "160", "NO_COLOR": "1"} | (env or {})
        return program.call(*arguments, env=environment, cwd=cwd or tmp_path, timeout=timeout)

    return run


@pytest.fixture
def cli(oceanrecords: Callable[..., Finished], database: Database) -> Callable[..., Finished]:
    """Runs the program on `database`: `cli("run", "--json")`."""

    def run(*arguments: str, env: dict[str, str] | None = None, **options: Any) -> Finished:
        return oceanrecords(
            *arguments, env={"OCEANRECORDS_DSN": database.dsn} | (env or {}), **options
        )

    return run
