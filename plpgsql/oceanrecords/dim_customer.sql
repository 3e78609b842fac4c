-- Customers. A change of segment is history; a corrected name, e-mail or phone number is not.

CREATE OR REPLACE VIEW work.dim_customer AS
SELECT
    c.customer_id,
    trim(c.first_name) AS first_name,
    trim(c.last_name) AS last_name,
    trim(c.first_name) || ' ' || trim(c.last_name) AS full_name,
    lower(trim(c.email)) AS email,
    nullif(trim(c.phone), '') AS phone,
    c.segment,
    (c.created_at AT TIME ZONE (SELECT etl.get_setting('time_zone')))::date AS customer_since,
    c.updated_at AS effective_at,
    c.deleted_at
FROM stage.customers AS c;

COMMENT ON VIEW work.dim_customer IS 'Customers as they are now, cleaned.';
COMMENT ON COLUMN work.dim_customer.customer_id IS 'Customer: the business key.';
COMMENT ON COLUMN work.dim_customer.first_name IS 'Given name.';
COMMENT ON COLUMN work.dim_customer.last_name IS 'Family name.';
COMMENT ON COLUMN work.dim_customer.full_name IS 'Given and family name.';
COMMENT ON COLUMN work.dim_customer.email IS 'E-mail address, in lower case.';
COMMENT ON COLUMN work.dim_customer.phone IS 'Telephone number.';
COMMENT ON COLUMN work.dim_customer.segment IS 'consumer or business.';
COMMENT ON COLUMN work.dim_customer.customer_since IS 'Date on which the customer was first known, in the business time zone.';
COMMENT ON COLUMN work.dim_customer.effective_at IS 'When the member last changed in the source.';
COMMENT ON COLUMN work.dim_customer.deleted_at IS 'When it was deleted in the source.';

INSERT INTO etl.dimension (dimension, dimension_table, transform_view, history_view, surrogate_key, business_key)
VALUES ('dim_customer', 'dwh.dim_customer', 'work.dim_customer', NULL, 'customer_key', '{customer_id}')
ON CONFLICT (dimension) DO UPDATE
SET dimension_table = excluded.dimension_table,
    transform_view = excluded.transform_view,
    history_view = excluded.history_view,
    surrogate_key = excluded.surrogate_key,
    business_key = excluded.business_key;

INSERT INTO etl.dimension_attribute (dimension, attribute, scd_type)
VALUES
    ('dim_customer', 'first_name', 1),
    ('dim_customer', 'last_name', 1),
    ('dim_customer', 'full_name', 1),
    ('dim_customer', 'email', 1),
    ('dim_customer', 'phone', 1),
    ('dim_customer', 'segment', 2),
    ('dim_customer', 'customer_since', 0)
ON CONFLICT (dimension, attribute) DO UPDATE
SET scd_type = excluded.scd_type;

INSERT INTO etl.dependency (object, source_table, key_query)
VALUES
    ('dim_customer', 'customers', 'SELECT customer_id FROM changed')
ON CONFLICT (object, source_table) DO UPDATE
SET key_query = excluded.key_query;
