"""OpenVINO on a CPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.peers.contract import Peer, Prepared, not_installed
from experiments.peers.hand_over import named_examples, onnx_file
from wpk_envs.planner.importing import Source

MACHINES = ("x86_64", "aarch64", "arm64")


class OpenVino(Peer):
    """OpenVINO's CPU plugin, in float32.

    Float32 is asked for: on CPUs that have bfloat16 it computes in that by default, which would not be the same
    work. It is tuned for the latency of one inference at a time (one stream) with the asked-for threads, which are
    not pinned to cores. One infer request is reused, with its tensors bound.
    """

    name = "openvino"
    label = "OpenVINO"

    def supported(self, kind: str, machine: str) -> bool:
        """On CPUs that it has packages for."""
        return kind == "cpu" and machine in MACHINES

    def missing(self) -> str:
        """It needs its package, and ``onnx``."""
        return not_installed(self.name, ["onnx", "openvino"])

    def prepare(self, source: Source, threads: int) -> Prepared:
        """Compile the model and bind an infer request."""
        import openvino

        core = openvino.Core()
        with onnx_file(source) as path:
            compiled = core.compile_model(core.read_model(path), "CPU", _settings(threads))
        request = compiled.create_infer_request()
        given = named_examples(source)
        for place, port in enumerate(compiled.inputs):
            (name,) = port.names & given.keys()
            request.set_input_tensor(place, openvino.Tensor(given[name], shared_memory=True))

        def run() -> None:
            request.start_async()
            request.wait()

        def outputs() -> list[np.ndarray]:
            run()
            return [np.array(request.get_output_tensor(place).data) for place in range(len(compiled.outputs))]

        version = openvino.__version__.split("-")[0]
        return Prepared(run, outputs, version, "float32, latency hint, one stream, no pinning, tensors bound")


def _settings(threads: int) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
        "ENABLE_CPU_PINNING": False,
    }
