-- Users: logins, their levels, their countries. The same in psql as on the command line:
--
--     CALL etl.add_user('ana', '{analyst}');
--     \password ana
--     CALL etl.set_user_countries('ana', '{DE,AT}');
--
-- A password never comes here: psql's \password and the command line make a SCRAM verifier of it on their side.
--
-- Who manages users. Making a role takes CREATEROLE, in PostgreSQL, and nobody has that by a level. So no level manages users: it takes the
-- administrator who migrates, or a superuser. These procedures work with the rights of their caller, and give nobody a right that he
-- could not have given with plain SQL. A membership is always without ADMIN OPTION, from PostgreSQL 16 on also without SET (but for
-- services of level etl), so that nobody acts under the group's name. Nobody changes his own permissions, not even an administrator.
--
-- Errors: ET032 the caller may not manage users, ET033 his own permissions, ET034 no fit name or verifier, ET035 no such user, level or country,
-- ET036 the level is not for people, ET037 the user cannot be removed.

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
    array(SELECT c.country_code FROM etl.country_access AS c
        WHERE c.login = coalesce(u.login, m.login)
        ORDER BY c.country_code) AS countries,
    u.added_at,
    u.added_by
FROM etl.user_account AS u
FULL JOIN (
    SELECT n.login, n.levels
    FROM member AS n
    -- Who migrates belongs to the owning role, and PostgreSQL lets who makes a role belong to it.
    JOIN pg_roles AS p ON p.rolname = n.login
    WHERE NOT p.rolsuper
        AND NOT p.rolcreaterole
) AS m ON m.login = u.login
LEFT JOIN pg_roles AS r ON r.rolname = coalesce(u.login, m.login);
COMMENT ON VIEW etl.user_status IS 'Users with their levels and countries; also members of a level that were not added here.';
COMMENT ON COLUMN etl.user_status.login IS 'Login.';
COMMENT ON COLUMN etl.user_status.is_managed IS 'Whether it was added by etl.add_user to this warehouse.';
COMMENT ON COLUMN etl.user_status.is_service IS 'Whether a program logs in with it, not a person.';
COMMENT ON COLUMN etl.user_status.can_log_in IS 'Whether it may log in; NULL when the server no longer has it.';
COMMENT ON COLUMN etl.user_status.levels IS 'Levels of permission. They hold for all warehouses of the server.';
COMMENT ON COLUMN etl.user_status.countries IS 'Countries that an analyst sees; * for everything.';
COMMENT ON COLUMN etl.user_status.added_at IS 'When it was added.';
COMMENT ON COLUMN etl.user_status.added_by IS 'Who added it.';

/*
Makes sure that the caller may act on a login.
Parameters: p_login, the login; p_is_new, whether it is about to be added.
Errors:     ET032 when the caller may not manage users, ET033 when it is the caller himself, ET034 when it is no fit name, ET035 when it
            is to be there and is not.
*/
CREATE OR REPLACE FUNCTION etl._check_user(p_login text, p_is_new boolean DEFAULT false)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_check_user$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = current_user AND (r.rolsuper OR r.rolcreaterole)) THEN
        RAISE EXCEPTION 'role "%" may not manage users', current_user
            USING ERRCODE = 'ET032', HINT = 'That is for the administrator who migrates the warehouse (CREATEROLE), or a superuser.';
    ELSIF p_login IN (session_user, current_user) THEN
        RAISE EXCEPTION 'nobody changes his own permissions, and you are "%"', p_login
            USING ERRCODE = 'ET033', HINT = 'Ask another administrator.';
    ELSIF coalesce(p_login, '') = '' OR octet_length(p_login) > 63 OR p_login ~ '^pg_' OR p_login ~ '[[:cntrl:]]' OR p_login IN ('public', 'none')
        OR EXISTS (SELECT FROM etl.access_level AS l WHERE l.role_name = p_login)
    THEN
        RAISE EXCEPTION '"%" is no name for a user', p_login
            USING ERRCODE = 'ET034', HINT = 'Take 1 to 63 bytes that do not begin with pg_; a group role is no user.';
    ELSIF NOT p_is_new AND NOT EXISTS (SELECT FROM etl.user_account AS u WHERE u.login = p_login) THEN
        RAISE EXCEPTION 'there is no user "%"', p_login
            USING ERRCODE = 'ET035', HINT = 'SELECT * FROM etl.user_status lists the users; CALL etl.add_user adds one.';
    END IF;
