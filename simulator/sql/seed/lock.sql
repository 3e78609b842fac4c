-- No other session reads or writes while the history is generated. One statement locks all tables, so that two seeds cannot deadlock.
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
