-- stage -> dimension: slowly changing dimensions of type 0, 1 and 2, attribute by attribute, for the pending keys alone.
--
-- For each pending key its timeline is made of what is known:
--   * the versions that the dimension holds,
--   * the member as the transformation view gives it now, from its effective_at on (absent from then on when it is deleted),
--   * the source's log of some attributes, where a history view reads one; it alone decides on those attributes.
-- Without a log the source's word comes after all that the dimension holds: the last version goes on, or ends, and another may follow.
-- With one, all moments of change are lined up, values are carried forward, equal neighbours become one version, valid_to is the next
-- version's valid_from. So several changes of a key in one batch, changes that arrive late, a deleted member that comes back,
-- all end in the timeline that they would have made one by one. A version once written keeps its surrogate key for ever.
-- Validity is half-open, [valid_from, valid_to): what happens at the very moment of a change belongs to the new version. The
-- first version reaches back to -infinity, for facts older than the source's memory of the member.

/*
The statement that fills an empty dimension. Members have the past that a history view tells, otherwise none; so the timeline comes
of the log alone, where each moment at which something differs begins a version. To put it together from all that etl._dimension_sql
minds took four times as long.
Parameters: p_dimension, the dimension.
Returns:    a statement. $1 run.
*/
CREATE OR REPLACE FUNCTION etl._fill_dimension_sql(p_dimension etl.dimension)
RETURNS text
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_fill_dimension_sql$
DECLARE
    v_bk name[] := p_dimension.business_key;
    v_attributes name[] := (SELECT array_agg(a.attribute) FROM etl.dimension_attribute AS a WHERE a.dimension = p_dimension.dimension);
    v_logged name[];
    v_members text := format('%s AS v', p_dimension.transform_view);
    v_is_loaded text := format(E'v.deleted_at IS NULL\n    AND (%s) IS NOT NULL', etl._list(v_bk, 'v.%1$I'));
BEGIN
    IF p_dimension.history_view IS NULL THEN
        RETURN format(
            $sql$INSERT INTO %1$s (%2$s, %3$s, valid_from, valid_to, is_current, run_id)
SELECT %4$s, %5$s, '-infinity', 'infinity', true, $1
FROM %6$s
WHERE %7$s$sql$,
            p_dimension.dimension_table, etl._list(v_bk), etl._list(v_attributes), etl._list(v_bk, 'v.%1$I'), etl._list(v_attributes, 'v.%1$I'),
            v_members, v_is_loaded
        );
    END IF;
    v_logged := etl._without(etl._columns(p_dimension.history_view), v_bk || 'valid_from'::name);
    RETURN format(
        $sql$INSERT INTO %1$s (%2$s, %3$s, valid_from, valid_to, is_current, run_id)
WITH state AS (
    SELECT %4$s%5$s%6$s, h.valid_from AS at
    FROM %7$s
    LEFT JOIN %8$s AS h ON %9$s
    WHERE %10$s
),
moment AS (
    SELECT s.*, (
        row_number() OVER log = 1%11$s
    ) AS begins_version
    FROM state AS s
    WINDOW log AS (PARTITION BY %12$s ORDER BY s.at)
)
SELECT
    %13$s, %14$s,
    CASE WHEN row_number() OVER timeline = 1 THEN '-infinity' ELSE m.at END,
    coalesce(lead(m.at) OVER timeline, 'infinity'),
    coalesce(lead(m.at) OVER timeline, 'infinity') = 'infinity',
    $1
FROM moment AS m
WHERE m.begins_version
WINDOW timeline AS (PARTITION BY %13$s ORDER BY m.at)$sql$,
        p_dimension.dimension_table, etl._list(v_bk), etl._list(v_attributes),
        etl._list(v_bk, 'v.%1$I'), etl._list(etl._without(v_attributes, v_logged), ', v.%1$I', ''), etl._list(v_logged, ', coalesce(h.%1$I, v.%1$I) AS %1$I', ''),
        v_members, p_dimension.history_view, etl._match(v_bk, 'h', 'v'), v_is_loaded,
        etl._list(v_logged, E'\n        OR lag(s.%1$I) OVER log IS DISTINCT FROM s.%1$I', ''), etl._list(v_bk, 's.%1$I'),
        etl._list(v_bk, 'm.%1$I'), etl._list(v_attributes, 'm.%1$I')
    );
