"""GEMM: tiles in shared memory and registers, fetched ahead, the reduction split over blocks where it pays.

`ProductTemplate` is what it shares with the implicit GEMM: only which operators fit is another matter.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import ClassVar

from wpk_envs.core import Config, Constraint, DeviceInfo, Kernel, KnobValue, Operator, Template
from wpk_envs.operators import Conv2d, Gemm
from wpk_envs.schedules.cuda import product as tiles
from wpk_envs.schedules.cuda.product import Product, Tile
from wpk_envs.schedules.cuda.views import kernel_of, layouts, view_of


class ProductTemplate(Template):
    """Any operator that is one product per image and group, in the layouts that `views.layouts` names.

    Its default schedule is the textbook one: tiles of 64 x 64 x 8 in shared memory, 256 threads with 4 x 4 outputs
    each, one step of 8 unrolled, nothing fetched ahead, scalar loads, pixels side by side.
    """

    knobs: ClassVar[tuple[str, ...]] = ("layout", *tiles.PRODUCT_KNOBS)
    default: ClassVar[Mapping[str, KnobValue]] = {
        "layout": "nchw",
        "block_m": 64,
        "block_n": 64,
        "split_k": 1,
        "block_k": 8,
        "stage": 1,
        "thread_m": 4,
        "thread_n": 4,
        "vthread_m": 1,
        "vthread_n": 1,
        "unroll": 8,
        "vector_load": 1,
    }

    def constraints(self, operator: Operator, device: DeviceInfo) -> list[Constraint]:
        """The product's rules, and which layouts there are."""
        allowed = layouts(operator)
        return [
            Constraint(("layout",), lambda layout: layout in allowed, f"layout is one of {', '.join(allowed)}"),
            *tiles.constraints(("layout",), functools.partial(_product, operator), device),
        ]

    def executed_flops(self, operator: Operator, config: Config) -> float:
        """Multiply-adds over whole tiles, and the sums of a split reduction."""
        return tiles.executed_flops(_product(operator, str(config["layout"])), Tile.of(config))

    def static_features(self, operator: Operator, partial: Config, device: DeviceInfo) -> tuple[float, float, float]:
        """Accumulators of a thread, shared memory of a block, multiply-adds per element read from shared memory."""
        layout = str(partial.get("layout", layouts(operator)[0]))
        return tiles.static_features(_product(operator, layout), Tile.of(partial), device)

    def kernel(self, operator: Operator, config: Config, device: DeviceInfo) -> Kernel:
        """Write the product over a view of the operands, then tile, bind and unroll it."""
        assert isinstance(operator, (Conv2d, Gemm))
        return kernel_of(view_of(operator, str(config["layout"])), operator, Tile.of(config))


class GemmTemplate(ProductTemplate):
    """Matrix products, and 1x1 convolutions, which are nothing else."""

    name: ClassVar[str] = "cuda/gemm"
    version: ClassVar[int] = 1

    def fits(self, operator: Operator, device: DeviceInfo) -> bool:
        """Matrix products, and dense 1x1 convolutions without padding."""
        if isinstance(operator, Conv2d):
            return operator.kernel == (1, 1) and operator.groups == 1 and not any(operator.padding)
        return isinstance(operator, Gemm)


def _product(operator: Operator, layout: str) -> Product:
    return view_of(operator, layout).product
