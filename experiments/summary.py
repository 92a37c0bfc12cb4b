"""A run's figures: ``summary.json`` and the table at the end."""

from __future__ import annotations

import platform
import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

import wpk_envs
from experiments import predicted_summary
from experiments.finals import Final, geomean, median_interval, plain_torch, ratios
from experiments.naming import Naming, config_text
from wpk_envs.core import ERROR_KINDS, Device, Operator
from wpk_envs.tuning import TuningProblem

MEASURED_KEYS = (
    "best_config",
    "latency_us",
    "latency_low_us",
    "latency_high_us",
    "baseline_us",
    "baseline_name",
    "speedup",
    "speedup_low",
    "speedup_high",
    "gflops",
    "percent_of_peak",
    "plain_torch_us",
    "plain_torch_speedup",
    "details",
)
"""What a run without any result has null for, where it measures."""


def no_figures(device: Device) -> dict[str, Any]:
    """The figures of a run without any result, all null."""
    return dict.fromkeys(predicted_summary.PREDICTED_KEYS if device.predicts else MEASURED_KEYS)


SUITE_COLUMNS = ("operator", "occurs", "latency us", "baseline us", "speedup", "95% interval", "template")


def search_figures(problem: TuningProblem) -> dict[str, Any]:
    """What the search did, taken at its end (the problem's clock goes on)."""
    count = len(problem.trials)
    return {
        "trials": count,
        "trials_reused": sum(trial.reused for trial in problem.trials),
        "requests_invalid": problem.requests_invalid,
        "stop_reason": problem.stop_reason,
        "errors": {kind: problem.errors.get(kind, 0) for kind in ERROR_KINDS},
        "search_seconds": problem.seconds,
        "trials_per_minute": 60 * count / problem.seconds if count else 0.0,
    }


def result_figures(final: Final, operator: Operator, device: Device) -> dict[str, Any]:
    """What the winner reached, with 95% bootstrap intervals of the medians; or what it is predicted to reach.

    ``gflops`` counts the operator's nominal operations and may exceed the machine's peak;
    ``percent_of_peak`` counts those that the algorithm executes.
    """
    if device.predicts:
        return predicted_summary.prediction_figures(final, operator, device)
    samples = final.measurement.samples_us
    latency = statistics.median(samples)
    low, high = median_interval(samples)
    executed = final.candidate.template.executed_flops(operator, final.candidate.config)
    return {
        **dict.fromkeys(MEASURED_KEYS),
        "best_config": dict(final.candidate.config),
        "latency_us": latency,
        "latency_low_us": low,
        "latency_high_us": high,
        "gflops": operator.flops / latency / 1e3,
        "percent_of_peak": 100 * executed / (latency * 1e3) / device.peak_gflops(),
        "details": dict(final.measurement.details),
        **(_speedup_figures(final, operator, device) if final.measurement.baseline_us else {}),
    }


def _speedup_figures(final: Final, operator: Operator, device: Device) -> dict[str, Any]:
    """What the winner reached beside the vendor's best."""
    speedups = ratios(final.measurement)
    low, high = median_interval(speedups)
    speedup = statistics.median(speedups)
    plain = plain_torch(device, operator)
    return {
        "baseline_us": statistics.median(final.measurement.baseline_us),
        "baseline_name": final.measurement.baseline_name,
        "speedup": speedup,
        "speedup_low": low,
        "speedup_high": high,
        "plain_torch_us": plain["us"] if plain else None,
        "plain_torch_speedup": plain["us"] / plain["baseline_us"] * speedup if plain else None,
    }


def device_figures(device: Device) -> dict[str, Any]:
    """Where a result was measured, and whether it was earlier; or where nothing was, and what was predicted."""
    kind = "predicted" if device.predicts else device.info.kind
    figures = {"device": kind, "device_name": device.info.name, "threads": device.info.threads}
    return {**figures, "recorded": device.replays}


def versions(device: Device) -> dict[str, str]:
    """Versions of everything that a result depends on."""
    own = {"wpk_envs": wpk_envs.__version__, "python": platform.python_version()}
    commit = source_commit()
    return {**own, **({"commit": commit} if commit else {}), **device.info.versions}


