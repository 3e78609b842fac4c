-- Definitions of the KPIs. The dashboard, Metabase and the command line show these texts.

INSERT INTO kpi.definition (kpi, position, unit, definition, leaves_out, as_of)
VALUES
    (
        'Sales', 1, 'currency',
        'Amount of all order lines, quantity times unit price at the time of the order, of the orders placed in the period.',
        'Orders that were cancelled or refunded, in full. Deleted orders. Taxes, discounts and shipping, which the operational '
        || 'system does not record.',
        'Counts on the day of the order, in the business time zone. A later cancellation or refund takes it off that day again, '
        || 'so a young period shrinks: it is provisional until 95 percent of its losses are known.'
    ),
    (
        'Average Order Value', 2, 'currency',
        'Sales divided by the number of orders that were not lost.',
        'Lost orders, in sales and in the number of orders.',
        'Counts on the day of the order, in the business time zone. Provisional like sales.'
    ),
    (
        'Lost Order Deviation', 3, 'percentage points',
        'Share of the orders of the period that were cancelled or refunded, minus the limit (kpi.lost_order_limit). Above zero is '
        || 'worse than the limit. Its change is that of the share, in percentage points.',
        'Deleted orders.',
        'Counts on the day of the order, not on the day of the loss. Orders are lost for weeks, so a young period looks better '
        || 'than it is: it is provisional until 95 percent of its losses are known, and it is compared with what was known of the '
        || 'earlier period at the same age.'
    ),
    (
        'Average Order Fulfillment', 4, 'hours',
        'Hours from order to delivery, averaged over the orders delivered in the period.',
        'Orders that are not delivered yet, and cancelled ones. Refunded orders count: they were delivered.',
        'Counts on the day of delivery, in the business time zone, so a period stands when it is over.'
    )
ON CONFLICT (kpi) DO UPDATE
SET position = excluded.position,
    unit = excluded.unit,
    definition = excluded.definition,
    leaves_out = excluded.leaves_out,
    as_of = excluded.as_of;
