-- What the changed orders contributed before their facts are written, to be taken back.
CREATE TEMPORARY TABLE difference_order ON COMMIT DROP AS
SELECT
    -1 AS sign,
    c.*
FROM changed_order
JOIN hand.contribution_order AS c USING (order_id);

CREATE TEMPORARY TABLE difference_loss ON COMMIT DROP AS
SELECT
    -1 AS sign,
    c.*
FROM changed_order
JOIN hand.contribution_loss AS c USING (order_id);

CREATE TEMPORARY TABLE difference_sale ON COMMIT DROP AS
SELECT
    -1 AS sign,
    c.*
FROM changed_order
JOIN hand.contribution_sale AS c USING (order_id);

CREATE TEMPORARY TABLE difference_customer ON COMMIT DROP AS
SELECT
    -1 AS sign,
    c.*
FROM changed_order
JOIN hand.contribution_customer AS c USING (order_id);
