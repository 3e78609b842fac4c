-- Logins: which names and passwords a user may have, and how the sessions of a login end.

-- The access level of a name (ET035).
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
        RAISE EXCEPTION 'access level "%" does not exist', p_level
            USING ERRCODE = 'ET035', HINT = (
                SELECT format(
                    'The levels are %s; for services, too: %s.',
                    string_agg(l.level, ', ' ORDER BY l.level) FILTER (WHERE l.is_for_people),
                    string_agg(l.level, ', ' ORDER BY l.level) FILTER (WHERE NOT l.is_for_people)
                )
                FROM etl.access_level AS l
                WHERE l.role_name NOT IN (SELECT o.role_name FROM etl.owner_role AS o)
            );
    END IF;
    RETURN r_level;
END
$_check_level$;

-- Refuses a caller who may not act on a login. ET032: the caller may not manage users; ET033: the login is the caller's own; ET034: the name is not
-- allowed; ET035: there is no such user, and it is not about to be added.
CREATE OR REPLACE FUNCTION etl._check_user(p_login text, p_is_new boolean DEFAULT false)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_check_user$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = current_user AND (r.rolsuper OR r.rolcreaterole)) THEN
        RAISE EXCEPTION 'role "%" may not manage users', current_user
            USING ERRCODE = 'ET032', HINT = 'Connect as the migrating role, which has CREATEROLE, or as a superuser.';
    ELSIF p_login IN (session_user, current_user) THEN
        RAISE EXCEPTION 'role "%" cannot change its own permissions', p_login
            USING ERRCODE = 'ET033', HINT = 'Ask another administrator.';
    ELSIF coalesce(p_login, '') = '' OR octet_length(p_login) > 63 OR p_login ~ '^pg_' OR p_login ~ '[[:cntrl:]]' OR p_login IN ('public', 'none')
        OR EXISTS (SELECT FROM etl.access_level AS l WHERE l.role_name = p_login)
    THEN
        RAISE EXCEPTION '"%" is not allowed as the name of a user', p_login
            USING ERRCODE = 'ET034', HINT = 'Choose a name of 1 to 63 bytes that does not begin with pg_ and is not a group role.';
    END IF;
    IF p_is_new THEN
        PERFORM etl._refuse_lookalike(p_login);
    END IF;
    IF NOT p_is_new AND NOT EXISTS (SELECT FROM etl.user_account AS u WHERE u.login = p_login) THEN
        RAISE EXCEPTION 'user "%" does not exist', p_login
            USING ERRCODE = 'ET035', HINT = 'To list the users, run: oceanrecords users list. To add one: oceanrecords users add.';
    END IF;
END
$_check_user$;

-- A name with each letter that looks like a Latin one replaced by that one.
CREATE OR REPLACE FUNCTION etl._look(p_name text)
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_look$
    SELECT translate(p_name, 'АВЕЅІЈКМНОРСТУХаеѕіјорсухһԁԛԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧοαρνυχıɑɡ', 'ABESIJKMHOPCTYXaesijopcyxhdqwABEZHIKMNOPTYXoapvuxiag')
$_look$;

-- Refuses a name that a reader could confuse with another one (ET034): with invisible characters, with letters of several alphabets, or with the look
-- of another role.
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
            THEN 'it has invisible characters'
        WHEN p_login ~ '^\s|\s$|[\u00A0\u1680\u2000-\u200A\u202F\u205F\u3000]' THEN 'it has invisible spaces'
        WHEN p_login IS NOT NFKC NORMALIZED THEN 'it has characters with another normal form'
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
        RAISE EXCEPTION '"%" is not allowed as the name of a user: %', p_login, v_problem
            USING ERRCODE = 'ET034', HINT = 'Choose a name that readers cannot confuse with another one.';
    END IF;
END
$_refuse_lookalike$;

-- A key of HMAC-SHA-256, of up to 64 bytes, padded and combined with a byte: 54 for the inner hash, 92 for the outer.
CREATE OR REPLACE FUNCTION etl._padded(p_key bytea, p_byte integer)
RETURNS bytea
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_padded$
    SELECT decode(string_agg(lpad(to_hex(CASE WHEN i.place < length(p_key) THEN get_byte(p_key, i.place) ELSE 0 END # p_byte), 2, '0'), '' ORDER BY i.place), 'hex')
    FROM generate_series(0, 63) AS i (place)
$_padded$;

-- Whether a SCRAM verifier belongs to a password. Takes tenths of a second, because SCRAM is slow by design.
CREATE OR REPLACE FUNCTION etl._is_verifier_of(p_verifier text, p_password text)
RETURNS boolean
LANGUAGE plpgsql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_is_verifier_of$
DECLARE
    v_parts text[] := regexp_match(p_verifier, '^SCRAM-SHA-256\$([0-9]+):([^$]+)\$([^:]+):(.+)$');
    v_key bytea := convert_to(p_password, 'UTF8');
    -- Padded once, not in each of the thousands of rounds.
    v_inner bytea := etl._padded(v_key, 54);
    v_outer bytea := etl._padded(v_key, 92);
    v_step bytea;
    v_sum bit(256);
BEGIN
    IF v_parts IS NULL OR length(v_key) > 64 OR v_parts[1]::integer > 20000 THEN
        RETURN false;
    END IF;
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
    v_key := sha256(etl._padded(v_step, 92) || sha256(etl._padded(v_step, 54) || 'Client Key'::bytea));
    RETURN encode(sha256(v_key), 'base64') = v_parts[3];
END
$_is_verifier_of$;

-- Ends the sessions of a login, waits until they are gone (ET043 after 15 seconds), and returns their number. An open session would keep its locks,
-- cursors and snapshot after a right is revoked.
CREATE OR REPLACE FUNCTION etl.end_sessions(p_login text)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $end_sessions$
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
        -- An administrator who is not a superuser may end sessions of roles of which it is a member.
        EXECUTE format('GRANT %I TO %I', p_login, current_user);
        v_has_joined := true;
    END IF;
    FOR r_session IN
        SELECT a.pid, pg_terminate_backend(a.pid, 15000) AS has_ended
        FROM pg_stat_activity AS a
        WHERE a.usesysid = v_role
            AND a.pid <> pg_backend_pid()
    LOOP
        -- A session that ended by itself in the meantime was not found.
        PERFORM pg_stat_clear_snapshot();
        IF NOT r_session.has_ended AND EXISTS (SELECT FROM pg_stat_get_activity(r_session.pid) AS a WHERE a.usesysid = v_role) THEN
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
$end_sessions$;
COMMENT ON FUNCTION etl.end_sessions(text) IS 'Ends the sessions of a login, and waits until they are gone; returns their number.';
