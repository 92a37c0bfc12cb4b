"""The knobs of every GPU template, in the one order that observations and actions use."""

from __future__ import annotations

from wpk_envs.core import Knob
from wpk_envs.schedules.space import Encoding

CUDA_ENCODING = Encoding(
    device_kind="cuda",
    version=1,
    knobs=(
        Knob(
            "template",
            ("direct_conv", "implicit_gemm_conv", "winograd_conv", "depthwise_conv", "gemm"),
            "the algorithm",
        ),
        Knob("layout", ("nchw", "nhwc"), "layout of activations: pixels (nchw) or channels (nhwc) lie side by side"),
        Knob("winograd_m", (2, 4), "output tile edge m of Winograd F(m x m, 3x3)"),
        Knob("block_m", (1, 2, 4, 8, 16, 32, 64, 128), "rows of the product (channels) that a thread block computes"),
        Knob("block_n", (8, 16, 32, 64, 128, 256), "columns of the product that a thread block computes"),
        Knob("tile_oh", (1, 2, 4, 7, 8, 14, 16), "output rows of a thread block's patch"),
        Knob("tile_ow", (4, 7, 8, 14, 16, 28, 32, 56, 64), "output columns of a thread block's patch"),
        Knob("split_k", (1, 2, 4, 8, 16, 32), "parts of the reduction that blocks of their own sum up"),
        Knob("block_k", (1, 2, 4, 8, 16, 32), "steps of the reduction whose operands lie in shared memory together"),
        Knob(
            "stage",
            (1, 2),
            "2: the next operands are fetched into registers during the arithmetic (depthwise: the patch lies in "
            "shared memory)",
        ),
        Knob("thread_m", (1, 2, 4, 8), "neighbouring rows of one thread's register tile"),
        Knob("thread_n", (1, 2, 4, 7, 8), "neighbouring columns of one thread's register tile"),
        Knob("vthread_m", (1, 2, 4), "strided repetitions of the register tile along the rows (virtual threads)"),
        Knob("vthread_n", (1, 2, 4), "strided repetitions of the register tile along the columns"),
        Knob("unroll", (1, 2, 4, 8, 16), "unrolled steps of the innermost reduction loop"),
        Knob("vector_load", (1, 2, 4), "floats of one load from global memory"),
        Knob("threads", (32, 64, 128, 256), "threads of a block of the transforms"),
    ),
)
