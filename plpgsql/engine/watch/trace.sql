-- One business key through all layers, and one run through all of its tasks. The catalog says where to look: at a source table, the dimension
-- or fact with the same key, and the objects that a change of the row touches.
--
-- Errors: ET045 no such kind, ET046 not a key of it, ET047 no layer has the key.

CREATE OR REPLACE VIEW etl.trace_kind AS
SELECT
    CASE
        WHEN n.stem ~ '(ss|us|is)$' THEN n.stem
        WHEN n.stem ~ 'ies$' THEN regexp_replace(n.stem, 'ies$', 'y')
        WHEN n.stem ~ '(ss|us|x|ch|sh)es$' THEN regexp_replace(n.stem, 'es$', '')
        ELSE regexp_replace(n.stem, 's$', '')
    END AS kind,
    o.object,
    CASE o.kind WHEN 'source' THEN 'source table' ELSE o.kind END AS object_kind,
    o.business_key AS key_columns
FROM etl.object AS o
-- In the singular, without the prefix of a star schema's table.
CROSS JOIN LATERAL regexp_replace(o.object, '^(dim|fact)_', '') AS n (stem)
WHERE o.kind <> 'aggregate'
UNION ALL
VALUES ('run', 'run'::name, 'run', '{run_id}'::name[]);
COMMENT ON VIEW etl.trace_kind IS 'What can be traced: objects by business key, runs by number.';
COMMENT ON COLUMN etl.trace_kind.kind IS 'Short name; the name of the object is accepted too.';
COMMENT ON COLUMN etl.trace_kind.object IS 'Source table, dimension, fact, or run.';
COMMENT ON COLUMN etl.trace_kind.object_kind IS 'source table, dimension, fact or run.';
COMMENT ON COLUMN etl.trace_kind.key_columns IS 'Columns of its key, in the order in which a key is given.';

-- Executes the query of one section, in which $1 is the key as text[] and $2 the same as jsonb. Returns one row per entry, or one whose entry is
-- NULL. has_more is true on the last entry if there are more than p_limit.
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

-- The values of a key that is given as text[] in $1, cast to the types of the relation's columns; p_format is applied to each column (%1$I) and value
-- (%2$s).
CREATE OR REPLACE FUNCTION etl._trace_key(
    p_columns name[],
    p_relation regclass,
    p_format text DEFAULT '%2$s',
    p_separator text DEFAULT ', '
)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_trace_key$
    SELECT string_agg(
        format(p_format, c.name, format('($1)[%s]::%s', c.position, etl._column_type(p_relation, c.name))), p_separator ORDER BY c.position
    )
    FROM unnest(p_columns) WITH ORDINALITY AS c (name, position)
$_trace_key$;

-- What a kind (ET045) and the values of a key (ET046) mean: a source table, if one has this key, and the dimensions and facts with the same key.
CREATE OR REPLACE FUNCTION etl._trace_target(p_kind text, p_key text[])
RETURNS TABLE (source_table name, objects name[], key_columns name[], key_json jsonb)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_trace_target$
DECLARE
    v_object name;
    v_relation regclass;
