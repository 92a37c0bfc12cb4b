"""From an exported torch program to a graph: constants are folded, known operators renamed, the rest kept as it is."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from wpk_envs.errors import UserError
from wpk_envs.planner import framework_torch
from wpk_envs.planner.graph import Graph, Tensor
from wpk_envs.planner.importing import torch_slices
from wpk_envs.planner.importing.builder import Builder
from wpk_envs.planner.importing.source import Source
from wpk_envs.planner.importing.torch_call import Call, Operand
from wpk_envs.planner.importing.torch_export import constant_tensors, exported, output_names
from wpk_envs.planner.importing.torch_operators import RULES

_CHECKS = ("_assert", "sym_constrain")
"""Beginnings of the names of operators that compute nothing."""


def graph_of(source: Source) -> Graph:
    """Import a torch module; the graph's constants share their memory with the module's parameters.

    Args:
        source: Of kind ``"torch"``.

    Raises:
        UserError: If torch cannot export it, a shape depends on values, or a type is none of NumPy's.
    """
    program = exported(source.name, source.module, [torch.from_numpy(value) for value in source.inputs])
    importer = _Importer(source, constant_tensors(program))
    for node in program.graph.nodes:
        importer.visit(node)
    outputs = [importer.values[name].name for name in output_names(program)]
    if not outputs:
        raise UserError(f"'{source.name}' returns no tensor, so there is nothing to plan: return one")
    return importer.builder.graph(outputs)


class _Importer:
    """Walks a program's nodes.

    Attributes:
        builder: The graph so far.
        values: What each node of the program has become: a tensor's `Operand`, or a list with one for each of its
            outputs (none where that is no tensor or nobody reads it).
    """

    def __init__(self, source: Source, constants: dict[str, tuple[str, torch.Tensor]]) -> None:
        self.builder = Builder(source.name)
        self.values: dict[str, Any] = {}
        self._constants = constants
        self._input_names = list(source.input_names)
        self._kept: dict[tuple[Any, ...], str] = {}

    def visit(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self.values[node.name] = self._placeholder(node)
        elif node.op == "call_function":
            self.values[node.name] = self._call(node)
        elif node.op == "get_attr":
            raise UserError(
                f"'{self.builder.name}' branches or loops on values of tensors ({node.target});"
                " a plan has one path: remove that"
            )

    def _placeholder(self, node: fx.Node) -> Operand:
        if node.name in self._constants:
            return self._shared(*self._constants[node.name])
        tensor = self._tensor(node, node.meta["val"])
        return Operand(self.builder.input(self._input_names.pop(0), tensor.shape, tensor.dtype))

    def _shared(self, name: str, value: torch.Tensor) -> Operand:
        """A constant of the program, kept once if it has several names."""
        key = (value.data_ptr(), value.dtype, value.shape, value.stride())
        if value.numel() == 0 or key not in self._kept:
            self._kept[key] = self.builder.constant(name, value.numpy(force=True))
        return Operand(self._kept[key])

    def _call(self, node: fx.Node) -> Any:
        if node.target is operator.getitem:
            parts, index = node.args
            return self.values[parts.name][index]  # type: ignore[union-attr, index]
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            raise UserError(
                f"'{self.builder.name}' uses the operator '{node.target}', which no plan can hold: remove it"
            )
        if not isinstance(node.target, torch._ops.OpOverload):
            raise self._dynamic(node.name)
        packet = node.target.overloadpacket.__name__
        if packet.startswith(_CHECKS):
            return None
        arguments = self._arguments(node)
        template, operands = framework_torch.template(arguments, Operand)
        constant = all(operand.name in self.builder.constants for operand in operands)
        if constant and framework_torch.repeatable(node.target):
            return self._folded(node, template, operands)
        known = self._known(node, packet, arguments, operands)
        return self._framework(node, template, operands) if known is None else known

    def _arguments(self, node: fx.Node) -> dict[str, Any]:
        """Every argument by its name in the operator's schema."""
        schema = node.target._schema.arguments  # type: ignore[union-attr]
        given = dict(zip((argument.name for argument in schema), node.args))
        given |= node.kwargs
        defaults = {argument.name: argument.default_value for argument in schema if argument.has_default_value()}
        return {name: self._argument(value) for name, value in {**defaults, **given}.items()}

    def _argument(self, value: Any) -> Any:
        if isinstance(value, fx.Node):
            operand = self.values[value.name]
            if operand is None:
                raise self._dynamic(value.name)
            return operand
        if isinstance(value, list | tuple):
            return [self._argument(item) for item in value]
        if isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
            raise self._dynamic(str(value))
        return value

    def _folded(self, node: fx.Node, template: dict[str, Any], operands: list[Operand]) -> Any:
        """The results, as constants, of a call that reads nothing but constants."""
        tensors = [torch.from_numpy(self.builder.constants[operand.name]) for operand in operands]
        results = framework_torch.make(str(node.target), template)(*tensors)
        for value in results:
            self._tensor(node, value)
        names = (self.builder.constant(_name(node), value.numpy(force=True)) for value in results)
        return self._results(node, [Operand(name) for name in names])

    def _known(self, node: fx.Node, packet: str, arguments: dict[str, Any], operands: list[Operand]) -> Any:
        """The result of one of our operations, in the form of `values`; none if there is none for this call."""
        value = node.meta["val"]
        several = isinstance(value, list | tuple)
        if several and packet not in torch_slices.SEVERAL and any(map(_reads_more_than_the_first, node.users)):
            return None
        first = value[0] if several else value
        if node.target.namespace != "aten" or packet not in RULES:  # type: ignore[union-attr]
            return None
        types = [self.builder.tensors[operand.name].dtype for operand in operands]
        if {*types, self._tensor(node, first).dtype} != {"float32"}:
            return None
        found = RULES[packet](Call(self.builder, _name(node), arguments, tuple(first.shape)))
        if found is None:
            return None
        names = [Operand(name) for name in ([found] if isinstance(found, str) else found)]
        return names if several else names[0]

    def _framework(self, node: fx.Node, template: dict[str, Any], operands: list[Operand]) -> Any:
        read = [argument.meta["val"] for argument in node.all_input_nodes]
        if "as_strided" in str(node.target) and not all(value.is_contiguous() for value in read):
            raise UserError(
                f"'{self.builder.name}' reads a tensor by strides that is not stored row by row ({node.name}):"
                " call contiguous() before"
            )
        outputs = [self._tensor(node, value) for value in framework_torch.tensors_of(node.meta["val"])]
        attributes = {"framework": "torch", "target": str(node.target), "arguments": template}
        inputs = [operand.name for operand in operands]
        names = self.builder.add_many("framework", inputs, outputs, _name(node), attributes)
        return self._results(node, [Operand(name) for name in names])

    def _results(self, node: fx.Node, results: list[Operand]) -> Any:
        """Results in the form of `values`."""
        value = node.meta["val"]
        if not isinstance(value, list | tuple):
            return results[0] if results else None
        rest = iter(results)
        return [next(rest) if isinstance(each, torch.Tensor) else None for each in value]

    def _tensor(self, node: fx.Node, value: torch.Tensor) -> Tensor:
        if any(isinstance(extent, torch.SymInt) for extent in value.shape):
            raise self._dynamic(node.name)
        return Tensor(tuple(value.shape), framework_torch.numpy_name(self.builder.name, value.dtype))

    def _dynamic(self, what: str) -> UserError:
        return UserError(
            f"a shape or number in '{self.builder.name}' depends on values of tensors ({what});"
            " a plan needs static shapes: remove that"
        )


def _reads_more_than_the_first(user: fx.Node) -> bool:
    """Whether a reader of several results reads another one than the first."""
    return not (user.target is operator.getitem and user.args[1] == 0)


def _name(node: fx.Node) -> str:
    """A name for people: the path of the module that made the call; the operator too if that module calls several."""
    modules = list((node.meta.get("nn_module_stack") or {}).values())
    path, kind = modules[-1] if modules else ("", "")
    leaf = str(kind).removeprefix("<class '").startswith("torch.nn.") and path
    return str(path) if leaf else ".".join(part for part in (str(path), node.name) if part)
