-- Compiles the merge of a batch into a mirror, and of each change into pending keys.

-- Statements that turn the changes of a source table into pending keys: part of merge_<table>.
-- Parameters: p_source, the table.
-- Returns:    SQL text; NULL when nothing is built from the table.
CREATE OR REPLACE FUNCTION etl._pending_key_sql(p_source etl.source_table)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_pending_key_sql$
    SELECT string_agg(
        etl._render(
            $sql$

    -- Keys of {{object}} that the changes touch.
    INSERT INTO work.{{key_table}} ({{object_key}})
    WITH changed AS (
        SELECT c.*
        FROM delta.{{table}} AS c
        WHERE c.batch_id = this.batch_id{{unwatched}}
    )
    SELECT DISTINCT {{k.object_key}}
    FROM (
        {{key_query}}
    ) AS k ({{object_key}})
    LEFT JOIN work.{{key_table}} AS p ON {{p.object_key = k.object_key}}
    WHERE num_nulls({{k.object_key}}) = 0
        AND num_nulls({{p.object_key}}) > 0;$sql$,
            etl._source_values(p_source) || jsonb_build_object(
                'object', quote_ident(p.object),
                'key_table', quote_ident(p.object || '_key'),
                'object_key', o.business_key,
                'key_query', p.key_query,
                'unwatched', CASE
                    WHEN p.watched_columns IS NULL THEN ''
                    ELSE etl._render(
                        -- CASE hides the condition from the planner, which expects that two rows hardly ever agree. Where half of them did, it compared
                        -- all pairs, and a batch of 5 s took 360 s.
                        $sql$
    -- The watched columns are equal before and after.
    AND NOT EXISTS (
        SELECT
        FROM delta.{{table}} AS b
        JOIN delta.{{table}} AS u ON {{u.key = b.key}}
        WHERE b.batch_id = this.batch_id
            AND b.delta_operation = 'before'
            AND u.batch_id = this.batch_id
            AND u.delta_operation = 'upsert'
            AND CASE WHEN {{u.watched <> b.watched}} THEN false ELSE true END
            AND {{b.key = c.key}}
    )$sql$,
                        etl._source_values(p_source) || jsonb_build_object('watched', p.watched_columns || '{deleted_at}'::name[])
                    )
                END
            )
        ),
        -- The object with the most source tables comes last: by then, it sees the keys that concurrent merges have committed.
        '' ORDER BY (SELECT count(*) FROM etl.dependency AS n WHERE n.object = p.object), p.object
    )
    FROM etl.dependency AS p
    JOIN (
        SELECT d.dimension, d.business_key FROM etl.dimension AS d
        UNION ALL
        SELECT f.fact, f.business_key FROM etl.fact AS f
    ) AS o (object, business_key) ON o.object = p.object
    WHERE p.source_table = p_source.source_table
$_pending_key_sql$;

-- Rows without a usable key go to quarantine: a key column is NULL, the key does not fit into an index entry, or several
-- rows share the key, and the engine cannot know which of them is right.
-- Returns:    a template, part of merge_<table>.
CREATE OR REPLACE FUNCTION etl._unusable_template()
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_unusable_template$
    SELECT $sql$
    IF this.are_unusable OR EXISTS (SELECT FROM etl.quarantine AS q WHERE q.object = {{name}}) THEN
        -- A row in quarantine that is in the batch again leaves quarantine, unless it is unusable again.
        UPDATE etl.quarantine AS q
        SET is_retried = true
        FROM (
            SELECT {{d_row_key}} AS row_key
            FROM delta.{{table}} AS d
            WHERE d.batch_id = this.batch_id
            OFFSET 0
        ) AS k
        WHERE q.object = {{name}}
            AND q.row_key = k.row_key;
        SELECT count(etl._quarantine(
            {{name}},
            e.row_key,
            e.sqlstate,
            CASE e.sqlstate
                WHEN '23502' THEN 'a column of its key is NULL'
                WHEN '54000' THEN 'its key is too long for an index entry'
                ELSE format('%s rows of the source share its key', e.row_count)
            END,
            CASE e.sqlstate WHEN '23505' THEN e.originals ELSE e.originals -> 0 END,
            this.run_id
        ) IS NULL)
        INTO this.result.rows_quarantined
        FROM (
            SELECT
                CASE WHEN r.sqlstate = '23502' THEN r.original_row ELSE r.row_key END AS row_key,
                r.sqlstate,
                max(r.row_count) AS row_count,
                jsonb_agg(r.original_row) AS originals
            FROM (
                SELECT
                    CASE
                        WHEN {{d_key_is_null}} THEN '23502'
                        WHEN {{d_key_is_long}} THEN '54000'
                        WHEN count(*) OVER (PARTITION BY {{d.key}}) > 1 THEN '23505'
                    END AS sqlstate,
                    count(*) OVER (PARTITION BY {{d.key}}) AS row_count,
                    {{d_row_key}} AS row_key,
                    to_jsonb(d) - '{batch_id,delta_operation,deleted_at}'::text[] AS original_row
                FROM delta.{{table}} AS d
                WHERE d.batch_id = this.batch_id
                    AND d.delta_operation = 'upsert'
            ) AS r
            WHERE r.sqlstate IS NOT NULL
            GROUP BY 1, 2
            OFFSET 0
        ) AS e;
        DELETE FROM delta.{{table}} AS d
        WHERE d.batch_id = this.batch_id
            AND d.delta_operation = 'upsert'
            AND ({{d_key_is_null}} OR {{d_key_is_long}});
        DELETE FROM delta.{{table}} AS d
        USING (
            SELECT {{r.key}}
            FROM delta.{{table}} AS r
            WHERE r.batch_id = this.batch_id
                AND r.delta_operation = 'upsert'
            GROUP BY {{r.key}}
            HAVING count(*) > 1
        ) AS u
        WHERE d.batch_id = this.batch_id
            AND d.delta_operation = 'upsert'
            AND {{d.key = u.key}};
    END IF;
