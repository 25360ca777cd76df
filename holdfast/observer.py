"""The observation is built from signals here, for the simulator and for the robot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from holdfast.contract import Contract
from holdfast.signals import TRANSFORMS, Array, Signals


class Observer:
    """Builds the observation from signals, in the order of a contract's channels.

    Args:
        contract: lists the channels with their signals.
    """

    def __init__(self, contract: Contract) -> None:
        self.size = contract.observation_size
        self._parts = tuple(
            (channel.signal, TRANSFORMS[channel.transform][0]) for channel in contract.observation
        )

    def __call__(self, signals: Signals) -> Array:
        """Return the observation, shape (..., n), of signals shaped (..., size) each."""
        parts: Sequence[Array] = [f(signals[name]) for name, f in self._parts]
        return np.concatenate(parts, axis=-1)
