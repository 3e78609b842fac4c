"""What the warehouse says of the definition, and the login with which a dashboard reads it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from driver.errors import UserError
from metabase.definition import Dashboard, DefinitionError, Problem, Question

DEFAULT_ROLE = "oceanrecords_metabase"
SCHEMA = "kpi"

_SQL = Path(__file__).parent / "sql"
_SAMPLES: dict[str, Any] = {"date": date(2000, 1, 1), "text": "x"}
_RELATION = re.compile(rf"\b{SCHEMA}\.([a-z_][a-z0-9_]*)\b(?!\s*\()")


@dataclass(frozen=True)
class Warehouse:
    """Where Metabase finds the warehouse, which may be another name than the one used here.

    Attributes:
        name: what Metabase calls it.
        host: host as seen from Metabase.
        port: its port.
        database: the database.
        user: the read-only login.
        ssl: whether to demand encryption.
        password: its password; None when it is only asked for in case of need.
    """

    name: str
    host: str
    port: int
    database: str
    user: str = DEFAULT_ROLE
    ssl: bool = False
    password: str | None = field(default=None, repr=False)


def relations(dashboard: Dashboard) -> tuple[str, ...]:
    """Return the names of the views of schema kpi that the questions read."""
    found = {name for one in dashboard.questions.values() for name in _RELATION.findall(one.sql)}
    return tuple(sorted(found))


def check_questions(
    connection: psycopg.Connection[Any], dashboard: Dashboard, role: str | None = None
) -> None:
    """Ask the database what each question returns, without and with its filters.

    Nothing is read: the statements run with LIMIT 0, in a read-only transaction.

    Parameters:
        connection: autocommit connection to the warehouse.
        dashboard: the definition.
        role: as whom; None as the connection's own role.

    Raises:
        DefinitionError: if a statement fails, or lacks a column that the definition names.
        UserError: if the connection may not take on the role.
    """
    problems = [
        problem
        for question in dashboard.questions.values()
        for problem in _problems(connection, dashboard, question, role)
    ]
    if problems:
        raise DefinitionError(problems)


DEFINED = "\n\nWhat counts\n"


@dataclass(frozen=True)
class Meaning:
    """What a figure means, as kpi.definition says it."""

    kpi: str
    unit: str
    definition: str
    leaves_out: str
    as_of: str

    @property
    def text(self) -> str:
        """The definition in one paragraph."""
        counts = f"{self.kpi} ({self.unit}): {self.definition}"
        return f"{counts} Leaves out: {self.leaves_out} {self.as_of}"


def meanings(connection: psycopg.Connection[Any]) -> dict[str, Meaning]:
    """Return the definitions of the figures by name, in the order of the catalog."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            "SELECT d.kpi, CASE d.unit WHEN 'currency' THEN f.currency ELSE d.unit END AS unit,"
            " d.definition, d.leaves_out, d.as_of"
            " FROM kpi.definition AS d CROSS JOIN kpi.freshness AS f ORDER BY d.position"
        ).fetchall()
    return {row["kpi"]: Meaning(**row) for row in rows}


def resolve(connection: psycopg.Connection[Any], dashboard: Dashboard) -> Dashboard:
    """Fill in what the warehouse says: the currency, and in each description what its figures mean.

    Parameters:
        connection: to the warehouse.
        dashboard: the definition.

    Raises:
        DefinitionError: if the definition demands another currency, or names an unknown figure.
        psycopg.Error: if schema kpi is missing.
    """
    row = connection.execute("SELECT currency FROM kpi.freshness").fetchone()
    assert row is not None
    known = meanings(connection)
    file = f"{dashboard.folder.name}/dashboard.yaml"
    problems = [
        Problem(
            file,
            question.key,
            "figures",
            f"there is no figure '{name}'",
            f"Figures of kpi.definition are: {', '.join(known)}.",
        )
        for question in dashboard.questions.values()
        for name in question.figures
        if name not in known
    ]
    if dashboard.currency not in ("", row[0]):
        problems.append(
            Problem(
                file,
                None,
                "currency",
                f"it says {dashboard.currency}, the warehouse {row[0]}",
                "Remove it: the warehouse's setting currency holds.",
            )
        )
    if problems:
        raise DefinitionError(problems)
    questions = {
        key: replace(
            one,
            description=one.description
            + (
                DEFINED + "\n".join(known[name].text for name in one.figures) if one.figures else ""
            ),
        )
        for key, one in dashboard.questions.items()
    }
    return replace(dashboard, currency=row[0], questions=questions)


def _problems(
    connection: psycopg.Connection[Any],
    dashboard: Dashboard,
    question: Question,
    role: str | None,
) -> Iterable[Problem]:
    file = f"{dashboard.folder.name}/questions/{question.file.name}"
    samples = {key: _SAMPLES[one.type] for key, one in dashboard.filters.items()}
    for values, when in (({}, "without filters"), (samples, "with all filters")):
        try:
            names = _describe(connection, question, values, role)
        except psycopg.errors.InvalidParameterValue:
            raise
        except psycopg.Error as error:
            words = error.diag.message_primary or str(error).strip()
            yield Problem(
                file,
                question.key,
                None,
                f"the database refuses it {when}: {words}",
                error.diag.message_hint
                or "Correct the statement, or install the views it reads: oceanrecords migrate",
            )
            return
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            yield Problem(
                file,
                question.key,
                None,
                f"it returns the column {twice[0]} twice",
                "Give one of them another name with AS.",
            )
        missing = [name for name in question.columns if name not in names]
        if missing:
            yield Problem(
                f"{dashboard.folder.name}/dashboard.yaml",
                question.key,
                f"columns.{missing[0]}",
                f"its SQL does not return {', '.join(missing)}",
                f"It returns {', '.join(names)}.",
            )
        if twice or missing:
            return


