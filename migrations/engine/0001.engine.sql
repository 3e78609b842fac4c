-- The warehouse's layers and the engine's control tables. The engine (schema etl) knows nothing of any business: everything
-- that is particular to one is a row in a table below. Routines are installed from plpgsql/ after every apply.

-- For the exclusion constraints that keep versions of a dimension's member from overlapping.
CREATE EXTENSION IF NOT EXISTS btree_gist;

CREATE SCHEMA source;
COMMENT ON SCHEMA source IS 'Extraction contract: one relation a source table, views or foreign tables. The only place where the warehouse touches the operational system.';
CREATE SCHEMA delta;
COMMENT ON SCHEMA delta IS 'What the latest batches extracted, with operation and batch. Transient and unlogged: a crash empties it and the batch is extracted anew.';
CREATE SCHEMA stage;
COMMENT ON SCHEMA stage IS 'Mirror of the source tables, with the batch that wrote each row and a mark on the deleted ones.';
CREATE SCHEMA work;
COMMENT ON SCHEMA work IS 'Transformation views, pending keys and decision tables: what is about to happen to each row of a dimension or fact.';
CREATE SCHEMA dwh;
COMMENT ON SCHEMA dwh IS 'Star schemas: dimensions with history and facts.';
CREATE SCHEMA kpi;
COMMENT ON SCHEMA kpi IS 'Key performance indicators: the views that dashboards read, and all that business users see.';
CREATE SCHEMA compiled;
COMMENT ON SCHEMA compiled IS 'Routines that etl.build() writes from templates, one for each object and step. Runs call them; do not edit them.';
CREATE SCHEMA etl;
COMMENT ON SCHEMA etl IS 'The engine: catalog, watermarks, runs, tasks, reprocessing queue, and the procedures that use them.';

-- Settings ------------------------------------------------------------------------------------------------------------

CREATE TABLE etl.setting (
    name text PRIMARY KEY,
    value text NOT NULL,
    value_type text NOT NULL DEFAULT 'text'
        CHECK (value_type IN ('text', 'count', 'currency', 'date', 'interval', 'percent', 'procedure', 'time zone')),
    description text NOT NULL
);
COMMENT ON TABLE etl.setting IS 'Settings of the warehouse, one row each; change the value with UPDATE.';
COMMENT ON COLUMN etl.setting.name IS 'Name of the setting.';
COMMENT ON COLUMN etl.setting.value IS 'Value as text; the reader casts it.';
COMMENT ON COLUMN etl.setting.value_type IS 'What the value has to be; it is checked as it is written.';
COMMENT ON COLUMN etl.setting.description IS 'What the setting decides, with its unit.';

CREATE TABLE etl.declaration (
    kind text NOT NULL CHECK (kind IN ('source', 'dimension', 'fact', 'aggregate', 'check')),
    object name NOT NULL,
    business text,
    declared_by xid8 NOT NULL,
    PRIMARY KEY (kind, object)
);
COMMENT ON TABLE etl.declaration IS 'What etl.define_*() has declared, and when: an installation drops from the catalog what it no longer declares.';
COMMENT ON COLUMN etl.declaration.kind IS 'source, dimension, fact, aggregate or check.';
COMMENT ON COLUMN etl.declaration.object IS 'Name of the object.';
COMMENT ON COLUMN etl.declaration.business IS 'Business that declares it; NULL where it was declared by hand.';
COMMENT ON COLUMN etl.declaration.declared_by IS 'Transaction that last declared it.';

-- Catalog: sources ----------------------------------------------------------------------------------------------------

