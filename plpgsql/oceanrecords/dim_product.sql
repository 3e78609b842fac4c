-- Products, type and subtype folded in. Price, place in the assortment and supplier have history. The source keeps a log of
-- prices, so that every price is known that held between two runs; of the rest the warehouse knows what it has seen.

CREATE OR REPLACE VIEW work.dim_product AS
SELECT
    p.product_id,
    p.sku,
    trim(p.name) AS product_name,
    coalesce(s.name, 'Unknown') AS product_subtype,
    coalesce(t.name, 'Unknown') AS product_type,
    p.price,
    p.supplier_id,
    p.is_active,
    (p.created_at AT TIME ZONE (SELECT etl.get_setting('time_zone')))::date AS launched_on,
    greatest(p.updated_at, s.updated_at, t.updated_at) AS effective_at,
    p.deleted_at
FROM stage.products AS p
LEFT JOIN stage.product_subtypes AS s ON s.product_subtype_id = p.product_subtype_id AND s.deleted_at IS NULL
LEFT JOIN stage.product_types AS t ON t.product_type_id = s.product_type_id AND t.deleted_at IS NULL;

COMMENT ON VIEW work.dim_product IS 'Products as they are now, with the names of subtype and type.';
COMMENT ON COLUMN work.dim_product.product_id IS 'Product: the business key.';
COMMENT ON COLUMN work.dim_product.sku IS 'Stock keeping unit.';
COMMENT ON COLUMN work.dim_product.product_name IS 'Name.';
COMMENT ON COLUMN work.dim_product.product_subtype IS 'Name of the subtype.';
COMMENT ON COLUMN work.dim_product.product_type IS 'Name of the type.';
COMMENT ON COLUMN work.dim_product.price IS 'List price in the business currency.';
COMMENT ON COLUMN work.dim_product.supplier_id IS 'Supplier.';
COMMENT ON COLUMN work.dim_product.is_active IS 'Whether the product is on sale.';
COMMENT ON COLUMN work.dim_product.launched_on IS 'Date on which the product was first known, in the business time zone.';
COMMENT ON COLUMN work.dim_product.effective_at IS 'When the product or its place in the assortment last changed in the source.';
COMMENT ON COLUMN work.dim_product.deleted_at IS 'When it was deleted in the source.';

CREATE OR REPLACE VIEW work.dim_product_history AS
SELECT
    r.product_id,
    r.valid_from,
    r.price
FROM stage.product_prices AS r
WHERE r.deleted_at IS NULL;
COMMENT ON VIEW work.dim_product_history IS 'Prices by the log of the source.';
COMMENT ON COLUMN work.dim_product_history.product_id IS 'Product: the business key.';
COMMENT ON COLUMN work.dim_product_history.valid_from IS 'Moment from which the price held.';
COMMENT ON COLUMN work.dim_product_history.price IS 'List price in the business currency.';

SELECT etl.define_dimension(
    'dim_product',
    p_key => '{product_id}',
    p_type_2 => '{product_subtype,product_type,price,supplier_id}',
    p_type_0 => '{launched_on}',
    p_depends_on => ARRAY[
        etl.depends_on('product_prices'),
        etl.depends_on('product_subtypes', 'SELECT p.product_id FROM changed JOIN stage.products AS p USING (product_subtype_id)'),
        etl.depends_on(
            'product_types',
            'SELECT p.product_id FROM changed JOIN stage.product_subtypes AS s USING (product_type_id) JOIN stage.products AS p USING (product_subtype_id)'
        )
    ]
);
