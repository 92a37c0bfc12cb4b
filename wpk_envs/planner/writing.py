"""Writing the plan that planning found."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from wpk_envs.core import DeviceInfo
from wpk_envs.devices.cuda.gpu import Gpu
from wpk_envs.planner import providers
from wpk_envs.planner.plan import save
from wpk_envs.planner.planning import Planned
from wpk_envs.planner.swapping import Standing
from wpk_envs.planner.validator import computing, validator


def write(folder: Path, planned: Planned, device: DeviceInfo, functions: Any, gpu: Gpu | None = None) -> str:
    """Write a plan into a folder; `wpk_envs.planner.load` reads it.

    Args:
        folder: A plan that it holds already is replaced.
        planned: What to write.
        device: What it was made for.
        functions: The kernels: `CompiledFunctions`, or for a GPU `CudaFunctions`.
        gpu: The device, if it is a GPU.

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
        "made_for": _made_for(computing(program["steps"]), device, gpu),
        "max_abs_error": planned.max_abs_error,
        "why": [why(standing) for standing in draft.standings],
        "program": program,
    }
    names = {step["settings"]["function"] for step in program["steps"] if step["provider"] in providers.COMPILED}
    return save(folder, header, draft.constants.arrays, {name: functions.built(name) for name in sorted(names)})


def _made_for(used: Collection[str], device: DeviceInfo, gpu: Gpu | None) -> dict[str, Any]:
    if gpu is None:
        return validator(used, device.threads)
    from wpk_envs.planner.cuda import presence

    return presence.made_for(gpu.info)


def why(standing: Standing) -> dict[str, Any]:
    """Why the steps of a case are computed as they are: what each candidate took in the running plan."""
    return {
        "steps": list(standing.steps),
        "candidates": [
            {"provider": offer.provider, "label": offer.label, "in_plan_us": latency, "alone_us": alone}
            for offer, latency, alone in zip(standing.candidates, standing.latencies_us, standing.alone_us)
        ],
    }
