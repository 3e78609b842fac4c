"""The keys that each address knows, from the schemas in Metabase's source.

Files on Metabase's main branch after 0.64, below `src/metabase/`: `queries_rest/api/card.clj`
(`CardCreateSchema`, `CardUpdateSchema`), `dashboards_rest/api.clj` (POST /, `DashUpdates`,
`UpdatedDashboardCard`), `collections_rest/api.clj` (`CreateCollectionArguments`, PUT /:id),
`warehouses_rest/api.clj` (POST /, PUT /:id), `warehouse_schema_rest/api/field.clj` and `table.clj`
(PUT /:id), `pulse/api/pulse.clj` (POST /, PUT /:id), `parameters/schema.cljc`. They are closed
there: a key that is not in the list is an error. Older versions, 0.57 among them, drop it.
"""

from __future__ import annotations

_CARD = {
    "name",
    "type",
    "dataset_query",
    "parameters",
    "parameter_mappings",
    "description",
    "display",
    "visualization_settings",
    "collection_id",
    "collection_position",
    "result_metadata",
    "cache_ttl",
    "dashboard_id",
    "dashboard_tab_id",
}
_DATABASE = {
    "name",
    "engine",
    "details",
    "is_full_sync",
    "is_on_demand",
    "schedules",
    "auto_run_queries",
    "cache_ttl",
    "provider_name",
}
_PULSE = {"name", "cards", "channels", "skip_if_empty", "collection_id", "parameters"}

KNOWN: dict[str, set[str]] = {
    "POST card": _CARD | {"entity_id", "size", "source_card_id"},
    "PUT card": _CARD
    | {"archived", "enable_embedding", "embedding_type", "embedding_params", "collection_preview"},
    "POST collection": {"name", "description", "parent_id", "namespace", "authority_level"},
    "PUT collection": {"name", "description", "archived", "parent_id", "authority_level"},
    "POST dashboard": {
        "name",
        "description",
        "parameters",
        "cache_ttl",
        "collection_id",
        "collection_position",
    },
    "PUT dashboard": {
        "name",
        "description",
        "archived",
        "caveats",
        "points_of_interest",
        "show_in_getting_started",
        "parameters",
        "position",
        "width",
        "auto_apply_filters",
        "enable_embedding",
        "embedding_type",
        "embedding_params",
        "cache_ttl",
        "collection_id",
        "collection_position",
        "dashcards",
        "tabs",
    },
    "dashcard": {
        "id",
        "size_x",
        "size_y",
        "row",
        "col",
        "card_id",
        "action_id",
        "dashboard_tab_id",
        "parameter_mappings",
        "visualization_settings",
        "inline_parameters",
        "series",
    },
    "POST database": _DATABASE | {"connection_source", "is_stub"},
    "PUT database": _DATABASE
    | {"description", "caveats", "points_of_interest", "refingerprint", "settings", "is_stub"},
    "PUT table": {
        "display_name",
        "entity_type",
        "visibility_type",
        "description",
        "caveats",
        "points_of_interest",
        "show_in_getting_started",
        "field_order",
    },
    "PUT field": {
        "caveats",
        "description",
        "display_name",
        "fk_target_field_id",
        "points_of_interest",
        "semantic_type",
        "coercion_strategy",
        "visibility_type",
        "has_field_values",
        "settings",
        "nfc_path",
        "json_unfolding",
    },
    "POST pulse": _PULSE | {"collection_position", "dashboard_id"},
    "PUT pulse": _PULSE | {"archived"},
    "template-tag": {
        "id",
        "name",
        "display-name",
        "type",
        "default",
        "required",
        "widget-type",
        "dimension",
        "alias",
        "options",
    },
    "parameter": {
        "id",
        "name",
        "slug",
        "type",
        "sectionId",
        "target",
        "default",
        "required",
        "isMultiSelect",
        "values_query_type",
        "values_source_type",
        "values_source_config",
        "filteringParameters",
    },
}

PARAMETER_TYPES = {
    "date/single",
    "date/range",
    "date/relative",
    "date/all-options",
    "category",
    "string/=",
    "number/=",
    "id",
}
VISIBILITY_TYPES = {"normal", "details-only", "hidden", "sensitive", "retired"}
# Taken by POST card, and kept nowhere.
NOT_STORED = {"entity_id", "size", "source_card_id"}
# Taken over by POST card/:id/copy.
COPIED = (
    "dataset_query",
    "description",
    "display",
    "visualization_settings",
    "parameters",
    "collection_id",
    "type",
)
# Of PUT dashboard, not taken when they are null.
NOT_NULL = {
    "name",
    "parameters",
    "caveats",
    "points_of_interest",
    "show_in_getting_started",
    "enable_embedding",
    "embedding_params",
    "archived",
    "auto_apply_filters",
}
