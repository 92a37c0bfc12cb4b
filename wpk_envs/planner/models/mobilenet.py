"""MobileNetV2 (arXiv 1801.04381) of width 1; parameters have the names of the published weights."""

from __future__ import annotations

import math

from torch import Tensor, nn

from wpk_envs.planner.models.initialisation import initialise, scale

ROWS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks and first stride: table 2 of the paper."""


def _conv(channels: int, filters: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels, filters, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(filters), nn.ReLU6(inplace=True))


class _InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, linear projection; added to the input where the shapes are equal."""

    def __init__(self, channels: int, filters: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        expand = [_conv(channels, wide)] if expansion > 1 else []
        depthwise = _conv(wide, wide, kernel=3, stride=stride, groups=wide)
        self.conv = nn.Sequential(*expand, depthwise, nn.Conv2d(wide, filters, 1, bias=False), nn.BatchNorm2d(filters))
        self.residual = stride == 1 and channels == filters

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """Images [N, 3, H, W] to logits [N, 1000]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(3, 32, kernel=3, stride=2)]
        channels = 32
        for expansion, filters, blocks, first_stride in ROWS:
            for number in range(blocks):
                stride = first_stride if number == 0 else 1
                layers.append(_InvertedResidual(channels, filters, stride, expansion))
                channels = filters
        self.features = nn.Sequential(*layers, _conv(channels, 1280))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, image: Tensor) -> Tensor:
        """Logits."""
        return self.classifier(self.features(image).mean((2, 3)))


def mobilenet_v2(seed: int) -> MobileNetV2:
    """MobileNetV2 of width 1."""
    network = MobileNetV2()
    initialise(network, seed, gain=2.0)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and name.endswith((".conv.0.0", "18.0")) and module.groups == 1:
            scale(module, math.sqrt(0.5))  # no rectifier before an expansion
    return network
