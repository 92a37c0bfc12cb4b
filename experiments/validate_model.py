"""``python -m experiments.validate_model table=FILE``: how well does the model predict what a GPU measured?

Every kernel of a recorded table is built and predicted for the GPU that the table is of, and the predictions are
compared with the measurements, beside two plain orders: by executed arithmetic alone and by occupancy alone.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table as Sheet

from experiments.config import ProgramConfig
from experiments.files import check_writable, publish
from experiments.launcher import launch
from experiments.progress import Steps
from wpk_envs.core import Candidate, DeviceInfo, Measurement
from wpk_envs.devices.host import available_cores
from wpk_envs.devices.predicted.constants import Fitted
from wpk_envs.devices.predicted.device import DEADLINE_SECONDS, PREDICTOR
from wpk_envs.devices.predicted.predictions import Predictions
from wpk_envs.devices.predicted.predictor import architecture_of
from wpk_envs.devices.predicted.validation import ORDERS, TOPS, Validation, by_regime, pair_of
from wpk_envs.errors import UserError
from wpk_envs.records import Record
from wpk_envs.records.table import Table, read_table
from wpk_envs.schedules import templates_for


@dataclass
class ValidateModelConfig(ProgramConfig):
    """``python -m experiments.validate_model``; the keys are explained in ``conf/validate_model.yaml``."""

    table: str | None = None
    workers: int | None = None


ConfigStore.instance().store(name="validate_model_schema", node=ValidateModelConfig)


def main() -> None:
    """Run the program with the command line's arguments."""
    launch("validate_model", task=act, check=check)


def check(cfg: DictConfig) -> None:
    """Raise `UserError` for settings that cannot work, before anything is built."""
    most = available_cores()
    if cfg.workers is not None and not 1 <= cfg.workers <= most:
        raise UserError(f"workers must be a whole number from 1 to {most} (cores), not {cfg.workers}")
    check_writable(cfg.out)
    _comparable(_table(cfg))


def act(cfg: DictConfig, folder: Path) -> None:
    """Predict the table's kernels, compare, and write the summary.

    Args:
        cfg: The program's settings.
        folder: The run's folder.
    """
    table = _table(cfg)
    records = _comparable(table)
    device = table.device
    console = Console()
    console.print(f"predicting {len(records)} kernels that {device.name} measured")
    with contextlib.closing(Predictions((device.fingerprint, cfg.workers or available_cores(), PREDICTOR))) as known:
        predictions = _predict(known, records, device, console)
    pairs = [pair for record, each in zip(records, predictions) if (pair := pair_of(record, each)) is not None]
    if not pairs:
        raise UserError(f"no kernel of '{cfg.table}' can be predicted; the first answer: {predictions[0].message}")
    found = by_regime(pairs)
    _show(found, device, console)
    summary = {
        "table": str(Path(cfg.table).absolute()),
        "device_name": device.name,
        "dates": table.datasheet["dates"],
        "protocol": table.datasheet["protocol"],
        "kernels": len(records),
        "predicted": len(pairs),
        "fitted": {"parameters": vars(Fitted()), "data": Fitted.__doc__},
        "regimes": {regime: validation.to_dict() for regime, validation in found.items()},
    }
    publish(summary, folder, cfg.out)


def _table(cfg: DictConfig) -> Table:
    if cfg.table is None:
        raise UserError("table=FILE is missing: a Parquet table of a GPU, as experiments.record stage=merge makes it")
    return read_table(Path(cfg.table).expanduser())


def _comparable(table: Table) -> list[Record]:
    """The measured rows of templates as they are now.

    Raises:
        UserError: If the table is not of a GPU that the model knows, or no row is left.
    """
    device = table.device
    if device.kind != "cuda":
        raise UserError(f"the model predicts NVIDIA GPUs, the table is of {device.name}; name a table of a GPU")
    architecture_of(device)
    versions = {template.name: template.version for template in templates_for(device.kind)}
    records = [
        record
        for record in table.records
        if record.measurement.samples_us and versions.get(record.template) == record.template_version
    ]
    if not records:
        raise UserError("the table has no measurement of a template as it is in this version; record it again")
    return records


def _predict(known: Predictions, records: list[Record], device: DeviceInfo, console: Console) -> list[Measurement]:
    templates = {template.name: template for template in templates_for(device.kind)}
    candidates = [Candidate(record.operator, templates[record.template], record.config) for record in records]
    target = replace(device, versions={})
    with Steps(console, "predicted", len(candidates)) as steps:
        return known.predict(
            candidates, target, DEADLINE_SECONDS, lambda position, each: steps.step(each.confidence or each.message)
        )


def _show(found: dict[str, Validation], device: DeviceInfo, console: Console) -> None:
    sheet = Sheet(title=f"predictions against measurements of {device.name}", title_justify="left")
    regrets = [f"top-{top} regret" for top in TOPS]
    for heading in ("regime", "kernels", "order", "Spearman", *regrets, "bias", "scatter"):
        sheet.add_column(heading, justify="left" if heading in ("regime", "order") else "right")
    for regime, validation in found.items():
        for order in ORDERS:
            agreement = validation.agreement[order]
            first = order == ORDERS[0]
            sheet.add_row(
                regime if first else "",
                str(validation.kernels) if first else "",
                order,
                _number(agreement.spearman),
                *(_number(agreement.regret.get(str(top)), "x") for top in TOPS),
                _number(validation.bias, "x") if first else "",
                _number(validation.scatter, "x") if first else "",
            )
    console.print(sheet)


def _number(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:.2f}{unit}"


if __name__ == "__main__":
    main()
