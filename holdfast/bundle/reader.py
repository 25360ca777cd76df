"""Reads a bundle: one ONNX file with a policy, its cost critics and its contract.

Reading needs NumPy and ONNX Runtime alone; `holdfast.policy.ship.export` writes bundles. Loading
any file takes a bounded time and memory: ONNX Runtime gets only graphs that `holdfast.bundle.graph`
has checked.
"""

from __future__ import annotations

import hashlib
import math
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnxruntime

from holdfast import files, plain
from holdfast.bundle.graph import ROWS, check_graph, input_size
from holdfast.bundle.limit_range import under
from holdfast.bundle.onnx_file import Message, read_model
from holdfast.bundle.timing import require_quick_costs
from holdfast.contract import Contract
from holdfast.errors import BundleError, ContractError, FileError
from holdfast.safety_monitor.familiarity import Familiarity
from holdfast.safety_monitor.prediction import Prediction
from holdfast.schema import read
from holdfast.signals import MOST_LOG_STD, Array

T = TypeVar("T")

FORMAT, RECURRENT_FORMAT = "2", "3"
"""Format 3 is that of a policy with a state; everything else is alike."""

KEYS = ("format", "contract", "golden", "familiarity", "prediction", "provenance", "digest")
"""Names of the entries in the ONNX metadata, where each begins with "holdfast_"."""

PLACEHOLDER = "0" * 64
"""Content of `holdfast_digest` before the file is sealed."""

GOLDEN_TOLERANCE = 1e-5
"""Largest difference from a golden pair; relative where a value is above 1, as cost-to-go is."""

OUTPUTS = ("action", "log_std", "cost_to_go")
"""Outputs of a graph, all of which a policy trained here has. A policy from elsewhere may lack
log_std (it has no density) and cost_to_go (it has no cost critics)."""

STATE, NEXT_STATE = "state", "next_state"
"""Input and output of a recurrent policy's graph: what it remembers, before and after a step."""

LARGEST = 64 * 2**20
"""Largest size of a bundle, bytes."""

SHARE = 0.25
"""Largest share of the contract's period for the outputs for one observation: the critics run in
the monitor's process, once per period."""

TIMED, FAR = 15, 256
"""Number of timed observations, and number of tried observations far from all known ones."""

# A protobuf string entry: key, then tag 2 and length 64. It is searched in the bytes, so
# that the digest is checked before the file is parsed.
_DIGEST = re.compile(rb"holdfast_digest\x12\x40([0-9a-f]{64})")


@dataclass(frozen=True)
class Golden:
    """Golden pairs: observations, and the policy's outputs for them at the export, one row each.

    Attributes:
        observation: shape (pairs, n); action, log_std: (pairs, actions);
            cost_to_go: (pairs, costs). None: the graph lacks the output.
        state, next_state: (pairs, k), before and after a step of a recurrent policy; else None.
    """

    observation: Array
    action: Array
    log_std: Array | None = None
    cost_to_go: Array | None = None
    state: Array | None = None
    next_state: Array | None = None