CREATE TABLE etl.source_table (
    source_table name PRIMARY KEY,
    key_columns name[] NOT NULL CHECK (cardinality(key_columns) > 0),
    change_detection text NOT NULL DEFAULT 'snapshot' CHECK (change_detection IN ('snapshot', 'timestamp', 'comparison')),
    change_column name,
    lookback interval NOT NULL DEFAULT '10 minutes' CHECK (lookback >= interval '0'),
    delete_detection text NOT NULL DEFAULT 'none' CHECK (delete_detection IN ('tombstone', 'comparison', 'none')),
    CHECK ((change_detection = 'comparison') = (change_column IS NULL))
);
COMMENT ON TABLE etl.source_table IS 'Source tables: for each row there is a relation source.<name>, and the engine keeps delta.<name> and stage.<name>.';
COMMENT ON COLUMN etl.source_table.source_table IS 'Name of the table in the schemas source, delta and stage.';
COMMENT ON COLUMN etl.source_table.key_columns IS 'Columns that identify a row.';
COMMENT ON COLUMN etl.source_table.change_detection IS 'How changed rows are found: snapshot (exact, by the xid8 of the writing transaction), timestamp (by a time of change, with lookback), comparison (all rows every time).';
COMMENT ON COLUMN etl.source_table.change_column IS 'Column of type xid8 (snapshot) or timestamptz (timestamp) that tells when a row changed.';
COMMENT ON COLUMN etl.source_table.lookback IS 'Change detection by timestamp: how far before the last watermark rows are read again.';
COMMENT ON COLUMN etl.source_table.delete_detection IS 'How deleted rows are found: tombstone (source.tombstones), comparison (keys of stage against the source, every time), none.';

CREATE TABLE etl.watermark (
    source_table name PRIMARY KEY REFERENCES etl.source_table ON DELETE CASCADE,
    snapshot pg_snapshot NOT NULL,
    system_identifier bigint NOT NULL,
    timeline_id bigint,
    database_id bigint,
    read_at timestamptz NOT NULL,
    batch_id bigint NOT NULL,
    compared_at timestamptz
);
COMMENT ON TABLE etl.watermark IS 'How far each source table has reached stage. Moved in the transaction that moves the data.';
COMMENT ON COLUMN etl.watermark.source_table IS 'Source table.';
COMMENT ON COLUMN etl.watermark.snapshot IS 'Transactions of the source that the mirror contains: all that this snapshot sees.';
COMMENT ON COLUMN etl.watermark.system_identifier IS 'Database system that the snapshot belongs to; transaction ids of another one mean nothing here.';
COMMENT ON COLUMN etl.watermark.timeline_id IS 'Timeline of the source''s WAL, which a failover or a recovery to a point in time changes; NULL where the source does not report it.';
COMMENT ON COLUMN etl.watermark.database_id IS 'Oid of the source''s database; NULL where the source does not report it.';
COMMENT ON COLUMN etl.watermark.read_at IS 'Moment, by the source''s clock, as of which the mirror is complete.';
COMMENT ON COLUMN etl.watermark.batch_id IS 'Batch that moved the watermark here.';
COMMENT ON COLUMN etl.watermark.compared_at IS 'When the whole table was last compared with its mirror, by the source''s clock; NULL when it never was.';

-- Catalog: dimensions -------------------------------------------------------------------------------------------------

CREATE TABLE etl.dimension (
    dimension name PRIMARY KEY,
    dimension_table regclass NOT NULL UNIQUE,
    transform_view regclass,
    history_view regclass,
    expected_view regclass CHECK (expected_view IS NULL OR transform_view IS NULL),
    surrogate_key name NOT NULL,
    business_key name[] NOT NULL CHECK (cardinality(business_key) > 0)
);
COMMENT ON TABLE etl.dimension IS 'Dimensions that the engine keeps.';
COMMENT ON COLUMN etl.dimension.dimension IS 'Name of the dimension; also the name of its key and decision tables in schema work.';
COMMENT ON COLUMN etl.dimension.dimension_table IS 'Table of the dimension.';
COMMENT ON COLUMN etl.dimension.transform_view IS 'View that gives one row a member as it is now: business key, attributes, effective_at, deleted_at. NULL for a dimension that is filled once and for all, such as a calendar.';
COMMENT ON COLUMN etl.dimension.history_view IS 'View over a log of the source, where it keeps one: business key, valid_from and the attributes that the log tells.';
COMMENT ON COLUMN etl.dimension.expected_view IS 'Of a dimension that nothing loads: view of the rows that it should hold, all columns of its table. A reconciliation compares it; NULL where there is none.';
COMMENT ON COLUMN etl.dimension.surrogate_key IS 'Surrogate key column, an identity.';
COMMENT ON COLUMN etl.dimension.business_key IS 'Columns that identify a member.';