def source_commit() -> str | None:
    """The commit of this source tree; none outside of a Git checkout."""
    root = Path(wpk_envs.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def device_text(device: Device) -> str:
    """The device's name, on a CPU how many threads a kernel uses, and whether that was recorded earlier."""
    info = device.info
    if device.predicts:
        return f"{info.name}, predicted"
    if info.kind == "cuda":
        return f"{info.name}, {info.versions['protocol']} caches"
    recorded = ", recorded" if device.replays else ""
    return f"{info.name}, {info.threads} thread{'s' if info.threads > 1 else ''} per kernel{recorded}"


def now() -> str:
    """The date for results: UTC, ISO 8601, whole seconds."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def suite_figures(name: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A suite's summary: an entry per member, and the geometric mean of the speedups reached or predicted."""
    speedup = Naming(entries[-1]["predicted"]).key("speedup")
    shared = ("device", "device_name", "threads", "algo", "seed", "predicted", "date", "versions")
    speedups = [entry[speedup] for entry in entries if entry[speedup] is not None]
    return {
        "op": name,
        **{key: entries[-1][key] for key in shared},
        "stop_reason": entries[-1]["stop_reason"],
        "trials": sum(entry["trials"] for entry in entries),
        "seconds": sum(entry["seconds"] for entry in entries),
        f"geomean_{speedup}": geomean(speedups),
        "operators": list(entries),
    }


def result_table(summary: Mapping[str, Any]) -> Table:
    """One operator's result for people."""
    table = Table(title=_title(summary))
    table.add_column("what")
    table.add_column("result")
    table.add_row("best config", escape(config_text(summary["best_config"])))
    for row in predicted_summary.rows(summary) if summary["predicted"] else _measured_rows(summary):
        table.add_row(*row)
    for row in _gpu_rows(summary["details"]):
        table.add_row(*row)
    kinds = ", ".join(f"{count} {kind}" for kind, count in summary["errors"].items() if count)
    rate = f"{summary['trials_per_minute']:.0f} a minute"
    table.add_row("trials", f"{summary['trials']} ({summary['trials_reused']} from earlier records), {rate}")
    table.add_row("failed trials", kinds or "none")
    table.add_row("stopped by", str(summary["stop_reason"]))
    return table


def _title(summary: Mapping[str, Any]) -> str:
    device = f"{summary['device_name']} (predicted)" if summary["predicted"] else summary["device_name"]
    return f"{summary['op']} on {device}, {summary['algo']}, seed {summary['seed']}"


def _measured_rows(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The rows of one operator's table that hold what was measured."""
    interval = f"{summary['latency_low_us']:.1f} to {summary['latency_high_us']:.1f}"
    yield "latency", f"{summary['latency_us']:.1f} us (95% interval {interval})"
    if summary["speedup"] is None:
        yield "speedup", "missing: nothing of the vendor's could be timed here"
    else:
        interval = f"{summary['speedup_low']:.2f} to {summary['speedup_high']:.2f}"
        speedup = f"{summary['speedup']:.2f}x (95% interval {interval})"
        yield f"speedup over {summary['baseline_name']}", speedup
    if summary.get("plain_torch_speedup"):
        yield "speedup over plain torch", f"{summary['plain_torch_speedup']:.2f}x"
    yield "GFLOP/s (nominal)", f"{summary['gflops']:.1f}"
    yield "peak in use", f"{summary['percent_of_peak']:.0f}%"


def registers_text(details: Mapping[str, Any]) -> str:
    """Registers of a thread of a GPU's kernel, and the bytes that did not fit in them; empty on a CPU."""
    if "registers" not in details:
        return ""
    spilled = details.get("spill_bytes", 0)
    return f"{details['registers']}, spills {spilled} bytes" if spilled else str(details["registers"])


def _gpu_rows(details: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is known of a GPU's kernel besides."""
    if "registers" in details:
        yield "registers of a thread", registers_text(details)
    for protocol in ("cold", "hot"):
        if f"{protocol}_us" in details:
            baseline = details.get(f"{protocol}_baseline_us")
            beside = "" if baseline is None else f", baseline {baseline:.1f} us"
            yield f"with {protocol} caches", f"{details[f'{protocol}_us']:.1f} us{beside}"
    if "tf32_baseline" in details:
        yield "vendor's best with TF32", f"{details['tf32_baseline']}, {details['tf32_baseline_us']:.1f} us"


def suite_table(summary: Mapping[str, Any]) -> Table:
    """A suite's results for people."""
    table, naming = Table(title=_title(summary)), Naming(summary["predicted"])
    for column in predicted_summary.SUITE_COLUMNS if naming.predicted else SUITE_COLUMNS:
        words = column in ("operator", "confidence", "template")
        table.add_column(column, justify="left" if words else "right", no_wrap=column in ("operator", "template"))
    for entry in summary["operators"]:
        if naming.predicted:
            predicted_summary.suite_row(table, entry)
        else:
            table.add_row(entry["op"], str(entry["count"]), *_suite_cells(entry))
    mean = summary[f"geomean_{naming.key('speedup')}"]
    speedups = naming.text("speedup")
    table.caption = f"geometric mean of the {speedups}s: {mean:.2f}x" if mean else f"no {speedups}"
    return table


def _suite_cells(entry: Mapping[str, Any]) -> list[str]:
    if entry["latency_us"] is None:
        return [*["-"] * 4, "no result"]
    latency, template = f"{entry['latency_us']:.1f}", str(entry["best_config"]["template"])
    if entry["speedup"] is None:
        return [latency, *["-"] * 3, template]
    interval = f"{entry['speedup_low']:.2f} to {entry['speedup_high']:.2f}"
    return [latency, f"{entry['baseline_us']:.1f}", f"{entry['speedup']:.2f}x", interval, template]
