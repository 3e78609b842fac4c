-- A view and a function that no file of the business creates any more
--
-- depends: 0005.keys-and-wording

DROP VIEW IF EXISTS kpi.late_loss;
DROP FUNCTION IF EXISTS kpi.top_products_of(date, date, text[], text[], integer);
