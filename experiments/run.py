"""``python -m experiments.run``: tune an operator, or every operator of a suite, on a device.

Every key is explained by ``--help`` and in ``conf/README.md``. The run's folder holds the resolved config,
every trial, the plot, the winner's schedule and ``summary.json``, whose path is the last line printed.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from omegaconf import DictConfig

from experiments import predicted_summary, progress, summary
from experiments.files import check_writable, publish, write_json
from experiments.launcher import launch
from experiments.settings import settings_of
from experiments.tune import Outcome, Workplace, tune
from wpk_envs import devices, operators
from wpk_envs.errors import UserError
from wpk_envs.records import Store


def run(cfg: DictConfig, folder: Path) -> None:
    """Do what a config says, in a folder.

    Raises:
        UserError: For what the user can mend, no schedule working at all included.
        KeyboardInterrupt: After Ctrl-C; everything finished is in the folder, its summary too.
    """
    settings = settings_of(cfg)
    check_writable(cfg.out)
    console = progress.console()
    with (
        contextlib.closing(Store(settings.store_path)) as store,
        devices.open_device(**settings.device.settings) as device,
    ):
        write_json(folder / "config.json", settings.config)
        console.print(f"device={settings.device.name}: {summary.device_text(device)}")
        for note in getattr(device, "notes", ()):
            console.print(f"note: {note}", highlight=False, markup=False)
        outcome = _tune(Workplace(settings, device, store, console), folder)
    publish(outcome.summary, folder, cfg.out)
    if outcome.interrupted:
        raise KeyboardInterrupt
    if outcome.failure:
        raise UserError(outcome.failure)


def _tune(place: Workplace, folder: Path) -> Outcome:
    """Tune what was asked for, and show the result."""
    if place.settings.is_suite:
        outcome = _tune_suite(place, folder)
        place.console.print(summary.suite_table(outcome.summary))
        return outcome
    ((name, operator),) = place.settings.operators.items()
    outcome = tune(place, name, operator, folder)
    if not outcome.failure:
        place.console.print(summary.result_table(outcome.summary))
        _tell_prediction(place, name, outcome)
    return outcome


def _tune_suite(place: Workplace, folder: Path) -> Outcome:
    """Tune every member of a suite, each in a subfolder of its own."""
    suite = operators.suites()[place.settings.op.partition("/")[0]]
    entries, failures = [], []
    interrupted = False
    for member, (name, operator) in zip(suite.members, place.settings.operators.items()):
        subfolder = folder / str(member.number)
        outcome = tune(place, name, operator, subfolder)
        write_json(subfolder / "summary.json", outcome.summary)
        _tell_prediction(place, name, outcome)
        entries.append({**outcome.summary, "count": member.count})
        failures += [outcome.failure] * bool(outcome.failure)
        interrupted = outcome.interrupted
        if interrupted:
            break
    return Outcome(summary.suite_figures(place.settings.op, entries), interrupted, "; ".join(failures))


def _tell_prediction(place: Workplace, name: str, outcome: Outcome) -> None:
    """Say in a sentence what is predicted, where that is all there is."""
    if place.device.predicts and outcome.final is not None:
        sentence = predicted_summary.sentence(outcome.summary)
        place.console.print(f"{name}: {sentence}", highlight=False, markup=False, soft_wrap=True)


def main() -> None:
    """The command line."""
    launch("run", run, check=settings_of)


if __name__ == "__main__":
    main()