$sql$
$_unusable_template$;

-- Writes a batch to the mirror: deletions, changes, new rows.
-- Returns:    a template, part of merge_<table>.
CREATE OR REPLACE FUNCTION etl._mirror_write_template()
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_mirror_write_template$
    SELECT $sql$
    IF this.has_deletions THEN
        -- Deleted rows are marked.
        UPDATE stage.{{table}} AS m
        SET deleted_at = d.deleted_at,
            batch_id = this.batch_id
        FROM delta.{{table}} AS d
        WHERE d.batch_id = this.batch_id
            AND d.delta_operation = 'delete'
            AND m.deleted_at IS NULL
            AND {{m.key = d.key}};
        GET DIAGNOSTICS this.row_count = ROW_COUNT;
        this.result.rows_deleted := this.row_count;
        IF this.row_count > 0 AND etl._keeps_live_rows_only({{name}}) THEN
            DELETE FROM stage.{{table}} AS m
            USING delta.{{table}} AS d
            WHERE d.batch_id = this.batch_id
                AND d.delta_operation = 'delete'
                AND m.deleted_at IS NOT NULL
                AND {{m.key = d.key}};
        END IF;
    END IF;

    IF this.rows_before > 0 THEN
        -- Rows that differ from what they were.
        UPDATE stage.{{table}} AS m
        SET batch_id = this.batch_id,
            deleted_at = NULL{{, values := d.values}}
        FROM delta.{{table}} AS d
        JOIN delta.{{table}} AS b ON {{b.key = d.key}}
        WHERE d.batch_id = this.batch_id
            AND d.delta_operation = 'upsert'
            AND b.batch_id = this.batch_id
            AND b.delta_operation = 'before'
            AND (b.deleted_at IS NOT NULL OR {{b.values <> d.values}})
            AND {{m.key = d.key}};
        GET DIAGNOSTICS this.row_count = ROW_COUNT;
        this.result.rows_updated := this.row_count;
    END IF;

    -- New rows.
    INSERT INTO stage.{{table}} (batch_id{{, columns}})
    SELECT this.batch_id{{, d.columns}}
    FROM delta.{{table}} AS d
    WHERE d.batch_id = this.batch_id
        AND d.delta_operation = 'upsert'
        AND NOT EXISTS (
            SELECT
            FROM delta.{{table}} AS b
            WHERE b.batch_id = this.batch_id
                AND b.delta_operation = 'before'
                AND {{b.key = d.key}}
        );
    GET DIAGNOSTICS this.row_count = ROW_COUNT;
    this.result.rows_inserted := this.row_count;$sql$
$_mirror_write_template$;

