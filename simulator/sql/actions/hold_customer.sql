-- The next customer from a number on that no other session has locked.
SELECT c.customer_id
FROM oceanrecords.customers AS c
WHERE c.customer_id >= %(from_customer)s
ORDER BY c.customer_id
LIMIT 1
FOR NO KEY UPDATE SKIP LOCKED;
