"""Tiny GEMM templates for device tests: one that behaves, and one for every way of misbehaving."""

from __future__ import annotations

import os
import time
from typing import ClassVar

import numpy as np

from wpk_envs.core import Argument, Candidate, Config, Constraint, DeviceInfo, Kernel, Operator, Template
from wpk_envs.operators import Gemm

OPERATOR = Gemm(m=32, n=64, k=48)


class PlainGemm(Template):
    """Rows times columns with the columns vectorised; ``tile`` says into how many rows a block is split."""

    name: ClassVar[str] = "cpu/plain"
    version: ClassVar[int] = 1
    knobs: ClassVar[tuple[str, ...]] = ("tile",)

    def fits(self, operator: Operator, device: DeviceInfo) -> bool:
        return isinstance(operator, Gemm) and operator.batch == 1

    def constraints(self, operator: Operator, device: DeviceInfo) -> list[Constraint]:
        return []

    def kernel(self, operator: Operator, config: Config, device: DeviceInfo) -> Kernel:
        import tvm
        from tvm import te

        assert isinstance(operator, Gemm)
        m, n, k = operator.m, operator.n, operator.k
        a, b = te.placeholder((m, k), name="A"), te.placeholder((k, n), name="B")
        axis = te.reduce_axis((0, k), "k")
        c = te.compute((m, n), lambda i, j: te.sum(a[i, axis] * b[axis, j], axis=axis), name="C")
        schedule = tvm.s_tir.Schedule(te.create_prim_func([a, b, c]))
        block = schedule.get_sblock("C")
        i, j, r = schedule.get_loops(block)
        schedule.split(i, [None, int(config["tile"])])
        schedule.reorder(r, j)
        schedule.vectorize(j)
        schedule.decompose_reduction(block, r)
        return Kernel(
            module=schedule.mod,
            arguments=(
                Argument("a", (m, k), "MK", lambda x: x[0]),
                Argument("b", (k, n), "KN", lambda x: x[0]),
                Argument("output", (m, n), "MN", self.unpack),
            ),
        )

    def unpack(self, out: np.ndarray) -> np.ndarray:
        return out[None]

    def executed_flops(self, operator: Operator, config: Config) -> float:
        return operator.flops

    def static_features(self, operator: Operator, partial: Config, device: DeviceInfo) -> tuple[float, float, float]:
        return 0.0, 0.0, 0.0


class Raises(PlainGemm):
    name = "cpu/raises"

    def kernel(self, operator: Operator, config: Config, device: DeviceInfo) -> Kernel:
        raise ValueError("this schedule cannot be built")


class Aborts(PlainGemm):
    name = "cpu/aborts"

    def kernel(self, operator: Operator, config: Config, device: DeviceInfo) -> Kernel:
        os.abort()


class Exits(PlainGemm):
    name = "cpu/exits"

    def kernel(self, operator: Operator, config: Config, device: DeviceInfo) -> Kernel:
        os._exit(7)


class Hangs(PlainGemm):
    name = "cpu/hangs"

    def kernel(self, operator: Operator, config: Config, device: DeviceInfo) -> Kernel:
        while True:
            time.sleep(1)


class EatsMemory(PlainGemm):
    name = "cpu/eats_memory"

    def kernel(self, operator: Operator, config: Config, device: DeviceInfo) -> Kernel:
        held = []
        while True:
            held.append(np.ones(1 << 25))  # 256 MiB, touched


class OffByABit(PlainGemm):
    name = "cpu/off_by_a_bit"

    def unpack(self, out: np.ndarray) -> np.ndarray:
        return out[None] + 1e-3 * np.abs(out).max()


class WrongShape(PlainGemm):
    name = "cpu/wrong_shape"

    def unpack(self, out: np.ndarray) -> np.ndarray:
        return out


