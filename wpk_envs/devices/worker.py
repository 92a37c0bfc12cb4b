"""The worker program: compiles, checks and times candidates for a device in another process.

A device starts it from this module's name, never from the user's main module, so that unguarded scripts
and notebooks work. It serves requests from one connection until that closes.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import pickle
import sys
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

from wpk_envs.core import DeviceInfo
from wpk_envs.devices.failures import failure, gist
from wpk_envs.devices.messages import Failure, FindCeilings, Hello, MeasureCandidate, RaceBaselines, Refusal, Start
from wpk_envs.errors import UserError

GRACE_SECONDS = 5.0
"""A request that runs for longer than its deadline and this has lost the device that would have ended it."""


def main(descriptor: int) -> None:
    """Serve requests from a connection until it closes.

    Args:
        descriptor: File descriptor of this end of the connection.
    """
    faulthandler.enable()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    connection = Connection(descriptor)
    with contextlib.suppress(EOFError, ConnectionError):  # the device is gone
        start: Start = pickle.loads(connection.recv_bytes())
        try:
            server = Server(start)
        except UserError as error:
            _send(connection, Refusal(str(error)))
            return
        _send(connection, Hello(server.info))
        while True:
            _send(connection, server.answer(connection.recv_bytes()))


class Server:
    """Answers requests in this process.

    Raises:
        UserError: If this host has no compiler target.
    """

    def __init__(self, start: Start) -> None:
        import torch

        from wpk_envs.devices.host import cpu_info
        from wpk_envs.devices.measuring import Workbench

        torch.set_num_threads(start.threads)
        self.info: DeviceInfo = cpu_info(start.threads)
        self._bench = Workbench(self.info)
        self._inference_mode = torch.inference_mode
        limit_memory(start.memory_bytes)

    def answer(self, message: bytes) -> Any:
        """The reply to a pickled request; every exception becomes a message."""
        try:
            seconds, request = pickle.loads(message)
        except Exception as error:
            return Failure("compile", f"the worker cannot load the candidate: {gist(error)}")
        try:
            with self._inference_mode(), _ends_itself_after(seconds + GRACE_SECONDS):
                return self._serve(request)
        except UserError as error:
            return Refusal(str(error))
        except Exception as error:
            return failure(error, "crash")

    def _serve(self, request: Any) -> Any:
        if isinstance(request, MeasureCandidate):
            return self._bench.measure(request)
        if isinstance(request, RaceBaselines):
            from wpk_envs.devices.baseline import race

            return race(request.operator, self.info.threads)
        if isinstance(request, FindCeilings):
            from wpk_envs.devices.ceilings import measure_ceilings

            return measure_ceilings(self.info)
        raise TypeError(f"unknown request {request!r}")


def limit_memory(extra_bytes: int) -> None:
    """Let this process allocate no more than so much on top of what it has now (Linux)."""
    import resource

    import psutil

    if not sys.platform.startswith("linux"):
        return
    now = psutil.Process().memory_info().data
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = now + extra_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard < 0 else min(wanted, hard), hard))


@contextlib.contextmanager
def _ends_itself_after(seconds: float) -> Iterator[None]:
    """End this process if the block takes longer, even if it never returns to Python."""
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _send(connection: Connection, message: Any) -> None:
    connection.send_bytes(pickle.dumps(message))
