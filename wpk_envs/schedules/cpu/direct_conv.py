"""Direct convolution on channel-blocked activations with prepacked weights.

The register tile holds ``tile_oh x tile_ow`` output pixels of ``tile_oc`` vectors of output channels;
every step of the reduction broadcasts one input value per pixel against those vectors. Input channels
are stored ``block_ic`` together (NCHWc). Groups are supported; channel counts need not divide anything:
output channels are padded up to whole vectors and input channels to whole blocks, with zero weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from wpk_envs.core import Config, Constraint, DeviceInfo, Kernel, KnobValue, Operator, Template
from wpk_envs.operators import Conv2d
from wpk_envs.schedules.cpu import rules


@dataclass(frozen=True)
class Shape:
    """Extents of the blocked buffers of one operator and config."""

    channel_block: int
    channel_blocks: int
    filter_block: int
    filter_blocks: int
    rows: int
    columns: int
    padded_height: int
    padded_width: int

    @classmethod
    def of(cls, op: Conv2d, config: Config) -> Shape:
        """Derive the extents: channels and filters per group, pixels padded to the register tile."""
        channels, filters = op.channels // op.groups, op.filters // op.groups
        block = config["block_ic"]
        channel_block = channels if block == "all" else int(block)
        filter_block = int(config["tile_oc"]) * int(config["vector"])
        rows = rules.ceil_to(op.out_height, int(config["tile_oh"]))
        columns = rules.ceil_to(op.out_width, int(config["tile_ow"]))
        return cls(
            channel_block=channel_block,
            channel_blocks=-(-channels // channel_block),
            filter_block=filter_block,
            filter_blocks=-(-filters // filter_block),
            rows=rows,
            columns=columns,
            padded_height=(rows - 1) * op.stride[0] + (op.kernel[0] - 1) * op.dilation[0] + 1,
            padded_width=(columns - 1) * op.stride[1] + (op.kernel[1] - 1) * op.dilation[1] + 1,
        )


class DirectConv(Template):
    """Blocked direct convolution with a register tile of pixels by output-channel vectors."""

    name: ClassVar[str] = "cpu/direct_conv"
    version: ClassVar[int] = 1
    knobs: ClassVar[tuple[str, ...]] = (
        "vector",
        "tile_oc",
        "tile_oh",
        "tile_ow",
        "block_ic",
        "unroll",
        "unroll_kernel",
        "order",
        "reduce_order",
        "pad_at",
    )

    default: ClassVar[Mapping[str, KnobValue]] = {
        "vector": 16, "tile_oc": 2, "tile_oh": 1, "tile_ow": 14, "block_ic": 16, "unroll": 2, "unroll_kernel": "width",
        "order": "oc_outer", "reduce_order": "ic_outer", "pad_at": "root",
    }  # fmt: skip

    def fits(self, operator: Operator, device: DeviceInfo) -> bool:
        """Every convolution that is not depthwise, which has its own template."""
        return isinstance(operator, Conv2d) and not rules.is_depthwise(operator)

    def constraints(self, operator: Operator, device: DeviceInfo) -> list[Constraint]:
        """Register tile, unrolled body, padding waste, and choices that would be duplicates."""
        assert isinstance(operator, Conv2d)
        op = operator
        channels, filters = op.channels // op.groups, op.filters // op.groups
        steps = rules.kernel_steps(op)

        def blocks_divide(block: int | str, unroll: int) -> bool:
            return (channels if block == "all" else int(block)) % unroll == 0

        return [
            rules.vector_width(filters, device),
            rules.filter_waste(filters),
            rules.register_tile(("tile_oc", "tile_oh", "tile_ow"), op.out_height * op.out_width, filters, device),
            rules.pixel_waste("tile_oh", op.out_height),
            rules.pixel_waste("tile_ow", op.out_width),
            Constraint(
                ("block_ic",),
                lambda block: block == "all" or (block < channels and rules.little_waste(channels, block)),
                f"block_ic below the {channels} channels with at most a quarter of padding, or 'all'",
            ),
            Constraint(("block_ic", "unroll"), blocks_divide, "unroll divides the block of input channels"),
            rules.unrolled_kernel(op),
            Constraint(
                ("tile_oc", "tile_oh", "tile_ow", "unroll", "unroll_kernel"),
                lambda oc, oh, ow, unroll, kernel: oc * oh * ow * unroll * steps[kernel] <= rules.MAX_UNROLLED_FMAS,
                f"at most {rules.MAX_UNROLLED_FMAS} multiply-adds in the unrolled body",
            ),
            Constraint(
                ("reduce_order",),
                lambda order: order == "ic_outer" or steps["all"] > 1,
                "a 1x1 kernel has one reduction order",
            ),
            Constraint(
                ("order", "pad_at"),
                lambda order, pad_at: pad_at == "root" or (pad_at == "row" and order != "oc_outer"),
                "padding per row block needs the row loop outside the output-channel loop",
            ),
            rules.padding_matters(op),
        ]

    def executed_flops(self, operator: Operator, config: Config) -> float:
        """Multiply-adds over padded pixels, channels and filters, and the epilogue."""
        assert isinstance(operator, Conv2d)
        shape = Shape.of(operator, config)
        pixels = operator.batch * shape.rows * shape.columns
        filters = operator.groups * shape.filter_blocks * shape.filter_block
        reduction = shape.channel_blocks * shape.channel_block * operator.kernel[0] * operator.kernel[1]
        return 2.0 * pixels * filters * reduction

    def static_features(self, operator: Operator, partial: Config, device: DeviceInfo) -> tuple[float, float, float]:
        """Accumulators over registers, bytes touched per output block over L2, and FMAs per load."""
        assert isinstance(operator, Conv2d)
        oc = int(partial.get("tile_oc", 1))
        pixels = int(partial.get("tile_oh", 1)) * int(partial.get("tile_ow", 1))
        lanes = int(partial.get("vector", 1))
        reduction = operator.channels // operator.groups * operator.kernel[0] * operator.kernel[1]
        touched = 4 * (reduction * oc * lanes + reduction * pixels)
        return rules.scaled_features(oc * pixels, touched, oc * pixels / (oc + pixels), device)

    def kernel(self, operator: Operator, config: Config, device: DeviceInfo) -> Kernel:
        """Write the convolution over blocked buffers, then tile, unroll and vectorise it."""
        from tvm import te

        from wpk_envs.schedules.cpu import tensorir as ir

        assert isinstance(operator, Conv2d)
        op, shape = operator, Shape.of(operator, config)
        groups, lanes = op.groups, int(config["vector"])
        blocks_in, blocks_out = shape.channel_blocks, shape.filter_blocks
        (stride_h, stride_w), (dilation_h, dilation_w) = op.stride, op.dilation
        layout_in, layout_out = f"NCHW{shape.channel_block}c", f"NCHW{shape.filter_block}c"

        args = ir.Arguments()
        x = args.add(
            "x",
            (op.batch, groups * blocks_in, op.height, op.width, shape.channel_block),
            layout_in,
            lambda a: rules.block_channels(a, groups, shape.channel_block),
        )
        weight = args.add(
            "weight",
            (groups * blocks_out, blocks_in, *op.kernel, shape.channel_block, shape.filter_block),
            f"OIHW{shape.channel_block}i{shape.filter_block}o",
            lambda a: _pack_weight(a, op, shape),
        )
        out_shape = (op.batch, groups * blocks_out, op.out_height, op.out_width, shape.filter_block)
        bias, residual = rules.epilogue_arguments(args, op, groups, out_shape, layout_out)

        source = x
        if rules.needs_padding(op, int(config["tile_oh"]), int(config["tile_ow"])):
            source = ir.padded_input(x, (shape.padded_height, shape.padded_width), op.padding)
        block = te.reduce_axis((0, blocks_in), "block")
        kh, kw = te.reduce_axis((0, op.kernel[0]), "kh"), te.reduce_axis((0, op.kernel[1]), "kw")
        lane = te.reduce_axis((0, shape.channel_block), "lane")
        conv = te.compute(
            (op.batch, groups * blocks_out, shape.rows, shape.columns, shape.filter_block),
            lambda n, o, h, w, v: te.sum(
                source[n, o // blocks_out * blocks_in + block, h * stride_h + kh * dilation_h,
                       w * stride_w + kw * dilation_w, lane]
                * weight[o, block, kh, kw, lane, v],
                axis=[block, kh, kw, lane],
            ),
            name="conv",
        )  # fmt: skip
        output = te.compute(
            out_shape,
            lambda n, o, h, w, v: ir.epilogue(
                op,
                conv[n, o, h, w, v],
                bias[o, v] if bias is not None else None,
                residual[n, o, h, w, v] if residual is not None else None,
            ),
            name="output",
        )
        schedule, finish = args.finish(output, layout_out, lambda a: rules.unblock_channels(a, groups, op.filters))
        _schedule(schedule, config, lanes, device.threads, padded=source is not x)
        return finish()


def _pack_weight(weight: np.ndarray, op: Conv2d, shape: Shape) -> np.ndarray:
    """``[O, C/g, kh, kw]`` to ``[g*O', C', kh, kw, c, o]``, zero where channels or filters are padding."""
    filters, channels = op.filters // op.groups, op.channels // op.groups
    padded = np.zeros(
        (op.groups, shape.filter_blocks * shape.filter_block, shape.channel_blocks * shape.channel_block, *op.kernel),
        dtype=np.float32,
    )
    padded[:, :filters, :channels] = weight.reshape(op.groups, filters, channels, *op.kernel)
    blocked = padded.reshape(
        op.groups, shape.filter_blocks, shape.filter_block, shape.channel_blocks, shape.channel_block, *op.kernel
    )
    ordered = blocked.transpose(0, 1, 3, 5, 6, 4, 2)
    return np.ascontiguousarray(ordered).reshape(op.groups * shape.filter_blocks, *ordered.shape[2:])


def _schedule(s: Any, config: Config, lanes: int, threads: int, padded: bool) -> None:
    from wpk_envs.schedules.cpu import tensorir as ir

    out, conv = s.get_sblock("output"), s.get_sblock("conv")
    n, o, h, w, v = s.get_loops(out)
    ho, hi = s.split(h, [None, int(config["tile_oh"])])
    wo, wi = s.split(w, [None, int(config["tile_ow"])])
    outer = {"oc_outer": [o, ho, wo], "oc_middle": [ho, o, wo], "oc_inner": [ho, wo, o]}[str(config["order"])]
    s.reorder(n, *outer, hi, wi, v)
    s.compute_at(conv, outer[-1], preserve_unit_loops=True)
    s.set_scope(conv, 0, "local")
    ir.unroll_all(s, [hi, wi])
    ir.vectorize_lanes(s, v, lanes)

    ch, cw, cv, block, kh, kw, lane = s.get_loops(conv)[-7:]
    lane_o, lane_i = s.split(lane, [None, int(config["unroll"])])
    reduction = [block, kh, kw, lane_o] if config["reduce_order"] == "ic_outer" else [kh, kw, block, lane_o]
    vo, vi = s.split(cv, [None, lanes])
    s.reorder(*reduction, lane_i, ch, cw, vo, vi)
    s.vectorize(vi)
    ir.unroll_all(s, [ch, cw, vo, lane_i])
    ir.unroll_kernel(s, config["unroll_kernel"], kh, kw)
    if padded:
        pad = s.get_sblock("pad")
        if config["pad_at"] == "row":
            s.compute_at(pad, ho, preserve_unit_loops=True)
        ir.vectorize_copy(s, s.get_loops(pad)[-1], lanes)
        if config["pad_at"] == "root":
            ir.parallel_outer(s, s.get_loops(pad)[:3], threads)
    ir.parallel_outer(s, [n, outer[0]], threads)

    ir.split_initialisation(s, conv, reduction[0], 4)
