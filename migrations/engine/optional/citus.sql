-- Spreads the warehouse over the nodes of a Citus cluster, as etl.object_placement has it. Off by default: `oceanrecords migrate --optional citus`. May
-- be applied again at any time, and has to be after etl.build() has made a new table: what is spread already is left as it is.
--
-- SQLSTATEs: 0A000 the extension is not there, ET001 a run is at work, ET003 a table cannot be spread.

DO $spread$
DECLARE
    r_table record;
    r_fault record;
    v_first regclass;
BEGIN
    IF to_regclass('pg_catalog.pg_dist_partition') IS NULL THEN
        RAISE EXCEPTION 'the extension citus is not installed in database "%"', current_database()
            USING ERRCODE = 'feature_not_supported',
                HINT = 'Add citus to shared_preload_libraries, restart, CREATE EXTENSION citus, add the nodes, then apply this again.';
    END IF;
    -- Nothing may start meanwhile; what is at work is not disturbed.
    PERFORM etl._lock_start();
    IF etl._live_run() IS NOT NULL THEN
        PERFORM etl._refuse_beside_run(etl._live_run(), 'Wait for its end, and apply this again.');
    END IF;

    -- All reasons against it, before anything is changed.
    FOR r_fault IN
        SELECT p.object, r.relation, c.reason
        FROM etl.object_placement AS p
        CROSS JOIN LATERAL unnest(p.relations) AS r (relation)
        CROSS JOIN LATERAL (
            SELECT format('unique index %s does not contain the distribution column "%s"', i.indexrelid::regclass, p.distribution_column)
            FROM pg_index AS i
            WHERE p.placement = 'distributed'
                AND i.indrelid = r.relation
                AND (i.indisunique OR i.indisexclusion)
                AND NOT EXISTS (
                    SELECT
                    FROM pg_attribute AS a
                    WHERE a.attrelid = i.indrelid
                        AND a.attname = p.distribution_column
                        AND a.attnum = ANY ((i.indkey::smallint[])[0:i.indnkeyatts - 1])
                )
            UNION ALL
            SELECT format('it does not have the distribution column "%s"', p.distribution_column)
            WHERE p.placement = 'distributed'
                AND etl._column_type(r.relation, p.distribution_column) IS NULL
            UNION ALL
            SELECT format('trigger "%s" would not follow it to other nodes', t.tgname)
            FROM pg_trigger AS t
            WHERE t.tgrelid = r.relation
                AND NOT t.tgisinternal
            UNION ALL
            SELECT format('foreign key "%s" of %s refers to it or to another table', k.conname, k.conrelid::regclass)
            FROM pg_constraint AS k
            WHERE k.contype = 'f'
                AND k.convalidated
                AND r.relation IN (k.conrelid, k.confrelid)
            UNION ALL
            SELECT format('it is partitioned or has partitions')
            FROM pg_class AS k
            WHERE k.oid = r.relation
                AND (k.relkind <> 'r' OR k.relispartition OR k.relhassubclass)
        ) AS c (reason)
        WHERE p.placement <> 'local'
            AND NOT etl._is_distributed(r.relation)
        ORDER BY 1, 2, 3
    LOOP
        RAISE EXCEPTION 'table % of object "%" cannot be spread: %', r_fault.relation, r_fault.object, r_fault.reason
            USING ERRCODE = 'ET003',
                HINT = format('Change that, or keep the object on the coordinator: SELECT etl.place(%L, ''local'').', r_fault.object);
    END LOOP;

    -- The same transaction copies rows, changes tables and reads them: over one connection to each node.
    PERFORM set_config('citus.multi_shard_modify_mode', 'sequential', true);
    FOR r_table IN
        SELECT p.placement, p.distribution_column, r.relation
        FROM etl.object_placement AS p
        CROSS JOIN LATERAL unnest(p.relations) WITH ORDINALITY AS r (relation, place)
        WHERE p.placement <> 'local'
        ORDER BY p.placement DESC, p.kind, r.place, p.object
    LOOP
        IF r_table.placement = 'distributed' AND v_first IS NULL THEN
            v_first := (
                SELECT o.relation
                FROM etl.object_placement AS p
                CROSS JOIN LATERAL unnest(p.relations) AS o (relation)
                JOIN pg_dist_partition AS c ON c.logicalrelid = o.relation AND c.partmethod = 'h'
                LIMIT 1
            );
        END IF;
        CONTINUE WHEN etl._is_distributed(r_table.relation);
        IF r_table.placement = 'reference' THEN
            PERFORM create_reference_table(r_table.relation);
        ELSE
            PERFORM create_distributed_table(r_table.relation, r_table.distribution_column::text, colocate_with => coalesce(v_first::text, 'none'));
        END IF;
        -- The rows that were copied to the nodes would otherwise stay on this one, out of reach of etl.forget().
        PERFORM truncate_local_data_after_distributing_table(r_table.relation);
    END LOOP;
    CALL etl.build();
    CALL etl.publish();

    -- The nodes are reached as the role that a run has here, and so is this one for what all nodes get. It has no password: pg_hba.conf decides.
    FOR r_table IN
        SELECT o.role_name
        FROM etl.owner_role AS o
    LOOP
        EXECUTE format('ALTER ROLE %I LOGIN', r_table.role_name);
    END LOOP;
END;
$spread$;
