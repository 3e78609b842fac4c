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
            AND c.role_id = r.oid
        ORDER BY c.country_code) AS countries,
    nullif(r.rolvaliduntil, 'infinity') AS valid_until,
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
COMMENT ON COLUMN etl.user_status.valid_until IS 'From when its password no longer counts; NULL for never.';
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
    END IF;
    IF p_is_new THEN
        PERFORM etl._refuse_lookalike(p_login);
    END IF;
    IF NOT p_is_new AND NOT EXISTS (SELECT FROM etl.user_account AS u WHERE u.login = p_login) THEN
        RAISE EXCEPTION 'there is no user "%"', p_login
            USING ERRCODE = 'ET035', HINT = 'SELECT * FROM etl.user_status lists the users; CALL etl.add_user adds one.';
    END IF;
END
$_check_user$;
COMMENT ON FUNCTION etl._check_user(text, boolean) IS 'Makes sure that the caller may act on a login (ET032 to ET035).';

/*
A name as it looks: letters of other alphabets that look like Latin ones are replaced by these.
*/
CREATE OR REPLACE FUNCTION etl._look(p_name text)
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_look$
    SELECT translate(p_name, 'АВЕЅІЈКМНОРСТУХаеѕіјорсухһԁԛԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧοαρνυχıɑɡ', 'ABESIJKMHOPCTYXaesijopcyxhdqwABEZHIKMNOPTYXoapvuxiag')
$_look$;
COMMENT ON FUNCTION etl._look(text) IS 'A name as it looks: letters that look like Latin ones are replaced by these.';

/*
Refuses a name that cannot be told from another one: with characters that are not seen, letters that mix alphabets, or the look of another role.
Parameters: p_login, the name.
Errors:     ET034.
*/
CREATE OR REPLACE FUNCTION etl._refuse_lookalike(p_login text)
RETURNS void
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_refuse_lookalike$
DECLARE
    v_problem text;
BEGIN
    v_problem := CASE
        WHEN p_login ~ '[\u00AD\u034F\u061C\u115F\u1160\u17B4\u17B5\u180B-\u180E\u200B-\u200F\u2028-\u202E\u2060-\u206F\u3164\uFE00-\uFE0F\uFEFF\uFFA0\uFFF0-\uFFFB]'
            OR p_login ~ '[\U000E0000-\U000E0FFF]'
            THEN 'it has characters that are not seen'
        WHEN p_login ~ '^\s|\s$|[\u00A0\u1680\u2000-\u200A\u202F\u205F\u3000]' THEN 'it has spaces that are not seen'
        WHEN p_login IS NOT NFKC NORMALIZED THEN 'it has characters that are written otherwise'
        WHEN p_login ~ '[A-Za-z\u00C0-\u024F]' AND p_login ~ '[\u0370-\u03FF\u0400-\u052F\u0530-\u058F\u13A0-\u13FF]' THEN 'it mixes alphabets'
        WHEN etl._look(p_login) <> p_login AND etl._look(p_login) ~ '^[ -~]+$' THEN format('it looks like "%s"', etl._look(p_login))
    END;
    IF v_problem IS NULL THEN
        SELECT format('it looks like the role "%s"', r.rolname)
        INTO v_problem
        FROM pg_roles AS r
        WHERE etl._look(r.rolname) = etl._look(p_login)
            AND r.rolname <> p_login
        LIMIT 1;
    END IF;
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '"%" is no name for a user: %', p_login, v_problem
            USING ERRCODE = 'ET034', HINT = 'Take a name that is told from every other one when it is read.';
    END IF;
END
$_refuse_lookalike$;
COMMENT ON FUNCTION etl._refuse_lookalike(text) IS 'Refuses a name that cannot be told from another one when it is read (ET034).';

