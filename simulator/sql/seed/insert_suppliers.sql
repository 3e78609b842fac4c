-- Suppliers, known since before the history begins.
INSERT INTO oceanrecords.suppliers (supplier_id, name, country_code, created_at, updated_at)
SELECT
    s.supplier_id,
    s.name,
    s.country_code,
    t.created_at,
    t.created_at
FROM seed_supplier AS s
CROSS JOIN seed_plan AS p
CROSS JOIN LATERAL (
    SELECT p.starts_at - interval '500 days' + pg_temp.hours(24 * 60 * pg_temp.chance(s.supplier_id, 'supplies since')) AS created_at
) AS t
ORDER BY s.supplier_id;
