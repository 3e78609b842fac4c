"""Orders: placed, moved on in their life, amended."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from base import output
from base.errors import UserError, unknown
from simulator.actions.common import (
    Cursor,
    Played,
    any_key,
    ask,
    customer_of,
    do,
    draw,
    empty_system,
    key_ranges,
)
from simulator.world import COUNTRIES

_LINES = ((1, 20), (2, 24), (3, 22), (4, 15), (5, 9), (6, 5), (7, 3), (8, 2))
_QUANTITIES = ((1, 86), (2, 9), (3, 3), (4, 1), (5, 1))
_PAYMENT_METHODS = ((1, 42), (2, 27), (3, 16), (4, 9), (5, 6))
_OPEN = (1, 2, 3)
_NEXT = {1: 2, 2: 3, 3: 4, 4: 6}
_CANCELLED = 5
_SHARE_CANCELLED = {1: 0.06, 2: 0.03}
_SHARE_REFUNDED = 0.03
_TRANSIT_HOURS = json.dumps({country.code: country.transit_hours for country in COUNTRIES})


def place_order(
    cursor: Cursor,
    rng: random.Random,
    *,
    customer_id: int | None = None,
    product_ids: Sequence[int] | None = None,
) -> Played:
    """Place an order: best-sellers and new products often, at the price of the moment.

    Parameters:
        customer_id: who orders; anybody when None.
        product_ids: what is ordered; whatever when None.

    Raises:
        UserError: if the system is empty, or the customer or a product cannot order or be ordered.
    """
    keys = key_ranges(cursor)
    wanted = any_key(rng, keys, "customer") if customer_id is None else customer_id
    addresses = ask(cursor, "addresses_of_customer", from_customer=wanted)
    if customer_id is not None and (not addresses or addresses[0]["customer_id"] != customer_id):
        customer_of(cursor, customer_id)
        raise UserError(
            f"Customer {customer_id} has no address to send an order to.",
            f"oceanrecords simulate add-address --customer {customer_id}",
        )
    if not addresses:
        raise empty_system()
    address = rng.choice(addresses)
    basket = product_ids or _basket(cursor, rng, keys)
    products = ask(cursor, "hold_products", product_ids=sorted(basket))
    if not products and product_ids is None:
        # What was popular may not be sold any more.
        products = ask(cursor, "hold_products", product_ids=_any_products(cursor, rng, keys, 1))
    missing = set(product_ids or ()) - {product["product_id"] for product in products}
    if missing:
        raise UserError(f"Product {min(missing)} does not exist, or is not sold any more.")
    if not products:
        raise UserError(
            "There is no product that can be ordered.", "Set is_active of some of them."
        )
    quantities = [draw(rng, _QUANTITIES) for _ in products]
    order = ask(
        cursor,
        "insert_order",
        customer_id=address["customer_id"],
        address_id=address["address_id"],
        payment_method_id=draw(rng, _PAYMENT_METHODS),
    )[0]
    do(
        cursor,
        "insert_order_lines",
        order_id=order["order_id"],
        product_ids=[product["product_id"] for product in products],
        quantities=quantities,
        unit_prices=[product["price"] for product in products],
    )
    amount = sum(
        (
            product["price"] * quantity
            for product, quantity in zip(products, quantities, strict=True)
        ),
        Decimal(0),
    )
    return Played(
        "place-order",
        f"order {order['order_id']} of customer {address['customer_id']}: "
        f"{output.plural(len(products), 'line')}, {amount:,.2f} €",
        {
            "order_id": order["order_id"],
            "customer_id": address["customer_id"],
            "address_id": address["address_id"],
            "ordered_at": order["ordered_at"],
            "product_ids": [product["product_id"] for product in products],
            "amount": amount,
        },
    )


def _basket(cursor: Cursor, rng: random.Random, keys: dict[str, Any]) -> set[int]:
    """Choose different products: from late orders, from promotions, from the long tail."""
    size = draw(rng, _LINES)
    promoted = [row["product_id"] for row in ask(cursor, "promoted_products")]
    basket: set[int] = set()
    order_keys: list[int] = []
    others = 0
    for _ in range(size):
        chance = rng.random()
        if promoted and chance < 0.3:
            basket.add(rng.choice(promoted))
        elif keys["last_order"] is not None and chance < 0.8:
            spread = keys["last_order"] - keys["first_order"]
            order_keys.append(keys["last_order"] - int(spread * rng.random() ** 2))
        else:
            others += 1
    if order_keys:
        popular = ask(cursor, "popular_products", order_keys=order_keys)
        basket.update(row["product_id"] for row in popular)
    if others:
        basket.update(_any_products(cursor, rng, keys, others))
    return basket


def _any_products(
    cursor: Cursor, rng: random.Random, keys: dict[str, Any], number: int
) -> list[int]:
    """Return products that are sold, as many as asked for or a few less."""
    drawn = [any_key(rng, keys, "product") for _ in range(number)]
    rows = ask(cursor, "any_products", product_keys=drawn)
    if not rows:
        rows = ask(cursor, "any_products", product_keys=[keys["first_product"]])
    return [row["product_id"] for row in rows]


def update_order(
    cursor: Cursor, rng: random.Random, *, order_id: int | None = None, to: str | None = None
) -> Played | None:
    """Move an order on in its life.

    Parameters:
        order_id: which order; one that has waited long and is not locked if None.
        to: code of the status that it enters; what usually comes next when None.

    Returns:
        What was done, or None when no order can be moved.

    Raises:
        UserError: if the system is empty, order or status do not exist, or the order's life has
            ended.
        psycopg.Error: if the lifecycle does not allow the change (SQLSTATE OR001).
    """
    key_ranges(cursor)
    statuses = {row["order_status_id"]: row for row in ask(cursor, "statuses")}
    target = _status(statuses, to) if to is not None else None
    if order_id is None:
        candidates = [
            status
            for status in rng.sample((*_OPEN, 4), 4)
            if status != 4 or target == 6 or rng.random() < _SHARE_REFUNDED * 4
        ]
        if target is not None:
            candidates = [s for s in candidates if target in statuses[s]["followers"]]
        held = _hold_some_order(cursor, rng, candidates)
        if held is None:
            return None
        order_id, status = held
    else:
        rows = ask(cursor, "hold_order", order_id=order_id)
        if not rows:
            raise UserError(f"Order {order_id} does not exist.")
        status = rows[0]["order_status_id"]
    if target is None:
        if not statuses[status]["followers"]:
            raise UserError(
                f"Order {order_id} is {statuses[status]['code']}: its life has ended.",
                "Choose another one, or leave --order out.",
            )
        target = _CANCELLED if rng.random() < _SHARE_CANCELLED.get(status, 0) else _NEXT[status]
    do(cursor, "move_order", order_id=order_id, status_id=target)
    before, after = statuses[status]["code"], statuses[target]["code"]
    return Played(
        "update-order",
        f"order {order_id}: {before} → {after}",
        {"order_id": order_id, "from": before, "to": after},
    )


def _hold_some_order(
    cursor: Cursor, rng: random.Random, candidates: Sequence[int]
) -> tuple[int, int] | None:
    for status in candidates:
        if status in _OPEN:
            rows = ask(cursor, "hold_open_order", status_id=status, transit_hours=_TRANSIT_HOURS)
        else:
            keys = key_ranges(cursor)
            if keys["last_order"] is None:
                return None
            spread = keys["last_order"] - keys["first_order"]
            from_order = keys["last_order"] - int(spread * rng.random() * 0.1) - 500
            rows = ask(cursor, "hold_delivered_order", from_order=from_order)
        if rows:
            return rows[0]["order_id"], status
    return None


def _status(statuses: dict[int, dict[str, Any]], code: str) -> int:
    for number, row in statuses.items():
        if row["code"] == code:
            return number
    raise unknown("status", code, [row["code"] for row in statuses.values()])


def amend_order(cursor: Cursor, rng: random.Random) -> Played | None:
    """Change the quantity of a line of an order that is not paid yet, or take the line out."""
    rows = ask(cursor, "hold_open_order", status_id=1, transit_hours=_TRANSIT_HOURS)
    if not rows:
        return None
    order_id = rows[0]["order_id"]
    lines = ask(cursor, "lines_of_order", order_id=order_id)
    if not lines:
        return None
    line = rng.choice(lines)
    number = line["line_number"]
    facts = {"order_id": order_id, "line_number": number}
    if len(lines) > 1 and rng.random() < 0.3:
        do(cursor, "delete_line", order_id=order_id, line_number=number)
        return Played(
            "amend-order", f"order {order_id}: line {number} taken out", facts | {"quantity": None}
        )
    quantity = line["quantity"] + 1 if line["quantity"] < 5 else 1
    do(cursor, "change_quantity", order_id=order_id, line_number=number, quantity=quantity)
    return Played(
        "amend-order",
        f"order {order_id}: line {number} now has {quantity} pieces",
        facts | {"quantity": quantity},
    )
