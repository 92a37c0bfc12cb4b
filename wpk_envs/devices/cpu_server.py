"""What answers in a CPU device's workers: compiles, checks and times candidates there."""

from __future__ import annotations

import sys
from typing import Any

from wpk_envs.core import DeviceInfo
from wpk_envs.devices.messages import FindCeilings, MeasureCandidate, RaceBaselines


class CpuServer:
    """Answers requests in this process.

    Args:
        threads: Threads of one kernel.
        memory_bytes: Memory that this process may use on top of what it needs to start.

    Raises:
        UserError: If this host has no compiler target.
    """

    def __init__(self, threads: int, memory_bytes: int) -> None:
        import torch

        from wpk_envs.devices.host import cpu_info
        from wpk_envs.devices.measuring import Workbench

        torch.set_num_threads(threads)
        self.info: DeviceInfo = cpu_info(threads)
        self._bench = Workbench(self.info)
        self._inference_mode = torch.inference_mode
        limit_memory(memory_bytes)

    def serve(self, request: Any) -> Any:
        """Measure a candidate, race baselines or find the ceilings."""
        with self._inference_mode():
            if isinstance(request, MeasureCandidate):
                return self._bench.measure(request)
            if isinstance(request, RaceBaselines):
                from wpk_envs.devices.baseline import race

                return race(request.operator, self.info.threads)
            if isinstance(request, FindCeilings):
                from wpk_envs.devices.ceilings import measure_ceilings

                return measure_ceilings(self.info)
        raise TypeError(f"unknown request {request!r}")


def limit_memory(extra_bytes: int) -> None:
    """Let this process allocate no more than so much on top of what it has now (Linux)."""
    import resource

    import psutil

    if not sys.platform.startswith("linux"):
        return
    now = psutil.Process().memory_info().data
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = now + extra_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard < 0 else min(wanted, hard), hard))
