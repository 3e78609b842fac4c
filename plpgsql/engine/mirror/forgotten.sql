-- Forgotten subjects stay forgotten: personal values that the source still holds are replaced as they are extracted.
--
-- The statement is made when it runs, and not compiled by etl.build(), because a column may be declared as personal at
-- any time. etl.forget() replaces it from then on in all layers; a compiled statement would let its values in again
-- until the next build.

-- Assignments that replace the personal columns of a relation's row, alias r.
-- Parameters: p_subject, kind of subject; p_object, source table or dimension; p_relation, a relation with its columns.
-- Returns:    "column = expression, …"; NULL when the relation has none of the columns.
CREATE OR REPLACE FUNCTION etl._forgetting_list(p_subject text, p_object name, p_relation regclass)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_forgetting_list$
    SELECT string_agg(format('%I = %s', p.column_name, p.replacement), ', ' ORDER BY p.column_name)
    FROM etl.personal_column AS p
    WHERE p.subject = p_subject
        AND p.object = p_object
        AND etl._column_type(p_relation, p.column_name) IS NOT NULL
$_forgetting_list$;

-- Replaces personal data of forgotten subjects in the rows of an extraction. While no subject is forgotten, this reads one
-- empty table.
-- Parameters: p_source_table, the table; p_relation, its delta table or mirror, where the rows are; p_batch_id, the batch.
-- Returns:    number of rows.
-- Writes:     the relation.
CREATE OR REPLACE FUNCTION etl._suppress_forgotten(p_source_table name, p_relation regclass, p_batch_id bigint)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_suppress_forgotten$
DECLARE
    r_object etl.personal_object;
    v_rows bigint;
    v_total bigint := 0;
BEGIN
    IF NOT EXISTS (SELECT FROM etl.forgotten_row AS f WHERE f.object = p_source_table) THEN
        RETURN 0;
    END IF;
    FOR r_object IN
        SELECT *
        FROM etl.personal_object AS o
        WHERE o.object = p_source_table
    LOOP
        EXECUTE etl._render(
            $template$UPDATE {{relation}} AS r
SET {{replacements}}
FROM (
    SELECT {{unpacked_key}}
    FROM etl.forgotten_row AS t
    WHERE t.object = $2
        AND t.subject = $3
    OFFSET 0
) AS k ({{key}})
WHERE r.batch_id = $1
    AND {{k.key = r.key}}{{upserts_only}}$template$,
            jsonb_build_object(
                'relation', p_relation::text,
                'replacements', etl._forgetting_list(r_object.subject, p_source_table, p_relation),
                'key', to_jsonb(r_object.key_columns),
                'unpacked_key', etl._from_json(r_object.key_columns, 't.row_key', p_relation),
                'upserts_only', CASE WHEN etl._column_type(p_relation, 'delta_operation') IS NOT NULL THEN E'\n    AND r.delta_operation = ''upsert''' ELSE '' END
            )
        )
        USING p_batch_id, p_source_table, r_object.subject;
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        v_total := v_total + v_rows;
    END LOOP;
    RETURN v_total;
END
$_suppress_forgotten$;
