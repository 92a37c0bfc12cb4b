"""Operators seen as the product of `wpk_envs.schedules.cuda.product`: which index is what, and who lies where.

Channels first (nchw), the weights are the rows' factor and pixels the columns; channels last (nhwc, and a
`Gemm`'s own layout), pixels are the rows. Either way the output's columns lie side by side in memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from wpk_envs.core import Kernel, Operator
from wpk_envs.operators import Conv2d, Gemm
from wpk_envs.packing import Packing
from wpk_envs.schedules.cuda import rules
from wpk_envs.schedules.cuda.product import Operand, Product, Tile

PADDED_WEIGHTS = Operand("mn", rules.MAX_VECTOR)
"""Prepacked weights: the output channels side by side, padded with zeros to whole tiles."""


def layouts(operator: Operator) -> tuple[str, ...]:
    """Layouts of activations in which an operator is one product per image (and group)."""
    return ("nchw", "nhwc") if isinstance(operator, Conv2d) and operator.groups == 1 else only_layout(operator)


def only_layout(operator: Operator) -> tuple[str, ...]:
    """A `Gemm` has rows of features; the pixels of one group lie side by side only channels first."""
    return ("nhwc",) if isinstance(operator, Gemm) else ("nchw",)


def view_of(operator: Operator, layout: str) -> View:
    """The view of an operator in a layout."""
    if isinstance(operator, Gemm):
        return GemmView(operator)
    assert isinstance(operator, Conv2d)
    return ConvView(operator, layout)


class View(ABC):
    """An operator as a product: its extents, how its operands are read, packed and written."""

    product: Product
    pixels_are_rows: bool

    @abstractmethod
    def activation(self, args: Any) -> Any:
        """Declare the activations; their element at (batch, k, pixel), zero outside."""

    @abstractmethod
    def weight(self, args: Any, tile: Tile) -> Any:
        """Declare the prepacked weights, padded to whole tiles; their element at (batch, k, channel)."""

    @abstractmethod
    def bias(self, args: Any) -> Any:
        """Declare the bias; its element at (batch, channel)."""

    @property
    @abstractmethod
    def output_layout(self) -> str:
        """The output's layout in words."""

    @property
    @abstractmethod
    def unpack(self) -> Packing:
        """From [batch, m, n] to the operator's canonical output."""

    @property
    @abstractmethod
    def pack_residual(self) -> Packing:
        """From the canonical output layout to [batch, m, n]."""


def kernel_of(view: View, operator: Conv2d | Gemm, tile: Tile) -> Kernel:
    """Write a view's product and epilogue, then tile, bind and unroll it (imports TVM)."""
    from tvm import te

    from wpk_envs.schedules import tensorir as ir
    from wpk_envs.schedules.cuda import product_ir

    args, product = ir.Arguments(), view.product
    shape = (product.batch, product.m, product.n)
    activation, weight = view.activation(args), view.weight(args, tile)
    operands = (activation, weight) if view.pixels_are_rows else (weight, activation)
    element = product_ir.declare(product, tile, *operands)
    bias = view.bias(args) if operator.bias else None
    residual = args.add("residual", shape, view.output_layout, view.pack_residual) if operator.residual else None

    def finished(z: Any, i: Any, j: Any) -> Any:
        return ir.epilogue(
            operator,
            element(z, i, j),
            bias(z, j if view.pixels_are_rows else i) if bias is not None else None,
            residual[z, i, j] if residual is not None else None,
        )

    schedule, finish = args.finish(te.compute(shape, finished, name="output"), view.output_layout, view.unpack)
    product_ir.schedule(schedule, product, tile)
    return finish()


class GemmView(View):
    """A matrix product in its own layout: a [m, k] and the output [m, n] in rows, b prepacked."""

    pixels_are_rows = True
    output_layout = "MN"
    unpack = pack_residual = Packing()

    def __init__(self, operator: Gemm) -> None:
        self.op = operator
        rows = Operand("k", rules.widest_vector(operator.k))
        self.product = Product(operator.batch, operator.m, operator.n, operator.k, rows, PADDED_WEIGHTS)

    def activation(self, args: Any) -> Any:
        """Element of a at (batch, k, row)."""
        from wpk_envs.schedules.cuda.product_ir import guarded

        op = self.op
        a = args.add("a", (op.batch, op.m, op.k), "MK", Packing())
        return lambda z, k, i: guarded([k < op.k, i < op.m], lambda: a[z, i, k])

    def weight(self, args: Any, tile: Tile) -> Any:
        """Element of b at (batch, k, column)."""
        op = self.op
        _, n, k = tile.padded(self.product)
        packing = Packing().pad((0, 0), (0, k - op.k), (0, n - op.n))
        b = args.add("b", (op.batch, k, n), f"K{k}N{n}", packing)
        return lambda z, k, j: b[z, k, j]

    def bias(self, args: Any) -> Any:
        """Element of the bias at (batch, column)."""
        bias = args.add("bias", (self.op.n,), "N", Packing())
        return lambda z, j: bias[j]


