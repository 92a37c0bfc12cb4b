"""Random weights that keep activations at about unit scale through the depth of a network.

Weights of a product have a variance of gain / fan-in: gain 2 behind a rectifier (He et al., arXiv 1502.01852), else 1.
Normalisation has scales around one and, as after training, statistics that differ from channel to channel.
"""

from __future__ import annotations

import math

import torch
from torch import nn


def initialise(network: nn.Module, seed: int, gain: float) -> None:
    """Draw every parameter and statistic of a network anew.

    Args:
        network: Changed in place.
        seed: The same weights for the same seed.
        gain: Of the products: 2 if most of them follow a rectifier, else 1.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.normal_(0, math.sqrt(gain / module.weight[0].numel()), generator=generator)
                if module.bias is not None:
                    module.bias.normal_(0, 0.1, generator=generator)
            elif isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
                _normalisation(module, generator)


def _normalisation(module: nn.BatchNorm2d | nn.LayerNorm, generator: torch.Generator) -> None:
    module.weight.uniform_(0.6, 1.2, generator=generator)
    module.bias.normal_(0, 0.1, generator=generator)
    if isinstance(module, nn.BatchNorm2d):
        assert module.running_mean is not None
        assert module.running_var is not None
        module.running_mean.normal_(0, 0.2, generator=generator)
        module.running_var.uniform_(0.5, 1.5, generator=generator)


def scale(module: nn.Conv2d | nn.Linear | nn.BatchNorm2d, factor: float) -> None:
    """Scale a layer's weight, for the few places where the general rule would let activations grow."""
    with torch.no_grad():
        module.weight.mul_(factor)
