-- Refused while a key in quarantine is too long for an index entry.
DROP INDEX etl.quarantine_row;
ALTER TABLE etl.quarantine ADD PRIMARY KEY (object, row_key);
