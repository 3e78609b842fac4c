-- Temporary relations: a routine with the rights of its owner must not use a relation that another role has put in its place.

/*
Refuses temporary relations of the session that are not its own role's. A routine that works with its owner's rights and reads temporary
tables would otherwise execute what its caller has put into a view of that name.
Parameters: p_pattern, LIKE pattern of the names.
Errors:     ET039.
*/
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
COMMENT ON FUNCTION etl._refuse_foreign_temporary(text) IS 'Refuses temporary relations that are not the role''s own (ET039).';
