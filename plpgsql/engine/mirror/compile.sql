-- The compiler of source tables: from catalog rows to the routines that extract a table and merge it into its mirror.
--
-- The exact watermark. A time of change (updated_at > last) loses rows whose transaction commits late. Here each source row
-- carries the id of the transaction that wrote it (xid8), and the watermark is a snapshot of the source: the set of transactions
-- that the mirror contains. A batch is what the present snapshot sees and that one did not. The range on the id makes it an
-- index scan; the visibility test makes it exact. An id that the present snapshot has not handed out yet is of another cluster: it
-- came with a dump, and does not count.
--
-- In the templates, variables carry the label "this", so that no column of a source table can be taken for one of them.

/*
Condition that a row changed since the watermark.
Parameters: p_source, the table; p_alias, alias of its row; p_snapshot, p_now, expressions of the snapshots of watermark and batch; p_from,
            p_until, expressions of the moments from and up to which changes are read.
Returns:    SQL text. A row that does not tell when it changed counts as changed: NULL, and an infinite time of change.
*/
CREATE OR REPLACE FUNCTION etl._changed_condition(
    p_source etl.source_table,
    p_alias text,
    p_snapshot text,
    p_now text,
    p_from text,
    p_until text
) RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_changed_condition$
    SELECT etl._render(
        CASE p_source.change_detection
            WHEN 'snapshot' THEN $sql$(
    {{column}} >= pg_snapshot_xmin({{snapshot}})
    AND {{column}} < pg_snapshot_xmax({{now}})
    AND NOT pg_visible_in_snapshot({{column}}, {{snapshot}})
    OR {{column}} IS NULL
)$sql$
            WHEN 'timestamp' THEN $sql$(
    {{column}} >= {{from}}
    AND {{column}} < {{until}}
    OR {{column}} IS NULL
    OR {{column}} IN ('infinity', '-infinity')
)$sql$
            ELSE 'true'
        END,
        jsonb_build_object(
            'column', format('%s.%s', p_alias, quote_ident(p_source.change_column)), 'snapshot', p_snapshot, 'now', p_now, 'from', p_from, 'until', p_until
        )
    )
$_changed_condition$;
COMMENT ON FUNCTION etl._changed_condition(etl.source_table, text, text, text, text, text) IS 'Condition that a row of a source table changed since the watermark, as SQL text.';

/*
Condition that picks rows of a source table (s) by their key, such as another server is sent: only the rows asked for cross the network.
Parameters: p_mirror, the mirror; p_key, its key columns; p_keys, what follows FROM, where the wanted keys are (k).
Returns:    SQL text. It holds for each column by itself, thus for more rows than those of the keys when there are several columns.
*/
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
COMMENT ON FUNCTION etl._among_sql(regclass, name[], text) IS 'Condition that picks rows of a source table by their key, such as another server is sent.';

/*
What the templates of a source table are filled with.
Parameters: p_source, the table.
Returns:    values for etl._render.
*/
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
        'delta_name', quote_literal(format('delta.%I', p_source.source_table)),
        'source_name', quote_literal(format('source.%I', p_source.source_table)),
        'key', v_key,
        'first_key', quote_ident(v_key[1]),
        'columns', v_columns,
        'values', etl._without(v_columns, v_key),
        'd_key_is_null', etl._list(v_key, 'd.%1$I IS NULL', ' OR '),
        'same_or_null_key', etl._list(v_key, 'd.%1$I IS NOT DISTINCT FROM u.%1$I', ' AND '),
        'either_key', etl._list(v_key, 'coalesce(s.%1$I, m.%1$I)'),
        'among_deleted', etl._among_sql(
            v_stage::regclass, v_key,
            format('delta.%I AS k WHERE k.batch_id = this.batch_id AND k.delta_operation = ''delete''', p_source.source_table)
        ),
        'casts', etl._casts(format('source.%I', p_source.source_table)::regclass),
        'tombstone_key', etl._list(v_key, format('(jsonb_populate_record(NULL::%s, t.row_key)).', replace(v_stage, '%', '%%')) || '%1$I'),
        'm_row_key', etl._json_key(v_key, 'm'),
        'd_row_key', etl._json_key(v_key, 'd'),
        'delta_names', quote_literal(v_key || '{batch_id,delta_operation}'::name[]),
        'is_snapshot', (p_source.change_detection = 'snapshot')::text,
        'deletes', (p_source.delete_detection <> 'none')::text,
        'changed', etl._changed_condition(p_source, 's', 'this.last', 'this.now', 'this.since', 'this.until')
    );
