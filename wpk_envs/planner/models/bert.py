"""The encoder of BERT-base (arXiv 1810.04805): hidden states in, hidden states and the pooled first token out.

Layers normalise after the addition; GELU is the exact one. Parameters have the names of the published weights.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from wpk_envs.planner.models.initialisation import initialise

WIDTH, HEADS, LAYERS, EPSILON = 768, 12, 12, 1e-12


class _Projections(nn.Module):
    """Queries, keys and values, and the attention over them."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden: Tensor) -> Tensor:
        query, key, value = (_heads(layer(hidden)) for layer in (self.query, self.key, self.value))
        context = functional.scaled_dot_product_attention(query, key, value)
        return context.transpose(1, 2).flatten(2)


def _heads(x: Tensor) -> Tensor:
    """[N, tokens, width] to [N, heads, tokens, width / heads]."""
    return x.unflatten(2, (HEADS, WIDTH // HEADS)).transpose(1, 2)


class _Output(nn.Module):
    """A linear layer, the addition of what went around it, and normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, WIDTH)
        self.LayerNorm = nn.LayerNorm(WIDTH, eps=EPSILON)

    def forward(self, x: Tensor, around: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(x) + around)


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self = _Projections()
        self.output = _Output(WIDTH)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.output(self.self(hidden), hidden)


class _Dense(nn.Module):
    """A linear layer and its activation."""

    def __init__(self, width: int, activation: nn.Module) -> None:
        super().__init__()
        self.dense = nn.Linear(WIDTH, width)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.dense(x))


class BertLayer(nn.Module):
    """One layer: hidden states [N, tokens, 768] in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = _Attention()
        self.intermediate = _Dense(4 * WIDTH, nn.GELU())
        self.output = _Output(4 * WIDTH)

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states."""
        attended = self.attention(hidden)
        return self.output(self.intermediate(attended), attended)


class _Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(*(BertLayer() for _ in range(LAYERS)))

    def forward(self, hidden: Tensor) -> Tensor:
        return self.layer(hidden)


class BertEncoder(nn.Module):
    """Hidden states [N, tokens, 768] to the last layer's hidden states and the pooled first token [N, 768]."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = _Layers()
        self.pooler = _Dense(WIDTH, nn.Tanh())

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states and the pooled first token."""
        hidden = self.encoder(hidden)
        return hidden, self.pooler(hidden[:, 0])


def bert_base(seed: int) -> BertEncoder:
    """Twelve layers and the pooler."""
    network = BertEncoder()
    initialise(network, seed, gain=1.0)
    return network


def bert_layer(seed: int) -> BertLayer:
    """One layer."""
    network = BertLayer()
    initialise(network, seed, gain=1.0)
    return network
