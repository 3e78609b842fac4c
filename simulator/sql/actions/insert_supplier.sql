-- A new supplier; nothing comes back if the name is taken.
INSERT INTO oceanrecords.suppliers (name, country_code)
VALUES (%(name)s, %(country_code)s)
ON CONFLICT (name) DO NOTHING
RETURNING supplier_id;
