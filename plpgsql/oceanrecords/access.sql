-- Who may do what: the one place where it is said. Every object of the warehouse is spoken of here; one that is not belongs to nobody
-- but its owner, and a test names it. A new table, view or routine gets its row here, and `oceanrecords migrate` does the rest.
--
-- Rows of your own go beside these with etl.permission.origin = 'own', which is the default.

-- Limits are set for a level that is new; later they are yours: UPDATE etl.access_level, then CALL etl.apply_permissions().
INSERT INTO etl.access_level (level, role_name, is_for_people, description, connection_limit, statement_timeout, idle_timeout, temporary_space)
VALUES
    (
        'analyst', 'oceanrecords_analyst', true, 'Reads the stars in schema analysis: personal data masked, the countries of the login.',
        10, '10 minutes', '10 minutes', 8589934592
    ),
    (
        'application', 'oceanrecords_application', false, 'Works with the operational system; does not delete its history.',
        40, NULL, '5 minutes', NULL
    ),
    ('auditor', 'oceanrecords_auditor', true, 'Reads control tables and logs, without personal data.', 5, '5 minutes', '10 minutes', 1073741824),
    ('business', 'oceanrecords_business', true, 'Reads the key figures in schema kpi.', 15, '2 minutes', '5 minutes', 4294967296),
    ('etl', 'oceanrecords_etl', false, 'Runs the loads; defines and changes nothing.', NULL, NULL, NULL, NULL),
    ('owner', 'oceanrecords_owner', false, 'Owns the warehouse and executes all that its catalog says; given to no login.', NULL, NULL, NULL, NULL),
    (
        'steward', 'oceanrecords_steward', true, 'Sees personal data, looks after queue, quarantine and repairs, forgets.',
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
    ('delta', 'owner'),
    ('dwh', 'owner'),
    ('etl', 'owner'),
    ('kpi', 'owner'),
    ('oceanrecords', NULL),
    -- The contract is made by who looks after the operational system; the loads need no more than to read it.
    ('source', NULL),
    ('source_local', NULL),
    ('stage', 'owner'),
    ('work', 'owner'),
    ('yoyo', NULL)
ON CONFLICT (schema_name) DO UPDATE
SET owner_level = excluded.owner_level
WHERE etl.access_schema.owner_level IS DISTINCT FROM excluded.owner_level;

DELETE FROM etl.permission
WHERE origin = 'oceanrecords';

-- {} says: left to the owner.
INSERT INTO etl.permission (level, object_kind, schema_name, object_name, privileges, column_names, origin)
SELECT l.level, d.object_kind, d.schema_name, o.name, d.privileges::text[], d.column_names::name[], 'oceanrecords'
FROM (
    VALUES
        -- The database, and what extensions bring: nothing is for everybody. Only the loads make temporary tables. ---------------
        ('{analyst,application,auditor,business,etl,owner,steward}', 'database', '', '{*}', '{CONNECT}', NULL),
        ('{owner}', 'database', '', '{*}', '{TEMPORARY}', NULL),
        ('{owner}', 'extension', 'btree_gist', '{*}', '{}', NULL),
        ('{owner}', 'extension', 'postgres_fdw', '{*}', '{}', NULL),

        -- Schemas -----------------------------------------------------------------------------------------------------
        ('{analyst}', 'schema', 'analysis', '{analysis}', '{USAGE}', NULL),
        ('{application,owner}', 'schema', 'oceanrecords', '{oceanrecords}', '{USAGE}', NULL),
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

        -- The operational system: its application deletes neither orders, nor products with their prices, nor tombstones. -------
        ('{application}', 'relation', 'oceanrecords', '{addresses,customers,customers_addresses,order_lines}', '{SELECT,INSERT,UPDATE,DELETE}', NULL),
        ('{application}', 'relation', 'oceanrecords', '{orders,product_subtypes,product_types,products,suppliers}', '{SELECT,INSERT,UPDATE}', NULL),
        (
            '{application}', 'relation', 'oceanrecords',
            '{deleted_rows,order_status_transitions,order_statuses,payment_methods,product_prices}',
            '{SELECT}', NULL
        ),
        ('{application,owner}', 'routine', 'oceanrecords', '{business_time}', '{EXECUTE}', NULL),
        -- The loads read by way of schema source. To forget somebody takes these.
        ('{owner}', 'relation', 'oceanrecords', '{addresses,customers}', '{SELECT}', NULL),
        ('{owner}', 'relation', 'oceanrecords', '{customers}', '{UPDATE}', '{first_name,last_name,email,phone}'),
        ('{owner}', 'relation', 'oceanrecords', '{addresses}', '{UPDATE}', '{street}'),
        ('{owner}', 'relation', 'oceanrecords', '{extraction_columns,extraction_point}', '{}', NULL),
        -- Trigger functions need no permission.
        ('{owner}', 'routine', 'oceanrecords', '{_*}', '{}', NULL),

        -- The layers that the engine builds ---------------------------------------------------------------------------
        ('{owner,steward}', 'relation', 'source', '{*}', '{SELECT}', NULL),
        ('{owner}', 'relation', 'source_local', '{*}', '{SELECT}', NULL),
        ('{steward}', 'relation', 'delta', '{*}', '{SELECT}', NULL),
        ('{steward}', 'relation', 'stage', '{*}', '{SELECT}', NULL),
        ('{steward}', 'relation', 'work', '{*}', '{SELECT}', NULL),

        -- The stars ---------------------------------------------------------------------------------------------------
        ('{steward}', 'relation', 'dwh', '{dim_address,dim_customer,dim_date,dim_payment,dim_product,dim_status,dim_supplier}', '{SELECT}', NULL),
        ('{steward}', 'relation', 'dwh', '{fact_order,fact_order_line}', '{SELECT}', NULL),
        (
            '{steward}', 'relation', 'dwh',
            '{agg_customer_quarterly,agg_customer_total_quarterly,agg_order_daily,agg_product_country,agg_product_monthly,'
            || 'agg_product_total,agg_product_total_monthly,agg_product_total_quarterly,agg_subtype_monthly}',
            '{SELECT}', NULL
        ),
        ('{analyst}', 'relation', 'analysis', '{dim_address,dim_customer,dim_date,dim_payment,dim_product,dim_status,dim_supplier}', '{SELECT}', NULL),
        ('{analyst}', 'relation', 'analysis', '{fact_order,fact_order_line}', '{SELECT}', NULL),
        (
            '{analyst}', 'relation', 'analysis',
            '{agg_customer_quarterly,agg_customer_total_quarterly,agg_order_daily,agg_product_country,agg_product_monthly,'
            || 'agg_product_total,agg_product_total_monthly,agg_product_total_quarterly,agg_subtype_monthly}',
            '{SELECT}', NULL
        ),

        -- Key figures -------------------------------------------------------------------------------------------------
        (
            '{business,steward}', 'relation', 'kpi',
            '{country,customer_count,freshness,lost_order_limit,month,order_daily,overview,product,product_monthly,product_type,quarter,'
            || 'subtype_monthly}',
            '{SELECT}', NULL
        ),
        -- A row a customer.
        ('{steward}', 'relation', 'kpi', '{customer_quarterly}', '{SELECT}', NULL),
        ('{business,steward}', 'routine', 'kpi', '{customer_count_of,month_of,overview_of,quarter_of,top_products_of}', '{EXECUTE}', NULL),

        -- Catalog and control tables ----------------------------------------------------------------------------------
        (
            '{auditor,etl,steward}', 'relation', 'etl',
            '{aggregate,aggregate_fact,dependency,dimension,dimension_attribute,fact,fact_dimension,quality_check,schedule,setting,source_table,'
            || 'task,task_edge}',
            '{SELECT}', NULL
        ),
        (
            '{auditor,etl,steward}', 'relation', 'etl',
            '{alert,batch,deferred_constraint,extraction,load_state,maintenance,reconciliation,reconciliation_object,reextraction,reprocessing_queue,run,'
            || 'scheduled_start,schema_drift,task_run,watermark}',
            '{SELECT}', NULL
        ),
        -- Rows of the source, or parts of them, are for stewards.
        ('{steward}', 'relation', 'etl', '{check_result,quarantine,reconciliation_difference}', '{SELECT}', NULL),
        ('{auditor}', 'relation', 'etl', '{check_result}', '{SELECT}', '{result_id,check_name,severity,run_id,checked_at,status,violations,seconds}'),
        ('{auditor}', 'relation', 'etl', '{quarantine}', '{SELECT}', '{object,sqlstate,attempts,is_retried,quarantined_at,tried_at,run_id}'),
        ('{auditor}', 'relation', 'etl', '{reconciliation_difference}', '{SELECT}', '{reconciliation_id,object,difference_id,kind,columns}'),
        ('{auditor}', 'relation', 'etl', '{access_level,access_schema,column_sensitivity,country_access}', '{SELECT}', NULL),
        ('{auditor}', 'relation', 'etl', '{definer_routine,permission,published_view,user_account}', '{SELECT}', NULL),
        ('{auditor}', 'relation', 'etl', '{access_flaw,access_limit,access_object,column_status,direct_grant,permission_gap,user_status}', '{SELECT}', NULL),
        ('{auditor}', 'relation', 'etl', '{forgotten_row,forgotten_subject,personal_column,personal_object,personal_subject}', '{SELECT}', NULL),
        ('{steward}', 'relation', 'etl', '{forgetting_limit,forgetting_reach,forgotten_row}', '{SELECT}', NULL),
        ('{steward}', 'relation', 'etl', '{forgotten_subject,personal_column,personal_object,personal_subject}', '{SELECT}', NULL),
        ('{owner}', 'relation', 'etl', '{pseudonym_secret}', '{}', NULL),
        ('{auditor}', 'relation', 'audit', '{act}', '{SELECT}', NULL),
        ('{owner}', 'relation', 'audit', '{act}', '{SELECT}', NULL),
        ('{owner}', 'routine', 'audit', '{_refuse_change,_sign}', '{}', NULL),
        ('{owner}', 'routine', 'audit', '{_call_hook,note}', '{EXECUTE}', NULL),
        ('{auditor}', 'routine', 'audit', '{_hash,verify}', '{EXECUTE}', NULL),
        ('{owner}', 'routine', 'audit', '{_analyze}', '{EXECUTE}', NULL),
        ('{owner}', 'relation', 'yoyo', '{*}', '{}', NULL),

        -- What tells how the warehouse is doing -----------------------------------------------------------------------
        ('{auditor,etl,steward}', 'relation', 'etl', '{queue_entry,queue_status,reconciliation_status}', '{SELECT}', NULL),
        ('{auditor,etl,steward}', 'relation', 'etl', '{run_status,task_status,watermark_status}', '{SELECT}', NULL),
        ('{auditor,etl,steward}', 'relation', 'etl', '{check_status,quarantine_status}', '{SELECT}', NULL),
        ('{auditor,etl,steward}', 'relation', 'etl', '{schedule_history,schedule_status,staleness}', '{SELECT}', NULL),
        ('{auditor,steward}', 'relation', 'etl', '{dictionary_*,layer,lineage_definition,star_*,task_graph,trace_kind}', '{SELECT}', NULL),
        -- It looks into schemas that auditors have no right to use.
        ('{steward}', 'relation', 'etl', '{lineage_step}', '{SELECT}', NULL),
        ('{owner}', 'relation', 'etl', '{source_connection,_source_*}', '{}', NULL),

        -- Routines: what is not of use to anybody but the loads is left to its owner. --------------------------------------
        ('{owner}', 'routine', 'etl', '{_*}', '{}', NULL),
        ('{owner}', 'routine', 'dwh', '{extend_calendar}', '{}', NULL),
        ('{owner}', 'routine', 'etl', '{build}', '{}', NULL),
        ('{etl}', 'routine', 'etl', '{run,scheduled_run,start_run,work}', '{EXECUTE}', NULL),
        ('{etl}', 'routine', 'etl', '{_await_progress,_claim,_end_batch,_end_run,_note_outcomes,_perform,_scheduled_start}', '{EXECUTE}', NULL),
        ('{etl}', 'routine', 'etl', '{reconcile,_reconcile,repair,retry_quarantine,retry_queue,run_checks}', '{EXECUTE}', NULL),
        ('{owner}', 'routine', 'etl', '{connect_source,disconnect_source,source_grants,source_status}', '{}', NULL),
        -- Jobs of pg_cron run as the role that installs them, so the service installs them itself.
        ('{etl}', 'routine', 'etl', '{schedule_install,schedule_remove,schedule_statements}', '{EXECUTE}', NULL),
        ('{etl}', 'routine', 'etl', '{_check_cron_rights,_cron_schedule,_find_cron}', '{EXECUTE}', NULL),
        ('{etl}', 'routine', 'etl', '{_job_pattern,_note_schedule,_refuse_interval,_removal_statement}', '{EXECUTE}', NULL),
        ('{etl}', 'relation', 'etl', '{schedule}', '{INSERT,UPDATE,DELETE}', NULL),
        ('{owner}', 'routine', 'etl', '{aggregate_differences,newer_keys}', '{}', NULL),
        ('{owner}', 'routine', 'etl', '{apply_permissions,publish,revoke_direct_grants,rotate_pseudonyms}', '{}', NULL),
        -- Users are managed by who may create roles: PostgreSQL sees to that.
        ('{owner}', 'routine', 'etl', '{add_user,grant_level,remove_user,revoke_level,set_user_countries,set_user_password}', '{}', NULL),
        ('{auditor,etl,steward}', 'routine', 'etl', '{get_setting,_is_held,_lock_class,_lock_number}', '{EXECUTE}', NULL),
        -- Called by functions that views call.
        ('{auditor,steward}', 'routine', 'etl', '{_job_pattern}', '{EXECUTE}', NULL),
        ('{auditor,etl,steward}', 'routine', 'etl', '{_may_see_cron}', '{EXECUTE}', NULL),
        ('{auditor,steward}', 'routine', 'etl', '{_columns,_without}', '{EXECUTE}', NULL),
        ('{steward}', 'routine', 'etl', '{repair,retry_quarantine,retry_queue}', '{EXECUTE}', NULL),
        ('{steward}', 'routine', 'etl', '{reconcile,_reconcile}', '{EXECUTE}', NULL),
        ('{etl,steward}', 'routine', 'etl', '{object_sql}', '{EXECUTE}', NULL),
        ('{steward}', 'routine', 'etl', '{trace,trace_run}', '{EXECUTE}', NULL),
        ('{steward}', 'routine', 'etl', '{forget,forget_preview}', '{EXECUTE}', NULL)
) AS d (levels, object_kind, schema_name, object_names, privileges, column_names)
CROSS JOIN LATERAL unnest(d.levels::text[]) AS l (level)
CROSS JOIN LATERAL unnest(d.object_names::text[]) AS o (name);

-- Everything that executes text of the catalog, or touches what the loads write, does so with the rights of the owner, whoever calls it. A
-- definer cannot SET ROLE, so there is no way back to the rights of its caller, who may be a superuser.
INSERT INTO etl.definer_routine (schema_name, routine_name, reason)
VALUES
    ('etl', '_await_progress', 'A worker waits for the task of another one.'),
    ('etl', '_claim', 'A worker claims tasks with the rights of the owner, neither more nor less.'),
    ('etl', '_end_batch', 'A worker ends a batch with the rights of the owner, neither more nor less.'),
    ('etl', '_end_run', 'A worker ends a run, and raises its alerts, with the rights of the owner, neither more nor less.'),
    ('etl', '_inherited_sensitivity', 'An auditor learns what a column may be derived from without the right to look into the layers.'),
    ('etl', '_note_outcomes', 'A worker notes outcomes with the rights of the owner, neither more nor less.'),
    ('etl', '_perform', 'A worker executes a task, thus text of the catalog, with the rights of the owner, neither more nor less.'),
    ('etl', '_scheduled_start', 'The scheduler starts a run with the rights of the owner, neither more nor less.'),
    ('etl', 'run_checks', 'Checks are text of the catalog: they are executed with the rights of the owner, neither more nor less.'),
    ('etl', 'start_run', 'A run is started with the rights of the owner, neither more nor less.'),
    ('etl', '_reconcile', 'A steward compares layers without the right to write the tables that the result goes to.'),
    ('audit', 'note', 'The owner of the warehouse adds to the audit trail without the right to write it.'),
    ('audit', '_analyze', 'Forgetting makes the statistics of operational tables anew without owning them.'),
    ('etl', 'forget_preview', 'A steward sees what forgetting would replace without the right to execute internal routines.'),
    ('etl', 'forget', 'A steward forgets a customer without the right to change rows.'),
    ('etl', 'object_sql', 'A steward looks at the engine''s statements without the right to execute its internal routines.'),
    ('etl', 'repair', 'A steward hands differences to the next run without the right to write its tables.'),
    ('etl', 'retry_quarantine', 'A steward asks for another try without the right to write the loads'' tables.'),
    ('etl', 'retry_queue', 'A steward asks for another try without the right to write the queue.'),
    ('etl', 'trace', 'A steward looks through all layers without the right to execute the engine''s internal routines.'),
    ('etl', 'trace_run', 'A steward looks at a run without the right to execute the engine''s internal routines.'),
    ('kpi', 'customer_count_of', 'A business user reads figures without the right to read the stars.'),
    ('kpi', 'month_of', 'A business user reads figures without the right to read the stars.'),
    ('kpi', 'overview_of', 'A business user reads figures without the right to read the stars.'),
    ('kpi', 'quarter_of', 'A business user reads figures without the right to read the stars.'),
    ('kpi', 'top_products_of', 'A business user reads figures without the right to read the stars.'),
    ('oceanrecords', '_leave_tombstone', 'Who deletes a row leaves a tombstone without the right to write tombstones.'),
    ('oceanrecords', '_log_price', 'Who changes a price writes the price log without the right to write it.')
ON CONFLICT (schema_name, routine_name) DO UPDATE
SET reason = excluded.reason
WHERE etl.definer_routine.reason <> excluded.reason;

INSERT INTO etl.quality_check (check_name, severity, description, query, run_every)
VALUES (
    'permissions_as_declared',
    'warn',
    'No role has privileges that are not declared, and the sensitivity of every column is declared.',
    $sql$SELECT 'privilege' AS kind, g.grantee AS role, format('%s on %s %s.%s', g.privilege, g.object_kind, g.schema_name, g.object_name) AS found
FROM etl.direct_grant AS g
UNION ALL
SELECT p.object_kind, NULL, format('%s.%s', p.schema_name, p.object_name)
FROM etl.permission_gap AS p
WHERE p.object_kind = 'column'$sql$,
    '1 day'
)
ON CONFLICT (check_name) DO UPDATE
SET severity = excluded.severity,
    description = excluded.description,
    query = excluded.query;

-- Personal data of customers. An address is forgotten with its last customer: while another one uses it, it is his. --------------------

INSERT INTO etl.personal_subject (subject, key_type)
VALUES ('customer', 'bigint')
ON CONFLICT (subject) DO UPDATE
SET key_type = excluded.key_type;

INSERT INTO etl.personal_object (subject, object, key_columns, key_query)
SELECT 'customer', o.object, o.key_columns::name[], q.key_query
FROM (
    VALUES
        ('customers', '{customer_id}', 'customer'),
        ('dim_customer', '{customer_id}', 'customer'),
        ('addresses', '{address_id}', 'address'),
        ('dim_address', '{address_id}', 'address')
) AS o (object, key_columns, kind)
JOIN (
    VALUES
        (
            'customer',
            $sql$SELECT $1::bigint
UNION
-- Old keys of the same person: the shop gave the customer another number, and the row under the old one was deleted.
SELECT o.customer_id
FROM stage.customers AS c
JOIN stage.customers AS o ON lower(o.email) = lower(c.email) AND o.deleted_at IS NOT NULL
WHERE c.customer_id = $1::bigint$sql$
        ),
        (
            'address',
            $sql$WITH person AS (
    SELECT $1::bigint AS customer_id
    UNION
    SELECT o.customer_id
    FROM stage.customers AS c
    JOIN stage.customers AS o ON lower(o.email) = lower(c.email) AND o.deleted_at IS NOT NULL
    WHERE c.customer_id = $1::bigint
)
SELECT l.address_id
FROM (
    SELECT a.customer_id, a.address_id FROM stage.customers_addresses AS a
    UNION
    SELECT a.customer_id, a.address_id FROM source.customers_addresses AS a
) AS l
JOIN person AS p USING (customer_id)
WHERE NOT EXISTS (
    SELECT
    FROM (
        SELECT a.customer_id, a.address_id FROM stage.customers_addresses AS a WHERE a.deleted_at IS NULL
        UNION
        SELECT a.customer_id, a.address_id FROM source.customers_addresses AS a
    ) AS o
    WHERE o.address_id = l.address_id
        AND o.customer_id NOT IN (SELECT p.customer_id FROM person AS p)
        AND NOT EXISTS (SELECT FROM etl.forgotten_subject AS f WHERE f.subject = 'customer' AND f.subject_key = o.customer_id::text)
)$sql$
        )
) AS q (kind, key_query) USING (kind)
ON CONFLICT (subject, object) DO UPDATE
SET key_columns = excluded.key_columns,
    key_query = excluded.key_query;

INSERT INTO etl.personal_column (subject, object, column_name, replacement)
VALUES
    ('customer', 'customers', 'first_name', '''Forgotten'''),
    ('customer', 'customers', 'last_name', '''Customer'''),
    ('customer', 'customers', 'email', 'format(''forgotten-%s@forgotten.invalid'', r.customer_id)'),
    ('customer', 'customers', 'phone', 'NULL'),
    ('customer', 'dim_customer', 'first_name', '''Forgotten'''),
    ('customer', 'dim_customer', 'last_name', '''Customer'''),
    ('customer', 'dim_customer', 'full_name', '''Forgotten Customer'''),
    ('customer', 'dim_customer', 'email', 'format(''forgotten-%s@forgotten.invalid'', r.customer_id)'),
    ('customer', 'dim_customer', 'phone', 'NULL'),
    ('customer', 'addresses', 'street', '''Forgotten'''),
    ('customer', 'dim_address', 'street', '''Forgotten''')
ON CONFLICT (subject, object, column_name) DO UPDATE
SET replacement = excluded.replacement;