CREATE TABLE etl.dimension_attribute (
    dimension name NOT NULL REFERENCES etl.dimension ON DELETE CASCADE,
    attribute name NOT NULL,
    scd_type smallint NOT NULL CHECK (scd_type IN (0, 1, 2)),
    PRIMARY KEY (dimension, attribute)
);
COMMENT ON TABLE etl.dimension_attribute IS 'Attributes of the dimensions and how each takes a change (slowly changing dimension type, Kimball).';
COMMENT ON COLUMN etl.dimension_attribute.dimension IS 'Dimension.';
COMMENT ON COLUMN etl.dimension_attribute.attribute IS 'Column, of this name in the view and in the table.';
COMMENT ON COLUMN etl.dimension_attribute.scd_type IS '0 keeps the first value, 1 overwrites in all versions, 2 opens a new version.';

-- Catalog: facts ------------------------------------------------------------------------------------------------------

CREATE TABLE etl.fact (
    fact name PRIMARY KEY,
    fact_table regclass NOT NULL UNIQUE,
    transform_view regclass NOT NULL,
    business_key name[] NOT NULL CHECK (cardinality(business_key) > 0),
    measures name[] NOT NULL
);
COMMENT ON TABLE etl.fact IS 'Facts that the engine keeps.';
COMMENT ON COLUMN etl.fact.fact IS 'Name of the fact; also the name of its key and decision tables in schema work.';
COMMENT ON COLUMN etl.fact.fact_table IS 'Table of the fact.';
COMMENT ON COLUMN etl.fact.transform_view IS 'View that gives one row at the fact''s grain: business key, the business keys of its dimensions, measures, deleted_at.';
COMMENT ON COLUMN etl.fact.business_key IS 'Columns that identify a row: the grain.';
COMMENT ON COLUMN etl.fact.measures IS 'Columns that a deleted row takes out of every sum: numbers become 0, anything else false or NULL.';

CREATE TABLE etl.fact_dimension (
    fact name NOT NULL REFERENCES etl.fact ON DELETE CASCADE,
    key_column name NOT NULL,
    dimension name NOT NULL REFERENCES etl.dimension,
    lookup_columns name[] NOT NULL,
    as_of_column name,
    null_key bigint NOT NULL DEFAULT -1,
    lookup_role name,
    PRIMARY KEY (fact, key_column),
    FOREIGN KEY (fact, lookup_role) REFERENCES etl.fact_dimension
);
COMMENT ON TABLE etl.fact_dimension IS 'Dimension keys of the facts; a dimension may play several roles.';
COMMENT ON COLUMN etl.fact_dimension.fact IS 'Fact.';
COMMENT ON COLUMN etl.fact_dimension.key_column IS 'Column of the fact table that takes the surrogate key.';
COMMENT ON COLUMN etl.fact_dimension.dimension IS 'Dimension that is looked up.';
COMMENT ON COLUMN etl.fact_dimension.lookup_columns IS 'Columns of the fact''s view, or of lookup_role''s dimension, that hold the business key, in the order of the dimension''s.';
COMMENT ON COLUMN etl.fact_dimension.as_of_column IS 'Column of the fact''s view with the moment whose version is wanted; NULL where the dimension has no versions.';
COMMENT ON COLUMN etl.fact_dimension.null_key IS 'Key when the fact has no business key for this dimension.';
COMMENT ON COLUMN etl.fact_dimension.lookup_role IS 'Another key column of the fact, whose member has the lookup columns, such as a version that knows the key of another member; NULL where the fact''s view has them.';

-- Catalog: aggregates -------------------------------------------------------------------------------------------------

