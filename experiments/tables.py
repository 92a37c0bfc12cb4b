"""``python -m experiments.tables``: the paper's speedup tables, of what was measured on this device.

Ours, the vendor's best, plain torch and TVM's MetaSchedule for every operator of networks. Everything is read from the
store of records: a row of what is not there says so, and ``tune=true`` measures it. What the store has is not measured
again, so a second call is free and an interrupted one goes on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

from experiments import progress, summary, table_files
from experiments.config import BudgetConfig, ProgramConfig
from experiments.files import check_writable, publish
from experiments.filling import RIVAL, Filling
from experiments.known import Known, known_of
from experiments.launcher import launch
from experiments.loggers import LoggerConfig, Tracked, log_summary, speedups_digest
from experiments.loggers.settings import logger_of
from experiments.settings import Settings, settings_without_operator
from experiments.speedups import Row, beside_the_paper, groups
from experiments.tune import Workplace
from wpk_envs import devices, operators
from wpk_envs.core import Device, Operator
from wpk_envs.errors import UserError, unknown
from wpk_envs.records import Store


@dataclass
class TablesConfig(ProgramConfig):
    """``python -m experiments.tables``; the keys are explained in ``conf/tables.yaml``."""

    suites: list[str] = field(default_factory=lambda: list(operators.suites()))
    tune: bool = False
    algo: Any = MISSING
    device: Any = MISSING
    budget: BudgetConfig = MISSING
    logger: LoggerConfig = MISSING
    seed: int = 0


DASHBOARD = {
    "operator": "op",
    "suite": "suite",
    "shape": "shape",
    "ours_us": "ours_us",
    "vendor_us": "vendor_us",
    "plain_torch_us": "plain_torch_us",
    "tvm_us": "metaschedule_us",
    "over_vendor": "speedup",
    "over_vendor_low": "speedup_low",
    "over_vendor_high": "speedup_high",
    "over_plain_torch": "speedup_over_plain_torch",
    "over_tvm": "speedup_over_metaschedule",
}
"""The figures of a row that W&B is told, and what they are called there."""

ConfigStore.instance().store(name="tables_schema", node=TablesConfig)


def check(cfg: DictConfig) -> Settings:
    """The settings that operators are tuned with, checked.

    Raises:
        UserError: For a value that cannot be.
    """
    if not cfg.suites:
        raise UserError(f"suites must name at least one of {', '.join(operators.suites())}")
    for name in cfg.suites:
        if name not in operators.suites():
            raise unknown("suite", name, operators.suites())
    if cfg.algo.name == RIVAL:
        raise UserError(f"algo={RIVAL} is what ours is compared with; choose another algo for ours")
    devices.check_measures(cfg.device.name)
    logger_of(cfg.logger)
    return settings_without_operator(cfg, "tables")


def tables(cfg: DictConfig, folder: Path) -> None:
    """Make the tables, in a folder.

    Raises:
        UserError: For what the user can mend.
        KeyboardInterrupt: After Ctrl-C; the tables hold what was known by then.
    """
    settings = check(cfg)
    check_writable(cfg.out)
    with (
        contextlib.closing(Store(settings.store_path)) as store,
        devices.open_device(**settings.device.settings) as device,
    ):
        place = Workplace(settings, device, store, progress.console())
        interrupted = False
        try:
            if cfg.tune:
                _fill(place, list(cfg.suites), folder)
        except KeyboardInterrupt:
            interrupted = True
        rows = rows_of(store, device, list(cfg.suites))
        result = _publish(place, rows, folder)
    _log(cfg, place, rows, folder)
    publish(result, folder, cfg.out)
    if interrupted:
        raise KeyboardInterrupt("interrupted: what was measured is in the store, and the same command goes on with it")


def rows_of(store: Store, device: Device, suites: Sequence[str]) -> list[Row]:
    """A row for every operator of suites, with what the store knows of it on a device."""
    found: dict[Operator, Known] = {}
    rows = []
    for suite in suites:
        for member in operators.suites()[suite].members:
            if member.operator not in found:
                found[member.operator] = known_of(store, member.operator, device.info)
            rows.append(Row(suite, member, found[member.operator]))
    return rows


def _fill(place: Workplace, suites: Sequence[str], folder: Path) -> None:
    """Measure what the store lacks; an operator that cannot be measured does not keep the next ones from it."""
    names: dict[Operator, str] = {}
    for row in rows_of(place.store, place.device, suites):
        names.setdefault(row.operator, row.name)
    for number, (operator, name) in enumerate(names.items(), start=1):
        place.console.print(f"operator {number} of {len(names)}: {name} ({operator.label})", highlight=False)
        try:
            Filling(place, name, operator, folder / "operators" / name).fill()
        except UserError as error:
            place.console.print(f"{name}: {error}", highlight=False, markup=False)


def _publish(place: Workplace, rows: Sequence[Row], folder: Path) -> dict[str, Any]:
    """Show and write the tables; the summary."""
    missing = {
        "ours": [row.name for row in rows if row.known.ours is None],
        "MetaSchedule": [row.name for row in rows if row.ratio("over_tvm") is None],
    }
    notes = [_where(place.device, rows), table_files.PAPER_NOTE]
    for owner, names in missing.items():
        possible = owner == "ours" or place.device.info.kind == "cpu"
        remedy = "tune=true measures it" if possible else "it runs on the CPU alone"
        if names:
            notes.append(f"Not measured here: {owner} of {len(names)} of {len(rows)} operators; {remedy}.")
    found = table_files.sheets(rows)
    table_files.show(place.console, found)
    for note in notes:
        place.console.print(note, highlight=False, markup=False)
    table_files.write(folder, rows, found, notes)
    return {
        **summary.device_figures(place.device),
        "groups": [group.figures() for group in groups(rows)],
        "paper": beside_the_paper(rows),
        "operators": [row.figures() for row in rows],
        "not_measured": missing,
        "date": summary.now(),
        "versions": summary.versions(place.device),
    }


def _log(cfg: DictConfig, place: Workplace, rows: Sequence[Row], folder: Path) -> None:
    """Tell W&B, if that is the logger."""
    info = place.device.info
    name = f"tables-{info.name}".replace(" ", "-")
    tracked = Tracked(name=name, group="tables", config=place.settings.config, tags=(info.name,), job="tables")
    told = [{theirs: row.figures()[ours] for ours, theirs in DASHBOARD.items()} for row in rows]
    log_summary(logger_of(cfg.logger), tracked, speedups_digest(told), folder)


def _where(device: Device, rows: Sequence[Row]) -> str:
    """Where and when everything was measured, in a sentence."""
    dates = sorted(record.created[:10] for row in rows for record in (row.known.ours, row.known.tvm) if record)
    when = "" if not dates else f", measured {' to '.join(dict.fromkeys([dates[0], dates[-1]]))}"
    versions = ", ".join(f"{name} {version}" for name, version in device.info.versions.items())
    return f"{summary.device_text(device)}{when}; {versions}."


def main() -> None:
    """The command line."""
    launch("tables", tables, check=check)


if __name__ == "__main__":
    main()
