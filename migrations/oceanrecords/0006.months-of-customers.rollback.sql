-- The version before creates its views and routines again.
DROP FUNCTION IF EXISTS work.kpi_line_sold(date, date, date, date, date, boolean) CASCADE;
DROP FUNCTION IF EXISTS work.kpi_customer(date, date);
DROP VIEW IF EXISTS work.kpi_small_country CASCADE;
ALTER TABLE dwh.agg_customer_quarterly
    DROP COLUMN first_month_orders,
    DROP COLUMN second_month_orders,
    DROP COLUMN third_month_orders;
