"""One bad row never stops the others: it goes to quarantine, and comes back when it is good."""

from __future__ import annotations

import psycopg
import pytest

from tests.support.database import Database
from tests.warehouse.faults import Background, blocked_run, wait_until_blocked
from tests.warehouse.play import Play

UNLOADABLE = (
    "UPDATE oceanrecords.order_lines SET quantity = %s, unit_price = %s WHERE order_id = %s"
)


@pytest.fixture(autouse=True)
def tolerant(play: Play) -> None:
    """What a run with rows in quarantine says is tested at the end."""
    play.tolerate_quarantine()


@pytest.fixture
def careless(trading: Play) -> Play:
    """A shop whose operational system has lost its bounds on quantities and prices."""
    trading.shop.connection.execute(
        """
        DO $drop_checks$
        DECLARE
            r_check record;
        BEGIN
            FOR r_check IN
                SELECT conname FROM pg_constraint
                WHERE conrelid = 'oceanrecords.order_lines'::regclass AND contype = 'c'
            LOOP
                EXECUTE format('ALTER TABLE oceanrecords.order_lines DROP CONSTRAINT %I', r_check.conname);
            END LOOP;
        END
        $drop_checks$
        """
    )
    return trading


def place_orders(play: Play, number: int) -> list[int]:
    return [play.shop.order(play.customer, play.address, {play.product: 1}) for _ in range(number)]


def test_an_amount_out_of_range_is_isolated(careless: Play) -> None:
    """Of many changed orders the one whose total does not fit is set aside, with its row; the others are loaded."""
    orders = place_orders(careless, 20)
    bad = orders[7]
    careless.shop.connection.execute(UNLOADABLE, [2_000_000_000, "9999999.99", bad])

    careless.run()

    assert careless.rows(
        "SELECT order_id FROM dwh.fact_order WHERE order_id = ANY(%s) ORDER BY order_id", orders
    ) == [(order,) for order in orders if order != bad]
    entry = careless.row("SELECT * FROM etl.quarantine WHERE object = 'fact_order'")
    assert entry["row_key"] == {"order_id": bad}
    assert entry["sqlstate"] == "22003"
    assert "overflow" in entry["reason"]
    assert entry["original_row"]["customer_id"] == careless.customer
    assert (
        careless.value(
            "SELECT rows_quarantined FROM etl.task_status WHERE task = 'fact:fact_order'"
        )
        == 1
    )
    assert (
        careless.value("SELECT row_count FROM etl.quarantine_status WHERE object = 'fact_order'")
        == 1
    )


RULE = """
CREATE FUNCTION dwh.house_rule() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.product_name = 'Forbidden' THEN {statement}; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER house_rule BEFORE INSERT ON dwh.dim_product FOR EACH ROW EXECUTE FUNCTION dwh.house_rule();
"""


@pytest.mark.parametrize(
    ("sqlstate", "rule", "name"),
    [
        (
            "21000",
            RULE.format(statement="PERFORM (SELECT n FROM generate_series(1, 2) AS n)"),
            "'Forbidden'",
        ),
        (
            "54000",
            "CREATE INDEX ON dwh.dim_product (product_name)",
            "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 400) AS n)",
        ),
    ],
    ids=["two rows of a subquery", "too long for an index"],
)
def test_every_error_of_a_row_is_isolated(
    careless: Play, sqlstate: str, rule: str, name: str
) -> None:
    """Whatever makes PostgreSQL refuse a row of a dimension, the other members are loaded."""
    shop = careless.shop.connection
    shop.execute(rule.encode())
    good, bad = (
        product
        for (product,) in shop.execute(
            "INSERT INTO oceanrecords.products (sku, name, product_subtype_id, supplier_id, price)"
            " SELECT format('rule-%s', n), p.name, p.product_subtype_id, p.supplier_id, p.price"
            " FROM (SELECT * FROM oceanrecords.products LIMIT 1) AS p, generate_series(1, 2) AS n"
            " RETURNING product_id"
        )
    )
    shop.execute(
        f"UPDATE oceanrecords.products SET name = {name} WHERE product_id = %s".encode(),
        [bad],
    )

    careless.run()

    assert careless.rows("SELECT object, row_key, sqlstate FROM etl.quarantine") == [
        ("dim_product", {"product_id": bad}, sqlstate)
    ]
    assert careless.value("SELECT count(*) FROM dwh.dim_product WHERE product_id = %s", good) == 1


