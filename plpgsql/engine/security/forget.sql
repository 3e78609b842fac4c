-- Forgetting: personal data of one subject are replaced in every layer and version, and stay replaced whatever the source brings later.
-- What is personal is told by rows (etl.personal_subject, etl.personal_object, etl.personal_column); facts, keys and totals are not touched.
--
-- Reached: the operational row where the source is in this database; stage, delta, work; all versions of the dimension; rows kept in
-- quarantine, samples of quality checks, differences of reconciliations; statistics of the tables. Where the source is another server its rows
-- stay as they are there, and are replaced as they are extracted (etl._suppress_forgotten). What is not reached is listed in etl.forgetting_limit.
--
-- Errors: ET040 there is no such subject, ET041 the key is none, ET042 nothing is declared of that kind, ET049 a lock was not released in time.

CREATE OR REPLACE FUNCTION etl._keys_sql(p_key_columns name[], p_relation regclass)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_keys_sql$
    SELECT format('(SELECT %s FROM jsonb_array_elements($1) AS e (key)) AS k (%s)', etl._from_json(p_key_columns, 'e.key', p_relation), etl._list(p_key_columns))
$_keys_sql$;
COMMENT ON FUNCTION etl._keys_sql(name[], regclass) IS 'Keys, given as a JSON array in $1, as a table k in the types of a relation.';

/*
Replaces personal data in the rows, or samples of rows, that the engine keeps as JSON.
Parameters: p_subject, kind of subject; p_object, source table or dimension; p_key, key of a row as JSON.
Returns:    number of rows.
Writes:     etl.quarantine, etl.reconciliation_difference, etl.check_result.
*/
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
    -- A row is kept under the names of the layer that it comes from: all columns that are personal of this kind of subject.
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
COMMENT ON FUNCTION etl._forget_kept_rows(text, name, jsonb) IS 'Replaces personal data in the rows that the engine keeps as JSON.';

/*
The key of a subject as the type of its key writes it: every spelling of a key gives the same text.
Parameters: p_subject, kind of subject; p_key, its key.
Returns:    the key as text; without surrounding spaces alone where no type is declared.
Errors:     ET041 when it is no value of the type, ET042 when nothing is declared of that kind.
*/
CREATE OR REPLACE FUNCTION etl._canonical_key(p_subject text, p_key text)
RETURNS text
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
-- The key is kept, and compared with keys that other sessions write.
SET datestyle = 'ISO, YMD'
SET intervalstyle = 'postgres'
SET timezone = 'UTC'
SET bytea_output = 'hex'
SET extra_float_digits = 1
AS $_canonical_key$
DECLARE
    v_type text := (SELECT s.key_type FROM etl.personal_subject AS s WHERE s.subject = p_subject);
    v_key text;
BEGIN
    IF NOT EXISTS (SELECT FROM etl.personal_object AS o WHERE o.subject = p_subject) THEN
        RAISE EXCEPTION 'nothing is known of personal data of a "%"', p_subject
            USING ERRCODE = 'ET042',
                HINT = format('Known are: %s.', (SELECT string_agg(DISTINCT o.subject, ', ') FROM etl.personal_object AS o));
    ELSIF btrim(coalesce(p_key, '')) = '' THEN
        RAISE EXCEPTION '"%" is no key of a %', p_key, p_subject
            USING ERRCODE = 'ET041';
    ELSIF v_type IS NULL THEN
        RETURN btrim(p_key);
    END IF;
    BEGIN
        EXECUTE format('SELECT ($1::%s)::text', v_type::regtype) INTO v_key USING btrim(p_key);
    EXCEPTION
        WHEN data_exception THEN
            RAISE EXCEPTION '"%" is no key of a %', p_key, p_subject
                USING ERRCODE = 'ET041';
    END;
    RETURN v_key;
END
$_canonical_key$;
COMMENT ON FUNCTION etl._canonical_key(text, text) IS 'The key of a subject as the type of its key writes it; ET041 when it is none, ET042 when nothing is declared of that kind.';

/*
Keys of the rows that are about a subject.
Parameters: p_subject, kind of subject; p_key, its key, canonical.
Returns:    object and the keys of its rows, as a JSON array.
Errors:     ET041 when the key is none.
*/
CREATE OR REPLACE FUNCTION etl._personal_keys(p_subject text, p_key text)
RETURNS TABLE (object name, key_columns name[], keys jsonb)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_personal_keys$
DECLARE
    r_object etl.personal_object;
