"""What a peer is: another way to run a whole model, which a plan is measured beside."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wpk_envs.planner.importing import Source

EXTRA = "pip install 'wpk-envs[planner]'"


@dataclass(frozen=True)
class Prepared:
    """A model that is ready to run; its inputs, the source's examples, are bound.

    Attributes:
        run: One inference; on a GPU it returns when the inference is over.
        outputs: Runs once and gives the model's outputs in order, in their canonical layout.
        version: Of the peer.
        settings: What was switched on, in words.
    """

    run: Callable[[], Any]
    outputs: Callable[[], list[np.ndarray]]
    version: str
    settings: str


class Peer(ABC):
    """A runtime or compiler that a plan is measured beside.

    Attributes:
        name: How it is asked for and called in files.
        label: For people.
        optional: Whether ``peers=all`` does without it where it is not installed.
        slow: Whether it takes many times as long as the others, so that only ``peers=all`` or its name asks for it.
    """

    name: str
    label: str
    optional = False
    slow = False

    @abstractmethod
    def supported(self, kind: str, machine: str) -> bool:
        """Whether it exists for a kind of device (``"cpu"``, ``"cuda"``) and a machine (``"x86_64"``)."""

    @abstractmethod
    def missing(self) -> str:
        """Why it cannot run here, as a sentence that says what to do; empty if it can."""

    @abstractmethod
    def prepare(self, source: Source, threads: int) -> Prepared:
        """Make a model ready to run.

        Args:
            source: The model.
            threads: Threads of one inference on a CPU.

        Raises:
            UserError: If the model cannot be handed over; a peer's own error, whichever, if it fails at it.
        """


def not_installed(peer: str, packages: Sequence[str]) -> str:
    """The sentence for packages of the extra that are not installed; empty if all are."""
    lacking = [package for package in packages if importlib.util.find_spec(package) is None]
    return f"peer {peer} needs {' and '.join(lacking)}; install it with {EXTRA}" if lacking else ""
