"""Small real bundles for tests: a linear policy squashed into its limits, built with onnx."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from holdfast.bundle.reader import FORMAT, OUTPUTS, PLACEHOLDER, seal
from holdfast.contract import ActionChannel, Contract, Cost, ObservationChannel


def drive_contract(**changes: object) -> Contract:
    """A contract like DriveCircle's, which needs no simulator to be made."""
    fields: dict[str, object] = {
        "robot": "drive",
        "task": "holdfast/DriveCircle-v0",
        "period_s": 0.05,
        "episode_steps": 250,
        "observation": (
            ObservationChannel("position", 2, "m", "position"),
            ObservationChannel("heading", 2, "1", "heading", "cos_sin"),
            ObservationChannel("forward_speed", 1, "m/s", "forward_speed"),
            ObservationChannel("yaw_rate", 1, "rad/s", "yaw_rate"),
            ObservationChannel("applied_action", 2, "1", "applied_action"),
            ObservationChannel("episode_left", 1, "1", "episode_left"),
        ),
        "action": (
            ActionChannel("forward_speed", "m/s", -1.0, 1.0, 4.0),
            ActionChannel("yaw_rate", "rad/s", -2.0, 2.0, 20.0),
        ),
        "costs": (Cost("outside_corridor", "abs(position.x) > 0.9", 10.0, 30.0, 1.0, 0.95),),
        "reward": "(forward_speed * sin(heading) * position.x - forward_speed * cos(heading) * "
        "position.y) / (1 + abs(hypot(position.x, position.y) - 1.5))",
    }
    return Contract(**{**fields, **changes})  # type: ignore[arg-type]


def build(
    contract: Contract,
    *,
    action: Sequence[float] | None = None,
    gain: float = 0.0,
    log_std: float = -1.0,
    cost_to_go: float = 0.0,
    seed: int = 0,
    nan_at: float | None = None,
    entries: dict[str, str] | None = None,
    sizes: tuple[int, int] | None = None,
) -> bytes:
    """Return a sealed bundle's bytes.

    The policy is squash(bias + gain·W·observation), with the bias such that at gain 0 the mean
    is `action` (physical units; default: the middle) whatever is observed.

    Args:
        cost_to_go: what the critics always predict.
        nan_at: where the last observation value is this (within 0.001), the action is NaN;
            too rare for the checks of loading to find.
        entries: metadata to put in place of what belongs there, by key without "holdfast_".
        sizes: the graph's observation and action sizes, where they shall not fit the contract.
    """
    n, actions = sizes or (contract.observation_size, contract.action_size)
    costs = len(contract.costs)
    center, half = contract.action_center, contract.action_half_range
    wanted = center if action is None else np.asarray(action, dtype=np.float64)
    bias = np.resize(np.arctanh((wanted - center) / half), actions)
    rng = np.random.default_rng(seed)
    tensors = {
        "weight": gain * rng.standard_normal((n, actions)),
        "bias": bias,
        "half_range": np.resize(half, actions),
        "center": np.resize(center, actions),
        "nothing": np.zeros((n, actions)),
        "log_std_value": np.full(actions, log_std),
        "no_cost": np.zeros((n, costs)),
        "cost_value": np.full(costs, cost_to_go),
        "last": np.eye(n)[:, -1:],
        "nan_at": np.array([9e9 if nan_at is None else nan_at]),
        "tolerance": np.array([1e-6]),
        "zero": np.array(0.0),
        "most": np.array(9e30),
    }
    nodes = [
        helper.make_node("Gemm", ["observation", "weight", "bias"], ["linear"]),
        helper.make_node("Tanh", ["linear"], ["squashed"]),
        helper.make_node("Mul", ["squashed", "half_range"], ["scaled"]),
        helper.make_node("Add", ["scaled", "center"], ["good_action"]),
        helper.make_node("MatMul", ["observation", "last"], ["left"]),
        helper.make_node("Sub", ["left", "nan_at"], ["distance"]),
        helper.make_node("Mul", ["distance", "distance"], ["squared"]),
        helper.make_node("Sub", ["squared", "tolerance"], ["beyond"]),
        helper.make_node("Clip", ["beyond", "zero", "most"], ["positive_or_zero"]),
        helper.make_node("Mul", ["positive_or_zero", "zero"], ["zeros"]),
        helper.make_node("Div", ["zeros", "positive_or_zero"], ["zero_or_nan"]),
        helper.make_node("Add", ["good_action", "zero_or_nan"], ["action"]),
        helper.make_node("Gemm", ["observation", "nothing", "log_std_value"], ["log_std"]),
        helper.make_node("Gemm", ["observation", "no_cost", "cost_value"], ["cost_to_go"]),
    ]
    graph = helper.make_graph(
        nodes,
        "policy",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["batch", n])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])
            for name, size in zip(OUTPUTS, (actions, actions, costs), strict=True)
        ],
        [numpy_helper.from_array(v.astype(np.float32), name) for name, v in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    values = {
        "format": FORMAT,
        "contract": contract.to_json(),
        "golden": json.dumps(_golden(model, n, seed)),
        "familiarity": "null",
        "prediction": "null",
        "provenance": json.dumps({"made_by": "tests"}),
        "digest": PLACEHOLDER,
        **(entries or {}),
    }
    helper.set_model_props(model, {f"holdfast_{key}": text for key, text in values.items()})
    return seal(model.SerializeToString(deterministic=True))


def _golden(model: onnx.ModelProto, n: int, seed: int) -> dict[str, list[list[float]]]:
    observation = np.random.default_rng(seed + 1).standard_normal((4, n)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    outputs = session.run(list(OUTPUTS), {"observation": observation})
    named = zip(OUTPUTS, outputs, strict=True)
    return {"observation": observation.tolist(), **{name: v.tolist() for name, v in named}}


def write_bundle(path: Path, contract: Contract | None = None, **options: object) -> Path:
    """Write a bundle and return its path; options as for `build`."""
    path.write_bytes(build(contract or drive_contract(), **options))  # type: ignore[arg-type]
    return path
