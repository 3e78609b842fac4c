"""The command line of the OceanRecords warehouse: connects, calls procedures, renders answers."""

from __future__ import annotations


def version() -> str:
    """Return the version of the installed package, '0' in a source tree that was never installed.

    Looked up when it is asked for: it takes a sixth of the time in which a command starts.
    """
    from importlib import metadata

    try:
        return metadata.version("oceanrecords-warehouse")
    except metadata.PackageNotFoundError:
        return "0"
