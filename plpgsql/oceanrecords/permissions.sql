-- Permissions of the objects of the business: operational system, stars and KPIs. Every new object needs a row: without one it is closed to all
-- levels, and a test fails.

INSERT INTO etl.access_schema (schema_name, owner_level)
VALUES ('oceanrecords', NULL)
ON CONFLICT (schema_name) DO UPDATE
SET owner_level = excluded.owner_level
WHERE etl.access_schema.owner_level IS DISTINCT FROM excluded.owner_level;

DELETE FROM etl.permission
WHERE origin = 'oceanrecords';

-- {} leaves the object to its owner.
INSERT INTO etl.permission (level, object_kind, schema_name, object_name, privileges, column_names, origin)
SELECT l.level, d.object_kind, d.schema_name, o.name, d.privileges::text[], d.column_names::name[], 'oceanrecords'
FROM (
    VALUES
        ('{application,owner}', 'schema', 'oceanrecords', '{oceanrecords}', '{USAGE}', NULL),

        -- The operational system: its application cannot delete orders, products, their prices or tombstones. -----------------
        ('{application}', 'relation', 'oceanrecords', '{addresses,customers,customers_addresses,order_lines}', '{SELECT,INSERT,UPDATE,DELETE}', NULL),
        ('{application}', 'relation', 'oceanrecords', '{orders,product_subtypes,product_types,products,suppliers}', '{SELECT,INSERT,UPDATE}', NULL),
        (
            '{application}', 'relation', 'oceanrecords',
            '{deleted_rows,order_status_transitions,order_statuses,payment_methods,product_prices}',
            '{SELECT}', NULL
        ),
        ('{application,owner}', 'routine', 'oceanrecords', '{business_time}', '{EXECUTE}', NULL),
        -- The loads read through schema source; forgetting needs these.
        ('{owner}', 'relation', 'oceanrecords', '{addresses,customers}', '{SELECT}', NULL),
        ('{owner}', 'relation', 'oceanrecords', '{customers}', '{UPDATE}', '{first_name,last_name,email,phone}'),
        ('{owner}', 'relation', 'oceanrecords', '{addresses}', '{UPDATE}', '{street}'),
        ('{owner}', 'relation', 'oceanrecords', '{extraction_columns,extraction_point}', '{}', NULL),
        -- Only functions of schema kpi call these, with the rights of the owner.
        ('{owner}', 'routine', 'work', '{kpi_line_sold,kpi_period,kpi_products,kpi_customer,kpi_sold}', '{EXECUTE}', NULL),
        -- Trigger functions need no permission.
        ('{owner}', 'routine', 'oceanrecords', '{_*}', '{}', NULL),

        -- The stars ---------------------------------------------------------------------------------------------------
        ('{steward}', 'relation', 'dwh', '{dim_address,dim_customer,dim_payment,dim_product,dim_status,dim_supplier}', '{SELECT}', NULL),
        ('{steward}', 'relation', 'dwh', '{fact_order,fact_order_line}', '{SELECT}', NULL),
        (
            '{steward}', 'relation', 'dwh',
            '{agg_customer_quarterly,agg_customer_total_quarterly,agg_order_daily,agg_order_lost_daily,agg_product_country,'
            || 'agg_product_monthly,agg_product_total,agg_product_total_monthly,agg_product_total_quarterly,agg_subtype_monthly}',
            '{SELECT}', NULL
        ),
        ('{analyst}', 'relation', 'analysis', '{dim_address,dim_customer,dim_payment,dim_product,dim_status,dim_supplier}', '{SELECT}', NULL),
        ('{analyst}', 'relation', 'analysis', '{fact_order,fact_order_line}', '{SELECT}', NULL),
        ('{analyst}', 'relation', 'analysis', '{lost_order_limit}', '{SELECT}', NULL),
        (
            '{analyst}', 'relation', 'analysis',
            '{agg_customer_quarterly,agg_customer_total_quarterly,agg_order_daily,agg_order_lost_daily,agg_product_country,'
            || 'agg_product_monthly,agg_product_total,agg_product_total_monthly,agg_product_total_quarterly,agg_subtype_monthly}',
            '{SELECT}', NULL
        ),

        -- KPIs --------------------------------------------------------------------------------------------------------
        (
            '{business,steward}', 'relation', 'kpi',
            '{calendar,country,customer_count,definition,freshness,headline,limit_crossing,loss_curve,lost_order_limit,month,'
            || 'overview,period,product,product_monthly,product_type,quarter,sales_target,subtype_monthly}',
            '{SELECT}', NULL
        ),
        -- A day of a country often has few customers.
        ('{steward}', 'relation', 'kpi', '{order_daily}', '{SELECT}', NULL),
        ('{steward}', 'relation', 'kpi', '{sales_target}', '{INSERT,UPDATE,DELETE}', NULL),
        (
            '{business,steward}', 'routine', 'kpi',
            '{customer_count_of,headline_of,month_of,movement_of,overview_of,quarter_of,ranking_of}', '{EXECUTE}', NULL
        )
) AS d (levels, object_kind, schema_name, object_names, privileges, column_names)
CROSS JOIN LATERAL unnest(d.levels::text[]) AS l (level)
CROSS JOIN LATERAL unnest(d.object_names::text[]) AS o (name);

INSERT INTO etl.definer_routine (schema_name, routine_name, reason)
VALUES
    ('kpi', 'customer_count_of', 'A business user reads KPIs without the right to read the stars.'),
    ('kpi', 'headline_of', 'A business user reads KPIs without the right to read the stars.'),
    ('kpi', 'month_of', 'A business user reads KPIs without the right to read the stars.'),
    ('kpi', 'movement_of', 'A business user reads KPIs without the right to read the stars.'),
    ('kpi', 'overview_of', 'A business user reads KPIs without the right to read the stars.'),
    ('kpi', 'quarter_of', 'A business user reads KPIs without the right to read the stars.'),
    ('kpi', 'ranking_of', 'A business user reads KPIs without the right to read the stars.'),
    ('work', 'kpi_line_sold', 'A business user reads KPIs without the right to read the stars.'),
    ('oceanrecords', '_leave_tombstone', 'Deleting a row writes a tombstone without the right to write tombstones.'),
    ('oceanrecords', '_log_price', 'Changing a price writes the price log without the right to write it.')
ON CONFLICT (schema_name, routine_name) DO UPDATE
SET reason = excluded.reason
WHERE etl.definer_routine.reason <> excluded.reason;

-- Personal data of customers. An address is forgotten with its last customer. -------------------------------------------

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
-- Earlier numbers of the same person, whose rows the shop deleted.
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
    ('customer', 'customers', 'email', '''forgotten-'' || r.customer_id::text || ''@forgotten.invalid'''),
    ('customer', 'customers', 'phone', 'NULL'),
    ('customer', 'dim_customer', 'first_name', '''Forgotten'''),
    ('customer', 'dim_customer', 'last_name', '''Customer'''),
    ('customer', 'dim_customer', 'full_name', '''Forgotten Customer'''),
    ('customer', 'dim_customer', 'email', '''forgotten-'' || r.customer_id::text || ''@forgotten.invalid'''),
    ('customer', 'dim_customer', 'phone', 'NULL'),
    ('customer', 'addresses', 'street', '''Forgotten'''),
    ('customer', 'dim_address', 'street', '''Forgotten''')
ON CONFLICT (subject, object, column_name) DO UPDATE
SET replacement = excluded.replacement;
