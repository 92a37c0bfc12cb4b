"""CUDA source to PTX and cubin with NVRTC: no driver and no GPU needed.

NVRTC carries ptxas, so one call gives the PTX, the cubin and what each function needs. The library comes
from pip wheels (the extra ``cuda``). CUDA 12.9 is the last whose toolchain has Pascal and Volta.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

from wpk_envs.devices.cuda.program import Resources
from wpk_envs.errors import UserError

OPTIONS = ("-default-device", "--use_fast_math", "--ptxas-options=-v")
"""The same for every kernel, on the spot and in bundles: other flags would be another kernel."""

OLDEST = 60
LAST_FOR = {60: "12.9", 61: "12.9", 62: "12.9", 70: "12.9", 72: "12.9"}
"""The last CUDA toolchain that compiles for an architecture, where it was dropped since."""

_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


class CompileError(Exception):
    """CUDA source that NVRTC does not accept; the message is its log."""


@dataclass(frozen=True)
class Compiled:
    """What NVRTC made of a source.

    Attributes:
        ptx: Virtual assembly, which the interpreter executes.
        cubin: Machine code for one architecture.
        resources: What each function needs, by name.
    """

    ptx: str
    cubin: bytes
    resources: dict[str, Resources]


def compile_source(source: str, arch: str) -> Compiled:
    """Compile CUDA source for one architecture.

    Args:
        source: Functions marked ``extern "C" __global__``.
        arch: Such as ``"sm_60"``.

    Raises:
        UserError: If the toolchain is missing or has dropped the architecture.
        CompileError: If the source is refused.
    """
    check_arch(arch)
    nvrtc = _nvrtc()
    program = _checked(nvrtc.nvrtcCreateProgram(source.encode(), b"kernel.cu", 0, None, None))
    try:
        options = [f"--gpu-architecture={arch}".encode(), *(option.encode() for option in OPTIONS)]
        (result,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        log = _text(program, "ProgramLog")
        if result != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise CompileError(telling(log))
        return Compiled(_text(program, "PTX"), _bytes(program, "CUBIN"), resources_of(log))
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def check_arch(arch: str) -> None:
    """Raise `UserError` unless the toolchain compiles for an architecture."""
    match = re.fullmatch(r"sm_(\d+)a?", arch)
    if match is None:
        raise UserError(f"a GPU architecture is written like sm_60, not '{arch}'")
    number = int(match[1])
    if number < OLDEST:
        raise UserError(f"{arch} is too old: the oldest architecture that kernels are made for is sm_{OLDEST}")
    if number not in supported():
        has = LAST_FOR.get(number)
        raise UserError(
            f"CUDA toolchain {version()} does not compile for {arch}; install "
            + (f"the last one that does, nvidia-cuda-nvrtc-cu12=={has}.*" if has else "a newer nvidia-cuda-nvrtc")
        )


@functools.cache
def version() -> str:
    """Version of NVRTC, such as ``"12.9"``."""
    nvrtc = _nvrtc()
    result, major, minor = nvrtc.nvrtcVersion()
    _checked((result,))
    return f"{major}.{minor}"


@functools.cache
def supported() -> tuple[int, ...]:
    """Architectures that the installed NVRTC compiles for, as numbers."""
    return tuple(_checked(_nvrtc().nvrtcGetSupportedArchs()))


def telling(log: str) -> str:
    """The lines of a compiler's log that speak of errors; all of it if none does."""
    lines = [line.strip() for line in log.splitlines()]
    return "\n".join(line for line in lines if "error" in line) or log


def resources_of(log: str) -> dict[str, Resources]:
    """Read ptxas's verbose lines: what each function needs, by name."""
    starts = [*_ENTRY.finditer(log)]
    ends = [match.start() for match in starts[1:]] + [len(log)]
    return {match[1]: _resources(log[match.end() : end]) for match, end in zip(starts, ends)}


def _resources(lines: str) -> Resources:
    spills, used, shared = _SPILLS.search(lines), _USED.search(lines), _SHARED.search(lines)
    if spills is None or used is None:
        raise CompileError(f"ptxas's report has another form than expected: {lines.strip()}")
    stack, stored, loaded = (int(number) for number in spills.groups())
    return Resources(int(used[1]), int(shared[1]) if shared else 0, stack, stored + loaded)


@functools.cache
def _nvrtc() -> Any:
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError) as error:
        raise UserError(
            f"compiling for NVIDIA GPUs needs the CUDA toolchain ({error}); pip install 'wpk-envs[cuda]' installs it"
        ) from error
    return nvrtc


def _checked(answer: tuple[Any, ...]) -> Any:
    result, *values = answer
    if result != _nvrtc().nvrtcResult.NVRTC_SUCCESS:
        raise RuntimeError(f"NVRTC: {result}")
    return values[0] if values else None


def _bytes(program: Any, what: str) -> bytes:
    nvrtc = _nvrtc()
    buffer = b" " * _checked(getattr(nvrtc, f"nvrtcGet{what}Size")(program))
    _checked(getattr(nvrtc, f"nvrtcGet{what}")(program, buffer))
    return buffer


def _text(program: Any, what: str) -> str:
    return _bytes(program, what).rstrip(b"\0").decode()