@dataclass(frozen=True)
class Bundle:
    """A policy that may run: its file was checked when it was loaded.

    Attributes:
        hash: SHA-256 of the file, in hex.
        familiarity: the export's measurement of the observations, or None.
        prediction: the export's measurement of costs beyond cost-to-go, or None.
        provenance: versions, seeds, hashes, parent and the measurements of training.
        names: the graph's outputs, in the order of `OUTPUTS`, then next_state.
        state_size: k, number of values that a recurrent policy remembers; 0: it remembers none.
        trained: the contract in the file, if `contract` is it under a limit of its ranges.
        row_s: median time for the outputs for one observation on this machine, s.
    """

    path: Path
    hash: str
    contract: Contract
    golden: Golden
    familiarity: Familiarity | None
    prediction: Prediction | None
    provenance: Mapping[str, Any]
    names: tuple[str, ...]
    _session: Any = field(repr=False, compare=False)
    row_s: float = field(default=0.0, compare=False)
    state_size: int = 0
    trained: Contract | None = None

    def under(self, limits: Sequence[float]) -> Bundle:
        """Return the bundle with the contract in its file under limits of its ranges.

        Raises:
            ContractError: see `holdfast.bundle.limit_range.under`.
        """
        trained = self.trained or self.contract
        return replace(self, contract=under(trained, limits), trained=trained)

    @property
    def ranged(self) -> tuple[str, ...]:
        """Names of the costs that `under` takes a limit of."""
        costs = self.contract.costs
        return tuple(cost.name for cost in costs if cost.limit_range is not None)

    @property
    def has_critics(self) -> bool:
        """Whether it has cost critics, which predict costs."""
        return "cost_to_go" in self.names

    def act(self, observation: Array) -> tuple[Array, Array]:
        """Return the mean action (actions,), physical units, and log_std (actions,), of the
        action scaled to [-1, 1], for one observation (n,); see `require_density`."""
        mean, log_std = self.outputs(observation[None], OUTPUTS[:2])
        return mean[0], log_std[0]

    def cost_to_go(self, observation: Array) -> Array | None:
        """Return the critics' expected cost from here to the episode's end, shape (costs,); None
        without critics."""
        if not self.has_critics:
            return None
        (costs,) = self.outputs(observation[None], OUTPUTS[2:])
        return np.asarray(costs[0])

    def require_density(self) -> None:
        """Raise BundleError unless actions can be sampled from the policy."""
        if "log_std" not in self.names:
            raise BundleError(
                f"{self.path}: this policy has no density to explore with; run it without "
                "exploring, or adopt it with --explore-std"
            )

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

    def outputs(
        self,
        observations: Array,
        names: tuple[str, ...] | None = None,
        states: Array | None = None,
    ) -> list[Array]:
        """Return outputs of the graph, all or the named ones, for observations (batch, n).

        Args:
            states: of a recurrent policy, (batch, k); None: those of an episode's start, zeros.
        """
        names = self.names if names is None else names
        inputs = {"observation": observations.astype(np.float32)}
        if self.state_size:
            given = np.zeros((len(observations), self.state_size)) if states is None else states
            inputs[STATE] = given.astype(np.float32)
        parts = [
            self._session.run(list(names), {k: rows[i : i + ROWS] for k, rows in inputs.items()})
            for i in range(0, len(observations), ROWS)
        ]
        return [np.concatenate(values).astype(np.float64) for values in zip(*parts, strict=True)]


class Actor:
    """The policy of a bundle through an episode: it keeps a recurrent policy's state.

    Args:
        explore: the density of actions is wanted too.
    """

    def __init__(self, bundle: Bundle, explore: bool) -> None:
        self._bundle = bundle
        self._names: tuple[str, ...] = OUTPUTS[:2] if explore else OUTPUTS[:1]
        if bundle.state_size:
            self._names = (*self._names, NEXT_STATE)
        self.reset()

    def reset(self) -> None:
        """Forget the episode; the next step is a first one."""
        self._state = np.zeros((1, self._bundle.state_size))

    def act(self, observation: Array) -> tuple[Array, Array | None]:
        """Return the mean action (actions,), physical units, and log_std (actions,) where it is
        wanted, for the next observation (n,) of the episode.

        The action is NaN, at which the monitor stops the robot, once the state is not finite: the
        graph limits its action, so that it would look like any other.
        """
        mean, *more = self._bundle.outputs(observation[None], self._names, self._state)
        if self._bundle.state_size:
            self._state = more.pop()
            if not np.isfinite(self._state).all():
                mean = np.full_like(mean, np.nan)
        return mean[0], more[0][0] if more else None


