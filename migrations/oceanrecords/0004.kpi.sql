-- Tables behind the key figures: aggregates, which the engine keeps up to date by adding and subtracting what changed, and the
-- limit that lost orders are measured against. Views and catalog rows are installed from plpgsql/ after every apply.

-- Aggregates ----------------------------------------------------------------------------------------------------------

CREATE TABLE dwh.agg_order_daily (
    day date NOT NULL,
    country text NOT NULL,
    orders bigint NOT NULL,
    lost_orders bigint NOT NULL,
    sales numeric NOT NULL,
    fulfilled_orders bigint NOT NULL,
    hours_to_fulfil numeric NOT NULL,
    run_id bigint NOT NULL,
    PRIMARY KEY (day, country)
) WITH (fillfactor = 80);
COMMENT ON TABLE dwh.agg_order_daily IS 'Orders by day and country. Grain: a day and a country; orders count on the day they were placed, fulfilment on the day of delivery.';
COMMENT ON COLUMN dwh.agg_order_daily.day IS 'Day in the business time zone.';
COMMENT ON COLUMN dwh.agg_order_daily.country IS 'Country that the orders went to; Unknown while the address is not known.';
COMMENT ON COLUMN dwh.agg_order_daily.orders IS 'Measure: orders placed on the day, lost ones included.';
COMMENT ON COLUMN dwh.agg_order_daily.lost_orders IS 'Measure: orders placed on the day that were cancelled or refunded since.';
COMMENT ON COLUMN dwh.agg_order_daily.sales IS 'Measure: gross amount of the orders placed on the day that are not lost, in the business currency.';
COMMENT ON COLUMN dwh.agg_order_daily.fulfilled_orders IS 'Measure: orders delivered on the day.';
COMMENT ON COLUMN dwh.agg_order_daily.hours_to_fulfil IS 'Measure: hours from order to delivery, summed over the orders delivered on the day.';
COMMENT ON COLUMN dwh.agg_order_daily.run_id IS 'Run that last wrote the row.';

CREATE TABLE dwh.agg_order_lost_daily (
    day date NOT NULL,
    lost_on date NOT NULL,
    country text NOT NULL,
    lost_orders bigint NOT NULL,
    lost_amount numeric NOT NULL,
    run_id bigint NOT NULL,
    PRIMARY KEY (day, lost_on, country)
) WITH (fillfactor = 80);
COMMENT ON TABLE dwh.agg_order_lost_daily IS 'Lost orders by day of order and day of loss: what was known of a period at an earlier date. Grain: a day of order, a day of loss and a country.';
COMMENT ON COLUMN dwh.agg_order_lost_daily.day IS 'Day of the order, in the business time zone.';
COMMENT ON COLUMN dwh.agg_order_lost_daily.lost_on IS 'Day of the cancellation or refund; the day of the order if the moment of loss is unknown.';
COMMENT ON COLUMN dwh.agg_order_lost_daily.country IS 'Country that the orders went to; Unknown while the address is not known.';
COMMENT ON COLUMN dwh.agg_order_lost_daily.lost_orders IS 'Measure: orders placed on the one day and lost on the other.';
COMMENT ON COLUMN dwh.agg_order_lost_daily.lost_amount IS 'Measure: gross amount of these orders, in the business currency.';
COMMENT ON COLUMN dwh.agg_order_lost_daily.run_id IS 'Run that last wrote the row.';

