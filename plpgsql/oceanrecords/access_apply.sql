-- The last step: what analysts see, then owners and permissions of all that is there.

CALL etl.publish();
CALL etl.apply_permissions();
