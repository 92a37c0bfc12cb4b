"""``python -m experiments.plan``: the fastest plan for a whole model, and how it compares.

Imports a model, optimises its graph, tunes what is not tuned yet, weighs our kernels against the vendor's library and
the framework operator by operator, writes the plan, checks it against the framework and measures it beside its peers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from experiments import end_to_end_tables, peers, progress, summary
from experiments.config import BudgetConfig, ProgramConfig
from experiments.end_to_end import ModelRow
from experiments.files import check_writable, publish
from experiments.launcher import launch
from experiments.loggers import LoggerConfig, Tracked, log_summary, plans_digest
from experiments.loggers.settings import logger_of
from experiments.model_plan import Made, ModelPlan, Options
from experiments.settings import Settings, settings_without_operator
from experiments.tune import Workplace
from wpk_envs import devices
from wpk_envs.core import Device
from wpk_envs.errors import UserError, unknown
from wpk_envs.planner import passes
from wpk_envs.planner.importing import check_spec
from wpk_envs.planner.models import MODELS
from wpk_envs.planner.planning import SWITCHES
from wpk_envs.records import Store


@dataclass
class PlanConfig(ProgramConfig):
    """``python -m experiments.plan``; the keys are explained in ``conf/plan.yaml``."""

    model: str = "resnet18"
    weights: str | None = None
    tune: bool = True
    skip: list[str] = field(default_factory=list)
    strict: float | None = None
    run: bool = True
    peers: Any = "installed"
    seconds: float = 30.0
    algo: Any = MISSING
    device: Any = MISSING
    budget: BudgetConfig = MISSING
    logger: LoggerConfig = MISSING
    seed: int = 0


DASHBOARD = (
    "model",
    "plan_us",
    "fastest_peer",
    "ratio_to_fastest_peer",
    "ratio_low",
    "ratio_high",
    "max_abs_error",
)
"""The figures of a model that W&B is told."""

ConfigStore.instance().store(name="plan_schema", node=PlanConfig)


@dataclass(frozen=True)
class Asked:
    """What was asked for, checked."""

    settings: Settings
    models: tuple[str, ...]
    options: Options


def check(cfg: DictConfig) -> Asked:
    """The settings as objects.

    Raises:
        UserError: For a value that cannot be.
    """
    settings = settings_without_operator(cfg, "plan")
    devices.check_measures(cfg.device.name)
    logger_of(cfg.logger)
    if cfg.model != "all":
        check_spec(cfg.model, ["all"])
    if cfg.strict is not None and not cfg.strict > 0:
        raise UserError(f"strict must be greater than 0, not {cfg.strict}; leave it out to accept what float32 gives")
    if not cfg.seconds > 0:
        raise UserError(f"seconds must be greater than 0, not {cfg.seconds}")
    if cfg.model == "all" and cfg.weights is not None:
        raise UserError(f"weights={cfg.weights} are those of one model: name it with model=NAME")
    skip = tuple(cfg.skip)
    for name in skip:
        if name not in (*passes.PASSES, *SWITCHES):
            raise unknown("pass", name, [*passes.PASSES, *SWITCHES])
    kind = devices.kind_of(**settings.device.settings)
    chosen = peers.select(_plain(cfg.peers), kind) if cfg.run else ()
    options = Options(cfg.weights, cfg.tune, skip, cfg.strict, cfg.run, chosen, cfg.seconds, cfg.seed)
    return Asked(settings, tuple(MODELS) if cfg.model == "all" else (cfg.model,), options)


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def plan(cfg: DictConfig, folder: Path) -> None:
    """Make the plans, in a folder.

    Raises:
        UserError: For what the user can mend.
        KeyboardInterrupt: After Ctrl-C; the tables hold the models that were finished by then.
    """
    asked = check(cfg)
    check_writable(cfg.out)
    with (
        contextlib.closing(Store(asked.settings.store_path)) as store,
        devices.open_device(**asked.settings.device.settings) as device,
    ):
        place = Workplace(asked.settings, device, store, progress.console())
        made: list[Made] = []
        interrupted = False
        try:
            for each in _plans(place, asked, folder):
                made.append(each)
        except KeyboardInterrupt:
            interrupted = True
        result = {
            **summary.device_figures(device),
            "models": {each.name: each.figures for each in made},
            "date": summary.now(),
            "versions": summary.versions(device),
        }
        rows = [each.row for each in made if each.row is not None]
        if rows:
            end_to_end_tables.write(folder, rows, _where(device), place.console)
    _log(cfg, place, rows, folder)
    publish(result, folder, cfg.out)
    if interrupted:
        raise KeyboardInterrupt("interrupted: what was measured is in the store, and the same command goes on with it")


def _plans(place: Workplace, asked: Asked, folder: Path) -> Iterator[Made]:
    """Plan model after model, with several of them in a folder each."""
    count = len(asked.models)
    for number, model in enumerate(asked.models, start=1):
        if count > 1:
            place.console.print(f"model {number} of {count}: {model}", highlight=False, markup=False)
        yield ModelPlan(place, model, asked.options, folder / model if count > 1 else folder).make()


def _log(cfg: DictConfig, place: Workplace, rows: Sequence[ModelRow], folder: Path) -> None:
    """Tell W&B of models that were measured, if that is the logger."""
    if not rows:
        return
    info = place.device.info
    name = f"plan-{rows[0].model if len(rows) == 1 else 'all'}-{info.name}".replace(" ", "-")
    tracked = Tracked(name=name, group="plan", config=place.settings.config, tags=(info.name,), job="plan")
    told = [{key: row.figures()[key] for key in DASHBOARD} for row in rows]
    log_summary(logger_of(cfg.logger), tracked, plans_digest(told), folder)


def _where(device: Device) -> str:
    """Where, when and with what everything was measured, in a sentence."""
    versions = ", ".join(f"{name} {version}" for name, version in device.info.versions.items())
    return f"{summary.device_text(device)}, {summary.now()[:10]}; {versions}."


def main() -> None:
    """The command line."""
    launch("plan", plan, check=check)


if __name__ == "__main__":
    main()
