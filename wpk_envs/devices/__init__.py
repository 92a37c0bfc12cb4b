"""Where candidates are compiled, checked and timed."""

from __future__ import annotations

from typing import Any

from wpk_envs.core import Device
from wpk_envs.errors import UserError, unknown

SETTINGS: dict[str, tuple[str, ...]] = {
    "auto": ("threads", "workers", "deadline", "memory_gib"),
    "cpu": ("threads", "workers", "deadline", "memory_gib"),
    "cuda": ("gpus", "protocol", "tf32", "workers", "deadline"),
    "recorded": ("tables", "noise", "seed"),
}
"""The settings of each device that measures or has been measured on; `settings_of` has those of the others too."""

DEVICES = tuple(SETTINGS)

CONFIDENCES = ("any", "high")
"""What may be asked of predictions: any, or only those that the model is made for."""

__all__ = [
    "CONFIDENCES",
    "DEVICES",
    "SETTINGS",
    "check_measures",
    "check_name",
    "kind_of",
    "open_device",
    "settings_of",
]


def open_device(name: str = "auto", **settings: Any) -> Device:
    """Open a device by name; its processes start in the background.

    Args:
        name: ``"cpu"``, ``"cuda"`` for the NVIDIA GPUs here, or ``"auto"``: a GPU where one can be used,
            else the CPU; with a setting that only the CPU has, such as ``threads``, the CPU. Or the name of a GPU
            that has a description, such as ``"p100"``: what it takes there is predicted. Or ``"recorded"``: tables
            of measurements are played back.
        settings: Those of the device, see `settings_of` and `wpk_envs.devices.cpu.CpuDevice`,
            `wpk_envs.devices.cuda.live.CudaDevice`, `wpk_envs.devices.predicted.device.PredictedDevice` or
            `wpk_envs.devices.recorded.RecordedDevice`; one that is none has the device's own default.

    Raises:
        UserError: For an unknown device or setting, and for values that this host cannot have.
    """
    check_name(name)
    for key in settings:
        if key not in settings_of(name):
            raise unknown(f"setting of device {name}", key, settings_of(name))
    given = {key: value for key, value in settings.items() if value is not None}
    if name not in DEVICES:
        from wpk_envs.devices.predicted.device import PredictedDevice

        return PredictedDevice(name, **given)
    if name == "recorded":
        from wpk_envs.devices.recorded import RecordedDevice

        return RecordedDevice(**given)
    if kind_of(name, **given) == "cuda":
        from wpk_envs.devices.cuda.live import CudaDevice

        return CudaDevice(**given)
    from wpk_envs.devices.cpu import CpuDevice

    return CpuDevice(**given)


def kind_of(name: str, **settings: Any) -> str:
    """The kind, ``"cpu"`` or ``"cuda"``, of a device that measures.

    Args:
        name: ``"cpu"``, ``"cuda"`` or ``"auto"``.
        settings: As for `open_device`.
    """
    given = {key for key, value in settings.items() if value is not None}
    return "cuda" if name == "cuda" or (name == "auto" and given <= {*SETTINGS["cuda"]} and _has_gpu()) else "cpu"


def settings_of(name: str) -> tuple[str, ...]:
    """The settings that a device of that name can be opened with."""
    if name in DEVICES:
        return SETTINGS[name]
    from wpk_envs.devices.cuda import descriptions

    return ("confidence", "workers", "deadline", "model", "arch", *descriptions.LIMITS)


def check_name(name: str) -> None:
    """Raise `UserError` unless there is a device of that name."""
    if name in DEVICES:
        return
    from wpk_envs.devices.cuda import descriptions

    if name not in descriptions.names():
        raise unknown("device", name, [*DEVICES, *descriptions.names()])


def check_measures(name: str) -> None:
    """Raise `UserError` unless candidates are measured on a device of that name, neither predicted nor replayed."""
    check_name(name)
    if name == "recorded":
        raise UserError("device=recorded only replays, and this needs measurements: use device=cuda or device=cpu")
    if name not in DEVICES:
        raise UserError(f"device={name} only predicts, and this needs measurements: use device=cuda or device=cpu")


def _has_gpu() -> bool:
    from wpk_envs.devices.cuda.presence import usable

    return usable()
