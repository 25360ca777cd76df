"""Recurrent policies: which inputs of a file are its state, and one step of recurrent layers.

A state is an input that gets, at each step, what an output said at the step before; it is zero at
an episode's start. A bundle has all states of a policy in one vector. ONNX's operator reference
(github.com/onnx/onnx, docs/Operators.md) defines the layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from holdfast.errors import BundleError, ConfigError
from holdfast.plain import shown
from holdfast.policy.adopt.operators import select
from holdfast.policy.adopt.rows import Call, Row, Untranslatable, Value, Writer
from holdfast.signals import Array

Dims = tuple[int | str, ...]


@dataclass(frozen=True)
class State:
    """A state of a recurrent policy.

    Attributes:
        input, output: names in the file of the state before a step, and after it.
        shape: the state's shape for one observation.
    """

    input: str
    output: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def parse(texts: Sequence[str]) -> dict[str, str]:
    """Return the outputs by input of INPUT=OUTPUT texts.

    Raises:
        ConfigError: a text is written otherwise, or a name comes twice.
    """
    pairs = dict[str, str]()
    for text in texts:
        before, _, after = text.partition("=")
        if not before or not after or before in pairs or after in pairs.values():
            raise ConfigError(
                f"state should be INPUT=OUTPUT, once for each state, received '{shown(text)}'"
            )
        pairs[before] = after
    return pairs


def by_shape(inputs: Mapping[str, Dims], outputs: Mapping[str, Dims]) -> dict[str, str]:
    """Return the outputs by input of states, found by their equal shapes.

    Args:
        inputs, outputs: declared shapes by name; the action may be among the outputs.

    Raises:
        BundleError: the shapes do not tell which input is a state of which output.
    """
    fits = {name: [out for out, dims in outputs.items() if dims == wanted and dims]
            for name, wanted in inputs.items()}  # fmt: skip
    pairs = {name: found[0] for name, found in fits.items() if len(found) == 1}
    unclear = [name for name, found in fits.items() if len(found) > 1]
    if unclear or len(set(pairs.values())) < len(pairs) or len(pairs) != len(inputs) - 1:
        raise BundleError(
            f"its inputs are {_listed(inputs)} and its outputs {_listed(outputs)}; which of them "
            "are the states of a recurrent policy should be said, each with --state INPUT=OUTPUT"
        )
    return pairs


def _listed(names: Mapping[str, Dims]) -> str:
    return ", ".join(f"{shown(name)} {list(dims)}" for name, dims in names.items())


def dims_of(info: onnx.ValueInfoProto) -> Dims:
    """Return a declared shape; a free size is its name."""
    dims = info.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in dims)


def state_of(info: onnx.ValueInfoProto, output: str) -> State:
    """Return a state by its input's declaration; a free size is that of a batch, here 1."""
    shape = tuple(size if isinstance(size, int) else 1 for size in dims_of(info))
    return State(info.name, output, shape)


def parted(write: Writer, whole: Row, states: Sequence[State]) -> dict[str, Row]:
    """Return the states in a vector, by their inputs' names."""
    rows, start = {}, 0
    for state in states:
        places = range(start, start + state.size)
        rows[state.input] = select(write, whole, places, state.shape)
        start += state.size
    return rows


def joined(write: Writer, rows: Sequence[Row]) -> Row:
    """Return rows one after another, as one vector."""
    total, start, parts = sum(row.size for row in rows), 0, []
    for row in rows:
        spread = np.zeros((row.size, total))
        spread[np.arange(row.size), np.arange(start, start + row.size)] = 1.0
        parts.append(write.product(row, spread, (total,)))
        start += row.size
    whole = parts[0]
    for part in parts[1:]:
        whole = write.binary("Add", whole, part)
    return whole