BEGIN
    -- A source table precedes a dimension, a dimension a fact; a full name precedes a short one.
    SELECT k.object, k.key_columns, CASE WHEN k.object_kind = 'source table' THEN k.object END
    INTO v_object, key_columns, source_table
    FROM etl.trace_kind AS k
    WHERE lower(p_kind) IN (k.kind, k.object)
        AND k.object_kind <> 'run'
    ORDER BY (k.object <> lower(p_kind)), array_position(ARRAY['source table', 'dimension', 'fact'], k.object_kind)
    LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is nothing of the kind "%" to trace', p_kind
            USING ERRCODE = 'ET045',
                HINT = format('Kinds are: %s.', (SELECT string_agg(DISTINCT k.kind, ', ') FROM etl.trace_kind AS k));
    END IF;
    source_table := coalesce(source_table, (
        SELECT s.source_table
        FROM etl.dependency AS p
        JOIN etl.source_table AS s USING (source_table)
        WHERE p.object = v_object
            AND s.key_columns = _trace_target.key_columns
    ));
    objects := ARRAY(
        SELECT k.object
        FROM etl.trace_kind AS k
        WHERE k.object_kind IN ('dimension', 'fact')
            AND k.key_columns = _trace_target.key_columns
            AND (
                k.object = v_object
                OR EXISTS (SELECT FROM etl.dependency AS p WHERE p.object = k.object AND p.source_table = _trace_target.source_table)
            )
        ORDER BY k.object
    );
    IF cardinality(p_key) IS DISTINCT FROM cardinality(key_columns) THEN
        RAISE EXCEPTION 'the key of "%" has % column(s), not %', p_kind, cardinality(key_columns), coalesce(cardinality(p_key), 0)
            USING ERRCODE = 'ET046', HINT = format('Give %s.', array_to_string(key_columns, ', then '));
    END IF;
    v_relation := coalesce(
        to_regclass('stage.' || quote_ident(source_table)),
        (SELECT o.table_name FROM etl.object AS o WHERE o.object = v_object AND o.kind IN ('dimension', 'fact'))
    );
    BEGIN
        EXECUTE format('SELECT jsonb_build_object(%s)', etl._trace_key(key_columns, v_relation, '%1$L, %2$s'))
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