BEGIN
    FOR r_object IN
        SELECT o.*
        FROM etl.personal_object AS o
        WHERE o.subject = p_subject
        ORDER BY o.object
    LOOP
        object := r_object.object;
        key_columns := r_object.key_columns;
        BEGIN
            EXECUTE format(
                'SELECT coalesce(jsonb_agg(DISTINCT %s), ''[]'') FROM (%s) AS k (%s)',
                etl._json_key(r_object.key_columns, 'k'), r_object.key_query, etl._list(r_object.key_columns)
            )
            INTO keys
            USING p_key;
        EXCEPTION
            WHEN data_exception THEN
                RAISE EXCEPTION '"%" is no key of a %', p_key, p_subject
                    USING ERRCODE = 'ET041';
        END;
        RETURN NEXT;
    END LOOP;
END
$_personal_keys$;
COMMENT ON FUNCTION etl._personal_keys(text, text) IS 'Keys of the rows that are about a subject, by object.';

/*
The rows of a relation that still hold personal data, as SQL after FROM: alias r, keys in $1.
Parameters: p_subject, kind of subject; p_object, source table or dimension; p_key_columns, its key; p_relation, a relation with its rows.
Returns:    from-items joined to r, and the condition.
*/
CREATE OR REPLACE FUNCTION etl._personal_rows_sql(p_subject text, p_object name, p_key_columns name[], p_relation regclass)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_personal_rows_sql$
    SELECT format(
        '%s WHERE %s AND (%s)',
        etl._keys_sql(p_key_columns, p_relation), etl._match(p_key_columns, 'r', 'k'),
        string_agg(format('r.%I IS DISTINCT FROM (%s)', c.column_name, c.replacement), ' OR ')
    )
    FROM etl.personal_column AS c
    WHERE c.subject = p_subject
        AND c.object = p_object
        AND etl._column_type(p_relation, c.column_name) IS NOT NULL
$_personal_rows_sql$;
COMMENT ON FUNCTION etl._personal_rows_sql(text, name, name[], regclass) IS 'The rows of a relation that still hold personal data of given keys, as SQL.';

/*
Shows what forgetting a subject would replace, without writing or waiting.
Parameters: p_subject, kind of subject, such as customer; p_key, its key.
Returns:    relation, number of rows that still hold personal data, columns.
Errors:     ET041, ET042.
*/
CREATE OR REPLACE FUNCTION etl.forget_preview(p_subject text, p_key text)
RETURNS TABLE (relation text, row_count bigint, columns name[])
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $forget_preview$
DECLARE
    r_relation record;
BEGIN
    FOR r_relation IN
        SELECT k.object, k.keys, x.relation AS name, etl._personal_rows_sql(p_subject, k.object, k.key_columns, x.relation) AS found
        FROM etl._personal_keys(p_subject, etl._canonical_key(p_subject, p_key)) AS k
        CROSS JOIN LATERAL etl._personal_relations(k.object) AS x
    LOOP
        EXECUTE format('SELECT count(*) FROM %s AS r CROSS JOIN %s', r_relation.name, r_relation.found)
        INTO row_count
        USING r_relation.keys;
        IF row_count > 0 THEN
            relation := r_relation.name::text;
            columns := ARRAY(
                SELECT c.column_name
                FROM etl.personal_column AS c
                WHERE c.subject = p_subject
                    AND c.object = r_relation.object
                    AND etl._column_type(r_relation.name, c.column_name) IS NOT NULL
                ORDER BY c.column_name
            );
            RETURN NEXT;
        END IF;
    END LOOP;
END
$forget_preview$;
COMMENT ON FUNCTION etl.forget_preview(text, text) IS 'Shows what forgetting a subject would replace, without writing.';

/*
Names the sessions that may keep others waiting: those with locks on relations, or with advisory locks.
Parameters: p_relations, the relations; none for advisory locks.
Returns:    a text such as: session 123 of "app" (psql), idle in transaction since …
*/
CREATE OR REPLACE FUNCTION etl._lock_holders(p_relations oid[])
RETURNS text
LANGUAGE sql
VOLATILE
SET search_path = pg_catalog, pg_temp
AS $_lock_holders$
    SELECT string_agg(
        format(
            'session %s of "%s"%s, %s since %s', a.pid, a.usename, coalesce(' (' || nullif(a.application_name, '') || ')', ''),
            coalesce(a.state, 'active'), date_trunc('second', coalesce(a.xact_start, a.state_change))
        ),
        '; ' ORDER BY a.xact_start
    )
    FROM pg_stat_activity AS a
    WHERE a.pid <> pg_backend_pid()
        AND EXISTS (
            SELECT
            FROM pg_locks AS l
            WHERE l.pid = a.pid
                AND l.granted
                AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
                AND (
                    l.locktype = 'advisory'
                    OR (l.locktype = 'relation' AND l.relation = ANY (p_relations) AND l.mode NOT IN ('AccessShareLock', 'RowShareLock'))
                )
        )
