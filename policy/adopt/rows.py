"""Rows: the values of a network that depend on the observation, and the nodes that compute them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from holdfast.bundle.graph import OPSET
from holdfast.errors import BundleError

Constant = NDArray[Any]
Shape = tuple[int, ...]

IR_VERSION = 10

_LARGEST = float(np.finfo(np.float64).max)


MOST = 4096
"""Largest size of a row: some operators become a matrix of that many rows and columns."""


class Untranslatable(BundleError):
    """A node that cannot be translated; the text says why."""


@dataclass(frozen=True)
class Row:
    """A value that depends on the observation.

    Attributes:
        name: its name in the translated graph, where its shape is (batch, size).
        shape: its shape in the file, for one observation; at most one axis is longer than 1.
    """

    name: str
    shape: Shape

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __post_init__(self) -> None:
        if self.size > MOST:
            raise Untranslatable(f"a vector should have at most {MOST} values, not {self.size}")
        if sum(axis > 1 for axis in self.shape) > 1:
            raise Untranslatable(f"a value should be one vector, it is {list(self.shape)}")

    def shaped(self, shape: Shape) -> Row:
        """Return the same numbers in another shape, in the same order."""
        if math.prod(shape) != self.size:
            raise Untranslatable(f"it makes a vector of {self.size} into {list(shape)}")
        return Row(self.name, shape)


Value = Row | Constant


class Writer:
    """Writes nodes of a bundle's graph.

    Attributes:
        nodes, weights: those written so far.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, values: Any, dtype: Any = np.float64) -> str:
        """Write a weight and return its name."""
        name = f"w{len(self.weights)}"
        array = np.array(values, dtype, order="C")
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def node(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Write a node and return the name of its output."""
        name = name or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def unary(self, operator: str, row: Row) -> Row:
        """Apply an operator to each number of a row."""
        return Row(self.node(operator, row.name), row.shape)

    def binary(self, operator: str, a: Value | float, b: Value | float) -> Row:
        """Combine a row with a row or a constant, number by number."""
        shapes = [x.shape if isinstance(x, Row) else np.shape(x) for x in (a, b)]
        shape = np.broadcast_shapes(*shapes)
        longest = max(x.size if isinstance(x, Row) else int(np.size(x)) for x in (a, b))
        if math.prod(shape) != longest:
            raise Untranslatable(f"it makes {list(shape)} of {' and '.join(map(str, shapes))}")
        names = [x.name if isinstance(x, Row) else self.weight(np.ravel(x)) for x in (a, b)]
        return Row(self.node(operator, *names), tuple(shape))

    def product(self, row: Row, matrix: Constant, shape: Shape) -> Row:
        """Multiply a row (k) by a matrix (k, m)."""
        matrix = np.asarray(matrix, np.float64)
        if not np.isfinite(matrix).all():
            raise Untranslatable("its weights should be finite")
        if matrix.shape == (row.size, row.size) and np.array_equal(matrix, np.eye(row.size)):
            return row.shaped(shape)
        return Row(self.node("MatMul", row.name, self.weight(matrix)), shape)

    def clip(self, row: Row, low: float, high: float) -> Row:
        """Limit each number of a row."""
        ends = (max(low, -_LARGEST), min(high, _LARGEST))
        names = (self.weight(np.array(end)) for end in ends)
        return Row(self.node("Clip", row.name, *names), row.shape)

    def repeated(self, values: Constant, name: str) -> None:
        """Write an output that has the same values (size,) for each observation, in float32."""
        rows = self.node("Shape", "observation", start=0, end=1)
        shape = self.node("Concat", rows, self.weight([len(values)], np.int64), axis=0)
        self.node("Expand", self.weight(values, np.float32), shape, name=name)

    def model(
        self,
        inputs: Mapping[str, int],
        outputs: Mapping[str, int],
        dtype: int = onnx.TensorProto.FLOAT,
    ) -> onnx.ModelProto:
        """Return the model of all that was written, with the sizes of inputs and outputs.

        Args:
            dtype: the outputs' type.
        """
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            "policy",
            [value(name, onnx.TensorProto.FLOAT, ["batch", n]) for name, n in inputs.items()],
            [value(name, dtype, ["batch", n]) for name, n in outputs.items()],
            self.weights,
        )
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)


@dataclass(frozen=True)
class Call:
    """A node of the file under translation.

    Attributes:
        inputs: what it gets; None: an input that is left out.
        attributes: by name.
    """

    write: Writer
    inputs: Sequence[Value | None]
    attributes: Mapping[str, Any]

    @property
    def x(self) -> Row:
        """The first input, which has to depend on the observation."""
        return self.row(0)

    def row(self, place: int) -> Row:
        """Return an input that depends on the observation."""
        value = self.inputs[place]
        if not isinstance(value, Row):
            raise Untranslatable(f"input {place} should depend on the observation")
        return value

    def value(self, place: int) -> Value:
        """Return an input that is there."""
        if place >= len(self.inputs) or (value := self.inputs[place]) is None:
            raise Untranslatable(f"input {place} is missing")
        return value

    def constant(self, place: int, attribute: str = "", default: Any = None) -> Any:
        """Return an input that is constant, or the attribute that it was in older opsets."""
        if place < len(self.inputs) and self.inputs[place] is not None:
            value = self.inputs[place]
            if isinstance(value, Row):
                raise Untranslatable(f"input {place} depends on the observation")
            return value
        return self.attributes.get(attribute, default)

    def scalar(self, place: int, attribute: str, default: float) -> float:
        """Return a constant number."""
        value = np.asarray(self.constant(place, attribute, default))
        if value.size != 1:
            raise Untranslatable(f"input {place} should be one number")
        return float(value.reshape(()))