-- Sections of the trace of a dimension or fact from work on, numbered from p_step, each with its query (see etl._trace_section). p_keys is a SELECT
-- of its business keys in which $1 is the traced key.
CREATE OR REPLACE FUNCTION etl._trace_object(p_object name, p_keys text, p_step integer)
RETURNS TABLE (step integer, layer text, relation text, title text, query text)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_trace_object$
    WITH traced AS (
        SELECT
            o.*,
            format('(%s) AS k (%s)', p_keys, etl._list(o.business_key)) AS keys,
            etl._match(o.business_key, 't', 'k') AS is_same_key,
            etl._list(o.business_key, 't.%1$I') AS sort_key
        FROM (
            SELECT e.kind, e.table_name AS target, e.business_key, e.view_name IS NOT NULL AS is_loaded
            FROM etl.object AS e
            WHERE e.object = p_object
                AND e.kind IN ('dimension', 'fact')
        ) AS o
    )
    SELECT
        p_step + w.step, 'work', format('work.%I', p_object || w.suffix), w.title,
        format('SELECT %s t.* FROM %s JOIN work.%I AS t ON %s ORDER BY %s', w.distinct_rows, o.keys, p_object || w.suffix, o.is_same_key, o.sort_key)
    FROM traced AS o
    CROSS JOIN (
        VALUES (0, '_key', 'pending for the next load', 'DISTINCT'), (1, '_decision', 'planned by its last load', NULL)
    ) AS w (step, suffix, title, distinct_rows)
    WHERE o.is_loaded
    UNION ALL
    SELECT
        p_step + 2, 'dwh', o.target::text,
        CASE WHEN o.kind = 'fact' THEN 'rows' WHEN o.is_loaded THEN 'versions, and how many facts point at each' ELSE 'member, and how many facts point at it' END,
        format(
            'SELECT t.*%s FROM %s JOIN %s AS t ON %s%s ORDER BY %s%s',
            c.entry, o.keys, o.target, o.is_same_key, c.joins, o.sort_key, CASE WHEN o.kind = 'dimension' AND o.is_loaded THEN ', t.valid_from' END
        )
    FROM traced AS o
    LEFT JOIN LATERAL (
        -- Grouped, and not a subquery per version: nodes cannot count rows for a row elsewhere.
        SELECT
            format(', jsonb_build_object(%s) AS facts', string_agg(format('%L, coalesce(%s.facts, 0)', f.fact || '.' || l.key_column, n.name), ', ' ORDER BY n.name)) AS entry,
            string_agg(
                etl._render(
                    $template$ LEFT JOIN (
    SELECT f.{{key_column}} AS key, count(*) AS facts
    FROM {{fact_table}} AS f
    WHERE f.{{key_column}} IN (SELECT t.{{surrogate_key}} FROM {{keys}} JOIN {{target}} AS t ON {{is_same_key}})
    GROUP BY f.{{key_column}}
) AS {{name}} ON {{name}}.key = t.{{surrogate_key}}$template$,
                    jsonb_build_object(
                        'key_column', quote_ident(l.key_column), 'fact_table', f.fact_table::text, 'surrogate_key', quote_ident(d.surrogate_key),
                        'keys', o.keys, 'target', o.target::text, 'is_same_key', o.is_same_key, 'name', n.name
                    )
                ),
                '' ORDER BY n.name
            ) AS joins
        FROM etl.fact_dimension AS l
        JOIN etl.fact AS f USING (fact)
        JOIN etl.dimension AS d USING (dimension)
        CROSS JOIN LATERAL (SELECT quote_ident(f.fact || '.' || l.key_column)) AS n (name)
        WHERE l.dimension = p_object
            AND o.kind = 'dimension'
        HAVING count(*) > 0
    ) AS c ON true
    UNION ALL
    SELECT
        p_step + 3, 'dwh', o.target::text, 'versions that it points at',
        string_agg(
            format(
                'SELECT %s, %L AS key_column, t.%I AS key, %L AS dimension, %s AS member, d.valid_from, d.valid_to, d.is_current '
                'FROM %s JOIN %s AS t ON %s LEFT JOIN %s AS d ON d.%I = t.%I',
                o.sort_key, l.key_column, l.key_column, l.dimension, etl._json_key(d.business_key, 'd'),
                o.keys, o.target, o.is_same_key, d.dimension_table, d.surrogate_key, l.key_column
            ),
            ' UNION ALL ' ORDER BY l.key_column
        ) || format(' ORDER BY %s, key_column', etl._list(o.business_key))
    FROM traced AS o
    JOIN etl.fact_dimension AS l ON l.fact = p_object
    JOIN etl.dimension AS d ON d.dimension = l.dimension AND d.transform_view IS NOT NULL
    WHERE o.kind = 'fact'
    GROUP BY o.target, o.business_key
    UNION ALL
    SELECT
        p_step + 4, 'etl', 'etl.reprocessing_queue', p_object || ' waits, or is waited for',
        format(
            'SELECT q.*, clock_timestamp() - q.queued_at AS age FROM etl.reprocessing_queue AS q WHERE q.%I = %L AND q.%I IN (SELECT %s FROM %s) ORDER BY q.queued_at, q.key_column',
            o.kind, p_object, o.kind || '_key', etl._json_key(o.business_key, 'k'), o.keys
        )
    FROM traced AS o
    UNION ALL
    SELECT
        p_step + 5, 'etl', 'etl.quarantine', p_object || ' could not be loaded',
        format(
            'SELECT q.* FROM etl.quarantine AS q WHERE q.object = %L AND q.row_key IN (SELECT %s FROM %s) ORDER BY q.quarantined_at',
            p_object, etl._json_key(o.business_key, 'k'), o.keys
        )
    FROM traced AS o
$_trace_object$;

