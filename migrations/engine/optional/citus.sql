-- Spreads the warehouse over the nodes of a Citus cluster. Off by default: `oceanrecords migrate --optional citus`. May be applied
-- again at any time, and has to be after etl.build() has made a new table: what is spread already is left as it is.
--
--   distributed    facts, and all that is told by the same key: their mirrors, deltas, pending keys and decisions. Shards of one
--                  value of the key lie on one node, so that what a load joins is joined there.
--   reference      dimensions, their mirrors, deltas, pending keys and decisions: whole on every node, as every fact joins them.
--   local          aggregates, catalog, runs, queue, and the operational system: on the coordinator.
--
-- The distribution column is the first column of the business key that all facts share (here order_id).
--
-- SQLSTATEs: 0A000 the extension is not there, ET001 a run is at work, ET003 a table cannot be spread.

DO $spread$
DECLARE
    v_column name;
    v_facts regclass[];
    r_table record;
    r_fault record;
    v_first regclass;
    v_constraints text[];
    v_constraint text;
BEGIN
    IF to_regclass('citus_tables') IS NULL
        OR (SELECT count(DISTINCT p.proname) FROM pg_proc AS p WHERE p.proname IN ('create_distributed_table', 'create_reference_table')) < 2
    THEN
        RAISE EXCEPTION 'the extension citus is not installed in database "%"', current_database()
            USING ERRCODE = 'feature_not_supported',
                HINT = 'Add citus to shared_preload_libraries, restart, CREATE EXTENSION citus, add the nodes, then apply this again.';
    END IF;
    -- Nothing may start meanwhile; what is at work is not disturbed.
    PERFORM etl._lock_start();
    IF etl._live_run() IS NOT NULL THEN
        PERFORM etl._refuse_beside_run(etl._live_run(), 'Wait for its end, and apply this again.');
    END IF;

    SELECT array_agg(f.fact_table ORDER BY cardinality(f.business_key), f.fact), min(f.business_key[1])
    INTO v_facts, v_column
    FROM etl.fact AS f;
    IF v_facts IS NULL THEN
        RAISE EXCEPTION 'there is no fact to distribute'
            USING ERRCODE = 'ET003', HINT = 'Describe the facts in etl.fact and call etl.build() first.';
    END IF;
    FOR r_fault IN
        SELECT f.fact, f.business_key[1] AS first_column
        FROM etl.fact AS f
        WHERE f.business_key[1] <> v_column
    LOOP
        RAISE EXCEPTION 'fact "%" begins its business key with "%", another one with "%"', r_fault.fact, r_fault.first_column, v_column
            USING ERRCODE = 'ET003', HINT = 'Facts that are loaded together have to share the column that they are distributed by.';
    END LOOP;

    -- What is spread how. A mirror goes with the facts when its key contains their column.
    CREATE TEMPORARY TABLE _placement ON COMMIT DROP AS
    SELECT p.relation, p.is_distributed, p.position
    FROM (
        SELECT f.relation, true AS is_distributed, f.position
        FROM unnest(v_facts) WITH ORDINALITY AS f (relation, position)
        UNION ALL
        SELECT to_regclass(format('work.%I', f.fact || t.suffix)), true, 100
        FROM etl.fact AS f
        CROSS JOIN (VALUES ('_key'), ('_decision')) AS t (suffix)
        UNION ALL
        SELECT to_regclass(format('%I.%I', t.schema_name, s.source_table)), v_column = ANY (s.key_columns), 200
        FROM etl.source_table AS s
        CROSS JOIN (VALUES ('stage'), ('delta')) AS t (schema_name)
        UNION ALL
        SELECT d.dimension_table, false, 0
        FROM etl.dimension AS d
        UNION ALL
        SELECT to_regclass(format('work.%I', d.dimension || t.suffix)), false, 0
        FROM etl.dimension AS d
        CROSS JOIN (VALUES ('_key'), ('_decision')) AS t (suffix)
        WHERE d.transform_view IS NOT NULL
    ) AS p
    WHERE p.relation IS NOT NULL
        AND NOT EXISTS (SELECT FROM citus_tables AS c WHERE c.table_name = p.relation);

    -- Tables that views of the transformation read besides are small and go with the dimensions.
    INSERT INTO _placement (relation, is_distributed, position)
    SELECT DISTINCT c.oid::regclass, false, 0
    FROM etl.dimension AS d
    JOIN pg_rewrite AS w ON w.ev_class IN (d.transform_view, d.history_view)
    JOIN pg_depend AS n ON n.objid = w.oid AND n.classid = 'pg_rewrite'::regclass AND n.refclassid = 'pg_class'::regclass
    JOIN pg_class AS c ON c.oid = n.refobjid
    WHERE c.relkind = 'r'
        AND c.relnamespace = 'work'::regnamespace
        AND NOT EXISTS (SELECT FROM _placement AS p WHERE p.relation = c.oid)
        AND NOT EXISTS (SELECT FROM citus_tables AS t WHERE t.table_name = c.oid::regclass);

    FOR r_fault IN
        SELECT i.indrelid::regclass AS relation, i.indexrelid::regclass AS index_name
        FROM _placement AS p
        JOIN pg_index AS i ON i.indrelid = p.relation
        WHERE p.is_distributed
            AND (i.indisunique OR i.indisexclusion)
            AND NOT EXISTS (
                SELECT
                FROM pg_attribute AS a
                WHERE a.attrelid = i.indrelid
                    AND a.attname = v_column
                    AND a.attnum = ANY ((i.indkey::smallint[])[0:i.indnkeyatts - 1])
            )
    LOOP
        RAISE EXCEPTION 'unique index % of % does not contain the distribution column "%"', r_fault.index_name, r_fault.relation, v_column
            USING ERRCODE = 'ET003', HINT = 'Let the index contain the column, or drop it.';
    END LOOP;
    FOR r_fault IN
        SELECT t.tgrelid::regclass AS relation, t.tgname
        FROM _placement AS p
        JOIN pg_trigger AS t ON t.tgrelid = p.relation
        WHERE NOT t.tgisinternal
    LOOP
        RAISE EXCEPTION 'trigger "%" of % would not follow it to other nodes', r_fault.tgname, r_fault.relation
            USING ERRCODE = 'ET003', HINT = 'Drop the trigger first.';
    END LOOP;

    -- Foreign keys are dropped, and recreated where they are enforced: while only one side of a key is spread, Citus refuses it, and it knows no
    -- key that is NOT ENFORCED. "convalidated" is false for these.
    SELECT array_agg(format('ALTER TABLE %s ADD CONSTRAINT %I %s', c.conrelid::regclass, c.conname, pg_get_constraintdef(c.oid)))
    INTO v_constraints
    FROM pg_constraint AS c
    WHERE c.contype = 'f'
        AND c.conparentid = 0
        AND c.convalidated
        AND (c.conrelid IN (SELECT p.relation FROM _placement AS p) OR c.confrelid IN (SELECT p.relation FROM _placement AS p));
    FOR r_table IN
        SELECT c.conrelid::regclass AS relation, c.conname
        FROM pg_constraint AS c
        WHERE c.contype = 'f'
            AND c.conparentid = 0
            AND (c.conrelid IN (SELECT p.relation FROM _placement AS p) OR c.confrelid IN (SELECT p.relation FROM _placement AS p))
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', r_table.relation, r_table.conname);
    END LOOP;

    FOR r_table IN
        SELECT p.relation, p.is_distributed
        FROM _placement AS p
        ORDER BY p.is_distributed, p.position, p.relation::text
    LOOP
        IF NOT r_table.is_distributed THEN
            PERFORM create_reference_table(r_table.relation);
            CONTINUE;
        END IF;
        SELECT c.table_name
        INTO v_first
        FROM citus_tables AS c
        WHERE c.table_name = ANY (v_facts)
        ORDER BY array_position(v_facts, c.table_name)
        LIMIT 1;
        PERFORM create_distributed_table(r_table.relation, v_column::text, colocate_with => coalesce(v_first::text, 'none'));
    END LOOP;

    FOREACH v_constraint IN ARRAY coalesce(v_constraints, '{}')
    LOOP
        EXECUTE v_constraint;
    END LOOP;
END;
$spread$;
