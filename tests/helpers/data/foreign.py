"""Policies as other people's libraries write them, and contracts as people write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CONTRACT = """
robot: drive
task: elsewhere/Circle
period_s: 0.05
episode_steps: 40
observation:
  - {name: position, size: 2, unit: m, signal: position, scale: 0.5, clip: 2}
  - {name: heading, size: 2, unit: "1", signal: heading, transform: cos_sin}
  - {name: speeds, size: 3, unit: m/s, signal: forward_speed, history: 3}
  - {name: turning, size: 1, unit: rad/s, signal: yaw_rate}
action:
  - {name: forward_speed, unit: m/s, low: -1, high: 1, max_rate_per_s: 4}
  - {name: yaw_rate, unit: rad/s, low: -2, high: 2, max_rate_per_s: 20}
costs:
  - name: outside_corridor
    expression: abs(position.x) > 0.9
    limit: 10
    run_budget: 30
    gamma: 1
    lam: 0.95
"""
SIZE, ACTIONS = 8, 2


def contract(folder: Path, *changes: tuple[str, str]) -> Path:
    """Write the contract's file, with parts of its text replaced, and return its path."""
    text = CONTRACT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "contract.yaml"
    path.write_text(text)
    return path


def model(
    nodes: Sequence[onnx.NodeProto],
    weights: Mapping[str, object] | None = None,
    *,
    shape: Sequence[int | str | None] = (1, SIZE),
    output: str = "y",
    dtype: int = TensorProto.FLOAT,
    opset: int = 17,
    more_inputs: Sequence[onnx.ValueInfoProto] = (),
    more_outputs: Sequence[str] = (),
) -> onnx.ModelProto:
    """Return a model from an input `x` to outputs; float weights get the input's type."""
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    tensors = []
    for name, value in (weights or {}).items():
        array = np.asarray(value)
        array = array.astype(kind) if array.dtype.kind == "f" else array
        tensors.append(numpy_helper.from_array(array, name))
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("x", dtype, list(shape)), *more_inputs],
        [helper.make_tensor_value_info(name, dtype, None) for name in (output, *more_outputs)],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def small_weights(size: int = SIZE, actions: int = ACTIONS, seed: int = 0) -> dict[str, object]:
    """Return weights of two layers."""
    rng = np.random.default_rng(seed)
    return {
        "w1": 0.4 * rng.standard_normal((size, 16)),
        "b1": 0.1 * rng.standard_normal(16),
        "w2": 0.2 * rng.standard_normal((16, actions)),
        "b2": np.array([0.6, 0.4][:actions]),
    }


def layers(activation: str = "Elu", **attributes: object) -> list[onnx.NodeProto]:
    """Return the nodes of two layers from `x` to `y`."""
    return [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h1"]),
        helper.make_node(activation, ["h1"], ["h2"], **attributes),
        helper.make_node("Gemm", ["h2", "w2", "b2"], ["y"]),
    ]


def small(**options: object) -> onnx.ModelProto:
    """Return a policy of two layers; options as for `model`."""
    return model(layers(), small_weights(), **options)  # type: ignore[arg-type]


def saved(folder: Path, made: onnx.ModelProto, name: str = "policy.onnx") -> Path:
    """Write a model and return its path."""
    path = folder / name
    onnx.save(made, path)
    return path
