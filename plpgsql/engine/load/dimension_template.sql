-- Templates of a dimension: which versions its members have.
--
-- The timeline of a pending key is made of:
--   * the versions that the dimension holds,
--   * the row of the transformation view, valid from its effective_at (if it is deleted or missing, the member is absent from then on),
--   * the change log of some attributes, if there is a history view; the log alone decides those attributes.
-- Without a log, the source row supersedes all stored versions: the current version is extended or closed, and a new version may follow.
-- With one, all points of change are sorted, values are carried forward, identical neighbours become one version, and valid_to is the valid_from
-- of the next version. Several changes in one batch, retroactive changes, and a deleted member that returns give the same timeline as if each had
-- been loaded alone. A version keeps its surrogate key for ever.
-- Validity is half-open, [valid_from, valid_to). The first version starts at -infinity, for facts older than the first change that the source
-- knows. A date after the load counts as the time of the load: otherwise it would hide later changes.
--
-- Columns whose names start with an underscore belong to the engine. The contract refuses such names in a business.

-- Values of the templates of a dimension.
-- Parameters: p_dimension, the dimension.
-- Returns:    values for etl._render.
CREATE OR REPLACE FUNCTION etl._dimension_values(p_dimension name)
RETURNS jsonb
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_dimension_values$
    SELECT jsonb_build_object(
        'name', quote_literal(d.dimension),
        'table', d.dimension_table::text,
        'view', d.transform_view::text,
        'history_view', d.history_view::text,
        'decision', format('work.%I', d.dimension || '_decision'),
        'key_table', format('work.%I', d.dimension || '_key'),
        'key', to_jsonb(d.business_key),
        'surrogate_key', quote_ident(d.surrogate_key),
        'attributes', to_jsonb(a.kept || a.overwritten || a.tracked),
        'tracked', to_jsonb(a.tracked),
        'no_values', repeat(', NULL', cardinality(a.tracked)),
        'state_values', etl._cast_list(a.kept || a.overwritten || a.tracked, 'v', d.transform_view, d.dimension_table),
        'known_values', etl._cast_list(a.kept || a.overwritten || a.tracked, 'd', d.dimension_table, d.dimension_table),
        'effective_at', CASE WHEN etl._column_type(d.transform_view, 'effective_at') IS NULL THEN 'NULL::timestamptz' ELSE 'v.effective_at' END,
        'deleted_at', CASE WHEN etl._column_type(d.transform_view, 'deleted_at') IS NULL THEN 'NULL::timestamptz' ELSE 'v.deleted_at' END,
        'wanted_values',
        etl._list(a.kept, format(E',\nCASE WHEN l.%I IS NOT NULL THEN l.%%1$I ELSE v.%%1$I END AS %%1$I', d.surrogate_key), '')
        || etl._list(a.overwritten, E',\nCASE WHEN v._is_there THEN v.%1$I ELSE l.%1$I END AS %1$I', '')
        || etl._list(a.tracked, E',\nt.%1$I', '')
    )
    FROM etl.dimension AS d
    CROSS JOIN LATERAL (
        SELECT
            coalesce(array_agg(t.attribute ORDER BY c.attnum) FILTER (WHERE t.scd_type = 0), '{}') AS kept,
            coalesce(array_agg(t.attribute ORDER BY c.attnum) FILTER (WHERE t.scd_type = 1), '{}') AS overwritten,
            coalesce(array_agg(t.attribute ORDER BY c.attnum) FILTER (WHERE t.scd_type = 2), '{}') AS tracked
        FROM etl.dimension_attribute AS t
        JOIN pg_attribute AS c ON c.attrelid = d.dimension_table AND c.attname = t.attribute
        WHERE t.dimension = d.dimension
    ) AS a
    WHERE d.dimension = p_dimension
$_dimension_values$;