END
$_source_values$;
COMMENT ON FUNCTION etl._source_values(etl.source_table) IS 'What the templates of a source table are filled with.';

/*
Compiles fill_<table>: all rows of a source table straight into its empty mirror.
*/
CREATE OR REPLACE FUNCTION etl._compile_fill(p_source etl.source_table)
RETURNS name
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_compile_fill$
    SELECT etl._create_compiled(
        'fill_' || p_source.source_table,
        'p_batch_id bigint',
        'bigint',
        format('Writes all rows of source.%I into its empty mirror; returns their number.', p_source.source_table),
        etl._render(
            $sql$#variable_conflict use_column
<<this>>
DECLARE
    batch_id bigint := p_batch_id;
    row_count bigint;
BEGIN
    INSERT INTO stage.{{table}} (batch_id{{, columns}})
    SELECT this.batch_id{{, s.columns}}
    FROM source.{{table}} AS s;
    GET DIAGNOSTICS this.row_count = ROW_COUNT;
    RETURN this.row_count;
END$sql$,
            etl._source_values(p_source)
        )
    )
$_compile_fill$;
COMMENT ON FUNCTION etl._compile_fill(etl.source_table) IS 'Compiles the routine that fills the empty mirror of a source table.';

/*
Statements that find the rows that were deleted since the watermark, as part of extract_<table>.
Parameters: p_source, the table.
Returns:    a template.
*/
CREATE OR REPLACE FUNCTION etl._deletion_template(p_source etl.source_table)
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_deletion_template$
    SELECT CASE p_source.delete_detection
        WHEN 'tombstone' THEN $sql$
    IF {{name}} = ANY (p_batch.tables_with_tombstones) THEN
        -- Tombstones since the watermark. A row that has just been read under such a key is alive.
        INSERT INTO delta.{{table}} (batch_id, delta_operation{{, key}}, deleted_at)
        SELECT this.batch_id, 'delete'{{, g.key}}, max(g.deleted_at)
        FROM (
            SELECT {{tombstone_key}}, t.deleted_at
            FROM source.tombstones AS t
            WHERE t.table_name = {{name}}
                AND t.row_xid >= pg_snapshot_xmin(this.last)
                AND t.row_xid < pg_snapshot_xmax(this.now)
                AND NOT pg_visible_in_snapshot(t.row_xid, this.last)
        ) AS g ({{key}}, deleted_at)
        WHERE NOT EXISTS (
            SELECT
            FROM delta.{{table}} AS d
            WHERE d.batch_id = this.batch_id
                AND d.delta_operation = 'upsert'
                AND {{d.key = g.key}}
        )
        GROUP BY {{g.key}};
        GET DIAGNOSTICS this.deletions = ROW_COUNT;
        IF this.deletions > 0 THEN
            -- A row that has not changed may be there under such a key all the same: it shared the key with the one that was deleted, or the
            -- tombstone came with a dump. It is fetched, whatever the mirror holds.
            WITH present AS (
                DELETE FROM delta.{{table}} AS d
                USING (
                    SELECT {{s.key}}
                    FROM source.{{table}} AS s
                    JOIN delta.{{table}} AS d ON {{d.key = s.key}}
                    WHERE NOT this.is_remote
                        AND d.batch_id = this.batch_id
                        AND d.delta_operation = 'delete'
                    UNION ALL
                    -- A condition that another server is sent, so that only these keys cross the network.
                    SELECT {{s.key}}
                    FROM source.{{table}} AS s
                    WHERE this.is_remote
                        AND {{among_deleted}}
                ) AS s
                WHERE d.batch_id = this.batch_id
                    AND d.delta_operation = 'delete'
                    AND {{s.key = d.key}}
                RETURNING {{d_row_key}} AS row_key
            ),
            fetched AS (
                INSERT INTO etl.reextraction (source_table, row_key)
                SELECT {{name}}, p.row_key
                FROM present AS p
                GROUP BY p.row_key
                ON CONFLICT (source_table, row_key) DO UPDATE
                SET batch_id = NULL
            )
            SELECT this.deletions - count(*)
            INTO this.deletions
            FROM present;
        END IF;
    END IF;
