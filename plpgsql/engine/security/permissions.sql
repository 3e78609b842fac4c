-- Permissions of the engine's own objects. A business declares its own in a file of the same form, and you add rows with the default
-- etl.permission.origin, 'own'. Every new object needs a row: without one it is closed to all levels, and a test fails.

-- Limits are written for new levels only. To change them: UPDATE etl.access_level, then CALL etl.apply_permissions().
INSERT INTO etl.access_level (level, role_name, is_for_people, description, connection_limit, statement_timeout, idle_timeout, temporary_space)
VALUES
    (
        'analyst', 'oceanrecords_analyst', true, 'Reads the stars in schema analysis: personal data masked, only the rows that the login may see.',
        10, '10 minutes', '10 minutes', 8589934592
    ),
    (
        'application', 'oceanrecords_application', false, 'Works with the operational system; does not delete its history.',
        40, NULL, '5 minutes', NULL
    ),
    ('auditor', 'oceanrecords_auditor', true, 'Reads control tables and logs, without personal data.', 5, '5 minutes', '10 minutes', 1073741824),
    ('business', 'oceanrecords_business', true, 'Reads the KPIs in schema kpi.', 15, '2 minutes', '5 minutes', 4294967296),
    ('etl', 'oceanrecords_etl', false, 'Runs the loads; defines and changes nothing.', NULL, NULL, NULL, NULL),
    ('owner', 'oceanrecords_owner', false, 'Owns the warehouse and executes the SQL text of its catalog; no login has it.', NULL, NULL, NULL, NULL),
    (
        'steward', 'oceanrecords_steward', true, 'Sees personal data, handles queue, quarantine and repairs, forgets.',
        10, NULL, '10 minutes', 8589934592
    )
ON CONFLICT (level) DO UPDATE
SET role_name = excluded.role_name,
    is_for_people = excluded.is_for_people,
    description = excluded.description
WHERE (etl.access_level.role_name, etl.access_level.is_for_people, etl.access_level.description)
    IS DISTINCT FROM (excluded.role_name, excluded.is_for_people, excluded.description);

INSERT INTO etl.access_schema (schema_name, owner_level)
VALUES
    ('analysis', 'owner'),
    ('audit', NULL),
    ('compiled', 'owner'),
    ('delta', 'owner'),
    ('dwh', 'owner'),
    ('etl', 'owner'),
    ('kpi', 'owner'),
    -- The contract belongs to the migrating role; the loads only read it.
    ('source', NULL),
    ('source_local', NULL),
    ('stage', 'owner'),
    ('work', 'owner'),
    ('yoyo', NULL)
ON CONFLICT (schema_name) DO UPDATE
SET owner_level = excluded.owner_level
WHERE etl.access_schema.owner_level IS DISTINCT FROM excluded.owner_level;

DELETE FROM etl.permission
WHERE origin = 'engine';

