"""`TuningProblem`: the one place that measures, consults the store, counts trials and stops.

Environments are views of it and agents are its callers, so that every algorithm pays the same price for
the same question.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from wpk_envs.core import SPEEDUP_FLOOR, Candidate, Device, DeviceInfo, KnobValue, Measurement, Operator
from wpk_envs.errors import UserError
from wpk_envs.schedules.space import INVALID_NODE, Prefix, ScheduleSpace

StopReason = Literal["trials", "seconds", "exhausted", "requests", "finished", "interrupted"]

REQUESTS_PER_TRIAL = 50
"""A run stops after this many requests per budgeted trial, so that an agent stuck on revisits ends."""


@dataclass(frozen=True)
class Budget:
    """What a run may spend; none means no limit.

    Args:
        trials: Distinct valid configs asked for.
        seconds: Wall-clock seconds, plus the recorded cost of trials that the store or a recorded device answered.
    """

    trials: int | None = 128
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("trials", self.trials), ("seconds", self.seconds)):
            if value is not None and not value > 0:
                raise UserError(f"budget.{name} must be greater than 0, not {value}")


@dataclass(frozen=True)
class Trial:
    """A config asked for the first time in a run, and what came of it.

    Attributes:
        number: Position in the run, from 1.
        vector: The config as option numbers.
        config: The config by knob name.
        measurement: Its outcome.
        reused: Whether an earlier run's record answered it.
        seconds: The run's clock when the outcome was known.
    """

    number: int
    vector: Prefix
    config: dict[str, KnobValue]
    measurement: Measurement
    reused: bool
    seconds: float


class Records(Protocol):
    """What tuning needs of a store; `wpk_envs.records.store.Store` is the real one."""

    def get(self, candidate: Candidate, device: DeviceInfo) -> Measurement | None:
        """The record of exactly this candidate, template version and device; none if there is none."""

    def put(self, candidate: Candidate, device: DeviceInfo, measurement: Measurement) -> None:
        """Keep a measurement."""


class TuningProblem:
    """One operator on one device under one budget.

    Args:
        operator: What to tune.
        device: Where; the caller closes it.
        space: Its schedule space.
        store: Keeps every measurement, and answers those it has if ``reuse``; none keeps nothing. What a device
            replays is known already and is not kept.
        budget: When to stop.
        reuse: Whether records of earlier runs may answer a trial instead of the device.
        on_trial: Called with every new trial as soon as it is known (progress, journals, loggers).
        journal: Trials of an interrupted run of the same settings, by vector. They answer first, which
            brings a seeded agent back to exactly where it was.
    """

    def __init__(
        self,
        operator: Operator,
        device: Device,
        space: ScheduleSpace,
        store: Records | None = None,
        budget: Budget | None = None,
        reuse: bool = True,
        on_trial: Callable[[Trial], None] | None = None,
        journal: Sequence[Trial] = (),
    ) -> None:
        self.operator = operator
        self.device = device
        self.space = space
        self.budget = budget or Budget()
        self.trials: list[Trial] = []
        self.rewards: list[float] = []
        """What each trial is worth, see `reward`."""
        self.requests = 0
        self.requests_invalid = 0
        self.best: Trial | None = None
        self._store = None if device.replays else store
        self._reuse = reuse
        self._on_trial = on_trial
        self.earlier = tuple(journal)
        self._journal = {trial.vector: trial for trial in journal}
        self._known: dict[Prefix, Measurement] = {}
        self._tried_below: dict[Prefix, int] = {}
        self._charged_seconds = 0.0
        self._first_us: float | None = None
        self._started = time.perf_counter()
        self._finished = False

    @property
    def seconds(self) -> float:
        """The run's clock: wall time since construction plus the recorded cost of reused and replayed trials."""
        return time.perf_counter() - self._started + self._charged_seconds

    @property
    def stop_reason(self) -> StopReason | None:
        """Why nothing more will be measured; none while the run may go on."""
        budget = self.budget
        if budget.trials is not None and len(self.trials) >= budget.trials:
            return "trials"
        if budget.seconds is not None and self.seconds >= budget.seconds:
            return "seconds"
        if len(self.trials) >= self.space.size:
            return "exhausted"
        if budget.trials is not None and self.requests >= REQUESTS_PER_TRIAL * budget.trials:
            return "requests"
        return "finished" if self._finished else None

    @property
    def done(self) -> bool:
        """Whether the run is over."""
        return self.stop_reason is not None

    def finish(self) -> None:
        """Declare that the agent has nothing more to ask."""
        self._finished = True

    @property
    def errors(self) -> dict[str, int]:
        """Number of failed trials by error kind."""
        counts: dict[str, int] = {}
        for trial in self.trials:
            if trial.measurement.error is not None:
                counts[trial.measurement.error] = counts.get(trial.measurement.error, 0) + 1
        return counts

    def measure(self, vectors: Sequence[Sequence[int]]) -> list[Measurement | None]:
        """Measure configs as one batch.

        Args:
            vectors: Full vectors; repeats and invalid ones are welcome and cost no trial.

        Returns:
            One measurement per vector, in order; ``None`` for a new config that the budget no longer
            pays for. Invalid vectors get the error ``invalid`` and are never compiled.
        """
        wanted = [tuple(int(option) for option in vector) for vector in vectors]
        answers: dict[Prefix, Measurement] = {}
        new: list[Prefix] = []
        for vector in wanted:
            if self.done or self._batch_is_full(len(new)):
                break
            self.requests += 1
            if vector in self._known or vector in new:
                continue
            if self.space.is_valid(vector):
                new.append(vector)
            else:
                self.requests_invalid += 1
                answers[vector] = Measurement(error="invalid", message=self.space.explain(vector))
        self._measure_new(new)
        return [self._known.get(vector, answers.get(vector)) for vector in wanted]

    def count_requests(self, count: int, invalid: int) -> None:
        """Count requests whose answers an environment has already: for configs of this run, or for invalid ones.

        Args:
            count: How many.
            invalid: How many of them were invalid.
        """
        if not self.done:
            self.requests += count
            self.requests_invalid += invalid

    def _batch_is_full(self, pending: int) -> bool:
        return self.budget.trials is not None and len(self.trials) + pending >= self.budget.trials

    def _measure_new(self, vectors: Sequence[Prefix]) -> None:
        missing: list[tuple[Prefix, Candidate]] = []
        for vector in vectors:
            candidate = self.space.candidate(vector)
            past = self._journal.get(vector)
            if past is not None:
                self._charge(past.measurement)
                self._add(vector, candidate, past.measurement, past.reused)
                continue
            record = self._store.get(candidate, self.device.info) if self._store and self._reuse else None
            if record is not None:
                self._charge(record)
                self._add(vector, candidate, record, reused=True)
            else:
                missing.append((vector, candidate))

        def keep(position: int, measurement: Measurement) -> None:
            vector, candidate = missing[position]
            if self.device.replays:
                self._charge(measurement)
            self.record(candidate, measurement)
            self._add(vector, candidate, measurement, reused=False)

        if missing:
            self.device.measure([candidate for _, candidate in missing], on_result=keep)

    def reward(self, measurement: Measurement) -> float:
        """What an outcome is worth to an agent: `Measurement.reward`.

        Where there is no baseline, the gain is the speedup over the run's first working trial.
        """
        cost = measurement.cost_us
        if cost is None or measurement.gain is not None or self._first_us is None:
            return measurement.reward
        return math.log(max(self._first_us / cost, SPEEDUP_FLOOR))

    def record(self, candidate: Candidate, measurement: Measurement) -> None:
        """Keep a measurement in the store; for those that are no trial too, such as final ones."""
        if self._store is not None:
            self._store.put(candidate, self.device.info, measurement)

    def _charge(self, measurement: Measurement) -> None:
        spent = measurement.build_seconds + measurement.measure_seconds
        self._charged_seconds += spent / self.device.workers

    def _add(self, vector: Prefix, candidate: Candidate, measurement: Measurement, reused: bool) -> None:
        self._known[vector] = measurement
        for depth in range(len(vector) + 1):
            prefix = vector[:depth]
            self._tried_below[prefix] = self._tried_below.get(prefix, 0) + 1
        trial = Trial(len(self.trials) + 1, vector, dict(candidate.config), measurement, reused, self.seconds)
        self.trials.append(trial)
        self._first_us = self._first_us or measurement.cost_us
        self.rewards.append(self.reward(measurement))
        better = self.best is None or self.rewards[-1] > self.rewards[self.best.number - 1]
        if measurement.error is None and better:
            self.best = trial
        if self._on_trial is not None:
            self._on_trial(trial)

    def mask(self, prefix: Sequence[int], node: int | None = None, exclude_tried: bool = False) -> np.ndarray:
        """Options of the next knob, ``bool[width]``; see `ScheduleSpace.mask`.

        Args:
            prefix: Options chosen so far.
            node: The prefix's node if the caller has it already.
            exclude_tried: Also leave out options below which every config was tried in this run. Never
                all false: where everything below a prefix was tried, the plain mask is returned.
        """
        if node is None:
            node = self.space.node(prefix)
        if node == INVALID_NODE:
            return np.zeros(self.space.encoding.width, dtype=bool)
        mask = self.space.masks[node].copy()
        if not exclude_tried or not self._tried_below.get(tuple(prefix)):
            return mask
        fresh = mask.copy()
        for option in np.flatnonzero(mask).tolist():
            tried = self._tried_below.get((*prefix, option))
            if tried and tried >= self.space.count(self.space.child(node, option)):
                fresh[option] = False
        return fresh if fresh.any() else mask

    def sample_untried(self, rng: np.random.Generator) -> Prefix | None:
        """Draw uniformly among the valid configs not tried in this run; none if there are none."""
        if len(self.trials) >= self.space.size:
            return None
        node = self.space.root
        prefix: Prefix = ()
        for _ in range(self.space.length):
            options = np.flatnonzero(self.space.masks[node])
            valid = [self.space.count(self.space.child(node, int(option))) for option in options]
            tried = [self._tried_below.get((*prefix, int(option)), 0) for option in options]
            left = np.array([v - t for v, t in zip(valid, tried)], dtype=float)
            option = int(rng.choice(options, p=left / left.sum()))
            prefix = (*prefix, option)
            node = self.space.child(node, option)
        return prefix
