-- Tests of transformations, and generic checks. A test fills the real tables inside a subtransaction that is always rolled back.

-- Refuses rows of a test that are not an array of objects (22023), or name a column that the relation does not have
-- (ET002).
CREATE OR REPLACE FUNCTION etl._assert_test_rows(p_relation regclass, p_rows jsonb)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_assert_test_rows$
DECLARE
    v_column text;
BEGIN
    IF jsonb_typeof(p_rows) <> 'array' OR EXISTS (SELECT FROM jsonb_array_elements(p_rows) AS r (one) WHERE jsonb_typeof(r.one) <> 'object') THEN
        RAISE EXCEPTION 'the rows of % are not a list of rows', p_relation
            USING ERRCODE = '22023', HINT = 'Write a list, and each row as columns with their values.';
    END IF;
    SELECT k.name
    INTO v_column
    FROM jsonb_array_elements(p_rows) AS r (one)
    CROSS JOIN jsonb_object_keys(r.one) AS k (name)
    WHERE k.name <> ALL (etl._columns(p_relation))
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION '% has no column "%"', p_relation, v_column
            USING ERRCODE = 'ET002', HINT = format('Its columns are: %s.', array_to_string(etl._columns(p_relation), ', '));
    END IF;
END
$_assert_test_rows$;

-- Truncates a table and fills it with the rows of a test, an array of objects. A NOT NULL column without a value gets a neutral one.
CREATE OR REPLACE FUNCTION etl._fill_for_test(p_table regclass, p_rows jsonb)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_fill_for_test$
DECLARE
    v_columns text;
    v_values text;
    v_neutral jsonb;
BEGIN
    PERFORM etl._assert_test_rows(p_table, p_rows);
    EXECUTE format('TRUNCATE %s CASCADE', p_table);
    IF jsonb_array_length(p_rows) = 0 THEN
        RETURN;
    END IF;
    SELECT coalesce(jsonb_object_agg(a.attname, CASE t.typcategory
        WHEN 'B' THEN to_jsonb(false)
        WHEN 'N' THEN to_jsonb(0)
        WHEN 'D' THEN to_jsonb('2000-01-01'::text)
        WHEN 'T' THEN to_jsonb('0'::text)
        WHEN 'A' THEN '[]'::jsonb
        WHEN 'U' THEN CASE WHEN t.typname IN ('json', 'jsonb') THEN '{}'::jsonb ELSE to_jsonb('0'::text) END
        ELSE to_jsonb(''::text)
    END), '{}')
    INTO v_neutral
    FROM pg_attribute AS a
    JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE a.attrelid = p_table
        AND a.attnum > 0
        AND a.attnotnull
        AND NOT a.atthasdef
        AND NOT a.attisdropped
        AND a.attidentity = '';
    -- Columns that no row names keep their defaults.
    SELECT string_agg(quote_ident(k.name), ', '), string_agg(format('r.%I', k.name), ', ')
    INTO v_columns, v_values
    FROM (
        SELECT DISTINCT n.name
        FROM jsonb_array_elements(p_rows) AS r (one)
        CROSS JOIN jsonb_object_keys(v_neutral || r.one) AS n (name)
    ) AS k;
    EXECUTE format(
        'INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM jsonb_array_elements($1) AS e (one) '
        'CROSS JOIN jsonb_populate_record(NULL::%1$s, $2 || e.one) AS r',
        p_table, v_columns, v_values
    )
    USING p_rows, v_neutral;
END
$_fill_for_test$;

-- The mirrors that the view reads are truncated, the given tables are filled, and the rows of the view are compared with the expected ones, in any
-- order, by the columns of the latter. Meanwhile the tables are locked exclusively: use a development warehouse. p_object is a dimension, fact or
-- aggregate, or a view by its name with schema; p_given has rows by table, a mirror of schema stage where no schema is named: {"suppliers":
-- [{"supplier_id": 1}]}; p_expected has rows: [{"supplier_id": 1, "supplier_name": "Acme"}]. ET002: an object, table or column does not exist; 22023:
-- rows are malformed; 55P03: a table is in use.
CREATE OR REPLACE FUNCTION etl.test_transformation(p_object text, p_given jsonb, p_expected jsonb)
RETURNS TABLE (problem text, test_row jsonb)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '5s'
AS $test_transformation$
DECLARE
    v_view regclass := coalesce((SELECT o.view_name FROM etl.object AS o WHERE o.object = p_object AND o.kind <> 'source'), to_regclass(p_object));
    v_columns text;
    v_result jsonb;
    r_given record;
