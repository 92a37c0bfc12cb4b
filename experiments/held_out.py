"""A study of held-out operators: its settings, who takes part, and its headline."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from rich.table import Table

import agents
from agents.pretraining import Recipe
from experiments.comparison import statistics
from experiments.comparison.scores import Scores
from experiments.comparison.settings import Entrant, Settings, entrants_of, points_of
from experiments.config import BudgetConfig, ProgramConfig, budget_of, device_of
from experiments.policies import HELD_OUT, Training, set_of
from experiments.pretrain import recipe_of
from wpk_envs.core import Operator
from wpk_envs.devices.recorded import RecordedDevice
from wpk_envs.errors import UserError, unknown
from wpk_envs.records.library import DEFAULT

COMMON = ("surrogate", "ga", "ppo", "random_policy")
"""Who knows nothing when it starts, whatever is held out."""

TRANSFER: Mapping[str, Mapping[str, Any]] = {
    "transfer": {},
    "transfer_unranked": {"ranked": 0},
    "zero_shot": {"ranked": 0, "zero_shot": True},
}
"""Variants of the agent that starts from a policy."""


@dataclass
class TransferConfig(ProgramConfig, Recipe):
    """``python -m experiments.transfer``; the keys are explained in ``conf/transfer.yaml``."""

    split: str | None = None
    ops: list[str] | None = None
    seeds: int = 10
    train_seeds: int = 5
    device: Any = MISSING
    budget: BudgetConfig = field(default_factory=lambda: BudgetConfig(trials=256))
    budgets: list[int] = field(default_factory=lambda: [8, 16, 32, 64, 128])
    jobs: int | None = None
    resume: str | None = None


ConfigStore.instance().store(name="transfer_schema", node=TransferConfig)


@dataclass(frozen=True)
class Pretrained(Entrant):
    """An agent that starts from a policy: the one of its run's seed, modulo the number of training seeds.

    Attributes:
        folders: A folder of policies for every training seed.
    """

    folders: tuple[str, ...] = ()

    def agent(self, seed: int) -> agents.Agent:
        """A new agent for a run of that seed."""
        return agents.get(self.algo, **{**self.settings, "policy": self.folders[seed % len(self.folders)]})


@dataclass(frozen=True)
class HeldOut:
    """What a study was asked to do.

    Attributes:
        comparison: Operators, seeds, budget, device and so on; without entrants.
        splits: What is held out: each operator, each family, or one after the other.
        groups: Who takes part: by split who knows something, and as ``common`` who does not.
        trainings: The policies that are needed.
        train_seeds: How often each is trained.
        recipe: How.
    """

    comparison: Settings
    splits: tuple[str, ...]
    groups: Mapping[str, Mapping[str, Entrant]]
    trainings: tuple[Training, ...]
    train_seeds: int
    recipe: Recipe


def settings_of(cfg: DictConfig, folder: Path) -> HeldOut:
    """Make a study's settings of its config.

    Args:
        cfg: The config.
        folder: Where its policies go.

    Raises:
        UserError: For a value that cannot be.
    """
    for key in ("seeds", "train_seeds", "jobs"):
        if cfg[key] is not None and cfg[key] < 1:
            raise UserError(f"{key} must be a whole number of at least 1, not {cfg[key]}")
    if cfg.split not in (None, *HELD_OUT):
        raise unknown("split", cfg.split, HELD_OUT)
    recipe, splits = recipe_of(cfg), HELD_OUT if cfg.split is None else (cfg.split,)
    trainings = {split: _trainings(cfg, split, folder, recipe) for split in splits}
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    if cfg.resume is not None:
        _check_same(Path(cfg.resume), plain)
    return HeldOut(
        comparison=_comparison(cfg, plain),
        splits=splits,
        groups={**{split: _knowing(split, trainings[split], cfg) for split in splits}, "common": entrants_of(COMMON)},
        trainings=tuple(training for sets in trainings.values() for each in sets for training in each),
        train_seeds=cfg.train_seeds,
        recipe=recipe,
    )


def _check_same(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse to go on where finished policies or runs would be other ones now."""
    before = folder / "config.json"
    if not before.exists():  # ended before it began
        return
    earlier = json.loads(before.read_text())
    fixed = ("device", "budget", "train_seeds", *(each.name for each in dataclasses.fields(Recipe)))
    differing = [key for key in fixed if earlier[key] != config[key]]
    if differing:
        raise UserError(
            f"resume={folder} goes on with the same study, but its {' and '.join(differing)} would be different; "
            "leave what you gave for it away, or start a new study without resume="
        )


