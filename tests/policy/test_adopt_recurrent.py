"""Recurrent policies from elsewhere: their states found, one step translated, what is refused."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from holdfast.bundle import reader
from holdfast.cli import main
from holdfast.errors import BundleError
from holdfast.policy.adopt import adopt as adopting
from holdfast.policy.adopt import probes
from holdfast.robot.run.policy_process import PolicyProcess
from holdfast.robot.topics.proposers import introduction
from tests.helpers.data.foreign import ACTIONS, SIZE, contract, saved
from tests.helpers.data.remembering import HIDDEN, Recurrent, exported

LSTM = ["--state", "h_in=h_out", "c_in=c_out"]


def adopt(folder, path, *options, steps=40):
    out, file = folder / "bundle.onnx", contract(folder)
    file.write_text(file.read_text().replace("episode_steps: 40", f"episode_steps: {steps}"))
    line = ["adopt", str(path), "--contract", str(file), "--out", str(out)]
    return main([*line, *options]), out


def episode(held, observations):
    """The actions of a bundle, asked one observation after another."""
    actor = reader.Actor(held, explore=False)
    return np.array([actor.act(row)[0] for row in observations])


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_an_episode_is_torch_s(tmp_path, kind, dynamo):
    """Over 60 steps from zeros, and again after the episode."""
    options = LSTM if kind == "LSTM" else ()  # a single state is found by its shape
    status, out = adopt(tmp_path, exported(tmp_path, kind, dynamo), *options)
    assert status == 0
    held = reader.load(out)
    assert held.state_size == HIDDEN * (2 if kind == "LSTM" else 1)
    rows = probes.observations(held.contract, 60).astype(np.float32)
    made, wanted = Recurrent(kind).eval(), []
    states = [torch.zeros(1, 1, HIDDEN)] * (2 if kind == "LSTM" else 1)
    with torch.no_grad():
        for row in rows:
            action, *states = made(torch.from_numpy(row[None]), *states)
            wanted.append(action[0].numpy() * [1.0, 2.0])  # over the contract's limits
    found = episode(held, rows.astype(np.float64))
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    still = np.tile(rows[:1].astype(np.float64), (60, 1))  # it remembers, else these were equal
    assert np.ptp(episode(held, still), axis=0).max() > 1e-3
    np.testing.assert_array_equal(episode(held, rows.astype(np.float64)), found)


def test_a_bundle_with_a_state_has_format_3(tmp_path):
    """Which a reader of format 2 alone refuses; bundles without a state stay as they were."""
    path = adopt(tmp_path, exported(tmp_path, "GRU"))[1]
    entries = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert entries["holdfast_format"] == "3"
    model = onnx.load(path)
    for entry in model.metadata_props:
        if entry.key == "holdfast_format":
            entry.value = "2"
        if entry.key == "holdfast_digest":
            entry.value = reader.PLACEHOLDER
    sealed = reader.seal(model.SerializeToString(deterministic=True))
    with pytest.raises(BundleError, match="bundle format should be 3, as its graph's inputs say"):
        reader.from_bytes(sealed, path)


def test_verify_accepts_it(tmp_path, capsys):
    path = adopt(tmp_path, exported(tmp_path, "LSTM"), *LSTM)[1]
    assert main(["verify", "--policy", str(path)]) == 0
    assert "ok      adopted" in capsys.readouterr().out
    assert reader.load(path).provenance["adopted"]["states"] == {"h_in": "h_out", "c_in": "c_out"}


def layer(operator, gates, inputs, opset=17, more=(), **attributes):
    """A file with one layer of a foreign exporter, whose weights are drawn."""
    rng = np.random.default_rng(4)
    states = [f"s{k}" for k in range(inputs)]
    weights = {
        "w": rng.normal(0, 0.3, (1, gates * HIDDEN, SIZE)),
        "r": rng.normal(0, 0.3, (1, gates * HIDDEN, HIDDEN)),
        "b": rng.normal(0, 0.3, (1, 2 * gates * HIDDEN)),
        "head": rng.normal(0, 0.3, (HIDDEN, ACTIONS)),
    }
    info, kind = helper.make_tensor_value_info, TensorProto.FLOAT
    after = [f"{name}_after" for name in states]
    graph = helper.make_graph(
        [
            helper.make_node(
                operator, ["x", "w", "r", "b", "", *states, *more], ["", *after],
                hidden_size=HIDDEN, **attributes,
            ),
            helper.make_node("Squeeze", [after[0], "axes"], ["h"]),
            helper.make_node("MatMul", ["h", "head"], ["y"]),
        ],
        "net",
        [info("x", kind, [1, 1, SIZE]), *(info(s, kind, [1, 1, HIDDEN]) for s in states)],
        [info("y", kind, [1, ACTIONS]), *(info(s, kind, [1, 1, HIDDEN]) for s in after)],
        [
            numpy_helper.from_array(np.array([0]), "axes"),
            *(numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()),
        ],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.mark.parametrize("reset", [0, 1])
def test_both_kinds_of_gru(tmp_path, reset):
    """The reset gate may stand before or after the recurrent product."""
    path = saved(tmp_path, layer("GRU", 3, 1, linear_before_reset=reset), "gru.onnx")
    status, out = adopt(tmp_path, path)
    assert status == 0
    held, session = reader.load(out), onnxruntime.InferenceSession(str(path))
    rows = probes.observations(held.contract, 40).astype(np.float32)
    state, wanted = np.zeros((1, 1, HIDDEN), np.float32), []
    for row in rows:
        y, state = session.run(["y", "s0_after"], {"x": row[None, None], "s0": state})
        wanted.append(np.clip(y[0], -1.0, 1.0) * [1.0, 2.0])
    np.testing.assert_allclose(episode(held, rows.astype(np.float64)), wanted, atol=1e-5)


def stateless(operator):
    made = layer(operator, 3, 1)
    del made.graph.node[0].input[5:]
    return made


def remembering(after, factor=2.0):
    """A file whose state (1, 3) after a step is made by nodes; the action is tanh(x·w + h·z)."""
    rng = np.random.default_rng(4)
    weights = {
        "w": rng.normal(0, 0.3, (SIZE, ACTIONS)),
        "z": np.array([[0.3, -0.2]] * 3),
        "factor": np.array([factor]),
        "one": np.ones(1),
    }
    info, kind = helper.make_tensor_value_info, TensorProto.FLOAT
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("MatMul", ["h", "z"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["y"]),
        *after,
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [info("x", kind, [1, SIZE]), info("h", kind, [1, 3])],
        [info("y", kind, [1, ACTIONS]), info("h2", kind, [1, 3])],
        [
            numpy_helper.from_array(value.astype(np.float32), name)
            for name, value in weights.items()
            if any(name in node.input for node in nodes)
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def declared(*, before=(1, 3), after=(1, 3)):
    """A file with these declared shapes of its state."""
    model = remembering(GROWING, 0.9)
    for info, shape in ((model.graph.input[1], before), (model.graph.output[1], after)):
        for dim, size in zip(info.type.tensor_type.shape.dim, shape, strict=True):
            dim.dim_value = size
    return model


GROWING = [
    helper.make_node("Mul", ["h", "factor"], ["more"]),
    helper.make_node("Add", ["more", "one"], ["h2"]),
]
NEVER_A_NUMBER = [helper.make_node("Div", ["h", "h"], ["h2"])]


@pytest.mark.parametrize(
    ("after", "factor"),
    [(GROWING, 2.0), (GROWING, 1.2), (NEVER_A_NUMBER, 0.0)],
    ids=["2h", "1.2h", "h÷h"],
)
def test_a_state_that_does_not_stay_finite_is_refused(tmp_path, capsys, after, factor):
    """1.2 overflows after the probes' 256 steps; a fitting policy's state stays as it was."""
    path = saved(tmp_path, remembering(after, factor), "grows.onnx")
    status, out = adopt(tmp_path, path, steps=5000)
    said = capsys.readouterr().err
    assert status == 1
    assert said.count("\n") == 1
    assert "grows.onnx: its" in said
    assert not out.exists()
    assert (
        adopt(tmp_path, saved(tmp_path, remembering(GROWING, 0.9), "fades.onnx"), steps=5000)[0]
        == 0
    )


def test_a_state_that_overflows_in_a_run_proposes_nan(tmp_path, monkeypatch):
    """As of a bundle that somebody else sealed; the process gives the monitor what stops it."""
    monkeypatch.setattr(adopting, "_require_finite_episodes", lambda *_: None)
    monkeypatch.setattr(adopting, "PROBES", 40)  # too few for the comparison to see it
    status, out = adopt(tmp_path, saved(tmp_path, remembering(GROWING, 2.0), "grows.onnx"))
    assert status == 0
    held = reader.load(out)
    policy = PolicyProcess(held, explore=False, seed=0)
    try:
        policy.wait_ready()
        found = []
        for step in range(150):
            policy.ask(step, 1.0 * step, True, np.zeros(held.contract.observation_size))
            found.append(policy.answer(5.0)[0].action)
        policy.ask(150, 150.0, False, np.zeros(held.contract.observation_size))
        policy.answer(5.0)
        policy.ask(151, 151.0, True, np.zeros(held.contract.observation_size))
        afterwards = policy.answer(5.0)[0].action
    finally:
        policy.close()
    wrong = [step for step, action in enumerate(found) if np.isnan(action).any()]
    assert wrong == list(range(127, 150))  # 2^128 is above float32
    assert np.isfinite(afterwards).all()  # another episode


REFUSED = {
    "states alike": (
        lambda folder: exported(folder, "LSTM"),
        (),
        "which of them are the states of a recurrent policy should be said, each with --state "
        "INPUT=OUTPUT",
    ),
    "two layers": (
        lambda folder: exported(folder, "GRU", layers=2),
        (),
        "a value should be one vector, it is [2, 1, 16]",
    ),
    "an unknown input": (
        lambda folder: exported(folder, "GRU"),
        ("--state", "hidden=h_out"),
        "it has no input 'hidden'; there are obs, h_in",
    ),
    "an unknown output": (
        lambda folder: exported(folder, "GRU"),
        ("--state", "h_in=hidden"),
        "it has no output 'hidden'; there are actions, h_out",
    ),
    "another size": (
        lambda folder: exported(folder, "GRU"),
        ("--state", "h_in=actions", "--output", "h_out"),
        "its output 'actions' should have the 16 values of its state 'h_in', it has 2",
    ),
    "half of it": (
        lambda folder: exported(folder, "LSTM"),
        ("--state", "h_in=h_out", "--output", "actions"),
        "it needs obs, c_in; the state of a recurrent policy is named with --state",
    ),
    "no state": (
        lambda folder: saved(folder, stateless("GRU"), "gru.onnx"),
        ("--output", "y"),
        "its state should be an input of the file, so that it is kept from step to step",
    ),
    "both directions": (
        lambda folder: saved(folder, layer("GRU", 3, 1, direction="reverse"), "gru.onnx"),
        (),
        "its direction should be left out",
    ),
    "activations": (
        lambda folder: saved(
            folder, layer("GRU", 3, 1, activations=["Sigmoid", "Relu"]), "gru.onnx"
        ),
        (),
        "its activations should be Sigmoid, Tanh, received",
    ),
    "a state of nothing": (
        lambda folder: saved(folder, declared(before=(1, 0), after=(1, 0)), "net.onnx"),
        ("--state", "h=h2"),
        "its state 'h' should have sizes above 0, it has [1, 0]",
    ),
    "a state of less": (
        lambda folder: saved(folder, declared(before=(1, -4), after=(1, -4)), "net.onnx"),
        ("--state", "h=h2"),
        "its state 'h' should have sizes above 0, it has [1, -4]",
    ),
    "declared otherwise": (
        lambda folder: saved(folder, declared(after=(1, 5)), "net.onnx"),
        ("--state", "h=h2"),
        "its output 'h2' should have the 3 values of its state 'h', it has 5",
    ),
    "no action": (
        lambda folder: saved(folder, declared(), "net.onnx"),
        ("--state", "h=h2", "x=y"),
        "its outputs are all states after a step; one should be the action",
    ),
    "written otherwise": (
        lambda folder: exported(folder, "GRU"),
        ("--state", "h_in"),
        "state should be INPUT=OUTPUT, once for each state, received 'h_in'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_one_sentence(tmp_path, capsys, name):
    made, options, sentence = REFUSED[name]
    status, out = adopt(tmp_path, made(tmp_path), *options)
    said = capsys.readouterr().err
    assert status == 1
    assert sentence in said
    assert said.count("\n") == 1
    assert not out.exists()


def test_over_topics_it_does_not_explore(tmp_path):
    out = adopt(tmp_path, exported(tmp_path, "GRU"), "--explore-std", "0.1")[1]
    held = reader.load(out)
    introduction(held, explore=False)
    with pytest.raises(BundleError, match="a recurrent policy explores with holdfast deploy alone"):
        introduction(held, explore=True)
