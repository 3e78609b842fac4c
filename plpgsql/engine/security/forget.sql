-- Forgetting: the personal data of one subject are replaced in every layer and version, and stay replaced whatever the source sends later.
-- Facts, keys and totals do not change.
--
-- If the source is on another server, its rows stay as they are there and are replaced during extraction (etl._suppress_forgotten).
-- etl.forgetting_limit lists what is not reached.
--
-- Errors: ET040 the subject does not exist, ET041 the key is invalid, ET042 nothing is declared for the kind, ET049 a lock was not released in time.

-- Replaces personal data in the rows and samples that the engine keeps as JSON; returns the number of rows.
CREATE OR REPLACE FUNCTION etl._forget_kept_rows(p_subject text, p_object name, p_key jsonb)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_forget_kept_rows$
DECLARE
    v_gone jsonb;
    v_columns text[];
    v_rows bigint;
    v_total bigint := 0;
BEGIN
    -- A row is kept with the column names of its layer, so take the personal columns of all layers.
    SELECT jsonb_object_agg(p.column_name, 'forgotten'), array_agg(p.column_name::text)
    INTO v_gone, v_columns
    FROM etl.personal_column AS p
    WHERE p.subject = p_subject;

    UPDATE etl.quarantine AS q
    SET original_row = NULL,
        reason = 'withheld: it was forgotten'
    WHERE (q.original_row @> p_key AND q.original_row ?| v_columns)
        OR (q.original_row @> jsonb_build_array(p_key) AND q.original_row -> 0 ?| v_columns)
        OR (q.object = p_object AND q.row_key = p_key AND q.reason <> 'withheld: it was forgotten');
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    v_total := v_total + v_rows;

    UPDATE etl.reconciliation_difference AS d
    SET expected = n.expected,
        actual = n.actual
    FROM (
        SELECT
            o.reconciliation_id,
            o.object,
            o.difference_id,
            o.expected || coalesce((SELECT jsonb_object_agg(g.key, g.value) FROM jsonb_each(v_gone) AS g WHERE o.expected ? g.key), '{}') AS expected,
            o.actual || coalesce((SELECT jsonb_object_agg(g.key, g.value) FROM jsonb_each(v_gone) AS g WHERE o.actual ? g.key), '{}') AS actual
        FROM etl.reconciliation_difference AS o
        WHERE o.row_key @> p_key
            OR o.expected @> p_key
            OR o.actual @> p_key
    ) AS n
    WHERE d.reconciliation_id = n.reconciliation_id
        AND d.object = n.object
        AND d.difference_id = n.difference_id
        AND (d.expected, d.actual) IS DISTINCT FROM (n.expected, n.actual);
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    v_total := v_total + v_rows;

    UPDATE etl.check_result AS c
    SET sample = NULL
    -- At any depth: a check of the quarantine quotes a key within a row.
    WHERE EXISTS (
        SELECT
        FROM jsonb_path_query(c.sample, 'strict $.**') AS v (entry)
        WHERE jsonb_typeof(v.entry) = 'object'
            AND v.entry @> p_key
    );
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    RETURN v_total + v_rows;
END
$_forget_kept_rows$;

-- Waits up to a minute for a live run and for each transaction that locks its rows. A repeated call replaces what has arrived since. p_subject is a
-- kind of subject, such as customer; p_key its key, in any spelling. Returns relation and number of rows in which data were replaced; no row if
-- nothing was left to replace. Writes the relations of the objects declared in etl.personal_object and their statistics, etl.quarantine,
-- etl.reconciliation_difference, etl.check_result, etl.forgotten_subject, etl.forgotten_row, audit.act.
CREATE OR REPLACE FUNCTION etl.forget(p_subject text, p_key text)
RETURNS TABLE (relation text, rows_replaced bigint)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
SET lock_timeout = '60s'
AS $forget$
DECLARE
    r_object record;
    r_relation record;
    v_key text := etl._canonical_key(p_subject, p_key);
    v_rows bigint;
    v_kept bigint := 0;
    v_is_known boolean := EXISTS (SELECT FROM etl.forgotten_subject AS f WHERE f.subject = p_subject AND f.subject_key = v_key);
