-- Shared by the loads of dimensions and facts: pending keys before, watermark after.

-- Whether a full refresh of an object is requested. The row stays locked until the transaction ends: a request during the load waits, and the next load
-- serves it.
-- Parameters: p_object, dimension, fact or aggregate.
CREATE OR REPLACE FUNCTION etl._needs_reload(p_object name)
RETURNS boolean
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_needs_reload$
    SELECT l.needs_reload
    FROM etl.load_state AS l
    WHERE l.object = p_object
    FOR UPDATE
$_needs_reload$;

-- Points in time that a load needs.
-- Returns:    now, the later of this server's clock and the time of the latest batch: a change dated after it is wrong;
--             batch_at, when the latest batch was read, by the clock of the source (NULL before the first).
CREATE OR REPLACE FUNCTION etl._load_time(OUT now timestamptz, OUT batch_at timestamptz)
LANGUAGE sql
VOLATILE
SET search_path = pg_catalog, pg_temp
AS $_load_time$
    SELECT greatest(clock_timestamp(), b.read_at), b.read_at
    FROM (SELECT (SELECT l.read_at FROM etl.batch AS l ORDER BY l.batch_id DESC LIMIT 1)) AS b (read_at)
$_load_time$;

-- Makes all keys of an object pending: those of its view, and those of its table, because rows that the view no longer returns are deleted.
-- Parameters: p_object, dimension or fact; p_business_key, its columns; p_table, its table; p_view, its transformation view.
-- Writes:     work.<object>_key.
CREATE OR REPLACE FUNCTION etl._enqueue_all(p_object name, p_business_key name[], p_table regclass, p_view regclass)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_enqueue_all$
BEGIN
    EXECUTE etl._render(
        $template$INSERT INTO {{keys}} ({{key}})
SELECT DISTINCT {{key}}
FROM (
    SELECT {{key}} FROM {{view}}
    UNION ALL
    SELECT {{key}} FROM {{table}}
) AS k
WHERE num_nulls({{key}}) = 0$template$,
        jsonb_build_object('keys', format('work.%I', p_object || '_key'), 'key', to_jsonb(p_business_key), 'view', p_view::text, 'table', p_table::text)
    );
END
$_enqueue_all$;

-- Counts the rows of transformation views that have no value in a column of the key. No load can tell them apart, so none takes them.
CREATE OR REPLACE FUNCTION etl.keyless_rows()
RETURNS TABLE (object name, row_count bigint)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $keyless_rows$
DECLARE
    v_query text;
BEGIN
    SELECT string_agg(
        format(
            'SELECT %L::name, count(*) FROM %s AS v WHERE (%s)%s HAVING count(*) > 0',
            o.object, o.view_name, etl._list(o.business_key, 'v.%1$I IS NOT DISTINCT FROM NULL', ' OR '),
            CASE WHEN etl._column_type(o.view_name, 'deleted_at') IS NOT NULL THEN ' AND v.deleted_at IS NULL' END
        ),
        E'\nUNION ALL\n' ORDER BY o.object
    )
    INTO v_query
    FROM etl.object AS o
    WHERE o.kind IN ('dimension', 'fact')
        AND o.view_name IS NOT NULL;
    IF v_query IS NOT NULL THEN
        RETURN QUERY EXECUTE v_query;
    END IF;
END
$keyless_rows$;
COMMENT ON FUNCTION etl.keyless_rows() IS 'Objects whose transformation view returns rows without a key, and their number.';

-- Prepares a load: removes duplicate pending keys. Writers append keys without checking for duplicates, because a unique index with ON CONFLICT costs more than
-- removing them here.
-- Parameters: p_object, dimension or fact; p_business_key, its columns.
-- Returns:    number of pending keys.
-- Writes:     work.<object>_key.
CREATE OR REPLACE FUNCTION etl._begin_load(p_object name, p_business_key name[])
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_begin_load$
DECLARE
    v_keys regclass := format('work.%I', p_object || '_key')::regclass;
    v_values jsonb := jsonb_build_object('keys', v_keys::text, 'key', to_jsonb(p_business_key));
    v_all bigint;
    v_distinct bigint;
BEGIN
    EXECUTE etl._render(
        'SELECT coalesce(sum(k._rows), 0), count(*) FROM (SELECT count(*) AS _rows FROM {{keys}} GROUP BY {{key}}) AS k',
        v_values
    )
    INTO v_all, v_distinct;
    IF v_all = 0 THEN
        RETURN 0;
    ELSIF v_all > v_distinct THEN
        -- The first of each stays. ctid alone is unique on one node only.
        EXECUTE etl._render(
            $template$DELETE FROM {{keys}} AS k
USING (SELECT {{key}}, ctid, row_number() OVER (PARTITION BY {{key}} ORDER BY ctid) AS _number FROM {{keys}}) AS n
WHERE k.ctid = n.ctid
    AND {{k.key = n.key}}
    AND n._number > 1$template$,
            v_values
        );
    END IF;
    -- Without statistics, the planner assumes about 2,000 rows in a narrow table and may then scan a whole fact.
    PERFORM etl._analyze(v_keys, p_business_key, v_all, 0);
    RETURN v_distinct;
END
$_begin_load$;

-- Ends a load: clears the pending keys and moves the watermark.
-- Parameters: p_object, dimension or fact.
-- Writes:     work.<object>_key, etl.load_state.
CREATE OR REPLACE FUNCTION etl._finish_load(p_object name)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_finish_load$
BEGIN
    PERFORM etl._clear_table(format('work.%I', p_object || '_key')::regclass);
    PERFORM etl._advance_load_state(ARRAY[p_object]);
END
$_finish_load$;

-- Moves the watermarks of objects to the latest batch.
-- Parameters: p_objects, dimensions, facts, aggregates.
-- Writes:     etl.load_state.
CREATE OR REPLACE FUNCTION etl._advance_load_state(p_objects name[])
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_advance_load_state$
    UPDATE etl.load_state AS l
    SET needs_reload = false,
        loaded_batch_id = (SELECT max(b.batch_id) FROM etl.batch AS b),
        loaded_at = clock_timestamp()
    WHERE l.object = ANY (p_objects)
$_advance_load_state$;
