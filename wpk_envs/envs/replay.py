"""Many episodes over a recorded table, stepped by array operations: a million steps a second and more."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wpk_envs.envs.batch import ScheduleBatch
from wpk_envs.envs.construct import Construct, masked_out
from wpk_envs.envs.formulation import FAILURE_REWARD, FIGURES
from wpk_envs.envs.observation import BOUND
from wpk_envs.envs.tree import PrefixTree
from wpk_envs.schedules.space import INVALID_NODE, Prefix
from wpk_envs.tuning import Budget, TuningProblem

UNKNOWN = -1
"""In place of a config's number: none was completed."""

Infos = dict[str, Any]
Columns = dict[str, tuple[Any, Any]]
"""Infos of several episodes: by name their values, and which of them have it, both arrays."""


@dataclass
class ReplayStep:
    """What one step of every episode gave; the counterpart of `wpk_envs.envs.batch.BatchStep`.

    Attributes:
        observations: ``float32[n, fields]``, of the new episode where one ended.
        rewards: ``float64[n]``.
        terminated: ``bool[n]``.
        truncated: ``bool[n]``.
        ended: Positions of the episodes that ended, ``int64[ended]``.
        finals: Their last observations, ``float32[ended, fields]``.
        columns: Their infos: a name's values and which of the ended episodes have it.
    """

    observations: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    ended: np.ndarray
    finals: np.ndarray
    columns: Columns

    def vector_infos(self, add_info: Callable[[Infos, Infos, int], Infos]) -> Infos:
        """The infos as Gymnasium's vector environments have them."""
        if not len(self.ended):
            return {}
        count = len(self.rewards)
        info: Infos = {}
        for name, (values, present) in self.columns.items():
            info[name] = _scattered(values, self.ended, count)
            info[f"_{name}"] = _scattered(present, self.ended, count)
        finals = np.full(count, None, dtype=object)
        finals[self.ended] = list(self.finals)
        mask = _scattered(np.ones(len(self.ended), dtype=bool), self.ended, count)
        return {"final_obs": finals, "_final_obs": mask, "final_info": info, "_final_info": mask.copy()}

    def info_list(self) -> tuple[list[Infos], dict[int, Infos]]:
        """Every episode's info as Stable-Baselines3 has it, and the resets' infos by position."""
        infos: list[Infos] = [{} for _ in self.rewards]
        names = [(name, values.tolist(), present.tolist()) for name, (values, present) in self.columns.items()]
        for place, position in enumerate(self.ended.tolist()):
            info = {name: values[place] for name, values, present in names if present[place]}
            info["terminal_observation"] = self.finals[place]
            info["TimeLimit.truncated"] = bool(self.truncated[position])
            infos[position] = info
        return infos, {int(position): {} for position in self.ended}