def _comparison(cfg: DictConfig, plain: dict[str, Any]) -> Settings:
    return Settings(
        entrants={},
        ops=plain["ops"],
        seeds=cfg.seeds,
        device=device_of(cfg.device),
        budget=budget_of(cfg.budget),
        points=points_of(cfg.budgets, cfg.budget.trials),
        jobs=cfg.jobs,
        store_path=None,
        reuse=False,
        resume=cfg.resume is not None,
        config=plain,
    )


def _trainings(cfg: DictConfig, split: str, folder: Path, recipe: Recipe) -> list[list[Training]]:
    """Sets of policies, one for each training seed."""
    if cfg.device.name != "recorded":
        raise UserError("policies are trained on recorded operators and tune those that are held out: device=recorded")
    tables = cfg.device.tables or DEFAULT
    known = dict(RecordedDevice(tables).operators)
    return [
        [
            training
            for training in set_of(
                folder / "policies" / split / f"seed{seed}", known, list(known), split, tables, recipe, seed
            )
            if len(training.names) < len(known)
        ]
        for seed in range(cfg.train_seeds)
    ]


def _knowing(split: str, trainings: Sequence[Sequence[Training]], cfg: DictConfig) -> dict[str, Entrant]:
    """Who knows something when it starts, but nothing of what is held out."""
    folders = tuple(str(each[0].path.parent.absolute()) for each in trainings)
    policies = entrants_of([{"name": "transfer", "label": label, **given} for label, given in TRANSFER.items()])
    tables = {"tables": cfg.device.tables or DEFAULT, "unknown": split}
    rankings = entrants_of([{"name": name, **tables} for name in ("ranking", "ranking_ga")])
    return {
        **{label: Pretrained(each.label, each.algo, each.settings, folders) for label, each in policies.items()},
        **rankings,
    }


def headline(scores: Scores, operators: Mapping[str, Operator]) -> dict[str, Any]:
    """Trials to 95% of the best known speedup, by held-out operator and as medians over them.

    Returns:
        ``operators``: by name its ``family`` and by agent the median over the seeds, null if most runs do not get
        there; ``median``: by agent over the operators; ``of_ga``: by agent its median over that of the genetic
        algorithm, null where either is.
    """
    times = scores.trials_to()
    medians = {
        algo: [statistics.median(times[a, o]) for o in range(len(scores.ops))] for a, algo in enumerate(scores.algos)
    }
    over_all = {algo: statistics.median(_numbers(each)) for algo, each in medians.items()}
    ga = over_all.get("ga")
    return {
        "operators": {
            op: {"family": operators[op].family, **{algo: medians[algo][o] for algo in scores.algos}}
            for o, op in enumerate(scores.ops)
        },
        "median": over_all,
        "of_ga": {algo: each / ga if each is not None and ga else None for algo, each in over_all.items()},
    }


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    """The values, infinity where there is none."""
    return np.array([np.inf if value is None else value for value in values])


@dataclass(frozen=True)
class HeadlineTable:
    """The headline for people: rows of text under their headings."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    def rich(self) -> Table:
        """For a terminal."""
        table = Table(title=self.title)
        for head in self.heads:
            table.add_column(head, justify="left" if head in ("held out", "family") else "right")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For a page."""
        lines = [self.heads, ["---", "---", *["---:"] * (len(self.heads) - 2)], *self.rows]
        return f"# {self.title}\n\n" + "".join("| " + " | ".join(line) + " |\n" for line in lines)


def headline_table(figures: Mapping[str, Any], split: str) -> HeadlineTable:
    """Trials to 95% of the best known speedup, a row per operator and one of medians."""
    algos = list(figures["median"])
    rows = [
        [op, entry["family"], *(_text(entry[algo]) for algo in algos)] for op, entry in figures["operators"].items()
    ]
    rows.append(["median", "", *(_text(figures["median"][algo]) for algo in algos)])
    what = "it" if split == "operator" else "its family"
    title = f"Median trials to 95% of the best known speedup of an operator, without {what} in training"
    return HeadlineTable(title, ["held out", "family", *algos], rows)


def _text(trials: float | None) -> str:
    return "not reached" if trials is None else f"{trials:.0f}"
