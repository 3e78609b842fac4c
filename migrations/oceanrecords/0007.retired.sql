-- A view and a function that no file of the business creates any more
--
-- depends: 0006.months-of-customers

DROP VIEW IF EXISTS kpi.late_loss;
DROP FUNCTION IF EXISTS kpi.top_products_of(date, date, text[], text[], integer);
DELETE FROM etl.definer_routine
WHERE (schema_name, routine_name) = ('kpi', 'top_products_of');
