"""Many episodes over a recorded table, stepped by array operations: a million steps a second and more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wpk_envs.envs.answers import Answers, Columns, objects
from wpk_envs.envs.batch import MeasureBatch, ScheduleBatch
from wpk_envs.envs.construct import Construct, masked_out
from wpk_envs.envs.formulation import FAILURE_REWARD
from wpk_envs.envs.observation import BOUND, Observer
from wpk_envs.envs.suite import Suite
from wpk_envs.envs.tree import NO_CONFIG, Forest, PrefixTree
from wpk_envs.schedules.space import INVALID_NODE, Prefix, ScheduleSpace
from wpk_envs.tuning import Budget, TuningProblem

Infos = dict[str, Any]


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
        columns: Their infos.
        starts: The infos of the episodes that took their places.
    """

    observations: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    ended: np.ndarray
    finals: np.ndarray
    columns: Columns
    starts: Columns

    def vector_infos(self, add_info: Callable[[Infos, Infos, int], Infos]) -> Infos:
        """The infos as Gymnasium's vector environments have them."""
        if not len(self.ended):
            return {}
        count = len(self.rewards)
        info = self._by_position(self.columns)
        finals = np.full(count, None, dtype=object)
        finals[self.ended] = list(self.finals)
        mask = _scattered(np.ones(len(self.ended), dtype=bool), self.ended, count)
        infos: Infos = {"final_obs": finals, "_final_obs": mask, "final_info": info, "_final_info": mask.copy()}
        return {**infos, **self._by_position(self.starts)}

    def _by_position(self, columns: Columns) -> Infos:
        """Infos of the episodes that ended as arrays over all, each with the mask of who has it."""
        infos: Infos = {}
        for name, (values, present) in columns.items():
            infos[name] = _scattered(values, self.ended, len(self.rewards))
            infos[f"_{name}"] = _scattered(present, self.ended, len(self.rewards))
        return infos

    def info_list(self) -> tuple[list[Infos], dict[int, Infos]]:
        """Every episode's info as Stable-Baselines3 has it, and the resets' infos by position."""
        infos: list[Infos] = [{} for _ in self.rewards]
        ended = self.ended.tolist()
        for position, info, final in zip(ended, _listed(self.columns, len(ended)), self.finals):
            info["terminal_observation"] = final
            info["TimeLimit.truncated"] = bool(self.truncated[position])
            infos[position] = info
        return infos, dict(zip(ended, _listed(self.starts, len(ended))))


