"""GPU schedules: the templates, in the order of the encoding's first knob."""

from wpk_envs.core import Template
from wpk_envs.schedules.cuda.depthwise_conv import DepthwiseConv
from wpk_envs.schedules.cuda.direct_conv import DirectConv
from wpk_envs.schedules.cuda.encoding import CUDA_ENCODING
from wpk_envs.schedules.cuda.gemm import GemmTemplate
from wpk_envs.schedules.cuda.implicit_gemm_conv import ImplicitGemmConv
from wpk_envs.schedules.cuda.winograd_conv import WinogradConv

CUDA_TEMPLATES: tuple[Template, ...] = (
    DirectConv(),
    ImplicitGemmConv(),
    WinogradConv(),
    DepthwiseConv(),
    GemmTemplate(),
)

__all__ = [
    "CUDA_ENCODING",
    "CUDA_TEMPLATES",
    "DepthwiseConv",
    "DirectConv",
    "GemmTemplate",
    "ImplicitGemmConv",
    "WinogradConv",
]
