"""The operational data that all peers start from, and the changes that all of them get alike."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.measure import Finished, run_program
from benchmarks.server import Server, statement
from simulator.burst import burst

ROOT = Path(__file__).resolve().parent.parent
UNTIL = "2026-01-01"
_FIRST_CLOCK = datetime(2026, 1, 1, 12, tzinfo=UTC)


def oceanrecords(dsn: str, *arguments: str, accept: Sequence[int] = (0,)) -> Finished:
    """Run the program as a user does, on one database."""
    return run_program(
        [sys.executable, "-m", "driver", "--dsn", dsn, *arguments],
        environment={"PYTHONPATH": str(ROOT)},
        accept=lambda status: status in accept,
    )


def _fingerprint() -> str:
    """Return a mark of the files that the seeded rows depend on."""
    files = [
        *sorted((ROOT / "migrations" / "oceanrecords").glob("0001.*.sql")),
        *sorted((ROOT / "simulator" / "sql" / "seed").glob("*.sql")),
        *(ROOT / "simulator" / name for name in ("seed.py", "vocabulary.py", "world.py")),
    ]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


class World:
    """One size of the operational system, seeded once.

    Parameters:
        server: where it is.
        orders: number of orders seeded.
    """

    def __init__(self, server: Server, orders: int) -> None:
        self.server = server
        self.orders = orders
        self.seeded = f"world_{orders}_{_fingerprint()}"

    def ensure(self) -> None:
        """Make the database to copy; what an earlier run seeded with the same files stays."""
        if not self.server.exists(self.seeded):
            for outdated in self.server.databases(f"world_{self.orders}_"):
                self.server.drop(outdated)
            unfinished = f"{self.seeded}_unfinished"
            self.server.copy("template0", unfinished)
            dsn = self.server.dsn(unfinished)
            oceanrecords(dsn, "migrate", "--to", "oceanrecords/0001")
            oceanrecords(dsn, "simulate", "seed", "--orders", str(self.orders), "--until", UNTIL)
            self.server.settle(unfinished)
            self.server.rename(unfinished, self.seeded)

    def begin(self, database: str) -> None:
        """Make a copy, and in it a warehouse that is still empty, as the working tree has it."""
        self.server.copy(self.seeded, database)
        oceanrecords(self.server.dsn(database), "migrate")

    def counts(self) -> dict[str, int]:
        """Return how many rows the tables hold that tell the size."""
        with self.server.connect(self.seeded) as connection:
            row = connection.execute(statement("sizes")).fetchone()
        assert row is not None
        names = ("orders", "order_lines", "customers", "addresses", "products")
        return dict(zip(names, row, strict=True))

    def change(self, database: str, percent: float, number: int) -> dict[str, Any]:
        """Change a share of a copy; the same number makes the same changes in every copy.

        Parameters:
            database: the copy.
            percent: share that changes.
            number: which change it is; later ones have greater numbers.

        Returns:
            What was changed, by kind.
        """
        clock = _FIRST_CLOCK + timedelta(hours=number)
        with self.server.connect(database) as connection:
            return vars(burst(connection, percent / 100, seed=number, clock=clock))
