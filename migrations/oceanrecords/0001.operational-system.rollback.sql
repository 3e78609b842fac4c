-- Takes the operational system away, as long as it holds no business: rolling back must not be a way to lose it. Whatever
-- still depends on the tables makes the rollback fail as well.

DO $refuse_to_lose_business$
BEGIN
    IF EXISTS (SELECT FROM oceanrecords.customers)
        OR EXISTS (SELECT FROM oceanrecords.products)
    THEN
        RAISE EXCEPTION 'schema oceanrecords holds customers or products, which a rollback would lose'
            USING
                ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'Save what you need, then DROP SCHEMA oceanrecords CASCADE says that you mean it.';
    END IF;
END;
$refuse_to_lose_business$;

DROP VIEW oceanrecords.extraction_columns;
DROP VIEW oceanrecords.extraction_point;
DROP TABLE
    oceanrecords.order_lines,
    oceanrecords.orders,
    oceanrecords.order_status_transitions,
    oceanrecords.order_statuses,
    oceanrecords.payment_methods,
    oceanrecords.product_prices,
    oceanrecords.products,
    oceanrecords.product_subtypes,
    oceanrecords.product_types,
    oceanrecords.suppliers,
    oceanrecords.customers_addresses,
    oceanrecords.addresses,
    oceanrecords.customers,
    oceanrecords.deleted_rows;
DROP FUNCTION
    oceanrecords._own_row_xid(),
    oceanrecords._touch(),
    oceanrecords._leave_tombstone(),
    oceanrecords._refuse_truncate(),
    oceanrecords._follow_lifecycle(),
    oceanrecords._log_price(),
    oceanrecords._keep_price_log(),
    oceanrecords.business_time();
DROP SCHEMA oceanrecords;
