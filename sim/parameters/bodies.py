"""Parameters of a model's bodies, geoms, joints and actuators, in each copy's own model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from holdfast.errors import ConfigError
from holdfast.signals import Array
from holdfast.sim.parameters.amounts import ALL, EACH, Amounts, Kind
from holdfast.sim.parameters.catalogue import Parameters
from holdfast.sim.parameters.lift import FreeBodies
from holdfast.sim.parameters.targets import Places, Targets, draw
from holdfast.sim.parameters.variants import Variants
from holdfast.sim.robots.robot import touches_anything


def _set_mass(own: mujoco.MjModel, nominal: mujoco.MjModel, factor: Array) -> None:
    own.body_mass[:] = factor * nominal.body_mass
    own.body_inertia[:] = factor[:, None] * nominal.body_inertia


def _set_friction(own: mujoco.MjModel, nominal: mujoco.MjModel, factor: Array) -> None:
    own.geom_friction[:] = factor[:, None] * nominal.geom_friction
    one, other = factor[nominal.pair_geom1], factor[nominal.pair_geom2]
    # A pair takes the factor of the geom that is changed; if both are, their geometric mean.
    joint = np.where(one == other, one, np.where(one == 1.0, other, one))
    both = (one != 1.0) & (other != 1.0) & (one != other)
    pair = np.where(both, np.sqrt(one * other), joint)
    own.pair_friction[:] = pair[:, None] * nominal.pair_friction


def _set_size(own: mujoco.MjModel, nominal: mujoco.MjModel, factor: Array) -> None:
    own.geom_size[:] = factor[:, None] * nominal.geom_size
    own.geom_rbound[:] = factor * nominal.geom_rbound
    own.geom_aabb[:] = factor[:, None] * nominal.geom_aabb


def _set_track(own: mujoco.MjModel, nominal: mujoco.MjModel, factor: Array) -> None:
    own.body_pos[:, 1] = factor * nominal.body_pos[:, 1]


def _set_slope(own: mujoco.MjModel, nominal: mujoco.MjModel, falls: Array) -> None:
    x, y = np.sin(falls)
    down = np.array([x, y, -np.sqrt(max(1.0 - x * x - y * y, 0.0))])
    own.opt.gravity[:] = np.linalg.norm(nominal.opt.gravity) * down


def _set_damping(own: mujoco.MjModel, nominal: mujoco.MjModel, factor: Array) -> None:
    own.dof_damping[:] = nominal.dof_damping * _of_dofs(nominal, factor)


def _set_armature(own: mujoco.MjModel, nominal: mujoco.MjModel, factor: Array) -> None:
    own.dof_armature[:] = nominal.dof_armature * _of_dofs(nominal, factor)


def _set_friction_loss(own: mujoco.MjModel, nominal: mujoco.MjModel, added: Array) -> None:
    own.dof_frictionloss[:] = nominal.dof_frictionloss + _of_dofs(nominal, added)


def _set_force(own: mujoco.MjModel, nominal: mujoco.MjModel, factor: Array) -> None:
    own.actuator_forcerange[:] = factor[:, None] * nominal.actuator_forcerange


def _of_dofs(model: mujoco.MjModel, of_joints: Array) -> Array:
    found: Array = of_joints[model.dof_jntid]
    return found


_SET: Mapping[str, Callable[[mujoco.MjModel, mujoco.MjModel, Array], None]] = {
    "mass": _set_mass,
    "friction": _set_friction,
    "size": _set_size,
    "track": _set_track,
    "slope": _set_slope,
    "damping": _set_damping,
    "armature": _set_armature,
    "friction_loss": _set_friction_loss,
    "force": _set_force,
}

_DERIVED = ("mass", "track", "armature")
"""Kinds after which MuJoCo has to derive other fields anew."""

_ROUND = ("SPHERE", "CAPSULE", "ELLIPSOID", "CYLINDER", "BOX")
_SIZED = {int(getattr(mujoco.mjtGeom, f"mjGEOM_{name}")) for name in _ROUND}
"""Types of geoms whose size is in the model's numbers."""


