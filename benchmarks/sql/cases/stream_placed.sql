SELECT max(order_id)
FROM oceanrecords.orders
