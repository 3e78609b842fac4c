-- Views that read what is dropped go with it; the next migration installs them again.

DROP INDEX etl.task_run_failed;
DROP TABLE etl.object_tag CASCADE;
ALTER TABLE etl.setting DROP COLUMN default_value CASCADE;
