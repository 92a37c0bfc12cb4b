"""Kernels that misbehave on purpose, for the acceptance of a GPU: whatever runs them must notice and live on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from wpk_envs.core import Argument, DeviceInfo, stable_hash
from wpk_envs.devices.cuda.bundle import Entry
from wpk_envs.devices.cuda.program import Launch, Program
from wpk_envs.devices.cuda.toolchain import compile_source
from wpk_envs.operators import Gemm
from wpk_envs.packing import Packing

OPERATOR = Gemm(m=8, n=32, k=16)

_SIGNATURE = 'extern "C" __global__ void kernel(const float* a, const float* b, float* output)'
_PRODUCT = """
  float total = 0.0f;
  for (int k = 0; k < 16; ++k) total += a[blockIdx.x * 16 + k] * b[k * 32 + threadIdx.x];
  int place = blockIdx.x * 32 + threadIdx.x;
"""


@dataclass(frozen=True)
class Misbehaviour:
    """One kernel.

    Attributes:
        name: What it does.
        expected: One of `wpk_envs.devices.cuda.bundle.EXPECTED`.
        body: What follows the product, which is in ``total`` and belongs to ``output[place]``.
    """

    name: str
    expected: str
    body: str


MISBEHAVIOURS = (
    Misbehaviour("behaves", "correct", "output[place] = total;"),
    Misbehaviour("is wrong by a thousandth", "wrong", "output[place] = total * 1.001f + 0.001f;"),
    Misbehaviour("is wrong in one element", "wrong", "output[place] = place == 77 ? total + 1.0f : total;"),
    Misbehaviour("leaves one element unwritten", "wrong", "if (place != 99) output[place] = total;"),
    Misbehaviour("gives NaN", "wrong", "output[place] = __int_as_float(0x7fffffff);"),
    Misbehaviour("writes far out of bounds", "crash", "output[place + (1ll << 40)] = total;"),
    Misbehaviour(
        "writes right behind its output", "crash", "output[place] = total; if (place == 255) output[256] = 1;"
    ),
    Misbehaviour("writes into its input's surroundings", "crash", "output[place] = total; ((float*)a)[-1] = total;"),
    Misbehaviour("reads far out of bounds", "crash", "output[place] = total + a[place + (1ll << 40)];"),
    Misbehaviour("writes to a misaligned address", "crash", "*(float*)((char*)(output + place) + 1) = total;"),
    Misbehaviour("never ends", "endless", 'output[place] = total; for (;;) asm volatile("");'),
)


def misbehaving_entries(device: DeviceInfo, image: Literal["cubin", "ptx"] = "cubin") -> Iterator[Entry]:
    """Compile every one of them for a device.

    Args:
        device: The GPU.
        image: What a program's image is to be: machine code, or the text that interpreters run.

    Raises:
        UserError: If the CUDA toolchain is missing or does not compile for the device.
    """
    for each in MISBEHAVIOURS:
        yield _entry(each, str(device.target["arch"]), image)


def _entry(misbehaviour: Misbehaviour, arch: str, image: str) -> Entry:
    config = {"template": "misbehaving", "kernel": misbehaviour.name}
    return Entry(
        name=misbehaviour.name,
        operator=OPERATOR,
        template="cuda/misbehaving",
        template_version=1,
        config=config,
        candidate=stable_hash([OPERATOR.to_dict(), ["cuda/misbehaving", 1], config]),
        tolerance=2e-5,
        executed_flops=float(OPERATOR.flops),
        program=_program(source_of(misbehaviour), arch, image),
        expected=misbehaviour.expected,
    )


def source_of(misbehaviour: Misbehaviour) -> str:
    """The kernel's CUDA source."""
    return f"{_SIGNATURE} {{{_PRODUCT}  {misbehaviour.body}\n}}\n"


def _program(source: str, arch: str, image: str) -> Program:
    compiled = compile_source(source, arch)
    return Program(
        arch=arch,
        image=compiled.ptx.encode() if image == "ptx" else compiled.cubin,
        launches=(Launch("kernel", (OPERATOR.m, 1, 1), (OPERATOR.n, 1, 1), ("a", "b", "output")),),
        arguments=(
            Argument("a", (8, 16), "MK", Packing().reshape(8, 16)),
            Argument("b", (16, 32), "KN", Packing().reshape(16, 32)),
            Argument("output", (8, 32), "MN", Packing().reshape(1, 8, 32)),
        ),
        workspaces={},
        resources=compiled.resources,
    )