class TooFast(PlainGemm):
    """Claims more arithmetic than any core does."""

    name = "cpu/too_fast"

    def executed_flops(self, operator: Operator, config: Config) -> float:
        return 1e6 * operator.flops


class _Scripted(PlainGemm):
    """A template whose kernel is TVMScript instead of a schedule."""

    def script(self, m: int, n: int, k: int):
        raise NotImplementedError

    def kernel(self, operator: Operator, config: Config, device: DeviceInfo) -> Kernel:
        import tvm

        plain = super().kernel(operator, config, device)
        assert isinstance(operator, Gemm)
        main = self.script(operator.m, operator.n, operator.k)
        return Kernel(tvm.IRModule({"main": main}), plain.arguments)


class WritesNothing(_Scripted):
    """Leaves the last row of its output as it was."""

    name = "cpu/writes_nothing"

    def script(self, m: int, n: int, k: int):
        from tvm.script import tirx as tir

        @tir.prim_func(s_tir=True)
        def main(a: tir.Buffer((m, k), "float32"), b: tir.Buffer((k, n), "float32"), c: tir.Buffer((m, n), "float32")):
            for i, j in tir.grid(m - 1, n):
                with tir.sblock("c"):
                    vi, vj = tir.axis.remap("SS", [i, j])
                    c[vi, vj] = a[vi, 0] * b[0, vj]

        return main


class LoopsForever(_Scripted):
    """Compiles well and then runs for hours."""

    name = "cpu/loops_forever"

    def script(self, m: int, n: int, k: int):
        from tvm.script import tirx as tir

        @tir.prim_func(s_tir=True)
        def main(a: tir.Buffer((m, k), "float32"), b: tir.Buffer((k, n), "float32"), c: tir.Buffer((m, n), "float32")):
            for again, i, j in tir.grid(1 << 30, m, n):
                with tir.sblock("c"):
                    _vr, vi, vj = tir.axis.remap("RSS", [again, i, j])
                    with tir.init():
                        c[vi, vj] = 0.0
                    c[vi, vj] = c[vi, vj] * a[vi, 0] + b[0, vj]

        return main


class WritesOutOfBounds(_Scripted):
    """Writes far behind its output."""

    name = "cpu/writes_out_of_bounds"

    def script(self, m: int, n: int, k: int):
        from tvm.script import tirx as tir

        @tir.prim_func(s_tir=True)
        def main(a: tir.Buffer((m, k), "float32"), b: tir.Buffer((k, n), "float32"), c: tir.Buffer((m, n), "float32")):
            for i, j in tir.grid(m, n):
                with tir.sblock("c"):
                    vi, vj = tir.axis.remap("SS", [i, j])
                    c[vi + (1 << 24), vj] = a[vi, 0] * b[0, vj]

        return main


class HugeWorkspace(_Scripted):
    """Asks for 4 GiB when it runs."""

    name = "cpu/huge_workspace"

    def script(self, m: int, n: int, k: int):
        from tvm.script import tirx as tir

        huge = 1 << 20

        @tir.prim_func(s_tir=True)
        def main(a: tir.Buffer((m, k), "float32"), b: tir.Buffer((k, n), "float32"), c: tir.Buffer((m, n), "float32")):
            held = tir.sblock_alloc_buffer((huge, 1024), "float32")
            for i, j in tir.grid(huge, 1024):
                with tir.sblock("held"):
                    vi, vj = tir.axis.remap("SS", [i, j])
                    held[vi, vj] = a[0, 0]
            for i, j in tir.grid(m, n):
                with tir.sblock("c"):
                    vi, vj = tir.axis.remap("SS", [i, j])
                    c[vi, vj] = held[vi * 1000, vj] * b[0, vj]

        return main


def candidate(template: type[PlainGemm] = PlainGemm, tile: int = 1, operator: Operator = OPERATOR) -> Candidate:
    """A candidate of a test template."""
    return Candidate(operator, template(), {"template": template.name.split("/")[-1], "tile": tile})
