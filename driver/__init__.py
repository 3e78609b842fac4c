"""The command line of the OceanRecords warehouse: connects, calls procedures, renders answers."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("oceanrecords-warehouse")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0"
