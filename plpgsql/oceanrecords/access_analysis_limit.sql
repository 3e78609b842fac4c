CREATE OR REPLACE VIEW analysis.lost_order_limit AS
SELECT
    l.valid_from,
    l.limit_share
FROM kpi.lost_order_limit AS l;

COMMENT ON VIEW analysis.lost_order_limit IS 'Share of orders that may be lost, for analysts: each row holds from its date until the next row''s.';
COMMENT ON COLUMN analysis.lost_order_limit.valid_from IS 'First day, by date of order, on which the limit holds; -infinity for the first limit.';
COMMENT ON COLUMN analysis.lost_order_limit.limit_share IS 'Lost orders divided by orders, from 0 to 1.';
