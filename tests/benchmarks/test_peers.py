"""At a tiny scale: every way of building the stars comes to the same rows, and a difference is named."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.bench import Bench
from benchmarks.cases import CASES
from benchmarks.compare import AGGREGATES, TABLES, assert_equal
from benchmarks.dbt_environment import DbtEnvironment
from benchmarks.measure import BenchmarkError, Measurement
from benchmarks.peers import PEERS, Dbt, Hand, Peer
from benchmarks.results import Results
from benchmarks.server import SETTINGS, Server
from benchmarks.world import World

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

ORDERS = 2_000


def _dbt() -> DbtEnvironment:
    """Where an earlier benchmark has installed dbt."""
    home = Path(os.environ.get("OCEANRECORDS_HOME") or ".oceanrecords") / "bench" / "dbt"
    return DbtEnvironment(Path(os.environ.get("OCEANRECORDS_TEST_DBT") or home).absolute())


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    home = Path(tempfile.mkdtemp(prefix="oceanrecords-test-bench-"))
    server = Server(home)
    server.start()
    try:
        world = World(server, ORDERS)
        world.ensure()
        peers: list[Peer] = [
            PEERS[name](server) for name in ("ours", "stars", "hand", "hand_everything")
        ]
        if _dbt().exists():
            dbt = Dbt(server)
            dbt.environment = DbtEnvironment(_dbt().folder, files=home / "dbt")
            dbt.set_up()
            peers.append(dbt)
        yield Bench(server, world, peers, 1, Results(ORDERS, {}, {}))
    finally:
        server.stop()
        shutil.rmtree(home)


def test_server_has_the_stated_settings(bench: Bench) -> None:
    found = bench.server.settings()
    assert found["autovacuum"] == SETTINGS["autovacuum"]
    assert found["fsync"] == "on"


@pytest.mark.slow
def test_all_peers_build_the_same_stars(bench: Bench) -> None:
    for name in ("initial", "batch-1", "batch-10", "nothing"):
        CASES[name](bench)
    names = {peer.name for peer in bench.peers}
    initial, last = bench.results.cases["initial"], bench.results.cases["nothing"]
    assert set(initial.peers) == names
    assert set(last.peers) == names | {"ours_psql", "stars_psql"}
    assert 0 < last.median("ours_psql", "sql_seconds") < last.median("ours_psql", "wall_seconds")
    assert initial.rows["fact_order"] == ORDERS
    assert set(initial.rows) == set(TABLES) | set(AGGREGATES)
    changed = bench.results.cases["batch-10"].facts["changed"]
    assert changed["moved_orders"] > 0
    assert last.rows["fact_order"] > ORDERS + changed["new_orders"] - 1
    assert last.rows["dim_product"] > initial.rows["dim_product"]
    assert last.rows["dim_address"] > initial.rows["dim_address"]


@pytest.mark.slow
def test_measurements_are_plausible(bench: Bench) -> None:
    bench.ensure_loaded()
    bench.change(5)
    ours, hand = bench.ours.load(), next(p for p in bench.peers if p.name == "hand").load()
    assert 0 < ours.sql_seconds < ours.wall_seconds
    assert ours.wal_bytes > 10_000
    assert hand.wal_bytes > 10_000
    assert 20e6 < ours.client_bytes < 200e6
    assert ours.extra["tasks"]["fact:fact_order"] > 0
    for peer in bench.peers:
        if peer.name not in ("ours", "hand"):
            peer.load()
    bench.prove("a change of 5 %")


@pytest.mark.slow
def test_a_difference_is_named(bench: Bench) -> None:
    bench.ensure_loaded()
    ours = bench.ours
    hand = PEERS["hand"](bench.server, "tampered")
    bench.server.copy("peer_hand", hand.database)
    assert_equal([ours, hand], "before")
    with bench.server.connect(hand.database) as connection:
        connection.execute("UPDATE hand.fact_order SET gross_amount = 4711.42 WHERE order_id = 7")
        with pytest.raises(BenchmarkError, match=r"after: fact_order of 'by hand' differs") as told:
            assert_equal([ours, hand], "after")
        assert "only 'by hand' has (7," in str(told.value)
        assert "4711.42" in str(told.value)
        assert "only 'ours, everything' has (7," in str(told.value)
        connection.execute("DELETE FROM hand.fact_order WHERE order_id = 7")
        with pytest.raises(BenchmarkError, match="only 'ours, everything' has") as told:
            assert_equal([ours, hand], "after")
        assert "only 'by hand' has" not in str(told.value)


@pytest.mark.slow
def test_a_difference_in_an_aggregate_is_named(bench: Bench) -> None:
    bench.ensure_loaded()
    hand = PEERS["hand_everything"](bench.server, "tampered_aggregate")
    bench.server.copy("peer_hand_everything", hand.database)
    with bench.server.connect(hand.database) as connection:
        connection.execute("UPDATE hand.agg_order_daily SET sales = sales + 1")
    with pytest.raises(BenchmarkError, match="after: agg_order_daily of 'by hand, everything'"):
        assert_equal([bench.ours, hand], "after")


@pytest.mark.slow
def test_a_surrogate_key_counts_as_the_version_that_it_stands_for(bench: Bench) -> None:
    """Keys may be numbered as they like, but must lead to the right version."""
    bench.ensure_loaded()
    ours = bench.ours
    other = type(ours)(bench.server, "renumbered")
    bench.server.copy(ours.database, other.database)
    with bench.server.connect(other.database) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            "UPDATE dwh.dim_product SET product_key = product_key + 1000000 WHERE product_key > 0"
        )
        connection.execute(
            "UPDATE dwh.fact_order_line SET product_key = product_key + 1000000 WHERE product_key > 0"
        )
        assert_equal([ours, other], "renumbered")
        connection.execute(
            "UPDATE dwh.fact_order_line AS f SET product_key = d.product_key "
            "FROM dwh.dim_product AS d JOIN dwh.dim_product AS o USING (product_id) "
            "WHERE f.product_key = o.product_key AND d.product_key <> o.product_key"
        )
        with pytest.raises(BenchmarkError, match="fact_order_line"):
            assert_equal([ours, other], "another version")


class _Forgetful(Hand):
    """Hand-written SQL that loses a row at the end."""

    def load(self) -> Measurement:
        result = super().load()
        with self.server.connect(self.database) as connection:
            connection.execute("DELETE FROM hand.fact_order_line WHERE order_id = 7")
        return result


@pytest.mark.slow
def test_growth_measures_each_peer_by_itself(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """No database of another peer is there meanwhile, and the stars are compared all the same."""
    monkeypatch.setattr("benchmarks.cases.loads._FIRST_BATCHES", 2)
    seen: list[list[str]] = []

    class Watchful(Hand):
        """Hand-written SQL that notes which databases of peers are there."""

        def load(self) -> Measurement:
            seen.append(self.server.databases("peer_"))
            return super().load()

    ours, hand = bench.ours, Watchful(bench.server)
    bench.clear()
    two = replace(bench, peers=[ours, hand], loaded=set(), changes=0)
    CASES["growth"](two)
    case = bench.results.cases["growth"]
    assert {name: len(found) for name, found in case.peers.items()} == {
        "ours_tenth": 2,
        "ours": 1,
        "hand_tenth": 2,
        "hand": 1,
    }
    assert case.rows["fact_order"] > ORDERS
    assert seen == [["peer_hand"]] * 12, (
        "at each of three sizes the first load, two first batches, and the one that counts"
    )
    assert bench.server.databases("peer_") == []

    other = replace(two, peers=[ours, _Forgetful(bench.server)])
    with pytest.raises(
        BenchmarkError, match=r"1,000 of 200 orders .* of 'by hand' differs from that of"
    ):
        CASES["growth"](other)
    other.clear()
