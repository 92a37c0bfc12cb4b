"""An operator as a compiler that schedules by itself is given it: its plain computation, nothing scheduled.

Convolutions are channels last, matrix products row major, as TVM's own benchmarks have them
(``tvm.s_tir.meta_schedule.testing.te_workload``). The epilogue is part of the computation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from wpk_envs.core import Kernel, Operator
from wpk_envs.operators import Conv2d, Gemm

WEIGHTS = 1
"""Position of the weights among the arguments."""


def workload(operator: Operator) -> Kernel:
    """The unscheduled computation of a convolution or matrix product (imports TVM)."""
    if isinstance(operator, Conv2d):
        return _convolution(operator)
    assert isinstance(operator, Gemm)
    return _product(operator)


def _convolution(op: Conv2d) -> Kernel:
    from tvm import te
    from tvm.tirx import const

    from wpk_envs.schedules.cpu import tensorir as ir

    args = ir.Arguments()
    inputs, filters = op.channels // op.groups, op.filters // op.groups
    x = args.add("x", (op.batch, op.height, op.width, op.channels), "NHWC", _channels_last)
    weight = args.add("weight", (*op.kernel, inputs, op.filters), "HWIO", lambda a: a.transpose(2, 3, 1, 0))
    (top, left), (stride_h, stride_w), (dilation_h, dilation_w) = op.padding, op.stride, op.dilation

    def padded(n: Any, h: Any, w: Any, c: Any) -> Any:
        inside = te.all(h >= top, h < op.height + top, w >= left, w < op.width + left)
        return te.if_then_else(inside, x[n, h - top, w - left, c], const(0.0, "float32"))

    shape = (op.batch, op.height + 2 * top, op.width + 2 * left, op.channels)
    source = te.compute(shape, padded, name="pad") if any(op.padding) else x
    kh, kw = te.reduce_axis((0, op.kernel[0]), "kh"), te.reduce_axis((0, op.kernel[1]), "kw")
    c = te.reduce_axis((0, inputs), "c") if inputs > 1 else None

    def tap(n: Any, h: Any, w: Any, o: Any) -> Any:
        channel = 0 if c is None else c
        row, column = h * stride_h + kh * dilation_h, w * stride_w + kw * dilation_w
        value = source[n, row, column, o // filters * inputs + channel]
        return te.sum(value * weight[kh, kw, channel, o], axis=[kh, kw] if c is None else [kh, kw, c])

    out_shape = (op.batch, op.out_height, op.out_width, op.filters)
    product = te.compute(out_shape, tap, name="conv")
    return _finished(args, op, product, "NHWC", _channels_last, lambda a: a.transpose(0, 3, 1, 2))


def _product(op: Gemm) -> Kernel:
    from tvm import te

    from wpk_envs.schedules.cpu import tensorir as ir

    args = ir.Arguments()
    a = args.add("a", (op.batch, op.m, op.k), "MK", np.ascontiguousarray)
    b = args.add("b", (op.batch, op.k, op.n), "KN", np.ascontiguousarray)
    k = te.reduce_axis((0, op.k), "k")
    shape = (op.batch, op.m, op.n)
    product = te.compute(shape, lambda n, i, j: te.sum(a[n, i, k] * b[n, k, j], axis=k), name="product")
    return _finished(args, op, product, "MN", np.ascontiguousarray, np.ascontiguousarray)


def _finished(
    args: Any,
    op: Conv2d | Gemm,
    product: Any,
    layout: str,
    pack: Callable[[np.ndarray], np.ndarray],
    unpack: Callable[[np.ndarray], np.ndarray],
) -> Kernel:
    """Declare the epilogue's arguments and the output."""
    from tvm import te

    from wpk_envs.schedules.cpu import tensorir as ir

    bias = args.add("bias", product.shape[-1:], "N", np.ascontiguousarray) if op.bias else None
    residual = args.add("residual", product.shape, layout, pack) if op.residual else None

    def element(*index: Any) -> Any:
        added = None if bias is None else bias[index[-1]]
        return ir.epilogue(op, product[index], added, None if residual is None else residual[index])

    plain = not (op.bias or op.residual or op.activation != "none")
    output = product if plain else te.compute(product.shape, element, name="output")
    _, finish = args.finish(output, layout, unpack)
    return finish()


def _channels_last(array: np.ndarray) -> np.ndarray:
    return array.transpose(0, 2, 3, 1)
