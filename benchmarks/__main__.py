"""`python -m benchmarks`: what `make bench` runs."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import psutil
import psycopg
import typer

from base.errors import UserError
from benchmarks import report
from benchmarks.bench import Bench, console
from benchmarks.cases import CASES, DEFAULT
from benchmarks.measure import BenchmarkError
from benchmarks.peers import PEERS, Peer
from benchmarks.results import Results
from benchmarks.server import Server
from benchmarks.world import World

_RESULTS = Path(__file__).parent / "results"


def main(
    orders: Annotated[
        int, typer.Option(min=100, help="Orders to seed; all else follows.")
    ] = 1_000_000,
    repeat: Annotated[int, typer.Option(min=1, help="Repetitions of each measurement.")] = 5,
    cases: Annotated[
        str, typer.Option(help=f"Names with commas between them, or 'all': {', '.join(CASES)}.")
    ] = ",".join(DEFAULT),
    peers: Annotated[
        str, typer.Option(help=f"Who takes part: {', '.join(PEERS)}; 'ours' always does.")
    ] = ",".join(PEERS),
    results: Annotated[Path, typer.Option(help="Folder for the report.")] = _RESULTS,
    home: Annotated[
        Path | None, typer.Option(help="Folder for the server; otherwise OCEANRECORDS_HOME/bench.")
    ] = None,
    add: Annotated[
        bool, typer.Option("--add", help="Keep the other cases of the report that is there.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the peers' databases there.")] = False,
) -> None:
    """Measure the warehouse beside dbt and hand-written SQL, and write a report."""
    wanted = list(CASES) if cases == "all" else _names(cases, CASES, "case")
    chosen = _names(peers, PEERS, "peer")
    folder = home or Path(os.environ.get("OCEANRECORDS_HOME") or ".oceanrecords") / "bench"
    server = Server(folder.absolute())
    server.start()
    try:
        world = World(server, orders)
        console.print(f"[bold]data[/]  {orders:,} orders")
        world.ensure()
        takers = [PEERS[name](server) for name in PEERS if name in chosen or name == "ours"]
        for peer in takers:
            peer.set_up()
        found = Results(orders, _machine(), _versions(takers), server.settings(), world.counts())
        if add and (results / f"{orders}.json").exists():
            earlier = Results.read(results / f"{orders}.json")
            found.cases = {name: earlier.cases[name] for name in CASES if name in earlier.cases}
            # Those of peers that take no part now belong to the cases that are kept.
            found.versions = earlier.versions | found.versions
        bench = Bench(server, world, takers, repeat, found)
        for name in CASES:
            if name in wanted:
                CASES[name](bench)
                _keep(found, results)
        if not keep:
            for peer in takers:
                server.drop(peer.database)
    finally:
        server.stop()
    typer.echo((results / f"{orders}.md").read_text(encoding="utf-8"))


def _names(text: str, known: Collection[str], kind: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise UserError(f"There is no {kind} '{name}'.", f"Choose from: {', '.join(known)}.")
    return names


def _keep(found: Results, folder: Path) -> None:
    """Write the report, its cases in their order."""
    found.cases = {name: found.cases[name] for name in CASES if name in found.cases}
    found.write(folder / f"{found.orders}.json")
    report.write(found, folder)


def _machine() -> dict[str, str]:
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    return {
        "processor": model,
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
    }


def _versions(peers: list[Peer]) -> dict[str, str]:
    versions = {"Python": platform.python_version(), "psycopg": psycopg.__version__}
    for peer in peers:
        versions |= peer.versions()
    return versions


if __name__ == "__main__":
    try:
        typer.run(main)
    except (BenchmarkError, UserError) as error:
        console.print(f"[red]✗[/] {error}", soft_wrap=True)
        sys.exit(1)
