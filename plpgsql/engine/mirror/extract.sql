-- source -> delta: the rows that changed since the watermark, all tables of a batch on one snapshot of the source.
--
-- The exact watermark. A time of change (updated_at > last) loses rows whose transaction commits late. Here each source row
-- carries the id of the transaction that wrote it (xid8), and the watermark is a snapshot of the source: the set of transactions
-- that the mirror contains. A batch is what the present snapshot sees and that one did not. The range on the id makes it an
-- index scan; the visibility test makes it exact.

/*
Plans the filling of the mirrors that hold nothing yet, one task a table. Other than extractions these need not share a snapshot, so
workers share them out, and a run that dies does not begin again with those that are full: the extractions, which follow, bring all
mirrors to one moment.
Parameters: p_run_id, the run; its extractions tell which tables count.
Writes:     etl.task_run, etl.load_state (what depends on the tables is to be loaded anew).
*/
CREATE OR REPLACE FUNCTION etl._plan_filling(p_run_id bigint)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_plan_filling$
DECLARE
    r_task etl.task;
    v_is_empty boolean;
BEGIN
    FOR r_task IN
        SELECT f.*
        FROM etl.task AS f
        JOIN etl.task_run AS e ON e.run_id = p_run_id AND e.kind = 'extract' AND e.object = f.object
        WHERE f.kind = 'fill'
            AND f.is_enabled
            AND NOT EXISTS (SELECT FROM etl.watermark AS w WHERE w.source_table = f.object)
    LOOP
        EXECUTE format('SELECT NOT EXISTS (SELECT FROM stage.%I)', r_task.object) INTO v_is_empty;
        CONTINUE WHEN NOT v_is_empty;
        INSERT INTO etl.task_run (run_id, task, kind, object, position, max_attempts)
        VALUES (p_run_id, r_task.task, r_task.kind, r_task.object, r_task.position, r_task.max_attempts);
        PERFORM etl._request_reload((SELECT array_agg(p.object) FROM etl.dependency AS p WHERE p.source_table = r_task.object));
    END LOOP;
END
$_plan_filling$;
COMMENT ON FUNCTION etl._plan_filling(bigint) IS 'Plans the filling of the mirrors that hold nothing yet.';

/*
Fills the empty mirror of a source table straight from the source, its key built after the rows.
Parameters: p_source_table, the table; p_run_id, the run.
Returns:    rows read and inserted; none when there is a row without a usable key, or one that cannot be read: the extraction, which
            follows, takes all rows by way of delta then, where that one is found and put into quarantine.
Writes:     stage.<table>, etl.batch, etl.extraction, etl.watermark, etl.schema_drift.
Errors:     ET007 when a column of the table was dropped or retyped.
*/
CREATE OR REPLACE FUNCTION etl._fill_mirror(p_source_table name, p_run_id bigint)
RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_fill_mirror$
DECLARE
    r_batch etl.batch := etl._this_batch(p_run_id, p_source_table);
    r_result etl.load_result := (0, 0, 0, 0, 0, 0);
    v_mirror regclass := format('stage.%I', p_source_table)::regclass;
    v_until timestamptz;
    v_rebuild text[];
BEGIN
    PERFORM etl._check_drift(p_source_table);
    v_until := etl._complete_until(p_source_table, r_batch.read_at);
    v_rebuild := etl._begin_bulk(v_mirror);
    EXECUTE (SELECT e.statement FROM etl._extraction_sql(p_source_table, 'bulk') AS e) USING r_batch.batch_id;
    GET DIAGNOSTICS r_result.rows_read = ROW_COUNT;
    r_result.rows_inserted := r_result.rows_read;
    PERFORM etl._finish_bulk(v_mirror, v_rebuild);
    PERFORM etl._suppress_forgotten(p_source_table, v_mirror, r_batch.batch_id);
    INSERT INTO etl.extraction (batch_id, source_table, rows_extracted, complete_until, is_bulk)
    VALUES (r_batch.batch_id, p_source_table, r_result.rows_read, v_until, true);
    PERFORM etl._move_watermark(p_source_table, r_batch, v_until);
    RETURN r_result;
