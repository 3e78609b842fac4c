"""The lock file of development and CI: constraints.txt pins what pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PINS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.lstrip().startswith("#")
]


def test_every_dependency_is_pinned_to_a_version_that_fits() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    pinned = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in PINS}
    for one in map(Requirement, wanted):
        assert one.specifier.contains(pinned[canonicalize_name(one.name)], prereleases=True), one


def test_a_pin_is_one_version_and_names_no_place() -> None:
    for pin in PINS:
        assert re.fullmatch(r"==[^=,*]+", str(pin.specifier)), pin
        assert pin.url is None
    assert "://" not in (ROOT / "constraints.txt").read_text(encoding="utf-8")
