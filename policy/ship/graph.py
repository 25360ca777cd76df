"""The graph of an exported policy, in the operators of bundles."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
import torch
from torch import Tensor

from holdfast.bundle import reader as bundle
from holdfast.policy.adopt.rows import Constant, Row, Writer
from holdfast.policy.models.networks import CLIP, Networks


@torch.no_grad()
def graph(networks: Networks) -> onnx.ModelProto:
    """Return the graph from a raw observation to action, log_std and cost-to-go.

    Inputs and outputs are float32, in physical units; the network computes in double precision.
    So processors that sum in different orders agree to float32 precision.
    """
    contract, critic = networks.contract, networks.critic
    write, costs = Writer(), len(contract.costs)
    x = _normalised(write, networks, contract.observation_size)
    policy = [(layer.weight.T, layer.bias) for layer in networks.policy.linears]
    mean = write.unary("Tanh", _layers(write, x, policy))
    action = write.binary("Mul", mean, contract.action_half_range)
    action = write.binary("Add", action, contract.action_center)
    last = slice(1 + costs, 1 + 2 * costs)  # of the critics; the monitor adds these costs-to-go
    ahead = Row(write.weight(_doubles(critic.mean[last])), (costs,))
    for k, column in enumerate(np.diag(_doubles(critic.std[last])), last.start):
        stack = zip(critic.weights, critic.biases, strict=True)
        value = _layers(write, x, ((weight[k], bias[k, 0]) for weight, bias in stack))
        ahead = write.binary("Add", ahead, write.product(value, column[None], (costs,)))
    names = bundle.OUTPUTS
    write.node("Cast", action.name, name=names[0], to=onnx.TensorProto.FLOAT)
    write.repeated(_doubles(networks.policy.log_std), names[1])
    write.node("Cast", ahead.name, name=names[2], to=onnx.TensorProto.FLOAT)
    sizes = dict(zip(names, (contract.action_size, contract.action_size, costs), strict=True))
    return write.model({"observation": contract.observation_size}, sizes)


def _normalised(write: Writer, networks: Networks, size: int) -> Row:
    x = Row(write.node("Cast", "observation", to=onnx.TensorProto.DOUBLE), (size,))
    x = write.binary("Sub", x, _doubles(networks.normaliser.mean))
    x = write.binary("Div", x, _doubles(networks.normaliser.std))
    return write.clip(x, -CLIP, CLIP)


def _layers(write: Writer, x: Row, layers: Iterable[tuple[Tensor, Tensor]]) -> Row:
    """Write layers of weights (inputs, outputs) and biases (outputs,), with a tanh between two."""
    for i, (weight, bias) in enumerate(layers):
        if i:
            x = write.unary("Tanh", x)
        x = write.product(x, _doubles(weight), (len(bias),))
        x = write.binary("Add", x, _doubles(bias))
    return x


def _doubles(values: Tensor) -> Constant:
    found: Constant = values.detach().double().numpy()
    return found