EXCEPTION
    WHEN unique_violation OR not_null_violation OR data_exception THEN
        RETURN (0, 0, 0, 0, 0, 0)::etl.load_result;
END
$_fill_mirror$;
COMMENT ON FUNCTION etl._fill_mirror(name, bigint) IS 'Fills the empty mirror of a source table straight from the source.';

/*
Extracts one source table into delta: what changed since the watermark, or, where there is none, what differs from the mirror.
Parameters: p_source_table, the table; p_run_id, the run.
Returns:    rows read; rows quarantined because they cannot be read.
Writes:     delta.<table>, etl.extraction, etl.quarantine.
Errors:     ET007 when a column of the table was dropped or retyped; ET008 when too many of its rows cannot be read.
*/
CREATE OR REPLACE FUNCTION etl._extract(p_source_table name, p_run_id bigint)
RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_extract$
DECLARE
    r_batch etl.batch := etl._this_batch(p_run_id);
    r_watermark etl.watermark;
    r_result etl.load_result := (0, 0, 0, 0, 0, 0);
    v_until timestamptz;
    v_mode text;
BEGIN
    PERFORM etl._check_drift(p_source_table);
    v_until := etl._complete_until(p_source_table, r_batch.read_at);
    IF p_source_table <> ALL (etl._unchanged_tables(r_batch)) THEN
        SELECT *
        INTO r_watermark
        FROM etl.watermark AS w
        WHERE w.source_table = p_source_table;
        v_mode := etl._extraction_mode(r_watermark, r_batch);
        IF v_mode = 'all' AND etl._may_compare(p_source_table) THEN
            v_mode := 'differing';
        END IF;
        r_result := etl._extract_delta(p_source_table, v_mode, r_batch, r_watermark, v_until);
    END IF;
    INSERT INTO etl.extraction (batch_id, source_table, rows_extracted, complete_until, is_bulk)
    VALUES (r_batch.batch_id, p_source_table, r_result.rows_read, v_until, false);
    RETURN r_result;
END
$_extract$;
COMMENT ON FUNCTION etl._extract(name, bigint) IS 'Extracts one source table into delta: its changes, or what differs from its mirror.';

/*
Whether a source table that is extracted anew may be compared with its mirror on the way, so that only what differs gets into delta. To take
all rows there, and drop those that the mirror holds already, took half of the time of a full refresh. A row that shares its key with another is found in
delta, so where there is one, or one in quarantine that may have become a good one, all rows go there.
Parameters: p_source_table, the table.
*/
CREATE OR REPLACE FUNCTION etl._may_compare(p_source_table name)
RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
-- A key has an index as a rule, whose order tells what repeats.
SET enable_hashagg = off
AS $_may_compare$
DECLARE
    v_key name[] := (SELECT s.key_columns FROM etl.source_table AS s WHERE s.source_table = p_source_table);
    v_repeat boolean;
BEGIN
    IF EXISTS (SELECT FROM etl.quarantine AS q WHERE q.object = p_source_table)
        -- Its nodes join no table as a whole with one that is not distributed.
        OR EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = 'citus')
    THEN
        RETURN false;
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM source.%I GROUP BY %s HAVING count(*) > 1)', p_source_table, etl._list(v_key)) INTO v_repeat;
    RETURN NOT v_repeat;
EXCEPTION
    WHEN data_exception THEN
        -- Some key cannot be read.
        RETURN false;
END
$_may_compare$;
COMMENT ON FUNCTION etl._may_compare(name) IS 'Whether a source table that is extracted anew may be compared with its mirror on the way: its keys can be read and do not repeat, and no row of it is in quarantine.';