-- Timelines of members without a log, as common table expressions that end in "timeline".
-- Parameters: p_values, of the dimension.
-- Returns:    SQL text; reads known, latest and member.
CREATE OR REPLACE FUNCTION etl._succession_sql(p_values jsonb)
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_succession_sql$
    SELECT etl._render(
        $template$succession AS MATERIALIZED (
    -- Whether the latest version goes on: the member is there, without a gap, and no tracked attribute differs.
    SELECT m.*, l.{{surrogate_key}} AS _latest, coalesce(m._is_there AND l.valid_to IN ('infinity', m._at) AND NOT ({{l.tracked <> m.tracked}}), false) AS _goes_on
    FROM member AS m
    LEFT JOIN latest AS l ON {{l.key = m.key}}
),
timeline AS (
    -- The versions that there are, the latest ended where it does not go on, and one that follows it.
    SELECT
        n.{{surrogate_key}} AS _version,
        {{n.key}},
        n.valid_from,
        CASE
            WHEN n.{{surrogate_key}} <> s._latest THEN n.valid_to
            WHEN s._goes_on THEN 'infinity'
            ELSE least(n.valid_to, s._at)
        END AS valid_to{{, n.tracked}}
    FROM known AS n
    JOIN succession AS s ON {{s.key = n.key}}
    UNION ALL
    SELECT NULL, {{s.key}}, CASE WHEN s._latest IS NULL THEN '-infinity' ELSE s._at END, 'infinity'{{, s.tracked}}
    FROM succession AS s
    WHERE s._is_there
        AND NOT s._goes_on
)$template$,
        p_values
    )
$_succession_sql$;

-- Versions from states that follow one another, as common table expressions from "carried" to "timeline": equal neighbours become one, and each
-- ends where the next begins.
-- Parameters: p_values, of the dimension.
-- Returns:    SQL text; reads carried.
CREATE OR REPLACE FUNCTION etl._joined_states_sql(p_values jsonb)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_joined_states_sql$
    SELECT etl._render(
        $template$marked AS (
    -- An island is a series of moments without a change. It becomes one version.
    SELECT c.*, (
        row_number() OVER point = 1
        OR lag(c._is_absent) OVER point <> c._is_absent
        OR {{is_changed}}
    ) AS _starts_island
    FROM carried AS c
    WINDOW point AS (PARTITION BY {{c.key}} ORDER BY c._at)
),
numbered AS (
    SELECT m.*, count(*) FILTER (WHERE m._starts_island) OVER (PARTITION BY {{m.key}} ORDER BY m._at) AS _island
    FROM marked AS m
),
matched AS (
    -- Two stored versions never become one: facts may reference either.
    SELECT r.*, greatest(count(r._version) OVER (PARTITION BY {{r.key}}, r._island ORDER BY r._at), 1) AS _known_number
    FROM numbered AS r
),
version AS (
    -- The first moment of each version.
    SELECT DISTINCT ON ({{t.key}}, t._island, t._known_number)
        {{t.key}},
        t._at,
        max(t._version) OVER (PARTITION BY {{t.key}}, t._island, t._known_number) AS _version,
        t._is_absent{{, t.tracked}}
    FROM matched AS t
    ORDER BY {{t.key}}, t._island, t._known_number, t._at
),
succeeded AS (
    -- Each ends where the next begins, and the first begins at -infinity.
    SELECT
        w.*,
        CASE WHEN row_number() OVER point = 1 THEN '-infinity' ELSE w._at END AS valid_from,
        coalesce(lead(w._at) OVER point, 'infinity') AS valid_to
    FROM version AS w
    WINDOW point AS (PARTITION BY {{w.key}} ORDER BY w._at)
),
timeline AS (
    -- While a member was deleted, it has no version.
    SELECT *
    FROM succeeded
    WHERE NOT _is_absent
)$template$,
        p_values || jsonb_build_object(
            'is_changed', (
                SELECT format(
                    'record_image_ne(ROW(%s), ROW(%s))',
                    string_agg(format('lag(c.%I) OVER point', t.name), ', ' ORDER BY t.position), string_agg(format('c.%I', t.name), ', ' ORDER BY t.position)
                )
                FROM jsonb_array_elements_text(p_values -> 'tracked') WITH ORDINALITY AS t (name, position)
            )
        )
    )
