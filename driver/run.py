"""Starts a run in the database, executes it with several connections, and follows its tasks.

The database schedules the tasks. This module adds workers, and reads the progress from the tables.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Self, TypeAlias

import psycopg

from base.connection import Target, connect_to
from base.errors import EXIT_ERROR, EXIT_PARTIAL, UserError, from_database
from driver.warehouse import Run, Task, fetch, lock_holders, tasks_of

_EXIT_STATUS = {"succeeded": 0, "partial": EXIT_PARTIAL, "failed": EXIT_ERROR}
_PAUSE = 0.2  # seconds from one look at the tables to the next
_RESUMES = "Finished tasks stay. To resume the run: oceanrecords run"

# Gets the number of the run, its tasks that changed since the last call, and all its tasks.
Follow: TypeAlias = Callable[[int, list[Task], list[Task]], None]


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

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
    """The user stopped the run; its finished tasks stay.

    Attributes:
        run_id: the run, which the next one resumes.
    """

    def __init__(self, run_id: int) -> None:
        super().__init__()
        self.run_id = run_id


class _Worker(threading.Thread):
    """One connection that executes tasks of the run until it ends."""

    def __init__(
        self, connection: psycopg.Connection, run_id: int, done: queue.SimpleQueue[_Worker]
    ) -> None:
        super().__init__(name="oceanrecords worker", daemon=True)
        self.connection = connection
        self.error: psycopg.Error | None = None
        self._run_id = run_id
        self._done = done

    def run(self) -> None:
        """Call the engine, which returns when no task of the run is left."""
        try:
            self.connection.execute("CALL etl.work(%s)", [self._run_id])
        except psycopg.Error as error:
            self.error = error
        finally:
            self._done.put(self)

    def cancel(self) -> None:
        """Cancel the statement of this worker on the server."""
        try:
            self.connection.cancel_safe(timeout=5)
        except psycopg.Error:
            self.connection.close()


class Sessions:
    """Connections that can serve many runs: an open session keeps its plans."""

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
        """Return a connection to read with and the workers'; lost ones are opened again."""
        for name in self._names:
            if not _is_alive(self._connections.get(name)):
                self._connections[name] = connect_to(self._target, application_name=name)
        reader, *workers = (self._connections[name] for name in self._names)
        reader.execute("SET lock_timeout = '1min'")
        return reader, workers


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
    """Start a run, or resume the last one if it was interrupted, and execute it until it ends.

    Parameters:
        only: tasks or objects that the run is confined to.
        full_refresh: objects that are recomputed, or ['all'].
        origin: recorded with the run.
        follow: called for each change, in the main thread.
        sessions: connections that stay open afterwards; by default the run has its own.

    Returns:
        How the run ended.

    Raises:
        UserError: if another run is live, an object does not exist, a lock was not granted, or all
            workers were lost.
        Interrupted: if the user stopped it; the workers are stopped then.
    """
    with ExitStack() as stack:
        pool = sessions or stack.enter_context(Sessions(target, workers))
        reader, connections = pool.ready()
        try:
            row = (
                connections[0]
                .execute(
                    "SELECT etl.start_run(%s, %s, %s), clock_timestamp()",
                    [list(only or []) or None, list(full_refresh or []) or None, origin],
                )
                .fetchone()
            )
        except psycopg.errors.LockNotAvailable as error:
            raise _name_holders(from_database(error), reader) from error
        assert row is not None
        run_id, since = row
        _work(connections, run_id, reader, _Watcher(reader, run_id, since, follow))
        return _outcome(reader, run_id)


class _Watcher:
    """Reads the tasks of a run, and passes on those that have changed.

    Tasks that were over when this program resumed the run count as unchanged.
    """

    def __init__(
        self, connection: psycopg.Connection, run_id: int, since: datetime, follow: Follow
    ) -> None:
        self._connection = connection
        self._run_id = run_id
        self._since = since
        self._follow = follow
        self._known: dict[str, tuple[str, int, str | None]] | None = None

    def look(self) -> None:
        """Read the tasks once."""
        tasks = tasks_of(self._connection, self._run_id)
        states = {one.task: (one.status, one.attempts, one.waits_for) for one in tasks}
        known: Mapping[str, tuple[object, ...]] | None = self._known
        if known is None:
            known = {
                one.task: states[one.task]
                if one.is_over and one.ended_at and one.ended_at <= self._since
                else ("pending", 0, None)
                for one in tasks
            }
        changed = [one for one in tasks if known.get(one.task) != states[one.task]]
        changed.sort(key=lambda one: (one.ended_at is None, one.ended_at or self._since))
        if changed or self._known is None:
            # A closed output (`| head`) does not stop the load.
            with contextlib.suppress(BrokenPipeError, SystemExit):
                self._follow(self._run_id, changed, tasks)
        self._known = states

    def has_shared_work(self) -> bool:
        """Tell whether a second worker would find a task."""
        row = self._connection.execute("SELECT etl.has_shared_work(%s)", [self._run_id]).fetchone()
        return bool(row and row[0])


def _work(
    sessions: list[psycopg.Connection], run_id: int, reader: psycopg.Connection, watcher: _Watcher
) -> None:
    """Let the workers execute the run, and watch it, until all of them are done.

    The other workers start when the first has work to share, or is lost. If nothing is new there
    is none, and they would only be in its way.
    """
    done: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    workers = [_Worker(session, run_id, done) for session in sessions]
    started = 1
    left = 1
    try:
        workers[0].start()
        while left:
            watcher.look()
            with contextlib.suppress(queue.Empty):
                done.get(timeout=_PAUSE)
                left -= 1
            if started < len(workers) and (
                watcher.has_shared_work() if left else workers[0].error is not None
            ):
                for worker in workers[started:]:
                    worker.start()
                left += len(workers) - started
                started = len(workers)
        watcher.look()
    except KeyboardInterrupt:
        _stop(workers[:started])
        raise Interrupted(run_id) from None
    except psycopg.Error as error:
        _stop(workers[:started])
        raise _lost(error, run_id, reader) from error
    errors = [worker.error for worker in workers[:started] if worker.error is not None]
    if len(errors) == started:
        raise _lost(errors[0], run_id, reader) from errors[0]


def _stop(workers: list[_Worker]) -> None:
    """Stop the workers; close the connection of one that does not stop."""
    with contextlib.suppress(KeyboardInterrupt):
        for worker in workers:
            worker.cancel()
        for worker in workers:
            worker.join(20)
    for worker in workers:
        worker.connection.close()


def _lost(error: psycopg.Error, run_id: int, reader: psycopg.Connection) -> UserError:
    if error.sqlstate in ("3F000", "42P01", "42883"):  # an installation was left unfinished
        return from_database(error)
    told = from_database(error, context=f"Run {run_id} was cut off")
    told.hint = f"{told.hint} {_RESUMES}" if told.hint and told.code == "25P04" else _RESUMES
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return _name_holders(told, reader)
    return told


def _name_holders(told: UserError, reader: psycopg.Connection) -> UserError:
    with contextlib.suppress(psycopg.Error):
        told.detail = lock_holders(reader) or told.detail
    return told


def _outcome(connection: psycopg.Connection, run_id: int) -> Outcome:
    found = fetch(connection, Run, "WHERE run_id = %s", run_id)
    if not found:
        raise UserError(f"Run {run_id} does not exist any more.")
    if found[0].status not in _EXIT_STATUS:
        raise UserError(
            f"Run {run_id} is {found[0].status}, although its workers are done.",
            "To see its tasks: oceanrecords status. To resume it: oceanrecords run",
        )
    return Outcome(found[0], tasks_of(connection, run_id))
