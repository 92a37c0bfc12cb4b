"""``python -m experiments.store``: list, filter and export records, and show the best config of an operator.

python -m experiments.store                                  the newest records
python -m experiments.store action=best op=conv3x3           the best configs of an operator
python -m experiments.store action=export export=all.parquet everything, for other programs
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.config import ProgramConfig, device_of, operators_of
from experiments.files import check_writable, publish
from experiments.launcher import launch
from experiments.naming import MEASURED, PREDICTED, Naming, config_text
from experiments.summary import registers_text
from wpk_envs import devices, operators
from wpk_envs.core import Measurement, Operator
from wpk_envs.errors import UserError, unknown
from wpk_envs.records import Record, Store, default_path, export
from wpk_envs.records.export import writer
from wpk_envs.records.store import OUTCOMES
from wpk_envs.schedules import templates_for

LIST_LIMIT, BEST_LIMIT = 20, 1
PIPE_COLUMNS = 160
"""Width of tables that do not go to a terminal."""


@dataclass
class StoreProgramConfig(ProgramConfig):
    """``python -m experiments.store``; the keys are explained in ``conf/store.yaml``."""

    action: str = "list"
    op: Any = None
    device: Any = None
    device_name: str | None = None
    template: str | None = None
    outcome: str | None = None
    limit: int | None = None
    export: str | None = None


ConfigStore.instance().store(name="store_schema", node=StoreProgramConfig)


def main() -> None:
    """Run the program with the command line's arguments."""
    launch("store", task=act, check=check)


def check(cfg: DictConfig) -> None:
    """Raise `UserError` for settings that cannot work together, before anything is opened."""
    if cfg.action not in ACTIONS:
        raise unknown("action", cfg.action, ACTIONS)
    if cfg.outcome is not None and cfg.outcome not in OUTCOMES:
        raise unknown("outcome", cfg.outcome, OUTCOMES)
    if cfg.limit is not None and cfg.limit < 1:
        raise UserError(f"limit must be at least 1, not {cfg.limit}")
    if (cfg.action == "export") != (cfg.export is not None):
        raise UserError(
            "action=export and export=FILE (ending in .jsonl or .parquet) go together; give both or neither"
        )
    if cfg.export is not None:
        writer(cfg.export)
    if cfg.action == "best" and cfg.outcome not in (None, "measured", "predicted"):
        raise UserError(
            f"action=best looks at measured records, with outcome=predicted at predictions; leave out "
            f"outcome={cfg.outcome}"
        )
    if cfg.op is not None:
        operators_of(cfg.op)
    if cfg.device is not None:
        device_of(cfg.device)
    check_writable(cfg.out)
    _existing(cfg)


def act(cfg: DictConfig, folder: Path) -> None:
    """Do what ``action=`` asks for and write the summary.

    Args:
        cfg: The program's settings.
        folder: The run's folder.
    """
    path = _existing(cfg)
    with Store(path) as store:
        result = ACTIONS[cfg.action](store, cfg)
    publish({"action": cfg.action, "store": str(path), **result}, folder, cfg.out)


def _existing(cfg: DictConfig) -> Path:
    """The store's file; looking for records must not make an empty one."""
    path = Path(cfg.store.path).expanduser().absolute() if cfg.store.path else default_path().absolute()
    if not path.exists():
        raise UserError(
            f"there are no records: '{path}' does not exist; make some with python -m experiments.run, "
            "or name another file with store.path=FILE or WPK_STORE"
        )
    return path


def _filters(store: Store, cfg: DictConfig) -> dict[str, Any]:
    """The settings as arguments of `Store.records`."""
    return {
        "operators": None if cfg.op is None else list(operators_of(cfg.op).values()),
        "devices": _devices(store, cfg),
        "template": cfg.template,
        "outcome": cfg.outcome,
    }


def _devices(store: Store, cfg: DictConfig) -> list[str] | None:
    """Fingerprints of the devices that ``device=`` and ``device_name=`` ask for; none for every device.

    Raises:
        UserError: If ``device_name=`` fits no device in the store, or this host has no such device.
    """
    if cfg.device is None and cfg.device_name is None:
        return None
    known = store.devices()
    name = (cfg.device_name or "").lower()
    found = [key for key, info in known.items() if name in info.name.lower() or key.startswith(name)]
    if not found and name:
        raise unknown("device_name", cfg.device_name, {info.name for info in known.values()})
    if cfg.device is None:
        return found
    with devices.open_device(**device_of(cfg.device).settings) as device:
        return [key for key in found if key == device.info.fingerprint]


