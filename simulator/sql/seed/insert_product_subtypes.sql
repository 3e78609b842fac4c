-- Shelves of the departments.
INSERT INTO oceanrecords.product_subtypes (product_subtype_id, product_type_id, name, created_at, updated_at)
SELECT
    s.product_subtype_id,
    s.product_type_id,
    s.name,
    p.starts_at - interval '500 days',
    p.starts_at - interval '500 days'
FROM seed_shelf AS s
CROSS JOIN seed_plan AS p
ORDER BY s.product_subtype_id;
