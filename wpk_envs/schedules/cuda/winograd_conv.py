"""Winograd's F(2x2, 3x3) and F(4x4, 3x3) in three launches: transform tiles, multiply, transform back.

Filters are transformed ahead of the call. Each of the ``(m + 2)^2`` points of the transform is a product
``[filters, channels] x [channels, tiles]``; both transforms run in registers, one tile of one channel a thread.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

from wpk_envs.core import Config, Constraint, DeviceInfo, Kernel, Operator, Template
from wpk_envs.operators import Conv2d
from wpk_envs.packing import Packing
from wpk_envs.schedules import winograd
from wpk_envs.schedules.cuda import product as tiles
from wpk_envs.schedules.cuda import rules
from wpk_envs.schedules.cuda.product import Operand, Product, Tile

KNOBS = tuple(knob for knob in tiles.PRODUCT_KNOBS if knob != "split_k")

MAX_TILE_WASTE = 1.5
"""Largest covered over useful output: a 7x7 image takes 8x8 by either tile."""


@dataclass(frozen=True)
class Shape:
    """Tiles of the output, and the product over them.

    Attributes:
        m: Edge of an output tile.
        rows: Rows of tiles of one image.
        columns: Columns of tiles.
        product: One per point of the transform: filters by tiles over channels.
    """

    m: int
    rows: int
    columns: int
    product: Product

    @property
    def edge(self) -> int:
        """Edge of an input tile."""
        return self.m + winograd.KERNEL - 1

    @classmethod
    def of(cls, op: Operator, m: int) -> Shape:
        """The tiles of a convolution's output by their edge."""
        assert isinstance(op, Conv2d)
        rows, columns = rules.ceil_div(op.out_height, m), rules.ceil_div(op.out_width, m)
        count = op.batch * rows * columns
        points = (m + winograd.KERNEL - 1) ** 2
        filters, data = Operand("mn", rules.MAX_VECTOR), Operand("mn", rules.widest_vector(count))
        return cls(m, rows, columns, Product(points, op.filters, count, op.channels, filters, data))


class WinogradConv(Template):
    """Winograd convolution of dense 3x3 kernels, channels first."""

    name: ClassVar[str] = "cuda/winograd_conv"
    version: ClassVar[int] = 1
    knobs: ClassVar[tuple[str, ...]] = ("winograd_m", *KNOBS, "threads")
    tolerance: ClassVar[float] = 5e-5

    def fits(self, operator: Operator, device: DeviceInfo) -> bool:
        """Dense 3x3 convolutions with stride and dilation 1."""
        if not isinstance(operator, Conv2d):
            return False
        steps = operator.stride == operator.dilation == (1, 1)
        return operator.kernel == (3, 3) and steps and operator.groups == 1

    def constraints(self, operator: Operator, device: DeviceInfo) -> list[Constraint]:
        """Tiles that cover the output with little waste, and the product's rules."""
        assert isinstance(operator, Conv2d)
        pixels = operator.out_height * operator.out_width

        def little_waste(m: int) -> bool:
            shape = Shape.of(operator, m)
            return m == 2 or shape.rows * shape.columns * m**2 <= MAX_TILE_WASTE * pixels

        return [
            Constraint(("winograd_m",), little_waste, "tiles cover the output with at most half of it wasted"),
            *tiles.constraints(("winograd_m",), lambda m: Shape.of(operator, m).product, device, splits=False),
        ]

    def executed_flops(self, operator: Operator, config: Config) -> float:
        """The reduced multiply-adds over whole tiles, and both transforms."""
        assert isinstance(operator, Conv2d)
        shape = Shape.of(operator, int(config["winograd_m"]))
        matrix = winograd.matrices(shape.m)
        into = winograd.transform_flops(matrix.bt) * 2 * shape.edge * operator.channels
        back = winograd.transform_flops(matrix.at) * (shape.edge + shape.m) * operator.filters
        return tiles.executed_flops(shape.product, Tile.of(config)) + shape.product.n * (into + back)

    def static_features(self, operator: Operator, partial: Config, device: DeviceInfo) -> tuple[float, float, float]:
        """Accumulators of a thread, shared memory of a block, multiply-adds per element read from shared memory."""
        shape = Shape.of(operator, int(partial.get("winograd_m", 2)))
        return tiles.static_features(shape.product, Tile.of(partial), device)

    def kernel(self, operator: Operator, config: Config, device: DeviceInfo) -> Kernel:
        """Write the three stages over tiles and schedule a launch for each."""
        assert isinstance(operator, Conv2d)
        return _Writer(operator, config).kernel()


