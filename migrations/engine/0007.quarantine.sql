-- Rows in quarantine whose key is longer than an index entry
--
-- depends: 0006.terminal

-- By hashes: a row is here because its key is too long for an index, or with all its columns because it has no key.
ALTER TABLE etl.quarantine DROP CONSTRAINT quarantine_pkey;
CREATE UNIQUE INDEX quarantine_row ON etl.quarantine (object, jsonb_hash_extended(row_key, 0), jsonb_hash_extended(row_key, 1));
