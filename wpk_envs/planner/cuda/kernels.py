"""Our GPU kernels as candidates of a plan: the store's best records and the default schedule, in their own layouts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wpk_envs.core import DeviceInfo
from wpk_envs.operators.fused import FusedOperator
from wpk_envs.planner import layouts
from wpk_envs.planner.assembly import CONVERT
from wpk_envs.planner.cuda.functions import CudaFunctions, bind
from wpk_envs.planner.graph import Graph, Node
from wpk_envs.planner.implementation import Implementation, Target
from wpk_envs.planner.kernels.provider import KernelProvider, Known
from wpk_envs.records import Store

NAME = "cuda_kernels"

LAYOUTS = {"NCHW": layouts.PLAIN, "NHWC": layouts.NHWC, "MK": layouts.PLAIN, "MN": layouts.PLAIN}
"""A plan's layout by what a kernel's argument calls its own."""


class CudaKernelProvider(KernelProvider):
    """Tuned and default kernels of our GPU templates.

    Args:
        device: Where they run.
        store: Where tuned ones are found; none for defaults only.
        functions: Where they are compiled.
    """

    functions: CudaFunctions  # type: ignore[assignment]

    def __init__(self, device: DeviceInfo, store: Store | None, functions: CudaFunctions) -> None:
        super().__init__(device, store, functions)  # type: ignore[arg-type]

    def offers(self, graph: Graph, node: Node, target: Target) -> list[Implementation]:
        """Each known schedule in the layouts that it has; conversions are torch's."""
        return [] if node.op == CONVERT else super().offers(graph, node, target)

    def _in_layouts(self, operator: FusedOperator, known: Known, wanted: Sequence[str]) -> Iterator[Implementation]:
        candidate = known.candidate
        self._candidates[candidate.key] = candidate
        kernel = self._kernel(candidate.key)
        source, sink = (LAYOUTS[kernel.arguments[position].layout] for position in (0, -1))
        if operator.kind == "conv2d" and not {source, sink} <= set(wanted):
            return
        name = f"kernel_{candidate.key}"
        self.functions.add(name, lambda: kernel)
        arguments = [{"name": each.name, "from": _origin(each.name)} for each in kernel.arguments]
        yield self._implementation(NAME, operator, known, {"function": name, "arguments": arguments}, source, sink)

    bind = staticmethod(lambda *given: bind(*given))


def _origin(argument: str) -> str:
    """Where an argument of a kernel comes from."""
    if argument in ("weight", "b", "bias"):
        return "constant"
    return "output" if argument == "output" else "input"
