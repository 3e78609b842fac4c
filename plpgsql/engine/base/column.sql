-- Columns of tables and views: which of them a load writes, and the types in which their values are held and compared.

-- Type of a column with its modifier; of a domain, the type that it stands on.
CREATE OR REPLACE FUNCTION etl._base_type(p_relation regclass, p_column name)
RETURNS TABLE (type_oid oid, type_modifier integer)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_base_type$
    WITH RECURSIVE base (type_oid, type_modifier, base_oid, base_modifier) AS (
        SELECT a.atttypid, a.atttypmod, t.typbasetype, t.typtypmod
        FROM pg_attribute AS a
        JOIN pg_type AS t ON t.oid = a.atttypid
        WHERE a.attrelid = p_relation
            AND a.attname = p_column
            AND NOT a.attisdropped
        UNION ALL
        SELECT b.base_oid, CASE WHEN b.type_modifier = -1 THEN b.base_modifier ELSE b.type_modifier END, t.typbasetype, t.typtypmod
        FROM base AS b
        JOIN pg_type AS t ON t.oid = b.base_oid
        WHERE b.base_oid <> 0
    )
    SELECT b.type_oid, b.type_modifier
    FROM base AS b
    WHERE b.base_oid = 0
$_base_type$;

-- Type in which a column is held in the tables that the engine makes for itself. For a domain it is the base type: the constraints of a domain are
-- checked in the target table.
CREATE OR REPLACE FUNCTION etl._held_type(p_relation regclass, p_column name)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off
AS $_held_type$
    SELECT format_type(b.type_oid, b.type_modifier)
    FROM etl._base_type(p_relation, p_column) AS b
$_held_type$;

-- Type to which values are cast before they are compared with a column. It has no length, because a cast to one would truncate the value instead of
-- refusing it. For char(n) it is text, so that padding does not count.
CREATE OR REPLACE FUNCTION etl._compared_type(p_relation regclass, p_column name)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off
AS $_compared_type$
    SELECT CASE b.type_oid::regtype
        WHEN 'bpchar'::regtype THEN 'text'
        WHEN 'varchar'::regtype THEN 'character varying'
        WHEN 'bit'::regtype THEN 'bit varying'
        WHEN 'varbit'::regtype THEN 'bit varying'
        ELSE format_type(b.type_oid, b.type_modifier)
    END
    FROM etl._base_type(p_relation, p_column) AS b
$_compared_type$;

-- Casts for the columns of a table whose stored images cannot be compared directly: domains, char(n) and bit(n). An object of column names and types,
-- for "casts" of etl._render.
CREATE OR REPLACE FUNCTION etl._casts(p_relation regclass)
RETURNS jsonb
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_casts$
    SELECT coalesce(jsonb_object_agg(a.attname, etl._compared_type(p_relation, a.attname)), '{}')
    FROM pg_attribute AS a
    JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE a.attrelid = p_relation
        AND a.attnum > 0
        AND NOT a.attisdropped
        AND (t.typtype = 'd' OR t.typname IN ('bpchar', 'bit'))
$_casts$;

-- Casts an expression, which has the type of p_source.p_column, to the type in which that column of p_table is compared; not if it has that type
-- already: the role that runs the loads may lack privileges on the schema of the type.
CREATE OR REPLACE FUNCTION etl._cast(p_expression text, p_source regclass, p_column name, p_table regclass)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_cast$
    SELECT CASE
        WHEN s.atttypid = b.type_oid AND (s.atttypmod = b.type_modifier OR etl._compared_type(p_table, p_column) = format_type(b.type_oid, NULL))
            AND b.type_oid NOT IN ('bpchar'::regtype, 'bit'::regtype)
            THEN p_expression
        ELSE format('%s::%s', p_expression, etl._compared_type(p_table, p_column))
    END
    FROM etl._base_type(p_table, p_column) AS b
    LEFT JOIN pg_attribute AS s ON s.attrelid = p_source AND s.attname = p_column
$_cast$;

-- Columns of row p_alias of p_source for a SELECT, each after a comma and in the type in which p_table's column of that name is compared.
CREATE OR REPLACE FUNCTION etl._cast_list(p_columns name[], p_alias text, p_source regclass, p_table regclass)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_cast_list$
    SELECT coalesce(string_agg(
        format(E',\n%s AS %I', etl._cast(p_alias || '.' || quote_ident(c.name), p_source, c.name, p_table), c.name), '' ORDER BY c.position
    ), '')
    FROM unnest(p_columns) WITH ORDINALITY AS c (name, position)
$_cast_list$;

-- Columns of a table that a load writes: not those that PostgreSQL generates.
CREATE OR REPLACE FUNCTION etl._writable_columns(p_table regclass)
RETURNS name[]
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_writable_columns$
    SELECT coalesce(array_agg(a.attname ORDER BY a.attnum), '{}')
    FROM pg_attribute AS a
    WHERE a.attrelid = p_table
        AND a.attnum > 0
        AND NOT a.attisdropped
        AND a.attgenerated = ''
        AND a.attidentity <> 'a'
$_writable_columns$;

-- Columns of a SELECT, each NULL in the type in which p_table's column is held: the shape of an engine table that holds rows of p_table.
CREATE OR REPLACE FUNCTION etl._shape(p_table regclass, p_columns name[])
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_shape$
    SELECT string_agg(
        format('NULL::%s%s AS %I', etl._held_type(p_table, c.name), CASE WHEN a.attcollation <> t.typcollation THEN ' COLLATE ' || a.attcollation::regcollation END, c.name),
        ', ' ORDER BY c.position
    )
    FROM unnest(p_columns) WITH ORDINALITY AS c (name, position)
    JOIN pg_attribute AS a ON a.attrelid = p_table AND a.attname = c.name
    JOIN pg_type AS t ON t.oid = a.atttypid
$_shape$;

-- What a measure of a deleted row is: ELSE branch of a CASE, empty for NULL.
CREATE OR REPLACE FUNCTION etl._measure_default(p_table regclass, p_measure name)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_measure_default$
    SELECT CASE
        WHEN NOT a.attnotnull THEN ''
        WHEN b.type_oid = 'boolean'::regtype THEN ' ELSE false'
        ELSE ' ELSE ''0'''
    END
    FROM pg_attribute AS a
    CROSS JOIN etl._base_type(p_table, p_measure) AS b
    WHERE a.attrelid = p_table
        AND a.attname = p_measure
$_measure_default$;
