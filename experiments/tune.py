"""Tuning one operator from start to end, with everything that a run's folder keeps of it."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rich.console import Console

from experiments import plot, predicted_summary, summary
from experiments.files import write_json
from experiments.finals import Final, remeasure, unrepeated
from experiments.journal import Journal
from experiments.loggers import Tracked, open_logger
from experiments.naming import Naming
from experiments.progress import Display
from experiments.settings import Settings
from wpk_envs.core import Device, Operator
from wpk_envs.errors import UserError
from wpk_envs.files import write_whole
from wpk_envs.records import Store
from wpk_envs.schedules.space import ScheduleSpace
from wpk_envs.tuning import Trial, TuningProblem

log = logging.getLogger(__name__)


@runtime_checkable
class Saves(Protocol):
    """An agent that has learned something worth keeping."""

    def save(self, path: Path) -> None:
        """Write it to a file."""


@dataclass(frozen=True)
class Workplace:
    """What the operators of one run share."""

    settings: Settings
    device: Device
    store: Store
    console: Console


@dataclass(frozen=True)
class Outcome:
    """How tuning ended.

    Attributes:
        summary: What ``summary.json`` holds.
        interrupted: Whether Ctrl-C ended it early.
        failure: Why there is no result, in a sentence; empty if there is one.
        final: The winner; none for a suite.
    """

    summary: dict[str, Any]
    interrupted: bool = False
    failure: str = ""
    final: Final | None = None


def tune(
    place: Workplace, name: str, operator: Operator, folder: Path, templates: Sequence[str] | None = None
) -> Outcome:
    """Tune one operator, measure the winner again and fill the folder.

    Args:
        place: Device, store and settings.
        name: The operator's name.
        operator: What to tune.
        folder: Where everything about it goes.
        templates: Keep only these schedule templates; all that fit if none.

    Returns:
        The summary, and whether Ctrl-C ended the search early.
    """
    return _Tuning(place, name, operator, folder, templates).run()


class _Tuning:
    def __init__(
        self, place: Workplace, name: str, operator: Operator, folder: Path, templates: Sequence[str] | None
    ) -> None:
        self.place = place
        self.name = name
        self.folder = folder
        self.started = time.perf_counter()
        settings = place.settings
        self.agent = settings.agent()
        self.space = self.agent.space(operator, place.device, templates)
        self.naming = Naming(place.device.predicts)
        self.journal = _journal(folder / "trials.jsonl", self.space, settings.resume, self.naming)
        self.display = Display(place.console, f"{settings.algo} on {name}", settings.budget.trials)
        self.logger = open_logger(settings.logger, self._tracked(), folder)
        self.problem = TuningProblem(
            operator,
            place.device,
            self.space,
            store=place.store,
            budget=settings.budget,
            reuse=settings.reuse,
            on_trial=self._on_trial,
            journal=self.journal.earlier,
        )

    def _on_trial(self, trial: Trial) -> None:
        self.journal.add(trial)
        self.display.add(trial)
        self.logger.trial(trial)

    def run(self) -> Outcome:
        """Search, measure the winner again, write everything."""
        try:
            interrupted = self._search()
            searched = summary.search_figures(self.problem)
            final, interrupted = self._final(interrupted, searched)
            if interrupted:
                searched["stop_reason"] = "interrupted"
            result = self._summary(searched, final)
            self._write(result, final)
            log.info("%s: %s", self.name, result)
            return Outcome(result, interrupted, "" if final is not None else self._failure(result), final)
        finally:
            self.journal.close()
            self.logger.close()

    def _search(self) -> bool:
        """Let the agent tune; whether Ctrl-C ended it."""
        self.logger.start()
        log.info("%s: %s valid configs, %d trials to resume", self.name, self.space.size, len(self.journal.earlier))
        try:
            with self.display:
                self.agent.tune(self.problem, self.place.settings.seed)
        except KeyboardInterrupt:
            return True
        if self.agent.knowledge is not None:
            self.place.console.print(f"note: {_known(self.agent.knowledge)}", highlight=False, markup=False)
        if isinstance(self.agent, Saves):
            self.agent.save(self.folder / "policy.zip")
        return False

    def _final(self, interrupted: bool, searched: Mapping[str, Any]) -> tuple[Final | None, bool]:
        if not interrupted:
            with contextlib.suppress(KeyboardInterrupt):
                if not (self.naming.predicted or self.place.device.replays):
                    self.place.console.print("measuring the best schedules again in new processes ...")
                settings = self.place.settings
                told = {key: searched[key] for key in ("trials", "search_seconds", "stop_reason")}
                return remeasure(self.problem, {"algo": settings.algo, "seed": settings.seed, **told}), False
        return unrepeated(self.problem), True

    def _summary(self, searched: dict[str, Any], final: Final | None) -> dict[str, Any]:
        device, settings = self.place.device, self.place.settings
        operator = self.problem.operator
        figures = summary.no_figures(device)
        if final is not None:
            figures = summary.result_figures(final, operator, device)
        return {
            "op": self.name,
            "operator": operator.to_dict(),
            **summary.device_figures(device),
            "algo": settings.algo,
            "seed": settings.seed,
            **({} if self.agent.knowledge is None else {"knowledge": dict(self.agent.knowledge)}),
            **searched,
            **figures,
            "seconds": time.perf_counter() - self.started,
            "predicted": device.predicts,
            "date": summary.now(),
            "versions": summary.versions(device),
        }

    def _failure(self, result: dict[str, Any]) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in result["errors"].items() if count)
        what = f"none of the {result['trials']} trials of {self.name} gave a working schedule ({kinds})"
        if self.problem.best is not None:
            what = f"the best schedules of {self.name} failed when they were measured again in a new process"
        return f"{what}; see {self.folder / 'trials.jsonl'}"

    def _write(self, result: dict[str, Any], final: Final | None) -> None:
        title = f"{result['algo']} on {self.problem.operator.label}, seed {result['seed']}"
        subtitle = f"{summary.device_text(self.place.device)}, {result['date'][:10]}"
        path = self.folder / f"{self.naming.key('best_so_far')}.png"
        plot.save(path, self.problem.trials, title, subtitle, self.naming)
        files = self._write_winner(final, result) if final is not None else []
        self.logger.finish(result, self.problem.trials, files)

    def _write_winner(self, final: Final, result: dict[str, Any]) -> list[Path]:
        config, schedule = self.folder / "best_config.json", self.folder / "best_schedule.py"
        winner = {"operator": final.candidate.operator.to_dict(), "config": dict(final.candidate.config)}
        write_json(config, {**winner, "predicted": True} if self.naming.predicted else winner)
        write_whole(schedule, self._schedule_text(final, result).encode())
        return [config, schedule]

    def _schedule_text(self, final: Final, result: dict[str, Any]) -> str:
        candidate = final.candidate
        kernel = candidate.template.kernel(candidate.operator, candidate.config, self.space.device)
        remark = f"# {predicted_summary.sentence(result)}\n" if self.naming.predicted else ""
        return remark + kernel.module.script()

    def _tracked(self) -> Tracked:
        settings, device = self.place.settings, self.place.device
        commit = summary.source_commit()
        tags = [self.name, device.info.name, settings.algo, *([f"commit {commit}"] if commit else [])]
        tags += ["predicted"] if self.naming.predicted else []
        tags += ["recorded"] if device.replays else []
        read = {name for template in self.space.templates.values() for name in template.knobs}
        return Tracked(
            name=f"{settings.algo}-{self.name.replace('/', '-')}-seed{settings.seed}",
            group=settings.op,
            config=settings.config,
            tags=tuple(tags),
            knobs=("template", *(knob.name for knob in self.space.encoding.knobs if knob.name in read)),
            naming=self.naming,
        )


def _known(knowledge: Mapping[str, Any]) -> str:
    """What an agent knew before it started, in a sentence."""
    seen = "among" if knowledge["has_seen_operator"] else "not among"
    names = ", ".join(knowledge["operators"])
    return f"what was learnt earlier comes from {names}; the operator that was tuned is {seen} them"


def _journal(path: Path, space: ScheduleSpace, resume: bool, naming: Naming) -> Journal:
    if path.exists() and not resume:
        raise UserError(f"'{path.parent}' holds a run already; go on with it (resume={path.parent}) or name another")
    return Journal(path, space, naming)
