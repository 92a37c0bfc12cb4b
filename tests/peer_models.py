"""Tiny models, as the planner's importer hands them over."""

import numpy as np
import torch
from torch import nn

from wpk_envs.planner.importing import Source


class TwoConvs(nn.Module):
    """An image to logits: two convolutions with BatchNorm, a residual, a pool and a matrix product."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.last = nn.Linear(16, 10)

    def forward(self, image):
        x = torch.relu(self.norm(self.first(image)))
        return self.last(torch.relu(x + self.second(x)).mean((2, 3)))


class TwoInputs(nn.Module):
    """An image and a vector to an image and a vector, so that order and layout matter."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, image, vector):
        out = self.conv(image)
        return out - vector[:, :, None, None], out.mean((2, 3)) * vector


class Total(nn.Module):
    """A matrix to one number."""

    def forward(self, matrix):
        return torch.relu(matrix).sum()


class Unread(nn.Module):
    """An input that nobody reads before one that is read, and results by name."""

    def forward(self, unread, vector):
        return {"twice": vector * 2, "one": (vector + 1,)}


def source_of(module, *shapes, name="tiny"):
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    inputs = tuple(random.standard_normal(shape, np.float32) for shape in shapes)
    names = tuple(f"input{place}" for place in range(len(shapes)))
    return Source(name, "torch", inputs, names, module=module.eval().requires_grad_(False))


def two_convs():
    torch.manual_seed(1)
    return source_of(TwoConvs(), (1, 3, 16, 16))


def two_inputs():
    torch.manual_seed(2)
    return source_of(TwoInputs(), (1, 3, 6, 6), (1, 8))


def tiny():
    """As users give a model: ``model=tests.peer_models:tiny``."""
    source = two_convs()
    return source.module, tuple(torch.from_numpy(array) for array in source.inputs)


def halved():
    """Weights that are no float32."""
    module, inputs = tiny()
    return module.half(), inputs


def reference(source):
    with torch.inference_mode():
        made = source.module(*(torch.from_numpy(array) for array in source.inputs))
    return [tensor.numpy() for tensor in (made if isinstance(made, tuple) else (made,))]


def as_onnx(source, folder):
    """The same model as an ONNX file."""
    path = folder / f"{source.name}.onnx"
    inputs = tuple(torch.from_numpy(array) for array in source.inputs)
    torch.onnx.export(source.module, inputs, str(path), dynamo=False, input_names=list(source.input_names))
    return Source(source.name, "onnx", source.inputs, source.input_names, path=path)
