"""Statistics and report say what was measured, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import report
from benchmarks.measure import BenchmarkError, Measurement, run_program
from benchmarks.results import FIRST_BATCH, Case, Results, median, percentile, ratio
from benchmarks.targets import TARGETS, ratios


def _case(name: str, **seconds: list[float]) -> Case:
    """A case in which each peer needs as many seconds in SQL, and one more with its start-up."""
    case = Case(name, name)
    for peer, values in seconds.items():
        for value in values:
            case.add(
                peer,
                Measurement(value + 1, value, value, 5_000_000, 80_000_000, 9_000_000, 12_345, 678),
            )
    return case


def _results(orders: int, *cases: Case) -> Results:
    return Results(
        orders,
        {"cores": "2"},
        {"dbt-core": "1.11"},
        {"jit": "off"},
        {"orders": orders},
        {case.name: case for case in cases},
    )


def test_median_leaves_out_what_is_not_known() -> None:
    assert median([3.0, None, 1.0, 2.0]) == 2.0
    assert median([1.0, 2.0]) == 1.5
    assert median([None]) is None
    assert median([]) is None


def test_percentile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(1, 101)]
    assert percentile(values, 0.99) == 99
    assert percentile(values, 0.5) == 50
    assert percentile([7.0], 0.99) == 7.0


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200), st.floats(0.01, 1))
def test_percentile_is_not_exceeded_by_its_share(values: list[float], share: float) -> None:
    found = percentile(values, share)
    below = sum(value <= found for value in values)
    assert below >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values) + 1e-9


def test_ratio_needs_both_sides() -> None:
    assert ratio(1.0, 4.0) == 0.25
    assert ratio(None, 4.0) is None
    assert ratio(1.0, None) is None
    assert ratio(1.0, 0.0) is None


def test_ratios_compare_like_with_like() -> None:
    results = _results(
        10,
        _case(
            "batch-1",
            ours=[1, 2, 9],
            dbt=[9],
            dbt_everything=[4, 3, 5],
            hand=[2, 2, 2],
            hand_everything=[1, 1, 1],
        ),
    )
    found = ratios(results, "batch-1", "ours")
    assert found.dbt_whole == pytest.approx(3 / 5)
    assert found.dbt_work == pytest.approx(2 / 4)
    assert found.hand == pytest.approx(2), "everything by everything"
    alone = ratios(_results(10, _case("batch-1", ours=[1])), "batch-1", "ours")
    assert (alone.dbt_whole, alone.dbt_work, alone.hand) == (None, None, None)


def test_results_come_back_as_they_were_written(tmp_path: Path) -> None:
    results = _results(10, _case("initial", ours=[1.5, 2.5], hand=[1]))
    results.cases["initial"].facts["changed"] = {"new_orders": 3}
    results.write(tmp_path / "10.json")
    assert Results.read(tmp_path / "10.json") == results


def test_report_gives_ratios_with_their_verdicts(tmp_path: Path) -> None:
    assert TARGETS["batch-1"].hand == 1.6
    report.write(
        _results(
            10, _case("batch-1", ours=[3], stars=[1.5], dbt=[10], hand=[1], hand_everything=[1])
        ),
        tmp_path,
    )
    page = (tmp_path / "10.md").read_text(encoding="utf-8")
    assert "3.00 ✗ (≤ 1.6)" in page
    assert "1.50 ✓ (≤ 1.6)" in page
    assert "| dbt-core | 1.11 |" in page
    assert "At most 80.0 MB in any case ✓" in page
    picture = ElementTree.parse(tmp_path / "10.svg").getroot()
    assert picture.tag.endswith("svg")
    assert "ours, stars alone" in "".join(picture.itertext())


def test_growth_is_told_against_a_tenth(tmp_path: Path) -> None:
    case = _case("growth", ours_tenth=[2, 1, 2], ours=[3], hand_tenth=[1], hand=[1.1])
    case.facts[FIRST_BATCH] = {"ours": 5.0, "hand": 2.0}
    report.write(_results(10_000, case), tmp_path)
    page = (tmp_path / "10000.md").read_text(encoding="utf-8")
    assert (
        "| 10,000 | ours, everything | 4.00 s | 5.00 s | 3.00 s | 5.0 MB | 12,345 | 678 | 1.50 ✗ (≤ 1.2) |"
        in page
    )
    assert "| 1,000 | ours, everything | 3.00 s | - | 2.00 s |" in page
    assert "| 1,000 | by hand | 2.00 s | - | 1.00 s |" in page
    assert "| 10,000 | by hand | 2.10 s | 2.00 s | 1.10 s | 5.0 MB | 12,345 | 678 | 1.10 |" in page
    assert "| ours, everything, of a tenth | 3.00 s | 2.00 s to 3.00 s | 2.00 s |" in page


def test_a_program_that_fails_is_an_error_with_its_words() -> None:
    with pytest.raises(BenchmarkError, match="status 3:\nno such thing"):
        run_program(
            [
                sys.executable,
                "-c",
                "import sys; print('no such thing', file=sys.stderr); sys.exit(3)",
            ]
        )


def test_memory_of_a_program_is_its_own() -> None:
    """Not that of the process which started it: this one is made larger first."""
    ballast = bytearray(os.urandom(1) * 300_000_000)
    finished = run_program([sys.executable, "-c", "import time; time.sleep(0.5)"])
    assert len(ballast) == 300_000_000
    assert finished.peak_bytes is not None
    assert finished.peak_bytes < 100_000_000


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--cases", "nonsense"], "There is no case 'nonsense'."),
        (["--peers", "spark"], "There is no peer 'spark'."),
    ],
)
def test_bad_input_is_told_in_a_sentence(
    arguments: list[str], sentence: str, tmp_path: Path
) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--home", str(tmp_path / "home"), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode != 0
    assert sentence in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not (tmp_path / "home").exists()
