"""Bundles that somebody made to do harm: each is refused in one sentence, before anything runs.

Each file here has a digest that fits, golden pairs that hold where they can, and the right inputs
and outputs: what is wrong with it is its graph.
"""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from holdfast.bundle import reader as bundles
from holdfast.cli import main
from tests.helpers.data.bundles import build, drive_contract
from tests.helpers.data.hostile import model_of, refusal, sealed

DOUBLINGS = 40


def constant(model, name, values, dtype=np.float32):
    model.graph.initializer.append(numpy_helper.from_array(np.array(values, dtype), name))


def node(model, *arguments, **attributes):
    """Put an operator first, whose result nothing needs: ONNX Runtime would run it all the same."""
    model.graph.node.insert(0, helper.make_node(*arguments, **attributes))


def body(inputs, outputs):
    """A graph within an operator: it hands on what it is given."""
    nodes = [helper.make_node("Identity", [i], [o]) for i, o in zip(inputs, outputs, strict=True)]
    infos = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
        for names in (inputs, outputs)
    ]
    return helper.make_graph(nodes, "body", *infos)


def loop(model):
    """As many rounds as the last observation value says: none in each check, 1e12 in a late row."""
    constant(model, "last_place", [8], np.int64)
    constant(model, "yes", True, bool)
    rounds = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["goes"])],
        "rounds",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("goes", TensorProto.BOOL, [])],
    )
    node(model, "Loop", ["trips", "yes"], [], body=rounds)
    node(model, "Cast", ["chosen"], ["trips"], to=TensorProto.INT64)
    node(model, "Gather", ["observation", "last_place"], ["chosen"], axis=1)


def branch(model):
    constant(model, "yes", True, bool)
    parts = {name: body(["observation"], [name]) for name in ("then_branch", "else_branch")}
    node(model, "If", ["yes"], ["branched"], **parts)


def scan(model):
    node(model, "Scan", ["observation"], ["scanned"], num_scan_inputs=1,
         body=body(["row"], ["row_out"]))  # fmt: skip


def sequence_map(model):
    node(model, "SequenceMap", ["sequence"], ["mapped"], body=body(["x"], ["y"]))
    node(model, "SequenceConstruct", ["observation"], ["sequence"])


def local_function(model):
    identity = [helper.make_node("Identity", ["x"], ["y"])]
    opsets = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("mine", "F", ["x"], ["y"], identity, opsets))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    node(model, "F", ["observation"], ["called"], domain="mine")


def subgraph_of_an_allowed_operator(model):
    node(model, "Tanh", ["observation"], ["squashed_too"], body=body(["x"], ["y"]))


def subgraphs_of_an_allowed_operator(model):
    node(model, "Tanh", ["observation"], ["squashed_too"], bodies=[body(["x"], ["y"])])


def external_data(model):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"


def external_by_its_location_alone(model):
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL


def giant(name):
    def change(model):
        constant(model, "size", [2**20, 2**20], np.int64)
        constant(model, "one", [[1.0]])
        constant(model, "zero_", 0)
        constant(model, "many", 1e12)
        constant(model, "step", 1)
        inputs = {"Expand": ["one", "size"], "Tile": ["one", "size"], "ConstantOfShape": ["size"],
                  "Range": ["zero_", "many", "step"]}[name]  # fmt: skip
        node(model, name, inputs, ["giant"])

    return change


def giant_constant(model):
    tensor = TensorProto(name="v", data_type=TensorProto.FLOAT, dims=[2**40])
    node(model, "Constant", [], ["giant"], value=tensor)


def giant_weight(model):
    model.graph.initializer.append(
        TensorProto(name="giant", data_type=TensorProto.FLOAT, dims=[2**40])
    )


def giant_weight_of_nothing(model):
    """No bytes are what a shape with a zero in it needs, whatever its other dimensions."""
    model.graph.initializer.append(
        helper.make_tensor("giant", TensorProto.FLOAT, [0, 2**40], b"", raw=True)
    )


def giant_product(model):
    """Each row by each column: 2 ** 40 numbers of two weights that are 4 MiB each."""
    constant(model, "column", np.ones((2**20, 1)))
    constant(model, "row", np.ones((1, 2**20)))
    node(model, "MatMul", ["column", "row"], ["giant"])


def giant_sum(model):
    constant(model, "column", np.ones((2**20, 1)))
    constant(model, "row", np.ones((1, 2**20)))
    node(model, "Add", ["column", "row"], ["giant"])


def doubled(model):
    """A row of integers joined with itself, forty times."""
    constant(model, "joined_0", [1], np.int64)
    for i in reversed(range(DOUBLINGS)):
        node(model, "Concat", [f"joined_{i}"] * 2, [f"joined_{i + 1}"], axis=0)


