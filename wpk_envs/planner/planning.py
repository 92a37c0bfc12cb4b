"""Making a plan of an optimised graph: shortlists, assemblies, swaps, a race, and the check against the framework."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wpk_envs.core import DeviceInfo
from wpk_envs.devices.cuda.gpu import Gpu
from wpk_envs.errors import UserError
from wpk_envs.planner import layouts
from wpk_envs.planner.assembly import Assembly, assemble
from wpk_envs.planner.checking import StepError, max_abs_error, step_errors
from wpk_envs.planner.choice import choose
from wpk_envs.planner.graph import Graph
from wpk_envs.planner.implementation import Implementation, Provider, Resources, Target
from wpk_envs.planner.memory import MemoryPlan, plan_memory
from wpk_envs.planner.offering import Offers
from wpk_envs.planner.pace import Pace
from wpk_envs.planner.program import Constants, Program, describe
from wpk_envs.planner.runtime import runtime_of
from wpk_envs.planner.swapping import Standing, Swapping

Say = Callable[[str], None]

ROUNDS = 12
"""Runs of the plan with each candidate."""

RACE_ROUNDS = 15
"""Turns of every finished plan against the others."""


@dataclass(frozen=True)
class Drafted:
    """A plan that runs.

    Attributes:
        name: Which layouts it was allowed.
        chosen: The implementation of every node.
        assembly: Its steps.
        memory: Its buffers' places.
        described: It as plain data.
        constants: Its prepacked constants.
        program: It, bound.
        standings: How candidates did in it.
    """

    name: str
    chosen: Mapping[str, Implementation]
    assembly: Assembly
    memory: MemoryPlan
    described: dict[str, Any]
    constants: Constants
    program: Program
    standings: Sequence[Standing] = ()


@dataclass(frozen=True)
class Planned:
    """The plan that won.

    Attributes:
        draft: It.
        offers: Everything that was offered.
        latencies_us: Of the drafts by name, as they raced.
        max_abs_error: Largest deviation of its outputs from the framework's.
        step_errors: Of its steps, the worst first.
        dropped: Labels of implementations that were dropped for their errors, by node.
    """

    draft: Drafted
    offers: Offers
    latencies_us: Mapping[str, float]
    max_abs_error: float
    step_errors: Sequence[StepError]
    dropped: Mapping[str, str] = field(default_factory=dict)


SWITCHES = ("assign_layouts", "plan_memory")
"""Parts of planning that can be left out like passes: then all tensors stay in the plain layout, and buffers share
no memory."""


def image_layouts(device: DeviceInfo) -> tuple[str, ...]:
    """Layouts of images that are worth offering on a device."""
    if device.kind == "cuda":
        return layouts.PLAIN, layouts.NHWC
    return layouts.PLAIN, layouts.NHWC, layouts.blocked(device.limits["vector_lanes"])


def drafts_of(device: DeviceInfo, skip: Sequence[str] = ()) -> dict[str, tuple[str, ...]]:
    """The layouts that each draft of a plan may use."""
    plain, *others = image_layouts(device)
    if "assign_layouts" in skip:
        return {"plain only": (plain,)}
    if device.kind == "cuda":
        return {"any layout": (plain, *others), "plain only": (plain,)}
    last, blocks = others
    return {"any layout": (plain, last, blocks), f"{blocks} only": (plain, blocks), "NHWC only": (plain, last)}


def _runtime(device: DeviceInfo, gpu: Gpu) -> Any:
    """A GPU as calls run on it, timed alone by the protocol that the device's records were timed by."""
    from wpk_envs.planner.cuda.runtime import CudaRuntime

    return CudaRuntime(gpu, "hot" if device.versions.get("protocol") == "hot" else "cold")


