-- Order statuses.

CREATE OR REPLACE VIEW work.dim_status AS
SELECT
    s.order_status_id,
    s.code AS status_code,
    s.name AS status_name,
    s.is_lost,
    s.updated_at AS effective_at,
    s.deleted_at
FROM stage.order_statuses AS s;

COMMENT ON VIEW work.dim_status IS 'Order statuses as they are now.';
COMMENT ON COLUMN work.dim_status.order_status_id IS 'Order status: the business key.';
COMMENT ON COLUMN work.dim_status.status_code IS 'Short code.';
COMMENT ON COLUMN work.dim_status.status_name IS 'Name.';
COMMENT ON COLUMN work.dim_status.is_lost IS 'Whether an order in this status is lost.';
COMMENT ON COLUMN work.dim_status.effective_at IS 'When the member last changed in the source.';
COMMENT ON COLUMN work.dim_status.deleted_at IS 'When it was deleted in the source.';

INSERT INTO etl.dimension (dimension, dimension_table, transform_view, history_view, surrogate_key, business_key)
VALUES ('dim_status', 'dwh.dim_status', 'work.dim_status', NULL, 'status_key', '{order_status_id}')
ON CONFLICT (dimension) DO UPDATE
SET dimension_table = excluded.dimension_table,
    transform_view = excluded.transform_view,
    history_view = excluded.history_view,
    surrogate_key = excluded.surrogate_key,
    business_key = excluded.business_key;

INSERT INTO etl.dimension_attribute (dimension, attribute, scd_type)
VALUES
    ('dim_status', 'status_code', 1),
    ('dim_status', 'status_name', 1),
    ('dim_status', 'is_lost', 1)
ON CONFLICT (dimension, attribute) DO UPDATE
SET scd_type = excluded.scd_type;

INSERT INTO etl.dependency (object, source_table, key_query)
VALUES
    ('dim_status', 'order_statuses', 'SELECT order_status_id FROM changed')
ON CONFLICT (object, source_table) DO UPDATE
SET key_query = excluded.key_query;