-- {} leaves the object to its owner.
INSERT INTO etl.permission (level, object_kind, schema_name, object_name, privileges, column_names, origin)
SELECT l.level, d.object_kind, d.schema_name, o.name, d.privileges::text[], d.column_names::name[], 'engine'
FROM (
    VALUES
        -- The database and the routines of extensions: nothing for PUBLIC. Only the loads create temporary tables. ---------------
        ('{analyst,application,auditor,business,etl,owner,steward}', 'database', '', '{*}', '{CONNECT}', NULL),
        ('{owner}', 'database', '', '{*}', '{TEMPORARY}', NULL),
        ('{owner}', 'extension', 'btree_gist', '{*}', '{}', NULL),
        ('{owner}', 'extension', 'postgres_fdw', '{*}', '{}', NULL),

        -- Schemas -----------------------------------------------------------------------------------------------------
        ('{analyst}', 'schema', 'analysis', '{analysis}', '{USAGE}', NULL),
        ('{owner}', 'schema', 'compiled', '{compiled}', '{USAGE}', NULL),
        ('{auditor,etl,steward}', 'schema', 'etl', '{etl}', '{USAGE}', NULL),
        ('{auditor,owner}', 'schema', 'audit', '{audit}', '{USAGE}', NULL),
        ('{business,steward}', 'schema', 'kpi', '{kpi}', '{USAGE}', NULL),
        ('{owner,steward}', 'schema', 'source', '{source}', '{USAGE}', NULL),
        ('{owner}', 'schema', 'source_local', '{source_local}', '{USAGE}', NULL),
        ('{owner}', 'schema', 'yoyo', '{yoyo}', '{}', NULL),
        ('{steward}', 'schema', 'delta', '{delta}', '{USAGE}', NULL),
        ('{steward}', 'schema', 'dwh', '{dwh}', '{USAGE}', NULL),
        ('{steward}', 'schema', 'stage', '{stage}', '{USAGE}', NULL),
        ('{steward}', 'schema', 'work', '{work}', '{USAGE}', NULL),

        -- The layers that the engine builds ---------------------------------------------------------------------------
        ('{owner,steward}', 'relation', 'source', '{*}', '{SELECT}', NULL),
        ('{owner}', 'relation', 'source_local', '{*}', '{SELECT}', NULL),
        ('{steward}', 'relation', 'delta', '{*}', '{SELECT}', NULL),
        ('{steward}', 'relation', 'stage', '{*}', '{SELECT}', NULL),
        ('{steward}', 'relation', 'work', '{*}', '{SELECT}', NULL),

        -- The calendar, which every business shares ------------------------------------------------------------------------
        ('{steward}', 'relation', 'dwh', '{dim_date}', '{SELECT}', NULL),
        ('{analyst}', 'relation', 'analysis', '{dim_date}', '{SELECT}', NULL),

        -- Catalog and control tables ----------------------------------------------------------------------------------
        (
            '{auditor,etl,steward}', 'relation', 'etl',
            '{aggregate,aggregate_fact,business,currency,dependency,dimension,dimension_attribute,fact,fact_dimension,object,'
            'quality_check,row_filter,schedule,setting,source_table,visible_value,'
            || 'task,task_edge}',
            '{SELECT}', NULL
        ),
        (
            '{auditor,etl,steward}', 'relation', 'etl',
            '{alert,batch,declaration,default_member,extraction,load_state,maintenance,reconciliation,reconciliation_object,reextraction,'
            || 'reprocessing_queue,run,run_control,scheduled_start,schema_drift,task_run,watermark,worker}',
            '{SELECT}', NULL
        ),
        -- Rows of the source, or parts of them, are for stewards.
        ('{steward}', 'relation', 'etl', '{check_result,quarantine,reconciliation_difference}', '{SELECT}', NULL),
        ('{auditor}', 'relation', 'etl', '{check_result}', '{SELECT}', '{result_id,check_name,severity,run_id,checked_at,status,violations,seconds}'),
        (
            '{auditor}', 'relation', 'etl', '{quarantine}', '{SELECT}',
            '{object,sqlstate,attempts,is_retried,accepted_at,accepted_by,quarantined_at,tried_at,run_id}'
        ),
        ('{auditor,etl}', 'relation', 'etl', '{reconciliation_difference}', '{SELECT}', '{reconciliation_id,object,difference_id,kind,columns}'),
        ('{auditor}', 'relation', 'etl', '{access_level,access_schema,column_sensitivity,row_access}', '{SELECT}', NULL),
        ('{auditor}', 'relation', 'etl', '{definer_routine,permission,published_view,user_account}', '{SELECT}', NULL),
        ('{auditor}', 'relation', 'etl', '{access_flaw,access_limit,access_object,column_status,direct_grant,owner_role}', '{SELECT}', NULL),
        ('{auditor}', 'relation', 'etl', '{people_reader,permission_gap,user_status}', '{SELECT}', NULL),
        ('{auditor}', 'relation', 'etl', '{forgotten_row,forgotten_subject,personal_column,personal_object,personal_subject}', '{SELECT}', NULL),
        ('{steward}', 'relation', 'etl', '{forgetting_limit,forgotten_row}', '{SELECT}', NULL),
        ('{steward}', 'relation', 'etl', '{forgotten_subject,personal_column,personal_object,personal_subject}', '{SELECT}', NULL),
        ('{owner}', 'relation', 'etl', '{pseudonym_secret}', '{}', NULL),
        ('{auditor}', 'relation', 'audit', '{act}', '{SELECT}', NULL),
        ('{owner}', 'relation', 'audit', '{act}', '{SELECT}', NULL),
        ('{owner}', 'routine', 'audit', '{_refuse_change,_sign}', '{}', NULL),
        ('{owner}', 'routine', 'audit', '{_call_hook,note}', '{EXECUTE}', NULL),
        ('{auditor}', 'routine', 'audit', '{_hash,verify}', '{EXECUTE}', NULL),
        ('{owner}', 'routine', 'audit', '{_analyze}', '{EXECUTE}', NULL),
        ('{owner}', 'relation', 'yoyo', '{*}', '{}', NULL),

        -- State of the warehouse --------------------------------------------------------------------------------------
        ('{auditor,etl,steward}', 'relation', 'etl', '{queue_status,reconciliation_status}', '{SELECT}', NULL),
        ('{auditor,etl,steward}', 'relation', 'etl', '{run_status,task_status,watermark_status}', '{SELECT}', NULL),
        ('{auditor,etl,steward}', 'relation', 'etl', '{check_status,quarantine_status}', '{SELECT}', NULL),
        ('{auditor,etl,steward}', 'relation', 'etl', '{schedule_history,schedule_status,staleness}', '{SELECT}', NULL),
        ('{auditor,etl,steward}', 'relation', 'etl', '{failing_task,health,object_status,object_tag,problem}', '{SELECT}', NULL),
        ('{auditor,etl,steward}', 'relation', 'etl', '{object_placement,placement}', '{SELECT}', NULL),
        ('{auditor,steward}', 'relation', 'etl', '{dictionary_*,layer,lineage_definition,star_*,trace_kind}', '{SELECT}', NULL),
        -- It reads schemas that auditors may not use.
        ('{steward}', 'relation', 'etl', '{lineage_step}', '{SELECT}', NULL),
        ('{owner}', 'relation', 'etl', '{source_connection,_source_*}', '{}', NULL),

        -- Routines: those for the loads alone are left to the owner. ------------------------------------------------------
        ('{owner}', 'routine', 'etl', '{_*}', '{}', NULL),
        ('{owner}', 'routine', 'compiled', '{*}', '{}', NULL),
        ('{owner}', 'routine', 'dwh', '{calendar_days,extend_calendar}', '{}', NULL),
        ('{owner}', 'routine', 'etl', '{await_no_run,begin_declarations,build,define_*,depends_on,end_declarations,fact_key,fed_by,place}', '{}', NULL),
        ('{etl}', 'routine', 'etl', '{run,scheduled_run,start_run,work}', '{EXECUTE}', NULL),
        ('{etl}', 'routine', 'etl', '{_await_progress,_begin_transaction,_claim,_complete_unchanged,_discharge,_end_batch,_end_run}', '{EXECUTE}', NULL),
        ('{etl}', 'routine', 'etl', '{_enlist,_note_outcomes,_perform,_scheduled_start}', '{EXECUTE}', NULL),
        ('{etl}', 'routine', 'etl', '{begin_reconciliation,compare_next_object,end_reconciliation,reconcile}', '{EXECUTE}', NULL),
        ('{etl}', 'routine', 'etl', '{repair,retry_quarantine,retry_queue,run_checks}', '{EXECUTE}', NULL),
        ('{owner}', 'routine', 'etl', '{connect_source,disconnect_source,source_contract,source_grants,source_status}', '{}', NULL),
        -- Jobs of pg_cron run as the role that installs them, so the service installs them itself.
        ('{etl}', 'routine', 'etl', '{schedule_install,schedule_remove,schedule_statements,unschedule_statement}', '{EXECUTE}', NULL),
        ('{etl}', 'routine', 'etl', '{_cron_schedule,_cron_time_zone,_find_cron}', '{EXECUTE}', NULL),
        ('{etl}', 'routine', 'etl', '{_is_daily}', '{EXECUTE}', NULL),
        ('{etl}', 'relation', 'etl', '{schedule}', '{INSERT,UPDATE,DELETE}', NULL),
        ('{owner}', 'routine', 'etl', '{aggregate_differences,keyless_rows,newer_keys}', '{}', NULL),
        ('{owner}', 'routine', 'etl', '{apply_permissions,publish,revoke_direct_grants,rotate_pseudonyms,suppress_small}', '{}', NULL),
        -- Managing users needs CREATEROLE, which PostgreSQL checks.
        ('{owner}', 'routine', 'etl', '{add_user,end_sessions,grant_level,remove_user,revoke_level,set_user_password,set_user_rows}', '{}', NULL),
        ('{auditor,etl,steward}', 'routine', 'etl', '{get_setting,_in_words,_is_live,plan}', '{EXECUTE}', NULL),
        ('{etl}', 'routine', 'etl', '{plan_rows}', '{EXECUTE}', NULL),
        ('{auditor,etl,steward}', 'routine', 'etl', '{describe_sessions,has_shared_work,lock_holders}', '{EXECUTE}', NULL),
        ('{owner}', 'routine', 'etl', '{check_query,test_transformation}', '{}', NULL),
        -- Called by functions that views call.
        ('{auditor,etl,steward}', 'routine', 'etl', '{_relation_in}', '{EXECUTE}', NULL),
        ('{auditor,steward}', 'routine', 'etl', '{_columns,_without}', '{EXECUTE}', NULL),
        ('{steward}', 'routine', 'etl', '{accept_quarantine,repair,retry_quarantine,retry_queue}', '{EXECUTE}', NULL),
        ('{steward}', 'routine', 'etl', '{begin_reconciliation,compare_next_object,end_reconciliation,reconcile}', '{EXECUTE}', NULL),
        ('{etl,steward}', 'routine', 'etl', '{object_sql}', '{EXECUTE}', NULL),
        ('{steward}', 'routine', 'etl', '{trace,trace_run}', '{EXECUTE}', NULL),
        ('{steward}', 'routine', 'etl', '{forget,forget_preview}', '{EXECUTE}', NULL)
) AS d (levels, object_kind, schema_name, object_names, privileges, column_names)
CROSS JOIN LATERAL unnest(d.levels::text[]) AS l (level)
CROSS JOIN LATERAL unnest(d.object_names::text[]) AS o (name);

