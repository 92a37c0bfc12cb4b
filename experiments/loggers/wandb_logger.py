"""``logger=wandb``: a Weights & Biases run with every trial, the results and the winner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.journal import to_dict
from experiments.loggers.contract import Tracked, Warn
from experiments.loggers.rows import ERRORS, REUSED, SECONDS, TRIAL, Keys, Rows
from experiments.loggers.settings import WandbConfig
from experiments.loggers.wandb_run import WandbRun
from wpk_envs.tuning import Trial


def best_by_seconds(keys: Keys) -> str:
    """The highest speedup so far once more: W&B draws a figure over one other only."""
    return f"{keys.best_speedup}_by_seconds"


class WandbLogger:
    """Sends a run's trials and results to W&B.

    Args:
        config: Mode, project, entity and group.
        tracked: The run's description.
        folder: W&B's offline files go into ``folder/wandb``.
        warn: Called with the one warning.
    """

    def __init__(self, config: WandbConfig, tracked: Tracked, folder: Path, warn: Warn) -> None:
        self._rows = Rows(tracked.naming)
        keys = self._rows.keys
        over_trials = [keys.speedup, keys.latency, keys.best_speedup, keys.best_latency, *ERRORS.values()]
        steps = {**dict.fromkeys(over_trials, TRIAL), best_by_seconds(keys): SECONDS}
        self._run = WandbRun(config, tracked, folder, warn, steps)

    def start(self) -> None:
        """Open the run in the background."""
        self._run.start()

    def trial(self, trial: Trial) -> None:
        """Send a trial."""
        keys = self._rows.keys
        row = self._rows.row(trial)
        row[best_by_seconds(keys)] = row[keys.best_speedup]
        known = {name: figure for name, figure in row.items() if figure is not None}
        self._run.send(lambda run: run.log(known))

    def finish(self, summary: Mapping[str, Any], trials: Sequence[Trial], files: Sequence[Path]) -> None:
        """Send the results, the table of trials and the winner as an artifact, and end the run."""
        self._run.send(lambda run: _send_results(run, summary, trials, files, self._rows.keys))
        self.close()

    def close(self) -> None:
        """End the run."""
        self._run.close()


def _send_results(
    run: Any, summary: Mapping[str, Any], trials: Sequence[Trial], files: Sequence[Path], keys: Keys
) -> None:
    import wandb

    columns = ["number", SECONDS, keys.speedup, keys.latency, "error", REUSED, "config"]
    table = wandb.Table(columns=columns)
    for trial in trials:
        row = to_dict(trial, keys.naming)
        error = trial.measurement.error or ""
        config = ", ".join(f"{name}={value}" for name, value in trial.config.items())
        table.add_data(*(row[name] for name in columns[:4]), error, trial.reused, config)
    run.log({keys.trials: table})
    run.summary.update({key: value for key, value in summary.items() if not isinstance(value, (dict, list))})
    if files:
        metadata = {key: summary[key] for key in ("op", "predicted")}
        artifact = wandb.Artifact(f"schedule-{run.id}", type="schedule", metadata=metadata)
        for file in files:
            artifact.add_file(str(file))
        run.log_artifact(artifact)
