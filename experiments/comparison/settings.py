"""A comparison's settings as objects, made and checked from its config before anything is written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import agents
from experiments.comparison.places import RECORDED
from experiments.complaints import one_line
from experiments.config import BudgetConfig, DeviceConfig, ProgramConfig, agent_node, budget_of, device_of
from experiments.loggers import LoggerConfig
from experiments.loggers.settings import logger_of
from wpk_envs import devices, operators
from wpk_envs.errors import UserError, unknown
from wpk_envs.tuning import Budget

EXPERIENCED = ("transfer", "ranking", "ranking_ga")
"""Agents that know other operators already: they take part only if they are named."""


@dataclass
class CompareConfig(ProgramConfig):
    """``python -m experiments.compare``; the keys are explained in ``conf/compare.yaml``."""

    algos: list[Any] | None = None
    ops: list[str] | None = None
    seeds: int = 20
    device: Any = MISSING
    budget: BudgetConfig = field(default_factory=lambda: BudgetConfig(trials=256))
    budgets: list[int] = field(default_factory=lambda: [32, 64, 128, 256, 512])
    jobs: int | None = None
    logger: LoggerConfig = MISSING
    resume: str | None = None


ConfigStore.instance().store(name="compare_schema", node=CompareConfig)


@dataclass(frozen=True)
class Entrant:
    """An agent that takes part.

    Attributes:
        label: What it is called in the results.
        algo: The agent's name.
        settings: All of its settings.
    """

    label: str
    algo: str
    settings: Mapping[str, Any]

    def agent(self, seed: int) -> agents.Agent:
        """A new agent for a run of that seed."""
        return agents.get(self.algo, **self.settings)


@dataclass(frozen=True)
class Settings:
    """What a comparison was asked to do.

    Attributes:
        entrants: Who takes part, by label.
        ops: Names of the operators; none for every one that the device has recorded.
        seeds: How many: 0, 1, ...
        device: Where.
        budget: Of every run.
        points: Trials after which the best so far is reported, in order.
        jobs: Runs at the same time on devices that replay; none is one for each core.
        store_path: The records' file of devices that measure; none for the user's own.
        reuse: Whether earlier records may answer trials there.
        resume: Whether the folder holds runs to go on from.
        config: The whole config as plain data, the entrants with all their settings.
    """

    entrants: Mapping[str, Entrant]
    ops: Sequence[str] | None
    seeds: int
    device: DeviceConfig
    budget: Budget
    points: Sequence[int]
    jobs: int | None
    store_path: str | None
    reuse: bool
    resume: bool
    config: Mapping[str, Any]


def settings_of(cfg: DictConfig) -> Settings:
    """Make a comparison's settings of its config.

    Raises:
        UserError: For a value that cannot be.
    """
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    entrants = entrants_of(plain["algos"])
    device, budget = device_of(cfg.device), budget_of(cfg.budget)
    logger_of(cfg.logger)
    _check_numbers(cfg)
    _check_place(cfg, device)
    plain["algos"] = {each.label: {"name": each.algo, **each.settings} for each in entrants.values()}
    if cfg.resume is not None:
        _check_same(Path(cfg.resume), plain)
    return Settings(
        entrants=entrants,
        ops=plain["ops"],
        seeds=cfg.seeds,
        device=device,
        budget=budget,
        points=points_of(cfg.budgets, cfg.budget.trials),
        jobs=cfg.jobs,
        store_path=cfg.store.path,
        reuse=cfg.store.reuse,
        resume=cfg.resume is not None,
        config=plain,
    )


def entrants_of(given: Sequence[Any] | None) -> dict[str, Entrant]:
    """The agents by label.

    Args:
        given: An entry for each: its name, or a mapping with ``name``, its settings, and a ``label`` if that is to
            be another one than the name. None is every agent that starts from nothing.

    Raises:
        UserError: For names, settings and values that cannot be, and labels given twice.
    """
    entrants: dict[str, Entrant] = {}
    same_space = [name for name in agents.names() if not agents.agent_class(name).own_space]
    from_nothing = [name for name in same_space if name not in EXPERIENCED]
    for entry in from_nothing if given is None else given:
        entrant = _entrant(entry)
        if entrant.label in entrants:
            raise UserError(
                f"algos has '{entrant.label}' twice; tell them apart with a label, such as "
                f"{{name: {entrant.algo}, label: {entrant.algo}_2}}"
            )
        entrants[entrant.label] = entrant
    if not entrants:
        raise UserError(f"algos is empty; give a list of {', '.join(agents.names())}")
    return entrants


def _entrant(entry: Any) -> Entrant:
    fields = dict(entry) if isinstance(entry, Mapping) else {"name": entry}
    name, label = str(fields.pop("name", None)), fields.pop("label", None)
    node = agent_node(name)
    allowed = [each.name for each in dataclasses.fields(node) if each.name != "name"]
    for key in fields:
        if key not in allowed:
            raise unknown(f"setting of algo {name}", key, [*allowed, "label"])
    try:
        settings: Any = OmegaConf.to_container(OmegaConf.merge(OmegaConf.structured(node), fields))
    except OmegaConfBaseException as error:
        raise UserError(f"algos: {name} is given a value that cannot be: {one_line(error)}") from error
    del settings["name"]
    if agents.agent_class(name).own_space:
        raise UserError(
            f"algo {name} searches a space of its own, so it is not compared trial by trial; leave it out of algos and "
            "compare it by the clock, with python -m experiments.tables"
        )
    agents.get(name, **settings)
    return Entrant(str(label or name), name, settings)


def points_of(budgets: Sequence[int], trials: int | None) -> tuple[int, ...]:
    """Trials to report at: those asked for up to the budget, and the budget itself.

    Raises:
        UserError: If one is no number of trials, or nothing is left.
    """
    if any(point < 1 for point in budgets):
        raise UserError(f"budgets must be numbers of trials of at least 1, not {min(budgets)}")
    points = {point for point in budgets if trials is None or point <= trials}
    if trials is not None:
        points.add(trials)
    if not points:
        raise UserError("budgets is empty and budget.trials null; give numbers of trials, such as budgets=[64,128]")
    return tuple(sorted(points))


def _check_numbers(cfg: DictConfig) -> None:
    for key in ("seeds", "jobs"):
        if cfg[key] is not None and cfg[key] < 1:
            raise UserError(f"{key} must be a whole number of at least 1, not {cfg[key]}")


def _check_place(cfg: DictConfig, device: DeviceConfig) -> None:
    """What goes with a device that replays, and what with one that measures."""
    if device.name == RECORDED:
        return
    devices.check_measures(device.name)
    if cfg.ops is None:
        raise UserError(
            f"device={device.name} has no recorded operators to choose; say which to tune, such as ops=[conv3x3,gemm]"
        )
    if cfg.jobs is not None:
        raise UserError(f"on device={device.name} one run goes at a time, so that they do not disturb; leave out jobs")
    for name in cfg.ops:
        operators.get(name)


def _check_same(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse to go on where finished runs would be other ones now; more agents, operators and seeds are welcome."""
    before = folder / "config.json"
    if not before.exists():  # ended before it began
        return
    earlier = json.loads(before.read_text())
    differing = [key for key in ("device", "budget") if earlier[key] != config[key]]
    was, now = earlier["algos"], config["algos"]
    differing += [f"algo {label}" for label in now if label in was and was[label] != now[label]]
    if differing:
        raise UserError(
            f"resume={folder} goes on with the same comparison, but its {' and '.join(differing)} would be different; "
            "leave what you gave for it away, or start a new comparison without resume="
        )