class ReplayBatch:
    """`ScheduleBatch` in arrays, for ``construct`` over a space that can be listed and is played back.

    It gives the same observations, masks, rewards, ends and infos, and every trial is the tuning problem's: a config
    is measured there when it is asked for the first time.

    Args:
        problem: What is tuned; its device replays.
        num_envs: Number of episodes at a time.
    """

    def __init__(self, problem: TuningProblem, num_envs: int) -> None:
        self.problem = problem
        self.formulation = Construct(problem)
        self.tree = PrefixTree(problem.space, self.formulation.observer)
        self._masks = self.tree.masks
        self._node = np.zeros(num_envs, dtype=np.int64)
        self._tried_below = np.zeros(len(self.tree.depth), dtype=np.int32)
        self._outcomes = _Outcomes(problem, self.tree)
        self._counted = 0

    def reset(
        self, rng: np.random.Generator, options: Mapping[str, Any] | None = None, indices: Sequence[int] | None = None
    ) -> dict[int, Infos]:
        """Start episodes over, all of them unless ``indices`` says which; nothing is measured."""
        positions = range(len(self._node)) if indices is None else indices
        self._node[list(positions)] = 0
        return {position: {} for position in positions}

    def step(self, actions: Sequence[Any] | np.ndarray, rng: np.random.Generator, autoreset: bool = True) -> ReplayStep:
        """Step every episode; those that end start over at once."""
        options = np.asarray(actions, dtype=np.int64)
        before = self._node
        in_range = (options >= 0) & (options < self._masks.shape[1])
        child = self.tree.children[before, np.where(in_range, options, 0)].astype(np.int64)
        invalid = (child == INVALID_NODE) | ~in_range
        node = np.where(invalid, before, child)
        rewards = np.zeros(len(node))
        over = invalid | (node >= self.tree.first_leaf)
        terminated, truncated = over, np.zeros(len(node), dtype=bool)
        ended = np.flatnonzero(over)
        finals = self.tree.observations[node[ended]]
        columns: Columns = {}
        if len(ended):
            rows = np.where(invalid[ended], UNKNOWN, node[ended] - self.tree.first_leaf)
            columns, rewards[ended], paid = self._settle(rows, before[ended], options[ended], finals)
            terminated, truncated = over.copy(), truncated.copy()
            terminated[ended], truncated[ended] = paid, ~paid
            node[ended] = 0
        self._node = node
        return ReplayStep(self.observations(), rewards, terminated, truncated, ended, finals, columns)

    def _settle(
        self, rows: np.ndarray, before: np.ndarray, options: np.ndarray, finals: np.ndarray
    ) -> tuple[Columns, np.ndarray, np.ndarray]:
        """Infos, rewards, and which the budget paid for, of the episodes that end; completes their observations."""
        paid = self._ask(rows, before, options)
        outcomes, completed = self._outcomes, rows != UNKNOWN
        rewards = np.where(completed & paid, outcomes.rewards[rows], FAILURE_REWARD)
        finals[paid, -2] = np.minimum(rewards[paid], BOUND)
        finals[paid, -1] = ~completed[paid] | outcomes.failed[rows[paid]]
        columns = outcomes.columns(rows, completed & paid)
        everywhere = np.ones(len(rows), dtype=bool)
        for place in np.flatnonzero(~completed & paid):
            depth = int(self.tree.depth[before[place]])
            columns["error"][0][place] = "invalid"
            columns["message"][0][place] = masked_out(self.problem.space, depth, int(options[place]))
        columns["trials"] = np.full(len(rows), len(self.problem.trials)), everywhere
        columns["stop_reason"] = _objects([self.problem.stop_reason or ""] * len(rows)), everywhere
        columns["config"] = np.where(completed, outcomes.configs[rows], None), completed
        return {name: column for name, column in columns.items() if column[1].any()}, rewards, paid

    def _ask(self, rows: np.ndarray, before: np.ndarray, options: np.ndarray) -> np.ndarray:
        """Have the problem count the requests and measure what is new; which it answered, ``bool[ended]``."""
        problem, valid = self.problem, rows != UNKNOWN
        if problem.budget == Budget(trials=None, seconds=None):
            answered = valid | (not problem.done)
            new = dict.fromkeys(rows[valid & ~self._outcomes.known[rows]].tolist())
            problem.count_requests(len(rows) - len(new), int((~valid).sum()))
            problem.measure(self.tree.vectors[list(new)].tolist())
        else:  # a limit may end the run in the midst of this batch: every request in its order
            asked = [self._asked(*each) for each in zip(rows.tolist(), before.tolist(), options.tolist())]
            answered = np.array([answer is not None for answer in problem.measure(asked)])
        for trial in problem.trials[self._counted :]:
            self._tried_below[self.tree.paths[self._outcomes.add(trial.vector, trial.measurement)]] += 1
        self._counted = len(problem.trials)
        return answered

    def _asked(self, row: int, before: int, option: int) -> Prefix:
        """What an episode asks for: its config, or one that no valid config begins like."""
        if row != UNKNOWN:
            return tuple(self.tree.vectors[row].tolist())
        prefix = self._prefix(before)
        return (*prefix, option, *(0,) * (self.problem.space.length - len(prefix) - 1))

    def observations(self) -> np.ndarray:
        """A copy of every episode's current observation, ``float32[n, fields]``."""
        return self.tree.observations[self._node]

    def action_masks(self, exclude_tried: bool) -> np.ndarray:
        """Every episode's mask, ``bool[n, choices]``; see `wpk_envs.tuning.TuningProblem.mask`."""
        masks = self._masks[self._node]
        if exclude_tried and self.problem.trials:
            children = self.tree.children[self._node]
            fresh = masks & (self.tree.below[children] > self._tried_below[children])
            return np.where(fresh.any(axis=1, keepdims=True), fresh, masks)
        return masks

    def action_mask(self, index: int, exclude_tried: bool) -> np.ndarray:
        """One episode's mask, ``bool[choices]``."""
        return self.action_masks(exclude_tried)[index]

    def schedule(self, index: int) -> Prefix:
        """The options that an episode has chosen so far."""
        return self._prefix(int(self._node[index]))

    def _prefix(self, node: int) -> Prefix:
        depth = int(self.tree.depth[node])
        row = int(np.flatnonzero(self.tree.paths[:, depth] == node)[0])
        return tuple(self.tree.vectors[row, :depth].tolist())


