-- Templates of a fact: the rows that it should hold, with their surrogate keys resolved.
--
-- A key is unresolved (-1) if its member is missing, or if its dimension failed to load changes of the member: the stored version may then be the
-- wrong one. Either way the row is queued, and the load of the member makes the entry ready. In a dimension that nothing loads (the
-- calendar) no member can arrive later: such a row goes to quarantine.
--
-- A plain join on the business key, with a condition on the validity, looks up the version. The planner chooses an index scan for few keys and a hash
-- join for many.

-- Keys of a fact, in lookup order: keys that are looked up through another key come last.
-- Parameters: p_fact, the fact.
-- Returns:    a row for each key column: number names its join (d1, d2 …); source is the alias of the row that has its lookup
--             columns, kept_columns are their names in a resolved row (_lookup_<number>_<position>).
CREATE OR REPLACE FUNCTION etl._fact_roles(p_fact name)
RETURNS TABLE (
    number bigint,
    key_column name,
    dimension name,
    is_loaded boolean,
    dimension_table regclass,
    surrogate_key name,
    business_key name[],
    lookup_columns name[],
    as_of_column name,
    null_key bigint,
    source text,
    kept_columns name[]
)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_fact_roles$
    WITH role AS (
        SELECT k.*, row_number() OVER (ORDER BY k.lookup_role IS NOT NULL, k.key_column) AS number
        FROM etl.fact_dimension AS k
        WHERE k.fact = p_fact
    )
    SELECT r.number, r.key_column, r.dimension, d.transform_view IS NOT NULL, d.dimension_table, d.surrogate_key, d.business_key,
        r.lookup_columns, r.as_of_column, r.null_key, coalesce('d' || s.number, 'v'),
        ARRAY(SELECT format('_lookup_%s_%s', r.number, c.position)::name FROM generate_subscripts(r.lookup_columns, 1) AS c (position))
    FROM role AS r
    JOIN etl.dimension AS d USING (dimension)
    LEFT JOIN role AS s ON s.key_column = r.lookup_role
$_fact_roles$;

-- Values of the templates of a fact.
-- Parameters: p_fact, the fact.
-- Returns:    values for etl._render.
CREATE OR REPLACE FUNCTION etl._fact_values(p_fact name)
RETURNS jsonb
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_fact_values$
    SELECT jsonb_build_object(
        'name', quote_literal(f.fact),
        'table', f.fact_table::text,
        'view', f.transform_view::text,
        'key_table', format('work.%I', f.fact || '_key'),
        'decision', format('work.%I', f.fact || '_decision'),
        'decision_name', quote_literal(format('work.%I', f.fact || '_decision')),
        'decision_columns', quote_literal(f.business_key || 'planned_operation'::name),
        'key', to_jsonb(f.business_key),
        'keys', to_jsonb(k.keys),
        'columns', to_jsonb(c.plain || k.keys || c.measures || 'is_deleted'::name),
        'casts', etl._casts(f.fact_table),
        'deleted_at', d.deleted_at,
        'key_values', substr(etl._cast_list(f.business_key, 'v', f.transform_view, f.fact_table), 3),
        'plain_values', etl._cast_list(c.plain, 'v', f.transform_view, f.fact_table),
        'measure_values', (
            -- A deleted row must leave every sum. Its measures become NULL if the table allows it, so that averages skip them, otherwise 0.
            SELECT coalesce(string_agg(
                format(
                    E',\nCASE WHEN %1$s IS NULL THEN %2$s%3$s END AS %4$I',
                    d.deleted_at, etl._cast('v.' || quote_ident(m.name), f.transform_view, m.name, f.fact_table), etl._measure_default(f.fact_table, m.name), m.name
                ),
                '' ORDER BY m.position
            ), '')
            FROM unnest(c.measures) WITH ORDINALITY AS m (name, position)
        )
    )
    FROM etl.fact AS f
    CROSS JOIN LATERAL (
        SELECT CASE WHEN etl._column_type(f.transform_view, 'deleted_at') IS NULL THEN 'NULL::timestamptz' ELSE 'v.deleted_at' END
    ) AS d (deleted_at)
    CROSS JOIN LATERAL (SELECT coalesce(array_agg(r.key_column ORDER BY r.number), '{}') FROM etl._fact_roles(p_fact) AS r) AS k (keys)
    CROSS JOIN LATERAL (
        SELECT
            etl._without(etl._writable_columns(f.fact_table), f.business_key || k.keys || f.measures || '{is_deleted,run_id}'::name[]) AS plain,
            etl._without(f.measures, etl._without(etl._columns(f.fact_table), etl._writable_columns(f.fact_table))) AS measures
    ) AS c
    WHERE f.fact = p_fact
