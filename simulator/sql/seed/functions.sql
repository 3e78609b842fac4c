-- Pseudo-random numbers and moments for the seeding session. Every decision is a hash of the seed, of what is decided and
-- of the row: the same whatever the plan, the order of rows or the size of a chunk. The planner inlines all three.
CREATE OR REPLACE FUNCTION pg_temp.chance(p_id bigint, p_decision text)
RETURNS double precision
LANGUAGE sql
IMMUTABLE
RETURN (hashint8extended(p_id, hashtextextended(p_decision, %(seed)s)) & 9007199254740991)::double precision
    / 9007199254740992;

CREATE OR REPLACE FUNCTION pg_temp.hours(p_hours double precision)
RETURNS interval
LANGUAGE sql
IMMUTABLE
RETURN floor(3600 * p_hours) * interval '1 second';

-- Few orders at night, most in the afternoon: the quantiles of a logistic distribution around half past two, whose tails end
-- shortly after five in the morning and shortly before midnight.
CREATE OR REPLACE FUNCTION pg_temp.moment_of_day(p_day_starts_at timestamptz, p_quantile double precision)
RETURNS timestamptz
LANGUAGE sql
STABLE
RETURN p_day_starts_at + pg_temp.hours(14.5 - 2.4 * ln(1 / (0.02 + 0.96 * p_quantile) - 1));
