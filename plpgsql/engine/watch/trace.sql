-- One business key through all layers, and one run through all of its tasks. What there is to look at follows from the catalog:
-- a source table, the dimension or fact that has the same key, and what else a change of the row touches.
--
-- Errors: ET045 nothing of that kind can be traced, ET046 that is no key of it, ET047 there is nothing of that key.

/*
The name by which people call an object: without the prefix of a star's table, in the singular.
Parameters: p_object, source table, dimension or fact.
Returns:    the name.
*/
CREATE OR REPLACE FUNCTION etl._trace_name(p_object name)
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_trace_name$
    SELECT CASE
        WHEN b.name ~ '(ss|us|is)$' THEN b.name
        WHEN b.name ~ 'ies$' THEN regexp_replace(b.name, 'ies$', 'y')
        WHEN b.name ~ '(ss|us|x|ch|sh)es$' THEN regexp_replace(b.name, 'es$', '')
        ELSE regexp_replace(b.name, 's$', '')
    END
    FROM (VALUES (regexp_replace(p_object, '^(dim|fact)_', ''))) AS b (name)
$_trace_name$;
COMMENT ON FUNCTION etl._trace_name(name) IS 'The name by which people call an object: without prefix, in the singular.';

CREATE OR REPLACE VIEW etl.trace_kind AS
SELECT
    etl._trace_name(s.source_table) AS kind,
    s.source_table AS object,
    'source table' AS object_kind,
    s.key_columns
FROM etl.source_table AS s
UNION ALL
SELECT
    etl._trace_name(d.dimension),
    d.dimension,
    'dimension',
    d.business_key
FROM etl.dimension AS d
UNION ALL
SELECT
    etl._trace_name(f.fact),
    f.fact,
    'fact',
    f.business_key
FROM etl.fact AS f
UNION ALL
VALUES ('run', 'run'::name, 'run', '{run_id}'::name[]);
COMMENT ON VIEW etl.trace_kind IS 'What can be traced: by business key, or a run by its number.';
COMMENT ON COLUMN etl.trace_kind.kind IS 'Name to call it by; the name of the object does as well.';
COMMENT ON COLUMN etl.trace_kind.object IS 'Source table, dimension, fact, or run.';
COMMENT ON COLUMN etl.trace_kind.object_kind IS 'Which of them it is.';
COMMENT ON COLUMN etl.trace_kind.key_columns IS 'Columns of its key, in the order in which a key is given.';

CREATE OR REPLACE FUNCTION etl._trace_condition(
    p_columns name[],
    p_relation regclass,
    p_alias text DEFAULT 't'
) RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_trace_condition$
    SELECT string_agg(format('%s.%I = ($1)[%s]::%s', p_alias, c.name, c.position, etl._column_type(p_relation, c.name)), ' AND ' ORDER BY c.position)
    FROM unnest(p_columns) WITH ORDINALITY AS c (name, position)
$_trace_condition$;
COMMENT ON FUNCTION etl._trace_condition(name[], regclass, text) IS 'Condition that a row (its alias) has the key that is given as text[] in $1.';

/*
Executes a query and returns its rows as one section of a trace.
Parameters: p_step, p_layer, p_relation, p_title, where the section stands and what it is; p_query, SELECT in which $1 is the
            key as text[] and $2 the same as jsonb; p_key, p_key_json, the key; p_limit, rows at most.
Returns:    a row an entry; one whose entry is NULL when there are none. has_more tells on the last whether rows were left out.
*/
CREATE OR REPLACE FUNCTION etl._trace_section(
    p_step integer,
    p_layer text,
    p_relation text,
    p_title text,
    p_query text,
    p_key text[],
    p_key_json jsonb,
    p_limit integer
) RETURNS TABLE (step integer, layer text, relation text, title text, entry json, has_more boolean)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_trace_section$
DECLARE
    v_entries json[];
BEGIN
    EXECUTE format('SELECT array_agg(row_to_json(q)) FROM (SELECT * FROM (%s) AS s LIMIT $3) AS q', p_query)
    INTO v_entries
    USING p_key, p_key_json, p_limit + 1;
    RETURN QUERY
    SELECT
        p_step,
        p_layer,
        p_relation,
        p_title,
        e.entry,
        e.position = p_limit AND cardinality(v_entries) > p_limit
    FROM unnest(coalesce(v_entries, ARRAY[NULL::json])) WITH ORDINALITY AS e (entry, position)
    WHERE e.position <= p_limit
    ORDER BY e.position;
