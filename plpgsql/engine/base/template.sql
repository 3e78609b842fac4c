-- Templates of compiled SQL. A template is ordinary SQL with named placeholders for what differs between objects. A placeholder names a text or
-- a list of columns, and shows how to write the list:
--
--     {{key}}                        order_id, line_number
--     {{k.key}}                      k.order_id, k.line_number
--     {{, k.key}}                    the same after a comma; nothing where the list is empty
--     {{k.key = v.key}}              k.order_id = v.order_id AND k.line_number = v.line_number
--     {{f.columns <> w.columns}}     record_image_ne(ROW(f.amount), ROW(w.amount))
--     {{columns := w.columns}}       amount = w.amount
--
-- Where a table of the coordinator may meet one that is spread over nodes, it stands in a subquery, as in "FROM (SELECT * FROM etl.quarantine) AS q",
-- which a cluster reads first. On one server the planner merges it into the statement.
--
-- Keys are compared by the equality operator of their type, as in the source. All other columns are compared by their stored image: values
-- that are equal but not identical differ (30 days and 1 month, 1.0 and 1.00, Smith and smith in citext), and a type needs no equality
-- operator.

-- One placeholder of a template, written out. p_indent are the blanks before the line that it stands in.
CREATE OR REPLACE FUNCTION etl._render_placeholder(p_placeholder text, p_values jsonb, p_indent text)
RETURNS text
LANGUAGE plpgsql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_render_placeholder$
DECLARE
    v_parts text[] := regexp_match(p_placeholder, '^(, )?(?:(\w+)\.)?(\w+)(?: (=|<>|:=) (?:(\w+)\.)?(\w+))?$');
    v_left name[];
    v_right name[];
    v_text text;
    v_separator text := CASE WHEN v_parts[4] = '=' THEN ' AND ' ELSE ', ' END;
BEGIN
    IF v_parts IS NULL OR p_values -> v_parts[3] IS NULL OR (v_parts[6] IS NOT NULL AND p_values -> v_parts[6] IS NULL) THEN
        RAISE EXCEPTION 'template has no value for placeholder "%"', p_placeholder
            USING ERRCODE = 'ET050', HINT = 'This is a bug in the engine: please report it.';
    END IF;
    IF jsonb_typeof(p_values -> v_parts[3]) <> 'array' THEN
        RETURN replace(p_values ->> v_parts[3], E'\n', E'\n' || p_indent);
    END IF;

    v_left := ARRAY(SELECT jsonb_array_elements_text(p_values -> v_parts[3]));
    v_right := ARRAY(SELECT jsonb_array_elements_text(p_values -> v_parts[6]));
    IF cardinality(v_left) = 0 THEN
        RETURN CASE v_parts[4] WHEN '=' THEN 'true' WHEN '<>' THEN 'false' ELSE '' END;
    END IF;
    IF v_parts[4] = '<>' THEN
        -- The function of the operator *<>, which would compare two bare ROWs column by column. A domain is compared as its base type, char(n) without
        -- its padding.
        SELECT format(
            'record_image_ne(ROW(%s), ROW(%s))',
            string_agg(concat(v_parts[2] || '.', quote_ident(l.name), '::' || (p_values -> 'casts' ->> l.name::text)), ', ' ORDER BY l.position),
            string_agg(concat(v_parts[5] || '.', quote_ident(r.name), '::' || (p_values -> 'casts' ->> r.name::text)), ', ' ORDER BY r.position)
        )
        INTO v_text
        FROM unnest(v_left) WITH ORDINALITY AS l (name, position)
        JOIN unnest(v_right) WITH ORDINALITY AS r (name, position) USING (position);
        RETURN CASE WHEN length(v_text) > 100 THEN replace(v_text, '), ROW(', E'),\n' || p_indent || '    ROW(') ELSE v_text END;
    END IF;
    SELECT string_agg(
        concat(v_parts[2] || '.', quote_ident(l.name), ' ' || CASE v_parts[4] WHEN ':=' THEN '=' ELSE v_parts[4] END || ' ', v_parts[5] || '.', quote_ident(r.name)),
        v_separator ORDER BY l.position
    )
    INTO v_text
    FROM unnest(v_left) WITH ORDINALITY AS l (name, position)
    LEFT JOIN unnest(v_right) WITH ORDINALITY AS r (name, position) USING (position);
    IF v_parts[4] = ':=' OR length(v_text) > 100 THEN
        -- One line per assignment, and per column of a long list.
        v_text := replace(v_text, v_separator, rtrim(v_separator) || E'\n' || p_indent || '    ');
    END IF;
    RETURN coalesce(v_parts[1], '') || v_text;
END
$_render_placeholder$;

-- Writes a template out. In p_values a string is SQL text, an array a list of column names; "casts", where given, has the types in which columns are
-- compared. A placeholder's further lines are indented like the line that it stands in. ET050 when a placeholder is malformed, or names nothing that
-- p_values has.
CREATE OR REPLACE FUNCTION etl._render(p_template text, p_values jsonb)
RETURNS text
LANGUAGE plpgsql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_render$
DECLARE
    v_parts text[] := regexp_split_to_array(p_template, '\{\{|\}\}');
    v_text text := v_parts[1];
BEGIN
    FOR v_number IN 2..cardinality(v_parts) BY 2
    LOOP
        v_text := v_text
            || etl._render_placeholder(v_parts[v_number], p_values, substring(split_part(v_text, E'\n', -1) FROM '^ *'))
            || v_parts[v_number + 1];
    END LOOP;
    RETURN v_text;
END
$_render$;
