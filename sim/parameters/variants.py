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

GRAVITY = "opt.gravity"


def _arrays(model: mujoco.MjModel) -> Iterator[tuple[str, Array]]:
    """Yield a model's arrays with their names."""
    for name in dir(model):
        value = None if name.startswith("_") else getattr(model, name)
        if isinstance(value, np.ndarray):
            yield name, value
    yield GRAVITY, model.opt.gravity


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
        for name, value in _arrays(nominal):
            if not np.array_equal(value, attrgetter(name)(example)):
                self.fields[name] = np.repeat(value[None], copies, axis=0)

    def take(self, i: int, model: mujoco.MjModel) -> None:
        """Let a copy be as this model is."""
        for name, values in self.fields.items():
            values[i] = attrgetter(name)(model)

    def put(self, i: int, model: mujoco.MjModel) -> None:
        """Let a model be as this copy is."""
        for name, values in self.fields.items():
            attrgetter(name)(model)[:] = values[i]

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
