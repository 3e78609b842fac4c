-- Who may do what: group roles, the catalog of permissions, users, the countries that each of them sees, what was forgotten, and an
-- audit trail that only grows. Which object is open to whom is told by rows (plpgsql/engine/security/permissions.sql, plpgsql/oceanrecords/permissions.sql).

-- Roles belong to the whole server, so another database may have made them already, or may be making them at this very moment.
DO $make_group_roles$
DECLARE
    r_role record;
    v_flaw text;
BEGIN
    FOR r_role IN
        SELECT *
        FROM (
            VALUES
                ('oceanrecords_analyst', 'Warehouse: reads the stars, personal data masked, only the rows that the login may see.'),
                ('oceanrecords_application', 'Warehouse: works with the operational system.'),
                ('oceanrecords_auditor', 'Warehouse: reads control tables and logs.'),
                ('oceanrecords_business', 'Warehouse: reads the key figures, schema kpi.'),
                ('oceanrecords_etl', 'Warehouse: runs the loads; not for people.'),
                ('oceanrecords_owner', 'Warehouse: owns the warehouse; no login is a member.'),
                ('oceanrecords_steward', 'Warehouse: sees personal data, looks after queue, quarantine and repairs, forgets.')
        ) AS r (name, description)
    LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = r_role.name) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', r_role.name);
                EXECUTE format('COMMENT ON ROLE %I IS %L', r_role.name, r_role.description);
            END IF;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN
                NULL;
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'role "%" may not create the group role "%"', current_user, r_role.name
                    USING ERRCODE = 'ET030',
                        HINT = format('Let an administrator do: ALTER ROLE %I CREATEROLE; or migrate as a superuser.', current_user);
        END;
        SELECT concat_ws(
            ', ',
            CASE WHEN r.rolsuper THEN 'a superuser' END,
            CASE WHEN r.rolcanlogin THEN 'a login' END,
            CASE WHEN r.rolcreaterole THEN 'able to create roles' END,
            CASE WHEN r.rolcreatedb THEN 'able to create databases' END,
            CASE WHEN r.rolbypassrls THEN 'free of row security' END,
            CASE WHEN r.rolreplication THEN 'able to replicate' END
        )
        INTO v_flaw
        FROM pg_roles AS r
        WHERE r.rolname = r_role.name;
        IF v_flaw <> '' THEN
            RAISE EXCEPTION 'the role "%" exists and is more than a group: %', r_role.name, v_flaw
                USING ERRCODE = 'ET030', HINT = format('Take that from it with ALTER ROLE %I, or migrate on another server.', r_role.name);
        END IF;
    END LOOP;

    -- The migrating role hands objects to the owning role, so it must be a member of it; a superuser need not be.
    IF NOT pg_has_role(current_user, 'oceanrecords_owner', 'USAGE') THEN
        BEGIN
            EXECUTE format('GRANT oceanrecords_owner TO %I', current_user);
        EXCEPTION
            WHEN unique_violation THEN
                NULL;
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'role "%" does not belong to the role "oceanrecords_owner", which is to own the warehouse', current_user
                    USING ERRCODE = 'ET030', HINT = format('Let an administrator do: GRANT oceanrecords_owner TO %I;', current_user);
        END;
    END IF;
END
$make_group_roles$;

CREATE SCHEMA analysis;
COMMENT ON SCHEMA analysis IS 'The stars as analysts see them: the tables of schema dwh under the same names, personal data masked, only the rows that the login may see.';
CREATE SCHEMA audit;
COMMENT ON SCHEMA audit IS 'What was done to users and permissions, and who was forgotten. It only grows, and does not belong to the owner of the warehouse.';

-- Catalog of permissions ----------------------------------------------------------------------------------------------

CREATE TABLE etl.access_level (
    level text PRIMARY KEY,
    role_name name NOT NULL UNIQUE,
    is_for_people boolean NOT NULL,
    description text NOT NULL,
    connection_limit integer CHECK (connection_limit > 0),
    statement_timeout interval CHECK (statement_timeout > interval '0'),
    idle_timeout interval CHECK (idle_timeout > interval '0'),
    temporary_space bigint CHECK (temporary_space > 0)
);
COMMENT ON TABLE etl.access_level IS 'Levels of permission, each a group role.';
COMMENT ON COLUMN etl.access_level.level IS 'Level, as people call it.';
COMMENT ON COLUMN etl.access_level.role_name IS 'Group role; logins become members of it.';
COMMENT ON COLUMN etl.access_level.is_for_people IS 'Whether a person may have it; otherwise it is for programs only.';
COMMENT ON COLUMN etl.access_level.description IS 'What the level is for.';
COMMENT ON COLUMN etl.access_level.connection_limit IS 'Sessions that a login of the level may have at once; NULL for no limit. Of several levels the highest counts.';
COMMENT ON COLUMN etl.access_level.statement_timeout IS 'How long a statement of the level may take; NULL for no limit. A default: the session may set another one.';
COMMENT ON COLUMN etl.access_level.idle_timeout IS 'How long a transaction of the level may be idle; NULL for no limit. A default, too.';
COMMENT ON COLUMN etl.access_level.temporary_space IS 'Space for temporary files of a session, in bytes; NULL for no limit.';