$sql$
        WHEN 'comparison' THEN $sql$
    -- Keys that are gone from the source.
    INSERT INTO delta.{{table}} (batch_id, delta_operation{{, key}}, deleted_at)
    SELECT this.batch_id, 'delete'{{, m.key}}, this.until
    FROM stage.{{table}} AS m
    WHERE m.deleted_at IS NULL
        AND NOT EXISTS (SELECT FROM source.{{table}} AS s WHERE {{s.key = m.key}});
    GET DIAGNOSTICS this.deletions = ROW_COUNT;
    -- Of rows that shared their key, one may be left.
    INSERT INTO etl.reextraction (source_table, row_key)
    SELECT {{name}}, q.row_key
    FROM etl.quarantine AS q
    WHERE q.object = {{name}}
        AND q.sqlstate = '23505'
    ON CONFLICT (source_table, row_key) DO UPDATE
    SET batch_id = NULL;
$sql$
        ELSE ''
    END
$_deletion_template$;
COMMENT ON FUNCTION etl._deletion_template(etl.source_table) IS 'Statements that find the rows that were deleted since the watermark, as a template.';

/*
Compiles extract_<table>: what changed since the watermark, into delta.
*/
CREATE OR REPLACE FUNCTION etl._compile_extract(p_source etl.source_table)
RETURNS name
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_compile_extract$
    SELECT etl._create_compiled(
        'extract_' || p_source.source_table,
        'p_batch etl.batch, p_watermark etl.watermark, p_since timestamptz, p_until timestamptz, p_are_rows_read boolean',
        'bigint',
        format(
            'Writes the rows of source.%I that changed or were deleted since the watermark into delta; returns their number.',
            p_source.source_table
        ),
        etl._render(
            $sql$#variable_conflict use_column
<<this>>
DECLARE
    batch_id bigint := p_batch.batch_id;
    last pg_snapshot := p_watermark.snapshot;
    now pg_snapshot := p_batch.snapshot;
    since timestamptz := p_since;
    until timestamptz := p_until;
    changes bigint := 0;
    deletions bigint := 0;
    is_remote boolean := EXISTS (SELECT FROM pg_foreign_table AS f WHERE f.ftrelid = {{source_name}}::regclass);
BEGIN
    IF NOT p_are_rows_read THEN
        INSERT INTO delta.{{table}} (batch_id, delta_operation{{, columns}})
        SELECT this.batch_id, 'upsert'{{, s.columns}}
        FROM source.{{table}} AS s
        WHERE {{changed}};
        GET DIAGNOSTICS this.changes = ROW_COUNT;
        IF this.changes > 0 THEN
            DELETE FROM delta.{{table}} AS d WHERE d.batch_id <> this.batch_id;
            PERFORM etl._analyze({{delta_name}}, {{delta_names}}, this.changes, 0);
        END IF;
    END IF;
$sql$ || etl._deletion_template(p_source) || $sql$
    IF this.deletions > 0 THEN
        DELETE FROM delta.{{table}} AS d WHERE d.batch_id <> this.batch_id;
        PERFORM etl._analyze({{delta_name}}, {{delta_names}}, this.deletions, 0);
    END IF;
    RETURN this.changes + this.deletions;
END$sql$,
            etl._source_values(p_source)
        )
    )
$_compile_extract$;
COMMENT ON FUNCTION etl._compile_extract(etl.source_table) IS 'Compiles the routine that extracts the changes of a source table.';