$_joined_states_sql$;

-- Timelines of members with a change log, as common table expressions that end in "timeline". A log entry takes the attributes that are not logged from
-- the state before it. Logged attributes always come from the log. Points before the first state or log entry take that first one. A member that was
-- deleted and returned has several lives. The log of one life does not apply to another: a source that deletes a member forgets its log, the
-- dimension does not. So in an earlier life an entry holds from its date on, and what was known before that date stays.
-- Parameters: p_values, of the dimension; p_dimension, the dimension; p_keys, relation with the keys.
-- Returns:    SQL text; reads known and member.
CREATE OR REPLACE FUNCTION etl._timeline_sql(p_values jsonb, p_dimension name, p_keys text)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_timeline_sql$
    SELECT etl._render(
        $template$log AS MATERIALIZED (
    -- The change log, which alone decides the attributes that it has.
    SELECT
        {{k.key}},
        CASE WHEN h.valid_from <= {{now}} THEN h.valid_from ELSE etl._refuse_change({{name}}, h.valid_from, {{now}}) END AS _at{{logged_values}}
    FROM {{keys}} AS k
    CROSS JOIN LATERAL (SELECT * FROM {{history_view}} AS r WHERE {{r.key = k.key}} OFFSET 0) AS h
),
states AS MATERIALIZED (
    -- At one point in time the source row precedes a version that starts then, which precedes the end of another version.
    SELECT DISTINCT ON ({{e.key}}, e._at) e.*
    FROM (
        SELECT {{n.key}}, n.valid_from AS _at, 1 AS _precedence, n.{{surrogate_key}} AS _version, false AS _is_absent{{, n.tracked}}
        FROM known AS n
        UNION ALL
        SELECT {{n.key}}, n.valid_to, 0, NULL, true{{no_values}}
        FROM known AS n
        WHERE n.valid_to < 'infinity'
        UNION ALL
        SELECT {{m.key}}, m._at, 2, NULL, NOT m._is_there{{, m.tracked}}
        FROM member AS m
    ) AS e
    ORDER BY {{e.key}}, e._at, e._precedence DESC
),
points AS (
    -- All moments at which something may change.
    SELECT {{s.key}}, s._at
    FROM states AS s
    UNION
    SELECT {{g.key}}, g._at
    FROM log AS g
),
aligned AS (
    -- The state and the log entry of each moment, where there is one, and the number of the latest state. A life ends with a deletion.
    SELECT
        {{b.key}},
        b._at,
        s._version,
        s._is_absent,
        s._at IS NULL AS _is_log_only{{, s.tracked}}{{, g.logged}},
        g._at IS NULL AS _is_state_only,
        greatest(count(s._at) OVER point, 1) AS _state_number,
        count(*) FILTER (WHERE s._is_absent) OVER point AS _life,
        count(*) FILTER (WHERE s._is_absent) OVER (PARTITION BY {{b.key}}) AS _last_life
    FROM points AS b
    LEFT JOIN states AS s ON {{s.key = b.key}} AND s._at = b._at
    LEFT JOIN log AS g ON {{g.key = b.key}} AND g._at = b._at
    WINDOW point AS (PARTITION BY {{b.key}} ORDER BY b._at)
),
counted AS (
    -- The number of the latest log entry of the same life.
    SELECT
        a.*,
        greatest(
            count(*) FILTER (WHERE NOT a._is_state_only) OVER (PARTITION BY {{a.key}}, a._life ORDER BY a._at),
            -- The first entry of the present life holds from its start. Of an earlier one the source may have forgotten the first entries.
            (a._life = a._last_life)::integer
        ) AS _log_number
    FROM aligned AS a
),
filled AS (
    -- Each moment takes the values of its latest state and its latest log entry.
    SELECT
        {{a.key}},
        a._at,
        a._version,
        first_value(a._is_absent) OVER last_state AS _is_absent{{filled_values}}
    FROM counted AS a
    WINDOW
        last_state AS (PARTITION BY {{a.key}}, a._state_number ORDER BY a._is_log_only),
        last_log AS (PARTITION BY {{a.key}}, a._life, a._log_number ORDER BY a._is_state_only)
),
carried AS (
    SELECT {{f.key}}, f._at, f._version, f._is_absent{{carried_values}}
    FROM filled AS f
),
{{joined_states}}$template$,
        p_values || jsonb_build_object(
            'keys', p_keys,
            'joined_states', etl._joined_states_sql(p_values),
            'logged', (SELECT coalesce(jsonb_agg('_logged_' || c.position ORDER BY c.position), '[]') FROM unnest(l.logged) WITH ORDINALITY AS c (name, position)),
            'logged_values', (
                SELECT coalesce(string_agg(format(E',\n%s AS _logged_%s', etl._cast('h.' || quote_ident(c.name), d.history_view, c.name, d.dimension_table), c.position), '' ORDER BY c.position), '')
                FROM unnest(l.logged) WITH ORDINALITY AS c (name, position)
            ),
            'filled_values', (
                SELECT coalesce(string_agg(
                    format(
                        CASE WHEN g.position IS NULL
                            THEN E',\nfirst_value(a.%1$I) OVER last_state AS %1$I'
                            ELSE E',\nCASE WHEN first_value(a._is_state_only) OVER last_log THEN first_value(a.%1$I) OVER last_state ELSE first_value(a._logged_%2$s) OVER last_log END AS %1$I'
                        END,
                        t.name, g.position
                    ),
                    '' ORDER BY t.position
                ), '')
                FROM jsonb_array_elements_text(p_values -> 'tracked') WITH ORDINALITY AS t (name, position)
                LEFT JOIN unnest(l.logged) WITH ORDINALITY AS g (name, position) ON g.name = t.name
            ),
            'carried_values', (
                SELECT coalesce(string_agg(format(', CASE WHEN NOT f._is_absent THEN f.%1$I END AS %1$I', t.name), '' ORDER BY t.position), '')
                FROM jsonb_array_elements_text(p_values -> 'tracked') WITH ORDINALITY AS t (name, position)
            )
        )
    )
    FROM etl.dimension AS d
    CROSS JOIN LATERAL (SELECT etl._without(etl._columns(d.history_view), d.business_key || 'valid_from'::name)) AS l (logged)
    WHERE d.dimension = p_dimension