def test_a_row_leaves_quarantine_when_it_was_corrected(careless: Play) -> None:
    """A correction in the source makes the row pending again; once loaded, it is out of quarantine."""
    bad = place_orders(careless, 2)[1]
    careless.shop.connection.execute(UNLOADABLE, [2_000_000_000, "9999999.99", bad])
    careless.run()
    careless.shop.connection.execute(UNLOADABLE, [3, "7.50", bad])

    careless.run()

    assert careless.rows("SELECT * FROM etl.quarantine") == []
    assert (
        str(careless.value("SELECT gross_amount FROM dwh.fact_order WHERE order_id = %s", bad))
        == "22.50"
    )
    careless.assert_right()


def test_a_key_that_is_pending_several_times_is_loaded_once(careless: Play) -> None:
    """Whoever asks for a load adds the key once more: it counts once, whether it can be loaded or not."""
    orders = place_orders(careless, 3)
    bad = orders[1]
    careless.shop.connection.execute(UNLOADABLE, [2_000_000_000, "9999999.99", bad])
    for _ in range(3):
        careless.loader.execute("INSERT INTO work.fact_order_key SELECT unnest(%s)", [orders])
        careless.loader.execute("INSERT INTO work.dim_product_key VALUES (%s)", [careless.product])

    careless.run()

    assert (
        careless.value("SELECT rows_read FROM etl.task_status WHERE task = 'fact:fact_order'") == 3
    )
    assert (
        careless.value("SELECT rows_read FROM etl.task_status WHERE task = 'dimension:dim_product'")
        == 1
    )
    assert careless.rows(
        "SELECT row_key, attempts FROM etl.quarantine WHERE object = 'fact_order'"
    ) == [({"order_id": bad}, 1)]
    assert careless.value("SELECT count(*) FROM work.fact_order_key") == 0
    careless.shop.connection.execute(UNLOADABLE, [3, "7.50", bad])
    careless.run()
    careless.assert_right()


def test_a_row_that_stays_bad_counts_its_attempts(careless: Play) -> None:
    """Every vain attempt is counted, on one entry."""
    bad = place_orders(careless, 1)[0]
    careless.shop.connection.execute(UNLOADABLE, [2_000_000_000, "9999999.99", bad])
    careless.run()
    assert careless.value("SELECT etl.retry_quarantine('fact_order')") == 1

    careless.run()

    assert careless.value("SELECT attempts FROM etl.quarantine WHERE object = 'fact_order'") == 2


def test_retry_on_request_loads_what_has_become_loadable(trading: Play) -> None:
    """When the table was made to take the row instead of the row corrected, asking for a retry is enough."""
    trading.loader.execute(
        "ALTER TABLE dwh.fact_order ADD CONSTRAINT small CHECK (quantity < 1000)"
    )
    bad = trading.shop.order(trading.customer, trading.address, {trading.product: 1000})
    trading.run()
    assert trading.rows("SELECT row_key FROM etl.quarantine WHERE object = 'fact_order'") == [
        ({"order_id": bad},)
    ]
    trading.loader.execute("ALTER TABLE dwh.fact_order DROP CONSTRAINT small")
    trading.loader.execute("SELECT etl.retry_quarantine()")

    trading.run()

    assert trading.rows("SELECT * FROM etl.quarantine") == []
    trading.assert_right()


def test_a_retry_that_is_asked_for_while_the_fact_is_loaded_is_left_for_the_next_run(
    trading: Play,
) -> None:
    trading.loader.execute(
        "ALTER TABLE dwh.fact_order ADD CONSTRAINT small CHECK (quantity < 1000)"
    )
    bad = trading.shop.order(trading.customer, trading.address, {trading.product: 1000})
    trading.run()
    trading.loader.execute("ALTER TABLE dwh.fact_order DROP CONSTRAINT small")
    place_orders(trading, 1)
    asker = trading.connect()
    with blocked_run(trading, "dwh.fact_order"):
        asked = Background(lambda: asker.execute("SELECT etl.retry_quarantine('fact_order')"))
        wait_until_blocked(trading.loader, asker)
    assert asked.join() is None
    assert trading.rows("SELECT order_id FROM work.fact_order_key") == [(bad,)]
    trading.run()
    trading.assert_right()


