"""Small folders of results for tests of reports, made up; nothing in them was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.synthetic import INFO
from wpk_envs.operators import Gemm

CONFIG = {"template": "gemm", "vector": 16, "tile_oc": 4, "tile_ow": 3, "unroll": 8}
SCRIPT = 'class Module:\n    """</code></pre><script>alert("a & b")</script>"""\n'
VERSIONS = {"wpk_envs": "0.1.0", "commit": "0123456789ab", "synthetic": "1"}


def run_folder(folder: Path, speedup: float | None = 2.0, predicted: bool = False, **changes: Any) -> Path:
    """What `experiments.run` leaves; ``speedup=None`` is a run without a winner."""
    prefix = "predicted_" if predicted else ""
    figures: dict[str, Any] = {f"{prefix}speedup": speedup, f"{prefix}latency_us": speedup and 1000 / speedup}
    if speedup and not predicted:
        figures |= {"speedup_low": 0.98 * speedup, "speedup_high": 1.02 * speedup, "baseline_name": "made-up path"}
        figures |= {"latency_low_us": 990 / speedup, "latency_high_us": 1010 / speedup, "percent_of_peak": 40.0}
    if speedup and predicted:
        figures |= {"predicted_baseline_us": 1000.0, "confidence": "high", "percent_of_roofline": 52.0}
    summary = {
        "op": "gemm",
        "operator": Gemm(33, 40, 24).to_dict(),
        "device": "predicted" if predicted else "cpu",
        "device_name": INFO.name,
        "threads": 1,
        "algo": "random",
        "seed": 3,
        "trials": 3,
        "best_config": CONFIG if speedup else None,
        **figures,
        "predicted": predicted,
        "date": "2026-01-02T03:04:05+00:00",
        "versions": VERSIONS,
        **changes,
    }
    _write(folder, summary, [f"op={summary['op']}", "algo=random", f"hydra.run.dir={folder}", "out=copy.json"])
    _write_trials(folder, prefix, speedup)
    if speedup:
        (folder / "best_schedule.py").write_text(SCRIPT)
    return folder


def _write_trials(folder: Path, prefix: str, speedup: float | None) -> None:
    gains = [None, 0.5 * speedup, speedup] if speedup else [None, None, None]
    lines: list[dict[str, Any]] = [{"journal": 1}]
    lines += [
        {"number": n, "seconds": 0.5 * n, f"{prefix}speedup": gain, f"{prefix}latency_us": gain and 1000 / gain}
        for n, gain in enumerate(gains, 1)
    ]
    (folder / "trials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def suite_folder(folder: Path, speedups: dict[int, float]) -> Path:
    """What ``op=resnet18/all`` leaves."""
    entries = []
    for number, speedup in speedups.items():
        member = run_folder(folder / str(number), speedup, op=f"resnet18/{number}")
        entries.append(json.loads((member / "summary.json").read_text()))
    shared = {key: entries[0][key] for key in ("algo", "seed", "predicted", "device_name", "date", "versions")}
    _write(folder, {"op": "resnet18/all", "trials": 9, "operators": entries, **shared}, ["op=resnet18/all"])
    return folder


def comparison_folder(folder: Path, **changes: Any) -> Path:
    """What every comparison's summary has, and nothing more."""
    figures = {
        "ga": {"32": _figure(0.8, 0.78, 0.83), "64": _figure(0.96, 0.94, 0.97, 60.0)},
        "random": {"32": _figure(0.7, 0.6, 0.79), "64": _figure(0.9, 0.88, 0.93)},
        "ppo": {"32": _figure(0.79, 0.77, 0.82), "64": _figure(0.95, 0.93, 0.965, 58.0)},
    }
    _write(folder, {"agents": figures, "seeds": 8, **changes}, ["seeds=8"])
    return folder


def transfer_folder(folder: Path) -> Path:
    """What `experiments.transfer` leaves, of one way of holding out."""
    comparison = json.loads((comparison_folder(folder) / "summary.json").read_text())
    trials = {"ga": 40.0, "random": None, "ppo": 10.0}
    headline = {"operators": {"gemm": {"family": "gemm", **trials}}, "median": trials}
    headline["of_ga"] = {"ga": 1.0, "random": None, "ppo": 0.25}
    _write(folder, {"splits": {"family": {**comparison, "held_out": "family", "headline": headline}}, "seeds": 8}, [])
    return folder


def _figure(iqm: float, low: float, high: float, trials: float | None = None) -> dict[str, float | None]:
    return {"iqm": iqm, "low": low, "high": high, "trials_to_95": trials}


def speedups_folder(folder: Path) -> Path:
    """What `experiments.tables` leaves, of two operators of which one was measured."""
    row = {"suite": "resnet18", "operator": "resnet18/1", "shape": "a shape", "ours_us": 10.0, "over_vendor": 1.5}
    row |= {"over_vendor_low": 1.4, "over_vendor_high": 1.6, "over_plain_torch": 1.9, "over_tvm": None}
    bare = {**dict.fromkeys(row), "suite": "resnet18", "operator": "resnet18/2", "shape": "a shape"}
    group = {"group": "resnet18", "operators": 2, "over_vendor_measured": 1, "over_vendor_geomean": 1.5}
    group |= {"over_vendor_max": 1.5, "over_plain_torch_geomean": None, "over_tvm_geomean": None}
    paper = {"what": "a single convolution", "paper": 5.4, "over": "cuDNN", "here": "", "measured": None}
    summary = {"groups": [group], "paper": [paper], "operators": [row, bare], "device_name": INFO.name}
    _write(folder, summary, ["suites=[resnet18]"])
    return folder


def _write(folder: Path, summary: dict[str, Any], overrides: list[str]) -> None:
    (folder / ".hydra").mkdir(parents=True, exist_ok=True)
    (folder / ".hydra" / "overrides.yaml").write_text(json.dumps(overrides))
    (folder / "summary.json").write_text(json.dumps(summary))
