-- A new product; its first price is logged by trigger.
INSERT INTO oceanrecords.products (product_id, product_subtype_id, supplier_id, sku, name, price)
VALUES (
    %(product_id)s, %(product_subtype_id)s, %(supplier_id)s, %(sku)s, %(name)s, %(price)s
);
