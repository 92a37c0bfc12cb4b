"""What a device and its worker processes say to each other.

Messages are pickled, so a candidate's template travels as a reference to its class: it must live in a
module that the worker can import too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wpk_envs.core import Candidate, ErrorKind, Operator
from wpk_envs.devices.ceilings import Ceilings


@dataclass(frozen=True)
class Start:
    """The first message to a worker.

    Attributes:
        server: The class that answers requests there, as ``module:Class``; see `wpk_envs.devices.worker.Server`.
        settings: What it is called with, by name.
        threads: Threads of the libraries in the process.
        lasting: Whether the process is kept however many requests it has answered and however much memory
            it holds: starting another one is dear.
    """

    server: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1
    lasting: bool = False


@dataclass(frozen=True)
class Hello:
    """A worker's first answer: it is ready, and this is the device it sees, if it sees one."""

    info: Any


@dataclass(frozen=True)
class Last:
    """A reply after which the worker is of no more use and is to be replaced."""

    reply: Any


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
