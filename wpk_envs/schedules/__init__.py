"""How operators may be computed: schedule spaces and the templates that fill them."""

from __future__ import annotations

from collections.abc import Sequence

from wpk_envs.core import Config, DeviceInfo, Operator, Template
from wpk_envs.errors import unknown
from wpk_envs.schedules.listed import ListedSpace
from wpk_envs.schedules.reductions import REDUCTIONS
from wpk_envs.schedules.space import Encoding, ScheduleSpace

__all__ = ["Encoding", "ListedSpace", "ScheduleSpace", "build_space", "encoding_for", "templates_for"]


def templates_for(device_kind: str) -> tuple[Template, ...]:
    """All templates of a device kind."""
    return _kind(device_kind)[0]


def encoding_for(device_kind: str) -> Encoding:
    """The knobs of a device kind."""
    return _kind(device_kind)[1]


def build_space(
    operator: Operator,
    device: DeviceInfo,
    templates: Sequence[str] | None = None,
    reduction: str = "full",
    among: Sequence[Config] | None = None,
) -> ScheduleSpace:
    """Build the space of every template that fits an operator on a device.

    Args:
        operator: What is computed.
        device: Where; its kind chooses templates and encoding.
        templates: Names to keep, such as ``["direct_conv"]``; all if none.
        reduction: A name of `REDUCTIONS`, whose shorter option lists hold.
        among: The only configs that there are, such as `Device.configs`; all that are valid if none.

    Raises:
        UserError: If a name is unknown, or no template fits.
    """
    if reduction not in REDUCTIONS:
        raise unknown("space", reduction, REDUCTIONS)
    known, encoding = _kind(device.kind)
    by_name = {template.name.split("/")[-1]: template for template in known}
    for name in templates or ():
        if name not in by_name:
            raise unknown("template", name, by_name)
    chosen = [by_name[name] for name in templates] if templates else list(known)
    if among is not None:
        return ListedSpace(operator, device, chosen, encoding, among)
    return ScheduleSpace(operator, device, chosen, encoding, REDUCTIONS[reduction])


def _kind(device_kind: str) -> tuple[tuple[Template, ...], Encoding]:
    if device_kind == "cpu":
        from wpk_envs.schedules.cpu import CPU_ENCODING, CPU_TEMPLATES

        return CPU_TEMPLATES, CPU_ENCODING
    if device_kind == "cuda":
        from wpk_envs.schedules.cuda import CUDA_ENCODING, CUDA_TEMPLATES

        return CUDA_TEMPLATES, CUDA_ENCODING
    raise unknown("device kind", device_kind, ["cpu", "cuda"])
