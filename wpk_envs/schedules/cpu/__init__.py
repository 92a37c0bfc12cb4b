"""CPU schedules: the templates, in the order of the encoding's first knob."""

from wpk_envs.core import Template
from wpk_envs.schedules.cpu.depthwise_conv import DepthwiseConv
from wpk_envs.schedules.cpu.direct_conv import DirectConv
from wpk_envs.schedules.cpu.encoding import CPU_ENCODING
from wpk_envs.schedules.cpu.gemm import GemmTemplate
from wpk_envs.schedules.cpu.winograd_conv import WinogradConv

CPU_TEMPLATES: tuple[Template, ...] = (DirectConv(), WinogradConv(), DepthwiseConv(), GemmTemplate())

__all__ = ["CPU_ENCODING", "CPU_TEMPLATES", "DepthwiseConv", "DirectConv", "GemmTemplate", "WinogradConv"]
