"""Holding Ctrl-C back for the moment in which a finished result is handed over."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Let the block end before a Ctrl-C that comes meanwhile is acted on.

    Only the main thread ever gets a ``KeyboardInterrupt``; elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pending: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, frame: pending.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous if previous is not None else signal.SIG_DFL)
        if pending:
            signal.raise_signal(signal.SIGINT)