class _Layer:
    """A recurrent layer for one step of one observation.

    Args:
        call: the node.
        gates: number of gates, in the order in which the weights hold them.
        activations: the usual ones.
    """

    def __init__(self, call: Call, gates: int, *activations: str) -> None:
        self.write = call.write
        attributes = call.attributes
        usual = {"direction": b"forward", "layout": 0, "input_forget": 0, "clip": 0.0}
        for name, value in usual.items():
            if attributes.get(name, value) != value:
                raise Untranslatable(f"its {name} should be left out, received {attributes[name]}")
        said = [each.decode("utf-8", "replace") for each in attributes.get("activations", ())]
        if said and tuple(said) != activations:
            raise Untranslatable(
                f"its activations should be {', '.join(activations)}, received "
                f"{shown(', '.join(said))}"
            )
        x = call.x
        if len(x.shape) != 3 or x.shape[:2] != (1, 1):
            raise Untranslatable(f"its input should be one step, [1, 1, n], it is {list(x.shape)}")
        if len(call.inputs) > 4 and call.inputs[4] is not None:
            lengths = np.ravel(call.constant(4))
            if lengths.tolist() != [1]:
                raise Untranslatable("its sequence_lens should be 1")
        weights, recurrence = (np.asarray(call.constant(k), np.float64) for k in (1, 2))
        if weights.ndim != 3 or recurrence.ndim != 3 or len(weights) != 1:
            raise Untranslatable("its weights should be of one direction")
        self.size = recurrence.shape[-1]
        self.x = x.shaped((x.size,))
        self.h = self.state(call, 5)
        self._w, self._r = (each[0].reshape(gates, self.size, -1) for each in (weights, recurrence))
        bias = call.constant(3) if len(call.inputs) > 3 and call.inputs[3] is not None else None
        given = np.zeros((2, gates, self.size))
        if bias is not None:
            given = np.asarray(bias, np.float64).reshape(2, gates, self.size)
        self.w_bias, self.r_bias = given

    def state(self, call: Call, place: int) -> Row:
        """Return a state before the step."""
        value = call.inputs[place] if len(call.inputs) > place else None
        if not isinstance(value, Row):
            raise Untranslatable(
                "its state should be an input of the file, so that it is kept from step to step"
            )
        return value.shaped((self.size,))

    def of_x(self, gate: int) -> Row:
        """Return W·x + its bias."""
        return self._plus(
            self.write.product(self.x, self._w[gate].T, (self.size,)), self.w_bias[gate]
        )

    def of_h(self, gate: int, h: Row | None = None) -> Row:
        """Return R·h + its bias."""
        row = self.h if h is None else h
        return self._plus(self.write.product(row, self._r[gate].T, (self.size,)), self.r_bias[gate])

    def _plus(self, row: Row, bias: Array) -> Row:
        return self.write.binary("Add", row, bias) if bias.any() else row

    def gate(self, gate: int, activation: str = "Sigmoid") -> Row:
        """Return the activation of W·x + R·h + biases."""
        total = self.write.binary("Add", self.of_x(gate), self.of_h(gate))
        return self.write.unary(activation, total)

    def outputs(self, *states: Row) -> list[Value]:
        """Return Y [1, 1, 1, H] and the states [1, 1, H] after the step."""
        shapes = [(1, 1, 1, self.size), *[(1, 1, self.size)] * len(states)]
        rows = (states[0], *states)
        return [row.shaped(shape) for row, shape in zip(rows, shapes, strict=True)]


def _lstm(call: Call) -> list[Value]:
    """c' = f·c + i·g and h' = o·tanh(c'), the gates in ONNX's order i, o, f, g."""
    layer = _Layer(call, 4, "Sigmoid", "Tanh", "Tanh")
    if len(call.inputs) > 7 and call.inputs[7] is not None:
        raise Untranslatable("it has peepholes")
    write, c = layer.write, layer.state(call, 6)
    entry, exit_, forget, new = (*(layer.gate(k) for k in range(3)), layer.gate(3, "Tanh"))
    c = write.binary("Add", write.binary("Mul", forget, c), write.binary("Mul", entry, new))
    return layer.outputs(write.binary("Mul", exit_, write.unary("Tanh", c)), c)


def _gru(call: Call) -> list[Value]:
    """h' = (1 − z)·n + z·h, the gates in ONNX's order z, r, n."""
    layer = _Layer(call, 3, "Sigmoid", "Tanh")
    write, h = layer.write, layer.h
    update, reset = layer.gate(0), layer.gate(1)
    if call.attributes.get("linear_before_reset", 0):
        remembered = write.binary("Mul", reset, layer.of_h(2))
    else:
        remembered = layer.of_h(2, write.binary("Mul", reset, h))
    new = write.unary("Tanh", write.binary("Add", layer.of_x(2), remembered))
    kept = write.binary("Mul", update, write.binary("Sub", h, new))
    return layer.outputs(write.binary("Add", new, kept))


def _rnn(call: Call) -> list[Value]:
    """h' = tanh(W·x + R·h + biases)."""
    layer = _Layer(call, 1, "Tanh")
    return layer.outputs(layer.gate(0, "Tanh"))


LAYERS: Mapping[str, Callable[[Call], list[Value]]] = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}
"""By operator, what translates one step of it."""
