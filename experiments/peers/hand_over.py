"""How a model is handed to a peer: as a module of torch's or as an ONNX file, whichever the source is."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from wpk_envs.errors import UserError
from wpk_envs.planner.importing import Source

OPSET = 17
"""Of exported ONNX: the first with LayerNormalization, which runtimes have kernels for."""


def module_of(source: Source, device: str = "cpu") -> tuple[Any, tuple[Any, ...]]:
    """A copy of the source's module and its example inputs, images channels last.

    Args:
        source: Of kind ``torch``.
        device: Where both go, by torch's name.

    Raises:
        UserError: If the source is no module.
    """
    import torch

    if source.kind != "torch":
        raise UserError("torch has no importer for ONNX files, so this peer runs models that are given as modules only")
    module = copy.deepcopy(source.module).eval().to(device=device, memory_format=torch.channels_last)
    return module, tuple(channels_last(torch.from_numpy(array).to(device)) for array in examples(source))


def channels_last(tensor: Any) -> Any:
    """A torch tensor as it is, an image in the memory format that torch's convolutions like best."""
    import torch

    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def examples(source: Source) -> list[np.ndarray]:
    """The source's example inputs, in order."""
    return [np.asarray(value, order="C") for value in source.inputs]


def named_examples(source: Source) -> dict[str, np.ndarray]:
    """The source's example inputs by their names in the file of `onnx_file`, which may lack those that nobody reads."""
    names = source.input_names if source.path is not None else _exported_names(source)
    return dict(zip(names, examples(source)))


def _exported_names(source: Source) -> list[str]:
    return [f"input_{place}" for place in range(len(source.inputs))]


@contextlib.contextmanager
def onnx_file(source: Source) -> Iterator[Path]:
    """The model as an ONNX file: the source's own, or one that torch's exporter writes, gone after the block.

    The exporter is torch's older one, which needs no package besides.
    """
    if source.path is not None:
        yield source.path
        return
    import torch

    inputs = tuple(torch.from_numpy(array) for array in examples(source))
    names = _exported_names(source)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        with quiet():
            torch.onnx.export(source.module, inputs, str(path), dynamo=False, opset_version=OPSET, input_names=names)
        yield path


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what exporters and compilers print and warn of off the terminal; their errors still come."""
    out, before = io.StringIO(), logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out), _no_stderr():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Drop what C++ writes to standard error."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def arrays(outputs: Any) -> list[np.ndarray]:
    """What a module gave, a tensor or several however nested, as arrays in their canonical layout."""
    from wpk_envs.planner.importing.torch_source import arrays_of

    return arrays_of(outputs)
