"""`holdfast adopt`: makes a bundle of a policy that was trained elsewhere."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import onnx
import tyro
from onnx import helper
from rich.console import Console

import holdfast
from holdfast import files, yaml_file
from holdfast.bundle import reader as bundle
from holdfast.bundle.contract_file import load_contract
from holdfast.contract import Contract
from holdfast.errors import BundleError, ConfigError
from holdfast.policy.adopt import network as networks
from holdfast.policy.adopt import probes
from holdfast.policy.adopt.network import Network, own_network
from holdfast.policy.adopt.recurrent import parse
from holdfast.policy.adopt.rows import Row, Writer
from holdfast.safety_monitor.look import require_a_robot
from holdfast.schema import NOT_NEGATIVE, POSITIVE, Range, check, to_plain
from holdfast.signals import Array

PROBES = 256
"""Number of observations over the signals' ranges at which the outputs are compared."""

EPISODES = 16
"""Number of episodes through which a recurrent policy should stay finite."""

OFTEN = 0.5
"""An action that is clipped at a larger share of these observations is doubted in words."""

GOLDEN_PAIRS = 8

LARGEST = bundle.LARGEST - 2**20
"""Largest size of all weights in bytes: a bundle holds the contract and more beside them."""

TOLERANCE = 1e-4
"""Largest difference of the bundle's network from the file's own, which may compute in float32;
relative where an output is above 1."""


@dataclass(frozen=True)
class Normaliser:
    """What the observation is normalised with before the network: (x − mean) / (std + epsilon).

    Attributes:
        mean, std: a number for each value of the observation.
        epsilon: is added to std.
        clip: largest magnitude after that; None: not clipped.
    """

    mean: tuple[float, ...]
    std: tuple[Annotated[float, NOT_NEGATIVE], ...]
    epsilon: Annotated[float, NOT_NEGATIVE] = 0.0
    clip: Annotated[float, POSITIVE] | None = None

    def __post_init__(self) -> None:
        check(self, ConfigError, "normaliser")
        if any(each + self.epsilon <= 0.0 for each in self.std):
            raise ConfigError("normaliser: std plus epsilon should be above 0 for each value")

    @property
    def scale(self) -> Array:
        return np.array(self.std) + self.epsilon

    def __call__(self, observations: Array) -> Array:
        """Return observations (batch, n) as the network gets them."""
        values: Array = (observations - np.array(self.mean)) / self.scale
        return values if self.clip is None else np.clip(values, -self.clip, self.clip)


@dataclass(frozen=True)
class Settings:
    """A policy from elsewhere, and what its file does not say.

    Attributes:
        policy: the ONNX file of the policy; data in files beside it is packed in.
        contract: YAML file with the contract under which the policy was trained.
        out: path of the bundle.
        normaliser: YAML or JSON file with `mean` and `std` of each value of the observation, and
            perhaps `epsilon` and `clip`, where the graph does not normalise. Default: none.
        action_units: "scaled": the output is the mean action in [-1, 1], over the contract's
            limits. "physical": the output is in the contract's units, after scale and offset.
        action_scale: one factor, or one for each channel; only with physical units. Default: 1.
        action_offset: one number, or one for each channel, added after the factor; only with
            physical units. Default: 0.
        output: name of the graph's output that is the action, where there are several.
        state: INPUT=OUTPUT for each state of a recurrent policy: the input gets at each step what
            the output was at the step before, and zeros at an episode's start. Default: inputs and
            outputs of equal shapes, where these tell.
        explore_std: standard deviation of explored actions, in units of half the action range. It
            gives the policy a density, so that `deploy --explore` runs and others learn from its
            logs. Default: the policy cannot explore.
    """

    policy: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="POLICY")]
    contract: Path
    out: Path
    normaliser: Path | None = None
    action_units: Literal["scaled", "physical"] = "scaled"
    action_scale: tuple[float, ...] = ()
    action_offset: tuple[float, ...] = ()
    output: str | None = None
    state: tuple[str, ...] = ()
    explore_std: Annotated[float, Range(0.001, 1.0)] | None = None

    def __post_init__(self) -> None:
        check(self, ConfigError)
        if self.action_units == "scaled" and (self.action_scale or self.action_offset):
            raise ConfigError(
                "action-scale and action-offset give physical units: use them with "
                "--action-units physical"
            )


