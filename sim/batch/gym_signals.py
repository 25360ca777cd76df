"""The signals in an environment's observation, found by a contract's channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from holdfast.contract import Contract, ObservationChannel
from holdfast.errors import TrainingError
from holdfast.signals import OWN_SIGNALS, TRANSFORMS, Array

TOLERANCE = 1e-4
"""Largest difference of an observed value from the one that its signal gives, relative beyond 1.
An environment may compute in float32, which makes 1e-7 of it."""


def _identity(values: Array) -> Array:
    return values


def _angle(values: Array) -> Array:
    cos, sin = np.split(values, 2, axis=-1)
    return np.arctan2(sin, cos)


INVERSES: Mapping[str, Callable[[Array], Array]] = {"identity": _identity, "cos_sin": _angle}
"""By transform: the signal of which the transform makes some values."""


class SignalReader:
    """Reads the signals out of observations that a contract's channels describe, in their order.

    What simulator and monitor compute themselves is no part of the environment's observation.

    Args:
        where: names the environment in errors.
        contract: lists the channels.

    Attributes:
        size: n, number of values that the channels describe.
    """

    def __init__(self, where: str, contract: Contract) -> None:
        self._where = where
        self._channels = [c for c in contract.observation if c.signal not in OWN_SIGNALS]
        self.size = sum(channel.size for channel in self._channels)

    def __call__(self, observation: Array) -> dict[str, Array]:
        """Return the signals of observations (..., n).

        Raises:
            TrainingError: a channel's values are not what its signal gives.
        """
        signals: dict[str, Array] = {}
        start = 0
        for channel in self._channels:
            values = observation[..., start : start + channel.size]
            start += channel.size
            raw = (values - channel.offset) / channel.scale
            signal = signals.setdefault(channel.signal, INVERSES[channel.transform](raw))
            made = TRANSFORMS[channel.transform][0](signal)
            off = np.abs(made - raw) > TOLERANCE * np.maximum(1.0, np.abs(raw))
            if off.any():
                at = tuple(np.argwhere(off)[0])
                raise TrainingError(
                    f"{self._where}: observation channel '{channel.name}': its value {at[-1]} "
                    f"should be {made[at]:g}, as signal '{channel.signal}' says, received "
                    f"{raw[at]:g}; does describe name the channels in the observation's order?"
                )
        return signals


def require_readable(channel: ObservationChannel) -> None:
    """Raise TrainingError unless a channel's signal can be read out of its values."""
    said = f"observation channel '{channel.name}'"
    if channel.signal in OWN_SIGNALS:
        raise TrainingError(f"{said}: should be of a measured signal, received '{channel.signal}'")
    if channel.history != 1 or channel.clip is not None:
        raise TrainingError(
            f"{said}: should have no history and no clip, because the signal is read out of it"
        )
