-- Payment methods.

CREATE OR REPLACE VIEW work.dim_payment AS
SELECT
    p.payment_method_id,
    p.code AS payment_code,
    p.name AS payment_name,
    p.updated_at AS effective_at,
    p.deleted_at
FROM stage.payment_methods AS p;

COMMENT ON VIEW work.dim_payment IS 'Payment methods as they are now.';
COMMENT ON COLUMN work.dim_payment.payment_method_id IS 'Payment method: the business key.';
COMMENT ON COLUMN work.dim_payment.payment_code IS 'Short code.';
COMMENT ON COLUMN work.dim_payment.payment_name IS 'Name.';
COMMENT ON COLUMN work.dim_payment.effective_at IS 'When the member last changed in the source.';
COMMENT ON COLUMN work.dim_payment.deleted_at IS 'When it was deleted in the source.';

INSERT INTO etl.dimension (dimension, dimension_table, transform_view, history_view, surrogate_key, business_key)
VALUES ('dim_payment', 'dwh.dim_payment', 'work.dim_payment', NULL, 'payment_key', '{payment_method_id}')
ON CONFLICT (dimension) DO UPDATE
SET dimension_table = excluded.dimension_table,
    transform_view = excluded.transform_view,
    history_view = excluded.history_view,
    surrogate_key = excluded.surrogate_key,
    business_key = excluded.business_key;

INSERT INTO etl.dimension_attribute (dimension, attribute, scd_type)
VALUES
    ('dim_payment', 'payment_code', 1),
    ('dim_payment', 'payment_name', 1)
ON CONFLICT (dimension, attribute) DO UPDATE
SET scd_type = excluded.scd_type;

INSERT INTO etl.dependency (object, source_table, key_query)
VALUES
    ('dim_payment', 'payment_methods', 'SELECT payment_method_id FROM changed')
ON CONFLICT (object, source_table) DO UPDATE
SET key_query = excluded.key_query;
