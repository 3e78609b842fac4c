-- What the warehouse says of the columns of a schema: one row per column of each table or view.
-- A view of schema analysis has the columns of the table of that name in schema dwh, and so its keys.
-- Parameters: schema.
WITH keys AS (
    SELECT
        fact.fact_table::oid AS relation_id,
        role.key_column AS column_name,
        dimension.dimension_table::oid AS target_id,
        dimension.surrogate_key AS target_column
    FROM etl.fact
    INNER JOIN etl.fact_dimension AS role
        ON role.fact = fact.fact
    INNER JOIN etl.dimension
        ON dimension.dimension = role.dimension
),

columns AS (
    SELECT
        relation.oid AS relation_id,
        relation.relname AS relation,
        attribute.attnum AS position,
        attribute.attname AS column_name,
        coalesce(meant.oid, relation.oid) AS meant_id,
        obj_description(relation.oid, 'pg_class') AS relation_description,
        col_description(relation.oid, attribute.attnum) AS description
    FROM pg_class AS relation
    INNER JOIN pg_attribute AS attribute
        ON attribute.attrelid = relation.oid AND attribute.attnum > 0 AND NOT attribute.attisdropped
    LEFT JOIN pg_class AS meant
        ON meant.relname = relation.relname
            AND meant.relnamespace = to_regnamespace('dwh')
            AND meant.relkind IN ('r', 'p')
            AND %(schema)s::text = 'analysis'
    WHERE relation.relnamespace = to_regnamespace(%(schema)s::text)
        AND relation.relkind IN ('r', 'p', 'v', 'm', 'f')
)

SELECT
    columns.relation,
    columns.relation_description,
    columns.column_name,
    columns.description,
    target.relname AS target_relation,
    keys.target_column,
    CASE
        WHEN keys.target_id IS NOT NULL THEN 'type/FK'
        WHEN EXISTS (
            SELECT FROM etl.dimension
            WHERE dimension.dimension_table = columns.meant_id
                AND dimension.surrogate_key = columns.column_name
        ) THEN 'type/PK'
        WHEN EXISTS (
            SELECT FROM etl.fact
            WHERE fact.fact_table = columns.meant_id
                AND fact.business_key = ARRAY[columns.column_name]
        ) THEN 'type/PK'
        WHEN columns.description LIKE '%%business currency%%' THEN 'type/Currency'
        WHEN columns.column_name = 'country' THEN 'type/Country'
        WHEN columns.column_name = 'city' THEN 'type/City'
        WHEN columns.column_name = 'postal_code' THEN 'type/ZipCode'
    END AS semantic_type,
    columns.column_name IN ('run_id', 'valid_from', 'valid_to', 'is_current', 'is_deleted')
    AND columns.meant_id <> columns.relation_id AS is_technical
FROM columns
LEFT JOIN keys
    ON keys.relation_id = columns.meant_id AND keys.column_name = columns.column_name
LEFT JOIN pg_class AS target
    ON target.oid = keys.target_id
ORDER BY columns.relation, columns.position