-- All sections of a trace, each with its query (see etl._trace_section).
CREATE OR REPLACE FUNCTION etl._trace_sections(p_source_table name, p_objects name[], p_columns name[], p_limit integer)
RETURNS TABLE (step integer, layer text, relation text, title text, query text)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_trace_sections$
    SELECT q.*
    FROM (
        SELECT
            to_regclass(format('stage.%I', p_source_table)) AS mirror,
            etl._trace_key(p_columns, to_regclass(format('stage.%I', p_source_table)), 't.%1$I = %2$s', ' AND ') AS condition
        WHERE p_source_table IS NOT NULL
    ) AS c
    CROSS JOIN LATERAL (
        VALUES
            (
                1, 'source', format('source.%I', p_source_table), 'the row as it is now',
                format('SELECT t.* FROM source.%I AS t WHERE %s', p_source_table, c.condition)
            ),
            (
                3, 'delta', format('delta.%I', p_source_table), 'in the latest batch',
                format('SELECT t.* FROM delta.%I AS t WHERE %s ORDER BY t.batch_id, t.delta_operation', p_source_table, c.condition)
            ),
            (4, 'stage', c.mirror::text, 'the mirror', format('SELECT t.* FROM %s AS t WHERE %s', c.mirror, c.condition)),
            (
                6, 'etl', 'etl.reextraction', 'requested again',
                format('SELECT t.* FROM etl.reextraction AS t WHERE t.source_table = %L AND t.row_key = $2', p_source_table)
            ),
            (
                7, 'etl', 'etl.quarantine', p_source_table || ' could not be loaded',
                format('SELECT t.* FROM etl.quarantine AS t WHERE t.object = %L AND t.row_key @> $2', p_source_table)
            )
    ) AS q (step, layer, relation, title, query)
    UNION ALL
    SELECT
        2, 'source', 'source.tombstones', 'its deletion',
        format('SELECT t.* FROM source.tombstones AS t WHERE t.table_name = %L AND t.row_key = $2', p_source_table)
    FROM etl.source_table AS s
    WHERE s.source_table = p_source_table
        AND s.delete_detection = 'tombstone'
    UNION ALL
    -- Rows that have the key as a part of their own, such as the lines of an order.
    SELECT
        5, 'stage', format('stage.%I', s.source_table), 'rows that have the key in theirs',
        format(
            'SELECT t.* FROM stage.%I AS t WHERE %s ORDER BY %s',
            s.source_table, etl._trace_key(p_columns, to_regclass(format('stage.%I', s.source_table)), 't.%1$I = %2$s', ' AND '),
            etl._list(s.key_columns, 't.%1$I')
        )
    FROM etl.source_table AS s
    WHERE s.source_table <> p_source_table
        AND s.key_columns @> p_columns
    UNION ALL
    SELECT s.*
    FROM unnest(p_objects) WITH ORDINALITY AS o (name, position)
    JOIN etl.object AS k ON k.object = o.name AND k.kind IN ('dimension', 'fact')
    CROSS JOIN LATERAL etl._trace_object(o.name, 'SELECT ' || etl._trace_key(p_columns, k.table_name), o.position::integer * 10) AS s
    UNION ALL
    -- The other objects that a change of the row touches, found by the same query as in the merge into the mirror.
    SELECT s.*
    FROM (
        SELECT p.*, row_number() OVER (ORDER BY p.object) AS position
        FROM etl.dependency AS p
        WHERE p.source_table = p_source_table
            AND p.object <> ALL (p_objects)
    ) AS p
    CROSS JOIN LATERAL etl._trace_object(
        p.object,
        format(
            'WITH changed AS (SELECT %s, NULL::bigint AS batch_id FROM stage.%I AS t WHERE %s) SELECT DISTINCT * FROM (%s) AS q LIMIT %s',
            etl._list(etl._without(etl._columns(format('stage.%I', p.source_table)::regclass), '{batch_id}'), 't.%1$I'),
            p.source_table,
            etl._trace_key(p_columns, format('stage.%I', p.source_table)::regclass, 't.%1$I = %2$s', ' AND '),
            p.key_query,
            p_limit + 1
        ),
        (cardinality(p_objects) + p.position::integer) * 10
    ) AS s
$_trace_sections$;

-- p_kind is a kind of etl.trace_kind, or a run (etl.trace_run); p_key has the values of the key in the order of its columns; p_limit is the number of
-- rows of a section at most. entry is a row of the section as JSON, NULL if there is none; has_more says whether there are further rows. The last
-- section holds the runs that wrote what was found. Writes the audit trail: a trace shows personal data.
CREATE OR REPLACE FUNCTION etl.trace(p_kind text, p_key text[], p_limit integer DEFAULT 20)
RETURNS TABLE (step integer, layer text, relation text, title text, entry json, has_more boolean)
LANGUAGE plpgsql
VOLATILE
SET search_path = pg_catalog, pg_temp
AS $trace$
DECLARE
    r_target record;
    r_section record;
    v_limit integer := greatest(p_limit, 1);
    v_seen jsonb := '[]'::jsonb;
    v_is_lost boolean := false;  -- the source