END
$_trace_section$;
COMMENT ON FUNCTION etl._trace_section(integer, text, text, text, text, text[], jsonb, integer) IS 'Rows of a query as one section of a trace.';

/*
Which object a kind and a key mean.
Parameters: p_kind, name of the kind or of an object; p_key, the key's values in the order of its columns.
Returns:    source_table (NULL where none has this key), objects, the dimensions and facts of the same key, key_columns, and the
            key as jsonb.
Errors:     ET045, ET046.
*/
CREATE OR REPLACE FUNCTION etl._trace_target(p_kind text, p_key text[])
RETURNS TABLE (source_table name, objects name[], key_columns name[], key_json jsonb)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_trace_target$
DECLARE
    v_object name;
    v_relation regclass;
    v_names text;
BEGIN
    -- A source table goes before a dimension, a dimension before a fact; a full name before a short one.
    SELECT k.object, k.key_columns, CASE WHEN k.object_kind = 'source table' THEN k.object END
    INTO v_object, key_columns, source_table
    FROM etl.trace_kind AS k
    WHERE lower(p_kind) IN (k.kind, k.object)
        AND k.object_kind <> 'run'
    ORDER BY (k.object <> lower(p_kind)), array_position(ARRAY['source table', 'dimension', 'fact'], k.object_kind)
    LIMIT 1;
    IF NOT FOUND THEN
        SELECT string_agg(DISTINCT k.kind, ', ')
        INTO v_names
        FROM etl.trace_kind AS k;
        RAISE EXCEPTION 'there is nothing of the kind "%" to trace', p_kind
            USING ERRCODE = 'ET045', HINT = format('Kinds are: %s.', v_names);
    END IF;
    IF source_table IS NULL THEN
        SELECT s.source_table
        INTO source_table
        FROM etl.dependency AS p
        JOIN etl.source_table AS s USING (source_table)
        WHERE p.object = v_object
            AND s.key_columns = _trace_target.key_columns;
    END IF;
    SELECT coalesce(array_agg(k.object ORDER BY k.object), '{}')
    INTO objects
    FROM etl.trace_kind AS k
    WHERE k.object_kind IN ('dimension', 'fact')
        AND k.key_columns = _trace_target.key_columns
        AND (
            k.object = v_object
            OR EXISTS (SELECT FROM etl.dependency AS p WHERE p.object = k.object AND p.source_table = _trace_target.source_table)
        );

    IF cardinality(p_key) IS DISTINCT FROM cardinality(key_columns) THEN
        RAISE EXCEPTION 'the key of "%" is (%), which % value(s) do not make', p_kind, array_to_string(key_columns, ', '), coalesce(cardinality(p_key), 0)
            USING ERRCODE = 'ET046', HINT = format('Give %s.', array_to_string(key_columns, ', then '));
    END IF;
    v_relation := coalesce(
        (SELECT to_regclass(format('stage.%I', s.source_table)) FROM etl.source_table AS s WHERE s.source_table = _trace_target.source_table),
        (SELECT d.dimension_table FROM etl.dimension AS d WHERE d.dimension = v_object),
        (SELECT f.fact_table FROM etl.fact AS f WHERE f.fact = v_object)
    );
    BEGIN
        EXECUTE (
            SELECT format(
                'SELECT jsonb_build_object(%s)',
                string_agg(format('%L, ($1)[%s]::%s', c.name, c.position, etl._column_type(v_relation, c.name)), ', ' ORDER BY c.position)
            )
            FROM unnest(key_columns) WITH ORDINALITY AS c (name, position)
        )
        INTO key_json
        USING p_key;
    EXCEPTION
        WHEN data_exception THEN
            RAISE EXCEPTION '"%" is no key of "%"', array_to_string(p_key, ' '), p_kind
                USING ERRCODE = 'ET046',
                    DETAIL = SQLERRM,
                    HINT = (
                        SELECT 'Give ' || string_agg(format('%s (%s)', c.name, etl._column_type(v_relation, c.name)), ', ' ORDER BY c.position) || '.'
                        FROM unnest(key_columns) WITH ORDINALITY AS c (name, position)
                    );
    END;
    RETURN NEXT;