/*
Compiles compare_<table>: all rows of a source table, into delta; compared with the mirror while they are read, where every row can be told by
its key.
*/
CREATE OR REPLACE FUNCTION etl._compile_compare(p_source etl.source_table)
RETURNS name
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_compile_compare$
    SELECT etl._create_compiled(
        'compare_' || p_source.source_table,
        'p_batch etl.batch, p_until timestamptz, p_is_compared boolean, p_are_rows_read boolean',
        'bigint',
        format('Reads all rows of source.%I; writes those that its mirror lacks, holds otherwise or has too many into delta.', p_source.source_table),
        etl._render(
            $sql$#variable_conflict use_column
<<this>>
DECLARE
    batch_id bigint := p_batch.batch_id;
    run_id bigint := p_batch.run_id;
    until timestamptz := p_until;
    changes bigint := 0;
    deletions bigint := 0;
BEGIN
    -- A row that shares its key with another is found in delta: then, and where one of the quarantine may have become a good one, all rows go there.
    IF p_is_compared
        AND NOT EXISTS (SELECT FROM etl.quarantine AS q WHERE q.object = {{name}})
        AND NOT EXISTS (SELECT FROM source.{{table}} GROUP BY {{key}} HAVING count(*) > 1)
    THEN
        INSERT INTO delta.{{table}} (batch_id, delta_operation{{, key}}{{, values}}, deleted_at)
        SELECT
            this.batch_id,
            CASE WHEN m.batch_id IS NOT NULL AND s.{{first_key}} IS NULL THEN 'delete' ELSE 'upsert' END,
            {{either_key}}{{, s.values}},
            CASE WHEN m.batch_id IS NOT NULL AND s.{{first_key}} IS NULL THEN {{deleted_at}} END
        FROM source.{{table}} AS s
        FULL JOIN (SELECT * FROM stage.{{table}} AS r WHERE r.deleted_at IS NULL) AS m ON {{m.key = s.key}}{{join_tombstones}}
        WHERE CASE
                WHEN m.batch_id IS NULL THEN true
                -- No row of the mirror is without its key: to this one, the source has no row.
                WHEN s.{{first_key}} IS NULL THEN {{deletes}}
                ELSE {{m.values <> s.values}}
            END;
        GET DIAGNOSTICS this.changes = ROW_COUNT;
    ELSE
        IF NOT p_are_rows_read THEN
            INSERT INTO delta.{{table}} (batch_id, delta_operation{{, columns}})
            SELECT this.batch_id, 'upsert'{{, s.columns}}
            FROM source.{{table}} AS s;
            GET DIAGNOSTICS this.changes = ROW_COUNT;
            PERFORM etl._analyze({{delta_name}}, {{delta_names}}, this.changes, 0);
        END IF;
        IF {{deletes}} THEN
            -- Keys of the mirror that the source has no more. A row that cannot be read is there all the same.
            INSERT INTO delta.{{table}} (batch_id, delta_operation{{, key}}, deleted_at)
            SELECT this.batch_id, 'delete'{{, m.key}}, {{deleted_at}}
            FROM stage.{{table}} AS m{{join_tombstones}}
            WHERE m.deleted_at IS NULL
                AND NOT EXISTS (
                    SELECT
                    FROM delta.{{table}} AS d
                    WHERE d.batch_id = this.batch_id
                        AND d.delta_operation = 'upsert'
                        AND {{d.key = m.key}}
                )
                AND NOT EXISTS (
                    SELECT
                    FROM etl.quarantine AS q
                    WHERE q.object = {{name}}
                        AND q.run_id = this.run_id
                        AND q.sqlstate LIKE '22%'
                        AND q.row_key = {{m_row_key}}
                );
            GET DIAGNOSTICS this.deletions = ROW_COUNT;
        END IF;
    END IF;
    IF this.changes + this.deletions > 0 THEN
        DELETE FROM delta.{{table}} AS d WHERE d.batch_id <> this.batch_id;
        PERFORM etl._analyze({{delta_name}}, {{delta_names}}, this.changes + this.deletions, 0);
    END IF;
    RETURN this.changes + this.deletions;
END$sql$,
            etl._source_values(p_source) || jsonb_build_object(
                'deleted_at', CASE p_source.delete_detection WHEN 'tombstone' THEN 'coalesce(t.deleted_at, this.until)' ELSE 'this.until' END,
                'join_tombstones', CASE p_source.delete_detection
                    -- A tombstone knows when the row was deleted; without one it was before now.
                    WHEN 'tombstone' THEN etl._render(
                        $sql$
LEFT JOIN (
    SELECT {{tombstone_key}}, max(t.deleted_at)
    FROM source.tombstones AS t
    WHERE t.table_name = {{name}}
    GROUP BY {{tombstone_key}}
) AS t ({{key}}, deleted_at) ON {{t.key = m.key}}$sql$,
                        etl._source_values(p_source)
                    )
                    ELSE ''
                END
            )
        ),
        ARRAY[
            -- A key usually has an index, whose order tells what repeats.
            'enable_hashagg = off'
        ]
    )
$_compile_compare$;
COMMENT ON FUNCTION etl._compile_compare(etl.source_table) IS 'Compiles the routine that compares a whole source table with its mirror.';

