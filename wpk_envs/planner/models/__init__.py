"""The networks that come with the planner: definitions of our own, with seeded random weights, batch 1."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import nn

IMAGE = (1, 3, 224, 224)
TOKENS = (1, 128, 768)


@dataclass(frozen=True)
class Model:
    """A built-in network of one float32 input.

    Attributes:
        name: What users call it.
        module: The module of this package that defines it, in a function called like the network.
        input_name: Name of the input.
        shape: Shape of the input, batch included.
    """

    name: str
    module: str
    input_name: str
    shape: tuple[int, ...]

    def make(self, seed: int) -> nn.Module:
        """The network in inference mode, the same weights for the same seed (imports torch)."""
        definitions = importlib.import_module(f"wpk_envs.planner.models.{self.module}")
        network: nn.Module = getattr(definitions, self.name)(seed)
        return network.eval().requires_grad_(False)

    def inputs(self, seed: int) -> tuple[np.ndarray, ...]:
        """Random inputs of unit scale."""
        return (np.random.default_rng(seed).standard_normal(self.shape, np.float32),)


MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        Model("resnet18", "resnet", "image", IMAGE),
        Model("resnet50", "resnet", "image", IMAGE),
        Model("mobilenet_v2", "mobilenet", "image", IMAGE),
        Model("vgg16", "vgg", "image", IMAGE),
        Model("bert_base", "bert", "hidden", TOKENS),
        Model("bert_layer", "bert", "hidden", TOKENS),
    )
}
"""Every built-in network by name."""
