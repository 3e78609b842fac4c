-- Nobody else writes or reads while the history is made; one statement, so that two seeds wait for each other in one order.
LOCK TABLE
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
