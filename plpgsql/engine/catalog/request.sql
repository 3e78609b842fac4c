-- Requests for a full refresh. A request stays until a load has succeeded.

-- Raises ET002 when a name is neither a task nor an object.
CREATE OR REPLACE FUNCTION etl._check_names(p_only text[], p_full_refresh text[])
RETURNS void
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_check_names$
DECLARE
    v_name text;
BEGIN
    FOREACH v_name IN ARRAY coalesce(p_only, '{}') || coalesce(p_full_refresh, '{}')
    LOOP
        IF NOT EXISTS (SELECT FROM etl.task AS t WHERE v_name IN (t.task, t.object))
            AND NOT coalesce(v_name = 'all' AND v_name = ANY (p_full_refresh), false)
        THEN
            RAISE EXCEPTION 'there is no task or object "%"', v_name
                USING ERRCODE = 'ET002', HINT = 'To list the objects, run: oceanrecords ls.';
        END IF;
    END LOOP;
END
$_check_names$;

-- Requests a full refresh of objects, or of 'all': a source table is extracted completely and compared with its mirror, a dimension or fact loads all
-- its keys. Surrogate keys stay.
CREATE OR REPLACE FUNCTION etl._request_refresh(p_objects text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_request_refresh$
BEGIN
    DELETE FROM etl.watermark AS w
    WHERE w.source_table = ANY (p_objects)
        OR 'all' = ANY (p_objects);
    PERFORM etl._request_reload((
        SELECT array_agg(l.object)
        FROM etl.load_state AS l
        WHERE l.object = ANY (p_objects)
            OR 'all' = ANY (p_objects)
    ));
END
$_request_refresh$;

-- Aggregates that a fact or a finer aggregate feeds; NULL if there are none.
CREATE OR REPLACE FUNCTION etl._fed_by(p_object name)
RETURNS name[]
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_fed_by$
    SELECT array_agg(f.aggregate)
    FROM (
        SELECT l.aggregate, l.fact FROM etl.aggregate_fact AS l
        UNION ALL
        SELECT a.aggregate, a.finer_aggregate FROM etl.aggregate AS a
    ) AS f (aggregate, feeder)
    WHERE f.feeder = p_object
$_fed_by$;

-- Requests a full refresh of objects, and of the aggregates that they feed: an aggregate receives only differences, and a refresh that corrects wrong
-- rows gives none for them.
CREATE OR REPLACE FUNCTION etl._request_reload(p_objects name[])
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_request_reload$
    WITH RECURSIVE affected (object) AS (
        SELECT unnest(p_objects)
        UNION
        SELECT unnest(etl._fed_by(o.object))
        FROM affected AS o
    )
    UPDATE etl.load_state AS l
    SET needs_reload = true
    FROM affected AS o
    WHERE l.object = o.object
        AND NOT l.needs_reload
$_request_reload$;

-- Adds the missing rows of etl.load_state. Such an object is new, or what it was loaded with was lost, so it gets a full refresh.
CREATE OR REPLACE FUNCTION etl._add_load_states()
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_add_load_states$
    WITH added AS (
        INSERT INTO etl.load_state (object)
        SELECT o.object
        FROM etl.object AS o
        WHERE o.kind <> 'source'
            AND o.view_name IS NOT NULL
            -- Without it, the statement would wait for a session that changes a state.
            AND NOT EXISTS (SELECT FROM etl.load_state AS l WHERE l.object = o.object)
        ON CONFLICT DO NOTHING
        RETURNING object
    )
    SELECT etl._request_reload(array_agg(a.object))
    FROM added AS a
    HAVING count(*) > 0
$_add_load_states$;
