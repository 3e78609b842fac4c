"""The simulator's business, whatever it does, ends in the right stars."""

from __future__ import annotations

from collections.abc import Callable
from subprocess import CompletedProcess

from tests.warehouse.play import Play


def test_a_simulated_business_is_as_recomputed(
    play: Play, oceanrecords: Callable[..., CompletedProcess[str]]
) -> None:
    """Half a year of history in bulk, then rounds of business with a load after each."""

    def simulate(*arguments: str) -> None:
        finished = oceanrecords(
            "simulate", *arguments, env={"OCEANRECORDS_DSN": play.loader.info.dsn}
        )
        assert finished.returncode == 0, finished.stderr

    simulate("seed", "--orders", "400", "--months", "6", "--seed", "7")
    play.run()
    play.assert_right()
    for number in ("1", "2"):
        simulate("tick", "--seed", number)
        play.run()
        play.assert_right()
    assert play.value("SELECT count(*) FROM dwh.fact_order WHERE NOT is_deleted") > 400
