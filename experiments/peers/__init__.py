"""The peers that a plan is measured beside: a file per peer, behind the one contract of `contract.Peer`."""

from __future__ import annotations

import platform
from collections.abc import Sequence

import numpy as np

from experiments.peers.contract import Peer, Prepared
from experiments.peers.onnxruntime import OnnxRuntime
from experiments.peers.openvino import OpenVino
from experiments.peers.tensorrt import TensorRt
from experiments.peers.torch_compile import TorchCompile
from experiments.peers.torch_eager import TorchEager
from experiments.peers.tvm_default import TvmDefault
from wpk_envs.errors import UserError, reason_of, unknown
from wpk_envs.planner.checking import magnitude, max_abs_error
from wpk_envs.planner.importing import Source

__all__ = ["PEERS", "Peer", "Prepared", "attempt", "label_of", "select"]

PEERS: tuple[Peer, ...] = (
    TorchEager("cpu"),
    TorchCompile("cpu"),
    OnnxRuntime(),
    OpenVino(),
    TvmDefault(),
    TorchEager("cuda"),
    TorchCompile("cuda"),
    TensorRt(),
)

WRONG = 0.01
"""Share of the largest output by which a peer's may be off; float32 in another order is off by 1e-5 or so."""


def select(wanted: str | Sequence[str] | None, kind: str, machine: str | None = None) -> tuple[Peer, ...]:
    """The peers that were asked for, in the order of `PEERS`.

    Args:
        wanted: ``"all"`` for every one that there is for the device; ``"installed"`` for those of them that can run
            here and are not `Peer.slow`; names; or nothing (also ``"none"``).
        kind: Of the device, ``"cpu"`` or ``"cuda"``.
        machine: The processor's architecture; this host's if none.

    Raises:
        UserError: For a name that no peer has, one that the device cannot have, and one that is not installed.
    """
    machine = machine or platform.machine().lower()
    there = {peer.name: peer for peer in PEERS if peer.supported(kind, machine)}
    names = _names(wanted)
    if names == ["all"]:
        chosen = tuple(there.values())
        _check_installed([peer for peer in chosen if not peer.optional])
        return chosen
    if names == ["installed"]:
        return tuple(peer for peer in there.values() if not peer.slow and not peer.missing())
    if "all" in names or "installed" in names:
        raise UserError(f"peers=[{','.join(names)}] names peers beside all or installed: write one or the other")
    for name in names:
        if name not in {peer.name for peer in PEERS}:
            raise unknown("peer", name, {*(peer.name for peer in PEERS), "all", "installed", "none"})
        if name not in there:
            raise UserError(f"there is no peer {name} for {kind} on {machine} (there are: {', '.join(there)})")
    chosen = tuple(peer for name, peer in there.items() if name in names)
    _check_installed(chosen)
    return chosen


def label_of(name: str) -> str:
    """What a peer is called for people; the name itself if no peer has it."""
    return next((peer.label for peer in PEERS if peer.name == name), name)


def _names(wanted: object) -> list[str]:
    if wanted is None or wanted == "none":
        return []
    if isinstance(wanted, str):
        return [wanted]
    if not isinstance(wanted, Sequence):
        raise UserError(f"peers must be all, installed, none or a list such as peers=[onnxruntime], not {wanted}")
    return [str(name) for name in wanted]


def _check_installed(peers: Sequence[Peer]) -> None:
    reasons = [reason for peer in peers if (reason := peer.missing())]
    if reasons:
        raise UserError(f"{'; '.join(reasons)}; or leave it out of peers=[...]")


def attempt(peer: Peer, source: Source, threads: int, reference: Sequence[np.ndarray]) -> tuple[Prepared, float] | str:
    """Make a model ready with a peer and check what it computes; a peer that cannot is no reason to stop.

    Args:
        peer: The peer.
        source: The model.
        threads: Threads of one inference on a CPU.
        reference: What the framework computes for the source's example inputs.

    Returns:
        The peer, ready, and the largest absolute error of its outputs; or why there is none, as a sentence.
    """
    if reason := peer.missing():
        return reason
    try:
        prepared = peer.prepare(source, threads)
        error = max_abs_error(prepared.outputs(), reference)
    except Exception as failure:
        return f"{peer.label} cannot run {source.name}: {reason_of(failure)}"
    largest = max(map(magnitude, reference), default=0.0)
    if not error <= WRONG * largest:
        return f"{peer.label} computes {source.name} wrongly: it is off by {error:.3g}, and outputs reach {largest:.3g}"
    return prepared, error
