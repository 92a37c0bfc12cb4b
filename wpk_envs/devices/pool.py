"""A pool of persistent worker processes that answer requests, whatever one of them does to a worker."""

from __future__ import annotations

import multiprocessing.connection
import os
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from wpk_envs.core import DeviceInfo
from wpk_envs.devices.interrupts import interrupts_deferred
from wpk_envs.devices.messages import Failure, Hello, Refusal, Request, Start
from wpk_envs.devices.process import WorkerProcess
from wpk_envs.errors import UserError

OnReply = Callable[[int, Any], None]

TASKS_PER_WORKER = 500
GROWTH_BYTES = 1 << 30
"""A worker is replaced after so many tasks, or when it holds so much more memory than at its start."""

FAILED_STARTS = 3
"""After this many failed starts in a row something is wrong with the installation, not with a candidate."""


class WorkerPool:
    """Up to ``size`` workers, started as they are needed or all at once by `warm_up`.

    Args:
        size: Most workers at a time.
        start: What each is told first.
    """

    def __init__(self, size: int, start: Start) -> None:
        self.size = size
        self.owner = os.getpid()
        self._start = start
        self._workers: list[WorkerProcess] = []
        self._wanted = 1
        self._info: DeviceInfo | None = None
        self._failed_starts = 0
        self._lock = threading.RLock()
        self._closed = self._playing = False

    def warm_up(self) -> None:
        """Start all workers; returns at once."""
        with self._lock:
            self._wanted = self.size
            self._fill()

    @property
    def info(self) -> DeviceInfo:
        """The device as its workers see it; waits for the first of them.

        Raises:
            UserError: If this host has no compiler target.
        """
        with self._lock:
            while self._info is None:
                self._fill()
                for worker in self._wait():
                    self._hear(worker)
            return self._info

    @property
    def pids(self) -> list[int]:
        """Process numbers of the workers."""
        return [worker.pid for worker in self._workers]

    def run(self, requests: Sequence[Request], seconds: float, on_reply: OnReply | None = None) -> list[Any]:
        """Answer every request, in order.

        Args:
            requests: What to ask; each goes to the next idle worker.
            seconds: Deadline of each.
            on_reply: Called in this thread with (position, reply) as soon as each is known.

        Returns:
            What the workers sent back; a `Failure` where one died or was too late.
        """
        messages = [_pickled((seconds, request)) for request in requests]
        with self._lock:
            if self._playing:
                raise RuntimeError("a device cannot be asked from within on_result")
            self._playing = True
            try:
                return _Round(self, messages, seconds, on_reply).play()
            finally:
                self._playing = False

    def close(self) -> None:
        """End all workers; safe to call twice."""
        with self._lock:
            self._closed = True
            workers, self._workers = self._workers, []
            if os.getpid() == self.owner:  # a forked child must not end its parent's workers
                for worker in workers:
                    worker.end()

    def _want(self, count: int) -> None:
        self._wanted = max(self._wanted, min(self.size, count))
        self._fill()

    def _fill(self) -> None:
        """Start workers until there are as many as wanted."""
        if self._closed:
            raise UserError("the device is closed; open another one")
        if os.getpid() != self.owner:
            raise UserError("the device was opened in another process; open one in this process")
        while len(self._workers) < self._wanted:
            self._workers.append(WorkerProcess(self._start))

    def _wait(self) -> list[WorkerProcess]:
        """Wait until workers have something to say or are overdue; which ones."""
        now = time.monotonic()
        deadlines = [worker.deadline for worker in self._workers if worker.deadline is not None]
        timeout = max(0.0, min(deadlines) - now) if deadlines else None
        ready = set(multiprocessing.connection.wait([worker.connection for worker in self._workers], timeout))
        now = time.monotonic()
        overdue = [w for w in self._workers if w.deadline is not None and w.deadline <= now]
        return [worker for worker in self._workers if worker.connection in ready or worker in overdue]

    def _hear(self, worker: WorkerProcess) -> tuple[int, Any] | None:
        """Take in what a worker has to say: a task's number and reply, or nothing of concern.

        Raises:
            UserError: If the worker refuses to start.
            RuntimeError: If workers cannot be started.
        """
        if not worker.connection.poll():
            late = f"no answer within the deadline of {worker.allowed_seconds:g} s"
            return self._bury(worker, Failure("timeout", late))
        try:
            message = worker.receive()
        except EOFError:
            return self._bury(worker, None)
        if worker.task is not None:
            task = worker.finish()
            if worker.tasks_done >= TASKS_PER_WORKER or worker.grown_by() > GROWTH_BYTES:
                self._drop(worker)
            return task, message
        if isinstance(message, Refusal):
            self._drop(worker)
            raise UserError(message.message)
        assert isinstance(message, Hello)
        worker.greet()
        self._info, self._failed_starts = message.info, 0
        return None

    def _bury(self, worker: WorkerProcess, failure: Failure | None) -> tuple[int, Any] | None:
        """End a worker that is dead or overdue; its task and what became of it, if it had one."""
        task, started = worker.task, worker.ready
        obituary = self._drop(worker)
        failure = failure or Failure("crash", obituary)
        self._failed_starts += not started
        if self._failed_starts >= FAILED_STARTS:
            raise RuntimeError(f"worker processes do not start: {failure.message}")
        self._fill()
        return None if task is None else (task, failure)

    def _drop(self, worker: WorkerProcess) -> str:
        self._workers.remove(worker)
        return worker.end()