def command(settings: Settings) -> None:
    """Make a bundle of a policy that was trained elsewhere.

    The bundle has no cost critics, so the safety monitor predicts no costs; all its other checks
    hold. It has no training state, so it can be run, verified and replayed, but not fine-tuned.
    """
    adopted = adopt(settings)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    contract = adopted.bundle.contract
    scaled = np.clip(adopted.scaled, -1.0, 1.0)
    actions = contract.action_center + contract.action_half_range * scaled
    clipped = (np.abs(adopted.scaled) > 1.0).mean(axis=0)
    for i, channel in enumerate(contract.action):
        doubt = "; is the output in other units (--action-units)?" if clipped[i] > OFTEN else ""
        console.print(
            f"{channel.name}: {actions[:, i].min():.3g} to {actions[:, i].max():.3g} "
            f"{channel.unit} over {len(actions)} observations from the signals' ranges, "
            f"{clipped[i]:.0%} clipped to the contract's limits{doubt}"
        )
    console.print(
        f"{settings.out}: adopted from {settings.policy}; contract {contract.hash[:16]}; an "
        f"observation takes {1e3 * adopted.bundle.row_s:.2g} ms; differs from the file by at most "
        f"{adopted.difference:.2g}; SHA-256 {adopted.bundle.hash[:16]}"
    )


@dataclass(frozen=True)
class Adopted:
    """A bundle that was made of a foreign policy.

    Attributes:
        bundle: as a robot would load it.
        scaled: actions (probes, actions) in [-1, 1] before they are clipped.
        difference: largest difference of the network's output from the file's own.
    """

    bundle: bundle.Bundle
    scaled: Array
    difference: float


def adopt(settings: Settings) -> Adopted:
    """Make the bundle and write it; equal inputs give equal bytes.

    Raises:
        BundleError: the policy cannot become a bundle, or does not fit the contract.
        ContractError, ConfigError: the contract, the normaliser or an option is wrong.
        FileError: the bundle cannot be written.
    """
    given = (settings.policy, settings.contract, settings.normaliser)
    files.require_output(settings.out, (".onnx",), [path for path in given if path is not None])
    contract = load_contract(settings.contract)
    require_a_robot(contract)
    normaliser = _normaliser(settings, contract)
    gain, bias = _action(settings, contract)
    try:
        network = networks.read(settings.policy, settings.output, parse(settings.state))
        write = Writer()
        rows = _network(write, network, normaliser, contract)
        raw, size = rows[0], network.state_size
        known = probes.observations(contract, PROBES).astype(np.float32).astype(np.float64)
        states: Array = np.random.default_rng(1).uniform(-1.0, 1.0, (PROBES, size))
        states = states.astype(np.float32).astype(np.float64)
        made = {row.name: row.size for row in rows}
        inputs = {"observation": contract.observation_size}
        inputs |= {bundle.STATE: size} if size else {}
        model = write.model(inputs, made, onnx.TensorProto.DOUBLE)
        difference = _compare(network, normaliser, known, states, _translated(model, list(made)))
        found = _run(model, known, states, raw.name)
    except BundleError as error:
        said = str(error)
        raise BundleError(
            said if said.startswith(str(settings.policy)) else f"{settings.policy}: {said}"
        ) from None
    outputs = _outputs(write, raw, contract, gain, bias, settings.explore_std)
    for after in rows[1:]:
        write.node("Cast", after.name, name=bundle.NEXT_STATE, to=onnx.TensorProto.FLOAT)
        outputs[bundle.NEXT_STATE] = after.size
    model = write.model(inputs, outputs)
    golden = _golden(model, known, states, list(outputs))
    content = _sealed(model, contract, golden, _provenance(settings, network, normaliser))
    held = bundle.from_bytes(content, settings.out)  # what a robot would refuse is not written
    try:
        _require_finite_episodes(held, known)
    except BundleError as error:
        raise BundleError(f"{settings.policy}: {error}") from None
    files.write(settings.out, content)
    return Adopted(held, found * gain + bias, difference)


def _normaliser(settings: Settings, contract: Contract) -> Normaliser | None:
    path = settings.normaliser
    if path is None:
        return None
    held = yaml_file.load(path, Normaliser, ConfigError)
    for name in ("mean", "std"):
        if (size := len(getattr(held, name))) != contract.observation_size:
            raise ConfigError(
                f"{path}: {name} should have the {contract.observation_size} numbers of the "
                f"contract's observation, received {size}"
            )
    return held


