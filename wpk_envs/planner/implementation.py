"""The contract between those who offer a way to compute a node and those who choose and run it.

A `Provider` is a module, or an object, with four functions; `wpk_envs.planner.providers` lists them. `offers` and
`pack` are asked while a plan is made; `bind` alone when one is loaded, so it knows nothing but what a plan file holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from wpk_envs.core import DeviceInfo
from wpk_envs.planner.graph import Graph, Node

Call = Callable[[], Any]
"""A step of a plan, bound to its buffers: calling it reads the inputs and writes the outputs."""


@dataclass(frozen=True)
class Implementation:
    """A way to compute one node.

    Attributes:
        provider: Name of the provider that made the offer.
        label: What it is, for people: ``"winograd_conv F(4x4)"``, ``"oneDNN brgconv:avx512_core"``.
        inputs: Layout of each activation that the node reads (`Graph.activations`), in order.
        outputs: Layout of each tensor that the node makes, in order.
        settings: Everything that `bind` needs beside buffers and constants, as plain data.
        cost_us: What one call took when it was measured alone; none if it was not measured.
    """

    provider: str
    label: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    cost_us: float | None = None


@dataclass(frozen=True)
class Target:
    """What offers are made for.

    Attributes:
        device: The device.
        layouts: Layouts of images to offer for, such as ``("plain", "NHWC", "NCHW16c")``.
    """

    device: DeviceInfo
    layouts: tuple[str, ...]

    @property
    def threads(self) -> int:
        """Threads that one call uses."""
        return self.device.threads


@dataclass(frozen=True)
class Resources:
    """What calls are bound with.

    Attributes:
        threads: Threads that one call uses.
        functions: Compiled kernels by name. On a CPU they take tensors (anything that speaks DLPack); on a GPU each
            is a `wpk_envs.planner.cuda.functions.Kernel`.
        gpu: The `wpk_envs.planner.cuda.runtime.CudaRuntime` of the GPU that calls run on; none for this host's CPU.
    """

    threads: int
    functions: Mapping[str, Any] = field(default_factory=dict)
    gpu: Any = None


class Provider(Protocol):
    """Offers implementations of nodes, prepares their constants and binds their calls."""

    def unavailable(self) -> str:
        """Why it can offer nothing here, in a sentence; empty if it can."""

    def offers(self, graph: Graph, node: Node, target: Target) -> list[Implementation]:
        """Ways to compute a node, the more promising first; none if it has none."""

    def pack(self, graph: Graph, node: Node, implementation: Implementation) -> dict[str, np.ndarray]:
        """The node's constants as the implementation reads them, by a name of the provider's choice."""

    def bind(
        self,
        settings: Mapping[str, Any],
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        constants: Mapping[str, Any],
        resources: Resources,
    ) -> Call:
        """Bind a call to its buffers.

        Args:
            settings: Of the implementation.
            inputs: A buffer per activation: contiguous, aligned to 64 bytes, in its layout's shape. On a CPU it is a
                NumPy array, on a GPU a torch tensor.
            outputs: A buffer per output, as those.
            constants: What `pack` gave.
            resources: Threads and compiled kernels.
        """
