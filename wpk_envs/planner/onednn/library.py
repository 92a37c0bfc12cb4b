"""The shim from Python: primitives described by plain data, their weights packed, their buffers bound.

A description (`settings`) is a dictionary of plain data with the fields of the shim's ``Recipe``; a tensor in it is
``{"dims": ..., "strides": ...}`` in elements, or ``{"dims": ..., "block": 16}`` with axis 1 in blocks. The field
``arguments`` says which buffer each argument of the primitive is: ``{"source": ["inputs", 0], ...}``.
"""

from __future__ import annotations

import ctypes
import functools
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from wpk_envs.errors import UserError
from wpk_envs.planner.onednn import build

Settings = Mapping[str, Any]

ARGUMENTS = {"source": 1, "source_1": 2, "destination": 17, "weights": 33, "bias": 41, "mean": 49, "variance": 50,
             "scale": 51, "shift": 52}  # fmt: skip
"""oneDNN's numbers of a primitive's arguments (``DNNL_ARG_...`` of its header dnnl_types.h)."""


def argument_id(name: str) -> int:
    """The number of an argument by our name; ``part_<i>`` is what is concatenated, ``operand_<i>`` a post-op's."""
    kind, _, index = name.partition("_")
    if kind == "part":
        return 1024 + int(index)
    if kind == "operand":
        return 32768 * (int(index) + 1) | ARGUMENTS["source_1"]
    return ARGUMENTS[name]


class _Tensor(ctypes.Structure):
    _fields_ = [("rank", ctypes.c_int64), ("block", ctypes.c_int64), ("dims", ctypes.c_int64 * 6),
                ("strides", ctypes.c_int64 * 6)]  # fmt: skip


class _PostOp(ctypes.Structure):
    _fields_ = [("algorithm", ctypes.c_char_p), ("alpha", ctypes.c_double), ("beta", ctypes.c_double),
                ("operand", _Tensor)]  # fmt: skip


class _Recipe(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_char_p) for name in ("kind", "algorithm", "implementation")),
        *((name, ctypes.c_int64) for name in ("threads", "source_count", "post_op_count", "axis")),
        *((name, ctypes.c_int64 * 2) for name in ("kernel", "stride", "dilation", "before", "after")),
        *((name, ctypes.c_double) for name in ("alpha", "beta", "epsilon")),
        *((name, _Tensor) for name in ("weights", "bias", "destination")),
        ("sources", ctypes.POINTER(_Tensor)),
        ("post_ops", ctypes.POINTER(_PostOp)),
    ]


class _Argument(ctypes.Structure):
    _fields_ = [("id", ctypes.c_int64), ("data", ctypes.c_void_p), ("bytes", ctypes.c_int64)]


@functools.cache
def load() -> ctypes.CDLL:
    """The shim, compiled if need be.

    Other copies of oneDNN in the process, torch's among them, are left alone: the shim looks for its own first.

    Raises:
        UserError: If it cannot be compiled or loaded.
    """
    path = build.shim()
    try:
        shim = ctypes.CDLL(str(path), mode=os.RTLD_NOW | os.RTLD_LOCAL | os.RTLD_DEEPBIND)
    except OSError as error:
        raise UserError(
            f"oneDNN's shim was compiled but does not load ({error}): name another compiler with CXX"
        ) from error
    recipe = ctypes.POINTER(_Recipe)
    declare(shim.wpk_error, ctypes.c_char_p)
    declare(shim.wpk_implementations, ctypes.c_int, recipe, ctypes.c_char_p, ctypes.c_int64)
    declare(shim.wpk_weights_bytes, ctypes.c_int64, recipe)
    declare(shim.wpk_pack, ctypes.c_int, recipe, ctypes.c_void_p, ctypes.c_void_p)
    declare(shim.wpk_bind, ctypes.c_void_p, recipe, ctypes.POINTER(_Argument), ctypes.c_int64)
    declare(shim.wpk_free, None, ctypes.c_void_p)
    declare(shim.wpk_run, _finished, ctypes.c_void_p)
    declare(shim.wpk_run_all, _finished, ctypes.c_void_p, ctypes.c_int64)
    return shim


def declare(function: Any, result: Any, *arguments: Any) -> None:
    """Give a foreign function its types."""
    function.restype, function.argtypes = result, arguments


def _finished(status: int) -> None:
    if status:
        raise RuntimeError(f"oneDNN could not run a primitive (its status is {status})")


