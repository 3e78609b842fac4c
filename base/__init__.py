"""What the driver, the simulator and Metabase's part share: connection, server, errors, output.

It imports none of them.
"""

from __future__ import annotations


def version() -> str:
    """Return the version of the installed package, '0' in a source tree that was never installed.

    The import waits for the call: it takes a sixth of the time in which a command starts.
    """
    from importlib import metadata

    try:
        return metadata.version("oceanrecords-warehouse")
    except metadata.PackageNotFoundError:
        return "0"
