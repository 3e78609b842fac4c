-- Who may do what with the engine's own objects. A business declares its own in a file of the same form; an object that no row
-- names belongs to nobody but its owner, and a test names it. A new table, view or routine of the engine gets its row here, and
-- `oceanrecords migrate` does the rest.
--
-- Rows of your own go beside these with etl.permission.origin = 'own', which is the default.

INSERT INTO etl.access_level (level, role_name, is_for_people, description)
VALUES
    ('analyst', 'oceanrecords_analyst', true, 'Reads the stars in schema analysis: personal data masked, only the rows that the login may see.'),
    ('application', 'oceanrecords_application', false, 'Works with the operational system; does not delete its history.'),
    ('auditor', 'oceanrecords_auditor', true, 'Reads control tables and logs, without personal data.'),
    ('business', 'oceanrecords_business', true, 'Reads the key figures in schema kpi.'),
    ('etl', 'oceanrecords_etl', false, 'Owns and runs the warehouse.'),
    ('steward', 'oceanrecords_steward', true, 'Sees personal data, looks after queue, quarantine and repairs, forgets.')
ON CONFLICT (level) DO UPDATE
SET role_name = excluded.role_name,
    is_for_people = excluded.is_for_people,
    description = excluded.description
WHERE (etl.access_level.role_name, etl.access_level.is_for_people, etl.access_level.description)
    IS DISTINCT FROM (excluded.role_name, excluded.is_for_people, excluded.description);

INSERT INTO etl.access_schema (schema_name, owner_level)
VALUES
    ('analysis', 'etl'),
    ('audit', NULL),
    ('compiled', 'etl'),
    ('delta', 'etl'),
    ('dwh', 'etl'),
    ('etl', 'etl'),
    ('kpi', 'etl'),
    -- The contract is made by who looks after the operational system; the loads need no more than to read it.
    ('source', NULL),
    ('source_local', NULL),
    ('stage', 'etl'),
    ('work', 'etl'),
    ('yoyo', NULL)
ON CONFLICT (schema_name) DO UPDATE
SET owner_level = excluded.owner_level
WHERE etl.access_schema.owner_level IS DISTINCT FROM excluded.owner_level;

DELETE FROM etl.permission
WHERE origin = 'engine';

