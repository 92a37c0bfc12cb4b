"""CPU kernels that misbehave on purpose, for the acceptance of a CPU; those of GPUs are in `wpk_envs.devices.cuda`."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from wpk_envs.core import Argument, Candidate, Config, Constraint, DeviceInfo, Kernel, Operator, Template
from wpk_envs.operators import Gemm

OPERATOR = Gemm(m=8, n=32, k=16)


class _Misbehaving(Template):
    """A matrix product whose TensorIR is written by hand.

    Attributes:
        expected: How it misbehaves, a key of `wpk_envs.devices.acceptance.OUTCOME_OF`.
        title: What it does, in words.
    """

    version: ClassVar[int] = 1
    knobs: ClassVar[tuple[str, ...]] = ()
    expected: ClassVar[str]
    title: ClassVar[str]

    def script(self, m: int, n: int, k: int) -> Any:
        """The function ``main`` over a, b and c."""
        raise NotImplementedError

    def fits(self, operator: Operator, device: DeviceInfo) -> bool:
        """See `Template`."""
        return operator == OPERATOR

    def constraints(self, operator: Operator, device: DeviceInfo) -> list[Constraint]:
        """See `Template`."""
        return []

    def kernel(self, operator: Operator, config: Config, device: DeviceInfo) -> Kernel:
        """See `Template`."""
        import tvm

        m, n, k = OPERATOR.m, OPERATOR.n, OPERATOR.k
        return Kernel(
            module=tvm.IRModule({"main": self.script(m, n, k)}),
            arguments=(
                Argument("a", (m, k), "MK", _first),
                Argument("b", (k, n), "KN", _first),
                Argument("output", (m, n), "MN", _batched),
            ),
        )

    def executed_flops(self, operator: Operator, config: Config) -> float:
        """See `Template`."""
        return float(operator.flops)

    def static_features(self, operator: Operator, partial: Config, device: DeviceInfo) -> tuple[float, float, float]:
        """See `Template`."""
        return 0.0, 0.0, 0.0


class Wrong(_Misbehaving):
    """Adds a thousandth to every element."""

    name: ClassVar[str] = "cpu/wrong"
    expected = "wrong"
    title = "is wrong by a thousandth"

    def script(self, m: int, n: int, k: int) -> Any:
        """See `_Misbehaving`."""
        from tvm.script import tirx as tir

        @tir.prim_func(s_tir=True)
        def main(
            a: tir.Buffer((m, k), "float32"),  # type: ignore[valid-type]
            b: tir.Buffer((k, n), "float32"),  # type: ignore[valid-type]
            c: tir.Buffer((m, n), "float32"),  # type: ignore[valid-type]
        ):
            for i, j, r in tir.grid(m, n, k):
                with tir.sblock("c"):
                    vi, vj, vr = tir.axis.remap("SSR", [i, j, r])
                    with tir.init():
                        c[vi, vj] = tir.float32(0.001)
                    c[vi, vj] = c[vi, vj] + a[vi, vr] * b[vr, vj]

        return main


class Stray(_Misbehaving):
    """Writes far behind its output."""

    name: ClassVar[str] = "cpu/stray"
    expected = "crash"
    title = "writes far out of bounds"

    def script(self, m: int, n: int, k: int) -> Any:
        """See `_Misbehaving`."""
        from tvm.script import tirx as tir

        @tir.prim_func(s_tir=True)
        def main(
            a: tir.Buffer((m, k), "float32"),  # type: ignore[valid-type]
            b: tir.Buffer((k, n), "float32"),  # type: ignore[valid-type]
            c: tir.Buffer((m, n), "float32"),  # type: ignore[valid-type]
        ):
            for i, j in tir.grid(m, n):
                with tir.sblock("c"):
                    vi, vj = tir.axis.remap("SS", [i, j])
                    c[vi + (1 << 24), vj] = a[vi, 0] * b[0, vj]

        return main


class Endless(_Misbehaving):
    """Computes the same again and again, for days."""

    name: ClassVar[str] = "cpu/endless"
    expected = "endless"
    title = "never ends"

    def script(self, m: int, n: int, k: int) -> Any:
        """See `_Misbehaving`."""
        from tvm.script import tirx as tir

        @tir.prim_func(s_tir=True)
        def main(
            a: tir.Buffer((m, k), "float32"),  # type: ignore[valid-type]
            b: tir.Buffer((k, n), "float32"),  # type: ignore[valid-type]
            c: tir.Buffer((m, n), "float32"),  # type: ignore[valid-type]
        ):
            for again, i, j in tir.grid(1 << 30, m, n):
                with tir.sblock("c"):
                    _vr, vi, vj = tir.axis.remap("RSS", [again, i, j])
                    with tir.init():
                        c[vi, vj] = 0.0
                    c[vi, vj] = c[vi, vj] * a[vi, 0] + b[0, vj]

        return main


def misbehaving_candidates() -> list[tuple[str, str, Candidate]]:
    """What each does, what must come of it, and the candidate."""
    return [
        (template.title, template.expected, Candidate(OPERATOR, template, {"template": template.name.split("/")[1]}))
        for template in (Wrong(), Stray(), Endless())
    ]


def _first(array: np.ndarray) -> np.ndarray:
    return array[0]


def _batched(array: np.ndarray) -> np.ndarray:
    return array[None]
