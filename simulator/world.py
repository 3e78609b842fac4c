"""The world in which OceanRecords trades: countries, departments and their goods."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Country:
    """A country that is delivered to.

    Attributes:
        locale: Faker's locale for its names and places.
        weight: share of the customers, relative to the others.
        transit_hours: usual time from shipment to delivery.
        calling_code: international telephone prefix.
        number_first: whether the house number precedes the street.
    """

    code: str
    locale: str
    weight: float
    transit_hours: float
    calling_code: str
    number_first: bool = False


COUNTRIES = (
    Country("DE", "de_DE", 27, 28, "+49"),
    Country("US", "en_US", 17, 118, "+1", number_first=True),
    Country("GB", "en_GB", 14, 64, "+44", number_first=True),
    Country("FR", "fr_FR", 11, 46, "+33", number_first=True),
    Country("NL", "nl_NL", 8, 34, "+31"),
    Country("AT", "de_AT", 6, 38, "+43"),
    Country("CH", "de_CH", 5, 72, "+41"),
    Country("IT", "it_IT", 4, 82, "+39"),
    Country("ES", "es_ES", 3, 88, "+34"),
    Country("SE", "sv_SE", 2.5, 74, "+46"),
    Country("PL", "pl_PL", 1.5, 58, "+48"),
    Country("DK", "da_DK", 1, 44, "+45"),
)
COUNTRY_BY_CODE = {country.code: country for country in COUNTRIES}


@dataclass(frozen=True)
class Shelf:
    """A product subtype.

    Attributes:
        weight: share of the products, relative to the others.
        noun: what the thing is called; empty for works, which are named after artist and title.
    """

    department: str
    name: str
    weight: float
    lowest_price: float
    highest_price: float
    noun: str = ""


SHELVES = (
    Shelf("Vinyl", "Rock LP", 14, 17, 44),
    Shelf("Vinyl", "Jazz LP", 9, 18, 52),
    Shelf("Vinyl", "Electronic 12-inch", 8, 10, 24),
    Shelf("Vinyl", "Classical LP", 5, 19, 58),
    Shelf("Vinyl", "Single 7-inch", 5, 6, 14),
    Shelf("CD", "Album", 12, 8, 22),
    Shelf("CD", "Compilation", 5, 9, 25),
    Shelf("CD", "Box set", 2, 35, 140),
    Shelf("Cassette", "Album tape", 3, 7, 16),
    Shelf("Cassette", "Blank tape", 1, 3, 9, "blank tape"),
    Shelf("Turntables", "Belt drive", 1.5, 180, 1400, "belt-drive turntable"),
    Shelf("Turntables", "Direct drive", 1, 260, 1600, "direct-drive turntable"),
    Shelf("Turntables", "Cartridge", 2, 35, 420, "cartridge"),
    Shelf("Headphones", "Over-ear", 2.5, 60, 690, "over-ear headphones"),
    Shelf("Headphones", "In-ear", 2.5, 25, 320, "in-ear headphones"),
    Shelf("Headphones", "Studio", 1.5, 90, 780, "studio headphones"),
    Shelf("Hi-fi", "Amplifier", 1.5, 150, 2400, "amplifier"),
    Shelf("Hi-fi", "Loudspeaker", 1.5, 110, 1900, "loudspeaker"),
    Shelf("Hi-fi", "Phono preamp", 1, 50, 480, "phono preamp"),
    Shelf("Instruments", "Guitar", 1.5, 140, 1800, "electric guitar"),
    Shelf("Instruments", "Ukulele", 1, 40, 260, "ukulele"),
    Shelf("Instruments", "Synthesizer", 1, 120, 2200, "synthesizer"),
    Shelf("Instruments", "Percussion", 1, 15, 390, "hand drum"),
    Shelf("Merchandise", "T-shirt", 5, 18, 36, "T-shirt"),
    Shelf("Merchandise", "Poster", 3, 8, 28, "poster"),
    Shelf("Merchandise", "Mug", 2, 9, 18, "mug"),
    Shelf("Accessories", "Record care", 2, 7, 65, "record brush"),
    Shelf("Accessories", "Storage", 1.5, 15, 180, "record crate"),
    Shelf("Accessories", "Cable", 2, 6, 75, "audio cable"),
)

# fmt: off
FIRST_WORDS = (
    "Silent", "Golden", "Velvet", "Midnight", "Northern", "Paper", "Electric", "Hollow",
    "Crimson", "Distant", "Slow", "Broken", "Amber", "Quiet", "Neon", "Wild", "Salt", "Marble",
    "Winter", "Lunar", "Copper", "Static", "Gentle", "Pale", "Burning", "Hidden", "Floating",
    "Iron", "Violet", "Salted",
)
SECOND_WORDS = (
    "Tides", "Harbour", "Lanterns", "Foxes", "Orchard", "Engines", "Parade", "Mirrors",
    "Islands", "Sparrows", "Avenue", "Signals", "Gardens", "Wolves", "Cathedral", "Letters",
    "Horizon", "Rivers", "Satellites", "Carousel", "Meadows", "Shadows", "Compass", "Thunder",
    "Voyage", "Lighthouse", "Echoes", "Kites", "Museum", "Whales",
)
MAKERS = (
    "Nordlys", "Aurelio", "Kestrel", "Halvorsen", "Bellweather", "Tamarind", "Okto", "Vantage",
    "Lumen", "Steinwerk", "Corvid", "Marlow", "Peregrin", "Sonora", "Tideway", "Quill",
)
# fmt: on
