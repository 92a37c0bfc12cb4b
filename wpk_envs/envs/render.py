"""Schedules as text."""

from __future__ import annotations

from collections.abc import Sequence

from wpk_envs.schedules.space import ScheduleSpace


def schedule_text(space: ScheduleSpace, prefix: Sequence[int]) -> str:
    """The options chosen so far, and for a complete valid config the TensorIR script (imports TVM)."""
    lines = [f"{space.operator.label} on {space.device.name}"]
    lines += [f"  {name} = {value}" for name, value in space.decode(prefix).items()]
    if len(prefix) < space.length:
        knob = space.encoding.knobs[len(prefix)]
        allowed = [str(option) for option, ok in zip(knob.options, space.mask(prefix)) if ok]
        lines.append(f"  next: {knob.name} ({knob.doc}), one of {', '.join(allowed) or 'nothing'}")
    elif space.is_valid(prefix):
        candidate = space.candidate(prefix)
        kernel = candidate.template.kernel(candidate.operator, candidate.config, space.device)
        lines.append(kernel.module.script())
    return "\n".join(lines)
