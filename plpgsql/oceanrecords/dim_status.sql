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

SELECT etl.define_dimension('dim_status', p_key => '{order_status_id}');
