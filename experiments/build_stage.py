"""``stage=build`` of `experiments.record`: configs of many operators, compiled into one bundle without a GPU."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from experiments import progress, summary
from experiments.bundle_build import BuildSettings, BundleBuild
from experiments.config import operators_of, target_of
from experiments.files import publish
from experiments.planning import plan
from wpk_envs.devices.acceptance import ODD_OPERATORS
from wpk_envs.devices.host import available_cores
from wpk_envs.errors import UserError

CONFIGS, ACCEPTANCE_CONFIGS = 1000, 96


def settings_of(cfg: DictConfig) -> BuildSettings:
    """The settings of a build, checked.

    Raises:
        UserError: For a value that is missing or cannot be.
    """
    for key in ("device", "bundle"):
        if cfg[key] is None:
            example = {"device": "device=h200", "bundle": "bundle=resnet18.bundle"}[key]
            raise UserError(f"stage=build needs {key}=, such as {example}")
    if (cfg.op is None) == (not cfg.acceptance):
        raise UserError("stage=build needs op=NAME, such as op=resnet18/all, or else acceptance=true; give one of them")
    most = available_cores()
    given = {"configs": cfg.configs, "check": cfg.check, "workers": cfg.workers, "seed": cfg.seed}
    for key, least in {"configs": 1, "check": 0, "workers": 1, "seed": 0}.items():
        if given[key] is not None and given[key] < least:
            raise UserError(f"{key} must be a whole number of at least {least}, not {given[key]}")
    return BuildSettings(
        device=target_of(cfg.device),
        operators=ODD_OPERATORS if cfg.acceptance else operators_of(cfg.op),
        bundle=_writable(Path(cfg.bundle).expanduser().absolute()),
        configs=cfg.configs or (ACCEPTANCE_CONFIGS if cfg.acceptance else CONFIGS),
        acceptance=cfg.acceptance,
        check=cfg.check,
        workers=cfg.workers or most,
        seed=cfg.seed,
    )


def act(cfg: DictConfig, folder: Path) -> None:
    """Build the bundle and publish its summary.

    Raises:
        UserError: For what the user can mend.
        KeyboardInterrupt: After Ctrl-C; what was built is in the bundle, and the same command goes on with it.
    """
    settings, console = settings_of(cfg), progress.console()
    started, interrupted = time.perf_counter(), False
    planned = plan(settings.operators, settings.device, settings.configs, settings.seed)
    build = BundleBuild(settings, planned, console)
    try:
        build.compile()
        build.finish()
        build.interpret()
    except KeyboardInterrupt:
        interrupted = True
        build.finish()
    finally:
        build.close()
    result = {
        **build.figures(),
        "interrupted": interrupted,
        "seconds": time.perf_counter() - started,
        "date": summary.now(),
    }
    _show(console, result)
    publish(result, folder, cfg.out)
    if interrupted:
        raise KeyboardInterrupt("interrupted: what was built is kept, and the same command goes on with it")


def _show(console: Console, result: Mapping[str, Any]) -> None:
    lines = [
        f"{result['compiled']} of {result['configs']} kernels for {result['arch']} are in the bundle of "
        f"{result['bundle_bytes'] / 1e6:.1f} MB, at {result['per_minute']:.0f} a minute; {result['failed']} failed",
        f"{result['spilled']} spill registers, {result['local_memory']} use local memory without that",
        f"{result['ptx_checked']} were run by interpretation, of which {result['ptx_wrong']} are wrong",
        *(f"failed: {each['name']} {each['config']}: {each['message']}" for each in result["failures"]),
        *(f"WRONG: {each['name']} {each['config']}: {each['problem']}" for each in result["wrong"]),
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _writable(bundle: Path) -> Path:
    """Find out before the work that the file cannot be written."""
    if bundle.is_dir():
        raise UserError(f"bundle='{bundle}' is a folder; give the name of a file, such as {bundle / 'kernels.bundle'}")
    probe = bundle.with_name(f".{bundle.name}.probe")
    try:
        bundle.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as after:
            after.callback(lambda: probe.unlink(missing_ok=True))
            probe.write_bytes(b"")
    except OSError as error:
        raise UserError(
            f"bundle='{bundle}' cannot be written: {error.strerror}; name a file in a folder of yours"
        ) from error
    return bundle
