-- Compiles what fetches rows by their keys: the rows that a repair or a retry requests, and those of a batch that could
-- not be read as a whole.
--
-- A row may be unreadable: its text is not valid in the warehouse's encoding, or a view of the source fails on it. One
-- such row fails the statement that reads it together with all others. Its key can still be read. So the keys are read
-- first, the rows are fetched by key, and a set of keys that fails is halved until the unreadable rows are alone. They
-- go to quarantine with their readable columns; the mirror keeps such a row as it last was. On another server an error
-- ends only a savepoint: the transaction there keeps its snapshot.

-- Compiles salvage_<table>: what can be read of an unreadable row.
--
-- postgres_fdw fetches the columns that a query names, so each column is read by a plan of its own: the CASE is reduced to
-- one column when the plan is made for the value of this.column_name. The bytes of an invalid text are read through an
-- aggregate, because postgres_fdw sends aggregates to the other server as a whole, and other expressions of the SELECT
-- list never.
CREATE OR REPLACE FUNCTION etl._compile_salvage(p_source etl.source_table)
RETURNS name
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_compile_salvage$
    SELECT etl._create_compiled(
        'salvage_' || p_source.source_table,
        'p_row_key jsonb, OUT original_row jsonb, OUT unreadable_columns text',
        'record',
        format('Reads the columns of an unreadable row of source.%I one by one: the row, with bytes in place of invalid texts, and the unreadable columns.', p_source.source_table),
        etl._render(
            $sql$#variable_conflict use_column
<<this>>
DECLARE
    sought stage.{{table}} := jsonb_populate_record(NULL::stage.{{table}}, p_row_key);
    column_name name;
    value jsonb;
    bytes bytea;
BEGIN
    original_row := '{}';
    FOREACH this.column_name IN ARRAY {{column_names}}::name[]
    LOOP
        BEGIN
            SELECT CASE this.column_name
                {{values_by_name}}
            END
            INTO this.value
            FROM source.{{table}} AS s
            WHERE {{is_sought}}
            LIMIT 1;
        EXCEPTION
            WHEN data_exception THEN
                unreadable_columns := concat_ws(', ', unreadable_columns, quote_ident(this.column_name));
                BEGIN
                    SELECT CASE this.column_name
                        {{bytes_by_name}}
                    END
                    INTO this.bytes
                    FROM source.{{table}} AS s
                    WHERE {{is_sought}};
                    this.value := to_jsonb(encode(this.bytes, 'escape'));
                EXCEPTION
                    WHEN data_exception THEN
                        this.value := NULL;
                END;
        END;
        original_row := original_row || jsonb_build_object(this.column_name, this.value);
    END LOOP;
END$sql$,
            etl._source_values(p_source) || (
                SELECT jsonb_build_object(
                    'column_names', quote_literal(array_agg(c.name)),
                    'values_by_name', string_agg(format('WHEN %L THEN to_jsonb(s.%I)', c.name, c.name), E'\n'),
                    'bytes_by_name', coalesce(
                        string_agg(format($sql$WHEN %L THEN string_agg(decode(replace(s.%I, '\', '\\'), 'escape'), ''::bytea)$sql$, c.name, c.name), E'\n')
                        FILTER (WHERE etl._column_type(format('stage.%I', p_source.source_table)::regclass, c.name) ~ '^(text|char)'),
                        'WHEN NULL THEN NULL::bytea'
                    )
                )
                FROM unnest(etl._source_columns(p_source.source_table)) AS c (name)
            )
        )
    )
$_compile_salvage$;

-- Compiles fetch_<table>: rows of a source table by their keys, as many at once as can be read.
CREATE OR REPLACE FUNCTION etl._compile_fetch(p_source etl.source_table)
RETURNS name
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_compile_fetch$
    SELECT etl._create_compiled(
        'fetch_' || p_source.source_table,
        'p_batch etl.batch, p_row_keys jsonb[]',
        'etl.load_result',
        format('Writes the rows of source.%I with these keys into delta, and unreadable ones into quarantine; returns the numbers of both.', p_source.source_table),
        etl._render(
            $sql$#variable_conflict use_column
<<this>>
DECLARE
    batch_id bigint := p_batch.batch_id;
    half integer := cardinality(p_row_keys) / 2;
    result etl.load_result := (0, 0, 0, 0, 0, 0);
    part etl.load_result;
    row_count bigint;
    salvaged record;
    message text;
BEGIN
    WITH wanted AS MATERIALIZED (
        SELECT {{unpacked_key}}
        FROM unnest(p_row_keys) AS t (row_key)
    )
    INSERT INTO delta.{{table}} (batch_id, delta_operation{{, columns}})
    SELECT this.batch_id, 'upsert'{{, s.columns}}
    FROM source.{{table}} AS s
    WHERE {{among_wanted}}
        AND EXISTS (SELECT FROM wanted AS k WHERE {{k.key = s.key}});
    GET DIAGNOSTICS this.row_count = ROW_COUNT;
    this.result.rows_read := this.row_count;
    RETURN this.result;
EXCEPTION
    WHEN data_exception THEN
        IF this.half > 0 THEN
            this.result := compiled.{{fetch}}(p_batch, p_row_keys[:this.half]);
            this.part := compiled.{{fetch}}(p_batch, p_row_keys[this.half + 1:]);
            this.result.rows_read := this.result.rows_read + this.part.rows_read;
            this.result.rows_quarantined := this.result.rows_quarantined + this.part.rows_quarantined;
            RETURN this.result;
        END IF;
        this.message := SQLERRM;
        SELECT * INTO this.salvaged FROM compiled.{{salvage}}(p_row_keys[1]) AS r;
        PERFORM etl._quarantine(
            {{name}}, p_row_keys[1], SQLSTATE,
            coalesce(format('%s cannot be read: ', this.salvaged.unreadable_columns), '') || this.message,
            this.salvaged.original_row, p_batch.run_id
        );
        PERFORM etl._check_quarantine_limit({{name}}, p_row_keys[1], SQLSTATE, this.message, p_batch.run_id);
        this.result.rows_quarantined := 1;
        RETURN this.result;
END$sql$,
            etl._source_values(p_source)
        )
    )
$_compile_fetch$;

-- Statements that take the rows of a batch without a key. They go to quarantine in the merge. Rows that delta cannot hold, because no node has rows
-- without a value in the distribution column, go there at once.
-- Parameters: p_condition, which rows of the source (s) belong to the batch; SQL text.
-- Returns:    a template.
CREATE OR REPLACE FUNCTION etl._keyless_template(p_condition text)
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_keyless_template$
    SELECT replace(
        $sql$
            -- Nothing tells rows without a key apart, so they are read together.
            BEGIN
                INSERT INTO delta.{{table}} (batch_id, delta_operation{{, columns}})
                SELECT this.batch_id, 'upsert'{{, s.columns}}
                FROM source.{{table}} AS s
                WHERE ({{s_key_is_null}})
                    AND {{condition}};
                GET DIAGNOSTICS this.row_count = ROW_COUNT;
                this.result.rows_read := this.result.rows_read + this.row_count;
            EXCEPTION
                WHEN data_exception THEN
                    BEGIN
                        SELECT count(etl._quarantine({{name}}, to_jsonb(r), '23502', 'a column of its key is NULL', to_jsonb(r), p_batch.run_id) IS NULL)
                        INTO this.row_count
                        FROM (
                            SELECT {{s.columns}}
                            FROM source.{{table}} AS s
                            WHERE ({{s_key_is_null}})
                                AND {{condition}}
                        ) AS r;
                    EXCEPTION
                        WHEN data_exception THEN
                            PERFORM etl._quarantine(
                                {{name}}, {{null_key}}, SQLSTATE, 'a column of its key is NULL, and it cannot be read: ' || SQLERRM, NULL, p_batch.run_id
                            );
                            this.row_count := 1;
                    END;
                    this.result.rows_quarantined := this.result.rows_quarantined + this.row_count;
            END;$sql$,
        '{{condition}}', p_condition
    )
$_keyless_template$;

-- Statements that fetch the rows of a batch one key at a time, after the statement that reads all of them has failed: the
-- body of an exception handler.
-- Parameters: p_condition, which rows of the source (s) belong to the batch; SQL text.
-- Returns:    a template. It uses the variables row_keys (jsonb[]), part and result (etl.load_result).
CREATE OR REPLACE FUNCTION etl._fetch_template(p_condition text)
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_fetch_template$
    SELECT replace(
        $sql$
            -- A row cannot be read. All of them are fetched by their keys.
            FOR this.row_keys IN
                SELECT array_agg(k.row_key)
                FROM (
                    SELECT k.row_key, (row_number() OVER (ORDER BY k.row_key) - 1) / 10000 AS slice
                    FROM (
                        SELECT DISTINCT {{s_row_key}} AS row_key
                        FROM source.{{table}} AS s
                        WHERE NOT ({{s_key_is_null}})
                            AND {{condition}}
                    ) AS k
                ) AS k
                GROUP BY k.slice
            LOOP
                this.part := compiled.{{fetch}}(p_batch, this.row_keys);
                this.result.rows_read := this.result.rows_read + this.part.rows_read;
                this.result.rows_quarantined := this.result.rows_quarantined + this.part.rows_quarantined;
            END LOOP;$sql$,
        '{{condition}}', p_condition
    ) || etl._keyless_template(p_condition)
$_fetch_template$;

-- Compiles reextract_<table>: the rows that a repair or a retry requests, whether they have changed or not, as part of a
-- batch.
CREATE OR REPLACE FUNCTION etl._compile_reextract(p_source etl.source_table)
RETURNS name
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_compile_reextract$
    SELECT etl._create_compiled(
        'reextract_' || p_source.source_table,
        'p_batch etl.batch, p_until timestamptz',
        'etl.load_result',
        format('Writes the rows of source.%I that etl.reextraction requests into delta; returns their number, and how many cannot be read.', p_source.source_table),
        etl._render(
            $sql$#variable_conflict use_column
<<this>>
DECLARE
    batch_id bigint := p_batch.batch_id;
    until timestamptz := p_until;
    result etl.load_result := (0, 0, 0, 0, 0, 0);
    part etl.load_result;
    row_keys jsonb[];
    row_count bigint;
BEGIN
    -- A request is done when a batch that brought the row has reached the mirror.
    DELETE FROM etl.reextraction AS e
    USING etl.watermark AS w
    WHERE e.source_table = {{name}}
        AND w.source_table = {{name}}
        AND e.batch_id <= w.batch_id;
    IF NOT EXISTS (SELECT FROM etl.reextraction AS e WHERE e.source_table = {{name}}) THEN
        RETURN this.result;
    END IF;
    DELETE FROM delta.{{table}} AS d WHERE d.batch_id <> this.batch_id;
    FOR this.row_keys IN
        SELECT array_agg(k.row_key)
        FROM (
            SELECT t.row_key, (row_number() OVER (ORDER BY t.row_key) - 1) / 10000 AS slice
            FROM etl.reextraction AS t
            WHERE t.source_table = {{name}}
        ) AS k
        GROUP BY k.slice
    LOOP
        -- A key that the batch has brought already, or that has no value in one of its columns, is left out.
        SELECT array_agg(g.row_key)
        INTO this.row_keys
        FROM (
            SELECT {{k_row_key}} AS row_key
            FROM (
                SELECT DISTINCT {{unpacked_key}}
                FROM unnest(this.row_keys) AS t (row_key)
            ) AS k ({{key}})
            WHERE num_nulls({{k.key}}) = 0
                AND NOT EXISTS (SELECT FROM (SELECT {{d.key}} FROM delta.{{table}} AS d WHERE d.batch_id = this.batch_id OFFSET 0) AS d WHERE {{d.key = k.key}})
        ) AS g;
        CONTINUE WHEN this.row_keys IS NULL;
        this.part := compiled.{{fetch}}(p_batch, this.row_keys);
        this.result.rows_read := this.result.rows_read + this.part.rows_read;
        this.result.rows_quarantined := this.result.rows_quarantined + this.part.rows_quarantined;
        -- Neither read nor unreadable: the source does not have it any more.
        INSERT INTO delta.{{table}} (batch_id, delta_operation{{, key}}, deleted_at)
        SELECT this.batch_id, 'delete'{{, k.key}}, this.until
        FROM (
            SELECT t.row_key, {{unpacked_key}}
            FROM unnest(this.row_keys) AS t (row_key)
        ) AS k (_row_key{{, key}})
        WHERE NOT EXISTS (SELECT FROM (SELECT {{d.key}} FROM delta.{{table}} AS d WHERE d.batch_id = this.batch_id OFFSET 0) AS d WHERE {{d.key = k.key}})
            AND NOT EXISTS (
                SELECT
                FROM etl.quarantine AS q
                WHERE q.object = {{name}}
                    AND q.run_id = p_batch.run_id
                    AND q.sqlstate LIKE '22%'
                    AND q.row_key = k._row_key
            );
        GET DIAGNOSTICS this.row_count = ROW_COUNT;
        this.result.rows_read := this.result.rows_read + this.row_count;
    END LOOP;
    UPDATE etl.reextraction AS e
    SET batch_id = this.batch_id
    WHERE e.source_table = {{name}};
    RETURN this.result;
END$sql$,
            etl._source_values(p_source)
        ),
        -- Slices of keys come one by one, in their order.
        ARRAY['enable_hashagg = off']
    )
$_compile_reextract$;
