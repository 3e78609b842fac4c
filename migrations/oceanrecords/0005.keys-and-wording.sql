-- Keys of deleted rows read the same whatever session deletes; plainer comments
--
-- depends: 0004.kpi

-- Purpose:    leave a tombstone for a key that is no more.
-- Parameters: trigger arguments: the columns of the table's primary key.
-- Returns:    nothing that counts (AFTER trigger).
-- Writes:     oceanrecords.deleted_rows, as its owner, so that who may delete need not be able to write tombstones.
--             Every session writes keys in the same format.
CREATE OR REPLACE FUNCTION oceanrecords._leave_tombstone()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET TimeZone = 'UTC'
SET DateStyle = 'ISO'
SET IntervalStyle = 'postgres'
SET bytea_output = 'hex'
SET extra_float_digits = 1
AS $_leave_tombstone$
BEGIN
    INSERT INTO oceanrecords.deleted_rows (table_name, row_key)
    SELECT
        TG_TABLE_NAME,
        jsonb_object_agg(k.column_name, to_jsonb(OLD) -> k.column_name)
    FROM unnest(TG_ARGV) AS k (column_name);
    RETURN NULL;
END;
$_leave_tombstone$;

COMMENT ON COLUMN dwh.agg_order_lost_daily.lost_on IS 'Day of the cancellation or refund; the day of the order if the time of loss is unknown.';
COMMENT ON COLUMN dwh.agg_product_monthly.sales IS 'Measure: quantity times unit price, in the business currency.';
COMMENT ON COLUMN dwh.agg_product_total_monthly.sales IS 'Measure: quantity times unit price, in the business currency.';
COMMENT ON COLUMN dwh.agg_product_total_quarterly.sales IS 'Measure: quantity times unit price, in the business currency.';
COMMENT ON COLUMN dwh.agg_product_total.sales IS 'Measure: quantity times unit price, in the business currency.';
COMMENT ON COLUMN dwh.agg_product_country.sales IS 'Measure: quantity times unit price, in the business currency.';
COMMENT ON COLUMN dwh.agg_subtype_monthly.sales IS 'Measure: quantity times unit price, in the business currency.';
COMMENT ON COLUMN kpi.lost_order_limit.limit_share IS 'Lost orders divided by orders, from 0 to 1: 0.05 is five percent.';
COMMENT ON TABLE kpi.definition IS 'Definitions of the KPIs, which the dashboard, Metabase and the command line show.';
COMMENT ON COLUMN kpi.definition.kpi IS 'Name of the KPI.';