CREATE TABLE etl.access_schema (
    schema_name name PRIMARY KEY,
    owner_level text REFERENCES etl.access_level ON UPDATE CASCADE
);
COMMENT ON TABLE etl.access_schema IS 'Schemas whose permissions are declared in etl.permission.';
COMMENT ON COLUMN etl.access_schema.schema_name IS 'Schema.';
COMMENT ON COLUMN etl.access_schema.owner_level IS 'Level whose role owns the schema and all that is in it; NULL where it stays with who migrates.';
CREATE INDEX access_schema_owner ON etl.access_schema (owner_level);

CREATE TABLE etl.permission (
    level text NOT NULL REFERENCES etl.access_level ON UPDATE CASCADE ON DELETE CASCADE,
    object_kind text NOT NULL CHECK (object_kind IN ('database', 'extension', 'schema', 'relation', 'routine')),
    schema_name name NOT NULL,
    object_name text NOT NULL CHECK (object_name <> ''),
    privileges text[] NOT NULL,
    column_names name[],
    origin text NOT NULL DEFAULT 'own',
    PRIMARY KEY (level, object_kind, schema_name, object_name, privileges),
    CHECK (column_names IS NULL OR (object_kind = 'relation' AND cardinality(column_names) > 0))
);
COMMENT ON TABLE etl.permission IS 'Who may do what with which object. What no row gives is revoked from the levels and from PUBLIC by etl.apply_permissions.';
COMMENT ON COLUMN etl.permission.level IS 'Level.';
COMMENT ON COLUMN etl.permission.object_kind IS 'database, extension (the routines of one), schema, relation (table, view, foreign table, sequence) or routine.';
COMMENT ON COLUMN etl.permission.schema_name IS 'Schema of the object; for a schema, itself; for a routine of an extension, the extension; for the database, empty.';
COMMENT ON COLUMN etl.permission.object_name IS 'Name of the object, * for any characters.';
COMMENT ON COLUMN etl.permission.privileges IS 'Privileges; none where the row says only that the object is left to its owner.';
COMMENT ON COLUMN etl.permission.column_names IS 'Columns that the privileges are confined to; NULL for all.';
COMMENT ON COLUMN etl.permission.origin IS 'Who declares it: engine, or the name of the business, whose rows each installation replaces; own for yours, which it leaves alone.';

CREATE TABLE etl.definer_routine (
    schema_name name NOT NULL,
    routine_name name NOT NULL,
    reason text NOT NULL CHECK (reason <> ''),
    PRIMARY KEY (schema_name, routine_name)
);
COMMENT ON TABLE etl.definer_routine IS 'Routines that work with the rights of their owner (SECURITY DEFINER); no other does.';
COMMENT ON COLUMN etl.definer_routine.schema_name IS 'Schema.';
COMMENT ON COLUMN etl.definer_routine.routine_name IS 'Routine.';
COMMENT ON COLUMN etl.definer_routine.reason IS 'Why it must be so.';

-- What analysts see ---------------------------------------------------------------------------------------------------

CREATE TABLE etl.column_sensitivity (
    schema_name name NOT NULL,
    object_name text NOT NULL CHECK (object_name <> ''),
    column_name name NOT NULL,
    sensitivity text NOT NULL CHECK (sensitivity IN ('public', 'internal', 'personal', 'secret')),
    origin text NOT NULL DEFAULT 'own',
    PRIMARY KEY (schema_name, object_name, column_name)
);
COMMENT ON TABLE etl.column_sensitivity IS 'How sensitive columns of the contract and of the stars are. A column that no row names is not published to analysts.';
COMMENT ON COLUMN etl.column_sensitivity.schema_name IS 'source or dwh.';
COMMENT ON COLUMN etl.column_sensitivity.object_name IS 'Relation, * for all of the schema; a row that names the relation comes first.';
COMMENT ON COLUMN etl.column_sensitivity.column_name IS 'Column.';
COMMENT ON COLUMN etl.column_sensitivity.sensitivity IS 'public: published as it is. internal: a technical key, published as a pseudonym. personal: published as "masked". secret: not published.';
COMMENT ON COLUMN etl.column_sensitivity.origin IS 'Who declares it: engine, or the name of the business, whose rows each installation replaces; own for yours, which it leaves alone.';

