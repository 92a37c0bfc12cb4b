"""What is computed: convolutions and matrix products, named ones, and the suites of whole networks."""

from wpk_envs.operators.conv2d import Conv2d
from wpk_envs.operators.gemm import Gemm
from wpk_envs.operators.registry import from_dict, get, names, override
from wpk_envs.operators.suites import Member, Suite, suites

__all__ = ["Conv2d", "Gemm", "Member", "Suite", "from_dict", "get", "names", "override", "suites"]
