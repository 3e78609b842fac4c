"""A stand-in for a Metabase server, on a real socket, for tests and for trying things out by hand.

It is written from Metabase's published API and source, keeps state, and is used through the very
client that speaks to a real server. It has what provisioning leans on: the one-time setup, sessions
and keys, numeric and entity ids, archived things, dashcards replaced as a whole, keys it does not
know dropped (or refused, as newer servers do), an empty query stored with status 200, databases that
it really connects to, a sync that takes its time, graphs of permissions with revisions, and
questions that it runs on the real warehouse with the login it was given.

What it cannot show: that a real server agrees. It renders no chart, so a setting of a visualization
that Metabase ignores passes here. It has no models, tabs, subscriptions, caching, sandboxing or
embedding, no database but PostgreSQL, and no query but native SQL with plain variables. Where it is
more lenient or stricter than Metabase, nobody knows until the suite has run against a real server:
`METABASE_URL=… pytest tests/metabase/test_live.py` does that.

By hand: `python -m tests.metabase.standin --port 3001`.
"""

from tests.metabase.standin.server import Standin
from tests.metabase.standin.state import RefusedError, State

__all__ = ["RefusedError", "Standin", "State"]
