"""The network of a foreign ONNX file: reading the file, and translating what is needed of it.

The network is followed for one observation. Each value that depends on the observation is a *row*,
a vector, whatever shape the file gives it. So reshaping costs nothing, and the translated network
takes any number of observations, also where the file takes just one. Values that do not depend on
the observation are computed here. The result computes in double precision, so that processors that
sum in different orders agree to float32 precision.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import external_data_helper, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from holdfast import files
from holdfast.bundle.reader import LARGEST
from holdfast.errors import BundleError, FileError
from holdfast.plain import shown
from holdfast.policy.adopt.operators import TRANSLATIONS, split
from holdfast.policy.adopt.rows import Call, Constant, Row, Untranslatable, Value, Writer

OPSETS = (7, onnx.defs.onnx_opset_version())
"""The least and the largest opset that is read. Opset 7 brought today's broadcasting."""

NODES = 5000
"""Largest number of nodes of a file."""

CONSTANT = 2**24
"""Largest count of numbers of a constant that is computed."""

FLOAT, DOUBLE = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
DTYPES: Mapping[int, type[np.floating[Any]]] = {FLOAT: np.float32, DOUBLE: np.float64}

RECURRENT = ("LSTM", "GRU", "RNN")
RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
          "Multinomial", "Bernoulli")  # fmt: skip

UNREADABLE = (
    ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError
)  # fmt: skip
"""What attributes and constants of a wrong kind raise; a file may hold any."""

FOLDED = frozenset(TRANSLATIONS) - {"Dropout", "Expand"} | {
    "And", "Ceil", "Constant", "ConstantOfShape", "Equal", "Expand", "Floor", "Greater", "Less",
    "Mod", "Not", "Or", "Range", "ReduceProd", "Size", "Where",
}  # fmt: skip
"""Operators that are computed here where no input depends on the observation."""


@dataclass(frozen=True)
class Network:
    """A feed-forward network with one input and one output.

    Attributes:
        model: the file's model, without what the output does not need.
        input, output: their names.
        dtype: type of the input's numbers. shape: the input's shape for one observation.
        opset: version of ONNX's own operators. sha256: of the file, in hex.
    """

    model: onnx.ModelProto
    input: str
    output: str
    dtype: type[np.floating[Any]]
    shape: tuple[int, ...]
    opset: int
    sha256: str

    def translate(self, write: Writer, observation: Row) -> Row:
        """Write the network's nodes and return its output.

        Raises:
            BundleError: an operator is not supported, or does not do what a row needs.
        """
        *batch, size = self.shape
        if size not in (-1, observation.size):
            raise BundleError(
                f"its input '{_text(self.input)}' has {size} values; the contract's observation "
                f"has {observation.size}"
            )
        values: dict[str, Value] = {self.input: observation.shaped((*batch, observation.size))}
        for tensor in self.model.graph.initializer:
            values[tensor.name] = _array(tensor)
        kept = 0
        for node in self.model.graph.node:
            try:
                inputs = [values[name] if name else None for name in node.input]
                # What is not finite is refused where it reaches the output.
                with np.errstate(all="ignore"):
                    made = self._outputs(write, node, inputs)
            except Untranslatable as error:
                raise BundleError(f"operator {_called(node)}: {error}") from None
            except UNREADABLE as error:
                said = " ".join(str(error).split())
                raise BundleError(f"operator {_called(node)} cannot be read ({said})") from None
            values.update(zip(node.output, made, strict=False))
            kept += sum(value.size for value in made if isinstance(value, np.ndarray))
            if kept > CONSTANT:
                raise BundleError(f"its constants should have at most {CONSTANT} numbers in all")
        output = values.get(self.output)
        if not isinstance(output, Row):
            raise BundleError(f"its output '{self.output}' should depend on the observation")
        return output

    def _outputs(
        self, write: Writer, node: onnx.NodeProto, inputs: Sequence[Value | None]
    ) -> Sequence[Value]:
        constants = [value for value in inputs if not isinstance(value, Row)]
        if len(constants) == len(inputs):
            return self._folded(node, constants)
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        call = Call(write, inputs, attributes)
        if node.op_type == "Split":
            return split(call, len(node.output))
        return (TRANSLATIONS[node.op_type](call),)

    def _folded(
        self, node: onnx.NodeProto, inputs: Sequence[Constant | None]
    ) -> Sequence[Constant]:
        """Return the outputs of a node without an observation."""
        if node.op_type not in FOLDED:
            raise Untranslatable("it is not supported for constants")
        if _most(node.op_type, [each for each in inputs if each is not None]) > CONSTANT:
            raise Untranslatable(f"its result should have at most {CONSTANT} numbers")
        named = {name: value for name, value in zip(node.input, inputs, strict=True) if name}
        evaluator = ReferenceEvaluator(node, opsets={"": self.opset})
        return [np.asarray(made) for made in evaluator.run(None, named)]


