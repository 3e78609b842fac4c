-- Compiles the comparison of a whole source table with its mirror.

-- Compiles compare_<table>: all rows of a source table, read into delta, or compared with the mirror while they are read,
-- where each row has a key of its own. The second writes the rows that differ, and no others.
CREATE OR REPLACE FUNCTION etl._compile_compare(p_source etl.source_table)
RETURNS name
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_compile_compare$
    SELECT etl._create_compiled(
        'compare_' || p_source.source_table,
        'p_batch etl.batch, p_until timestamptz, p_is_compared boolean',
        'etl.load_result',
        format(
            'Reads all rows of source.%I; writes those that its mirror lacks, holds otherwise or has too many into delta; returns their number, and how many cannot be read.',
            p_source.source_table
        ),
        etl._render(
            $sql$#variable_conflict use_column
<<this>>
DECLARE
    batch_id bigint := p_batch.batch_id;
    until timestamptz := p_until;
    result etl.load_result := (0, 0, 0, 0, 0, 0);
    part etl.load_result;
    row_keys jsonb[];
    row_count bigint;
    is_compared boolean := p_is_compared;
BEGIN
    BEGIN
        -- A row that shares its key is found in delta, and one in quarantine may be good by now: then all rows go to delta.
        this.is_compared := this.is_compared
            AND NOT EXISTS (SELECT FROM etl.quarantine AS q WHERE q.object = {{name}})
            AND NOT EXISTS (SELECT FROM source.{{table}} GROUP BY {{key}} HAVING count(*) > 1);
        -- All rows are read. Those that are still unusable are found again; the merge releases the others.
        UPDATE etl.quarantine AS q
        SET is_retried = true
        WHERE q.object = {{name}};
        IF this.is_compared THEN
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
                    -- Keys of the mirror are NOT NULL: the source has no row for this one.
                    WHEN s.{{first_key}} IS NULL THEN {{deletes}}
                    ELSE {{m.values <> s.values}}
                END;
        ELSE
            INSERT INTO delta.{{table}} (batch_id, delta_operation{{, columns}})
            SELECT this.batch_id, 'upsert'{{, s.columns}}
            FROM source.{{table}} AS s WHERE true{{with_key}};
        END IF;
        GET DIAGNOSTICS this.row_count = ROW_COUNT;
        this.result.rows_read := this.row_count;{{separate_keyless}}
    EXCEPTION
        WHEN data_exception THEN
            this.is_compared := false;$sql$ || etl._fetch_template('true') || $sql$
    END;
    IF {{deletes}} AND NOT this.is_compared THEN
        PERFORM etl._analyze({{delta_name}}, {{delta_names}}, this.result.rows_read, 0);
        -- Keys of the mirror that the source no longer has. An unreadable row still exists.
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
                FROM (SELECT * FROM etl.quarantine) AS q
                WHERE q.object = {{name}}
                    AND q.run_id = p_batch.run_id
                    AND q.sqlstate LIKE '22%'
                    AND q.row_key = {{m_row_key}}
            );
        GET DIAGNOSTICS this.row_count = ROW_COUNT;
        this.result.rows_read := this.result.rows_read + this.row_count;
    END IF;
    IF this.result.rows_read > 0 THEN
        DELETE FROM delta.{{table}} AS d WHERE d.batch_id <> this.batch_id;
        PERFORM etl._analyze({{delta_name}}, {{delta_names}}, this.result.rows_read, 0);
    END IF;
    RETURN this.result;
END$sql$,
            v.of_source || jsonb_build_object(
                'separate_keyless', CASE WHEN v.of_source ->> 'with_key' <> '' THEN etl._render(etl._keyless_template('true'), v.of_source) ELSE '' END,
                'deleted_at', CASE p_source.delete_detection WHEN 'tombstone' THEN 'coalesce(t._deleted_at, this.until)' ELSE 'this.until' END,
                'join_tombstones', CASE p_source.delete_detection
                    -- A tombstone says when the row was deleted.
                    WHEN 'tombstone' THEN etl._render(
                        $sql$
LEFT JOIN (
    SELECT {{unpacked_key}}, max(t.deleted_at)
    FROM source.tombstones AS t
    WHERE t.table_name = {{name}}
    GROUP BY {{unpacked_key}}
) AS t ({{key}}, _deleted_at) ON {{t.key = m.key}}$sql$,
                        v.of_source
                    )
                    ELSE ''
                END
            )
        ),
        -- A key usually has an index, whose order shows what repeats.
        ARRAY['enable_hashagg = off']
    )
    FROM etl._source_values(p_source) AS v (of_source)
$_compile_compare$;
