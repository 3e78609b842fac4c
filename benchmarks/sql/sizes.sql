SELECT
    (SELECT count(*) FROM oceanrecords.orders) AS orders,
    (SELECT count(*) FROM oceanrecords.order_lines) AS order_lines,
    (SELECT count(*) FROM oceanrecords.customers) AS customers,
    (SELECT count(*) FROM oceanrecords.addresses) AS addresses,
    (SELECT count(*) FROM oceanrecords.products) AS products
