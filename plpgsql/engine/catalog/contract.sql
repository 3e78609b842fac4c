-- The contract: etl.build() refuses declarations that cannot work or would load wrong data later. Each function lists the faults of one kind. ET003
-- reports the first fault with its object, the rule and the remedy.

-- Refuses a declaration: raises ET003 with object, fault, detail and way out.
CREATE OR REPLACE FUNCTION etl._refuse_declaration(p_object name, p_fault text, p_detail text, p_hint text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_refuse_declaration$
BEGIN
    IF p_detail IS NULL THEN
        RAISE EXCEPTION 'catalog of "%": %', p_object, p_fault
            USING ERRCODE = 'ET003', HINT = p_hint || ' Then build again.';
    END IF;
    RAISE EXCEPTION 'catalog of "%": %', p_object, p_fault
        USING ERRCODE = 'ET003', DETAIL = p_detail, HINT = p_hint || ' Then build again.';
END
$_refuse_declaration$;

-- Whether the installation that declares a business in this transaction has yet to declare an object: until then the object has its former view.
CREATE OR REPLACE FUNCTION etl._is_to_be_declared(p_object name)
RETURNS boolean
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_is_to_be_declared$
    SELECT EXISTS (
        SELECT
        FROM etl.declaration AS d
        WHERE d.object = p_object
            AND d.business = current_setting('etl.business', true)
            AND d.declared_by <> pg_current_xact_id()
    )
$_is_to_be_declared$;

-- Relations and columns that the catalog names and that do not exist.
CREATE OR REPLACE FUNCTION etl._find_missing_columns()
RETURNS TABLE (object name, fault text, detail text, hint text)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_find_missing_columns$
    WITH wanted (object, relation, columns, needed_for) AS (
        SELECT s.source_table, format('source.%I', s.source_table), s.key_columns || coalesce(s.change_column, s.key_columns[1]), 'its key and its change column'
        FROM etl.source_table AS s
        UNION ALL
        SELECT 'tombstones', 'source.tombstones', '{table_name,row_key,deleted_at,row_xid}', 'delete detection by tombstone'
        WHERE EXISTS (SELECT FROM etl.source_table AS s WHERE s.delete_detection = 'tombstone')
        UNION ALL
        SELECT 'extraction_point', 'source.extraction_point', '{snapshot,system_identifier,read_at}', 'every extraction'
        WHERE EXISTS (SELECT FROM etl.source_table)
        UNION ALL
        SELECT d.dimension, r.relation::text, r.columns, r.needed_for
        FROM etl.dimension AS d
        CROSS JOIN LATERAL (
            VALUES
                (d.transform_view, d.business_key, 'a transformation view'),
                (
                    d.dimension_table,
                    d.surrogate_key || d.business_key || CASE WHEN d.transform_view IS NULL THEN '{}' ELSE '{valid_from,valid_to,is_current,run_id}' END::name[],
                    'a dimension table'
                ),
                (d.history_view, d.business_key || 'valid_from'::name, 'a history view')
        ) AS r (relation, columns, needed_for)
        UNION ALL
        SELECT a.dimension, r.relation::text, ARRAY[a.attribute], 'the attribute'
        FROM etl.dimension_attribute AS a
        JOIN etl.dimension AS d USING (dimension)
        CROSS JOIN LATERAL (VALUES (d.transform_view), (d.dimension_table)) AS r (relation)
        UNION ALL
        SELECT f.fact, r.relation::text, f.business_key || f.measures || r.columns::name[], r.needed_for
        FROM etl.fact AS f
        CROSS JOIN LATERAL (
            VALUES (f.transform_view, '{}', 'a transformation view'), (f.fact_table, '{is_deleted,run_id}', 'a fact table')
        ) AS r (relation, columns, needed_for)
        UNION ALL
        SELECT k.fact, r.relation::text, r.columns, r.needed_for
        FROM etl.fact_dimension AS k
        JOIN etl.fact AS f USING (fact)
        JOIN etl.dimension AS d USING (dimension)
        LEFT JOIN etl.fact_dimension AS l ON l.fact = k.fact AND l.key_column = k.lookup_role
        LEFT JOIN etl.dimension AS p ON p.dimension = l.dimension
        CROSS JOIN LATERAL (
            VALUES
                (coalesce(p.dimension_table, f.transform_view), k.lookup_columns, 'the key ' || k.key_column),
                (f.transform_view, ARRAY[k.as_of_column], 'the key ' || k.key_column),
                (f.fact_table, ARRAY[k.key_column], 'the dimension ' || k.dimension),
                (CASE WHEN d.transform_view IS NOT NULL THEN f.fact_table END, ARRAY[k.as_of_column], 'finding the facts of a version that is split')
        ) AS r (relation, columns, needed_for)
        UNION ALL
        SELECT a.aggregate, r.relation::text, r.columns, r.needed_for
        FROM etl.aggregate AS a
        LEFT JOIN etl.aggregate AS f ON f.aggregate = a.finer_aggregate
        CROSS JOIN LATERAL (
            VALUES
                (a.contribution_view, a.contribution_key || a.group_key || a.measures, 'a contribution view'),
                (a.aggregate_table, a.group_key || a.measures || 'run_id'::name, 'an aggregate table'),
                (f.aggregate_table, CASE WHEN a.finer_expressions IS NULL THEN a.group_key ELSE '{}' END || a.measures, 'the aggregate ' || a.aggregate)
        ) AS r (relation, columns, needed_for)
        UNION ALL
        SELECT l.aggregate, f.fact_table::text, r.columns, r.needed_for
        FROM etl.aggregate_fact AS l
        JOIN etl.aggregate AS a USING (aggregate)
        JOIN etl.fact AS f USING (fact)
        CROSS JOIN LATERAL (VALUES (a.contribution_key, 'its contributions'), (l.watched_columns, 'being watched')) AS r (columns, needed_for)
    )
    SELECT
        w.object,
        CASE WHEN to_regclass(w.relation) IS NULL THEN format('there is no relation %s', w.relation) ELSE format('%s has no column "%s"', w.relation, c.name) END,
        format('It is needed for %s.', w.needed_for),
        CASE WHEN to_regclass(w.relation) IS NULL THEN 'Create it, or correct the declaration.' ELSE 'Add it to the relation, or correct the declaration.' END
    FROM wanted AS w
    CROSS JOIN LATERAL unnest(w.columns) AS c (name)
    -- What an object does not have, such as a history view, or a column of an event, is not wanted.
    WHERE w.relation IS NOT NULL
        AND c.name IS NOT NULL
        AND (to_regclass(w.relation) IS NULL OR etl._column_type(to_regclass(w.relation), c.name) IS NULL)
$_find_missing_columns$;

-- Columns of targets without a value, columns of views without a target, and targets without the constraint that a load needs.
CREATE OR REPLACE FUNCTION etl._find_uncovered_columns()
RETURNS TABLE (object name, fault text, detail text, hint text)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_find_uncovered_columns$
    -- Target columns without a value.
    SELECT f.fact, format('%s has no column "%s"', f.transform_view, c.name),
        format('%s has such a column, and no declaration makes it a key.', f.fact_table), 'Add it to the view, or drop it from the table.'
    FROM etl.fact AS f
    CROSS JOIN LATERAL unnest(etl._without(
        etl._writable_columns(f.fact_table),
        f.business_key || f.measures || '{is_deleted,run_id}'::name[]
        || ARRAY(SELECT k.key_column FROM etl.fact_dimension AS k WHERE k.fact = f.fact)
    )) AS c (name)
    WHERE etl._column_type(f.transform_view, c.name) IS NULL
    UNION ALL
    -- Columns of views without a target. Left out in silence, a new attribute would stay away from the star while every run succeeds.
    SELECT u.object, format('column "%s" of %s leads nowhere', c.name, u.view),
        format('%s has no such column, or fills it by itself.', u.target), format('ALTER TABLE %s ADD COLUMN %I %s, or leave it out of the view.', u.target, c.name, etl._column_type(u.view, c.name))
    FROM (
        SELECT d.dimension, d.transform_view, d.dimension_table, etl._columns(d.dimension_table) || 'effective_at'::name
        FROM etl.dimension AS d
        UNION ALL
        SELECT f.fact, f.transform_view, f.fact_table,
            etl._without(etl._columns(f.fact_table), ARRAY(SELECT k.key_column FROM etl.fact_dimension AS k WHERE k.fact = f.fact))
            || ARRAY(SELECT unnest(array_remove(k.lookup_columns || k.as_of_column, NULL)) FROM etl.fact_dimension AS k WHERE k.fact = f.fact)
        FROM etl.fact AS f
    ) AS u (object, view, target, used)
    CROSS JOIN LATERAL unnest(etl._without(etl._columns(u.view), u.used || 'deleted_at'::name)) AS c (name)
    UNION ALL
    SELECT t.object, format('nothing fills column "%s" of %s, which is NOT NULL', a.attname, t.target), NULL,
        'Declare it as an attribute or measure, give it a default, or drop NOT NULL.'
    FROM (
        SELECT d.dimension, d.dimension_table,
            d.surrogate_key || d.business_key || '{valid_from,valid_to,is_current,run_id}'::name[]
            || ARRAY(SELECT n.attribute FROM etl.dimension_attribute AS n WHERE n.dimension = d.dimension)
        FROM etl.dimension AS d
        WHERE d.transform_view IS NOT NULL
        UNION ALL
        SELECT g.aggregate, g.aggregate_table, g.group_key || g.measures || 'run_id'::name
        FROM etl.aggregate AS g
    ) AS t (object, target, filled)
    JOIN pg_attribute AS a ON a.attrelid = t.target AND a.attnum > 0 AND NOT a.attisdropped
    WHERE a.attnotnull
        AND NOT a.atthasdef
        AND a.attidentity = ''
        AND a.attname <> ALL (t.filled)
    UNION ALL
    SELECT d.dimension, format('surrogate key "%s" of %s has no default', d.surrogate_key, d.dimension_table), NULL,
        'Make it GENERATED BY DEFAULT AS IDENTITY.'
    FROM etl.dimension AS d
    JOIN pg_attribute AS a ON a.attrelid = d.dimension_table AND a.attname = d.surrogate_key
    WHERE d.transform_view IS NOT NULL
        AND NOT a.atthasdef
        AND a.attidentity = ''
    UNION ALL
    SELECT u.object, format('%s has no primary key or unique constraint on (%s)', u.target, etl._list(u.key)), 'It finds the rows of a key, and refuses a second one.',
        format('ALTER TABLE %s ADD PRIMARY KEY (%s).', u.target, etl._list(u.key))
    FROM (
        SELECT o.object, o.table_name, CASE o.kind WHEN 'dimension' THEN ARRAY[d.surrogate_key] ELSE o.business_key END
        FROM etl.object AS o
        LEFT JOIN etl.dimension AS d ON d.dimension = o.object AND o.kind = 'dimension'
        WHERE o.kind <> 'source'
    ) AS u (object, target, key)
    WHERE NOT EXISTS (
        SELECT
        FROM pg_index AS i
        CROSS JOIN LATERAL (
            SELECT array_agg(a.attname) AS columns
            FROM pg_attribute AS a
            WHERE a.attrelid = i.indrelid
                AND a.attnum = ANY ((i.indkey::smallint[])[0:i.indnkeyatts - 1])
        ) AS c
        WHERE i.indrelid = u.target
            AND i.indisunique
            AND i.indpred IS NULL
            AND i.indexprs IS NULL
            AND c.columns @> u.key
            AND c.columns <@ u.key
    )
    UNION ALL
    SELECT n.object, format('column "%s" of %s may be NULL', a.attname, n.table_name), 'It is part of the key, and NULL equals nothing, not even itself.',
        format('ALTER TABLE %s ALTER %I SET NOT NULL, and give a missing value a name in the view.', n.table_name, a.attname)
    FROM etl.object AS n
    JOIN pg_attribute AS a ON a.attrelid = n.table_name AND a.attname = ANY (n.business_key)
    WHERE n.kind IN ('fact', 'aggregate')
        AND NOT a.attnotnull
$_find_uncovered_columns$;

-- Columns whose type the engine cannot use: points in time without a time zone, values that their target does not
-- take.
CREATE OR REPLACE FUNCTION etl._find_wrong_types()
RETURNS TABLE (object name, fault text, detail text, hint text)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_find_wrong_types$
    -- Timestamps need a time zone: without one, their order depends on the session.
    SELECT w.object, format('column "%s" of %s is %s, not %s', w.column_name, w.relation, etl._column_type(w.relation, w.column_name), w.wanted),
        w.needed_for, w.remedy
    FROM (
        SELECT s.source_table, to_regclass(format('source.%I', s.source_table)), s.change_column,
            CASE s.change_detection WHEN 'snapshot' THEN 'xid8' ELSE 'timestamp with time zone' END,
            'It tells when a row changed.',
            CASE s.change_detection WHEN 'snapshot' THEN 'Declare another change column.'
                ELSE format('State its time zone in the contract view: %I AT TIME ZONE ''Europe/Berlin'' AS %1$I.', s.change_column) END
        FROM etl.source_table AS s
        WHERE s.change_column IS NOT NULL
        UNION ALL
        SELECT d.dimension, r.relation, r.column_name, 'timestamp with time zone', 'It dates the versions of the dimension.',
            format('State its time zone in the view: %I AT TIME ZONE ''Europe/Berlin'' AS %1$I.', r.column_name)
        FROM etl.dimension AS d
        CROSS JOIN LATERAL (
            VALUES
                (d.transform_view, 'effective_at'::name), (d.transform_view, 'deleted_at'), (d.history_view, 'valid_from'),
                (CASE WHEN d.transform_view IS NOT NULL THEN d.dimension_table END, 'valid_from'),
                (CASE WHEN d.transform_view IS NOT NULL THEN d.dimension_table END, 'valid_to')
        ) AS r (relation, column_name)
        UNION ALL
        SELECT f.fact, f.transform_view, 'deleted_at', 'timestamp with time zone', 'It tells when the row was deleted.', 'Use deleted_at of the mirror.'
        FROM etl.fact AS f
        UNION ALL
        SELECT k.fact, f.transform_view, k.as_of_column, 'timestamp with time zone', format('It tells which version "%s" refers to.', k.key_column),
            format('State its time zone in the view: %I AT TIME ZONE ''Europe/Berlin'' AS %1$I.', k.as_of_column)
        FROM etl.fact_dimension AS k
        JOIN etl.fact AS f USING (fact)
        WHERE k.as_of_column IS NOT NULL
    ) AS w (object, relation, column_name, wanted, needed_for, remedy)
    WHERE regexp_replace(etl._held_type(w.relation, w.column_name), '\(\d\)', '') <> w.wanted
    UNION ALL
    -- What was added to an approximate sum cannot be subtracted again: 1e20 + 1 - 1e20 is 0.
    SELECT g.aggregate, format('measure "%s" of %s is %s', m.name, r.relation, etl._column_type(r.relation, m.name)),
        'An aggregate adds and subtracts what changes, which approximate numbers do not survive.', 'Make it numeric, in the view and in the table.'
    FROM etl.aggregate AS g
    CROSS JOIN LATERAL (VALUES (g.contribution_view), (g.aggregate_table)) AS r (relation)
    CROSS JOIN LATERAL unnest(g.measures) AS m (name)
    CROSS JOIN LATERAL etl._base_type(r.relation, m.name) AS t
    WHERE t.type_oid IN ('real'::regtype, 'double precision'::regtype)
    UNION ALL
    SELECT w.object, format('column "%s" of %s is %s, and cannot be assigned to %s of %s',
        w.column_name, w.view, etl._column_type(w.view, w.column_name), etl._column_type(w.target, w.column_name), w.target),
        NULL, 'Cast it in the view, or change the type in the table.'
    FROM (
        SELECT d.dimension, d.transform_view, d.dimension_table,
            d.business_key || ARRAY(SELECT a.attribute FROM etl.dimension_attribute AS a WHERE a.dimension = d.dimension)
        FROM etl.dimension AS d
        WHERE d.transform_view IS NOT NULL
        UNION ALL
        SELECT d.dimension, d.history_view, d.dimension_table, etl._without(etl._columns(d.history_view), '{valid_from}')
        FROM etl.dimension AS d
        WHERE d.history_view IS NOT NULL
        UNION ALL
        SELECT f.fact, f.transform_view, f.fact_table, etl._without(
            etl._writable_columns(f.fact_table), '{is_deleted,run_id}'::name[] || ARRAY(SELECT k.key_column FROM etl.fact_dimension AS k WHERE k.fact = f.fact)
        )
        FROM etl.fact AS f
        UNION ALL
        SELECT g.aggregate, g.contribution_view, g.aggregate_table, g.group_key || g.measures
        FROM etl.aggregate AS g
        WHERE g.finer_aggregate IS NULL
    ) AS p (object, view, target, columns)
    CROSS JOIN LATERAL unnest(p.columns) AS c (name)
    CROSS JOIN LATERAL (SELECT p.object, p.view, p.target, c.name AS column_name) AS w
    CROSS JOIN LATERAL etl._base_type(w.view, w.column_name) AS v
    CROSS JOIN LATERAL etl._base_type(w.target, w.column_name) AS g
    JOIN pg_type AS f ON f.oid = v.type_oid
    JOIN pg_type AS t ON t.oid = g.type_oid
    -- What INSERT cannot assign: neither the same type, nor text, nor with a cast of the types or of their elements.
    WHERE f.oid <> t.oid
        AND t.typcategory <> 'S'
        AND NOT EXISTS (
            SELECT
            FROM (VALUES (f.oid, t.oid), (nullif(f.typelem, 0), nullif(t.typelem, 0))) AS p (given, wanted)
            WHERE p.given = p.wanted
                OR EXISTS (SELECT FROM pg_cast AS c WHERE c.castsource = p.given AND c.casttarget = p.wanted AND c.castcontext IN ('a', 'i'))
        )
$_find_wrong_types$;

-- Names that are too long, stand for two objects, or are those of the engine's own columns.
CREATE OR REPLACE FUNCTION etl._find_unusable_names()
RETURNS TABLE (object name, fault text, detail text, hint text)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_find_unusable_names$
    SELECT d.object, 'its name is longer than 48 bytes', 'The engine appends to it for the names of its own tables and routines.', 'Choose a shorter name.'
    FROM etl.object AS d
    WHERE octet_length(d.object::text) > 48
    UNION ALL
    SELECT d.object, format('its name stands for a %s', string_agg(d.kind, ' and for a ' ORDER BY d.kind)), 'Pending keys, planned changes and routines are named after an object.',
        'Choose another name for one of them.'
    FROM etl.object AS d
    WHERE d.kind <> 'source'
    GROUP BY d.object
    HAVING count(*) > 1
    UNION ALL
    SELECT r.object, format('column "%s" of %s has a name that the engine uses itself', c.name, r.relation), NULL, format('Give it another name there: %I AS %s.', c.name, ltrim(c.name || '_value', '_'))
    FROM (
        SELECT s.source_table, to_regclass(format('source.%I', s.source_table)), '{batch_id,deleted_at,delta_operation}'::name[]
        FROM etl.source_table AS s
        UNION ALL
        SELECT d.dimension, d.dimension_table, '{planned_operation}'
        FROM etl.dimension AS d
        UNION ALL
        SELECT f.fact, f.fact_table, '{planned_operation,touched_aggregates,unresolved_keys}'
        FROM etl.fact AS f
        UNION ALL
        SELECT k.dimension, v.relation,
            '{_at,_deleted_at,_effective_at,_goes_on,_island,_is_absent,_is_log_only,_is_state_only,_is_there,_known_number,_last_life,_latest,_life,_log_number,_precedence,_starts_island,_state_number,_version}'
        FROM etl.dimension AS k
        CROSS JOIN LATERAL (VALUES (k.dimension_table), (k.transform_view), (k.history_view)) AS v (relation)
        UNION ALL
        SELECT d.dimension, d.transform_view, d.surrogate_key || '{valid_from,valid_to,is_current,run_id}'::name[]
        FROM etl.dimension AS d
        UNION ALL
        SELECT f.fact, f.transform_view, '{_is_given,is_deleted,run_id}'
        FROM etl.fact AS f
    ) AS r (object, relation, reserved)
    CROSS JOIN LATERAL unnest(r.reserved) AS c (name)
    WHERE etl._column_type(r.relation, c.name) IS NOT NULL
$_find_unusable_names$;

-- The views of dimensions and facts, with the mirrors that they read.
CREATE OR REPLACE FUNCTION etl._read_mirrors()
RETURNS TABLE (object name, view regclass, source_table name, sees_deletions boolean)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_read_mirrors$
    SELECT v.object, v.view, m.source_table, m.sees_deletions
    FROM etl._transformation_views() AS v
    CROSS JOIN LATERAL etl._mirrors_of(v.view) AS m
    WHERE v.kind <> 'aggregate'
$_read_mirrors$;

-- Whether a mirror keeps live rows only. Views that never mention its column deleted_at expect that, so deleted rows are removed from such a mirror.
-- Otherwise they would stay joined for ever.
CREATE OR REPLACE FUNCTION etl._keeps_live_rows_only(p_source_table name)
RETURNS boolean
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_keeps_live_rows_only$
    SELECT coalesce(bool_and(NOT m.sees_deletions), false)
    FROM etl._read_mirrors() AS m
    WHERE m.source_table = p_source_table
$_keeps_live_rows_only$;

-- Removes deleted rows from the mirrors that keep live rows only: until a view was changed, another rule may have held.
CREATE OR REPLACE FUNCTION etl._remove_deleted_rows()
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_remove_deleted_rows$
    SELECT etl._execute(ARRAY(
        SELECT format('DELETE FROM %s WHERE deleted_at IS NOT NULL', o.table_name)
        FROM etl.object AS o
        WHERE o.kind = 'source'
            AND o.table_name IS NOT NULL
            AND etl._keeps_live_rows_only(o.object)
    ))
$_remove_deleted_rows$;

-- Declarations that do not fit each other.
CREATE OR REPLACE FUNCTION etl._find_wrong_references()
RETURNS TABLE (object name, fault text, detail text, hint text)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_find_wrong_references$
    SELECT p.object, format('"%s" depends on source table "%s", but is neither a dimension nor a fact', p.object, p.source_table), NULL::text,
        'Correct the dependency, or declare the object.'
    FROM etl.dependency AS p
    WHERE NOT EXISTS (SELECT FROM etl.dimension AS d WHERE d.dimension = p.object)
        AND NOT EXISTS (SELECT FROM etl.fact AS f WHERE f.fact = p.object)
    UNION ALL
    SELECT p.object, format('dependency on "%s" watches column "%s", which source.%I does not have', p.source_table, c.name, p.source_table), NULL,
        'Correct watched_columns.'
    FROM etl.dependency AS p
    CROSS JOIN LATERAL unnest(p.watched_columns) AS c (name)
    WHERE etl._column_type(to_regclass(format('source.%I', p.source_table)), c.name) IS NULL
    UNION ALL
    SELECT k.fact, format('key "%s" looks up %s by %s, which has the business key %s', k.key_column, d.dimension, k.lookup_columns, d.business_key), NULL,
        'Name one lookup column for each column of the business key, in its order.'
    FROM etl.fact_dimension AS k
    JOIN etl.dimension AS d USING (dimension)
    WHERE cardinality(k.lookup_columns) <> cardinality(d.business_key)
    UNION ALL
    SELECT k.fact, format('key "%s" is looked up by "%s", which is looked up by another key itself', k.key_column, k.lookup_role), NULL,
        'Name a key whose lookup columns are in the fact''s view.'
    FROM etl.fact_dimension AS k
    JOIN etl.fact_dimension AS r ON r.fact = k.fact AND r.key_column = k.lookup_role
    WHERE r.lookup_role IS NOT NULL
    UNION ALL
    SELECT k.fact, format('key "%s" looks up %s without a point in time', k.key_column, k.dimension),
        format('Attribute "%s" has type 2, so a member has several versions, and none of them is the right one at all times.', a.attribute),
        'Name the column that says when: p_as_of => ''…''. Or give the attributes type 1.'
    FROM etl.fact_dimension AS k
    JOIN (SELECT t.dimension, min(t.attribute) FROM etl.dimension_attribute AS t WHERE t.scd_type = 2 GROUP BY t.dimension) AS a (dimension, attribute) USING (dimension)
    WHERE k.as_of_column IS NULL
    UNION ALL
    SELECT d.dimension, format('no attribute of type 2 is in its history view %s', d.history_view), 'A log without such an attribute has nothing to tell.',
        'Declare the attribute with type 2, or leave the history view out.'
    FROM etl.dimension AS d
    WHERE d.history_view IS NOT NULL
        AND NOT EXISTS (
            SELECT
            FROM etl.dimension_attribute AS a
            WHERE a.dimension = d.dimension
                AND a.scd_type = 2
                AND etl._column_type(d.history_view, a.attribute) IS NOT NULL
        )
    UNION ALL
    SELECT o.object, format('%s reads column "%s" of %s, which is not watched', v.ev_class::regclass, r.attname, r.attrelid::regclass),
        'A change of that column would not reach the object.', 'Add the column to p_watched_columns, or leave them out to watch all.'
    FROM etl.dependency AS o
    JOIN etl.source_table AS s USING (source_table)
    JOIN etl._transformation_views() AS t USING (object)
    JOIN pg_rewrite AS v ON v.ev_class = t.view
    JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = v.oid AND d.refclassid = 'pg_class'::regclass
    JOIN pg_attribute AS r ON r.attrelid = d.refobjid AND r.attnum = d.refobjsubid AND r.attrelid = to_regclass(format('stage.%I', o.source_table))
    WHERE o.watched_columns IS NOT NULL
        AND r.attname <> ALL (o.watched_columns || s.key_columns || '{deleted_at,batch_id}'::name[])
        -- When a version begins is no change by itself.
        AND NOT (r.atttypid = 'timestamptz'::regtype AND etl._column_type(t.view, 'effective_at') IS NOT NULL)
    UNION ALL
    SELECT l.aggregate, format('its contributions read column "%s" of %s, which is not watched', r.attname, l.fact), NULL,
        'Add the column to watched_columns, or set them to NULL to watch all.'
    FROM etl.aggregate_fact AS l
    JOIN etl.aggregate AS a USING (aggregate)
    JOIN etl.fact AS f USING (fact)
    JOIN pg_rewrite AS w ON w.ev_class = a.contribution_view
    JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = f.fact_table
    JOIN pg_attribute AS r ON r.attrelid = d.refobjid AND r.attnum = d.refobjsubid
    WHERE l.watched_columns IS NOT NULL
        AND r.attname <> ALL (l.watched_columns || a.contribution_key)
$_find_wrong_references$;

-- Views that read a mirror without a dependency, or without its column deleted_at while another view reads it. The mirror then keeps deleted rows for
-- the other view, and they would stay in this object as if they were alive.
CREATE OR REPLACE FUNCTION etl._find_misread_mirrors()
RETURNS TABLE (object name, fault text, detail text, hint text)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_find_misread_mirrors$
    SELECT m.object, format('%s reads mirror stage.%I, but no dependency says which keys a change there affects', m.view, m.source_table),
        'Changes of that source table would not reach the object. A dependency is derived only if each row is made of the row with the same key and of no other.',
        format('Declare it: depends_on(%L, ''SELECT … FROM changed …''), or as a row of etl.dependency.', m.source_table)
    FROM etl._read_mirrors() AS m
    WHERE NOT EXISTS (SELECT FROM etl.dependency AS p WHERE p.object = m.object AND p.source_table = m.source_table)
    UNION ALL
    SELECT m.object, format('%s reads mirror stage.%I no longer by its key alone', m.view, m.source_table),
        'The dependency was derived while each row was made of the row with the same key. Of a change, the load would now follow a part.',
        format('Declare it: depends_on(%L, ''SELECT … FROM changed …''). Or change the view back.', m.source_table)
    FROM etl._read_mirrors() AS m
    JOIN etl.dependency AS p USING (object, source_table)
    JOIN etl.source_table AS s USING (source_table)
    -- CASE: not asked of a view that may lack the key.
    WHERE CASE WHEN p.is_derived THEN NOT etl._is_read_by_key(m.view, s.key_columns, format('stage.%I', m.source_table)::regclass) ELSE false END
    UNION ALL
    SELECT m.object, format('%s reads mirror stage.%I without its column deleted_at', m.view, m.source_table),
        format('The mirror keeps deleted rows, because %s reads that column. They would stay in the object as if they were alive.', o.view),
        'Add "deleted_at IS NULL" to the join or WHERE clause, or show deleted_at in the view.'
    FROM etl._read_mirrors() AS m
    JOIN etl._read_mirrors() AS o ON o.source_table = m.source_table AND o.sees_deletions
    JOIN etl.source_table AS s ON s.source_table = m.source_table AND s.delete_detection <> 'none'
    WHERE NOT m.sees_deletions
    ORDER BY 1, 2, 3
$_find_misread_mirrors$;

-- Refuses views that read mirrors otherwise than the catalog says, or what no load would follow (ET003).
CREATE OR REPLACE FUNCTION etl._check_reads()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_check_reads$
BEGIN
    PERFORM etl._refuse_declaration(f.object, f.fault, f.detail, f.hint)
    FROM (
        SELECT * FROM etl._find_misread_mirrors()
        UNION ALL
        SELECT * FROM etl._find_unfollowed_reads()
        UNION ALL
        SELECT * FROM etl._find_fleeting_values()
    ) AS f
    WHERE NOT etl._is_to_be_declared(f.object)
    LIMIT 1;
END
$_check_reads$;

-- Refuses a SELECT that PostgreSQL cannot plan (ET003). It is not run. p_what says what it does, for the message.
CREATE OR REPLACE FUNCTION etl._refuse_unplannable(p_object name, p_what text, p_query text, p_hint text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_refuse_unplannable$
BEGIN
    EXECUTE format(E'SELECT\nFROM (\n%s\n) AS q\nLIMIT 0', p_query);
EXCEPTION
    WHEN syntax_error_or_access_rule_violation OR feature_not_supported THEN
        PERFORM etl._refuse_declaration(p_object, format('%s: %s', p_what, SQLERRM), p_query, p_hint);
END
$_refuse_unplannable$;

-- Refuses a catalog with a fault and reports the first one (ET003).
CREATE OR REPLACE FUNCTION etl._check_catalog()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off
AS $_check_catalog$
BEGIN
    PERFORM etl._refuse_declaration(f.object, f.fault, f.detail, f.hint)
    FROM (
        -- Missing columns first: the other checks rely on existing columns.
        SELECT * FROM etl._find_missing_columns()
        UNION ALL
        SELECT * FROM etl._find_unusable_names()
        UNION ALL
        SELECT * FROM etl._find_wrong_references()
        UNION ALL
        SELECT * FROM etl._find_uncovered_columns()
        UNION ALL
        SELECT * FROM etl._find_wrong_types()
    ) AS f
    WHERE NOT etl._is_to_be_declared(f.object)
    LIMIT 1;
    PERFORM etl._check_reads();
    PERFORM etl._refuse_unplannable(
        a.aggregate, format('%s cannot be made of %s', etl._finer_key(a), f.aggregate_table),
        format('SELECT %s FROM %s AS c', etl._finer_key(a), f.aggregate_table),
        'Write each of finer_expressions over columns of the finer aggregate, as c.<column>.'
    )
    FROM etl.aggregate AS a
    JOIN etl.aggregate AS f ON f.aggregate = a.finer_aggregate
    WHERE a.finer_expressions IS NOT NULL;
END
$_check_catalog$;
