"""Tiny GEMM templates for tests of GPU devices: one that behaves, and one for every way of misbehaving."""

from __future__ import annotations

import os
import time
from typing import Any, ClassVar

from wpk_envs.core import Argument, Candidate, Config, Constraint, DeviceInfo, Kernel, Operator, Template
from wpk_envs.operators import Gemm
from wpk_envs.packing import Packing

OPERATOR = Gemm(m=16, n=32, k=12)


class PlainGemm(Template):
    """A thread per column; ``tile`` says how many rows a block computes."""

    name: ClassVar[str] = "cuda/plain"
    version: ClassVar[int] = 1
    knobs: ClassVar[tuple[str, ...]] = ("tile",)
    unpack: ClassVar[Packing] = Packing().reshape(1, OPERATOR.m, OPERATOR.n)

    def fits(self, operator: Operator, device: DeviceInfo) -> bool:
        return isinstance(operator, Gemm) and operator.batch == 1

    def constraints(self, operator: Operator, device: DeviceInfo) -> list[Constraint]:
        return []

    def element(self, total: Any) -> Any:
        """What is written in the place of an element of the product."""
        return total

    def kernel(self, operator: Operator, config: Config, device: DeviceInfo) -> Kernel:
        import tvm
        from tvm import te

        assert isinstance(operator, Gemm)
        m, n, k = operator.m, operator.n, operator.k
        a, b = te.placeholder((m, k), name="a"), te.placeholder((k, n), name="b")
        axis = te.reduce_axis((0, k), "k")
        total = te.compute((m, n), lambda i, j: te.sum(a[i, axis] * b[axis, j], axis=axis), name="total")
        c = te.compute((m, n), lambda i, j: self.element(total[i, j]), name="output")
        schedule = tvm.s_tir.Schedule(te.create_prim_func([a, b, c]))
        i, j = schedule.get_loops(schedule.get_sblock("output"))
        outer, inner = schedule.split(i, [None, int(config["tile"])])
        schedule.reorder(outer, j, inner)
        schedule.bind(outer, "blockIdx.x")
        schedule.bind(j, "threadIdx.x")
        block = schedule.get_sblock("total")
        schedule.compute_at(block, inner)
        schedule.set_scope(block, 0, "local")
        return Kernel(schedule.mod, self.arguments(operator))

    def arguments(self, operator: Gemm) -> tuple[Argument, ...]:
        m, n, k = operator.m, operator.n, operator.k
        return (
            Argument("a", (m, k), "MK", Packing().reshape(m, k)),
            Argument("b", (k, n), "KN", Packing().reshape(k, n)),
            Argument("output", (m, n), "MN", self.unpack),
        )

    def executed_flops(self, operator: Operator, config: Config) -> float:
        return operator.flops

    def static_features(self, operator: Operator, partial: Config, device: DeviceInfo) -> tuple[float, float, float]:
        return 0.0, 0.0, 0.0


class Raises(PlainGemm):
    name = "cuda/raises"

    def kernel(self, operator: Operator, config: Config, device: DeviceInfo) -> Kernel:
        raise ValueError("this schedule cannot be built")


class Aborts(PlainGemm):
    """Ends its builder."""

    name = "cuda/aborts"

    def kernel(self, operator: Operator, config: Config, device: DeviceInfo) -> Kernel:
        os.abort()


class Hangs(PlainGemm):
    """Never ends being built."""

    name = "cuda/hangs"

    def kernel(self, operator: Operator, config: Config, device: DeviceInfo) -> Kernel:
        while True:
            time.sleep(1)


class OffByABit(PlainGemm):
    name = "cuda/off_by_a_bit"

    def element(self, total: Any) -> Any:
        return total * 1.001


class WrongShape(PlainGemm):
    name = "cuda/wrong_shape"
    unpack = Packing()


class TooFast(PlainGemm):
    """Claims more arithmetic than any GPU does."""

    name = "cuda/too_fast"

    def executed_flops(self, operator: Operator, config: Config) -> float:
        return 1e12 * operator.flops


class _Scripted(PlainGemm):
    """A template whose kernel is TVMScript instead of a schedule."""

    def script(self, m: int, n: int, k: int):
        raise NotImplementedError

    def kernel(self, operator: Operator, config: Config, device: DeviceInfo) -> Kernel:
        import tvm

        assert isinstance(operator, Gemm)
        main = self.script(operator.m, operator.n, operator.k)
        return Kernel(tvm.IRModule({"main": main}), self.arguments(operator))


class WritesNothing(_Scripted):
    """Leaves the last row of its output as it was."""

    name = "cuda/writes_nothing"

    def script(self, m: int, n: int, k: int):
        from tvm.script import tirx as tir

        @tir.prim_func(s_tir=True)
        def main(
            a: tir.Buffer((m, k), "float32"), b: tir.Buffer((k, n), "float32"), output: tir.Buffer((m, n), "float32")
        ):
            for i in tir.thread_binding(m - 1, thread="blockIdx.x"):
                for j in tir.thread_binding(n, thread="threadIdx.x"):
                    with tir.sblock("c"):
                        vi, vj = tir.axis.remap("SS", [i, j])
                        output[vi, vj] = a[vi, 0] * b[0, vj]

        return main


