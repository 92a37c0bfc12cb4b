"""The one adapter to TVM's compiler and runtime, whose interface moves with every release.

Importing it imports TVM (seconds): import it where a kernel is compiled, not at the top of a library file.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import s_tir, tirx
from tvm.target import codegen

from wpk_envs.errors import UserError

CompiledKernel = Callable[..., Any]
"""A compiled function; it takes tensors in the order of the kernel's arguments and writes the last one."""


def host_cpu() -> str:
    """LLVM's name of this host's CPU, such as ``"sapphirerapids"``; ``"generic"`` if it knows none."""
    return str(codegen.llvm_get_system_cpu()) or "generic"


def host_triple() -> str:
    """LLVM's name of this host's platform, such as ``"aarch64-unknown-linux-gnu"``."""
    return str(codegen.llvm_get_system_triple())


def accepts(target: Mapping[str, Any]) -> bool:
    """Whether this TVM can generate code for a target given as plain data."""
    try:
        return bool(tvm.runtime.enabled(target_of(target).kind.name))
    except (ValueError, TypeError, RuntimeError):
        return False


def meta_schedule() -> Any:
    """TVM's package ``meta_schedule``.

    It imports the tensor intrinsics of every target, which takes 20 to 90 seconds; float32 schedules for CPUs use
    none. So their module is replaced by an empty one: here and nowhere else.
    """
    sys.modules.setdefault("tvm.s_tir.tensor_intrin", types.ModuleType("tvm.s_tir.tensor_intrin"))
    from tvm.s_tir import meta_schedule

    return meta_schedule


def to_tensor(array: np.ndarray) -> Any:
    """Copy an array into a buffer that kernels take, aligned for the widest vectors."""
    return tvm.runtime.tensor(np.ascontiguousarray(array))


def compile_cpu(module: tvm.IRModule, target: Mapping[str, Any]) -> CompiledKernel:
    """Lower and JIT-compile a module's ``main`` for a CPU: `build_cpu`'s function, ready to call.

    Returns:
        The function; it stays valid for as long as it is referenced.
    """
    return build_cpu(module, target).get_function("main", query_imports=True)


def build_cpu(module: tvm.IRModule, target: Mapping[str, Any], name: str = "main") -> Any:
    """Lower a module's ``main`` and generate code for a CPU.

    The lowering is TVM's own pipeline (``tvm.s_tir.pipeline``) without the passes that only concern GPUs,
    narrow floats and asynchronous copies, and without the elimination of common subexpressions, which LLVM
    repeats. Kernels run at the same speed and compile sooner. Hoisting and renormalisation must stay: without
    them some GEMMs take twice as long. Functions written by hand need the attribute ``tirx.noalias``, or LLVM
    stores the accumulators at every step.

    Args:
        module: A ``tvm.IRModule`` of TensorIR, scheduled or not, with one function ``main``.
        target: A TVM target of kind ``llvm`` as plain data.
        name: What the function is called in the library.

    Returns:
        TVM's runtime module: ``get_function(name)`` compiles it in memory, `export_library` writes it to a file.
    """
    llvm = target_of(target)
    named = tvm.IRModule({name: module["main"].with_attr("global_symbol", name)})
    lowered = _lowering()(tirx.transform.BindTarget(llvm.with_host(llvm))(named))
    return tvm.get_global_func("target.build.llvm")(lowered, llvm)


def export_library(modules: Sequence[Any], path: Path, compiler: Sequence[str]) -> None:
    """Link what `build_cpu` made, one or more, into one shared library that TVM's runtime alone can load.

    Args:
        modules: At least one.
        path: The library.
        compiler: The command of a C++ compiler.

    Raises:
        UserError: If it does not link them.
    """

    def link(target: str, objects: Sequence[str]) -> None:
        line = [*compiler, "-shared", "-fPIC", "-o", target, *objects]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            told = next((text for text in (done.stderr or done.stdout).splitlines() if text), "it said nothing")
            raise UserError(f"the C++ compiler {compiler[0]} could not link kernels ({told[:300]})")

    first, *others = modules
    for other in others:
        first.import_module(other)
    try:
        first.export_library(str(path), fcompile=link)
    finally:
        first.clear_imports()


