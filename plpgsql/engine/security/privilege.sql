-- Permissions as the catalog declares them, compared with those that are granted. Only differences are granted or revoked.

-- Privileges that the catalog gives; column number 0 is the object itself. A reader of a view needs the right to execute the functions in it,
-- although the view reads its tables with the rights of its owner.
CREATE OR REPLACE FUNCTION etl._wanted_privileges()
RETURNS TABLE (object_id oid, column_number smallint, role_id oid, privilege text)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_wanted_privileges$
    WITH RECURSIVE declared AS MATERIALIZED (
        SELECT o.object_kind, o.object_id, p.column_names, r.oid AS role_id, v.privilege
        FROM etl.permission AS p
        JOIN etl.access_level AS l USING (level)
        JOIN pg_roles AS r ON r.rolname = l.role_name
        JOIN etl.access_object AS o ON o.object_kind = p.object_kind
            AND o.schema_name = p.schema_name
            AND o.object_name LIKE replace(replace(p.object_name, '_', '\_'), '*', '%')
            AND o.owner_id <> r.oid
            AND NOT o.is_part
        CROSS JOIN LATERAL unnest(p.privileges) AS v (privilege)
    ),
    part AS MATERIALIZED (
        SELECT DISTINCT w.ev_class AS view_id, d.refclassid, d.refobjid
        FROM pg_rewrite AS w
        JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
        WHERE d.refobjid <> w.ev_class
            AND d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass)
    ),
    read (relation_id, role_id) AS (
        SELECT d.object_id, d.role_id
        FROM declared AS d
        WHERE d.object_kind = 'relation'
            AND d.privilege = 'SELECT'
        UNION
        SELECT p.refobjid, r.role_id
        FROM read AS r
        JOIN part AS p ON p.view_id = r.relation_id AND p.refclassid = 'pg_class'::regclass
    )
    SELECT d.object_id, coalesce(a.attnum, 0::smallint), d.role_id, d.privilege
    FROM declared AS d
    LEFT JOIN pg_attribute AS a ON a.attrelid = d.object_id AND a.attname = ANY (d.column_names) AND d.column_names IS NOT NULL
    WHERE d.column_names IS NULL
        OR a.attnum IS NOT NULL
    UNION
    SELECT o.object_id, 0::smallint, r.role_id, 'EXECUTE'
    FROM read AS r
    JOIN part AS p ON p.view_id = r.relation_id AND p.refclassid = 'pg_proc'::regclass
    JOIN etl.access_object AS o ON o.object_id = p.refobjid AND o.object_kind = 'routine' AND o.owner_id <> r.role_id
$_wanted_privileges$;

-- Privileges that the levels and PUBLIC (role 0) have; column number 0 is the object itself.
CREATE OR REPLACE FUNCTION etl._present_privileges()
RETURNS TABLE (object_id oid, column_number smallint, role_id oid, privilege text)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_present_privileges$
    SELECT o.object_id, 0::smallint, g.grantee, g.privilege_type
    FROM etl.access_object AS o
    CROSS JOIN LATERAL aclexplode(o.acl) AS g
    WHERE g.grantee <> o.owner_id
        AND (g.grantee = 0 OR pg_get_userbyid(g.grantee) IN (SELECT l.role_name FROM etl.access_level AS l))
    UNION
    SELECT o.object_id, a.attnum, g.grantee, g.privilege_type
    FROM etl.access_object AS o
    JOIN pg_attribute AS a ON a.attrelid = o.object_id AND a.attacl IS NOT NULL AND NOT a.attisdropped
    CROSS JOIN LATERAL aclexplode(a.attacl) AS g
    WHERE o.object_kind = 'relation'
        AND g.grantee <> o.owner_id
        AND (g.grantee = 0 OR pg_get_userbyid(g.grantee) IN (SELECT l.role_name FROM etl.access_level AS l))
$_present_privileges$;

