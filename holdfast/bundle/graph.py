"""Checks a bundle's graph in the file's bytes before ONNX Runtime loads them.

The operators are those that `holdfast export` and `holdfast adopt` write. None of them branches,
repeats or holds another graph, and every shape follows from the number of rows. So a graph that
passes takes equal time and memory for every observation: no measured value makes it slow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.bundle.onnx_file import Message
from holdfast.errors import BundleError

OPSET = 18
ROWS = 256
"""Largest number of observations in one call."""

NODES = 500
RANK = 4
ELEMENTS = 2**17
"""Largest count of numbers that all nodes together compute for one observation. A policy with three
critics of 64 units computes about 1,000."""

STATE = 4096
"""Largest number of values that a recurrent policy remembers."""

PRODUCTS = 2**25
"""Largest count of multiplications in the matrix products for one observation."""

_FLOAT, _INT64, _DOUBLE = 1, 7, 11
_TYPES = {_FLOAT: ("float", 4), _INT64: ("int64", 8), _DOUBLE: ("double", 8)}
_ATTRIBUTE_FIELDS = {1: "f", 2: "i", 7: "ints"}  # AttributeProto.type: where the value is

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Value:
    """A value's type and shape, and its content if it holds integers.

    Integers are shapes and positions in an array. They come from the file and from shapes alone.
    """

    dtype: int
    shape: Shape
    integers: tuple[int, ...] | None = None

    def __str__(self) -> str:
        return f"{_TYPES[self.dtype][0]} {list(self.shape)}"


def check_graph(model: Message, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> None:
    """Raise BundleError unless the graph is bounded, with the inputs and outputs that it declares.

    Args:
        model: the result of `read_model`.
        inputs, outputs: the size of each, whose type is float and shape [batch, size].
    """
    opsets = [(o.get("domain", ""), o.get("version")) for o in model["opset_import"]]
    if opsets != [("", OPSET)]:
        raise BundleError(
            f"its operators should be of ONNX's own set {OPSET} alone, received "
            + (", ".join(f"'{domain}' {version}" for domain, version in opsets) or "none")
        )
    graph = model.get("graph")
    if graph is None:
        raise BundleError("its ONNX file should hold a graph")
    _check_declared(graph["input"], "input", inputs)
    _check_declared(graph["output"], "output", outputs)
    for info in graph["value_info"]:
        _declared(info)
    if len(graph["node"]) > NODES:
        raise BundleError(
            f"its graph should have at most {NODES} operators, received {len(graph['node'])}"
        )
    weights = [(tensor.get("name", ""), _weight(tensor)) for tensor in graph["initializer"]]
    for rows in (1, ROWS):
        values = _Values(rows)
        for name, size in inputs.items():
            values.add(name, Value(_FLOAT, (rows, size)))
        for name, weight in weights:
            values.add(name, weight)
        for node in graph["node"]:
            values.compute(node)
        for name, size in outputs.items():
            values.require(name, Value(_FLOAT, (rows, size)))


def _declared(info: Message) -> tuple[str, int, list[int | str]]:
    """Return a declared value's name, type and dimensions; a free dimension is its name."""
    name, tensor = info.get("name", ""), info.get("type", {}).get("tensor_type", {})
    dtype, dims = tensor.get("elem_type"), []
    for dim in tensor.get("shape", {}).get("dim", [None] * (RANK + 1)):
        if dim is None or len(dim) > 1 or not 0 <= dim.get("dim_value", 0) <= ELEMENTS:
            raise BundleError(f"'{name}' should be declared with a shape of at most {ELEMENTS}")
        dims.append(dim.get("dim_value", dim.get("dim_param", "")))
    if dtype not in _TYPES or len(dims) > RANK:
        raise BundleError(f"'{name}' should be declared as float, double or int64, rank {RANK}")
    return name, dtype, dims


def input_size(model: Message, name: str) -> int:
    """Return how many values an input of the graph is declared with; 0 without such an input.

    Raises:
        BundleError: it has no size, or one that no policy needs.
    """
    for info in model.get("graph", {"input": []})["input"]:
        declared, _, dims = _declared(info)
        if declared == name:
            size = dims[-1] if dims else 0
            if not isinstance(size, int) or not 0 < size <= STATE:
                raise BundleError(f"graph input '{name}' should have 1 to {STATE} values")
            return size
    return 0


def _check_declared(infos: Sequence[Message], kind: str, wanted: Mapping[str, int]) -> None:
    declared = [_declared(info) for info in infos]
    if sorted(name for name, _, _ in declared) != sorted(wanted):
        received = ", ".join(name for name, _, _ in declared)
        raise BundleError(f"graph {kind}s should be {', '.join(wanted)}, received {received}")
    for name, dtype, dims in declared:
        free = len(dims) == 2 and isinstance(dims[0], str)
        if dtype != _FLOAT or not free or dims[1] != wanted[name]:
            raise BundleError(
                f"graph {kind} '{name}' should be float [batch, {wanted[name]}] as its contract "
                f"says, received {_TYPES[dtype][0]} {dims}"
            )


