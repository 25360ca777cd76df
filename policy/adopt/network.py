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
from collections.abc import Callable, Collection, Mapping, Sequence
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
from holdfast.bundle.reader import session as bundle_session
from holdfast.errors import BundleError, FileError
from holdfast.plain import shown
from holdfast.policy.adopt import recurrent
from holdfast.policy.adopt.operators import TRANSLATIONS, split
from holdfast.policy.adopt.recurrent import LAYERS, State
from holdfast.policy.adopt.rows import Call, Constant, Row, Untranslatable, Value, Writer
from holdfast.signals import Array

OPSETS = (7, onnx.defs.onnx_opset_version())
"""The least and the largest opset that is read. Opset 7 brought today's broadcasting."""

NODES = 5000
"""Largest number of nodes of a file."""

CONSTANT = 2**24
"""Largest count of numbers of a constant that is computed."""

FLOAT, DOUBLE = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
DTYPES: Mapping[int, type[np.floating[Any]]] = {FLOAT: np.float32, DOUBLE: np.float64}

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
    """A network from an observation, and perhaps states, to an action and the states after it.

    Attributes:
        model: the file's model, without what its outputs do not need.
        input, output: names of the observation and of the action.
        dtype: type of the input's numbers. shape: the input's shape for one observation.
        opset: version of ONNX's own operators. sha256: of the file, in hex.
        states: those of a recurrent policy, in the order of a bundle's state.
    """

    model: onnx.ModelProto
    input: str
    output: str
    dtype: type[np.floating[Any]]
    shape: tuple[int, ...]
    opset: int
    sha256: str
    states: tuple[State, ...] = ()

    @property
    def state_size(self) -> int:
        """Number of values of all states."""
        return sum(state.size for state in self.states)

    def translate(
        self, write: Writer, observation: Row, state: Row | None = None
    ) -> tuple[Row, ...]:
        """Write the network's nodes; return the action, and the state after it where there is one.

        Args:
            state: all states before the step; None where there are none.

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
        if state is not None:
            values |= recurrent.parted(write, state, self.states)
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
        rows = []
        for name in (self.output, *(state.output for state in self.states)):
            row = values.get(name)
            if not isinstance(row, Row):
                raise BundleError(f"its output '{_text(name)}' should depend on the observation")
            rows.append(row)
        for each, row in zip(self.states, rows[1:], strict=True):
            if row.size != each.size:
                raise BundleError(
                    f"its output '{_text(each.output)}' should have the {each.size} values of its "
                    f"state '{_text(each.input)}', it has {row.size}"
                )
        if not self.states:
            return (rows[0],)
        return rows[0], recurrent.joined(write, rows[1:])

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
        if node.op_type in LAYERS:
            return LAYERS[node.op_type](call)
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


def read(path: Path, output: str | None = None, states: Mapping[str, str] | None = None) -> Network:
    """Read an ONNX file, and keep what its outputs need.

    Args:
        output: name of the output that is the action; None: the only one that is no state.
        states: outputs by input of a recurrent policy's states; None or empty: they are found by
            their shapes.

    Raises:
        BundleError: it is no ONNX file; it has other inputs or outputs than an observation, an
            action and states, or operators that a bundle cannot have.
    """
    try:
        data = files.read(path, LARGEST)
    except FileError as error:
        raise BundleError(str(error)) from None
    model = _model(data, path)
    opset = _opset(model)
    graph = model.graph
    pairs = _states(graph, output, states or {})
    output = _action(graph, output, pairs)
    needed = _prune(model, {output, *pairs.values()})
    _check_operators(graph.node)
    inputs = [each for each in _inputs(graph) if each.name in needed]
    observed = [each for each in inputs if each.name not in pairs]
    if len(observed) != 1:
        raise BundleError(
            f"its output '{_text(output)}' should need one input, the observation, it needs "
            f"{', '.join(_text(each.name) for each in observed) or 'none'}; the state of a "
            "recurrent policy is named with --state INPUT=OUTPUT"
        )
    found = [recurrent.state_of(each, pairs[each.name]) for each in inputs if each.name in pairs]
    if unused := sorted(set(pairs) - {state.input for state in found}):
        raise BundleError(f"its state '{_text(unused[0])}' should be needed by its outputs")
    _check_states(graph, found)
    del graph.input[:]
    graph.input.extend(inputs)
    dtype, shape = _declared(observed[0])
    sha256 = hashlib.sha256(data).hexdigest()
    return Network(model, observed[0].name, output, dtype, shape, opset, sha256, tuple(found))


def _inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    weights = {tensor.name for tensor in graph.initializer}
    return [each for each in graph.input if each.name not in weights]


def _states(
    graph: onnx.GraphProto, output: str | None, named: Mapping[str, str]
) -> Mapping[str, str]:
    """Return the outputs by input of a policy's states: the named, or else those found by shape."""
    inputs = {each.name: recurrent.dims_of(each) for each in _inputs(graph)}
    outputs = {each.name: recurrent.dims_of(each) for each in graph.output}
    for kind, known, names in (("input", inputs, named), ("output", outputs, named.values())):
        if wrong := [name for name in names if name not in known]:
            raise BundleError(
                f"it has no {kind} '{_text(wrong[0])}'; there are {', '.join(map(_text, known))}"
            )
    if named or len(outputs) == 1:
        return named
    # Inputs that the action does not need make no policy recurrent.
    needed = _needed(
        graph.node, {output} if output is not None and output in outputs else set(outputs)
    )[0]
    used = {name: dims for name, dims in inputs.items() if name in needed}
    if len(used) < 2:
        return {}
    return recurrent.by_shape(used, {k: v for k, v in outputs.items() if k != output})


