-- Users: logins, their levels and the rows that they see. In psql:
--
--     CALL etl.add_user('ana', '{analyst}');
--     \password ana
--     CALL etl.set_user_rows('ana', '{DE,AT}');
--
-- A password never reaches the server: psql's \password and the command line send a SCRAM verifier.
--
-- Managing users needs CREATEROLE, which no level gives: the caller is the migrating role or a superuser. The procedures have the rights of their
-- caller. A membership comes without ADMIN OPTION, and from PostgreSQL 16 on without SET.
--
-- Errors: ET032 the caller may not manage users, ET033 the caller's own permissions, ET034 a name or verifier is not allowed, ET035 a user, level,
-- attribute or value does not exist, ET036 the level is not for people, ET037 the user owns objects, ET043 a session does not end.

CREATE OR REPLACE VIEW etl.user_status AS
WITH member AS (
    SELECT r.rolname AS login, array_agg(l.level ORDER BY l.level) AS levels
    FROM etl.access_level AS l
    JOIN pg_roles AS g ON g.rolname = l.role_name
    JOIN pg_auth_members AS m ON m.roleid = g.oid
    JOIN pg_roles AS r ON r.oid = m.member
    GROUP BY r.rolname
)
SELECT
    coalesce(u.login, m.login) AS login,
    u.login IS NOT NULL AS is_managed,
    u.is_service,
    r.rolcanlogin AS can_log_in,
    coalesce(m.levels, '{}') AS levels,
    array(SELECT a.value FROM etl.row_access AS a
        WHERE a.login = coalesce(u.login, m.login)
            AND a.role_id = r.oid
        ORDER BY a.value) AS row_values,
    nullif(r.rolvaliduntil, 'infinity') AS valid_until,
    u.added_at,
    u.added_by
FROM etl.user_account AS u
FULL JOIN (
    SELECT n.login, n.levels
    FROM member AS n
    -- Administrators are members of the owning role, and of the roles that they created.
    JOIN pg_roles AS p ON p.rolname = n.login
    WHERE NOT p.rolsuper
        AND NOT p.rolcreaterole
) AS m ON m.login = u.login
LEFT JOIN pg_roles AS r ON r.rolname = coalesce(u.login, m.login);
COMMENT ON VIEW etl.user_status IS 'Users with their levels and the rows that they see, and other members of a level.';
COMMENT ON COLUMN etl.user_status.is_managed IS 'Whether etl.add_user added it to this warehouse.';
COMMENT ON COLUMN etl.user_status.can_log_in IS 'Whether it may log in; NULL if the server no longer has the role.';
COMMENT ON COLUMN etl.user_status.levels IS 'Levels of permission. They hold in all warehouses of the server.';
COMMENT ON COLUMN etl.user_status.row_values IS 'Rows that an analyst sees, by values of the row filter; * for all.';
COMMENT ON COLUMN etl.user_status.valid_until IS 'When the password expires; NULL for never.';

-- The verifier is as libpq's PQencryptPasswordConn makes it. p_length is the number of characters of the password, which a verifier does not show;
-- p_valid_until is when the password expires, NULL to leave that unchanged. Writes a role of the server, audit.act. ET034 also when it is not a
-- verifier, or when the password is made of the login or shorter than the setting password_length.
CREATE OR REPLACE PROCEDURE etl.set_user_password(p_login text, p_verifier text, p_length integer DEFAULT NULL, p_valid_until timestamptz DEFAULT NULL)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $set_user_password$
BEGIN
    PERFORM etl._check_user(p_login);
    IF p_verifier IS NULL OR p_verifier !~ '^SCRAM-SHA-256\$[0-9]+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]{44}:[A-Za-z0-9+/=]{44}$' THEN
        RAISE EXCEPTION 'the password of "%" is not a SCRAM verifier', p_login
            USING ERRCODE = 'ET034', HINT = 'The server may log a plain password. In psql, use \password.';
    ELSIF p_length < etl.get_setting('password_length')::integer THEN
        RAISE EXCEPTION 'the password of "%" is shorter than % characters', p_login, etl.get_setting('password_length')
            USING ERRCODE = 'ET034', HINT = 'The setting password_length is the minimum.';
    ELSIF EXISTS (
        SELECT
        FROM unnest(ARRAY[p_login, lower(p_login), upper(p_login), initcap(p_login), reverse(p_login), p_login || p_login, p_login || '1', 'password', '']) AS g (guess)
        WHERE etl._is_verifier_of(p_verifier, g.guess)
    ) THEN
        RAISE EXCEPTION 'the password of "%" can be guessed from the login', p_login
            USING ERRCODE = 'ET034', HINT = 'Choose one that is not made of the login.';
    END IF;
    IF p_valid_until IS NOT NULL THEN
        EXECUTE format('ALTER ROLE %I VALID UNTIL %L', p_login, p_valid_until);
    END IF;
    BEGIN
        EXECUTE format('ALTER ROLE %I PASSWORD %L', p_login, p_verifier);
    EXCEPTION
        WHEN OTHERS THEN
            -- Raise it without the context, which quotes the statement.
            RAISE EXCEPTION '%', SQLERRM USING ERRCODE = SQLSTATE;
    END;
    PERFORM audit.note('password set', p_login);
