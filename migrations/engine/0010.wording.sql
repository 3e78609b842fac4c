-- Plainer comments, a plainer error of the audit trail, and one power less
--
-- depends: 0009.row-filter

CREATE OR REPLACE FUNCTION audit._refuse_change()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_refuse_change$
BEGIN
    RAISE EXCEPTION 'cannot execute % on the audit trail', TG_OP
        USING ERRCODE = 'ET038', DETAIL = 'It is append-only.', HINT = 'Record a correction as a new act.';
END
$_refuse_change$;

COMMENT ON SCHEMA audit IS 'Audit trail of users, permissions and forgetting. It is append-only and does not belong to the owner of the warehouse.';
COMMENT ON TABLE audit.act IS 'Audit trail of users, permissions, forgetting and traces. audit.note adds rows; none is changed or removed.';
COMMENT ON COLUMN audit.act.act_id IS 'Number of the act, without gaps.';
COMMENT ON COLUMN audit.act.actor IS 'Login of the session; set by the database.';
COMMENT ON COLUMN audit.act.act IS 'Act, such as user added.';
COMMENT ON COLUMN audit.act.target IS 'Target: a login, or the kind and key of a subject.';
COMMENT ON COLUMN audit.act.details IS 'Further facts; never a password, never personal data.';
COMMENT ON COLUMN audit.act.hash IS 'SHA-256 of the row and the previous hash: a changed, removed or inserted row breaks the chain.';
COMMENT ON FUNCTION audit._sign() IS 'Trigger: sets number, time, actor and hash, whatever the writer supplied.';
COMMENT ON FUNCTION audit.note(text, text, jsonb) IS 'Records an act in the audit trail.';
COMMENT ON FUNCTION audit.verify() IS 'Verifies the chain of the audit trail: first_broken is NULL if it is whole.';
COMMENT ON FUNCTION audit._refuse_change() IS 'Trigger: refuses to change or remove entries (ET038).';
COMMENT ON FUNCTION audit._analyze(regclass) IS 'Analyzes a table, so that its statistics no longer hold values of replaced rows.';
COMMENT ON COLUMN etl.task.kind IS 'extract or stage a source table; load a dimension, fact or aggregate; check the quality of the data; maintain the engine''s own history.';
COMMENT ON TABLE etl.alert IS 'Alerts, and the outcome of the hook procedure for each.';
COMMENT ON COLUMN etl.alert.kind IS 'run: a run ended partial or failed; check: a check of severity fail did not pass; stale: the warehouse was stale when a run started.';
COMMENT ON COLUMN etl.alert.hook IS 'Hook procedure that was called; NULL if the setting alert_hook was empty.';
COMMENT ON COLUMN etl.alert.hook_sqlstate IS 'Error code of the hook; NULL if it succeeded.';
COMMENT ON TABLE etl.quality_check IS 'Data quality checks.';
COMMENT ON COLUMN etl.quality_check.severity IS 'warn: violations are recorded; fail: they also make the run partial.';
COMMENT ON COLUMN etl.quality_check.description IS 'Rule that holds if the check passes.';
COMMENT ON COLUMN etl.quality_check.query IS 'SELECT of the violating rows, every name qualified. The check passes if there are none.';
COMMENT ON COLUMN etl.quality_check.run_every IS 'How often runs do the check: 0 means every run, otherwise the first run after the interval.';
COMMENT ON COLUMN etl.quality_check.written_objects IS 'Dimensions, facts and aggregates whose newly written rows it reads: a run that has written none skips it. NULL if it reads more.';
COMMENT ON TABLE etl.check_result IS 'Results of the data quality checks.';
COMMENT ON COLUMN etl.check_result.run_id IS 'Run that did the check; NULL if a person did.';
COMMENT ON COLUMN etl.check_result.checked_at IS 'Time of the check.';
COMMENT ON TABLE etl.reconciliation IS 'Comparisons of source, mirrors, star schemas and aggregates, each on one snapshot.';
COMMENT ON COLUMN etl.reconciliation.slices IS 'Number of slices into which the keys are divided; 1 if everything was compared.';
COMMENT ON COLUMN etl.reconciliation.left_out IS 'Rows of all objects that were excluded, by reason, as in etl.reconciliation_object.';
COMMENT ON COLUMN etl.reconciliation.status IS 'equal; different; incomplete if nothing differs but an object could not be compared, or rows are pending. It is incomplete until it ends.';
COMMENT ON COLUMN etl.reconciliation.repair_requested_at IS 'When the repair was requested from the next run.';
COMMENT ON TABLE etl.reconciliation_object IS 'Result of a reconciliation for each object.';
COMMENT ON COLUMN etl.reconciliation_object.comparison IS 'The two layers that were compared.';
COMMENT ON COLUMN etl.reconciliation_object.expected_rows IS 'Expected number of rows.';
COMMENT ON COLUMN etl.reconciliation_object.actual_rows IS 'Actual number of rows.';
COMMENT ON COLUMN etl.reconciliation_object.ignored_rows IS 'Rows that were excluded.';
COMMENT ON COLUMN etl.reconciliation_object.left_out IS 'Rows left out by reason. changed: they differ, and changed in the source since the watermark; quarantined: they cannot be loaded; forgotten: their personal data were replaced; unlogged: past versions that no log of the source confirms; pending: they differ, and the next load re-evaluates them; following: they differ because an upstream row does.';
COMMENT ON COLUMN etl.reconciliation_object.expected_sums IS 'Expected sums of the numeric columns.';
COMMENT ON COLUMN etl.reconciliation_object.actual_sums IS 'Actual sums of the numeric columns.';
COMMENT ON COLUMN etl.reconciliation_object.buckets IS 'Number of buckets of keys whose checksums were compared; NULL if rows were compared directly.';
COMMENT ON COLUMN etl.reconciliation_object.message IS 'Why it was skipped, or a remark.';
COMMENT ON TABLE etl.reconciliation_difference IS 'Rows that differ: key, columns, expected and actual values. At most as many per object as the setting reconciliation_rows_kept.';
COMMENT ON COLUMN etl.reconciliation_difference.object IS 'Object whose mirror, dimension, fact or aggregate has the wrong row.';
COMMENT ON COLUMN etl.reconciliation_difference.kind IS 'missing: the row does not exist; surplus: it should not exist; different: some columns differ.';
COMMENT ON COLUMN etl.reconciliation_difference.row_key IS 'Business key of the row, with valid_from for a version of a member, or group of an aggregate.';
COMMENT ON COLUMN etl.reconciliation_difference.expected IS 'Expected values; the whole row for a missing one.';
COMMENT ON COLUMN etl.reconciliation_difference.actual IS 'Actual values; the whole row for a surplus one.';
COMMENT ON TABLE etl.reextraction IS 'Rows that the next batch extracts even if they have not changed.';
COMMENT ON COLUMN etl.reextraction.requested_at IS 'When it was requested.';
COMMENT ON COLUMN etl.reextraction.batch_id IS 'Last batch with the row; the request ends when the watermark has reached that batch.';
COMMENT ON TABLE etl.schedule IS 'The installed schedule, one row at most.';
COMMENT ON COLUMN etl.schedule.is_only IS 'Limits the table to one row.';
COMMENT ON COLUMN etl.schedule.every IS 'Interval or cron expression as it was given.';
COMMENT ON COLUMN etl.schedule.cron_schedule IS 'The same in pg_cron''s notation.';
COMMENT ON COLUMN etl.schedule.time_zone IS 'Time zone in which it fires: that of pg_cron; for one run per day, that of the business when it was installed.';
COMMENT ON TABLE etl.scheduled_start IS 'Every start of the schedule, also those that did nothing.';
COMMENT ON COLUMN etl.scheduled_start.fired_at IS 'Time of the start.';
COMMENT ON COLUMN etl.scheduled_start.worker IS 'Number of the job, from 1.';
COMMENT ON TABLE etl.maintenance IS 'Prunings of the engine''s own history.';
COMMENT ON COLUMN etl.maintenance.maintained_at IS 'Time of the maintenance.';
COMMENT ON VIEW source.extraction_point IS 'What the current transaction sees. Read it in the transaction that reads the rows.';
COMMENT ON COLUMN source.extraction_point.system_identifier IS 'Database system that counts these transactions; another system counts from the start.';
COMMENT ON SCHEMA analysis IS 'The stars for analysts: views named like the tables of schema dwh, personal data masked, only rows that the login may see.';
COMMENT ON COLUMN etl.access_level.level IS 'Name of the level.';
COMMENT ON COLUMN etl.access_level.description IS 'Purpose.';
COMMENT ON COLUMN etl.access_level.connection_limit IS 'Sessions that a login of the level may have at once; NULL for no limit. With several levels, the highest limit holds.';
COMMENT ON COLUMN etl.access_level.statement_timeout IS 'How long a statement may take; NULL for no limit. A session may set another value.';
COMMENT ON COLUMN etl.access_level.idle_timeout IS 'How long a transaction may be idle; NULL for no limit. A session may set another value.';
COMMENT ON COLUMN etl.access_schema.owner_level IS 'Level whose role owns the schema and its objects; NULL if they belong to the migrating role.';
COMMENT ON TABLE etl.permission IS 'Privileges of the levels. etl.apply_permissions revokes from the levels and from PUBLIC what no row gives.';
COMMENT ON COLUMN etl.permission.privileges IS 'Privileges; none to leave the object to its owner.';
COMMENT ON COLUMN etl.permission.column_names IS 'Columns to which the privileges are limited; NULL for all.';
COMMENT ON TABLE etl.definer_routine IS 'Routines that have the rights of their owner (SECURITY DEFINER). No other routine has.';
COMMENT ON COLUMN etl.definer_routine.reason IS 'Why it needs them.';
COMMENT ON TABLE etl.column_sensitivity IS 'Sensitivity of the columns of the contract and of the stars. A column without a row is not published to analysts.';
COMMENT ON COLUMN etl.column_sensitivity.object_name IS 'Relation; * for all relations without a row of their own for the column.';
COMMENT ON COLUMN etl.column_sensitivity.sensitivity IS 'public: published unchanged. internal: a technical key, published as a pseudonym. personal: published as "masked". secret: not published.';
COMMENT ON TABLE etl.published_view IS 'Views of schema analysis. etl.publish() creates them with the columns that etl.column_sensitivity declares.';
COMMENT ON COLUMN etl.published_view.rows_query IS 'SELECT of the rows that the current login may see, with columns of the table.';
COMMENT ON TABLE etl.user_account IS 'Logins that were added to this warehouse. Their levels are memberships of the server, see etl.user_status.';
COMMENT ON COLUMN etl.user_account.added_by IS 'Role that added it.';
COMMENT ON TABLE etl.pseudonym_secret IS 'Secret of the pseudonyms, without which they cannot be computed from a list of keys. Only the owner of the warehouse reads it; etl.rotate_pseudonyms() replaces it.';
COMMENT ON COLUMN etl.pseudonym_secret.is_only IS 'Limits the table to one row.';
COMMENT ON COLUMN etl.personal_subject.key_type IS 'SQL type of its key. Keys are compared as values of this type: 007 equals 7.';
COMMENT ON COLUMN etl.personal_object.key_columns IS 'Columns that identify its rows.';
COMMENT ON COLUMN etl.personal_object.key_query IS 'SELECT of the keys of the rows that are about this subject only; $1 is the subject''s key as text.';
COMMENT ON TABLE etl.personal_column IS 'Columns with personal data, and their values after the subject is forgotten.';
COMMENT ON COLUMN etl.personal_column.kept_after_deletion IS 'How long the value is kept after the deletion of the row in the source; NULL for ever.';
COMMENT ON TABLE etl.forgotten_subject IS 'Forgotten subjects. Their data are replaced when the source sends them again.';
COMMENT ON COLUMN etl.forgotten_subject.subject_key IS 'Canonical key of the subject.';
COMMENT ON COLUMN etl.forgotten_subject.forgotten_by IS 'Login that forgot it.';
COMMENT ON TABLE etl.forgotten_row IS 'Rows of the source whose personal columns are replaced during extraction.';
COMMENT ON TABLE etl.object_tag IS 'Tags of objects, for selectors such as tag:finance.';

-- Loads no longer check foreign keys at once.
DO $take_back$
BEGIN
    IF has_parameter_privilege('oceanrecords_owner', 'session_replication_role', 'SET')
        AND has_parameter_privilege('session_replication_role', 'SET WITH GRANT OPTION')
    THEN
        REVOKE SET ON PARAMETER session_replication_role FROM oceanrecords_owner;
    END IF;
END
$take_back$;