CREATE TABLE etl.published_view (
    view_name name PRIMARY KEY,
    rows_query text NOT NULL CHECK (rows_query <> ''),
    origin text NOT NULL DEFAULT 'own'
);
COMMENT ON TABLE etl.published_view IS 'Views of schema analysis. etl.publish() makes them, with the columns that etl.column_sensitivity declares.';
COMMENT ON COLUMN etl.published_view.view_name IS 'View in schema analysis, and table of schema dwh whose columns and comments it takes.';
COMMENT ON COLUMN etl.published_view.rows_query IS 'SELECT that gives the rows that the current login may see, with columns of the table.';
COMMENT ON COLUMN etl.published_view.origin IS 'Who declares it: engine, or the name of the business, whose rows each installation replaces; own for yours, which it leaves alone.';

-- Users ---------------------------------------------------------------------------------------------------------------

CREATE TABLE etl.user_account (
    login name PRIMARY KEY,
    is_service boolean NOT NULL,
    added_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    added_by name NOT NULL DEFAULT session_user
);
COMMENT ON TABLE etl.user_account IS 'Logins that were made for this warehouse. Their levels are memberships of the server, see etl.user_status.';
COMMENT ON COLUMN etl.user_account.login IS 'Login.';
COMMENT ON COLUMN etl.user_account.is_service IS 'Whether a program logs in with it, not a person.';
COMMENT ON COLUMN etl.user_account.added_at IS 'When it was added.';
COMMENT ON COLUMN etl.user_account.added_by IS 'Who added it.';

CREATE TABLE etl.country_access (
    login name NOT NULL,
    country_code text NOT NULL CHECK (country_code <> ''),
    role_id oid NOT NULL,
    granted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (login, country_code)
);
COMMENT ON TABLE etl.country_access IS 'Which login sees which countries in schema analysis. A login without an entry sees none.';
COMMENT ON COLUMN etl.country_access.login IS 'Login.';
COMMENT ON COLUMN etl.country_access.country_code IS 'Country, ISO 3166-1 alpha-2; ?? for what has no known country; * for everything.';
COMMENT ON COLUMN etl.country_access.role_id IS 'The role that had the name when the entry was made: a later role of the same name does not inherit it. Set by the database.';
COMMENT ON COLUMN etl.country_access.granted_at IS 'When the entry was made.';

CREATE TABLE etl.pseudonym_secret (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    secret text NOT NULL DEFAULT replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '')
);
COMMENT ON TABLE etl.pseudonym_secret IS 'Secret that pseudonyms are made with, so that they cannot be made from a list of all keys. Only the owner of the warehouse reads it; etl.rotate_pseudonyms() replaces it.';
COMMENT ON COLUMN etl.pseudonym_secret.is_only IS 'Keeps it at one row.';
COMMENT ON COLUMN etl.pseudonym_secret.secret IS 'The secret.';
INSERT INTO etl.pseudonym_secret DEFAULT VALUES;

-- Forgetting ----------------------------------------------------------------------------------------------------------

CREATE TABLE etl.personal_subject (
    subject text PRIMARY KEY,
    key_type text NOT NULL CHECK (key_type <> '')
);
COMMENT ON TABLE etl.personal_subject IS 'Kinds of subject with personal data, such as a patient.';
COMMENT ON COLUMN etl.personal_subject.subject IS 'Kind of subject.';
COMMENT ON COLUMN etl.personal_subject.key_type IS 'SQL type of its key. Keys are compared as values of this type: 007 and 7 are the same one.';

CREATE TABLE etl.personal_object (
    subject text NOT NULL,
    object name NOT NULL,
    key_columns name[] NOT NULL CHECK (cardinality(key_columns) > 0),
    key_query text NOT NULL CHECK (key_query <> ''),
    PRIMARY KEY (subject, object)
);
COMMENT ON TABLE etl.personal_object IS 'Source tables and dimensions that hold personal data of a kind of subject, such as a patient.';
COMMENT ON COLUMN etl.personal_object.subject IS 'Kind of subject.';
COMMENT ON COLUMN etl.personal_object.object IS 'Source table or dimension.';
COMMENT ON COLUMN etl.personal_object.key_columns IS 'Columns by which its rows are found.';
COMMENT ON COLUMN etl.personal_object.key_query IS 'SELECT that gives the keys of the rows that are about the subject alone; $1 is the subject''s key as text.';

