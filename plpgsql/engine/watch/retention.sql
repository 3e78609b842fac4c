-- Personal data that is kept no longer than declared after its row was deleted in the source.

-- Relations that hold rows of a personal object, and whether their rows can be replaced. Those of the operational system can where the contract is a
-- view of one table in this database.
CREATE OR REPLACE FUNCTION etl._personal_relations(p_object name)
RETURNS TABLE (relation regclass, is_reached boolean)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_personal_relations$
    SELECT coalesce(k.base, to_regclass(format('source.%I', s.source_table))), k.base IS NOT NULL
    FROM etl.source_table AS s
    LEFT JOIN (
        SELECT c.relation, to_regclass(format('%I.%I', c.base_schema, c.base_table)) AS base
        FROM etl._contract() AS c
        WHERE c.base_table IS NOT NULL
            AND (SELECT n.location FROM etl.source_connection AS n) = 'local'
    ) AS k ON k.relation = s.source_table
    WHERE s.source_table = p_object
    UNION ALL
    SELECT to_regclass(format('%I.%I', l.schema_name, s.source_table)), true
    FROM etl.source_table AS s
    CROSS JOIN (VALUES ('stage'), ('delta')) AS l (schema_name)
    WHERE s.source_table = p_object
    UNION ALL
    SELECT r.relation, true
    FROM etl.dimension AS d
    CROSS JOIN LATERAL (
        VALUES (d.dimension_table), (to_regclass(format('work.%I', d.dimension || '_decision')))
    ) AS r (relation)
    WHERE d.dimension = p_object
        AND r.relation IS NOT NULL
$_personal_relations$;

-- Replaces personal data of rows that were deleted in the source longer ago than etl.personal_column.kept_after_deletion allows; returns the number
-- of rows. Runs do it with their maintenance. A row that comes back under the same key is loaded as it is.
CREATE OR REPLACE FUNCTION etl._erase_expired()
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_erase_expired$
DECLARE
    r_column record;
    v_rows bigint;
    v_total bigint := 0;
BEGIN
    FOR r_column IN
        SELECT
            c.column_name,
            c.replacement,
            c.kept_after_deletion,
            o.key_columns,
            x.relation,
            format('stage.%I', m.object)::regclass AS mirror
        FROM etl.personal_column AS c
        JOIN etl.personal_object AS o USING (subject, object)
        -- The mirror knows what was deleted. A dimension has the members of the mirror with the same key.
        JOIN etl.personal_object AS m ON m.subject = o.subject AND m.key_columns = o.key_columns
        JOIN etl.source_table AS s ON s.source_table = m.object
        CROSS JOIN LATERAL etl._personal_relations(c.object) AS x
        WHERE c.kept_after_deletion IS NOT NULL
            AND (c.object = m.object OR NOT EXISTS (SELECT FROM etl.source_table AS t WHERE t.source_table = c.object))
            AND (SELECT r.relnamespace::regnamespace::text FROM pg_class AS r WHERE r.oid = x.relation) IN ('stage', 'dwh')
            AND etl._column_type(x.relation, c.column_name) IS NOT NULL
    LOOP
        EXECUTE etl._render(
            $template$UPDATE {{relation}} AS r
SET {{column}} = {{replacement}}
FROM (SELECT * FROM {{mirror}}) AS m
WHERE m.deleted_at < $1
    AND {{r.key = m.key}}
    AND r.{{column}} IS DISTINCT FROM ({{replacement}})$template$,
            jsonb_build_object(
                'relation', r_column.relation::text, 'column', quote_ident(r_column.column_name), 'replacement', r_column.replacement,
                'mirror', r_column.mirror::text, 'key', to_jsonb(r_column.key_columns)
            )
        )
        USING clock_timestamp() - r_column.kept_after_deletion;
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        IF v_rows > 0 AND NOT etl._is_distributed(r_column.relation) THEN
            PERFORM audit._analyze(r_column.relation);
        END IF;
        v_total := v_total + v_rows;
    END LOOP;
    IF v_total > 0 THEN
        PERFORM audit.note('expired data erased', current_database(), jsonb_build_object('values', v_total));
    END IF;
    RETURN v_total;
END
$_erase_expired$;