class ConvView(View):
    """A convolution as one product per image and group; the columns of its image are made while they are fetched.

    Args:
        operator: Any convolution; ``"nhwc"`` only without groups.
        layout: ``"nchw"`` or ``"nhwc"``.
    """

    def __init__(self, operator: Conv2d, layout: str) -> None:
        op = self.op = operator
        self.pixels_are_rows = layout == "nhwc"
        self.channels, self.filters = op.channels // op.groups, op.filters // op.groups
        self.pixels = op.out_height * op.out_width
        batch, k = op.batch * op.groups, self.channels * op.kernel[0] * op.kernel[1]
        if self.pixels_are_rows:
            image = Operand("k", rules.widest_vector(self.channels))
            self.product = Product(batch, self.pixels, self.filters, k, image, PADDED_WEIGHTS)
        else:
            side_by_side = op.kernel == (1, 1) and op.stride == (1, 1) and not any(op.padding)
            image = Operand("mn", rules.widest_vector(self.pixels) if side_by_side else 1)
            self.product = Product(batch, self.filters, self.pixels, k, PADDED_WEIGHTS, image)

    def activation(self, args: Any) -> Any:
        """Element of the image's columns at (image and group, k, pixel)."""
        from wpk_envs.schedules.cuda.product_ir import guarded

        op = self.op
        if self.pixels_are_rows:
            shape = (op.batch, op.height, op.width, op.channels)
            x = args.add("x", shape, "NHWC", Packing().transpose(0, 2, 3, 1))
        else:
            x = args.add("x", (op.batch, op.channels, op.height, op.width), "NCHW", Packing())

        def element(z: Any, k: Any, p: Any) -> Any:
            c, row, column = self._steps(k)
            h = p // op.out_width * op.stride[0] + row * op.dilation[0] - op.padding[0]
            w = p % op.out_width * op.stride[1] + column * op.dilation[1] - op.padding[1]
            inside = [k < self.product.k, p < self.pixels]
            if op.padding[0]:
                inside += [h >= 0, h < op.height]
            if op.padding[1]:
                inside += [w >= 0, w < op.width]
            c, n = z % op.groups * self.channels + c, z // op.groups
            return guarded(inside, lambda: x[n, h, w, c] if self.pixels_are_rows else x[n, c, h, w])

        return element

    def _steps(self, k: Any) -> tuple[Any, Any, Any]:
        """Channel, kernel row and kernel column of a step of the reduction."""
        height, width = self.op.kernel
        if self.pixels_are_rows:
            return k % self.channels, k // self.channels // width, k // self.channels % width
        return k // (height * width), k // width % height, k % width

    def weight(self, args: Any, tile: Tile) -> Any:
        """Element of the filters at (image and group, k, filter)."""
        op = self.op
        m, n, k = tile.padded(self.product)
        columns = n if self.pixels_are_rows else m
        steps = (0, 3, 4, 2, 1) if self.pixels_are_rows else (0, 2, 3, 4, 1)
        packing = (
            Packing()
            .reshape(op.groups, self.filters, self.channels, *op.kernel)
            .transpose(*steps)
            .reshape(op.groups, self.product.k, self.filters)
            .pad((0, 0), (0, k - self.product.k), (0, columns - self.filters))
        )
        order = "HWI" if self.pixels_are_rows else "IHW"
        weight = args.add("weight", (op.groups, k, columns), f"G{order}{k}O{columns}", packing)
        return lambda z, k, j: weight[z % op.groups, k, j]

    def bias(self, args: Any) -> Any:
        """Element of the bias at (image and group, filter)."""
        bias = args.add("bias", (self.op.filters,), "N", Packing())
        return lambda z, j: bias[z % self.op.groups * self.filters + j]

    @property
    def output_layout(self) -> str:
        """The output's layout in words."""
        return "NHWC" if self.pixels_are_rows else "NCHW"

    @property
    def unpack(self) -> Packing:
        """From [batch, m, n] to NCHW."""
        op = self.op
        if not self.pixels_are_rows:
            return Packing().reshape(*op.output_shape)
        return Packing().reshape(op.batch, op.out_height, op.out_width, op.filters).transpose(0, 3, 1, 2)

    @property
    def pack_residual(self) -> Packing:
        """From NCHW to [batch, m, n]."""
        shape = (self.product.batch, self.product.m, self.product.n)
        return (Packing().transpose(0, 2, 3, 1) if self.pixels_are_rows else Packing()).reshape(*shape)
