-- Operations: alerts, quality checks, reconciliation, schedule, maintenance. Routines are in plpgsql/engine/.

ALTER TABLE etl.task DROP CONSTRAINT task_kind_check;
ALTER TABLE etl.task ADD CONSTRAINT task_kind_check
    CHECK (kind IN ('extract', 'stage', 'dimension', 'fact', 'aggregate', 'check', 'maintain'));
COMMENT ON COLUMN etl.task.kind IS 'What is done: extract or stage a source table, load a dimension, a fact or an aggregate, check the quality of the data, maintain the engine''s own history.';

-- Alerts --------------------------------------------------------------------------------------------------------------

CREATE TABLE etl.alert (
    alert_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    raised_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind text NOT NULL CHECK (kind IN ('run', 'check', 'stale')),
    message text NOT NULL,
    details jsonb NOT NULL,
    hook text,
    hook_sqlstate text,
    hook_error text
);
COMMENT ON TABLE etl.alert IS 'Alerts that were raised, and how the hook procedure took each.';
COMMENT ON COLUMN etl.alert.alert_id IS 'Number of the alert.';
COMMENT ON COLUMN etl.alert.raised_at IS 'When it was raised.';
COMMENT ON COLUMN etl.alert.kind IS 'run: a run did not end well; check: a check of severity fail failed; stale: the warehouse was older than promised when a run started.';
COMMENT ON COLUMN etl.alert.message IS 'What happened, in one sentence.';
COMMENT ON COLUMN etl.alert.details IS 'The same for programs.';
COMMENT ON COLUMN etl.alert.hook IS 'Hook procedure that was called; NULL where the setting alert_hook is empty.';
COMMENT ON COLUMN etl.alert.hook_sqlstate IS 'Error code of the hook; NULL when it did well.';
COMMENT ON COLUMN etl.alert.hook_error IS 'Error message of the hook.';

-- Quality checks ------------------------------------------------------------------------------------------------------

CREATE TABLE etl.quality_check (
    check_name text PRIMARY KEY CHECK (check_name <> ''),
    severity text NOT NULL CHECK (severity IN ('warn', 'fail')),
    description text NOT NULL,
    query text NOT NULL CHECK (query <> ''),
    run_every interval NOT NULL DEFAULT '0' CHECK (run_every >= interval '0'),
    is_enabled boolean NOT NULL DEFAULT true,
    added_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    written_objects name[]
);
COMMENT ON TABLE etl.quality_check IS 'Checks of the data''s quality, one row each.';
COMMENT ON COLUMN etl.quality_check.check_name IS 'Name of the check.';
COMMENT ON COLUMN etl.quality_check.severity IS 'warn: violations are recorded; fail: they make the run partial as well.';
COMMENT ON COLUMN etl.quality_check.description IS 'What holds when the check passes.';
COMMENT ON COLUMN etl.quality_check.query IS 'SELECT of the violating rows, every name qualified; none means that the check passes.';
COMMENT ON COLUMN etl.quality_check.run_every IS 'How often runs do the check: 0 in every run, otherwise in the first run after the interval.';
COMMENT ON COLUMN etl.quality_check.is_enabled IS 'Whether runs do it.';
COMMENT ON COLUMN etl.quality_check.added_at IS 'When it was added; the interval counts from then.';
COMMENT ON COLUMN etl.quality_check.written_objects IS 'Dimensions, facts and aggregates whose rows it looks at, as the run has written them: a run that has written none leaves it out. NULL when it looks at more.';

