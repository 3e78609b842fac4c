-- Forgetting: personal data of one subject are replaced in every layer and version, and stay replaced whatever the source brings later.
-- What is personal is told by rows (etl.personal_object, etl.personal_column); facts, keys and totals are not touched.
--
-- Reached: the operational row where the source is in this database; stage, delta, work; all versions of the dimension; rows kept in
-- quarantine, samples of quality checks, differences of reconciliations. Where the source is another server its rows stay as they are
-- over there, and are replaced as they are extracted (etl._suppress_forgotten).
-- Not reached: dead tuples until VACUUM, write-ahead log, backups, replicas' delay, files of the server's log.
--
-- Errors: ET040 there is no such subject, ET041 the key is none, ET042 nothing is declared of that kind.

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
Relations that hold rows of a personal object, with what must be declared for each of them to be reached.
Parameters: p_object, source table or dimension.
Returns:    relations that can be written; the operational table only where it is in this database.
*/
CREATE OR REPLACE FUNCTION etl._personal_relations(p_object name)
RETURNS TABLE (relation regclass)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_personal_relations$
    SELECT to_regclass(format('%I.%I', k.base_schema, k.base_table))
    FROM etl._contract() AS k
    JOIN etl.source_table AS s ON s.source_table = k.relation
    WHERE k.relation = p_object
        AND (SELECT c.location FROM etl.source_connection AS c) = 'local'
        AND k.base_table IS NOT NULL
    UNION ALL
    SELECT to_regclass(format('%I.%I', l.layer, s.source_table))
    FROM etl.source_table AS s
    CROSS JOIN (VALUES ('stage'), ('delta')) AS l (layer)
    WHERE s.source_table = p_object
    UNION ALL
    SELECT r.relation
    FROM etl.dimension AS d
    CROSS JOIN LATERAL (
        VALUES (d.dimension_table), (to_regclass(format('work.%I', d.dimension || '_decision')))
    ) AS r (relation)
    WHERE d.dimension = p_object
        AND r.relation IS NOT NULL
$_personal_relations$;
COMMENT ON FUNCTION etl._personal_relations(name) IS 'Relations that hold rows of a personal object and can be written from here.';

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
    WHERE c.sample @> jsonb_build_array(p_key);
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    RETURN v_total + v_rows;
END
$_forget_kept_rows$;
COMMENT ON FUNCTION etl._forget_kept_rows(text, name, jsonb) IS 'Replaces personal data in the rows that the engine keeps as JSON.';

/*
Forgets a subject: replaces its personal data everywhere, and for good. Waits for a run that is at work. Called again it replaces what
has come since.
Parameters: p_subject, kind of subject, such as customer; p_key, its key.
Returns:    relation and number of rows in which data were replaced; nothing when nothing was left to replace.
Writes:     the relations of the objects declared in etl.personal_object, etl.quarantine, etl.reconciliation_difference, etl.check_result,
            etl.forgotten_subject, etl.forgotten_row, audit.act.
Errors:     ET040 when there is no such subject, ET041 when the key is none, ET042 when nothing is declared of that kind.
*/
CREATE OR REPLACE FUNCTION etl.forget(p_subject text, p_key text)
RETURNS TABLE (relation text, rows_replaced bigint)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $forget$
DECLARE
    r_object record;
    r_relation record;
    v_key text := btrim(p_key);
    v_keys jsonb;
    v_rows bigint;
    v_kept bigint := 0;
    v_is_known boolean := EXISTS (SELECT FROM etl.forgotten_subject AS f WHERE f.subject = p_subject AND f.subject_key = btrim(p_key));
BEGIN
    IF NOT EXISTS (SELECT FROM etl.personal_object AS o WHERE o.subject = p_subject) THEN
        RAISE EXCEPTION 'nothing is known of personal data of a "%"', p_subject
            USING ERRCODE = 'ET042',
                HINT = format('Known are: %s.', (SELECT string_agg(DISTINCT o.subject, ', ') FROM etl.personal_object AS o));
    END IF;
    PERFORM etl._await_no_run();
    INSERT INTO etl.forgotten_subject (subject, subject_key)
    VALUES (p_subject, v_key)
    ON CONFLICT (subject, subject_key) DO NOTHING;

    FOR r_object IN
        SELECT o.*, to_regclass('source.' || quote_ident(s.source_table)) AS source
        FROM etl.personal_object AS o
        LEFT JOIN etl.source_table AS s ON s.source_table = o.object
        WHERE o.subject = p_subject
        ORDER BY o.object
    LOOP
        BEGIN
            EXECUTE format(
                'SELECT coalesce(jsonb_agg(DISTINCT %s), ''[]'') FROM (%s) AS k (%s)',
                etl._json_key(r_object.key_columns, 'k'), r_object.key_query, etl._list(r_object.key_columns)
            )
            INTO v_keys
            USING v_key;
        EXCEPTION
            WHEN data_exception THEN
                RAISE EXCEPTION '"%" is no key of a %', p_key, p_subject
                    USING ERRCODE = 'ET041';
        END;
        IF r_object.source IS NOT NULL THEN
            INSERT INTO etl.forgotten_row (object, row_key, subject, subject_key)
            SELECT r_object.object, e.key, p_subject, v_key
            FROM jsonb_array_elements(v_keys) AS e (key)
            ON CONFLICT (object, row_key) DO NOTHING;
            EXECUTE format(
                'SELECT $2 OR EXISTS (SELECT FROM %s AS r JOIN %s ON %s)',
                r_object.source, etl._keys_sql(r_object.key_columns, r_object.source), etl._match(r_object.key_columns, 'r', 'k')
            )
            INTO v_is_known
            USING v_keys, v_is_known;
        END IF;
        FOR r_relation IN
            SELECT x.relation AS name, etl._forgetting_list(p_subject, r_object.object, x.relation) AS assignments
            FROM etl._personal_relations(r_object.object) AS x
        LOOP
            EXECUTE format(
                'UPDATE %s AS r SET %s FROM %s WHERE %s AND (%s)',
                r_relation.name, r_relation.assignments, etl._keys_sql(r_object.key_columns, r_relation.name),
                etl._match(r_object.key_columns, 'r', 'k'),
                (
                    SELECT string_agg(format('r.%I IS DISTINCT FROM (%s)', c.column_name, c.replacement), ' OR ')
                    FROM etl.personal_column AS c
                    WHERE c.subject = p_subject
                        AND c.object = r_object.object
                        AND etl._column_type(r_relation.name, c.column_name) IS NOT NULL
                )
            )
            USING v_keys;
            GET DIAGNOSTICS v_rows = ROW_COUNT;
            v_is_known := v_is_known OR v_rows > 0;
            IF v_rows > 0 THEN
                relation := r_relation.name::text;
                rows_replaced := v_rows;
                RETURN NEXT;
            END IF;
        END LOOP;
        v_kept := v_kept + coalesce((SELECT sum(etl._forget_kept_rows(p_subject, r_object.object, e.key)) FROM jsonb_array_elements(v_keys) AS e (key)), 0);
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
END
$forget$;
COMMENT ON FUNCTION etl.forget(text, text) IS 'Forgets a subject: replaces its personal data in every layer and version, and whatever the source brings later.';

CREATE OR REPLACE VIEW etl.forgetting_reach AS
SELECT c.location
FROM etl.source_connection AS c;
COMMENT ON VIEW etl.forgetting_reach IS 'Whether forgetting reaches the operational system, for those who may not know more of where it is.';
COMMENT ON COLUMN etl.forgetting_reach.location IS 'local: its rows are replaced as well; remote: it is on another server, and what it still has is replaced as it comes in.';
