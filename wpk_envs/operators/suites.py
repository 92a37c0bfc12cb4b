"""The operators of whole networks, as they occur at inference with batch 1.

Each network is a generator that walks its layers in the order of execution. Batch normalisation is folded
into the convolution before it (hence a bias everywhere), and the activation and the residual addition that
follow are fused into the operator. What remains (pooling, softmax, GELU, normalisation) is no operator
here. A projection on a shortcut runs before the convolution that adds it.

Sources: ResNet (arXiv 1512.03385, with torchvision's v1.5 strides: in the 3x3 of a bottleneck), MobileNetV2
(arXiv 1801.04381), VGG (arXiv 1409.1556, configuration D), BERT-base (arXiv 1810.04805) over 128 tokens.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from wpk_envs.operators.conv2d import Conv2d
from wpk_envs.operators.fused import Activation, FusedOperator
from wpk_envs.operators.gemm import Gemm

CLASSES = 1000
RESNET_STAGES = ((64, 56, 1), (128, 28, 2), (256, 14, 2), (512, 7, 2))
"""Width, output edge and first stride of the four stages."""


@dataclass(frozen=True)
class Member:
    """One distinct operator of a network.

    Attributes:
        number: Its place in the suite, from 1 in the order of first occurrence.
        operator: The operator.
        count: How often one inference runs it.
    """

    number: int
    operator: FusedOperator
    count: int


@dataclass(frozen=True)
class Suite:
    """Every distinct operator of one network; ``members[number - 1]`` has that number."""

    name: str
    members: tuple[Member, ...]


def _conv(
    channels: int,
    filters: int,
    edge: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    activation: Activation = "none",
    residual: bool = False,
) -> Conv2d:
    """A folded convolution with 'same' padding on a square image whose *output* edge is given."""
    return Conv2d(
        channels=channels,
        height=edge * stride,
        width=edge * stride,
        filters=filters,
        kernel=kernel,
        stride=stride,
        padding=kernel // 2,
        groups=groups,
        bias=True,
        activation=activation,
        residual=residual,
    )


def _linear(k: int, n: int, activation: Activation = "none") -> Gemm:
    return Gemm(1, n, k, bias=True, activation=activation)


def _resnet18() -> Iterator[FusedOperator]:
    yield _conv(3, 64, 112, kernel=7, stride=2, activation="relu")
    channels = 64
    for width, edge, first_stride in RESNET_STAGES:
        for stride in (first_stride, 1):
            yield _conv(channels, width, edge, kernel=3, stride=stride, activation="relu")
            if stride > 1 or channels != width:
                yield _conv(channels, width, edge, stride=stride)
            yield _conv(width, width, edge, kernel=3, activation="relu", residual=True)
            channels = width
    yield _linear(512, CLASSES)


def _resnet50() -> Iterator[FusedOperator]:
    yield _conv(3, 64, 112, kernel=7, stride=2, activation="relu")
    channels = 64
    for (width, edge, first_stride), blocks in zip(RESNET_STAGES, (3, 4, 6, 3)):
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            yield _conv(channels, width, edge * stride, activation="relu")
            yield _conv(width, width, edge, kernel=3, stride=stride, activation="relu")
            if block == 0:
                yield _conv(channels, 4 * width, edge, stride=stride)
            yield _conv(width, 4 * width, edge, activation="relu", residual=True)
            channels = 4 * width
    yield _linear(2048, CLASSES)


def _mobilenet_v2() -> Iterator[FusedOperator]:
    yield _conv(3, 32, 112, kernel=3, stride=2, activation="relu6")
    channels, edge = 32, 112
    rows = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expansion, filters, blocks, first_stride in rows:
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            wide = channels * expansion
            if expansion > 1:
                yield _conv(channels, wide, edge, activation="relu6")
            edge //= stride
            yield _conv(wide, wide, edge, kernel=3, stride=stride, groups=wide, activation="relu6")
            yield _conv(wide, filters, edge, residual=stride == 1 and channels == filters)
            channels = filters
    yield _conv(320, 1280, edge, activation="relu6")
    yield _linear(1280, CLASSES)


def _vgg16() -> Iterator[FusedOperator]:
    channels, edge = 3, 224
    for width, convs in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(convs):
            yield _conv(channels, width, edge, kernel=3, activation="relu")
            channels = width
        edge //= 2
    yield _linear(channels * edge * edge, 4096, activation="relu")
    yield _linear(4096, 4096, activation="relu")
    yield _linear(4096, CLASSES)


def _bert_base(tokens: int = 128, width: int = 768, heads: int = 12, layers: int = 12) -> Iterator[FusedOperator]:
    head = width // heads
    for _ in range(layers):
        for _ in ("query", "key", "value"):
            yield Gemm(tokens, width, width, bias=True)
        yield Gemm(tokens, tokens, head, batch=heads)
        yield Gemm(tokens, head, tokens, batch=heads)
        yield Gemm(tokens, width, width, bias=True, residual=True)
        yield Gemm(tokens, 4 * width, width, bias=True)
        yield Gemm(tokens, width, 4 * width, bias=True, residual=True)
    yield _linear(width, width)


NETWORKS: dict[str, Callable[[], Iterator[FusedOperator]]] = {
    "resnet18": _resnet18,
    "resnet50": _resnet50,
    "mobilenet_v2": _mobilenet_v2,
    "vgg16": _vgg16,
    "bert_base": _bert_base,
}


@functools.cache
def suite(name: str) -> Suite:
    """The suite of one network, a key of `NETWORKS`."""
    counts = Counter(NETWORKS[name]())
    members = (Member(number, operator, count) for number, (operator, count) in enumerate(counts.items(), start=1))
    return Suite(name, tuple(members))


def suites() -> dict[str, Suite]:
    """Every suite by name."""
    return {name: suite(name) for name in NETWORKS}
