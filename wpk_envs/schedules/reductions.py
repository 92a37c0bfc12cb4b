"""Reduced spaces: option lists made shorter, so that a space can be measured whole.

A knob that a reduction does not name keeps all of its options. The encoding stays the same, so that what was learnt on
a reduced space can be used on the full one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from wpk_envs.core import KnobValue

Reduction = Mapping[str, Sequence[KnobValue]]

REDUCTIONS: Mapping[str, Reduction] = MappingProxyType(
    {
        "full": {},
        # Two to four thousand configs of a convolution of some size. Kept are the knobs that decide on CPUs: register
        # tile, algorithm, loop order, unrolling and blocks; fixed is where padding is made and how kernels are reduced.
        "compact": {
            "tile_oc": (1, 2, 4),
            "block_ic": (16, 64, "all"),
            "unroll": (1, 4, 8),
            "unroll_kernel": ("none", "width"),
            "reduce_order": ("ic_outer",),
            "pad_at": ("root",),
            "block_rows": (2, 7, 14, "all"),
        },
    }
)
"""Every named space; ``full`` is the one without any reduction."""
