-- A run notices that the contract of a source table reads something else, and that a view no longer fits its derived dependency
--
-- depends: 0010.wording

ALTER TABLE etl.run_control ADD COLUMN IF NOT EXISTS contract_states jsonb NOT NULL DEFAULT '{}';
COMMENT ON COLUMN etl.run_control.contract_states IS 'State of what the contract of each source table read at that time; a source table whose state has changed is compared as a whole.';

-- In two steps: a new column with a value is refused while routines use the type of the row, as etl.define_dimension() does.
ALTER TABLE etl.dependency ADD COLUMN IF NOT EXISTS is_derived boolean;
UPDATE etl.dependency SET is_derived = false WHERE is_derived IS NULL;
ALTER TABLE etl.dependency ALTER is_derived SET DEFAULT false, ALTER is_derived SET NOT NULL;
COMMENT ON COLUMN etl.dependency.is_derived IS 'Whether it follows from the view, which reads the mirror by the key alone; false if it was declared.';