END
$_trace_target$;
COMMENT ON FUNCTION etl._trace_target(text, text[]) IS 'Which source table, dimensions and facts a kind and a key mean; errors ET045, ET046.';

/*
What is and was of a dimension's member or a fact's row in the layers from work on.
Parameters: p_object, dimension or fact; p_keys, conditions: a SELECT of its business keys in which $1 is the traced key;
            p_key, p_key_json, the traced key; p_limit, rows of a section; p_step, number of the first section.
Returns:    sections, as etl._trace_section does.
*/
CREATE OR REPLACE FUNCTION etl._trace_object(
    p_object name,
    p_keys text,
    p_key text[],
    p_key_json jsonb,
    p_limit integer,
    p_step integer
) RETURNS TABLE (step integer, layer text, relation text, title text, entry json, has_more boolean)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_trace_object$
DECLARE
    r_object record;
    v_keys text;
    v_counts text;
    v_members text;
BEGIN
    SELECT d.dimension AS object, 'dimension' AS kind, d.dimension_table AS target, d.business_key, d.surrogate_key, d.transform_view IS NOT NULL AS is_loaded
    INTO r_object
    FROM etl.dimension AS d
    WHERE d.dimension = p_object
    UNION ALL
    SELECT f.fact, 'fact', f.fact_table, f.business_key, NULL, true
    FROM etl.fact AS f
    WHERE f.fact = p_object;
    v_keys := format('(%s) AS k (%s)', p_keys, etl._list(r_object.business_key));

    IF r_object.is_loaded THEN
        RETURN QUERY
        SELECT *
        FROM etl._trace_section(
            p_step, 'work', format('work.%I', p_object || '_key'), 'waits for the next load',
            format(
                'SELECT DISTINCT t.* FROM %s JOIN work.%I AS t ON %s ORDER BY %s',
                v_keys, p_object || '_key', etl._match(r_object.business_key, 't', 'k'), etl._list(r_object.business_key, 't.%1$I')
            ),
            p_key, p_key_json, p_limit
        );
        RETURN QUERY
        SELECT *
        FROM etl._trace_section(
            p_step + 1, 'work', format('work.%I', p_object || '_decision'), 'decided by its last load',
            format(
                'SELECT t.* FROM %s JOIN work.%I AS t ON %s ORDER BY %s',
                v_keys, p_object || '_decision', etl._match(r_object.business_key, 't', 'k'), etl._list(r_object.business_key, 't.%1$I')
            ),
            p_key, p_key_json, p_limit
        );
    END IF;

    IF r_object.kind = 'dimension' THEN
        SELECT string_agg(
            format('%L, (SELECT count(*) FROM %s AS f WHERE f.%I = t.%I)', f.fact || '.' || l.key_column, f.fact_table, l.key_column, r_object.surrogate_key),
            ', '
            ORDER BY f.fact, l.key_column
        )
        INTO v_counts
        FROM etl.fact_dimension AS l
        JOIN etl.fact AS f USING (fact)
        WHERE l.dimension = p_object;
    ELSE
        SELECT string_agg(
            format(
                'SELECT %s, %L AS key_column, t.%I AS key, %L AS dimension, %s AS member, d.valid_from, d.valid_to, d.is_current FROM %s JOIN %s AS t ON %s LEFT JOIN %s AS d ON d.%I = t.%I',
                etl._list(r_object.business_key, 't.%1$I'),
                l.key_column, l.key_column, l.dimension,
                etl._json_key(d.business_key, 'd'),
                v_keys, r_object.target, etl._match(r_object.business_key, 't', 'k'),
                d.dimension_table, d.surrogate_key, l.key_column
            ),
            ' UNION ALL '
            ORDER BY l.key_column
        )
        INTO v_members
        FROM etl.fact_dimension AS l
        JOIN etl.dimension AS d USING (dimension)
        WHERE l.fact = p_object
            AND d.transform_view IS NOT NULL;
    END IF;
    RETURN QUERY
    SELECT *
    FROM etl._trace_section(
        p_step + 2, 'dwh', r_object.target::text,
        CASE WHEN r_object.kind = 'fact' THEN 'rows' WHEN r_object.is_loaded THEN 'versions, and how many facts point at each' ELSE 'member, and how many facts point at it' END,
        format(
            'SELECT t.*%s FROM %s JOIN %s AS t ON %s ORDER BY %s',
            CASE WHEN v_counts IS NOT NULL THEN format(', jsonb_build_object(%s) AS facts', v_counts) ELSE '' END,
            v_keys, r_object.target, etl._match(r_object.business_key, 't', 'k'),
            etl._list(
                r_object.business_key || CASE WHEN r_object.kind = 'dimension' AND r_object.is_loaded THEN '{valid_from}'::name[] ELSE '{}'::name[] END,
                't.%1$I'
            )
        ),
        p_key, p_key_json, p_limit
    );
    IF v_members IS NOT NULL THEN
        RETURN QUERY
        SELECT *
        FROM etl._trace_section(
            p_step + 3, 'dwh', r_object.target::text, 'versions that it points at',
            format('SELECT * FROM (%s) AS m ORDER BY %s, key_column', v_members, etl._list(r_object.business_key)),
            p_key, p_key_json, p_limit * 2
        );
    END IF;
    RETURN QUERY
    SELECT *
    FROM etl._trace_section(
        p_step + 4, 'etl', 'etl.reprocessing_queue', p_object || ' waits, or is waited for',
        format(
            'SELECT q.* FROM etl.queue_entry AS q WHERE q.%I = %L AND q.%I IN (SELECT %s FROM %s) ORDER BY q.queued_at, q.key_column',
            CASE WHEN r_object.kind = 'fact' THEN 'fact' ELSE 'dimension' END, p_object,
            CASE WHEN r_object.kind = 'fact' THEN 'fact_key' ELSE 'dimension_key' END,
            etl._json_key(r_object.business_key, 'k'), v_keys
        ),
        p_key, p_key_json, p_limit
    );
    RETURN QUERY
    SELECT *
    FROM etl._trace_section(
        p_step + 5, 'etl', 'etl.quarantine', p_object || ' could not be loaded',
        format(
            'SELECT q.* FROM etl.quarantine AS q WHERE q.object = %L AND q.row_key IN (SELECT %s FROM %s) ORDER BY q.quarantined_at',
            p_object, etl._json_key(r_object.business_key, 'k'), v_keys
        ),
        p_key, p_key_json, p_limit
    );