def _action(settings: Settings, contract: Contract) -> tuple[Array, Array]:
    """Return gain and bias (actions,) from the network's output to the action in [-1, 1]."""
    size = contract.action_size
    given = {"action-scale": settings.action_scale or (1.0,),
             "action-offset": settings.action_offset or (0.0,)}  # fmt: skip
    for name, values in given.items():
        if len(values) not in (1, size):
            raise ConfigError(
                f"{name} should be one number, or one for each of the {size} action channels, "
                f"received {len(values)}"
            )
    scale, offset = (np.broadcast_to(np.array(values), (size,)) for values in given.values())
    if not scale.all():
        raise ConfigError("action-scale should not be 0")
    if settings.action_units == "scaled":
        return scale, offset
    half = contract.action_half_range
    return scale / half, (offset - contract.action_center) / half


def _network(
    write: Writer, network: Network, normaliser: Normaliser | None, contract: Contract
) -> tuple[Row, ...]:
    """Write everything from the observation to the network's action, and to the state after it."""
    size, actions = contract.observation_size, contract.action_size
    row = Row(write.node("Cast", "observation", to=onnx.TensorProto.DOUBLE), (size,))
    if normaliser is not None:
        row = write.binary("Sub", row, np.array(normaliser.mean))
        row = write.binary("Div", row, normaliser.scale)
        if normaliser.clip is not None:
            row = write.clip(row, -normaliser.clip, normaliser.clip)
    before = None
    if network.states:
        cast = write.node("Cast", bundle.STATE, to=onnx.TensorProto.DOUBLE)
        before = Row(cast, (network.state_size,))
    rows = network.translate(write, row, before)
    raw = rows[0]
    if raw.size != actions:
        raise BundleError(
            f"its output '{network.output}' has {raw.size} values; the contract has {actions} "
            f"action channels, {', '.join(contract.action_names)}"
        )
    if (size := sum(len(weight.raw_data) for weight in write.weights)) > LARGEST:
        raise BundleError(
            f"its weights should have at most {LARGEST} bytes in double precision, they have {size}"
        )
    return rows


def _outputs(
    write: Writer,
    raw: Row,
    contract: Contract,
    gain: Array,
    bias: Array,
    explore_std: float | None,
) -> dict[str, int]:
    """Write everything from the network's output to the bundle's; return the sizes by name."""
    scaled = raw.shaped((raw.size,))
    if not (gain == 1.0).all():
        scaled = write.binary("Mul", scaled, gain)
    if bias.any():
        scaled = write.binary("Add", scaled, bias)
    inside = write.clip(scaled, -1.0, 1.0)
    action = write.binary("Mul", inside, contract.action_half_range)
    action = write.binary("Add", action, contract.action_center)
    write.node("Cast", action.name, name=bundle.OUTPUTS[0], to=onnx.TensorProto.FLOAT)
    size = contract.action_size
    made = {bundle.OUTPUTS[0]: size}
    if explore_std is not None:
        write.repeated(np.full(size, math.log(explore_std)), bundle.OUTPUTS[1])
        made[bundle.OUTPUTS[1]] = size
    return made


def _run(model: onnx.ModelProto, observations: Array, states: Array, name: str) -> Array:
    (values,) = _translated(model, [name])(observations, states)
    return values


Run = Callable[[Array, Array], list[Array]]
"""Outputs (batch, size) for observations (batch, n) and states (batch, k); k may be 0."""


def _translated(model: onnx.ModelProto, names: list[str]) -> Run:
    """Return what runs a model in the operators of bundles."""
    session = bundle.session(model.SerializeToString())

    def run(observations: Array, states: Array) -> list[Array]:
        inputs = {"observation": observations.astype(np.float32)}
        if states.shape[1]:
            inputs[bundle.STATE] = states.astype(np.float32)
        return [np.asarray(each, np.float64) for each in session.run(names, inputs)]

    return run


def _compare(
    network: Network, normaliser: Normaliser | None, observations: Array, states: Array, found: Run
) -> float:
    """Check the file's own outputs, and return the largest difference of the translated ones.

    Args:
        states: (batch, k), at which each observation is tried; k may be 0.
        found: runs the translated network.

    Raises:
        BundleError: an output is not finite, is not the same twice, does not depend on the
            observation, or is another than the translated network's.
    """
    own = own_network(network, normaliser)
    once = own(observations, states)
    for values, again in zip(once, own(observations, states), strict=True):
        if not np.array_equal(values, again, equal_nan=True):
            raise BundleError("its outputs for equal observations should be equal")
        if wrong := int((~np.isfinite(values)).any(axis=1).sum()):
            raise BundleError(
                f"its output should be finite for all observations within the signals' ranges; for "
                f"{wrong} of {len(values)} it is not"
            )
    action = own(observations, np.zeros_like(states))[0]
    if (action == action[0]).all():
        raise BundleError(
            "its output should depend on the observation; it is the same for "
            f"{len(action)} observations over the signals' ranges"
        )
    difference = _difference(found(observations, states), once)
    if states.shape[1]:
        episodes = (_episode(run, observations, states) for run in (found, own))
        difference = float(np.maximum(difference, _difference(*episodes)))  # NaN stays NaN
    if not difference <= TOLERANCE:
        raise BundleError(
            f"its network and the bundle's differ by {difference:.3g}; {TOLERANCE:g} is allowed"
        )
    return difference


