-- What the templates of a source table are filled with: its names, its key, and the conditions that pick its rows.
--
-- The exact watermark. A time of change (updated_at > last) loses rows whose transaction commits late. Here each source
-- row carries the id of the transaction that wrote it (xid8), and the watermark is a snapshot of the source: the set of
-- transactions that the mirror contains. A batch is what the present snapshot sees and the watermark does not. The
-- range on the id makes the query an index scan; the visibility test makes it exact. An id that the present snapshot
-- has not assigned yet came with a dump from another cluster, and does not count.
--
-- In the templates, variables carry the label "this", so that no column of a source table can be mistaken for a
-- variable.

-- Condition that picks rows of a source table (s) by their key. postgres_fdw can send it, so only these rows cross the
-- network.
-- Parameters: p_mirror, the mirror; p_key, its key columns; p_keys, what follows FROM, where the wanted keys are (k).
-- Returns:    SQL text. With several key columns it is too wide, because it holds for each column by itself.
CREATE OR REPLACE FUNCTION etl._among_sql(p_mirror regclass, p_key name[], p_keys text)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_among_sql$
    SELECT string_agg(
        format(
            -- An array of arrays is one array: those are compared as text.
            CASE t.typcategory
                WHEN 'A' THEN 's.%1$I::text = ANY (ARRAY(SELECT k.%1$I::text FROM %2$s))'
                ELSE 's.%1$I = ANY (ARRAY(SELECT k.%1$I FROM %2$s))'
            END,
            c.name, p_keys
        ),
        E'\nAND ' ORDER BY c.position
    )
    FROM unnest(p_key) WITH ORDINALITY AS c (name, position)
    JOIN pg_attribute AS a ON a.attrelid = p_mirror AND a.attname = c.name
    JOIN pg_type AS t ON t.oid = a.atttypid
$_among_sql$;

-- What the templates of a source table are filled with.
-- Parameters: p_source, the table; its mirror exists.
-- Returns:    values for etl._render.
CREATE OR REPLACE FUNCTION etl._source_values(p_source etl.source_table)
RETURNS jsonb
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_source_values$
DECLARE
    v_key name[] := p_source.key_columns;
    v_columns name[] := etl._source_columns(p_source.source_table);
    v_stage text := format('stage.%I', p_source.source_table);
BEGIN
    RETURN jsonb_build_object(
        'table', quote_ident(p_source.source_table),
        'name', quote_literal(p_source.source_table),
        'fetch', quote_ident('fetch_' || p_source.source_table),
        'salvage', quote_ident('salvage_' || p_source.source_table),
        'delta_name', quote_literal(format('delta.%I', p_source.source_table)),
        'key', v_key,
        'first_key', quote_ident(v_key[1]),
        'columns', v_columns,
        'values', etl._without(v_columns, v_key),
        'null_key', (SELECT format('%L::jsonb', jsonb_object_agg(k.name, NULL)) FROM unnest(v_key) AS k (name)),
        's_key_is_null', etl._no_key_condition(v_key, 's', v_stage::regclass),
        -- No node has rows without a value in the distribution column: there, rows without a key are told apart as they are read.
        'with_key', CASE WHEN etl._is_distributed(v_stage::regclass) THEN format(' AND NOT (%s)', etl._no_key_condition(v_key, 's', v_stage::regclass)) ELSE '' END,
        'd_key_is_null', etl._no_key_condition(v_key, 'd', v_stage::regclass),
        'd_key_is_long', etl._long_key_condition(v_key, 'd', v_stage::regclass),
        's_key_is_long', etl._long_key_condition(v_key, 's', v_stage::regclass),
        'either_key', etl._list(v_key, 'coalesce(s.%1$I, m.%1$I)'),
        'is_sought', etl._list(v_key, 's.%1$I = this.sought.%1$I', ' AND '),
        'among_deleted', etl._among_sql(
            v_stage::regclass, v_key,
            format('delta.%I AS k WHERE k.batch_id = this.batch_id AND k.delta_operation = ''delete''', p_source.source_table)
        ),
        'among_wanted', etl._among_sql(v_stage::regclass, v_key, 'wanted AS k'),
        'casts', etl._casts(format('source.%I', p_source.source_table)::regclass),
        -- The key columns, unpacked from t.row_key.
        'unpacked_key', etl._from_json(v_key, 't.row_key', v_stage::regclass),
        's_row_key', etl._json_key(v_key, 's'),
        'm_row_key', etl._json_key(v_key, 'm'),
        'd_row_key', etl._json_key(v_key, 'd'),
        'k_row_key', etl._json_key(v_key, 'k'),
        'delta_names', quote_literal(v_key || '{batch_id,delta_operation}'::name[]),
        'is_snapshot', (p_source.change_detection = 'snapshot')::text,
        'deletes', (p_source.delete_detection <> 'none')::text,
        -- A row without a usable change column (NULL, a time in the future) counts as changed.
        'changed', etl._render(
            CASE p_source.change_detection
                WHEN 'snapshot' THEN $sql$(
    {{column}} >= pg_snapshot_xmin(this.last)
    AND {{column}} < pg_snapshot_xmax(this.now)
    AND NOT pg_visible_in_snapshot({{column}}, this.last)
    OR {{column}} IS NULL
)$sql$
                WHEN 'timestamp' THEN $sql$(
    {{column}} >= this.since
    AND ({{column}} < this.until OR {{column}} > this.read_at)
    OR {{column}} IS NULL
    OR {{column}} = '-infinity'
)$sql$
                ELSE 'true'
            END,
            jsonb_build_object('column', 's.' || quote_ident(p_source.change_column))
        )
    );
END
$_source_values$;
