"""Direct convolution: an input patch with its border and the filters' weights lie in shared memory, step by step.

A thread block computes ``block_m`` filters of a patch of ``tile_oh x tile_ow`` pixels, ``block_k`` channels at
a time. A thread holds ``thread_m x thread_n`` neighbouring filters and pixels of a row, repeated
``vthread_m`` times over the filters.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from wpk_envs.core import Config, Constraint, DeviceInfo, Kernel, KnobValue, Operator, Template
from wpk_envs.operators import Conv2d
from wpk_envs.packing import Packing
from wpk_envs.schedules.cuda import patch as patches
from wpk_envs.schedules.cuda import rules
from wpk_envs.schedules.cuda.patch import Patch

MOST_FETCHED = 32
"""Elements of one step that a thread fetches at most."""


@dataclass(frozen=True)
class Tile:
    """The knobs of one config, and what follows from them."""

    block_m: int
    tile_oh: int
    tile_ow: int
    block_k: int
    thread_m: int = 1
    thread_n: int = 1
    vthread_m: int = 1

    @classmethod
    def of(cls, config: Config) -> Tile:
        """The tile's knobs in a config; missing ones (of a partial config) count as 1."""
        return cls(*(int(config.get(knob, 1)) for knob in cls.__dataclass_fields__))

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return max(1, self.filter_threads * self.tile_oh * (self.tile_ow // self.thread_n))

    @property
    def filter_threads(self) -> int:
        """Threads side by side over the filters."""
        return self.block_m // (self.thread_m * self.vthread_m)

    @property
    def accumulators(self) -> int:
        """Output elements of one thread."""
        return self.thread_m * self.thread_n * self.vthread_m

    def fetched(self, op: Conv2d) -> int:
        """Elements of the input patch and of the weights of one step."""
        return _fetched(op, self.block_m, self.tile_oh, self.tile_ow, self.block_k)

    def registers(self, op: Conv2d) -> int:
        """An upper bound: accumulators, one row of input and weights, addresses of what is fetched."""
        row = (self.thread_n - 1) * op.stride[1] + (op.kernel[1] - 1) * op.dilation[1] + 1
        fragments = row + op.kernel[1] * self.thread_m * self.vthread_m
        fetched = rules.ceil_div(self.fetched(op), self.threads)
        return self.accumulators + fragments + min(16, 2 * fetched) + rules.OVERHEAD_REGISTERS


@functools.lru_cache(maxsize=1 << 14)
def _fetched(op: Conv2d, block_m: int, tile_oh: int, tile_ow: int, block_k: int) -> int:
    image = Patch(op, tile_oh, tile_ow)
    return block_k * (image.input_rows * image.input_columns + op.kernel[0] * op.kernel[1] * block_m)


class DirectConv(Template):
    """Direct convolution of any window and groups, channels first.

    Its default schedule is the textbook one of a matrix product, in two dimensions: 64 filters of 8 x 8 pixels in a
    block of 256 threads with 4 x 4 outputs each, 8 channels at a time, the window unrolled, scalar loads.
    """

    name: ClassVar[str] = "cuda/direct_conv"
    version: ClassVar[int] = 1
    knobs: ClassVar[tuple[str, ...]] = (
        "block_m",
        "tile_oh",
        "tile_ow",
        "block_k",
        "thread_m",
        "thread_n",
        "vthread_m",
        "unroll",
        "vector_load",
    )
    default: ClassVar[Mapping[str, KnobValue]] = {
        "block_m": 64,
        "tile_oh": 8,
        "tile_ow": 8,
        "block_k": 8,
        "thread_m": 4,
        "thread_n": 4,
        "vthread_m": 1,
        "unroll": 1,
        "vector_load": 1,
    }

    def fits(self, operator: Operator, device: DeviceInfo) -> bool:
        """Any convolution but depthwise ones."""
        return isinstance(operator, Conv2d) and not operator.is_depthwise

    def constraints(self, operator: Operator, device: DeviceInfo) -> list[Constraint]:
        """Waste, whole warps, registers, shared memory, blocks, and the length of the unrolled body."""
        assert isinstance(operator, Conv2d)
        return [*_tile_rules(operator), *_block_rules(operator, device), *_body_rules(operator)]

    def executed_flops(self, operator: Operator, config: Config) -> float:
        """Multiply-adds over whole patches, filters and channels."""
        assert isinstance(operator, Conv2d)
        op, tile = operator, Tile.of(config)
        filters = rules.ceil_to(op.filters // op.groups, tile.block_m) * op.groups
        channels = rules.ceil_to(op.channels // op.groups, tile.block_k)
        covered = Patch(op, tile.tile_oh, tile.tile_ow).covered
        return 2.0 * op.batch * filters * covered * channels * op.kernel[0] * op.kernel[1]

    def static_features(self, operator: Operator, partial: Config, device: DeviceInfo) -> tuple[float, float, float]:
        """Accumulators of a thread, shared memory of a block, multiply-adds per element read from shared memory."""
        assert isinstance(operator, Conv2d)
        tile = Tile.of(partial)
        shared = rules.FLOAT_BYTES * tile.fetched(operator)
        filters = tile.thread_m * tile.vthread_m
        return rules.scaled_features(tile.accumulators, shared, tile.accumulators / (filters + tile.thread_n), device)

    def kernel(self, operator: Operator, config: Config, device: DeviceInfo) -> Kernel:
        """Write the convolution over patches, then tile, bind and unroll it."""
        assert isinstance(operator, Conv2d)
        return _Writer(operator, config).kernel()


def _tile_rules(op: Conv2d) -> list[Constraint]:
    filters, channels = op.filters // op.groups, op.channels // op.groups
    return [
        Constraint(
            ("block_m",),
            lambda tile: tile >= 4 and (tile == 4 or rules.little_waste(filters, tile)),
            f"block_m pads {filters} filters by at most a third",
        ),
        patches.little_waste(op),
        Constraint(
            ("block_k",),
            lambda step: step == 1 or rules.little_waste(channels, step),
            f"block_k pads {channels} channels by at most a third",
        ),
        rules.divides("block_m", "thread_m", "vthread_m"),
        rules.divides("tile_ow", "thread_n"),
        Constraint(("block_k", "unroll"), lambda step, unroll: unroll <= step, "unroll is at most block_k"),
    ]


def _block_rules(op: Conv2d, device: DeviceInfo) -> list[Constraint]:
    limits = device.limits
    images, filters = op.batch * op.groups, op.filters // op.groups
    wanted = rules.blocks_wanted(device, images * filters * op.out_height * op.out_width)
    outer = ("block_m", "tile_oh", "tile_ow")
    knobs = (*outer, "block_k", "thread_m", "thread_n", "vthread_m")

    def registers_fit(*sizes: int) -> bool:
        tile = Tile(*sizes)
        fetched = rules.ceil_div(tile.fetched(op), tile.threads)
        allowed = rules.registers_allowed(device, tile.threads)
        return tile.registers(op) <= allowed and fetched <= MOST_FETCHED

    def shared_fits(m: int, oh: int, ow: int, step: int) -> bool:
        return rules.FLOAT_BYTES * _fetched(op, m, oh, ow, step) <= limits["shared_bytes_per_block"]

    def warps(m: int, oh: int, ow: int, *inner: int) -> bool:
        return rules.whole_warps(Tile(m, oh, ow, 1, *inner).threads, limits["threads_per_block"])

    return [
        Constraint(
            (*outer, "thread_m", "thread_n", "vthread_m"),
            warps,
            f"whole warps and at most {limits['threads_per_block']} threads in a block",
        ),
        Constraint(
            (*outer, "block_k"),
            shared_fits,
            f"input patch and weights fit into {limits['shared_bytes_per_block']} bytes of shared memory",
        ),
        Constraint(
            knobs,
            registers_fit,
            f"registers stay within what a thread may have, and it fetches at most {MOST_FETCHED} elements a step",
        ),
        Constraint(
            outer,
            lambda m, oh, ow: images * rules.ceil_div(filters, m) * Patch(op, oh, ow).count >= wanted,
            f"at least {wanted} blocks",
        ),
        Constraint(("block_m",), lambda m: images <= rules.MAX_GRID_Z, f"at most {rules.MAX_GRID_Z} images and groups"),
    ]


def _body_rules(op: Conv2d) -> list[Constraint]:
    return [
        Constraint(
            ("thread_m", "thread_n", "vthread_m", "unroll"),
            lambda m, n, v, unroll: m * n * v * unroll * op.kernel[1] <= rules.MAX_UNROLLED_FMAS,
            f"at most {rules.MAX_UNROLLED_FMAS} multiply-adds in the unrolled body",
        ),
        Constraint(
            ("block_m", "vector_load"), lambda block, vector: block % vector == 0, "vectors of weights fit into block_m"
        ),
    ]


class _Writer:
    def __init__(self, op: Conv2d, config: Config) -> None:
        self.op, self.config, self.tile = op, config, Tile.of(config)
        self.channels, self.filters = op.channels // op.groups, op.filters // op.groups
        self.padded_channels = rules.ceil_to(self.channels, self.tile.block_k)
        self.padded_filters = rules.ceil_to(self.filters, self.tile.block_m)

    def kernel(self) -> Kernel:
        from tvm import te

        from wpk_envs.schedules import tensorir as ir

        op, args = self.op, ir.Arguments()
        x = args.add("x", (op.batch, op.channels, op.height, op.width), "NCHW", Packing())
        image, weight = self._image(x), self._weight(args)
        c = te.reduce_axis((0, self.padded_channels), "c")
        row, column = (te.reduce_axis((0, size), name) for size, name in zip(op.kernel, "rs"))
        covered = self._covered()
        product = te.compute(
            (op.batch * op.groups, self.padded_filters, *covered),
            lambda z, o, h, w: te.sum(
                image[z, c, h * op.stride[0] + row * op.dilation[0], w * op.stride[1] + column * op.dilation[1]]
                * weight[z, c, row, column, o],
                axis=[c, row, column],
            ),
            name="product",
        )
        shape = (op.batch * op.groups, self.filters, op.out_height, op.out_width)
        bias = args.add("bias", (op.filters,), "N", Packing()) if op.bias else None
        residual = args.add("residual", shape, "NCHW", Packing().reshape(*shape)) if op.residual else None
        output = te.compute(
            shape,
            lambda z, o, h, w: ir.epilogue(
                op,
                product[z, o, h, w],
                bias[z % op.groups * self.filters + o] if bias is not None else None,
                residual[z, o, h, w] if residual is not None else None,
            ),
            name="output",
        )
        schedule, finish = args.finish(output, "NCHW", Packing().reshape(*op.output_shape))
        self._schedule(schedule)
        return finish()

    def _covered(self) -> tuple[int, int]:
        """Output rows and columns in whole patches."""
        op, tile = self.op, self.tile
        return rules.ceil_to(op.out_height, tile.tile_oh), rules.ceil_to(op.out_width, tile.tile_ow)

    def _image(self, x: Any) -> Any:
        """The zero-bordered image as it is fetched into shared memory, ``[image and group, channel, row, column]``."""
        from tvm import te

        from wpk_envs.schedules.cuda.product_ir import guarded

        op = self.op
        whole = Patch(op, *self._covered())

        def pixel(z: Any, c: Any, row: Any, column: Any) -> Any:
            h, w = row - op.padding[0], column - op.padding[1]
            inside = [c < self.channels, h >= 0, h < op.height, w >= 0, w < op.width]
            return guarded(inside, lambda: x[z // op.groups, z % op.groups * self.channels + c, h, w])

        extents = (op.batch * op.groups, self.padded_channels, whole.input_rows, whole.input_columns)
        return te.compute(extents, pixel, name="image")

    def _weight(self, args: Any) -> Any:
        """The weights as they are fetched, ``[image and group, channel, row, column, filter]``."""
        from tvm import te

        op, more_channels = self.op, self.padded_channels - self.channels
        packing = (
            Packing()
            .reshape(op.groups, self.filters, self.channels, *op.kernel)
            .transpose(0, 2, 3, 4, 1)
            .pad((0, 0), (0, more_channels), (0, 0), (0, 0), (0, self.padded_filters - self.filters))
        )
        shape = (self.padded_channels, *op.kernel, self.padded_filters)
        layout = f"GI{self.padded_channels}HWO{self.padded_filters}"
        weight = args.add("weight", (op.groups, *shape), layout, packing)
        return te.compute(
            (op.batch * op.groups, *shape), lambda z, c, r, s, o: weight[z % op.groups, c, r, s, o], name="filters"
        )

    def _schedule(self, s: Any) -> None:
        from wpk_envs.schedules.tensorir import unroll_all

        tile, op = self.tile, self.op
        product = s.get_sblock("product")
        s.set_scope(product, 0, "local")
        thread = self._bind(s, s.get_sblock("output"))
        s.compute_at(product, thread, preserve_unit_loops=True)
        o, h, w, c, row, column = s.get_loops(product)[-6:]
        unroll = int(self.config["unroll"])
        c_tile, c_step, c_unrolled = s.split(c, [None, tile.block_k // unroll, unroll])
        s.reorder(c_tile, c_step, c_unrolled, row, column, o, h, w)
        for loop in (c_tile, c_step):
            s.annotate(loop, "disable_unroll", True)
        if tile.accumulators * unroll * op.kernel[0] * op.kernel[1] <= rules.MAX_UNROLLED_FMAS:
            s.unroll(row)
        else:
            s.annotate(row, "disable_unroll", True)
        unroll_all(s, [c_unrolled, column, o, h, w])
        self._fetch(s, "image", c_tile, 1, 3)
        self._fetch(s, "filters", c_tile, int(self.config["vector_load"]), 4)
        init = s.decompose_reduction(product, c_tile)
        unroll_all(s, s.get_loops(init)[-3:])

    def _bind(self, s: Any, store: Any) -> Any:
        """Bind the output's loops to blocks, virtual threads and threads; the thread's loop."""
        tile = self.tile
        z, o, h, w = s.get_loops(store)
        o_block, o_virtual, o_thread, o_in = s.split(o, [None, tile.vthread_m, tile.filter_threads, tile.thread_m])
        h_block, h_thread = s.split(h, [None, tile.tile_oh])
        w_block, w_thread, w_in = s.split(w, [None, tile.tile_ow // tile.thread_n, tile.thread_n])
        s.reorder(z, o_block, h_block, w_block, o_virtual, o_thread, h_thread, w_thread, o_in, w_in)
        s.bind(z, "blockIdx.z")
        s.bind(s.fuse(o_block, h_block, w_block), "blockIdx.x")
        s.bind(o_virtual, "vthread.y")
        thread = s.fuse(o_thread, h_thread, w_thread)
        s.bind(thread, "threadIdx.x")
        s.unroll(o_in)
        s.unroll(w_in)
        return thread

    def _fetch(self, s: Any, name: str, c_tile: Any, vector: int, dimensions: int) -> None:
        """Copy one step's operand into shared memory with all threads."""
        block = s.get_sblock(name)
        s.set_scope(block, 0, "shared")
        s.compute_at(block, c_tile, preserve_unit_loops=True)
        loop = s.fuse(*s.get_loops(block)[-dimensions:])
        turns, threads, lanes = s.split(loop, [None, self.tile.threads, vector])
        s.bind(threads, "threadIdx.x")
        s.vectorize(lanes)
        s.unroll(turns)