BEGIN
    IF v_view IS NULL THEN
        RAISE EXCEPTION 'there is no transformation "%"', p_object
            USING ERRCODE = 'ET002', HINT = 'Name a dimension, fact or aggregate, or a view with its schema, such as work.dim_person.';
    END IF;
    IF jsonb_typeof(p_given) <> 'object' THEN
        RAISE EXCEPTION 'what is given is not a list of tables'
            USING ERRCODE = '22023', HINT = 'Write the name of each table, and its rows below.';
    END IF;
    PERFORM etl._assert_test_rows(v_view, p_expected);

    SELECT string_agg(DISTINCT format('%1$L, v.%1$I', k.name), ', ')
    INTO v_columns
    FROM jsonb_array_elements(p_expected) AS e (one)
    CROSS JOIN jsonb_object_keys(e.one) AS k (name);
    -- If no row is expected, a surplus row is shown with all columns.
    v_columns := coalesce(v_columns, etl._list(etl._columns(v_view), '%1$L, v.%1$I'));

    BEGIN
        FOR r_given IN
            SELECT coalesce(to_regclass('stage.' || quote_ident(g.key)), to_regclass(g.key)) AS relation, g.key AS name, g.value AS rows, g.value <> '[]' AS has_rows
            FROM jsonb_each(p_given) AS g
            UNION ALL
            -- The mirrors that the view reads and the test does not fill.
            SELECT c.oid::regclass, c.relname, '[]', false
            FROM pg_class AS c
            WHERE c.relnamespace = to_regnamespace('stage')
                AND c.relkind IN ('r', 'p')
                AND c.relname IN (SELECT m.source_table FROM etl._mirrors_of(v_view) AS m)
                AND NOT EXISTS (
                    SELECT
                    FROM jsonb_object_keys(p_given) AS g (name)
                    WHERE coalesce(to_regclass('stage.' || quote_ident(g.name)), to_regclass(g.name)) = c.oid
                )
            -- Empty tables first: TRUNCATE CASCADE may empty others.
            ORDER BY has_rows
        LOOP
            IF r_given.relation IS NULL THEN
                RAISE EXCEPTION 'there is no table "%"', r_given.name
                    USING ERRCODE = 'ET002', HINT = 'Name a source table, or a table with its schema.';
            END IF;
            PERFORM etl._fill_for_test(r_given.relation, r_given.rows);
        END LOOP;
        EXECUTE format(
            $sql$WITH actual AS (
    SELECT jsonb_build_object(%1$s) AS one FROM %2$s AS v
),
expected AS (
    SELECT jsonb_build_object(%1$s) AS one
    FROM jsonb_array_elements($1) AS e (one)
    CROSS JOIN jsonb_populate_record(NULL::%2$s, e.one) AS v
),
difference AS (
    SELECT 'missing' AS problem, m.one FROM (SELECT one FROM expected EXCEPT ALL SELECT one FROM actual) AS m
    UNION ALL
    SELECT 'surplus', s.one FROM (SELECT one FROM actual EXCEPT ALL SELECT one FROM expected) AS s
)
SELECT jsonb_agg(jsonb_build_array(d.problem, d.one)) FROM difference AS d$sql$,
            v_columns, v_view
        )
        INTO v_result
        USING p_expected;
        RAISE EXCEPTION 'rolled back' USING ERRCODE = 'ETTST';
    EXCEPTION
        WHEN SQLSTATE 'ETTST' THEN
            NULL;  -- The tables are as before; variables keep their values.
    END;
    RETURN QUERY
    SELECT r.one ->> 0, r.one -> 1
    FROM jsonb_array_elements(v_result) AS r (one)
    ORDER BY r.one ->> 0, r.one -> 1;