def _describe(
    connection: psycopg.Connection[Any],
    question: Question,
    values: dict[str, Any],
    role: str | None,
) -> list[str]:
    """Return the names of the columns of a question."""
    text, parameters = question.compile(values)
    # The definition's own SQL, with every value as a parameter.
    statement = sql.SQL("SELECT * FROM ({}\n) AS question LIMIT 0").format(sql.SQL(text))
    with connection.transaction(force_rollback=True):
        connection.execute("SET TRANSACTION READ ONLY")
        if role:
            _take_on(connection, role)
        cursor = connection.execute(statement, parameters)
        return [column.name for column in cursor.description or ()]


def _take_on(connection: psycopg.Connection[Any], role: str) -> None:
    try:
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
    except psycopg.errors.InsufficientPrivilege as error:
        raise UserError(
            f"The connection to the warehouse may not act as {role}.",
            f"GRANT {role} TO CURRENT_USER, or connect as a superuser.",
        ) from error


# -- the login ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RoleState:
    """What a login is and sees.

    Attributes:
        exists: there is such a role.
        faults: what keeps it from being a login that sees schema kpi alone, in words.
        mendable: whether granting rights would mend all of it.
    """

    exists: bool
    faults: tuple[str, ...] = ()
    mendable: bool = True


def role_state(connection: psycopg.Connection[Any], role: str) -> RoleState:
    """Look at the login with which Metabase reads the warehouse.

    Parameters:
        connection: connection to the warehouse.
        role: the login.

    Raises:
        UserError: if there is no schema kpi.
    """
    try:
        with connection.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute(_statement("role_state.sql"), {"role": role}).fetchone()
    except psycopg.errors.InvalidSchemaName as error:
        raise UserError(
            "The database has no schema kpi, so there is nothing for a dashboard to show.",
            "Install the warehouse first: oceanrecords migrate",
        ) from error
    if row is None:
        return RoleState(exists=False)
    beyond = []
    if row["is_powerful"]:
        beyond.append("it has rights of an administrator")
    if row["excess"]:
        beyond.append(f"it sees or writes {_list(row['excess'])}")
    short = []
    if not row["can_log_in"]:
        short.append("it may not log in")
    if not row["sees_kpi"]:
        short.append("it does not see schema kpi")
    elif row["unseen"]:
        short.append(f"it does not see {_list(row['unseen'])}")
    return RoleState(True, (*beyond, *short), mendable=not beyond)


def _list(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def check_role(connection: psycopg.Connection[Any], role: str) -> None:
    """Make sure that the login exists and sees schema kpi alone.

    Raises:
        UserError: naming what it lacks, or has too much of.
    """
    state = role_state(connection, role)
    if not state.exists:
        raise UserError(
            f"The warehouse has no role {role}, as which Metabase would read it.",
            "Add --create-role, which makes it, or name another one with --warehouse-user.",
        )
    if state.faults:
        raise UserError(
            f"The role {role} is not one that reads schema kpi alone: {'; '.join(state.faults)}.",
            "Add --create-role, which grants what is missing."
            if state.mendable
            else "Revoke what it has too much of, or name another role with --warehouse-user.",
        )


def create_role(connection: psycopg.Connection[Any], role: str) -> bool:
    """Make the login, or grant what it lacks; it has no password until `set_password` gives it one.

    Parameters:
        connection: autocommit connection to the warehouse, of a role that may create roles.
        role: the login.

    Returns:
        Whether anything was done.

    Raises:
        UserError: if the role has more rights than it should, or may not be made.
    """
    state = role_state(connection, role)
    if state.exists and not state.faults:
        return False
    if not state.mendable:
        check_role(connection, role)
    name = sql.Identifier(role)
    try:
        with connection.transaction():
            connection.execute(
                "CALL etl.add_user(%s, '{business}', p_is_service => true, p_is_existing => true)",
                [role],
            )
            connection.execute(sql.SQL(_statement("set_up_role.sql").decode()).format(role=name))
    except psycopg.errors.InsufficientPrivilege as error:
        raise UserError(
            f"The connection to the warehouse may not make the role {role}.",
            "Connect as the administrator who migrates the warehouse, or as a superuser.",
            detail=error.diag.message_primary,
        ) from error
    return True


def set_password(connection: psycopg.Connection[Any], role: str, password: str) -> None:
    """Give the login a password; the server, its log included, gets to see only the SCRAM secret.

    Parameters:
        connection: autocommit connection to the warehouse.
        role: the login.
        password: its password from now on.
    """
    secret = connection.pgconn.encrypt_password(
        password.encode(), role.encode(), b"scram-sha-256"
    ).decode()
    connection.execute(
        sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(secret))
    )


def _statement(name: str) -> bytes:
    return (_SQL / name).read_bytes()
