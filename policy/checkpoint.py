"""Checkpoints: one safetensors file whose header carries a JSON text. No pickle.

Written beside the old file and then renamed over it, so a killed run leaves a whole one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from holdfast import files, plain
from holdfast.contract import Contract
from holdfast.errors import TrainingError
from holdfast.policy.networks import Networks
from holdfast.signals import Array

FORMAT = "holdfast-checkpoint-2"


def save(path: Path, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
    """Write tensors and JSON-able data to `path`, atomically."""
    flat = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    header = {"format": FORMAT, "data": json.dumps(data, sort_keys=True)}
    files.write(path, safetensors.torch.save(flat, header))


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save` wrote.

    Raises:
        TrainingError: no such file, not a checkpoint, or of another format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise TrainingError(
                    f"checkpoint {path}: format should be {FORMAT}, "
                    f"received {header.get('format', 'none')}"
                )
            with plain.well_formed(f"checkpoint {path}", TrainingError):
                data = plain.from_json(header["data"])
            return {name: file.get_tensor(name) for name in file.keys()}, data  # noqa: SIM118
    except FileNotFoundError:
        raise TrainingError(f"checkpoint {path}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise TrainingError(f"checkpoint {path}: not a checkpoint ({error})") from None


def module_tensors(modules: Mapping[str, torch.nn.Module]) -> dict[str, Tensor]:
    """Return the parameters and buffers of named modules under `name.key`."""
    return {f"{n}.{k}": v for n, module in modules.items() for k, v in module.state_dict().items()}


def load_networks(path: Path) -> tuple[Networks, dict[str, Any]]:
    """Return the networks of a checkpoint and its data.

    Raises:
        TrainingError: see `load`; or its tensors do not fit its settings.
    """
    tensors, data = load(path)
    with plain.well_formed(f"checkpoint {path}", TrainingError):
        settings = data["settings"]
        networks = Networks.build(
            Contract.from_json(data["contract"]),
            settings["hidden"],
            settings["initial_std"],
            torch.Generator(),
        )
        restore_modules(networks.modules, tensors)
    return networks, data


def start_from(path: Path, networks: Networks) -> None:
    """Put a checkpoint's networks into others of the same task and size.

    Raises:
        TrainingError: see `load`; or it is of another task, contract or size.
    """
    held, data = load_networks(path)
    own, its = networks.contract, held.contract
    if its.task != own.task:
        raise TrainingError(f"checkpoint {path}: is of {its.task}, not of {own.task}")
    if (its.observation, its.action) != (own.observation, own.action):
        raise TrainingError(f"checkpoint {path}: was trained under another contract of {own.task}")
    hidden = [layer.out_features for layer in networks.policy.linears[:-1]]
    if data["settings"]["hidden"] != hidden:
        wanted = " ".join(map(str, data["settings"]["hidden"]))
        raise TrainingError(
            f"checkpoint {path}: has other hidden layers than {hidden}; give --hidden {wanted}"
        )
    restore_modules(networks.modules, module_tensors(held.modules))


def known_tensors(episodes: Sequence[NDArray[np.float32]]) -> dict[str, Tensor]:
    """Return logged observations, (steps, n) of each episode, as two tensors."""
    if not episodes:
        return {}
    return {
        "known.observation": torch.from_numpy(np.concatenate(episodes)),
        "known.steps": torch.tensor([len(episode) for episode in episodes]),
    }


def known_episodes(tensors: Mapping[str, Tensor]) -> list[Array]:
    """Return what was made into `known_tensors`; empty in a policy that learned from no log."""
    if "known.steps" not in tensors:
        return []
    observation = tensors["known.observation"].double().numpy()
    return np.split(observation, np.cumsum(tensors["known.steps"].numpy())[:-1])


def restore_modules(modules: Mapping[str, torch.nn.Module], tensors: Mapping[str, Tensor]) -> None:
    """Put the tensors of `module_tensors` back.

    Raises:
        TrainingError: a tensor is missing or has another shape.
    """
    for name, module in modules.items():
        prefix = name + "."
        part = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
        try:
            module.load_state_dict(part)
        except RuntimeError as error:
            first = str(error).splitlines()[-1].strip()
            raise TrainingError(f"checkpoint: {name} does not fit ({first})") from None


def adam_tensors(optimiser: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """Return Adam's moments and step counts under `prefix.index.key`."""
    state = optimiser.state_dict()["state"]
    return {f"{prefix}.{i}.{k}": v for i, entry in state.items() for k, v in entry.items()}


def restore_adam(
    optimiser: torch.optim.Optimizer, prefix: str, tensors: Mapping[str, Tensor]
) -> None:
    """Put the tensors of `adam_tensors` back."""
    full = optimiser.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(prefix + "."):
            index, name = key[len(prefix) + 1 :].split(".")
            state.setdefault(int(index), {})[name] = value
    full["state"] = state
    optimiser.load_state_dict(full)
