-- Statistics for those who read next.
ANALYZE
    oceanrecords.addresses,
    oceanrecords.customers,
    oceanrecords.customers_addresses,
    oceanrecords.order_lines,
    oceanrecords.orders,
    oceanrecords.product_prices,
    oceanrecords.product_subtypes,
    oceanrecords.product_types,
    oceanrecords.products,
    oceanrecords.suppliers;
