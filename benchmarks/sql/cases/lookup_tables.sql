CREATE EXTENSION btree_gist;

CREATE TABLE dimension (
    surrogate_key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    member_id bigint NOT NULL,
    attribute text NOT NULL,
    valid_from timestamptz NOT NULL,
    valid_to timestamptz NOT NULL
);
CREATE INDEX dimension_version ON dimension (member_id, valid_from) INCLUDE (surrogate_key, valid_to);
CREATE INDEX dimension_range ON dimension USING gist (member_id, tstzrange(valid_from, valid_to));

CREATE TABLE event (
    event_id bigint PRIMARY KEY,
    member_id bigint NOT NULL,
    happened_at timestamptz NOT NULL
);
INSERT INTO event (event_id, member_id, happened_at)
SELECT
    n,
    1 + (hashint8(n) & 2147483647) % 5000,
    timestamptz '2024-01-01' + ((hashint8(n + 1000000) & 2147483647) % 63072000) * interval '1 second'
FROM generate_series(1, 200000) AS n;