class ReplayBatch:
    """`ScheduleBatch` in arrays, for ``construct`` over spaces that can be listed and are played back.

    It gives the same observations, masks, rewards, ends and infos, and every trial is a tuning problem's: a config
    is measured there when it is asked for the first time.

    Args:
        problem: What is tuned; its device replays. Of a suite every episode is of an operator that is drawn.
        num_envs: Number of episodes at a time.
    """

    def __init__(self, problem: TuningProblem | Suite, num_envs: int) -> None:
        self._suite = Suite.of(problem)
        self.problems = self._suite.problems
        self.formulation = Construct(self.problems[0])
        self.forest = Forest([PrefixTree(problem.space, Observer(problem.space)) for problem in self.problems])
        self._node = np.full(num_envs, self.forest.roots[0])
        self._tried_below = np.zeros(len(self.forest.depth), dtype=np.int32)
        self._answers = Answers(self.problems, self.forest)
        self._counted = [0] * len(self.problems)

    def reset(
        self, rng: np.random.Generator, options: Mapping[str, Any] | None = None, indices: Sequence[int] | None = None
    ) -> dict[int, Infos]:
        """Start episodes over, all of them unless ``indices`` says which; nothing is measured."""
        positions = list(range(len(self._node)) if indices is None else indices)
        self._node[positions], columns = self._begin(rng, len(positions))
        return dict(zip(positions, _listed(columns, len(positions))))

    def _begin(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, Columns]:
        """The roots from which so many new episodes start, and their infos."""
        drawn = self._suite.draw(rng, count)
        return self.forest.roots[drawn], self._named(drawn)

    def _named(self, of: np.ndarray) -> Columns:
        """The infos that name the operators of episodes."""
        infos = [self._suite.info(number) for number in range(len(self.problems))]
        return {name: (objects([i[name] for i in infos])[of], np.ones(len(of), dtype=bool)) for name in infos[0]}

    def step(self, actions: Sequence[Any] | np.ndarray, rng: np.random.Generator, autoreset: bool = True) -> ReplayStep:
        """Step every episode; those that end start over at once."""
        forest, before = self.forest, self._node
        options = np.asarray(actions, dtype=np.int64)
        in_range = (options >= 0) & (options < forest.masks.shape[1])
        child = forest.children[before, np.where(in_range, options, 0)].astype(np.int64)
        invalid = (child == INVALID_NODE) | ~in_range
        node = np.where(invalid, before, child)
        rewards = np.zeros(len(node))
        over = invalid | (forest.config[node] != NO_CONFIG)
        terminated, truncated = over, np.zeros(len(node), dtype=bool)
        ended = np.flatnonzero(over)
        starts: Columns = {}
        columns: Columns = {}
        finals = forest.observations[node[ended]]
        if len(ended):
            configs = np.where(invalid[ended], NO_CONFIG, forest.config[node[ended]])
            columns, rewards[ended], paid = self._settle(configs, before[ended], options[ended], finals)
            terminated, truncated = over.copy(), truncated.copy()
            terminated[ended], truncated[ended] = paid, ~paid
            node[ended], starts = self._begin(rng, len(ended))
        self._node = node
        return ReplayStep(self.observations(), rewards, terminated, truncated, ended, finals, columns, starts)

    def _settle(
        self, configs: np.ndarray, before: np.ndarray, options: np.ndarray, finals: np.ndarray
    ) -> tuple[Columns, np.ndarray, np.ndarray]:
        """Infos, rewards, and which the budget paid for, of the episodes that end; completes their observations."""
        of = self.forest.tree[before]
        paid = np.zeros(len(configs), dtype=bool)
        for number in np.unique(of).tolist():
            mine = of == number
            paid[mine] = self._ask(number, configs[mine], before[mine], options[mine])
        answers, completed = self._answers, configs != NO_CONFIG
        rewards = np.where(completed & paid, answers.rewards[configs], FAILURE_REWARD)
        finals[paid, -2] = np.minimum(rewards[paid], BOUND)
        finals[paid, -1] = ~completed[paid] | answers.failed[configs[paid]]
        columns = answers.columns(configs, completed & paid)
        everywhere = np.ones(len(configs), dtype=bool)
        for place in np.flatnonzero(paid & ~completed):
            depth = int(self.forest.depth[before[place]])
            columns["error"][0][place] = "invalid"
            columns["message"][0][place] = masked_out(self.problems[0].space, depth, int(options[place]))
        columns["trials"] = np.array(self._counted)[of], everywhere
        columns["stop_reason"] = objects([problem.stop_reason or "" for problem in self.problems])[of], everywhere
        columns["config"] = np.where(completed, answers.configs[configs], None), completed
        columns |= self._named(of)
        return {name: column for name, column in columns.items() if column[1].any()}, rewards, paid

    def _ask(self, number: int, configs: np.ndarray, before: np.ndarray, options: np.ndarray) -> np.ndarray:
        """Have a problem count the requests, and measure configs that were not asked for before; which it answers."""
        problem, completed = self.problems[number], configs != NO_CONFIG
        if problem.budget == Budget(trials=None, seconds=None):
            goes_on = not problem.done
            fresh = list(dict.fromkeys(configs[completed & ~self._answers.known[configs]].tolist()))
            problem.count_requests(len(configs) - len(fresh), int((~completed).sum()))
            if fresh:
                problem.measure([tuple(vector) for vector in self.forest.vectors[fresh].tolist()])
            self._take(number)
            return np.where(completed, self._answers.known[configs], goes_on)
        # a limit may end the run in the midst of this batch: every request in its order
        vectors = [self._asked(*each) for each in zip(configs.tolist(), before.tolist(), options.tolist())]
        answers = problem.measure(vectors)
        self._take(number)
        return np.array([answer is not None for answer in answers])

    def _take(self, number: int) -> None:
        """Take over what a problem has answered since the last time."""
        trials = self.problems[number].trials
        for trial in trials[self._counted[number] :]:
            config = self._answers.add(number, trial.vector, trial.measurement)
            self._tried_below[self.forest.paths[config]] += 1
        self._counted[number] = len(trials)

    def _asked(self, config: int, before: int, option: int) -> Prefix:
        """What an episode asks for: its config, or one that no valid config begins like."""
        if config != NO_CONFIG:
            return tuple(self.forest.vectors[config].tolist())
        prefix = self._prefix(before)
        return (*prefix, option, *(0,) * (self.forest.vectors.shape[1] - len(prefix) - 1))

    def observations(self) -> np.ndarray:
        """A copy of every episode's current observation, ``float32[n, fields]``."""
        return self.forest.observations[self._node]

    def action_masks(self, exclude_tried: bool) -> np.ndarray:
        """Every episode's mask, ``bool[n, choices]``; see `wpk_envs.tuning.TuningProblem.mask`."""
        masks = self.forest.masks[self._node]
        if exclude_tried and any(self._counted):
            children = self.forest.children[self._node]
            fresh = masks & (self.forest.below[children] > self._tried_below[children])
            return np.where(fresh.any(axis=1, keepdims=True), fresh, masks)
        return masks

    def action_mask(self, index: int, exclude_tried: bool) -> np.ndarray:
        """One episode's mask, ``bool[choices]``."""
        return self.action_masks(exclude_tried)[index]

    def schedule(self, index: int) -> Prefix:
        """The options that an episode has chosen so far."""
        return self._prefix(int(self._node[index]))

    def space(self, index: int) -> ScheduleSpace:
        """The space of an episode."""
        return self.problems[self.forest.tree[self._node[index]]].space

    def _prefix(self, node: int) -> Prefix:
        depth = int(self.forest.depth[node])
        row = int(np.flatnonzero(self.forest.paths[:, depth] == node)[0])
        return tuple(self.forest.vectors[row, :depth].tolist())