def test_a_bad_row_does_not_stop_the_first_load(play: Play) -> None:
    """The bulk load of an empty warehouse finds its bad row, too."""
    play.open()
    play.shop.connection.execute(
        "ALTER TABLE dwh.fact_order ADD CONSTRAINT small CHECK (quantity < 1000)"
    )
    orders = place_orders(play, 5)
    play.shop.update("order_lines", {"order_id": orders[2]}, quantity=1000)

    play.run()

    assert play.value("SELECT count(*) FROM dwh.fact_order") == len(orders) + len(play.orders) - 1
    entry = play.row("SELECT * FROM etl.quarantine WHERE object = 'fact_order'")
    assert entry["row_key"] == {"order_id": orders[2]}
    assert entry["sqlstate"] == "23514"


def test_a_bad_member_is_isolated(trading: Play) -> None:
    """A member that the dimension's table refuses is set aside; its facts wait in the queue and are repaired with it."""
    trading.loader.execute(
        "ALTER TABLE dwh.dim_product ADD CONSTRAINT short_name CHECK (length(product_name) < 30)"
    )
    bad = trading.shop.product(
        trading.subtype, trading.supplier, name="An unbearably long name of a record"
    )
    good = trading.shop.product(trading.subtype, trading.supplier)
    order = trading.shop.order(trading.customer, trading.address, {bad: 1, good: 1})
    trading.run()

    assert trading.value("SELECT row_key FROM etl.quarantine") == {"product_id": bad}
    assert trading.rows(
        "SELECT p.product_id FROM dwh.fact_order_line AS l JOIN dwh.dim_product AS p USING (product_key)"
        " WHERE l.order_id = %s ORDER BY l.line_number",
        order,
    ) == [(None,), (good,)]

    trading.shop.update("products", {"product_id": bad}, name="Short")
    trading.run()
    assert trading.rows("SELECT * FROM etl.quarantine") == []
    trading.assert_right()


def test_too_many_bad_rows_fail_the_load(trading: Play) -> None:
    """Above the limit it is not the rows that are at fault: the task fails, nothing is set aside, nothing is lost."""
    trading.loader.execute("UPDATE etl.setting SET value = '3' WHERE name = 'quarantine_limit'")
    trading.loader.execute(
        "ALTER TABLE dwh.fact_order ADD CONSTRAINT impossible CHECK (order_id < 0) NOT VALID"
    )
    place_orders(trading, 8)

    trading.run(expect="partial")

    failure = trading.row("SELECT * FROM etl.task_status WHERE task = 'fact:fact_order'")
    assert (failure["status"], failure["sqlstate"]) == ("failed", "ET008")
    assert "more than 3 rows of fact_order" in failure["message"]
    assert trading.rows("SELECT * FROM etl.quarantine") == []
    trading.loader.execute("ALTER TABLE dwh.fact_order DROP CONSTRAINT impossible")
    trading.run()
    trading.assert_right()


def test_an_error_that_is_not_of_the_data_fails_the_task(trading: Play) -> None:
    """A missing table is nobody's bad row."""
    place_orders(trading, 2)
    trading.loader.execute("ALTER TABLE work.country RENAME TO nowhere")
    trading.loader.execute("DROP VIEW work.dim_supplier CASCADE")
    trading.shop.supplier()

    trading.run(expect="partial")

    assert trading.rows("SELECT * FROM etl.quarantine") == []
    assert (
        trading.value("SELECT status FROM etl.task_status WHERE task = 'dimension:dim_supplier'")
        == "failed"
    )


KEYLESS = """
    DROP VIEW source.suppliers CASCADE;
    CREATE TABLE public.keyless AS SELECT * FROM oceanrecords.suppliers;
    CREATE VIEW source.suppliers AS SELECT * FROM public.keyless;
"""
NEW = "INSERT INTO public.keyless VALUES (%s, %s, 'DE', now(), now(), pg_current_xact_id())"


