"""Depthwise convolution: every thread computes a few pixels of a row, from a patch in shared memory or directly.

A thread block computes ``block_m`` channels of a patch of ``tile_oh x tile_ow`` pixels. There is no reduction
over channels, so the time goes into moving data: with ``stage`` 2 the input patch is first copied into shared
memory, side by side; with 1 each thread reads what it needs through the caches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from wpk_envs.core import Config, Constraint, DeviceInfo, Kernel, KnobValue, Operator, Template
from wpk_envs.operators import Conv2d
from wpk_envs.packing import Packing
from wpk_envs.schedules.cuda import patch as patches
from wpk_envs.schedules.cuda import rules
from wpk_envs.schedules.cuda.patch import Patch

FEW_CHANNELS = 4
"""Channels that a block may always have: with a patch of the smallest width they make a warp."""

MOST_CHANNELS = 16
"""Channels of a block at most: more are more blocks."""

MOST_FETCHED = 32
"""Elements of the patch that a thread copies at most."""


@dataclass(frozen=True)
class Tile:
    """The knobs of one config, and what follows from them."""

    block_m: int
    tile_oh: int
    tile_ow: int
    thread_n: int

    @classmethod
    def of(cls, config: Config) -> Tile:
        """The tile's knobs in a config; missing ones (of a partial config) count as 1."""
        return cls(*(int(config.get(knob, 1)) for knob in cls.__dataclass_fields__))

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.block_m * self.tile_oh * (self.tile_ow // self.thread_n)

    def shared_bytes(self, op: Conv2d) -> int:
        """Of the input patches of all channels."""
        return self.block_m * Patch(op, self.tile_oh, self.tile_ow).input_bytes


class DepthwiseConv(Template):
    """Depthwise convolution of any window, with one or more filters per channel, channels first.

    Its default schedule is the plain one: a thread for each pixel of a patch of 8 x 8 pixels of 4 channels, which it
    reads through the caches; blocks of 256 threads.
    """

    name: ClassVar[str] = "cuda/depthwise_conv"
    version: ClassVar[int] = 1
    knobs: ClassVar[tuple[str, ...]] = ("block_m", "tile_oh", "tile_ow", "stage", "thread_n")
    default: ClassVar[Mapping[str, KnobValue]] = {"block_m": 4, "tile_oh": 8, "tile_ow": 8, "stage": 1, "thread_n": 1}

    def fits(self, operator: Operator, device: DeviceInfo) -> bool:
        """Convolutions whose every group has one channel."""
        return isinstance(operator, Conv2d) and operator.is_depthwise

    def constraints(self, operator: Operator, device: DeviceInfo) -> list[Constraint]:
        """Waste, whole warps, blocks, and patches that fit into shared memory."""
        assert isinstance(operator, Conv2d)
        op, limits = operator, device.limits
        wanted = rules.blocks_wanted(device, op.batch * op.filters * op.out_height * op.out_width)

        def blocks(m: int, oh: int, ow: int) -> bool:
            return op.batch * rules.ceil_div(op.filters, m) * Patch(op, oh, ow).count >= wanted

        def patch_fits(m: int, oh: int, ow: int, thread_n: int, stage: int) -> bool:
            tile = Tile(m, oh, ow, thread_n)
            fetched = rules.ceil_div(tile.shared_bytes(op) // rules.FLOAT_BYTES, max(1, tile.threads))
            return stage == 1 or (tile.shared_bytes(op) <= limits["shared_bytes_per_block"] and fetched <= MOST_FETCHED)

        return [
            Constraint(
                ("block_m",),
                lambda m: m <= FEW_CHANNELS or (m <= MOST_CHANNELS and rules.little_waste(op.filters, m)),
                f"block_m is at most {MOST_CHANNELS} and beyond {FEW_CHANNELS} pads {op.filters} filters by a third",
            ),
            patches.little_waste(op),
            rules.divides("tile_ow", "thread_n"),
            Constraint(
                ("block_m", "tile_oh", "tile_ow", "thread_n"),
                lambda *sizes: rules.whole_warps(Tile(*sizes).threads, limits["threads_per_block"]),
                f"whole warps and at most {limits['threads_per_block']} threads in a block",
            ),
            Constraint(("block_m", "tile_oh", "tile_ow"), blocks, f"at least {wanted} blocks"),
            Constraint(
                ("block_m", "tile_oh", "tile_ow", "thread_n", "stage"),
                patch_fits,
                f"a patch in shared memory fits into {limits['shared_bytes_per_block']} bytes and is copied in at "
                f"most {MOST_FETCHED} turns",
            ),
            Constraint(
                ("stage",),
                lambda stage: stage == 1 or op.filters == op.channels,
                "filters that share a channel read it directly",
            ),
            Constraint(
                ("thread_n",),
                lambda pixels: pixels * op.kernel[0] * op.kernel[1] <= rules.MAX_UNROLLED_FMAS,
                f"at most {rules.MAX_UNROLLED_FMAS} multiply-adds in the unrolled body",
            ),
            Constraint(("block_m",), lambda m: op.batch <= rules.MAX_GRID_Z, f"at most {rules.MAX_GRID_Z} images"),
        ]

    def executed_flops(self, operator: Operator, config: Config) -> float:
        """Multiply-adds over whole patches and channels."""
        assert isinstance(operator, Conv2d)
        op, tile = operator, Tile.of(config)
        filters = rules.ceil_to(op.filters, tile.block_m)
        return 2.0 * op.batch * filters * Patch(op, tile.tile_oh, tile.tile_ow).covered * op.kernel[0] * op.kernel[1]

    def static_features(self, operator: Operator, partial: Config, device: DeviceInfo) -> tuple[float, float, float]:
        """Accumulators of a thread, shared memory of a block, multiply-adds per input element of a patch."""
        assert isinstance(operator, Conv2d)
        tile = Tile.of(partial)
        patch = Patch(operator, tile.tile_oh, tile.tile_ow)
        taps = operator.kernel[0] * operator.kernel[1]
        intensity = taps * patch.rows * patch.columns / (patch.input_rows * patch.input_columns)
        return rules.scaled_features(tile.thread_n, tile.shared_bytes(operator), intensity, device)

    def kernel(self, operator: Operator, config: Config, device: DeviceInfo) -> Kernel:
        """Write the convolution over the padded image, then bind and unroll it."""
        assert isinstance(operator, Conv2d)
        return _write(operator, Tile.of(config), shared=config["stage"] == 2)


def _write(op: Conv2d, tile: Tile, shared: bool) -> Kernel:
    from tvm import te

    from wpk_envs.schedules import tensorir as ir
    from wpk_envs.schedules.cuda.product_ir import guarded

    args = ir.Arguments()
    x = args.add("x", (op.batch, op.channels, op.height, op.width), "NCHW", Packing())
    filters, per_channel = rules.ceil_to(op.filters, tile.block_m), op.filters // op.channels
    packing = Packing().reshape(op.filters, *op.kernel).pad((0, filters - op.filters), (0, 0), (0, 0))
    weight = args.add("weight", (filters, *op.kernel), f"O{filters}HW", packing)
    bias = args.add("bias", (op.filters,), "N", Packing()) if op.bias else None
    residual = args.add("residual", op.output_shape, "NCHW", Packing()) if op.residual else None
    whole = Patch(op, rules.ceil_to(op.out_height, tile.tile_oh), rules.ceil_to(op.out_width, tile.tile_ow))

    def pixel(n: Any, o: Any, row: Any, column: Any) -> Any:
        h, w = row - op.padding[0], column - op.padding[1]
        inside = [o < op.filters, h >= 0, h < op.height, w >= 0, w < op.width]
        return guarded(inside, lambda: x[n, o // per_channel, h, w])

    image = te.compute((op.batch, filters, whole.input_rows, whole.input_columns), pixel, name="image")
    row, column = (te.reduce_axis((0, size), name) for size, name in zip(op.kernel, "rs"))
    product = te.compute(
        (op.batch, filters, whole.rows, whole.columns),  # padded as the blocks are, or bindings would not be affine
        lambda n, o, h, w: te.sum(
            image[n, o, h * op.stride[0] + row * op.dilation[0], w * op.stride[1] + column * op.dilation[1]]
            * weight[o, row, column],
            axis=[row, column],
        ),
        name="product",
    )
    output = te.compute(
        op.output_shape,
        lambda n, o, h, w: ir.epilogue(
            op,
            product[n, o, h, w],
            bias[o] if bias is not None else None,
            residual[n, o, h, w] if residual is not None else None,
        ),
        name="output",
    )
    schedule, finish = args.finish(output, "NCHW", Packing())
    _schedule(schedule, tile, shared)
    return finish()


def _schedule(s: Any, tile: Tile, shared: bool) -> None:
    from wpk_envs.schedules.tensorir import unroll_all

    product, image = s.get_sblock("product"), s.get_sblock("image")
    s.set_scope(product, 0, "local")
    n, o, h, w = s.get_loops(s.get_sblock("output"))
    o_block, o_thread = s.split(o, [None, tile.block_m])
    h_block, h_thread = s.split(h, [None, tile.tile_oh])
    w_block, w_thread, w_in = s.split(w, [None, tile.tile_ow // tile.thread_n, tile.thread_n])
    s.reorder(n, o_block, h_block, w_block, o_thread, h_thread, w_thread, w_in)
    s.bind(n, "blockIdx.z")
    block = s.fuse(o_block, h_block, w_block)
    s.bind(block, "blockIdx.x")
    thread = s.fuse(o_thread, h_thread, w_thread)
    s.bind(thread, "threadIdx.x")
    s.unroll(w_in)
    s.compute_at(product, thread, preserve_unit_loops=True)
    pixel, row, column = s.get_loops(product)[-3:]
    s.reorder(row, column, pixel)
    init = s.decompose_reduction(product, row)
    unroll_all(s, [row, column, pixel, s.get_loops(init)[-1]])
    if shared:
        s.set_scope(image, 0, "shared")
        s.compute_at(image, block, preserve_unit_loops=True)
        turns, threads = s.split(s.fuse(*s.get_loops(image)[-3:]), [None, tile.threads])
        s.bind(threads, "threadIdx.x")
        s.unroll(turns)
    else:
        s.compute_inline(image)
