"""axe-core finds nothing on the page: light and dark, wide and narrow, with all that unfolds.

axe-core is not part of this repository. `npm pack` fetches it once into the cache of the test run; OCEANRECORDS_TEST_AXE names a
copy of axe.min.js to use instead. Without either the tests are skipped; where CI is `true` they fail.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.preview.browser import Browser

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

VERSION = "4.10.3"
# The page scrolls in its own order of tiles; "region" wants every text within a landmark.
SCRIPT = """
    <script>{axe}</script>
    <script>
    const wait = setInterval(() => {{
        if (document.body.dataset.state !== "ready") return;
        clearInterval(wait);
        for (const one of document.querySelectorAll("details")) one.open = true;
        axe.run(document, {{ resultTypes: ["violations"] }}).then((found) => {{
            document.title = JSON.stringify([found.passes.length, found.violations.map((one) => [one.id, one.nodes.map((node) => node.html.slice(0, 200) + " " + node.failureSummary)])]);
        }}, (error) => {{ document.title = JSON.stringify(["failed", String(error)]); }});
    }}, 20);
    </script></body>"""


@pytest.fixture(scope="session")
def axe(pytestconfig: pytest.Config) -> str:
    """The program of axe-core."""
    given = os.environ.get("OCEANRECORDS_TEST_AXE")
    if given:
        return Path(given).read_text(encoding="utf-8")
    assert pytestconfig.cache is not None
    folder = Path(str(pytestconfig.cache.mkdir("axe")))
    archive = folder / f"axe-core-{VERSION}.tgz"
    if not archive.exists():
        reason = _fetch(folder)
        if reason and os.environ.get("CI") == "true":
            pytest.fail(reason)
        if reason:
            pytest.skip(f"{reason}; OCEANRECORDS_TEST_AXE names a copy of axe.min.js")
    with tarfile.open(archive) as packed:
        member = packed.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


def _fetch(folder: Path) -> str | None:
    """Fetch the package, and return why that is not possible."""
    npm = shutil.which("npm")
    if npm is None:
        return "axe-core is not there, and npm is not installed"
    done = subprocess.run(
        [npm, "pack", f"axe-core@{VERSION}", "--silent"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return f"npm pack fails: {done.stderr.strip()[:300]}" if done.returncode else None


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_axe_finds_nothing(
    browser: Browser, html: str, axe: str, tmp_path: Path, theme: str, width: int
) -> None:
    page = tmp_path / "page.html"
    before, _, after = html.rpartition("</body>")
    page.write_text(before + SCRIPT.format(axe=axe.replace("</script", "<\\/script")) + after)
    shown = browser.read(f"{page.as_uri()}?theme={theme}", width=width)
    passes, violations = json.loads(shown.title)
    assert violations == []
    assert passes > 20
