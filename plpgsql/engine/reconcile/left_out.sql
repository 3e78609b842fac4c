-- Keys that a comparison leaves out, on both sides.

/*
The table of keys that a comparison leaves out.
Parameters: p_key, key columns; p_table, the table that has them.
Writes:     pg_temp.reconciled_ignored, with the reason for each key.
*/
CREATE OR REPLACE FUNCTION etl._begin_ignoring(p_key name[], p_table regclass)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_begin_ignoring$
BEGIN
    EXECUTE format('CREATE TEMPORARY TABLE reconciled_ignored ON COMMIT DROP AS SELECT %s FROM %s WITH NO DATA', etl._list(p_key), p_table);
    EXECUTE format('CREATE UNIQUE INDEX ON pg_temp.reconciled_ignored (%s)', etl._list(p_key));
END
$_begin_ignoring$;
COMMENT ON FUNCTION etl._begin_ignoring(name[], regclass) IS 'Makes the table of keys that a comparison leaves out.';

/*
Adds keys to those that a comparison leaves out.
Parameters: p_key, key columns; p_table, the table that has them; p_keys, SELECT of a column row_key (jsonb); $1 is p_object.
Returns:    number of keys that were not left out already.
Writes:     pg_temp.reconciled_ignored.
*/
CREATE OR REPLACE FUNCTION etl._ignore(p_key name[], p_table regclass, p_keys text, p_object name)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_ignore$
DECLARE
    v_count bigint;
BEGIN
    EXECUTE format(
        'INSERT INTO pg_temp.reconciled_ignored (%s) SELECT DISTINCT %s FROM (%s) AS q WHERE %s ON CONFLICT DO NOTHING',
        etl._list(p_key), etl._from_json(p_key, 'q.row_key', p_table), p_keys, etl._list(p_key, '(q.row_key ->> %1$L) IS NOT NULL', ' AND ')
    )
    USING p_object;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END
$_ignore$;
COMMENT ON FUNCTION etl._ignore(name[], regclass, text, name) IS 'Adds keys to those that a comparison leaves out.';

CREATE OR REPLACE FUNCTION etl._not_ignored(p_key name[], p_alias text)
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_not_ignored$
    SELECT format('NOT EXISTS (SELECT FROM pg_temp.reconciled_ignored AS i WHERE %s)', etl._match(p_key, 'i', p_alias))
$_not_ignored$;
COMMENT ON FUNCTION etl._not_ignored(name[], text) IS 'Condition that a row (its alias) is not left out of the comparison.';

CREATE OR REPLACE FUNCTION etl._without_zeros(p_counts jsonb)
RETURNS jsonb
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_without_zeros$
    SELECT coalesce(jsonb_object_agg(c.key, c.value), '{}')
    FROM jsonb_each(p_counts) AS c
    WHERE c.value <> '0'
$_without_zeros$;
COMMENT ON FUNCTION etl._without_zeros(jsonb) IS 'Counts without those that are zero.';

/*
Condition on the alias's rows that they have a business key, as constants.
Parameters: p_key, key columns; p_row_key, their values; p_table, the table whose types count; p_alias, of the rows.
Returns:    text; a value that is missing or null matches NULL.
*/
CREATE OR REPLACE FUNCTION etl._key_condition(p_key name[], p_row_key jsonb, p_table regclass, p_alias text)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_key_condition$
    SELECT string_agg(
        CASE
            WHEN p_row_key ->> c.name::text IS NULL THEN format('%s.%I IS NULL', p_alias, c.name)
            -- A constant is evaluated by the server that has the rows, which matters for rows that cannot be read.
            WHEN t.typnamespace = 'pg_catalog'::regnamespace
                THEN format('%s.%I = %L::%s', p_alias, c.name, p_row_key ->> c.name::text, format_type(a.atttypid, a.atttypmod))
            ELSE format('%1$s.%2$I = (jsonb_populate_record(NULL::%3$s, %4$L)).%2$I', p_alias, c.name, p_table, p_row_key)
        END,
        ' AND ' ORDER BY c.position
    )
    FROM unnest(p_key) WITH ORDINALITY AS c (name, position)
    JOIN pg_attribute AS a ON a.attrelid = p_table AND a.attname = c.name
    JOIN pg_type AS t ON t.oid = a.atttypid
$_key_condition$;
COMMENT ON FUNCTION etl._key_condition(name[], jsonb, regclass, text) IS 'Condition that rows have a business key, as constants.';
