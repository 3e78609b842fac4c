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

SELECT etl.define_dimension('dim_payment', p_key => '{payment_method_id}');
