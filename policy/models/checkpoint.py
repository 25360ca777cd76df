"""Checkpoints: one safetensors file whose header holds a JSON text, without pickle.

A checkpoint is written whole or not at all, so a killed run leaves a whole one.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from holdfast import files, plain
from holdfast.contract import Contract
from holdfast.errors import ContractError, FileError, TrainingError
from holdfast.policy.models.networks import LEAST_STD, Networks
from holdfast.signals import MOST_LOG_STD, Array

FORMAT = "holdfast-checkpoint-3"
READABLE = (FORMAT, "holdfast-checkpoint-2")
"""Format 2 had the settings of all algorithms; `settings_from` converts them."""

LARGEST = 2 * 2**30
"""Largest size of a file, bytes."""

HELD = {"settings": dict, "contract": str, "iteration": int}
"""Entries of every checkpoint's data, and their types."""

MOST = 1e12
"""Largest size of a number of a network. Training ends far below it, and no network of smaller
numbers can overflow."""


def save(path: Path, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
    """Write tensors and JSON-able data to `path`, atomically.

    Raises:
        FileError: the file cannot be written; an earlier file is unchanged.
        TrainingError: a tensor is not finite; an earlier file is unchanged.
    """
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise TrainingError(f"{path}: {name} is not finite, so it is not written")
    files.write(path, content(tensors, data))


def content(tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> bytes:
    """Return a checkpoint's bytes."""
    flat = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    header = {"format": FORMAT, "data": json.dumps(data, sort_keys=True)}
    return _ordered(safetensors.torch.save(flat, header))


def _ordered(saved: bytes) -> bytes:
    """Return a safetensors file with its header's keys in order: safetensors writes the metadata in
    an order that differs from process to process, and a checkpoint's digest is in the bundle."""
    end = 8 + int.from_bytes(saved[:8], "little")
    text = json.dumps(json.loads(saved[8:end]), sort_keys=True, separators=(",", ":"))
    head = text.encode().ljust(-(-len(text) // 8) * 8)  # ASCII; data begins at a multiple of 8
    return len(head).to_bytes(8, "little") + head + saved[end:]


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file that `save` wrote.

    Raises:
        TrainingError: no such file, not a checkpoint, or of another format.
    """
    return parse(path, read(path))


def read(path: Path) -> bytes:
    """Return a checkpoint's bytes.

    Raises:
        TrainingError: the file cannot be read.
    """
    try:
        return files.read(path, LARGEST)
    except FileError as error:
        raise TrainingError(f"checkpoint {error}") from None


def parse(path: Path, content: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the data of a checkpoint's bytes.

    Args:
        path: the file's path, for error messages.

    Raises:
        TrainingError: not a checkpoint, or of another format.
    """
    try:
        tensors = safetensors.torch.load(content)
        size = int.from_bytes(content[:8], "little")
        header = plain.from_json(content[8 : 8 + size].decode()).get("__metadata__") or {}
        if header.get("format") not in READABLE:
            received = plain.shown(header.get("format", "none"))
            raise TrainingError(
                f"checkpoint {path}: format should be {FORMAT}, received {received}"
            )
        data = plain.from_json(header["data"])
        if not isinstance(data, dict) or any(
            not isinstance(data.get(name), kind) for name, kind in HELD.items()
        ):
            raise TrainingError(f"checkpoint {path}: its data should hold {', '.join(HELD)}")
        for name in ("iteration", "steps"):
            if isinstance(data.get(name), int) and data[name] < 0:
                raise TrainingError(
                    f"checkpoint {path}: {name} should be at least 0, received {data[name]}"
                )
    except (SafetensorError, ValueError, KeyError) as error:
        raise TrainingError(f"checkpoint {path}: not a checkpoint ({_first(error)})") from None
    return tensors, data


def _first(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]


def module_tensors(modules: Mapping[str, torch.nn.Module]) -> dict[str, Tensor]:
    """Return the parameters and buffers of named modules under `name.key`."""
    return {f"{n}.{k}": v for n, module in modules.items() for k, v in module.state_dict().items()}


def load_networks(path: Path) -> tuple[Networks, dict[str, Any]]:
    """Return the networks of a checkpoint and its data.

    Raises:
        TrainingError: see `load`; or the tensors do not fit the settings.
    """
    tensors, data = load(path)
    return networks_of(path, tensors, data), data


def networks_of(path: Path, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> Networks:
    """Return the networks of a checkpoint that `load` read from `path`.

    Raises:
        TrainingError: the tensors do not fit the settings.
    """
    try:
        contract = Contract.from_json(data["contract"])
    except (ContractError, RecursionError) as error:
        raise TrainingError(f"checkpoint {path}: {_first(error)}") from None
    hidden = data["settings"].get("hidden")
    # Checked before networks of this size are made, which may be larger than any memory.
    sizes = [contract.observation_size, *(hidden if isinstance(hidden, list) else ())]
    sizes.append(contract.action_size)
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        weight = tensors.get(f"policy.body.{2 * i}.weight")
        if weight is None or [*weight.shape] != [outputs, inputs]:
            raise TrainingError(
                f"checkpoint {path}: policy does not fit (layer {i + 1} should be {outputs} units "
                f"of {inputs} inputs, as its settings and its contract say)"
            )
    networks = Networks.build(contract, sizes[1:-1], 1.0, torch.Generator())
    try:
        restore_modules(networks.modules, tensors)
    except TrainingError as error:
        raise TrainingError(f"checkpoint {path}: {error}") from None
    return networks


def start_from(path: Path, networks: Networks) -> dict[str, Any]:
    """Copy a checkpoint's weights and normaliser into networks of the same contract and size.

    The contracts may differ in their costs' limits, their ranges, discounts and λ.

    Returns:
        The checkpoint's iteration, and the SHA-256 of its contract.

    Raises:
        TrainingError: see `load`; or task, contract or size differ.
    """
    held, data = load_networks(path)
    own, its = networks.contract, held.contract
    if its.task != own.task:
        raise TrainingError(f"checkpoint {path}: is of {its.task}, not of {own.task}")
    of_range = any(cost.limit_range for cost in its.costs)
    if of_range != any(cost.limit_range for cost in own.costs):
        held_for, advice = (
            ("a range of limits", "give --limit-range LOW HIGH too")
            if of_range
            else ("one limit", "leave --limit-range out")
        )
        raise TrainingError(
            f"checkpoint {path}: is of a policy for {held_for}, which observes other values; "
            f"{advice}, or begin with random weights"
        )
    if _but_for_limits(its) != _but_for_limits(own):
        raise TrainingError(f"checkpoint {path}: was trained under another contract of {own.task}")
    hidden = [layer.out_features for layer in networks.policy.linears[:-1]]
    if data["settings"]["hidden"] != hidden:
        wanted = " ".join(map(str, data["settings"]["hidden"]))
        raise TrainingError(
            f"checkpoint {path}: has other hidden layers than {hidden}; give --hidden {wanted}"
        )
    restore_modules(networks.modules, module_tensors(held.modules))
    return {"iteration": data["iteration"], "contract": its.hash}


def _but_for_limits(contract: Contract) -> Contract:
    limits: dict[str, Any] = {"limit": 0.0, "limit_range": None, "episode_cap": 0.0}
    free = {**limits, "gamma": 1.0, "lam": 1.0}
    costs = tuple(dataclasses.replace(cost, **free) for cost in contract.costs)
    return dataclasses.replace(contract, costs=costs)


def known_tensors(episodes: Sequence[NDArray[np.float32]]) -> dict[str, Tensor]:
    """Return logged observations, (steps, n) per episode, as two tensors."""
    if not episodes:
        return {}
    return {
        "known.observation": torch.from_numpy(np.concatenate(episodes)),
        "known.steps": torch.tensor([len(episode) for episode in episodes]),
    }


def known_episodes(tensors: Mapping[str, Tensor], size: int) -> list[Array]:
    """Return the logged observations of `known_tensors`; none if the policy learned from no log.

    Args:
        size: n, size of an observation.

    Raises:
        TrainingError: the tensors are no whole episodes of such observations.
    """
    if "known.steps" not in tensors:
        return []
    observation, steps = (tensors.get(f"known.{name}") for name in ("observation", "steps"))
    if (
        observation is None
        or steps is None
        or [*observation.shape] != [int(steps.sum()), size]
        or steps.dtype != torch.int64
        or not (steps > 0).all()
        or not observation.isfinite().all()
    ):
        raise TrainingError("checkpoint: known observations should be whole episodes of numbers")
    return np.split(observation.double().numpy(), np.cumsum(steps.numpy())[:-1])


def restore_modules(modules: Mapping[str, torch.nn.Module], tensors: Mapping[str, Tensor]) -> None:
    """Restore modules from the tensors of `module_tensors`.

    Raises:
        TrainingError: a tensor is missing, has another shape, or holds what no training leaves.
    """
    for name, module in modules.items():
        prefix = name + "."
        part = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
        for key, tensor in part.items():
            if rule := _broken(key, tensor):
                raise TrainingError(f"{name}: {key} should be {rule}")
        try:
            module.load_state_dict(part)
        except RuntimeError as error:
            first = str(error).splitlines()[-1].strip()
            raise TrainingError(f"{name} does not fit ({first})") from None


def _broken(key: str, tensor: Tensor) -> str:
    """Return the rule that a tensor breaks, "" if it breaks none. NaN breaks all of them."""
    if not (tensor.double().abs() <= MOST).all():
        return f"finite, and at most {MOST:g} in size"
    if key == "std" and not (tensor >= LEAST_STD).all():
        return f"at least {LEAST_STD:g}"
    if key == "count" and not (tensor >= 0.0).all():
        return "at least 0"
    if key == "log_std" and not (tensor.abs() <= MOST_LOG_STD).all():
        return f"at most {MOST_LOG_STD:g} in size"
    return ""


def adam_tensors(optimiser: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """Return Adam's moments and step counts under `prefix.index.key`."""
    state = optimiser.state_dict()["state"]
    return {f"{prefix}.{i}.{k}": v for i, entry in state.items() for k, v in entry.items()}


def restore_adam(
    optimiser: torch.optim.Optimizer, prefix: str, tensors: Mapping[str, Tensor]
) -> None:
    """Restore Adam's state from the tensors of `adam_tensors`.

    Raises:
        TrainingError: a count of steps or a mean square is below 0.
    """
    full = optimiser.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(prefix + "."):
            index, name = key[len(prefix) + 1 :].split(".")
            if name != "exp_avg" and not (value >= 0.0).all():
                raise TrainingError(f"{key} should be at least 0")
            state.setdefault(int(index), {})[name] = value
    full["state"] = state
    optimiser.load_state_dict(full)
