"""Passwords from a file, a command or the environment; no error quotes anything of them."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from base.errors import EXIT_USAGE, UserError
from base.options import file_or_folder

_COMMAND_TIMEOUT_SECONDS = 60

FileOption = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        metavar="FILE",
        parser=file_or_folder,
        help="Read the password from a file.",
    ),
]


def read(variable: str, file: Path | None, command: str | None = None) -> str | None:
    """Return the first line of a file, a command's output or a variable; None without any of them.

    Parameters:
        variable: name of the environment variable, for when neither file nor command is given.

    Raises:
        UserError: if both are given, or no password can be read.
    """
    if file is not None and command is not None:
        raise UserError(
            "--password-file and --password-command exclude each other.", exit_code=EXIT_USAGE
        )
    if file is not None:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise UserError(f"The password file {file} cannot be read: {reason}.") from error
        return _line(text, f"The password file {file}")
    if command is not None:
        return _line(_output_of(command), "The output of the password command")
    text_or_none = os.environ.get(variable)
    return None if text_or_none is None else _line(text_or_none, f"The variable {variable}")


def _line(text: str, origin: str) -> str:
    line = text.split("\n", 1)[0].removesuffix("\r")
    if not line or "\0" in line:
        raise UserError(f"{origin} holds no password in its first line.")
    return line


def _output_of(command: str) -> str:
    try:
        finished = subprocess.run(
            shlex.split(command),
            stdout=subprocess.PIPE,
            timeout=_COMMAND_TIMEOUT_SECONDS,
            check=False,
            text=True,
        )
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
        raise UserError(
            "The password command cannot be run.",
            "It is started without a shell; write sh -c '…' where one is needed.",
            detail=type(error).__name__ if not isinstance(error, OSError) else error.strerror,
        ) from None
    if finished.returncode:
        raise UserError(f"The password command failed with exit status {finished.returncode}.")
    return finished.stdout