CREATE TABLE etl.aggregate (
    aggregate name PRIMARY KEY,
    aggregate_table regclass NOT NULL UNIQUE,
    contribution_view regclass NOT NULL,
    contribution_key name[] NOT NULL CHECK (cardinality(contribution_key) > 0),
    group_key name[] NOT NULL CHECK (cardinality(group_key) > 0),
    measures name[] NOT NULL CHECK (cardinality(measures) > 0),
    finer_aggregate name REFERENCES etl.aggregate CHECK (finer_aggregate <> aggregate),
    finer_expressions text[] CHECK (finer_expressions IS NULL OR (finer_aggregate IS NOT NULL AND cardinality(finer_expressions) = cardinality(group_key)))
);
CREATE INDEX aggregate_finer ON etl.aggregate (finer_aggregate);
COMMENT ON TABLE etl.aggregate IS 'Aggregates of facts that the engine keeps by adding and subtracting what changed.';
COMMENT ON COLUMN etl.aggregate.aggregate IS 'Name of the aggregate; also the name of its difference table in schema work.';
COMMENT ON COLUMN etl.aggregate.aggregate_table IS 'Table of the aggregate.';
COMMENT ON COLUMN etl.aggregate.contribution_view IS 'View that gives what each fact row contributes: contribution key, group key, measures. A group may only depend on facts and on what a dimension''s version never changes.';
COMMENT ON COLUMN etl.aggregate.contribution_key IS 'Columns, of the view and of its facts, by which contributions are found.';
COMMENT ON COLUMN etl.aggregate.group_key IS 'Columns that identify a row of the aggregate.';
COMMENT ON COLUMN etl.aggregate.measures IS 'Additive measures.';
COMMENT ON COLUMN etl.aggregate.finer_aggregate IS 'Aggregate of the same contributions that this one sums up further; NULL where facts feed it.';
COMMENT ON COLUMN etl.aggregate.finer_expressions IS 'What the finer aggregate''s columns (alias c) make each column of the group key of, such as its quarter of a month; NULL where the columns are the same.';

CREATE TABLE etl.aggregate_fact (
    aggregate name NOT NULL REFERENCES etl.aggregate ON DELETE CASCADE,
    fact name NOT NULL REFERENCES etl.fact ON DELETE CASCADE,
    watched_columns name[],
    PRIMARY KEY (aggregate, fact)
);
COMMENT ON TABLE etl.aggregate_fact IS 'Facts whose changes touch an aggregate.';
COMMENT ON COLUMN etl.aggregate_fact.aggregate IS 'Aggregate.';
COMMENT ON COLUMN etl.aggregate_fact.fact IS 'Fact.';
COMMENT ON COLUMN etl.aggregate_fact.watched_columns IS 'Columns of the fact that the contribution view reads: a row that changes in others alone contributes as before. NULL for all.';
CREATE INDEX aggregate_fact_fact ON etl.aggregate_fact (fact);

CREATE TABLE etl.dependency (
    object name NOT NULL,
    source_table name NOT NULL REFERENCES etl.source_table ON DELETE CASCADE,
    key_query text NOT NULL,
    watched_columns name[],
    PRIMARY KEY (object, source_table)
);
COMMENT ON TABLE etl.dependency IS 'Which keys of a dimension or fact a change in a source table touches.';
COMMENT ON COLUMN etl.dependency.object IS 'Dimension or fact.';
COMMENT ON COLUMN etl.dependency.source_table IS 'Source table.';
COMMENT ON COLUMN etl.dependency.key_query IS 'SELECT that gives the object''s business key from "changed": the source table''s changed rows, as they were and as they are.';
COMMENT ON COLUMN etl.dependency.watched_columns IS 'Where given, only changes to these columns count.';

-- Tasks ---------------------------------------------------------------------------------------------------------------

CREATE TABLE etl.task (
    task text PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('extract', 'stage', 'dimension', 'fact', 'aggregate')),
    object name NOT NULL,
    position integer NOT NULL,
    max_attempts integer NOT NULL DEFAULT 3 CHECK (max_attempts > 0),
    is_enabled boolean NOT NULL DEFAULT true,
    UNIQUE (kind, object)
);
COMMENT ON TABLE etl.task IS 'Tasks of a run.';
COMMENT ON COLUMN etl.task.task IS 'Name: kind and object.';
COMMENT ON COLUMN etl.task.kind IS 'What is done: extract or stage a source table, load a dimension, a fact or an aggregate.';
COMMENT ON COLUMN etl.task.object IS 'Source table, dimension, fact or aggregate.';
COMMENT ON COLUMN etl.task.position IS 'Among tasks that could start, the lowest position does.';
COMMENT ON COLUMN etl.task.max_attempts IS 'How often the task is tried in one run when it fails in a way that trying again may mend (deadlock, lock timeout, lack of resources).';
COMMENT ON COLUMN etl.task.is_enabled IS 'Whether runs include the task.';