class Planner:
    """Makes the plan of one graph.

    Args:
        graph: The optimised graph.
        device: Where it will run.
        offering: Providers by name.
        functions: Kernels by name, compiled on demand.
        say: Told what is being done.
        skip: Which of `SWITCHES` to leave out.
        gpu: The device, if it is a GPU.
    """

    def __init__(
        self,
        graph: Graph,
        device: DeviceInfo,
        offering: Mapping[str, Provider],
        functions: Mapping[str, Any],
        say: Say = lambda text: None,
        skip: Sequence[str] = (),
        gpu: Gpu | None = None,
    ) -> None:
        self.graph = graph
        self.device = device
        self.offering = offering
        self.resources = Resources(device.threads, functions, None if gpu is None else _runtime(device, gpu))
        self.offers = Offers(graph, offering, Target(device, image_layouts(device)), self.resources, say)
        self.say = say
        self.skip = tuple(skip)

    def plan(
        self, inputs: Sequence[np.ndarray], reference: Sequence[np.ndarray], strict: float | None = None
    ) -> Planned:
        """Find the fastest plan.

        Args:
            inputs: Random ones, for the check.
            reference: What the framework makes of them.
            strict: Largest accepted deviation of any output; candidates that err most are dropped until it is kept.

        Raises:
            UserError: If the graph cannot be computed, or not as exactly as asked for.
        """
        dropped: dict[str, str] = {}
        while True:
            planned = self._fastest(inputs, reference, dropped)
            if strict is None or planned.max_abs_error <= strict:
                return planned
            worst = self._least_exact(planned, strict)
            self.say(f"{worst.step}: {worst.label} errs by {worst.error:.1e}, dropped to keep within strict={strict:g}")
            before = [dropped[worst.step]] if worst.step in dropped else []
            dropped[worst.step] = ", ".join([*before, worst.label])

    def _least_exact(self, planned: Planned, strict: float) -> StepError:
        """The step whose implementation has to go: one that errs, and leaves others."""
        nodes = {node.name: node for node in self.graph.nodes}
        for error in planned.step_errors:
            node = nodes[error.step]
            others = [offer for offer in self.offers.of(node) if offer.label != error.label]
            if error.error > 0 and others:
                self.offers.drop(node, error.label)
                return error
        raise UserError(
            f"no plan keeps the error within strict={strict:g}: "
            f"the last one, with nothing left to drop, errs by {planned.max_abs_error:.1e}; allow a larger error"
        )

    def _fastest(
        self, inputs: Sequence[np.ndarray], reference: Sequence[np.ndarray], dropped: Mapping[str, str]
    ) -> Planned:
        drafts = self._drafts()
        latencies = self._race(drafts, inputs)
        best = min(drafts, key=lambda draft: latencies[draft.name])
        error = max_abs_error(best.program.compute(inputs), reference)
        errors = step_errors(best.assembly, best.program, inputs)
        return Planned(best, self.offers, latencies, error, errors, dict(dropped))

    def _drafts(self) -> list[Drafted]:
        found: list[Drafted] = []
        swapped: list[Mapping[str, Implementation]] = []
        drafts = drafts_of(self.device, self.skip)
        for name, allowed in drafts.items():
            self.say(f"{name}: timing candidates alone")
            try:
                choice = choose(self.offers, allowed, Pace(self.say, "timed alone"))
            except UserError:
                if name == next(iter(drafts)):
                    raise
                continue  # some node has no offer in these layouts
            if choice.chosen in swapped:
                continue
            swapped.append(choice.chosen)
            self.say(f"{name}: {choice.cost_us:.0f} us hoped for; swapping candidates in the running plan")
            found.append(self._swapped(self._draft(name, choice.chosen)))
        return found

    def _draft(self, name: str, chosen: Mapping[str, Implementation], standings: Sequence[Standing] = ()) -> Drafted:
        assembly = assemble(self.graph, chosen, self.offers.conversion)
        memory = plan_memory(assembly, share="plan_memory" not in self.skip)
        constants = Constants()
        described = describe(assembly, memory, constants, self.offering)
        program = Program(described, constants.arrays, self.resources)
        return Drafted(name, dict(chosen), assembly, memory, described, constants, program, standings)

    def _swapped(self, draft: Drafted) -> Drafted:
        """The draft with the candidate at each step that did best in it."""
        draft.program.run()
        pace = Pace(self.say, "compiled and bound")
        swapping = Swapping(self.offers, draft.assembly, draft.program, self.offering, pace)
        standings = swapping.run(ROUNDS)
        chosen = dict(draft.chosen)
        for standing in standings:
            chosen |= {name: standing.candidates[0] for name in standing.steps if name in chosen}
        return self._draft(draft.name, chosen, standings)

    def _race(self, drafts: Sequence[Drafted], inputs: Sequence[np.ndarray]) -> dict[str, float]:
        if len(drafts) > 1:
            self.say(f"racing the plans of {len(drafts)} ways to lay out tensors")
        for draft in drafts:
            draft.program.compute(inputs)
        samples = runtime_of(self.resources).race_us([draft.program.run for draft in drafts], RACE_ROUNDS)
        return {draft.name: statistics.median(each) for draft, each in zip(drafts, samples)}
