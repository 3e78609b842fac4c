"""A warehouse that has seen some business, its site, and a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from driver.docs import catalog, site
from driver.docs.catalog import Catalog
from driver.docs.lineage import Lineage
from simulator.seed import seed
from tests.preview.conftest import browser as browser
from tests.support.database import Database, temporary_database
from tests.support.servers import RunningServer

CHANGES = (
    "UPDATE oceanrecords.products SET price = price + 1 WHERE product_id IN (1, 2, 3)",
    "UPDATE oceanrecords.customers SET segment = 'business' WHERE customer_id = 1",
    "DELETE FROM oceanrecords.order_lines WHERE order_id = 1 AND line_number = 1",
)


@pytest.fixture(scope="session")
def warehouse(server: RunningServer, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A warehouse with half a year of orders and three loads; to read only."""
    template = request.getfixturevalue(f"{server.name}_template").template_dbname
    with temporary_database(server, template) as made:
        with made.connect() as connection:
            seed(connection, orders=400, months=6, seed=5)
            connection.execute("CALL etl.run()")
            for _ in range(2):
                for change in CHANGES:
                    connection.execute(change.encode())
                connection.execute("CALL etl.run()")
        yield made


@pytest.fixture(scope="session")
def known(warehouse: Database) -> Catalog:
    """What the database tells of itself."""
    with warehouse.connect() as connection:
        return catalog.read(connection)


@pytest.fixture(scope="session")
def lineage(known: Catalog) -> Lineage:
    return Lineage(known)


@pytest.fixture(scope="session")
def files(known: Catalog) -> dict[str, str]:
    """The site, by names of files."""
    return site.files(known)


@pytest.fixture(scope="session")
def page(files: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the site, in its folder."""
    folder = tmp_path_factory.mktemp("site")
    site.write(files, folder)
    return folder / "index.html"