class _Round:
    """One batch of requests on its way through a pool."""

    def __init__(self, pool: WorkerPool, messages: list[bytes], seconds: float, on_reply: OnReply | None) -> None:
        self.pool = pool
        self.messages = messages
        self.seconds = seconds
        self.on_reply = on_reply
        self.replies: dict[int, Any] = {}
        self.waiting = deque(range(len(messages)))
        self.crashed_once: set[int] = set()

    def play(self) -> list[Any]:
        """Serve the batch to its end; an exception kills what is still being worked on."""
        try:
            self.pool._want(len(self.messages))
            while len(self.replies) < len(self.messages):
                self.pool._fill()
                self._assign()
                self._collect(self.pool._wait())
        except BaseException as error:
            with interrupts_deferred():
                self._abandon(report=isinstance(error, KeyboardInterrupt))
            raise
        return [self.replies[position] for position in range(len(self.messages))]

    def _assign(self) -> None:
        idle = [worker for worker in self.pool._workers if worker.idle]
        for worker in idle:
            if worker.connection.poll():  # unasked, it has nothing to say: it is dead
                self.pool._hear(worker)
            elif self.waiting:
                task = self.waiting.popleft()
                worker.submit(task, self.messages[task], self.seconds)

    def _collect(self, workers: Sequence[WorkerProcess]) -> None:
        for worker in workers:
            with interrupts_deferred():
                heard = self.pool._hear(worker)
                if heard is not None:
                    self._report(*heard)

    def _report(self, task: int, reply: Any) -> None:
        if isinstance(reply, Failure) and reply.error == "crash" and task not in self.crashed_once:
            # An earlier task may have broken the worker's memory: only two crashes are this one's own.
            self.crashed_once.add(task)
            self.waiting.appendleft(task)
            return
        self.replies[task] = reply
        if self.on_reply is not None:
            self.on_reply(task, reply)

    def _abandon(self, report: bool) -> None:
        """Report what is finished already, then end the workers that are still busy."""
        busy = [worker for worker in self.pool._workers if worker.task is not None]
        try:
            self._collect([worker for worker in busy if report and worker.connection.poll()])
        finally:
            for worker in busy:
                if worker.task is not None and worker in self.pool._workers:
                    self.pool._drop(worker)


def _pickled(request: tuple[float, Request]) -> bytes:
    try:
        return pickle.dumps(request)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UserError(
            f"a worker process cannot be sent this request: {error}; define operators and templates at the top level "
            "of a module"
        ) from error
