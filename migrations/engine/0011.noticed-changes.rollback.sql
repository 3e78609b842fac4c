ALTER TABLE etl.dependency DROP COLUMN is_derived;
ALTER TABLE etl.run_control DROP COLUMN contract_states;
