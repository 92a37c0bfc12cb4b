"""``python -m experiments.transfer``: does what was learnt on some operators help on others?

Every operator is held out in turn, or with its whole family: policies are trained on the others, with several seeds,
and tune it. They face what needs no policy: the ranking of configs by what they were worth on the other operators, the
genetic algorithm that starts from it, and searches that know nothing. A folder per split has tables and pictures;
``summary.json`` has everything.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from experiments import compare, progress
from experiments.comparison.cells import Cell, Run
from experiments.comparison.places import Place
from experiments.comparison.running import Failure, Runs, run_all
from experiments.comparison.scores import Scores, best_known
from experiments.comparison.settings import Entrant
from experiments.comparison.standings import standings
from experiments.files import check_writable, publish, write_json
from experiments.held_out import HeldOut, headline, headline_table, settings_of
from experiments.launcher import launch
from experiments.parallel import side_by_side
from experiments.policies import train
from experiments.progress import Steps
from wpk_envs.errors import UserError
from wpk_envs.files import write_whole


def study(cfg: DictConfig, folder: Path) -> None:
    """Do what a config says, in a folder.

    Raises:
        UserError: For what the user can mend, runs that broke down included.
        KeyboardInterrupt: After Ctrl-C; policies and runs that were finished are in the folder.
    """
    given = settings_of(cfg, folder)
    check_writable(cfg.out)
    console, started = progress.console(), time.perf_counter()
    with compare.place_of(given.comparison) as place:
        write_json(folder / "config.json", given.comparison.config)
        _train(given, console)
        failures: list[Failure] = []
        finished: dict[str, dict[Cell, Run]] = {}
        for name, entrants in given.groups.items():
            console.print(f"{name}: {', '.join(entrants)}", highlight=False)
            settings = dataclasses.replace(given.comparison, entrants=entrants)
            runs = Runs(folder / f"runs_{name}.jsonl", place, given.comparison.resume)
            with contextlib.closing(runs):
                failures += run_all(settings, place, runs, console)
            finished[name] = runs.finished
        results = {
            split: _result(given, split, place, finished, failures, time.perf_counter() - started, folder, console)
            for split in given.splits
        }
    publish({"splits": results, **_facts(given, results)}, folder, cfg.out)
    if failures:
        raise UserError(compare.broken_sentence(failures, folder))


def _train(given: HeldOut, console: Console) -> None:
    """Train the policies that are not there yet."""
    missing = [training for training in given.trainings if not training.is_done()]
    console.print(f"{len(given.trainings)} policies, {len(given.trainings) - len(missing)} of them are there already")
    if missing:
        with Steps(console, "policies", len(missing)) as steps:
            for training in side_by_side(train, missing, given.comparison.jobs):
                steps.step(f"{training.path.parent.name}/{training.path.stem}, {steps.pace}")


def _result(
    given: HeldOut,
    split: str,
    place: Place,
    finished: Mapping[str, Mapping[Cell, Run]],
    failures: list[Failure],
    seconds: float,
    folder: Path,
    console: Console,
) -> dict[str, Any]:
    """What one way of holding out gave; written and shown."""
    entrants: dict[str, Entrant] = {**given.groups[split], **given.groups["common"]}
    algos = {label: {"name": each.algo, **each.settings} for label, each in entrants.items()}
    config = {**given.comparison.config, "algos": algos}
    settings = dataclasses.replace(given.comparison, entrants=entrants, config=config)
    runs = {**finished[split], **finished["common"]}
    known = best_known({op: place.best_known(op) for op in place.operators}, list(runs.values()))
    wanted = {cell: run for cell, run in runs.items() if cell.algo in entrants and cell.op in place.operators}
    scores = Scores(list(entrants), list(place.operators), settings.seeds, wanted, known)
    result = {
        **compare.facts_of(settings, place, scores, failures, seconds),
        **standings(scores, settings.points),
        "held_out": split,
    }
    result["headline"] = headline(scores, place.operators)
    subfolder = folder / split
    console.print(f"each operator was tuned without {'it' if split == 'operator' else 'its family'} in training")
    compare.write_results(subfolder, settings, scores, result, console)
    table = headline_table(result["headline"], split)
    write_whole(subfolder / "headline.md", table.markdown().encode())
    console.print(table.rich())
    return result


def _facts(given: HeldOut, results: Mapping[str, Any]) -> dict[str, Any]:
    shared = ("device", "device_name", "threads", "seeds", "budget", "predicted", "seconds", "date", "versions")
    first = next(iter(results.values()))
    return {
        **{key: first[key] for key in shared},
        "train_seeds": given.train_seeds,
        "recipe": dataclasses.asdict(given.recipe),
        "policies": sorted("/".join(training.path.parts[-4:]) for training in given.trainings),
        "targets": summary_targets(results),
    }


def summary_targets(results: Mapping[str, Any]) -> dict[str, Any]:
    """By split, how many of the genetic algorithm's trials each agent with experience needed, and the ranking's."""
    return {split: result["headline"]["of_ga"] for split, result in results.items()}


def main() -> None:
    """The command line."""
    launch("transfer", study, check=lambda cfg: settings_of(cfg, Path()))


if __name__ == "__main__":
    main()
