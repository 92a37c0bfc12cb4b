"""The one launcher of every program in `experiments/`: Hydra, with errors that a person can act on.

A program is a task and, optionally, a check::

    def main() -> None:
        launch("run", task=tune, check=settings)

``check(cfg)`` turns the composed config into objects and raises `UserError` for values that cannot be. It
is called for every job of a multirun before the first one starts and before anything is written. Then
``task(cfg, folder)`` does the work of one job in its own folder.

Exit codes: 0 all done; 2 the user can fix it, one sentence on stderr; 1 a defect, the traceback is in the
run's log and the sentence names that file; 130 interrupted.
"""

from __future__ import annotations

import argparse
import functools
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import hydra
from hydra import version
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from experiments import complaints, config, resume
from experiments.files import disk_error
from wpk_envs.errors import UserError

Task = Callable[[DictConfig, Path], None]
Check = Callable[[DictConfig], object]

DEFECT, USER_ERROR, INTERRUPTED = 1, 2, 130
HYDRA_VERSION = "1.3"

log = logging.getLogger(__name__)


def _anything(cfg: DictConfig) -> None:
    """The check of a program that has none."""


def launch(program: str, task: Task, check: Check = _anything) -> NoReturn:
    """Run a program with the command line's arguments and exit the process.

    Args:
        program: Its name: ``python -m experiments.NAME`` and ``conf/NAME.yaml``.
        task: Does the work of one job, called with the config and the job's folder.
        check: Raises `UserError` for a config that cannot work, before anything is written.
    """
    sys.exit(run_program(program, task, check, sys.argv[1:]))


def run_program(program: str, task: Task, check: Check, arguments: Sequence[str]) -> int:
    """Run a program with the given arguments and return its exit code; see `launch`."""
    jobs = _Jobs(task)
    try:
        _start(program, jobs, check, arguments)
    except KeyboardInterrupt as stop:
        resume = "interrupted: finished measurements are kept, and resume=FOLDER goes on with the run in that folder"
        _say(str(stop) or resume)
        return INTERRUPTED
    except SystemExit as stop:  # argparse's own ending: --help, an unknown flag
        return stop.code if isinstance(stop.code, int) else DEFECT
    except Exception as error:
        jobs.failed(error)
    return jobs.code


def _start(program: str, jobs: _Jobs, check: Check, arguments: Sequence[str]) -> None:
    """Read the arguments, check every job that they ask for, then let Hydra run them."""
    config.register()
    version.setbase(HYDRA_VERSION)
    parser = get_args_parser()
    parser.prog = f"python -m experiments.{program}"
    args = parser.parse_intermixed_args(arguments)
    args.overrides = resume.expand(args.overrides, args.multirun)
    explained = functools.partial(complaints.explained, program, tuple(args.overrides), args.multirun)
    if _runs_jobs(args):
        with explained():
            configs = list(_composed_jobs(program, args))
        for cfg in configs:
            check(cfg)
    with explained():
        _run_with_hydra(program, jobs, parser, args)


def _runs_jobs(args: argparse.Namespace) -> bool:
    """Whether jobs of the program's own configs will run: nothing is only shown, no other config named."""
    shows = args.help or args.hydra_help or args.cfg or args.info or args.shell_completion
    foreign = args.config_name or args.config_dir or args.config_path or args.experimental_rerun
    return not (shows or foreign)


def _composed_jobs(program: str, args: argparse.Namespace) -> Iterator[DictConfig]:
    overrides = [list(args.overrides)]
    parsed = OverridesParser.create().parse_overrides(args.overrides)
    complaints.check_signs(parsed)
    if args.multirun:
        overrides = BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]
    with hydra.initialize_config_module("conf", version_base=HYDRA_VERSION):
        for job in overrides:
            yield hydra.compose(program, overrides=job)


def _run_with_hydra(program: str, jobs: _Jobs, parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise instead of printing and exiting
    try:
        _run_hydra(args, parser, jobs.run, config_path="pkg://conf", config_name=program)
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


class _Jobs:
    """Runs the task for each of Hydra's jobs; one that fails does not keep the next ones from running."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.code = 0

    def run(self, cfg: DictConfig) -> None:
        """Run one job."""
        try:
            self.task(cfg, Path(HydraConfig.get().runtime.output_dir))
        except Exception as error:
            self.failed(error)

    def failed(self, error: Exception) -> None:
        """Say what went wrong, and remember the exit code; a defect weighs more than a user's error."""
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit would complain again
            error = UserError("nobody reads the output any more, so the program stopped; write it to a file instead")
        if isinstance(error, OSError):
            error = disk_error(error) or error
        if isinstance(error, OmegaConfBaseException):
            error = UserError(complaints.one_line(error))
        if isinstance(error, UserError):
            if _log_file() is not None:
                log.error("%s", error)
            _say(f"{_job_name()}{error}")
            self.code = self.code or USER_ERROR
        else:
            place = _write_traceback(error)
            what = f"{type(error).__name__}: {complaints.one_line(error)}"
            _say(f"{_job_name()}unexpected {what}; this is a defect, its traceback is in {place}")
            self.code = DEFECT


def _job_name() -> str:
    """Which job of a multirun a sentence is about; empty outside of one."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return ""
    job = HydraConfig.get().job
    return f"job {job.num} ({job.override_dirname}): "


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _write_traceback(error: Exception) -> str:
    """Put a traceback into the run's log, or into a file of its own if there is no log yet; where it is."""
    log_file = _log_file()
    if log_file is not None:
        log.error("unexpected error", exc_info=error)
        return log_file
    handle, place = tempfile.mkstemp(prefix="wpk-envs-", suffix=".log")
    with os.fdopen(handle, "w") as file:
        traceback.print_exception(type(error), error, error.__traceback__, file=file)
    return place


def _log_file() -> str | None:
    """The run's log, once Hydra has opened it."""
    files = [handler for handler in logging.getLogger().handlers if isinstance(handler, logging.FileHandler)]
    return files[0].baseFilename if files else None
