"""Real PostgreSQL servers for the tests, each in a folder that goes when the tests end."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from psycopg import conninfo

from base.cluster import Cluster, admit, embedded_binaries, free_port, make_directory

SUPERUSER = "postgres"
DEBIAN_BINARIES = Path(os.environ.get("OCEANRECORDS_TEST_DEBIAN_BIN", "/usr/lib/postgresql/15/bin"))
DEBIAN_EXTENSIONS = ("pg_cron", "pgtap", "plpgsql_check")
_PREFIX = "oceanrecords-test-"
_MEMORY = Path("/dev/shm")
_ROOM = 8 * 1024**3  # bytes

# Nothing here survives a power cut, and nothing has to.
_SETTINGS: dict[str, str | int] = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": 0,
    "max_wal_size": "1GB",
    "checkpoint_timeout": "30min",
    "shared_buffers": "256MB",
    "work_mem": "32MB",
    "maintenance_work_mem": "128MB",
    "max_connections": 100,
    "max_prepared_transactions": 10,
    "max_worker_processes": 20,
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] %d %a ",
    "logging_collector": "off",
}


@dataclass(frozen=True)
class RunningServer:
    """A server that the tests may use.

    The attributes from `host` on are what pytest-postgresql asks of a server.

    Attributes:
        name: 'embedded' or 'debian'.
        cluster: the data directory, to stop, kill and start it (on a server of a test's own only).
        log: the server's log.
        host: folder of its socket.
        port: number of its socket.
    """

    name: str
    cluster: Cluster
    log: Path
    host: str
    port: int
    user: str = SUPERUSER
    password: str | None = None
    options: str = ""
    maintenance_dbname: str = "postgres"
    template_dbname: str | None = None

    def dsn(self, database: str = "postgres") -> str:
        """Return the connection string of a database, as the superuser."""
        return conninfo.make_conninfo(
            "", host=self.host, port=self.port, user=self.user, dbname=database
        )

    def start(self) -> None:
        """Start the server, if it does not run."""
        if self.cluster.postmaster() is None:
            self.cluster.start(self.log)

    def stop(self, mode: str = "fast") -> None:
        """Stop the server ('immediate' as if it had crashed)."""
        self.cluster.stop(mode=mode)


def why_not_debian() -> str | None:
    """Return what is missing for Debian's server, or None when it can be started."""
    if not (DEBIAN_BINARIES / "postgres").exists():
        return f"there is no PostgreSQL 15 in {DEBIAN_BINARIES}"
    control = DEBIAN_BINARIES.parents[3] / "share/postgresql/15/extension"
    missing = [name for name in DEBIAN_EXTENSIONS if not (control / f"{name}.control").exists()]
    return f"the server lacks {', '.join(missing)}" if missing else None


def create_server(
    name: str,
    folder: Path,
    settings: dict[str, str | int] | None = None,
) -> RunningServer:
    """Set up and start a server.

    Parameters:
        name: 'embedded' or 'debian'.
        folder: a folder for it alone; its path must be short enough for a socket's.
        settings: configuration on top of what suits all tests.
    """
    as_root = os.geteuid() == 0
    binaries = embedded_binaries() if name == "embedded" else DEBIAN_BINARIES
    user = ("embedded_postgres" if name == "embedded" else "postgres") if as_root else None
    folder.mkdir(mode=0o755, exist_ok=True)
    cluster = Cluster(binaries, folder / "data", user)
    if user:
        admit(user, binaries)
    sockets = folder / "run"
    make_directory(sockets, user)
    sockets.chmod(0o755)
    cluster.initialise(["--auth-local=trust", "--locale=C.UTF-8", "--no-sync"])
    port = free_port()
    own: dict[str, str | int] = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": str(sockets),
    }
    if name == "debian":
        own |= {
            "shared_preload_libraries": "pg_cron",
            "cron.database_name": "postgres",
            "cron.host": str(sockets),
        }
    cluster.configure("tests.conf", _SETTINGS | own | (settings or {}))
    server = RunningServer(name, cluster, folder / "data" / "server.log", str(sockets), port)
    server.start()
    return server


class Servers:
    """The servers of one test session: started when first asked for, stopped at the end.

    What an earlier session left behind when it was killed is stopped and removed first.
    """

    def __init__(self) -> None:
        _sweep()
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_places()[0]))
        self.folder.chmod(0o755)
        owner = psutil.Process()
        (self.folder / "owner").write_text(f"{owner.pid} {owner.create_time()}", encoding="utf-8")
        self._running: dict[str, RunningServer] = {}
        self._own: list[RunningServer] = []
        atexit.register(self.close)

    def get(self, name: str) -> RunningServer:
        """Return the session's server of that name, started."""
        if name not in self._running:
            self._running[name] = create_server(name, self.folder / name)
        return self._running[name]

    def create(self, name: str, **settings: str | int) -> RunningServer:
        """Return a new server for one test alone, which may stop, kill and configure it."""
        server = create_server(name, self.folder / f"{name}{len(self._own)}", settings)
        self._own.append(server)
        return server

    @property
    def running(self) -> list[RunningServer]:
        """The servers that tests share and have started."""
        return list(self._running.values())

    def close(self) -> None:
        """Stop the servers and remove their folder."""
        for server in (*self._running.values(), *self._own):
            server.stop("immediate")
        self._running.clear()
        self._own.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.close)


def _places() -> list[Path]:
    """Return where servers may live, the best first: in memory, where that has room.

    Each test has a database of its own, and making it on a disk takes longer than most tests.
    """
    places = [Path(tempfile.gettempdir())]
    with contextlib.suppress(OSError):
        if min(shutil.disk_usage(_MEMORY).free, psutil.virtual_memory().available) > _ROOM:
            places.insert(0, _MEMORY)
    return places


def _sweep() -> None:
    """Stop and remove the servers of sessions that were killed."""
    for folder in (found for place in _places() for found in place.glob(f"{_PREFIX}*")):
        try:
            pid, created = (folder / "owner").read_text(encoding="utf-8").split()
            if psutil.Process(int(pid)).create_time() == float(created):
                continue
        except psutil.NoSuchProcess:
            pass
        except (OSError, ValueError):
            continue
        for data in folder.glob("*/data"):
            process = Cluster(Path(), data).postmaster()
            if process is not None:
                process.terminate()
                process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


Starter = Callable[[str], RunningServer]