def many_products(model):
    """Each allowed; together they would take a minute."""
    constant(model, "square", np.ones((1024, 1024)) / 1024)
    constant(model, "wide", np.ones((9, 1024)))
    for i in reversed(range(60)):
        node(model, "MatMul", [f"long_{i}", "square"], [f"long_{i + 1}"])
    node(model, "MatMul", ["observation", "wide"], ["long_0"])


def deep(model):
    made = [helper.make_node("Tanh", [f"t_{i}"], [f"t_{i + 1}"]) for i in range(20_000)]
    model.graph.node.extend([helper.make_node("Tanh", ["observation"], ["t_0"]), *made])


def rows_multiply(model):
    """To the fourth power: a row alone is one number, 256 together are 4 thousand million."""
    constant(model, "one", [[1.0]])
    node(model, "Expand", ["one", "power"], ["giant"])
    node(model, "Concat", ["rows"] * 4, ["power"], axis=0)
    node(model, "Shape", ["observation"], ["rows"], start=0, end=1)


def shape_from_an_observation(model):
    constant(model, "one", [[1.0]])
    node(model, "Expand", ["one", "wanted"], ["giant"])
    node(model, "Cast", ["observation"], ["wanted"], to=TensorProto.INT64)


def integers_made_of_numbers(model):
    node(model, "Cast", ["observation"], ["wanted"], to=TensorProto.INT64)


def place_that_is_not_there(model):
    constant(model, "place", 9, np.int64)
    node(model, "Gather", ["observation", "place"], ["gathered"], axis=1)


def declared_giant(model):
    model.graph.value_info.append(
        helper.make_tensor_value_info("linear", TensorProto.FLOAT, [2**40, 2**40])
    )


def declared_sequence(model):
    model.graph.value_info.append(
        helper.make_tensor_sequence_value_info("linear", TensorProto.FLOAT, None)
    )


def declared_otherwise(model):
    """Declared as its contract says; what is computed has another shape."""
    for made in model.graph.node:
        if made.output[0] == "cost_to_go":
            made.op_type = "Tanh"
            del made.input[1:]
            made.input[0] = "observation"


def weight_that_can_be_given(model):
    model.graph.input.append(helper.make_tensor_value_info("bias", TensorProto.FLOAT, [2]))


def another_output(model):
    model.graph.output.append(helper.make_tensor_value_info("linear", TensorProto.FLOAT, ["b", 2]))


def another_opset(model):
    model.opset_import[0].version = 19


def more_opsets(model):
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def operator_of_microsoft(model):
    node(model, "Gelu", ["observation"], ["gelu"], domain="com.microsoft")


def allowed_name_of_another_domain(model):
    node(model, "Tanh", ["observation"], ["squashed_too"], domain="com.microsoft")


def sparse_weight(model):
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    places = numpy_helper.from_array(np.array([3], np.int64), "places")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [2**40]))


def training_graph(model):
    model.training_info.add()


def made_twice(model):
    node(model, "Tanh", ["observation"], ["linear"])


def used_before_it_is_made(model):
    node(model, "Tanh", ["linear"], ["early"])


def attribute_of_another(model):
    node(model, "Tanh", ["observation"], ["squashed_too"], axis=1)


def attribute_of_another_type(model):
    node(model, "Cast", ["observation"], ["cast"], to=1.0)


def a_text_weight(model):
    model.graph.initializer.append(helper.make_tensor("t", TensorProto.STRING, [1], [b"text"]))


def weight_that_is_short(model):
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]


def weight_of_another_kind_of_data(model):
    tensor = helper.make_tensor("typed", TensorProto.FLOAT, [2], [1.0, 2.0])
    model.graph.initializer.append(tensor)


def documented(model):
    model.doc_string = "what no bundle of ours has"


