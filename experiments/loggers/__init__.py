"""What a run is logged to while it goes: a file per logger, behind the one contract of `contract.Logger`."""

from __future__ import annotations

from pathlib import Path

from experiments.loggers.contract import Guarded, Logger, Nothing, Tracked, Warn, warn_user
from experiments.loggers.csv_logger import CsvLogger
from experiments.loggers.settings import LoggerConfig, WandbConfig
from experiments.loggers.summaries import comparison_digest, log_summary, plans_digest, speedups_digest
from experiments.loggers.tensorboard_logger import TensorBoardLogger
from experiments.loggers.wandb_logger import WandbLogger

__all__ = [
    "Logger",
    "LoggerConfig",
    "Tracked",
    "WandbConfig",
    "comparison_digest",
    "log_summary",
    "open_logger",
    "plans_digest",
    "speedups_digest",
]


def open_logger(config: LoggerConfig, tracked: Tracked, folder: Path, warn: Warn = warn_user) -> Logger:
    """Make the logger that was asked for; nothing is written before its start.

    Args:
        config: Which one, and its settings, as `settings.logger_of` gives them.
        tracked: The run's description.
        folder: The run's folder.
        warn: Called with a sentence if the logging ends early.
    """
    if isinstance(config, WandbConfig):
        return Nothing() if config.mode == "disabled" else WandbLogger(config, tracked, folder, warn)
    if config.name == "tensorboard":
        return Guarded(TensorBoardLogger(tracked, folder), "the log for TensorBoard", warn)
    if config.name == "csv":
        return Guarded(CsvLogger(tracked, folder), "trials.csv", warn)
    return Nothing()
