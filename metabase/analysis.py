"""The part for analysts: models over the stars, metrics, and the right to use the query builder.

It has a connection of its own, with a login of level analyst that reads schema analysis alone: rows
and personal data that an analyst may not see do not reach Metabase.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from base.errors import UserError
from metabase import cards, dashboards, databases, identity, metadata, permissions
from metabase.definition import Collection, Dashboard, Question
from metabase.walk import Walk
from metabase.warehouse import CatalogColumn, Warehouse, relations_of

FOLDER = Path(__file__).parent / "models"
DETAIL = Path(__file__).parent / "detail"
SCHEMA = "analysis"

Aggregation = Literal["sum", "avg", "count", "distinct", "min", "max"]


@dataclass(frozen=True)
class Model:
    """One row source for the query builder.

    Attributes:
        key: stays when the name changes; also the name of its file.
        name: title.
        description: what a row is, for the reader.
        sql: its SQL.
    """

    key: str
    name: str
    description: str
    sql: str


@dataclass(frozen=True)
class Metric:
    """One figure that is defined once, and can be grouped and filtered by any column of its model.

    Attributes:
        key: stays when the name changes.
        name: title.
        description: what counts.
        model: key of its model.
        aggregation: how the column is summed up.
        column: column of the model.
        base_type: Metabase's name for the column's type.
        settings: how the figure is shown.
    """

    key: str
    name: str
    description: str
    model: str
    aggregation: Aggregation
    column: str
    base_type: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Definition:
    """Models and metrics.

    Attributes:
        key: what the keys on the server begin with.
        group: the users that may use them.
        collection: where they live.
        models: by key.
        metrics: by key.
    """

    key: str
    group: str
    collection: Collection
    models: Mapping[str, Model]
    metrics: Mapping[str, Metric]


@dataclass(frozen=True)
class Analysts:
    """What is needed to provision the part for analysts.

    Attributes:
        definition: models and metrics.
        warehouse: how Metabase reaches the warehouse as an analyst.
        password: returns the password of the login when a connection has to be written.
        catalog: what the warehouse's catalog says of the columns of schema analysis.
        detail: the dashboard with the orders behind the figures; None for none.
    """

    definition: Definition
    warehouse: Warehouse
    password: Callable[[], str]
    catalog: Sequence[CatalogColumn] = ()
    detail: Dashboard | None = None


def load(folder: Path | None = None) -> Definition:
    """Read models and metrics.

    Parameters:
        folder: folder with models.yaml and a .sql file per model; that of the program otherwise.

    Raises:
        UserError: if a file is missing, or names what there is not.
    """
    chosen = folder or FOLDER
    try:
        raw = yaml.safe_load((chosen / "models.yaml").read_text(encoding="utf-8"))
        models = {
            key: Model(
                key,
                one["name"],
                one["description"].strip(),
                (chosen / f"{key}.sql").read_text(encoding="utf-8").strip(),
            )
            for key, one in raw["models"].items()
        }
        metrics = {
            key: Metric(
                key,
                one["name"],
                one["description"].strip(),
                one["model"],
                one["aggregation"],
                one["column"],
                one["type"],
                one.get("settings", {}),
            )
            for key, one in raw["metrics"].items()
        }
        place = raw["collection"]
        collection = Collection(place["key"], place["name"], place["description"].strip())
        definition = Definition(raw["key"], raw["group"], collection, models, metrics)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}.") from error
    except (KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise UserError(
            f"{chosen.name}/models.yaml is not a definition of models and metrics.",
            "Compare it with the one that travels with the program.",
            detail=f"{type(error).__name__}: {error}",
        ) from error
    for metric in metrics.values():
        if metric.model not in models:
            raise UserError(
                f"{chosen.name}/models.yaml: metric {metric.key} is of model '{metric.model}', "
                "which is not there.",
                f"Models are: {', '.join(models)}.",
            )
    return definition


def bring(walk: Walk, analysts: Analysts, currency: str, secret: str | None) -> int | None:
    """Bring connection, models, metrics and permissions to the definition.

    Parameters:
        secret: password of the login, when it is known that it is needed.

    Returns:
        Id of the dashboard with the orders behind the figures; None while it is only planned.

    Raises:
        UserError: see `metabase.provisioner.Provisioner.provision`.
    """
    definition, warehouse = analysts.definition, analysts.warehouse
    database = databases.connect(walk, warehouse, secret)
    if database is not None:
        walk.known("database/analysts", database)
        sources: list[Model | Question] = list(definition.models.values())
        if analysts.detail:
            sources += analysts.detail.questions.values()
        views = relations_of((one.sql for one in sources), warehouse.schema)
        databases.wait_for_sync(walk, database, warehouse, views)
        metadata.describe(walk, database, warehouse.schema, analysts.catalog, currency)
    collection = dashboards.collection(walk, definition.collection)
    if collection is not None:
        walk.known("collection/analysts", collection)
    defined: list[str] = []
    models: dict[str, int] = {}
    for model in definition.models.values():
        key = f"{definition.key}.model.{model.key}"
        defined.append(key)
        number = cards.bring(walk, "model", key, model_card(key, model, database, collection))
        if number is not None:
            models[model.key] = walk.known(f"model/{model.key}", number)
    for metric in definition.metrics.values():
        key = f"{definition.key}.metric.{metric.key}"
        defined.append(key)
        source = models.get(metric.model)
        wanted = metric_card(key, metric, database, collection, source, currency)
        number = cards.bring(walk, "metric", key, wanted)
        if number is not None:
            walk.known(f"metric/{metric.key}", number)
    board = None
    if analysts.detail:
        detail = replace(analysts.detail, currency=currency or analysts.detail.currency)
        prefix = f"{detail.key}."
        board, _ = dashboards.content(walk, detail, database, collection, prefix)
        if board is not None:
            walk.known("dashboard/analysts", board)
    grant = permissions.Grant(definition.group, permissions.QUERY_BUILDER)
    permissions.settle(walk, grant, database, collection)
    cards.orphans(walk, definition.key, defined)
    return board


def model_card(
    key: str, model: Model, database: int | None, collection: int | None
) -> dict[str, Any]:
    """Return the card of a model: a table whose rows the query builder starts from."""
    stage = {"lib/type": "mbql.stage/native", "native": model.sql}
    return {
        "name": model.name,
        "description": model.description,
        "display": "table",
        "type": "model",
        "collection_id": collection,
        "dataset_query": {"lib/type": "mbql/query", "database": database, "stages": [stage]},
        "visualization_settings": {identity.CARD_MARK: key},
        "parameters": [],
    }


def metric_card(
    key: str,
    metric: Metric,
    database: int | None,
    collection: int | None,
    source: int | None,
    currency: str,
) -> dict[str, Any]:
    """Return the card of a metric: one aggregation over its model."""
    clause: list[Any] = [metric.aggregation, {"lib/uuid": identity.clause_id(key, "aggregation")}]
    options = {"lib/uuid": identity.clause_id(key, "column"), "base-type": metric.base_type}
    clause.append(["field", options, metric.column])
    stage = {"lib/type": "mbql.stage/mbql", "source-card": source, "aggregation": [clause]}
    settings = dict(metric.settings)
    if settings.get("number_style") == "currency" and currency:
        settings["currency"] = currency
    column = f'["name","{metric.aggregation}"]'
    return {
        "name": metric.name,
        "description": metric.description,
        "display": "scalar",
        "type": "metric",
        "collection_id": collection,
        "dataset_query": {"lib/type": "mbql/query", "database": database, "stages": [stage]},
        "visualization_settings": {
            identity.CARD_MARK: key,
            **({"column_settings": {column: settings}} if settings else {}),
        },
        "parameters": [],
    }
