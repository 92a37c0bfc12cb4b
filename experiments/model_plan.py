"""One model from import to measurement: the work of ``python -m experiments.plan``."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import wpk_envs
from experiments import plan_plot, plan_report, summary
from experiments.end_to_end import ModelRow, beside_peers
from experiments.model_tuning import operators_of, tune_missing, untuned
from experiments.peers import Peer, Prepared
from experiments.tune import Workplace
from wpk_envs import planner
from wpk_envs.devices.cuda.gpu import Gpu
from wpk_envs.planner import passes
from wpk_envs.planner.cuda import presence
from wpk_envs.planner.framework import framework_nodes
from wpk_envs.planner.graph import Graph
from wpk_envs.planner.importing import Source, import_model, source_of
from wpk_envs.planner.planning import SWITCHES, Planned, Planner
from wpk_envs.planner.providers import functions_of, open_providers
from wpk_envs.planner.writing import write


@dataclass(frozen=True)
class Options:
    """What was asked for, for every model.

    Attributes:
        weights: A file of them; none for random ones.
        tune: Whether to tune what the store has no final measurement of.
        skip: Passes to leave out.
        strict: Largest accepted deviation; none for any.
        run: Whether to measure the plan.
        peers: Beside whom.
        seconds: For how long.
        seed: Of random weights and inputs.
    """

    weights: str | None
    tune: bool
    skip: tuple[str, ...]
    strict: float | None
    run: bool
    peers: tuple[Peer, ...]
    seconds: float
    seed: int


@dataclass(frozen=True)
class Made:
    """What came of a model.

    Attributes:
        name: The model's.
        figures: For ``summary.json``.
        row: Its measurement beside the peers; none if it was not run.
    """

    name: str
    figures: dict[str, Any]
    row: ModelRow | None


class ModelPlan:
    """The plan of one model.

    Args:
        place: Device, store, settings and console.
        model: As the user names it.
        options: What was asked for.
        folder: Where everything about it goes.
    """

    def __init__(self, place: Workplace, model: str, options: Options, folder: Path) -> None:
        self.place = place
        self.options = options
        self.folder = folder
        self.model = model

    def make(self) -> Made:
        """Do all of it.

        Raises:
            UserError: For what the user can mend.
            KeyboardInterrupt: After Ctrl-C.
        """
        source = source_of(self.model, self.options.weights, self.options.seed)
        self._say(f"{source.name}: importing")
        imported = import_model(source)
        graph, reports = passes.optimise(imported, skip=[name for name in self.options.skip if name not in SWITCHES])
        self._say(f"{source.name}: {len(imported.nodes)} operators, {len(graph.nodes)} after optimisation")
        notes = [*self._through_the_framework(graph), *self._tuned(graph)]
        started = time.monotonic()
        planned, remarks = self._planned(source, graph)
        seconds = time.monotonic() - started
        figures = plan_report.figures(planned, reports, imported, [*notes, *remarks])
        figures["planning_seconds"] = seconds
        self._say(f"{source.name}: planned in {seconds:.0f} s; the plan is in {self.folder / 'plan'}")
        self._report(source, figures)
        row = self._measured(source) if self.options.run else None
        if row is not None:
            figures |= row.figures()
            self._report(source, figures)
        return Made(source.name, figures, row)

    def _report(self, source: Source, figures: Mapping[str, Any]) -> None:
        device = summary.device_text(self.place.device)
        plan_report.write(self.folder, source.name, figures, device)
        plan_plot.save(self.folder / plan_report.PICTURE, source.name, figures, f"{device}, {summary.now()[:10]}")

    def _say(self, text: str) -> None:
        self.place.console.print(text, highlight=False, markup=False)

    def _through_the_framework(self, graph: Graph) -> list[str]:
        """Tell of operators that have no counterpart of ours."""
        nodes = framework_nodes(graph)
        if not nodes:
            return []
        names = ", ".join(f"{name} ({operation})" for name, operation in nodes)
        note = f"{len(nodes)} of {len(graph.nodes)} operators run through the framework: {names}"
        self._say(note)
        return [note]

    def _tuned(self, graph: Graph) -> list[str]:
        """Tune what is missing, if asked to; sentences about what is still untuned."""
        device, store = self.place.device.info, self.place.store
        operators = operators_of(graph, device)
        notes = tune_missing(self.place, operators, self.folder / "operators") if self.options.tune else []
        missing = untuned(operators, store, device)
        if missing and not self.options.tune:
            notes.append(
                f"the store {store.path} has no final measurement of {len(missing)} of {len(operators)} operators on "
                "this device: only untuned kernels of ours are candidates for them; tune=true tunes them"
            )
            self._say(notes[-1])
        return notes

    def _planned(self, source: Source, graph: Graph) -> tuple[Planned, list[str]]:
        """Choose implementations and write the plan; what the user should know, in sentences."""
        device, gpu = self.place.device.info, self._gpu()
        offering, missing = open_providers(device, self.place.store, gpu)
        remarks = [f"{name} is no candidate: {reason}" for name, reason in missing.items()]
        for remark in remarks:
            self._say(remark)
        functions = functions_of(offering)
        planner_ = Planner(graph, device, offering, functions, self._say, self.options.skip, gpu)
        inputs = source.random_inputs(self.options.seed + 1)
        planned = planner_.plan(inputs, source.reference(inputs), self.options.strict)
        self._say(f"{source.name}: writing the plan")
        remark = write(self.folder / "plan", planned, device, functions, gpu)
        if remark:
            self._say(remark)
            remarks.append(remark)
        return planned, remarks

    def _gpu(self) -> Gpu | None:
        """The GPU that the plan runs on, in this process: the first of the device's; none for a CPU."""
        if self.place.device.info.kind != "cuda":
            return None
        return presence.open_gpu((self.place.settings.device.settings.get("gpus") or [0])[0])

    def _measured(self, source: Source) -> ModelRow:
        """Load the plan as a user would, and run it beside its peers."""
        device, reference = self.place.device.info, source.reference(source.inputs)
        seconds, chosen = self.options.seconds, self.options.peers
        load = functools.partial(self._loaded, source)
        return beside_peers(source, load, chosen, reference, device.threads, seconds, device.kind, self._say)

    def _loaded(self, source: Source) -> Prepared:
        plan = planner.load(self.folder / "plan", self._gpu())
        return Prepared(plan.program.run, lambda: _as_list(plan(*source.inputs)), wpk_envs.__version__, "the plan")


def _as_list(outputs: Any) -> list[np.ndarray]:
    return list(outputs) if isinstance(outputs, tuple) else [outputs]
