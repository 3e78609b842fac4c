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

from base.errors import UserError, not_installed
from metabase.definition import Dashboard, DefinitionError, Problem, Question

DEFAULT_ROLE = "oceanrecords_metabase"
ANALYST_ROLE = "oceanrecords_metabase_analyst"
SCHEMA = "kpi"
# The level of permission that reads a schema and nothing else.
_LEVELS = {"kpi": "business", "analysis": "analyst"}

_SQL = Path(__file__).parent / "sql"
_SAMPLES: dict[str, Any] = {"date": date(2000, 1, 1), "text": "x"}


@dataclass(frozen=True)
class Warehouse:
    """Where Metabase finds the warehouse, which may be another name than the one used here.

    Attributes:
        name: what Metabase calls it.
        host: host as seen from Metabase.
        port: its port.
        database: the database.
        user: the read-only login.
        ssl: whether to demand encryption; Metabase encrypts by itself where the server can.
        schema: the schema that Metabase reads.
        password: its password; None when it is only asked for in case of need.
    """

    name: str
    host: str
    port: int
    database: str
    user: str = DEFAULT_ROLE
    ssl: bool = False
    schema: str = SCHEMA
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class CatalogColumn:
    """What the warehouse's catalog says of a column.

    Attributes:
        relation: its table or view.
        relation_description: what a row of that is.
        name: the column.
        description: what it holds.
        semantic_type: Metabase's name for what it means, where the catalog tells.
        target: table and column that it refers to.
        is_technical: hidden, because only the loads need it.
    """

    relation: str
    relation_description: str | None
    name: str
    description: str | None = None
    semantic_type: str | None = None
    target: tuple[str, str] | None = None
    is_technical: bool = False


def catalog(connection: psycopg.Connection[Any], schema: str) -> tuple[CatalogColumn, ...]:
    """Read what the warehouse's catalog says of the columns of a schema.

    Parameters:
        connection: connection to the warehouse, of a role that reads schema etl.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(_statement("catalog.sql"), {"schema": schema}).fetchall()
    return tuple(
        CatalogColumn(
            row["relation"],
            row["relation_description"],
            row["column_name"],
            row["description"],
            row["semantic_type"],
            (row["target_relation"], row["target_column"]) if row["target_relation"] else None,
            row["is_technical"],
        )
        for row in rows
    )


def relations(dashboard: Dashboard) -> tuple[str, ...]:
    """Return the names of the views of schema kpi that the questions read."""
    return relations_of((one.sql for one in dashboard.questions.values()), SCHEMA)


def relations_of(statements: Iterable[str], schema: str) -> tuple[str, ...]:
    """Return the names of the relations of a schema that statements read; functions are none."""
    pattern = re.compile(rf"\b{schema}\.([a-z_][a-z0-9_]*)\b(?!\s*\()")
    return tuple(sorted({name for text in statements for name in pattern.findall(text)}))


def check_questions(
    connection: psycopg.Connection[Any], dashboard: Dashboard, role: str | None = None
) -> None:
    """Ask the database what each question returns, without and with its filters.

    Nothing is read: the statements run with LIMIT 0, in a read-only transaction.

    Parameters:
        connection: autocommit connection to the warehouse.
        role: as whom; None as the connection's own role.

    Raises:
        DefinitionError: if a statement fails, or lacks a column that the definition names.
        UserError: if the warehouse is not installed, or the connection may not take on the role.
    """
    if connection.execute("SELECT to_regnamespace(%s) IS NULL", [SCHEMA]).fetchone() == (True,):
        raise not_installed(f'schema "{SCHEMA}" does not exist')
    problems = [
        problem
        for question in dashboard.questions.values()
        for problem in _problems(connection, dashboard, question, role)
    ]
    if problems:
        raise DefinitionError(problems)


# What a description gets behind the definition's own words.
FOLLOWED = "\n\nFollows the filters: "
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
    """Fill in the currency, and in each description the filters and what its figures mean.

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
            + _followed(dashboard, one)
            + (
                DEFINED + "\n".join(known[name].text for name in one.figures) if one.figures else ""
            ),
        )
        for key, one in dashboard.questions.items()
    }
    return replace(dashboard, currency=row[0], questions=questions)


