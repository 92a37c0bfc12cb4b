"""Convolution as a matrix product whose image columns exist only in shared memory, never in global memory."""

from __future__ import annotations

from typing import ClassVar

from wpk_envs.core import DeviceInfo, Operator
from wpk_envs.operators import Conv2d
from wpk_envs.schedules.cuda.gemm import ProductTemplate


class ImplicitGemmConv(ProductTemplate):
    """Implicit GEMM for any convolution with a window, grouped ones too."""

    name: ClassVar[str] = "cuda/implicit_gemm_conv"
    version: ClassVar[int] = 1

    def fits(self, operator: Operator, device: DeviceInfo) -> bool:
        """Convolutions but depthwise ones, whose product has one row, and those that are a plain GEMM."""
        if not isinstance(operator, Conv2d) or operator.is_depthwise:
            return False
        return operator.kernel != (1, 1) or operator.groups > 1 or any(operator.padding)
