"""Exceptions in a worker as typed errors with a sentence, and those as measurements."""

from __future__ import annotations

from typing import Any

from wpk_envs.core import ErrorKind, Measurement
from wpk_envs.devices.messages import Failure, Refusal

NO_MEMORY = "ran out of memory"
SIGNS_OF_NO_MEMORY = ("out of memory", "bad_alloc", "allocate memory", "failed to allocate")
"""What the C++ library, torch and TVM write when they get no memory."""

LONGEST = 500


def failure(error: Exception, kind: ErrorKind) -> Failure:
    """An exception as an error of a kind; a lack of memory is always a crash."""
    if isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in SIGNS_OF_NO_MEMORY):
        return Failure("crash", f"it {NO_MEMORY} ({gist(error)})")
    return Failure(kind, gist(error))


def gist(error: Exception) -> str:
    """The telling line of an exception; TVM's have many."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = next((line for line in lines if line.startswith("Error message:")), lines[0] if lines else "no message")
    return f"{type(error).__name__}: {telling}"[:LONGEST]


def as_measurement(reply: Any, deadline: float, build_seconds: float = 0.0) -> Measurement:
    """A worker's reply to one candidate as its measurement.

    Args:
        reply: A `Measurement`, `Failure` or `Refusal`.
        deadline: Seconds that the worker had.
        build_seconds: What building had taken before.
    """
    if isinstance(reply, Measurement):
        return reply
    if isinstance(reply, Refusal):
        return Measurement(error="compile", message=reply.message, build_seconds=build_seconds)
    assert isinstance(reply, Failure)
    return Measurement(
        error=reply.error,
        message=reply.message,
        build_seconds=build_seconds,
        measure_seconds=deadline if reply.error == "timeout" else 0.0,
    )
