"""The numbers that identification searches for, and how a person names them.

`mass`, `gain:left_motor`, `size:left_tyre+right_tyre` (targets joined by + share one number),
`gain:each` (one number for each part), `delay:position`; with bounds, `mass=0.5..2`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from holdfast.errors import ConfigError
from holdfast.plain import meant, shown
from holdfast.signals import Array
from holdfast.sim.parameters.amounts import ALL, COMMAND, EACH
from holdfast.sim.parameters.catalogue import KINDS, Parameters, Pose
from holdfast.sim.parameters.robots import require_fit
from holdfast.sim.parameters.targets import Targets
from holdfast.sim.tasks.task import Task

BOUNDS: Mapping[str, tuple[float, float]] = {
    "mass": (0.4, 2.5),
    "friction": (0.2, 2.5),
    "size": (0.7, 1.4),
    "track": (0.7, 1.4),
    "slope": (-0.1, 0.1),
    "damping": (0.1, 10.0),
    "armature": (0.1, 10.0),
    "friction_loss": (0.0, 0.3),
    "force": (0.3, 3.0),
    "gain": (0.6, 1.6),
    "delay": (0.0, 10.0),
    "scale": (0.7, 1.4),
    "bias": (-0.2, 0.2),
}
"""Default bounds of the search, by kind. `friction_loss`: as a share of the largest force."""

STRONG = ("delay", "gain", "size", "mass", "friction", "slope")
"""Kinds that are searched from the start where nothing is named; the others are weak."""

MOST_GAINS = 4
"""Actuators up to which each gain is tried by itself."""

_NOTATION = re.compile(
    r"(?P<kind>\w+)(:(?P<targets>[^=]+))?(=(?P<low>[^.=][^=]*?)\.\.(?P<high>[^=]+))?"
)


@dataclass(frozen=True)
class Free:
    """One number that is searched for.

    Attributes:
        kind: of `KINDS`. targets: the targets that have this number.
        low, high: bounds.
    """

    kind: str
    targets: tuple[str, ...]
    low: float
    high: float

    @property
    def name(self) -> str:
        """The number's name as a person writes it."""
        targets = "+".join(self.targets)
        return self.kind if targets in (ALL, COMMAND) else f"{self.kind}:{targets}"

    @property
    def whole(self) -> bool:
        """Whether the number is whole."""
        return KINDS[self.kind].whole

    @property
    def nominal(self) -> float:
        """The value that changes nothing, or the bound that is nearest to it."""
        return min(max(KINDS[self.kind].nominal, self.low), self.high)

    def value(self, z: float) -> float:
        """Return the amount at a place of the search, 0 (low) to 1 (high): a factor's logarithm
        is searched."""
        if KINDS[self.kind].nominal:
            return float(self.low * (self.high / self.low) ** z)
        value = self.low + z * (self.high - self.low)
        return float(math.floor(value + 0.5)) if self.whole else value

    def place(self, value: float) -> float:
        """Return where a value is between the bounds, 0 to 1."""
        if KINDS[self.kind].nominal:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def spread(self, z: float, spread: float) -> float:
        """Return the standard deviation of the amount for one of its place."""
        if KINDS[self.kind].nominal:
            return self.value(z) * math.log(self.high / self.low) * spread
        return (self.high - self.low) * spread


def parameters_at(free: Sequence[Free], z: Array, pose: Pose) -> Parameters:
    """Return the parameters of one place (P,) of the search."""
    amounts = [each.value(float(at)) for each, at in zip(free, z, strict=True)]
    return _parameters(free, pose, amounts)


def widest(free: Sequence[Free], pose: Pose) -> Parameters:
    """Return the ranges that are searched."""
    return _parameters(free, pose, [[each.low, each.high] for each in free])


def _parameters(free: Sequence[Free], pose: Pose, amounts: Sequence[object]) -> Parameters:
    found: dict[str, dict[str, object]] = {}
    for each, amount in zip(free, amounts, strict=True):
        found.setdefault(each.kind, {}).update(dict.fromkeys(each.targets, amount))
    return Parameters.from_plain({**found, "pose": pose})


def chosen(
    words: Sequence[str], task: Task, signals: Mapping[str, int], pose: Pose
) -> tuple[Free, ...]:
    """Return the numbers that a person named; without a word all that apply.

    Args:
        signals: names and sizes of the signals that are compared.

    Raises:
        ConfigError: a word is in no such notation, names what the model does not have, or names a
            target twice.
    """
    model = task.robot.load_model()
    targets = Targets(model, signals, "parameters")
    if not words:
        observed = {
            name: size for name, size in signals.items() if name in task.contract.observed_signals
        }
        found = [each for each in _usual(model, observed) if _applies(each, task, signals, pose)]
    else:
        found = [each for word in words for each in _read(word, targets)]
    seen: set[tuple[str, str]] = set()
    for each in found:
        for target in each.targets:
            if (each.kind, target) in seen:
                raise ConfigError(f"parameters: {each.kind}:{target} is named twice; name it once")
            seen.add((each.kind, target))
    for each in found:
        _require(each, task, signals, pose)
    return tuple(found)


def strongest(free: Sequence[Free]) -> NDArray[np.intp]:
    """Return which of all numbers that apply change a robot's motion most, as indices."""
    found = [i for i, each in enumerate(free) if each.kind in STRONG and _is_strong(each, free)]
    return np.array(found, np.intp)


