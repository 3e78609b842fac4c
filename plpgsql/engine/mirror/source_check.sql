-- What a source table has to be like, checked before a mirror is built of it.

/*
Type of a column without its domain: mirrors hold plain values, since a domain's own rules (NOT NULL) would refuse the mere keys of deleted rows.
Parameters: p_type, a type as format_type writes it.
Returns:    the type below the domain, with its modifier; p_type itself where it is no domain, or not known in this database.
*/
CREATE OR REPLACE FUNCTION etl._plain_type(p_type text)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_plain_type$
    WITH RECURSIVE below (type, modifier, is_domain) AS (
        SELECT t.typbasetype, t.typtypmod, true
        FROM pg_type AS t
        WHERE t.oid = to_regtype(p_type)
            AND t.typtype = 'd'
        UNION ALL
        SELECT t.typbasetype, t.typtypmod, true
        FROM below AS b
        JOIN pg_type AS t ON t.oid = b.type AND t.typtype = 'd'
    )
    SELECT coalesce(
        (
            SELECT format_type(b.type, b.modifier)
            FROM below AS b
            JOIN pg_type AS t ON t.oid = b.type AND t.typtype <> 'd'
        ),
        p_type
    )
$_plain_type$;
COMMENT ON FUNCTION etl._plain_type(text) IS 'Type below a domain; any other type as it is.';

CREATE OR REPLACE FUNCTION etl._mirror_list(p_source_table name)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_mirror_list$
    SELECT string_agg(format('%1$I::%2$s AS %1$I', c.name, etl._plain_type(etl._column_type(r.source, c.name))), ', ' ORDER BY c.position)
    FROM (SELECT to_regclass(format('source.%I', p_source_table))) AS r (source)
    CROSS JOIN unnest(etl._source_columns(p_source_table)) WITH ORDINALITY AS c (name, position)
$_mirror_list$;
COMMENT ON FUNCTION etl._mirror_list(name) IS 'Columns of a source table that its mirror takes, in the types that they have there, as a SELECT list.';

/*
Refuses a source table that could not be mirrored, or whose changes would be missed.
Parameters: p_source, its catalog row.
Errors:     ET003 with table, column, what is wrong, and the remedy.
*/
CREATE OR REPLACE FUNCTION etl._check_source(p_source etl.source_table)
RETURNS void
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_check_source$
DECLARE
    v_source regclass := format('source.%I', p_source.source_table)::regclass;
    v_type text := etl._plain_type(etl._column_type(v_source, p_source.change_column));
    v_column name;
BEGIN
    FOREACH v_column IN ARRAY etl._source_columns(p_source.source_table)
    LOOP
        IF v_column IN ('batch_id', 'deleted_at', 'delta_operation') THEN
            RAISE EXCEPTION 'source table "%" has a column "%", a name that the mirror needs for itself', p_source.source_table, v_column
                USING ERRCODE = 'ET003',
                    HINT = format('Rename the column in the contract: %I AS source_%s in the view %s.', v_column, v_column, v_source);
        END IF;
    END LOOP;

    IF p_source.change_detection = 'snapshot' AND v_type <> 'xid8' THEN
        RAISE EXCEPTION 'column "%" of source table "%" is of type %: changes are found by snapshot in a column of type xid8',
                p_source.change_column, p_source.source_table, v_type
            USING ERRCODE = 'ET003',
                HINT = 'Keep pg_current_xact_id() in a column of type xid8, or choose another change_detection.';
    ELSIF p_source.change_detection = 'timestamp' AND v_type !~ '^timestamp(\(\d\))? with time zone$' THEN
        RAISE EXCEPTION 'column "%" of source table "%" is of type %: changes are found by time in a column of type timestamp with time zone',
                p_source.change_column, p_source.source_table, v_type
            USING ERRCODE = 'ET003',
                DETAIL = 'Without a time zone, the moment that a value means depends on who reads it.',
                HINT = format(
                    'Name the time zone in the contract: %1$I AT TIME ZONE ''Europe/Berlin'' AS %1$I in the view %2$s.', p_source.change_column, v_source
                );
    END IF;

    FOREACH v_column IN ARRAY p_source.key_columns
    LOOP
        BEGIN
            EXECUTE format('SELECT NULL::%s ORDER BY 1', etl._plain_type(etl._column_type(v_source, v_column)));
        EXCEPTION
            WHEN undefined_function THEN
                RAISE EXCEPTION 'key column "%" of source table "%" is of type %, whose values cannot be compared',
                        v_column, p_source.source_table, etl._column_type(v_source, v_column)
                    USING ERRCODE = 'ET003',
                        HINT = format('Cast it in the contract, such as %1$I::text AS %1$I in the view %2$s, or choose another key.', v_column, v_source);
        END;
    END LOOP;
END
$_check_source$;
COMMENT ON FUNCTION etl._check_source(etl.source_table) IS 'Refuses a source table that could not be mirrored, or whose changes would be missed (ET003).';
