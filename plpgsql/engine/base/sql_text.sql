-- Building blocks of generated SQL. Statements differ between objects only in their lists of columns. These functions write the lists and
-- quote every name.

-- Columns as SQL text, each written by a format (%1$I is the quoted name), joined by a separator.
CREATE OR REPLACE FUNCTION etl._list(p_columns name[], p_format text DEFAULT '%1$I', p_separator text DEFAULT ', ')
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_list$
    SELECT coalesce(string_agg(format(p_format, c.name), p_separator ORDER BY c.position), '')
    FROM unnest(p_columns) WITH ORDINALITY AS c (name, position)
$_list$;

-- Positions of columns that a SELECT begins with, for its GROUP BY and ORDER BY.
CREATE OR REPLACE FUNCTION etl._positions(p_columns name[])
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_positions$
    SELECT string_agg(c.position::text, ', ' ORDER BY c.position)
    FROM generate_subscripts(p_columns, 1) AS c (position)
$_positions$;

-- Condition that two rows (their aliases) agree in the columns, none of them NULL.
CREATE OR REPLACE FUNCTION etl._match(p_columns name[], p_left text, p_right text)
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_match$
    SELECT etl._list(p_columns, p_left || '.%1$I = ' || p_right || '.%1$I', ' AND ')
$_match$;

-- Condition that columns of two rows agree pair by pair.
CREATE OR REPLACE FUNCTION etl._match_pairs(p_left_columns name[], p_left text, p_right_columns name[], p_right text)
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_match_pairs$
    SELECT string_agg(format('%s.%I = %s.%I', p_left, l.name, p_right, r.name), ' AND ' ORDER BY l.position)
    FROM unnest(p_left_columns) WITH ORDINALITY AS l (name, position)
    JOIN unnest(p_right_columns) WITH ORDINALITY AS r (name, position) USING (position)
$_match_pairs$;

-- Expression that packs a business key into jsonb: names, alias of the row, its columns where they are named
-- otherwise.
CREATE OR REPLACE FUNCTION etl._json_key(p_names name[], p_alias text, p_columns name[] DEFAULT NULL)
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_json_key$
    SELECT format('jsonb_build_object(%s)', string_agg(format('%L, %s.%I', n.name, p_alias, c.name), ', ' ORDER BY n.position))
    FROM unnest(p_names) WITH ORDINALITY AS n (name, position)
    JOIN unnest(coalesce(p_columns, p_names)) WITH ORDINALITY AS c (name, position) USING (position)
$_json_key$;

-- Condition that the key of row p_alias has no value: a column is NULL, or the JSON null, which a key that is stored as JSON cannot tell from NULL.
-- The types are those of p_table.
CREATE OR REPLACE FUNCTION etl._no_key_condition(p_key name[], p_alias text, p_table regclass)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_no_key_condition$
    SELECT string_agg(
        format(CASE WHEN t.typbasetype <> 0 AND t.typbasetype = 'jsonb'::regtype OR t.oid = 'jsonb'::regtype THEN '%1$s.%2$I IS NULL OR %1$s.%2$I = ''null''' ELSE '%1$s.%2$I IS NULL' END, p_alias, c.name),
        ' OR ' ORDER BY c.position
    )
    FROM unnest(p_key) WITH ORDINALITY AS c (name, position)
    JOIN pg_attribute AS a ON a.attrelid = p_table AND a.attname = c.name
    JOIN pg_type AS t ON t.oid = a.atttypid
$_no_key_condition$;

-- Condition that the key of a row does not fit into an index entry, which holds 2,704 bytes with its header. Parameters as of etl._no_key_condition.
CREATE OR REPLACE FUNCTION etl._long_key_condition(p_key name[], p_alias text, p_table regclass)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_long_key_condition$
    SELECT CASE
        WHEN bool_or(a.attlen = -1) THEN format('pg_column_size(ROW(%s)) > 2700', string_agg(format('%s.%I', p_alias, c.name), ', ' ORDER BY c.position))
        ELSE 'false'
    END
    FROM unnest(p_key) WITH ORDINALITY AS c (name, position)
    JOIN pg_attribute AS a ON a.attrelid = p_table AND a.attname = c.name
$_long_key_condition$;

-- Columns of a relation in their order.
CREATE OR REPLACE FUNCTION etl._columns(p_relation regclass)
RETURNS name[]
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_columns$
    SELECT coalesce(array_agg(a.attname ORDER BY a.attnum), '{}')
    FROM pg_attribute AS a
    WHERE a.attrelid = p_relation
        AND a.attnum > 0
        AND NOT a.attisdropped
$_columns$;

-- SQL type of a column, NULL where there is none of that name.
CREATE OR REPLACE FUNCTION etl._column_type(p_relation regclass, p_column name)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_column_type$
    SELECT format_type(a.atttypid, a.atttypmod)
    FROM pg_attribute AS a
    WHERE a.attrelid = p_relation
        AND a.attname = p_column
        AND NOT a.attisdropped
$_column_type$;

-- The columns without some of them.
CREATE OR REPLACE FUNCTION etl._without(p_columns name[], p_removed name[])
RETURNS name[]
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_without$
    SELECT coalesce(array_agg(c.name ORDER BY c.position), '{}')
    FROM unnest(p_columns) WITH ORDINALITY AS c (name, position)
    WHERE c.name <> ALL (p_removed)
$_without$;

-- Expressions that unpack a business key from jsonb, in the types of a relation.
CREATE OR REPLACE FUNCTION etl._from_json(p_columns name[], p_key text, p_relation regclass)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_from_json$
    SELECT string_agg(format('(jsonb_populate_record(NULL::%s, %s)).%I', p_relation, p_key, c.name), ', ' ORDER BY c.position)
    FROM unnest(p_columns) WITH ORDINALITY AS c (name, position)
$_from_json$;
