"""Puts pictures and dictionary together: one page that needs no network, Markdown beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from driver import output, version
from driver.docs import diagrams, markdown
from driver.docs.catalog import Catalog
from driver.docs.lineage import Lineage, Node
from driver.errors import UserError

_TEMPLATES = Path(__file__).parent / "templates"


def files(catalog: Catalog) -> dict[str, str]:
    """Return the site, by names of files.

    Raises:
        UserError: if the definition of a view cannot be read.
    """
    lineage = Lineage(catalog)
    return {"index.html": page(catalog, lineage), **markdown.files(catalog, lineage)}


def write(site: Mapping[str, str], folder: Path) -> None:
    """Write the site into a folder, which is made if need be; each file as a whole.

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
            "Name a folder with --out that may be written to.",
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
    return environment.get_template("site.html.j2").render(
        version=version(),
        style=Markup(_text("site.css")),  # noqa: S704  our own file
        script=Markup(_text("site.js")),  # noqa: S704
        catalog=catalog,
        layers=diagrams.layers(catalog),
        table_flow=diagrams.table_flow(catalog, lineage),
        operational=[
            (
                schema,
                diagrams.operational(catalog, schema),
                diagrams.common_columns(diagrams.tables_of(catalog, schema)),
            )
            for schema in catalog.operational
        ],
        stars=[
            (fact, catalog.relations[fact.table].comment, diagrams.star(catalog, fact))
            for fact in catalog.facts.values()
        ],
        task_graph=diagrams.tasks(catalog) if catalog.tasks else "",
        figures=_figures(catalog, lineage),
        schemas=_schemas(catalog, lineage),
        gaps=len(catalog.gaps),
    )


def _text(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _figures(catalog: Catalog, lineage: Lineage) -> list[dict[str, Any]]:
    """Return each view of schema kpi with the pedigree of its columns."""
    figures = []
    for relation in catalog.of("kpi"):
        columns = []
        for column in relation.columns:
            node = Node(relation.name, column.name)
            leaves = [leaf for leaf in lineage.leaves(node) if leaf != node]
            columns.append(
                {
                    "name": column.name,
                    "comment": column.comment,
                    "node": str(node),
                    "picture": diagrams.lineage_of(catalog, lineage, node) if leaves else "",
                    "operational": [str(one) for one in leaves if lineage.is_operational(one)],
                    "other": [str(one) for one in leaves if not lineage.is_operational(one)],
                    "steps": [
                        (str(one), [(str(origin.node), origin.how) for origin in origins])
                        for one, origins in lineage.upstream(node).items()
                        if origins
                    ],
                }
            )
        figures.append({"name": relation.name, "comment": relation.comment, "columns": columns})
    return figures


def _schemas(catalog: Catalog, lineage: Lineage) -> list[dict[str, Any]]:
    """Return the dictionary, schema by schema."""
    return [
        {
            "layer": layer,
            "relations": [
                {
                    "relation": relation,
                    "origins": {
                        column.name: [
                            str(origin.node)
                            for origin in lineage.origins(Node(relation.name, column.name))
                        ]
                        for column in relation.columns
                    },
                }
                for relation in catalog.of(layer.schema)
            ],
            "routines": [one for one in catalog.routines if one.name.schema == layer.schema],
        }
        for layer in catalog.layers
    ]