def open_batch(
    problem: TuningProblem | Suite, formulation: str, num_envs: int, measure: MeasureBatch | None = None
) -> ScheduleBatch | ReplayBatch:
    """The fastest batch for a problem or a suite: in arrays where configs are constructed from recorded tables.

    Args:
        problem: What is tuned.
        formulation: One of `wpk_envs.envs.batch.FORMULATIONS`.
        num_envs: Number of episodes at a time.
        measure: See `wpk_envs.envs.batch.ScheduleBatch`.

    Raises:
        UserError: If there is no such formulation, or no environment at all.
    """
    recorded = all(each.device.configs(each.operator) is not None for each in Suite.of(problem).problems)
    if recorded and formulation == Construct.name and num_envs > 0 and measure is None:
        return ReplayBatch(problem, num_envs)
    return ScheduleBatch(problem, formulation, num_envs, measure)


def _listed(columns: Columns, count: int) -> list[Infos]:
    """Infos in columns as one dict for each of so many episodes."""
    infos: list[Infos] = [{} for _ in range(count)]
    for name, (values, present) in columns.items():
        for info, value, is_there in zip(infos, values.tolist(), present.tolist()):
            if is_there:
                info[name] = value
    return infos


def _scattered(values: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    """An array of ``count`` empty values, with these at their places."""
    array = np.full(count, None, dtype=object) if values.dtype == object else np.zeros(count, dtype=values.dtype)
    array[places] = values
    return array
