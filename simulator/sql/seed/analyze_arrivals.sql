-- Every arrival is joined with two others: the planner has to know how many there are.
ANALYZE seed_day, seed_arrival, seed_country, seed_plan, seed_word;
