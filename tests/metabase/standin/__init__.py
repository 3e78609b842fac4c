"""A stand-in for a Metabase server, on a real socket, for tests and for trying things out by hand.

It is as strict as Metabase's published source: what was read there is named where it is done, with
the file. It keeps state, and is used through the very client that speaks to a real server. It has
what provisioning leans on: the one-time setup that turns tracking on, sessions and keys, entity ids
of its own, the Trash, dashcards replaced as a whole and refused for what is in the Trash, keys that it
does not know refused or (as older servers do) dropped, databases that it really connects to,
encrypted first, a sync that takes its time, metadata of tables and columns, sparse graphs of
permissions with revisions, blocked data in the Enterprise edition, subscriptions, alerts, and
questions, models and metrics that it runs on the real warehouse with the login it was given.

What it cannot show: that a real server agrees. It renders no chart and sends no e-mail, so a setting
of a visualization that Metabase ignores passes here. It has no tabs, caching, sandboxing or embedding,
no database but PostgreSQL, and of the query builder aggregations of one source alone. The versions
differ here in what was found in the source and in Metabase's API changelog; where else they
differ, nobody knows until the suite has run against a real server:
`METABASE_URL=… pytest tests/metabase/test_live.py` does that.

By hand: `python -m tests.metabase.standin --port 3001`.
"""

from tests.metabase.standin.server import Standin
from tests.metabase.standin.state import RefusedError, State

__all__ = ["RefusedError", "Standin", "State"]
