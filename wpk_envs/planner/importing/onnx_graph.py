"""From an ONNX model to a graph: shapes are inferred node by node, constants folded, known operators renamed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import defs, helper, numpy_helper, shape_inference

from wpk_envs.errors import UserError
from wpk_envs.planner import framework_onnx
from wpk_envs.planner.graph import Graph, Tensor
from wpk_envs.planner.importing import onnx_file
from wpk_envs.planner.importing.builder import Builder
from wpk_envs.planner.importing.onnx_call import Call
from wpk_envs.planner.importing.onnx_operators import RULES
from wpk_envs.planner.importing.source import Source

_RANDOM = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli")
_SMALL = 4096
"""Elements of the constants that go into the model of a ``framework`` node: axes, shapes and the like."""

_SEVERAL = ("Split",)
"""Operators whose rules give the names of all outputs."""

_OWN = ("", "ai.onnx")
"""Names of the domain of ONNX's own operators."""


def graph_of(source: Source) -> Graph:
    """Import an ONNX model.

    Args:
        source: Of kind ``"onnx"``.

    Raises:
        UserError: If a shape is dynamic, or a value is no tensor of a type that plans compute in.
    """
    assert source.path is not None
    importer = _Importer(source.name, onnx_file.read(source.path))
    return importer.graph()


