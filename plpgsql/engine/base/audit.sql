-- The audit trail, which every layer may add to.

-- Notes an act in the audit trail.
CREATE OR REPLACE FUNCTION etl._audit(p_act text, p_target text, p_details jsonb DEFAULT '{}')
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_audit$
    SELECT audit.note(p_act, p_target, p_details)
$_audit$;
