"""``python -m experiments.pretrain``: train a policy on recorded operators, for ``algo=transfer`` to start from.

With ``held_out=operator`` a folder of policies is made: one that knows all operators, and one for each of them that
does not know it, so that what is learnt can be judged on operators that were not seen.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from agents import policies
from agents.landscapes import remaining
from agents.pretraining import Recipe
from experiments import progress, summary
from experiments.config import ProgramConfig
from experiments.files import check_writable, publish, write_json
from experiments.launcher import launch
from experiments.parallel import side_by_side
from experiments.policies import Training, set_of, train
from experiments.progress import Steps
from wpk_envs.core import Operator
from wpk_envs.devices.recorded import RecordedDevice
from wpk_envs.errors import UserError, unknown
from wpk_envs.records.library import DEFAULT


@dataclass
class PretrainConfig(ProgramConfig, Recipe):
    """``python -m experiments.pretrain``; the keys are explained in ``conf/pretrain.yaml``."""

    tables: str = DEFAULT
    operators: list[str] | None = None
    exclude: list[str] = field(default_factory=list)
    held_out: str | None = None
    policy: str | None = None
    seed: int = 0
    jobs: int | None = None


ConfigStore.instance().store(name="pretrain_schema", node=PretrainConfig)


def main() -> None:
    """The command line."""
    launch("pretrain", pretrain, check=check)


def check(cfg: DictConfig) -> None:
    """Raise `UserError` for settings that cannot work, before anything is written."""
    check_writable(cfg.out)
    trainings_of(cfg, Path())


def pretrain(cfg: DictConfig, folder: Path) -> None:
    """Train what a config asks for.

    Raises:
        UserError: For what the user can mend.
        KeyboardInterrupt: After Ctrl-C; what was learnt until then is in the folder.
    """
    trainings = trainings_of(cfg, folder)
    console, started = progress.console(), time.perf_counter()
    write_json(folder / "config.json", OmegaConf.to_container(cfg, resolve=True))
    if cfg.held_out is None:
        (training,) = trainings
        _train_one(training, console)
        place = training.path
    else:
        with Steps(console, "policies", len(trainings)) as steps:
            for training in side_by_side(train, trainings, cfg.jobs):
                steps.step(f"{training.path.stem}, {steps.pace}")
        place = trainings[0].path.parent
    console.print(f"algo=transfer algo.policy={place} starts from it", highlight=False, soft_wrap=True)
    publish(_summary(trainings, place, time.perf_counter() - started), folder, cfg.out)


def trainings_of(cfg: DictConfig, folder: Path) -> list[Training]:
    """The policies to train, in order.

    Raises:
        UserError: For a name that is unknown, and values that cannot be.
    """
    if cfg.seed < 0 or (cfg.jobs is not None and cfg.jobs < 1):
        raise UserError(f"seed must be at least 0 and jobs at least 1, not {cfg.seed} and {cfg.jobs}")
    recipe = recipe_of(cfg)
    known = dict(RecordedDevice(cfg.tables).operators)
    names = _chosen(known, cfg)
    if cfg.held_out is None:
        path = Path(cfg.policy).expanduser() if cfg.policy else folder / f"policy{policies.SUFFIX}"
        if path.suffix != policies.SUFFIX:
            raise UserError(f"policy='{cfg.policy}' must end in {policies.SUFFIX}")
        return [Training(path, cfg.tables, tuple(names), recipe, cfg.seed)]
    path = Path(cfg.policy).expanduser() if cfg.policy else folder / "policies"
    return list(set_of(path, known, names, cfg.held_out, cfg.tables, recipe, cfg.seed))


def recipe_of(cfg: DictConfig) -> Recipe:
    """How policies are trained, checked."""
    recipe = Recipe(**{each.name: cfg[each.name] for each in dataclasses.fields(Recipe)})
    recipe.check()
    return recipe


def _chosen(known: dict[str, Operator], cfg: DictConfig) -> list[str]:
    for name in cfg.operators or ():
        if name not in known:
            raise unknown("recorded operator", name, known)
    wanted = known if cfg.operators is None else {name: known[name] for name in known if name in cfg.operators}
    return remaining(wanted, list(cfg.exclude))


def _train_one(training: Training, console: Console) -> None:
    """Train in this process, and keep what was learnt when Ctrl-C ends it."""
    if training.is_done():
        return
    pretraining = training.start()
    try:
        with Steps(console, "pretraining", pretraining.length) as steps:
            for remark in pretraining.run():
                steps.step(f"{remark}, {steps.pace}")
    except KeyboardInterrupt:
        policies.save(pretraining.policy(), training.path)
        raise KeyboardInterrupt(f"interrupted: what was learnt until now is in {training.path}") from None
    policies.save(pretraining.policy(), training.path)


def _summary(trainings: list[Training], place: Path, seconds: float) -> dict[str, Any]:
    facts = {training.path: policies.load(training.path).facts for training in trainings}
    first = facts[trainings[0].path]
    return {
        "policy": str(place.absolute()),
        "policies": {path.name: {"operators": list(each["operators"])} for path, each in facts.items()},
        **{key: first[key] for key in ("encoding", "hidden", "tables", "recipe", "seed", "device_name", "versions")},
        "seconds": seconds,
        "date": summary.now(),
    }


if __name__ == "__main__":
    main()
