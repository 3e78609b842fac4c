-- The row filter: the attribute by which schema analysis shows a user some rows only. etl.row_access holds the values that each user sees.

-- Parameters: p_attribute, name of the attribute, for messages; p_relation and p_column, where its values are listed.
-- Errors: ET003 when the relation has no such column.
CREATE OR REPLACE FUNCTION etl.define_row_filter(p_attribute text, p_relation regclass, p_column name)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $define_row_filter$
BEGIN
    IF etl._column_type(p_relation, p_column) IS NULL THEN
        RAISE EXCEPTION 'row filter "%": relation "%" has no column "%"', p_attribute, p_relation, p_column
            USING ERRCODE = 'ET003', HINT = 'Name the column that holds the values of the attribute.';
    END IF;
    INSERT INTO etl.row_filter (attribute, value_relation, value_column)
    VALUES (p_attribute, p_relation, p_column)
    ON CONFLICT (is_only) DO UPDATE
    SET attribute = excluded.attribute,
        value_relation = excluded.value_relation,
        value_column = excluded.value_column;
    PERFORM etl._declare('row filter', p_attribute::name);
END
$define_row_filter$;
COMMENT ON FUNCTION etl.define_row_filter(text, regclass, name) IS 'Declares the attribute by which schema analysis shows a user some rows only.';

-- Values of the row filter as the business spells them; ET035 for one that does not exist, or for another attribute than the declared one.
CREATE OR REPLACE FUNCTION etl._row_filter_values(p_values text[], p_attribute text)
RETURNS text[]
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_row_filter_values$
DECLARE
    r_filter etl.row_filter;
    v_value text;
    v_known text;
    v_found text[] := ARRAY[]::text[];
BEGIN
    SELECT *
    INTO r_filter
    FROM etl.row_filter;
    IF p_attribute <> coalesce(r_filter.attribute, '') THEN
        RAISE EXCEPTION 'rows cannot be chosen by "%"', p_attribute
            USING ERRCODE = 'ET035', HINT = coalesce(
                format('The row filter is "%s".', r_filter.attribute),
                'This business has no row filter: declare one with etl.define_row_filter().'
            );
    END IF;
    FOREACH v_value IN ARRAY coalesce(p_values, '{}')
    LOOP
        v_known := CASE WHEN btrim(v_value) IN ('*', '??') THEN btrim(v_value) END;
        IF v_known IS NULL AND r_filter.attribute IS NOT NULL THEN
            EXECUTE format(
                'SELECT k.%1$I::text FROM %2$s AS k WHERE lower(k.%1$I::text) = lower(btrim($1)) ORDER BY k.%1$I::text <> btrim($1) LIMIT 1',
                r_filter.value_column, r_filter.value_relation
            ) INTO v_known USING v_value;
        END IF;
        IF v_known IS NULL THEN
            RAISE EXCEPTION '% "%" does not exist', coalesce(r_filter.attribute, 'row filter for value'), v_value
                USING ERRCODE = 'ET035', HINT = coalesce(
                    format('SELECT %I FROM %s lists the values; * is all rows.', r_filter.value_column, r_filter.value_relation),
                    'Declare the attribute with etl.define_row_filter(), or name * for all rows.'
                );
        END IF;
        v_found := v_found || v_known;
    END LOOP;
    RETURN ARRAY(SELECT DISTINCT f.value FROM unnest(v_found) AS f (value) ORDER BY 1);
END
$_row_filter_values$;

CREATE OR REPLACE VIEW etl.visible_value AS
SELECT a.value
FROM etl.row_access AS a
-- The role of the session, and not current_user: on a cluster, a routine with the privileges of the owner reads this view.
CROSS JOIN (SELECT CASE current_setting('role') WHEN 'none' THEN session_user ELSE current_setting('role')::name END) AS u (login)
WHERE a.login = u.login
    AND a.role_id = to_regrole(quote_ident(u.login));
COMMENT ON VIEW etl.visible_value IS 'Values of the row filter that the user of the session sees; * is all rows. For the queries of etl.published_view.';
COMMENT ON COLUMN etl.visible_value.value IS 'Value; * for all rows, ?? for rows without a known value.';
