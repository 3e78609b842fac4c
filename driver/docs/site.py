"""The documentation as files: one page that needs no network, and Markdown."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from base import output, version
from base.errors import UserError
from driver.docs import markdown, pictures
from driver.docs.catalog import Catalog, Name
from driver.docs.lineage import Lineage, Node
from driver.docs.pictures import Picture

_TEMPLATES = Path(__file__).parent / "templates"


def files(catalog: Catalog) -> dict[str, str]:
    """Return the site, by names of files.

    Raises:
        UserError: if the definition of a view cannot be read.
    """
    lineage = Lineage(catalog)
    return {"index.html": page(catalog, lineage), **markdown.files(catalog, lineage)}


def write(site: Mapping[str, str], folder: Path) -> None:
    """Write the site into a folder, which is created if needed. Each file is replaced as a whole.

    Raises:
        UserError: if the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in site.items():
            draft = folder / f".{name}.draft"
            draft.write_text(text, encoding="utf-8")
            draft.replace(folder / name)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written to: {error.strerror}.",
            "Name a folder that you may write to with --out.",
        ) from error


def page(catalog: Catalog, lineage: Lineage) -> str:
    """Return the page."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["seconds"] = output.seconds
    metrics = _metrics(catalog, lineage)
    drawn = [
        *(pictures.operational(catalog, schema) for schema in catalog.operational),
        *(pictures.star(catalog, fact) for fact in catalog.facts.values()),
        pictures.initial_state(catalog),
        pictures.table_flow(catalog, lineage),
        pictures.tasks(catalog),
        *(column["picture"] for one in metrics for column in one["columns"] if column["picture"]),
    ]
    return environment.get_template("site.html.j2").render(
        version=version(),
        style=_text("site.css"),
        scripts=[_text(name) for name in ("elk.min.js", "draw.js", "site.js")],
        pictures=_data(drawn),
        catalog=catalog,
        layers=[
            (one, pictures.STEPS.get(one.schema, ""), pictures.counts(catalog, one))
            for one in pictures.flow_layers(catalog)
        ],
        common={
            schema: pictures.common_columns(catalog.tables(schema))
            for schema in catalog.operational
        },
        metrics=metrics,
        schemas=_schemas(catalog, lineage),
        transformations=_transformations(catalog),
    )


def _text(name: str) -> Markup:
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704  our own file


def _data(drawn: list[Picture]) -> Markup:
    """Return pictures as JSON that can stand in a script element."""
    text = json.dumps([_without_empty(asdict(one)) for one in drawn], ensure_ascii=False)
    return Markup(re.sub(r"[<>&]", lambda it: f"\\u{ord(it[0]):04x}", text))  # noqa: S704


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_empty(one) for key, one in value.items() if one not in ("", None)}
    return [_without_empty(one) for one in value] if isinstance(value, list | tuple) else value


def _metrics(catalog: Catalog, lineage: Lineage) -> list[dict[str, Any]]:
    """Return each view of schema kpi with the lineage of its columns."""
    metrics = []
    for relation in catalog.of("kpi"):
        columns = []
        for column in relation.columns:
            node = Node(relation.name, column.column)
            leaves = [leaf for leaf in lineage.leaves(node) if leaf != node]
            columns.append(
                {
                    "name": column.column,
                    "comment": column.comment or "",
                    "node": str(node),
                    "picture": pictures.lineage_of(catalog, lineage, node) if leaves else None,
                    "operational": [str(one) for one in leaves if lineage.is_operational(one)],
                    "other": [str(one) for one in leaves if not lineage.is_operational(one)],
                    "steps": [
                        (str(one), [(str(origin.node), origin.how) for origin in origins])
                        for one, origins in lineage.upstream(node).items()
                        if origins
                    ],
                }
            )
        metrics.append({"name": relation.name, "comment": relation.comment, "columns": columns})
    return metrics


def _schemas(catalog: Catalog, lineage: Lineage) -> list[dict[str, Any]]:
    """Return the dictionary, schema by schema."""
    return [
        {
            "layer": layer,
            "relations": [
                (
                    relation,
                    [
                        (column, lineage.origins(Node(relation.name, column.column)))
                        for column in relation.columns
                    ],
                )
                for relation in catalog.of(layer.schema)
            ],
            "routines": [one for one in catalog.routines if one.schema == layer.schema],
        }
        for layer in catalog.layers
    ]


def _transformations(catalog: Catalog) -> dict[str, list[tuple[str, str]]]:
    """Return the SQL of each object: its view in schema work, and what its tasks run."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for one in catalog.statements:
        if one.object not in found:
            view = catalog.definitions.get(("view", Name("work", one.object)))
            if view is not None:
                query = view.query.strip().rstrip(";")
                found[one.object].append(
                    (f"work.{one.object}", f"CREATE VIEW {view.name} AS\n{query};")
                )
        found[one.object].append((one.title, one.statement.strip()))
    return found
