"""PyTorch's compiler, with everything switched on that makes a fixed model faster."""

from __future__ import annotations

import functools
import os
import shutil
from typing import Any

from experiments.peers.contract import Peer, Prepared
from experiments.peers.hand_over import module_of, quiet
from experiments.peers.torch_eager import library_of, missing_gpu, prepared, set_up
from wpk_envs.planner.importing import Source

MODES = {"cpu": "max-autotune-no-cudagraphs", "cuda": "max-autotune"}
ENTRIES = 64
"""Models with the same ``forward`` that one process may compile; torch alone stops at 8 and runs the rest eagerly."""


class TorchCompile(Peer):
    """``torch.compile`` with freezing and max-autotune.

    Weights are constants of the program (``freezing``: BatchNorm is folded into them, oneDNN's weights are packed
    ahead), shapes are static, matrix products are chosen by timing torch's C++ templates against the libraries
    (``max-autotune``; on a GPU with CUDA graphs). Everything of `TorchEager` holds as well: channels last,
    ``inference_mode``.

    Args:
        kind: Of device: ``"cpu"`` or ``"cuda"``.
    """

    name = "torch_compile"
    label = "torch.compile"

    def __init__(self, kind: str = "cpu") -> None:
        self._kind = kind

    def supported(self, kind: str, machine: str) -> bool:
        """On the kind of device that it was made for."""
        return kind == self._kind

    def missing(self) -> str:
        """On a CPU it needs a C++ compiler."""
        return missing_gpu(self.name) if self._kind == "cuda" else missing_compiler()

    def prepare(self, source: Source, threads: int) -> Prepared:
        """Compile a copy of the module, by running it once."""
        import torch
        from torch._dynamo import config as tracing
        from torch._inductor import config as compiling

        set_up(self._kind, threads)
        module, inputs = module_of(source, self._kind)
        compiled: Any = torch.compile(module, mode=MODES[self._kind], dynamic=False)
        bound = prepared(compiled, inputs, self._kind, f"freezing, {MODES[self._kind]}, {_shared(torch, self._kind)}")
        with quiet(), compiling.patch(freezing=True), tracing.patch(recompile_limit=ENTRIES):
            bound.run()
        return bound


def _shared(torch: Any, kind: str) -> str:
    return f"channels_last, inference_mode, {library_of(torch, kind)}"


@functools.cache
def missing_compiler() -> str:
    """The sentence for a host without a C++ compiler; empty if there is one."""
    wanted = [os.environ.get("CXX", ""), "g++", "clang++", "c++"]
    if any(shutil.which(name) for name in wanted if name):
        return ""
    return "peer torch_compile needs a C++ compiler; install g++ or name yours in the environment variable CXX"