def _followed(dashboard: Dashboard, question: Question) -> str:
    """Return which filters a tile follows: Metabase does not show which ones it ignores."""
    if question.position is None:
        return ""
    period = dashboard.period
    names = [
        period.name if period and one.key in (period.first, period.last) else one.name
        for one in dashboard.filters_of(question)
    ]
    return f"{FOLLOWED}{', '.join(dict.fromkeys(names)) or 'none'}."


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
        faults: what keeps it from being a login that sees its schema alone, in words.
        mendable: whether granting rights would mend all of it.
    """

    exists: bool
    faults: tuple[str, ...] = ()
    mendable: bool = True


def role_state(connection: psycopg.Connection[Any], role: str, schema: str = SCHEMA) -> RoleState:
    """Look at a login with which Metabase reads the warehouse.

    Parameters:
        schema: the only schema that it should see.

    Raises:
        UserError: if there is no such schema.
    """
    values = {"role": role, "schema": schema, "level": f"oceanrecords_{_LEVELS[schema]}"}
    try:
        with connection.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute(_statement("role_state.sql"), values).fetchone()
    except psycopg.errors.InvalidSchemaName as error:
        raise not_installed(f'schema "{schema}" does not exist') from error
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
    if not row["sees_schema"]:
        short.append(f"it does not see schema {schema}")
    elif row["unseen"]:
        short.append(f"it does not see {_list(row['unseen'])}")
    return RoleState(True, (*beyond, *short), mendable=not beyond)


def _list(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def check_role(connection: psycopg.Connection[Any], role: str, schema: str = SCHEMA) -> None:
    """Make sure that the login exists and sees its schema alone.

    Raises:
        UserError: naming what it lacks, or has too much of.
    """
    state = role_state(connection, role, schema)
    if not state.exists:
        raise UserError(
            f"The warehouse has no role {role}, as which Metabase would read it.",
            f"Add --create-role, which makes it, or name another one with {_option(schema)}.",
        )
    if state.faults:
        raise UserError(
            f"The role {role} is not one that reads schema {schema} alone: "
            f"{'; '.join(state.faults)}.",
            "Add --create-role, which grants what is missing."
            if state.mendable
            else f"Revoke what it has too much of, or name another role with {_option(schema)}.",
        )


def _option(schema: str) -> str:
    return "--warehouse-user" if schema == SCHEMA else "--analyst-user"


def create_role(connection: psycopg.Connection[Any], role: str, schema: str = SCHEMA) -> bool:
    """Make the login, or grant what it lacks; it has no password until `set_password` gives it one.

    Parameters:
        connection: autocommit connection to the warehouse, of a role that may create roles.
        schema: the only schema that it is to see.

    Returns:
        Whether anything was done.

    Raises:
        UserError: if the role has more rights than it should, or may not be made.
    """
    state = role_state(connection, role, schema)
    # A role is the server's, the rows that it sees are a warehouse's: another one may have made it.
    is_blind = schema != SCHEMA and connection.execute(
        "SELECT NOT EXISTS (SELECT FROM etl.user_status "
        "WHERE login = %s AND (is_managed OR row_values <> '{}'))",
        [role],
    ).fetchone() == (True,)
    if state.exists and not state.faults and not is_blind:
        return False
    if not state.mendable:
        check_role(connection, role, schema)
    setup = sql.SQL(_statement("set_up_role.sql").decode())
    try:
        with connection.transaction():
            connection.execute(
                "CALL etl.add_user(%s, %s, p_is_service => true, p_is_existing => true)",
                [role, [_LEVELS[schema]]],
            )
            if is_blind:
                # What an analyst sees are the rows of the login; Metabase has one login for all.
                connection.execute("CALL etl.set_user_rows(%s, '{*}')", [role])
            connection.execute(
                setup.format(
                    role=sql.Identifier(role),
                    schema=sql.Identifier(schema),
                    comment=sql.Literal(f"Metabase's login: reads schema {schema} alone."),
                )
            )
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
