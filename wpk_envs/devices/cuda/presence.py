"""Whether there is a GPU here that this suite can use, found out without a heavy import where there is none."""

from __future__ import annotations

import ctypes
import functools
import logging
import os

from wpk_envs.devices.cuda import toolchain
from wpk_envs.errors import UserError

logger = logging.getLogger(__name__)


@functools.cache
def usable() -> bool:
    """Whether kernels can be compiled here for a GPU that torch can use too; imports torch where there is a GPU."""
    if gpu_count() == 0:
        return False
    import torch

    if not torch.cuda.is_available():
        logger.info("there is a GPU, but this torch cannot use it")
        return False
    major, minor = torch.cuda.get_device_capability(0)
    try:
        toolchain.check_arch(f"sm_{major}{minor}")
    except UserError as error:
        logger.info("the GPU is not used: %s", error)
        return False
    return True


def gpu_count() -> int:
    """GPUs that the NVIDIA driver shows to this process; none without a driver."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    return 0 if failed else count.value
