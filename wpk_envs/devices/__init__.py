"""Where candidates are compiled, checked and timed."""

from __future__ import annotations

from typing import Any

from wpk_envs.core import Device
from wpk_envs.errors import UserError, unknown

SETTINGS: dict[str, tuple[str, ...]] = {
    "auto": ("threads", "workers", "deadline", "memory_gib"),
    "cpu": ("threads", "workers", "deadline", "memory_gib"),
    "cuda": ("gpus", "protocol", "tf32", "workers", "deadline"),
}
"""The settings of each device."""

DEVICES = tuple(SETTINGS)

__all__ = ["DEVICES", "SETTINGS", "check_name", "open_device"]


def open_device(name: str = "auto", **settings: Any) -> Device:
    """Open a device by name; its processes start in the background.

    Args:
        name: ``"cpu"``, ``"cuda"`` for the NVIDIA GPUs here, or ``"auto"``: a GPU where one can be used,
            else the CPU; with a setting that only the CPU has, such as ``threads``, the CPU.
        settings: Those of the device, see `SETTINGS` and `wpk_envs.devices.cpu.CpuDevice` or
            `wpk_envs.devices.cuda.live.CudaDevice`; one that is none has the device's own default.

    Raises:
        UserError: For an unknown device or setting, and for values that this host cannot have.
    """
    check_name(name)
    for key in settings:
        if key not in SETTINGS[name]:
            raise unknown(f"setting of device {name}", key, SETTINGS[name])
    given = {key: value for key, value in settings.items() if value is not None}
    if name == "cuda" or (name == "auto" and given.keys() <= {*SETTINGS["cuda"]} and _has_gpu()):
        from wpk_envs.devices.cuda.live import CudaDevice

        return CudaDevice(**given)
    from wpk_envs.devices.cpu import CpuDevice

    return CpuDevice(**given)


def check_name(name: str) -> None:
    """Raise `UserError` unless candidates can be measured on a device of that name."""
    if name in DEVICES:
        return
    from wpk_envs.devices.cuda import descriptions

    if name not in descriptions.names():
        raise unknown("device", name, [*DEVICES, *descriptions.names()])
    raise UserError(
        f"device={name} is a GPU to compile for (python -m experiments.record stage=build device={name}), and "
        "predicted devices are not available yet: use device=cuda for the GPU at hand, or device=cpu"
    )


def _has_gpu() -> bool:
    from wpk_envs.devices.cuda.presence import usable

    return usable()
