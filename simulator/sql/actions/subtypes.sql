-- Where products can stand, with the department.
SELECT
    s.product_subtype_id,
    s.name,
    t.name AS department
FROM oceanrecords.product_subtypes AS s
INNER JOIN oceanrecords.product_types AS t
    ON t.product_type_id = s.product_type_id
ORDER BY s.product_subtype_id;
