-- Who may do what: the one place where it is said. Every object of the warehouse is spoken of here; one that is not belongs to nobody
-- but its owner, and a test names it. A new table, view or routine gets its row here, and `oceanrecords migrate` does the rest.
--
-- Rows of your own go beside these with etl.permission.origin = 'own', which is the default.

INSERT INTO etl.access_level (level, role_name, is_for_people, description)
VALUES
    ('analyst', 'oceanrecords_analyst', true, 'Reads the stars in schema analysis: personal data masked, the countries of the login.'),
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
    ('oceanrecords', NULL),
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
WHERE origin = 'oceanrecords';

-- {} says: left to the owner.
INSERT INTO etl.permission (level, object_kind, schema_name, object_name, privileges, column_names, origin)
SELECT l.level, d.object_kind, d.schema_name, o.name, d.privileges::text[], d.column_names::name[], 'oceanrecords'
FROM (
    VALUES
        -- The database, and what extensions bring: nothing is for everybody. Only the loads make temporary tables. ---------------
        ('{analyst,application,auditor,business,etl,steward}', 'database', '', '{*}', '{CONNECT}', NULL),
        ('{etl}', 'database', '', '{*}', '{TEMPORARY}', NULL),
        ('{etl}', 'extension', 'btree_gist', '{*}', '{}', NULL),
        ('{etl}', 'extension', 'postgres_fdw', '{*}', '{}', NULL),

        -- Schemas -----------------------------------------------------------------------------------------------------
        ('{analyst}', 'schema', 'analysis', '{analysis}', '{USAGE}', NULL),
        ('{application,etl}', 'schema', 'oceanrecords', '{oceanrecords}', '{USAGE}', NULL),
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

        -- The operational system: its application deletes neither orders, nor products with their prices, nor tombstones. -------
        ('{application}', 'relation', 'oceanrecords', '{addresses,customers,customers_addresses,order_lines}', '{SELECT,INSERT,UPDATE,DELETE}', NULL),
        ('{application}', 'relation', 'oceanrecords', '{orders,product_subtypes,product_types,products,suppliers}', '{SELECT,INSERT,UPDATE}', NULL),
        (
            '{application}', 'relation', 'oceanrecords',
            '{deleted_rows,order_status_transitions,order_statuses,payment_methods,product_prices}',
            '{SELECT}', NULL
        ),
        ('{application,etl}', 'routine', 'oceanrecords', '{business_time}', '{EXECUTE}', NULL),
        -- The loads read by way of schema source. To forget somebody takes these.
        ('{etl}', 'relation', 'oceanrecords', '{addresses,customers}', '{SELECT}', NULL),
        ('{etl}', 'relation', 'oceanrecords', '{customers}', '{UPDATE}', '{first_name,last_name,email,phone}'),
        ('{etl}', 'relation', 'oceanrecords', '{addresses}', '{UPDATE}', '{street}'),
        ('{etl}', 'relation', 'oceanrecords', '{extraction_columns,extraction_point}', '{}', NULL),
        -- Trigger functions need no permission.
        ('{etl}', 'routine', 'oceanrecords', '{_*}', '{}', NULL),

        -- The layers that the engine builds ---------------------------------------------------------------------------
        ('{etl,steward}', 'relation', 'source', '{*}', '{SELECT}', NULL),
        ('{etl}', 'relation', 'source_local', '{*}', '{SELECT}', NULL),
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
            '{country,customer_count,customer_quarterly,freshness,lost_order_limit,month,order_daily,overview,product,product_monthly,'
            || 'product_type,quarter,subtype_monthly}',
            '{SELECT}', NULL
        ),
        ('{business,steward}', 'routine', 'kpi', '{customer_count_of,month_of,overview_of,quarter_of,top_products_of}', '{EXECUTE}', NULL),

        -- Catalog and control tables ----------------------------------------------------------------------------------
        (
            '{auditor,steward}', 'relation', 'etl',
            '{aggregate,aggregate_fact,dependency,dimension,dimension_attribute,fact,fact_dimension,quality_check,schedule,setting,source_table,'
            || 'task,task_edge}',
            '{SELECT}', NULL
        ),
        (
            '{auditor,steward}', 'relation', 'etl',
            '{alert,batch,extraction,planned_refresh,load_state,maintenance,reconciliation,reconciliation_object,reextraction,reprocessing_queue,run,'
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
        ('{etl}', 'routine', 'etl', '{apply_permissions,plan_rows}', '{}', NULL),
        ('{auditor,steward}', 'routine', 'etl', '{plan}', '{EXECUTE}', NULL),
        -- Users are managed by who may create roles: PostgreSQL sees to that.
        ('{etl}', 'routine', 'etl', '{add_user,grant_level,remove_user,revoke_level,set_user_countries,set_user_password}', '{}', NULL),
        ('{auditor,steward}', 'routine', 'etl', '{get_setting,_is_live}', '{EXECUTE}', NULL),
        -- Called by a function that a view calls.
        ('{steward}', 'routine', 'etl', '{_columns,_without}', '{EXECUTE}', NULL),
        ('{steward}', 'routine', 'etl', '{accept_quarantine,repair,retry_quarantine,retry_queue}', '{EXECUTE}', NULL),
        ('{steward}', 'routine', 'etl', '{reconcile,_reconcile}', '{EXECUTE}', NULL),
        ('{steward}', 'routine', 'etl', '{object_sql,trace,trace_run}', '{EXECUTE}', NULL),
        ('{steward}', 'routine', 'etl', '{forget}', '{EXECUTE}', NULL)
) AS d (levels, object_kind, schema_name, object_names, privileges, column_names)
CROSS JOIN LATERAL unnest(d.levels::text[]) AS l (level)
CROSS JOIN LATERAL unnest(d.object_names::text[]) AS o (name);

