"""``python -m experiments.record``: record a landscape here, or compile for a GPU elsewhere and take in its timings.

python -m experiments.record device=cpu op=conv3x3 space=compact                         every config, into a table
python -m experiments.record stage=build device=h200 op=resnet18/all bundle=resnet18.bundle
python -m wpk_envs.devices.time_bundle resnet18.bundle --out timings --seconds 1200      where the GPU is
python -m experiments.record stage=merge from=timings
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf, StringNode

from experiments import build_stage, measure_stage, merge_stage
from experiments.config import ProgramConfig
from experiments.files import check_writable
from experiments.launcher import launch
from wpk_envs.errors import UserError, unknown


@dataclass
class RecordConfig(ProgramConfig):
    """``python -m experiments.record``; the keys are explained in ``conf/record.yaml``. ``from`` is one more."""

    stage: str | None = None
    op: Any = None
    device: Any = None
    bundle: str | None = None
    configs: int | None = None
    acceptance: bool = False
    check: int = 32
    workers: int | None = None
    seed: int = 0
    space: str = "full"
    repeats: int | None = None
    confirm: int | None = None
    elites: int | None = None
    tables: str | None = None


def _schema() -> DictConfig:
    """The schema with the key ``from``, which no field of a dataclass can be called."""
    fields = OmegaConf.structured(RecordConfig)
    return DictConfig({**{str(key): fields._get_node(key) for key in fields}, "from": StringNode(None)})


ConfigStore.instance().store(name="record_schema", node=_schema())


@dataclass(frozen=True)
class StageProgram:
    """What one stage does.

    Attributes:
        keys: Settings that it has, besides those of every stage.
        check: Raises `UserError` for settings that cannot work.
        act: Does the work in a folder.
    """

    keys: tuple[str, ...]
    check: Callable[[DictConfig], object]
    act: Callable[[DictConfig, Path], None]


STAGES = {
    "build": StageProgram(
        ("op", "device", "bundle", "configs", "acceptance", "check", "workers", "seed"),
        build_stage.settings_of,
        build_stage.act,
    ),
    "measure": StageProgram(
        ("op", "device", "space", "configs", "repeats", "confirm", "elites", "seed", "tables"),
        measure_stage.settings_of,
        measure_stage.act,
    ),
    "merge": StageProgram(("from", "tables"), merge_stage.folders_of, merge_stage.act),
}


def main() -> None:
    """Run the program with the command line's arguments."""
    launch("record", task=act, check=check)


def check(cfg: DictConfig) -> None:
    """Raise `UserError` for settings that cannot work together, before anything is written."""
    cfg.stage = _stage_of(cfg)
    for stage, program in STAGES.items():
        for key in program.keys:
            if stage != cfg.stage and key not in STAGES[cfg.stage].keys and cfg[key] != _DEFAULTS[key]:
                raise UserError(f"{key}= goes with stage={stage}, not with stage={cfg.stage}; leave it out")
    check_writable(cfg.out)
    STAGES[cfg.stage].check(cfg)


def act(cfg: DictConfig, folder: Path) -> None:
    """Do what ``stage=`` asks for and write the summary.

    Args:
        cfg: The program's settings.
        folder: The run's folder.
    """
    STAGES[_stage_of(cfg)].act(cfg, folder)


def _stage_of(cfg: DictConfig) -> str:
    """What to do: as given, else measuring on the device that is given."""
    stage = cfg.stage or ("measure" if cfg.device is not None and cfg.bundle is None else None)
    if stage is None:
        raise UserError(
            "say what to do: device=cpu op=NAME records a landscape here, stage=build device=NAME op=NAME bundle=FILE "
            "compiles kernels into a bundle, stage=merge from=DIR takes in what was measured of one"
        )
    if stage not in STAGES:
        raise unknown("stage", stage, STAGES)
    return stage


_DEFAULTS = _schema()


if __name__ == "__main__":
    main()
