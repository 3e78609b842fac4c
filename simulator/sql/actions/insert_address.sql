-- A new address.
INSERT INTO oceanrecords.addresses (street, postal_code, city, country_code)
VALUES (%(street)s, %(postal_code)s, %(city)s, %(country_code)s)
RETURNING address_id;
