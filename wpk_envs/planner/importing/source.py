"""What a model is read from: a built-in network, a function of the user's, or an ONNX file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from wpk_envs.errors import UserError, unknown
from wpk_envs.planner.models import MODELS


@dataclass(frozen=True)
class Source:
    """A model in its framework.

    Attributes:
        name: Of the model, for people and files.
        kind: Its framework.
        inputs: Example inputs, in order.
        input_names: Their names.
        module: The torch module in inference mode, for kind ``"torch"``.
        path: The file, for kind ``"onnx"``.
    """

    name: str
    kind: Literal["torch", "onnx"]
    inputs: tuple[np.ndarray, ...]
    input_names: tuple[str, ...]
    module: Any = None
    path: Path | None = None

    def reference(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What the framework itself computes: torch eager, ONNX Runtime or, without that, ONNX's own evaluation.

        Args:
            inputs: Of the shapes and types of the example inputs.
        """
        if self.kind == "onnx":
            from wpk_envs.planner.importing import onnx_file

            assert self.path is not None
            return onnx_file.reference(self.path, self.input_names, inputs)
        from wpk_envs.planner.importing import torch_source

        return torch_source.reference(self.module, inputs)

    def random_inputs(self, seed: int) -> tuple[np.ndarray, ...]:
        """Fresh inputs: floats of unit scale drawn anew, everything else as in the example."""
        random = np.random.default_rng(seed)
        return tuple(
            random.standard_normal(each.shape, np.float32) if each.dtype == np.float32 else each for each in self.inputs
        )


def check_spec(spec: str, besides: Sequence[str] = ()) -> None:
    """Refuse what cannot be a model, without loading anything.

    Args:
        spec: As of `source_of`.
        besides: Other words that would have been right.

    Raises:
        UserError: If it is no name of a network, no file that exists and no function.
    """
    if _is_file(spec):
        if not Path(spec).is_file():
            raise UserError(f"there is no file {spec}: give the path of an ONNX model")
    elif ":" not in spec and spec not in MODELS:
        raise unknown("model", spec, [*MODELS, *besides, "path/to/model.onnx", "package.module:function"])


def _is_file(spec: str) -> bool:
    return spec.endswith(".onnx") or Path(spec).is_file()


def source_of(spec: str, weights: str | None = None, seed: int = 0) -> Source:
    """Find a model.

    Args:
        spec: A built-in network's name, the path of an ``.onnx`` file, or ``package.module:function``: a function
            without arguments that returns ``(module, (tensor, ...))``, a torch module and its example inputs.
        weights: A file of weights for a torch module (.safetensors, or a state dict of `torch.save`); random or the
            module's own without.
        seed: Of random weights and example inputs.

    Raises:
        UserError: If there is no such model, or the file of weights does not fit it.
    """
    check_spec(spec)
    if _is_file(spec):
        if weights is not None:
            raise UserError(f"'{spec}' holds its weights already: leave out weights={weights}")
        from wpk_envs.planner.importing import onnx_file

        return onnx_file.source_of(Path(spec), seed)
    from wpk_envs.planner.importing import torch_source

    if ":" in spec:
        return torch_source.of_function(spec, weights, seed)
    return torch_source.of_model(MODELS[spec], weights, seed)
