"""The reference of declarations and of commands, for `oceanrecords docs --refresh`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import typer

from base import resources
from driver.docs.catalog import Catalog

# What a business calls, in the order in which it does.
DECLARATIONS = (
    "define_source", "define_dimension", "define_fact", "fact_key", "define_aggregate", "fed_by",
    "depends_on", "define_check", "define_row_filter",
)  # fmt: skip
_HEADER = re.compile(
    r"((?:^-- .*\n)+)CREATE OR REPLACE (?:FUNCTION|PROCEDURE) etl\.(\w+)", re.MULTILINE
)


def named(catalog: Catalog) -> dict[str, Callable[[], str]]:
    """Return what writes each reference, by name."""
    return {
        "declarations": lambda: "\n".join(_declarations(catalog)),
        "commands": lambda: "\n".join(_commands()),
    }


def _declarations(catalog: Catalog) -> Iterator[str]:
    routines = {one.object: one for one in catalog.routines if one.schema == "etl"}
    meanings = _meanings()
    for name in DECLARATIONS:
        routine = routines[name]
        yield f"\n### etl.{name}\n\n{routine.comment}\n"
        yield "| parameter | type | default | meaning |\n|---|---|---|---|"
        arguments = routine.signature[1:].rsplit(") RETURNS ", 1)[0]
        for argument in re.split(r", (?=p_)", arguments):
            declared, _, default = argument.partition(" DEFAULT ")
            parameter, _, type_ = declared.partition(" ")
            shown = re.sub(r"::[\w. \[\]]+$", "", default)
            meaning = meanings[name][parameter]
            yield _row(f"`{parameter}`", type_, f"`{shown}`" if shown else "required", meaning)


def _meanings() -> dict[str, dict[str, str]]:
    """Return what each parameter means, as the headers of the routines say."""
    found: dict[str, dict[str, str]] = {}
    for path in (resources.plpgsql() / "engine" / "catalog").glob("*.sql"):
        for commented, name in _HEADER.findall(path.read_text(encoding="utf-8")):
            header = re.sub(r"^-- ", "", commented, flags=re.MULTILINE)
            text = re.search(r"^Parameters: (.*?)\.?\n(?=\w+: |\Z)", header, re.S | re.M)
            parts = re.split(r"; (?=p_)", " ".join(text[1].split())) if text else []
            found[name] = {}
            for part in parts:
                names, _, meaning = re.sub(
                    r"((?:p_\w+(?:, | and )?)+)[,]? ", r"\1|", part, count=1
                ).partition("|")
                for one in re.findall(r"p_\w+", names):
                    found[name][one] = meaning.strip(" ,")
    return found


def _commands() -> Iterator[str]:
    from driver.cli import app

    root = typer.main.get_command(app)
    context = typer.Context(root, info_name="oceanrecords")
    yield from _command("oceanrecords", root)
    for name in root.list_commands(context):  # type: ignore[attr-defined]
        _, command, _ = root.resolve_command(context, [name])  # type: ignore[attr-defined]
        yield from _command(f"oceanrecords {name}", command)
        for sub, one in sorted(getattr(command, "commands", {}).items()):
            yield from _command(f"oceanrecords {name} {sub}", one)


def _command(name: str, command: Any) -> Iterator[str]:
    yield f"\n### {name}\n"
    yield _plain(command.help)
    for text in command.epilog.split("\n\n") if command.epilog else ():
        head, *lines = text.splitlines()
        yield "\n".join(["", head, *([""] if lines else []), *(f"    {line}" for line in lines)])
    rows = [row for one in command.params for row in _parameter(one)]
    if rows:
        yield "\n| argument or option | meaning |\n|---|---|"
        yield from rows


def _parameter(one: Any) -> Iterable[str]:
    if getattr(one, "hidden", False) or one.name == "help":
        return
    if one.param_type_name == "argument":
        written = one.metavar or one.name.upper()
    else:
        written = ", ".join([*one.opts, *one.secondary_opts])
        if not one.is_flag:
            written += f" {one.metavar or one.type.name.removesuffix(' range').upper()}"
    default = one.default if one.param_type_name == "option" and not one.is_flag else None
    text = getattr(one, "help", "") or ""
    if default is not None and not callable(default) and "[default" not in text:
        text += f" [default: {default}]"
    yield _row(f"`{written}`", text)


def _plain(text: str | None) -> str:
    return "\n".join(line.strip() for line in (text or "").replace("\f", "").strip().splitlines())


def _row(*cells: str) -> str:
    flat = [" ".join(cell.split()).replace("|", "\\|") for cell in cells]
    # A name in angle brackets is no HTML.
    shown = [cell if cell.startswith("`") else cell.replace("<", "&lt;") for cell in flat]
    return f"| {' | '.join(shown)} |"