/*
Statements that turn the changes of a source table into pending keys of what is built from it, as part of merge_<table>.
Parameters: p_source, the table.
Returns:    SQL text.
*/
CREATE OR REPLACE FUNCTION etl._pending_key_sql(p_source etl.source_table)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_pending_key_sql$
    SELECT string_agg(
        etl._render(
            $sql$

    -- Keys of {{object}} that this touches.
    INSERT INTO work.{{key_table}} ({{object_key}})
    WITH changed AS (
        SELECT c.*
        FROM delta.{{table}} AS c
        WHERE c.batch_id = this.batch_id{{unwatched}}
    )
    SELECT {{k.object_key}}
    FROM (
        {{key_query}}
    ) AS k ({{object_key}})
    WHERE ({{k.object_key}}) IS NOT NULL
    EXCEPT
    SELECT {{object_key}}
    FROM work.{{key_table}}
    ORDER BY {{object_key}};$sql$,
            etl._source_values(p_source) || jsonb_build_object(
                'object', quote_ident(p.object),
                'key_table', quote_ident(p.object || '_key'),
                'object_key', o.business_key,
                'key_query', p.key_query,
                'unwatched', CASE
                    WHEN p.watched_columns IS NULL THEN ''
                    ELSE etl._render(
                        -- CASE, because the planner believes that hardly any two rows agree: where half of them did, it compared each pair, and a
                        -- batch of 5 s took 360.
                        $sql$
    -- Both images of a row agree in all that is watched.
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
        -- The object to which most tables add comes last: what others have added meanwhile is seen then.
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
COMMENT ON FUNCTION etl._pending_key_sql(etl.source_table) IS 'Statements that turn the changes of a source table into pending keys; NULL when nothing is built from it.';

/*
Rows without a usable key, taken out of a batch as part of merge_<table>: a key column that is NULL, or a key that several rows share. The engine
cannot know which of them is right.
Returns:    a template.
*/
CREATE OR REPLACE FUNCTION etl._unusable_template()
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_unusable_template$
    SELECT $sql$
    IF this.are_unusable OR EXISTS (SELECT FROM etl.quarantine AS q WHERE q.object = {{name}}) THEN
        -- A row in quarantine that the batch brings again leaves it, unless it is bad again.
        UPDATE etl.quarantine AS q
        SET is_retried = true
        FROM delta.{{table}} AS d
        WHERE d.batch_id = this.batch_id
            AND q.object = {{name}}
            AND q.row_key = {{d_row_key}};
        WITH unusable AS (
            SELECT {{d.key}}, count(*) AS row_count
            FROM delta.{{table}} AS d
            WHERE d.batch_id = this.batch_id
                AND d.delta_operation = 'upsert'
            GROUP BY {{d.key}}
            HAVING count(*) > 1
                OR {{d_key_is_null}}
        ),
        removed AS (
            DELETE FROM delta.{{table}} AS d
            USING unusable AS u
            WHERE d.batch_id = this.batch_id
                AND d.delta_operation = 'upsert'
                AND {{same_or_null_key}}
            RETURNING
                {{d_key_is_null}} AS is_null,
                u.row_count,
                {{d_row_key}} AS row_key,
                to_jsonb(d) - '{batch_id,delta_operation,deleted_at}'::text[] AS original_row
        ),
        entries AS (
            SELECT
                CASE WHEN r.is_null THEN r.original_row ELSE r.row_key END AS row_key,
                r.is_null,
                max(r.row_count) AS row_count,
                jsonb_agg(r.original_row) AS originals
            FROM removed AS r
            GROUP BY 1, 2
        )
        SELECT count(etl._quarantine(
            {{name}},
            e.row_key,
            CASE WHEN e.is_null THEN '23502' ELSE '23505' END,
            CASE WHEN e.is_null THEN 'a column of its key is NULL' ELSE format('%s rows of the source share its key', e.row_count) END,
            CASE WHEN e.is_null THEN e.originals -> 0 ELSE e.originals END,
            this.run_id
        ) IS NULL)
        INTO this.result.rows_quarantined
        FROM entries AS e;
        PERFORM etl._end_retry({{name}});
    END IF;
$sql$
$_unusable_template$;
COMMENT ON FUNCTION etl._unusable_template() IS 'Takes rows without a usable key out of a batch, as a template.';

/*
Compiles merge_<table>: delta into the mirror, and each change into the keys of the dimensions and facts that it touches. Mirror, pending keys and
watermark move in one transaction: after a failure all of it is still to do.

Why keys, and why here: a change is seen as it was and as it is at this moment only. A line that moves from one order to another touches both, and
once the mirror is overwritten the first is lost. With the keys pending in a table, a dimension that fails for ten runs loses nothing, its next
load costs what changed, and delta need not outlive its batch. A key may be added by several tables at once: the load unites them.
*/
CREATE OR REPLACE FUNCTION etl._compile_merge(p_source etl.source_table)
RETURNS name
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_compile_merge$
    SELECT etl._create_compiled(
        'merge_' || p_source.source_table,
        'p_batch_id bigint, p_run_id bigint, p_rows_extracted bigint, p_is_complete boolean',
        'etl.load_result',
        format('Merges a batch of source.%I into its mirror, and adds the keys that it touches to what is pending.', p_source.source_table),
        etl._render(
            $sql$#variable_conflict use_column
<<this>>
DECLARE
    batch_id bigint := p_batch_id;
    run_id bigint := p_run_id;
    result etl.load_result := (p_rows_extracted, 0, 0, 0, 0, 0);
    row_count bigint;
    are_unusable boolean;
BEGIN
    SELECT coalesce(sum(k.row_count), 0), coalesce(bool_or(k.upserts > 1 OR k.upserts > 0 AND k.is_null), false)
    INTO this.row_count, this.are_unusable
    FROM (
        SELECT count(*) AS row_count, count(*) FILTER (WHERE d.delta_operation = 'upsert') AS upserts, {{d_key_is_null}} AS is_null
        FROM delta.{{table}} AS d
        WHERE d.batch_id = this.batch_id
            AND d.delta_operation <> 'before'
        GROUP BY {{d.key}}
    ) AS k;
    IF this.row_count <> p_rows_extracted THEN
        RAISE EXCEPTION 'delta.% holds % of the % rows of batch %', {{name}}, this.row_count, p_rows_extracted, p_batch_id
            USING ERRCODE = 'ET005',
                DETAIL = 'The table is unlogged: a crash of the server empties it.',
                HINT = 'The watermark has not moved; the next run extracts the rows again.';
    END IF;
$sql$ || etl._unusable_template() || $sql$
    IF p_is_complete OR NOT {{is_snapshot}} THEN
        -- By its snapshot a row comes because it has changed. Of all others most have not: they are dropped, and touch nothing.
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

    -- Rows as the mirror holds them.
    INSERT INTO delta.{{table}} (batch_id, delta_operation{{, columns}}, deleted_at)
    SELECT this.batch_id, 'before'{{, m.columns}}, m.deleted_at
    FROM delta.{{table}} AS d
    CROSS JOIN LATERAL (
        SELECT r.*
        FROM stage.{{table}} AS r
        WHERE {{r.key = d.key}}
        -- Keeps the subquery whole: whatever the statistics say, a key costs one look-up.
        OFFSET 0
    ) AS m
    WHERE d.batch_id = this.batch_id
        AND d.delta_operation <> 'before';
    GET DIAGNOSTICS this.row_count = ROW_COUNT;
    PERFORM etl._analyze({{delta_name}}, {{delta_names}}, this.row_count);

    -- Rows that are gone are marked.
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

    -- Rows that differ. Their images tell which: the mirror is read at those alone.
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

    -- Rows that are new.
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
    this.result.rows_inserted := this.row_count;$sql$,
            etl._source_values(p_source)
        ) || coalesce(etl._pending_key_sql(p_source), '') || E'\n    RETURN this.result;\nEND',
        ARRAY[
            -- Rows come in the order of their keys, more or less, and are wanted so: to sort what is nearly sorted takes half of the time of hashing.
            'enable_hashagg = off',
            -- Rows are updated that have just been read: their pages are in memory.
            'random_page_cost = 0.3'
        ]
    )
$_compile_merge$;
COMMENT ON FUNCTION etl._compile_merge(etl.source_table) IS 'Compiles the routine that merges a batch of a source table into its mirror.';

/*
Compiles the routines of a source table.
Parameters: p_source_table, the table; its mirror is there.
Returns:    names of the routines.
Writes:     schema compiled.
*/
CREATE OR REPLACE FUNCTION etl._compile_source(p_source_table name)
RETURNS name[]
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_compile_source$
    SELECT ARRAY[etl._compile_fill(s), etl._compile_extract(s), etl._compile_compare(s), etl._compile_merge(s)]
    FROM etl.source_table AS s
    WHERE s.source_table = p_source_table
$_compile_source$;
COMMENT ON FUNCTION etl._compile_source(name) IS 'Compiles the routines that extract a source table and merge it into its mirror.';