def _most(operator: str, inputs: Sequence[Constant]) -> int:
    """Return an upper bound for the count of numbers in a result."""
    if operator in ("Expand", "Reshape", "ConstantOfShape"):
        return math.prod(max(1, int(size)) for size in np.ravel(inputs[-1])[:64])
    if operator == "Range":
        return int(abs((float(inputs[1]) - float(inputs[0])) / float(inputs[2]))) + 1
    if operator in ("MatMul", "Gemm", "Gather"):
        return math.prod(max(1, value.size) for value in inputs[:2])
    if operator == "Concat":
        return sum(value.size for value in inputs)
    shapes = [value.shape for value in inputs]
    try:
        return math.prod(np.broadcast_shapes(*shapes))
    except ValueError:  # no operator on numbers one by one
        return max(value.size for value in inputs)


def read(path: Path, output: str | None = None) -> Network:
    """Read an ONNX file, and keep what its output needs.

    Args:
        output: name of the output that is the action; None: the only one.

    Raises:
        BundleError: it is no ONNX file; it has other inputs or outputs than one, or operators
            that a bundle cannot have.
    """
    try:
        data = files.read(path, LARGEST)
    except FileError as error:
        raise BundleError(str(error)) from None
    model = _model(data, path)
    opset = _opset(model)
    graph = model.graph
    names = [each.name for each in graph.output]
    if output is None and len(names) != 1:
        raise BundleError(
            f"it has the outputs {', '.join(map(_text, names)) or 'none'}; name the action with "
            "--output"
        )
    if output is not None and output not in names:
        raise BundleError(
            f"it has no output '{_text(output)}'; there are {', '.join(map(_text, names))}"
        )
    output = names[0] if output is None else output
    needed = _prune(model, output)
    _check_operators(graph.node)
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [each for each in graph.input if each.name in needed and each.name not in weights]
    if len(inputs) != 1:
        raise BundleError(
            f"its output '{_text(output)}' should need one input, the observation, it needs "
            f"{', '.join(_text(each.name) for each in inputs) or 'none'}; a recurrent policy, "
            "whose state is an input, is not supported"
        )
    del graph.input[:]
    graph.input.extend(inputs)
    dtype, shape = _declared(inputs[0])
    sha256 = hashlib.sha256(data).hexdigest()
    return Network(model, inputs[0].name, output, dtype, shape, opset, sha256)


def _model(data: bytes, path: Path) -> onnx.ModelProto:
    """Return the model in a file, with data of other files packed in."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        raise BundleError(f"{path}: is no ONNX file") from None
    if not model.graph.node:
        raise BundleError(f"{path}: is no ONNX file, or its graph is empty")
    if len(model.graph.node) > NODES:
        raise BundleError(
            f"{path}: should have at most {NODES} nodes, received {len(model.graph.node)}"
        )
    outside = [t for t in model.graph.initializer if external_data_helper.uses_external_data(t)]
    try:
        needs = sum(_bytes(tensor) for tensor in outside)
    except ValueError as error:
        said = f"a weight in another file has no sound length ({error})"
        raise BundleError(f"{path}: {said}") from None
    if needs > LARGEST:
        raise BundleError(f"{path}: its weights should have at most {LARGEST} bytes, not {needs}")
    for tensor in outside:
        try:
            external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
        except (OSError, ValueError, RuntimeError, onnx.checker.ValidationError) as error:
            said = " ".join(str(error).split())
            raise BundleError(f"{path}: weight '{_text(tensor.name)}' lies in another file, which "
                              f"cannot be read ({_text(said)})") from None  # fmt: skip
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    return model


def _bytes(tensor: onnx.TensorProto) -> int:
    """Return the size of a weight that lies in another file; a file's rest has no stated length."""
    info = external_data_helper.ExternalDataInfo(tensor)
    return int(max(math.prod(tensor.dims) * 8, info.length or 0))


