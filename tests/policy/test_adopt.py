"""Policies from elsewhere become bundles, or are refused in one sentence."""

import json
import os

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from torch import nn

from holdfast.bundle import reader as bundle
from holdfast.bundle.contract_file import load_contract
from holdfast.cli import main
from holdfast.errors import BundleError, ConfigError, ContractError, HoldfastError
from holdfast.policy.adopt import probes
from holdfast.policy.adopt.adopt import Settings, adopt
from tests.helpers.data.foreign import (
    SIZE,
    contract,
    layers,
    model,
    saved,
    small,
    small_weights,
)


def adopted(folder, made, *changes, **options):
    """Adopt a model and return the bundle."""
    path = saved(folder, made) if isinstance(made, onnx.ModelProto) else made
    settings = Settings(path, contract(folder, *changes), folder / "bundle.onnx", **options)
    return adopt(settings).bundle


def own(path, observations):
    """Return what the file itself says, row by row."""
    (given,) = onnx.load(path).graph.input
    of = given.type.tensor_type
    double = of.elem_type == TensorProto.DOUBLE  # in which ONNX Runtime lacks operators
    session = (ReferenceEvaluator if double else onnxruntime.InferenceSession)(str(path))
    shape = [1] * (len(of.shape.dim) - 1) + [-1]
    rows = (row.astype(np.float64 if double else np.float32).reshape(shape) for row in observations)
    return np.array([session.run(None, {given.name: x})[0].ravel() for x in rows])


def observations(held, count=64):
    x = probes.observations(held.contract, count, seed=9)
    return x.astype(np.float32).astype(float)


class ActorCritic(nn.Module):
    """As Stable-Baselines3 builds it: observation in, action, value and log-probability out."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.actor = nn.Sequential(
            nn.Linear(SIZE, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2)
        )
        self.critic = nn.Sequential(nn.Linear(SIZE, 32), nn.Tanh(), nn.Linear(32, 1))

    def forward(self, observation):
        flat = torch.flatten(observation, 1)
        return self.actor(flat), self.critic(flat)


def exported(folder, net, **options):
    path = folder / "exported.onnx"
    torch.onnx.export(net.eval(), (torch.zeros(1, SIZE),), path, verbose=False, **options)
    return path


@pytest.mark.parametrize("dynamo", [True, False])
def test_a_policy_of_torch(tmp_path, dynamo):
    path = exported(
        tmp_path, ActorCritic(), dynamo=dynamo, output_names=["action", "value"], opset_version=18
    )
    with pytest.raises(BundleError, match="has the outputs action, value; name the action with"):
        adopted(tmp_path, path)
    held = adopted(tmp_path, path, output="action")
    x = observations(held)
    wanted = np.clip(own(path, x), -1.0, 1.0) * held.contract.action_half_range
    np.testing.assert_allclose(held.outputs(x, ("action",))[0], wanted, atol=1e-5)
    assert held.names == ("action",)
    assert not held.has_critics
    assert held.prediction is held.familiarity is None


def test_a_policy_with_its_normaliser_inside(tmp_path):
    """As rsl_rl exports it."""

    class Normalised(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(4)
            self.register_buffer("mean", torch.linspace(-1.0, 1.0, SIZE)[None])
            self.register_buffer("std", torch.linspace(0.5, 2.0, SIZE)[None])
            self.actor = nn.Sequential(
                nn.Linear(SIZE, 64), nn.ELU(), nn.Linear(64, 32), nn.ELU(), nn.Linear(32, 2)
            )

        def forward(self, x):
            return self.actor((x - self.mean) / (self.std + 1e-2))

    path = exported(tmp_path, Normalised(), dynamo=False, input_names=["obs"])
    held = adopted(tmp_path, path, action_units="physical")
    x = observations(held)
    high = held.contract.action_high
    wanted = np.clip(own(path, x), -high, high)
    np.testing.assert_allclose(held.outputs(x, ("action",))[0], wanted, atol=1e-5)


@pytest.mark.parametrize(
    "made",
    [
        small(),
        small(shape=("batch", SIZE)),
        small(shape=(None, None)),
        small(dtype=TensorProto.DOUBLE),
        small(opset=13),
        model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": np.ones((SIZE, 2))},
              shape=(SIZE,)),
    ],
)  # fmt: skip
def test_any_shape_type_and_opset(tmp_path, made):
    held = adopted(tmp_path, made)
    x = observations(held)
    wanted = np.clip(own(tmp_path / "policy.onnx", x), -1.0, 1.0) * held.contract.action_half_range
    np.testing.assert_allclose(held.outputs(x, ("action",))[0], wanted, atol=1e-5)


def test_data_beside_the_file_is_packed_in(tmp_path):
    path = tmp_path / "policy.onnx"
    onnx.save(small(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").stat().st_size > 0
    held = adopted(tmp_path, path)
    (tmp_path / "weights.bin").unlink()
    again = bundle.load(held.path)
    np.testing.assert_array_equal(
        again.golden.action,
        adopted(
            tmp_path,
            small(),
        ).golden.action,
    )
    onnx.save(small(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(BundleError, match=r"weight '\w+' lies in another file, which cannot be"):
        adopted(tmp_path, path)


def test_data_elsewhere_is_not_read(tmp_path):
    (tmp_path / "inner").mkdir()
    path = tmp_path / "inner" / "policy.onnx"
    onnx.save(small(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    os.rename(tmp_path / "inner" / "w.bin", tmp_path / "w.bin")
    made = onnx.load(path, load_external_data=False)
    for tensor in made.graph.initializer:
        tensor.external_data[0].value = "../w.bin"
    path.write_bytes(made.SerializeToString())
    with pytest.raises(BundleError, match="lies in another file, which cannot be read"):
        adopted(tmp_path, path)


def test_scale_and_offset_of_actions(tmp_path):
    """As Isaac Lab's joint actions: the default pose plus a share of the output."""
    options = {"action_units": "physical", "action_scale": (0.25,), "action_offset": (0.3, -0.5)}
    held = adopted(tmp_path, small(), **options)
    x = observations(held)
    raw = own(tmp_path / "policy.onnx", x)
    wanted = np.clip(0.25 * raw + [0.3, -0.5], held.contract.action_low, held.contract.action_high)
    np.testing.assert_allclose(held.outputs(x, ("action",))[0], wanted, atol=1e-6)


