"""Offers our own kernels: for convolutions and matrix products the store's best records and the default schedule.

They also convert images between layouts.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wpk_envs.core import Candidate, Config, DeviceInfo, Kernel, stable_hash
from wpk_envs.errors import UserError
from wpk_envs.operators.fused import FusedOperator
from wpk_envs.planner import layouts
from wpk_envs.planner.assembly import CONVERT
from wpk_envs.planner.graph import Graph, Node
from wpk_envs.planner.implementation import Implementation, Target
from wpk_envs.planner.kernels import conversions
from wpk_envs.planner.kernels.compiled import CompiledFunctions, bind
from wpk_envs.planner.kernels.relayout import Relaid, relaid, with_layouts
from wpk_envs.planner.operator_of import operator_of
from wpk_envs.records import Store
from wpk_envs.schedules import templates_for
from wpk_envs.schedules.defaults import default_candidate

NAME = "kernels"
LOOKED_AT = 60
"""Records of an operator that are looked at, the fastest first."""
PER_ALGORITHM = 2
"""Of each algorithm (template, and Winograd's tile) that many of the fastest are offered."""


@dataclass(frozen=True)
class Known:
    """A schedule worth offering.

    Attributes:
        candidate: It.
        latency_us: As it was measured when it was tuned; none of a default that never was.
        speedup: Over the vendor's best, as measured then.
        source: ``"record"`` or ``"default"``.
    """

    candidate: Candidate
    latency_us: float | None
    speedup: float | None
    source: str


class KernelProvider:
    """Tuned and default kernels of our templates.

    Args:
        device: Where they run.
        store: Where tuned ones are found; none for defaults only.
        functions: Where they are compiled; none for a collection of their own.
    """

    def __init__(self, device: DeviceInfo, store: Store | None, functions: CompiledFunctions | None = None) -> None:
        self.device = device
        self.store = store
        self.functions = CompiledFunctions(device) if functions is None else functions
        self._kernel = functools.lru_cache(maxsize=None)(self._build)
        self._candidates: dict[str, Candidate] = {}

    def unavailable(self) -> str:
        """Templates exist for every device that a plan is made for."""
        return ""

    def offers(self, graph: Graph, node: Node, target: Target) -> list[Implementation]:
        """Each known schedule in every pair of layouts that it can have, or the conversion between two layouts."""
        if node.op == CONVERT:
            return conversions.offers(graph, node, self.functions)
        operator = operator_of(graph, node)
        if not isinstance(operator, FusedOperator):
            return []
        return [offer for known in self.known(operator) for offer in self._in_layouts(operator, known, target.layouts)]

    def known(self, operator: FusedOperator) -> list[Known]:
        """The schedules worth offering, the fastest first, the default last."""
        found = _diverse(self._records(operator))
        try:
            default = default_candidate(operator, self.device)
        except UserError:  # no template has a default for it
            return found
        if default.key not in [known.candidate.key for known in found]:
            found.append(Known(default, None, None, "default"))
        return found

    def _records(self, operator: FusedOperator) -> list[Known]:
        if self.store is None:
            return []
        templates = {template.name: template for template in templates_for(self.device.kind)}
        versions = {name: template.version for name, template in templates.items()}
        records = self.store.best(operator, self.device.fingerprint, n=LOOKED_AT, templates=versions)
        return [
            Known(
                Candidate(operator, templates[record.template], record.config),
                record.measurement.latency_us,
                record.measurement.speedup,
                "record",
            )
            for record in records
        ]

    def _build(self, key: str) -> Kernel:
        candidate = self._candidates[key]
        return candidate.template.kernel(candidate.operator, candidate.config, self.device)

    def _in_layouts(self, operator: FusedOperator, known: Known, wanted: Sequence[str]) -> Iterator[Implementation]:
        candidate = known.candidate
        self._candidates[candidate.key] = candidate
        kernel = self._kernel(candidate.key)
        lanes = int(candidate.config.get("vector", 1))
        x, output = kernel.arguments[0], kernel.arguments[-1]
        choices = wanted if operator.kind == "conv2d" else (layouts.PLAIN,)
        for source in choices:
            for sink in choices:
                changes = {
                    argument.name: relaid(operator, argument, source if argument is x else sink, lanes)
                    for argument in kernel.arguments
                    if argument is x or argument is output or argument.name == "residual"
                }
                if all(change is not None for change in changes.values()):
                    yield self._offer(operator, known, kernel, changes, source, sink)

    def _offer(
        self, operator: FusedOperator, known: Known, kernel: Kernel, changes: Mapping[str, Any], source: str, sink: str
    ) -> Implementation:
        name = f"kernel_{stable_hash([known.candidate.key, source, sink])}"
        self.functions.add(name, lambda: with_layouts(kernel, dict(changes)))
        arguments = [_argument(argument.name, argument.shape, changes) for argument in kernel.arguments]
        return self._implementation(NAME, operator, known, {"function": name, "arguments": arguments}, source, sink)

    def _implementation(
        self, provider: str, operator: FusedOperator, known: Known, call: Mapping[str, Any], source: str, sink: str
    ) -> Implementation:
        """An offer of a schedule: how its kernel is called, and what is known of it."""
        candidate = known.candidate
        settings = {
            **call,
            "candidate": candidate.key,
            "template": candidate.template.name,
            "version": candidate.template.version,
            "config": dict(candidate.config),
            "source": known.source,
            "tuned_us": known.latency_us,
            "tuned_speedup": known.speedup,
        }
        inputs = (source, sink) if operator.residual else (source,)
        label = describe(candidate.config) + (" (default)" if known.source == "default" else "")
        return Implementation(provider, label, inputs, (sink,), settings)

    def pack(self, graph: Graph, node: Node, implementation: Implementation) -> dict[str, np.ndarray]:
        """Weights and bias as the kernel reads them."""
        if node.op == CONVERT:
            return {}
        kernel = self._kernel(implementation.settings["candidate"])
        names = iter([name for name in node.inputs if name in graph.constants])
        packed = {}
        for argument in kernel.arguments:
            if argument.name in ("weight", "b", "bias"):
                value = graph.constants[next(names)]
                packed[argument.name] = argument.pack(
                    value[None] if argument.name == "b" else value.reshape(-1) if argument.name == "bias" else value
                )
        return packed

    bind = staticmethod(lambda *given: bind(*given))


def _argument(name: str, shape: Sequence[int], changes: Mapping[str, Relaid]) -> dict[str, Any]:
    if name in changes:
        return {"from": "output" if name == "output" else "input", "shape": list(changes[name].shape)}
    return {"constant": name, "shape": list(shape)}


def describe(config: Config) -> str:
    """A schedule's algorithm for people, such as ``"winograd_conv F(4x4)"``."""
    m = config.get("winograd_m")
    return f"{config['template']} F({m}x{m})" if m is not None else str(config["template"])


def _diverse(known: Sequence[Known]) -> list[Known]:
    """The fastest few of each algorithm."""
    counts: dict[str, int] = {}
    kept = []
    for each in known:
        algorithm = describe(each.candidate.config)
        counts[algorithm] = counts.get(algorithm, 0) + 1
        if counts[algorithm] <= PER_ALGORITHM:
            kept.append(each)
    return kept
