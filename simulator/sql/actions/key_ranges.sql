-- Between which keys to choose by chance: ends of indexes, never a scan.
SELECT
    (SELECT min(c.customer_id) FROM oceanrecords.customers_addresses AS c) AS first_customer,
    (SELECT max(c.customer_id) FROM oceanrecords.customers_addresses AS c) AS last_customer,
    (SELECT min(a.address_id) FROM oceanrecords.addresses AS a) AS first_address,
    (SELECT max(a.address_id) FROM oceanrecords.addresses AS a) AS last_address,
    (SELECT min(p.product_id) FROM oceanrecords.products AS p) AS first_product,
    (SELECT max(p.product_id) FROM oceanrecords.products AS p) AS last_product,
    (SELECT min(o.order_id) FROM oceanrecords.orders AS o) AS first_order,
    (SELECT max(o.order_id) FROM oceanrecords.orders AS o) AS last_order;