def _list(store: Store, cfg: DictConfig) -> dict[str, Any]:
    filters = _filters(store, cfg)
    count = store.count(**filters)
    shown = list(itertools.islice(store.records(**filters, newest_first=True), cfg.limit or LIST_LIMIT))
    _show(shown, f"{len(shown)} of {count} records, the newest first")
    return {"count": count, "records": [record.to_dict() for record in shown]}


def _best(store: Store, cfg: DictConfig) -> dict[str, Any]:
    filters = _filters(store, cfg)
    known = store.devices()
    places = list(known) if filters["devices"] is None else filters["devices"]
    wanted = store.operators() if filters["operators"] is None else filters["operators"]
    count, naming = cfg.limit or BEST_LIMIT, Naming(cfg.outcome == "predicted")
    best = []
    for operator, place in itertools.product(wanted, places):
        versions = _template_versions(known[place].kind, cfg.template)
        best += store.best(operator, place, count, versions, naming.predicted)
    _show(best, f"the best {count} of each operator and device, by {naming.text('speedup')}")
    return {"count": len(best), "records": [record.to_dict() for record in best]}


def _template_versions(device_kind: str, only: str | None) -> dict[str, int]:
    """The templates as they are now, or one of them; older versions' configs may mean other kernels."""
    versions = {template.name: template.version for template in templates_for(device_kind)}
    if only is not None and only not in versions:
        raise unknown("template", only, versions)
    return versions if only is None else {only: versions[only]}


def _export(store: Store, cfg: DictConfig) -> dict[str, Any]:
    target = Path(cfg.export).expanduser().absolute()
    count = export(store.records(**_filters(store, cfg)), target)
    Console().print(f"{count} records written to {target}", soft_wrap=True)
    return {"count": count, "export": str(target)}


ACTIONS: dict[str, Callable[[Store, DictConfig], dict[str, Any]]] = {"list": _list, "best": _best, "export": _export}


def _show(records: list[Record], title: str) -> None:
    if not records:
        Console().print("no record fits")
        return
    table = Table(title=title, title_justify="left")
    for heading in ("record", "created (UTC)", "operator", "device", "outcome"):
        table.add_column(heading, overflow="fold")
    namings = [MEASURED, PREDICTED]
    if not any(record.measurement.predicted_latency_us is not None for record in records):
        namings.remove(PREDICTED)
    for naming in namings:
        for heading in ("latency", "speedup"):
            table.add_column(naming.text(heading), justify="right", no_wrap=not naming.predicted)
    on_gpus = any("registers" in record.measurement.details for record in records)
    if on_gpus:
        table.add_column("registers", justify="right")
    table.add_column("config", overflow="fold")
    names = _names()
    for record in records:
        cells = _cells(record, names, namings)
        if on_gpus:
            cells.insert(-1, registers_text(record.measurement.details))
        table.add_row(*cells)
    console = Console()
    (console if console.is_terminal else Console(width=PIPE_COLUMNS)).print(table)


def _cells(record: Record, names: dict[Operator, str], namings: Iterable[Naming]) -> list[str]:
    measurement, device = record.measurement, record.device
    outcome = measurement.error or ("predicted" if measurement.predicted_latency_us is not None else "measured")
    threads = f", {device.threads} threads" if device.threads > 1 else ""
    config = escape(config_text({knob: value for knob, value in record.config.items() if knob != "template"}, " "))
    return [
        str(record.id),
        record.created[:19].replace("T", " "),
        names.get(record.operator, record.operator.label),
        f"{device.name}{threads} [{device.fingerprint[:6]}]".replace("[", r"\["),
        outcome,
        *(cell for naming in namings for cell in _figures(measurement, naming)),
        f"{record.template} v{record.template_version}: {config}",
    ]


def _figures(measurement: Measurement, naming: Naming) -> tuple[str, str]:
    """Latency and speedup, where they are of that kind."""
    latency, speedup = (getattr(measurement, naming.key(name)) for name in ("latency_us", "speedup"))
    return "" if latency is None else f"{latency:,.1f} us", "" if speedup is None else f"{speedup:.2f}x"


def _names() -> dict[Operator, str]:
    """What operators are called on the command line; the single names win over members of suites."""
    members: dict[Operator, str] = {
        member.operator: f"{suite.name}/{member.number}"
        for suite in operators.suites().values()
        for member in suite.members
    }
    return {**members, **{operators.get(name): name for name in operators.names()}}


if __name__ == "__main__":
    main()
