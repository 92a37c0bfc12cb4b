"""``python -m experiments.report``: one HTML page of results, to read, to print and to send.

Tables, curves, profiles, maps of recorded schedule spaces, the winning schedules and how to make every figure again.
The page is ``report.html`` in the run's folder; it is one file that needs neither a network nor scripts.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from rich.console import Console

import wpk_envs
from experiments import summary
from experiments.config import ProgramConfig
from experiments.files import check_writable, publish
from experiments.launcher import launch
from experiments.reporting.collect import OUTPUTS, Found, collect
from wpk_envs.errors import UserError
from wpk_envs.files import write_whole
from wpk_envs.records import library


@dataclass
class ReportConfig(ProgramConfig):
    """``python -m experiments.report``; the keys are explained in ``conf/report.yaml``. ``from`` is one more."""

    tables: Any = None


def _schema() -> DictConfig:
    """The schema with the key ``from``, which no field of a dataclass can be called."""
    fields = OmegaConf.structured(ReportConfig)
    return DictConfig({**{str(key): fields._get_node(key) for key in fields}, "from": None})


ConfigStore.instance().store(name="report_schema", node=_schema())


def main() -> None:
    """Run the program with the command line's arguments."""
    launch("report", task=act, check=check)


def check(cfg: DictConfig) -> None:
    """Raise `UserError` for settings that cannot work, before anything is made."""
    check_writable(cfg.out)
    _inputs(cfg)


def act(cfg: DictConfig, folder: Path) -> None:
    """Make the page and the summary.

    Args:
        cfg: The program's settings.
        folder: The run's folder.

    Raises:
        UserError: If there is nothing to report, or something of it is damaged.
    """
    from experiments.reporting.content import content_of
    from experiments.reporting.page import render

    found, folders = _inputs(cfg)
    commit = summary.source_commit()
    versions = {"wpk_envs": wpk_envs.__version__, **({"commit": commit} if commit else {})}
    content = content_of(found, folders, summary.now(), versions, _command())
    page, path = render(content).encode(), folder / "report.html"
    write_whole(path, page)
    console = Console()
    for sentence in [*content.taken, *(f"not on the page: {each}" for each in content.missing)]:
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
    console.print(f"{path} ({len(page) / 1e6:.1f} MB)", highlight=False, markup=False, soft_wrap=True)
    publish(
        {
            "page": str(path),
            "bytes": len(page),
            "from": [str(result.folder) for result in found.results],
            "tables": list(folders),
            "operators": sum(len(part.tuned) for part in content.parts),
            "comparisons": sum(len(part.comparisons) for part in content.parts),
            "spaces": sum(len(part.maps) for part in content.parts),
            "notes": list(content.taken),
            "missing": list(content.missing),
            "date": content.date,
            "versions": versions,
        },
        folder,
        cfg.out,
    )


def _inputs(cfg: DictConfig) -> tuple[Found, Sequence[str]]:
    """The results, and the folders of recorded tables.

    Raises:
        UserError: If one does not exist, or there is nothing at all.
    """
    given = _list(cfg["from"], "from")
    found = collect(None if given is None else [Path(each).expanduser() for each in given])
    folders = _list(cfg.tables, "tables")
    folders = library.shipped() if folders is None else folders
    for each in folders:
        library.TableFolder(each)
    if not found.results and not folders:
        raise UserError(
            f"there is nothing to report: no result below '{OUTPUTS}' and no recorded table; make one with "
            "python -m experiments.run or experiments.compare, or name folders with from= or tables="
        )
    return found, folders


def _list(given: Any, key: str) -> list[str] | None:
    """What a key names: one folder, or a list of them.

    Raises:
        UserError: If it is neither.
    """
    if given is None:
        return None
    entries = list(given) if isinstance(given, ListConfig) else [given]
    if not all(isinstance(each, str) for each in entries):
        raise UserError(f"{key} must be a folder or a list of them, such as {key}=[one,two], not {given}")
    return entries


def _command() -> str:
    """The command line that makes this page again."""
    return shlex.join(["python", "-m", "experiments.report", *HydraConfig.get().overrides.task])


if __name__ == "__main__":
    main()