def relayout(module: tvm.IRModule, maps: Mapping[str, Callable[..., tuple[Any, ...]]]) -> tvm.IRModule:
    """Let a scheduled module's ``main`` find buffers of its arguments in other layouts; its loops stay as they are.

    Args:
        module: One function whose blocks access whole buffers by index.
        maps: By argument's name, indices in the old buffer to indices in the new one. They must be one to one; the new
            buffer has just the shape that they reach.
    """
    schedule = s_tir.Schedule(module)
    for name, index_map in maps.items():
        block, place = _accesses(schedule, name)
        schedule.transform_layout(block, place, index_map, assume_injective_transform=True)
    return schedule.mod


def _accesses(schedule: Any, name: str) -> tuple[Any, tuple[str, int]]:
    """A block that reads or writes a buffer, and which of its buffers that is."""
    for handle in schedule.get_child_blocks(schedule.get_sblock("root")):
        block = schedule.get(handle)
        for kind, regions in (("read", block.reads), ("write", block.writes)):
            for position, region in enumerate(regions):
                if region.source.name == name:
                    return handle, (kind, position)
    raise ValueError(f"no block accesses '{name}'")


@dataclass(frozen=True)
class KernelCall:
    """One launch that the host makes.

    Attributes:
        function: Name of the ``__global__`` function.
        buffers: Names of what it takes: parameters of ``main`` or `CudaSource.workspaces`.
        extents: By thread axis, such as ``{"blockIdx.x": 8, "threadIdx.x": 128}``.
    """

    function: str
    buffers: tuple[str, ...]
    extents: Mapping[str, int]


@dataclass(frozen=True)
class CudaSource:
    """CUDA source of a scheduled module, and how the host calls it.

    Attributes:
        code: Functions marked ``extern "C" __global__``, nothing else.
        calls: In order.
        workspaces: Scratch buffers in global memory by name, in elements.
    """

    code: str
    calls: tuple[KernelCall, ...]
    workspaces: Mapping[str, int]


def lower_cuda(module: tvm.IRModule, target: Mapping[str, Any]) -> CudaSource:
    """Lower a module's ``main`` to CUDA source; no driver is needed.

    Unrolled loops are left to the CUDA compiler as ``#pragma unroll``: the source stays small and lowers five
    times sooner. The lowering is TVM's own pipeline without what concerns tensor cores, asynchronous copies,
    narrow floats and TVM's own runtime.

    Args:
        module: A ``tvm.IRModule`` of scheduled TensorIR whose loops are all bound to threads.
        target: A TVM target of kind ``cuda`` as plain data.
    """
    cuda = target_of(target)
    with tvm.transform.PassContext(config={"tirx.UnrollLoop": {"explicit_unroll": False}}):
        lowered = _cuda_lowering()(tirx.transform.BindTarget(cuda.with_host(target_of({"kind": "llvm"})))(module))
    functions = {var.name_hint: function for var, function in lowered.functions.items()}
    statements = list(_statements(functions.pop("main").body))
    device = _device_finish()(tvm.IRModule({name: _all_registers(each) for name, each in functions.items()}))
    source = tvm.get_global_func("target.build.cuda")(device, cuda).inspect_source()
    return CudaSource(
        code=source[source.index('extern "C" __global__') :],
        calls=tuple(_call(each.value) for each in statements if isinstance(each, tirx.Evaluate)),
        workspaces={
            each.buffer.name: int(np.prod([int(extent) for extent in each.buffer.shape]))
            for each in statements
            if isinstance(each, tirx.AllocBuffer)
        },
    )


def _all_registers(function: Any) -> Any:
    """Ask for one resident block at least: without, ptxas spills registers for an occupancy of its own choice."""
    return function.with_attr("tirx.launch_bounds_min_blocks_per_sm", 1)


def _statements(statement: Any) -> Iterator[Any]:
    """The host's statements one after the other."""
    if isinstance(statement, tirx.SeqStmt):
        for each in statement.seq:
            yield from _statements(each)
    elif isinstance(statement, (tirx.AllocBuffer, tirx.DeclBuffer, tirx.Evaluate)):
        yield statement
    else:
        raise ValueError(f"a host statement of type {type(statement).__name__} is not expected: {statement}")