CREATE TABLE etl.task_edge (
    task text NOT NULL REFERENCES etl.task ON DELETE CASCADE,
    predecessor text NOT NULL REFERENCES etl.task ON DELETE CASCADE,
    wait_for text NOT NULL CHECK (wait_for IN ('success', 'end')),
    PRIMARY KEY (task, predecessor),
    CHECK (task <> predecessor)
);
COMMENT ON TABLE etl.task_edge IS 'What a task waits for. A predecessor that is not part of the run is not waited for.';
COMMENT ON COLUMN etl.task_edge.task IS 'The task that waits.';
COMMENT ON COLUMN etl.task_edge.predecessor IS 'The task waited for.';
COMMENT ON COLUMN etl.task_edge.wait_for IS 'success: the task is skipped when its predecessor failed; end: it starts in any case.';
CREATE INDEX task_edge_predecessor ON etl.task_edge (predecessor);

-- Runs ----------------------------------------------------------------------------------------------------------------

CREATE TABLE etl.run (
    run_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'succeeded', 'partial', 'failed')),
    origin text NOT NULL,
    only_tasks text[],
    full_refresh text[],
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    resumed integer NOT NULL DEFAULT 0,
    reload_reasons jsonb,
    CHECK ((status = 'running') = (ended_at IS NULL))
);
COMMENT ON TABLE etl.run IS 'Runs of the warehouse.';
COMMENT ON COLUMN etl.run.run_id IS 'Number of the run; the lineage that every row of the stars carries.';
COMMENT ON COLUMN etl.run.status IS 'running (or interrupted, see etl.run_status), succeeded, partial (some tasks failed or were skipped, or rows were left out), failed (none succeeded).';
COMMENT ON COLUMN etl.run.origin IS 'Who asked for the run: sql, cli, pg_cron.';
COMMENT ON COLUMN etl.run.only_tasks IS 'Tasks or objects that the run was confined to.';
COMMENT ON COLUMN etl.run.full_refresh IS 'Objects that the run was asked to rebuild.';
COMMENT ON COLUMN etl.run.started_at IS 'Start.';
COMMENT ON COLUMN etl.run.ended_at IS 'End; NULL while it runs.';
COMMENT ON COLUMN etl.run.resumed IS 'How often the run was taken up again after it had died.';
COMMENT ON COLUMN etl.run.reload_reasons IS 'Objects that the run loads completely because what their rows depend on has changed, each with the changes; NULL where there is none.';
CREATE UNIQUE INDEX run_one_running ON etl.run (status) WHERE status = 'running';