class _Importer:
    """Walks a model's nodes; ``_names`` maps its values to tensors of the graph."""

    def __init__(self, name: str, model: onnx.ModelProto) -> None:
        self.builder = Builder(name)
        self._model = model
        self._opset = next((each.version for each in model.opset_import if each.domain in _OWN), 1)
        self._names: dict[str, str] = {}
        self._declared = {value.name: value.type for value in (*model.graph.value_info, *model.graph.output)}
        self._used = {name for node in model.graph.node for name in _read(node)}
        self._used |= {value.name for value in model.graph.output}

    def graph(self) -> Graph:
        graph = self._model.graph
        for value in onnx_file.inputs_of(self._model):
            tensor = onnx_file.tensor_of(value.type, f"input '{value.name}' of {self.builder.name}")
            self._names[value.name] = self.builder.input(value.name, tensor.shape, tensor.dtype)
        for initializer in graph.initializer:
            self._keep(initializer.name, numpy_helper.to_array(initializer))
        for sparse in graph.sparse_initializer:
            raise UserError(f"weight '{sparse.values.name}' of '{self.builder.name}' is sparse: store it densely")
        for node in graph.node:
            self._visit(node)
        return self.builder.graph(self._names[value.name] for value in graph.output)

    def _keep(self, name: str, value: np.ndarray) -> None:
        self._names[name] = self.builder.constant(name, value)

    def _visit(self, node: onnx.NodeProto) -> None:
        if not self._outputs(node):
            return
        read = [self._names[name] for name in _read(node)]
        if node.op_type == "Shape" and node.domain in _OWN:
            self._keep(node.output[0], _extents(node, self.builder.tensors[read[0]].shape))
            return
        if all(name in self.builder.constants for name in read) and self._folded(node):
            return
        outputs = self._tensors(node)
        known = self._known(node, outputs)
        names = self._framework(node, outputs) if known is None else known
        self._names |= zip(outputs, names)

    def _outputs(self, node: onnx.NodeProto) -> list[str]:
        """The outputs of a node that somebody reads."""
        return [name for name in node.output if name in self._used]

    def _folded(self, node: onnx.NodeProto) -> bool:
        """Compute a node that reads nothing but constants; false if ONNX's own evaluator cannot."""
        if node.domain not in _OWN or node.op_type in _RANDOM:
            return False
        values = {name: self.builder.constants[self._names[name]] for name in _read(node)}
        inputs = [helper.make_value_info(name, _type(self.builder.tensors[self._names[name]])) for name in values]
        outputs = [onnx.ValueInfoProto(name=name) for name in self._outputs(node)]
        try:
            results = framework_onnx.reference_of(self._node_model(node, inputs, outputs))(values)
        except Exception:  # its operators are many, and some lack a type or a case
            return False
        for name, value in zip(self._outputs(node), results):
            self._keep(name, np.asarray(value))
        return True

    def _tensors(self, node: onnx.NodeProto) -> dict[str, Tensor]:
        """Shape and type of each output of a node."""
        what = f"'{_label(node)}' of '{self.builder.name}'"
        kinds = self._inferred(node)
        return {name: onnx_file.tensor_of(kinds.get(name, onnx.TypeProto()), what) for name in self._outputs(node)}

    def _inferred(self, node: onnx.NodeProto) -> dict[str, onnx.TypeProto]:
        """Types of a node's outputs by ONNX's inference, by what the file says, or else by ONNX Runtime's inference."""
        try:
            schema = defs.get_schema(node.op_type, self._version(node.domain), node.domain)
        except defs.SchemaError:
            inferred = {}
        else:
            types = {name: _type(self.builder.tensors[self._names[name]]) for name in _read(node)}
            small = {name: numpy_helper.from_array(value, name) for name, value in self._parameters(node).items()}
            inferred = shape_inference.infer_node_outputs(
                schema, node, types, small,
                opset_imports=list(self._model.opset_import), ir_version=self._model.ir_version,
            )  # fmt: skip
        for known in (inferred, self._declared):
            if all(name in known and _static(known[name]) for name in self._outputs(node)):
                return known
        return inferred or self._by_runtime(node)

    def _version(self, domain: str) -> int:
        same = _OWN if domain in _OWN else (domain,)
        return next((each.version for each in self._model.opset_import if each.domain in same), 1)

    def _by_runtime(self, node: onnx.NodeProto) -> dict[str, onnx.TypeProto]:
        outputs = [onnx.ValueInfoProto(name=name) for name in self._outputs(node)]
        model = self._node_model(node, self._declarations(node), outputs)
        session = framework_onnx.session_of(model.SerializeToString(), node.op_type)
        if session is None:
            raise UserError(f"operator '{node.op_type}' needs ONNX Runtime: {framework_onnx.INSTALL}")
        return {value.name: _runtime_type(value) for value in session.get_outputs()}

    def _known(self, node: onnx.NodeProto, outputs: dict[str, Tensor]) -> list[str] | None:
        """The results of our operations for these outputs; none if there are none for this node."""
        rule = RULES.get(node.op_type) if node.domain in _OWN else None
        if rule is None or (node.op_type not in _SEVERAL and list(outputs) != [node.output[0]]):
            return None
        inputs = [self._names[name] if name else None for name in node.input]
        computed = [name for name in inputs if name is not None and name not in self.builder.constants]
        types = {tensor.dtype for tensor in outputs.values()} | {self.builder.tensors[name].dtype for name in computed}
        if types != {"float32"}:
            return None
        attributes, shape = {each.name: _value(each) for each in node.attribute}, next(iter(outputs.values())).shape
        call = Call(self.builder, _label(node), attributes, inputs, shape, self._opset, len(node.output))
        found = rule(call)
        if found is None or isinstance(found, str):
            return None if found is None else [found]
        made = dict(zip(node.output, found))
        return [made[name] for name in outputs]

    def _framework(self, node: onnx.NodeProto, outputs: dict[str, Tensor]) -> Sequence[str]:
        declared = [helper.make_value_info(name, _type(tensor)) for name, tensor in outputs.items()]
        model = self._node_model(node, self._declarations(node), declared)
        attributes = {"framework": "onnx", "target": node.op_type, "model": framework_onnx.text_of(model)}
        inputs = [self._names[value.name] for value in model.graph.input]
        return self.builder.add_many("framework", inputs, list(outputs.values()), _label(node), attributes)

    def _declarations(self, node: onnx.NodeProto) -> list[onnx.ValueInfoProto]:
        """The inputs of the model of a node: all that it reads but parameters."""
        wanted = [name for name in _read(node) if name not in self._parameters(node)]
        return [helper.make_value_info(name, _type(self.builder.tensors[self._names[name]])) for name in wanted]

    def _parameters(self, node: onnx.NodeProto) -> dict[str, np.ndarray]:
        """The small constants that a node reads."""
        values = {name: self.builder.constants.get(self._names[name]) for name in _read(node)}
        return {name: value for name, value in values.items() if value is not None and value.size <= _SMALL}

    def _node_model(
        self, node: onnx.NodeProto, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        """A model of one node; what it reads beside its inputs are initializers."""
        declared = {value.name for value in inputs}
        parameters = {name: value for name, value in self._parameters(node).items() if name not in declared}
        initializers = [numpy_helper.from_array(value, name) for name, value in parameters.items()]
        graph = helper.make_graph([node], "node", inputs, outputs, initializers)
        opsets = list(self._model.opset_import)
        return helper.make_model(graph, opset_imports=opsets, ir_version=self._model.ir_version)


def _read(node: onnx.NodeProto) -> list[str]:
    """The values that a node reads, each once; those that its branches or loops read from around them too."""
    return list(dict.fromkeys([*(name for name in node.input if name), *_captured(node)]))


def _captured(node: onnx.NodeProto) -> Iterator[str]:
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            made = {value.name for value in (*graph.input, *graph.initializer)}
            for inner in graph.node:
                yield from (name for name in _read(inner) if name not in made)
                made |= set(inner.output)
            yield from (value.name for value in graph.output if value.name not in made)


def _extents(node: onnx.NodeProto, shape: tuple[int, ...]) -> np.ndarray:
    """What the operator Shape computes."""
    attributes = {each.name: each.i for each in node.attribute}
    return np.array(shape[attributes.get("start", 0) : attributes.get("end", len(shape))], np.int64)


def _type(tensor: Tensor) -> onnx.TypeProto:
    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype)), tensor.shape)


def _static(kind: onnx.TypeProto) -> bool:
    shape = kind.tensor_type.shape.dim
    return kind.tensor_type.HasField("shape") and all(extent.HasField("dim_value") for extent in shape)


def _value(attribute: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    return value.decode() if isinstance(value, bytes) else value


def _label(node: onnx.NodeProto) -> str:
    """A name for people."""
    return node.name.strip("/") or next(name for name in node.output if name)


def _runtime_type(value: Any) -> onnx.TypeProto:
    """The type of an output as ONNX Runtime tells it: ``tensor(float)`` and a list of numbers or names."""
    kind = value.type.removeprefix("tensor(").removesuffix(")").upper()
    return helper.make_tensor_type_proto(onnx.TensorProto.DataType.Value(kind), value.shape)