def _weight(tensor: Message) -> Value:
    """Return an initializer's value; its number of bytes must fit its shape."""
    name, dtype, dims = tensor.get("name", ""), tensor.get("data_type"), tuple(tensor["dims"])
    if dtype not in _TYPES:
        raise BundleError(f"weight '{name}' should be float, double or int64")
    data, itemsize = tensor.get("raw_data", b""), _TYPES[dtype][1]
    if len(dims) > RANK or min(dims, default=1) < 1 or math.prod(dims) * itemsize != len(data):
        raise BundleError(
            f"weight '{name}' should hold as many bytes as its shape says, {list(dims)} of "
            f"{itemsize} each; it holds {len(data)}"
        )
    if dtype != _INT64:
        return Value(dtype, dims)
    if len(dims) > 1 or len(data) > RANK * itemsize:
        raise BundleError(f"weight '{name}' should be at most {RANK} integers in a row")
    parts = (data[i : i + itemsize] for i in range(0, len(data), itemsize))
    return Value(dtype, dims, tuple(int.from_bytes(part, "little", signed=True) for part in parts))


class _Values:
    """All values of a graph for one number of rows, by name, and the work that they take."""

    def __init__(self, rows: int) -> None:
        self._rows, self._known = rows, dict[str, Value]()
        self._elements = self._products = 0

    def add(self, name: str, value: Value) -> None:
        if not name or name in self._known:
            raise BundleError(f"value '{name}' should have a name of its own")
        self._known[name] = value

    def require(self, name: str, wanted: Value) -> None:
        if self._known.get(name) != wanted:
            received = self._known.get(name, "nothing")
            raise BundleError(
                f"graph output '{name}' should be {wanted} for {self._rows} rows, it is {received}"
            )

    def compute(self, node: Message) -> None:
        """Add the output of a node.

        Raises:
            BundleError: the operator is not allowed, does not fit its inputs, or works too long.
        """
        name, domain = node.get("op_type", ""), node.get("domain", "")
        operator = OPERATORS.get(name)
        if operator is None or domain:
            raise BundleError(
                f"operator '{domain + '.' if domain else ''}{name}' is not one that a bundle may "
                f"use; those are {', '.join(OPERATORS)}"
            )
        if len(node["output"]) != 1:
            raise BundleError(f"operator {name} should have one output, it has {node['output']}")
        try:
            inputs = [self._known[i] for i in node["input"]]
        except KeyError as missing:
            raise BundleError(f"operator {name} uses {missing}, made by no earlier one") from None
        try:
            value = operator(_Arguments(inputs, _attributes(node)))
        except (_Unfit, ValueError) as error:
            received = ", ".join(map(str, inputs))
            why = error if isinstance(error, _Unfit) else "ranks differ"
            raise BundleError(f"operator {name} does not fit {received} ({why})") from None
        self._elements += math.prod(value.shape)
        if name in ("Gemm", "MatMul"):
            transposed = name == "Gemm" and _attributes(node).get("transA", 0)
            self._products += math.prod(value.shape) * inputs[0].shape[-2 if transposed else -1]
        for what, count, most in (
            ("numbers", self._elements, ELEMENTS),
            ("multiplications", self._products, PRODUCTS),
        ):
            if count > most * self._rows:
                raise BundleError(
                    f"its graph should compute at most {most} {what} per observation; "
                    f"with operator {name} it is {count // self._rows}"
                )
        self.add(node["output"][0], value)


def _attributes(node: Message) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for attribute in node["attribute"]:
        name, kind = attribute.get("name", ""), _ATTRIBUTE_FIELDS.get(attribute.get("type", 0))
        if kind is None or name in found:
            raise BundleError(f"attribute '{name}' should be a number, or integers, given once")
        found[name] = attribute.get(kind, 0)
    return found


class _Unfit(Exception):
    """An operator does not accept its inputs or attributes."""


class _Arguments:
    """A node's inputs and attributes; those that the operator does not accept are refused."""

    def __init__(self, inputs: list[Value], attributes: dict[str, Any]) -> None:
        self.inputs, self._attributes = inputs, attributes

    def take(self, *wanted: str, **defaults: Any) -> tuple[Any, ...]:
        """Return the inputs and the attributes.

        Args:
            wanted: for each input "number" or "integers"; an input with "?" may be missing.
            defaults: default values of the attributes, which also define their types.
        """
        least = sum(not kind.endswith("?") for kind in wanted)
        if not least <= len(self.inputs) <= len(wanted):
            raise _Unfit(f"it takes {len(wanted)} inputs")
        for value, kind in zip(self.inputs, wanted, strict=False):
            if (value.integers is not None) != kind.startswith("integers"):
                raise _Unfit("integers and other numbers do not mix")
        if len({value.dtype for value in self.inputs if value.integers is None}) > 1:
            raise _Unfit("float and double do not mix")
        for name, given in self._attributes.items():
            if name not in defaults or type(given) is not type(defaults[name]):
                raise _Unfit(f"attribute '{name}'")
        rest = [None] * (len(wanted) - len(self.inputs))
        return (*self.inputs, *rest, *(self._attributes.get(n, d) for n, d in defaults.items()))


