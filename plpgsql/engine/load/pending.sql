-- What loading a dimension and loading a fact have in common: pending keys before, watermark after.

/*
Whether an object is to be reloaded. Its row is locked until the transaction ends: who asks for a reload while the object is being loaded
waits, and is heard by the next load.
Parameters: p_object, dimension, fact or aggregate.
*/
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
COMMENT ON FUNCTION etl._needs_reload(name) IS 'Whether an object is to be reloaded; locks its row of etl.load_state.';

/*
Readies a load: for a reload all keys become pending.
Parameters: p_object, dimension or fact; p_business_key, its columns; p_table, its table; p_view, its transformation view.
Returns:    number of pending keys.
Writes:     work.<object>_key.
*/
CREATE OR REPLACE FUNCTION etl._begin_load(
    p_object name,
    p_business_key name[],
    p_table regclass,
    p_view regclass
) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_begin_load$
DECLARE
    v_keys regclass := format('work.%I', p_object || '_key')::regclass;
    v_count bigint;
BEGIN
    IF etl._needs_reload(p_object) THEN
        -- Keys of the table as well: a member that the view no longer gives is gone.
        EXECUTE format(
            $sql$INSERT INTO %1$s (%2$s)
SELECT DISTINCT %2$s
FROM (
    SELECT %2$s FROM %3$s
    UNION ALL
    SELECT %2$s FROM %4$s
) AS k
WHERE (%2$s) IS NOT NULL$sql$,
            v_keys, etl._list(p_business_key), p_view, p_table
        );
    END IF;
    v_count := etl._unite_keys(v_keys, p_business_key);
    -- Of a table of narrow rows that it knows nothing about, the planner expects some two thousand, and may then prefer to scan a fact.
    PERFORM etl._analyze(v_keys, p_business_key, v_count, 0);
    RETURN v_count;
END
$_begin_load$;
COMMENT ON FUNCTION etl._begin_load(name, name[], regclass, regclass) IS 'Readies a load and returns the number of pending keys.';

/*
Leaves of pending keys that are there several times one each. Who adds keys does not look which are there: a unique index, and ON CONFLICT,
took three times as long as all that is needed to add them, a tenth of a batch of 1 %.
Parameters: p_keys, table of pending keys; p_business_key, its columns.
Returns:    number of keys.
Writes:     work.<object>_key.
*/
CREATE OR REPLACE FUNCTION etl._unite_keys(p_keys regclass, p_business_key name[])
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- As in etl._stage.
SET enable_hashagg = off
AS $_unite_keys$
DECLARE
    v_list text := etl._list(p_business_key);
    v_count bigint;
    v_are_repeated boolean;
BEGIN
    EXECUTE format('SELECT count(*), count(*) < sum(k.times) FROM (SELECT count(*) AS times FROM %s GROUP BY %s) AS k', p_keys, v_list)
    INTO v_count, v_are_repeated;
    IF v_are_repeated AND pg_relation_size(p_keys) > etl._few_bytes() THEN
        -- Of a hundred thousand keys, to delete them row by row took twice as long as all this.
        EXECUTE format('CREATE TEMPORARY TABLE united_key ON COMMIT DROP AS SELECT DISTINCT %s FROM %s', v_list, p_keys);
        EXECUTE format('TRUNCATE %s', p_keys);
        EXECUTE format('INSERT INTO %1$s (%2$s) SELECT %2$s FROM pg_temp.united_key ORDER BY %2$s', p_keys, v_list);
        DROP TABLE pg_temp.united_key;
    ELSIF v_are_repeated THEN
        -- The first of each stays where it is, which is in order: who adds keys sorts them.
        EXECUTE format(
            $sql$DELETE FROM %1$s AS k
USING (SELECT %2$s, ctid, row_number() OVER (PARTITION BY %2$s ORDER BY ctid) AS number FROM %1$s) AS n
WHERE k.ctid = n.ctid
    AND %3$s
    AND n.number > 1$sql$,
            p_keys, v_list, etl._match(p_business_key, 'k', 'n')
        );
    END IF;
    RETURN v_count;
END
$_unite_keys$;
COMMENT ON FUNCTION etl._unite_keys(regclass, name[]) IS 'Leaves of pending keys that are there several times one each; returns the number of keys.';

/*
Ends a load of pending keys: none is left, and the watermark moves.
Parameters: p_object, dimension or fact.
Writes:     work.<object>_key, etl.load_state.
*/
CREATE OR REPLACE FUNCTION etl._finish_load(p_object name)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_finish_load$
BEGIN
    PERFORM etl._empty(format('work.%I', p_object || '_key')::regclass);
    PERFORM etl._move_load_state(ARRAY[p_object]);
END
$_finish_load$;
COMMENT ON FUNCTION etl._finish_load(name) IS 'Clears the pending keys of an object and moves its watermark.';

/*
Moves the watermarks of objects to the latest batch: whatever that brought to stage is in the objects now.
Parameters: p_objects, dimensions, facts, aggregates.
Writes:     etl.load_state.
*/
CREATE OR REPLACE FUNCTION etl._move_load_state(p_objects name[])
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_move_load_state$
    UPDATE etl.load_state AS l
    SET needs_reload = false,
        loaded_batch_id = (SELECT max(b.batch_id) FROM etl.batch AS b),
        loaded_at = clock_timestamp()
    WHERE l.object = ANY (p_objects)
$_move_load_state$;
COMMENT ON FUNCTION etl._move_load_state(name[]) IS 'Moves the watermarks of objects to the latest batch.';
