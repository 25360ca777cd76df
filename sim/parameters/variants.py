"""The models of a batch's copies: one, and what each copy has otherwise.

A model may hold meshes of many megabytes, which no copy changes. So a copy is the arrays that
differ, and becomes a model of MuJoCo's when it is simulated.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cached_property
from operator import attrgetter

import mujoco
import numpy as np

from holdfast.signals import Array

GRAVITY, VOLUMES = "opt.gravity", "bvh_aabb"


def _part(model: mujoco.MjModel, name: str) -> Array:
    """Return a model's array; of the bounding volumes those of bodies, which come first: those of
    meshes are as large as the meshes, and alike in all copies."""
    value: Array = attrgetter(name)(model)
    return value[: model.body_bvhnum.sum()] if name == VOLUMES else value


def _names(model: mujoco.MjModel) -> Iterator[str]:
    """Yield the names of a model's arrays."""
    for name in dir(model):
        if not name.startswith("_") and isinstance(getattr(model, name), np.ndarray):
            yield name
    yield GRAVITY


class Variants:
    """A nominal model and, for each copy, the arrays in which its own model differs.

    Args:
        nominal: the model of all copies, unless they are given values of their own.
        copies: N.
        example: a model with all that may differ set to something else; None where nothing may.

    Attributes:
        fields: by the name of a model's array, what each copy has in its place (N, ...).
    """

    def __init__(
        self, nominal: mujoco.MjModel, copies: int, example: mujoco.MjModel | None = None
    ) -> None:
        self.nominal, self.copies = nominal, copies
        self.fields: dict[str, Array] = {}
        if example is None:
            return
        for name in _names(nominal):
            value = _part(nominal, name)
            if not np.array_equal(value, _part(example, name)):
                self.fields[name] = np.repeat(value[None], copies, axis=0)

    def take(self, i: int, model: mujoco.MjModel) -> None:
        """Let a copy be as this model is."""
        for name, values in self.fields.items():
            values[i] = _part(model, name)

    def put(self, i: int, model: mujoco.MjModel) -> None:
        """Let a model be as this copy is."""
        for name, values in self.fields.items():
            _part(model, name)[:] = values[i]

    def model(self, i: int) -> mujoco.MjModel:
        """Return a copy's model: the nominal one where none differs, else one that becomes the
        next copy's when that is asked for."""
        if not self.fields:
            return self.nominal
        self.put(i, self._scratch)
        return self._scratch

    @cached_property
    def _scratch(self) -> mujoco.MjModel:
        return copy.copy(self.nominal)
