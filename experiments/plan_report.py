"""What ``python -m experiments.plan`` tells of a plan: figures, and a report for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from wpk_envs.files import write_whole
from wpk_envs.planner.assembly import Assembly
from wpk_envs.planner.framework import framework_nodes
from wpk_envs.planner.graph import Graph
from wpk_envs.planner.passes import PassReport
from wpk_envs.planner.planning import Planned
from wpk_envs.planner.swapping import Standing

PICTURE = "plan.png"
"""The picture beside the report, see `plan_plot`."""

MOST_ERRORS = 5
"""Steps whose errors the report lists."""


def figures(planned: Planned, reports: Sequence[PassReport], imported: Graph, notes: Sequence[str]) -> dict[str, Any]:
    """A plan's own figures, as plain data."""
    draft, memory = planned.draft, planned.draft.memory
    return {
        "operators_imported": len(imported.nodes),
        "operators_planned": len(draft.assembly.graph.nodes),
        "calls": len(draft.assembly.steps),
        "passes": [
            {
                "name": each.name,
                "what": each.description,
                "before": each.operators_before,
                "after": each.operators_after,
            }
            for each in reports
        ],
        "layouts": {"chosen": draft.name, "latency_us": dict(planned.latencies_us)},
        "memory": {"peak_bytes": memory.bytes, "unshared_bytes": memory.unshared_bytes},
        "max_abs_error": planned.max_abs_error,
        "step_errors": [
            {"step": each.step, "choice": each.label, "relative_error": each.error} for each in planned.step_errors
        ],
        "dropped": dict(planned.dropped),
        "steps": [step.node.name for step in draft.assembly.steps],
        "operators": [_operator(standing, draft.assembly) for standing in draft.standings],
        "framework": [{"step": name, "operator": target} for name, target in framework_nodes(draft.assembly.graph)],
        "notes": list(notes),
    }


def _operator(standing: Standing, assembly: Assembly) -> dict[str, Any]:
    """What won at the steps of one case, by how much, and what the second was."""
    operations = {step.node.name: step.node.op for step in assembly.steps}
    first, *others = zip(standing.candidates, standing.latencies_us)
    second = others[0] if others else None
    return {
        "steps": list(standing.steps),
        "operation": operations[standing.steps[0]],
        "layouts": f"{', '.join(first[0].inputs)} -> {', '.join(first[0].outputs)}",
        "choice": first[0].label,
        "provider": first[0].provider,
        "latency_us": first[1],
        "runner_up": None if second is None else second[0].label,
        "runner_up_us": None if second is None else second[1],
        "gain": None if second is None else second[1] / first[1],
    }


def write(folder: Path, model: str, found: Mapping[str, Any], device: str) -> None:
    """Write ``report.md`` into a folder."""
    write_whole(folder / "report.md", report(model, found, device).encode())


def report(model: str, found: Mapping[str, Any], device: str) -> str:
    """The report as GitHub's Markdown."""
    memory = found["memory"]
    shared, apart = (f"{memory[key] / 2**20:.1f} MiB" for key in ("peak_bytes", "unshared_bytes"))
    parts = [
        f"# The plan of {model}",
        f"{device}. {found['calls']} calls; {shared} of buffers ({apart} without sharing).",
        *_beside_peers(found),
        *(["\n".join(f"- {_sentence(note)}" for note in found["notes"])] if found["notes"] else []),
        f"![What each step takes]({PICTURE})",
        "## Operators",
        _table(_OPERATORS, [_cells(each) for each in found["operators"]]),
        "## Layouts",
        _table(("allowed", "us"), [(name, f"{took:.0f}") for name, took in found["layouts"]["latency_us"].items()]),
        "## Graph optimisation",
        _table(_PASSES, [(each["name"], each["before"], each["after"], each["what"]) for each in found["passes"]]),
        "## Errors",
        f"Outputs differ from the framework's by {found['max_abs_error']:.1e} at most. The steps that err most, "
        "each of the inputs that it gets, relative to its largest output:",
        _table(_ERRORS, [
            (each["step"], each["choice"], f"{each['relative_error']:.1e}")
            for each in found["step_errors"][:MOST_ERRORS]
        ]),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _beside_peers(found: Mapping[str, Any]) -> list[str]:
    if found.get("ratio_to_fastest_peer") is None:
        return []
    return [
        f"{found['plan_us']:.0f} us, {found['ratio_to_fastest_peer']:.2f} times as fast as the fastest peer "
        f"({found['fastest_peer']}; 95% interval {found['ratio_low']:.2f} to {found['ratio_high']:.2f})."
    ]


_OPERATORS = ("operators", "choice", "layouts", "us", "runner-up", "us", "gain")
_PASSES = ("pass", "operators before", "after", "what it does")
_ERRORS = ("step", "choice", "relative error")


def _table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    return tabulate(rows, headings, tablefmt="github", disable_numparse=True)


def _cells(row: Mapping[str, Any]) -> list[str]:
    steps = row["steps"]
    name = steps[0] if len(steps) == 1 else f"{steps[0]} and {len(steps) - 1} more"
    cells = [name, row["choice"], row["layouts"], f"{row['latency_us']:.1f}"]
    if row["runner_up"] is None:
        return [*cells, "", "", ""]
    return [*cells, row["runner_up"], f"{row['runner_up_us']:.1f}", f"{row['gain']:.2f}x"]
