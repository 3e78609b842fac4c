"""Actions and rounds: each alone, many together, by several at once, on an empty system."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import Result
from typer.testing import CliRunner

from base.errors import UserError
from driver.cli import app
from simulator import actions
from simulator.actions import TickPlan, TickResult, perform, tick
from simulator.actions.rounds import ACTIONS_OF_PLAN
from simulator.burst import burst
from tests.simulator.test_seed import INVARIANTS, wait_until
from tests.support.database import Database

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

Seeded = psycopg.Connection[Any]
CLOCK = datetime(2026, 1, 20, 9, tzinfo=UTC)


def one(connection: Seeded, query: str, *parameters: Any) -> Any:
    row = connection.execute(query.encode(), parameters or None).fetchone()
    assert row is not None
    return row[0] if len(row) == 1 else row


def held(connection: Seeded) -> None:
    """Assert that everything that must hold at every moment does."""
    assert connection.execute(INVARIANTS.encode()).fetchall() == []


# Each action alone -------------------------------------------------------------------------------


def test_place_order(seeded: Seeded) -> None:
    played = perform(seeded, actions.place_order, random.Random(1))
    assert played is not None
    order = played.facts["order_id"]
    assert order == 1501
    assert one(
        seeded,
        "SELECT order_status_id, customer_id, address_id FROM oceanrecords.orders WHERE order_id = %s",
        order,
    ) == (1, played.facts["customer_id"], played.facts["address_id"])
    lines = seeded.execute(
        "SELECT line_number, product_id, unit_price, price FROM oceanrecords.order_lines "
        "INNER JOIN oceanrecords.products USING (product_id) WHERE order_id = %s ORDER BY 1",
        (order,),
    ).fetchall()
    assert [line[0] for line in lines] == list(range(1, len(lines) + 1))
    assert [line[1] for line in lines] == played.facts["product_ids"]
    assert all(line[2] == line[3] for line in lines)
    held(seeded)


def test_place_order_of_a_customer_for_products(seeded: Seeded) -> None:
    with seeded.transaction(), seeded.cursor() as cursor:
        played = actions.place_order(cursor, random.Random(1), customer_id=5, product_ids=[9, 4])
    assert played.facts["customer_id"] == 5
    assert played.facts["product_ids"] == [4, 9]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"customer_id": 999_999}, "Customer 999999 does not exist"),
        ({"customer_id": 0}, "Customer 0 does not exist"),
        ({"product_ids": [1, 999_999]}, "Product 999999 does not exist"),
    ],
)
def test_place_order_names_what_is_missing(
    seeded: Seeded, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=told), seeded.transaction(), seeded.cursor() as cursor:
        actions.place_order(cursor, random.Random(1), **options)
    assert one(seeded, "SELECT count(*) FROM oceanrecords.orders") == 1500


def test_place_order_of_a_customer_without_address(seeded: Seeded) -> None:
    seeded.execute(
        "INSERT INTO oceanrecords.customers (first_name, last_name, email) VALUES ('A', 'B', 'a@b.cd')"
    )
    last = one(seeded, "SELECT max(customer_id) FROM oceanrecords.customers")
    with pytest.raises(UserError, match="has no address"), seeded.cursor() as cursor:
        actions.place_order(cursor, random.Random(1), customer_id=last)


def test_inactive_products_are_not_ordered(seeded: Seeded) -> None:
    seeded.execute("UPDATE oceanrecords.products SET is_active = product_id % 2 = 0")
    rng = random.Random(1)
    ordered: set[int] = set()
    for _ in range(10):
        played = perform(seeded, actions.place_order, rng)
        assert played is not None
        ordered.update(played.facts["product_ids"])
    assert {number % 2 for number in ordered} == {0}
    seeded.execute("UPDATE oceanrecords.products SET is_active = false")
    with pytest.raises(UserError, match="no product that can be ordered"):
        perform(seeded, actions.place_order, rng)


def test_an_order_has_the_price_of_its_moment_when_that_changes_meanwhile(
    seeded: Seeded, database: Database
) -> None:
    """A price that is changed, but not committed yet, holds an order up; the order then has the new one."""
    pricing = database.connect(autocommit=False)
    pricing.execute("UPDATE oceanrecords.products SET price = 77 WHERE product_id = 3")
    ordering = subprocess.Popen(
        [*PROGRAM, "place-order", "--product", "3", "--json"],
        env=os.environ | {"OCEANRECORDS_DSN": database.dsn},
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_until(
        database,
        "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'",
    )
    pricing.commit()
    told, _ = ordering.communicate(timeout=60)
    assert ordering.returncode == 0
    order = json.loads(told)[0]["order_id"]
    assert one(
        seeded, "SELECT unit_price FROM oceanrecords.order_lines WHERE order_id = %s", order
    ) == Decimal(77)
    held(seeded)


def test_update_order_plays_a_whole_life(seeded: Seeded) -> None:
    perform(seeded, actions.place_order, random.Random(1))
    seen = []
    for _ in range(4):
        with seeded.transaction(), seeded.cursor() as cursor:
            played = actions.update_order(cursor, random.Random(3), order_id=1501)
        assert played is not None
        seen.append(played.facts["to"])
    assert seen == ["paid", "shipped", "delivered", "refunded"]
    with pytest.raises(UserError, match="Order 1501 is refunded"), seeded.cursor() as cursor:
        actions.update_order(cursor, random.Random(3), order_id=1501)


def test_update_order_to_a_status(seeded: Seeded) -> None:
    perform(seeded, actions.place_order, random.Random(1))
    with seeded.cursor() as cursor:
        played = actions.update_order(cursor, random.Random(1), order_id=1501, to="cancelled")
        assert played is not None
        assert played.facts == {"order_id": 1501, "from": "placed", "to": "cancelled"}
        with pytest.raises(psycopg.Error) as refused:
            actions.update_order(cursor, random.Random(1), order_id=1501, to="paid")
        assert refused.value.sqlstate == "OR001"
        with pytest.raises(UserError, match='Status "gone" does not exist'):
            actions.update_order(cursor, random.Random(1), order_id=1501, to="gone")
        with pytest.raises(UserError, match="Order 999999 does not exist"):
            actions.update_order(cursor, random.Random(1), order_id=999999)


def test_update_order_finds_an_order_that_can_enter_the_status(seeded: Seeded) -> None:
    for status, before in (("cancelled", (1, 2)), ("delivered", (3,)), ("refunded", (4,))):
        with seeded.transaction(), seeded.cursor() as cursor:
            played = actions.update_order(cursor, random.Random(5), to=status)
        assert played is not None
        assert played.facts["to"] == status
        assert before


def test_orders_that_nobody_can_move_are_no_error(seeded: Seeded) -> None:
    seeded.execute("DELETE FROM oceanrecords.orders WHERE order_status_id <> 5")
    assert perform(seeded, actions.update_order, random.Random(1)) is None
    assert perform(seeded, actions.amend_order, random.Random(1)) is None


def test_orders_of_the_future_wait_for_their_time(seeded: Seeded) -> None:
    """An order cannot be paid before it was placed, whatever the clock says."""
    seeded.execute("DELETE FROM oceanrecords.orders WHERE order_status_id <> 1")
    early = datetime(2025, 1, 1, tzinfo=UTC)
    assert perform(seeded, actions.update_order, random.Random(1), early) is None


def test_amend_order_changes_or_takes_out_a_line(seeded: Seeded) -> None:
    lines = one(seeded, "SELECT count(*) FROM oceanrecords.order_lines")
    kinds = set()
    rng = random.Random(2)
    for _ in range(12):
        played = perform(seeded, actions.amend_order, rng)
        assert played is not None
        kinds.add(played.facts["quantity"] is None)
    assert kinds == {True, False}
    gone = lines - one(seeded, "SELECT count(*) FROM oceanrecords.order_lines")
    assert gone == one(seeded, "SELECT count(*) FROM oceanrecords.deleted_rows")
    held(seeded)


def test_add_address_new_and_shared(seeded: Seeded) -> None:
    before = one(seeded, "SELECT count(*) FROM oceanrecords.addresses")
    with seeded.transaction(), seeded.cursor() as cursor:
        new = actions.add_address(cursor, random.Random(1), customer_id=8, shared=False)
        shared = actions.add_address(cursor, random.Random(1), customer_id=8, shared=True)
    assert one(seeded, "SELECT count(*) FROM oceanrecords.addresses") == before + 1
    assert new.facts["shared"] is False
    assert shared.facts["shared"] is True
    assert one(
        seeded,
        "SELECT count(*) > 1 FROM oceanrecords.customers_addresses WHERE address_id = %s",
        shared.facts["address_id"],
    )
    countries = seeded.execute(
        "SELECT DISTINCT country_code FROM oceanrecords.addresses INNER JOIN "
        "oceanrecords.customers_addresses USING (address_id) WHERE customer_id = 8 "
        "AND address_id <> %s",
        (shared.facts["address_id"],),
    ).fetchall()
    assert len(countries) == 1
    with pytest.raises(UserError, match="Customer 999999"), seeded.cursor() as cursor:
        actions.add_address(cursor, random.Random(1), customer_id=999_999)


def test_a_lone_customer_gets_a_new_address_where_none_can_be_shared(shop: Database) -> None:
    shop.execute(
        "DELETE FROM oceanrecords.customers WHERE customer_id = 2; "
        "DELETE FROM oceanrecords.addresses WHERE address_id = 2"
    )
    connection = shop.connect()
    with connection.cursor() as cursor:
        played = actions.add_address(cursor, random.Random(1), customer_id=1, shared=True)
    assert played.facts["shared"] is False


def test_change_price(seeded: Seeded) -> None:
    with seeded.transaction(), seeded.cursor() as cursor:
        played = actions.change_price(
            cursor, random.Random(1), product_id=4, price=Decimal("24.50")
        )
        assert played is not None
        other = actions.change_price(cursor, random.Random(1))
        assert other is not None
    assert one(seeded, "SELECT price FROM oceanrecords.products WHERE product_id = 4") == Decimal(
        "24.5"
    )
    assert other.facts["from"] != other.facts["to"]
    assert one(
        seeded,
        "SELECT price FROM oceanrecords.product_prices WHERE product_id = 4 "
        "ORDER BY valid_from DESC LIMIT 1",
    ) == Decimal("24.5")
    for price in (Decimal(0), Decimal(-1), Decimal(1_000_001)):
        with pytest.raises(UserError, match="price cannot be"), seeded.cursor() as cursor:
            actions.change_price(cursor, random.Random(1), product_id=4, price=price)
    with pytest.raises(UserError, match="Product 999999"), seeded.cursor() as cursor:
        actions.change_price(cursor, random.Random(1), product_id=999_999)


def test_a_launched_product_is_promoted(seeded: Seeded) -> None:
    launched = perform(seeded, actions.launch_product, random.Random(1))
    assert launched is not None
    sold = 0
    rng = random.Random(1)
    for _ in range(20):
        played = perform(seeded, actions.place_order, rng)
        assert played is not None
        sold += launched.facts["product_id"] in played.facts["product_ids"]
    assert sold >= 3


@pytest.mark.parametrize("name", sorted(ACTIONS_OF_PLAN))
def test_each_action_changes_its_table_and_keeps_all_relations(seeded: Seeded, name: str) -> None:
    table, kind = {
        "suppliers": ("suppliers", "new"),
        "products": ("products", "new"),
        "customers": ("customers", "new"),
        "orders": ("orders", "new"),
        "moves": ("orders", "changed"),
        "amendments": ("order_lines", "amended"),
        "addresses": ("customers_addresses", "new"),
        "prices": ("products", "changed"),
        "corrections": ("customers", "changed"),
        "relocations": ("addresses", "changed"),
        "reclassifications": ("products", "changed"),
    }[name]
    count = f"SELECT count(*) FROM oceanrecords.{table}"
    before = one(seeded, count)
    rng = random.Random(3)
    with seeded.transaction():
        played = ACTIONS_OF_PLAN[name][0](seeded.cursor(), rng)
        assert played is not None
        touched = one(seeded, f"{count} WHERE row_xid = pg_current_xact_id()")
        gone = one(
            seeded,
            "SELECT count(*) FROM oceanrecords.deleted_rows WHERE row_xid = pg_current_xact_id()",
        )
    assert touched + gone == 1
    assert one(seeded, count) - before == {"new": 1, "changed": 0, "amended": -gone}[kind]
    held(seeded)


# Rounds ------------------------------------------------------------------------------------------


def test_a_round_does_what_its_plan_says(seeded: Seeded) -> None:
    plan = TickPlan(
        orders=9, moves=8, amendments=2, addresses=3, prices=4, customers=2, corrections=1,
        relocations=2, reclassifications=1, products=2, suppliers=1,
    )  # fmt: skip
    played: list[str] = []
    result = tick(seeded, plan, random.Random(5), on_action=lambda one: played.append(one.action))
    assert result.done == {
        "place-order": 9, "update-order": 8, "amend-order": 2, "add-address": 3, "change-price": 4,
        "add-customer": 2, "correct-customer": 1, "move-address": 2, "reclassify-product": 1,
        "launch-product": 2, "add-supplier": 1,
    }  # fmt: skip
    assert played[:3] == ["add-supplier", "launch-product", "launch-product"]
    assert result.actions == len(played) == 35
    held(seeded)


def test_broken_numbers_are_chances() -> None:
    plan = TickPlan(orders=0.25)
    assert plan.orders == 0.25
    from simulator.actions.rounds import _number

    rng = random.Random(1)
    drawn = [_number(2.25, rng) for _ in range(2000)]
    assert set(drawn) == {2, 3}
    assert 2.2 < sum(drawn) / len(drawn) < 2.3


def test_results_add_up() -> None:
    total = TickResult()
    total += TickResult(1, {"a": 1, "b": 2})
    total += TickResult(1, {"b": 3})
    assert total == TickResult(2, {"a": 1, "b": 5})
    assert total.actions == 6


@pytest.mark.parametrize("options", [{"orders": -1}, {"moves": float("nan")}, {"prices": 1e9}])
def test_a_plan_that_cannot_be_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match="A round cannot have"):
        TickPlan(**options)


def test_many_rounds_keep_all_relations(seeded: Seeded) -> None:
    rng = random.Random(8)
    plan = TickPlan(products=1, suppliers=0.5, reclassifications=1, relocations=2, amendments=3)
    for _ in range(8):
        tick(seeded, plan, rng)
    held(seeded)


def test_a_clock_is_followed_by_everything(seeded: Seeded) -> None:
    plan = TickPlan(moves=40, span=timedelta(hours=6))
    for day in range(5):
        tick(seeded, plan, random.Random(day), CLOCK + timedelta(days=day))
    held(seeded)
    assert one(
        seeded,
        """
        SELECT bool_and(created_at >= %s AND created_at < %s) FROM oceanrecords.orders
        WHERE order_id > 1500
        """,
        CLOCK,
        CLOCK + timedelta(days=4, hours=6),
    )
    assert one(
        seeded,
        "SELECT count(DISTINCT (delivered_at AT TIME ZONE 'UTC')::date) = 5 "
        "FROM oceanrecords.orders WHERE delivered_at > %s",
        CLOCK,
    )
    assert one(seeded, "SELECT max(valid_from) < now() FROM oceanrecords.product_prices")


def test_the_clock_of_a_round_leaves_the_session_alone(seeded: Seeded) -> None:
    tick(seeded, TickPlan(), random.Random(1), CLOCK)
    assert one(seeded, "SELECT abs(extract(epoch FROM oceanrecords.business_time() - now())) < 60")


def test_the_business_never_goes_back(seeded: Seeded) -> None:
    with pytest.raises(UserError, match="the business has come to 2026-01-14"):
        tick(seeded, TickPlan(), random.Random(1), datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(UserError, match="has no time zone"):
        tick(seeded, TickPlan(), random.Random(1), datetime(2026, 3, 1))


def test_a_business_played_into_the_future_goes_on_from_there(seeded: Seeded) -> None:
    future = datetime(2090, 1, 1, 9, tzinfo=UTC)
    tick(seeded, TickPlan(), random.Random(1), future)
    tick(seeded, TickPlan(), random.Random(2))
    assert (
        one(seeded, "SELECT min(ordered_at) FROM oceanrecords.orders WHERE order_id > 1512")
        > future
    )
    held(seeded)


def test_the_same_seed_plays_the_same(new_database: Callable[..., Database]) -> None:
    from simulator.seed import seed
    from tests.simulator.conftest import END

    told: list[list[str]] = []
    for _ in range(2):
        connection = new_database().connect()
        seed(connection, orders=300, months=3, seed=1, until=END)
        told.append([])
        for day in range(3):
            tick(
                connection,
                TickPlan(),
                random.Random(day),
                CLOCK + timedelta(days=day),
                on_action=lambda one: told[-1].append(one.summary),
            )
    assert told[0] == told[1]
    assert len(told[0]) > 100


# Several at once, and the end --------------------------------------------------------------------

PROGRAM = [str(Path(sys.executable).with_name("oceanrecords")), "simulate"]


def stream(database: Database, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROGRAM, "stream", "--every", "0ms", "--json", *arguments],
        env=os.environ | {"OCEANRECORDS_DSN": database.dsn},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_simulators_at_once_do_no_harm(shop: Database) -> None:
    """In a shop with two customers and two products, they meet all the time."""
    before = shop.value("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    plan = ("--rounds", "8", "--prices", "20", "--moves", "30", "--amendments", "10")
    both = [
        stream(shop, *plan, "--relocations", "5", "--corrections", "5", "--seed", str(seed))
        for seed in (1, 2)
    ]
    totals = []
    for process in both:
        told, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        totals.append(json.loads(told))
    assert [total["rounds"] for total in totals] == [8, 8]
    placed = sum(total["done"]["place-order"] for total in totals)
    assert placed == 2 * 8 * 12
    assert shop.value("SELECT count(*) FROM oceanrecords.orders") == placed + 1
    violations = {row["violation"] for row in shop.rows(INVARIANTS)}
    # The hand-made order is older than its customer, address and products.
    assert violations <= {
        "an order line without the price of its moment",
        "an order before its customer",
        "an order before the customer had its address",
        "an order line before its product was launched",
    }
    assert {row["id"] for row in shop.rows(INVARIANTS)} == {1}
    assert (
        shop.value("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        == before
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stream_ends_cleanly(seeded: Seeded, database: Database, number: signal.Signals) -> None:
    process = stream(database)
    wait_until(database, "SELECT count(*) >= 1530 FROM oceanrecords.orders")
    process.send_signal(number)
    told, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    total = json.loads(told)
    placed = one(seeded, "SELECT count(*) FROM oceanrecords.orders") - 1500
    assert total["done"]["place-order"] == placed
    held(seeded)


def test_a_stream_that_waits_ends_at_once(seeded: Seeded, database: Database) -> None:
    process = stream(database, "--every", "1h")
    wait_until(database, "SELECT count(*) >= 1512 FROM oceanrecords.orders")
    process.send_signal(signal.SIGINT)
    told, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert json.loads(told)["rounds"] == 1


def test_a_second_ctrl_c_takes_the_action_back(seeded: Seeded, database: Database) -> None:
    """An action that waits for somebody else's lock is given up."""
    blocker = database.connect(autocommit=False)
    blocker.execute("SELECT FROM oceanrecords.products FOR UPDATE")
    process = stream(database, "--moves", "0", "--prices", "0", "--addresses", "0")
    wait_until(
        database,
        "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND locktype IN ('transactionid', 'tuple')",
    )
    # Signals that come before the first one is handled count as one: go on, as impatient people do.
    for _ in range(60):
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1)
            break
    _, errors = process.communicate(timeout=1)
    assert process.returncode == 130
    assert "Traceback" not in errors
    blocker.rollback()
    held(seeded)