CREATE TABLE etl.worker (
    worker_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id bigint NOT NULL REFERENCES etl.run ON DELETE CASCADE,
    pid integer NOT NULL,
    lock_key bigint NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX worker_run ON etl.worker (run_id);
COMMENT ON TABLE etl.worker IS 'Sessions that work on a run. A worker whose session ended without removing its row is recognised by its lock.';
COMMENT ON COLUMN etl.worker.worker_id IS 'Number of the worker, a new one for each CALL etl.work().';
COMMENT ON COLUMN etl.worker.run_id IS 'Run that it works on.';
COMMENT ON COLUMN etl.worker.pid IS 'Its backend.';
COMMENT ON COLUMN etl.worker.lock_key IS 'Random key of the advisory lock that its session holds as long as it works.';
COMMENT ON COLUMN etl.worker.started_at IS 'When it joined the run.';

CREATE TABLE etl.run_control (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    definition_signature text
);
INSERT INTO etl.run_control DEFAULT VALUES;
COMMENT ON TABLE etl.run_control IS 'One row. Who starts a run, migrates, repairs or forgets locks it first.';
COMMENT ON COLUMN etl.run_control.is_only IS 'Keeps it at one row.';
COMMENT ON COLUMN etl.run_control.definition_signature IS 'Signature of the definitions that all objects were last found to be loaded with; while it stays the same, no object is looked at.';

CREATE TABLE etl.task_run (
    run_id bigint NOT NULL REFERENCES etl.run ON DELETE CASCADE,
    task text NOT NULL,
    kind text NOT NULL,
    object name NOT NULL,
    position integer NOT NULL,
    max_attempts integer NOT NULL,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'running', 'succeeded', 'failed', 'skipped')),
    attempts integer NOT NULL DEFAULT 0,
    worker_id bigint,
    worker_pid integer,
    started_at timestamptz,
    ended_at timestamptz,
    rows_read bigint NOT NULL DEFAULT 0,
    rows_inserted bigint NOT NULL DEFAULT 0,
    rows_updated bigint NOT NULL DEFAULT 0,
    rows_deleted bigint NOT NULL DEFAULT 0,
    rows_queued bigint NOT NULL DEFAULT 0,
    rows_quarantined bigint NOT NULL DEFAULT 0,
    sqlstate text,
    message text,
    detail text,
    hint text,
    context text,
    PRIMARY KEY (run_id, task)
);
-- A claim reads from the front what is free to start, and stops at the first.
CREATE INDEX task_run_position ON etl.task_run (run_id, position);
COMMENT ON TABLE etl.task_run IS 'What each run did, task by task.';
COMMENT ON COLUMN etl.task_run.run_id IS 'Run.';
COMMENT ON COLUMN etl.task_run.task IS 'Task.';
COMMENT ON COLUMN etl.task_run.kind IS 'Kind of the task when the run started.';
COMMENT ON COLUMN etl.task_run.object IS 'Object of the task.';
COMMENT ON COLUMN etl.task_run.position IS 'Position of the task when the run started.';
COMMENT ON COLUMN etl.task_run.max_attempts IS 'Attempts that the run allows.';
COMMENT ON COLUMN etl.task_run.status IS 'pending, running, succeeded, failed, or skipped because a predecessor did not succeed.';
COMMENT ON COLUMN etl.task_run.attempts IS 'How often it was started.';
COMMENT ON COLUMN etl.task_run.worker_id IS 'Worker that has claimed it (etl.worker).';
COMMENT ON COLUMN etl.task_run.worker_pid IS 'Backend that works or worked on it.';
COMMENT ON COLUMN etl.task_run.started_at IS 'Start of the last attempt.';
COMMENT ON COLUMN etl.task_run.ended_at IS 'End of the last attempt.';
COMMENT ON COLUMN etl.task_run.rows_read IS 'Rows or keys looked at.';
COMMENT ON COLUMN etl.task_run.rows_inserted IS 'Rows inserted.';
COMMENT ON COLUMN etl.task_run.rows_updated IS 'Rows updated.';
COMMENT ON COLUMN etl.task_run.rows_deleted IS 'Rows marked as deleted.';
COMMENT ON COLUMN etl.task_run.rows_queued IS 'Rows queued for reprocessing.';
COMMENT ON COLUMN etl.task_run.rows_quarantined IS 'Rows that could not be loaded and went to quarantine.';
COMMENT ON COLUMN etl.task_run.sqlstate IS 'Error code of the last failed attempt.';
COMMENT ON COLUMN etl.task_run.message IS 'Error message of the last failed attempt, or why the task was skipped.';
COMMENT ON COLUMN etl.task_run.detail IS 'Detail of the error.';
COMMENT ON COLUMN etl.task_run.hint IS 'Hint of the error.';
COMMENT ON COLUMN etl.task_run.context IS 'Where in the code the error was raised.';

-- Batches -------------------------------------------------------------------------------------------------------------

CREATE TABLE etl.batch (
    batch_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id bigint NOT NULL REFERENCES etl.run ON DELETE CASCADE,
    extracted_by xid8 NOT NULL,
    snapshot pg_snapshot NOT NULL,
    system_identifier bigint NOT NULL,
    timeline_id bigint,
    database_id bigint,
    read_at timestamptz NOT NULL,
    wal_inserted_until pg_lsn,
    tables_with_tombstones name[] NOT NULL,
    compared_because text
);
COMMENT ON TABLE etl.batch IS 'Batches: what was extracted on one snapshot of the source.';
COMMENT ON COLUMN etl.batch.batch_id IS 'Number of the batch.';
COMMENT ON COLUMN etl.batch.run_id IS 'Run that extracted it.';
COMMENT ON COLUMN etl.batch.snapshot IS 'Snapshot of the source that all its tables were read on.';
COMMENT ON COLUMN etl.batch.system_identifier IS 'Database system of the source.';
COMMENT ON COLUMN etl.batch.extracted_by IS 'Transaction of this database that extracts, or extracted, the batch.';
COMMENT ON COLUMN etl.batch.timeline_id IS 'Timeline of the source''s WAL; NULL where the source does not report it.';
COMMENT ON COLUMN etl.batch.database_id IS 'Oid of the source''s database; NULL where the source does not report it.';
COMMENT ON COLUMN etl.batch.read_at IS 'Moment of the snapshot, by the source''s clock.';
COMMENT ON COLUMN etl.batch.wal_inserted_until IS 'End of the WAL that the source had written at the snapshot; NULL where the source does not report it.';
COMMENT ON COLUMN etl.batch.tables_with_tombstones IS 'Source tables that may have tombstones which some mirror does not know yet.';
COMMENT ON COLUMN etl.batch.compared_because IS 'Why the source is not the one that the mirrors were read from, so that all tables were compared with it; NULL when it is.';
CREATE INDEX batch_run ON etl.batch (run_id);