INSERT INTO etl.definer_routine (schema_name, routine_name, reason)
VALUES
    ('etl', '_reconcile', 'A steward compares layers without the right to write the tables that the result goes to.'),
    ('etl', 'forget', 'A steward forgets a customer without the right to change rows.'),
    ('etl', 'object_sql', 'A steward looks at the engine''s statements without the right to execute its internal routines.'),
    ('etl', 'accept_quarantine', 'A steward accepts rows that cannot be loaded without the right to write the quarantine.'),
    ('etl', 'plan', 'A steward sees what the next run loads completely without the right to execute the engine''s internal routines.'),
    ('etl', 'repair', 'A steward hands differences to the next run without the right to write its tables.'),
    ('etl', 'retry_quarantine', 'A steward asks for another try without the right to write the loads'' tables.'),
    ('etl', 'retry_queue', 'A steward asks for another try without the right to write the queue.'),
    ('etl', 'trace', 'A steward looks through all layers without the right to execute the engine''s internal routines.'),
    ('etl', 'trace_run', 'A steward looks at a run without the right to execute the engine''s internal routines.'),
    ('kpi', 'customer_count_of', 'A business user reads figures without the right to read the stars.'),
    ('kpi', 'month_of', 'A business user reads figures without the right to read the stars.'),
    ('kpi', 'overview_of', 'A business user reads figures without the right to read the stars.'),
    ('kpi', 'quarter_of', 'A business user reads figures without the right to read the stars.'),
    ('oceanrecords', '_leave_tombstone', 'Who deletes a row leaves a tombstone without the right to write tombstones.'),
    ('oceanrecords', '_log_price', 'Who changes a price writes the price log without the right to write it.')
ON CONFLICT (schema_name, routine_name) DO UPDATE
SET reason = excluded.reason
WHERE etl.definer_routine.reason <> excluded.reason;

-- Personal data of customers. An address is forgotten with its last customer: while another one uses it, it is his. --------------------

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
        ('customer', 'SELECT $1::bigint'),
        (
            'address',
            'SELECT l.address_id FROM (SELECT customer_id, address_id FROM stage.customers_addresses'
            || ' UNION SELECT customer_id, address_id FROM source.customers_addresses) AS l WHERE l.customer_id = $1::bigint'
            || ' AND NOT EXISTS (SELECT FROM (SELECT customer_id, address_id FROM stage.customers_addresses WHERE deleted_at IS NULL'
            || ' UNION SELECT customer_id, address_id FROM source.customers_addresses) AS o'
            || ' WHERE o.address_id = l.address_id AND o.customer_id <> l.customer_id'
            || ' AND NOT EXISTS (SELECT FROM etl.forgotten_subject AS f WHERE f.subject = ''customer'' AND f.subject_key = o.customer_id::text))'
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