CREATE TABLE etl.check_result (
    result_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    check_name text NOT NULL REFERENCES etl.quality_check ON UPDATE CASCADE ON DELETE CASCADE,
    severity text NOT NULL,
    run_id bigint,
    checked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    status text NOT NULL CHECK (status IN ('passed', 'failed', 'error')),
    violations bigint,
    sample jsonb,
    seconds numeric(12, 3) NOT NULL,
    message text
);
COMMENT ON TABLE etl.check_result IS 'What the quality checks found.';
COMMENT ON COLUMN etl.check_result.result_id IS 'Number of the result.';
COMMENT ON COLUMN etl.check_result.check_name IS 'Check.';
COMMENT ON COLUMN etl.check_result.severity IS 'Severity that the check had.';
COMMENT ON COLUMN etl.check_result.run_id IS 'Run that did the check; NULL where a person did.';
COMMENT ON COLUMN etl.check_result.checked_at IS 'When it was done.';
COMMENT ON COLUMN etl.check_result.status IS 'passed, failed, or error when its query could not be executed.';
COMMENT ON COLUMN etl.check_result.violations IS 'Number of violating rows; NULL after an error.';
COMMENT ON COLUMN etl.check_result.sample IS 'The first few violating rows.';
COMMENT ON COLUMN etl.check_result.seconds IS 'Duration in seconds.';
COMMENT ON COLUMN etl.check_result.message IS 'Error message.';
CREATE INDEX check_result_check ON etl.check_result (check_name, result_id DESC);
CREATE INDEX check_result_run ON etl.check_result (run_id);

-- Reconciliation ------------------------------------------------------------------------------------------------------

CREATE TABLE etl.reconciliation (
    reconciliation_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    objects text[],
    slices integer NOT NULL DEFAULT 1 CHECK (slices > 0),
    slice integer NOT NULL DEFAULT 0 CHECK (slice >= 0 AND slice < slices),
    status text NOT NULL CHECK (status IN ('equal', 'different', 'incomplete')),
    differences bigint NOT NULL,
    left_out jsonb NOT NULL DEFAULT '{}',
    repair_requested_at timestamptz
);
COMMENT ON TABLE etl.reconciliation IS 'Comparisons of source, stage and stars, each on one snapshot.';
COMMENT ON COLUMN etl.reconciliation.reconciliation_id IS 'Number of the reconciliation.';
COMMENT ON COLUMN etl.reconciliation.started_at IS 'Start.';
COMMENT ON COLUMN etl.reconciliation.ended_at IS 'End.';
COMMENT ON COLUMN etl.reconciliation.objects IS 'Objects that it was confined to; NULL for all.';
COMMENT ON COLUMN etl.reconciliation.slices IS 'Into how many slices the keys are divided; 1 when everything was compared.';
COMMENT ON COLUMN etl.reconciliation.slice IS 'Slice that was compared, from 0.';
COMMENT ON COLUMN etl.reconciliation.left_out IS 'Rows left out of all objects, by reason, as in etl.reconciliation_object.';
COMMENT ON COLUMN etl.reconciliation.status IS 'equal; different; incomplete when nothing differs but some object could not be compared, or rows wait for a load. It is incomplete until it ends.';
COMMENT ON COLUMN etl.reconciliation.differences IS 'Number of differing rows.';
COMMENT ON COLUMN etl.reconciliation.repair_requested_at IS 'When the repair of what differs was handed to the next run.';

CREATE TABLE etl.default_member (
    dimension name NOT NULL REFERENCES etl.dimension ON DELETE CASCADE,
    surrogate_key bigint NOT NULL CHECK (surrogate_key < 0),
    member jsonb NOT NULL,
    PRIMARY KEY (dimension, surrogate_key)
);
COMMENT ON TABLE etl.default_member IS 'Default members of the dimensions (-1 Unknown, -2 Not Yet) as they were when etl.build() first saw them. To change one, change its row in the dimension, delete it here, and CALL etl.build().';
COMMENT ON COLUMN etl.default_member.dimension IS 'Dimension.';
COMMENT ON COLUMN etl.default_member.surrogate_key IS 'Surrogate key, below 0.';
COMMENT ON COLUMN etl.default_member.member IS 'The row, without run_id.';

