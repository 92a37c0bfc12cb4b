"""A device's handle on one worker process: start it, talk to it, end it, tell how it died."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from wpk_envs.devices.messages import Start

BOOTSTRAP = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from wpk_envs.devices import worker; "
BOOTSTRAP += "worker.main(int(sys.argv[2]))"
"""Takes over the parent's search path before anything is imported (``-m`` would put the current folder first)."""

DYING_SECONDS = 2.0

START_SECONDS = 180.0
"""A worker imports TVM or torch; on a busy machine that takes its time."""


class WorkerProcess:
    """One running worker. Its state: starting until its hello, then idle, or busy with one task.

    Args:
        start: What the worker is told first.
        slot: Its place in its pool.
    """

    def __init__(self, start: Start, slot: int = 0) -> None:
        self.slot = slot
        self.lasting = start.lasting
        ours, theirs = socket.socketpair()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the process)
        search_path = [str(entry) or os.getcwd() for entry in sys.path]
        command = [sys.executable, "-c", BOOTSTRAP, json.dumps(search_path), str(theirs.fileno())]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, **environment(start.threads)},
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # a terminal's Ctrl-C reaches the user's process only
        )
        theirs.close()
        self.connection = Connection(ours.detach())
        self.ready = False
        self.task: int | None = None
        self.deadline: float | None = None
        self.allowed_seconds = 0.0
        self.tasks_done = 0
        self._memory_at_start = 0
        self._send(pickle.dumps(start), START_SECONDS)

    @property
    def idle(self) -> bool:
        """Whether it waits for a task."""
        return self.ready and self.task is None

    @property
    def pid(self) -> int:
        """Process number."""
        return self._process.pid

    def greet(self) -> None:
        """Note that its hello has come."""
        self.ready, self.deadline = True, None
        self._memory_at_start = self._memory()

    def submit(self, task: int, message: bytes, seconds: float) -> None:
        """Give it a task, to be answered within so many seconds."""
        self.task = task
        self._send(message, seconds)

    def _send(self, message: bytes, seconds: float) -> None:
        self.deadline, self.allowed_seconds = time.monotonic() + seconds, seconds
        with contextlib.suppress(ConnectionError):  # if it is dead, reading from it will tell
            self.connection.send_bytes(message)

    def receive(self) -> Any:
        """The message that has arrived.

        Raises:
            EOFError: If the process is dead.
        """
        try:
            return pickle.loads(self.connection.recv_bytes())
        except (OSError, EOFError) as error:
            raise EOFError("the worker is gone") from error

    def finish(self) -> int:
        """Make it idle; the task that it was busy with."""
        assert self.task is not None
        task, self.task, self.deadline = self.task, None, None
        self.tasks_done += 1
        return task

    def grown_by(self) -> int:
        """Bytes of memory that it holds on top of what it started with."""
        return self._memory() - self._memory_at_start

    def _memory(self) -> int:
        if self.lasting:
            return 0
        import psutil

        try:
            return int(psutil.Process(self.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def end(self, dying: bool = False) -> str:
        """End it and whatever it started, now; how it ended, in a sentence.

        Args:
            dying: Whether it has given up already; then it may take a moment to end in its own way.
        """
        if dying:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(DYING_SECONDS)
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        code = self._process.wait()
        last = self._last_words()
        self.connection.close()
        self._log.close()
        cause = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        if -code == signal.SIGKILL or "out of memory" in last.lower() or "bad_alloc" in last:
            cause += ", probably out of memory"
        return f"the worker process {cause}" + (f" ({last})" if last else "")

    def _last_words(self) -> str:
        """The last line it wrote that speaks of an error; empty if there is none."""
        size = os.fstat(self._log.fileno()).st_size
        text = os.pread(self._log.fileno(), 8192, max(0, size - 8192)).decode(errors="replace")
        telling = [line.strip() for line in text.splitlines() if re.search(r"error|bad_alloc|timeout!", line, re.I)]
        return telling[-1][:300] if telling else ""


def wait_for(workers: Sequence[WorkerProcess]) -> list[WorkerProcess]:
    """Wait until workers have something to say or are overdue; which ones."""
    now = time.monotonic()
    deadlines = [worker.deadline for worker in workers if worker.deadline is not None]
    timeout = max(0.0, min(deadlines) - now) if deadlines else None
    ready = set(wait([worker.connection for worker in workers], timeout))
    now = time.monotonic()
    overdue = [worker for worker in workers if worker.deadline is not None and worker.deadline <= now]
    return [worker for worker in workers if worker.connection in ready or worker in overdue]


def environment(threads: int) -> Mapping[str, str]:
    """Variables for a worker whose kernels use so many threads."""
    count = str(threads)
    return {
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "TVM_NUM_THREADS": count,
        "TVM_BIND_THREADS": "0",  # or several workers' threads would sit on the same first cores
    }
