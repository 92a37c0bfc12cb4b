"""``stage=merge`` of `experiments.record`: what was measured of bundles elsewhere becomes records and tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from experiments import progress, summary
from experiments.files import publish
from wpk_envs.devices.cuda.merge import Merged, merge
from wpk_envs.errors import UserError
from wpk_envs.records import Store


def folders_of(cfg: DictConfig) -> tuple[Path, Path]:
    """Where the measurements are, and where the tables go.

    Raises:
        UserError: If there is no such folder.
    """
    if cfg["from"] is None:
        raise UserError("stage=merge needs from=DIR, the folder that time_bundle --out DIR wrote into")
    source = Path(cfg["from"]).expanduser().absolute()
    if not source.is_dir():
        raise UserError(f"from='{source}' is not a folder; name the one that time_bundle --out DIR wrote into")
    return source, source if cfg.tables is None else Path(cfg.tables).expanduser().absolute()


def act(cfg: DictConfig, folder: Path) -> None:
    """Merge and publish the summary.

    Raises:
        UserError: If there are no measurements, one of their files is damaged, or the disk refuses.
    """
    source, tables = folders_of(cfg)
    with Store(cfg.store.path) as store:
        merged = merge(source, store, tables)
    console = progress.console()
    for line in (
        f"{merged.lines} measurements in {merged.files} files, {merged.new} of them new to the records",
        *(f"'{path}' was cut off; its last line is left out" for path in merged.cut_off),
        *(
            f"{path}: {sheet['counts']['rows']} kernels on {sheet['device']['name']}"
            for path, sheet in merged.tables.items()
        ),
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    publish(figures(merged), folder, cfg.out)


def figures(merged: Merged) -> Mapping[str, Any]:
    """A merge's summary."""
    return {
        "stage": "merge",
        "files": merged.files,
        "lines": merged.lines,
        "new": merged.new,
        "cut_off": [str(path) for path in merged.cut_off],
        "tables": {
            str(path): {"device_name": sheet["device"]["name"], **sheet["counts"]}
            for path, sheet in merged.tables.items()
        },
        "date": summary.now(),
    }