class _Outcomes:
    """What the problem answered, by the number of the config."""

    def __init__(self, problem: TuningProblem, tree: PrefixTree) -> None:
        count = len(tree.vectors)
        self._problem = problem
        self._rows = {tuple(vector): row for row, vector in enumerate(tree.vectors.tolist())}
        self.known = np.zeros(count, dtype=bool)
        self.failed = np.zeros(count, dtype=bool)
        self.rewards = np.zeros(count)
        self.configs = _objects([UserDict(problem.space.decode(vector)) for vector in tree.vectors.tolist()])
        self._texts = {name: _objects([""] * count) for name in ("error", "message", "confidence")}
        self._figures = {name: np.full(count, np.nan) for name in FIGURES}

    def add(self, vector: Prefix, measurement: Any) -> int:
        """Note an answer; the number of its config."""
        row = self._rows[vector]
        self.known[row] = True
        self.failed[row] = measurement.error is not None
        self.rewards[row] = self._problem.reward(measurement)
        for name, texts in self._texts.items():
            texts[row] = getattr(measurement, name) or ""
        for name, figures in self._figures.items():
            value = getattr(measurement, name)
            figures[row] = np.nan if value is None else value
        return row

    def columns(self, rows: np.ndarray, answered: np.ndarray) -> Columns:
        """Infos of completed configs; where ``answered`` is false there are an empty error and message alone."""
        everywhere = np.ones(len(rows), dtype=bool)
        found: Columns = {}
        for name in ("error", "message"):
            found[name] = np.where(answered, self._texts[name][rows], ""), everywhere
        for name, figures in self._figures.items():
            present = answered & ~np.isnan(figures[rows])
            found[name] = np.where(present, figures[rows], 0.0), present
        predicted = found["predicted_latency_us"][1]
        found["confidence"] = np.where(predicted, self._texts["confidence"][rows], None), predicted
        return found


def open_batch(problem: TuningProblem, formulation: str, num_envs: int) -> ScheduleBatch | ReplayBatch:
    """The fastest batch for a problem: in arrays where configs are constructed from a recorded table.

    Args:
        problem: What is tuned.
        formulation: One of `wpk_envs.envs.batch.FORMULATIONS`.
        num_envs: Number of episodes at a time.

    Raises:
        UserError: If there is no such formulation, or no environment at all.
    """
    if formulation == Construct.name and num_envs > 0 and problem.device.configs(problem.operator) is not None:
        return ReplayBatch(problem, num_envs)
    return ScheduleBatch(problem, formulation, num_envs)


def _scattered(values: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    """An array of ``count`` empty values, with these at their places."""
    array = np.full(count, None, dtype=object) if values.dtype == object else np.zeros(count, dtype=values.dtype)
    array[places] = values
    return array


def _objects(values: Sequence[Any]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
