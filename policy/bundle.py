"""The bundle: one ONNX file with a policy, its cost critics and its contract, as a robot runs it.

Needs NumPy and ONNX Runtime alone. Exporting one is `holdfast.policy.export`'s.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from holdfast import plain
from holdfast.contract import Contract
from holdfast.errors import BundleError, ContractError
from holdfast.signals import Array

FORMAT = "2"
KEYS = ("format", "contract", "golden", "familiarity", "prediction", "provenance", "digest")
"""Entries of the ONNX metadata, each under "holdfast_" + its name."""

PLACEHOLDER = "0" * 64
"""What `holdfast_digest` holds until the file is sealed."""

GOLDEN_TOLERANCE = 1e-5
"""Largest difference from a golden pair; relative where a value is above 1, as cost-to-go is."""

OUTPUTS = ("action", "log_std", "cost_to_go")

# A protobuf string entry: key, then tag 2 and length 64. Found in the bytes, so that the digest
# is checked before anything parses the file.
_DIGEST = re.compile(rb"holdfast_digest\x12\x40([0-9a-f]{64})")


@dataclass(frozen=True)
class Golden:
    """Observations and what the policy said of them when it was exported, a row each.

    Attributes:
        observation: shape (pairs, n); action, log_std: (pairs, actions);
            cost_to_go: (pairs, costs).
    """

    observation: Array
    action: Array
    log_std: Array
    cost_to_go: Array


@dataclass(frozen=True)
class Bundle:
    """A policy that may run: everything below was checked when it was loaded.

    Attributes:
        hash: SHA-256 of the file, in hex.
        familiarity: what the exporter measured of the observations, or None.
        prediction: how much more than cost-to-go an episode may cost, as measured, or None.
        provenance: versions, seeds, hashes, parent and what training measured.
    """

    path: Path
    hash: str
    contract: Contract
    golden: Golden
    familiarity: Mapping[str, Any] | None
    prediction: Mapping[str, Any] | None
    provenance: Mapping[str, Any]
    _session: Any = field(repr=False, compare=False)

    def act(self, observation: Array) -> tuple[Array, Array]:
        """Return the mean action (actions,), physical units, and log_std (actions,), of the
        action scaled to [-1, 1], for one observation (n,)."""
        mean, log_std = self.outputs(observation[None], OUTPUTS[:2])
        return mean[0], log_std[0]

    def cost_to_go(self, observation: Array) -> Array:
        """Return the critics' expected cost from here to the episode's end, shape (costs,)."""
        (costs,) = self.outputs(observation[None], OUTPUTS[2:])
        return np.asarray(costs[0])

    def expect(self, robot: str | None = None, task: str | None = None) -> None:
        """Raise BundleError unless the policy was trained for this robot and task."""
        for kind, wanted, held in (
            ("robot", robot, self.contract.robot),
            ("task", task, self.contract.task),
        ):
            if wanted is not None and wanted != held:
                raise BundleError(
                    f"{self.path}: this policy was trained for {kind} '{held}', not '{wanted}'"
                )

    def outputs(self, observations: Array, names: tuple[str, ...] = OUTPUTS) -> list[Array]:
        """Return the named outputs of the graph for observations (batch, n)."""
        values = self._session.run(list(names), {"observation": observations.astype(np.float32)})
        return [value.astype(np.float64) for value in values]


def load(path: Path | str) -> Bundle:
    """Read, check and return a bundle.

    Raises:
        BundleError: no such file, not a bundle, damaged, or it does not do what it says.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        check_digest(data)
        session = _session(data)
        entries = _entries(session.get_modelmeta().custom_metadata_map)
        contract = Contract.from_json(entries["contract"])
        _check_graph(session, contract)
        bundle = Bundle(
            path=path,
            hash=hashlib.sha256(data).hexdigest(),
            contract=contract,
            golden=_golden(entries["golden"], contract),
            familiarity=_mapping(entries, "familiarity"),
            prediction=_mapping(entries, "prediction"),
            provenance=_mapping(entries, "provenance") or {},
            _session=session,
        )
        _check_golden(bundle)
        _check_limits(bundle)
    except (BundleError, ContractError) as error:
        raise BundleError(f"{path}: {error}") from None
    return bundle


def seal(data: bytes) -> bytes:
    """Return the file's bytes with the digest's placeholder, 64 zeros, replaced by the digest.

    Raises:
        BundleError: the placeholder is not there exactly once.
    """
    start, end = _digest_place(data)
    if data[start:end] != PLACEHOLDER.encode():
        raise BundleError("already sealed; holdfast_digest should hold 64 zeros")
    return data[:start] + hashlib.sha256(data).hexdigest().encode() + data[end:]


def check_digest(data: bytes) -> None:
    """Raise BundleError unless the file's bytes have the digest that they carry.

    The digest is the SHA-256 of the bytes with its own 64 hex digits replaced by zeros.
    """
    start, end = _digest_place(data)
    blank = data[:start] + PLACEHOLDER.encode() + data[end:]
    if hashlib.sha256(blank).hexdigest().encode() != data[start:end]:
        raise BundleError(
            "damaged or altered since it was exported: its bytes do not have its digest"
        )


