-- Compiles the extraction of a source table: all rows into an empty mirror, or the changes since the watermark into
-- delta.

-- Compiles fill_<table>: all rows of a source table straight into its empty mirror.
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
    GET DIAGNOSTICS this.row_count = ROW_COUNT;{{check}}
    RETURN this.row_count;
END$sql$,
            v.of_source || jsonb_build_object('check', CASE WHEN v.of_source ->> 'd_key_is_null' LIKE '%''null''%' THEN etl._render(
                $sql$
    -- The mirror's key excludes NULL, and not the JSON null.
    IF EXISTS (SELECT FROM stage.{{table}} AS d WHERE {{d_key_is_null}}) THEN
        RAISE not_null_violation;
    END IF;$sql$,
                v.of_source
            ) ELSE '' END)
        )
    )
    FROM etl._source_values(p_source) AS v (of_source)
$_compile_fill$;

-- Statements that find the rows deleted since the watermark: part of extract_<table>.
-- Parameters: p_source, the table.
-- Returns:    a template.
CREATE OR REPLACE FUNCTION etl._deletion_template(p_source etl.source_table)
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_deletion_template$
    SELECT CASE p_source.delete_detection
        WHEN 'tombstone' THEN $sql$
    IF {{name}} = ANY (p_batch.tables_with_tombstones) THEN
        -- Tombstones since the watermark. A row that this batch has read under such a key is alive.
        INSERT INTO delta.{{table}} (batch_id, delta_operation{{, key}}, deleted_at)
        SELECT this.batch_id, 'delete'{{, g.key}}, max(g._deleted_at)
        FROM (
            SELECT {{unpacked_key}}, t.deleted_at
            FROM source.tombstones AS t
            WHERE t.table_name = {{name}}
                AND t.row_xid >= pg_snapshot_xmin(this.last)
                AND t.row_xid < pg_snapshot_xmax(this.now)
                AND NOT pg_visible_in_snapshot(t.row_xid, this.last)
        ) AS g ({{key}}, _deleted_at)
        WHERE NOT EXISTS (
            SELECT
            FROM (
                SELECT {{d.key}}
                FROM delta.{{table}} AS d
                WHERE d.batch_id = this.batch_id
                    AND d.delta_operation = 'upsert'
                OFFSET 0
            ) AS d
            WHERE {{d.key = g.key}}
        )
        GROUP BY {{g.key}};
        GET DIAGNOSTICS this.deletions = ROW_COUNT;
        IF this.deletions > 0 THEN
            -- The source may still have an unchanged row under such a key: it shared the key with the deleted row, or the tombstone came with a
            -- dump. That row is fetched, whatever the mirror holds.
            SELECT array_agg(DISTINCT p.row_key)
            INTO this.row_keys
            FROM (
                SELECT {{d_row_key}} AS row_key
                FROM delta.{{table}} AS d
                JOIN (
                    -- postgres_fdw can send this condition, so only these keys cross the network.
                    SELECT {{s.key}}
                    FROM source.{{table}} AS s
                    WHERE {{among_deleted}}
                    OFFSET 0
                ) AS s ON {{s.key = d.key}}
                WHERE d.batch_id = this.batch_id
                    AND d.delta_operation = 'delete'
                OFFSET 0
            ) AS p;
            IF this.row_keys IS NOT NULL THEN
                INSERT INTO etl.reextraction (source_table, row_key)
                SELECT {{name}}, t.row_key
                FROM unnest(this.row_keys) AS t (row_key)
                ON CONFLICT (source_table, row_key) DO UPDATE
                SET batch_id = NULL;
                DELETE FROM delta.{{table}} AS d
                USING (
                    SELECT {{unpacked_key}}
                    FROM unnest(this.row_keys) AS t (row_key)
                    OFFSET 0
                ) AS k ({{key}})
                WHERE d.batch_id = this.batch_id
                    AND d.delta_operation = 'delete'
                    AND {{k.key = d.key}};
                GET DIAGNOSTICS this.row_count = ROW_COUNT;
                this.deletions := this.deletions - this.row_count;
            END IF;
        END IF;
    END IF;