def _is_strong(one: Free, free: Sequence[Free]) -> bool:
    """Return whether a number is the first one of sizes, which is that of the wheels."""
    return one.kind != "size" or one is next(each for each in free if each.kind == "size")


def _read(word: str, targets: Targets) -> Iterator[Free]:
    match = _NOTATION.fullmatch(word)
    if match is None:
        raise ConfigError(
            "parameters: should be written KIND, KIND:TARGET or KIND:TARGET+TARGET, and may end in "
            f"=LOW..HIGH; received {shown(repr(word))}"
        )
    name = match["kind"]
    if name not in BOUNDS:
        guess = meant(name, BOUNDS) or f"; known are {', '.join(BOUNDS)}"
        raise ConfigError(f"parameters: unknown {shown(name)}{guess}")
    kind, given = KINDS[name], match["targets"]
    if not (given or kind.alone):
        raise ConfigError(f"parameters: {name} needs a {kind.of}'s name, as in {name}:NAME")
    low, high = _bounds(match, word) or _usual_bounds(name, targets.model)
    if given == EACH:
        for part in targets.names(kind.of):
            yield Free(name, (part,), low, high)
        return
    parts = tuple(given.split("+")) if given else (kind.alone,)
    for part in parts:
        if part not in (ALL, COMMAND):
            targets.places(name, kind.of, part)
    yield Free(name, parts, low, high)


def _bounds(match: re.Match[str], word: str) -> tuple[float, float] | None:
    if match["low"] is None:
        return None
    kind = KINDS[match["kind"]]
    try:
        low, high = float(match["low"]), float(match["high"])
    except ValueError:
        raise ConfigError(
            f"parameters: bounds should be numbers, as in =0.5..2; received {shown(repr(word))}"
        ) from None
    possible = all(kind.allowed.allows(edge) for edge in (low, high)) and low < high
    if not possible or (kind.nominal and low <= 0.0) or (kind.whole and low % 1 + high % 1):
        also = ", whole" if kind.whole else ", more than 0" if kind.nominal else ""
        raise ConfigError(
            f"parameters: bounds of {match['kind']} should be LOW..HIGH with LOW below HIGH, each "
            f"{kind.allowed}{also}; received {shown(word)}"
        )
    return low, high


def _usual_bounds(name: str, model: mujoco.MjModel) -> tuple[float, float]:
    low, high = BOUNDS[name]
    if name == "friction_loss":
        forces = model.actuator_forcerange[model.actuator_forcelimited.astype(bool), 1]
        high *= float(forces.max()) if len(forces) else 1.0
    return low, high


def _usual(model: mujoco.MjModel, signals: Mapping[str, int]) -> Iterator[Free]:
    """Yield all that is tried where nothing is named."""
    targets = Targets(model, signals, "parameters")
    yield Free("delay", (COMMAND,), *BOUNDS["delay"])
    gains = list(targets.names("actuator"))
    for name in gains if 0 < len(gains) <= MOST_GAINS else [ALL]:
        yield Free("gain", (name,), *BOUNDS["gain"])
    if wheels := _wheels(model):
        yield Free("size", wheels, *BOUNDS["size"])
        if sides := _beside(model, wheels):
            yield Free("track", sides, *BOUNDS["track"])
        for name in targets.names("geom"):  # a caster tilts the robot, and takes weight
            geom = model.geom(name)
            if name not in wheels and geom.contype[0] and model.geom_bodyid[geom.id]:
                yield Free("size", (name,), *BOUNDS["size"])
    for kind in ("mass", "friction", "force", "damping", "armature", "friction_loss"):
        yield Free(kind, (ALL,), *_usual_bounds(kind, model))
    for name in ("forward_speed", "yaw_rate"):
        if name in signals:
            yield Free("scale", (name,), *BOUNDS["scale"])
            yield Free("bias", (name,), *BOUNDS["bias"])
    if {"position", "heading"} <= {*signals}:
        for axis in ("x", "y"):  # no floor is level
            yield Free("slope", (axis,), *BOUNDS["slope"])
        yield Free("bias", ("heading",), *BOUNDS["bias"])  # no marker or lidar is mounted straight


def _beside(model: mujoco.MjModel, wheels: Sequence[str]) -> tuple[str, ...]:
    """Return the bodies of wheels that sit to the side of their base."""
    bodies = [int(model.geom_bodyid[model.geom(name).id]) for name in wheels]
    return tuple(model.body(i).name for i in bodies if model.body_pos[i, 1] and model.body(i).name)


def _wheels(model: mujoco.MjModel) -> tuple[str, ...]:
    """Return the named geoms that touch the ground and turn on a driven joint without limits."""
    driven = {int(joint) for joint in model.actuator_trnid[:, 0]}
    free_turning = [
        int(model.jnt_bodyid[joint])
        for joint in driven
        if model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_HINGE and not model.jnt_limited[joint]
    ]
    return tuple(
        model.geom(geom).name
        for geom in range(model.ngeom)
        if int(model.geom_bodyid[geom]) in free_turning
        and model.geom_contype[geom]
        and model.geom(geom).name
    )


def _applies(free: Free, task: Task, signals: Mapping[str, int], pose: Pose) -> bool:
    try:
        _require(free, task, signals, pose)
    except ConfigError:
        return False
    return True


def _require(free: Free, task: Task, signals: Mapping[str, int], pose: Pose) -> None:
    """Raise ConfigError unless a robot of the task can have what is searched for."""
    require_fit(widest([free], pose), task.robot, task.contract, "parameters", signals)