END
$_check_user$;
COMMENT ON FUNCTION etl._check_user(text, boolean) IS 'Makes sure that the caller may act on a login (ET032 to ET035).';

CREATE OR REPLACE FUNCTION etl._audit(p_act text, p_target text, p_details jsonb DEFAULT '{}')
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_audit$
    INSERT INTO audit.act (act, target, details)
    VALUES (p_act, p_target, p_details)
$_audit$;
COMMENT ON FUNCTION etl._audit(text, text, jsonb) IS 'Notes an act in the audit trail.';

/*
Adds a user: a login without any power of its own, and its levels.
Parameters: p_login, its name; p_levels, levels of permission; p_verifier, SCRAM verifier of its password, NULL for a login that has none
            yet (psql: \password); p_is_service, whether a program logs in with it; p_is_existing, whether the server may have the
            login already (then its password stays unless a verifier is given).
Writes:     roles of the server, etl.user_account, audit.act.
Errors:     ET032 to ET036.
*/
CREATE OR REPLACE PROCEDURE etl.add_user(
    p_login text,
    p_levels text[] DEFAULT '{}',
    p_verifier text DEFAULT NULL,
    p_is_service boolean DEFAULT false,
    p_is_existing boolean DEFAULT false
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $add_user$
DECLARE
    v_level text;
    r_role pg_roles;
BEGIN
    PERFORM etl._check_user(p_login, p_is_new => true);
    SELECT *
    INTO r_role
    FROM pg_roles AS r
    WHERE r.rolname = p_login;
    IF NOT FOUND THEN
        EXECUTE format('CREATE ROLE %I LOGIN INHERIT', p_login);
        DELETE FROM etl.country_access AS c
        WHERE c.login = p_login;
    ELSIF NOT p_is_existing THEN
        RAISE EXCEPTION 'the server has a role "%" already', p_login
            USING ERRCODE = 'ET034', HINT = 'Take another name, or say that the login exists (p_is_existing => true; --existing).';
    ELSIF r_role.rolsuper OR r_role.rolcreaterole OR r_role.rolcreatedb OR r_role.rolreplication OR r_role.rolbypassrls THEN
        RAISE EXCEPTION 'the role "%" has rights of an administrator, so no level would hold it', p_login
            USING ERRCODE = 'ET034', HINT = 'Take another login.';
    ELSIF NOT r_role.rolcanlogin THEN
        EXECUTE format('ALTER ROLE %I LOGIN', p_login);
    END IF;
    INSERT INTO etl.user_account AS u (login, is_service)
    VALUES (p_login, p_is_service)
    ON CONFLICT (login) DO UPDATE
    SET is_service = excluded.is_service;
    PERFORM etl._audit('user added', p_login, jsonb_build_object('is_service', p_is_service, 'existed', r_role.rolname IS NOT NULL));
    IF p_verifier IS NOT NULL THEN
        CALL etl.set_user_password(p_login, p_verifier);
    END IF;
    FOREACH v_level IN ARRAY coalesce(p_levels, '{}')
    LOOP
        CALL etl.grant_level(p_login, v_level);
    END LOOP;
END
$add_user$;
COMMENT ON PROCEDURE etl.add_user(text, text[], text, boolean, boolean) IS 'Adds a user with levels of permission. Then \password, in psql, gives it a password.';

/*
Gives a user a password.
Parameters: p_login, the user; p_verifier, SCRAM verifier, as libpq's PQencryptPasswordConn makes it.
Writes:     a role of the server, audit.act.
Errors:     ET032 to ET035; ET034 also when it is no verifier.
*/
CREATE OR REPLACE PROCEDURE etl.set_user_password(p_login text, p_verifier text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $set_user_password$
BEGIN
    PERFORM etl._check_user(p_login);
    IF p_verifier IS NULL OR p_verifier !~ '^SCRAM-SHA-256\$[0-9]+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]{44}:[A-Za-z0-9+/=]{44}$' THEN
        RAISE EXCEPTION 'the password of "%" is not given as a SCRAM verifier', p_login
            USING ERRCODE = 'ET034', HINT = 'A password itself would end up in logs. In psql: \password.';
    END IF;
    BEGIN
        EXECUTE format('ALTER ROLE %I PASSWORD %L', p_login, p_verifier);
    EXCEPTION
        WHEN OTHERS THEN
            -- Raised anew, without the context, which quotes the statement.
            RAISE EXCEPTION '%', SQLERRM USING ERRCODE = SQLSTATE;
    END;
    PERFORM etl._audit('password set', p_login);
END
$set_user_password$;
COMMENT ON PROCEDURE etl.set_user_password(text, text) IS 'Gives a user a password, told as a SCRAM verifier.';

CREATE OR REPLACE FUNCTION etl._check_level(p_level text)
RETURNS etl.access_level
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_check_level$
DECLARE
    r_level etl.access_level;
BEGIN
    SELECT *
    INTO r_level
    FROM etl.access_level AS l
    WHERE l.level = p_level;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no level "%"', p_level
            USING ERRCODE = 'ET035', HINT = format('The levels are %s.', (SELECT string_agg(l.level, ', ' ORDER BY l.level) FROM etl.access_level AS l));
    END IF;
    RETURN r_level;
END
$_check_level$;
COMMENT ON FUNCTION etl._check_level(text) IS 'The level of a name; ET035 when there is none.';

/*
Gives a user a level of permission.
Parameters: p_login, the user; p_level, the level.
Writes:     memberships of the server, audit.act.
Errors:     ET032 to ET036.
*/
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
    IF NOT r_level.is_for_people AND NOT v_is_service THEN
        RAISE EXCEPTION 'level % is not for people, and "%" is no service', p_level, p_login
            USING ERRCODE = 'ET036', HINT = 'Add a login for the program that needs it: p_is_service => true; --service.';
    END IF;
    IF EXISTS (
        SELECT
        FROM pg_auth_members AS m
        JOIN pg_roles AS g ON g.oid = m.roleid
        JOIN pg_roles AS r ON r.oid = m.member
        WHERE g.rolname = r_level.role_name
            AND r.rolname = p_login
            AND m.admin_option
    ) THEN
        EXECUTE format('REVOKE ADMIN OPTION FOR %I FROM %I', r_level.role_name, p_login);
    END IF;
    EXECUTE format('GRANT %I TO %I', r_level.role_name, p_login) || CASE
        WHEN current_setting('server_version_num')::integer < 160000 THEN ''
        ELSE format(' WITH ADMIN FALSE, INHERIT TRUE, SET %s', upper((p_level = 'etl')::text))
    END;
    IF p_level = 'etl' THEN
        -- What the service makes belongs to the owner of the warehouse.
        EXECUTE format('ALTER ROLE %I IN DATABASE %I SET role = %L', p_login, current_database(), r_level.role_name);
    END IF;
    PERFORM etl._audit('level granted', p_login, jsonb_build_object('level', p_level));
END
$grant_level$;
COMMENT ON PROCEDURE etl.grant_level(text, text) IS 'Gives a user a level of permission.';

/*
Takes a level of permission from a user.
Parameters: p_login, the user; p_level, the level.
Writes:     memberships of the server, audit.act.
Errors:     ET032, ET033, ET035.
*/
CREATE OR REPLACE PROCEDURE etl.revoke_level(p_login text, p_level text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $revoke_level$
DECLARE
    r_level etl.access_level;
    r_member record;
BEGIN
    PERFORM etl._check_user(p_login);
    r_level := etl._check_level(p_level);
    FOR r_member IN
        SELECT pg_get_userbyid(m.grantor) AS grantor
        FROM pg_auth_members AS m
        JOIN pg_roles AS g ON g.oid = m.roleid
        JOIN pg_roles AS r ON r.oid = m.member
        WHERE g.rolname = r_level.role_name
            AND r.rolname = p_login
    LOOP
        -- From PostgreSQL 16 on each grantor's membership is one of its own.
        EXECUTE format('REVOKE %I FROM %I', r_level.role_name, p_login) || CASE
            WHEN current_setting('server_version_num')::integer < 160000 THEN ''
            ELSE format(' GRANTED BY %I', r_member.grantor)
        END;
    END LOOP;
    IF p_level = 'etl' THEN
        EXECUTE format('ALTER ROLE %I IN DATABASE %I RESET role', p_login, current_database());
    END IF;
    PERFORM etl._audit('level revoked', p_login, jsonb_build_object('level', p_level));
END
$revoke_level$;
COMMENT ON PROCEDURE etl.revoke_level(text, text) IS 'Takes a level of permission from a user.';

/*
Says which countries a user sees in schema analysis: these and no others.
Parameters: p_login, the user; p_countries, country codes, ?? for what has no known country, * for everything; none for nothing.
Writes:     etl.country_access, audit.act.
Errors:     ET032, ET033, ET035.
*/
CREATE OR REPLACE PROCEDURE etl.set_user_countries(p_login text, p_countries text[])
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $set_user_countries$
DECLARE
    v_countries text[] := ARRAY(SELECT DISTINCT upper(btrim(c.code)) FROM unnest(coalesce(p_countries, '{}')) AS c (code) ORDER BY 1);
    v_country text;
    v_is_known boolean;
BEGIN
    PERFORM etl._check_user(p_login);
    FOREACH v_country IN ARRAY v_countries
    LOOP
        v_is_known := v_country IN ('*', '??');
        IF NOT v_is_known AND to_regclass('work.known_country') IS NOT NULL THEN
            EXECUTE 'SELECT EXISTS (SELECT FROM work.known_country AS k WHERE k.country_code = $1)' INTO v_is_known USING v_country;
        END IF;
        IF NOT v_is_known OR v_country IS NULL THEN
            RAISE EXCEPTION 'there is no country "%"', v_country
                USING ERRCODE = 'ET035', HINT = 'Write codes of two letters, such as DE; SELECT * FROM work.known_country lists them. * stands for everything.';
        END IF;
    END LOOP;
    DELETE FROM etl.country_access AS c
    WHERE c.login = p_login
        AND c.country_code <> ALL (v_countries);
    INSERT INTO etl.country_access (login, country_code)
    SELECT p_login, c.code
    FROM unnest(v_countries) AS c (code)
    ON CONFLICT DO NOTHING;
    PERFORM etl._audit('countries set', p_login, jsonb_build_object('countries', v_countries));
END
$set_user_countries$;
COMMENT ON PROCEDURE etl.set_user_countries(text, text[]) IS 'Says which countries a user sees in schema analysis: these and no others.';

/*
Removes a user: ends his sessions, and leaves no login, membership, permission, owned object or country behind.
Parameters: p_login, the user; p_drop_owned, whether objects that he owns in this database are dropped; otherwise they keep him.
Writes:     roles of the server, etl.user_account, etl.country_access, audit.act.
Errors:     ET032, ET033, ET035, ET037 when he owns something, here or in another database.
*/
CREATE OR REPLACE PROCEDURE etl.remove_user(p_login text, p_drop_owned boolean DEFAULT false)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $remove_user$
DECLARE
    v_role oid := (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = p_login);
    v_owned text;
    v_detail text;
BEGIN
    PERFORM etl._check_user(p_login);
    DELETE FROM etl.country_access AS c
    WHERE c.login = p_login;
    DELETE FROM etl.user_account AS u
    WHERE u.login = p_login;
    IF v_role IS NOT NULL THEN
        EXECUTE format('ALTER ROLE %I NOLOGIN', p_login);
        IF NOT pg_has_role(current_user, v_role, 'USAGE') THEN
            -- Needed to end his sessions and to take what he owns; it goes with the role.
            EXECUTE format('GRANT %I TO %I', p_login, current_user);
        END IF;
        PERFORM pg_terminate_backend(a.pid, 5000)
        FROM pg_stat_activity AS a
        WHERE a.usesysid = v_role;
        IF NOT p_drop_owned THEN
            -- Not handed to somebody else: what a person made would then act with more rights than that person had.
            SELECT string_agg(pg_describe_object(d.classid, d.objid, d.objsubid), ', ')
            INTO v_owned
            FROM pg_shdepend AS d
            WHERE d.dbid = (SELECT b.oid FROM pg_database AS b WHERE b.datname = current_database())
                AND d.refclassid = 'pg_authid'::regclass
                AND d.refobjid = v_role
                AND d.deptype = 'o';
            IF v_owned IS NOT NULL THEN
                RAISE EXCEPTION 'user "%" owns objects in this database', p_login
                    USING ERRCODE = 'ET037', DETAIL = v_owned, HINT = 'Give them to somebody else, or let them go as well: p_drop_owned => true; --drop-owned.';
            END IF;
        END IF;
        EXECUTE format('DROP OWNED BY %I', p_login);
        BEGIN
            EXECUTE format('DROP ROLE %I', p_login);
        EXCEPTION
            WHEN dependent_objects_still_exist THEN
                GET STACKED DIAGNOSTICS v_detail = PG_EXCEPTION_DETAIL;
                RAISE EXCEPTION 'user "%" has objects or permissions in another database', p_login
                    USING ERRCODE = 'ET037', DETAIL = v_detail, HINT = format('In that database: DROP OWNED BY %I; then try again.', p_login);
        END;
    END IF;
    PERFORM etl._audit('user removed', p_login);
END
$remove_user$;
COMMENT ON PROCEDURE etl.remove_user(text, boolean) IS 'Removes a user: no login, membership, permission, owned object or country is left.';