def test_limits_that_are_not_symmetric(tmp_path):
    change = ("{name: forward_speed, unit: m/s, low: -1", "{name: forward_speed, unit: m/s, low: 0")
    held = adopted(tmp_path, small(), change)
    x = observations(held)
    raw = np.clip(own(tmp_path / "policy.onnx", x), -1.0, 1.0)
    np.testing.assert_allclose(held.outputs(x)[0], 0.5 * raw * [1, 4] + [0.5, 0.0], atol=1e-6)


@pytest.mark.parametrize("text", [
    '{"mean": [0.5, 1, 1, 1, 0, 0, 0, 2], "std": [1, 2, 3, 1, 1, 1, 1, 1e-3], "clip": 1.5}',
    "mean: [0.5, 1, 1, 1, 0, 0, 0, 2]\nstd: [1, 2, 3, 1, 1, 1, 1, 0]\nepsilon: 0.001\nclip: 1.5",
])  # fmt: skip
def test_a_normaliser_beside_the_file(tmp_path, text):
    (tmp_path / "norm.yaml").write_text(text)
    held = adopted(tmp_path, small(), normaliser=tmp_path / "norm.yaml")
    x = observations(held)
    std = np.array([1, 2, 3, 1, 1, 1, 1, 1e-3]) + 1e-3 * ("epsilon" in text)
    std[-1] = 1e-3
    normalised = np.clip((x - [0.5, 1, 1, 1, 0, 0, 0, 2]) / std, -1.5, 1.5)
    wanted = np.clip(own(tmp_path / "policy.onnx", normalised), -1.0, 1.0) * [1.0, 2.0]
    np.testing.assert_allclose(held.outputs(x)[0], wanted, atol=1e-5)


