-- Addresses. A change of place is history, a corrected street or postal code is not.

CREATE OR REPLACE VIEW work.dim_address AS
SELECT
    a.address_id,
    trim(a.street) AS street,
    upper(trim(a.postal_code)) AS postal_code,
    trim(a.city) AS city,
    a.country_code,
    coalesce(n.country, a.country_code) AS country,
    a.updated_at AS effective_at,
    a.deleted_at
FROM stage.addresses AS a
LEFT JOIN work.country AS n USING (country_code);

COMMENT ON VIEW work.dim_address IS 'Addresses as they are now, cleaned, with the name of the country.';
COMMENT ON COLUMN work.dim_address.address_id IS 'Address: the business key.';
COMMENT ON COLUMN work.dim_address.street IS 'Street and number.';
COMMENT ON COLUMN work.dim_address.postal_code IS 'Postal code.';
COMMENT ON COLUMN work.dim_address.city IS 'City.';
COMMENT ON COLUMN work.dim_address.country_code IS 'Country, ISO 3166-1 alpha-2.';
COMMENT ON COLUMN work.dim_address.country IS 'Name of the country; its code where the name is not known.';
COMMENT ON COLUMN work.dim_address.effective_at IS 'When the member last changed in the source.';
COMMENT ON COLUMN work.dim_address.deleted_at IS 'When it was deleted in the source.';

SELECT etl.define_dimension('dim_address', p_key => '{address_id}', p_type_2 => '{city,country_code,country}');
