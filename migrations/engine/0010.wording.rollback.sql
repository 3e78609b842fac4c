-- The earlier words are not restored: they said the same.
SELECT;
