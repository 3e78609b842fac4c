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

INSERT INTO etl.dimension (dimension, dimension_table, transform_view, history_view, surrogate_key, business_key)
VALUES ('dim_supplier', 'dwh.dim_supplier', 'work.dim_supplier', NULL, 'supplier_key', '{supplier_id}')
ON CONFLICT (dimension) DO UPDATE
SET dimension_table = excluded.dimension_table,
    transform_view = excluded.transform_view,
    history_view = excluded.history_view,
    surrogate_key = excluded.surrogate_key,
    business_key = excluded.business_key;

INSERT INTO etl.dimension_attribute (dimension, attribute, scd_type)
VALUES
    ('dim_supplier', 'supplier_name', 1),
    ('dim_supplier', 'country_code', 1),
    ('dim_supplier', 'country', 1)
ON CONFLICT (dimension, attribute) DO UPDATE
SET scd_type = excluded.scd_type;

INSERT INTO etl.dependency (object, source_table, key_query)
VALUES
    ('dim_supplier', 'suppliers', 'SELECT supplier_id FROM changed')
ON CONFLICT (object, source_table) DO UPDATE
SET key_query = excluded.key_query;
