"""The operators of foreign networks, each in the operators of bundles.

Every function gets a node's inputs and attributes, and writes nodes that compute the same. ONNX's
operator reference (github.com/onnx/onnx, docs/Operators.md) defines the operators. What was an
attribute in an older opset and is an input now is read from both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx

from holdfast.policy.adopt.rows import Call, Constant, Row, Shape, Untranslatable, Value, Writer

DOUBLE, FLOAT = onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT


def integers(values: Any) -> list[int]:
    """Return constant integers as a list."""
    return [int(value) for value in np.ravel(values)]


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise Untranslatable(f"it has no axis {axis}")
    return axis % rank


# Numbers of a row, one by one.


def _binary(operator: str) -> Callable[[Call], Value]:
    return lambda call: call.write.binary(operator, call.value(0), call.value(1))


def _unary(operator: str) -> Callable[[Call], Value]:
    return lambda call: call.write.unary(operator, call.x)


def _negative_part(write: Writer, x: Row) -> Row:
    """Return min(x, 0)."""
    return write.binary("Sub", x, write.unary("Relu", x))


def _elu(call: Call, alpha: float = 1.0, gamma: float = 1.0) -> Value:
    """gamma · (max(x, 0) + alpha · (exp(min(x, 0)) − 1)): no exponential overflows."""
    write, x = call.write, call.x
    alpha = call.attributes.get("alpha", alpha)
    gamma = call.attributes.get("gamma", gamma)
    below = write.binary("Sub", write.unary("Exp", _negative_part(write, x)), 1.0)
    scaled = below if alpha == 1.0 else write.binary("Mul", below, alpha)
    whole = write.binary("Add", write.unary("Relu", x), scaled)
    return whole if gamma == 1.0 else write.binary("Mul", whole, gamma)


def _selu(call: Call) -> Value:
    return _elu(call, 1.67326319217681884765625, 1.05070102214813232421875)  # ONNX's defaults


def _leaky_relu(call: Call) -> Value:
    slope = call.attributes.get("alpha", 0.01)
    return _sloped(call, slope)


def _prelu(call: Call) -> Value:
    return _sloped(call, call.constant(1))


def _sloped(call: Call, slope: Any) -> Value:
    write, x = call.write, call.x
    below = write.binary("Mul", _negative_part(write, x), slope)
    return write.binary("Add", write.unary("Relu", x), below)


def _absolute(write: Writer, x: Row) -> Row:
    return write.binary("Sub", write.unary("Relu", x), _negative_part(write, x))


def _softplus(write: Writer, x: Row) -> Row:
    """max(x, 0) + log(1 + exp(−|x|)): no exponential overflows."""
    small = write.unary("Exp", write.binary("Sub", 0.0, _absolute(write, x)))
    log = write.unary("Log", write.binary("Add", small, 1.0))
    return write.binary("Add", write.unary("Relu", x), log)


def _mish(call: Call) -> Value:
    write, x = call.write, call.x
    return write.binary("Mul", x, write.unary("Tanh", _softplus(write, x)))


def _swish(call: Call) -> Value:
    write, x, alpha = call.write, call.x, call.attributes.get("alpha", 1.0)
    scaled = x if alpha == 1.0 else write.binary("Mul", x, alpha)
    return write.binary("Mul", x, write.unary("Sigmoid", scaled))


def _softsign(call: Call) -> Value:
    write, x = call.write, call.x
    return write.binary("Div", x, write.binary("Add", _absolute(write, x), 1.0))


def _hard(call: Call, alpha: float, beta: float) -> Row:
    write = call.write
    line = write.binary("Add", write.binary("Mul", call.x, alpha), beta)
    return write.clip(line, 0.0, 1.0)


def _hard_sigmoid(call: Call) -> Value:
    return _hard(call, call.attributes.get("alpha", 0.2), call.attributes.get("beta", 0.5))


def _hard_swish(call: Call) -> Value:
    return call.write.binary("Mul", call.x, _hard(call, 1.0 / 6.0, 0.5))


def _erf(call: Call) -> Value:
    """ONNX Runtime computes it in float alone."""
    write, x = call.write, call.x
    narrow = write.node("Cast", x.name, to=FLOAT)
    return Row(write.node("Cast", write.node("Erf", narrow), to=DOUBLE), x.shape)


def _gelu(call: Call) -> Value:
    write, x = call.write, call.x
    if call.attributes.get("approximate", b"none") == b"tanh":
        cube = write.binary("Mul", write.binary("Mul", x, x), x)
        inner = write.binary("Add", x, write.binary("Mul", cube, 0.044715))
        curve = write.unary("Tanh", write.binary("Mul", inner, math.sqrt(2.0 / math.pi)))
    else:
        scaled = write.binary("Mul", x, math.sqrt(0.5))
        erf = _erf(Call(write, [scaled], {}))
        assert isinstance(erf, Row)
        curve = erf
    half = write.binary("Mul", write.binary("Add", curve, 1.0), 0.5)
    return write.binary("Mul", x, half)


def _clip(call: Call) -> Value:
    low = call.scalar(1, "min", -math.inf)
    return call.write.clip(call.x, low, call.scalar(2, "max", math.inf))


def _extreme(largest: bool) -> Callable[[Call], Value]:
    """max(a, b) = a + max(b − a, 0); min(a, b) = a − max(a − b, 0)."""

    def translate(call: Call) -> Value:
        write, result = call.write, call.value(0)
        for place in range(1, len(call.inputs)):
            a, b = result, call.value(place)
            gap = write.binary("Sub", *((b, a) if largest else (a, b)))
            beyond = write.unary("Relu", gap)
            result = write.binary("Add" if largest else "Sub", a, beyond)
        return result

    return translate


def _power(call: Call) -> Value:
    write, x, exponent = call.write, call.x, call.scalar(1, "", math.nan)
    if exponent in (2.0, 3.0):
        square = write.binary("Mul", x, x)
        return square if exponent == 2.0 else write.binary("Mul", square, x)
    if exponent == 0.5:
        return write.unary("Sqrt", x)
    if exponent in (1.0, -1.0):
        return x if exponent == 1.0 else write.binary("Div", 1.0, x)
    raise Untranslatable(f"the exponent should be 0.5, 1, 2, 3 or -1, received {exponent:g}")


def _cast(call: Call) -> Value:
    if call.attributes["to"] not in (FLOAT, DOUBLE):
        raise Untranslatable("it should cast to float or double")
    return call.x


def _same(call: Call) -> Value:
    return call.x


# Products.


def _matmul(call: Call) -> Value:
    a, b = call.value(0), call.value(1)
    shapes = (a.shape, b.shape)
    try:  # what shape NumPy gives, from arrays that hold nothing
        shape = np.matmul(*(np.broadcast_to(np.int8(0), each) for each in shapes)).shape
    except ValueError:
        raise Untranslatable(f"{list(a.shape)} and {list(b.shape)} do not fit") from None
    if isinstance(a, Row) == isinstance(b, Row):
        raise Untranslatable("one of its two inputs should be constant")
    row, matrix = (a, np.asarray(b)) if isinstance(a, Row) else (b, np.asarray(a).T)
    assert isinstance(row, Row)
    matrix = matrix if matrix.ndim > 1 else matrix[:, None]
    if matrix.ndim != 2 or matrix.shape[0] != row.size:
        raise Untranslatable("its constant should be a matrix, for one vector")
    return call.write.product(row, matrix, shape)


def _gemm(call: Call) -> Value:
    """alpha · A B + beta · C, A and B perhaps transposed."""
    write, get = call.write, call.attributes.get
    x, matrix = call.x, call.constant(1)
    if len(x.shape) != 2 or matrix is None or matrix.ndim != 2:
        raise Untranslatable("it should multiply a vector by a constant matrix")
    inner, outer = x.shape[::-1] if get("transA", 0) else x.shape, matrix
    outer = outer.T if get("transB", 0) else outer
    if inner != (1, outer.shape[0]):
        raise Untranslatable(f"{list(inner)} and {list(outer.shape)} do not fit")
    row = write.product(x, get("alpha", 1.0) * outer, (1, outer.shape[1]))
    if len(call.inputs) < 3 or call.inputs[2] is None:
        return row
    bias = call.inputs[2]
    beta = get("beta", 1.0)
    if isinstance(bias, Row):
        bias = bias if beta == 1.0 else write.binary("Mul", bias, beta)
    else:
        bias = beta * bias
    return write.binary("Add", row, bias)


# Parts of a row, and rows joined.


def select(write: Writer, row: Row, places: Sequence[int], shape: Shape) -> Row:
    """Return some numbers of a row: a slice, or a product with a matrix of zeros and ones."""
    places = list(places)
    if not places:
        raise Untranslatable("nothing is left")
    if places == list(range(row.size)):
        return row.shaped(shape)
    if places == list(range(places[0], places[0] + len(places))):
        ends = [[places[0]], [places[-1] + 1], [1], [1]]
        names = (write.weight(end, np.int64) for end in ends)
        return Row(write.node("Slice", row.name, *names), shape)
    return write.product(row, np.eye(row.size)[:, places], shape)


def _selected(call: Call, pick: Callable[[Constant], Constant]) -> Row:
    """Return the part of a row that `pick` takes from an array of its shape."""
    x = call.x
    part = pick(np.arange(x.size).reshape(x.shape))
    return select(call.write, x, part.ravel().tolist(), part.shape)


def _slice(call: Call) -> Value:
    starts, ends = (integers(call.constant(k, name)) for k, name in ((1, "starts"), (2, "ends")))
    axes = integers(call.constant(3, "axes", range(len(starts))))
    steps = integers(call.constant(4, "steps", [1] * len(starts)))
    parts = [slice(None)] * len(call.x.shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # An end below the first place, when stepping back, is none in Python.
        last = None if step < 0 and end < -call.x.size else end
        parts[_axis(axis, len(parts))] = slice(start, last, step)
    return _selected(call, lambda places: places[tuple(parts)])


def _gather(call: Call) -> Value:
    axis = _axis(call.attributes.get("axis", 0), len(call.x.shape))
    indices = np.asarray(call.constant(1), np.int64)
    try:
        return _selected(call, lambda places: np.take(places, indices, axis))
    except IndexError:
        raise Untranslatable("an index is too large") from None


def split(call: Call, outputs: int) -> list[Value]:
    """Return the parts of a row; the one operator with several outputs."""
    axis = _axis(call.attributes.get("axis", 0), len(call.x.shape))
    size = call.x.shape[axis]
    each = math.ceil(size / outputs)
    equal = [each] * (outputs - 1) + [size - each * (outputs - 1)]
    sizes = integers(call.constant(1, "split", equal))
    if sum(sizes) != size or len(sizes) != outputs:
        raise Untranslatable(f"it splits {size} into {sizes}")
    bounds = zip(np.cumsum([0, *sizes]).tolist(), sizes, strict=False)
    return [_selected(call, partial(_taken, range(a, a + n), axis)) for a, n in bounds]


def _taken(wanted: range, axis: int, places: Constant) -> Constant:
    return np.take(places, wanted, axis)


def _concat(call: Call) -> Value:
    """Each part is spread over the whole by a matrix of zeros and ones, and the parts are added."""
    parts = [call.value(place) for place in range(len(call.inputs))]
    axis = _axis(call.attributes["axis"], len(parts[0].shape))
    numbered, size = [], 0
    for part in parts:
        numbered.append(np.arange(size, size + part.size).reshape(part.shape))
        size += part.size
    order = np.concatenate(numbered, axis)
    rest = Row("", order.shape)  # which has to be a vector too
    place_of = np.argsort(order.ravel())
    constants, rows = np.zeros(size), list[Row]()
    for part, numbers in zip(parts, numbered, strict=True):
        places = place_of[numbers.ravel()]
        if isinstance(part, Row):
            spread = np.zeros((part.size, size))
            spread[np.arange(part.size), places] = 1.0
            rows.append(call.write.product(part, spread, rest.shape))
        else:
            constants[places] = np.ravel(part)
    whole = rows[0]
    for row in rows[1:]:
        whole = call.write.binary("Add", whole, row)
    return (
        call.write.binary("Add", whole, constants.reshape(rest.shape)) if constants.any() else whole
    )


# Shapes.


def _reshape(call: Call) -> Value:
    x, wanted = call.x, integers(call.constant(1, "shape", []))
    keeps = not call.attributes.get("allowzero", 0)
    shape = [
        x.shape[i] if size == 0 and keeps and i < len(x.shape) else size
        for i, size in enumerate(wanted)
    ]
    if shape.count(-1) == 1:
        rest = -math.prod(shape)
        shape[shape.index(-1)] = x.size // rest if rest > 0 else 0
    return x.shaped(tuple(shape))


def _flatten(call: Call) -> Value:
    shape = call.x.shape
    axis = call.attributes.get("axis", 1)
    axis = axis if axis == len(shape) else _axis(axis, len(shape))
    return call.x.shaped((math.prod(shape[:axis]), math.prod(shape[axis:])))


def _squeeze(call: Call) -> Value:
    shape = call.x.shape
    given = call.constant(1, "axes")
    axes = range(len(shape)) if given is None else [_axis(a, len(shape)) for a in integers(given)]
    return call.x.shaped(
        tuple(n for i, n in enumerate(shape) if not (i in axes and (n == 1 or given is not None)))
    )


def _unsqueeze(call: Call) -> Value:
    axes = integers(call.constant(1, "axes"))
    rank = len(call.x.shape) + len(axes)
    axes = [_axis(axis, rank) for axis in axes]
    kept = iter(call.x.shape)
    return call.x.shaped(tuple(1 if i in axes else next(kept) for i in range(rank)))


def _transpose(call: Call) -> Value:
    shape = call.x.shape
    order = call.attributes.get("perm", list(range(len(shape)))[::-1])
    return call.x.shaped(tuple(shape[i] for i in order))


def _expand(call: Call) -> Value:
    shape = np.broadcast_shapes(call.x.shape, tuple(integers(call.constant(1))))
    if math.prod(shape) != call.x.size:
        raise Untranslatable(f"it makes {list(shape)} of {list(call.x.shape)}")
    return call.x.shaped(shape)


def _shape(call: Call) -> Value:
    shape = call.x.shape
    start, end = call.attributes.get("start", 0), call.attributes.get("end", len(shape))
    return np.array(shape[start:end], np.int64)


# Statistics of a row.


def _reduced(call: Call, x: Row, scale: Callable[[int], float]) -> Row:
    """Return the sum of a row over some axes, times `scale` of the count of what is summed."""
    rank = len(x.shape)
    given = call.constant(1, "axes")
    axes = sorted(_axis(a, rank) for a in integers(range(rank) if given is None else given))
    if call.attributes.get("keepdims", 1):
        shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    else:
        shape = tuple(n for i, n in enumerate(x.shape) if i not in axes)
    count = math.prod(x.shape[axis] for axis in axes)
    factor = scale(count)
    if count == 1:
        row = x if factor == 1.0 else call.write.binary("Mul", x, factor)
        return row.shaped(shape)
    return call.write.product(x, np.full((x.size, 1), factor), shape)


def _reduce_mean(call: Call) -> Value:
    return _reduced(call, call.x, lambda count: 1.0 / count)


def _reduce_sum(call: Call) -> Value:
    return _reduced(call, call.x, lambda count: 1.0)


def _reduce_l2(call: Call) -> Value:
    square = call.write.binary("Mul", call.x, call.x)
    return call.write.unary("Sqrt", _reduced(call, square, lambda count: 1.0))


def _layer_normalization(call: Call) -> Value:
    """(x − mean) / √(variance + ε) · scale + bias (Ba et al. 2016)."""
    write, x = call.write, call.x
    if _axis(call.attributes.get("axis", -1), len(x.shape)) != len(x.shape) - 1:
        raise Untranslatable("it should normalise the last axis")
    if x.shape[-1] != x.size:
        raise Untranslatable("it should normalise the whole vector")
    mean = np.full((x.size, 1), 1.0 / x.size)
    one = (*x.shape[:-1], 1)
    centred = write.binary("Sub", x, write.product(x, mean, one))
    variance = write.product(write.binary("Mul", centred, centred), mean, one)
    spread = write.binary("Add", variance, call.attributes.get("epsilon", 1e-5))
    row = write.binary("Div", centred, write.unary("Sqrt", spread))
    row = write.binary("Mul", row, call.constant(1))
    bias = call.constant(2)
    return row if bias is None else write.binary("Add", row, bias)


def _batch_normalization(call: Call) -> Value:
    """With the statistics of training, which the file holds."""
    if call.attributes.get("training_mode", 0):
        raise Untranslatable("it should not be in training mode")
    scale, bias, mean, variance = (np.asarray(call.constant(k), float) for k in (1, 2, 3, 4))
    gain = scale / np.sqrt(variance + call.attributes.get("epsilon", 1e-5))
    if len(call.x.shape) != 2:
        raise Untranslatable("it should normalise (batch, n)")
    row = call.write.binary("Mul", call.write.binary("Sub", call.x, mean), gain)
    return call.write.binary("Add", row, bias)


TRANSLATIONS: Mapping[str, Callable[[Call], Value]] = {
    "Abs": lambda call: _absolute(call.write, call.x),
    "Add": _binary("Add"),
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Div": _binary("Div"),
    "Dropout": _same,
    "Elu": _elu,
    "Erf": _erf,
    "Exp": _unary("Exp"),
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "Identity": _same,
    "LayerNormalization": _layer_normalization,
    "LeakyRelu": _leaky_relu,
    "Log": _unary("Log"),
    "MatMul": _matmul,
    "Max": _extreme(largest=True),
    "Min": _extreme(largest=False),
    "Mish": _mish,
    "Mul": _binary("Mul"),
    "Neg": lambda call: call.write.binary("Sub", 0.0, call.x),
    "PRelu": _prelu,
    "Pow": _power,
    "Reciprocal": lambda call: call.write.binary("Div", 1.0, call.x),
    "ReduceL2": _reduce_l2,
    "ReduceMean": _reduce_mean,
    "ReduceSum": _reduce_sum,
    "Relu": _unary("Relu"),
    "Reshape": _reshape,
    "Selu": _selu,
    "Shape": _shape,
    "Sigmoid": _unary("Sigmoid"),
    "Slice": _slice,
    "Softplus": lambda call: _softplus(call.write, call.x),
    "Softsign": _softsign,
    "Sqrt": _unary("Sqrt"),
    "Squeeze": _squeeze,
    "Sub": _binary("Sub"),
    "Swish": _swish,
    "Tanh": _unary("Tanh"),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""The operators that may get the observation. `Split`, which has several outputs, is one more."""