END
$_trace_object$;
COMMENT ON FUNCTION etl._trace_object(name, text, text[], jsonb, integer, integer) IS 'Sections of a trace for a dimension or fact.';

/*
What is and was of a source table's row until it reached stage.
Parameters: p_source_table; p_columns, the columns of its key; p_key, p_key_json, the key; p_limit, rows of a section.
Returns:    sections, as etl._trace_section does. A source that cannot be reached is an entry, too.
Errors:     25P04 as etl._reach_source.
*/
CREATE OR REPLACE FUNCTION etl._trace_source(
    p_source_table name,
    p_columns name[],
    p_key text[],
    p_key_json jsonb,
    p_limit integer
) RETURNS TABLE (step integer, layer text, relation text, title text, entry json, has_more boolean)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_trace_source$
DECLARE
    v_stage regclass := to_regclass(format('stage.%I', p_source_table));
    v_condition text := etl._trace_condition(p_columns, v_stage);
    r_part record;
BEGIN
    BEGIN
        PERFORM etl._reach_source();
        RETURN QUERY
        SELECT *
        FROM etl._trace_section(
            1, 'source', format('source.%I', p_source_table), 'the row as it is now',
            format('SELECT t.* FROM source.%I AS t WHERE %s', p_source_table, v_condition),
            p_key, p_key_json, p_limit
        );
        IF (SELECT s.delete_detection = 'tombstone' FROM etl.source_table AS s WHERE s.source_table = p_source_table) THEN
            RETURN QUERY
            SELECT *
            FROM etl._trace_section(
                2, 'source', 'source.tombstones', 'its deletion',
                format('SELECT t.* FROM source.tombstones AS t WHERE t.table_name = %L AND t.row_key = $2', p_source_table),
                p_key, p_key_json, p_limit
            );
        END IF;
    EXCEPTION
        WHEN connection_exception OR fdw_error THEN
            RETURN QUERY
            SELECT 1, 'source', format('source.%I', p_source_table), 'the source does not answer', json_build_object('error', SQLERRM), false;
    END;
    RETURN QUERY
    SELECT *
    FROM etl._trace_section(
        3, 'delta', format('delta.%I', p_source_table), 'in the latest batch',
        format('SELECT t.* FROM delta.%I AS t WHERE %s ORDER BY t.batch_id, t.delta_operation', p_source_table, v_condition),
        p_key, p_key_json, p_limit
    );
    RETURN QUERY
    SELECT *
    FROM etl._trace_section(
        4, 'stage', format('stage.%I', p_source_table), 'the mirror',
        format('SELECT t.* FROM %s AS t WHERE %s', v_stage, v_condition),
        p_key, p_key_json, p_limit
    );
    -- Rows that have the key as a part of their own, such as the lines of an order.
    FOR r_part IN
        SELECT
            s.source_table,
            s.key_columns
        FROM etl.source_table AS s
        WHERE s.source_table <> p_source_table
            AND s.key_columns @> p_columns
        ORDER BY s.source_table
    LOOP
        RETURN QUERY
        SELECT *
        FROM etl._trace_section(
            5, 'stage', format('stage.%I', r_part.source_table), 'rows that have the key in theirs',
            format(
                'SELECT t.* FROM stage.%I AS t WHERE %s ORDER BY %s',
                r_part.source_table,
                etl._trace_condition(p_columns, to_regclass(format('stage.%I', r_part.source_table))),
                etl._list(r_part.key_columns, 't.%1$I')
            ),
            p_key, p_key_json, p_limit
        );
    END LOOP;
    RETURN QUERY
    SELECT *
    FROM etl._trace_section(
        6, 'etl', 'etl.reextraction', 'asked for once more',
        format('SELECT t.* FROM etl.reextraction AS t WHERE t.source_table = %L AND t.row_key = $2', p_source_table),
        p_key, p_key_json, p_limit
    );
    RETURN QUERY
    SELECT *
    FROM etl._trace_section(
        7, 'etl', 'etl.quarantine', p_source_table || ' could not be loaded',
        format('SELECT t.* FROM etl.quarantine AS t WHERE t.object = %L AND t.row_key @> $2', p_source_table),
        p_key, p_key_json, p_limit
    );