def test_rows_without_a_usable_key_are_set_aside(trading: Play) -> None:
    """A source without constraints: rows with a NULL key or a key that others share wait outside, the rest is mirrored."""
    trading.loader.execute(KEYLESS.encode())
    for key, name in [(None, "Nameless"), (901, "Twin A"), (901, "Twin B"), (902, "Only child")]:
        trading.loader.execute(NEW.encode(), [key, name])

    trading.run()

    assert trading.rows("SELECT supplier_id FROM stage.suppliers WHERE supplier_id > 900") == [
        (902,)
    ]
    entries = trading.rows(
        "SELECT sqlstate, reason, original_row FROM etl.quarantine WHERE object = 'suppliers' ORDER BY sqlstate"
    )
    assert [entry[0] for entry in entries] == ["23502", "23505"]
    assert entries[0][2]["name"] == "Nameless"
    assert {twin["name"] for twin in entries[1][2]} == {"Twin A", "Twin B"}

    trading.loader.execute("DELETE FROM public.keyless WHERE name = 'Twin B'")
    trading.loader.execute("SELECT etl.retry_quarantine('suppliers')")
    trading.run()
    assert trading.rows("SELECT name FROM stage.suppliers WHERE supplier_id = 901") == [("Twin A",)]


def test_rows_without_a_usable_key_do_not_stop_the_first_load(play: Play) -> None:
    """The first load, which goes straight into stage, finds them as well."""
    play.loader.execute(KEYLESS.encode())
    for key, name in [(None, "Nameless"), (1, "Twin A"), (1, "Twin B"), (2, "Only child")]:
        play.loader.execute(NEW.encode(), [key, name])

    play.run()

    assert play.rows("SELECT supplier_id FROM stage.suppliers") == [(2,)]
    assert play.value("SELECT count(*) FROM etl.quarantine WHERE object = 'suppliers'") == 2


def test_a_key_that_has_come_to_repeat_is_found_by_a_full_refresh(trading: Play) -> None:
    """The mirror holds one of its rows already, and keeps it until the other is gone."""
    trading.loader.execute(KEYLESS.encode())
    trading.loader.execute(NEW.encode(), [901, "First"])
    trading.run()
    trading.loader.execute(NEW.encode(), [901, "Second"])

    trading.run(full_refresh=["suppliers"])

    mirrored = "SELECT name FROM stage.suppliers WHERE supplier_id = 901"
    quarantined = "SELECT sqlstate FROM etl.quarantine WHERE object = 'suppliers'"
    assert trading.rows(mirrored) == [("First",)]
    assert trading.rows(quarantined) == [("23505",)]

    trading.loader.execute("DELETE FROM public.keyless WHERE name = 'Second'")
    trading.run(full_refresh=["suppliers"])
    assert trading.rows(mirrored) == [("First",)]
    assert trading.rows(quarantined) == []