class _Writer:
    def __init__(self, op: Conv2d, config: Config) -> None:
        self.op, self.config, self.tile = op, config, Tile.of(config)
        self.shape = Shape.of(op, int(config["winograd_m"]))
        self.matrix = winograd.matrices(self.shape.m)

    def kernel(self) -> Kernel:
        from tvm import te

        from wpk_envs.schedules import tensorir as ir
        from wpk_envs.schedules.cuda import product_ir

        op, shape, product, args = self.op, self.shape, self.shape.product, ir.Arguments()
        x = args.add("x", (op.batch, op.channels, op.height, op.width), "NCHW", Packing())
        data = self._data(x)
        weight = self._weight(args)

        def transformed(z: Any, k: Any, t: Any) -> Any:
            inside = [k < product.k, t < product.n]
            return product_ir.guarded(inside, lambda: data[z // shape.edge, z % shape.edge, k, t])

        point = product_ir.declare(product, self.tile, lambda z, k, o: weight[z, k, o], transformed)
        result = self._result(point)
        bias = args.add("bias", (op.filters,), "N", Packing()) if op.bias else None
        residual = args.add("residual", op.output_shape, "NCHW", Packing()) if op.residual else None
        output = te.compute(
            op.output_shape,
            lambda n, o, h, w: ir.epilogue(
                op,
                result[o, self._tile_index(n, h, w), h % shape.m, w % shape.m],
                bias[o] if bias is not None else None,
                residual[n, o, h, w] if residual is not None else None,
            ),
            name="output",
        )
        schedule, finish = args.finish(output, "NCHW", Packing())
        self._schedule(schedule)
        return finish()

    def _tile_index(self, n: Any, h: Any, w: Any) -> Any:
        shape = self.shape
        return (n * shape.rows + h // shape.m) * shape.columns + w // shape.m

    def _data(self, x: Any) -> Any:
        """The transformed input, ``[edge, edge, channels, tiles]``."""
        from tvm import te

        from wpk_envs.schedules import tensorir as ir
        from wpk_envs.schedules.cuda.product_ir import guarded

        op, shape, edge = self.op, self.shape, self.shape.edge

        def pixel(c: Any, t: Any, a: Any, b: Any) -> Any:
            h = t // shape.columns % shape.rows * shape.m + a - op.padding[0]
            w = t % shape.columns * shape.m + b - op.padding[1]
            n = t // (shape.columns * shape.rows)
            return guarded([h >= 0, h < op.height, w >= 0, w < op.width], lambda: x[n, c, h, w])

        extents = (op.channels, shape.product.n, edge, edge)
        patch = te.compute(extents, pixel, name="patch")
        half = te.compute(
            extents,
            lambda c, t, e, b: ir.linear(self.matrix.bt, e, lambda a: patch[c, t, a, b]),
            name="half_in",
        )
        return te.compute(
            (edge, edge, op.channels, shape.product.n),
            lambda e, f, c, t: ir.linear(self.matrix.bt, f, lambda b: half[c, t, e, b]),
            name="data",
        )

    def _weight(self, args: Any) -> Any:
        """The transformed filters, ``[points, channels, filters]``, padded to whole tiles."""
        op, shape, g = self.op, self.shape, self.matrix.g
        m, _, k = self.tile.padded(shape.product)
        packing = (
            Packing()
            .einsum("ea,ocab->eocb", g)
            .einsum("fb,eocb->efco", g)
            .reshape(shape.product.batch, op.channels, op.filters)
            .pad((0, 0), (0, k - op.channels), (0, m - op.filters))
        )
        layout = f"F({shape.m}x{shape.m},3x3) HWI{k}O{m}"
        return args.add("weight", (shape.product.batch, k, m), layout, packing)

    def _result(self, point: Any) -> Any:
        """The output's tiles before the epilogue, ``[filters, tiles, m, m]``."""
        from tvm import te

        from wpk_envs.schedules import tensorir as ir

        op, shape = self.op, self.shape
        half = te.compute(
            (op.filters, shape.product.n, shape.m, shape.edge),
            lambda o, t, y, f: ir.linear(self.matrix.at, y, lambda e: point(e * shape.edge + f, o, t)),
            name="half_out",
        )
        return te.compute(
            (op.filters, shape.product.n, shape.m, shape.m),
            lambda o, t, y, z: ir.linear(self.matrix.at, z, lambda f: half[o, t, y, f]),
            name="result",
        )

    def _schedule(self, s: Any) -> None:
        from wpk_envs.schedules.cuda import product_ir
        from wpk_envs.schedules.tensorir import unroll_all

        block = functools.partial(s.get_sblock)
        threads, shape = int(self.config["threads"]), self.shape
        e, f, c, t = s.get_loops(block("data"))
        s.reorder(c, t, e, f)
        thread = product_ir.bind_flat(s, [c, t], threads)
        unroll_all(s, [e, f])
        self._in_registers(s, ("half_in", "patch"), thread)

        product_ir.schedule(s, shape.product, self.tile, output=None)

        n, o, h, w = s.get_loops(block("output"))
        row, y = s.split(h, [shape.rows, shape.m])
        column, z = s.split(w, [shape.columns, shape.m])
        s.reorder(n, o, row, column, y, z)
        thread = product_ir.bind_flat(s, [n, o, row, column], threads)
        unroll_all(s, [y, z])
        self._in_registers(s, ("result", "half_out"), thread)

    def _in_registers(self, s: Any, names: tuple[str, ...], thread: Any) -> None:
        from wpk_envs.schedules.tensorir import unroll_all

        for name in names:
            stage = s.get_sblock(name)
            s.set_scope(stage, 0, "local")
            s.compute_at(stage, thread, preserve_unit_loops=True)
            unroll_all(s, s.get_loops(stage)[-2:])
