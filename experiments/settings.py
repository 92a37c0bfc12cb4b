"""A run's settings as objects, made and checked from its config before anything is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

import agents
from experiments.config import DeviceConfig, budget_of, device_of, operators_of
from experiments.loggers.settings import LoggerConfig, logger_of
from wpk_envs.core import Operator
from wpk_envs.errors import UserError
from wpk_envs.tuning import Budget


@dataclass(frozen=True)
class Settings:
    """What a run was asked to do.

    Attributes:
        op: The name given as ``op=``.
        operators: What to tune, by name: one operator, or the members of a suite.
        algo: The agent's name.
        algo_settings: Its settings.
        device: Where.
        budget: For each operator.
        logger: What the run is logged to.
        seed: Of every random choice.
        store_path: The records' file; none for the user's own.
        reuse: Whether earlier records may answer trials.
        resume: Whether the run's folder holds trials to go on from.
        config: The whole config as plain data, the operator with all its fields.
    """

    op: str
    operators: dict[str, Operator]
    algo: str
    algo_settings: dict[str, Any]
    device: DeviceConfig
    budget: Budget
    logger: LoggerConfig
    seed: int
    store_path: str | None
    reuse: bool
    resume: bool
    config: dict[str, Any]

    @property
    def is_suite(self) -> bool:
        """Whether every member of a suite is tuned."""
        return self.op.endswith("/all")

    def agent(self) -> agents.Agent:
        """A new agent."""
        return agents.get(self.algo, **self.algo_settings)


def settings_of(cfg: DictConfig) -> Settings:
    """Make a run's settings of its config.

    Raises:
        UserError: For a value that cannot be.
    """
    operators = operators_of(cfg.op)
    settings = _settings(cfg, cfg.op.name, operators, cfg.logger, resume=cfg.resume is not None)
    fields = operators[cfg.op.name].to_dict() if cfg.op.name in operators else {}
    settings.config["op"] = {"name": cfg.op.name, **fields}
    if cfg.resume is not None:
        _check_same_run(Path(cfg.resume), settings.config)
    return settings


def settings_without_operator(cfg: DictConfig, program: str) -> Settings:
    """Make the settings that a program without ``op=`` tunes its operators with; it has no dashboard.

    Raises:
        UserError: For a value that cannot be.
    """
    return _settings(cfg, program, {}, OmegaConf.structured(LoggerConfig("none")), resume=False)


def _settings(cfg: DictConfig, op: str, operators: dict[str, Operator], logger: DictConfig, resume: bool) -> Settings:
    if cfg.seed < 0:
        raise UserError(f"seed must be a whole number of at least 0, not {cfg.seed}")
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    algo = {str(key): value for key, value in plain["algo"].items() if key != "name"}
    agents.get(cfg.algo.name, **algo)
    return Settings(
        op=op,
        operators=operators,
        algo=cfg.algo.name,
        algo_settings=algo,
        device=device_of(cfg.device),
        budget=budget_of(cfg.budget),
        logger=logger_of(logger),
        seed=cfg.seed,
        store_path=cfg.store.path,
        reuse=cfg.store.reuse,
        resume=resume,
        config=plain,
    )


def _check_same_run(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse to go on with a run whose search would be another one now; budgets and the like may change."""
    before = folder / "config.json"
    if not before.exists():  # ended before it began
        return
    earlier = json.loads(before.read_text())
    differing = [key for key in ("op", "algo", "device", "seed") if earlier[key] != config[key]]
    if differing:
        raise UserError(
            f"resume={folder} goes on with the same search, but its {' and '.join(differing)} would be different; "
            "leave what you gave for it away, or start a new run without resume="
        )
