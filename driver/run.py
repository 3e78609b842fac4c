"""Starts a run in the database, works on it with several connections, and listens.

The database holds the schedule of the tasks; this module adds workers and passes on what it hears.
"""

from __future__ import annotations

import json
import selectors
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from driver.connection import Target, connect_to
from driver.errors import EXIT_ERROR, EXIT_PARTIAL, UserError, from_database

CHANNEL = "etl_progress"
_EXIT_STATUS = {"succeeded": 0, "partial": EXIT_PARTIAL, "failed": EXIT_ERROR}
_WORK_OF_ONE = ("extract", "check", "maintain")  # kinds of tasks beside which there is no other


@dataclass(frozen=True)
class Event:
    """What the engine tells about a task, or about the end of the run.

    Attributes:
        task: the task, or None when the run itself ended.
        kind: the task's kind, such as 'extract', 'stage', 'dimension' or 'fact'.
        status: 'running', 'succeeded', 'failed', 'pending' (to be tried again);
            'partial' for a run.
        seconds: duration, once ended.
        rows: counts by what was done: 'read', 'inserted', 'updated', 'deleted', 'queued'.
        message: error message of a failed task.
    """

    task: str | None
    kind: str | None
    status: str
    seconds: float | None = None
    rows: dict[str, int] = field(default_factory=dict)
    message: str | None = None

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> Event:
        """Read a notification's payload."""
        return cls(
            payload.get("task"),
            payload.get("kind"),
            payload["status"],
            payload.get("seconds"),
            {
                key.removeprefix("rows_"): value
                for key, value in payload.items()
                if key.startswith("rows_") and value is not None
            },
            payload.get("message"),
        )


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        run: its row of etl.run_status.
        tasks: its rows of etl.task_status.
    """

    run: dict[str, Any]
    tasks: list[dict[str, Any]]

    @property
    def status(self) -> str:
        """'succeeded', 'partial' or 'failed'."""
        return str(self.run["status"])

    @property
    def exit_code(self) -> int:
        """Exit status of the program for this outcome."""
        return _EXIT_STATUS.get(self.status, EXIT_ERROR)


class Interrupted(KeyboardInterrupt):
    """The run was stopped by the user; what it has finished stays.

    Attributes:
        run_id: the run that the next one goes on from.
    """

    def __init__(self, run_id: int) -> None:
        super().__init__()
        self.run_id = run_id


class _Worker(threading.Thread):
    """One connection that works on the run until it ends."""

    def __init__(
        self, connection: psycopg.Connection, run_id: int, wake: Callable[[], None]
    ) -> None:
        super().__init__(name="oceanrecords worker", daemon=True)
        self.connection = connection
        self.error: psycopg.Error | None = None
        self.done = False
        self._run_id = run_id
        self._wake = wake

    def run(self) -> None:
        """Call the engine; it returns when no task of the run is left."""
        try:
            self.connection.execute("CALL etl.work(%s)", [self._run_id])
        except psycopg.Error as error:
            self.error = error
        finally:
            self.done = True
            self._wake()

    def cancel(self) -> None:
        """Ask the server to stop what this worker does."""
        try:
            self.connection.cancel_safe(timeout=5)
        except psycopg.Error:
            self.connection.close()


def run(
    target: Target,
    *,
    workers: int = 1,
    only: Sequence[str] | None = None,
    full_refresh: Sequence[str] | None = None,
    origin: str = "cli",
    on_start: Callable[[int, dict[str, int]], None] = lambda _run_id, _kinds: None,
    on_event: Callable[[Event], None] = lambda _event: None,
) -> Outcome:
    """Start a run, or take up the last one when it died, and work on it until it ends.

    Parameters:
        target: the database.
        workers: number of connections that work on the run.
        only: tasks or objects that the run is confined to.
        full_refresh: objects that are rebuilt, or ['all'].
        origin: noted with the run.
        on_start: told the run's number, and how many tasks of each kind are still to do.
        on_event: told each event, in the main thread.

    Returns:
        How the run ended.

    Raises:
        UserError: if another run is live, an object is unknown, or all workers were lost.
        Interrupted: if the user stopped it; the workers are stopped then.
    """
    with ExitStack() as stack:
        listener = stack.enter_context(_session(target, "oceanrecords progress"))
        listener.execute(f"LISTEN {CHANNEL}")
        sessions = [
            stack.enter_context(_session(target, f"oceanrecords worker {number}"))
            for number in range(1, workers + 1)
        ]
        row = (
            sessions[0]
            .execute(
                "SELECT etl.start_run(%s, %s, %s), clock_timestamp()",
                [
                    list(only) if only else None,
                    list(full_refresh) if full_refresh else None,
                    origin,
                ],
            )
            .fetchone()
        )
        assert row is not None
        run_id, started_at = row
        _work(
            sessions,
            run_id,
            listener,
            # Asked for while the workers are at work already: it takes as long as a small task.
            lambda: on_start(run_id, _to_do(listener, run_id, started_at)),
            on_event,
        )
        return _outcome(listener, run_id)


@contextmanager
def _session(target: Target, name: str) -> Iterator[psycopg.Connection]:
    """Open a connection, and close it whatever state it is in."""
    connection = connect_to(target, application_name=name)
    try:
        yield connection
    finally:
        connection.close()


def _work(
    sessions: list[psycopg.Connection],
    run_id: int,
    listener: psycopg.Connection,
    on_start: Callable[[], None],
    on_event: Callable[[Event], None],
) -> None:
    """Let the workers work, and pass on what the engine tells, until all of them are done.

    The others follow the first when there is something to share. Where nothing is new there is
    not, and they would only get in its way.
    """
    ours, theirs = socket.socketpair()
    workers = [_Worker(session, run_id, lambda: _wake(theirs)) for session in sessions]
    first, *waiting = workers
    started = [first]

    def follow() -> None:
        while waiting:
            started.append(waiting.pop(0))
            started[-1].start()

    def heed(event: Event) -> None:
        if event.status == "running" and event.kind not in _WORK_OF_ONE:
            follow()
        on_event(event)

    with ours, theirs, selectors.DefaultSelector() as selector:
        selector.register(ours, selectors.EVENT_READ)
        selector.register(listener.fileno(), selectors.EVENT_READ)
        try:
            first.start()
            on_start()
            while True:
                if all(worker.done for worker in started):
                    if first.error is None or not waiting:
                        break
                    follow()
                if any(key.fd == ours.fileno() for key, _ in selector.select()):
                    ours.recv(64)
                _pass_on(listener, run_id, heed)
            for worker in started:
                worker.join()
            # What the last commits told may be on its way yet; with the answer to this it has come.
            listener.execute("SELECT")
            _pass_on(listener, run_id, on_event)
        except KeyboardInterrupt:
            _stop(workers)
            raise Interrupted(run_id) from None
        except psycopg.Error as error:
            _stop(workers)
            raise _lost(error, run_id) from error
    errors = [worker.error for worker in started if worker.error is not None]
    if len(errors) == len(started):
        raise _lost(errors[0], run_id) from errors[0]


def _wake(sender: socket.socket) -> None:
    try:
        sender.send(b"!")
    except OSError:
        return


def _stop(workers: list[_Worker]) -> None:
    """Stop the workers; one that does not heed is cut off."""
    started = [worker for worker in workers if worker.ident is not None]
    try:
        for worker in started:
            worker.cancel()
        for worker in started:
            worker.join(20)
    except KeyboardInterrupt:
        pass
    for worker in workers:
        worker.connection.close()


def _pass_on(listener: psycopg.Connection, run_id: int, on_event: Callable[[Event], None]) -> None:
    for notification in listener.notifies(timeout=0):
        payload = json.loads(notification.payload)
        if payload.get("run_id") == run_id:
            on_event(Event.from_payload(payload))


def _lost(error: psycopg.Error, run_id: int) -> UserError:
    told = from_database(error, context=f"Run {run_id} was cut off")
    stays = "What it has finished stays; `oceanrecords run` goes on from there."
    told.hint = f"{told.hint} {stays}" if told.hint and told.code == "25P04" else stays
    return told


def _to_do(connection: psycopg.Connection, run_id: int, moment: datetime) -> dict[str, int]:
    """Return how many tasks of each kind a run had still to do at a moment, in their order."""
    rows = connection.execute(
        "SELECT kind, count(*) FROM etl.task_run WHERE run_id = %s "
        "AND (status IN ('pending', 'running') OR ended_at > %s) "
        "GROUP BY kind ORDER BY min(position)",
        [run_id, moment],
    ).fetchall()
    return dict(rows)


def _outcome(connection: psycopg.Connection, run_id: int) -> Outcome:
    with connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(
            "SELECT * FROM etl.run_status WHERE run_id = %s", [run_id]
        ).fetchone()
        tasks = cursor.execute(
            "SELECT * FROM etl.task_status WHERE run_id = %s ORDER BY position", [run_id]
        ).fetchall()
    if found is None:
        raise UserError(f"Run {run_id} is not in the database any more.")
    if found["status"] not in _EXIT_STATUS:
        raise UserError(
            f"Run {run_id} is {found['status']}, though its workers are done.",
            "`oceanrecords status` shows where it stands; `oceanrecords run` goes on from there.",
        )
    return Outcome(found, tasks)
