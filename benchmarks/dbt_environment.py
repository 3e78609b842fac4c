"""dbt in a virtual environment of its own: it is no dependency of the project."""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.measure import BenchmarkError

REQUIREMENTS = ("dbt-core==1.11.*", "dbt-postgres==1.*")
PROJECT = Path(__file__).parent / "dbt"


class DbtEnvironment:
    """Where dbt is installed, and where it writes.

    Parameters:
        folder: holds the virtual environment.
        files: holds what dbt writes; None takes the same folder.
    """

    def __init__(self, folder: Path, files: Path | None = None) -> None:
        self.folder = folder
        self.files = files or folder
        self.program = folder / "venv" / "bin" / "dbt"

    def exists(self) -> bool:
        """Tell whether dbt is installed."""
        return self.program.exists()

    def ensure(self) -> None:
        """Install dbt unless it is there.

        Raises:
            BenchmarkError: if it cannot be installed.
        """
        if self.exists():
            return
        home = self.folder / "venv"
        venv.create(home, with_pip=True, clear=True)
        finished = subprocess.run(
            [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", *REQUIREMENTS],
            capture_output=True,
            text=True,
            check=False,
        )
        if finished.returncode != 0:
            self.program.unlink(missing_ok=True)
            raise BenchmarkError(
                f"dbt cannot be installed with {sys.executable}: {finished.stderr.strip()[-500:]}\n"
                "Leave it out with --peers ours,stars,hand."
            )

    def versions(self) -> dict[str, str]:
        """Return the versions of dbt and its adapter."""
        finished = subprocess.run(
            [str(self.program), "--version"], capture_output=True, text=True, check=False
        )
        told = finished.stdout + finished.stderr
        found = {}
        for name, pattern in (
            ("dbt-core", r"installed:\s*(\S+)"),
            ("dbt-postgres", r"postgres:\s*(\S+)"),
        ):
            match = re.search(pattern, told)
            if match:
                found[name] = match[1]
        return found

    def command(self, *arguments: str) -> list[str]:
        """Return the command line that runs dbt on the benchmark's project."""
        return [
            str(self.program),
            "--quiet",
            "--no-version-check",
            "--no-use-colors",
            *arguments,
            "--project-dir",
            str(PROJECT),
            "--profiles-dir",
            str(PROJECT),
            "--target-path",
            str(self.files / "target"),
            "--log-path",
            str(self.files / "logs"),
            "--threads",
            "2",
        ]
