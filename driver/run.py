"""Starts a run in the database, works on it with several connections, and follows it.

The database holds the schedule of the tasks; this module adds workers and passes on what the
tables say. Any login can send a notification, so one is a reason to look and nothing else.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Self, TypeAlias

import psycopg

from base.connection import Target, connect_to
from base.errors import EXIT_ERROR, EXIT_PARTIAL, UserError, from_database
from driver.warehouse import Run, Task, fetch, tasks_of

CHANNEL = "etl_progress"
_EXIT_STATUS = {"succeeded": 0, "partial": EXIT_PARTIAL, "failed": EXIT_ERROR}
# Seconds between two looks at the tables: at least, however many notifications come, and at most.
_LEAST, _MOST = 0.1, 1.0

# Told the number of the run, its tasks that have changed since the last call, and all its tasks.
Follow: TypeAlias = Callable[[int, list[Task], list[Task]], None]


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        run: the run.
        tasks: its tasks, in their order.
    """

    run: Run
    tasks: list[Task]

    @property
    def status(self) -> str:
        """'succeeded', 'partial' or 'failed'."""
        return self.run.status

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


class Sessions:
    """Connections to run with, which may serve many runs: a session that stays knows its plans.

    Parameters:
        target: the database.
        workers: number of connections that work.
    """

    def __init__(self, target: Target, workers: int) -> None:
        self._target = target
        self._names = [
            "oceanrecords progress",
            *(f"oceanrecords worker {number}" for number in range(1, workers + 1)),
        ]
        self._connections: dict[str, psycopg.Connection] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for connection in self._connections.values():
            connection.close()

    def ready(self) -> tuple[psycopg.Connection, list[psycopg.Connection]]:
        """Return the listener and the workers' connections, opened anew where they were lost."""
        for name in self._names:
            if not _is_alive(self._connections.get(name)):
                self._connections[name] = connect_to(self._target, application_name=name)
        listener, *workers = (self._connections[name] for name in self._names)
        listener.execute(f"LISTEN {CHANNEL}")
        return listener, workers


def _is_alive(connection: psycopg.Connection | None) -> bool:
    if connection is None or connection.closed:
        return False
    try:
        connection.execute("SELECT")
    except psycopg.Error:
        connection.close()
        return False
    return True


def run(
    target: Target,
    *,
    workers: int = 1,
    only: Sequence[str] | None = None,
    full_refresh: Sequence[str] | None = None,
    origin: str = "cli",
    follow: Follow = lambda _run_id, _changed, _tasks: None,
    sessions: Sessions | None = None,
) -> Outcome:
    """Start a run, or resume the last one if it was interrupted, and work on it until it ends.

    Parameters:
        target: the database.
        workers: number of connections that work on the run.
        only: tasks or objects that the run is confined to.
        full_refresh: objects that are rebuilt, or ['all'].
        origin: noted with the run.
        follow: told of each change, in the main thread.
        sessions: connections that stay open afterwards; by default the run has its own.

    Returns:
        How the run ended.

    Raises:
        UserError: if another run is live, an object is unknown, or all workers were lost.
        Interrupted: if the user stopped it; the workers are stopped then.
    """
    with ExitStack() as stack:
        pool = sessions or stack.enter_context(Sessions(target, workers))
        listener, connections = pool.ready()
        row = (
            connections[0]
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
        run_id, since = row
        _work(connections, run_id, listener, _Watcher(listener, run_id, since, follow))
        return _outcome(listener, run_id)


class _Watcher:
    """Reads the tasks of a run from the tables, and passes on what has changed."""

    def __init__(
        self, connection: psycopg.Connection, run_id: int, since: datetime, follow: Follow
    ) -> None:
        self._connection = connection
        self._run_id = run_id
        self._since = since
        self._follow = follow
        self._known: dict[str, tuple[str, int]] | None = None

    def look(self) -> None:
        """Look once; what was over before this program came to the run is no change."""
        tasks = tasks_of(self._connection, self._run_id)
        states = {task.task: (task.status, task.attempts) for task in tasks}
        if self._known is None:
            known = {
                task.task: states[task.task] if self._is_old(task) else ("pending", 0)
                for task in tasks
            }
        else:
            known = self._known
        changed = [task for task in tasks if known.get(task.task) != states[task.task]]
        changed.sort(key=lambda task: (task.ended_at is None, task.ended_at or self._since))
        if changed or self._known is None:
            self._follow(self._run_id, changed, tasks)
        self._known = states

    def _is_old(self, task: Task) -> bool:
        return task.is_over and task.ended_at is not None and task.ended_at <= self._since

    def has_shared_work(self) -> bool:
        """Tell whether another worker would find something to do."""
        row = self._connection.execute("SELECT etl.has_shared_work(%s)", [self._run_id]).fetchone()
        return bool(row and row[0])


def _work(
    sessions: list[psycopg.Connection],
    run_id: int,
    listener: psycopg.Connection,
    watcher: _Watcher,
) -> None:
    """Let the workers work, and watch the run, until all of them are done.

    The others follow the first when there is something to share. Where nothing is new there is
    not, and they would only get in its way.
    """
    ours, theirs = socket.socketpair()
    workers = [_Worker(session, run_id, lambda: _wake(theirs)) for session in sessions]
    first, *waiting = workers
    started = [first]

    def start_others() -> None:
        while waiting:
            started.append(waiting.pop(0))
            started[-1].start()

    with ours, theirs:
        try:
            first.start()
            while True:
                looked_at = time.monotonic()
                watcher.look()
                if waiting and watcher.has_shared_work():
                    start_others()
                if all(worker.done for worker in started):
                    if first.error is None or not waiting:
                        break
                    start_others()
                ready, _, _ = select.select([ours.fileno(), listener.fileno()], [], [], _MOST)
                if listener.fileno() in ready:
                    # A worker that ends is heeded at once; notifications wait for their turn.
                    rest = max(0.0, looked_at + _LEAST - time.monotonic())
                    ready += select.select([ours.fileno()], [], [], rest)[0]
                    for _ in listener.notifies(timeout=0):
                        pass
                if ours.fileno() in ready:
                    ours.recv(64)
            for worker in started:
                worker.join()
            watcher.look()
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


def _lost(error: psycopg.Error, run_id: int) -> UserError:
    told = from_database(error, context=f"Run {run_id} was cut off")
    stays = "What it has finished stays; `oceanrecords run` goes on from there."
    told.hint = f"{told.hint} {stays}" if told.hint and told.code == "25P04" else stays
    return told


def _outcome(connection: psycopg.Connection, run_id: int) -> Outcome:
    found = fetch(connection, Run, "WHERE run_id = %s", run_id)
    if not found:
        raise UserError(f"Run {run_id} is not in the database any more.")
    if found[0].status not in _EXIT_STATUS:
        raise UserError(
            f"Run {run_id} is {found[0].status}, although its workers are done.",
            "`oceanrecords status` shows its tasks; `oceanrecords run` resumes it.",
        )
    return Outcome(found[0], tasks_of(connection, run_id))
