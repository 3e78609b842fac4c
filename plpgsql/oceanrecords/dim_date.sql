-- The calendar: filled by its migration, looked up by date.

INSERT INTO etl.dimension (dimension, dimension_table, surrogate_key, business_key)
VALUES ('dim_date', 'dwh.dim_date', 'date_key', '{full_date}')
ON CONFLICT (dimension) DO UPDATE
SET dimension_table = excluded.dimension_table,
    surrogate_key = excluded.surrogate_key,
    business_key = excluded.business_key;
