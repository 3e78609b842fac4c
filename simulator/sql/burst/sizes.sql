-- How much there is to take a share of.
SELECT
    (SELECT count(*) FROM oceanrecords.orders) AS orders,
    (SELECT count(*) FROM oceanrecords.products) AS products,
    (SELECT count(*) FROM oceanrecords.addresses) AS addresses;
