-- The last step: owners and permissions of all that is there.

CALL etl.apply_permissions();