END
$_trace_source$;
COMMENT ON FUNCTION etl._trace_source(name, name[], text[], jsonb, integer) IS 'Sections of a trace from the source to stage.';

/*
What is and was of a business key in every layer; of a run, what etl.trace_run tells.
Parameters: p_kind, what it is a key of, such as the singular of a source table's name (etl.trace_kind lists them); p_key, values of
            the key in the order of its columns; p_limit, rows of a section at most.
Returns:    step, in which order; layer, relation and title of the section; entry, a row of it as jsonb, NULL where there is none;
            has_more, whether further rows were left out. The last section holds the runs that wrote what was found.
Errors:     ET045 unknown kind, ET046 no key of it, ET047 nothing there.
*/
CREATE OR REPLACE FUNCTION etl.trace(p_kind text, p_key text[], p_limit integer DEFAULT 20)
RETURNS TABLE (step integer, layer text, relation text, title text, entry json, has_more boolean)
LANGUAGE plpgsql
VOLATILE
SET search_path = pg_catalog, pg_temp
AS $trace$
DECLARE
    r_target record;
    r_object record;
    r_entry record;
    v_limit integer := greatest(p_limit, 1);
    v_seen jsonb := '[]'::jsonb;
BEGIN
    IF lower(p_kind) = 'run' THEN
        IF cardinality(p_key) IS DISTINCT FROM 1 OR p_key[1] !~ '^[0-9]{1,18}$' THEN
            RAISE EXCEPTION '"%" is no number of a run', array_to_string(p_key, ' ')
                USING ERRCODE = 'ET046', HINT = 'SELECT run_id FROM etl.run_status lists them.';
        END IF;
        RETURN QUERY
        SELECT *
        FROM etl.trace_run(p_key[1]::bigint, p_limit);
        RETURN;
    END IF;
    SELECT *
    INTO r_target
    FROM etl._trace_target(p_kind, p_key);
    IF current_setting('transaction_read_only') = 'off' THEN
        -- It shows personal data in every layer.
        PERFORM etl._audit('traced', format('%s %s', p_kind, array_to_string(p_key, ' ')));
    END IF;
    FOR r_object IN
        SELECT
            NULL::name AS object,
            0 AS position,
            NULL::text AS keys
        WHERE r_target.source_table IS NOT NULL
        UNION ALL
        SELECT
            o.name,
            o.position::integer,
            (
                SELECT format('SELECT %s', string_agg(format('($1)[%s]::%s', c.position, etl._column_type(k.relation, c.name)), ', ' ORDER BY c.position))
                FROM unnest(r_target.key_columns) WITH ORDINALITY AS c (name, position)
            )
        FROM unnest(r_target.objects) WITH ORDINALITY AS o (name, position)
        CROSS JOIN LATERAL (
            SELECT d.dimension_table FROM etl.dimension AS d WHERE d.dimension = o.name
            UNION ALL
            SELECT f.fact_table FROM etl.fact AS f WHERE f.fact = o.name
        ) AS k (relation)
        UNION ALL
        -- What else a change of the row touches: its keys are asked as the merge into stage asks them.
        SELECT
            p.object,
            cardinality(r_target.objects) + row_number() OVER (ORDER BY p.object)::integer,
            format(
                'WITH changed AS (SELECT %s, NULL::bigint AS batch_id FROM stage.%I AS t WHERE %s) SELECT DISTINCT * FROM (%s) AS q LIMIT %s',
                etl._list(etl._without(etl._columns(format('stage.%I', p.source_table)::regclass), '{batch_id}'), 't.%1$I'),
                p.source_table,
                etl._trace_condition(r_target.key_columns, to_regclass(format('stage.%I', p.source_table))),
                p.key_query,
                v_limit + 1
            )
        FROM etl.dependency AS p
        WHERE p.source_table = r_target.source_table
            AND p.object <> ALL (r_target.objects)
        ORDER BY 2
    LOOP
        FOR r_entry IN
            SELECT s.*
            FROM etl._trace_source(r_target.source_table, r_target.key_columns, p_key, r_target.key_json, v_limit) AS s
            WHERE r_object.object IS NULL
            UNION ALL
            SELECT o.*
            FROM etl._trace_object(r_object.object, r_object.keys, p_key, r_target.key_json, v_limit, r_object.position * 10) AS o
            WHERE r_object.object IS NOT NULL
            ORDER BY 1
        LOOP
            IF r_entry.entry IS NOT NULL THEN
                v_seen := v_seen || jsonb_build_object('relation', r_entry.relation, 'run_id', r_entry.entry -> 'run_id', 'batch_id', r_entry.entry -> 'batch_id');
            END IF;
            SELECT r_entry.step, r_entry.layer, r_entry.relation, r_entry.title, r_entry.entry, r_entry.has_more
            INTO step, layer, relation, title, entry, has_more;
            RETURN NEXT;
        END LOOP;
    END LOOP;
    IF v_seen = '[]' THEN
        RAISE EXCEPTION 'there is no % with the key %', p_kind, array_to_string(p_key, ' ')
            USING ERRCODE = 'ET047', HINT = 'No layer has it, neither now nor in its history.';
    END IF;
    RETURN QUERY
    SELECT *
    FROM etl._trace_section(
        10000, 'etl', 'etl.run', 'runs that wrote what is shown',
        'WITH seen AS ('
        '    SELECT coalesce(s.run_id, b.run_id) AS run_id, array_agg(DISTINCT s.relation) AS wrote'
        '    FROM jsonb_to_recordset($2) AS s (relation text, run_id bigint, batch_id bigint)'
        '    LEFT JOIN etl.batch AS b ON b.batch_id = s.batch_id'
        '    GROUP BY 1'
        ')'
        ' SELECT s.run_id, r.status, r.origin, r.started_at, r.ended_at, r.seconds, s.wrote'
        ' FROM seen AS s LEFT JOIN etl.run_status AS r USING (run_id)'
        ' WHERE s.run_id > 0 ORDER BY s.run_id',
        p_key, v_seen, 1000
    );
