"""What the root command hands to its sub-commands."""

from __future__ import annotations

from dataclasses import dataclass

import typer

from base.errors import UserError


@dataclass
class State:
    """Options of the root command, found in `typer.Context.obj`.

    Attributes:
        dsn: connection string given by `--dsn`, or None.
        project: business given by `--project`, or None.
        json: whether the command in hand was asked for JSON.
    """

    dsn: str | None = None
    project: str | None = None
    json: bool = False


def of(context: typer.Context) -> State:
    """Return the state of a command's context, with defaults when a sub-app runs on its own."""
    state = context.find_object(State)
    return state if state is not None else State()


def needs(value: object, name: str) -> None:
    """Refuse an empty option value.

    Raises:
        UserError: if the value is empty.
    """
    if value in (None, ""):
        raise UserError(f"{name} must not be empty.", exit_code=2)
