-- All of the business is in the catalog now: tables and tasks follow from it.

CALL etl.build();
