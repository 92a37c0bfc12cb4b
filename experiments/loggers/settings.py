"""The group ``logger``: what a run is logged to, and whose it is."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from omegaconf import MISSING, DictConfig, OmegaConf

from wpk_envs.errors import unknown

MODES = ("offline", "online", "disabled")


@dataclass
class LoggerConfig:
    """``logger=none``, ``csv`` and ``tensorboard``, which have no settings."""

    name: str = MISSING


@dataclass
class WandbConfig(LoggerConfig):
    """``logger=wandb``; ``WANDB_MODE`` decides where ``mode`` is null."""

    name: str = "wandb"
    mode: str | None = None
    project: str = "wpk-envs"
    entity: str | None = None
    group: str | None = None


NAMES = ("wandb", "tensorboard", "csv", "none")


def nodes() -> list[LoggerConfig]:
    """The options of the group."""
    return [WandbConfig() if name == "wandb" else LoggerConfig(name) for name in NAMES]


def logger_of(cfg: DictConfig) -> LoggerConfig:
    """A ``logger`` node as an object, W&B's mode settled.

    Raises:
        UserError: For a name that is not the option's, and for a mode that W&B does not have.
    """
    logger = OmegaConf.to_object(cfg)
    assert isinstance(logger, LoggerConfig)
    allowed = [node.name for node in nodes() if type(node) is type(logger)]
    if logger.name not in allowed:
        raise unknown("logger.name", logger.name, allowed)
    return replace(logger, mode=mode_of(logger)) if isinstance(logger, WandbConfig) else logger


def mode_of(config: WandbConfig) -> str:
    """Which W&B mode holds: ``logger.mode`` if given, else ``WANDB_MODE``, else offline.

    Raises:
        UserError: For one that W&B does not have.
    """
    given = config.mode or os.environ.get("WANDB_MODE") or "offline"
    if given not in MODES:
        raise unknown("logger.mode" if config.mode else "WANDB_MODE", given, MODES)
    return given
