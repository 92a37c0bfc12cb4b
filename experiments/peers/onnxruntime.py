"""ONNX Runtime on a CPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.peers.contract import Peer, Prepared, not_installed
from experiments.peers.hand_over import named_examples, onnx_file
from wpk_envs.planner.importing import Source

MACHINES = ("x86_64", "amd64", "aarch64", "arm64")


class OnnxRuntime(Peer):
    """ONNX Runtime's CPU provider.

    All graph optimisations, the asked-for threads within an operator and one between operators. Inputs are bound by
    ``io_binding``, which is as fast as ``run`` where there is much to compute and faster where there is not. Threads
    spin within an inference and not between two, where they would take time from the others that are measured.
    """

    name = "onnxruntime"
    label = "ONNX Runtime"

    def supported(self, kind: str, machine: str) -> bool:
        """On CPUs that it has packages for."""
        return kind == "cpu" and machine in MACHINES

    def missing(self) -> str:
        """It needs its package, and ``onnx``."""
        return not_installed(self.name, ["onnx", "onnxruntime"])

    def prepare(self, source: Source, threads: int) -> Prepared:
        """Open a session and bind the inputs."""
        import onnxruntime

        with onnx_file(source) as path:
            session = onnxruntime.InferenceSession(str(path), _options(threads), providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        given = named_examples(source)
        for node in session.get_inputs():
            binding.bind_cpu_input(node.name, given[node.name])
        for node in session.get_outputs():
            binding.bind_output(node.name)

        def outputs() -> list[np.ndarray]:
            session.run_with_iobinding(binding)
            return [np.array(array) for array in binding.copy_outputs_to_cpu()]

        settings = "all graph optimisations, io_binding, one thread between operators, no spinning after a run"
        return Prepared(lambda: session.run_with_iobinding(binding), outputs, onnxruntime.__version__, settings)


def _options(threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options
