"""TensorRT on an NVIDIA GPU, where it is installed."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

from experiments.peers.contract import Peer, Prepared
from experiments.peers.hand_over import arrays, named_examples, onnx_file
from experiments.peers.torch_eager import missing_gpu
from wpk_envs.errors import UserError
from wpk_envs.planner.importing import Source


class TensorRt(Peer):
    """TensorRT from ONNX, in float32 with TF32 off.

    The engine's highest optimisation level, tensors bound, and the inference captured once as a CUDA graph.
    ``peers=all`` does without it where it is not installed.
    """

    name = "tensorrt"
    label = "TensorRT"
    optional = True

    def supported(self, kind: str, machine: str) -> bool:
        """On NVIDIA GPUs."""
        return kind == "cuda"

    def missing(self) -> str:
        """It needs its package, which no extra holds, and a GPU."""
        if importlib.util.find_spec("tensorrt") is None:
            return "peer tensorrt is not installed; install it with pip install tensorrt"
        return missing_gpu(self.name)

    def prepare(self, source: Source, threads: int) -> Prepared:
        """Build an engine, bind its tensors and capture an inference."""
        import tensorrt
        import torch

        serialized, given_names, made_names = _built(source)
        engine = tensorrt.Runtime(_logger()).deserialize_cuda_engine(serialized)
        context = engine.create_execution_context()
        examples = named_examples(source)
        given = [torch.from_numpy(examples[name]).cuda() for name in given_names]
        made = [torch.empty(tuple(engine.get_tensor_shape(name)), device="cuda") for name in made_names]
        for name, tensor in zip([*given_names, *made_names], [*given, *made]):
            context.set_tensor_address(name, tensor.data_ptr())
        graph = _captured(context)

        def run() -> Any:
            graph.replay()
            torch.cuda.synchronize()
            return given, made  # so that their memory outlives the graph

        settings = "float32, TF32 off, optimisation level 5, one CUDA graph"
        return Prepared(run, lambda: arrays(run()[1]), tensorrt.__version__, settings)


@functools.cache
def _logger() -> Any:
    import tensorrt

    return tensorrt.Logger(tensorrt.Logger.ERROR)


def _built(source: Source) -> tuple[Any, list[str], list[str]]:
    """The engine as bytes, and the names of its inputs and outputs in order."""
    import tensorrt

    builder = tensorrt.Builder(_logger())
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, _logger())
    with onnx_file(source) as path:
        if not parser.parse_from_file(str(path)):
            raise UserError(f"its ONNX parser refuses the model: {parser.get_error(0).desc()}")
    config = builder.create_builder_config()
    config.clear_flag(tensorrt.BuilderFlag.TF32)
    config.builder_optimization_level = 5
    inputs = [network.get_input(place).name for place in range(network.num_inputs)]
    outputs = [network.get_output(place).name for place in range(network.num_outputs)]
    return builder.build_serialized_network(network, config), inputs, outputs


def _captured(context: Any) -> Any:
    """One inference as a CUDA graph; TensorRT wants to have run once before."""
    import torch

    stream = torch.cuda.Stream()
    context.execute_async_v3(stream.cuda_stream)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        context.execute_async_v3(torch.cuda.current_stream().cuda_stream)
    return graph
