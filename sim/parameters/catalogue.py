"""The catalogue of model parameters, and the file that holds them.

A value is a gap (a twin), a range is a randomisation (training), a mean with a spread is what was
identified from logs. One file format for all three:

    mass: 1.3                                   # all bodies
    friction: {left_tyre: [0.4, 0.6]}           # by name
    gain: {all: [0.9, 1.1], left_motor: 0.95}   # amounts for one target are multiplied
    delay: {mean: 3, spread: 0.5}               # control periods from a command to the actuators
    noise: {position: 0.01}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from holdfast import yaml_file
from holdfast.errors import ConfigError
from holdfast.plain import meant, shown
from holdfast.schema import MismatchError, Range, to_plain
from holdfast.sim.parameters.amounts import COMMAND, Amounts, Kind, value_of

_FACTOR = Range(0.0, 100.0, above=True)

KINDS: Mapping[str, Kind] = {
    "mass": Kind("body", _FACTOR, 1.0),
    "friction": Kind("geom", _FACTOR, 1.0),
    "size": Kind("geom", Range(0.2, 5.0), 1.0),
    "track": Kind("body", Range(0.2, 5.0), 1.0, alone=""),
    "slope": Kind("axis", Range(-0.5, 0.5), 0.0, alone=""),
    "damping": Kind("joint", Range(0.0, 100.0), 1.0),
    "armature": Kind("joint", Range(0.0, 100.0), 1.0),
    "friction_loss": Kind("joint", Range(0.0, 1e4), 0.0),
    "force": Kind("actuator", _FACTOR, 1.0),
    "gain": Kind("actuator", Range(0.0, 100.0), 1.0),
    "delay": Kind("signal", Range(0, 100), 0.0, whole=True, alone=COMMAND),
    "scale": Kind("signal", _FACTOR, 1.0, alone=""),
    "bias": Kind("signal", Range(-1e6, 1e6), 0.0, alone=""),
    "noise": Kind("signal", Range(0.0, 1e6), 0.0, alone=""),
    "drift": Kind("signal", Range(0.0, 1e3), 0.0, alone=""),
}
"""Every kind of parameter, in the order in which they are drawn."""

Pose = Literal["known", "reckoned"]
_NONE = Amounts()

_OLD = {
    "mass_scale": "mass: FACTOR",
    "friction_scale": "friction: {GEOM: FACTOR}",
    "wheel_radius_scale": "size: {GEOM: FACTOR}, for each wheel",
    "delay_steps": "delay: PERIODS",
    "left_wheel_gain": "gain: {ACTUATOR: FACTOR}",
    "gain_each": "gain: {each: [LOW, HIGH]}",
    "odometry_noise": "noise and drift: {SIGNAL: STANDARD DEVIATION}, with pose: reckoned",
    "localisation": "noise: {position: METRES, heading: RADIANS}",
}
"""Words of the first format, and how each is written now."""


@dataclass(frozen=True)
class Parameters:
    """Differences from the nominal robot; the default is none.

    Attributes:
        mass: factor on the mass and the inertia of bodies.
        friction: factor on the friction of geoms. A contact takes the larger friction of its two.
        size: factor on the size of geoms, as on a wheel's radius; masses stay as they are.
        track: factor on how far bodies sit to the side of the body that carries them, as wheels do
            from a base: on its track.
        slope: angles by which the floor falls along x and along y of the odom frame, rad. Positions
            and the tilt are measured from the floor.
        damping, armature: factor on the damping and on the rotor's inertia of joints.
        friction_loss: added to the friction of joints, N m or N.
        force: factor on the largest force of actuators.
        gain: factor on the command of actuators.
        delay: whole control periods: from a command to the actuators (`command`), or of a signal.
        scale: factor on what is measured of a signal.
        bias: added to what is measured of a signal: a value is the same for each of its numbers,
            and each number draws its own from a range.
        noise: standard deviation of each number in each reading of a signal.
        drift: standard deviation that the pose gains per square root of a metre of way, where it
            is reckoned: `position` in m, `heading` in rad.
        pose: "known": position and heading come from outside, as from motion capture. "reckoned":
            the robot adds up its own speeds, scaled and biased as it measures them. What slips is
            then not noticed.
    """

    mass: Amounts = _NONE
    friction: Amounts = _NONE
    size: Amounts = _NONE
    track: Amounts = _NONE
    slope: Amounts = _NONE
    damping: Amounts = _NONE
    armature: Amounts = _NONE
    friction_loss: Amounts = _NONE
    force: Amounts = _NONE
    gain: Amounts = _NONE
    delay: Amounts = _NONE
    scale: Amounts = _NONE
    bias: Amounts = _NONE
    noise: Amounts = _NONE
    drift: Amounts = _NONE
    pose: Pose = "known"

    def given(self) -> Iterator[tuple[str, Kind, Amounts]]:
        """Yield the kinds of which there is an amount, with their amounts."""
        for name, kind in KINDS.items():
            if amounts := getattr(self, name):
                yield name, kind, amounts

    def values(self, where: str) -> Parameters:
        """Return the most likely robot: of a mean with a spread, the mean.

        Args:
            where: names the parameters in an error.

        Raises:
            ConfigError: an amount is a range, which has no most likely value.
        """
        found: dict[str, Any] = {
            name: value_of(kind, amounts, f"{where}: {name}")
            for name, kind, amounts in self.given()
        }
        return dataclasses.replace(self, **found)

    def wider(self, factor: float) -> Parameters:
        """Return the parameters with their spreads multiplied, where such amounts are possible."""
        found: dict[str, Any] = {
            name: amounts.wider(factor, kind) for name, kind, amounts in self.given()
        }
        return dataclasses.replace(self, **found)

    def completed(self, prior: Parameters) -> Parameters:
        """Return these parameters, with those of `prior` where these are silent: on a kind of the
        body's or the motors', or on a signal of the others. A pose that either reckons is
        reckoned, because what a reckoned pose hides costs more."""
        reckoned = "reckoned" in (self.pose, prior.pose)
        found: dict[str, Any] = {"pose": "reckoned" if reckoned else "known"}
        for name, kind, amounts in prior.given():
            own: Amounts = getattr(self, name)
            if kind.of == "signal":
                found[name] = Amounts(MappingProxyType({**amounts.by_target, **own.by_target}))
            elif not own:
                found[name] = amounts
        return dataclasses.replace(self, **found)

    def drawn(self, rng: np.random.Generator) -> Parameters:
        """Return the parameters of one robot, drawn from these."""
        found: dict[str, Any] = {
            name: amounts.drawn(rng, kind) for name, kind, amounts in self.given()
        }
        return dataclasses.replace(self, **found)

    def physical(self) -> Parameters:
        """Return the parameters of body and motors, without those of delays and sensors."""
        rest = dict.fromkeys(("delay", "scale", "bias", "noise", "drift"), _NONE)
        return dataclasses.replace(self, pose="known", **rest)

    @property
    def varies(self) -> bool:
        """Whether two robots that are drawn from these may differ."""
        amounts = (amount for _, _, each in self.given() for _, amount in each.items())
        return any(amount.low < amount.high for amount in amounts)

    def to_plain(self) -> dict[str, Any]:
        """Return what differs, as a file has it."""
        found: dict[str, Any] = {name: to_plain(amounts) for name, _, amounts in self.given()}
        return found | ({"pose": self.pose} if self.pose != "known" else {})

    @staticmethod
    def from_plain(data: Any) -> Parameters:
        """Read parameters.

        Raises:
            MismatchError: a key is unknown, or an amount impossible.
        """
        if not isinstance(data, Mapping):
            raise MismatchError((), f"should be a mapping, received {shown(repr(data))}")
        found: dict[str, Any] = {}
        for name, item in data.items():
            if name == "pose":
                if item not in ("known", "reckoned"):
                    said = f"should be known or reckoned, received {shown(repr(item))}"
                    raise MismatchError((name,), said)
                found[name] = item
                continue
            if name not in KINDS:
                raise MismatchError((), _unknown(name), (name,))
            try:
                found[name] = Amounts.of(item, KINDS[name])
            except MismatchError as wrong:
                raise wrong.within((name,)) from None
        return Parameters(**found)


def _unknown(name: Any) -> str:
    if name in _OLD:
        page = "docs/reference/PARAMETERS.md"
        return f"{name} is of an older format; it is now written {_OLD[name]} ({page})"
    guess = meant(str(name), KINDS) or f"; known are {', '.join((*KINDS, 'pose'))}"
    return f"unknown {shown(str(name))}{guess}"


def load(path: Path) -> Parameters:
    """Read parameters from a YAML file.

    Raises:
        ConfigError: there is no such file, it is no YAML, or a value is unknown or impossible.
    """
    return yaml_file.load(path, Parameters)


def load_profile(path: Path) -> Parameters:
    """Read what `holdfast identify` found: values, and means with their spreads.

    Raises:
        ConfigError: as for `load`; or the file holds a range, or no parameter.
    """
    found = load(path)
    found.values(str(path))
    if not any(found.given()):
        raise ConfigError(f"{path}: should hold a parameter, as `holdfast identify` writes them")
    return found


def load_gap(path: Path) -> Parameters:
    """Read one robot's differences from a YAML file; of a mean with a spread, the mean.

    Raises:
        ConfigError: as `load`, or an amount is a range.
    """
    return load(path).values(str(path))
