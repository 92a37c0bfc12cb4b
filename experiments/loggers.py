"""Weights & Biases, beside the run and never in its way.

A thread of its own imports W&B, opens the run and sends what it is given. Whatever goes wrong there, a
missing network first of all, is one warning and the end of the logging.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.journal import to_dict
from experiments.naming import MEASURED, Naming
from wpk_envs.tuning import Trial

CLOSE_SECONDS = 60.0
"""How long the end of a run waits for W&B's thread."""

UPLOAD_SECONDS = 45.0
"""How long W&B may go on uploading before it gives up; what is missing stays in the run's folder."""

Send = Callable[[Any], None]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tracked:
    """What W&B is told of a run at its start, and what its figures are called there."""

    mode: str
    project: str
    entity: str | None
    group: str
    name: str
    tags: tuple[str, ...]
    config: Mapping[str, Any]
    naming: Naming = MEASURED


class WandbLogger:
    """Sends a run's trials and results to W&B; silent and free if the mode is ``disabled``.

    Args:
        tracked: The run's description.
        folder: W&B's offline files go into ``folder/wandb``.
        warn: Called with the one warning.
    """

    def __init__(self, tracked: Tracked, folder: Path, warn: Callable[[str], None]) -> None:
        self._tracked = tracked
        self._folder = folder
        self._warn = warn
        self._queue: queue.SimpleQueue[Send | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._best = 0.0

    def start(self) -> None:
        """Open the run in the background."""
        if self._tracked.mode != "disabled":
            self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)
            self._thread.start()

    def trial(self, trial: Trial) -> None:
        """Send a trial."""
        naming = self._tracked.naming
        best = f"best_{naming.key('speedup')}"
        self._best = max(self._best, trial.measurement.gain or 0.0)
        row: dict[str, float | None] = {"trial": trial.number, "seconds": trial.seconds, best: self._best}
        row.update({f"{best}_by_seconds": self._best, "reused": int(trial.reused)})
        figures = naming.figures(trial.measurement)
        row.update((name, number) for name, number in figures.items() if number is not None)
        self._queue.put(lambda run: run.log(row))

    def finish(self, summary: Mapping[str, Any], trials: Sequence[Trial], files: Sequence[Path]) -> None:
        """Send the results, and end the run.

        Args:
            summary: The run's summary.
            trials: All trials, for the table.
            files: The winner's schedule and config, kept as an artifact.
        """
        self._queue.put(lambda run: _send_results(run, summary, trials, files, self._tracked.naming))
        self.close()

    def close(self) -> None:
        """End the run; waits no longer than `CLOSE_SECONDS`."""
        if self._thread is None:
            return
        self._queue.put(None)
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            self._warn(f"W&B did not finish within {CLOSE_SECONDS:.0f} seconds; the run's other files are complete")
        self._thread = None

    def _work(self) -> None:
        try:
            run = _open(self._tracked, self._folder)
            for send in iter(self._queue.get, None):
                send(run)
            run.finish()
        except BaseException as error:
            log.warning("W&B failed", exc_info=error)
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            self._warn(f"W&B failed ({reason}); the run goes on without it")


def _open(tracked: Tracked, folder: Path) -> Any:
    import wandb

    wanted = {"finish_timeout": UPLOAD_SECONDS, "finish_timeout_raises": True}  # not in every version
    limits: dict[str, Any] = {key: value for key, value in wanted.items() if key in wandb.Settings.model_fields}
    settings = wandb.Settings(
        console="off", silent=True, x_disable_stats=True, disable_code=True, disable_git=True, init_timeout=30, **limits
    )
    wandb.setup(settings)  # silent from the first line on
    if tracked.mode == "online" and not wandb.api.api_key:
        raise RuntimeError("logger.mode=online needs an API key: run `wandb login`, or use logger.mode=offline")
    run = wandb.init(
        mode=tracked.mode,  # type: ignore[arg-type]
        project=tracked.project,
        entity=tracked.entity,
        group=tracked.group,
        name=tracked.name,
        tags=[tag[:64] for tag in tracked.tags],
        config=dict(tracked.config),
        dir=str(folder),
        reinit="create_new",
        settings=settings,
    )
    speedup = tracked.naming.key("speedup")
    run.define_metric(f"best_{speedup}", step_metric="trial")
    run.define_metric(speedup, step_metric="trial")
    run.define_metric(f"best_{speedup}_by_seconds", step_metric="seconds")
    return run


def _send_results(
    run: Any, summary: Mapping[str, Any], trials: Sequence[Trial], files: Sequence[Path], naming: Naming
) -> None:
    import wandb

    columns = ["number", "seconds", naming.key("speedup"), naming.key("latency_us"), "error", "reused", "config"]
    table = wandb.Table(columns=columns)
    for trial in trials:
        row = to_dict(trial, naming)
        error = trial.measurement.error or ""
        config = ", ".join(f"{name}={value}" for name, value in trial.config.items())
        table.add_data(*(row[name] for name in columns[:4]), error, trial.reused, config)
    run.log({naming.key("trials"): table})
    run.summary.update({key: value for key, value in summary.items() if not isinstance(value, (dict, list))})
    if files:
        metadata = {key: summary[key] for key in ("op", "predicted")}
        artifact = wandb.Artifact(f"schedule-{run.id}", type="schedule", metadata=metadata)
        for file in files:
            artifact.add_file(str(file))
        run.log_artifact(artifact)