@pytest.mark.parametrize("is_loaded", [False, True])
def test_a_date_outside_the_calendar_is_set_aside(database: Database, is_loaded: bool) -> None:
    """An order of the year 1999 goes to quarantine with its line, in the first load and in any other, until the calendar has its day."""
    play = Play.on(database.connect)
    play.tolerate_quarantine()
    play.open()
    if is_loaded:
        play.run()
    lines = {play.product: 1, play.other_product: 2}
    old = play.shop.order(play.customer, play.address, lines, ordered_at="1999-12-31 12:00+00")
    new = play.shop.order(play.customer, play.address, lines, ordered_at="2031-01-02 12:00+00")
    play.run()

    assert play.rows(
        "SELECT order_id FROM dwh.fact_order WHERE order_id = ANY(%s)", [old, new]
    ) == [(new,)]
    assert play.value("SELECT count(*) FROM dwh.fact_order_line WHERE order_id = %s", old) == 0
    entries = play.rows(
        "SELECT object, row_key, sqlstate, reason, original_row ->> 'order_id' FROM etl.quarantine"
        " ORDER BY object, row_key"
    )
    reason = "dim_date has no full_date 1999-12-31, which ordered_date_key needs"
    assert entries == [
        ("fact_order", {"order_id": old}, "ET009", reason, str(old)),
        ("fact_order_line", {"order_id": old, "line_number": 1}, "ET009", reason, str(old)),
        ("fact_order_line", {"order_id": old, "line_number": 2}, "ET009", reason, str(old)),
    ]
    assert play.value("SELECT count(*) FROM etl.reprocessing_queue") == 0
    assert (
        play.value("SELECT rows_quarantined FROM etl.task_status WHERE task = 'fact:fact_order'")
        == 1
    )
    # Nobody tries again while nothing has changed.
    play.run()
    assert play.value("SELECT max(attempts) FROM etl.quarantine") == 1

    assert play.value("SELECT dwh.extend_calendar('1999-12-01', '1999-12-31')") == 31
    play.run()
    assert play.rows("SELECT * FROM etl.quarantine") == []
    assert (
        play.value("SELECT ordered_date_key FROM dwh.fact_order WHERE order_id = %s", old)
        == 19991231
    )
    play.assert_right()


def test_an_order_that_is_moved_out_of_the_calendar_stays_as_it_was(trading: Play) -> None:
    """The star keeps the last good state, the quarantine the new one, and a correction mends it."""
    order = trading.orders[0]
    amount = trading.value("SELECT gross_amount FROM dwh.fact_order WHERE order_id = %s", order)
    key = {"order_id": order}
    ordered_at = trading.value(
        "SELECT ordered_at FROM oceanrecords.orders WHERE order_id = %s", order
    )
    trading.shop.update("orders", key, ordered_at="1998-01-01 12:00+00")
    trading.run()
    assert trading.rows(
        "SELECT gross_amount, ordered_at, is_deleted FROM dwh.fact_order WHERE order_id = %s", order
    ) == [(amount, ordered_at, False)]
    assert trading.rows("SELECT object, sqlstate FROM etl.quarantine ORDER BY object") == [
        ("fact_order", "ET009"),
        ("fact_order_line", "ET009"),
    ]
    trading.shop.update("orders", key, ordered_at=ordered_at)
    trading.run()
    assert trading.rows("SELECT * FROM etl.quarantine") == []
    trading.assert_right()


def test_the_calendar_reaches_far_ahead(trading: Play) -> None:
    """Years from now orders still find their dates; before they would not, a check says so."""
    assert trading.value(
        "SELECT max(full_date) >= current_date + interval '20 years' FROM dwh.dim_date"
    )
    checked = "SELECT status FROM etl.run_checks('{calendar_ahead}')"
    assert trading.value(checked) == "passed"
    with trading.connect() as connection, connection.transaction(force_rollback=True):
        connection.execute(
            "DELETE FROM dwh.dim_date WHERE full_date > current_date + interval '1 year'"
        )
        assert connection.execute(checked.encode()).fetchall() == [("failed",)]
        added = connection.execute(
            "SELECT dwh.extend_calendar(current_date, current_date + 1000)"
        ).fetchone()
        assert added is not None
        assert added[0] > 600
        assert connection.execute(checked.encode()).fetchall() == [("passed",)]


def test_the_good_lines_of_a_bad_order_come_with_it_when_it_is_corrected(careless: Play) -> None:
    """An order in quarantine keeps its lines out of the star; once it is loaded, all of them are."""
    order = careless.shop.order(
        careless.customer, careless.address, {careless.product: 1, careless.other_product: 1}
    )
    careless.shop.connection.execute(
        UNLOADABLE + " AND line_number = 1", [2_000_000_000, "9999999.99", order]
    )
    careless.run()

    careless.shop.update("order_lines", {"order_id": order, "line_number": 1}, quantity=2)
    careless.run()

    assert careless.rows("SELECT object, row_key FROM etl.quarantine") == []
    careless.assert_right()


FAILING = """
    CREATE OR REPLACE VIEW source.order_lines AS
    SELECT
        order_id,
        line_number,
        product_id,
        quantity / CASE WHEN line_number = 2 AND order_id = ANY ('{}') THEN 0 ELSE 1 END AS quantity,
        unit_price,
        created_at,
        updated_at,
        row_xid
    FROM oceanrecords.order_lines
"""