BEGIN
    IF lower(p_kind) = 'run' THEN
        IF cardinality(p_key) IS DISTINCT FROM 1 OR p_key[1] !~ '^[0-9]{1,18}$' THEN
            RAISE EXCEPTION '"%" is not the number of a run', array_to_string(p_key, ' ')
                USING ERRCODE = 'ET046', HINT = 'To list the runs, run: oceanrecords status.';
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
        PERFORM audit.note('traced', format('%s %s', p_kind, array_to_string(p_key, ' ')));
    END IF;
    FOR r_section IN
        SELECT *
        FROM etl._trace_sections(r_target.source_table, r_target.objects, r_target.key_columns, v_limit) AS s
        ORDER BY s.step, s.relation
    LOOP
        CONTINUE WHEN r_section.layer = 'source' AND v_is_lost;
        BEGIN
            IF r_section.layer = 'source' THEN
                PERFORM etl._reach_source();
            END IF;
            FOR step, layer, relation, title, entry, has_more IN
                SELECT *
                FROM etl._trace_section(
                    r_section.step, r_section.layer, r_section.relation, r_section.title, r_section.query, p_key, r_target.key_json, v_limit
                )
            LOOP
                IF entry IS NOT NULL THEN
                    v_seen := v_seen || jsonb_build_object('relation', relation, 'run_id', entry -> 'run_id', 'batch_id', entry -> 'batch_id');
                END IF;
                RETURN NEXT;
            END LOOP;
        EXCEPTION
            WHEN connection_exception OR fdw_error THEN
                IF r_section.layer <> 'source' THEN
                    RAISE;
                END IF;
                v_is_lost := true;
                RETURN QUERY
                SELECT r_section.step, r_section.layer, r_section.relation, 'the source does not answer', json_build_object('error', SQLERRM), false;
        END;
    END LOOP;
    IF v_seen = '[]' AND NOT v_is_lost THEN
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
COMMENT ON FUNCTION etl.trace(text, text[], integer) IS 'Past and present of a business key in every layer, and the runs that wrote it; errors ET045, ET046, ET047.';

-- Sections as of etl.trace, with p_limit rows at most.
CREATE OR REPLACE FUNCTION etl.trace_run(p_run_id bigint, p_limit integer DEFAULT 20)
RETURNS TABLE (step integer, layer text, relation text, title text, entry json, has_more boolean)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $trace_run$
DECLARE
    v_limit integer := greatest(p_limit, 1);
BEGIN
    IF NOT EXISTS (SELECT FROM etl.run AS r WHERE r.run_id = p_run_id) THEN
        RAISE EXCEPTION 'there is no run %', p_run_id
            USING ERRCODE = 'ET047',
                HINT = coalesce(
                    (SELECT format('Runs %s to %s are recorded.', min(r.run_id), max(r.run_id)) FROM etl.run AS r HAVING count(*) > 0),
                    'There has been no run yet.'
                );
    END IF;
    RETURN QUERY
    SELECT t.*
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
                4, 'etl.reprocessing_queue', 'what it queued and is still unresolved',
                'SELECT t.*, clock_timestamp() - t.queued_at AS age FROM etl.reprocessing_queue AS t WHERE t.run_id = ($1)[1]::bigint ORDER BY t.queued_at, t.fact, t.fact_key', v_limit
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
    CROSS JOIN LATERAL etl._trace_section(s.step, 'etl', s.relation, s.title, s.query, ARRAY[p_run_id::text], NULL, s.row_limit) AS t
    ORDER BY s.step;
END
$trace_run$;
COMMENT ON FUNCTION etl.trace_run(bigint, integer) IS 'A run task by task: what it extracted, queued, could not load, and what its checks found; error ET047 if it does not exist.';
