"""Names, places and streets of each country, from Faker and a seed."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from faker import Faker

from simulator.world import COUNTRIES, COUNTRY_BY_CODE, Country

_PLAIN = str.maketrans({"ß": "ss", "ø": "oe", "æ": "ae", "ł": "l", "ä": "ae", "ö": "oe", "ü": "ue"})


def plain(word: str) -> str:
    """Return a word as it is written in an e-mail address: small ASCII letters only."""
    decomposed = unicodedata.normalize("NFKD", word.lower().translate(_PLAIN))
    return "".join(letter for letter in decomposed if letter.isascii() and letter.isalpha())


@dataclass(frozen=True)
class Words:
    """The words of one country.

    Attributes:
        places: city and postal code; large cities have several.
    """

    country: Country
    first_names: tuple[str, ...]
    last_names: tuple[str, ...]
    places: tuple[tuple[str, str], ...]
    streets: tuple[str, ...]

    def street(self, rng: random.Random) -> str:
        """Return a street with a house number, in the order of the country."""
        street, number = rng.choice(self.streets), rng.randint(1, 140)
        return f"{number} {street}" if self.country.number_first else f"{street} {number}"

    def phone(self, rng: random.Random) -> str:
        """Return a telephone number."""
        return f"{self.country.calling_code} {rng.randint(20, 99)} {rng.randint(1000000, 9999999)}"


@cache
def words(country_code: str, seed: int) -> Words:
    """Return the words of a country: always the same ones for a seed.

    Parameters:
        country_code: ISO 3166-1 alpha-2; a country that is not delivered to speaks English.
        seed: number that decides the words.
    """
    country = COUNTRY_BY_CODE.get(country_code) or Country(country_code, "en_US", 0, 72, "+1")
    faker = _faker(country.locale, f"words {seed}")
    cities = _distinct(_draw_city(faker), 50)
    # The first cities are the large ones: number n of the list has some 24 / n postal codes.
    places = tuple(
        (city, faker.postcode())
        for rank, city in enumerate(cities, start=1)
        for _ in range(max(1, 24 // rank))
    )
    return Words(
        country=country,
        first_names=_distinct(faker.first_name, 120),
        last_names=_distinct(faker.last_name, 180),
        places=places,
        streets=_distinct(faker.street_name, 120),
    )


def companies(number: int, seed: int) -> Iterator[tuple[str, str]]:
    """Yield distinct companies with their countries, large countries first.

    Parameters:
        number: how many.
        seed: number that decides the names.
    """
    rng = random.Random(seed)
    fakers = {country.code: _faker(country.locale, f"companies {seed}") for country in COUNTRIES}
    weights = [country.weight for country in COUNTRIES]
    seen: set[str] = set()
    while len(seen) < number:
        country = rng.choices(COUNTRIES, weights)[0]
        name = fakers[country.code].company()
        if name in seen:
            name = f"{name} {rng.choice(('Records', 'Audio', 'Trading', 'Music'))} {len(seen)}"
        seen.add(name)
        yield name, country.code


def _faker(locale: str, seed: str) -> Faker:
    faker = Faker(locale)
    faker.seed_instance(f"{locale} {seed}")
    return faker


def _draw_city(faker: Faker) -> Callable[[], str]:
    """Return a function that draws a city, the same ones in every process.

    Faker makes the Italian list of a set, which every process puts in another order.
    """
    for provider in faker.factories[0].get_providers():
        cities = getattr(provider, "cities", None)
        if isinstance(cities, list):
            in_order = sorted(cities)
            return lambda: str(faker.random_element(in_order))
    return faker.city


def _distinct(draw: Callable[[], str], number: int) -> tuple[str, ...]:
    """Return up to `number` distinct words out of twice as many draws, in the order drawn."""
    return tuple(dict.fromkeys(draw() for _ in range(2 * number)))[:number]
