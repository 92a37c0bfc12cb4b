"""Kernels that TVM's MetaSchedule proposes, as candidates that a CPU device can measure like any other.

They belong to no space that others search: a config is the *trace* that MetaSchedule's own rules and random choices
left behind, as JSON. Weights are packed ahead of the call as MetaSchedule wishes, as everybody's are here.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from wpk_envs.core import Candidate, Config, Constraint, DeviceInfo, Kernel, Operator, Template, stable_hash
from wpk_envs.operators import Conv2d, Gemm
from wpk_envs.schedules.cpu.workload import WEIGHTS, workload
from wpk_envs.schedules.space import Encoding, Prefix, ScheduleSpace

if TYPE_CHECKING:
    import tvm

RULES = "llvm"
"""TVM's rules, postprocessors and mutators for CPUs; those for AVX-512 and VNNI add integer dot products alone."""


class MetaScheduleTemplate(Template):
    """Replays a trace; there is nothing to set."""

    name: ClassVar[str] = "cpu/metaschedule"
    version: ClassVar[int] = 1
    knobs: ClassVar[tuple[str, ...]] = ()

    def fits(self, operator: Operator, device: DeviceInfo) -> bool:
        """Every convolution and matrix product."""
        return isinstance(operator, (Conv2d, Gemm))

    def constraints(self, operator: Operator, device: DeviceInfo) -> list[Constraint]:
        """None: what MetaSchedule proposes is valid by its own rules."""
        return []

    def executed_flops(self, operator: Operator, config: Config) -> float:
        """The nominal ones: its rules change no arithmetic."""
        return float(operator.flops)

    def static_features(self, operator: Operator, partial: Config, device: DeviceInfo) -> tuple[float, float, float]:
        """None are known of a trace."""
        return 0.0, 0.0, 0.0

    def kernel(self, operator: Operator, config: Config, device: DeviceInfo) -> Kernel:
        """Replay the trace and pack the weights as its layout wants them.

        Raises:
            ValueError: If one of MetaSchedule's postprocessors rejects the trace.
        """
        from tvm.s_tir.transform import RemoveWeightLayoutRewriteBlock

        plain = workload(operator)
        schedule = replay(tune_context(operator, device), json.loads(str(config["trace"])))
        arguments = list(plain.arguments)
        for instruction in schedule.trace.insts:
            if instruction.kind.name == "TransformLayout":  # only of weights: nothing else is free
                arguments[WEIGHTS] = _repacked(arguments[WEIGHTS], instruction.inputs[1], device.target)
        return Kernel(RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(schedule.mod), tuple(arguments))


METASCHEDULE = MetaScheduleTemplate()


class TraceSpace(ScheduleSpace):
    """What MetaSchedule may propose, as far as it is known: the traces that it did propose.

    It has no knobs, so no masks, samples or neighbours. A trace's vector is its hash: it is the same in every run.

    Args:
        operator: What is computed.
        device: Where, a CPU.
    """

    size = math.inf  # type: ignore[assignment]
    """Nobody counts them: more than any budget."""

    def __init__(self, operator: Operator, device: DeviceInfo) -> None:
        self.operator = operator
        self.device = device
        self.encoding = Encoding(device.kind, METASCHEDULE.version, ())
        self.templates = {"metaschedule": METASCHEDULE}
        self._traces: dict[Prefix, str] = {}

    def add(self, trace: str) -> Prefix:
        """Make a trace, as `trace_text` wrote it, a config of this space; its vector."""
        vector = (int(stable_hash(trace)[:15], 16),)
        self._traces[vector] = trace
        return vector

    def is_valid(self, vector: Sequence[int]) -> bool:
        """Whether it is the vector of a trace that was added."""
        return tuple(vector) in self._traces

    def candidate(self, vector: Sequence[int]) -> Candidate:
        """The candidate of a trace's vector."""
        config = {"template": "metaschedule", "trace": self._traces[tuple(vector)]}
        return Candidate(self.operator, METASCHEDULE, config)

    def explain(self, vector: Sequence[int]) -> str:
        """Why a vector is invalid, in a sentence; empty if it is valid."""
        return "" if self.is_valid(vector) else "no trace of that hash was proposed"


def tune_context(operator: Operator, device: DeviceInfo, **settings: Any) -> Any:
    """A ``TuneContext`` of an operator with MetaSchedule's rules for CPUs (imports TVM).

    Args:
        operator: What is computed.
        device: Its target and threads.
        settings: Further ones of ``TuneContext``.
    """
    import tvm

    from wpk_envs import tvm_adapter

    ms = tvm_adapter.meta_schedule()
    main = workload(operator).module["main"].with_attr("layout_free_buffers", [WEIGHTS])
    target = tvm_adapter.target_of({**device.target, "num-cores": device.threads})
    space = ms.space_generator.PostOrderApply(sch_rules=RULES, postprocs=RULES, mutator_probs=RULES)
    return ms.TuneContext(tvm.IRModule({"main": main}), target=target, space_generator=space, **settings)


def trace_text(schedule: tvm.s_tir.Schedule) -> str:
    """The trace of a schedule as JSON, without what postprocessors did."""
    return json.dumps(schedule.trace.as_json(True), default=lambda number: number.value, separators=(",", ":"))


def replay(context: Any, trace: Sequence[Any]) -> tvm.s_tir.Schedule:
    """Schedule a context's module by a trace, then let the postprocessors finish it.

    Raises:
        ValueError: If one of them rejects it.
    """
    from tvm.s_tir import Schedule, Trace

    schedule = Schedule(context.mod)
    Trace.apply_json_to_schedule(trace, schedule)
    schedule.enter_postproc()
    for postprocessor in context.space_generator.postprocs:
        if not postprocessor.apply(schedule):
            raise ValueError(f"the postprocessor {postprocessor} rejects the trace")
    return schedule


def _repacked(argument: Any, layout: Any, target: Mapping[str, Any]) -> Any:
    """An argument in another layout: ``layout`` maps indices of its buffer to those of the new one."""
    shape = tuple(int(extent) for extent in layout.map_shape(argument.shape))

    def pack(array: np.ndarray) -> np.ndarray:
        return _reordering(layout, argument.shape, target)(argument.pack(array))

    words = f"{argument.layout} as ({', '.join(map(str, layout.final_indices))})"
    return dataclasses.replace(argument, shape=shape, layout=words, pack=pack)


def _reordering(layout: Any, shape: Sequence[int], target: Mapping[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    """A compiled function that moves an array's elements to where an index map puts them."""
    import tvm
    from tvm import te

    from wpk_envs import tvm_adapter

    back = layout.inverse(list(shape))
    given = te.placeholder(tuple(shape), name="given")
    moved = te.compute(layout.map_shape(list(shape)), lambda *index: given[tuple(back.map_indices(list(index)))])
    function = tvm_adapter.compile_cpu(tvm.IRModule({"main": te.create_prim_func([given, moved])}), target)

    def move(array: np.ndarray) -> np.ndarray:
        result = tvm_adapter.to_tensor(np.empty([int(extent) for extent in moved.shape], np.float32))
        function(tvm_adapter.to_tensor(array), result)
        return result.numpy()

    return move
