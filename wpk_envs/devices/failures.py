"""Exceptions in a worker as typed errors with a sentence."""

from __future__ import annotations

from wpk_envs.core import ErrorKind
from wpk_envs.devices.messages import Failure

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
