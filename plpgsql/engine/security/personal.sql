-- Personal data: which rows and columns are about a subject, as etl.personal_subject, etl.personal_object and etl.personal_column declare.

-- SQL of a table k with the keys of the JSON array $1, in the types of a relation.
CREATE OR REPLACE FUNCTION etl._keys_sql(p_key_columns name[], p_relation regclass)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_keys_sql$
    SELECT format(
        '(SELECT %s FROM jsonb_array_elements($1) AS e (key)) AS k (%s)',
        string_agg(
            -- A cast that is immutable, for a plain type: Citus refuses others in the change of a spread table.
            CASE WHEN t.type_oid = ANY ('{smallint,integer,bigint,text,uuid}'::regtype[])
                THEN format('(e.key ->> %L)::%s', c.name, t.type_oid::regtype)
                ELSE etl._from_json(ARRAY[c.name], 'e.key', p_relation)
            END,
            ', ' ORDER BY c.position
        ),
        etl._list(p_key_columns)
    )
    FROM unnest(p_key_columns) WITH ORDINALITY AS c (name, position)
    CROSS JOIN LATERAL etl._base_type(p_relation, c.name) AS t
$_keys_sql$;

-- The canonical form of a subject's key, the same for every spelling: the output of its declared type. ET041 when it is not a value of the type, ET042
-- when nothing is declared for that kind of subject.
CREATE OR REPLACE FUNCTION etl._canonical_key(p_subject text, p_key text)
RETURNS text
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
-- The key is stored, and compared with keys that other sessions write.
SET datestyle = 'ISO, YMD'
SET intervalstyle = 'postgres'
SET timezone = 'UTC'
SET bytea_output = 'hex'
SET extra_float_digits = 1
AS $_canonical_key$
DECLARE
    v_type regtype := (SELECT s.key_type::regtype FROM etl.personal_subject AS s WHERE s.subject = p_subject);
    v_key text := nullif(btrim(p_key), '');
BEGIN
    IF NOT EXISTS (SELECT FROM etl.personal_object AS o WHERE o.subject = p_subject) THEN
        RAISE EXCEPTION 'no personal data are declared for subject "%"', p_subject
            USING ERRCODE = 'ET042',
                HINT = coalesce(
                    (SELECT format('Choose one of: %s.', string_agg(DISTINCT o.subject, ', ')) FROM etl.personal_object AS o HAVING count(*) > 0),
                    'Declare them in etl.personal_subject, etl.personal_object and etl.personal_column.'
                );
    END IF;
    BEGIN
        EXECUTE format('SELECT ($1::%s)::text', v_type) INTO v_key USING v_key;
    EXCEPTION
        WHEN data_exception THEN
            v_key := NULL;
    END;
    IF v_key IS NULL THEN
        RAISE EXCEPTION '"%" is not a key of a %', p_key, p_subject
            USING ERRCODE = 'ET041', HINT = format('Write a value of type %s.', v_type);
    END IF;
    RETURN v_key;
END
$_canonical_key$;

-- Keys of the rows that are about a subject: per object, a JSON array. p_key is the canonical key.
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
        EXECUTE format(
            'SELECT coalesce(jsonb_agg(DISTINCT %s), ''[]'') FROM (%s) AS k (%s)',
            etl._json_key(r_object.key_columns, 'k'), r_object.key_query, etl._list(r_object.key_columns)
        )
        INTO keys
        USING p_key;
        RETURN NEXT;
    END LOOP;
END
$_personal_keys$;

-- The rows of a relation that still hold personal data, as SQL after FROM: a FROM item to join to alias r, with the keys in $1, and a WHERE clause.
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

-- Also rows of the operational system that it does not reach. It waits for nothing. row_count is the number of rows that still hold personal data.
-- ET041, ET042 as etl.forget.
CREATE OR REPLACE FUNCTION etl.forget_preview(p_subject text, p_key text)
RETURNS TABLE (relation text, row_count bigint, columns name[], is_reached boolean)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $forget_preview$
DECLARE
    r_relation record;
BEGIN
    FOR r_relation IN
        SELECT k.object, k.keys, x.relation AS name, x.is_reached AS is_written, etl._personal_rows_sql(p_subject, k.object, k.key_columns, x.relation) AS found
        FROM etl._personal_keys(p_subject, etl._canonical_key(p_subject, p_key)) AS k
        CROSS JOIN LATERAL etl._personal_relations(k.object) AS x
    LOOP
        EXECUTE format('SELECT count(*) FROM %s AS r CROSS JOIN %s', r_relation.name, r_relation.found)
        INTO row_count
        USING r_relation.keys;
        IF row_count > 0 THEN
            relation := r_relation.name::text;
            is_reached := r_relation.is_written;
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
COMMENT ON FUNCTION etl.forget_preview(text, text) IS 'Shows what etl.forget would replace, and what it does not reach, without writing.';
