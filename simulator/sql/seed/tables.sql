-- Input of the seeding session: the plan (one row) and the vocabulary.
CREATE TEMPORARY TABLE seed_plan (
    orders bigint NOT NULL,
    customers bigint NOT NULL,
    founders bigint NOT NULL,
    products bigint NOT NULL,
    first_products bigint NOT NULL,
    product_stride bigint NOT NULL,
    product_shift bigint NOT NULL,
    suppliers bigint NOT NULL,
    starts_on date NOT NULL,
    ends_on date NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL
) ON COMMIT DROP;

CREATE TEMPORARY TABLE seed_country (
    country_code text PRIMARY KEY,
    lower_bound double precision NOT NULL,
    upper_bound double precision NOT NULL,
    transit_hours double precision NOT NULL,
    calling_code text NOT NULL,
    number_first boolean NOT NULL,
    first_names integer NOT NULL,
    last_names integer NOT NULL,
    places integer NOT NULL,
    streets integer NOT NULL
) ON COMMIT DROP;

CREATE TEMPORARY TABLE seed_word (
    kind text NOT NULL,
    country_code text NOT NULL,
    number integer NOT NULL,
    word text NOT NULL,
    variant text,
    PRIMARY KEY (kind, country_code, number)
) ON COMMIT DROP;

CREATE TEMPORARY TABLE seed_supplier (
    supplier_id integer PRIMARY KEY,
    name text NOT NULL,
    country_code text NOT NULL
) ON COMMIT DROP;

CREATE TEMPORARY TABLE seed_shelf (
    product_subtype_id integer PRIMARY KEY,
    product_type_id integer NOT NULL,
    department text NOT NULL,
    name text NOT NULL,
    lower_bound double precision NOT NULL,
    upper_bound double precision NOT NULL,
    lowest_price double precision NOT NULL,
    highest_price double precision NOT NULL,
    noun text NOT NULL
) ON COMMIT DROP;