$_fact_values$;

-- Rows of a fact with their surrogate keys resolved.
-- Parameters: p_fact, the fact; p_values, of its templates; p_source, FROM items that end in the rows of the transformation view as v;
--             p_is_load, whether members with pending changes count as unknown and the columns for the plan are returned.
-- Returns:    a SELECT: business key, the other writable columns but run_id, is_deleted; for a load also the columns by which each key is looked up
--             (kept_columns of etl._fact_roles), and _is_given, which v must have.
CREATE OR REPLACE FUNCTION etl._resolved_fact_sql(p_fact name, p_values jsonb, p_source text, p_is_load boolean)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_resolved_fact_sql$
    SELECT etl._render(
        $template$SELECT
    {{key_values}}{{plain_values}}{{surrogate_values}}{{measure_values}},
    {{deleted_at}} IS NOT NULL AS is_deleted{{lookups}}
FROM {{source}}{{joins}}$template$,
        p_values || jsonb_build_object(
            'source', p_source,
            'surrogate_values', coalesce(r.surrogate_values, ''),
            'lookups', CASE WHEN p_is_load THEN coalesce(r.lookups, '') || E',\nv._is_given' ELSE '' END,
            'joins', coalesce(r.joins, '')
        )
    )
    FROM (
        SELECT
            string_agg(
                format(
                    E',\n(CASE WHEN %s THEN %s%s ELSE coalesce(d%s.%I, -1) END)::%s AS %I',
                    k.has_no_key, k.null_key,
                    CASE WHEN p_is_load AND k.is_loaded THEN format(' WHEN %s IN (SELECT %s FROM work.%I AS p) THEN -1', k.looked_up, k.pending, k.dimension || '_key') ELSE '' END,
                    k.number, k.surrogate_key, etl._compared_type(f.fact_table, k.key_column), k.key_column
                ),
                '' ORDER BY k.number
            ) AS surrogate_values,
            string_agg(
                (
                    SELECT string_agg(format(E',\n%s.%I AS %I', k.source, c.name, c.kept), '' ORDER BY c.position)
                    FROM unnest(k.lookup_columns, k.kept_columns) WITH ORDINALITY AS c (name, kept, position)
                ),
                '' ORDER BY k.number
            ) AS lookups,
            string_agg(
                format(
                    E'\nLEFT JOIN %s AS d%s ON %s%s',
                    k.dimension_table, k.number,
                    etl._match_pairs(k.business_key, 'd' || k.number, k.lookup_columns, k.source),
                    CASE
                        WHEN k.as_of_column IS NOT NULL AND etl._column_type(k.dimension_table, 'valid_from') IS NOT NULL
                            THEN format(' AND v.%1$I >= d%2$s.valid_from AND v.%1$I < d%2$s.valid_to', k.as_of_column, k.number)
                        -- The versions of a member that was deleted and returned hold the same values.
                        WHEN k.is_loaded THEN format(' AND d%s.valid_from = ''-infinity''', k.number)
                        ELSE ''
                    END
                ),
                '' ORDER BY k.number
            ) AS joins
        FROM (
            SELECT
                s.*,
                format(
                    CASE WHEN cardinality(s.lookup_columns) = 1 THEN '%s' ELSE '(%s)' END,
                    etl._list(s.lookup_columns, s.source || '.%1$I')
                ) AS looked_up,
                -- IS NULL would hold for a composite value of NULLs.
                etl._list(s.lookup_columns, s.source || '.%1$I IS NOT DISTINCT FROM NULL', ' AND ') AS has_no_key,
                etl._list(s.business_key, 'p.%1$I') AS pending
            FROM etl._fact_roles(p_fact) AS s
        ) AS k
        JOIN etl.fact AS f ON f.fact = p_fact
    ) AS r
$_resolved_fact_sql$;

-- All rows that a fact should hold.
-- Parameters: p_fact, the fact; p_condition, on the rows r of its view: what it leaves out is not computed.
-- Returns:    a SELECT: business key and the other writable columns but run_id, in the types in which they are compared.
CREATE OR REPLACE FUNCTION etl._expected_fact_sql(p_fact name, p_condition text)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_expected_fact_sql$
    -- With OFFSET 0 the view computes its columns once. Merged into the joins, they would be computed for the hash and again for each match. On a
    -- cluster it has to stay as well: without it, Citus 13.2.2 read a column of a local mirror as NULL.
    SELECT etl._resolved_fact_sql(
        p_fact, v.of_fact, format('(SELECT * FROM %s AS r WHERE %s OFFSET 0) AS v', v.of_fact ->> 'view', p_condition), p_is_load => false
    )
    FROM etl._fact_values(p_fact) AS v (of_fact)
$_expected_fact_sql$;
