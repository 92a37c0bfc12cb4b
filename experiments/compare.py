"""``python -m experiments.compare``: which agent finds better schedules, by how much, and how sure is that?

Every agent tunes every operator with every seed under one budget. The run's folder holds every run
(``runs.jsonl``), tables, pictures and ``summary.json``, whose path is the last line printed.
"""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from experiments import progress, summary
from experiments.comparison import plots, tables
from experiments.comparison.cells import Run
from experiments.comparison.places import Place
from experiments.comparison.running import Failure, Runs, cells_of, run_all
from experiments.comparison.scores import Scores, best_known
from experiments.comparison.settings import Settings, settings_of
from experiments.comparison.standings import standings
from experiments.files import check_writable, publish, write_json
from experiments.launcher import launch
from experiments.loggers import Tracked, comparison_digest, log_summary
from experiments.loggers.settings import logger_of
from wpk_envs import devices
from wpk_envs.errors import UserError
from wpk_envs.files import write_whole
from wpk_envs.records import Store


def compare(cfg: DictConfig, folder: Path) -> None:
    """Do what a config says, in a folder.

    Raises:
        UserError: For what the user can mend, runs that broke down included.
        KeyboardInterrupt: After Ctrl-C; what has ended is in the folder.
    """
    settings = settings_of(cfg)
    check_writable(cfg.out)
    console, started = progress.console(), time.perf_counter()
    with place_of(settings) as place:
        names = f"{len(settings.entrants)} agents, {len(place.operators)} operators, {settings.seeds} seeds"
        console.print(f"{names} on {summary.device_text(place.device)}", highlight=False)
        runs = Runs(folder / "runs.jsonl", place, settings.resume)
        write_json(folder / "config.json", settings.config)
        with contextlib.closing(runs):
            failures = run_all(settings, place, runs, console)
        scores = scores_of(settings, place, runs)
        result = {
            **facts_of(settings, place, scores, failures, time.perf_counter() - started),
            **standings(scores, settings.points),
        }
        for name, entry in result["operators"].items():
            entry |= {"operator": place.operators[name].to_dict(), "table": place.table(name)}
    write_results(folder, settings, scores, result, console)
    _log(cfg, settings, result, folder)
    publish(result, folder, cfg.out)
    if failures:
        raise UserError(broken_sentence(failures, folder))


@contextlib.contextmanager
def place_of(settings: Settings) -> Iterator[Place]:
    """The device with its operators; where it measures, the records too."""
    with contextlib.ExitStack() as stack:
        device = stack.enter_context(devices.open_device(**settings.device.settings))
        store = None
        if not device.replays:
            store = stack.enter_context(contextlib.closing(Store(settings.store_path)))
        yield Place(device, settings.ops, store, settings.reuse)


def scores_of(settings: Settings, place: Place, runs: Runs) -> Scores:
    """The runs that were asked for, beside the best that is known."""
    wanted = [runs.finished[cell] for cell in cells_of(settings, list(place.operators)) if cell in runs.finished]
    known = best_known({op: place.best_known(op) for op in place.operators}, wanted)
    hopeless = [op for op, gain in known.items() if not gain]
    if hopeless:
        raise UserError(
            f"no run found a working schedule with a speedup for {', '.join(hopeless)}, so there is nothing to "
            "compare; leave it out of ops"
        )
    finished = {run.cell: run for run in wanted}
    return Scores(list(settings.entrants), list(place.operators), settings.seeds, finished, known)


def facts_of(
    settings: Settings, place: Place, scores: Scores, failures: Sequence[Failure], seconds: float
) -> dict[str, Any]:
    """What was compared where, and what came of the runs."""
    device = place.device
    recorded = device.replays
    return {
        **summary.device_figures(device),
        "fingerprint": device.info.fingerprint,
        "noise": settings.device.settings.get("noise") if recorded else None,
        "best_known_from": "the recorded tables" if recorded else "the best of these runs",
        "seeds": settings.seeds,
        "budget": settings.config["budget"],
        "algos": settings.config["algos"],
        "runs": {algo: _run_figures(algo, scores) for algo in scores.algos},
        "failed": [{"run": str(failure.cell), "reason": failure.reason} for failure in failures],
        "predicted": device.predicts,
        "seconds": seconds,
        "date": summary.now(),
        "versions": summary.versions(device),
    }


def broken_sentence(failures: Sequence[Failure], folder: Path) -> str:
    """What is said of runs that broke down."""
    first = failures[0]
    return (
        f"{len(failures)} runs broke down and are missing in the results (the log there has their tracebacks), such as "
        f"{first.cell}: {first.reason}; resume={folder} tries them again"
    )


def _run_figures(algo: str, scores: Scores) -> dict[str, Any]:
    """What an agent's runs were like."""
    runs: list[Run] = [run for cell, run in scores.runs.items() if cell.algo == algo]
    reasons, known = [run.stop_reason for run in runs], {run.knowledge for run in runs}
    return {
        "finished": len(runs),
        "missing": scores.missing(algo),
        "trials": sum(run.trials for run in runs),
        "requests_invalid": sum(run.requests_invalid for run in runs),
        "stop_reasons": {reason: reasons.count(reason) for reason in sorted(set(reasons))},
        "knowledge": next((each for each in ("this operator", "other operators") if each in known), "none"),
        "wall_seconds": sum(run.wall_seconds for run in runs),
    }


def write_results(
    folder: Path, settings: Settings, scores: Scores, result: Mapping[str, Any], console: Console
) -> None:
    """Write and show the tables, and draw the pictures."""
    write_whole(folder / "table.md", tables.markdown(result, command_of()).encode())
    write_whole(folder / "results.csv", tables.results_csv(scores, settings.points).encode())
    plots.save_all(folder, scores, result)
    console.print(tables.terminal_table(result))
    console.print(tables.EXPLANATION, highlight=False, markup=False)


def command_of() -> str:
    """The command line that makes this comparison anew."""
    hydra = HydraConfig.get()
    given = [each for each in hydra.overrides.task if not each.startswith("resume=")]
    return shlex.join(["python", "-m", f"experiments.{hydra.job.name}", *given])


def _log(cfg: DictConfig, settings: Settings, result: Mapping[str, Any], folder: Path) -> None:
    """Tell W&B, if that is the logger."""
    name, tags = result["device_name"], [result["device_name"], *(["recorded"] if result["recorded"] else [])]
    tracked = Tracked(
        name=f"compare-{name}".replace(" ", "-"),
        group="compare",
        config=settings.config,
        tags=tuple(tags),
        job="compare",
    )
    log_summary(logger_of(cfg.logger), tracked, comparison_digest(result), folder)


def main() -> None:
    """The command line."""
    launch("compare", compare, check=settings_of)


if __name__ == "__main__":
    main()