CREATE TABLE etl.personal_column (
    subject text NOT NULL,
    object name NOT NULL,
    column_name name NOT NULL,
    replacement text NOT NULL CHECK (replacement <> ''),
    kept_after_deletion interval DEFAULT '90 days' CHECK (kept_after_deletion >= interval '0'),
    PRIMARY KEY (subject, object, column_name),
    FOREIGN KEY (subject, object) REFERENCES etl.personal_object ON DELETE CASCADE
);
COMMENT ON TABLE etl.personal_column IS 'Columns that hold personal data, and what stands there once the subject is forgotten.';
COMMENT ON COLUMN etl.personal_column.subject IS 'Kind of subject.';
COMMENT ON COLUMN etl.personal_column.object IS 'Source table or dimension.';
COMMENT ON COLUMN etl.personal_column.column_name IS 'Column.';
COMMENT ON COLUMN etl.personal_column.replacement IS 'SQL expression over the row, alias r.';
COMMENT ON COLUMN etl.personal_column.kept_after_deletion IS 'How long the value is kept after the row was deleted in the source; NULL for ever.';

CREATE TABLE etl.forgotten_subject (
    subject text NOT NULL,
    subject_key text NOT NULL,
    forgotten_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    forgotten_by name NOT NULL DEFAULT session_user,
    PRIMARY KEY (subject, subject_key)
);
COMMENT ON TABLE etl.forgotten_subject IS 'Who was forgotten. Their data are suppressed when the source brings them again.';
COMMENT ON COLUMN etl.forgotten_subject.subject IS 'Kind of subject.';
COMMENT ON COLUMN etl.forgotten_subject.subject_key IS 'Key of the subject, as the type of its key writes it.';
COMMENT ON COLUMN etl.forgotten_subject.forgotten_at IS 'When the subject was first forgotten.';
COMMENT ON COLUMN etl.forgotten_subject.forgotten_by IS 'Who did it.';

CREATE TABLE etl.forgotten_row (
    object name NOT NULL,
    row_key jsonb NOT NULL,
    subject text NOT NULL,
    subject_key text NOT NULL,
    PRIMARY KEY (object, row_key),
    FOREIGN KEY (subject, subject_key) REFERENCES etl.forgotten_subject ON DELETE CASCADE
);
CREATE INDEX forgotten_row_subject ON etl.forgotten_row (subject, subject_key);
COMMENT ON TABLE etl.forgotten_row IS 'Rows of the source whose personal columns are replaced when they are extracted.';
COMMENT ON COLUMN etl.forgotten_row.object IS 'Source table.';
COMMENT ON COLUMN etl.forgotten_row.row_key IS 'Key of the row.';
COMMENT ON COLUMN etl.forgotten_row.subject IS 'Kind of subject.';
COMMENT ON COLUMN etl.forgotten_row.subject_key IS 'Key of the subject.';

-- Audit trail ---------------------------------------------------------------------------------------------------------

CREATE TABLE audit.act (
    act_id bigint PRIMARY KEY,
    acted_at timestamptz NOT NULL,
    actor name NOT NULL,
    act text NOT NULL CHECK (act <> ''),
    target text NOT NULL,
    details jsonb NOT NULL DEFAULT '{}',
    hash bytea NOT NULL
);
COMMENT ON TABLE audit.act IS 'What was done to users and permissions, who was forgotten, whose data were read. Rows are added by audit.note, never changed or removed.';
COMMENT ON COLUMN audit.act.act_id IS 'Number of the act: one more than the one before, without gaps.';
COMMENT ON COLUMN audit.act.acted_at IS 'When; set by the database.';
COMMENT ON COLUMN audit.act.actor IS 'Login of the session that did it; set by the database.';
COMMENT ON COLUMN audit.act.act IS 'What was done.';
COMMENT ON COLUMN audit.act.target IS 'To whom: a login, or the kind and key of a subject.';
COMMENT ON COLUMN audit.act.details IS 'What else is to be known; never a password, never personal data.';
COMMENT ON COLUMN audit.act.hash IS 'SHA-256 over the row and the hash of the row before: a row that was changed, removed or put in between breaks the chain.';

