-- What the warehouse says of the columns of a schema: one row per column of each table or view.
-- A view of schema analysis that has the name of a table of schema dwh means the same columns, so
-- that it takes over their comments and their keys.
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
        coalesce(meant_attribute.attnum, attribute.attnum) AS meant_position,
        obj_description(relation.oid, 'pg_class') AS own_relation_description,
        col_description(relation.oid, attribute.attnum) AS own_description
    FROM pg_class AS relation
    INNER JOIN pg_attribute AS attribute
        ON attribute.attrelid = relation.oid AND attribute.attnum > 0 AND NOT attribute.attisdropped
    LEFT JOIN pg_class AS meant
        ON meant.relname = relation.relname
            AND meant.relnamespace = to_regnamespace('dwh')
            AND meant.relkind IN ('r', 'p')
            AND %(schema)s = 'analysis'
    LEFT JOIN pg_attribute AS meant_attribute
        ON meant_attribute.attrelid = meant.oid AND meant_attribute.attname = attribute.attname
    WHERE relation.relnamespace = to_regnamespace(%(schema)s)
        AND relation.relkind IN ('r', 'p', 'v', 'm', 'f')
),

described AS (
    SELECT
        *,
        coalesce(own_relation_description, obj_description(meant_id, 'pg_class'))
            AS relation_description,
        coalesce(own_description, col_description(meant_id, meant_position)) AS description
    FROM columns
)

SELECT
    described.relation,
    described.relation_description,
    described.column_name,
    described.description,
    target.relname AS target_relation,
    keys.target_column,
    CASE
        WHEN keys.target_id IS NOT NULL THEN 'type/FK'
        WHEN EXISTS (
            SELECT FROM etl.dimension
            WHERE dimension.dimension_table = described.meant_id
                AND dimension.surrogate_key = described.column_name
        ) THEN 'type/PK'
        WHEN EXISTS (
            SELECT FROM etl.fact
            WHERE fact.fact_table = described.meant_id
                AND fact.business_key = ARRAY[described.column_name]
        ) THEN 'type/PK'
        WHEN described.description LIKE '%%business currency%%' THEN 'type/Currency'
        WHEN described.column_name = 'country' THEN 'type/Country'
        WHEN described.column_name = 'city' THEN 'type/City'
        WHEN described.column_name = 'postal_code' THEN 'type/ZipCode'
    END AS semantic_type,
    described.column_name IN ('run_id', 'valid_from', 'valid_to', 'is_current', 'is_deleted')
    AND described.meant_id <> described.relation_id AS is_technical
FROM described
LEFT JOIN keys
    ON keys.relation_id = described.meant_id AND keys.column_name = described.column_name
LEFT JOIN pg_class AS target
    ON target.oid = keys.target_id
ORDER BY described.relation, described.position
