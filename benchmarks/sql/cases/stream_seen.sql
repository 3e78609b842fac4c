-- The time, the last order that is in the star, and the moment of the source up to which the key figures are complete.
SELECT
    extract(epoch FROM clock_timestamp()) AS now,
    (SELECT coalesce(max(f.order_id), 0) FROM dwh.fact_order AS f) AS last_order,
    (
        SELECT coalesce(extract(epoch FROM min(b.read_at)), 0)
        FROM etl.aggregate AS a
        JOIN etl.load_state AS l ON l.object = a.aggregate
        JOIN etl.batch AS b ON b.batch_id = l.loaded_batch_id
    ) AS complete_until
