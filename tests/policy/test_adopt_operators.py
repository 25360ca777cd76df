"""Each operator of foreign networks computes in the bundle's operators what ONNX Runtime says."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from holdfast.bundle.graph import OPERATORS
from holdfast.errors import BundleError
from holdfast.policy.adopt import network as networks
from holdfast.policy.adopt.operators import TRANSLATIONS
from holdfast.policy.adopt.rows import Row, Writer
from tests.helpers.data.foreign import layers, model, saved, small_weights

N = 8
FLOAT, DOUBLE = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
RNG = np.random.default_rng(5)
X = np.concatenate((RNG.standard_normal((20, N)), 30.0 * RNG.standard_normal((10, N))))
VECTOR, POSITIVE, MATRIX = RNG.standard_normal(N), 0.5 + RNG.random(N), RNG.standard_normal((N, 3))


def translated(made, x, size=None):
    """Return what the translated network says of rows, all at once."""
    write = Writer()
    row = Row(write.node("Cast", "observation", to=DOUBLE), (x.shape[1],))
    (out,) = made.translate(write, row)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        write.nodes,
        "g",
        [value("observation", FLOAT, ["batch", x.shape[1]])],
        [value(out.name, DOUBLE, ["batch", out.size])],
        write.weights,
    )
    assert {node.op_type for node in write.nodes} <= set(OPERATORS)
    bare = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = onnxruntime.InferenceSession(bare.SerializeToString())
    return session.run(None, {"observation": x.astype(np.float32)})[0]


def own(made, x, dtype=np.float32, shape=(1, N)):
    """Return what ONNX Runtime says of the file itself, row by row."""
    session = onnxruntime.InferenceSession(made.SerializeToString())
    x = x.astype(np.float32).astype(dtype)
    return np.array([session.run(["y"], {"x": row.reshape(shape)})[0].ravel() for row in x])


def require_equal(tmp_path, made, x=X, dtype=np.float32, shape=(1, N), atol=2e-5):
    read = networks.read(saved(tmp_path, made))
    found, wanted = translated(read, x), own(made, x, dtype, shape)
    assert np.ptp(wanted, axis=0).any()  # it shows something
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=atol)


def one(operator, *inputs, weights=None, opset=17, **attributes):
    """Return a model of one operator."""
    node = helper.make_node(operator, ["x", *inputs], ["y"], **attributes)
    return model([node], weights, opset=opset)


def ints(*values):
    return np.array(values, np.int64)


CASES = {
    "Abs": one("Abs"),
    "Add": one("Add", "v", weights={"v": VECTOR}),
    "Add a column": one("Add", "v", weights={"v": np.array([[2.0]])}),
    "BatchNormalization": one(
        "BatchNormalization",
        "s",
        "b",
        "m",
        "p",
        weights={"s": VECTOR, "b": -VECTOR, "m": 2.0 * VECTOR, "p": POSITIVE},
    ),
    "Cast": one("Cast", to=FLOAT),
    "Clip": one("Clip", "a", "b", weights={"a": np.array(-0.5), "b": np.array(0.25)}),
    "Clip below": one("Clip", "a", weights={"a": np.array(-0.5)}),
    "Clip above": one("Clip", "", "b", weights={"b": np.array(0.25)}),
    "Clip by attributes": one("Clip", opset=10, min=-0.5, max=0.25),
    "Concat": one("Concat", "v", "x", weights={"v": VECTOR[None]}, axis=1),
    "Div": one("Div", "v", weights={"v": POSITIVE}),
    "Dropout": one("Dropout"),
    "Elu": one("Elu"),
    "Elu with alpha": one("Elu", alpha=0.3),
    "Erf": one("Erf"),
    "Expand": one("Expand", "s", weights={"s": ints(1, N)}),
    "Flatten": one("Flatten"),
    "Gather": one("Gather", "i", weights={"i": ints(5, 0, 5, -1)}, axis=1),
    "Gather one": one("Gather", "i", weights={"i": ints(3)[0]}, axis=1),
    "Gelu": one("Gelu", opset=20),
    "Gelu by tanh": one("Gelu", opset=20, approximate="tanh"),
    "Gemm": one("Gemm", "m", weights={"m": MATRIX.T}, transB=1, alpha=0.5),
    "Gemm with beta": one("Gemm", "m", "c", weights={"m": MATRIX, "c": np.ones((1, 3))}, beta=0.5),
    "HardSigmoid": one("HardSigmoid", alpha=0.25, beta=0.4),
    "HardSwish": one("HardSwish"),
    "Identity": one("Identity"),
    "LayerNormalization": one(
        "LayerNormalization", "s", "b", weights={"s": VECTOR, "b": POSITIVE}, epsilon=1e-3
    ),
    "LayerNormalization without bias": one("LayerNormalization", "s", weights={"s": VECTOR}),
    "LeakyRelu": one("LeakyRelu", alpha=0.2),
    "MatMul": one("MatMul", "m", weights={"m": MATRIX}),
    "Max": one("Max", "v", weights={"v": VECTOR}),
    "Min": one("Min", "v", "u", weights={"v": VECTOR, "u": np.array([0.1])}),
    "Mish": one("Mish", opset=18),
    "Mul": one("Mul", "v", weights={"v": VECTOR}),
    "Mul by itself": one("Mul", "x"),
    "Neg": one("Neg"),
    "PRelu": one("PRelu", "v", weights={"v": POSITIVE}),
    "Pow 2": one("Pow", "e", weights={"e": np.array(2.0)}),
    "Pow 3": one("Pow", "e", weights={"e": np.array(3.0)}),
    "Pow -1": one("Pow", "e", weights={"e": np.array(-1.0)}),
    "Reciprocal": one("Reciprocal"),
    "ReduceL2": one("ReduceL2", axes=[1]),
    "ReduceMean": one("ReduceMean", axes=[-1], keepdims=0),
    "ReduceMean of one": one("ReduceMean", axes=[0]),
    "ReduceSum": one("ReduceSum", "a", weights={"a": ints(1)}),
    "ReduceSum of all": one("ReduceSum"),
    "Relu": one("Relu"),
    "Reshape": one("Reshape", "s", weights={"s": ints(0, 1, -1)}),
    "Selu": one("Selu"),
    "Sigmoid": one("Sigmoid"),
    "Slice": one("Slice", "a", "b", "c", weights={"a": ints(2), "b": ints(99), "c": ints(1)}),
    "Slice of each second": one(
        "Slice",
        "a",
        "b",
        "c",
        "d",
        weights={"a": ints(6), "b": ints(0), "c": ints(-1), "d": ints(-2)},
    ),
    "Slice to the front": one(
        "Slice",
        "a",
        "b",
        "c",
        "d",
        weights={"a": ints(-1), "b": ints(-(2**62)), "c": ints(1), "d": ints(-1)},
    ),
    "Slice by attributes": one("Slice", opset=9, starts=[1], ends=[4], axes=[1]),
    "Softplus": one("Softplus"),
    "Softsign": one("Softsign"),
    "Squeeze": one("Squeeze", "a", weights={"a": ints(0)}),
    "Squeeze all": one("Squeeze"),
    "Sub": one("Sub", "v", weights={"v": VECTOR}),
    "Tanh": one("Tanh"),
    "Transpose": one("Transpose", perm=[1, 0]),
    "Unsqueeze": one("Unsqueeze", "a", weights={"a": ints(0, -1)}),
    "Unsqueeze by attribute": one("Unsqueeze", opset=12, axes=[1]),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operator(tmp_path, name):
    require_equal(tmp_path, CASES[name])


@pytest.mark.parametrize("operator", ["Exp", "Log", "Sqrt"])
def test_an_operator_of_positive_numbers(tmp_path, operator):
    require_equal(tmp_path, one(operator), np.abs(X[:20]) + 0.1)


def test_every_operator_is_tried():
    tried = {name.partition(" ")[0] for name in CASES} | {"Exp", "Log", "Sqrt"}
    elsewhere = {"Shape"}  # in the network of the test below
    assert set(TRANSLATIONS) - tried == elsewhere | {"Swish"}  # which no ONNX Runtime has yet


def test_swish(tmp_path):
    """From opset 24 on: compared with what it is made of."""
    swish = networks.read(saved(tmp_path, one("Swish", opset=24, alpha=1.5)))
    x = X.astype(np.float32).astype(float)
    np.testing.assert_allclose(translated(swish, X), x / (1.0 + np.exp(-1.5 * x)), atol=1e-9)


def test_split_and_shapes_of_a_fixed_batch(tmp_path):
    """As frameworks write it: sizes are computed in the graph, and branches meet again."""
    make = helper.make_node
    nodes = [
        make("Shape", ["x"], ["shape"]),
        make("Gather", ["shape", "zero"], ["rows"], axis=0),
        make("Unsqueeze", ["rows", "front"], ["rows_1"]),
        make("Concat", ["rows_1", "rest"], ["wanted"], axis=0),
        make("Reshape", ["x", "wanted"], ["flat"]),
        make("Split", ["flat", "sizes"], ["a", "b"], axis=1),
        make("Mul", ["a", "b0"], ["c"]),
        make("Constant", [], ["gain"], value=numpy_helper.from_array(np.float32([[3.0]]))),
        make("Slice", ["b", "front", "two", "one_axis"], ["b0"]),
        make("Mul", ["c", "gain"], ["d"]),
        make("Concat", ["d", "b"], ["y"], axis=1),
    ]
    weights = {"zero": np.int64(0), "front": ints(0), "rest": ints(-1), "sizes": ints(3, 5),
               "two": ints(3), "one_axis": ints(1)}  # fmt: skip
    nodes = [*nodes[:6], nodes[8], nodes[6], nodes[7], *nodes[9:]]
    require_equal(tmp_path, model(nodes, weights))


def test_split_in_equal_parts(tmp_path):
    nodes = [
        helper.make_node("Split", ["x"], ["a", "b"], axis=1),
        helper.make_node("Sub", ["a", "b"], ["y"]),
    ]
    require_equal(tmp_path, model(nodes, opset=11))


@pytest.mark.parametrize("shape", [(N,), (1, N), ("batch", N), (None, N), (1, 1, N), (1, "n")])
def test_shapes_of_the_input(tmp_path, shape):
    nodes = [helper.make_node("MatMul", ["x", "m"], ["y"])]
    made = model(nodes, {"m": MATRIX}, shape=shape)
    require_equal(tmp_path, made, shape=(*(1 for _ in shape[:-1]), N))


def test_a_matrix_from_the_left(tmp_path):
    nodes = [helper.make_node("MatMul", ["m", "x"], ["y"])]
    require_equal(tmp_path, model(nodes, {"m": MATRIX.T}, shape=(N,)), shape=(N,))


def test_a_transposed_column(tmp_path):
    nodes = [
        helper.make_node("Transpose", ["x"], ["column"]),
        helper.make_node("Gemm", ["column", "m"], ["y"], transA=1),
    ]
    require_equal(tmp_path, model(nodes, {"m": MATRIX}))


def test_double_precision_is_exact(tmp_path):
    made = model(layers("Tanh"), small_weights(), dtype=DOUBLE)
    require_equal(tmp_path, made, dtype=np.float64, atol=1e-12)


def test_nothing_overflows_far_outside(tmp_path):
    far = 1e6 * RNG.standard_normal((10, N))
    for operator in ("Elu", "Selu", "Softplus", "Mish", "HardSwish", "Sigmoid"):
        read = networks.read(saved(tmp_path, CASES[operator]))
        assert np.isfinite(translated(read, far)).all()


def twice(operator, *inputs, **attributes):
    return helper.make_node(operator, list(inputs), ["y"], **attributes)


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (model([twice("MatMul", "x", "t")], {"t": np.ones((2, 2))}), "do not fit"),
        (one("Gemm", "m", weights={"m": np.ones((5, 3))}), r"\[1, 8\]|\(1, 8\) and"),
        (one("Add", "v", weights={"v": np.ones((3, 1))}), r"it makes \[3, 8\] of"),
        (one("Expand", "s", weights={"s": ints(4, N)}), r"it makes \[4, 8\] of"),
        (one("Reshape", "s", weights={"s": ints(2, 4)}), r"one vector, it is \[2, 4\]"),
        (one("Reshape", "s", weights={"s": ints(1, 9)}), r"a vector of 8 into \[1, 9\]"),
        (one("Pow", "e", weights={"e": np.array(2.5)}), "the exponent should be"),
        (one("Cast", to=onnx.TensorProto.INT64), "it should cast to float or double"),
        (one("Gather", "i", weights={"i": ints(99)}, axis=1), "an index is too large"),
        (one("Softmax", axis=1), "operator Softmax is not supported; supported are Abs, Add"),
        (one("Split", "s", weights={"s": ints(3, 3)}, axis=1), "it splits 8 into"),
        (one("MatMul", "m", weights={"m": np.full((N, 2), np.inf)}), "weights should be finite"),
        (one("Concat", "v", weights={"v": np.ones((2, N))}, axis=0), r"one vector, it is \[3, 8\]"),
        (one("Slice", "a", "b", "c", weights={"a": ints(3), "b": ints(3), "c": ints(1)}),
         "nothing is left"),
        (one("LayerNormalization", "s", weights={"s": VECTOR}, axis=0), "the last axis"),
        (model([twice("MatMul", "x", "x")], shape=(N,)), "of its two inputs should be constant"),
        (one("Flatten", axis=7), "it has no axis 7"),
        (one("Clip", "x"), "depends on the observation"),
        (one("Gemm"), "it should multiply a vector by a constant matrix"),
        (one("Add", ""), "input 1 is missing"),
    ],
)  # fmt: skip
def test_what_no_row_can_be(tmp_path, made, sentence):
    path = saved(tmp_path, made)
    with pytest.raises(BundleError, match=sentence) as caught:
        translated(networks.read(path), X)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("nodes", "weights", "sentence"),
    [
        ([("ConstantOfShape", ["s"], "big")], {"s": ints(2**40)}, "at most 16777216 numbers"),
        ([("Expand", ["one", "s"], "big")], {"s": ints(2**40), "one": np.ones(1)}, "at most 167"),
        ([("Add", ["column", "row"], "big")],
         {"column": np.ones((5000, 1)), "row": np.ones((1, 5000))}, "at most 16777216 numbers"),
        ([("Range", ["a", "b", "c"], "big")],
         {"a": np.array(0.0), "b": np.array(1e9), "c": np.array(1.0)}, "at most 16777216 numbers"),
        ([("Reshape", ["one", "s"], "big")], {"s": ints(3), "one": np.ones(2)}, "cannot be read"),
        ([("Dropout", ["one"], "big")], {"one": np.ones(2)}, "not supported for constants"),
    ],
)  # fmt: skip
def test_constants_that_cannot_be_computed(tmp_path, nodes, weights, sentence):
    made = [helper.make_node(op, names, [out]) for op, names, out in nodes]
    made.append(helper.make_node("Add", ["x", "big"], ["y"]))
    read = networks.read(saved(tmp_path, model(made, weights)))
    with pytest.raises(BundleError, match=sentence):
        translated(read, X)