-- Routines that execute text of the catalog, or write tables of the loads, have the rights of the owner, whatever their caller's. A definer
-- cannot SET ROLE, so code in it cannot return to the rights of the caller, which may be a superuser.
INSERT INTO etl.definer_routine (schema_name, routine_name, reason)
VALUES
    ('etl', '_await_progress', 'A worker waits for the task of another worker.'),
    ('etl', '_begin_transaction', 'A worker begins a transaction with exactly the rights of the owner.'),
    ('etl', '_discharge', 'A worker signs off with exactly the rights of the owner.'),
    ('etl', '_enlist', 'A worker signs on with exactly the rights of the owner.'),
    ('etl', '_claim', 'A worker claims tasks with exactly the rights of the owner.'),
    ('etl', '_complete_unchanged', 'A worker reads the source with exactly the rights of the owner.'),
    ('etl', '_end_batch', 'A worker ends a batch with exactly the rights of the owner.'),
    ('etl', '_end_run', 'A worker ends a run, and raises its alerts, with exactly the rights of the owner.'),
    ('etl', '_inherited_sensitivity', 'An auditor reads inherited sensitivity without the right to use the layers.'),
    ('etl', '_note_outcomes', 'A worker notes outcomes with exactly the rights of the owner.'),
    ('etl', '_perform', 'A worker executes a task, thus text of the catalog, with exactly the rights of the owner.'),
    ('etl', '_scheduled_start', 'The scheduler starts a run with exactly the rights of the owner.'),
    ('etl', 'run_checks', 'Checks are text of the catalog: they are executed with exactly the rights of the owner.'),
    ('etl', 'suppress_small', 'A reader of a figure about people learns whether a group is small without the right to read settings.'),
    ('etl', 'start_run', 'A run is started with exactly the rights of the owner.'),
    ('etl', 'begin_reconciliation', 'A steward compares layers without the right to write the tables of the result.'),
    ('etl', 'compare_next_object', 'A steward compares layers without the right to write the tables of the result.'),
    ('etl', 'end_reconciliation', 'A steward compares layers without the right to write the tables of the result.'),
    ('audit', 'note', 'The owner of the warehouse adds to the audit trail without the right to write it.'),
    ('audit', '_analyze', 'Forgetting analyzes operational tables without owning them.'),
    ('etl', 'forget_preview', 'A steward sees what forgetting would replace without the right to execute internal routines.'),
    ('etl', 'forget', 'A steward forgets a person without the right to change rows.'),
    ('etl', 'object_sql', 'A steward reads the engine''s statements without the right to execute internal routines.'),
    ('etl', 'accept_quarantine', 'A steward accepts rows that cannot be loaded without the right to write the quarantine.'),
    ('etl', 'plan', 'A reader learns what the next run loads completely without the right to read definitions.'),
    ('etl', 'plan_rows', 'Objects are loaded, and the load is undone, with exactly the rights of the owner.'),
    ('etl', 'repair', 'A steward hands differences to the next run without the right to write its tables.'),
    ('etl', 'retry_quarantine', 'A steward requests a retry without the right to write tables of the loads.'),
    ('etl', 'retry_queue', 'A steward requests a retry without the right to write the queue.'),
    ('etl', 'trace', 'A steward traces all layers without the right to execute internal routines.'),
    ('etl', 'trace_run', 'A steward traces a run without the right to execute internal routines.')