HOSTILE = {
    loop: "should not have a graph within an operator",
    branch: "should not have a graph within an operator",
    scan: "should not have a graph within an operator",
    sequence_map: "should not have a graph within an operator",
    subgraph_of_an_allowed_operator: r"should not have a graph within an operator \('g'\)",
    subgraphs_of_an_allowed_operator: r"should not have a graph within an operator \('graphs'\)",
    local_function: "the model should not have functions of its own",
    external_data: "'initializer' should not have data in another file",
    external_by_its_location_alone: "'initializer' should not have data in another file",
    giant("Expand"): "at most 131072 numbers per observation; with operator Expand",
    giant("Tile"): "operator 'Tile' is not one that a bundle may use; those are Add, Cast",
    giant("ConstantOfShape"): "operator 'ConstantOfShape' is not one",
    giant("Range"): "operator 'Range' is not one",
    giant_constant: "'attribute' should not have field 5",
    giant_weight: r"'giant' should hold as many bytes .* \[1099511627776\] of 4 each; it holds 0",
    giant_weight_of_nothing: "'giant' should hold as many bytes",
    giant_product: "at most 131072 numbers per observation; with operator MatMul",
    giant_sum: "at most 131072 numbers per observation; with operator Add",
    doubled: "at most 131072 numbers per observation; with operator Concat",
    many_products: "at most 33554432 multiplications per observation; with operator MatMul",
    deep: "at most 500 operators, received 20015",
    rows_multiply: "at most 131072 numbers per observation; with operator Expand",
    shape_from_an_observation: r"operator Cast does not fit float \[1, 9\] \(to=7\)",
    integers_made_of_numbers: r"operator Cast does not fit float \[1, 9\] \(to=7\)",
    place_that_is_not_there: r"operator Gather does not fit .* \(axis 9\)",
    declared_giant: "'linear' should be declared with a shape of at most 131072",
    declared_sequence: r"'type' should not have a value that is no tensor \('sequence_type'\)",
    declared_otherwise: r"'cost_to_go' should be float \[1, 1\] for 1 rows, it is float \[1, 9\]",
    weight_that_can_be_given: "graph inputs should be observation, received observation, bias",
    another_output: "graph outputs should be action, log_std, cost_to_go, received",
    another_opset: "own set 18 alone, received '' 19",
    more_opsets: "own set 18 alone, received '' 18, 'com.microsoft' 1",
    operator_of_microsoft: "operator 'com.microsoft.Gelu' is not one",
    allowed_name_of_another_domain: "operator 'com.microsoft.Tanh' is not one",
    sparse_weight: "'graph' should not have sparse weights",
    training_graph: "the model should not have a training graph",
    made_twice: "value 'linear' should have a name of its own",
    used_before_it_is_made: "operator Tanh uses 'linear', made by no earlier one",
    attribute_of_another: r"operator Tanh does not fit .* \(attribute 'axis'\)",
    attribute_of_another_type: r"operator Cast does not fit .* \(attribute 'to'\)",
    a_text_weight: "'initializer' should not have field 6",
    weight_that_is_short: "should hold as many bytes as its shape says",
    weight_of_another_kind_of_data: "'initializer' should not have field 4",
    documented: "the model should not have field 6",
}


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: change.__qualname__.split(".")[0])
def test_a_hostile_graph_is_refused(tmp_path, change):
    model = model_of()
    change(model)
    assert re.search(HOSTILE[change], refusal(sealed(model), tmp_path))


def test_what_the_graphs_above_begin_as_is_taken(tmp_path):
    path = tmp_path / "policy.onnx"
    path.write_bytes(sealed(model_of()))
    bundles.load(path)


@pytest.mark.parametrize("change", [loop, giant_product, external_data])
@pytest.mark.parametrize("command", ["verify", "deploy"])
def test_the_command_says_one_sentence_and_exits_with_1(tmp_path, capsys, change, command):
    model = model_of()
    change(model)
    path = tmp_path / "policy.onnx"
    path.write_bytes(sealed(model))
    robot = ["--robot", "serial:/nowhere"] if command == "deploy" else []
    assert main([command, "--policy", str(path), *robot]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"holdfast: {path}: ")
    assert said.err.count("\n") == 1


def test_rows_that_depend_on_one_another_are_refused(tmp_path):
    """Asked in batches it does as its golden pairs say; a robot asks one observation at a time."""
    model = model_of()
    constant(model, "tiny", 0.1)
    for made in model.graph.node:
        if made.output[0] == "cost_to_go":
            made.output[0] = "own_cost"
    for made in (
        helper.make_node("Gather", ["observation", "first"], ["first_row"], axis=0),
        helper.make_node("Gather", ["first_row", "first"], ["first_value"], axis=0),
        helper.make_node("Mul", ["first_value", "tiny"], ["shared"]),
        helper.make_node("Add", ["own_cost", "shared"], ["cost_to_go"]),
    ):
        model.graph.node.append(made)
    constant(model, "first", 0, np.int64)
    entries = {entry.key: entry for entry in model.metadata_props}
    golden = json.loads(entries["holdfast_golden"].value)
    shared = 0.1 * golden["observation"][0][0]
    golden["cost_to_go"] = [[shared]] * 4
    entries["holdfast_golden"].value = json.dumps(golden)
    said = refusal(sealed(model), tmp_path)
    assert said.startswith("'cost_to_go' for one observation should not depend on others")


def test_a_graph_that_takes_too_much_of_the_period_is_refused(tmp_path):
    contract = dataclasses.replace(drive_contract(), period_s=1e-6)
    said = refusal(build(contract), tmp_path)
    assert re.match(
        r"its outputs for one observation take \S+ s here; that should be at most 25% of the "
        r"contract's period of 1e-06 s",
        said,
    )


def test_a_file_of_onnx_runtime_s_own_format_is_refused(tmp_path):
    """Read as ONNX it is harmless; ONNX Runtime would read another model from the same bytes."""
    model = model_of()
    model.ClearField("ir_version")
    model.producer_name = "\0\0ORTM"
    data = sealed(model)
    assert data[4:8] == b"ORTM"
    assert "not in ONNX Runtime's" in refusal(data, tmp_path)
