"""TVM as it is without tuning: its importer, its default pipeline, its default schedules."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.peers.contract import Peer, Prepared
from experiments.peers.hand_over import examples, onnx_file, quiet
from wpk_envs.planner.importing import Source


class TvmDefault(Peer):
    """TVM's default.

    Modules come in through ``torch.export`` and Relax's importer for it, ONNX files through Relax's importer for them.
    The pipeline ``zero`` (constants folded, operators fused), then ``tvm.compile`` with its default pipeline for this
    host, run by Relax's virtual machine. Schedules for CPUs are plain loops in it: one thread, and some 100 times
    slower than the others.
    """

    name = "tvm_default"
    slow = True
    label = "TVM default"

    def supported(self, kind: str, machine: str) -> bool:
        """On every CPU."""
        return kind == "cpu"

    def missing(self) -> str:
        """Nothing: TVM is always installed."""
        return ""

    def prepare(self, source: Source, threads: int) -> Prepared:
        """Import and compile."""
        import tvm
        from tvm import relax

        from wpk_envs import tvm_adapter
        from wpk_envs.devices import host

        with quiet():
            module = relax.get_pipeline("zero")(_imported(source))
            target = tvm_adapter.target_of(host.cpu_info(threads).target)
            machine = relax.VirtualMachine(tvm.compile(module, target), tvm.cpu())
        inputs = [tvm_adapter.to_tensor(array) for array in examples(source)]
        main = machine["main"]

        def outputs() -> list[np.ndarray]:
            made = main(*inputs)
            several = [made] if hasattr(made, "numpy") else made
            return [tensor.numpy() for tensor in several]

        return Prepared(lambda: main(*inputs), outputs, tvm.__version__, "Relax pipelines zero and default, not tuned")


def _imported(source: Source) -> Any:
    """The model in Relax."""
    if source.kind == "onnx":
        import onnx
        from tvm.relax.frontend.onnx import from_onnx

        with onnx_file(source) as path:
            return from_onnx(onnx.load(path))
    import torch
    from tvm.relax.frontend.torch import from_exported_program

    with torch.no_grad():
        program = torch.export.export(source.module, tuple(torch.from_numpy(array) for array in examples(source)))
    return from_exported_program(program, run_ep_decomposition=True)
