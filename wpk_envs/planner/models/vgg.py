"""VGG-16 (arXiv 1409.1556, configuration D); parameters have the names of the published weights."""

from __future__ import annotations

from torch import Tensor, nn

from wpk_envs.planner.models.initialisation import initialise

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and convolutions between two poolings."""


class VGG16(nn.Module):
    """Images [N, 3, 224, 224] to logits [N, 1000]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, convolutions in STAGES:
            for _ in range(convolutions):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        hidden = [nn.Linear(channels * 49, 4096), nn.ReLU(inplace=True), nn.Dropout()]
        hidden += [nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout()]
        self.classifier = nn.Sequential(*hidden, nn.Linear(4096, 1000))

    def forward(self, image: Tensor) -> Tensor:
        """Logits."""
        return self.classifier(self.features(image).flatten(1))


def vgg16(seed: int) -> VGG16:
    """VGG-16."""
    network = VGG16()
    initialise(network, seed, gain=2.0)
    return network
