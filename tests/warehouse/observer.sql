-- An observer beside the warehouse: it notes what each batch could see of the operational system, when each mirror
-- moved to a batch, and when each object was loaded. From these notes alone, the expected stars are computed.
--
-- The trigger on etl.batch fires in the extracting transaction, so it copies the operational tables on the very snapshot that
-- the batch reads; what is rolled back with the batch was never observed.

CREATE SCHEMA proof;

CREATE TABLE proof.mirror_log (
    sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_table name NOT NULL,
    batch_id bigint NOT NULL
);

CREATE TABLE proof.load_log (
    sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    object name NOT NULL,
    mirrors jsonb NOT NULL,
    quarantined jsonb NOT NULL
);

-- Lines that left the star after a load because their order was not in it: without their foreign key, which a first load sets
-- aside, they could be there for a while.
CREATE TABLE proof.taken_out (
    after_load bigint NOT NULL,
    order_id bigint NOT NULL,
    line_number integer NOT NULL
);

DO $copies$
DECLARE
    r_table record;
BEGIN
    FOR r_table IN
        SELECT c.relname
        FROM pg_class AS c
        WHERE c.relnamespace = 'oceanrecords'::regnamespace
            AND c.relkind = 'r'
    LOOP
        EXECUTE format(
            'CREATE TABLE proof.%1$I AS SELECT NULL::bigint AS batch_id, s.* FROM oceanrecords.%1$I AS s WITH NO DATA',
            r_table.relname
        );
        EXECUTE format('CREATE INDEX ON proof.%I (batch_id)', r_table.relname);
    END LOOP;
END;
$copies$;

CREATE FUNCTION proof.note_batch()
RETURNS trigger
LANGUAGE plpgsql
AS $note_batch$
DECLARE
    v_table name;
BEGIN
    FOR v_table IN
        SELECT c.relname
        FROM pg_class AS c
        WHERE c.relnamespace = 'oceanrecords'::regnamespace
            AND c.relkind = 'r'
    LOOP
        EXECUTE format('INSERT INTO proof.%1$I SELECT $1, s.* FROM oceanrecords.%1$I AS s', v_table) USING NEW.batch_id;
    END LOOP;
    RETURN NULL;
END;
$note_batch$;
CREATE TRIGGER note_batch AFTER INSERT ON etl.batch FOR EACH ROW EXECUTE FUNCTION proof.note_batch();

CREATE FUNCTION proof.note_mirror()
RETURNS trigger
LANGUAGE plpgsql
AS $note_mirror$
BEGIN
    INSERT INTO proof.mirror_log (source_table, batch_id)
    VALUES (NEW.source_table, NEW.batch_id);
    RETURN NULL;
END;
$note_mirror$;
CREATE TRIGGER note_mirror AFTER INSERT OR UPDATE ON etl.watermark FOR EACH ROW EXECUTE FUNCTION proof.note_mirror();

CREATE FUNCTION proof.note_load()
RETURNS trigger
LANGUAGE plpgsql
AS $note_load$
BEGIN
    INSERT INTO proof.load_log (object, mirrors, quarantined)
    SELECT
        NEW.object,
        coalesce(jsonb_object_agg(m.source_table, m.batch_id), '{}'),
        (SELECT coalesce(jsonb_agg(q.row_key), '[]') FROM etl.quarantine AS q WHERE q.object = NEW.object)
    FROM (
        SELECT DISTINCT ON (l.source_table) l.source_table, l.batch_id
        FROM proof.mirror_log AS l
        ORDER BY l.source_table, l.sequence DESC
    ) AS m;
    RETURN NULL;
END;
$note_load$;
CREATE TRIGGER note_load AFTER UPDATE OF loaded_at ON etl.load_state FOR EACH ROW EXECUTE FUNCTION proof.note_load();

CREATE FUNCTION proof.note_taken_out()
RETURNS trigger
LANGUAGE plpgsql
AS $note_taken_out$
BEGIN
    INSERT INTO proof.taken_out (after_load, order_id, line_number)
    SELECT max(l.sequence), OLD.order_id, OLD.line_number
    FROM proof.load_log AS l
    WHERE l.object = 'fact_order_line'
        AND NOT EXISTS (SELECT FROM dwh.fact_order AS f WHERE f.order_id = OLD.order_id)
    HAVING count(*) > 0;
    RETURN NULL;
END;
$note_taken_out$;
CREATE TRIGGER note_taken_out AFTER DELETE ON dwh.fact_order_line FOR EACH ROW EXECUTE FUNCTION proof.note_taken_out();

-- Loads run with the rights of the owner of the warehouse, which knows nothing of the observer.
ALTER FUNCTION proof.note_batch() SECURITY DEFINER;
ALTER FUNCTION proof.note_mirror() SECURITY DEFINER;
ALTER FUNCTION proof.note_load() SECURITY DEFINER;
ALTER FUNCTION proof.note_taken_out() SECURITY DEFINER;