CREATE TABLE dwh.agg_product_monthly (
    country text NOT NULL,
    month_start date NOT NULL,
    product_type text NOT NULL,
    product_subtype text NOT NULL,
    product_id bigint NOT NULL,
    quantity bigint NOT NULL,
    sales numeric NOT NULL,
    run_id bigint NOT NULL,
    PRIMARY KEY (country, month_start, product_id, product_type, product_subtype)
) WITH (fillfactor = 80);
COMMENT ON TABLE dwh.agg_product_monthly IS 'What was sold, by month, country and product. Grain: a month, a country, and a product in its place in the assortment at the time of the order. Lost orders are left out.';
COMMENT ON COLUMN dwh.agg_product_monthly.month_start IS 'First day of the month of the order.';
COMMENT ON COLUMN dwh.agg_product_monthly.country IS 'Country that the orders went to; Unknown while the address is not known.';
COMMENT ON COLUMN dwh.agg_product_monthly.product_type IS 'Product type at the time of the order; Unknown while the product is not known.';
COMMENT ON COLUMN dwh.agg_product_monthly.product_subtype IS 'Product subtype at the time of the order.';
COMMENT ON COLUMN dwh.agg_product_monthly.product_id IS 'Product; -1 while it is not known.';
COMMENT ON COLUMN dwh.agg_product_monthly.quantity IS 'Measure: pieces sold.';
COMMENT ON COLUMN dwh.agg_product_monthly.sales IS 'Measure: quantity by unit price, in the business currency.';
COMMENT ON COLUMN dwh.agg_product_monthly.run_id IS 'Run that last wrote the row.';

CREATE TABLE dwh.agg_product_total_monthly (
    month_start date NOT NULL,
    product_id bigint NOT NULL,
    product_type text NOT NULL,
    quantity bigint NOT NULL,
    sales numeric NOT NULL,
    run_id bigint NOT NULL,
    PRIMARY KEY (month_start, product_id, product_type)
) WITH (fillfactor = 80);
COMMENT ON TABLE dwh.agg_product_total_monthly IS 'dwh.agg_product_monthly over all countries: what a ranking of products reads for the months at the ends of a period.';
COMMENT ON COLUMN dwh.agg_product_total_monthly.month_start IS 'First day of the month of the order.';
COMMENT ON COLUMN dwh.agg_product_total_monthly.product_id IS 'Product; -1 while it is not known.';
COMMENT ON COLUMN dwh.agg_product_total_monthly.product_type IS 'Product type at the time of the order; Unknown while the product is not known.';
COMMENT ON COLUMN dwh.agg_product_total_monthly.quantity IS 'Measure: pieces sold.';
COMMENT ON COLUMN dwh.agg_product_total_monthly.sales IS 'Measure: quantity by unit price, in the business currency.';
COMMENT ON COLUMN dwh.agg_product_total_monthly.run_id IS 'Run that last wrote the row.';

CREATE TABLE dwh.agg_product_total_quarterly (
    quarter_start date NOT NULL,
    product_id bigint NOT NULL,
    product_type text NOT NULL,
    quantity bigint NOT NULL,
    sales numeric NOT NULL,
    run_id bigint NOT NULL,
    PRIMARY KEY (quarter_start, product_id, product_type)
) WITH (fillfactor = 80);
COMMENT ON TABLE dwh.agg_product_total_quarterly IS 'dwh.agg_product_total_monthly by quarter: what a ranking of products reads for the whole quarters of a period.';
COMMENT ON COLUMN dwh.agg_product_total_quarterly.quarter_start IS 'First day of the quarter of the order.';
COMMENT ON COLUMN dwh.agg_product_total_quarterly.product_id IS 'Product; -1 while it is not known.';
COMMENT ON COLUMN dwh.agg_product_total_quarterly.product_type IS 'Product type at the time of the order; Unknown while the product is not known.';
COMMENT ON COLUMN dwh.agg_product_total_quarterly.quantity IS 'Measure: pieces sold.';
COMMENT ON COLUMN dwh.agg_product_total_quarterly.sales IS 'Measure: quantity by unit price, in the business currency.';
COMMENT ON COLUMN dwh.agg_product_total_quarterly.run_id IS 'Run that last wrote the row.';

