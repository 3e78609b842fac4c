"""The recomputation agrees with a right warehouse, and speaks up about every kind of wrong one."""

from __future__ import annotations

import pytest

from tests.warehouse.play import Play
from tests.warehouse.recomputation import broken_invariants, compare


def test_an_empty_shop_gives_empty_stars(play: Play) -> None:
    play.run()
    play.assert_right()


def test_a_loaded_shop_is_as_recomputed(trading: Play) -> None:
    trading.assert_right()
    assert trading.value("SELECT count(*) FROM dwh.fact_order_line") == 1


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        ("UPDATE dwh.fact_order SET quantity = 3", "dwh.fact_order (1) quantity: expected 2"),
        ("DELETE FROM dwh.fact_order_line", "dwh.fact_order_line (1, 1): row is missing"),
        ("UPDATE dwh.fact_order SET customer_key = -1", "customer_key: expected (1, None)"),
        ("UPDATE dwh.fact_order SET shipped_date_key = 20250101", "shipped_date_key: expected Not"),
        ("UPDATE dwh.dim_product SET price = 11", "dwh.dim_product (1, None) price: expected 10"),
        ("UPDATE dwh.dim_customer SET full_name = ''", "full_name: expected Ada Byron"),
        (
            "UPDATE dwh.dim_product SET valid_to = '2025-06-01', is_current = false"
            " WHERE product_id = 1",
            "valid_to: expected None, actual 2025-06-01",
        ),
        ("UPDATE stage.orders SET payment_method_id = 2", "stage.orders (1,) payment_method_id"),
        ("UPDATE stage.products SET deleted_at = now()", "stage.products (1): row is missing"),
        (
            "UPDATE dwh.agg_order_daily SET sales = 7",
            "dwh.agg_order_daily (2025-03-11, Germany) sales: expected 20.00, actual 7",
        ),
        ("DELETE FROM dwh.agg_product_monthly", "dwh.agg_product_monthly (2025-03-01, Germany"),
        ("UPDATE dwh.agg_customer_quarterly SET orders = 2", "orders: expected 1, actual 2"),
        (
            "INSERT INTO etl.reprocessing_queue (fact, fact_key, key_column, dimension,"
            " dimension_key, run_id) VALUES ('fact_order', '{\"order_id\": 1}', 'customer_key',"
            " 'dim_customer', '{\"customer_id\": 1}', 1)",
            "etl.reprocessing_queue (fact_order, (1), customer_key): row is too much",
        ),
    ],
)
def test_every_kind_of_damage_is_named(trading: Play, damage: str, complaint: str) -> None:
    """A comparison that cannot fail proves nothing: each damage is found, and named."""
    trading.loader.execute(damage.encode())
    assert any(complaint in line for line in compare(trading.loader)), compare(trading.loader)


def test_broken_sums_are_an_invariant(trading: Play) -> None:
    trading.loader.execute("UPDATE dwh.fact_order SET gross_amount = gross_amount + 1")
    assert broken_invariants(trading.loader, settled=True) == [
        "an order is not the sum of its lines: fact_order 1"
    ]