def _call(call: Any) -> KernelCall:
    function, *arguments = call.args
    axes = [str(axis) for axis in call.attrs.launch_params]
    buffers, extents = arguments[: -len(axes)], arguments[-len(axes) :]
    return KernelCall(
        function.value,
        tuple(str(buffer.args[0].name) for buffer in buffers),
        {axis: int(extent) for axis, extent in zip(axes, extents)},
    )


def target_of(target: Mapping[str, Any]) -> tvm.target.Target:
    """TVM's target of plain data; the same one for the same data."""
    return _target(tuple(sorted(_frozen(target).items())))


def _frozen(target: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, (list, tuple)) else value for key, value in target.items()}


@functools.cache
def _target(items: tuple[tuple[str, Any], ...]) -> tvm.target.Target:
    return tvm.target.Target({key: list(value) if isinstance(value, tuple) else value for key, value in items})


@functools.cache
def _lowering() -> tvm.transform.Pass:
    return tvm.transform.Sequential(
        [
            s_tir.transform.CanonicalizeLoop(),
            s_tir.transform.LowerInitBlock(),
            s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
            s_tir.transform.ConvertBlocksToOpaque(),
            s_tir.transform.CompactBufferAllocation(),
            s_tir.transform.LowerMatchBuffer(),
            s_tir.transform.StmtSimplify(),  # without it some tiles end in a division by zero in FlattenBuffer
            s_tir.transform.LowerOpaqueBlock(),
            tirx.transform.FlattenBuffer(),
            tirx.transform.NarrowDataType(32),
            s_tir.transform.LoopPartition(),
            tirx.transform.VectorizeLoop(True),
            tirx.transform.StorageRewrite(),
            s_tir.transform.HoistIfThenElse(),
            tirx.transform.UnrollLoop(),
            s_tir.transform.RenormalizeSplitPattern(),
            tirx.transform.StmtSimplify(),
            tirx.transform.RemoveNoOp(),
            s_tir.transform.RewriteUnsafeSelect(),
            tirx.transform.VerifyMemory(),
            tirx.transform.AnnotateEntryFunc(),
            tirx.transform.SplitHostDevice(),
            tirx.transform.MakePackedAPI(),
            tirx.transform.LowerTVMBuiltin(),
            tirx.transform.LowerIntrin(),
        ]
    )


@functools.cache
def _cuda_lowering() -> tvm.transform.Pass:
    return tvm.transform.Sequential(
        [
            s_tir.transform.CanonicalizeLoop(),
            s_tir.transform.LowerInitBlock(),
            s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
            s_tir.transform.ConvertBlocksToOpaque(),
            s_tir.transform.LiftThreadBinding(),
            s_tir.transform.ManifestSharedMemoryLocalStage(),
            s_tir.transform.CompactBufferAllocation(),
            s_tir.transform.UnifyThreadBinding(),
            s_tir.transform.LowerMatchBuffer(),
            s_tir.transform.StmtSimplify(),
            s_tir.transform.InjectSoftwarePipeline(),
            s_tir.transform.LowerOpaqueBlock(),
            tirx.transform.FlattenBuffer(),
            tirx.transform.NarrowDataType(32),
            s_tir.transform.LoopPartition(),
            tirx.transform.VectorizeLoop(True),
            s_tir.transform.InjectVirtualThread(),
            tirx.transform.StorageRewrite(),
            s_tir.transform.HoistIfThenElse(),
            tirx.transform.UnrollLoop(),
            s_tir.transform.RenormalizeSplitPattern(),
            tirx.transform.StmtSimplify(),
            tirx.transform.RemoveNoOp(),
            s_tir.transform.RewriteUnsafeSelect(),
            tirx.transform.CommonSubexprElim(),
            tirx.transform.VerifyMemory(),
            tirx.transform.AnnotateEntryFunc(),
            s_tir.transform.ThreadSync("shared"),
            tirx.transform.SplitHostDevice(),
        ]
    )


@functools.cache
def _device_finish() -> tvm.transform.Pass:
    return tvm.transform.Sequential([tirx.transform.StmtSimplify(), tirx.transform.LowerIntrin()])