-- Compiles merge_<table>: delta into the mirror, and each change into the pending keys of the dimensions and facts that it
-- touches. Mirror, pending keys and watermark change in one transaction, so a failure leaves all three as they were.
--
-- The merge is the only step that sees a change before and after: an order line that moves to another order touches both,
-- and once the mirror is overwritten the first one is lost. Because pending keys are stored, a dimension that fails ten
-- times loses no change, its next load costs what changed, and delta need not outlive its batch. Several tables may add
-- the same key: the load removes duplicates.
CREATE OR REPLACE FUNCTION etl._compile_merge(p_source etl.source_table)
RETURNS name
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_compile_merge$
    SELECT etl._create_compiled(
        'merge_' || p_source.source_table,
        'p_batch_id bigint, p_run_id bigint, p_rows_extracted bigint, p_is_complete boolean',
        'etl.load_result',
        format('Merges a batch of source.%I into its mirror, and adds the keys that it touches to the pending keys.', p_source.source_table),
        etl._render(
            $sql$#variable_conflict use_column
<<this>>
DECLARE
    batch_id bigint := p_batch_id;
    run_id bigint := p_run_id;
    result etl.load_result := (p_rows_extracted, 0, 0, 0, 0, 0);
    row_count bigint;
    are_unusable boolean;
    has_deletions boolean;
    rows_before bigint;
BEGIN
    SELECT
        coalesce(sum(k.row_count), 0), coalesce(bool_or(k.upserts > 1 OR k.upserts > 0 AND k.is_unusable), false), coalesce(bool_or(k.row_count > k.upserts), false)
    INTO this.row_count, this.are_unusable, this.has_deletions
    FROM (
        SELECT count(*) AS row_count, count(*) FILTER (WHERE d.delta_operation = 'upsert') AS upserts, {{d_key_is_null}} OR {{d_key_is_long}} AS is_unusable
        FROM delta.{{table}} AS d
        WHERE d.batch_id = this.batch_id
            AND d.delta_operation <> 'before'
        GROUP BY {{d.key}}
    ) AS k;
    IF this.row_count <> p_rows_extracted THEN
        RAISE EXCEPTION 'delta.% holds % of the % rows of batch %', {{name}}, this.row_count, p_rows_extracted, p_batch_id
            USING ERRCODE = 'ET005',
                DETAIL = 'A crash of the server empties an unlogged table.',
                HINT = 'Run again: the watermark has not moved, so the rows are extracted again.';
    END IF;
$sql$ || etl._unusable_template() || $sql$
    IF p_is_complete OR NOT {{is_snapshot}} THEN
        -- Rows found by snapshot have changed. Of all others most have not: they are removed from the batch.
        DELETE FROM delta.{{table}} AS d
        USING stage.{{table}} AS m
        WHERE d.batch_id = this.batch_id
            AND d.delta_operation = 'upsert'
            AND m.deleted_at IS NULL
            AND {{m.key = d.key}}
            AND NOT {{m.values <> d.values}};
        GET DIAGNOSTICS this.row_count = ROW_COUNT;
        PERFORM etl._analyze({{delta_name}}, {{delta_names}}, this.row_count);
    END IF;

    -- The rows before the change.
    INSERT INTO delta.{{table}} (batch_id, delta_operation{{, columns}}, deleted_at)
    SELECT this.batch_id, 'before'{{, m.columns}}, m.deleted_at
    FROM delta.{{table}} AS d
    CROSS JOIN LATERAL (
        SELECT r.*
        FROM stage.{{table}} AS r
        WHERE {{r.key = d.key}}
        -- OFFSET 0 keeps the subquery: whatever the statistics say, a key costs one index scan.
        OFFSET 0
    ) AS m
    WHERE d.batch_id = this.batch_id
        AND d.delta_operation <> 'before';
    GET DIAGNOSTICS this.rows_before = ROW_COUNT;
    PERFORM etl._analyze({{delta_name}}, {{delta_names}}, this.rows_before);
$sql$ || etl._mirror_write_template(),
            etl._source_values(p_source)
        ) || coalesce(etl._pending_key_sql(p_source), '') || E'\n    RETURN this.result;\nEND',
        ARRAY[
            -- Rows arrive nearly in the order of their keys, and are wanted so: sorting them takes half as long as hashing.
            'enable_hashagg = off',
            -- The rows to be updated have just been read: their pages are in memory.
            'random_page_cost = 0.3'
        ]
    )
$_compile_merge$;

-- Compiles the routines of a source table.
-- Parameters: p_source_table, the table; its mirror exists.
-- Returns:    names of the routines.
-- Writes:     schema compiled.
CREATE OR REPLACE FUNCTION etl._compile_source(p_source_table name)
RETURNS name[]
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_compile_source$
    SELECT ARRAY[
        etl._compile_salvage(s), etl._compile_fetch(s), etl._compile_fill(s), etl._compile_extract(s), etl._compile_compare(s),
        etl._compile_reextract(s), etl._compile_merge(s)
    ]
    FROM etl.source_table AS s
    WHERE s.source_table = p_source_table
$_compile_source$;
