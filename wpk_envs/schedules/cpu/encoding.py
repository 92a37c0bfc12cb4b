"""The knobs of every CPU template, in the one order that observations and actions use."""

from __future__ import annotations

from wpk_envs.core import Knob
from wpk_envs.schedules.space import Encoding

CPU_ENCODING = Encoding(
    device_kind="cpu",
    version=1,
    knobs=(
        Knob("template", ("direct_conv", "winograd_conv", "depthwise_conv", "gemm"), "the algorithm"),
        Knob("winograd_m", (2, 4, 6), "output tile edge m of Winograd F(m x m, 3x3)"),
        Knob("vector", (4, 8, 16), "float32 lanes of one vector"),
        Knob("tile_oc", (1, 2, 3, 4, 6, 8), "register tile: vectors of output channels (columns of a GEMM)"),
        Knob("tile_oh", (1, 2, 3, 4, 7, 8), "register tile: output rows (rows of Winograd tiles)"),
        Knob(
            "tile_ow",
            (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28),
            "register tile: output columns (Winograd tiles along a row, rows of a GEMM)",
        ),
        Knob("block_ic", (4, 8, 16, 32, 64, 128, "all"), "input channels stored together (c of NCHWc; 'all': NHWC)"),
        Knob("unroll", (1, 2, 4, 8, 16), "unrolled steps of the innermost reduction loop"),
        Knob("unroll_kernel", ("none", "width", "all"), "kernel loops that are unrolled"),
        Knob("order", ("oc_outer", "oc_middle", "oc_inner"), "place of the output-channel loop among the outer loops"),
        Knob("reduce_order", ("ic_outer", "kernel_outer"), "order of the reduction loops"),
        Knob(
            "pad_at",
            ("root", "outer", "row"),
            "where the padded input is made: up front, per channel block, per row block",
        ),
        Knob("block_rows", (1, 2, 3, 4, 7, 14, 28, "all"), "rows of output (or of Winograd tiles) per cache block"),
        Knob("block_m", ("none", 32, 64, 128, 256), "rows per cache block of a GEMM with order oc_middle"),
        Knob("pack_a", ("no", "yes"), "copy A into panels of the row tile first"),
        Knob("pad_m", ("no", "yes"), "pad the rows of a GEMM to the row tile"),
    ),
)
