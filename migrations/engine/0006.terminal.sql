-- What the command line needs: tags of objects, defaults of settings
--
-- depends: 0005.security

ALTER TABLE etl.setting ADD COLUMN default_value text;
COMMENT ON COLUMN etl.setting.default_value IS 'Value that the setting was installed with.';

CREATE TABLE etl.object_tag (
    object name NOT NULL,
    tag text NOT NULL CHECK (tag ~ '^[a-z0-9_-]+$'),
    PRIMARY KEY (object, tag)
);
COMMENT ON TABLE etl.object_tag IS 'Tags of objects, by which the command line selects them: tag:finance.';
COMMENT ON COLUMN etl.object_tag.object IS 'Source table, dimension, fact or aggregate.';
COMMENT ON COLUMN etl.object_tag.tag IS 'Tag: lower-case letters, digits, _ and -.';

-- Failures are few among very many successes.
CREATE INDEX task_run_failed ON etl.task_run (task, run_id) WHERE status = 'failed';