CREATE TABLE etl.extraction (
    batch_id bigint NOT NULL REFERENCES etl.batch ON DELETE CASCADE,
    source_table name NOT NULL REFERENCES etl.source_table ON DELETE CASCADE,
    rows_extracted bigint NOT NULL,
    complete_until timestamptz NOT NULL,
    is_bulk boolean NOT NULL,
    is_complete boolean NOT NULL,
    PRIMARY KEY (batch_id, source_table)
);
COMMENT ON TABLE etl.extraction IS 'A source table''s part in a batch.';
COMMENT ON COLUMN etl.extraction.batch_id IS 'Batch.';
COMMENT ON COLUMN etl.extraction.source_table IS 'Source table.';
COMMENT ON COLUMN etl.extraction.rows_extracted IS 'Rows written to delta, or to stage for a bulk load.';
COMMENT ON COLUMN etl.extraction.complete_until IS 'Moment up to which the changes are complete; the watermark of change detection by timestamp.';
COMMENT ON COLUMN etl.extraction.is_bulk IS 'Whether the rows filled an empty stage table, without delta.';
COMMENT ON COLUMN etl.extraction.is_complete IS 'Whether the whole table was read, not only its changes.';

CREATE TYPE etl.load_result AS (
    rows_read bigint,
    rows_inserted bigint,
    rows_updated bigint,
    rows_deleted bigint,
    rows_queued bigint,
    rows_quarantined bigint
);
COMMENT ON TYPE etl.load_result IS 'Rows that a task read, inserted, updated, marked as deleted, queued, and put into quarantine.';

-- State of the objects ------------------------------------------------------------------------------------------------

CREATE TABLE etl.load_state (
    object name PRIMARY KEY,
    needs_reload boolean NOT NULL DEFAULT true,
    loaded_batch_id bigint,
    loaded_at timestamptz,
    fingerprint jsonb
);
COMMENT ON TABLE etl.load_state IS 'How far each dimension, fact and aggregate is loaded. What is pending is in work.<object>_key, or work.<aggregate>_difference.';
COMMENT ON COLUMN etl.load_state.object IS 'Dimension, fact or aggregate.';
COMMENT ON COLUMN etl.load_state.needs_reload IS 'Whether the next load goes over all keys instead of the pending ones.';
COMMENT ON COLUMN etl.load_state.loaded_batch_id IS 'Watermark: batch up to which the object is loaded.';
COMMENT ON COLUMN etl.load_state.loaded_at IS 'When it was last loaded.';
COMMENT ON COLUMN etl.load_state.fingerprint IS 'What its rows depended on when it was last loaded completely: views, functions, settings and catalog rows, each with a checksum. Where it differs from what is there now, the next run loads the object completely.';

