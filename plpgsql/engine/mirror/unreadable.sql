-- Rows that cannot be read: what can be read of them goes to quarantine, and of text that cannot, the bytes.

/*
Puts a row that cannot be read into quarantine, with the columns that can be.
Parameters: p_source_table, the table; p_key, its key columns; p_position, the row's place in pg_temp.fetched_key;
            p_sqlstate, p_reason, the error; p_run_id, the run.
Writes:     etl.quarantine.
Errors:     ET008 when the run has put more rows of the table there than the setting quarantine_limit allows.
*/
CREATE OR REPLACE FUNCTION etl._quarantine_unreadable(
    p_source_table name,
    p_key name[],
    p_position bigint,
    p_sqlstate text,
    p_reason text,
    p_run_id bigint
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_quarantine_unreadable$
DECLARE
    v_stage regclass := format('stage.%I', p_source_table)::regclass;
    v_condition text := etl._list(p_key, 's.%1$I = (SELECT f.%1$I FROM pg_temp.fetched_key AS f WHERE f.position = $1)', ' AND ');
    v_column name;
    v_key jsonb;
    v_value jsonb;
    v_row jsonb := jsonb_build_object();
    v_unreadable text;
BEGIN
    PERFORM set_config('search_path', etl._operator_path(), true);
    EXECUTE format('SELECT %s FROM pg_temp.fetched_key AS k WHERE k.position = $1', etl._json_key(p_key, 'k')) INTO v_key USING p_position;
    FOREACH v_column IN ARRAY etl._without(etl._columns(v_stage), '{batch_id,deleted_at}')
    LOOP
        BEGIN
            EXECUTE format('SELECT to_jsonb(s.%I) FROM source.%I AS s WHERE %s LIMIT 1', v_column, p_source_table, v_condition)
            INTO v_value
            USING p_position;
        EXCEPTION
            WHEN data_exception THEN
                v_unreadable := concat_ws(', ', v_unreadable, quote_ident(v_column));
                v_value := NULL;
                IF etl._column_type(v_stage, v_column) ~ '^(text|char)' THEN
                    v_value := to_jsonb(etl._bytes_of(p_source_table, v_column, v_condition, p_position));
                END IF;
        END;
        v_row := v_row || jsonb_build_object(v_column, v_value);
    END LOOP;
    PERFORM etl._quarantine(
        p_source_table, v_key, p_sqlstate, coalesce(format('%s cannot be read: ', v_unreadable), '') || p_reason, v_row, p_run_id
    );
    PERFORM etl._check_quarantine_limit(p_source_table, v_key, p_sqlstate, p_reason, p_run_id);
END
$_quarantine_unreadable$;
COMMENT ON FUNCTION etl._quarantine_unreadable(name, name[], bigint, text, text, bigint) IS 'Puts a row that cannot be read into quarantine, with the columns that can be.';

/*
The bytes of a text that is not valid in the warehouse's encoding, told by the source as bytes. An aggregate is asked for, since postgres_fdw
sends those to the other server as a whole, but no other expression of the SELECT list.
Parameters: p_source_table, p_column, where it is; p_condition, which row (s); p_position, $1 of the condition.
Returns:    the text in bytea's escape format; NULL where the source does not tell.
*/
CREATE OR REPLACE FUNCTION etl._bytes_of(p_source_table name, p_column name, p_condition text, p_position bigint)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_bytes_of$
DECLARE
    v_bytes bytea;
BEGIN
    EXECUTE format(
        $sql$SELECT string_agg(decode(replace(s.%I, '\', '\\'), 'escape'), ''::bytea) FROM source.%I AS s WHERE %s$sql$,
        p_column, p_source_table, p_condition
    )
    INTO v_bytes
    USING p_position;
    RETURN encode(v_bytes, 'escape');
EXCEPTION
    WHEN data_exception THEN
        RETURN NULL;
END
$_bytes_of$;
COMMENT ON FUNCTION etl._bytes_of(name, name, text, bigint) IS 'The bytes of a text that is not valid in the warehouse''s encoding, in escape format.';