@pytest.mark.parametrize("is_loaded", [False, True])
def test_a_row_on_which_the_source_fails_is_set_aside(play: Play, is_loaded: bool) -> None:
    """The source itself cannot give a row: it is found among all others by its key, which has two columns here."""
    play.open()
    if is_loaded:
        play.run()
    lines = {play.product: 1, play.other_product: 2}
    orders = [play.shop.order(play.customer, play.address, lines) for _ in range(30)]
    bad = [orders[4], orders[19]]
    play.loader.execute(FAILING.format("{" + ",".join(map(str, bad)) + "}").encode())

    play.run()

    assert play.value(
        "SELECT count(*) FROM stage.order_lines WHERE order_id = ANY(%s)", orders
    ) == (60 - 2)
    entries = play.rows(
        "SELECT row_key, sqlstate, reason, original_row FROM etl.quarantine"
        " WHERE object = 'order_lines' ORDER BY row_key"
    )
    assert [entry[0] for entry in entries] == [
        {"order_id": order, "line_number": 2} for order in bad
    ]
    assert {entry[1:3] for entry in entries} == {
        ("22012", "quantity cannot be read: division by zero")
    }
    assert entries[0][3]["product_id"] == play.other_product
    assert entries[0][3]["quantity"] is None

    play.loader.execute(FAILING.format("{}").encode())
    assert play.value("SELECT etl.retry_quarantine()") == 2
    play.run()
    assert play.rows("SELECT * FROM etl.quarantine") == []
    play.assert_right()


def test_an_order_of_an_unknown_status_is_loaded_and_waits_for_it(trading: Play) -> None:
    """The status is unknown, the order is not: it counts, carries the Unknown status, and learns it when it arrives."""
    shop = trading.shop
    order = shop.order(trading.customer, trading.address, {trading.product: 3})
    columns = trading.value(
        "SELECT string_agg(column_name, ', ' ORDER BY ordinal_position) FROM information_schema.columns"
        " WHERE table_schema = 'source' AND table_name = 'orders'"
    ).replace(
        "order_status_id",
        f"CASE WHEN order_id = {order} THEN 99 ELSE order_status_id END::smallint AS order_status_id",
    )
    trading.loader.execute(
        f"CREATE OR REPLACE VIEW source.orders AS SELECT {columns} FROM oceanrecords.orders".encode()
    )
    other = shop.order(trading.customer, trading.address, {trading.product: 1})
    trading.run()
    status = (
        "SELECT f.quantity, s.status_code FROM dwh.fact_order AS f"
        " JOIN dwh.dim_status AS s USING (status_key) WHERE order_id = %s"
    )
    unknown = trading.value("SELECT status_code FROM dwh.dim_status WHERE status_key = -1")
    assert trading.rows(status, order) == [(3, unknown)]
    assert trading.rows(status, other) == [(1, "placed")]
    assert trading.value(
        "SELECT dimension_key FROM etl.reprocessing_queue WHERE dimension = 'dim_status'"
    ) == {"order_status_id": 99}

    shop.insert("order_statuses", order_status_id=99, code="mislaid", name="Mislaid", is_lost=False)
    trading.run()
    assert trading.rows(status, order) == [(3, "mislaid")]
    assert trading.value("SELECT count(*) FROM etl.reprocessing_queue") == 0


# What a run says of rows that it has left out ---------------------------------------------------------------------------


@pytest.fixture
def strict(careless: Play) -> Play:
    careless.loader.execute(
        "UPDATE etl.setting SET value = '0' WHERE name = 'quarantine_tolerated'"
    )
    return careless


def spoil(play: Play, orders: list[int]) -> None:
    for order in orders:
        play.shop.connection.execute(UNLOADABLE, [2_000_000_000, "9999999.99", order])


