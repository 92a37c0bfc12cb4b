"""Weights of torch modules from files: .safetensors, or a state dict without pickled code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from wpk_envs.errors import UserError

_SHOWN = 3


def load(module: nn.Module, name: str, path: str) -> None:
    """Replace every weight and statistic of a module.

    Args:
        module: Changed in place if the whole file fits.
        name: Of the model, for errors.
        path: The file.

    Raises:
        UserError: If the file is missing, no file of weights, or does not fit the module in names, shapes or type.
    """
    found, expected = _read(Path(path)), module.state_dict()
    _check_names(found, expected, name, path)
    for key, value in found.items():
        if value.shape != expected[key].shape:
            shapes = f"{tuple(value.shape)}, but '{name}' has {tuple(expected[key].shape)}"
            raise UserError(f"'{key}' in {path} has shape {shapes} there: give weights of this very network")
        if value.is_floating_point() and value.dtype != torch.float32:
            kind = str(value.dtype).removeprefix("torch.")
            raise UserError(f"'{key}' in {path} is {kind}, but plans compute in float32 only: convert the file")
    module.load_state_dict(found, strict=False)


def _read(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise UserError(f"there is no file of weights {path}: give a .safetensors file or a saved state dict")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"{path} is no file of weights that can be read: give a .safetensors file or a state dict saved with"
            " torch.save(module.state_dict(), path)"
        ) from error
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise UserError(f"{path} holds no state dict: save one with torch.save(module.state_dict(), path)")
    return found


def _check_names(found: dict[str, torch.Tensor], expected: dict[str, Any], name: str, path: str) -> None:
    needed = [key for key in expected if not key.endswith("num_batches_tracked")]
    missing = [key for key in needed if key not in found]
    surplus = [key for key in found if key not in expected]
    if missing or surplus:
        parts = [f"lacks {_listed(missing)}"] * bool(missing) + [f"has {_listed(surplus)} too many"] * bool(surplus)
        raise UserError(f"the weights in {path} do not fit '{name}': the file {' and '.join(parts)}")


def _listed(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
