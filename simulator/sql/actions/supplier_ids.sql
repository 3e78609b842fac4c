-- All suppliers: a few hundred.
SELECT s.supplier_id
FROM oceanrecords.suppliers AS s
ORDER BY s.supplier_id;
