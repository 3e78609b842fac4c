-- The next address from a number on that no other session has locked.
SELECT
    a.address_id,
    a.country_code
FROM oceanrecords.addresses AS a
WHERE a.address_id >= %(from_address)s
ORDER BY a.address_id
LIMIT 1
FOR NO KEY UPDATE SKIP LOCKED;
