"""Depthwise convolution: every channel on its own, vectorised over channels.

The register tile holds ``tile_oh x tile_ow`` output pixels of ``tile_oc`` vectors of channels, which are
also stored together (NCHWc).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from wpk_envs.core import Config, Constraint, DeviceInfo, Kernel, KnobValue, Operator, Template
from wpk_envs.operators import Conv2d
from wpk_envs.schedules.cpu import rules


class DepthwiseConv(Template):
    """Depthwise convolution on channel-blocked activations."""

    name: ClassVar[str] = "cpu/depthwise_conv"
    version: ClassVar[int] = 1
    knobs: ClassVar[tuple[str, ...]] = (
        "vector",
        "tile_oc",
        "tile_oh",
        "tile_ow",
        "unroll_kernel",
        "pad_at",
    )

    default: ClassVar[Mapping[str, KnobValue]] = {
        "vector": 16, "tile_oc": 1, "tile_oh": 1, "tile_ow": 14, "unroll_kernel": "all", "pad_at": "outer",
    }  # fmt: skip

    def fits(self, operator: Operator, device: DeviceInfo) -> bool:
        """Convolutions with one filter per channel and as many groups as channels."""
        return isinstance(operator, Conv2d) and rules.is_depthwise(operator)

    def constraints(self, operator: Operator, device: DeviceInfo) -> list[Constraint]:
        """Register tile, padding waste, unrolled body."""
        assert isinstance(operator, Conv2d)
        op = operator
        steps = rules.kernel_steps(op)
        most = rules.MAX_UNROLLED_FMAS
        return [
            rules.vector_width(op.filters, device),
            rules.filter_waste(op.filters),
            rules.register_tile(("tile_oc", "tile_oh", "tile_ow"), op.out_height * op.out_width // 2, 1, device),
            rules.pixel_waste("tile_oh", op.out_height),
            rules.pixel_waste("tile_ow", op.out_width),
            rules.unrolled_kernel(op),
            Constraint(
                ("tile_oc", "tile_oh", "tile_ow", "unroll_kernel"),
                lambda oc, oh, ow, kernel: oc * oh * ow * steps[kernel] <= most,
                f"at most {most} multiply-adds in the unrolled body",
            ),
            rules.padding_matters(op),
        ]

    def executed_flops(self, operator: Operator, config: Config) -> float:
        """Multiply-adds over padded pixels and channels."""
        assert isinstance(operator, Conv2d)
        rows = rules.ceil_to(operator.out_height, int(config["tile_oh"]))
        columns = rules.ceil_to(operator.out_width, int(config["tile_ow"]))
        channels = rules.ceil_to(operator.channels, int(config["tile_oc"]) * int(config["vector"]))
        return 2.0 * operator.batch * rows * columns * channels * operator.kernel[0] * operator.kernel[1]

    def static_features(self, operator: Operator, partial: Config, device: DeviceInfo) -> tuple[float, float, float]:
        """Accumulators over registers, bytes of one channel block's image over L1, and FMAs per load."""
        assert isinstance(operator, Conv2d)
        oc = int(partial.get("tile_oc", 1))
        pixels = int(partial.get("tile_oh", 1)) * int(partial.get("tile_ow", 1))
        taps = operator.kernel[0] * operator.kernel[1]
        touched = 4 * oc * int(partial.get("vector", 1)) * (operator.height * operator.width + taps)
        return rules.scaled_features(oc * pixels, touched, pixels * taps / (pixels + taps), device)

    def kernel(self, operator: Operator, config: Config, device: DeviceInfo) -> Kernel:
        """Write the convolution over blocked buffers, then tile, unroll and vectorise it."""
        from tvm import te

        from wpk_envs.schedules.cpu import tensorir as ir

        assert isinstance(operator, Conv2d)
        op, block = operator, int(config["tile_oc"]) * int(config["vector"])
        blocks = -(-op.channels // block)
        tile_oh, tile_ow = int(config["tile_oh"]), int(config["tile_ow"])
        rows, columns = rules.ceil_to(op.out_height, tile_oh), rules.ceil_to(op.out_width, tile_ow)
        (stride_h, stride_w), (dilation_h, dilation_w) = op.stride, op.dilation
        layout = f"NCHW{block}c"

        args = ir.Arguments()
        x = args.add(
            "x", (op.batch, blocks, op.height, op.width, block), layout, lambda a: rules.block_channels(a, 1, block)
        )
        weight = args.add("weight", (blocks, *op.kernel, block), f"CHW{block}c", lambda a: _pack_weight(a, block))
        out_shape = (op.batch, blocks, op.out_height, op.out_width, block)
        bias, residual = rules.epilogue_arguments(args, op, 1, out_shape, layout)

        source = x
        if rules.needs_padding(op, tile_oh, tile_ow):
            height = (rows - 1) * stride_h + (op.kernel[0] - 1) * dilation_h + 1
            width = (columns - 1) * stride_w + (op.kernel[1] - 1) * dilation_w + 1
            source = ir.padded_input(x, (height, width), op.padding)
        kh, kw = te.reduce_axis((0, op.kernel[0]), "kh"), te.reduce_axis((0, op.kernel[1]), "kw")
        conv = te.compute(
            (op.batch, blocks, rows, columns, block),
            lambda n, c, h, w, v: te.sum(
                source[n, c, h * stride_h + kh * dilation_h, w * stride_w + kw * dilation_w, v] * weight[c, kh, kw, v],
                axis=[kh, kw],
            ),
            name="conv",
        )
        output = te.compute(
            out_shape,
            lambda n, c, h, w, v: ir.epilogue(
                op,
                conv[n, c, h, w, v],
                bias[c, v] if bias is not None else None,
                residual[n, c, h, w, v] if residual is not None else None,
            ),
            name="output",
        )
        schedule, finish = args.finish(output, layout, lambda a: rules.unblock_channels(a, 1, op.channels))
        _schedule(schedule, config, device.threads, padded=source is not x)
        return finish()


def _pack_weight(weight: np.ndarray, block: int) -> np.ndarray:
    """``[C, 1, kh, kw]`` to ``[C', kh, kw, c]``."""
    blocked = rules.block_channels(weight.transpose(1, 0, 2, 3), 1, block)
    return blocked[0]


def _schedule(s: Any, config: Config, threads: int, padded: bool) -> None:
    from wpk_envs.schedules.cpu import tensorir as ir

    lanes = int(config["vector"])
    out, conv = s.get_sblock("output"), s.get_sblock("conv")
    n, c, h, w, v = s.get_loops(out)
    ho, hi = s.split(h, [None, int(config["tile_oh"])])
    wo, wi = s.split(w, [None, int(config["tile_ow"])])
    s.reorder(n, c, ho, wo, hi, wi, v)
    s.compute_at(conv, wo, preserve_unit_loops=True)
    s.set_scope(conv, 0, "local")
    ir.unroll_all(s, [hi, wi])
    ir.vectorize_lanes(s, v, lanes)

    ch, cw, cv, kh, kw = s.get_loops(conv)[-5:]
    vo, vi = s.split(cv, [None, lanes])
    s.reorder(kh, kw, ch, cw, vo, vi)
    s.vectorize(vi)
    ir.unroll_all(s, [ch, cw, vo])
    ir.unroll_kernel(s, config["unroll_kernel"], kh, kw)
    if padded:
        pad = s.get_sblock("pad")
        if config["pad_at"] != "root":
            s.compute_at(pad, c if config["pad_at"] == "outer" else ho, preserve_unit_loops=True)
        ir.vectorize_copy(s, s.get_loops(pad)[-1], lanes)
        if config["pad_at"] == "root":
            ir.parallel_outer(s, s.get_loops(pad)[:3], threads)
    ir.parallel_outer(s, [n, c], threads)

    ir.split_initialisation(s, conv, kh, 4)
