-- Suppliers.

CREATE OR REPLACE VIEW work.dim_supplier AS
SELECT
    s.supplier_id,
    trim(s.name) AS supplier_name,
    s.country_code,
    coalesce(n.country, s.country_code) AS country,
    s.updated_at AS effective_at,
    s.deleted_at
FROM stage.suppliers AS s
LEFT JOIN work.country AS n USING (country_code);

COMMENT ON VIEW work.dim_supplier IS 'Suppliers as they are now, with the name of the country.';
COMMENT ON COLUMN work.dim_supplier.supplier_id IS 'Supplier: the business key.';
COMMENT ON COLUMN work.dim_supplier.supplier_name IS 'Name.';
COMMENT ON COLUMN work.dim_supplier.country_code IS 'Country, ISO 3166-1 alpha-2.';
COMMENT ON COLUMN work.dim_supplier.country IS 'Name of the country; its code where the name is not known.';
COMMENT ON COLUMN work.dim_supplier.effective_at IS 'When the member last changed in the source.';
COMMENT ON COLUMN work.dim_supplier.deleted_at IS 'When it was deleted in the source.';

SELECT etl.define_dimension('dim_supplier', p_key => '{supplier_id}');
