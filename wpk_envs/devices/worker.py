"""The worker program: answers a device's requests in another process.

A device starts it from this module's name, never from the user's main module, so that unguarded scripts
and notebooks work. It serves requests from one connection until that closes.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import logging
import pickle
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any, Protocol

from wpk_envs.devices.failures import failure, gist
from wpk_envs.devices.messages import Failure, Hello, Refusal, Start
from wpk_envs.errors import UserError

GRACE_SECONDS = 5.0
"""A request that runs for longer than its deadline and this has lost the device that would have ended it."""


class Server(Protocol):
    """What answers requests in a worker; it is made with the settings of `Start`.

    Making it may raise `UserError` for what this host does not have.
    """

    info: Any
    """The device it sees; none if it needs none."""

    def serve(self, request: Any) -> Any:
        """The reply to one request; whatever is raised becomes a typed failure, `UserError` a refusal."""


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
            server: Server = load(start.server)(**start.settings)
        except UserError as error:
            _send(connection, Refusal(str(error)))
            return
        _send(connection, Hello(server.info))
        while True:
            _send(connection, _answer(server, connection.recv_bytes()))


def load(name: str) -> Any:
    """The object that ``module:name`` names."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _answer(server: Server, message: bytes) -> Any:
    """The reply to a pickled request; every exception becomes a message."""
    try:
        seconds, request = pickle.loads(message)
    except Exception as error:
        return Failure("compile", f"the worker cannot load the candidate: {gist(error)}")
    try:
        with _ends_itself_after(seconds + GRACE_SECONDS):
            return server.serve(request)
    except UserError as error:
        return Refusal(str(error))
    except Exception as error:
        return failure(error, "crash")


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