def _check_states(graph: onnx.GraphProto, states: Collection[State]) -> None:
    """Check the declared shapes of states, before and after a step."""
    after = {each.name: recurrent.dims_of(each) for each in graph.output}
    for state in states:
        if any(size < 1 for size in state.shape):
            raise BundleError(
                f"its state '{_text(state.input)}' should have sizes above 0, it has "
                f"{list(state.shape)}"
            )
        sizes = [size for size in after[state.output] if isinstance(size, int)]
        if len(sizes) == len(after[state.output]) > 0 and math.prod(sizes) != state.size:
            raise BundleError(
                f"its output '{_text(state.output)}' should have the {state.size} values of its "
                f"state '{_text(state.input)}', it has {math.prod(sizes)}"
            )


def _action(graph: onnx.GraphProto, output: str | None, states: Mapping[str, str]) -> str:
    """Return the name of the output that is the action."""
    names = [each.name for each in graph.output if each.name not in states.values()]
    if not names:
        raise BundleError("its outputs are all states after a step; one should be the action")
    if output is None and len(names) != 1:
        raise BundleError(
            f"it has the outputs {', '.join(map(_text, names))}; name the action with --output"
        )
    if output is not None and output not in names:
        raise BundleError(
            f"it has no output '{_text(output)}'; there are {', '.join(map(_text, names))}"
        )
    return names[0] if output is None else output


def own_network(
    network: Network, normalise: Callable[[Array], Array] | None
) -> Callable[[Array, Array], list[Array]]:
    """Return what runs the file's own network for observations (batch, n) and states (batch, k),
    one row after another: ONNX Runtime, or ONNX's reference where ONNX Runtime lacks an operator in
    this type or opset."""
    names = [network.output, *(state.output for state in network.states)]
    try:
        session = bundle_session(network.model.SerializeToString())
    except BundleError:
        session = ReferenceEvaluator(network.model)

    def step(observation: Array, state: Array) -> list[Array]:
        shape = (*network.shape[:-1], len(observation))
        inputs = {network.input: observation.astype(network.dtype).reshape(shape)}
        start = 0
        for each in network.states:
            part = state[start : start + each.size].astype(network.dtype)
            inputs[each.input] = part.reshape(each.shape)
            start += each.size
        try:
            action, *after = map(np.ravel, session.run(names, inputs))
        except Exception as error:  # the errors of both have no common base class
            said = " ".join(str(error).split())
            raise BundleError(f"it cannot be run ({shown(said)})") from None
        return [action, np.concatenate(after)] if after else [action]

    def run(observations: Array, states: Array) -> list[Array]:
        rows = observations if normalise is None else normalise(observations)
        made = [step(*each) for each in zip(rows, states, strict=True)]
        return [np.array(values, np.float64) for values in zip(*made, strict=True)]

    return run


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


def _needed(
    nodes: Sequence[onnx.NodeProto], outputs: Collection[str]
) -> tuple[set[str], list[onnx.NodeProto]]:
    """Return the names of what some outputs need, and the nodes that make it."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if not needed.isdisjoint(node.output):
            needed.update(name for name in node.input if name)
            kept.append(node)
    return needed, kept[::-1]


def _prune(model: onnx.ModelProto, outputs: Collection[str]) -> set[str]:
    """Remove what some outputs do not need; return the names of what they need."""
    graph = model.graph
    needed, kept = _needed(graph.node, outputs)
    for field, wanted in (
        (graph.node, kept),
        (graph.output, [each for each in graph.output if each.name in outputs]),
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
        if operator in RANDOM:
            raise BundleError(
                f"operator {called} draws random numbers; the output should be the mean of the "
                "action, which is equal for equal observations"
            )
        if node.domain not in ("", "ai.onnx") or operator not in {
            *TRANSLATIONS,
            *FOLDED,
            *LAYERS,
            "Split",
        }:
            raise BundleError(
                f"operator {called} is not supported; supported are "
                f"{', '.join(sorted({*TRANSLATIONS, *LAYERS, 'Split'}))}"
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