ON CONFLICT (schema_name, routine_name) DO UPDATE
SET reason = excluded.reason
WHERE etl.definer_routine.reason <> excluded.reason;

-- Columns that every business has: those of the engine in the stars, the calendar, and the relations that complete the contract.
DELETE FROM etl.column_sensitivity
WHERE origin = 'engine';
INSERT INTO etl.column_sensitivity (schema_name, object_name, column_name, sensitivity, origin)
SELECT d.schema_name, d.object_name, c.name, d.sensitivity, 'engine'
FROM (
    VALUES
        ('dwh', '*', 'public', '{valid_from,valid_to,is_current,is_deleted,run_id}'),
        (
            'dwh', 'dim_date', 'public',
            '{date_key,full_date,day_of_month,day_of_week,day_name,is_weekend,iso_week,month_number,month_name,month_start,quarter_number,'
            || 'quarter_start,quarter_name,year_number}'
        ),
        ('source', 'columns', 'public', '{table_name,column_name,data_type}'),
        (
            'source', 'extraction_point', 'public',
            '{snapshot,system_identifier,read_at,oldest_transaction_started_at,is_standby,database_id,timeline_id,wal_inserted_until,'
            || 'wal_flushed_until,wal_flushed_within}'
        ),
        ('source', 'tombstones', 'internal', '{row_key}'),
        ('source', 'tombstones', 'public', '{table_name,deleted_at,row_xid}')
) AS d (schema_name, object_name, sensitivity, column_names)
CROSS JOIN LATERAL unnest(d.column_names::name[]) AS c (name);

DELETE FROM etl.published_view
WHERE origin = 'engine';
INSERT INTO etl.published_view (view_name, rows_query, origin)
VALUES ('dim_date', 'SELECT d.* FROM dwh.dim_date AS d', 'engine');
