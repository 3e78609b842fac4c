-- Temporary relations: a SECURITY DEFINER routine must not read a relation that its caller created under the expected name.

-- Refuses temporary relations, by a LIKE pattern, that another role owns (ET039). Otherwise a SECURITY DEFINER routine that reads a temporary table
-- could execute a view that its caller created under that name.
CREATE OR REPLACE FUNCTION etl._refuse_foreign_temporary(p_pattern text)
RETURNS void
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_refuse_foreign_temporary$
DECLARE
    v_relation text;
BEGIN
    SELECT c.relname
    INTO v_relation
    FROM pg_class AS c
    WHERE c.relnamespace = pg_my_temp_schema()
        AND c.relname LIKE p_pattern
        AND c.relowner <> (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = current_user)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the temporary relation "%" stands where the warehouse puts one of its own', v_relation
            USING ERRCODE = 'ET039', HINT = 'Drop it, or use another session.';
    END IF;
END
$_refuse_foreign_temporary$;