CREATE TABLE etl.reconciliation_object (
    reconciliation_id bigint NOT NULL REFERENCES etl.reconciliation ON DELETE CASCADE,
    object name NOT NULL,
    position bigint NOT NULL,
    comparison text NOT NULL CHECK (
        comparison IN ('source to stage', 'stage to dimension', 'stage to fact', 'fact to aggregate', 'fact to queue', 'claim to row')
    ),
    status text NOT NULL CHECK (status IN ('equal', 'different', 'skipped')),
    expected_rows bigint,
    actual_rows bigint,
    ignored_rows bigint,
    left_out jsonb NOT NULL DEFAULT '{}',
    expected_sums jsonb,
    actual_sums jsonb,
    buckets integer,
    different_buckets integer,
    differences bigint NOT NULL DEFAULT 0,
    seconds numeric(12, 3) NOT NULL,
    message text,
    PRIMARY KEY (reconciliation_id, object)
);
COMMENT ON TABLE etl.reconciliation_object IS 'What a reconciliation found for each object.';
COMMENT ON COLUMN etl.reconciliation_object.reconciliation_id IS 'Reconciliation.';
COMMENT ON COLUMN etl.reconciliation_object.object IS 'Source table, dimension, fact, aggregate, reprocessing_queue or quarantine.';
COMMENT ON COLUMN etl.reconciliation_object.position IS 'Place in the order from the source on.';
COMMENT ON COLUMN etl.reconciliation_object.comparison IS 'Which two layers were compared.';
COMMENT ON COLUMN etl.reconciliation_object.status IS 'equal, different, or skipped with the reason as message.';
COMMENT ON COLUMN etl.reconciliation_object.expected_rows IS 'Rows that there should be.';
COMMENT ON COLUMN etl.reconciliation_object.actual_rows IS 'Rows that there are.';
COMMENT ON COLUMN etl.reconciliation_object.ignored_rows IS 'Rows left out, for whatever reason.';
COMMENT ON COLUMN etl.reconciliation_object.left_out IS 'The same by reason. changed: they differ, and changed in the source since the watermark; quarantined: they cannot be loaded; forgotten: their personal data were replaced; pending: they differ, and wait for a load; following: they differ as something further up does.';
COMMENT ON COLUMN etl.reconciliation_object.expected_sums IS 'Sums of the numeric columns as they should be.';
COMMENT ON COLUMN etl.reconciliation_object.actual_sums IS 'Sums of the numeric columns as they are.';
COMMENT ON COLUMN etl.reconciliation_object.buckets IS 'Number of buckets of keys whose checksums were compared; NULL where rows were compared at once.';
COMMENT ON COLUMN etl.reconciliation_object.different_buckets IS 'Buckets that differ; only their rows were compared one by one.';
COMMENT ON COLUMN etl.reconciliation_object.differences IS 'Number of differing rows.';
COMMENT ON COLUMN etl.reconciliation_object.seconds IS 'Duration in seconds.';
COMMENT ON COLUMN etl.reconciliation_object.message IS 'Why it was skipped, or what else is to be known.';

CREATE TABLE etl.reconciliation_difference (
    reconciliation_id bigint NOT NULL,
    object name NOT NULL,
    difference_id bigint GENERATED ALWAYS AS IDENTITY,
    kind text NOT NULL CHECK (kind IN ('missing', 'surplus', 'different')),
    row_key jsonb NOT NULL,
    columns name[] NOT NULL,
    expected jsonb,
    actual jsonb,
    PRIMARY KEY (reconciliation_id, object, difference_id),
    FOREIGN KEY (reconciliation_id, object) REFERENCES etl.reconciliation_object ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
);
COMMENT ON TABLE etl.reconciliation_difference IS 'Rows that differ, by name: table, key, columns, what should be there and what is. At most as many of an object as the setting reconciliation_rows_kept says.';
COMMENT ON COLUMN etl.reconciliation_difference.reconciliation_id IS 'Reconciliation.';
COMMENT ON COLUMN etl.reconciliation_difference.object IS 'Object whose stage table, dimension, fact or aggregate holds the wrong row.';
COMMENT ON COLUMN etl.reconciliation_difference.difference_id IS 'Number of the difference.';
COMMENT ON COLUMN etl.reconciliation_difference.kind IS 'missing: there is no such row; surplus: it should not be there; different: some columns differ.';
COMMENT ON COLUMN etl.reconciliation_difference.row_key IS 'Business key of the row, with valid_from where a version of a member is meant, or group of an aggregate.';
COMMENT ON COLUMN etl.reconciliation_difference.columns IS 'Columns that differ.';
COMMENT ON COLUMN etl.reconciliation_difference.expected IS 'What they should hold; the whole row for a missing one.';
COMMENT ON COLUMN etl.reconciliation_difference.actual IS 'What they hold; the whole row for a surplus one.';

