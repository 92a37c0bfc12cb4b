"""Graph optimisation: named passes, each a pure function of a graph that leaves its results the same."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from wpk_envs.errors import unknown
from wpk_envs.planner.graph import Graph
from wpk_envs.planner.passes.common_subexpressions import eliminate_common_subexpressions
from wpk_envs.planner.passes.dead_code import eliminate_dead_code
from wpk_envs.planner.passes.fold_batch_norm import fold_batch_norm
from wpk_envs.planner.passes.fold_constants import fold_constants
from wpk_envs.planner.passes.fold_transposes import fold_transposes
from wpk_envs.planner.passes.fuse_activation import fuse_activation
from wpk_envs.planner.passes.fuse_bias_and_scale import fuse_bias_and_scale
from wpk_envs.planner.passes.fuse_residual import fuse_residual
from wpk_envs.planner.passes.fuse_scale import fuse_scale
from wpk_envs.planner.passes.recognise_activations import recognise_activations
from wpk_envs.planner.passes.recognise_layer_norm import recognise_layer_norm
from wpk_envs.planner.passes.remove_identities import remove_identities

_DEFAULT: tuple[Callable[[Graph], Graph], ...] = (
    eliminate_dead_code,
    fold_constants,
    remove_identities,
    eliminate_common_subexpressions,
    recognise_activations,
    recognise_layer_norm,
    fold_batch_norm,
    fuse_bias_and_scale,
    fuse_scale,
    fold_transposes,
    fuse_residual,
    fuse_activation,
)

PASSES: dict[str, Callable[[Graph], Graph]] = {function.__name__: function for function in _DEFAULT}
"""Every pass by name, in the default order."""


@dataclass(frozen=True)
class PassReport:
    """What a pass did.

    Attributes:
        name: A key of `PASSES`.
        description: What it does, in a sentence.
        before: Operators before it, by operation.
        after: Operators after it, by operation.
        seconds: How long it took.
    """

    name: str
    description: str
    before: Mapping[str, int]
    after: Mapping[str, int]
    seconds: float

    @property
    def operators_before(self) -> int:
        """Operators before the pass."""
        return sum(self.before.values())

    @property
    def operators_after(self) -> int:
        """Operators after the pass."""
        return sum(self.after.values())


def optimise(
    graph: Graph, names: Sequence[str] | None = None, skip: Sequence[str] = ()
) -> tuple[Graph, list[PassReport]]:
    """Run passes over a graph.

    Args:
        graph: Left as it is.
        names: Passes to run, in this order; none for all in the default order.
        skip: Passes to leave out.

    Returns:
        The optimised graph, and a report per pass that ran.

    Raises:
        UserError: For a name that is no pass.
    """
    chosen = tuple(PASSES) if names is None else tuple(names)
    for name in (*chosen, *skip):
        if name not in PASSES:
            raise unknown("pass", name, PASSES)
    reports = []
    for name in chosen:
        if name not in skip:
            graph, report = _run(name, graph)
            reports.append(report)
    return graph, reports


def _run(name: str, graph: Graph) -> tuple[Graph, PassReport]:
    start = time.perf_counter()
    after = PASSES[name](graph)
    seconds = time.perf_counter() - start
    description = inspect.cleandoc(PASSES[name].__doc__ or "").splitlines()[0]
    return after, PassReport(name, description, graph.operations(), after.operations(), seconds)
