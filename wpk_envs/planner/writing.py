"""Writing the plan that planning found."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from wpk_envs.core import DeviceInfo
from wpk_envs.planner import providers
from wpk_envs.planner.kernels.compiled import CompiledFunctions
from wpk_envs.planner.plan import save
from wpk_envs.planner.planning import Planned
from wpk_envs.planner.swapping import Standing
from wpk_envs.planner.validator import computing, validator


def write(folder: Path, planned: Planned, device: DeviceInfo, functions: CompiledFunctions) -> str:
    """Write a plan into a folder; `wpk_envs.planner.load` reads it.

    Args:
        folder: A plan that it holds already is replaced.
        planned: What to write.
        device: What it was made for.
        functions: The kernels.

    Returns:
        What the user should know of it, in a sentence; usually nothing.

    Raises:
        OSError: If the disk refuses.
        UserError: If it refuses the weights.
    """
    draft = planned.draft
    program = draft.described
    header = {
        "model": draft.assembly.graph.name,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "made_for": validator(computing(program["steps"]), device.threads),
        "max_abs_error": planned.max_abs_error,
        "why": [why(standing) for standing in draft.standings],
        "program": program,
    }
    names = {step["settings"]["function"] for step in program["steps"] if step["provider"] in providers.COMPILED}
    return save(folder, header, draft.constants.arrays, {name: functions.built(name) for name in sorted(names)})


def why(standing: Standing) -> dict[str, Any]:
    """Why the steps of a case are computed as they are: what each candidate took in the running plan."""
    return {
        "steps": list(standing.steps),
        "candidates": [
            {"provider": offer.provider, "label": offer.label, "in_plan_us": latency, "alone_us": alone}
            for offer, latency, alone in zip(standing.candidates, standing.latencies_us, standing.alone_us)
        ],
    }
