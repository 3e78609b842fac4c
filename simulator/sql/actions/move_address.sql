-- The address was wrong, or the household has moved and takes its number along.
UPDATE oceanrecords.addresses
SET
    street = %(street)s,
    postal_code = %(postal_code)s,
    city = %(city)s,
    country_code = %(country_code)s
WHERE address_id = %(address_id)s;
