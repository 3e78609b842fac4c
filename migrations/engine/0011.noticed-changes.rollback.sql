-- The columns stay: the routines read them until those of an earlier version are installed, which do not.
SELECT;
