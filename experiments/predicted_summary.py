"""The figures of a run on a device that predicts: no key, row or column of them is one of a measurement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from experiments.finals import Final
from wpk_envs.core import Device, Operator

PREDICTED_KEYS = (
    "best_config",
    "predicted_latency_us",
    "predicted_baseline_us",
    "baseline_name",
    "predicted_speedup",
    "confidence",
    "roofline_us",
    "percent_of_roofline",
    "predicted_gflops",
    "predicted_percent_of_peak",
    "details",
)
"""What a run without any result has null for."""

SUITE_COLUMNS = (
    "operator",
    "occurs",
    "predicted latency us",
    "predicted baseline us",
    "predicted speedup",
    "of roofline (predicted)",
    "confidence",
    "template",
)


def prediction_figures(final: Final, operator: Operator, device: Device) -> dict[str, Any]:
    """What the winner is predicted to reach.

    ``roofline_us`` is the least time that the algorithm it chose could take on that GPU: its arithmetic at the peak,
    or its data once; ``percent_of_roofline`` is that over the predicted latency. ``predicted_gflops`` counts the
    operator's nominal operations, ``predicted_percent_of_peak`` those that the algorithm executes.
    """
    measurement, candidate = final.measurement, final.candidate
    latency = measurement.predicted_latency_us
    assert latency is not None, "a device that predicts gave no prediction"
    executed = candidate.template.executed_flops(operator, candidate.config)
    roofline = measurement.details.get("roofline_us")
    return {
        "best_config": dict(candidate.config),
        "predicted_latency_us": latency,
        "predicted_baseline_us": measurement.predicted_baseline_us,
        "baseline_name": measurement.baseline_name or None,
        "predicted_speedup": measurement.predicted_speedup,
        "confidence": measurement.confidence,
        "roofline_us": roofline,
        "percent_of_roofline": None if roofline is None else 100 * roofline / latency,
        "predicted_gflops": operator.flops / latency / 1e3,
        "predicted_percent_of_peak": 100 * executed / (latency * 1e3) / device.peak_gflops(),
        "details": dict(measurement.details),
    }


def sentence(summary: Mapping[str, Any]) -> str:
    """One operator's result, such as ``predicted 31.2 us, 1.9x the default schedule (predicted), 61% of ...``."""
    parts = [f"predicted {summary['predicted_latency_us']:.1f} us"]
    if summary["predicted_speedup"] is not None:
        parts.append(f"{summary['predicted_speedup']:.2f}x the {summary['baseline_name']}")
    if summary["percent_of_roofline"] is not None:
        template = summary["best_config"]["template"]
        parts.append(f"{summary['percent_of_roofline']:.0f}% of the roofline of {template}")
    return f"{', '.join(parts)}; confidence {summary['confidence']}"


def rows(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The rows of one operator's table that hold what is predicted."""
    yield "predicted latency", f"{summary['predicted_latency_us']:.1f} us"
    if summary["predicted_speedup"] is None:
        yield "predicted speedup", "missing: the default schedule could not be predicted"
    else:
        yield f"predicted speedup over {summary['baseline_name']}", f"{summary['predicted_speedup']:.2f}x"
    yield "confidence of the prediction", summary["confidence"]
    if summary["percent_of_roofline"] is not None:
        roofline = f"{summary['percent_of_roofline']:.0f}% of {summary['roofline_us']:.1f} us"
        yield "roofline of the algorithm, reached as predicted", roofline
    yield "predicted GFLOP/s (nominal)", f"{summary['predicted_gflops']:.1f}"
    yield "predicted peak in use", f"{summary['predicted_percent_of_peak']:.0f}%"


def suite_row(table: Table, entry: Mapping[str, Any]) -> None:
    """Add one member of a suite to a table with `SUITE_COLUMNS`."""
    cells = [*["-"] * 5, "no result"]
    if entry["predicted_latency_us"] is not None:
        figures = {
            "predicted_latency_us": ".1f",
            "predicted_baseline_us": ".1f",
            "predicted_speedup": ".2f",
            "percent_of_roofline": ".0f",
        }
        units = {"predicted_speedup": "x", "percent_of_roofline": "%"}
        cells = [
            "-" if entry[key] is None else f"{entry[key]:{form}}{units.get(key, '')}" for key, form in figures.items()
        ]
        cells += [entry["confidence"], str(entry["best_config"]["template"])]
    table.add_row(entry["op"], str(entry["count"]), *cells)