/*
Source tables of which the source has tombstones that some mirror may not know yet. Looked up once a batch: most tables have none in most
batches, and to ask for each of them took a fifteenth of a run with nothing new, or a round trip each when the source is another server.
Returns:    their names; more than needed when a mirror is behind the others.
*/
CREATE OR REPLACE FUNCTION etl._tables_with_tombstones()
RETURNS name[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_tables_with_tombstones$
DECLARE
    v_tables name[] := nullif(current_setting('etl.tables_with_tombstones', true), '')::name[];
BEGIN
    IF v_tables IS NULL THEN
        EXECUTE $sql$SELECT coalesce(array_agg(DISTINCT t.table_name::name), '{}')
FROM source.tombstones AS t
WHERE t.row_xid >= $1$sql$
        INTO v_tables
        USING (SELECT min(pg_snapshot_xmin(w.snapshot)) FROM etl.watermark AS w);
        -- The batch has one snapshot: to its end, there are no others.
        PERFORM set_config('etl.tables_with_tombstones', v_tables::text, true);
    END IF;
    RETURN v_tables;
END
$_tables_with_tombstones$;
COMMENT ON FUNCTION etl._tables_with_tombstones() IS 'Source tables of which the source has tombstones that some mirror may not know yet.';

/*
Source tables of which it can be told, by one look at all of them when a batch is opened, that nothing has changed since their watermarks. Most
have not changed in most batches; to extract nothing from each of twelve took a third of a run with nothing new. Left out is what could bring rows all
the same: tables that are compared, or watched by time (with a lookback there are always some), asked for anew, or with much left in delta. Of another
server each table would be asked twice, over the network; nothing is gained there.
Parameters: p_batch, the batch.
Returns:    their names. None where the look fails: then the table that is to blame tells by itself.
*/
CREATE OR REPLACE FUNCTION etl._unchanged_tables(p_batch etl.batch)
RETURNS name[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_unchanged_tables$
DECLARE
    v_tables name[] := nullif(current_setting('etl.unchanged_tables', true), '')::name[];
    v_looks text;
BEGIN
    IF v_tables IS NOT NULL THEN
        RETURN v_tables;
    END IF;
    BEGIN
        SELECT string_agg(
            format(
                E'SELECT %1$L::name\nWHERE NOT EXISTS (SELECT FROM source.%1$I AS s WHERE %2$s)',
                s.source_table, etl._changed_condition(s, 'changed', format('%L::pg_snapshot', w.snapshot))
            ),
            E'\nUNION ALL\n'
        )
        INTO v_looks
        FROM etl.source_table AS s
        JOIN etl.watermark AS w USING (source_table)
        JOIN pg_class AS d ON d.relname = s.source_table AND d.relnamespace = 'delta'::regnamespace
        WHERE s.change_detection = 'snapshot'
            AND CASE s.delete_detection
                WHEN 'none' THEN true
                -- Where no table uses them, the contract need not have tombstones.
                WHEN 'tombstone' THEN s.source_table <> ALL (etl._tables_with_tombstones())
                ELSE false
            END
            AND etl._extraction_mode(w, p_batch) = 'changed'
            AND d.relpages * current_setting('block_size')::bigint <= etl._few_bytes()
            AND NOT EXISTS (SELECT FROM etl.reextraction AS r WHERE r.source_table = s.source_table)
            AND NOT EXISTS (SELECT FROM pg_foreign_table AS f WHERE f.ftrelid = to_regclass(format('source.%I', s.source_table)));
        IF v_looks IS NOT NULL THEN
            EXECUTE format('SELECT array_agg(u.source_table) FROM (%s) AS u (source_table)', v_looks) INTO v_tables;
        END IF;
    EXCEPTION
        WHEN syntax_error_or_access_rule_violation OR data_exception THEN
            NULL;
    END;
    v_tables := coalesce(v_tables, '{}');
    PERFORM set_config('etl.unchanged_tables', v_tables::text, true);
    RETURN v_tables;
END
$_unchanged_tables$;
COMMENT ON FUNCTION etl._unchanged_tables(etl.batch) IS 'Source tables of which it can be told by one look that nothing has changed since their watermarks.';

/*
Extracts the changes of a source table into delta, in place of an earlier batch; a small one stays there until there are others.
Parameters: p_source_table, the table; p_mode, changed, differing, or all; p_batch, the batch; p_watermark, the last watermark;
            p_until, moment up to which the changes are complete.
Returns:    rows read, quarantined.
Writes:     delta.<table>, etl.quarantine.
*/
CREATE OR REPLACE FUNCTION etl._extract_delta(
    p_source_table name,
    p_mode text,
    p_batch etl.batch,
    p_watermark etl.watermark,
    p_until timestamptz
) RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_extract_delta$
DECLARE
    r_source etl.source_table;
    r_statement record;
    r_result etl.load_result := (0, 0, 0, 0, 0, 0);
    r_fetched etl.load_result;
    v_delta regclass := format('delta.%I', p_source_table)::regclass;
    v_from timestamptz;
    v_rows bigint;
BEGIN
    SELECT *
    INTO STRICT r_source
    FROM etl.source_table AS s
    WHERE s.source_table = p_source_table;
    v_from := p_watermark.read_at - r_source.lookback;
    IF pg_relation_size(v_delta) > etl._few_bytes() THEN
        -- To delete a hundred thousand rows afterwards took as long as to extract them.
        EXECUTE format('TRUNCATE %s', v_delta);
    END IF;
    FOR r_statement IN
        SELECT *
        FROM etl._extraction_sql(p_source_table, p_mode)
    LOOP
        CONTINUE WHEN r_statement.title LIKE 'tombstones %' AND p_source_table <> ALL (etl._tables_with_tombstones());
        BEGIN
            EXECUTE r_statement.statement
            USING p_batch.batch_id, p_watermark.snapshot, v_from, p_until;
            GET DIAGNOSTICS v_rows = ROW_COUNT;
        EXCEPTION
            WHEN data_exception THEN
                IF p_mode = 'differing' THEN
                    RETURN etl._extract_delta(p_source_table, 'all', p_batch, p_watermark, p_until);
                ELSIF r_statement.title <> 'changed rows into delta' THEN
                    RAISE;
                END IF;
                v_rows := NULL;
        END;
        IF v_rows IS NULL THEN
            r_fetched := etl._fetch_changed(r_source, p_mode, p_batch, p_watermark.snapshot, v_from, p_until);
            v_rows := r_fetched.rows_read;
            r_result.rows_quarantined := r_fetched.rows_quarantined;
        END IF;
        r_result.rows_read := r_result.rows_read + v_rows;
        IF v_rows > 0 THEN
            -- Already now: the statement for deleted rows looks for their keys here.
            EXECUTE format('DELETE FROM %s WHERE batch_id <> $1', v_delta) USING p_batch.batch_id;
            PERFORM etl._analyze(v_delta, r_source.key_columns || '{batch_id,operation}'::name[], v_rows, 0);
        END IF;
    END LOOP;
    IF p_mode <> 'changed' OR r_source.change_detection = 'comparison' THEN
        -- All rows were read: those that could not be and are not among them now are readable, or gone.
        DELETE FROM etl.quarantine AS q
        WHERE q.object = p_source_table
            AND q.sqlstate LIKE '22%'
            AND q.run_id <> p_batch.run_id;
    END IF;
    r_fetched := etl._extract_again(p_source_table, p_batch, p_until);
    r_result.rows_read := r_result.rows_read + r_fetched.rows_read;
    r_result.rows_quarantined := r_result.rows_quarantined + r_fetched.rows_quarantined;
    PERFORM etl._suppress_forgotten(p_source_table, v_delta, p_batch.batch_id);
    RETURN r_result;
END
$_extract_delta$;
COMMENT ON FUNCTION etl._extract_delta(name, text, etl.batch, etl.watermark, timestamptz) IS 'Extracts the changes of a source table into delta.';
