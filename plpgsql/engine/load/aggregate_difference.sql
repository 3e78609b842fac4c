-- Differences for aggregates: what a fact's rows contributed before a change, and what they contribute after it.

CREATE OR REPLACE FUNCTION etl._difference_sql(p_fact name, p_verb text, p_are_many boolean)
RETURNS TABLE (title text, statement text, aggregate name)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_difference_sql$
    SELECT
        format('%s: contributions to %s as they are %s the change', p_verb, a.aggregate, CASE p_verb WHEN 'add' THEN 'after' ELSE 'before' END),
        format(
            $sql$INSERT INTO work.%1$I (%2$s, %3$s)
SELECT %4$s, %5$s
FROM (
    SELECT DISTINCT %6$s
    FROM work.%7$I AS w
    WHERE w.operation <> 'unchanged'
        AND (%9$L = ANY (w.touched_aggregates)) IS NOT FALSE
) AS k
%8$s
GROUP BY %4$s$sql$,
            a.aggregate || '_difference',
            etl._list(a.group_key),
            etl._list(a.measures),
            etl._list(a.group_key, 'c.%1$I'),
            etl._list(a.measures, CASE p_verb WHEN 'add' THEN 'sum(c.%1$I)' ELSE '-sum(c.%1$I)' END),
            etl._list(a.contribution_key, 'w.%1$I'),
            p_fact || '_decision',
            etl._join_keys(a.contribution_view, a.contribution_key, 'k', 'c', p_are_many),
            a.aggregate
        ),
        a.aggregate
    FROM etl.aggregate AS a
    JOIN etl.aggregate_fact AS l USING (aggregate)
    WHERE l.fact = p_fact
    ORDER BY a.aggregate
$_difference_sql$;
COMMENT ON FUNCTION etl._difference_sql(name, text, boolean) IS 'Statements that note what the decided rows of a fact (are they many?) contribute to its aggregates, to be subtracted or added.';

/*
Locks the aggregates of a fact until the end of the transaction, so that neither loads of facts that share one overlap, nor a load
of the aggregate itself that would not see what is changed meanwhile.
Parameters: p_fact, the fact.
Returns:    names of the aggregates that take differences: not those that will be built anew anyway.
*/
CREATE OR REPLACE FUNCTION etl._lock_aggregates(p_fact name)
RETURNS name[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_lock_aggregates$
DECLARE
    v_aggregate name;
BEGIN
    FOR v_aggregate IN
        SELECT l.aggregate
        FROM etl.aggregate_fact AS l
        WHERE l.fact = p_fact
        ORDER BY l.aggregate
    LOOP
        PERFORM FROM etl.load_state AS l WHERE l.object = v_aggregate FOR UPDATE;
    END LOOP;
    RETURN ARRAY(
        SELECT l.aggregate
        FROM etl.aggregate_fact AS l
        JOIN etl.load_state AS s ON s.object = l.aggregate
        WHERE l.fact = p_fact
            AND NOT s.needs_reload
    );
END
$_lock_aggregates$;
COMMENT ON FUNCTION etl._lock_aggregates(name) IS 'Locks the aggregates of a fact, and returns those that take differences.';