BEGIN
    PERFORM etl.await_no_run();
    INSERT INTO etl.forgotten_subject (subject, subject_key)
    VALUES (p_subject, v_key)
    ON CONFLICT (subject, subject_key) DO NOTHING;

    -- Find all keys before changing a row: some are found by the data to be replaced.
    FOR r_object IN
        SELECT k.*, to_regclass('source.' || quote_ident(s.source_table)) AS source
        FROM etl._personal_keys(p_subject, v_key) AS k
        LEFT JOIN etl.source_table AS s ON s.source_table = k.object
        ORDER BY k.object
    LOOP
        IF r_object.source IS NOT NULL THEN
            INSERT INTO etl.forgotten_row (object, row_key, subject, subject_key)
            SELECT r_object.object, e.key, p_subject, v_key
            FROM jsonb_array_elements(r_object.keys) AS e (key)
            ON CONFLICT (object, row_key) DO NOTHING;
            EXECUTE format(
                'SELECT $2 OR EXISTS (SELECT FROM %s AS r JOIN %s ON %s)',
                r_object.source, etl._keys_sql(r_object.key_columns, r_object.source), etl._match(r_object.key_columns, 'r', 'k')
            )
            INTO v_is_known
            USING r_object.keys, v_is_known;
        END IF;
        FOR r_relation IN
            SELECT x.relation AS name, etl._forgetting_list(p_subject, r_object.object, x.relation) AS assignments
            FROM etl._personal_relations(r_object.object) AS x
            WHERE x.is_reached
        LOOP
            EXECUTE format(
                'UPDATE %s AS r SET %s FROM %s',
                r_relation.name, r_relation.assignments,
                etl._personal_rows_sql(p_subject, r_object.object, r_object.key_columns, r_relation.name)
            )
            USING r_object.keys;
            GET DIAGNOSTICS v_rows = ROW_COUNT;
            v_is_known := v_is_known OR v_rows > 0;
            IF v_rows > 0 THEN
                relation := r_relation.name::text;
                rows_replaced := v_rows;
                RETURN NEXT;
                -- Statistics hold values of rows until the next ANALYZE, which the nodes of a cluster do by autovacuum.
                IF NOT etl._is_distributed(r_relation.name) THEN
                    PERFORM audit._analyze(r_relation.name);
                END IF;
            END IF;
        END LOOP;
        v_kept := v_kept + coalesce((SELECT sum(etl._forget_kept_rows(p_subject, r_object.object, e.key)) FROM jsonb_array_elements(r_object.keys) AS e (key)), 0);
    END LOOP;

    IF NOT v_is_known THEN
        RAISE EXCEPTION '% % does not exist', p_subject, v_key
            USING ERRCODE = 'ET040', DETAIL = 'Neither the operational system nor any layer of the warehouse has it.',
                HINT = 'Check the key.';
    END IF;
    IF v_kept > 0 THEN
        PERFORM audit._analyze(k.name)
        FROM unnest('{etl.quarantine,etl.reconciliation_difference,etl.check_result}'::regclass[]) AS k (name);
        relation := 'rows kept in quarantine, checks and reconciliations';
        rows_replaced := v_kept;
        RETURN NEXT;
    END IF;
    PERFORM audit.note('forgotten', format('%s %s', p_subject, v_key));
EXCEPTION
    WHEN lock_not_available THEN
        RAISE EXCEPTION '% % was not forgotten: a lock was not released within a minute', p_subject, v_key
            USING ERRCODE = 'ET049', DETAIL = coalesce(etl.describe_sessions(etl.lock_holders()), 'The session that held it has just ended.'),
                HINT = 'End the transaction of that session, or let a superuser call pg_terminate_backend(…). Then repeat the command.';
END
$forget$;
COMMENT ON FUNCTION etl.forget(text, text) IS 'Forgets a subject: replaces its personal data in every layer and version, and in what the source sends later.';

CREATE OR REPLACE VIEW etl.forgetting_limit AS
SELECT l.place, l.remedy
FROM (
    VALUES
        (1, 'backups and dumps', 'They keep the data until they are deleted; after a restore, forget the subject again.'),
        (2, 'the write-ahead log and its archive', 'The archive keeps the data as long as it keeps the log.'),
        (3, 'replicas that lag behind, and logical subscribers', 'A replica follows; erase the data of a subscriber there.'),
        (4, 'the server''s log, when it logs statements or rows', 'It keeps the data until the file is deleted.'),
        (5, 'dead rows in tables and in the statistics catalog', 'VACUUM frees the space; the server overwrites it later.'),
        (6, 'free space of the disk, and deleted files', 'Encrypt or erase the disk.'),
        (7, 'exports, reports, Metabase''s caches and copies of people', 'Delete them there.'),
        (8, 'rows of the operational system that only its own program changes', 'Erase them there as well; the warehouse does not load them again.')
) AS l (position, place, remedy)
ORDER BY l.position;
COMMENT ON VIEW etl.forgetting_limit IS 'What forgetting does not reach.';
COMMENT ON COLUMN etl.forgetting_limit.place IS 'Where personal data remain.';
COMMENT ON COLUMN etl.forgetting_limit.remedy IS 'What to do about it.';
