"""Models, metrics and metadata for the query builder, against the stand-in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from metabase import analysis
from metabase import warehouse as warehouses
from metabase.analysis import Analysts
from metabase.client import ApiError, Client, Credentials
from metabase.definition import Dashboard
from metabase.provisioner import Provisioner
from tests.metabase.conftest import Provision
from tests.metabase.standin import Standin
from tests.support.database import Database

# Of PostgreSQL it leans on nothing in which the versions differ; test_live.py runs on each.
pytestmark = pytest.mark.server("embedded")


def test_metrics_are_the_figures_of_schema_kpi(
    client: Client, provision: Provision, analysts: Analysts, kpi_database: Database
) -> None:
    report = provision(analysts=analysts)
    with kpi_database.connect() as connection:
        figures = connection.execute(
            """
            SELECT
                sum(o.sales),
                sum(o.sales) / sum(o.orders - o.lost_orders),
                100 * sum(o.lost_orders)::numeric / sum(o.orders) - 100 * (
                    SELECT sum(d.orders * (
                        SELECT l.limit_share
                        FROM kpi.lost_order_limit AS l
                        WHERE l.valid_from <= d.day
                        ORDER BY l.valid_from DESC
                        LIMIT 1
                    )) / sum(d.orders)
                    FROM kpi.order_daily AS d
                ),
                sum(o.hours_to_fulfil) / sum(o.fulfilled_orders)
            FROM kpi.order_daily AS o
            """
        ).fetchone()
    assert figures
    keys = ("sales", "average_order_value", "lost_order_deviation", "average_order_fulfillment")
    for key, expected in zip(keys, figures, strict=True):
        answer = client.post(f"/api/card/{report.ids[f'metric/{key}']}/query", {})
        ((value,),) = answer["data"]["rows"]
        assert float(value) == pytest.approx(float(expected), rel=1e-6), key


def test_models_have_the_grain_that_they_name(
    client: Client, provision: Provision, analysts: Analysts, kpi_database: Database
) -> None:
    report = provision(analysts=analysts)
    for key, table in (("orders", "fact_order"), ("order_lines", "fact_order_line")):
        answer = client.post(f"/api/card/{report.ids[f'model/{key}']}/query", {})
        expected = kpi_database.value(f"SELECT count(*) FROM dwh.{table} WHERE NOT is_deleted")
        assert answer["row_count"] == expected, answer.get("error")


def test_months_of_the_dashboard_lead_to_their_orders(
    client: Client, provision: Provision, analysts: Analysts
) -> None:
    report = provision(analysts=analysts)
    shown = client.get(f"/api/dashboard/{report.ids['dashboard']}")
    detail = client.get(f"/api/dashboard/{report.ids['dashboard/analysts']}")
    known = {one["slug"]: one["id"] for one in detail["parameters"]}
    number = report.ids["question/lost_share"]
    tile = next(one for one in shown["dashcards"] if one["card_id"] == number)
    behaviour = tile["visualization_settings"]["click_behavior"]
    assert (behaviour["type"], behaviour["linkType"]) == ("link", "dashboard")
    assert behaviour["targetId"] == detail["id"]
    passed = {key: one["source"] for key, one in behaviour["parameterMapping"].items()}
    assert passed[known["month"]] == {"type": "column", "id": "month_start", "name": "month_start"}
    assert passed[known["country"]]["id"] in {one["id"] for one in shown["parameters"]}
    # Without analysts there is no such dashboard, and no link to it.
    assert [one.kind for one in provision().changes] == ["dashboard"]
    tile = next(
        one
        for one in client.get(f"/api/dashboard/{report.ids['dashboard']}")["dashcards"]
        if one["card_id"] == number
    )
    assert tile["visualization_settings"] == {}


def test_a_second_time_there_is_nothing_to_do(
    standin: Standin,
    provision: Provision,
    provisioner: Callable[..., Provisioner],
    analysts: Analysts,
    kpi_database: Database,
) -> None:
    with kpi_database.connect() as connection:
        catalog = warehouses.catalog(connection, "kpi")
    provision(analysts=analysts, catalog=catalog)
    written = len(standin.writes)
    assert provisioner(analysts=analysts, catalog=catalog).plan().changes == []
    assert provision(analysts=analysts, catalog=catalog).changes == []
    assert len(standin.writes) == written


def test_every_column_is_described(
    standin: Standin,
    provision: Provision,
    analysts: Analysts,
    kpi_database: Database,
    dashboard: Dashboard,
) -> None:
    with kpi_database.connect() as connection:
        catalog = warehouses.catalog(connection, "kpi")
    provision(replace(dashboard, currency="EUR"), analysts=analysts, catalog=catalog)
    tables = standin.state.tables
    assert {row["schema"] for row in tables.values()} == {"kpi", "analysis"}
    assert [row["name"] for row in tables.values() if not row["description"]] == []
    assert [row["name"] for row in standin.state.fields.values() if not row["description"]] == []
    fields = {
        (tables[row["table_id"]]["name"], row["name"]): row for row in standin.state.fields.values()
    }
    key = fields["fact_order", "customer_key"]
    assert key["semantic_type"] == "type/FK"
    assert key["fk_target_field_id"] == fields["dim_customer", "customer_key"]["id"]
    assert fields["dim_customer", "customer_key"]["semantic_type"] == "type/PK"
    amount = fields["fact_order", "gross_amount"]
    assert (amount["semantic_type"], amount["settings"]["currency"]) == ("type/Currency", "EUR")
    assert fields["month", "sales"]["semantic_type"] == "type/Currency"
    assert fields["fact_order", "run_id"]["visibility_type"] == "hidden"


def test_what_people_say_of_a_column_beyond_the_catalog_stays(
    standin: Standin, client: Client, provision: Provision, analysts: Analysts
) -> None:
    provision(analysts=analysts)
    field = next(
        row
        for row in standin.state.fields.values()
        if (row["name"], row["semantic_type"]) == ("status_name", None)
    )
    client.put(f"/api/field/{field['id']}", {"semantic_type": "type/Category"})
    assert provision(analysts=analysts).changes == []
    client.put(f"/api/field/{field['id']}", {"description": "Something else."})
    (change,) = provision(analysts=analysts).changes
    assert (change.kind, change.name) == ("metadata", "analysis.dim_status")
    assert field["semantic_type"] == "type/Category"


def test_analysts_use_the_query_builder_and_write_no_sql(
    standin: Standin, provision: Provision, analysts: Analysts
) -> None:
    report = provision(analysts=analysts)
    state = standin.state
    state.add_user("ana@example.com", "secret of ana", groups=[report.ids["group/analysts"]])
    ana = Client(standin.url, Credentials(user="ana@example.com", password="secret of ana"))
    database = report.ids["database/analysts"]
    question = {
        "lib/type": "mbql/query",
        "database": database,
        "stages": [
            {
                "lib/type": "mbql.stage/mbql",
                "source-card": report.ids["model/orders"],
                "aggregation": [["count", {"lib/uuid": "5f1e8ed1-0d1a-4e11-9f8a-3f1d8c7d6c11"}]],
            }
        ],
    }
    assert ana.post("/api/dataset", question)["status"] == "completed"
    stage = {"lib/type": "mbql.stage/native", "native": "SELECT 1"}
    with pytest.raises(ApiError, match="does not permit"):
        ana.post("/api/dataset", {**question, "stages": [stage]})
    other = {**question, "database": report.ids["database"]}
    with pytest.raises(ApiError, match="does not permit"):
        ana.post("/api/dataset", other)
    with pytest.raises(ApiError, match="does not permit"):
        ana.get(f"/api/dashboard/{report.ids['dashboard']}")


def test_the_orders_behind_a_figure_are_a_click_away(
    client: Client, provision: Provision, analysts: Analysts, kpi_database: Database
) -> None:
    report = provision(analysts=analysts)
    shown = client.get(f"/api/dashboard/{report.ids['dashboard/analysts']}")
    tiles = {tile["card_id"]: tile for tile in shown["dashcards"]}

    def ask(key: str, **values: str) -> list[list[object]]:
        number = report.ids[f"question/detail.{key}"]
        parameters = [
            {"type": "category", "value": value, "target": ["variable", ["template-tag", tag]]}
            for tag, value in values.items()
        ]
        answer = client.post(f"/api/card/{number}/query", {"parameters": parameters})
        assert answer["status"] == "completed", answer
        rows: list[list[object]] = answer["data"]["rows"]
        return rows

    month, orders, lost, _ = ask("orders_by_month")[1]
    tile = tiles[report.ids["question/detail.orders_by_month"]]
    behaviour = tile["visualization_settings"]["column_settings"]['["name","month_start"]']
    assert behaviour["click_behavior"]["type"] == "crossfilter"
    found = ask("orders_in_detail", month=str(month))
    assert len(found) == orders
    assert sum(row[8] is True for row in found) == lost
    country, of_country, *_ = ask("orders_by_country", month=str(month))[0]
    both = ask("orders_in_detail", month=str(month), country=str(country))
    assert len(both) == of_country
    total = sum(int(str(row[1])) for row in ask("orders_by_country"))
    assert total == kpi_database.value("SELECT sum(orders) FROM kpi.order_daily")


def test_business_users_do_not_see_the_orders(
    standin: Standin, provision: Provision, analysts: Analysts
) -> None:
    report = provision(analysts=analysts)
    state = standin.state
    state.add_user("clerk@example.com", "secret of the clerk", groups=[report.ids["group"]])
    clerk = Client(
        standin.url, Credentials(user="clerk@example.com", password="secret of the clerk")
    )
    with pytest.raises(ApiError, match="does not permit"):
        clerk.get(f"/api/dashboard/{report.ids['dashboard/analysts']}")


def test_models_and_metrics_that_were_archived_or_edited_come_back(
    standin: Standin, client: Client, provision: Provision, analysts: Analysts
) -> None:
    report = provision(analysts=analysts)
    before = standin.state.essence()
    client.put(f"/api/card/{report.ids['model/orders']}", {"archived": True})
    client.put(f"/api/card/{report.ids['metric/sales']}", {"name": "Turnover"})
    again = provision(analysts=analysts)
    assert {(one.action, one.kind) for one in again.changes} == {
        ("restore", "model"),
        ("update", "metric"),
    }
    assert standin.state.essence() == before


def test_a_metric_that_is_no_longer_defined(provision: Provision, analysts: Analysts) -> None:
    provision(analysts=analysts)
    metrics = dict(analysts.definition.metrics)
    del metrics["sales"]
    fewer = replace(analysts, definition=replace(analysts.definition, metrics=metrics))
    report = provision(analysts=fewer)
    assert report.changes == []
    assert any("'Sales'" in one and "--prune" in one for one in report.warnings)
    (change,) = provision(analysts=fewer, prune=True).changes
    assert (change.action, change.name) == ("archive", "Sales")


def test_the_definition_names_models_that_there_are() -> None:
    found = analysis.load()
    assert set(found.metrics) == {
        "sales",
        "average_order_value",
        "lost_order_deviation",
        "average_order_fulfillment",
    }
    assert {one.model for one in found.metrics.values()} <= set(found.models)
