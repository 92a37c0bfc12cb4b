"""The build of one bundle: compile what is missing, write it, check some of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from experiments import progress, summary
from experiments.planning import Planned, entry_of, failure_of
from experiments.unfinished import Unfinished
from wpk_envs.core import DeviceInfo, Operator
from wpk_envs.devices.cuda.builder import BuildCandidate, Built
from wpk_envs.devices.cuda.bundle import Bundle, Entry
from wpk_envs.devices.cuda.bundle_server import Checked, Interpret, checkable
from wpk_envs.devices.cuda.misbehaving import misbehaving_entries
from wpk_envs.devices.host import memory_allowance
from wpk_envs.devices.messages import Failure, Refusal, Start
from wpk_envs.devices.pool import WorkerPool
from wpk_envs.errors import UserError

SERVER = "wpk_envs.devices.cuda.bundle_server:BundleServer"
MEMORY_GIB = 4.0
COMPILE_SECONDS, INTERPRET_SECONDS = 120.0, 300.0
"""Deadlines of one candidate."""


@dataclass(frozen=True)
class BuildSettings:
    """What a build was asked to do.

    Attributes:
        device: What kernels are made for.
        operators: By name.
        bundle: The file.
        configs: Kernels in all.
        acceptance: Whether the bundle is for checking a GPU.
        check: Kernels that are interpreted.
        workers: Processes that compile.
        seed: Of the choice of configs.
        image: What GPUs load, or the text that interpreters run.
    """

    device: DeviceInfo
    operators: Mapping[str, Operator]
    bundle: Path
    configs: int
    acceptance: bool
    check: int
    workers: int
    seed: int
    image: Literal["cubin", "ptx"] = "cubin"


class BundleBuild:
    """The build of one bundle: what is compiled, and what came of it.

    Args:
        settings: What was asked for.
        planned: The candidates, in the order in which they are built.
        console: For progress.
    """

    def __init__(self, settings: BuildSettings, planned: Sequence[Planned], console: Console) -> None:
        self.settings = settings
        self.planned = {each.candidate.key: each for each in planned}
        self.console = console
        self.unfinished = Unfinished(settings.bundle, settings.device, settings.device.versions)
        memory = memory_allowance(MEMORY_GIB, settings.workers)
        start = Start(SERVER, {"image": settings.image, "memory_bytes": memory})
        self.pool = WorkerPool([start] * settings.workers)
        self.bundle: Bundle | None = None
        self.built, self.seconds = 0, 0.0
        self.checks: dict[str, Checked] = {}

    def compile(self) -> None:
        """Compile what an earlier go has not compiled; the clock starts with the first worker."""
        waiting = [each for each in self.planned.values() if each.candidate not in self.unfinished]
        if not waiting:
            return
        self.pool.warm_up()
        self.console.print(f"compiling {len(waiting)} kernels for {self.settings.device.name}", highlight=False)
        assert self.pool.info is not None
        started = time.perf_counter()
        with progress.Steps(self.console, "compiled", len(waiting)) as steps:

            def take(position: int, reply: Any) -> None:
                self._keep(waiting[position], reply)
                self.built, self.seconds = self.built + 1, time.perf_counter() - started
                steps.step(f"{self.per_minute:.0f} a minute, {len(self.unfinished.failed)} failed")

            device = self.settings.device
            self.pool.run([BuildCandidate(each.candidate, device) for each in waiting], COMPILE_SECONDS, take)

    def _keep(self, planned: Planned, reply: Any) -> None:
        if isinstance(reply, Refusal):
            raise UserError(reply.message)
        if isinstance(reply, Failure):
            self.unfinished.add_failure(failure_of(planned, reply))
        else:
            assert isinstance(reply, Built)
            self.unfinished.add(entry_of(planned, reply))

    def finish(self) -> None:
        """Write the bundle, if there is anything to write; once."""
        if self.bundle is None and self.unfinished.entries:
            settings = self.settings
            self.bundle = self.unfinished.finish(
                list(self.planned),
                misbehaving_entries(settings.device, settings.image) if settings.acceptance else (),
                device=settings.device,
                versions=dict(settings.device.versions),
                created=summary.now(),
                seed=settings.seed,
                acceptance=settings.acceptance,
            )

    def interpret(self) -> None:
        """Run the most valuable kernels through the PTX interpreter."""
        chosen = [entry for entry in self._entries() if checkable(entry.program, entry.executed_flops)]
        chosen = chosen[: self.settings.check]
        if not chosen:
            return
        device = self.settings.device
        requests = [Interpret(self.planned[entry.candidate].candidate, device, entry.image) for entry in chosen]
        with progress.Steps(self.console, "interpreted", len(chosen)) as steps:

            def take(position: int, reply: Any) -> None:
                if isinstance(reply, Refusal):
                    raise UserError(reply.message)
                if isinstance(reply, Failure):
                    reply = Checked(0, 0, None, f"{reply.error}: {reply.message}")
                self.checks[chosen[position].candidate] = reply
                steps.step(f"{sum(bool(check.problem) for check in self.checks.values())} wrong")

            self.pool.run(requests, INTERPRET_SECONDS, take)

    def close(self) -> None:
        """End the workers; what is not in the bundle stays beside it."""
        self.pool.close()
        self.unfinished.close()

    @property
    def per_minute(self) -> float:
        """Candidates a minute through scheduling, lowering, NVRTC and ptxas, without the start of the workers."""
        return 60 * self.built / self.seconds if self.seconds else 0.0

    def figures(self) -> dict[str, Any]:
        """The summary's figures; those of compiled kernels count what was planned now, earlier goes included."""
        settings, entries = self.settings, list(self._entries())
        failures = [each for key, each in self.unfinished.failed.items() if key in self.planned]
        wrong = {key: check for key, check in self.checks.items() if check.problem}
        return {
            "stage": "build",
            "arch": settings.device.target["arch"],
            "device_name": settings.device.name,
            "configs": len(self.planned),
            "compiled": len(entries),
            "failed": len(failures),
            "spilled": sum(entry.spills for entry in entries),
            "local_memory": sum(entry.program.local_bytes > 0 and not entry.spills for entry in entries),
            "ptx_checked": len(self.checks),
            "ptx_wrong": len(wrong),
            "ptx_whole": sum(check.blocks == check.grid for check in self.checks.values()),
            "per_minute": self.per_minute,
            "bundle": str(settings.bundle),
            "bundle_bytes": settings.bundle.stat().st_size if self.bundle else 0,
            "acceptance": settings.acceptance,
            "built_now": self.built,
            "workers": settings.workers,
            "seed": settings.seed,
            "operators": dict(Counter(entry.name for entry in entries)),
            "templates": _by_template(entries),
            "failures": failures,
            "wrong": [self._named(key) | {"problem": check.problem} for key, check in wrong.items()],
            "versions": dict(settings.device.versions),
        }

    def _entries(self) -> Iterator[Entry]:
        """The planned kernels that were compiled, in the bundle's order."""
        found = self.bundle.entries if self.bundle else ()
        return (entry for entry in found if entry.candidate in self.planned)

    def _named(self, key: str) -> dict[str, Any]:
        planned = self.planned[key]
        return {"name": planned.name, "config": dict(planned.candidate.config)}


def _by_template(entries: Sequence[Entry]) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {}
    for entry in entries:
        counts = found.setdefault(entry.template, Counter(compiled=0, spilled=0, local_memory=0))
        counts["compiled"] += 1
        counts["spilled"] += entry.spills
        counts["local_memory"] += entry.program.local_bytes > 0 and not entry.spills
    return {template: dict(counts) for template, counts in found.items()}
