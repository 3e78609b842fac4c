"""Installs the stored procedures after every apply.

yoyo runs this hook after each upgrade. Everything in ``plpgsql/`` is idempotent (CREATE OR REPLACE,
upserts of catalog rows), so it is simply run again, in the order of ``plpgsql/install.txt``.
"""

from typing import Any

from yoyo import step

from driver import resources


def install(connection: Any) -> None:
    """Run every file named in ``plpgsql/install.txt``, in the transaction of the hook.

    Writes routines, views and catalog rows in the schemas etl, work and kpi. An error names the
    file.
    """
    root = resources.plpgsql()
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL client_min_messages = warning")
        for line in root.joinpath("install.txt").read_text(encoding="utf-8").splitlines():
            name = line.partition("#")[0].strip()
            if not name:
                continue
            try:
                cursor.execute(root.joinpath(name).read_text(encoding="utf-8"))
            except Exception as error:
                error.add_note(f"while installing plpgsql/{name}")
                raise


steps = [step(install)]