$_lock_holders$;
COMMENT ON FUNCTION etl._lock_holders(oid[]) IS 'Names the sessions that hold locks on relations, or advisory locks.';

/*
Forgets a subject: replaces its personal data everywhere, and for good. Waits for a run that is at work, and for transactions that hold its rows,
a minute at most each. Called again it replaces what has come since.
Parameters: p_subject, kind of subject, such as customer; p_key, its key, in any spelling.
Returns:    relation and number of rows in which data were replaced; nothing when nothing was left to replace.
Writes:     the relations of the objects declared in etl.personal_object and their statistics, etl.quarantine, etl.reconciliation_difference,
            etl.check_result, etl.forgotten_subject, etl.forgotten_row, audit.act.
Errors:     ET040 when there is no such subject, ET041 when the key is none, ET042 when nothing is declared of that kind, ET049 names the session
            that holds a lock.
*/
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
    v_relations oid[];
BEGIN
    PERFORM etl._await_no_run();
    INSERT INTO etl.forgotten_subject (subject, subject_key)
    VALUES (p_subject, v_key)
    ON CONFLICT (subject, subject_key) DO NOTHING;

    -- All keys before the first row is changed: they are found by what is about to be replaced, too.
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
        LOOP
            v_relations := v_relations || r_relation.name::oid;
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
                -- Statistics hold values of rows, until they are made anew.
                PERFORM audit._analyze(r_relation.name);
            END IF;
        END LOOP;
        v_kept := v_kept + coalesce((SELECT sum(etl._forget_kept_rows(p_subject, r_object.object, e.key)) FROM jsonb_array_elements(r_object.keys) AS e (key)), 0);
    END LOOP;

    IF NOT v_is_known THEN
        RAISE EXCEPTION 'there is no % %', p_subject, v_key
            USING ERRCODE = 'ET040', HINT = 'Neither the operational system nor any layer of the warehouse has it.';
    END IF;
    IF v_kept > 0 THEN
        relation := 'rows kept in quarantine, checks and reconciliations';
        rows_replaced := v_kept;
        RETURN NEXT;
    END IF;
    PERFORM etl._audit('forgotten', format('%s %s', p_subject, v_key));
EXCEPTION
    WHEN lock_not_available THEN
        RAISE EXCEPTION '% % cannot be forgotten now: a lock was not released within a minute', p_subject, v_key
            USING ERRCODE = 'ET049', DETAIL = coalesce(etl._lock_holders(v_relations), 'The session has ended meanwhile.'),
                HINT = 'Let the session end its transaction, or a superuser execute pg_terminate_backend(…). Then run the command again.';
END
$forget$;
COMMENT ON FUNCTION etl.forget(text, text) IS 'Forgets a subject: replaces its personal data in every layer and version, and whatever the source brings later.';

CREATE OR REPLACE VIEW etl.forgetting_limit AS
SELECT l.place, l.remedy
FROM (
    VALUES
        (1, 'backups and dumps', 'They keep the data until they are deleted; after a restore, forget the subject again.'),
        (2, 'the write-ahead log and its archive', 'The archive keeps the data as long as it keeps the log.'),
        (3, 'replicas that lag behind, and logical subscribers', 'A replica follows; a subscriber must forget by itself.'),
        (4, 'the server''s log, when it logs statements or rows', 'It keeps the data until the file is deleted.'),
        (5, 'dead rows in tables, and in the catalog of statistics', 'VACUUM frees the space; the server overwrites it later.'),
        (6, 'free space of the disk, and deleted files', 'Only an encrypted or erased disk is sure.'),
        (7, 'exports, reports, Metabase''s caches and what people have copied', 'Delete them there.'),
        (8, 'the operational system on another server', 'It must forget by itself; what it still has does not come in again.')
) AS l (position, place, remedy)
ORDER BY l.position;
COMMENT ON VIEW etl.forgetting_limit IS 'What forgetting does not reach.';
COMMENT ON COLUMN etl.forgetting_limit.place IS 'Where personal data stay.';
COMMENT ON COLUMN etl.forgetting_limit.remedy IS 'What to do about it.';

CREATE OR REPLACE VIEW etl.forgetting_reach AS
SELECT c.location
FROM etl.source_connection AS c;
COMMENT ON VIEW etl.forgetting_reach IS 'Whether forgetting reaches the operational system, for those who may not know more of where it is.';
COMMENT ON COLUMN etl.forgetting_reach.location IS 'local: its rows are replaced as well; remote: it is on another server, and what it still has is replaced as it comes in.';
