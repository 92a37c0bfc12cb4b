"""A batch of requests on its way through one pool of workers, or through several one after the other."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wpk_envs.devices.interrupts import interrupts_deferred
from wpk_envs.devices.messages import Failure
from wpk_envs.devices.process import WorkerProcess, wait_for
from wpk_envs.errors import UserError

if TYPE_CHECKING:
    from wpk_envs.devices.pool import WorkerPool

OnReply = Callable[[int, Any], None]


@dataclass(frozen=True)
class Stage:
    """One pool that requests pass.

    Attributes:
        pool: Who answers; each request goes to the next idle worker.
        seconds: Deadline of each request.
        forward: Called with (position, reply); gives the request for the next stage, none if the reply is final.
    """

    pool: WorkerPool
    seconds: float
    forward: Callable[[int, Any], Any] = lambda position, reply: None


def play(stages: Sequence[Stage], requests: Sequence[Any], on_reply: OnReply | None = None) -> list[Any]:
    """Answer every request, in order; later stages work while earlier ones go on.

    Args:
        stages: The pools that requests pass, each pool once.
        requests: What the first stage is asked.
        on_reply: Called in this thread with (position, final reply) as soon as each is known.

    Returns:
        What the workers sent back; a `Failure` where one died or was too late.
    """
    lines = [_Line(stage) for stage in stages]
    for position, request in enumerate(requests):
        lines[0].add(position, request)
    with ExitStack() as held:
        for stage in stages:
            held.enter_context(_alone_with(stage.pool))
        return _Round(lines, len(requests), on_reply).play()


@contextmanager
def _alone_with(pool: WorkerPool) -> Iterator[None]:
    with pool.lock:
        if pool.playing:
            raise RuntimeError("a device cannot be asked from within on_result")
        pool.playing = True
        try:
            yield
        finally:
            pool.playing = False


class _Line:
    """Requests that wait for a worker of one stage."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.pool = stage.pool
        self._messages: dict[int, bytes] = {}
        self._waiting: deque[int] = deque()
        self._crashed_once: set[int] = set()

    def add(self, position: int, request: Any) -> None:
        """Let another request wait."""
        self._messages[position] = _pickled((self.stage.seconds, request))
        self._waiting.append(position)

    def assign(self) -> None:
        """Give waiting requests to idle workers."""
        for worker in [worker for worker in self.pool.workers if worker.idle]:
            if worker.connection.poll():  # unasked, it has nothing to say: it is dead
                self.pool.hear(worker)
            elif self._waiting:
                position = self._waiting.popleft()
                worker.submit(position, self._messages[position], self.stage.seconds)

    def again(self, position: int, reply: Any) -> bool:
        """Whether a reply is not to be believed yet, so that the request waits once more.

        An earlier task may have broken the worker's memory: only two crashes are this one's own.
        """
        if isinstance(reply, Failure) and reply.error == "crash" and position not in self._crashed_once:
            self._crashed_once.add(position)
            self._waiting.appendleft(position)
            return True
        del self._messages[position]
        return False


class _Round:
    """One batch."""

    def __init__(self, lines: Sequence[_Line], size: int, on_reply: OnReply | None) -> None:
        self.lines = lines
        self.size = size
        self.on_reply = on_reply
        self.replies: dict[int, Any] = {}

    def play(self) -> list[Any]:
        """Serve the batch to its end; an exception kills what is still being worked on."""
        try:
            for line in self.lines:
                line.pool.want(self.size)
            while len(self.replies) < self.size:
                for line in self.lines:
                    line.pool.fill()
                    line.assign()
                self._collect(wait_for([worker for line in self.lines for worker in line.pool.workers]))
        except BaseException as error:
            with interrupts_deferred():
                self._abandon(report=isinstance(error, KeyboardInterrupt))
            raise
        return [self.replies[position] for position in range(self.size)]

    def _collect(self, workers: Sequence[WorkerProcess]) -> None:
        for number, line in enumerate(self.lines):
            for worker in [worker for worker in workers if worker in line.pool.workers]:
                with interrupts_deferred():
                    heard = line.pool.hear(worker)
                    if heard is not None:
                        self._take(number, *heard)

    def _take(self, number: int, position: int, reply: Any) -> None:
        """Pass a reply of one stage on, to the next stage or to the user."""
        line = self.lines[number]
        if line.again(position, reply):
            return
        request = line.stage.forward(position, reply)
        if request is not None:
            self.lines[number + 1].add(position, request)
            return
        self.replies[position] = reply
        if self.on_reply is not None:
            self.on_reply(position, reply)

    def _abandon(self, report: bool) -> None:
        """Report what is finished already, then end the workers that are still busy."""
        busy = [worker for line in self.lines for worker in line.pool.workers if worker.task is not None]
        try:
            self._collect([worker for worker in busy if report and worker.connection.poll()])
        finally:
            for line in self.lines:
                line.pool.drop_busy()


def check_importable(thing: object) -> None:
    """Raise `UserError` for an object of a class that worker processes cannot import."""
    if type(thing).__module__ == "__main__":
        raise UserError(
            f"{type(thing).__name__} is defined in __main__, which worker processes never import; "
            "move it into a module of its own and import it from there"
        )


def _pickled(request: tuple[float, Any]) -> bytes:
    try:
        return pickle.dumps(request)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UserError(
            f"a worker process cannot be sent this request: {error}; define operators and templates at the top level "
            "of a module"
        ) from error