class EndsOnce(_Scripted):
    """Is right only on what it is given first: it changes its input."""

    name = "cuda/ends_once"

    def script(self, m: int, n: int, k: int):
        from tvm.script import tirx as tir

        @tir.prim_func(s_tir=True)
        def main(
            a: tir.Buffer((m, k), "float32"), b: tir.Buffer((k, n), "float32"), output: tir.Buffer((m, n), "float32")
        ):
            for i in tir.thread_binding(1, thread="blockIdx.x"):
                for j in tir.thread_binding(n, thread="threadIdx.x"):
                    for row in range(m):
                        with tir.sblock("c"):
                            _vi, vj, vr = tir.axis.remap("SSS", [i, j, row])
                            total = tir.sblock_alloc_buffer((1,), "float32", scope="local")
                            total[0] = tir.float32(0)
                            for r in range(k):
                                total[0] = total[0] + a[vr, r] * b[r, vj]
                            output[vr, vj] = total[0]
                    with tir.sblock("spoil"):
                        _vi2, vj2 = tir.axis.remap("SS", [i, j])
                        b[0, vj2] = b[0, vj2] + tir.float32(1)

        return main


class LoopsForever(_Scripted):
    """Compiles well and then runs for hours."""

    name = "cuda/loops_forever"

    def script(self, m: int, n: int, k: int):
        from tvm.script import tirx as tir

        @tir.prim_func(s_tir=True)
        def main(
            a: tir.Buffer((m, k), "float32"), b: tir.Buffer((k, n), "float32"), output: tir.Buffer((m, n), "float32")
        ):
            for i in tir.thread_binding(m, thread="blockIdx.x"):
                for j in tir.thread_binding(n, thread="threadIdx.x"):
                    for _outer, _inner in tir.grid(1 << 30, 1 << 20):
                        with tir.sblock("c"):
                            vi, vj = tir.axis.remap("SS", [i, j])
                            output[vi, vj] = output[vi, vj] * a[vi, 0] + b[0, vj]

        return main


class WritesOutOfBounds(_Scripted):
    """Writes far behind its output."""

    name = "cuda/writes_out_of_bounds"

    def script(self, m: int, n: int, k: int):
        from tvm.script import tirx as tir

        @tir.prim_func(s_tir=True)
        def main(
            a: tir.Buffer((m, k), "float32"), b: tir.Buffer((k, n), "float32"), output: tir.Buffer((m, n), "float32")
        ):
            for i in tir.thread_binding(m, thread="blockIdx.x"):
                for j in tir.thread_binding(n, thread="threadIdx.x"):
                    with tir.sblock("c"):
                        vi, vj = tir.axis.remap("SS", [i, j])
                        output[vi + (1 << 26), vj] = a[vi, 0] * b[0, vj]

        return main


class TooMuchShared(_Scripted):
    """Needs more shared memory than any block gets: the CUDA compiler refuses it."""

    name = "cuda/too_much_shared"

    def script(self, m: int, n: int, k: int):
        from tvm.script import tirx as tir

        @tir.prim_func(s_tir=True)
        def main(
            a: tir.Buffer((m, k), "float32"), b: tir.Buffer((k, n), "float32"), output: tir.Buffer((m, n), "float32")
        ):
            for i in tir.thread_binding(m, thread="blockIdx.x"):
                for j in tir.thread_binding(n, thread="threadIdx.x"):
                    with tir.sblock("c"):
                        vi, vj = tir.axis.remap("SS", [i, j])
                        held = tir.sblock_alloc_buffer((1 << 16,), "float32", scope="shared")
                        held[vj * 2048] = a[vi, 0]
                        output[vi, vj] = held[(n - 1 - vj) * 2048] * b[0, vj]

        return main


class KillsItsProcess(_Scripted):
    """Launches blocks of `tests.interpreted_gpu.DEADLY_BLOCK`."""

    name = "cuda/kills_its_process"

    def script(self, m: int, n: int, k: int):
        from tvm.script import tirx as tir

        @tir.prim_func(s_tir=True)
        def main(
            a: tir.Buffer((m, k), "float32"), b: tir.Buffer((k, n), "float32"), output: tir.Buffer((m, n), "float32")
        ):
            for i in tir.thread_binding(m, thread="blockIdx.x"):
                for j in tir.thread_binding(7, thread="threadIdx.x"):
                    with tir.sblock("c"):
                        vi, vj = tir.axis.remap("SS", [i, j])
                        output[vi, vj] = a[vi, 0] * b[0, vj]

        return main


def candidate(template: type[PlainGemm] = PlainGemm, tile: int = 1, operator: Operator = OPERATOR) -> Candidate:
    """A candidate of a test template."""
    return Candidate(operator, template(), {"template": template.name.split("/")[-1], "tile": tile})
