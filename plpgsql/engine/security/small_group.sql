-- Small groups: a count of fewer people than the setting small_group is not told to people who may not see personal data.
--
-- Which objects count people follows from the catalog. An aggregate that is grouped by the key of a dimension with personal data
-- (etl.personal_object) holds a row per person. A view or routine that reads such an aggregate and is open to people counts persons: it must
-- pass the counts to etl.suppress_small(). etl.permission_gap lists those that do not.

/*
A number of people, or NULL if it is not zero but smaller than the setting small_group.
Parameters: p_people, number of different people.
Returns:    the number; NULL for a small group.
*/
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

CREATE OR REPLACE VIEW etl.people_counter AS
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
counter AS (
    SELECT DISTINCT c.relnamespace AS schema_id, c.relname AS object_name, pg_get_viewdef(c.oid) AS definition
    FROM per_person AS p
    JOIN pg_depend AS d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = p.relation AND d.classid = 'pg_rewrite'::regclass
    JOIN pg_rewrite AS w ON w.oid = d.objid
    JOIN pg_class AS c ON c.oid = w.ev_class
    UNION
    -- PostgreSQL does not record what a routine reads.
    SELECT r.pronamespace, r.proname, coalesce(pg_get_function_sqlbody(r.oid), r.prosrc)
    FROM per_person AS p
    JOIN pg_proc AS r ON position(p.name IN coalesce(pg_get_function_sqlbody(r.oid), r.prosrc)) > 0
)
SELECT s.schema_name, c.object_name, position('etl.suppress_small(' IN c.definition) > 0 AS is_protected
FROM counter AS c
JOIN pg_namespace AS n ON n.oid = c.schema_id
JOIN etl.access_schema AS s ON s.schema_name = n.nspname
WHERE EXISTS (
    SELECT
    FROM etl.permission AS m
    JOIN etl.access_level AS l USING (level)
    WHERE m.schema_name = s.schema_name
        AND m.object_kind IN ('relation', 'routine')
        AND c.object_name LIKE replace(replace(m.object_name, '_', '\_'), '*', '%')
        AND cardinality(m.privileges) > 0
        AND l.is_for_people
        -- Levels that read the stars see the people themselves.
        AND NOT EXISTS (SELECT FROM etl.permission AS o
            WHERE o.level = m.level AND o.object_kind = 'schema' AND o.schema_name = 'dwh')
)
    -- Schema analysis has the rows of people under pseudonyms.
    AND s.schema_name <> 'analysis';
COMMENT ON VIEW etl.people_counter IS 'Views and routines that count people and are open to levels that do not see the people themselves.';
COMMENT ON COLUMN etl.people_counter.schema_name IS 'Schema.';
COMMENT ON COLUMN etl.people_counter.object_name IS 'View or routine that reads an aggregate with a row per person.';
COMMENT ON COLUMN etl.people_counter.is_protected IS 'Whether it calls etl.suppress_small().';
