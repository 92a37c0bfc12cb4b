"""``stage=measure`` of `experiments.record`: a space of configs measured here, whole or a sample, into a table each.

Every measurement is kept in the store at once, so that an interrupted recording goes on where it was.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from experiments import progress, summary
from experiments.config import device_of, operators_of
from experiments.files import publish
from experiments.recording import MeasureSettings, Recording
from wpk_envs import devices
from wpk_envs.errors import UserError, unknown
from wpk_envs.records import Store
from wpk_envs.schedules.reductions import REDUCTIONS


def settings_of(cfg: DictConfig) -> MeasureSettings:
    """The settings of a recording, checked.

    Raises:
        UserError: For a value that is missing or cannot be.
    """
    for key, example in {"device": "device=cpu", "op": "op=conv3x3"}.items():
        if cfg[key] is None:
            raise UserError(f"stage=measure needs {key}=, such as {example}")
    if cfg.space not in REDUCTIONS:
        raise unknown("space", cfg.space, REDUCTIONS)
    for key, least in {"configs": 1, "repeats": 1, "confirm": 0, "elites": 0, "seed": 0}.items():
        if cfg[key] is not None and cfg[key] < least:
            raise UserError(f"{key} must be a whole number of at least {least}, not {cfg[key]}")
    device = device_of(cfg.device)
    if device.name == "recorded":
        raise UserError("device=recorded plays back what was measured; record on the device itself, such as device=cpu")
    return MeasureSettings(
        device,
        operators_of(cfg.op),
        space=cfg.space,
        configs=cfg.configs,
        repeats=cfg.repeats,
        confirm=cfg.confirm or 0,
        elites=cfg.elites or 0,
        seed=cfg.seed,
    )


def act(cfg: DictConfig, folder: Path) -> None:
    """Measure, write a table per operator and publish the summary.

    Raises:
        UserError: For what the user can mend.
        KeyboardInterrupt: After Ctrl-C; the same command goes on.
    """
    settings, console = settings_of(cfg), progress.console()
    tables = folder if cfg.tables is None else Path(cfg.tables).expanduser().absolute()
    done: dict[str, Any] = {}
    with Store(cfg.store.path) as store, devices.open_device(**settings.device.settings) as device:
        recording = Recording(settings, device, store, console)
        for name, operator in settings.operators.items():
            path = tables / f"{re.sub(r'[^a-z0-9_]+', '-', name)}.parquet"
            try:
                sheet = recording.record(name, operator, path)
            except KeyboardInterrupt:
                raise KeyboardInterrupt("interrupted: measurements are kept, and the same command goes on") from None
            done[name] = {"table": str(path), **{key: sheet[key] for key in ("counts", "noise", "dates", "sha256")}}
            console.print(f"{path}: {sheet['counts']['rows']} configs of {name}", highlight=False, soft_wrap=True)
        figures = summary.device_figures(device)
    publish({"stage": "measure", **figures, "tables": done, "date": summary.now()}, folder, cfg.out)
