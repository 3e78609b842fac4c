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

SELECT etl.define_dimension('dim_customer', p_key => '{customer_id}', p_type_2 => '{segment}', p_type_0 => '{customer_since}');
