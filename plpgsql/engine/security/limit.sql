-- Limits of the logins: sessions, time-outs and temporary files, as their levels say.

CREATE OR REPLACE VIEW etl.access_limit AS
WITH wanted AS (
    SELECT
        r.oid AS role_id,
        r.rolname AS login,
        r.rolconnlimit AS present_limit,
        -- With several levels the most generous limit holds; a level without a limit lifts it.
        CASE WHEN bool_and(l.connection_limit IS NOT NULL) THEN max(l.connection_limit) ELSE -1 END AS connection_limit,
        CASE WHEN bool_and(l.statement_timeout IS NOT NULL) THEN max(l.statement_timeout) END AS statement_timeout,
        CASE WHEN bool_and(l.idle_timeout IS NOT NULL) THEN max(l.idle_timeout) END AS idle_timeout,
        CASE WHEN bool_and(l.temporary_space IS NOT NULL) THEN max(l.temporary_space) END AS temporary_space
    FROM etl.user_account AS u
    JOIN pg_roles AS r ON r.rolname = u.login AND NOT r.rolsuper
    JOIN pg_auth_members AS m ON m.member = r.oid
    JOIN pg_roles AS g ON g.oid = m.roleid
    JOIN etl.access_level AS l ON l.role_name = g.rolname
    GROUP BY r.oid, r.rolname, r.rolconnlimit
)
SELECT
    w.login,
    'connections' AS name,
    nullif(w.connection_limit, -1)::text AS wanted,
    nullif(w.present_limit, -1)::text AS present,
    format('ALTER ROLE %I CONNECTION LIMIT %s', w.login, w.connection_limit) AS statement
FROM wanted AS w
UNION ALL
SELECT
    w.login,
    p.name,
    p.wanted,
    p.present,
    format(
        'ALTER ROLE %I IN DATABASE %I %s', w.login, current_database(),
        CASE WHEN p.wanted IS NULL THEN format('RESET %s', p.name) ELSE format('SET %s = %L', p.name, p.wanted) END
    )
FROM wanted AS w
CROSS JOIN LATERAL (
    SELECT v.name, v.wanted, substring(c.setting FROM '=(.*)$') AS present
    FROM (
        VALUES
            ('statement_timeout', (extract(epoch FROM w.statement_timeout) * 1000)::bigint || 'ms'),
            ('idle_in_transaction_session_timeout', (extract(epoch FROM w.idle_timeout) * 1000)::bigint || 'ms'),
            ('temp_file_limit', w.temporary_space / 1024 || 'kB')
    ) AS v (name, wanted)
    LEFT JOIN pg_db_role_setting AS s ON s.setrole = w.role_id
        AND s.setdatabase = (SELECT d.oid FROM pg_database AS d
            WHERE d.datname = current_database())
    LEFT JOIN LATERAL unnest(s.setconfig) AS c (setting) ON split_part(c.setting, '=', 1) = v.name
) AS p;
COMMENT ON VIEW etl.access_limit IS 'Limits of the users: those that their levels give, and those that are set.';
COMMENT ON COLUMN etl.access_limit.name IS 'connections, or the name of the PostgreSQL setting.';
COMMENT ON COLUMN etl.access_limit.wanted IS 'Limit that the levels give; NULL for none.';
COMMENT ON COLUMN etl.access_limit.present IS 'Limit that is set; NULL for none.';
COMMENT ON COLUMN etl.access_limit.statement IS 'Statement that sets the limit that the levels give.';

-- Sets the limits that the levels give, of one user or of all. A limit that the caller may not set stays as it is: temp_file_limit needs a superuser.
CREATE OR REPLACE FUNCTION etl._apply_limits(p_login text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_apply_limits$
DECLARE
    v_statement text;
BEGIN
    FOR v_statement IN
        SELECT a.statement
        FROM etl.access_limit AS a
        WHERE a.wanted IS DISTINCT FROM a.present
            AND (p_login IS NULL OR a.login = p_login)
    LOOP
        BEGIN
            EXECUTE v_statement;
        EXCEPTION
            WHEN insufficient_privilege THEN
                NULL;
        END;
    END LOOP;
END
$_apply_limits$;