END
$test_transformation$;
COMMENT ON FUNCTION etl.test_transformation(text, jsonb, jsonb) IS 'Tests a transformation: given rows in, expected rows out; returns the differences. Everything is rolled back.';

-- Also for etl.quality_check. p_columns must follow the rule. p_values are for accepted_values, as text; p_other and p_other_columns are the table
-- and columns referenced, for relationships. NULL violates not_null only. ET002: the table or a column does not exist; 22023: there is no such rule,
-- or a parameter of it is missing.
CREATE OR REPLACE FUNCTION etl.check_query(
    p_rule text,
    p_table text,
    p_columns text[],
    p_values text[] DEFAULT NULL,
    p_other text DEFAULT NULL,
    p_other_columns text[] DEFAULT NULL
)
RETURNS text
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $check_query$
DECLARE
    v_table regclass := to_regclass(p_table);
    v_other regclass := to_regclass(p_other);
    v_list text;
    v_present text;
BEGIN
    IF v_table IS NULL OR p_other IS NOT NULL AND v_other IS NULL THEN
        RAISE EXCEPTION 'there is no table "%"', CASE WHEN v_table IS NULL THEN p_table ELSE p_other END
            USING ERRCODE = 'ET002', HINT = 'Write its name with its schema, such as dwh.dim_person.';
    END IF;
    PERFORM etl._assert_test_rows(v_table, jsonb_build_array((SELECT jsonb_object_agg(c.name, 0) FROM unnest(p_columns) AS c (name))));
    IF coalesce(cardinality(p_columns), 0) = 0
        OR p_rule = 'accepted_values' AND (p_values IS NULL OR cardinality(p_columns) <> 1)
        OR p_rule = 'relationships' AND (v_other IS NULL OR cardinality(p_columns) IS DISTINCT FROM cardinality(p_other_columns))
        OR p_rule NOT IN ('unique', 'not_null', 'accepted_values', 'relationships')
    THEN
        RAISE EXCEPTION 'the rule "%" of % cannot be read', p_rule, p_table
            USING ERRCODE = '22023',
                HINT = 'Rules are unique and not_null (columns), accepted_values (one column and its values), '
                    || 'and relationships (columns, and as many of another table).';
    END IF;
    v_list := etl._list(p_columns, 't.%1$I');
    v_present := etl._list(p_columns, 't.%1$I IS NOT NULL', ' AND ');
    IF p_rule = 'relationships' THEN
        PERFORM etl._assert_test_rows(v_other, jsonb_build_array((SELECT jsonb_object_agg(c.name, 0) FROM unnest(p_other_columns) AS c (name))));
    END IF;
    RETURN CASE p_rule
        WHEN 'unique' THEN
            format('SELECT %1$s, count(*) AS rows_found FROM %2$s AS t WHERE %3$s GROUP BY %1$s HAVING count(*) > 1', v_list, v_table, v_present)
        WHEN 'not_null' THEN
            format('SELECT t.* FROM %s AS t WHERE NOT (%s)', v_table, v_present)
        WHEN 'accepted_values' THEN
            format('SELECT %1$s, count(*) AS rows_found FROM %2$s AS t WHERE %1$s::text <> ALL (%3$L::text[]) GROUP BY %1$s', v_list, v_table, p_values)
        WHEN 'relationships' THEN
            format(
                'SELECT %s, count(*) AS rows_found FROM %s AS t WHERE %s AND NOT EXISTS (SELECT FROM %s AS o WHERE %s) GROUP BY %1$s',
                v_list, v_table, v_present, v_other, etl._match_pairs(p_other_columns, 'o', p_columns, 't')
            )
    END;
END
$check_query$;
COMMENT ON FUNCTION etl.check_query(text, text, text[], text[], text, text[]) IS 'Query of a generic check (unique, not_null, accepted_values or relationships): the violating rows.';
