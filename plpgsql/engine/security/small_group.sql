-- People in figures: a count of fewer people than the setting small_group is not shown to levels that do not see the people themselves, and
-- nothing that such a level reads is made of personal data.
--
-- Which objects are about people follows from the catalog. An aggregate that is grouped by the key of a dimension with personal data
-- (etl.personal_object) holds a row per person; a view or routine that reads it counts people, and must pass the counts to etl.suppress_small().
-- A view that reads a column of etl.personal_column shows personal data. etl.permission_gap lists objects that break these rules.

CREATE OR REPLACE FUNCTION etl.suppress_small(p_people bigint)
RETURNS bigint
LANGUAGE sql
STABLE
PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $suppress_small$
    SELECT CASE WHEN p_people = 0 OR p_people >= etl.get_setting('small_group')::bigint THEN p_people END
$suppress_small$;
COMMENT ON FUNCTION etl.suppress_small(bigint) IS 'A number of people; NULL for a group that is smaller than the setting small_group.';

CREATE OR REPLACE VIEW etl.people_reader AS
WITH per_person AS (
    SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS name
    FROM etl.aggregate AS a
    JOIN pg_class AS c ON c.oid = a.aggregate_table
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE EXISTS (
        SELECT
        FROM etl.personal_object AS o
        JOIN etl.dimension AS d ON d.dimension = o.object
        WHERE a.group_key && (o.key_columns || d.surrogate_key)
    )
),
view_read AS (
    SELECT d.refobjid AS origin, d.refobjsubid AS column_number, v.oid AS view_id, v.relnamespace AS schema_id, v.relname AS view_name
    FROM pg_depend AS d
    JOIN pg_rewrite AS w ON w.oid = d.objid
    JOIN pg_class AS v ON v.oid = w.ev_class AND v.oid <> d.refobjid
    WHERE d.classid = 'pg_rewrite'::regclass
        AND d.refclassid = 'pg_class'::regclass
),
reader (schema_id, object_name, reads, is_protected) AS (
    SELECT v.schema_id, v.view_name, 'people', position('etl.suppress_small(' IN pg_get_viewdef(v.view_id)) > 0
    FROM per_person AS p
    JOIN view_read AS v ON v.origin = p.relation
    UNION
    -- PostgreSQL does not record what a routine reads.
    SELECT r.pronamespace, r.proname, 'people', position('etl.suppress_small(' IN b.body) > 0
    FROM pg_proc AS r
    CROSS JOIN LATERAL coalesce(pg_get_function_sqlbody(r.oid), r.prosrc) AS b (body)
    JOIN per_person AS p ON position(p.name IN b.body) > 0
    UNION
    -- A source table or dimension has its name in every layer.
    SELECT v.schema_id, v.view_name, 'personal data', false
    FROM etl.personal_column AS p
    JOIN pg_class AS c ON c.relname = p.object
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = p.column_name
    JOIN view_read AS v ON v.origin = c.oid AND v.column_number = a.attnum
)
SELECT s.schema_name, r.object_name, r.reads, r.is_protected
FROM reader AS r
JOIN pg_namespace AS n ON n.oid = r.schema_id
JOIN etl.access_schema AS s ON s.schema_name = n.nspname
WHERE EXISTS (
    SELECT
    FROM etl.permission AS m
    JOIN etl.access_level AS l USING (level)
    WHERE m.schema_name = s.schema_name
        AND m.object_kind IN ('relation', 'routine')
        AND r.object_name LIKE replace(replace(m.object_name, '_', '\_'), '*', '%')
        AND cardinality(m.privileges) > 0
        AND l.is_for_people
        -- A level that may use the stars sees the people themselves.
        AND NOT EXISTS (SELECT FROM etl.permission AS o
            WHERE o.level = m.level AND o.object_kind = 'schema' AND o.schema_name = 'dwh')
)
    -- etl.publish() masks personal data, and gives the rows of people pseudonyms.
    AND NOT (s.schema_name = 'analysis' AND EXISTS (SELECT FROM etl.published_view AS p
        WHERE p.view_name = r.object_name));
COMMENT ON VIEW etl.people_reader IS 'Views and routines that are about people and open to levels that do not see the people themselves.';
COMMENT ON COLUMN etl.people_reader.schema_name IS 'Schema.';
COMMENT ON COLUMN etl.people_reader.object_name IS 'View or routine.';
COMMENT ON COLUMN etl.people_reader.reads IS 'people: it reads an aggregate with a row per person. personal data: it reads a column of etl.personal_column.';
COMMENT ON COLUMN etl.people_reader.is_protected IS 'Whether it calls etl.suppress_small().';
