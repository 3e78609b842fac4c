"""A lending library in a test's hands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row


@dataclass
class Library:
    """The library's operational system and its warehouse.

    Attributes:
        connection: autocommit; acts on both.
    """

    connection: psycopg.Connection[Any]

    def execute(self, query: str, *parameters: Any) -> None:
        self.connection.execute(query.encode(), parameters or None)

    def value(self, query: str, *parameters: Any) -> Any:
        (value,) = self.row(query, *parameters).values()
        return value

    def row(self, query: str, *parameters: Any) -> dict[str, Any]:
        with self.connection.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(query.encode(), parameters or None).fetchall()
        assert len(rows) == 1, f"{len(rows)} rows instead of one: {query}"
        return rows[0]

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return self.connection.execute(query.encode(), parameters or None).fetchall()

    def member(self, name: str, category: str = "adult") -> int:
        number: int = self.value(
            "INSERT INTO library.members (name, category) VALUES (%s, %s) RETURNING member_id",
            name,
            category,
        )
        return number

    def book(self, isbn: str, title: str = "A book") -> str:
        self.execute("INSERT INTO library.books VALUES (%s, %s, 'Novel')", isbn, title)
        return isbn

    def lend(self, member: int, isbn: str) -> int:
        number: int = self.value(
            "INSERT INTO library.loans (member_id, isbn) VALUES (%s, %s) RETURNING loan_id",
            member,
            isbn,
        )
        return number

    def take_back(self, loan: int) -> None:
        self.execute(
            "UPDATE library.loans SET returned_at = borrowed_at + interval '3 days' WHERE loan_id = %s",
            loan,
        )

    def run(self, expect: str = "succeeded") -> None:
        """Load the warehouse; the run must end with the expected status."""
        self.execute("CALL etl.run()")
        status = self.value("SELECT status FROM etl.run ORDER BY run_id DESC LIMIT 1")
        assert status == expect, self.rows(
            "SELECT task, status, message FROM etl.task_status WHERE status <> 'succeeded'"
        )

    def loan(self, number: int) -> dict[str, Any]:
        """A loan as the star tells it."""
        return self.row(
            "SELECT m.member_id, m.member_name, m.category, b.title, f.days_out, f.loan_count,"
            " f.returned_date_key, f.is_deleted FROM dwh.fact_loan AS f"
            " JOIN dwh.dim_member AS m USING (member_key) JOIN dwh.dim_book AS b USING (book_key)"
            " WHERE loan_id = %s",
            number,
        )
