-- Versions of equal length over two years; the first holds from ever.
WITH emptied AS (
    DELETE FROM dimension
)
INSERT INTO dimension (member_id, attribute, valid_from, valid_to)
SELECT
    m,
    'version ' || v,
    CASE WHEN v = 1 THEN '-infinity' ELSE timestamptz '2024-01-01' + (v - 1) * interval '730 days' / %(versions)s END,
    CASE WHEN v = %(versions)s THEN 'infinity' ELSE timestamptz '2024-01-01' + v * interval '730 days' / %(versions)s END
FROM generate_series(1, 5000) AS m
CROSS JOIN generate_series(1, %(versions)s) AS v