def test_exploration_gives_it_a_density(tmp_path):
    held = adopted(tmp_path, small(), explore_std=0.2)
    mean, log_std = held.act(observations(held)[0])
    np.testing.assert_allclose(log_std, np.log([0.2, 0.2]), rtol=1e-6)
    np.testing.assert_array_equal(mean, held.outputs(observations(held)[:1])[0][0])
    held.require_density()
    with pytest.raises(BundleError, match="no density to explore with"):
        adopted(tmp_path, small()).require_density()


def test_equal_inputs_give_equal_bytes(tmp_path):
    first = adopted(tmp_path, small(), explore_std=0.1).hash
    assert adopted(tmp_path, small(), explore_std=0.1).hash == first
    assert adopted(tmp_path, small(), explore_std=0.2).hash != first


def test_what_the_bundle_says_of_itself(tmp_path):
    held = adopted(tmp_path, small(), action_units="physical", action_scale=(0.5,))
    said = held.provenance["adopted"]
    assert (said["file"], said["opset"], said["action_scale"]) == ("policy.onnx", 17, [0.5])
    assert str(tmp_path) not in json.dumps(held.provenance)


def test_what_the_action_does_not_need_is_left_out(tmp_path):
    """A random sample beside the mean, and an input of its own for it."""
    extra = helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, 2])
    nodes = [
        *layers(),
        helper.make_node("RandomNormalLike", ["y"], ["noise"]),
        helper.make_node("Mul", ["noise", "mask"], ["masked"]),
        helper.make_node("Add", ["y", "masked"], ["sample"]),
    ]
    made = model(nodes, small_weights(), more_inputs=[extra], more_outputs=["sample"])
    held = adopted(tmp_path, made, output="y")
    plain = adopted(tmp_path, small())
    np.testing.assert_array_equal(held.golden.action, plain.golden.action)


