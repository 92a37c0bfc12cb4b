"""Tuning the operators of a model that the store has no final measurement of."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from experiments.files import write_json
from experiments.known import known_of
from experiments.tune import Workplace, tune
from wpk_envs.core import DeviceInfo, Operator
from wpk_envs.errors import UserError
from wpk_envs.planner.graph import Graph
from wpk_envs.planner.operator_of import operator_of
from wpk_envs.records import Store
from wpk_envs.schedules import templates_for


def operators_of(graph: Graph, device: DeviceInfo) -> list[Operator]:
    """Every distinct operator of a graph that some template schedules, in the order of execution."""
    found = dict.fromkeys(operator_of(graph, node) for node in graph.nodes)
    templates = templates_for(device.kind)
    return [each for each in found if each is not None and any(template.fits(each, device) for template in templates)]


def untuned(operators: Sequence[Operator], store: Store, device: DeviceInfo) -> list[Operator]:
    """Those that no search has ended for, on this device with these versions."""
    return [each for each in operators if known_of(store, each, device).ours is None]


def tune_missing(place: Workplace, operators: Sequence[Operator], folder: Path) -> list[str]:
    """Tune every operator that is not tuned yet; what an interrupted call left in the folder is gone on with.

    Args:
        place: Device, store and settings.
        operators: A model's.
        folder: A folder for each is made in it.

    Returns:
        Sentences about operators that could not be tuned: they do without.

    Raises:
        KeyboardInterrupt: After Ctrl-C.
    """
    missing = untuned(operators, place.store, place.device.info)
    failures = []
    started = time.monotonic()
    for number, operator in enumerate(missing):
        left = "" if number == 0 else f", {_minutes((time.monotonic() - started) / number * (len(missing) - number))}"
        text = f"tuning operator {number + 1} of {len(missing)}: {operator.label}{left}"
        place.console.print(text, highlight=False, markup=False)
        failure = _tune(place, operator, folder / operator.key)
        if failure:
            failures.append(failure)
            place.console.print(failure, highlight=False, markup=False)
    return failures


def _tune(place: Workplace, operator: Operator, folder: Path) -> str:
    """Tune one operator; why that failed, in a sentence, or nothing."""
    begun = (folder / "trials.jsonl").exists()
    here = replace(place, settings=replace(place.settings, resume=begun))
    try:
        outcome = tune(here, operator.label, operator, folder)
    except UserError as error:
        return f"{operator.label}: {error}"
    write_json(folder / "summary.json", outcome.summary)
    if outcome.interrupted:
        raise KeyboardInterrupt
    return outcome.failure


def _minutes(seconds: float) -> str:
    return f"about {seconds / 60:.0f} min left" if seconds >= 60 else "less than a minute left"