def _opset(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operators; another domain's are refused where needed."""
    versions = [each.version for each in model.opset_import if each.domain in ("", "ai.onnx")]
    least, most = OPSETS
    if len(versions) != 1 or not least <= versions[0] <= most:
        raise BundleError(
            f"its opset should be {least} to {most}, received "
            + (", ".join(map(str, versions)) or "none")
        )
    return int(versions[0])


def _prune(model: onnx.ModelProto, output: str) -> set[str]:
    """Remove what an output does not need; return the names of what it needs."""
    graph, needed, kept = model.graph, {output}, []
    for node in reversed(graph.node):
        if not needed.isdisjoint(node.output):
            needed.update(name for name in node.input if name)
            kept.append(node)
    for field, wanted in (
        (graph.node, kept[::-1]),
        (graph.output, [each for each in graph.output if each.name == output]),
        (graph.initializer, [each for each in graph.initializer if each.name in needed]),
    ):
        copies = [type(each).FromString(each.SerializeToString()) for each in wanted]
        del field[:]
        field.extend(copies)
    del graph.value_info[:]
    return needed


def _check_operators(nodes: Sequence[onnx.NodeProto]) -> None:
    """Refuse what no bundle has, before anything is computed."""
    for node in nodes:
        called, operator = _called(node), node.op_type
        if any(each.HasField("g") or each.graphs for each in node.attribute):
            raise BundleError(f"operator {called} holds another graph; a policy should not branch")
        if operator in RECURRENT:
            raise BundleError(f"operator {called} is recurrent; such a policy is not supported")
        if operator in RANDOM:
            raise BundleError(
                f"operator {called} draws random numbers; the output should be the mean of the "
                "action, which is equal for equal observations"
            )
        if node.domain not in ("", "ai.onnx") or operator not in {*TRANSLATIONS, *FOLDED, "Split"}:
            raise BundleError(
                f"operator {called} is not supported; supported are "
                f"{', '.join(sorted({*TRANSLATIONS, 'Split'}))}"
            )


def _called(node: onnx.NodeProto) -> str:
    domain = f"{node.domain}." if node.domain else ""
    name = f" '{_text(node.name)}'" if node.name else ""
    return f"{_text(f'{domain}{node.op_type}')}{name}"


def _text(value: str | bytes) -> str:
    """Return a name as it is printed; protobuf returns bytes where a name is not UTF-8."""
    return shown(f"{value!s}")


def _declared(info: onnx.ValueInfoProto) -> tuple[type[np.floating[Any]], tuple[int, ...]]:
    """Return the type and the shape for one observation of the input; a free size is -1."""
    tensor, name = info.type.tensor_type, _text(info.name)
    if tensor.elem_type not in DTYPES:
        known = {number: kind.lower() for kind, number in onnx.TensorProto.DataType.items()}
        kind = known.get(tensor.elem_type, f"type {tensor.elem_type}")
        raise BundleError(f"its input '{name}' should be float or double, received {kind}")
    shape = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim]
    *batch, _ = shape or [0]
    if not shape or any(size not in (1, -1) for size in batch):
        raise BundleError(
            f"its input '{name}' should be one observation, (n), (1, n) or (batch, n), received "
            f"{shape}"
        )
    return DTYPES[tensor.elem_type], (*(1 for _ in batch), shape[-1])


def _array(tensor: onnx.TensorProto) -> Constant:
    if math.prod(tensor.dims) > CONSTANT:
        raise BundleError(
            f"weight '{_text(tensor.name)}' should have at most {CONSTANT} numbers, received "
            f"{list(tensor.dims)}"
        )
    try:
        return numpy_helper.to_array(tensor)
    except UNREADABLE as error:
        raise BundleError(f"weight '{_text(tensor.name)}' cannot be read ({error})") from None
