"""What `pip install .` gives works away from the checkout, with all its data."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.platform.test_engine_alone import SHOP
from tests.support.database import Database

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

ROOT = Path(__file__).parents[2]
PACKAGES = ("driver", "simulator", "metabase", "migrations", "plpgsql")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what git would check out, and of new files."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, check=True, capture_output=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.decode().split("\0")):
        source, copy = ROOT / name, folder / "source" / name
        if source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(source.read_bytes())
    subprocess.run(
        [
            sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check",
            "--no-deps", "--wheel-dir", str(folder), str(folder / "source"),
        ],
        check=True,
    )  # fmt: skip
    (built,) = folder.glob("*.whl")
    return built


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", *PACKAGES], cwd=ROOT, check=True, capture_output=True
    ).stdout
    names = filter(None, listed.decode().split("\0"))
    wanted = {name for name in names if (ROOT / name).is_file() and "/." not in name}
    assert any(name.startswith("plpgsql/") for name in wanted)
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert wanted - packed == set()
    assert not [name for name in packed if name.startswith("tests/")]


def test_the_wheel_migrates_and_runs_outside_the_checkout(
    wheel: Path,
    empty_database: Database,
    new_database: Callable[..., Database],
    tmp_path: Path,
) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    site = next((environment / "lib").glob("python*")) / "site-packages"
    # The dependencies are borrowed from the tests' environment; the project itself is not, as
    # the .pth file of its editable installation is not read from there.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    subprocess.run(
        [
            sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "install",
            "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index",
            "--ignore-installed", str(wheel),
        ],
        check=True,
    )  # fmt: skip
    program = environment / "bin" / "oceanrecords"
    settings = os.environ | {"OCEANRECORDS_DSN": empty_database.dsn}

    def run(*arguments: str) -> str:
        finished = subprocess.run(
            arguments, cwd=tmp_path, env=settings, capture_output=True, text=True, check=False
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return finished.stdout

    where = run(str(environment / "bin" / "python"), "-c", "import driver; print(driver.__file__)")
    assert Path(where.strip()).is_relative_to(environment)
    run(str(program), "migrate")
    assert "succeeded" in run(str(program), "run")
    # A business of one's own, in a database of its own.
    own = new_database(migrated=False)
    own.execute(SHOP)
    settings["OCEANRECORDS_DSN"] = own.dsn
    run(str(program), "new", "shop", "--schema", "shop")
    run(str(program), "--project", "shop", "migrate")
    assert "succeeded" in run(str(program), "run")
    assert own.value("SELECT count(*) FROM dwh.fact_sale") == 20
