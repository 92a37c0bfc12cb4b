"""A W&B run beside the program and never in its way.

A thread of its own imports W&B, opens the run and sends what it is given. Whatever goes wrong there, a
missing network first of all, is one warning and the end of the logging.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.loggers.contract import Tracked, Warn, reason
from experiments.loggers.settings import WandbConfig

CLOSE_SECONDS = 60.0
"""How long the end of a run waits for W&B's thread."""

UPLOAD_SECONDS = 45.0
"""How long W&B may go on uploading before it gives up; what is missing stays in the run's folder."""

Send = Callable[[Any], None]

log = logging.getLogger(__name__)


class WandbRun:
    """Sends to one W&B run in the background.

    Args:
        config: Mode, project and entity.
        tracked: The run's description.
        folder: W&B's offline files go into ``folder/wandb``.
        warn: Called with the one warning.
        steps: By which of its figures others are drawn.
    """

    def __init__(
        self, config: WandbConfig, tracked: Tracked, folder: Path, warn: Warn, steps: Mapping[str, str]
    ) -> None:
        self._config = config
        self._tracked = tracked
        self._folder = folder
        self._warn = warn
        self._steps = steps
        self._queue: queue.SimpleQueue[Send | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Open the run."""
        self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)
        self._thread.start()

    def send(self, send: Send) -> None:
        """Call ``send`` with W&B's run, after everything that was sent before."""
        self._queue.put(send)

    def close(self) -> None:
        """End the run; waits no longer than `CLOSE_SECONDS`. Safe to call twice and without a start."""
        if self._thread is None:
            return
        self._queue.put(None)
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            self._warn(f"W&B did not finish within {CLOSE_SECONDS:.0f} seconds; the run's other files are complete")
        self._thread = None

    def _work(self) -> None:
        try:
            run = _open(self._config, self._tracked, self._folder)
            for name, step in self._steps.items():
                run.define_metric(name, step_metric=step)
            for send in iter(self._queue.get, None):
                send(run)
            run.finish()
        except BaseException as error:
            log.warning("W&B failed", exc_info=error)
            self._warn(f"W&B failed ({reason(error)}); the run goes on without it")


def quiet() -> Any:
    """W&B's settings for programs that do the talking; in force from here on."""
    import wandb

    wanted = {"finish_timeout": UPLOAD_SECONDS, "finish_timeout_raises": True}  # not in every version
    limits: dict[str, Any] = {key: value for key, value in wanted.items() if key in wandb.Settings.model_fields}
    settings = wandb.Settings(
        console="off", silent=True, x_disable_stats=True, disable_code=True, disable_git=True, init_timeout=30, **limits
    )
    wandb.setup(settings)
    return settings


def has_key() -> bool:
    """Whether there is an account to be online with."""
    import wandb

    return bool(wandb.api.api_key)


def _open(config: WandbConfig, tracked: Tracked, folder: Path) -> Any:
    import wandb

    settings = quiet()
    if config.mode == "online" and not has_key():
        raise RuntimeError("logger.mode=online needs an API key: run `wandb login`, or use logger.mode=offline")
    return wandb.init(
        mode=config.mode,  # type: ignore[arg-type]
        project=config.project,
        entity=config.entity,
        group=config.group or tracked.group,
        job_type=tracked.job,
        name=tracked.name,
        tags=[tag[:64] for tag in tracked.tags],
        config=dict(tracked.config),
        dir=str(folder),
        reinit="create_new",
        settings=settings,
    )