END
$_fill_dimension_sql$;
COMMENT ON FUNCTION etl._fill_dimension_sql(etl.dimension) IS 'The statement that fills an empty dimension. $1 run.';

/*
Fills an empty dimension, constraints and indexes after the rows.
Parameters: p_dimension, the dimension; p_run_id, the writing run.
Returns:    rows read and inserted.
Writes:     the dimension's table, foreign keys of facts that refer to it, etl.reprocessing_queue, etl.load_state.
*/
CREATE OR REPLACE FUNCTION etl._fill_dimension(p_dimension etl.dimension, p_run_id bigint)
RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_fill_dimension$
DECLARE
    v_rebuild text[];
    v_rows bigint;
    r_result etl.load_result;
BEGIN
    v_rebuild := etl._begin_bulk(p_dimension.dimension_table);
    EXECUTE etl._fill_dimension_sql(p_dimension) USING p_run_id;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    PERFORM etl._finish_bulk(p_dimension.dimension_table, v_rebuild);
    PERFORM etl._restore_constraints(p_dimension.dimension_table);

    UPDATE etl.reprocessing_queue AS q
    SET is_ready = true
    WHERE q.dimension = p_dimension.dimension
        AND NOT q.is_ready;
    PERFORM etl._finish_load(p_dimension.dimension);
    r_result := (v_rows, v_rows, 0, 0, 0, 0);
    RETURN r_result;
END
$_fill_dimension$;
COMMENT ON FUNCTION etl._fill_dimension(etl.dimension, bigint) IS 'Fills an empty dimension, constraints and indexes after the rows.';

/*
Loads a dimension: its pending keys, or all of them when a reload was asked for.
Parameters: p_dimension, the dimension; p_run_id, the writing run.
Returns:    rows read (pending members), inserted (versions), updated (versions), queued (facts to be reprocessed), quarantined.
Writes:     the dimension's table, work.<dimension>_key, work.<dimension>_decision, etl.reprocessing_queue, etl.quarantine,
            etl.load_state.
*/
CREATE OR REPLACE FUNCTION etl._load_dimension(p_dimension name, p_run_id bigint)
RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_load_dimension$
DECLARE
    r_dimension etl.dimension;
    r_result etl.load_result := (0, 0, 0, 0, 0, 0);
    v_pending bigint;
    v_rebuild text[];
    v_is_empty boolean;
BEGIN
    SELECT *
    INTO STRICT r_dimension
    FROM etl.dimension AS d
    WHERE d.dimension = p_dimension;

    EXECUTE format('SELECT NOT EXISTS (SELECT FROM %s WHERE %I > 0)', r_dimension.dimension_table, r_dimension.surrogate_key) INTO v_is_empty;
    IF etl._needs_reload(p_dimension) AND v_is_empty THEN
        BEGIN
            RETURN etl._fill_dimension(r_dimension, p_run_id);
        EXCEPTION
            WHEN data_exception OR integrity_constraint_violation THEN
                -- Some row is bad. The ordinary way, which follows, finds out which.
                NULL;
        END;
    END IF;

    v_pending := etl._begin_load(p_dimension, r_dimension.business_key, r_dimension.dimension_table, r_dimension.transform_view);
    IF v_pending > 0 THEN
        IF v_is_empty THEN
            v_rebuild := etl._begin_bulk(r_dimension.dimension_table);
        END IF;
        r_result := etl._apply_isolating('dimension', p_dimension, r_dimension.business_key, p_run_id);
        IF v_is_empty THEN
            PERFORM etl._finish_bulk(r_dimension.dimension_table, v_rebuild);
        END IF;
        r_result.rows_read := v_pending;
    END IF;
    PERFORM etl._finish_load(p_dimension);
    RETURN r_result;
END
$_load_dimension$;
COMMENT ON FUNCTION etl._load_dimension(name, bigint) IS 'Loads the pending keys of a dimension, or all of them when a reload was asked for.';