$sql$
        WHEN 'comparison' THEN $sql$
    -- Keys that the source no longer has.
    INSERT INTO delta.{{table}} (batch_id, delta_operation{{, key}}, deleted_at)
    SELECT this.batch_id, 'delete'{{, m.key}}, this.until
    FROM stage.{{table}} AS m
    WHERE m.deleted_at IS NULL
        AND NOT EXISTS (SELECT FROM source.{{table}} AS s WHERE {{s.key = m.key}});
    GET DIAGNOSTICS this.deletions = ROW_COUNT;
    -- Of rows that shared a key, one may be left.
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

-- Compiles extract_<table>: what changed since the watermark, into delta.
CREATE OR REPLACE FUNCTION etl._compile_extract(p_source etl.source_table)
RETURNS name
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_compile_extract$
    SELECT etl._create_compiled(
        'extract_' || p_source.source_table,
        'p_batch etl.batch, p_watermark etl.watermark, p_since timestamptz, p_until timestamptz',
        'etl.load_result',
        format(
            'Writes the rows of source.%I that changed or were deleted since the watermark into delta; returns their number, and how many cannot be read.',
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
    read_at timestamptz := p_batch.read_at;
    result etl.load_result := (0, 0, 0, 0, 0, 0);
    part etl.load_result;
    row_keys jsonb[];
    row_count bigint;
    deletions bigint := 0;
    has_unusable boolean;
BEGIN
    -- Nothing tells which of the rows without a usable key have got one, or are gone: all are tried again.
    UPDATE etl.quarantine AS q
    SET is_retried = true
    WHERE q.object = {{name}}
        AND q.sqlstate IN ('23502', '54000');
    this.has_unusable := FOUND;
    BEGIN
        INSERT INTO delta.{{table}} (batch_id, delta_operation{{, columns}})
        SELECT this.batch_id, 'upsert'{{, s.columns}}
        FROM source.{{table}} AS s
        WHERE {{changed}}{{with_key}};
        GET DIAGNOSTICS this.row_count = ROW_COUNT;
        this.result.rows_read := this.row_count;{{separate_keyless}}
    EXCEPTION
        WHEN data_exception THEN$sql$ || etl._fetch_template('{{changed}}') || $sql$
    END;
    IF this.has_unusable THEN
        BEGIN
            INSERT INTO delta.{{table}} (batch_id, delta_operation{{, columns}})
            SELECT this.batch_id, 'upsert'{{, s.columns}}
            FROM source.{{table}} AS s
            WHERE ({{s_key_is_long}})
                AND NOT ({{s_key_is_null}})
                AND ({{changed}}) IS NOT TRUE;
            GET DIAGNOSTICS this.row_count = ROW_COUNT;
            this.result.rows_read := this.result.rows_read + this.row_count;
        EXCEPTION
            WHEN data_exception THEN
                UPDATE etl.quarantine AS q
                SET is_retried = false
                WHERE q.object = {{name}}
                    AND q.sqlstate = '54000';
        END;$sql$ || etl._keyless_template('({{changed}}) IS NOT TRUE') || $sql$
    END IF;
    IF this.result.rows_read > 0 THEN
        DELETE FROM delta.{{table}} AS d WHERE d.batch_id <> this.batch_id;
        PERFORM etl._analyze({{delta_name}}, {{delta_names}}, this.result.rows_read, 0);
    END IF;
$sql$ || etl._deletion_template(p_source) || $sql$
    IF this.deletions > 0 THEN
        DELETE FROM delta.{{table}} AS d WHERE d.batch_id <> this.batch_id;
        PERFORM etl._analyze({{delta_name}}, {{delta_names}}, this.deletions, 0);
    END IF;
    this.result.rows_read := this.result.rows_read + this.deletions;
    RETURN this.result;
END$sql$,
            v.of_source || jsonb_build_object(
                'separate_keyless', CASE WHEN v.of_source ->> 'with_key' <> '' THEN etl._render(etl._keyless_template('{{changed}}'), v.of_source) ELSE '' END
            )
        ),
        -- Slices of keys come one by one, in their order.
        ARRAY['enable_hashagg = off']
    )
    FROM etl._source_values(p_source) AS v (of_source)
$_compile_extract$;
