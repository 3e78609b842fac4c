-- In which months of a quarter a customer ordered: whether a country had few customers in a month
--
-- depends: 0005.keys-and-wording

ALTER TABLE dwh.agg_customer_quarterly
    ADD COLUMN first_month_orders bigint NOT NULL DEFAULT 0,
    ADD COLUMN second_month_orders bigint NOT NULL DEFAULT 0,
    ADD COLUMN third_month_orders bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN dwh.agg_customer_quarterly.first_month_orders IS 'Measure: orders of the first month of the quarter.';
COMMENT ON COLUMN dwh.agg_customer_quarterly.second_month_orders IS 'Measure: orders of the second month of the quarter.';
COMMENT ON COLUMN dwh.agg_customer_quarterly.third_month_orders IS 'Measure: orders of the third month of the quarter.';

-- Its name is another one now.
DROP FUNCTION IF EXISTS work.kpi_quarter_customer(date, date);
