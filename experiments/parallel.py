"""Calls side by side in processes, each on one thread."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from wpk_envs.errors import UserError


def side_by_side(work: Callable[[Any], Any], items: Sequence[Any], jobs: int | None) -> Iterator[Any]:
    """What a function returns for every item, as soon as it is known.

    Args:
        work: Can be pickled; it must not raise for what one item brings.
        items: Its arguments.
        jobs: Processes; none is one for each core, and with one there is none besides this.

    Raises:
        UserError: If a process died.
    """
    processes = min(jobs or os.cpu_count() or 1, len(items))
    if processes < 2:
        yield from map(work, items)
        return
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    with parallel_config("loky", inner_max_num_threads=1, initializer=_deaf_to_interrupts):
        outcomes = Parallel(n_jobs=processes, return_as="generator_unordered", batch_size=1)(
            delayed(work)(item) for item in items
        )
    try:
        yield from outcomes
    except TerminatedWorkerError as error:
        raise UserError(
            "a process was killed, perhaps for want of memory; what has ended is kept, and the same command with "
            f"resume=FOLDER jobs={max(1, processes // 2)} goes on with less at a time"
        ) from error
    finally:
        outcomes.close()


def _deaf_to_interrupts() -> None:
    """Ctrl-C is for the process that started this one: it ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
