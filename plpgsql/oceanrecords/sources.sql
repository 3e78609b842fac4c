-- Source tables of OceanRecords: every change is found by the transaction that made it, every deletion by its tombstone. Keys and change
-- columns are those of the operational tables.

SELECT etl.define_source(s.name)
FROM unnest('{addresses,customers,customers_addresses,order_lines,order_statuses,orders,payment_methods}'::name[]) AS s (name);
SELECT etl.define_source(s.name)
FROM unnest('{product_prices,product_subtypes,product_types,products,suppliers}'::name[]) AS s (name);

-- The mirrors come first: the transformation views stand on them.
CALL etl.build();