CREATE TABLE dwh.agg_product_total (
    product_id bigint NOT NULL,
    product_type text NOT NULL,
    quantity bigint NOT NULL,
    sales numeric NOT NULL,
    run_id bigint NOT NULL,
    PRIMARY KEY (product_id, product_type)
) WITH (fillfactor = 80);
COMMENT ON TABLE dwh.agg_product_total IS 'dwh.agg_product_total_quarterly over all quarters: what a ranking of products reads when neither country nor period is chosen.';
COMMENT ON COLUMN dwh.agg_product_total.product_id IS 'Product; -1 while it is not known.';
COMMENT ON COLUMN dwh.agg_product_total.product_type IS 'Product type at the time of the order; Unknown while the product is not known.';
COMMENT ON COLUMN dwh.agg_product_total.quantity IS 'Measure: pieces sold.';
COMMENT ON COLUMN dwh.agg_product_total.sales IS 'Measure: quantity by unit price, in the business currency.';
COMMENT ON COLUMN dwh.agg_product_total.run_id IS 'Run that last wrote the row.';

CREATE TABLE dwh.agg_product_country (
    country text NOT NULL,
    product_id bigint NOT NULL,
    product_type text NOT NULL,
    quantity bigint NOT NULL,
    sales numeric NOT NULL,
    run_id bigint NOT NULL,
    PRIMARY KEY (country, product_id, product_type)
) WITH (fillfactor = 80);
COMMENT ON TABLE dwh.agg_product_country IS 'dwh.agg_product_monthly over all months: what a ranking of products reads when countries are chosen, but no period.';
COMMENT ON COLUMN dwh.agg_product_country.country IS 'Country that the orders went to; Unknown while the address is not known.';
COMMENT ON COLUMN dwh.agg_product_country.product_id IS 'Product; -1 while it is not known.';
COMMENT ON COLUMN dwh.agg_product_country.product_type IS 'Product type at the time of the order; Unknown while the product is not known.';
COMMENT ON COLUMN dwh.agg_product_country.quantity IS 'Measure: pieces sold.';
COMMENT ON COLUMN dwh.agg_product_country.sales IS 'Measure: quantity by unit price, in the business currency.';
COMMENT ON COLUMN dwh.agg_product_country.run_id IS 'Run that last wrote the row.';

CREATE TABLE dwh.agg_subtype_monthly (
    month_start date NOT NULL,
    country text NOT NULL,
    product_type text NOT NULL,
    product_subtype text NOT NULL,
    quantity bigint NOT NULL,
    sales numeric NOT NULL,
    run_id bigint NOT NULL,
    PRIMARY KEY (month_start, country, product_type, product_subtype)
) WITH (fillfactor = 80);
COMMENT ON TABLE dwh.agg_subtype_monthly IS 'dwh.agg_product_monthly over all products of a subtype: a few thousand rows that rank subtypes and countries.';
COMMENT ON COLUMN dwh.agg_subtype_monthly.month_start IS 'First day of the month of the order.';
COMMENT ON COLUMN dwh.agg_subtype_monthly.country IS 'Country that the orders went to; Unknown while the address is not known.';
COMMENT ON COLUMN dwh.agg_subtype_monthly.product_type IS 'Product type at the time of the order; Unknown while the product is not known.';
COMMENT ON COLUMN dwh.agg_subtype_monthly.product_subtype IS 'Product subtype at the time of the order.';
COMMENT ON COLUMN dwh.agg_subtype_monthly.quantity IS 'Measure: pieces sold.';
COMMENT ON COLUMN dwh.agg_subtype_monthly.sales IS 'Measure: quantity by unit price, in the business currency.';
COMMENT ON COLUMN dwh.agg_subtype_monthly.run_id IS 'Run that last wrote the row.';

CREATE TABLE dwh.agg_customer_quarterly (
    country text NOT NULL,
    quarter_start date NOT NULL,
    customer_id bigint NOT NULL,
    orders bigint NOT NULL,
    run_id bigint NOT NULL,
    PRIMARY KEY (country, quarter_start, customer_id)
) WITH (fillfactor = 80);
COMMENT ON TABLE dwh.agg_customer_quarterly IS 'Who ordered, by quarter and country. Grain: a quarter, a customer and a country.';
COMMENT ON COLUMN dwh.agg_customer_quarterly.quarter_start IS 'First day of the quarter of the order.';
COMMENT ON COLUMN dwh.agg_customer_quarterly.customer_id IS 'Customer; -1 while the customer is not known.';
COMMENT ON COLUMN dwh.agg_customer_quarterly.country IS 'Country that the orders went to; Unknown while the address is not known.';
COMMENT ON COLUMN dwh.agg_customer_quarterly.orders IS 'Measure: orders placed, lost ones included.';
COMMENT ON COLUMN dwh.agg_customer_quarterly.run_id IS 'Run that last wrote the row.';