def sample(
    mean: Array, log_std: Array, rng: np.random.Generator, contract: Contract
) -> tuple[Array, float]:
    """Draw an action from the behaviour policy, a diagonal Gaussian in scaled units.

    u = normalised(mean) + exp(log_std)·ε; the action is not clipped, `admissible` does that in
    simulator and monitor alike.

    Args:
        mean: shape (actions,), physical units.
        log_std: shape (actions,), of the action scaled to [-1, 1].

    Returns:
        The action (actions,) in physical units, and log p(u), summed over dimensions.
    """
    noise = rng.standard_normal(mean.shape)
    scaled = contract.normalised(mean) + np.exp(log_std) * noise
    action = contract.action_center + contract.action_half_range * scaled
    return action, _density(noise, log_std)


def log_prob(action: Array, mean: Array, log_std: Array, contract: Contract) -> float:
    """Return log p(u) of an action under the behaviour policy; see `sample`."""
    noise = (contract.normalised(action) - contract.normalised(mean)) / np.exp(log_std)
    return _density(noise, log_std)


def _density(noise: Array, log_std: Array) -> float:
    constant = 0.5 * noise.size * math.log(2.0 * math.pi)
    return float(-0.5 * noise @ noise - log_std.sum() - constant)


def _digest_place(data: bytes) -> tuple[int, int]:
    places = [match.span(1) for match in _DIGEST.finditer(data)]
    if len(places) != 1:
        raise BundleError("not a Holdfast bundle: it holds no digest (see holdfast export)")
    return places[0]


def _session(data: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 4  # what is wrong is said below, in one sentence
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no base of their own
        first_line = str(error).partition("\n")[0]
        raise BundleError(f"ONNX Runtime cannot load it ({first_line})") from None


def _entries(metadata: Mapping[str, str]) -> dict[str, str]:
    missing = [f"holdfast_{key}" for key in KEYS if f"holdfast_{key}" not in metadata]
    if missing:
        raise BundleError(f"its metadata lacks {', '.join(missing)}")
    entries = {key: metadata[f"holdfast_{key}"] for key in KEYS}
    if entries["format"] != FORMAT:
        raise BundleError(f"bundle format should be {FORMAT}, received {entries['format']}")
    return entries


def _json(text: str, name: str) -> Any:
    try:
        return plain.from_json(text)
    except ValueError as error:
        raise BundleError(f"holdfast_{name} should be JSON ({error})") from None


def _mapping(entries: Mapping[str, str], name: str) -> dict[str, Any] | None:
    value = _json(entries[name], name)
    if value is not None and not isinstance(value, dict):
        raise BundleError(f"holdfast_{name} should be a mapping, received {entries[name][:40]}")
    return value


def _check_graph(session: Any, contract: Contract) -> None:
    """Inputs and outputs by name, type and shape; the batch dimension is free."""
    sizes = (contract.action_size, contract.action_size, len(contract.costs))
    wanted_outputs = dict(zip(OUTPUTS, sizes, strict=True))
    for kind, nodes, wanted in (
        ("input", session.get_inputs(), {"observation": contract.observation_size}),
        ("output", session.get_outputs(), wanted_outputs),
    ):
        found = {node.name: (node.type, node.shape) for node in nodes}
        if set(found) != set(wanted):
            raise BundleError(
                f"graph {kind}s should be {', '.join(wanted)}, received {', '.join(found)}"
            )
        for name, size in wanted.items():
            dtype, shape = found[name]
            free = len(shape) == 2 and not isinstance(shape[0], int)
            if dtype != "tensor(float)" or not free or shape[1] != size:
                raise BundleError(
                    f"graph {kind} '{name}' should be float [batch, {size}] as its contract "
                    f"says, received {dtype} {shape}"
                )


def _golden(text: str, contract: Contract) -> Golden:
    data = _json(text, "golden")
    names = ("observation", *OUTPUTS)
    if not isinstance(data, dict) or set(data) != set(names):
        raise BundleError(f"holdfast_golden should hold {', '.join(names)}")
    sizes = (contract.observation_size, *2 * (contract.action_size,), len(contract.costs))
    arrays = {}
    for name, size in zip(names, sizes, strict=True):
        try:
            arrays[name] = np.array(data[name], dtype=np.float64)
        except (TypeError, ValueError):
            raise BundleError(f"holdfast_golden.{name} should be rows of numbers") from None
        if arrays[name].shape != (len(data["observation"]), size) or not len(arrays[name]):
            raise BundleError(f"holdfast_golden.{name} should have a row of {size} per pair")
    return Golden(**arrays)


def _check_golden(bundle: Bundle) -> None:
    golden = bundle.golden
    for name, values in zip(OUTPUTS, bundle.outputs(golden.observation), strict=True):
        expected = getattr(golden, name)
        worst = (np.abs(values - expected) / np.maximum(1.0, np.abs(expected))).max()
        if not worst <= GOLDEN_TOLERANCE:  # also when it is NaN
            raise BundleError(
                f"'{name}' differs by {worst:.3g} from what was exported with it (golden pairs); "
                f"at most {GOLDEN_TOLERANCE:g} is allowed"
            )


def _check_limits(bundle: Bundle) -> None:
    """On the golden observations, and far outside them, where a policy may land on a robot."""
    contract = bundle.contract
    rng = np.random.default_rng(0)
    far = rng.standard_normal((256, contract.observation_size)) * np.logspace(-2, 6, 256)[:, None]
    observations = np.concatenate((bundle.golden.observation, far))
    action, log_std, cost_to_go = bundle.outputs(observations)
    slack = 1e-6 * contract.action_half_range  # float32
    outside = (action < contract.action_low - slack) | (action > contract.action_high + slack)
    finite = all(np.isfinite(values).all() for values in (action, log_std, cost_to_go))
    if outside.any() or not finite:
        raise BundleError("its outputs should be finite and its action inside the limits")