def _difference(found: list[Array], expected: list[Array]) -> float:
    pairs = zip(found, expected, strict=True)
    with np.errstate(all="ignore"):  # infinity less infinity is NaN, which is refused
        worst = [(np.abs(a - b) / np.maximum(1.0, np.abs(b))).max() for a, b in pairs]
    return float(np.max(worst))  # NaN where one is; Python's max would lose it


def _episode(run: Run, observations: Array, states: Array) -> list[Array]:
    """Return outputs of observations one after another, the state going from each to the next."""
    state, steps = np.zeros_like(states[:1]), []
    for row in observations[:, None]:
        steps.append(run(row, state))
        with np.errstate(over="ignore"):  # a state may grow without end, and is refused for it
            state = steps[-1][1].astype(np.float32)
    return [np.concatenate(values) for values in zip(*steps, strict=True)]


def _require_finite_episodes(held: bundle.Bundle, observations: Array) -> None:
    """Check that outputs and state stay finite through whole episodes, as a robot runs them.

    In the first, the observations come one after another; in each of the others, one comes always.

    Raises:
        BundleError: they do not.
    """
    rows = observations[:EPISODES].copy()
    state = np.zeros((len(rows), held.state_size))
    for step in range(held.contract.episode_steps if held.state_size else 0):
        rows[0] = observations[step % len(observations)]
        outputs = held.outputs(rows, states=state)
        state = outputs[held.names.index(bundle.NEXT_STATE)]
        if not all(np.isfinite(values).all() for values in outputs):
            raise BundleError(
                "its outputs and its state should stay finite through an episode of "
                f"{held.contract.episode_steps} steps; they are not after step {step}"
            )


def _golden(
    model: onnx.ModelProto, observations: Array, states: Array, outputs: list[str]
) -> dict[str, list[list[float]]]:
    """Return observations, two of them far outside, with states and the bundle's outputs."""
    rng = np.random.default_rng(0)
    spread = observations.std(axis=0) + 1e-3
    far = observations.mean(axis=0) + spread * rng.choice([-50.0, 50.0], (2, len(spread)))
    chosen = np.concatenate((observations[: GOLDEN_PAIRS - 2], far))
    chosen = chosen.astype(np.float32).astype(np.float64)
    before = states[:GOLDEN_PAIRS]
    made = {name: _run(model, chosen, before, name) for name in outputs}
    if before.shape[1]:
        made[bundle.STATE] = before
    return {"observation": chosen.tolist(), **{name: v.tolist() for name, v in made.items()}}


def _provenance(
    settings: Settings, network: Network, normaliser: Normaliser | None
) -> dict[str, Any]:
    return {
        "holdfast": holdfast.__version__,
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "onnx": onnx.__version__,
        },
        "adopted": {
            "file": settings.policy.name,
            "sha256": network.sha256,
            "opset": network.opset,
            "output": network.output,
            **({"states": {s.input: s.output for s in network.states}} if network.states else {}),
            "normaliser": None if normaliser is None else to_plain(normaliser),
            "action_units": settings.action_units,
            "action_scale": list(settings.action_scale),
            "action_offset": list(settings.action_offset),
            "explore_std": settings.explore_std,
        },
    }


def _sealed(
    model: onnx.ModelProto, contract: Contract, golden: Any, provenance: dict[str, Any]
) -> bytes:
    entries = {
        "format": bundle.RECURRENT_FORMAT if bundle.STATE in golden else bundle.FORMAT,
        "contract": contract.to_json(),
        "golden": json.dumps(golden),
        "familiarity": "null",
        "prediction": "null",
        "provenance": json.dumps(provenance, sort_keys=True),
        "digest": bundle.PLACEHOLDER,
    }
    helper.set_model_props(model, {f"holdfast_{key}": text for key, text in entries.items()})
    return bundle.seal(model.SerializeToString(deterministic=True))
