"""Customers and addresses: new, shared, corrected, moved."""

from __future__ import annotations

import random

from simulator.actions.common import (
    VOCABULARY,
    Cursor,
    Played,
    any_country,
    any_key,
    ask,
    customer_of,
    do,
    empty_system,
    key_ranges,
)
from simulator.vocabulary import plain, words

_SHARE_SHARED = 0.3


def add_address(
    cursor: Cursor,
    rng: random.Random,
    *,
    customer_id: int | None = None,
    shared: bool | None = None,
) -> Played:
    """Give a customer one more address: a new one, or that of another customer.

    Parameters:
        customer_id: who gets it; anybody when None.
        shared: whether it is another customer's; left to chance if None. It is a new one if
            no other customer has one.

    Raises:
        UserError: if the system is empty, or the customer does not exist.
    """
    keys = key_ranges(cursor)
    if customer_id is None:
        wanted = any_key(rng, keys, "customer")
        found = ask(cursor, "addresses_of_customer", from_customer=wanted)
        if not found:
            raise empty_system()
        customer_id = found[0]["customer_id"]
    customer = customer_of(cursor, customer_id)
    if shared is None:
        shared = rng.random() < _SHARE_SHARED
    if shared:
        for _ in range(5):
            wanted = any_key(rng, keys, "customer")
            addresses = ask(cursor, "addresses_of_customer", from_customer=wanted)
            address_id = rng.choice(addresses)["address_id"] if addresses else None
            if address_id and ask(
                cursor, "link_address", customer_id=customer_id, address_id=address_id
            ):
                return _address_added(customer_id, address_id, shared=True)
    country = customer["country_code"] or any_country(rng)
    address_id = _new_address(cursor, rng, country)
    do(cursor, "link_address", customer_id=customer_id, address_id=address_id)
    return _address_added(customer_id, address_id, shared=False)


def _address_added(customer_id: int, address_id: int, *, shared: bool) -> Played:
    return Played(
        "add-address",
        f"customer {customer_id} has {'shared' if shared else 'new'} address {address_id}",
        {"customer_id": customer_id, "address_id": address_id, "shared": shared},
    )


def add_customer(cursor: Cursor, rng: random.Random) -> Played:
    """A new customer with an address, now and then that of another customer.

    Raises:
        UserError: if the system is empty.
    """
    keys = key_ranges(cursor)
    customer_id = ask(cursor, "next_customer")[0]["customer_id"]
    addresses = []
    if rng.random() < 0.15:
        wanted = any_key(rng, keys, "customer")
        addresses = ask(cursor, "addresses_of_customer", from_customer=wanted)
    country = addresses[0]["country_code"] if addresses else any_country(rng)
    vocabulary = words(country, VOCABULARY)
    first_name, last_name = rng.choice(vocabulary.first_names), rng.choice(vocabulary.last_names)
    do(
        cursor,
        "insert_customer",
        customer_id=customer_id,
        first_name=first_name,
        last_name=last_name,
        email=_email(first_name, last_name, customer_id, rng),
        phone=vocabulary.phone(rng) if rng.random() < 0.7 else None,
        segment="business" if not addresses and rng.random() < 0.12 else "consumer",
    )
    address_id = addresses[0]["address_id"] if addresses else _new_address(cursor, rng, country)
    do(cursor, "link_address", customer_id=customer_id, address_id=address_id)
    return Played(
        "add-customer",
        f"customer {customer_id}: {first_name} {last_name}, {country}",
        {"customer_id": customer_id, "address_id": address_id, "shared": bool(addresses)},
    )


def correct_customer(cursor: Cursor, rng: random.Random) -> Played | None:
    """Correct the last name or the e-mail address of a customer."""
    keys = key_ranges(cursor)
    rows = ask(cursor, "hold_customer", from_customer=any_key(rng, keys, "customer"))
    if not rows:
        return None
    customer = customer_of(cursor, rows[0]["customer_id"])
    number = customer["customer_id"]
    last_name, email = customer["last_name"], customer["email"]
    if rng.random() < 0.5:
        names = words(customer["country_code"] or any_country(rng), VOCABULARY).last_names
        last_name = rng.choice([name for name in names if name != last_name])
    else:
        email = _email(customer["first_name"], last_name, number, rng, rng.randint(10, 99))
    do(cursor, "correct_customer", customer_id=number, last_name=last_name, email=email)
    return Played(
        "correct-customer",
        f"customer {number}: {customer['first_name']} {last_name}, {email}",
        {"customer_id": number, "last_name": last_name, "email": email},
    )


def move_address(cursor: Cursor, rng: random.Random) -> Played | None:
    """Change an address: another street and city, now and then another country."""
    keys = key_ranges(cursor)
    rows = ask(cursor, "hold_address", from_address=any_key(rng, keys, "address"))
    if not rows:
        return None
    country = rows[0]["country_code"] if rng.random() < 0.9 else any_country(rng)
    place = _place(rng, country)
    do(cursor, "move_address", address_id=rows[0]["address_id"], **place)
    return Played(
        "move-address",
        f"address {rows[0]['address_id']} is now in {place['city']}, {country}",
        {"address_id": rows[0]["address_id"], **place},
    )


def _new_address(cursor: Cursor, rng: random.Random, country: str) -> int:
    rows = ask(cursor, "insert_address", **_place(rng, country))
    return int(rows[0]["address_id"])


def _place(rng: random.Random, country: str) -> dict[str, str]:
    vocabulary = words(country, VOCABULARY)
    city, postal_code = rng.choice(vocabulary.places)
    return {
        "street": vocabulary.street(rng),
        "postal_code": postal_code,
        "city": city,
        "country_code": country,
    }


def _email(first: str, last: str, number: int, rng: random.Random, tag: int | None = None) -> str:
    provider = rng.choice(("example.com", "example.net", "example.org"))
    name = ".".join(part for part in (plain(first), plain(last), str(number)) if part)
    return f"{name}{'' if tag is None else f'+{tag}'}@{provider}"