class Bodies:
    """Models of N copies, each with amounts of its own.

    Args:
        parameters: what differs.
        targets: finds the model's parts.
        copies: N.

    Attributes:
        variants: models of the copies.
        rows: by kind of parameter, the copies' amounts (N, count); and `lift`, how much higher each
            free body of a copy starts (N, free bodies), m, because of the size of its geoms.

    Raises:
        ConfigError: the model lacks what a parameter names, or a parameter would have no effect.
    """

    def __init__(self, parameters: Parameters, targets: Targets, copies: int) -> None:
        self._targets, self._nominal = targets, targets.model
        self._kinds = {name: kind for name, kind, _ in parameters.given() if name in _SET}
        for name, kind in self._kinds.items():
            self._require_effect(name, kind, getattr(parameters, name))
        self.rows: dict[str, NDArray[Any]] = {
            name: np.full((copies, targets.count(kind.of)), kind.nominal)
            for name, kind in self._kinds.items()
        }
        self._free: FreeBodies | None = None
        if "size" in self._kinds:
            # MuJoCo would look for contacts in bounding volumes of the nominal sizes.
            self._nominal.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_MIDPHASE)
            self._free = FreeBodies(self._nominal)
            self.rows["lift"] = np.zeros((copies, len(self._free.heights)))
        self.variants = Variants(self._nominal, copies)
        if self._kinds:
            self._own, self._scratch = copy.copy(self._nominal), mujoco.MjData(self._nominal)
            self._change({name: 2.0 + 0.0 * self.rows[name][0] for name in self._kinds})
            self.variants = Variants(self._nominal, copies, self._own)

    def draw(
        self, which: NDArray[np.intp], rng: np.random.Generator, parameters: Parameters
    ) -> None:
        """Draw new amounts for some copies, and set their models to them."""
        for name, kind in self._kinds.items():
            amounts: Amounts = getattr(parameters, name)
            self.rows[name][which] = draw(amounts, kind, name, self._targets, len(which), rng)
        self.build(which)

    def build(self, which: NDArray[np.intp]) -> None:
        """Set the models of some copies to the amounts in their rows."""
        if not self._kinds:
            return
        for i in which:
            self._change({name: self.rows[name][i] for name in self._kinds})
            self.variants.take(i, self._own)
            if self._free is not None:
                self.rows["lift"][i] = self._free.rise(self._own)

    def place(self, which: NDArray[np.intp], qpos: Array) -> Array:
        """Return start coordinates (n, nq) of some copies, as much higher as their geoms ask."""
        if self._free is None or not len(self._free.heights):
            return qpos
        raised: Array = qpos.copy()
        raised[:, self._free.heights] += self.rows["lift"][which]
        return raised

    def _change(self, amounts: Mapping[str, Array]) -> None:
        """Make one model the nominal one with other amounts."""
        for name, amount in amounts.items():
            _SET[name](self._own, self._nominal, amount)
        if any(name in _DERIVED for name in amounts):
            mujoco.mj_setConst(self._own, self._scratch)

    def _require_effect(self, name: str, kind: Kind, amounts: Amounts) -> None:
        for target, amount in amounts.items():
            places = self._targets.places(name, kind.of, target)
            said = self._without_effect(name, target, places, amount.low)
            if said:
                raise ConfigError(f"{self._targets.where}: {name}: {said}")

    def _without_effect(self, name: str, target: str, places: Places, least: float) -> str:
        """Return why an amount would change nothing, or something else; "" if it is sound."""
        model, named = self._nominal, target not in (ALL, EACH)
        nominal = {
            "mass": model.body_mass,
            "track": model.body_pos[:, 1],
            "damping": _first_dofs(model, model.dof_damping),
            "armature": _first_dofs(model, model.dof_armature),
            "force": np.where(model.actuator_forcelimited, model.actuator_forcerange[:, 1], 0.0),
        }.get(name)
        if nominal is not None and not nominal[places].any():
            of = f"'{target}' has" if named else "the robot has"
            return f"{of} none in its model, so that a factor changes nothing"
        if name == "friction" and not touches_anything(model):
            return "the robot touches nothing; leave it out"
        if name == "friction" and named:
            return _hidden(model, int(places[0]), least)
        if name == "size" and not named:
            return "should name geoms: a change of all would be of the floor too"
        if name == "size" and int(model.geom_type[places[0]]) not in _SIZED:
            return f"'{target}' is a plane, mesh or height field, which has no size of its own"
        return ""


def _first_dofs(model: mujoco.MjModel, of_dofs: Array) -> Array:
    found: Array = of_dofs[model.jnt_dofadr] if model.njnt else np.zeros(0)
    return found


def _hidden(model: mujoco.MjModel, geom: int, factor: float) -> str:
    """Return which geom's larger friction hides the changed friction of a geom, or ""."""
    low = factor * model.geom_friction[geom, 0]
    meets = (model.geom_contype[geom] & model.geom_conaffinity) | (
        model.geom_conaffinity[geom] & model.geom_contype
    )
    apart = model.geom_bodyid != model.geom_bodyid[geom]
    higher = model.geom_priority > model.geom_priority[geom]
    same = model.geom_priority == model.geom_priority[geom]
    over = (meets != 0) & apart & (higher | (same & (model.geom_friction[:, 0] > low)))
    if not over.any():
        return ""
    other = int(np.flatnonzero(over)[0])
    return (
        f"'{model.geom(geom).name}' with {low:g} would slip no more than now on "
        f"'{model.geom(other).name or other}', because a contact takes the larger friction, there "
        f"{model.geom_friction[other, 0]:g}; name the other geom too"
    )