def load(path: Path | str) -> Bundle:
    """Read, check and return a bundle.

    Raises:
        BundleError: the file is missing, damaged or not a bundle, or its outputs are not the
            exported ones.
    """
    path = Path(path)
    try:
        data = files.read(path, LARGEST)
    except FileError as error:
        raise BundleError(str(error)) from None
    return from_bytes(data, path)


def from_bytes(data: bytes, path: Path) -> Bundle:
    """Check and return the bundle that a file's bytes are; see `load`.

    Args:
        path: the file's path, for error sentences.
    """
    try:
        check_digest(data)
        model = read_model(data)
        entries = _entries(model)
        contract = Contract.from_json(entries["contract"])
        state_size = input_size(model, STATE)
        if (entries["format"] == RECURRENT_FORMAT) != bool(state_size):
            wanted = RECURRENT_FORMAT if state_size else FORMAT
            raise BundleError(f"bundle format should be {wanted}, as its graph's inputs say")
        outputs = _outputs(model, contract, state_size)
        state = {STATE: state_size} if state_size else {}
        check_graph(model, {"observation": contract.observation_size, **state}, outputs)
        bundle = Bundle(
            path=path,
            hash=hashlib.sha256(data).hexdigest(),
            contract=contract,
            golden=_golden(entries["golden"], contract, {**outputs, **state}),
            familiarity=_record(entries, "familiarity", Familiarity),
            prediction=_record(entries, "prediction", Prediction),
            provenance=_mapping(entries, "provenance") or {},
            names=tuple(outputs),
            _session=session(data),
            state_size=state_size,
        )
        if bundle.prediction is not None and not bundle.has_critics:
            raise BundleError("holdfast_prediction should be null where cost_to_go is no output")
        _check_golden(bundle)
        bundle = replace(bundle, row_s=_check_time(bundle))
        require_quick_costs(contract)
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
        raise BundleError(
            "not a Holdfast bundle: it holds no digest (holdfast export writes bundles, and "
            "holdfast adopt makes one of a policy from elsewhere)"
        )
    return places[0]


