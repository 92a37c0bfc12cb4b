"""A pool of persistent worker processes that answer requests, whatever one of them does to a worker."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any

from wpk_envs.devices.messages import Failure, Hello, Last, Refusal, Start
from wpk_envs.devices.process import WorkerProcess, wait_for
from wpk_envs.devices.rounds import OnReply, Stage, play
from wpk_envs.errors import UserError

TASKS_PER_WORKER = 500
GROWTH_BYTES = 1 << 30
"""A worker is replaced after so many tasks, or when it holds so much more memory than at its start, unless its
`Start` says that it lasts."""

FAILED_STARTS = 3
"""After this many failed starts in a row something is wrong with the installation, not with a candidate."""


class WorkerPool:
    """Workers in slots, started as they are needed or all at once by `warm_up`.

    What plays a batch (`wpk_envs.devices.rounds`) holds ``lock`` and moves workers by `want`, `fill`, `hear` and
    `drop_busy`; users call the others.

    Args:
        starts: What the worker of each slot is told first.
    """

    def __init__(self, starts: Sequence[Start]) -> None:
        self.owner = os.getpid()
        self.workers: list[WorkerProcess] = []
        self.lock = threading.RLock()
        self.playing = False
        self._starts = tuple(starts)
        self._wanted = 1
        self._info: Any = None
        self._failed_starts = 0
        self._closed = False

    def warm_up(self) -> None:
        """Start all workers; returns at once."""
        with self.lock:
            self.want(len(self._starts))
            self.fill()

    @property
    def info(self) -> Any:
        """The device as its workers see it; waits for the first of them.

        Raises:
            UserError: If this host has no such device.
        """
        with self.lock:
            while self._info is None:
                self.fill()
                for worker in wait_for(self.workers):
                    self.hear(worker)
            return self._info

    def wait_for_all(self) -> None:
        """Start all workers and wait until each is ready; raises as `info`."""
        with self.lock:
            self.warm_up()
            while not all(worker.ready for worker in self.workers):
                for worker in wait_for(self.workers):
                    self.hear(worker)
                self.fill()

    @property
    def pids(self) -> list[int]:
        """Process numbers of the workers."""
        return [worker.pid for worker in self.workers]

    def run(self, requests: Sequence[Any], seconds: float, on_reply: OnReply | None = None) -> list[Any]:
        """Answer every request, each within so many seconds; see `wpk_envs.devices.rounds.play`."""
        return play([Stage(self, seconds)], requests, on_reply)

    def close(self) -> None:
        """End all workers; safe to call twice."""
        with self.lock:
            self._closed = True
            workers, self.workers = self.workers, []
            if os.getpid() == self.owner:  # a forked child must not end its parent's workers
                for worker in workers:
                    worker.end()

    def want(self, count: int) -> None:
        """Have use for so many workers, from now on."""
        self._wanted = max(self._wanted, min(len(self._starts), count))

    def fill(self) -> None:
        """Start workers until there are as many as wanted."""
        if self._closed:
            raise UserError("the device is closed; open another one")
        if os.getpid() != self.owner:
            raise UserError("the device was opened in another process; open one in this process")
        taken = {worker.slot for worker in self.workers}
        for slot in range(self._wanted):
            if slot not in taken:
                self.workers.append(WorkerProcess(self._starts[slot], slot))

    def hear(self, worker: WorkerProcess) -> tuple[int, Any] | None:
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
            return self._finish(worker, message)
        if isinstance(message, Refusal):
            self._drop(worker)
            raise UserError(message.message)
        assert isinstance(message, Hello)
        self._greet(worker, message)
        return None

    def drop_busy(self) -> None:
        """End the workers that have a task."""
        for worker in [worker for worker in self.workers if worker.task is not None]:
            self._drop(worker)

    def _greet(self, worker: WorkerProcess, hello: Hello) -> None:
        if self._info not in (None, hello.info):
            raise UserError(f"the devices of one batch must be alike, but these differ: {self._info} and {hello.info}")
        worker.greet()
        self._info, self._failed_starts = hello.info, 0

    def _finish(self, worker: WorkerProcess, message: Any) -> tuple[int, Any]:
        task = worker.finish()
        worn = worker.tasks_done >= TASKS_PER_WORKER or worker.grown_by() > GROWTH_BYTES
        if isinstance(message, Last) or (worn and not worker.lasting):
            self._drop(worker)
        return task, message.reply if isinstance(message, Last) else message

    def _bury(self, worker: WorkerProcess, failure: Failure | None) -> tuple[int, Any] | None:
        """End a worker that is dead or overdue; its task and what became of it, if it had one."""
        task, started = worker.task, worker.ready
        obituary = self._drop(worker, dying=failure is None)
        failure = failure or Failure("crash", obituary)
        self._failed_starts += not started
        if self._failed_starts >= FAILED_STARTS:
            raise RuntimeError(f"worker processes do not start: {failure.message}")
        self.fill()
        return None if task is None else (task, failure)

    def _drop(self, worker: WorkerProcess, dying: bool = False) -> str:
        self.workers.remove(worker)
        return worker.end(dying)
