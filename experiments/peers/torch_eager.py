"""PyTorch as it is used without further ado, but set up well."""

from __future__ import annotations

from typing import Any

from experiments.peers.contract import Peer, Prepared
from experiments.peers.hand_over import arrays, module_of
from wpk_envs.planner.importing import Source


class TorchEager(Peer):
    """Eager PyTorch.

    Weights and images lie channels last, the module is in evaluation mode and every call in ``inference_mode``. On a
    CPU oneDNN is on and float32 stays float32; on a GPU cuDNN chooses by trying (``cudnn.benchmark``) and TF32 is off.

    Args:
        kind: Of device: ``"cpu"`` or ``"cuda"``.
    """

    name = "torch_eager"
    label = "torch eager"

    def __init__(self, kind: str = "cpu") -> None:
        self._kind = kind

    def supported(self, kind: str, machine: str) -> bool:
        """On the kind of device that it was made for."""
        return kind == self._kind

    def missing(self) -> str:
        """Nothing on a CPU: torch is always installed."""
        return missing_gpu(self.name) if self._kind == "cuda" else ""

    def prepare(self, source: Source, threads: int) -> Prepared:
        """Bind a copy of the module to its inputs."""
        import torch

        set_up(self._kind, threads)
        module, inputs = module_of(source, self._kind)
        return prepared(module, inputs, self._kind, f"channels_last, inference_mode, {library_of(torch, self._kind)}")


def prepared(module: Any, inputs: tuple[Any, ...], kind: str, settings: str) -> Prepared:
    """A callable of torch's, bound to its inputs on a kind of device."""
    import torch

    finish = torch.cuda.synchronize if kind == "cuda" else lambda: None

    def run() -> Any:
        with torch.inference_mode():
            outputs = module(*inputs)
        finish()
        return outputs

    return Prepared(run, lambda: arrays(run()), str(torch.__version__), settings)


def set_up(kind: str, threads: int) -> None:
    """Torch's global switches for a fair float32 inference."""
    import torch

    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = kind == "cuda"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def library_of(torch: Any, kind: str) -> str:
    """The library that torch computes with, in words."""
    if kind == "cuda":
        return f"cuDNN {torch.backends.cudnn.version()}, benchmark on, TF32 off"
    return "oneDNN on" if torch.backends.mkldnn.is_available() else "without oneDNN"


def missing_gpu(peer: str) -> str:
    """The sentence for a torch that finds no GPU; empty if it finds one."""
    import torch

    found = torch.cuda.is_available()
    return "" if found else f"peer {peer} needs an NVIDIA GPU and a torch built for CUDA, and torch finds none here"