CREATE TABLE etl.reextraction (
    source_table name NOT NULL REFERENCES etl.source_table ON DELETE CASCADE,
    row_key jsonb NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    batch_id bigint,
    PRIMARY KEY (source_table, row_key)
);
COMMENT ON TABLE etl.reextraction IS 'Rows that the next extraction brings whether they have changed or not.';
COMMENT ON COLUMN etl.reextraction.source_table IS 'Source table.';
COMMENT ON COLUMN etl.reextraction.row_key IS 'Key of the row.';
COMMENT ON COLUMN etl.reextraction.requested_at IS 'When it was asked for.';
COMMENT ON COLUMN etl.reextraction.batch_id IS 'Batch that last brought it; it is done when the watermark has reached that.';

-- Schedule ------------------------------------------------------------------------------------------------------------

CREATE TABLE etl.schedule (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    every text NOT NULL,
    cron_schedule text NOT NULL,
    workers integer NOT NULL CHECK (workers > 0),
    cron_database name NOT NULL,
    time_zone text NOT NULL,
    installed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE etl.schedule IS 'The schedule that was installed, one row at most.';
COMMENT ON COLUMN etl.schedule.is_only IS 'Keeps it at one row.';
COMMENT ON COLUMN etl.schedule.every IS 'Interval or cron expression as it was asked for.';
COMMENT ON COLUMN etl.schedule.cron_schedule IS 'The same as pg_cron understands it.';
COMMENT ON COLUMN etl.schedule.workers IS 'Number of jobs that share each run.';
COMMENT ON COLUMN etl.schedule.cron_database IS 'Database that pg_cron lives in.';
COMMENT ON COLUMN etl.schedule.time_zone IS 'Time zone in which it fires: of pg_cron, for one run a day that of the business when it was installed.';
COMMENT ON COLUMN etl.schedule.installed_at IS 'When it was installed or last changed.';

CREATE TABLE etl.scheduled_start (
    start_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    fired_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    worker integer NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('started', 'joined', 'left', 'failed')),
    run_id bigint,
    message text NOT NULL
);
COMMENT ON TABLE etl.scheduled_start IS 'Every start that the scheduler made, also those that found nothing to do.';
COMMENT ON COLUMN etl.scheduled_start.start_id IS 'Number of the start.';
COMMENT ON COLUMN etl.scheduled_start.fired_at IS 'When it came.';
COMMENT ON COLUMN etl.scheduled_start.worker IS 'Which of the schedule''s jobs it was, from 1.';
COMMENT ON COLUMN etl.scheduled_start.outcome IS 'started a run; joined the run that another job started; left; failed.';
COMMENT ON COLUMN etl.scheduled_start.run_id IS 'Run that it started, joined or found.';
COMMENT ON COLUMN etl.scheduled_start.message IS 'The same in words.';
CREATE INDEX scheduled_start_fired ON etl.scheduled_start (fired_at);
CREATE INDEX scheduled_start_started ON etl.scheduled_start (start_id) WHERE outcome = 'started';

-- Maintenance ---------------------------------------------------------------------------------------------------------

CREATE TABLE etl.maintenance (
    maintenance_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    maintained_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    run_id bigint NOT NULL,
    deleted jsonb NOT NULL
);
COMMENT ON TABLE etl.maintenance IS 'When the engine''s own history was pruned, and of what.';
COMMENT ON COLUMN etl.maintenance.maintenance_id IS 'Number of the maintenance.';
COMMENT ON COLUMN etl.maintenance.maintained_at IS 'When it was done.';
COMMENT ON COLUMN etl.maintenance.run_id IS 'Run that did it.';
COMMENT ON COLUMN etl.maintenance.deleted IS 'Rows deleted, by table.';
