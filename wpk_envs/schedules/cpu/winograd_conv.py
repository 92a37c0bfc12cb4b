"""Winograd convolution F(m x m, 3 x 3) for stride 1, blocked so that transformed tiles stay in cache.

For every block of ``block_rows`` rows of tiles: transform the input tiles, multiply by the prepacked
filters with a GEMM per transformed point (register tile ``tile_oh x tile_ow`` tiles by ``tile_oc`` vectors
of output channels), transform back, apply the epilogue. Filters are transformed offline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from wpk_envs.core import Config, Constraint, DeviceInfo, Kernel, KnobValue, Operator, Template
from wpk_envs.operators import Conv2d
from wpk_envs.schedules import winograd
from wpk_envs.schedules.cpu import rules


@dataclass(frozen=True)
class Shape:
    """Extents of the tiled buffers of one operator and config."""

    m: int
    edge: int
    lanes: int
    blocks_in: int
    blocks_out: int
    filter_block: int
    filter_blocks: int
    block_rows: int
    rows: int
    columns: int

    @classmethod
    def of(cls, op: Conv2d, config: Config) -> Shape:
        """Derive the extents: rows of tiles padded to the cache block, columns to the register tile."""
        m, lanes = int(config["winograd_m"]), int(config["vector"])
        filter_block = int(config["tile_oc"]) * lanes
        tile_rows = -(-op.out_height // m)
        block_rows = rows_per_block(config["block_rows"], tile_rows)
        return cls(
            m=m,
            edge=m + winograd.KERNEL - 1,
            lanes=lanes,
            blocks_in=-(-op.channels // lanes),
            blocks_out=-(-op.filters // lanes),
            filter_block=filter_block,
            filter_blocks=-(-op.filters // filter_block),
            block_rows=block_rows,
            rows=rules.ceil_to(tile_rows, block_rows),
            columns=rules.ceil_to(-(-op.out_width // m), int(config["tile_ow"])),
        )


def rows_per_block(option: KnobValue, tile_rows: int) -> int:
    """Rows of tiles in a cache block; 'all' is every row."""
    return tile_rows if option == "all" else int(option)


class WinogradConv(Template):
    """F(2x2), F(4x4) and F(6x6) for 3x3 convolutions of stride 1."""

    name: ClassVar[str] = "cpu/winograd_conv"
    version: ClassVar[int] = 1
    tolerance: ClassVar[float] = 2e-4
    knobs: ClassVar[tuple[str, ...]] = (
        "winograd_m",
        "vector",
        "tile_oc",
        "tile_oh",
        "tile_ow",
        "unroll",
        "order",
        "pad_at",
        "block_rows",
    )

    def fits(self, operator: Operator, device: DeviceInfo) -> bool:
        """Dense 3x3 convolutions of stride and dilation 1."""
        if not isinstance(operator, Conv2d) or operator.groups != 1:
            return False
        return operator.kernel == (3, 3) and operator.stride == (1, 1) and operator.dilation == (1, 1)

    def constraints(self, operator: Operator, device: DeviceInfo) -> list[Constraint]:
        """Register tile, tiling waste, cache footprint of the transformed block, unrolled body."""
        assert isinstance(operator, Conv2d)
        op = operator

        def tiles(extent: int, m: int) -> int:
            return -(-extent // m)

        def little_waste(m: int) -> bool:
            height, width = tiles(op.out_height, m) * m, tiles(op.out_width, m) * m
            return m == 2 or height * width <= 1.5 * op.out_height * op.out_width

        def rows_fit(m: int, block: KnobValue) -> bool:
            rows = tiles(op.out_height, m)
            return block == "all" or (int(block) < rows and rules.little_waste(rows, int(block)))

        def rows_divide(m: int, tile_oh: int, block: KnobValue) -> bool:
            return rows_per_block(block, tiles(op.out_height, m)) % tile_oh == 0

        def columns_fit(m: int, tile_ow: int) -> bool:
            columns = tiles(op.out_width, m)
            return tile_ow == 1 or (tile_ow < 2 * columns and rules.little_waste(columns, tile_ow))

        def in_cache(m: int, block: KnobValue) -> bool:
            rows = rows_per_block(block, tiles(op.out_height, m))
            footprint = 4 * (m + 2) ** 2 * rows * tiles(op.out_width, m) * (op.channels + op.filters)
            return rows == 1 or footprint <= 4 * device.limits["l2_bytes"]

        pixels = tiles(op.out_height, 4) * tiles(op.out_width, 4)
        most = rules.MAX_UNROLLED_FMAS
        return [
            rules.vector_width(op.filters, device),
            rules.filter_waste(op.filters),
            rules.register_tile(("tile_oc", "tile_oh", "tile_ow"), pixels, op.filters, device),
            Constraint(("winograd_m",), little_waste, "tiles cover the output with at most half of it wasted"),
            Constraint(("winograd_m", "tile_ow"), columns_fit, "tile_ow pads a row of tiles by at most a third"),
            Constraint(("winograd_m", "block_rows"), rows_fit, "block_rows below the rows of tiles, or 'all'"),
            Constraint(("winograd_m", "tile_oh", "block_rows"), rows_divide, "tile_oh divides block_rows"),
            Constraint(("winograd_m", "block_rows"), in_cache, "transformed tiles of a block within 4 L2 caches"),
            Constraint(("unroll",), lambda unroll: op.channels % unroll == 0, "unroll divides the input channels"),
            Constraint(
                ("tile_oc", "tile_oh", "tile_ow", "unroll"),
                lambda oc, oh, ow, unroll: oc * oh * ow * unroll <= most,
                f"at most {most} multiply-adds in the unrolled body",
            ),
            Constraint(("order",), lambda order: order != "oc_middle", "the GEMM has two loop orders"),
            Constraint(("pad_at",), lambda pad_at: pad_at != "outer", "padding is up front or per block of rows"),
        ]

    def executed_flops(self, operator: Operator, config: Config) -> float:
        """The reduced multiply-adds over padded tiles plus both transforms."""
        assert isinstance(operator, Conv2d)
        shape, matrix = Shape.of(operator, config), winograd.matrices(int(config["winograd_m"]))
        tiles = operator.batch * shape.rows * shape.columns
        gemm = 2 * shape.edge**2 * operator.channels * shape.filter_blocks * shape.filter_block
        once_in = winograd.transform_flops(matrix.bt) * 2 * shape.edge * shape.blocks_in * shape.lanes
        once_out = winograd.transform_flops(matrix.at) * (shape.edge + shape.m) * shape.blocks_out * shape.lanes
        return float(tiles * (gemm + once_in + once_out))

    def static_features(self, operator: Operator, partial: Config, device: DeviceInfo) -> tuple[float, float, float]:
        """Accumulators over registers, transformed bytes of a block over L1, and FMAs per load."""
        assert isinstance(operator, Conv2d)
        m = int(partial.get("winograd_m", 2))
        oc, tiles = int(partial.get("tile_oc", 1)), int(partial.get("tile_oh", 1)) * int(partial.get("tile_ow", 1))
        rows = rows_per_block(partial.get("block_rows", 1), -(-operator.out_height // m))
        columns = -(-operator.out_width // m)
        touched = 4 * (m + 2) ** 2 * rows * columns * (operator.channels + operator.filters)
        return rules.scaled_features(oc * tiles, touched, oc * tiles / (oc + tiles), device)

    def kernel(self, operator: Operator, config: Config, device: DeviceInfo) -> Kernel:
        """Write the three stages over tiles, then fuse them block by block."""
        from tvm import te

        from wpk_envs.schedules.cpu import tensorir as ir

        assert isinstance(operator, Conv2d)
        op, shape, matrix = operator, Shape.of(operator, config), winograd.matrices(int(config["winograd_m"]))
        m, edge, lanes = shape.m, shape.edge, shape.lanes
        layout = f"NCHW{lanes}c"

        args = ir.Arguments()
        x = args.add(
            "x", (op.batch, shape.blocks_in, op.height, op.width, lanes), layout,
            lambda a: rules.block_channels(a, 1, lanes),
        )  # fmt: skip
        weight = args.add(
            "weight", (edge, edge, shape.filter_blocks, op.channels, shape.filter_block),
            f"F({m}x{m},3x3) HWOI{shape.filter_block}o", lambda a: _pack_weight(a, shape),
        )  # fmt: skip
        out_shape = (op.batch, shape.blocks_out, op.out_height, op.out_width, lanes)
        bias, residual = rules.epilogue_arguments(args, op, 1, out_shape, layout)

        border = winograd.KERNEL - 1
        pad = ir.padded_input(x, (shape.rows * m + border, shape.columns * m + border), op.padding)
        tiles = (op.batch, shape.rows, shape.columns)
        half_in = te.compute(
            (*tiles, shape.blocks_in, edge, edge, lanes),
            lambda n, h, w, c, e, b, v: ir.linear(matrix.bt, e, lambda a: pad[n, c, h * m + a, w * m + b, v]),
            name="half_in",
        )
        data = te.compute(
            (op.batch, edge, edge, shape.rows, shape.columns, shape.blocks_in * lanes),
            lambda n, e, f, h, w, c: ir.linear(matrix.bt, f, lambda b: half_in[n, h, w, c // lanes, e, b, c % lanes]),
            name="data",
        )
        k = te.reduce_axis((0, op.channels), "k")
        product = te.compute(
            (op.batch, edge, edge, shape.rows, shape.columns, shape.filter_blocks * shape.filter_block),
            lambda n, e, f, h, w, o: te.sum(
                data[n, e, f, h, w, k] * weight[e, f, o // shape.filter_block, k, o % shape.filter_block], axis=k
            ),
            name="product",
        )
        half_out = te.compute(
            (*tiles, shape.blocks_out, m, edge, lanes),
            lambda n, h, w, o, y, f, v: ir.linear(matrix.at, y, lambda e: product[n, e, f, h, w, o * lanes + v]),
            name="half_out",
        )
        result = te.compute(
            (*tiles, shape.blocks_out, m, m, lanes),
            lambda n, h, w, o, y, z, v: ir.linear(matrix.at, z, lambda f: half_out[n, h, w, o, y, f, v]),
            name="result",
        )
        output = te.compute(
            out_shape,
            lambda n, o, h, w, v: ir.epilogue(
                op,
                result[n, h // m, w // m, o, h % m, w % m, v],
                bias[o, v] if bias is not None else None,
                residual[n, o, h, w, v] if residual is not None else None,
            ),
            name="output",
        )
        schedule, finish = args.finish(output, layout, lambda a: rules.unblock_channels(a, 1, op.filters))
        _schedule(schedule, config, shape, device.threads)
        return finish()


def _schedule(s: Any, config: Config, shape: Shape, threads: int) -> None:
    from wpk_envs.schedules.cpu import tensorir as ir

    block = s.get_sblock
    output, product = block("output"), block("product")
    n, o, h, w, v = s.get_loops(output)
    tile_row, y = s.split(h, [shape.rows, shape.m])
    tile_column, z = s.split(w, [shape.columns, shape.m])
    row_block, row = s.split(tile_row, [None, shape.block_rows])
    s.reorder(n, row_block, row, tile_column, o, y, z, v)
    for name, loop in (("result", o), ("half_out", o), ("product", row_block), ("data", row_block)):
        s.compute_at(block(name), loop, preserve_unit_loops=True)

    e, f, row_in, column_in, c = s.get_loops(block("data"))[-5:]
    c_block, lane = s.split(c, [None, shape.lanes])
    s.reorder(row_in, column_in, c_block, e, f, lane)
    s.compute_at(block("half_in"), c_block, preserve_unit_loops=True)
    for name in ("half_in", "half_out", "result"):
        s.set_scope(block(name), 0, "local")
        *unrolled, vector = s.get_loops(block(name))[-3:]
        ir.unroll_all(s, unrolled)
        s.vectorize(vector)
    ir.unroll_all(s, [e, f])
    s.vectorize(lane)
    ir.unroll_all(s, [y, z])
    s.vectorize(v)

    k_o = _schedule_product(s, product, config, shape)
    if config["pad_at"] == "row":
        s.compute_at(block("pad"), row_block, preserve_unit_loops=True)
    ir.vectorize_copy(s, s.get_loops(block("pad"))[-1], shape.lanes)
    if config["pad_at"] == "root":
        ir.parallel_outer(s, s.get_loops(block("pad"))[:3], threads)
    ir.parallel_outer(s, [n, row_block], threads)

    ir.split_initialisation(s, product, k_o, 4)


def _schedule_product(s: Any, product: Any, config: Config, shape: Shape) -> Any:
    """Tile the GEMM over transformed points; returns the loop where its initialisation splits off."""
    from wpk_envs.schedules.cpu import tensorir as ir

    local = s.cache_write(product, 0, "local")
    e, f, row, column, o, k = s.get_loops(product)[-6:]
    row_o, row_i = s.split(row, [None, int(config["tile_oh"])])
    column_o, column_i = s.split(column, [None, int(config["tile_ow"])])
    o_block, o_vector, o_lane = s.split(o, [None, int(config["tile_oc"]), shape.lanes])
    k_o, k_i = s.split(k, [None, int(config["unroll"])])
    outer = [o_block, row_o, column_o] if config["order"] == "oc_outer" else [row_o, column_o, o_block]
    s.reorder(e, f, *outer, k_o, k_i, row_i, column_i, o_vector, o_lane)
    s.reverse_compute_at(local, outer[-1], preserve_unit_loops=True)
    *write, lanes = s.get_loops(local)[-3:]
    ir.unroll_all(s, write)
    ir.vectorize_lanes(s, lanes, shape.lanes)
    s.vectorize(o_lane)
    ir.unroll_all(s, [k_i, row_i, column_i, o_vector])
    return k_o


def _pack_weight(weight: np.ndarray, shape: Shape) -> np.ndarray:
    """``[O, C, 3, 3]`` to transformed ``[edge, edge, O', C, o]``, zero where filters are padding."""
    filters, channels = weight.shape[:2]
    padded = np.zeros((shape.edge, shape.edge, shape.filter_blocks * shape.filter_block, channels), dtype=np.float32)
    padded[:, :, :filters] = winograd.transform_filters(weight, shape.m)
    blocked = padded.reshape(shape.edge, shape.edge, shape.filter_blocks, shape.filter_block, channels)
    return np.ascontiguousarray(blocked.swapaxes(-1, -2))