def test_a_run_that_leaves_rows_out_is_partial_and_says_so(strict: Play) -> None:
    """The next one, which leaves none out, has succeeded: what waits is told by the status."""
    strict.loader.execute("DELETE FROM etl.alert")
    bad = place_orders(strict, 1)
    spoil(strict, bad)
    strict.run(expect="partial")
    assert strict.failures() == []
    count = strict.value("SELECT rows_quarantined FROM etl.run_status ORDER BY run_id DESC LIMIT 1")
    assert count == strict.value("SELECT count(*) FROM etl.quarantine") > 0
    assert "in quarantine: 1 of fact_order" in strict.value("SELECT message FROM etl.alert")
    strict.run()
    place_orders(strict, 1)
    strict.run()
    assert strict.value("SELECT sum(row_count) FROM etl.quarantine_status") == count
    # Tried again in vain, it is left out again.
    strict.loader.execute("SELECT etl.retry_quarantine()")
    strict.run(expect="partial")


def test_a_few_rows_may_be_left_out_where_the_setting_says_so(strict: Play) -> None:
    strict.loader.execute("UPDATE etl.setting SET value = '1' WHERE name = 'quarantine_tolerated'")
    bad = place_orders(strict, 2)
    spoil(strict, bad[:1])
    strict.run()
    spoil(strict, bad[1:])
    strict.run()
    strict.loader.execute("SELECT etl.retry_quarantine()")
    strict.run(expect="partial")


def test_accepted_rows_are_left_out_by_a_run_that_succeeds(strict: Play) -> None:
    """By key and reason: for another reason, or when it was taken back, the row counts again."""
    (bad,) = place_orders(strict, 1)
    spoil(strict, [bad])
    strict.run(expect="partial")
    accept = "SELECT sum(etl.accept_quarantine(q.object, q.row_key, %s)) FROM etl.quarantine AS q"
    waiting = strict.value("SELECT count(*) FROM etl.quarantine")
    assert strict.value(accept, True) == waiting
    assert strict.value(accept, True) == 0
    assert strict.value("SELECT sum(accepted) FROM etl.quarantine_status") == waiting
    assert strict.value("SELECT DISTINCT accepted_by FROM etl.quarantine") == strict.value(
        "SELECT session_user::text"
    )
    strict.loader.execute("SELECT etl.retry_quarantine()")
    strict.run()
    assert strict.value(accept, False) == waiting
    strict.loader.execute("SELECT etl.retry_quarantine()")
    strict.run(expect="partial")
    strict.value(accept, True)
    strict.loader.execute("UPDATE etl.quarantine SET reason = 'another one'")
    strict.loader.execute("SELECT etl.retry_quarantine()")
    strict.run(expect="partial")
    with pytest.raises(psycopg.Error, match=r"there is no row .* in quarantine") as refused:
        strict.loader.execute("SELECT etl.accept_quarantine('fact_order', '{}')")
    assert refused.value.sqlstate == "ET002"
    with pytest.raises(psycopg.Error) as unknown:
        strict.loader.execute("SELECT etl.accept_quarantine('nonsense')")
    assert unknown.value.sqlstate == "ET002"


def test_a_small_table_does_not_lose_all_its_rows(strict: Play) -> None:
    """More than ten, and more than the share: the load fails, shows some, and succeeds when they are mended."""
    bad = place_orders(strict, 12)
    spoil(strict, bad)
    strict.run(expect="partial")
    task = strict.row("SELECT * FROM etl.task_status WHERE task = 'fact:fact_order'")
    assert (task["status"], task["sqlstate"], task["rows_quarantined"]) == ("failed", "ET008", 0)
    assert "12 of 12 rows of fact_order cannot be loaded" in task["message"]
    examples = "SELECT count(*) FROM etl.quarantine WHERE object = 'fact_order'"
    assert strict.value(examples) == 10
    strict.run(expect="partial")
    assert strict.value(examples) == 10
    strict.loader.execute(
        "UPDATE etl.setting SET value = '100' WHERE name = 'quarantine_share_limit'"
    )
    strict.run(expect="partial")
    assert strict.value(examples) == 12
    for order in bad:
        strict.shop.connection.execute(UNLOADABLE, [3, "7.50", order])
    strict.run()
    assert strict.rows("SELECT * FROM etl.quarantine") == []
    strict.assert_right()
