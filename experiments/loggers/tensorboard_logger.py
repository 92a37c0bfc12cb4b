"""``logger=tensorboard``: curves for TensorBoard, under ``tensorboard/`` in the run's folder."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.loggers.contract import Tracked
from experiments.loggers.rows import TRIAL, Rows
from wpk_envs.tuning import Trial

FLUSH_SECONDS = 1.0
"""At least this long between two flushes to the disk."""


class TensorBoardLogger:
    """Writes a scalar per figure and trial; TensorBoard's relative time is the run's own clock.

    tensorboardX's plain file writer is used and not its `SummaryWriter`, whose thread ends at a full disk
    and leaves its callers waiting.

    Args:
        tracked: The run's description; its name is what TensorBoard calls the run.
        folder: Events go into ``folder/tensorboard/NAME``.
    """

    def __init__(self, tracked: Tracked, folder: Path) -> None:
        self._folder = folder / "tensorboard" / tracked.name
        self._naming = tracked.naming
        self._rows = Rows(tracked.naming)
        self._writer: Any = None
        self._flushed = 0.0

    def start(self) -> None:
        """Open a file; what an earlier part of the run wrote is hidden, as its trials will come again."""
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        self._folder.mkdir(parents=True, exist_ok=True)
        self._began = time.time()
        self._writer = EventsWriter(str(self._folder / "events"))
        self._write(0, self._began, session_log=SessionLog(status=SessionLog.START))

    def trial(self, trial: Trial) -> None:
        """Write what is known of a trial."""
        from tensorboardX.summary import scalar

        for name, figure in self._rows.row(trial).items():
            if figure is not None and name != TRIAL:
                self._write(trial.number, self._began + trial.seconds, summary=scalar(name, figure))
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._writer.flush()
            self._flushed = time.monotonic()

    def finish(self, summary: Mapping[str, Any], trials: Sequence[Trial], files: Sequence[Path]) -> None:
        """Write the summary and the winner's files as text."""
        from tensorboardX.summary import text

        figures = [(key, value) for key, value in summary.items() if not isinstance(value, (dict, list))]
        lines = ["| figure | value |", "|---|---|", *(f"| {key} | {value} |" for key, value in figures)]
        texts = {"summary": "\n".join(lines)}
        texts |= {file.stem: f"```\n{file.read_text()}\n```" for file in files}
        for name, content in texts.items():
            self._write(len(trials), time.time(), summary=text(self._naming.key(name), content))
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, step: int, wall_time: float, **what: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._writer.write_event(Event(step=step, wall_time=wall_time, **what))
