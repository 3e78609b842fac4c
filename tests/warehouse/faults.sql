-- Faults at a chosen point: a trigger that raises an error, or ends its own backend, when a table is written.
-- The number of times is counted by a sequence, which a rollback does not turn back.

CREATE SCHEMA IF NOT EXISTS fault;

CREATE SEQUENCE IF NOT EXISTS fault.strikes;
ALTER SEQUENCE fault.strikes RESTART;

CREATE OR REPLACE FUNCTION fault.strike()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER -- loads run as the owner, who may neither count here nor end the session of a superuser
AS $strike$
BEGIN
    IF nextval('fault.strikes') <= TG_ARGV[1]::bigint THEN
        IF TG_ARGV[0] = 'die' THEN
            PERFORM pg_terminate_backend(pg_backend_pid());
            PERFORM pg_sleep(10);
        END IF;
        RAISE EXCEPTION 'a fault was injected into %.%', TG_TABLE_SCHEMA, TG_TABLE_NAME
            USING ERRCODE = TG_ARGV[0];
    END IF;
    RETURN NULL;
END;
$strike$;
