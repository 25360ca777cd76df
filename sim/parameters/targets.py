"""What a parameter may name: a model's bodies, geoms, joints and actuators, signals, and axes."""

from __future__ import annotations

from collections.abc import Mapping

import mujoco
import numpy as np
from numpy.typing import NDArray

from holdfast.errors import ConfigError
from holdfast.plain import meant
from holdfast.signals import Array
from holdfast.sim.parameters.amounts import ALL, EACH, Amounts, Kind

Places = NDArray[np.intp]

_MOVES_ONE_WAY = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
AXES = ("x", "y")
_COUNTS = {"body": "nbody", "geom": "ngeom", "joint": "njnt", "actuator": "nu"}


class Targets:
    """Finds the places of a model's parts by name.

    Args:
        model: the nominal model.
        signals: signals that are measured, with their sizes.
        where: begins each refusal.
    """

    def __init__(self, model: mujoco.MjModel, signals: Mapping[str, int], where: str) -> None:
        self.model, self.signals, self.where = model, signals, where

    def count(self, of: str) -> int:
        """Return how many parts of a kind the model has."""
        if of == "axis":
            return len(AXES)
        return int(getattr(self.model, _COUNTS[of]))

    def names(self, of: str) -> dict[str, int]:
        """Return what may be named, by name: joints of one axis, and no world."""
        if of == "signal":
            return {name: i for i, name in enumerate(self.signals)}
        if of == "axis":
            return {name: i for i, name in enumerate(AXES)}
        access = getattr(self.model, of)
        named = {access(i).name: i for i in range(self.count(of))}
        return {name: i for name, i in named.items() if name and self._may_change(of, i)}

    def places(self, name: str, of: str, target: str) -> Places:
        """Return the indices of the parts that an amount is for.

        Args:
            name: the kind of parameter, for the refusal.

        Raises:
            ConfigError: there is no such part.
        """
        if target in (ALL, EACH):
            return np.array([i for i in range(self.count(of)) if self._may_change(of, i)], np.intp)
        known = self.names(of)
        if target not in known:
            guess = meant(target, known) or f"; it has {', '.join(known) or 'none with a name'}"
            raise ConfigError(f"{self.where}: {name}: there is no {of} '{target}'{guess}")
        return np.array([known[target]], np.intp)

    def _may_change(self, of: str, i: int) -> bool:
        if of == "joint":
            return int(self.model.jnt_type[i]) in _MOVES_ONE_WAY
        return of != "body" or i > 0

    def wanted(self, amounts: Amounts, name: str) -> list[str]:
        """Return the signals that amounts are for.

        Raises:
            ConfigError: a signal is not measured.
        """
        for target in amounts.by_target:
            self.places(name, "signal", target)
        return list(amounts.by_target)


def draw(
    amounts: Amounts, kind: Kind, name: str, targets: Targets, n: int, rng: np.random.Generator
) -> Array:
    """Return amounts (n, count) for all parts of a kind, drawn for n copies."""
    found = np.full((n, targets.count(kind.of)), kind.nominal)
    for target, amount in amounts.items():
        places = targets.places(name, kind.of, target)
        drawn = amount.draw(rng, (n, len(places) if target == EACH else 1))
        if not kind.nominal:
            drawn = np.maximum(drawn, kind.allowed.low)  # of a mean near 0 with its spread
        found[:, places] = kind.joined(found[:, places], drawn)
    return found