def _broadcast(*shapes: Shape) -> Shape:
    rank = max(map(len, shapes))
    columns = zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True)
    result = []
    for sizes in columns:
        size = max(sizes)
        if any(other not in (1, size) for other in sizes):
            raise _Unfit("shapes differ")
        result.append(size)
    return tuple(result)


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise _Unfit(f"axis {axis}")
    return axis % rank


def _elementwise(arguments: _Arguments) -> Value:
    a, b = arguments.take("number", "number")
    return Value(a.dtype, _broadcast(a.shape, b.shape))


def _unary(arguments: _Arguments) -> Value:
    (x,) = arguments.take("number")
    return Value(x.dtype, x.shape)


def _clip(arguments: _Arguments) -> Value:
    x, low, high = arguments.take("number", "number", "number")
    if low.shape or high.shape:
        raise _Unfit("the ends are no scalars")
    return Value(x.dtype, x.shape)


def _cast(arguments: _Arguments) -> Value:
    x, to = arguments.take("number", to=0)
    if to not in (_FLOAT, _DOUBLE):
        raise _Unfit(f"to={to}")
    return Value(to, x.shape)


def _gemm(arguments: _Arguments) -> Value:
    a, b, c, _, _, left, right = arguments.take(
        "number", "number", "number?", alpha=1.0, beta=1.0, transA=0, transB=0
    )
    (rows, inner), (also_inner, columns) = (
        value.shape[::-1] if flipped else value.shape for value, flipped in ((a, left), (b, right))
    )
    shape = (rows, columns)
    if inner != also_inner or (c is not None and _broadcast(shape, c.shape) != shape):
        raise _Unfit("shapes differ")
    return Value(a.dtype, shape)


def _matmul(arguments: _Arguments) -> Value:
    a, b = arguments.take("number", "number")
    (*left, rows, inner), (*right, also_inner, columns) = a.shape, b.shape
    if inner != also_inner:
        raise _Unfit("shapes differ")
    return Value(a.dtype, (*_broadcast(tuple(left), tuple(right)), rows, columns))


def _shape(arguments: _Arguments) -> Value:
    x, start, end = arguments.take("number", start=0, end=RANK)
    integers = x.shape[start:end]
    return Value(_INT64, (len(integers),), integers)


def _concat(arguments: _Arguments) -> Value:
    *parts, axis = arguments.take(*["integers"] * len(arguments.inputs), axis=-1)
    if axis != 0 or not parts or any(len(part.shape) != 1 for part in parts):
        raise _Unfit("it joins rows of integers")
    integers = tuple(i for part in parts for i in part.integers)
    return Value(_INT64, (len(integers),), integers)


def _expand(arguments: _Arguments) -> Value:
    x, shape = arguments.take("number", "integers")
    if len(shape.shape) != 1 or len(shape.integers) > RANK or min(shape.integers, default=1) < 1:
        raise _Unfit(f"to {list(shape.integers)}")
    return Value(x.dtype, _broadcast(x.shape, shape.integers))


def _gather(arguments: _Arguments) -> Value:
    x, index, axis = arguments.take("number", "integers", axis=0)
    axis = _axis(axis, len(x.shape))
    if index.shape:
        raise _Unfit("the index is no scalar")
    _axis(index.integers[0], x.shape[axis])
    return Value(x.dtype, x.shape[:axis] + x.shape[axis + 1 :])


def _transpose(arguments: _Arguments) -> Value:
    x, order = arguments.take("number", perm=[])
    if sorted(order) != list(range(len(x.shape))):
        raise _Unfit(f"perm {order}")
    return Value(x.dtype, tuple(x.shape[i] for i in order))


def _slice(arguments: _Arguments) -> Value:
    x, *places = arguments.take("number", *["integers"] * 4)
    shape = list(x.shape)
    rows = zip(*(place.integers for place in places), strict=True)
    for start, end, axis, step in rows:
        if step < 1:
            raise _Unfit(f"step {step}")
        place = _axis(axis, len(shape))
        shape[place] = len(range(*slice(start, end, step).indices(shape[place])))
    if min(shape) < 1:
        raise _Unfit("nothing is left")
    return Value(x.dtype, tuple(shape))


OPERATORS: Mapping[str, Callable[[_Arguments], Value]] = {
    "Add": _elementwise,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Div": _elementwise,
    "Erf": _unary,
    "Exp": _unary,
    "Expand": _expand,
    "Gather": _gather,
    "Gemm": _gemm,
    "Log": _unary,
    "MatMul": _matmul,
    "Mul": _elementwise,
    "Relu": _unary,
    "Shape": _shape,
    "Sigmoid": _unary,
    "Slice": _slice,
    "Sqrt": _unary,
    "Sub": _elementwise,
    "Tanh": _unary,
    "Transpose": _transpose,
}
"""The operators of bundles, each with the function for the result's shape.

`holdfast export` writes most of them. `holdfast adopt` also writes these, which compute a number
from a number, in a time that does not depend on it: Relu and Sigmoid, because networks are made of
them; Exp for ELU and SELU; Erf for GELU; Log, with Exp, for softplus; Sqrt for layer normalisation.
"""