-- {} says: left to the owner.
INSERT INTO etl.permission (level, object_kind, schema_name, object_name, privileges, column_names, origin)
SELECT l.level, d.object_kind, d.schema_name, o.name, d.privileges::text[], d.column_names::name[], 'engine'
FROM (
    VALUES
        -- The database, and what extensions bring: nothing is for everybody. Only the loads make temporary tables. ---------------
        ('{analyst,application,auditor,business,etl,steward}', 'database', '', '{*}', '{CONNECT}', NULL),
        ('{etl}', 'database', '', '{*}', '{TEMPORARY}', NULL),
        ('{etl}', 'extension', 'btree_gist', '{*}', '{}', NULL),
        ('{etl}', 'extension', 'postgres_fdw', '{*}', '{}', NULL),

        -- Schemas -----------------------------------------------------------------------------------------------------
        ('{analyst}', 'schema', 'analysis', '{analysis}', '{USAGE}', NULL),
        ('{auditor,steward}', 'schema', 'etl', '{etl}', '{USAGE}', NULL),
        ('{auditor,etl}', 'schema', 'audit', '{audit}', '{USAGE}', NULL),
        ('{etl}', 'schema', 'compiled', '{compiled}', '{USAGE}', NULL),
        ('{business,steward}', 'schema', 'kpi', '{kpi}', '{USAGE}', NULL),
        ('{etl,steward}', 'schema', 'source', '{source}', '{USAGE}', NULL),
        ('{etl}', 'schema', 'source_local', '{source_local}', '{USAGE}', NULL),
        ('{etl}', 'schema', 'yoyo', '{yoyo}', '{}', NULL),
        ('{steward}', 'schema', 'delta', '{delta}', '{USAGE}', NULL),
        ('{steward}', 'schema', 'dwh', '{dwh}', '{USAGE}', NULL),
        ('{steward}', 'schema', 'stage', '{stage}', '{USAGE}', NULL),
        ('{steward}', 'schema', 'work', '{work}', '{USAGE}', NULL),

        -- The layers that the engine builds ---------------------------------------------------------------------------
        ('{etl,steward}', 'relation', 'source', '{*}', '{SELECT}', NULL),
        ('{etl}', 'relation', 'source_local', '{*}', '{SELECT}', NULL),
        ('{steward}', 'relation', 'delta', '{*}', '{SELECT}', NULL),
        ('{steward}', 'relation', 'stage', '{*}', '{SELECT}', NULL),
        ('{steward}', 'relation', 'work', '{*}', '{SELECT}', NULL),

        -- The calendar, which every business shares ------------------------------------------------------------------------
        ('{steward}', 'relation', 'dwh', '{dim_date}', '{SELECT}', NULL),

        -- Catalog and control tables ----------------------------------------------------------------------------------
        (
            '{auditor,steward}', 'relation', 'etl',
            '{aggregate,aggregate_fact,business,dependency,dimension,dimension_attribute,fact,fact_dimension,object,quality_check,schedule,setting,source_table,'
            || 'task,task_edge}',
            '{SELECT}', NULL
        ),
        (
            '{auditor,steward}', 'relation', 'etl',
            '{alert,batch,declaration,extraction,load_state,maintenance,reconciliation,reconciliation_object,reextraction,reprocessing_queue,run,'
            || 'run_control,scheduled_start,schema_drift,task_run,watermark,worker}',
            '{SELECT}', NULL
        ),
        -- Rows of the source, or parts of them, are for stewards.
        ('{steward}', 'relation', 'etl', '{check_result,quarantine,reconciliation_difference}', '{SELECT}', NULL),
        ('{auditor}', 'relation', 'etl', '{check_result}', '{SELECT}', '{result_id,check_name,severity,run_id,checked_at,status,violations,seconds}'),
        ('{auditor}', 'relation', 'etl', '{quarantine}', '{SELECT}', '{object,sqlstate,attempts,is_retried,accepted_at,accepted_by,quarantined_at,tried_at,run_id}'),
        ('{auditor}', 'relation', 'etl', '{reconciliation_difference}', '{SELECT}', '{reconciliation_id,object,difference_id,kind,columns}'),
        ('{auditor}', 'relation', 'etl', '{access_level,access_schema,country_access,definer_routine,permission,user_account}', '{SELECT}', NULL),
        ('{auditor}', 'relation', 'etl', '{access_flaw,access_object,permission_gap,user_status}', '{SELECT}', NULL),
        ('{auditor}', 'relation', 'etl', '{forgotten_row,forgotten_subject,personal_column,personal_object}', '{SELECT}', NULL),
        ('{steward}', 'relation', 'etl', '{forgetting_reach,forgotten_row,forgotten_subject,personal_column,personal_object}', '{SELECT}', NULL),
        ('{etl}', 'relation', 'etl', '{pseudonym_secret}', '{}', NULL),
        ('{auditor}', 'relation', 'audit', '{act}', '{SELECT}', NULL),
        ('{etl}', 'relation', 'audit', '{act}', '{SELECT,INSERT}', NULL),
        ('{etl}', 'routine', 'audit', '{_refuse_change,_sign}', '{}', NULL),
        ('{etl}', 'relation', 'yoyo', '{*}', '{}', NULL),

        -- What tells how the warehouse is doing -----------------------------------------------------------------------
        ('{auditor,steward}', 'relation', 'etl', '{queue_entry,queue_status,reconciliation_status,run_status,task_status,watermark_status}', '{SELECT}', NULL),
        ('{steward}', 'relation', 'etl', '{check_status,quarantine_status}', '{SELECT}', NULL),
        ('{auditor,steward}', 'relation', 'etl', '{schedule_history,schedule_status,staleness}', '{SELECT}', NULL),
        ('{auditor,steward}', 'relation', 'etl', '{dictionary_*,layer,lineage_definition,star_*,task_graph,trace_kind}', '{SELECT}', NULL),
        -- It looks into schemas that auditors have no right to use.
        ('{steward}', 'relation', 'etl', '{lineage_step}', '{SELECT}', NULL),
        ('{etl}', 'relation', 'etl', '{source_connection,_source_*}', '{}', NULL),

        -- Routines: what is not of use to anybody but the loads is left to its owner. --------------------------------------
        ('{etl}', 'routine', 'etl', '{_*}', '{}', NULL),
        ('{etl}', 'routine', 'compiled', '{*}', '{}', NULL),
        ('{etl}', 'routine', 'dwh', '{extend_calendar}', '{}', NULL),
        ('{etl}', 'routine', 'etl', '{build,run,scheduled_run,start_run,work}', '{}', NULL),
        ('{etl}', 'routine', 'etl', '{connect_source,disconnect_source,source_grants,source_status}', '{}', NULL),
        ('{etl}', 'routine', 'etl', '{schedule_install,schedule_remove,schedule_statements}', '{}', NULL),
        ('{etl}', 'routine', 'etl', '{aggregate_differences,newer_keys,run_checks}', '{}', NULL),
        ('{etl}', 'routine', 'etl', '{apply_permissions}', '{}', NULL),
        -- Users are managed by who may create roles: PostgreSQL sees to that.
        ('{etl}', 'routine', 'etl', '{add_user,grant_level,remove_user,revoke_level,set_user_countries,set_user_password}', '{}', NULL),
        ('{auditor,steward}', 'routine', 'etl', '{get_setting,_is_live}', '{EXECUTE}', NULL),
        -- Called by a function that a view calls.
        ('{steward}', 'routine', 'etl', '{_columns,_without}', '{EXECUTE}', NULL),
        ('{steward}', 'routine', 'etl', '{repair,retry_quarantine,retry_queue}', '{EXECUTE}', NULL),
        ('{steward}', 'routine', 'etl', '{reconcile,_reconcile}', '{EXECUTE}', NULL),
        ('{steward}', 'routine', 'etl', '{object_sql,trace,trace_run}', '{EXECUTE}', NULL),
        ('{steward}', 'routine', 'etl', '{forget}', '{EXECUTE}', NULL)
) AS d (levels, object_kind, schema_name, object_names, privileges, column_names)
CROSS JOIN LATERAL unnest(d.levels::text[]) AS l (level)
CROSS JOIN LATERAL unnest(d.object_names::text[]) AS o (name);

INSERT INTO etl.definer_routine (schema_name, routine_name, reason)
VALUES
    ('etl', '_reconcile', 'A steward compares layers without the right to write the tables that the result goes to.'),
    ('etl', 'forget', 'A steward forgets a person without the right to change rows.'),
    ('etl', 'object_sql', 'A steward looks at the engine''s statements without the right to execute its internal routines.'),
    ('etl', 'repair', 'A steward hands differences to the next run without the right to write its tables.'),
    ('etl', 'retry_quarantine', 'A steward asks for another try without the right to write the loads'' tables.'),
    ('etl', 'retry_queue', 'A steward asks for another try without the right to write the queue.'),
    ('etl', 'trace', 'A steward looks through all layers without the right to execute the engine''s internal routines.'),
    ('etl', 'trace_run', 'A steward looks at a run without the right to execute the engine''s internal routines.')
ON CONFLICT (schema_name, routine_name) DO UPDATE
SET reason = excluded.reason
WHERE etl.definer_routine.reason <> excluded.reason;