CREATE TABLE dwh.agg_customer_total_quarterly (
    quarter_start date NOT NULL,
    customer_id bigint NOT NULL,
    orders bigint NOT NULL,
    run_id bigint NOT NULL,
    PRIMARY KEY (quarter_start, customer_id)
) WITH (fillfactor = 80);
COMMENT ON TABLE dwh.agg_customer_total_quarterly IS 'dwh.agg_customer_quarterly over all countries: its rows are the different customers, without a sort to find them.';
COMMENT ON COLUMN dwh.agg_customer_total_quarterly.quarter_start IS 'First day of the quarter of the order.';
COMMENT ON COLUMN dwh.agg_customer_total_quarterly.customer_id IS 'Customer; -1 while the customer is not known.';
COMMENT ON COLUMN dwh.agg_customer_total_quarterly.orders IS 'Measure: orders placed, lost ones included.';
COMMENT ON COLUMN dwh.agg_customer_total_quarterly.run_id IS 'Run that last wrote the row.';

-- The limit of lost orders --------------------------------------------------------------------------------------------

CREATE TABLE kpi.lost_order_limit (
    valid_from date PRIMARY KEY,
    limit_share numeric(6, 5) NOT NULL CHECK (limit_share BETWEEN 0 AND 1)
);
COMMENT ON TABLE kpi.lost_order_limit IS 'Share of orders that may be lost. Each row holds from its date until the next row''s; add a row to change the limit from a date on.';
COMMENT ON COLUMN kpi.lost_order_limit.valid_from IS 'First day, by date of order, on which the limit holds; -infinity for the first limit.';
COMMENT ON COLUMN kpi.lost_order_limit.limit_share IS 'Lost orders by orders, from 0 to 1: 0.05 is five percent.';
INSERT INTO kpi.lost_order_limit (valid_from, limit_share)
VALUES ('-infinity', 0.08);

-- What business users set and read ---------------------------------------------------------------------------------------

CREATE TABLE kpi.sales_target (
    month_start date NOT NULL CHECK (month_start = date_trunc('month', month_start::timestamp)::date),
    country text NOT NULL DEFAULT 'All countries' CHECK (country <> ''),
    sales numeric(14, 2) NOT NULL CHECK (sales >= 0),
    PRIMARY KEY (month_start, country)
);
COMMENT ON TABLE kpi.sales_target IS 'Targets of sales by month, optional: for all countries together, or by country.';
COMMENT ON COLUMN kpi.sales_target.month_start IS 'First day of the month.';
COMMENT ON COLUMN kpi.sales_target.country IS 'Name of the country as in kpi.country, or All countries.';
COMMENT ON COLUMN kpi.sales_target.sales IS 'Target of the month, in the business currency.';

CREATE TABLE kpi.definition (
    kpi text PRIMARY KEY,
    position smallint NOT NULL,
    unit text NOT NULL,
    definition text NOT NULL,
    leaves_out text NOT NULL,
    as_of text NOT NULL
);
COMMENT ON TABLE kpi.definition IS 'What each figure means, in one place: shown on the dashboard, in Metabase and by the command line.';
COMMENT ON COLUMN kpi.definition.kpi IS 'Name of the figure, as everywhere.';
COMMENT ON COLUMN kpi.definition.position IS 'Order.';
COMMENT ON COLUMN kpi.definition.unit IS 'Unit; currency stands for the business currency (setting currency).';
COMMENT ON COLUMN kpi.definition.definition IS 'What counts.';
COMMENT ON COLUMN kpi.definition.leaves_out IS 'What does not count.';
COMMENT ON COLUMN kpi.definition.as_of IS 'The day on which it counts, and how long it may change.';
