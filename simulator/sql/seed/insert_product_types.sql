-- Departments of the shop.
INSERT INTO oceanrecords.product_types (product_type_id, name, created_at, updated_at)
SELECT DISTINCT
    s.product_type_id,
    s.department,
    p.starts_at - interval '500 days',
    p.starts_at - interval '500 days'
FROM seed_shelf AS s
CROSS JOIN seed_plan AS p
ORDER BY s.product_type_id;