def test_an_action_that_is_mostly_clipped_is_doubted(tmp_path, capsys):
    line = ["adopt", str(saved(tmp_path, small())), "--contract", str(contract(tmp_path))]
    line += ["--out", str(tmp_path / "bundle.onnx"), "--action-units", "physical"]
    assert main([*line, "--action-scale", "50"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [row.endswith("is the output in other units (--action-units)?") for row in said] == [
        True, True, False,
    ]  # fmt: skip
    assert main([*line, "--action-scale", "0.1"]) == 0
    assert "other units" not in capsys.readouterr().out


# What is refused.


def branching(operator):
    """A policy that branches or repeats."""
    inner = helper.make_graph(
        [helper.make_node("Identity", ["y0"], ["z"])],
        "inner",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )
    names = {"If": {"then_branch": inner, "else_branch": inner}, "Loop": {"body": inner}}[operator]
    nodes = layers()
    nodes[-1].output[0] = "y0"
    nodes.append(helper.make_node(operator, ["x"], ["y"], name="odd", **names))
    return model(nodes, small_weights())


def ends_with(*nodes, weights=None):
    """The small policy with further nodes from `y0` to `y`."""
    first = layers()
    first[-1].output[0] = "y0"
    return model([*first, *nodes], {**small_weights(), **(weights or {})})


def broken(name, value):
    weights = small_weights()
    weights[name] = np.full_like(weights[name], value)
    return model(layers(), weights)


STATE = helper.make_tensor_value_info("h_in", TensorProto.FLOAT, [1, 2])
REFUSALS = {
    "if": (branching("If"), "operator If 'odd' holds another graph; a policy should not branch"),
    "loop": (branching("Loop"), "operator Loop 'odd' holds another graph"),
    "random": (
        ends_with(
            helper.make_node("RandomNormal", [], ["noise"], shape=[1, 2]),
            helper.make_node("Add", ["y0", "noise"], ["y"]),
        ),
        "operator RandomNormal draws random numbers",
    ),
    "dropout": (
        ends_with(
            helper.make_node("Dropout", ["y0", "half", "on"], ["y"]),
            weights={"half": np.array(0.5), "on": np.array(True)},
        ),
        "its outputs for equal observations should be equal",
    ),
    "lstm": (
        model(
            [helper.make_node("LSTM", ["x", "w1", "w2"], ["y"], hidden_size=2)], small_weights()
        ),
        r"operator LSTM: its input should be one step, \[1, 1, n\], it is \[1, 8\]",
    ),
    "state": (
        model(
            [*layers()[:-1], helper.make_node("Gemm", ["h2", "w2", "h_in"], ["y"])],
            small_weights(),
            more_inputs=[STATE],
        ),
        "should need one input, the observation, it needs x, h_in; the state of a recurrent policy",
    ),
    "observation": (
        model(layers(), small_weights(size=9), shape=(1, 9)),
        "its input 'x' has 9 values; the contract's observation has 8",
    ),
    "free observation": (
        model(layers(), small_weights(size=9), shape=("batch", "n")),
        r"operator Gemm: .* do not fit",
    ),
    "action": (
        model(layers(), small_weights(actions=1)),
        "its output 'y' has 1 values; the contract has 2 action channels, forward_speed, yaw_rate",
    ),
    "batch": (small(shape=(16, SIZE)), r"\(n\), \(1, n\) or \(batch, n\), received \[16, 8\]"),
    "type": (
        model(
            [helper.make_node("Cast", ["x"], ["f"], to=1), helper.make_node("Tanh", ["f"], ["y"])],
            dtype=TensorProto.FLOAT16,
        ),
        "its input 'x' should be float or double, received float16",
    ),
    "nan": (broken("w2", np.nan), "its weights should be finite"),
    "nan bias": (broken("b2", np.nan), "should be finite for all observations within the signals'"),
    "constant": (broken("w2", 0.0), "its output should depend on the observation; it is the same"),
    "no observation": (
        model([helper.make_node("Identity", ["w1"], ["y"])], small_weights()),
        "it needs none",
    ),
    "old opset": (small(opset=6), "its opset should be 7 to"),
    "new opset": (small(opset=99), "its opset should be 7 to"),
    "domain": (
        ends_with(helper.make_node("Gelu", ["y0"], ["y"], domain="com.microsoft")),
        "operator com.microsoft.Gelu is not supported",
    ),
    "slow": (
        model(
            [helper.make_node("MatMul", ["x", "a"], ["h"]), helper.make_node("MatMul", ["h", "b"],
             ["y"])],
            {"a": np.ones((SIZE, 2**17)), "b": np.ones((2**17, 2))},
        ),
        "a vector should have at most 4096 values, not 131072",
    ),
    "large": (
        model(
            [
                helper.make_node("MatMul", ["x", "a"], ["h"]),
                helper.make_node("MatMul", ["h", "b"], ["i"]),
                helper.make_node("MatMul", ["i", "c"], ["y"]),
            ],
            {"a": 1e-3 * np.ones((SIZE, 4096)), "b": 1e-3 * np.ones((4096, 2100)),
             "c": 1e-3 * np.ones((2100, 2))},
        ),
        "its weights should have at most 66060288 bytes in double precision, they have 6",
    ),
    "infinite": (
        ends_with(
            helper.make_node("Mul", ["y0", "big"], ["e"]),
            helper.make_node("Exp", ["e"], ["y"]),
            weights={"big": np.array(500.0)},
        ),
        "should be finite for all observations",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_one_sentence(tmp_path, capsys, name):
    made, sentence = REFUSALS[name]
    path, out = saved(tmp_path, made), tmp_path / "bundle.onnx"
    line = ["adopt", str(path), "--contract", str(contract(tmp_path)), "--out", str(out)]
    assert main(line) == 1
    said = capsys.readouterr().err
    assert said.startswith("holdfast: ")
    assert said.count("\n") == 1
    assert str(path) in said or str(out) in said
    with pytest.raises(HoldfastError, match=sentence):
        adopted(tmp_path, made)
    assert not out.exists()


def test_a_prediction_needs_critics(tmp_path):
    path = adopted(tmp_path, small()).path
    altered = onnx.load(path)
    for entry in altered.metadata_props:
        if entry.key == "holdfast_prediction":
            entry.value = '{"shortfalls": [[0.0]]}'
        elif entry.key == "holdfast_digest":
            entry.value = bundle.PLACEHOLDER
    path.write_bytes(bundle.seal(altered.SerializeToString(deterministic=True)))
    with pytest.raises(BundleError, match="prediction should be null where cost_to_go is no outp"):
        bundle.load(path)


def test_an_output_that_is_not_there(tmp_path):
    with pytest.raises(BundleError, match="it has no output 'mu'; there are y"):
        adopted(tmp_path, small(), output="mu")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08\x08"])
def test_what_is_no_onnx_file(tmp_path, content):
    (tmp_path / "policy.onnx").write_bytes(content)
    with pytest.raises(BundleError, match="is no ONNX file"):
        adopted(tmp_path, tmp_path / "policy.onnx")
    with pytest.raises(BundleError, match="cannot be read"):
        adopted(tmp_path, tmp_path / "nothing.onnx")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"action_scale": (0.25,)}, "use them with --action-units physical"),
        ({"action_units": "physical", "action_scale": (1.0, 2.0, 3.0)}, "one for each of the 2 "),
        ({"action_units": "physical", "action_scale": (1.0, 0.0)}, "action-scale should not be 0"),
        ({"explore_std": 0.0}, r"explore_std should be in \[0.001, 1\]"),
        ({"action_units": "physical", "action_scale": (np.nan,)}, "action_scale should be a fin"),
    ],
)
def test_options_that_cannot_be(tmp_path, options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        adopted(tmp_path, small(), **options)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("mean: [0, 1]\nstd: [1, 1]", "mean should have the 8 numbers of the contract's obs"),
        ("mean: [0]\nstd: [0]", "std plus epsilon should be above 0"),
        ("mean: [0]\nstd: [-1]", r"line 2: std\[0\] should be at least 0"),
        ("means: [0]\nstd: [1]", "unknown means; did you mean 'mean'"),
    ],
)
def test_normalisers_that_cannot_be(tmp_path, text, sentence):
    (tmp_path / "norm.yaml").write_text(text)
    with pytest.raises(ConfigError, match=sentence) as caught:
        adopted(tmp_path, small(), normaliser=tmp_path / "norm.yaml")
    assert str(tmp_path / "norm.yaml") in str(caught.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("size: 3,", "size: 4,"), r"line 9: .*'speeds': size should be 3, received 4"),
        (("unit: rad/s, signal", "unit: m, signal"), r"line 10: .* unit should be 'rad/s'"),
        (("signal: yaw_rate", "signal: yaw"), "line 10: .* signal should be one of"),
        (("abs(position.x)", "abs(positions.x)"), "line 16: .*positions"),
        (("history: 3", "histroy: 3"), "line 9: .*histroy"),
        (("period_s: 0.05", "period_s: 0.05\nformat: 1"), "line 5: contract: format should be 2"),
        (("low: -2", "low: 3"), "line 13: .*low 3.0 should be below high 2.0"),
        (("name: heading", "name: position"), "line 6: .* names should be unique"),
    ],
)
def test_contracts_that_cannot_be(tmp_path, change, sentence):
    with pytest.raises(ContractError, match=sentence) as caught:
        load_contract(contract(tmp_path, change))
    assert str(tmp_path / "contract.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_verify_says_that_nothing_was_trained_here(tmp_path, capsys):
    held = adopted(tmp_path, small())
    assert main(["verify", "--policy", str(held.path), "--robot", "drive"]) == 0
    said = capsys.readouterr().out
    assert "the policy was trained elsewhere" in said
    assert "10000 observations" in said


def test_nothing_can_be_learned_on(tmp_path, capsys):
    held = adopted(tmp_path, small())
    line = ["finetune", "--policy", str(held.path), "--log", "x", "--out", str(tmp_path / "c.onnx")]
    assert main(line) == 1
    assert "was trained elsewhere, so there is no training state" in capsys.readouterr().err