$_timeline_sql$;

-- The arguments of a compiled routine of a dimension, by its name: a column may be called p_now.
-- Parameters: p_routine, name of the routine, whose parameters are p_run_id, p_now and p_batch_at.
-- Returns:    values for etl._render.
CREATE OR REPLACE FUNCTION etl._load_arguments(p_routine name)
RETURNS jsonb
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_load_arguments$
    SELECT jsonb_build_object(
        'run_id', format('%I.p_run_id', p_routine), 'now', format('%I.p_now', p_routine), 'batch_at', format('%I.p_batch_at', p_routine)
    )
$_load_arguments$;

-- The versions that members should have, compared with those that they have.
-- Parameters: p_dimension, the dimension; p_keys, relation or common table expression with the business keys of the members, each once;
--             p_arguments, expressions for the run, the point in time of the load (now), and that of the latest batch by the source's clock
--             (batch_at), as etl._load_arguments returns them.
-- Returns:    a SELECT: planned_operation (insert, update or unchanged), surrogate key, business key, attributes, valid_from, valid_to,
--             is_current, run_id.
CREATE OR REPLACE FUNCTION etl._expected_dimension_sql(
    p_dimension name,
    p_keys text,
    p_arguments jsonb
) RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_expected_dimension_sql$
    SELECT etl._render(
        $template$WITH source_state AS MATERIALIZED (
    -- The row of the transformation view. If it returns two live rows for a key, neither is known to be right. A view over several mirrors also returns
    -- the deleted row of a member that has moved to another mirror: it counts if no row is live, the latest of several.
    SELECT DISTINCT ON ({{k.key}})
        {{k.key}}{{state_values}},
        {{effective_at}} AS _effective_at,
        {{deleted_at}} AS _deleted_at,
        CASE
            WHEN count(*) FILTER (WHERE {{deleted_at}} IS NULL) OVER (PARTITION BY {{k.key}}) > 1 THEN etl._refuse_repeated_key({{name}}, {{key_as_json}})
            ELSE {{deleted_at}} IS NULL
        END AS _is_there
    FROM {{keys}} AS k
    CROSS JOIN LATERAL (SELECT * FROM {{view}} AS r WHERE {{r.key = k.key}} OFFSET 0) AS v
    ORDER BY {{k.key}}, {{deleted_at}} DESC NULLS FIRST
),
known AS MATERIALIZED (
    -- The versions that the dimension has.
    SELECT d.{{surrogate_key}}, {{k.key}}, d.valid_from, d.valid_to, d.is_current{{known_values}}
    FROM {{keys}} AS k
    JOIN {{table}} AS d ON {{d.key = k.key}}
),
latest AS MATERIALIZED (
    SELECT DISTINCT ON ({{n.key}}) n.*
    FROM known AS n
    ORDER BY {{n.key}}, n.valid_from DESC
),
member AS MATERIALIZED (
    -- The state of each member in the source, dated between its latest version and this load.
    SELECT
        {{k.key}},
        coalesce(v._is_there, false) AS _is_there,
        greatest(
            -- Minus infinity is no date: it would replace the versions that there are.
            least(coalesce(nullif(v._deleted_at, '-infinity'), nullif(v._effective_at, '-infinity'), {{batch_at}}), {{now}}),
            CASE WHEN l.valid_to = 'infinity' THEN l.valid_from + interval '1 microsecond' ELSE l.valid_to END
        ) AS _at{{, v.tracked}}
    FROM {{keys}} AS k
    LEFT JOIN source_state AS v ON {{v.key = k.key}}
    LEFT JOIN latest AS l ON {{l.key = k.key}}
),
{{timeline}},
wanted AS (
    -- With the attributes that have one value in all versions: type 0 the first that was known, type 1 the latest.
    SELECT
        t._version,
        {{t.key}},
        t.valid_from,
        t.valid_to{{wanted_values}}
    FROM timeline AS t
    LEFT JOIN source_state AS v ON {{v.key = t.key}}
    LEFT JOIN latest AS l ON {{l.key = t.key}}
)
SELECT
    CASE
        WHEN n.{{surrogate_key}} IS NULL THEN 'insert'
        WHEN (n.valid_from, n.valid_to, n.is_current) <> (w.valid_from, w.valid_to, w.valid_to = 'infinity') OR {{n.attributes <> w.attributes}} THEN 'update'
        ELSE 'unchanged'
    END AS planned_operation,
    n.{{surrogate_key}},
    {{w.key}}{{, w.attributes}},
    w.valid_from,
    w.valid_to,
    w.valid_to = 'infinity' AS is_current,
    {{run_id}} AS run_id
FROM wanted AS w
LEFT JOIN known AS n ON n.{{surrogate_key}} = w._version$template$,
        v.of_dimension || p_arguments || jsonb_build_object(
            'keys', p_keys,
            'key_as_json', etl._json_key(d.business_key, 'k'),
            'timeline', CASE WHEN d.history_view IS NULL
                THEN etl._succession_sql(v.of_dimension || p_arguments)
                ELSE etl._timeline_sql(v.of_dimension || p_arguments, p_dimension, p_keys)
            END
        )
    )
    FROM etl.dimension AS d
    CROSS JOIN etl._dimension_values(p_dimension) AS v (of_dimension)
    WHERE d.dimension = p_dimension
$_expected_dimension_sql$;
