"""Starts the stand-in, so that a person can try plan and provision without a Metabase.

python -m tests.metabase.standin --dsn postgresql://postgres@127.0.0.1:5432/warehouse
"""

from __future__ import annotations

import argparse
import os
import shlex
import threading

from tests.metabase.standin import Standin, State
from tests.metabase.standin.state import NEWEST


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.metabase.standin",
        description="A stand-in for a Metabase server; it forgets everything when it is stopped.",
    )
    parser.add_argument("--port", type=int, default=3001)
    parser.add_argument("--dsn", default=os.environ.get("OCEANRECORDS_DSN"), help="the warehouse")
    parser.add_argument("--version-tag", default=NEWEST)
    parser.add_argument("--sync-seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    state = State(version=arguments.version_tag, sync_seconds=arguments.sync_seconds)
    dsn = f"--dsn {shlex.quote(arguments.dsn)} " if arguments.dsn else ""
    with Standin(state, arguments.port) as standin:
        print(f"A fresh server listens on {standin.url}; Ctrl+C ends it. In another shell:\n")
        print(f"  export METABASE_URL={standin.url}")
        print("  export METABASE_USER=admin@example.com METABASE_PASSWORD=a-password-of-yours")
        print(f"  oceanrecords {dsn}metabase plan --create-role")
        print(f"  oceanrecords {dsn}metabase provision --create-role", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print(f"\n{len(standin.requests)} requests, {len(standin.writes)} of them to write.")


if __name__ == "__main__":
    main()
