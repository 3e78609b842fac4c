-- The engine's own history is pruned by a run if the last maintenance is older than the setting maintenance_every. The latest run, the last one
-- that succeeded, and the runs of batches that watermarks refer to stay.

-- Statements that prune the engine's history; the title is the table. The task runs, batches and extractions of a run go with it.
CREATE OR REPLACE FUNCTION etl._maintenance_sql()
RETURNS TABLE (title text, statement text)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_maintenance_sql$
    SELECT h.title, format(E'DELETE FROM etl.%I AS o\nWHERE o.%I < clock_timestamp() - etl.get_setting(%L)::interval%s', h.title, h.time, h.kept, h.condition)
    FROM (
        VALUES
            (
                'run', 'ended_at', 'runs_kept',
                $sql$
    AND o.run_id < (SELECT max(l.run_id) FROM etl.run AS l)
    AND o.run_id IS DISTINCT FROM (SELECT max(l.run_id) FROM etl.run AS l WHERE l.status = 'succeeded')
    AND NOT EXISTS (
        SELECT
        FROM etl.batch AS b
        WHERE b.run_id = o.run_id
            AND (
                b.batch_id IN (SELECT w.batch_id FROM etl.watermark AS w)
                OR b.batch_id IN (SELECT s.loaded_batch_id FROM etl.load_state AS s)
                OR b.batch_id = (SELECT max(l.batch_id) FROM etl.batch AS l)
            )
    )$sql$
            ),
            (
                'check_result', 'checked_at', 'checks_kept',
                $sql$
    AND EXISTS (SELECT FROM etl.check_result AS n WHERE n.check_name = o.check_name AND n.result_id > o.result_id)$sql$
            ),
            (
                'reconciliation', 'ended_at', 'reconciliations_kept',
                $sql$
    AND o.reconciliation_id < (SELECT max(l.reconciliation_id) FROM etl.reconciliation AS l)$sql$
            ),
            ('alert', 'raised_at', 'runs_kept', ''),
            ('scheduled_start', 'fired_at', 'runs_kept', ''),
            ('maintenance', 'maintained_at', 'runs_kept', '')
    ) AS h (title, time, kept, condition)
$_maintenance_sql$;

-- Whether the last maintenance is older than the setting maintenance_every.
CREATE OR REPLACE FUNCTION etl._is_maintenance_due()
RETURNS boolean
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_is_maintenance_due$
    SELECT NOT EXISTS (
        SELECT
        FROM etl.maintenance AS m
        WHERE m.maintained_at > clock_timestamp() - etl.get_setting('maintenance_every')::interval
    )
$_is_maintenance_due$;

-- Prunes the engine's history if maintenance is due; returns the number of rows deleted.
CREATE OR REPLACE FUNCTION etl._maintain(p_run_id bigint)
RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_maintain$
DECLARE
    r_result etl.load_result := (0, 0, 0, 0, 0, 0);
    r_statement record;
    v_deleted jsonb := jsonb_build_object();
    v_rows bigint;
BEGIN
    IF NOT etl._is_maintenance_due() THEN
        RETURN r_result;
    END IF;
    FOR r_statement IN
        SELECT *
        FROM etl._maintenance_sql()
    LOOP
        EXECUTE r_statement.statement;
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        v_deleted := v_deleted || jsonb_build_object(r_statement.title, v_rows);
        r_result.rows_deleted := r_result.rows_deleted + v_rows;
    END LOOP;
    v_deleted := v_deleted || jsonb_build_object('personal data of deleted rows', etl._erase_expired());
    INSERT INTO etl.maintenance (run_id, deleted)
    VALUES (p_run_id, v_deleted);
    RETURN r_result;
END
$_maintain$;
