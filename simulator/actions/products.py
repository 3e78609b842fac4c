"""The catalogue: prices, launches, shelves, suppliers."""

from __future__ import annotations

import random
from decimal import Decimal

from base.errors import UserError
from simulator.actions.common import (
    VOCABULARY,
    Cursor,
    Played,
    any_country,
    any_key,
    ask,
    do,
    empty_system,
    key_ranges,
)
from simulator.vocabulary import words
from simulator.world import FIRST_WORDS, MAKERS, SECOND_WORDS, SHELVES

_HIGHEST_PRICE = Decimal(1_000_000)
_CENT = Decimal("0.01")


def change_price(
    cursor: Cursor,
    rng: random.Random,
    *,
    product_id: int | None = None,
    price: Decimal | None = None,
) -> Played | None:
    """Give a product another price; the price log is written by the operational system.

    Parameters:
        product_id: which product; one that no other session has locked if None.
        price: the new price in euros; somewhat lower or higher than the old one when None.

    Returns:
        What was done, or None when no product can be had.

    Raises:
        UserError: if the system is empty, the product does not exist, or the price cannot be.
    """
    if price is not None and not 0 < price <= _HIGHEST_PRICE:
        raise UserError(
            f"A price cannot be {price} €.", f"Choose one above 0, up to {_HIGHEST_PRICE:,} €.", 2
        )
    keys = key_ranges(cursor)
    if product_id is None:
        wanted = any_key(rng, keys, "product")
        rows = ask(cursor, "hold_product", from_product=wanted)
        if not rows:
            return None
    else:
        rows = ask(cursor, "hold_this_product", product_id=product_id)
        if not rows:
            raise UserError(f"Product {product_id} does not exist.")
    old = rows[0]["price"]
    new = price.quantize(_CENT) if price is not None else _new_price(old, rng)
    do(cursor, "change_price", product_id=rows[0]["product_id"], price=new)
    return Played(
        "change-price",
        f"product {rows[0]['product_id']}: {old:,.2f} → {new:,.2f} €",
        {"product_id": rows[0]["product_id"], "from": old, "to": new},
    )


def _new_price(old: Decimal, rng: random.Random) -> Decimal:
    """Return a price that ends on 99 cents and differs from the old one."""
    new = Decimal(max(1, round(float(old) * rng.uniform(0.86, 1.18)))) - _CENT
    if new == old:
        new += 1
    return min(new, _HIGHEST_PRICE - _CENT)


def launch_product(cursor: Cursor, rng: random.Random) -> Played:
    """Launch a product: it is promoted, so that the next orders often contain it.

    Raises:
        UserError: if the system is empty.
    """
    suppliers = ask(cursor, "supplier_ids")
    subtypes = ask(cursor, "subtypes")
    if not suppliers or not subtypes:
        raise empty_system()
    shelves = {(shelf.department, shelf.name): shelf for shelf in SHELVES}
    subtype = rng.choice(subtypes)
    shelf = shelves.get((subtype["department"], subtype["name"]), SHELVES[0])
    number = ask(cursor, "next_product")[0]["product_id"]
    if shelf.noun:
        model = (
            f"{rng.choice('ABCDEFGHKLMNPRSTVWXZ')}{rng.choice('ACEILORSTX')}-{rng.randint(10, 999)}"
        )
        name = f"{rng.choice(MAKERS)} {model} {shelf.noun}"
    else:
        band, title = (
            f"{rng.choice(FIRST_WORDS)} {rng.choice(SECOND_WORDS)}" for _ in ("band", "title")
        )
        name = f"{band} – {title}"  # noqa: RUF001
    department = "".join(letter for letter in subtype["department"] if letter.isalpha())
    price = Decimal(round(rng.uniform(shelf.lowest_price, shelf.highest_price))) - _CENT
    do(
        cursor,
        "insert_product",
        product_id=number,
        product_subtype_id=subtype["product_subtype_id"],
        supplier_id=rng.choice(suppliers)["supplier_id"],
        sku=f"OR-{department[:3].upper()}-{number:07d}",
        name=name,
        price=price,
    )
    return Played(
        "launch-product",
        f"product {number}: {name}, {price:,.2f} €",
        {"product_id": number, "name": name, "price": price},
    )


def reclassify_product(cursor: Cursor, rng: random.Random) -> Played | None:
    """Move a product to another subtype."""
    keys = key_ranges(cursor)
    rows = ask(cursor, "hold_product", from_product=any_key(rng, keys, "product"))
    if not rows:
        return None
    number = rows[0]["product_id"]
    before = ask(cursor, "subtype_of_product", product_id=number)[0]["product_subtype_id"]
    others = [row for row in ask(cursor, "subtypes") if row["product_subtype_id"] != before]
    if not others:
        return None
    subtype = rng.choice(others)
    do(
        cursor,
        "reclassify_product",
        product_id=number,
        product_subtype_id=subtype["product_subtype_id"],
    )
    return Played(
        "reclassify-product",
        f"product {number} is now under {subtype['department']}, {subtype['name']}",
        {"product_id": number, "from": before, "to": subtype["product_subtype_id"]},
    )


def add_supplier(cursor: Cursor, rng: random.Random) -> Played | None:
    """Win a new supplier."""
    country = any_country(rng)
    names = words(country, VOCABULARY).last_names
    kind = rng.choice(("Records", "Audio", "Music", "Instruments", "Sound"))
    name = f"{rng.choice(names)} & {rng.choice(names)} {kind}"
    rows = ask(cursor, "insert_supplier", name=name, country_code=country)
    if not rows:
        return None
    number = rows[0]["supplier_id"]
    return Played(
        "add-supplier",
        f"supplier {number}: {name}, {country}",
        {"supplier_id": number, "name": name},
    )