def session(data: bytes) -> Any:
    """Return a session of ONNX Runtime that computes on one thread.

    Raises:
        BundleError: ONNX Runtime cannot load the model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 4  # an error is reported below, in one sentence
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common base class
        first_line = str(error).partition("\n")[0]
        raise BundleError(f"ONNX Runtime cannot load it ({first_line})") from None


def _entries(model: Message) -> dict[str, str]:
    pairs = [(entry.get("key", ""), entry.get("value", "")) for entry in model["metadata_props"]]
    metadata = dict(pairs)
    if len(metadata) < len(pairs):
        raise BundleError("its metadata should hold each key once")
    missing = [f"holdfast_{key}" for key in KEYS if f"holdfast_{key}" not in metadata]
    if missing:
        raise BundleError(f"its metadata lacks {', '.join(missing)}")
    entries = {key: metadata[f"holdfast_{key}"] for key in KEYS}
    if entries["format"] not in (FORMAT, RECURRENT_FORMAT):
        raise BundleError(f"bundle format should be {FORMAT}, received {entries['format'][:40]}")
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


def _record(entries: Mapping[str, str], name: str, kind: type[T]) -> T | None:
    data = _json(entries[name], name)
    return None if data is None else read(kind, data, name, BundleError, complete=True)


def _outputs(model: Message, contract: Contract, state_size: int) -> dict[str, int]:
    """Return the size of each output that the graph should have, by name."""
    sizes = (contract.action_size, contract.action_size, len(contract.costs))
    named = {info.get("name") for info in model.get("graph", {"output": []})["output"]}
    wanted = zip(OUTPUTS, sizes, strict=True)
    sizes_of = {name: size for name, size in wanted if name == OUTPUTS[0] or name in named}
    return {**sizes_of, NEXT_STATE: state_size} if state_size else sizes_of


def _golden(text: str, contract: Contract, outputs: Mapping[str, int]) -> Golden:
    data = _json(text, "golden")
    sizes = {"observation": contract.observation_size, **outputs}
    if not isinstance(data, dict) or set(data) != set(sizes):
        raise BundleError(f"holdfast_golden should hold {', '.join(sizes)}")
    arrays = {}
    for name, size in sizes.items():
        try:
            arrays[name] = np.array(data[name], dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            raise BundleError(f"holdfast_golden.{name} should be rows of numbers") from None
        pairs = arrays["observation"].shape[:1]
        if arrays[name].shape != (*pairs, size) or not 0 < pairs[0] <= ROWS:
            raise BundleError(
                f"holdfast_golden.{name} should have a row of {size} per pair, 1 to {ROWS} pairs"
            )
    return Golden(**arrays)


def _check_golden(bundle: Bundle) -> None:
    golden = bundle.golden
    outputs = bundle.outputs(golden.observation, states=golden.state)
    for name, values in zip(bundle.names, outputs, strict=True):
        expected = getattr(golden, name)
        worst = (np.abs(values - expected) / np.maximum(1.0, np.abs(expected))).max()
        if not worst <= GOLDEN_TOLERANCE:  # NaN fails this comparison too
            raise BundleError(
                f"'{name}' differs by {worst:.3g} from what was exported with it (golden pairs); "
                f"at most {GOLDEN_TOLERANCE:g} is allowed"
            )
        if name == "log_std" and np.abs(values).max() > MOST_LOG_STD:
            raise BundleError(
                f"'log_std' should be at most {MOST_LOG_STD:g} in size, where the density of an "
                f"action can be computed; received {values.flat[np.abs(values).argmax()]:g}"
            )


def _check_time(bundle: Bundle) -> float:
    """Return the time for the outputs for one observation, s; it is equal for all observations."""
    taken = []
    for _ in range(TIMED):
        began_s = time.perf_counter()
        bundle.outputs(bundle.golden.observation[:1])
        taken.append(time.perf_counter() - began_s)
    row_s, period_s = statistics.median(taken), bundle.contract.period_s
    if row_s > SHARE * period_s:
        raise BundleError(
            f"its outputs for one observation take {row_s:.2g} s here; that should be at most "
            f"{SHARE:.0%} of the contract's period of {period_s:g} s"
        )
    return row_s


def _check_limits(bundle: Bundle) -> None:
    """Check the outputs for the golden observations and for others far outside, which a robot may
    meet: computed together, and one by one as on a robot."""
    contract = bundle.contract
    rng = np.random.default_rng(0)
    far = rng.standard_normal((FAR, contract.observation_size)) * np.logspace(-2, 6, FAR)[:, None]
    observations = np.concatenate((bundle.golden.observation, far))
    states = rng.standard_normal((len(observations), bundle.state_size))
    states *= np.logspace(-2, 3, len(states))[:, None]
    together = bundle.outputs(observations, states=states)
    rows = zip(observations[:, None], states[:, None], strict=True)
    singly = [bundle.outputs(row, states=state) for row, state in rows]
    alone = [np.concatenate(values) for values in zip(*singly, strict=True)]
    for name, values, expected in zip(bundle.names, alone, together, strict=True):
        if not (np.isfinite(values).all() and np.isfinite(expected).all()):
            raise BundleError(f"'{name}' should be finite and the action inside the limits")
        worst = (np.abs(values - expected) / np.maximum(1.0, np.abs(expected))).max()
        if worst > GOLDEN_TOLERANCE:
            raise BundleError(
                f"'{name}' for one observation should not depend on others that are asked with it; "
                f"it differs by {worst:.3g}"
            )
    for action in (alone[0], together[0]):
        slack = 1e-6 * contract.action_half_range  # float32
        if ((action < contract.action_low - slack) | (action > contract.action_high + slack)).any():
            raise BundleError("its outputs should be finite and its action inside the limits")
