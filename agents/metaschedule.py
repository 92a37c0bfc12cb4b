"""TVM's own MetaSchedule: evolutionary search over the space that its rules make, on this host's CPU.

Rules, mutators, cost model (boosted trees) and their settings are TVM's, so is every decision. Only building and
measuring, which MetaSchedule leaves to plug-ins, are this suite's: its candidates are compiled, checked against
the reference and timed beside the vendor's best path like anybody else's, and cost trials and seconds.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from agents.base import Agent
from wpk_envs.core import Device, Measurement, Operator
from wpk_envs.devices.cpu import CpuDevice
from wpk_envs.devices.interrupts import interrupts_deferred
from wpk_envs.errors import UserError
from wpk_envs.schedules import ScheduleSpace
from wpk_envs.schedules.cpu.metaschedule import TraceSpace, replay, trace_text, tune_context
from wpk_envs.tuning import TuningProblem

MEASURED_TOGETHER = 8
"""Candidates measured as one batch; a budget of seconds may end a round after any of them."""

UNMEASURED = 50
"""Traces of a first population that were never measured, at least; TVM's default."""

NO_LIMIT = 10**9
FAILED_SECONDS = 1e10
"""What TVM's database holds as the latency of a candidate that failed."""


@dataclass
class MetaSchedule(Agent):
    """MetaSchedule with TVM's defaults.

    Args:
        batch: Candidates of a round, between which traces evolve.
        population: Traces that evolve.
        threads: Threads that evolve them; all that the device has for measuring if none. The same seed finds the
            same again only with one.
    """

    name: ClassVar[str] = "metaschedule"
    own_space: ClassVar[bool] = True
    batch: int = 64
    population: int = 512
    threads: int | None = None

    def __post_init__(self) -> None:
        self.check(1, 10_000, "batch", "population")
        if self.threads is not None:
            self.check(1, 1024, "threads")

    def space(self, operator: Operator, device: Device, templates: Sequence[str] | None = None) -> ScheduleSpace:
        """Its own space.

        Raises:
            UserError: On anything but a live CPU, and if templates are asked for.
        """
        if not isinstance(device, CpuDevice):
            raise UserError(
                f"algo=metaschedule measures what TVM proposes on this host's CPU, not on {device.info.name}; "
                "use device=cpu, or another algo"
            )
        if templates:
            raise UserError("algo=metaschedule has a space of its own without schedule templates; use another algo")
        for slow in ("wpk_envs.tvm_adapter", "xgboost"):  # imported before the clock of a problem runs
            importlib.import_module(slow)
        return TraceSpace(operator, device.info)

    def search(self, problem: TuningProblem, seed: int) -> None:
        """Measure what TVM proposes, round by round, and tell it what came of it.

        Raises:
            UserError: If the problem's space is another one than `space` gives.
        """
        if not isinstance(problem.space, TraceSpace):
            raise UserError(
                "algo=metaschedule searches its own space alone; make the problem with MetaSchedule().space()"
            )
        rounds = _Rounds(self, problem, problem.space, seed)
        rounds.take_over()
        while not problem.done and rounds.play():
            pass


class _Rounds:
    """One search by TVM."""

    def __init__(self, settings: MetaSchedule, problem: TuningProblem, space: TraceSpace, seed: int) -> None:
        from wpk_envs import tvm_adapter

        self.ms = ms = tvm_adapter.meta_schedule()
        self.problem, self.space = problem, space
        threads = settings.threads or problem.device.workers * problem.device.info.threads
        self.context = tune_context(
            problem.operator,
            problem.device.info,
            search_strategy=ms.search_strategy.EvolutionarySearch(
                population_size=settings.population, init_min_unmeasured=min(UNMEASURED, settings.population)
            ),
            num_threads=threads,
            rand_state=seed % (2**31 - 2) + 1,
        )
        self.database = ms.database.MemoryDatabase()
        self.workload = self.database.commit_workload(self.context.mod)
        self.cost_model = ms.cost_model.XGBModel(num_tuning_cores=threads)
        self.context.pre_tuning(
            max_trials=problem.budget.trials or NO_LIMIT,
            num_trials_per_iter=settings.batch,
            design_spaces=self.context.generate_design_space(),
            database=self.database,
            cost_model=self.cost_model,
        )

    def take_over(self) -> None:
        """Learn from an interrupted run's trials, as TVM does from a database that holds records."""
        entry = self.ms.arg_info.ArgInfo.from_entry_func
        traces = [json.loads(str(trial.config["trace"])) for trial in self.problem.earlier]
        schedules = [replay(self.context, trace) for trace in traces]
        self._measure([self.ms.MeasureCandidate(schedule, entry(schedule.mod)) for schedule in schedules])

    def play(self) -> bool:
        """Let TVM propose candidates, and measure them; false if it has none left."""
        with interrupts_deferred():  # TVM calls Python from threads in which an exception ends the process
            candidates = self.context.generate_measure_candidates()
        if candidates is None:
            return False
        self.context.notify_runner_results(*self._measure(list(candidates)))
        return True

    def _measure(self, candidates: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """The candidates that the budget pays for, and TVM's results of them, which it has then learned from."""
        measured, results = [], []
        for start in range(0, len(candidates), MEASURED_TOGETHER):
            chunk = candidates[start : start + MEASURED_TOGETHER]
            answers = self.problem.measure([self.space.add(trace_text(candidate.sch)) for candidate in chunk])
            for candidate, answer in zip(chunk, answers):
                if answer is not None:
                    measured.append(candidate)
                    results.append(self._result(answer))
        self._learn(measured, results)
        return measured, results

    def _result(self, measurement: Measurement) -> Any:
        if measurement.error is not None:
            return self.ms.runner.RunnerResult(None, measurement.message)
        return self.ms.runner.RunnerResult([us / 1e6 for us in measurement.samples_us], None)

    def _learn(self, candidates: Sequence[Any], results: Sequence[Any]) -> None:
        """What TVM's measure callbacks do: records into the database, costs into the model."""
        for candidate, result in zip(candidates, results):
            seconds = result.run_secs or [FAILED_SECONDS]
            record = self.ms.database.TuningRecord(
                candidate.sch.trace, self.workload, seconds, self.context.target, candidate.args_info
            )
            self.database.commit_tuning_record(record)
        with interrupts_deferred():
            self.cost_model.update(self.context, candidates, results)