CREATE TABLE etl.reprocessing_queue (
    fact name NOT NULL REFERENCES etl.fact ON DELETE CASCADE,
    fact_key jsonb NOT NULL,
    key_column name NOT NULL,
    dimension name NOT NULL,
    dimension_key jsonb NOT NULL,
    is_ready boolean NOT NULL DEFAULT false,
    attempts integer NOT NULL DEFAULT 1,
    queued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    tried_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    run_id bigint NOT NULL,
    PRIMARY KEY (fact, fact_key, key_column)
);
COMMENT ON TABLE etl.reprocessing_queue IS 'Facts whose dimension key is not resolved (they carry -1) or no longer right. A load of the dimension''s member makes them ready, and the fact''s next load resolves them.';
COMMENT ON COLUMN etl.reprocessing_queue.fact IS 'Fact.';
COMMENT ON COLUMN etl.reprocessing_queue.fact_key IS 'Business key of the fact''s row.';
COMMENT ON COLUMN etl.reprocessing_queue.key_column IS 'Key column that waits.';
COMMENT ON COLUMN etl.reprocessing_queue.dimension IS 'Dimension waited for.';
COMMENT ON COLUMN etl.reprocessing_queue.dimension_key IS 'Business key of the member waited for.';
COMMENT ON COLUMN etl.reprocessing_queue.is_ready IS 'Whether the next load of the fact tries again.';
COMMENT ON COLUMN etl.reprocessing_queue.attempts IS 'How often the key was looked up in vain.';
COMMENT ON COLUMN etl.reprocessing_queue.queued_at IS 'When the row was first queued.';
COMMENT ON COLUMN etl.reprocessing_queue.tried_at IS 'When the key was last looked up.';
COMMENT ON COLUMN etl.reprocessing_queue.run_id IS 'Run that queued it.';
CREATE INDEX reprocessing_queue_member ON etl.reprocessing_queue (dimension, dimension_key) WHERE NOT is_ready;
CREATE INDEX reprocessing_queue_ready ON etl.reprocessing_queue (fact) WHERE is_ready;

-- Rows that cannot be loaded ------------------------------------------------------------------------------------------

CREATE TABLE etl.quarantine (
    object name NOT NULL,
    row_key jsonb NOT NULL,
    sqlstate text NOT NULL,
    reason text NOT NULL,
    original_row jsonb,
    attempts integer NOT NULL DEFAULT 1,
    is_retried boolean NOT NULL DEFAULT false,
    accepted_at timestamptz,
    accepted_by text,
    quarantined_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    tried_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    run_id bigint NOT NULL,
    PRIMARY KEY (object, row_key)
);
COMMENT ON TABLE etl.quarantine IS 'Rows that cannot be loaded. They are tried again when they change in the source, or by etl.retry_quarantine.';
COMMENT ON COLUMN etl.quarantine.object IS 'Source table, dimension or fact that the row was meant for.';
COMMENT ON COLUMN etl.quarantine.row_key IS 'Key of the row; the whole row where its key is not usable.';
COMMENT ON COLUMN etl.quarantine.sqlstate IS 'Error code.';
COMMENT ON COLUMN etl.quarantine.reason IS 'Why it cannot be loaded.';
COMMENT ON COLUMN etl.quarantine.original_row IS 'The row as the source gave it.';
COMMENT ON COLUMN etl.quarantine.attempts IS 'How often it was tried.';
COMMENT ON COLUMN etl.quarantine.is_retried IS 'Set while a load tries the row again.';
COMMENT ON COLUMN etl.quarantine.accepted_at IS 'When the row was accepted as one that cannot be loaded (etl.accept_quarantine); NULL where it was not, or the reason has changed since.';
COMMENT ON COLUMN etl.quarantine.accepted_by IS 'Role that accepted it.';
COMMENT ON COLUMN etl.quarantine.quarantined_at IS 'When it was first put here.';
COMMENT ON COLUMN etl.quarantine.tried_at IS 'When it was last tried.';
COMMENT ON COLUMN etl.quarantine.run_id IS 'Run that last tried it.';

CREATE TABLE etl.schema_drift (
    source_table name NOT NULL REFERENCES etl.source_table ON DELETE CASCADE,
    column_name name NOT NULL,
    drift text NOT NULL CHECK (drift IN ('added', 'dropped', 'retyped')),
    expected_type text,
    found_type text,
    found_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (source_table, column_name)
);
COMMENT ON TABLE etl.schema_drift IS 'Columns of the source that are no longer what the mirror was built for. An added one is only reported; a dropped or retyped one stops its table.';
COMMENT ON COLUMN etl.schema_drift.source_table IS 'Source table.';
COMMENT ON COLUMN etl.schema_drift.column_name IS 'Column.';
COMMENT ON COLUMN etl.schema_drift.drift IS 'added, dropped or retyped.';
COMMENT ON COLUMN etl.schema_drift.expected_type IS 'Type that the mirror has.';
COMMENT ON COLUMN etl.schema_drift.found_type IS 'Type that the source has.';
COMMENT ON COLUMN etl.schema_drift.found_at IS 'When it was first seen.';