# The command line --------------------------------------------------------------------------------


def invoke(database: Database, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["--dsn", database.dsn, "simulate", *arguments])


@pytest.mark.parametrize(
    "arguments",
    [
        ("tick",),
        ("stream", "--rounds", "1"),
        ("place-order",),
        ("update-order",),
        ("add-address",),
        ("change-price",),
        ("burst",),
    ],
)
def test_an_empty_system_says_to_seed_first(database: Database, arguments: tuple[str, ...]) -> None:
    finished = invoke(database, *arguments)
    assert finished.exit_code == 1
    assert "oceanrecords simulate seed" in finished.stderr
    assert finished.stdout == ""
    assert "Traceback" not in finished.stderr


def test_each_command_answers(seeded: Seeded, database: Database) -> None:
    for arguments, action in (
        (("place-order", "--count", "3"), "place-order"),
        (("update-order", "--count", "2"), "update-order"),
        (("add-address", "--shared"), "add-address"),
        (("change-price", "--product", "5", "--price", "12.34"), "change-price"),
    ):
        finished = invoke(database, *arguments, "--json", "--seed", "1")
        assert finished.exit_code == 0, finished.stderr
        answer = json.loads(finished.stdout)
        assert {one["action"] for one in answer} == {action}
        finished = invoke(database, arguments[0])
        assert finished.exit_code == 0, finished.stderr
        assert finished.stdout.strip()
    answer = json.loads(invoke(database, "tick", "--json", "--orders", "2", "--moves", "1").stdout)
    assert answer["done"]["place-order"] == 2
    assert "Played 1 round: " in invoke(database, "tick").stdout
    told = invoke(database, "stream", "--every", "0ms", "--rounds", "2").stdout
    assert "round 2" in told
    assert "Played 2 rounds" in told
    held(seeded)