/*
Hash of an act in the chain.
Parameters: p_before, hash of the act before, NULL for the first; p_act, the act.
*/
CREATE FUNCTION audit._hash(p_before bytea, p_act audit.act)
RETURNS bytea
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_hash$
    -- The moment as a number: as text it would depend on the time zone of the session.
    SELECT sha256(
        coalesce(p_before, ''::bytea) || convert_to(
            jsonb_build_array(p_act.act_id, extract(epoch FROM p_act.acted_at)::text, p_act.actor, p_act.act, p_act.target, p_act.details)::text,
            'UTF8'
        )
    )
$_hash$;
COMMENT ON FUNCTION audit._hash(bytea, audit.act) IS 'Hash of an act in the chain.';

CREATE FUNCTION audit._sign()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_sign$
DECLARE
    r_before audit.act;
BEGIN
    -- One after the other, to the end of the transaction: a number that is given away is never missing.
    LOCK TABLE audit.act IN SHARE ROW EXCLUSIVE MODE;
    SELECT *
    INTO r_before
    FROM audit.act AS a
    ORDER BY a.act_id DESC
    LIMIT 1;
    NEW.act_id := coalesce(r_before.act_id, 0) + 1;
    NEW.acted_at := clock_timestamp();
    NEW.actor := session_user;
    NEW.hash := audit._hash(r_before.hash, NEW);
    RETURN NEW;
END
$_sign$;
COMMENT ON FUNCTION audit._sign() IS 'Trigger: number, moment, actor and hash are what the database knows, whatever the writer claims.';

/*
Notes an act. The only way to write the audit trail.
Parameters: p_act, what was done; p_target, to whom; p_details, what else is to be known.
Writes:     audit.act.
*/
CREATE FUNCTION audit.note(p_act text, p_target text, p_details jsonb DEFAULT '{}')
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $note$
    INSERT INTO audit.act (act, target, details)
    VALUES (p_act, p_target, p_details)
$note$;
COMMENT ON FUNCTION audit.note(text, text, jsonb) IS 'Notes an act in the audit trail.';

/*
Tells whether the chain is whole. Note number and hash of the last act elsewhere: whoever could write the whole chain anew cannot change what you noted.
Returns:    number of acts; the first one that does not fit, NULL when all do; number and hash of the last act.
*/
CREATE FUNCTION audit.verify()
RETURNS TABLE (acts bigint, first_broken bigint, last_act bigint, last_hash text)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $verify$
    SELECT
        count(*),
        min(c.position) FILTER (WHERE c.act_id <> c.position OR c.hash <> c.expected),
        max(c.act_id),
        (array_agg(encode(c.hash, 'hex') ORDER BY c.act_id DESC))[1]
    FROM (
        SELECT
            a.act_id,
            a.hash,
            row_number() OVER (ORDER BY a.act_id) AS position,
            audit._hash(lag(a.hash) OVER (ORDER BY a.act_id), a) AS expected
        FROM audit.act AS a
    ) AS c
$verify$;
COMMENT ON FUNCTION audit.verify() IS 'Tells whether the chain of the audit trail is whole: first_broken is NULL then.';

CREATE FUNCTION audit._refuse_change()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_refuse_change$
BEGIN
    RAISE EXCEPTION 'the audit trail only grows: % is refused', TG_OP
        USING ERRCODE = 'ET038', HINT = 'What was noted stays noted.';
END
$_refuse_change$;
COMMENT ON FUNCTION audit._refuse_change() IS 'Trigger: refuses to change or remove what was noted.';

-- ANALYZE takes the owner of a table, and the operational tables do not belong to the owner of the warehouse.
CREATE FUNCTION audit._analyze(p_relation regclass)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_analyze$
BEGIN
    EXECUTE format('ANALYZE %s', p_relation);
END
$_analyze$;
COMMENT ON FUNCTION audit._analyze(regclass) IS 'Makes the statistics of a table anew: they hold values of its rows.';

CREATE TRIGGER sign
    BEFORE INSERT ON audit.act
    FOR EACH ROW
    EXECUTE FUNCTION audit._sign();
CREATE TRIGGER refuse_change
    BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.act
    FOR EACH STATEMENT
    EXECUTE FUNCTION audit._refuse_change();
-- Not even a session that plays a replica skips them.
ALTER TABLE audit.act ENABLE ALWAYS TRIGGER sign;
ALTER TABLE audit.act ENABLE ALWAYS TRIGGER refuse_change;
