-- The files of an earlier version create them again.
SELECT;