END
$set_user_password$;
COMMENT ON PROCEDURE etl.set_user_password(text, text, integer, timestamptz) IS 'Sets the password of a user, given as a SCRAM verifier.';

-- Writes memberships of the server, audit.act. ET032 to ET036.
CREATE OR REPLACE PROCEDURE etl.grant_level(p_login text, p_level text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $grant_level$
DECLARE
    r_level etl.access_level;
    v_is_service boolean;
BEGIN
    PERFORM etl._check_user(p_login);
    r_level := etl._check_level(p_level);
    SELECT u.is_service
    INTO STRICT v_is_service
    FROM etl.user_account AS u
    WHERE u.login = p_login;
    IF EXISTS (SELECT FROM etl.owner_role AS o WHERE o.role_name = r_level.role_name) THEN
        RAISE EXCEPTION 'access level "%" cannot be granted', p_level
            USING ERRCODE = 'ET036', DETAIL = 'It owns the warehouse.', HINT = 'A service that runs the loads needs level etl.';
    ELSIF NOT r_level.is_for_people AND NOT v_is_service THEN
        RAISE EXCEPTION 'access level "%" is not for people', p_level
            USING ERRCODE = 'ET036', DETAIL = format('The user "%s" is not a service.', p_login),
                HINT = 'Add a login for the program: p_is_service => true; --service.';
    END IF;
    IF EXISTS (
        SELECT
        FROM pg_auth_members AS m
        WHERE m.roleid = r_level.role_name::text::regrole
            AND pg_get_userbyid(m.member) = p_login
            AND m.admin_option
    ) THEN
        EXECUTE format('REVOKE ADMIN OPTION FOR %I FROM %I', r_level.role_name, p_login);
    END IF;
    EXECUTE format('GRANT %I TO %I', r_level.role_name, p_login) || CASE
        WHEN current_setting('server_version_num')::integer < 160000 THEN ''
        ELSE ' WITH ADMIN FALSE, INHERIT TRUE, SET FALSE'
    END;
    PERFORM etl._set_limits(p_login);
    PERFORM audit.note('level granted', p_login, jsonb_build_object('level', p_level));
END
$grant_level$;
COMMENT ON PROCEDURE etl.grant_level(text, text) IS 'Gives a user a level of permission.';

-- Writes memberships of the server, audit.act. ET032, ET033, ET035, ET043.
CREATE OR REPLACE PROCEDURE etl.revoke_level(p_login text, p_level text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $revoke_level$
DECLARE
    r_level etl.access_level;
BEGIN
    PERFORM etl._check_user(p_login);
    r_level := etl._check_level(p_level);
    IF etl._execute(ARRAY(
        SELECT format('REVOKE %I FROM %I', g.rolname, r.rolname) || CASE
            WHEN current_setting('server_version_num')::integer < 160000 THEN ''
            -- From PostgreSQL 16 on, each grantor makes a membership of its own.
            ELSE format(' GRANTED BY %I', pg_get_userbyid(m.grantor))
        END
        FROM pg_auth_members AS m
        JOIN pg_roles AS g ON g.oid = m.roleid AND g.rolname = r_level.role_name
        JOIN pg_roles AS r ON r.oid = m.member AND r.rolname = p_login
    )) = 0 THEN
        RAISE EXCEPTION 'user "%" does not have access level "%"', p_login, p_level
            USING ERRCODE = 'ET035', HINT = 'oceanrecords users list, or the view etl.user_status, shows the levels of each user.';
    END IF;
    PERFORM etl._set_limits(p_login);
    PERFORM etl.end_sessions(p_login);
    PERFORM audit.note('level revoked', p_login, jsonb_build_object('level', p_level));
END
$revoke_level$;
COMMENT ON PROCEDURE etl.revoke_level(text, text) IS 'Takes a level of permission from a user, and ends the sessions of that user.';

-- Trigger: an entry is for the role that has the name now, not for a later one of the same name.
CREATE OR REPLACE FUNCTION etl._sign_row_access()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_sign_row_access$
BEGIN
    NEW.role_id := coalesce((SELECT r.oid FROM pg_roles AS r WHERE r.rolname = NEW.login), 0);
    RETURN NEW;
END
$_sign_row_access$;

CREATE OR REPLACE TRIGGER sign
    BEFORE INSERT OR UPDATE ON etl.row_access
    FOR EACH ROW
    EXECUTE FUNCTION etl._sign_row_access();

-- If the user loses one, its sessions end. ?? is for rows without a known value, * for all rows, none for no row. p_attribute is the attribute that
-- the caller takes them for, NULL for whichever is declared. Writes etl.row_access, audit.act. ET032, ET033, ET035, ET043.
CREATE OR REPLACE PROCEDURE etl.set_user_rows(p_login text, p_values text[], p_attribute text DEFAULT NULL)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $set_user_rows$
DECLARE
    v_values text[] := etl._row_filter_values(p_values, p_attribute);
    v_is_narrowed boolean;
BEGIN
    PERFORM etl._check_user(p_login);
    DELETE FROM etl.row_access AS c
    WHERE c.login = p_login
        AND c.value <> ALL (v_values);
    v_is_narrowed := FOUND AND '*' <> ALL (v_values);
    INSERT INTO etl.row_access (login, value)
    SELECT p_login, n.value
    FROM unnest(v_values) AS n (value)
    ON CONFLICT (login, value) DO UPDATE
    SET granted_at = excluded.granted_at
    WHERE row_access.role_id <> (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = p_login);
    IF v_is_narrowed THEN
        PERFORM etl.end_sessions(p_login);
    END IF;
    PERFORM audit.note('rows set', p_login, jsonb_build_object('values', v_values));
END
$set_user_rows$;
COMMENT ON PROCEDURE etl.set_user_rows(text, text[], text) IS 'Sets the rows that a user sees in schema analysis, by values of the row filter.';

-- A login without any power of its own. p_is_service: a program logs in with it. p_is_existing: the server may have the login already; it keeps its
-- password unless a verifier is given, and gets only the levels named. p_valid_until is when its password expires. Writes roles of the server,
-- etl.user_account, etl.row_access, audit.act. ET032 to ET036.
CREATE OR REPLACE PROCEDURE etl.add_user(
    p_login text,
    p_levels text[] DEFAULT '{}',
    p_verifier text DEFAULT NULL,
    p_is_service boolean DEFAULT false,
    p_is_existing boolean DEFAULT false,
    p_valid_until timestamptz DEFAULT NULL
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $add_user$
DECLARE
    v_level text;
    v_existed boolean := EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = p_login);
    v_problem text;
BEGIN
    PERFORM etl._check_user(p_login, p_is_new => true);
    IF NOT v_existed THEN
        EXECUTE format('CREATE ROLE %I LOGIN INHERIT', p_login);
        DELETE FROM etl.user_account AS u
        WHERE u.login = p_login;
    ELSIF NOT p_is_existing THEN
        RAISE EXCEPTION 'role "%" already exists', p_login
            USING ERRCODE = 'ET034', HINT = 'Choose another name, or allow an existing login: p_is_existing => true; --existing.';
    END IF;
    -- A role with more power than any level cannot become a user.
    SELECT CASE
        WHEN r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls THEN 'it has rights of an administrator'
        WHEN NOT r.rolcanlogin THEN 'it is a group, which cannot log in'
        WHEN EXISTS (
            SELECT
            FROM pg_roles AS g
            WHERE (g.rolname LIKE 'pg\_%' OR g.rolsuper OR g.oid IN (SELECT o.role_id FROM etl.owner_role AS o))
                AND pg_has_role(r.oid, g.oid, 'MEMBER')
        ) THEN 'it is a member of a role with power over the server or the warehouse'
        WHEN u.is_service <> p_is_service THEN CASE WHEN p_is_service THEN 'it is a person, not a service' ELSE 'it is a service, not a person' END
    END
    INTO v_problem
    FROM pg_roles AS r
    LEFT JOIN etl.user_account AS u ON u.login = r.rolname
    WHERE r.rolname = p_login;
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION 'role "%" cannot become a user: %', p_login, v_problem
            USING ERRCODE = 'ET034', HINT = 'Choose another login, or change the role first.';
    END IF;
    INSERT INTO etl.user_account AS u (login, is_service)
    VALUES (p_login, p_is_service)
    ON CONFLICT (login) DO NOTHING;
    IF FOUND THEN
        -- Rows of an earlier user of the same name do not pass to this one.
        DELETE FROM etl.row_access AS c
        WHERE c.login = p_login;
    END IF;
    IF p_valid_until IS NOT NULL THEN
        EXECUTE format('ALTER ROLE %I VALID UNTIL %L', p_login, p_valid_until);
    END IF;
    PERFORM audit.note('user added', p_login, jsonb_build_object('is_service', p_is_service, 'existed', v_existed));
    IF p_verifier IS NOT NULL THEN
        CALL etl.set_user_password(p_login, p_verifier);
    END IF;
    FOREACH v_level IN ARRAY coalesce(p_levels, '{}')
    LOOP
        CALL etl.grant_level(p_login, v_level);
    END LOOP;
END
$add_user$;
COMMENT ON PROCEDURE etl.add_user(text, text[], text, boolean, boolean, timestamptz) IS 'Adds a user with levels of permission. Then \password, in psql, sets the password.';

-- Ends its sessions. p_drop_owned drops the objects that it owns in this database. Writes roles of the server, etl.user_account, etl.row_access,
-- audit.act. ET032, ET033, ET035, ET037 when it owns something here or in another database, ET043 when a session does not end.
CREATE OR REPLACE PROCEDURE etl.remove_user(p_login text, p_drop_owned boolean DEFAULT false)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $remove_user$
DECLARE
    v_detail text;
BEGIN
    PERFORM etl._check_user(p_login);
    DELETE FROM etl.row_access AS c
    WHERE c.login = p_login;
    DELETE FROM etl.user_account AS u
    WHERE u.login = p_login;
    IF EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = p_login) THEN
        EXECUTE format('ALTER ROLE %I NOLOGIN', p_login);
        PERFORM etl.end_sessions(p_login);
        -- What the user owns is not given to another role: code in it would gain the rights of that role.
        SELECT string_agg(pg_describe_object(d.classid, d.objid, d.objsubid), ', ')
        INTO v_detail
        FROM pg_shdepend AS d
        WHERE d.dbid = (SELECT b.oid FROM pg_database AS b WHERE b.datname = current_database())
            AND d.refclassid = 'pg_authid'::regclass
            AND d.refobjid = (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = p_login)
            AND d.deptype = 'o';
        IF v_detail IS NOT NULL AND NOT p_drop_owned THEN
            RAISE EXCEPTION 'user "%" owns objects in this database', p_login
                USING ERRCODE = 'ET037', DETAIL = v_detail, HINT = 'Give them to another role, or drop them as well: p_drop_owned => true; --drop-owned.';
        END IF;
        IF NOT pg_has_role(p_login, 'USAGE') THEN
            -- DROP OWNED needs it; the membership ends with the role.
            EXECUTE format('GRANT %I TO %I', p_login, current_user);
        END IF;
        EXECUTE format('DROP OWNED BY %I', p_login);
        BEGIN
            EXECUTE format('DROP ROLE %I', p_login);
        EXCEPTION
            WHEN dependent_objects_still_exist THEN
                GET STACKED DIAGNOSTICS v_detail = PG_EXCEPTION_DETAIL;
                RAISE EXCEPTION 'user "%" has objects or permissions in another database', p_login
                    USING ERRCODE = 'ET037', DETAIL = v_detail, HINT = format('Execute in that database: DROP OWNED BY %I; then repeat the command.', p_login);
        END;
    END IF;
    PERFORM audit.note('user removed', p_login);
END
$remove_user$;
COMMENT ON PROCEDURE etl.remove_user(text, boolean) IS 'Removes a user: no login, membership, permission, owned object or row is left.';