/*
HMAC-SHA-256, as SCRAM uses it.
*/
CREATE OR REPLACE FUNCTION etl._hmac(p_key bytea, p_message bytea)
RETURNS bytea
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_hmac$
    SELECT sha256(decode(string_agg(lpad(to_hex(b.byte # 92), 2, '0'), '' ORDER BY b.place), 'hex')
        || sha256(decode(string_agg(lpad(to_hex(b.byte # 54), 2, '0'), '' ORDER BY b.place), 'hex') || p_message))
    FROM (
        SELECT i.place, CASE WHEN i.place < length(k.key) THEN get_byte(k.key, i.place) ELSE 0 END AS byte
        FROM (SELECT CASE WHEN length(p_key) > 64 THEN sha256(p_key) ELSE p_key END) AS k (key)
        CROSS JOIN generate_series(0, 63) AS i (place)
    ) AS b
$_hmac$;
COMMENT ON FUNCTION etl._hmac(bytea, bytea) IS 'HMAC-SHA-256, as SCRAM uses it.';

/*
Whether a verifier is one of a password. Takes a few tenths of a second: SCRAM is made to be slow.
Parameters: p_verifier, SCRAM verifier; p_password, the password.
*/
CREATE OR REPLACE FUNCTION etl._is_verifier_of(p_verifier text, p_password text)
RETURNS boolean
LANGUAGE plpgsql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_is_verifier_of$
DECLARE
    v_parts text[] := regexp_match(p_verifier, '^SCRAM-SHA-256\$([0-9]+):([^$]+)\$([^:]+):(.+)$');
    v_key bytea := convert_to(p_password, 'UTF8');
    v_inner bytea;
    v_outer bytea;
    v_step bytea;
    v_sum bit(256);
BEGIN
    IF v_parts IS NULL OR length(v_key) > 64 OR v_parts[1]::integer > 20000 THEN
        RETURN false;
    END IF;
    -- The padded keys once, not in each of the thousands of steps.
    SELECT
        decode(string_agg(lpad(to_hex(b.byte # 54), 2, '0'), '' ORDER BY b.place), 'hex'),
        decode(string_agg(lpad(to_hex(b.byte # 92), 2, '0'), '' ORDER BY b.place), 'hex')
    INTO v_inner, v_outer
    FROM (SELECT i.place, CASE WHEN i.place < length(v_key) THEN get_byte(v_key, i.place) ELSE 0 END AS byte FROM generate_series(0, 63) AS i (place)) AS b;
    v_step := sha256(v_outer || sha256(v_inner || decode(v_parts[2], 'base64') || '\x00000001'::bytea));
    v_sum := ('x' || encode(v_step, 'hex'))::bit(256);
    FOR v_round IN 2..v_parts[1]::integer
    LOOP
        v_step := sha256(v_outer || sha256(v_inner || v_step));
        v_sum := v_sum # ('x' || encode(v_step, 'hex'))::bit(256);
    END LOOP;
    v_step := (
        SELECT decode(string_agg(lpad(to_hex(substring(v_sum FROM 1 + 8 * i.place FOR 8)::integer), 2, '0'), '' ORDER BY i.place), 'hex')
        FROM generate_series(0, 31) AS i (place)
    );
    RETURN encode(sha256(etl._hmac(v_step, 'Client Key'::bytea)), 'base64') = v_parts[3];
END
$_is_verifier_of$;
COMMENT ON FUNCTION etl._is_verifier_of(text, text) IS 'Whether a SCRAM verifier is one of a password.';

/*
Adds a user: a login without any power of its own, and its levels.
Parameters: p_login, its name; p_levels, levels of permission; p_verifier, SCRAM verifier of its password, NULL for a login that has none
            yet (psql: \password); p_is_service, whether a program logs in with it; p_is_existing, whether the server may have the
            login already (then its password stays unless a verifier is given, and it gets nothing but the levels named); p_valid_until, from
            when its password no longer counts.
Writes:     roles of the server, etl.user_account, audit.act.
Errors:     ET032 to ET036.
*/
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
        DELETE FROM etl.user_account AS u
        WHERE u.login = p_login;
    ELSIF NOT p_is_existing THEN
        RAISE EXCEPTION 'the server has a role "%" already', p_login
            USING ERRCODE = 'ET034', HINT = 'Take another name, or say that the login exists (p_is_existing => true; --existing).';
    ELSIF r_role.rolsuper OR r_role.rolcreaterole OR r_role.rolcreatedb OR r_role.rolreplication OR r_role.rolbypassrls THEN
        RAISE EXCEPTION 'the role "%" has rights of an administrator, so no level would hold it', p_login
            USING ERRCODE = 'ET034', HINT = 'Take another login.';
    ELSIF NOT r_role.rolcanlogin THEN
        RAISE EXCEPTION 'the role "%" is a group: it cannot log in', p_login
            USING ERRCODE = 'ET034', HINT = 'Take another login. A group that could log in would be more than it is.';
    ELSIF EXISTS (
        SELECT
        FROM pg_roles AS g
        WHERE (g.rolname LIKE 'pg\_%' OR g.rolsuper OR g.rolname IN (
            SELECT l.role_name FROM etl.access_level AS l JOIN etl.access_schema AS s ON s.owner_level = l.level
        ))
            AND pg_has_role(r_role.oid, g.oid, 'MEMBER')
    ) THEN
        RAISE EXCEPTION 'the role "%" is a member of a role with power over the server or the warehouse, so no level would hold it', p_login
            USING ERRCODE = 'ET034', HINT = 'Take another login, or revoke that membership first.';
    ELSIF EXISTS (SELECT FROM etl.user_account AS u WHERE u.login = p_login AND u.is_service <> p_is_service) THEN
        RAISE EXCEPTION 'the user "%" is %', p_login, CASE WHEN p_is_service THEN 'a person, not a service' ELSE 'a service, not a person' END
            USING ERRCODE = 'ET034', HINT = 'Remove the user first, or take another name.';
    ELSIF NOT EXISTS (SELECT FROM etl.user_account AS u WHERE u.login = p_login) THEN
        -- What an earlier user of that name saw is not what this one sees.
        DELETE FROM etl.country_access AS c
        WHERE c.login = p_login;
    END IF;
    INSERT INTO etl.user_account AS u (login, is_service)
    VALUES (p_login, p_is_service)
    ON CONFLICT (login) DO NOTHING;
    IF p_valid_until IS NOT NULL THEN
        EXECUTE format('ALTER ROLE %I VALID UNTIL %L', p_login, p_valid_until);
    END IF;
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
COMMENT ON PROCEDURE etl.add_user(text, text[], text, boolean, boolean, timestamptz) IS 'Adds a user with levels of permission. Then \password, in psql, gives it a password.';

/*
Gives a user a password.
Parameters: p_login, the user; p_verifier, SCRAM verifier, as libpq's PQencryptPasswordConn makes it; p_length, number of characters of the
            password, which a verifier does not tell; p_valid_until, from when it no longer counts, NULL to leave that as it is.
Writes:     a role of the server, audit.act.
Errors:     ET032 to ET035; ET034 also when it is no verifier, or the password is shorter than the setting password_length, or is the login.
*/
CREATE OR REPLACE PROCEDURE etl.set_user_password(p_login text, p_verifier text, p_length integer DEFAULT NULL, p_valid_until timestamptz DEFAULT NULL)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $set_user_password$
BEGIN
    PERFORM etl._check_user(p_login);
    IF p_verifier IS NULL OR p_verifier !~ '^SCRAM-SHA-256\$[0-9]+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]{44}:[A-Za-z0-9+/=]{44}$' THEN
        RAISE EXCEPTION 'the password of "%" is not given as a SCRAM verifier', p_login
            USING ERRCODE = 'ET034', HINT = 'A password itself would end up in logs. In psql: \password.';
    END IF;
    IF p_length < etl.get_setting('password_length')::integer THEN
        RAISE EXCEPTION 'the password of "%" is shorter than % characters', p_login, etl.get_setting('password_length')
            USING ERRCODE = 'ET034', HINT = 'The setting password_length says how many it must have.';
    END IF;
    IF EXISTS (
        SELECT
        FROM unnest(ARRAY[p_login, lower(p_login), upper(p_login), initcap(p_login), reverse(p_login), p_login || p_login, p_login || '1', 'password', '']) AS g (guess)
        WHERE etl._is_verifier_of(p_verifier, g.guess)
    ) THEN
        RAISE EXCEPTION 'the password of "%" is the first that somebody would try', p_login
            USING ERRCODE = 'ET034', HINT = 'Take one that is not made of the login.';
    END IF;
    IF p_valid_until IS NOT NULL THEN
        EXECUTE format('ALTER ROLE %I VALID UNTIL %L', p_login, p_valid_until);
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
COMMENT ON PROCEDURE etl.set_user_password(text, text, integer, timestamptz) IS 'Gives a user a password, told as a SCRAM verifier.';

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
    IF EXISTS (SELECT FROM etl.access_schema AS s WHERE s.owner_level = p_level) THEN
        RAISE EXCEPTION 'level "%" cannot be granted: it owns the warehouse', p_level
            USING ERRCODE = 'ET036', HINT = 'A service that runs the loads needs level etl.';
    ELSIF NOT r_level.is_for_people AND NOT v_is_service THEN
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
        ELSE ' WITH ADMIN FALSE, INHERIT TRUE, SET FALSE'
    END;
    PERFORM etl._set_limits(p_login);
    PERFORM etl._audit('level granted', p_login, jsonb_build_object('level', p_level));
END
$grant_level$;
COMMENT ON PROCEDURE etl.grant_level(text, text) IS 'Gives a user a level of permission.';

/*
Ends the sessions of a login in this database, and waits until they are gone: an open session keeps what it has locked, prepared or
opened, and cached plans, whatever is revoked meanwhile.
Parameters: p_login, the login.
Returns:    number of sessions.
Errors:     ET043 when one of them does not end within five seconds.
*/
CREATE OR REPLACE FUNCTION etl._end_sessions(p_login text)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_end_sessions$
DECLARE
    r_session record;
    v_count bigint := 0;
    v_role oid := (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = p_login);
    v_has_joined boolean := false;
BEGIN
    IF v_role IS NULL OR NOT EXISTS (SELECT FROM pg_stat_activity AS a WHERE a.usesysid = v_role AND a.pid <> pg_backend_pid()) THEN
        RETURN 0;
    END IF;
    IF NOT pg_has_role(v_role, 'USAGE') AND NOT pg_has_role('pg_signal_backend', 'USAGE') THEN
        -- An administrator who is no superuser may end the sessions of the roles of which it is a member.
        EXECUTE format('GRANT %I TO %I', p_login, current_user);
        v_has_joined := true;
    END IF;
    FOR r_session IN
        SELECT a.pid, pg_terminate_backend(a.pid, 5000) AS has_ended
        FROM pg_stat_activity AS a
        WHERE a.usesysid = v_role
            AND a.pid <> pg_backend_pid()
    LOOP
        IF NOT r_session.has_ended THEN
            RAISE EXCEPTION 'session % of "%" does not end', r_session.pid, p_login
                USING ERRCODE = 'ET043', HINT = format('Run the command again, or let a superuser execute: SELECT pg_terminate_backend(%s);', r_session.pid);
        END IF;
        v_count := v_count + 1;
    END LOOP;
    IF v_has_joined THEN
        EXECUTE format('REVOKE %I FROM %I', p_login, current_user);
    END IF;
    RETURN v_count;
END
$_end_sessions$;
COMMENT ON FUNCTION etl._end_sessions(text) IS 'Ends the sessions of a login, and waits until they are gone (ET043).';

/*
Takes a level of permission from a user, and ends the sessions of that user.
Parameters: p_login, the user; p_level, the level.
Writes:     memberships of the server, audit.act.
Errors:     ET032, ET033, ET035, ET043 when a session does not end.
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
    PERFORM etl._set_limits(p_login);
    PERFORM etl._end_sessions(p_login);
    PERFORM etl._audit('level revoked', p_login, jsonb_build_object('level', p_level));
END
$revoke_level$;
COMMENT ON PROCEDURE etl.revoke_level(text, text) IS 'Takes a level of permission from a user, and ends the sessions of that user.';

/*
Trigger: an entry is for the role that has the name now.
*/
CREATE OR REPLACE FUNCTION etl._sign_country_access()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_sign_country_access$
BEGIN
    NEW.role_id := coalesce((SELECT r.oid FROM pg_roles AS r WHERE r.rolname = NEW.login), 0);
    RETURN NEW;
END
$_sign_country_access$;
COMMENT ON FUNCTION etl._sign_country_access() IS 'Trigger: an entry is for the role that has the name now.';

CREATE OR REPLACE TRIGGER sign
    BEFORE INSERT OR UPDATE ON etl.country_access
    FOR EACH ROW
    EXECUTE FUNCTION etl._sign_country_access();

/*
Sets the rows that a user sees in schema analysis, by values of the row filter.
Parameters: p_login, the user; p_countries, values of the attribute of etl.row_filter, ?? for rows without a known value, * for all rows; none for no row.
Writes:     etl.country_access, audit.act.
Errors:     ET032, ET033, ET035.
*/
CREATE OR REPLACE PROCEDURE etl.set_user_countries(p_login text, p_countries text[])
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $set_user_countries$
DECLARE
    v_countries text[] := etl._row_filter_values(p_countries);
BEGIN
    PERFORM etl._check_user(p_login);
    DELETE FROM etl.country_access AS c
    WHERE c.login = p_login
        AND c.country_code <> ALL (v_countries);
    INSERT INTO etl.country_access (login, country_code)
    SELECT p_login, c.code
    FROM unnest(v_countries) AS c (code)
    ON CONFLICT (login, country_code) DO UPDATE
    SET granted_at = excluded.granted_at
    WHERE country_access.role_id <> (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = p_login);
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
