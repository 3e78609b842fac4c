-- What a mirror contains of a source table: its columns in plain types, and its key.

-- Type of a column without its domain. Mirrors use plain types, because a NOT NULL domain would refuse the keys of deleted
-- rows, which have no other values.
-- Parameters: p_type, a type as format_type returns it.
-- Returns:    the base type of a domain, with its modifier; any other type, or one unknown in this database, as it is.
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

-- Columns of a source table in the types of its mirror, as a SELECT list.
CREATE OR REPLACE FUNCTION etl._mirror_list(p_source_table name)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_mirror_list$
    SELECT string_agg(format('%1$I::%2$s AS %1$I', c.name, etl._held_type(r.source, c.name)), ', ' ORDER BY c.position)
    FROM (SELECT to_regclass(format('source.%I', p_source_table))) AS r (source)
    CROSS JOIN unnest(etl._source_columns(p_source_table)) WITH ORDINALITY AS c (name, position)
$_mirror_list$;

-- Refuses a source table whose key cannot be compared, such as one of type json.
-- Parameters: p_source, its catalog row.
-- Errors:     ET003.
CREATE OR REPLACE FUNCTION etl._check_source_key(p_source etl.source_table)
RETURNS void
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_check_source_key$
DECLARE
    v_column name;
BEGIN
    FOREACH v_column IN ARRAY p_source.key_columns
    LOOP
        BEGIN
            EXECUTE format(
                'SELECT NULL::%s ORDER BY 1', etl._held_type(format('source.%I', p_source.source_table)::regclass, v_column)
            );
        EXCEPTION
            WHEN undefined_function THEN
                RAISE EXCEPTION 'key column "%" of source table "%" is of type %, whose values cannot be compared',
                        v_column, p_source.source_table, etl._column_type(format('source.%I', p_source.source_table)::regclass, v_column)
                    USING ERRCODE = 'ET003',
                        HINT = format('Cast it in the contract view: %1$I::text AS %1$I. Or choose another key.', v_column);
        END;
    END LOOP;
END
$_check_source_key$;