END
$trace$;
COMMENT ON FUNCTION etl.trace(text, text[], integer) IS 'What is and was of a business key in every layer, and the runs that wrote it; errors ET045, ET046, ET047.';

/*
What a run did, task by task, and what it left behind.
Parameters: p_run_id, the run; p_limit, rows of a section at most.
Returns:    sections, as etl.trace does.
Errors:     ET047 when there is no such run (any more).
*/
CREATE OR REPLACE FUNCTION etl.trace_run(p_run_id bigint, p_limit integer DEFAULT 20)
RETURNS TABLE (step integer, layer text, relation text, title text, entry json, has_more boolean)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $trace_run$
DECLARE
    v_key text[] := ARRAY[p_run_id::text];
    v_limit integer := greatest(p_limit, 1);
    r_section record;
BEGIN
    IF NOT EXISTS (SELECT FROM etl.run AS r WHERE r.run_id = p_run_id) THEN
        RAISE EXCEPTION 'there is no run %', p_run_id
            USING ERRCODE = 'ET047',
                HINT = coalesce(
                    (SELECT format('Known are runs %s to %s.', min(r.run_id), max(r.run_id)) FROM etl.run AS r HAVING count(*) > 0),
                    'No run has been made yet.'
                );
    END IF;
    FOR r_section IN
        SELECT *
        FROM (
            VALUES
                (1, 'etl.run', 'the run', 'SELECT t.* FROM etl.run_status AS t WHERE t.run_id = ($1)[1]::bigint', 1),
                (
                    2, 'etl.task_run', 'its tasks',
                    'SELECT t.task, t.kind, t.object, t.status, t.attempts, t.started_at, t.ended_at,'
                    ' round(extract(epoch FROM t.ended_at - t.started_at), 3) AS seconds, t.rows_read, t.rows_inserted, t.rows_updated,'
                    ' t.rows_deleted, t.rows_queued, t.rows_quarantined, t.sqlstate, t.message, t.detail, t.hint'
                    ' FROM etl.task_run AS t WHERE t.run_id = ($1)[1]::bigint ORDER BY t.position', 10000
                ),
                (
                    3, 'etl.batch', 'what it extracted',
                    'SELECT b.batch_id, b.read_at, e.source_table, e.rows_extracted, e.is_bulk FROM etl.batch AS b'
                    ' LEFT JOIN etl.extraction AS e USING (batch_id) WHERE b.run_id = ($1)[1]::bigint ORDER BY b.batch_id, e.source_table', 10000
                ),
                (
                    4, 'etl.reprocessing_queue', 'what it queued and still waits',
                    'SELECT t.* FROM etl.queue_entry AS t WHERE t.run_id = ($1)[1]::bigint ORDER BY t.queued_at, t.fact, t.fact_key', v_limit
                ),
                (
                    5, 'etl.quarantine', 'what it could not load',
                    'SELECT t.* FROM etl.quarantine AS t WHERE t.run_id = ($1)[1]::bigint ORDER BY t.tried_at, t.object, t.row_key', v_limit
                ),
                (
                    6, 'etl.check_result', 'what its checks found',
                    'SELECT t.check_name, t.severity, t.status, t.violations, t.seconds, t.sample, t.message FROM etl.check_result AS t'
                    ' WHERE t.run_id = ($1)[1]::bigint ORDER BY t.result_id', 10000
                )
        ) AS s (step, relation, title, query, row_limit)
        ORDER BY s.step
    LOOP
        RETURN QUERY
        SELECT *
        FROM etl._trace_section(r_section.step, 'etl', r_section.relation, r_section.title, r_section.query, v_key, NULL, r_section.row_limit);
    END LOOP;
END
$trace_run$;
COMMENT ON FUNCTION etl.trace_run(bigint, integer) IS 'What a run did, task by task, and what it left behind; error ET047 when there is no such run.';
