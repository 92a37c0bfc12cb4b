"""What a device and its worker processes say to each other.

Messages are pickled, so a candidate's template travels as a reference to its class: it must live in a
module that the worker can import too.
"""

from __future__ import annotations

from dataclasses import dataclass

from wpk_envs.core import Candidate, DeviceInfo, ErrorKind, Operator
from wpk_envs.devices.ceilings import Ceilings


@dataclass(frozen=True)
class Start:
    """The first message to a worker.

    Attributes:
        threads: Threads of one kernel.
        memory_bytes: Memory that it may use on top of what it needs to start.
    """

    threads: int
    memory_bytes: int


@dataclass(frozen=True)
class Hello:
    """A worker's first answer: it is ready, and this is the device it sees."""

    info: DeviceInfo


@dataclass(frozen=True)
class Refusal:
    """A request that can never work, for a reason the user can act on."""

    message: str


@dataclass(frozen=True)
class Failure:
    """A request that ended in a typed error."""

    error: ErrorKind
    message: str


@dataclass(frozen=True)
class FindCeilings:
    """Asks for the machine's `Ceilings`."""


@dataclass(frozen=True)
class RaceBaselines:
    """Asks for an operator's `Baseline`."""

    operator: Operator


@dataclass(frozen=True)
class MeasureCandidate:
    """Asks for a candidate's `Measurement`.

    Attributes:
        candidate: What to build, check and time.
        baseline_name: The vendor path to time beside it.
        ceilings: What the machine cannot exceed.
        repeats: Pairs of samples; adaptive if none.
    """

    candidate: Candidate
    baseline_name: str
    ceilings: Ceilings
    repeats: int | None = None


Request = FindCeilings | RaceBaselines | MeasureCandidate
"""What a worker is asked; it travels as ``(seconds, request)`` with the seconds that it may take."""
