"""What happens in the business, one function an action, and rounds of them.

Each action works on a cursor of the caller's, in the caller's transaction; `perform` and `tick`
give each action a transaction of its own. Rows are chosen by key and index, never by a scan.
Actions of several simulators cannot deadlock: each holds at most one row of what it changes, except
an order, which holds its products, and takes them in the order of their numbers.
"""

from simulator.actions.common import Action, Played, perform
from simulator.actions.customers import add_address, add_customer, correct_customer, move_address
from simulator.actions.orders import amend_order, place_order, update_order
from simulator.actions.products import (
    add_supplier,
    change_price,
    launch_product,
    reclassify_product,
)
from simulator.actions.rounds import (
    ACTIONS_OF_PLAN,
    TickPlan,
    TickResult,
    business_clock,
    stream,
    tick,
)

__all__ = [
    "ACTIONS_OF_PLAN",
    "Action",
    "Played",
    "TickPlan",
    "TickResult",
    "add_address",
    "add_customer",
    "add_supplier",
    "amend_order",
    "business_clock",
    "change_price",
    "correct_customer",
    "launch_product",
    "move_address",
    "perform",
    "place_order",
    "reclassify_product",
    "stream",
    "tick",
    "update_order",
]