def implementations(settings: Settings) -> list[str]:
    """Implementations that oneDNN has of a primitive, by name, its own first choice first; none if it has none.

    Args:
        settings: The description; its ``implementation`` does not matter.
    """
    names = ctypes.create_string_buffer(4096)
    if not load().wpk_implementations(_recipe(settings), names, len(names)):
        raise RuntimeError(f"oneDNN cannot describe a {settings['kind']}: {load().wpk_error().decode()}")
    return names.value.decode().split()


def pack(settings: Settings, weights: np.ndarray) -> np.ndarray:
    """The weights as the implementation reads them.

    Args:
        settings: The description; ``weights`` in it is how the given array lies.
        weights: Float32, C-contiguous.

    Returns:
        As many float32 numbers as oneDNN wants, in its own order.

    Raises:
        UserError: If oneDNN has no such implementation here.
    """
    recipe = _recipe(settings)
    size = load().wpk_weights_bytes(recipe)
    blob = np.zeros(size // 4, np.float32)
    if not size or not load().wpk_pack(recipe, weights.ctypes.data, blob.ctypes.data):
        raise _failure(settings)
    return blob


def bind(settings: Settings, buffers: Mapping[str, np.ndarray]) -> Callable[[], None]:
    """A primitive on its buffers.

    Args:
        settings: The description.
        buffers: By the name of the argument; kept alive by what is returned.

    Returns:
        A function without arguments that runs it. Its attribute ``handle`` is for `chain`.

    Raises:
        UserError: If oneDNN has no such implementation here, or it takes a buffer to be of another size.
        ValueError: If a buffer is not float32 or not C-contiguous.
    """
    if wrong := [name for name, array in buffers.items() if array.dtype != np.float32 or not array.flags.c_contiguous]:
        raise ValueError(f"not C-contiguous arrays of float32: {', '.join(wrong)}")
    arguments = [_Argument(argument_id(name), array.ctypes.data, array.nbytes) for name, array in buffers.items()]
    shim = load()
    handle = shim.wpk_bind(_recipe(settings), (_Argument * len(arguments))(*arguments), len(arguments))
    if not handle:
        raise _failure(settings)
    run: Any = functools.partial(shim.wpk_run, ctypes.c_void_p(handle))
    run.handle, run.buffers = handle, buffers
    weakref.finalize(run, shim.wpk_free, handle).atexit = False
    return run


def chain(calls: Sequence[Any]) -> Callable[[], None]:
    """One function that runs several bound primitives one after the other, with the overhead of one.

    Args:
        calls: What `bind` returned, for the same number of threads.
    """
    handles = (ctypes.c_void_p * len(calls))(*(call.handle for call in calls))
    run: Any = functools.partial(load().wpk_run_all, handles, len(calls))
    run.calls = tuple(calls)
    return run


def _failure(settings: Settings) -> UserError:
    reason = load().wpk_error().decode()
    return UserError(f"oneDNN's {settings['kind']} {settings['implementation']} cannot be used ({reason}): plan again")


def _recipe(settings: Settings) -> _Recipe:
    """The shim's structure for a description."""
    recipe = _Recipe(threads=settings["threads"])
    for name in ("kind", "algorithm", "implementation"):
        setattr(recipe, name, settings.get(name, "").encode())
    for name in ("kernel", "stride", "dilation", "before", "after"):
        setattr(recipe, name, (ctypes.c_int64 * 2)(*settings.get(name, (0, 0))))
    for name in ("axis", "alpha", "beta", "epsilon"):
        setattr(recipe, name, settings.get(name, 0))
    for name in ("weights", "bias", "destination"):
        setattr(recipe, name, _tensor(settings.get(name)))
    sources, post_ops = settings["sources"], settings.get("post_ops", ())
    recipe.source_count, recipe.post_op_count = len(sources), len(post_ops)
    recipe.sources = (_Tensor * len(sources))(*map(_tensor, sources))
    recipe.post_ops = (_PostOp * len(post_ops))(*map(_post_op, post_ops))
    return recipe


def _tensor(described: Mapping[str, Any] | None) -> _Tensor:
    if described is None:
        return _Tensor()
    dims, strides = described["dims"], described.get("strides", ())
    six = ctypes.c_int64 * 6
    return _Tensor(len(dims), described.get("block", 0), six(*dims), six(*strides))


def _post_op(described: Mapping[str, Any]) -> _PostOp:
    alpha, beta = described.get("alpha", 0.0), described.get("beta", 0.0)
    return _PostOp(described["algorithm"].encode(), alpha, beta, _tensor(described.get("operand")))
