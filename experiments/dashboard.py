"""``python -m experiments.dashboard``: the project's W&B report and workspace, as code.

Builds them for searches, comparisons and speedup tables, and writes their specs into the run's folder. With
``save=true`` they are saved in the W&B project too, which needs an account; without, nothing is asked of W&B.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

from experiments import progress
from experiments.config import ProgramConfig
from experiments.files import check_writable, publish, write_json
from experiments.launcher import launch
from experiments.loggers.contract import reason
from experiments.loggers.settings import LoggerConfig, WandbConfig, logger_of
from experiments.loggers.wandb_run import has_key, quiet
from wpk_envs.errors import UserError, unknown

KINDS = ("report", "workspace")  # in this order: the first report that is saved makes the project
ALL = "all"

log = logging.getLogger(__name__)


@dataclass
class DashboardConfig(ProgramConfig):
    """``python -m experiments.dashboard``; the keys are explained in ``conf/dashboard.yaml``."""

    kind: str = ALL
    save: bool | None = None
    logger: LoggerConfig = MISSING


ConfigStore.instance().store(name="dashboard_schema", node=DashboardConfig)


def main() -> None:
    """Run the program with the command line's arguments."""
    launch("dashboard", task=act, check=check)


def check(cfg: DictConfig) -> WandbConfig:
    """Whose dashboards are built.

    Raises:
        UserError: For a kind or a logger that cannot be, and for saving without an account.
    """
    if cfg.kind not in (*KINDS, ALL):
        raise unknown("kind", cfg.kind, (*KINDS, ALL))
    config = logger_of(cfg.logger)
    if not isinstance(config, WandbConfig):
        raise UserError(f"dashboards are those of Weights & Biases; leave logger={config.name} out")
    check_writable(cfg.out)
    if _saves(cfg, config):
        quiet()
        if not has_key():
            raise UserError(
                "saving a dashboard needs a Weights & Biases account, and no API key was found; run `wandb login`, "
                "or only write the specs (save=false)"
            )
    return config


def act(cfg: DictConfig, folder: Path) -> None:
    """Build what was asked for, write it and save it if so wanted.

    Args:
        cfg: The program's settings.
        folder: The run's folder.

    Raises:
        UserError: If W&B does not take it, or its library for dashboards cannot be imported.
    """
    config, console, boards = check(cfg), progress.console(), _boards()
    saves = _saves(cfg, config)
    entity = config.entity or (_asked("the account's name", _default_entity) if saves else "")
    found: dict[str, Any] = {}
    for kind in KINDS if cfg.kind == ALL else (cfg.kind,):
        board = getattr(boards, kind)(config, entity)
        path = folder / f"{kind}.json"
        write_json(path, boards.spec(board))
        url = _asked(f"the {kind}", functools.partial(_saved, board)) if saves else None
        found[kind] = {"spec": str(path), "url": url}
        console.print(f"{kind}: {url or f'written to {path}, not saved'}", highlight=False, soft_wrap=True)
    publish({"project": config.project, "entity": entity or None, "group": config.group, **found}, folder, cfg.out)


def _saves(cfg: DictConfig, config: WandbConfig) -> bool:
    return config.mode == "online" if cfg.save is None else cfg.save


def _boards() -> ModuleType:
    try:
        from experiments.dashboards import boards
    except ImportError as error:
        raise UserError(
            f"wandb-workspaces cannot be imported ({error}); pip install 'wandb-workspaces>=0.4.13'"
        ) from error
    return boards


def _default_entity() -> str:
    import wandb

    return wandb.Api().default_entity


def _saved(board: Any) -> str:
    return board.save().url


def _asked(what: str, ask: Callable[[], str]) -> str:
    """What W&B answers.

    Raises:
        UserError: If it does not, whatever the reason; the traceback is in the run's log.
    """
    try:
        return ask()
    except Exception as error:
        log.warning("W&B refused %s", what, exc_info=error)
        raise UserError(
            f"W&B refused {what} ({reason(error)}); look at the network, `wandb login`, logger.entity and "
            "logger.project, or only write the specs (save=false)"
        ) from error


if __name__ == "__main__":
    main()
