"""Installs the stored procedures after every apply.

yoyo runs this hook after each upgrade. Everything in ``plpgsql/`` is idempotent (CREATE OR REPLACE,
upserts of catalog rows), so it is simply run again, in the order of ``plpgsql/install.txt``.
That contents page names one file per line; what follows a ``#`` describes it.
Internal routines (their names start with an underscore) that the files no longer define are
dropped: under another list of parameters an old one would stay beside its successor.
"""

from typing import Any

from yoyo import step

from driver import resources

_INTERNAL_ROUTINES = """
SELECT p.oid::regprocedure::text, p.xmin::text
FROM pg_proc AS p
WHERE p.pronamespace = 'etl'::regnamespace
    AND p.proname LIKE '\\_%'
"""


def install(connection: Any) -> None:
    """Run every file named in ``plpgsql/install.txt``, in the transaction of the hook.

    Writes routines, views and catalog rows in the schemas etl, work and kpi. An error names the
    file.
    """
    root = resources.plpgsql()
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL client_min_messages = warning")
        cursor.execute(_INTERNAL_ROUTINES)
        before = set(cursor.fetchall())
        for line in root.joinpath("install.txt").read_text(encoding="utf-8").splitlines():
            name = line.partition("#")[0].strip()
            if not name:
                continue
            try:
                cursor.execute(root.joinpath(name).read_text(encoding="utf-8"))
            except Exception as error:
                error.add_note(f"while installing plpgsql/{name}")
                raise
        cursor.execute(_INTERNAL_ROUTINES)
        for routine, _ in before.intersection(cursor.fetchall()):
            cursor.execute(f"DROP ROUTINE {routine}")


steps = [step(install)]