-- Gives the objects of the schemas to their declared owners (ET030 when an owner's role is missing); returns their number. CREATE OR REPLACE keeps
-- owner and permissions; a new object belongs to the role that created it until this function is called.
CREATE OR REPLACE FUNCTION etl._hand_over()
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_hand_over$
DECLARE
    v_role name;
    v_statements text[];
BEGIN
    SELECT l.role_name
    INTO v_role
    FROM etl.access_level AS l
    WHERE NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = l.role_name)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'role "%" does not exist', v_role
            USING ERRCODE = 'ET030', HINT = format('Execute: CREATE ROLE %I NOLOGIN; then run: oceanrecords migrate', v_role);
    END IF;

    -- Collect all statements first: an object that the query still reads cannot be altered. Schemas come first, because the new owner of an
    -- object needs the right to create in its schema.
    SELECT array_agg(format('ALTER %s %s OWNER TO %I', c.keyword, c.identity, c.role_name) ORDER BY c.step)
    INTO v_statements
    FROM (
        SELECT o.keyword, o.identity, l.role_name, CASE o.object_kind WHEN 'schema' THEN 1 ELSE 2 END AS step
        FROM etl.access_object AS o
        JOIN etl.access_schema AS s USING (schema_name)
        JOIN etl.access_level AS l ON l.level = s.owner_level
        JOIN pg_roles AS r ON r.rolname = l.role_name
        WHERE o.owner_id <> r.oid
            AND NOT o.is_part
            AND o.object_kind <> 'extension'
        UNION ALL
        SELECT 'TYPE', format('%I.%I', n.nspname, t.typname), l.role_name, 3
        FROM pg_type AS t
        JOIN pg_namespace AS n ON n.oid = t.typnamespace
        JOIN etl.access_schema AS s ON s.schema_name = n.nspname
        JOIN etl.access_level AS l ON l.level = s.owner_level
        JOIN pg_roles AS r ON r.rolname = l.role_name
        LEFT JOIN pg_class AS c ON c.oid = t.typrelid
        WHERE t.typowner <> r.oid
            AND t.typtype IN ('c', 'd', 'e', 'r')
            AND coalesce(c.relkind, 'c') = 'c'
            AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')
    ) AS c (keyword, identity, role_name, step);
    RETURN etl._execute(v_statements);
END
$_hand_over$;

-- Grants what is declared and missing, or revokes what is granted and not declared, on objects or on columns; returns the number of privileges. The
-- database and routines of extensions stay as they are unless the caller owns them.
CREATE OR REPLACE FUNCTION etl._change_privileges(p_verb text, p_of_columns boolean)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_change_privileges$
DECLARE
    r_change record;
    v_count bigint := 0;
BEGIN
    FOR r_change IN
        WITH wanted AS MATERIALIZED (
            SELECT * FROM etl._wanted_privileges()
        ),
        present AS MATERIALIZED (
            SELECT * FROM etl._present_privileges()
        ),
        change AS (
            (SELECT * FROM wanted WHERE p_verb = 'GRANT'
            UNION ALL
            SELECT * FROM present WHERE p_verb = 'REVOKE')
            EXCEPT
            (SELECT * FROM present WHERE p_verb = 'GRANT'
            UNION ALL
            SELECT * FROM wanted WHERE p_verb = 'REVOKE')
        )
        SELECT
            format(
                '%s %s%s ON %s %s %s %s',
                p_verb, c.privilege, c.columns,
                o.keyword,
                string_agg(o.identity, ', ' ORDER BY o.identity),
                CASE p_verb WHEN 'GRANT' THEN 'TO' ELSE 'FROM' END,
                CASE c.role_id WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(c.role_id)) END
            ) AS statement,
            sum(c.privilege_count) AS privilege_count
        FROM (
            SELECT
                h.object_id,
                h.role_id,
                h.privilege,
                coalesce(' (' || string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) || ')', '') AS columns,
                count(*) AS privilege_count
            FROM change AS h
            LEFT JOIN pg_attribute AS a ON a.attrelid = h.object_id AND a.attnum = h.column_number AND h.column_number > 0
            WHERE (h.column_number > 0) = p_of_columns
            GROUP BY h.object_id, h.role_id, h.privilege
        ) AS c
        JOIN etl.access_object AS o ON o.object_id = c.object_id
        WHERE o.object_kind NOT IN ('database', 'extension')
            OR pg_has_role(o.owner_id, 'USAGE')
        GROUP BY c.role_id, c.privilege, c.columns, o.keyword
        ORDER BY 1
    LOOP
        EXECUTE r_change.statement;
        v_count := v_count + r_change.privilege_count;
    END LOOP;
    RETURN v_count;
END
$_change_privileges$;

-- Gives new objects to their owner and grants what the catalog declares, so that a run can use them. Revokes nothing: during an installation, the
-- catalog of permissions may still be that of the previous version. Does nothing if no level is declared.
CREATE OR REPLACE FUNCTION etl._hand_over_built()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_hand_over_built$
BEGIN
    IF EXISTS (SELECT FROM etl.access_schema AS s WHERE s.owner_level IS NOT NULL) THEN
        PERFORM etl._hand_over();
        PERFORM etl._change_privileges('GRANT', p_of_columns => false);
    END IF;
END
$_hand_over_built$;