@pytest.mark.parametrize(
    "arguments",
    [
        ("tick", "--clock", "tomorrow"),
        ("tick", "--orders", "-1"),
        ("tick", "--span", "long"),
        ("stream", "--every", "never"),
        ("stream", "--rounds", "0"),
        ("change-price", "--price", "NaN"),
        ("change-price", "--price", "-3"),
        ("place-order", "--count", "0"),
        ("update-order", "--to", "gone"),
        ("burst", "--percent", "0"),
        ("burst", "--percent", "101"),
    ],
)
def test_wrong_usage_is_refused(
    seeded: Seeded, database: Database, arguments: tuple[str, ...]
) -> None:
    finished = invoke(database, *arguments)
    # A name that does not exist is no wrong usage of the option.
    assert finished.exit_code == (1 if "gone" in arguments else 2), finished.stderr
    assert finished.stderr.strip()
    assert "Traceback" not in finished.stderr


# Bursts ------------------------------------------------------------------------------------------


def test_a_burst_changes_its_share(seeded: Seeded) -> None:
    addresses = one(seeded, "SELECT count(*) FROM oceanrecords.addresses")
    result = burst(seeded, 0.1, seed=4)
    assert result.new_orders == 75
    assert result.new_order_lines > 75
    assert result.moved_orders + result.refunded_orders == 75
    assert result.changed_prices == -(
        -one(seeded, "SELECT count(*) FROM oceanrecords.products") // 10
    )
    assert result.moved_addresses == -(-addresses // 10)
    assert one(seeded, "SELECT count(*) FROM oceanrecords.orders") == 1575
    held(seeded)


def test_a_burst_of_everything_holds(seeded: Seeded) -> None:
    result = burst(seeded, 1, seed=4)
    assert result.moved_orders + result.refunded_orders == 750
    held(seeded)


def test_a_burst_leaves_alone_what_others_work_on(seeded: Seeded, database: Database) -> None:
    other = database.connect(autocommit=False)
    other.execute("SELECT FROM oceanrecords.addresses WHERE address_id <= 10 FOR UPDATE")
    products = one(seeded, "SELECT count(*) FROM oceanrecords.products")
    seeded.execute("SET lock_timeout = '10s'")
    result = burst(seeded, 1, seed=4)
    assert result.changed_prices == products
    assert result.moved_addresses == one(seeded, "SELECT count(*) - 10 FROM oceanrecords.addresses")


@pytest.mark.parametrize("fraction", [0, -0.1, 1.5, float("nan")])
def test_a_burst_of_an_impossible_share_is_refused(seeded: Seeded, fraction: float) -> None:
    with pytest.raises(UserError, match="cannot change"):
        burst(seeded, fraction, seed=1)
