-- Advisory locks. They end with their session, and so show which run, worker and task is alive.

CREATE OR REPLACE FUNCTION etl._lock_class(p_kind text)
RETURNS integer
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_lock_class$
    -- First keys of the project's advisory locks: arbitrary numbers that other users of the database are unlikely to take.
    SELECT CASE p_kind WHEN 'start' THEN 7254601 WHEN 'run' THEN 7254602 WHEN 'task' THEN 7254603 WHEN 'aggregate' THEN 7254604 WHEN 'claim' THEN 7254605 WHEN 'versions' THEN 7254606 END
$_lock_class$;
COMMENT ON FUNCTION etl._lock_class(text) IS 'First key of the advisory locks on the start of runs, on a run, on a task, on an aggregate, on the claims of a run, on the versions of a dimension.';

CREATE OR REPLACE FUNCTION etl._lock_number(p_id bigint)
RETURNS integer
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_lock_number$
    SELECT (p_id % 2147483647)::integer
$_lock_number$;
COMMENT ON FUNCTION etl._lock_number(bigint) IS 'Second key of an advisory lock.';

CREATE OR REPLACE FUNCTION etl._is_held(p_kind text, p_id bigint)
RETURNS boolean
LANGUAGE sql
VOLATILE
SET search_path = pg_catalog, pg_temp
AS $_is_held$
    -- A session whose CALL was cancelled keeps its locks but does nothing: one that is idle does not count. Without track_activities
    -- nobody can tell.
    SELECT EXISTS (
        SELECT
        FROM pg_locks AS l
        LEFT JOIN pg_stat_activity AS a USING (pid)
        WHERE l.locktype = 'advisory'
            AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
            AND l.classid = etl._lock_class(p_kind)::oid
            AND l.objid = etl._lock_number(p_id)::oid
            AND l.objsubid = 2
            AND l.granted
            AND coalesce(a.state, '') NOT LIKE 'idle%'
            AND (p_kind <> 'run' OR l.pid <> pg_backend_pid())
    )
$_is_held$;
COMMENT ON FUNCTION etl._is_held(text, bigint) IS 'Whether a session that is at work holds the advisory lock on a run (another session) or a task.';
