"""Proves that two peers have built the same stars, row by row, without the rows leaving the server.

Each table is read in a form without surrogate keys (sql/canonical) and reduced to the number of
its rows and the sum of their hashes. Where those differ, the rows are dealt into buckets by their
key, and one bucket that differs is fetched to name the difference.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from benchmarks.measure import BenchmarkError
from benchmarks.peers import Peer
from benchmarks.server import statement

# What is compared, with the columns that tell a row.
TABLES = {
    "dim_customer": ("customer_id", "valid_from"),
    "dim_address": ("address_id", "valid_from"),
    "dim_payment": ("payment_method_id",),
    "dim_status": ("order_status_id",),
    "dim_supplier": ("supplier_id",),
    "dim_product": ("product_id", "valid_from"),
    "fact_order": ("order_id",),
    "fact_order_line": ("order_id", "line_number"),
}
# The aggregates, which only some peers build.
AGGREGATES = {
    "agg_order_daily": ("day", "country"),
    "agg_order_lost_daily": ("day", "lost_on", "country"),
    "agg_product_monthly": (
        "country",
        "month_start",
        "product_id",
        "product_type",
        "product_subtype",
    ),
    "agg_product_total_monthly": ("month_start", "product_id", "product_type"),
    "agg_product_total_quarterly": ("quarter_start", "product_id", "product_type"),
    "agg_product_total": ("product_id", "product_type"),
    "agg_product_country": ("country", "product_id", "product_type"),
    "agg_subtype_monthly": ("month_start", "country", "product_type", "product_subtype"),
    "agg_customer_quarterly": ("country", "quarter_start", "customer_id"),
    "agg_customer_total_quarterly": ("quarter_start", "customer_id"),
}
_KEYS = TABLES | AGGREGATES
_BUCKETS = 4096


@dataclass(frozen=True)
class Digest:
    """What a table is reduced to."""

    rows: int
    hash: int


def digests(peer: Peer) -> dict[str, Digest]:
    """Return the digest of each table of a peer."""
    with peer.server.connect(peer.database) as connection:
        _settle_on(connection, peer)
        result = {}
        for table in _KEYS if peer.aggregates else TABLES:
            row = connection.execute(
                sql.SQL(
                    "SELECT count(*), coalesce(sum(hashtextextended(r::text, 0)), 0) FROM ({}) AS r"
                ).format(sql.SQL(statement(f"canonical/{table}")))
            ).fetchone()
            assert row is not None
            result[table] = Digest(int(row[0]), int(row[1]))
        return result


def assert_equal(peers: list[Peer], moment: str) -> dict[str, int]:
    """Compare the stars of all peers, and the aggregates where they build them, with the first's.

    Parameters:
        peers: who built them.
        moment: when, for the message.

    Returns:
        Number of rows of each table.

    Raises:
        BenchmarkError: naming the first table and rows that differ.
    """
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(digests, peers))
    for peer, theirs in zip(peers[1:], found[1:], strict=True):
        table = differing_table(found[0], theirs)
        if table is not None:
            raise BenchmarkError(
                f"{moment}: {table} of '{peer.title}' differs from that of "
                f"'{peers[0].title}' ({theirs[table].rows} and {found[0][table].rows} rows). "
                + difference(peers[0], peer, table)
            )
    return {table: digest.rows for table, digest in found[0].items()}


def differing_table(first: dict[str, Digest], second: dict[str, Digest]) -> str | None:
    """Return the first table whose digests differ, of those that both have; None if all agree."""
    return next(
        (table for table in first if table in second and first[table] != second[table]), None
    )


def difference(first: Peer, second: Peer, table: str, limit: int = 3) -> str:
    """Return, in words, some rows that one of two peers has and the other has not."""
    buckets = [_buckets(peer, table) for peer in (first, second)]
    differing = sorted(
        bucket
        for bucket in buckets[0].keys() | buckets[1].keys()
        if buckets[0].get(bucket) != buckets[1].get(bucket)
    )
    if not differing:
        return "No row differs any more."
    ours, theirs = (_rows(peer, table, differing[0]) for peer in (first, second))
    told = [
        f"only '{peer.title}' has {row}"
        for peer, rows in ((first, ours - theirs), (second, theirs - ours))
        for row in sorted(rows)[:limit]
    ]
    return f"In {len(differing)} of {_BUCKETS} buckets, such as: " + "; ".join(told)


def _bucket(table: str) -> sql.Composed:
    return sql.SQL("hashtextextended(ROW({})::text, 0) & {}").format(
        sql.SQL(", ").join(sql.Identifier("r", column) for column in _KEYS[table]),
        sql.Literal(_BUCKETS - 1),
    )


def _buckets(peer: Peer, table: str) -> dict[int, tuple[int, int]]:
    with peer.server.connect(peer.database) as connection:
        _settle_on(connection, peer)
        rows = connection.execute(
            sql.SQL(
                "SELECT {}, count(*), sum(hashtextextended(r::text, 0)) FROM ({}) AS r GROUP BY 1"
            ).format(_bucket(table), sql.SQL(statement(f"canonical/{table}")))
        ).fetchall()
    return {bucket: (count, int(total)) for bucket, count, total in rows}


def _rows(peer: Peer, table: str, bucket: int) -> set[str]:
    with peer.server.connect(peer.database) as connection:
        _settle_on(connection, peer)
        rows = connection.execute(
            sql.SQL("SELECT r::text FROM ({}) AS r WHERE {} = {}").format(
                sql.SQL(statement(f"canonical/{table}")), _bucket(table), sql.Literal(bucket)
            )
        ).fetchall()
    return {row[0] for row in rows}


def _settle_on(connection: psycopg.Connection[Any], peer: Peer) -> None:
    """Let the names of the stars mean those of the peer, and rows be written the same way."""
    connection.execute("SELECT set_config('search_path', %s, false)", [peer.schema])
    connection.execute("SET timezone = 'UTC'")
    connection.execute("SET work_mem = '256MB'")
