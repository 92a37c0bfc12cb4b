"""Where candidates are compiled, checked and timed."""

from __future__ import annotations

from typing import Any

from wpk_envs.core import Device
from wpk_envs.errors import UserError, unknown

DEVICES = ("auto", "cpu")
NOT_YET = ("cuda", "p100", "gtx", "rtx", "nvidia")

__all__ = ["DEVICES", "open_device"]


def open_device(
    name: str = "auto",
    threads: int = 1,
    workers: int | None = None,
    deadline: float | None = None,
    memory_gib: float | None = None,
) -> Device:
    """Open a device by name; its worker processes start in the background.

    Args:
        name: ``"cpu"``, or ``"auto"`` for the fastest device that this suite supports here.
        threads: Threads of one kernel (CPU).
        workers: Candidates measured at the same time; as many as the cores allow if none.
        deadline: Seconds that one candidate may take; the device's own default if none.
        memory_gib: Memory that one candidate may take; the device's own default if none.

    Raises:
        UserError: For an unknown device, or settings that this host cannot have.
    """
    if any(str(name).lower().startswith(prefix) for prefix in NOT_YET):
        raise UserError(f"device '{name}' is not available yet, only the CPU is: use device=cpu or device=auto")
    if name not in DEVICES:
        raise unknown("device", name, DEVICES)
    from wpk_envs.devices.cpu import CpuDevice

    given: dict[str, Any] = {"deadline": deadline, "memory_gib": memory_gib}
    return CpuDevice(threads, workers, **{key: value for key, value in given.items() if value is not None})
