"""The observation is built from signals here, for the simulator and for the robot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from holdfast.contract import Contract, ObservationChannel
from holdfast.signals import TRANSFORMS, Array, Signals


class Observer:
    """Builds the observation from signals, in the order of a contract's channels.

    Args:
        contract: lists the channels with their signals.

    Attributes:
        size: n, number of values of an observation.
        depth: number of periods whose signals are needed.
        remembered: names of the signals whose earlier values are needed.
    """

    def __init__(self, contract: Contract) -> None:
        self.size = contract.observation_size
        self.depth = max(channel.history for channel in contract.observation)
        self.remembered = frozenset(c.signal for c in contract.observation if c.history > 1)
        ranges = contract.sensor_ranges
        self._channels = tuple(
            _Channel(channel, ranges.get(channel.signal)) for channel in contract.observation
        )

    def __call__(self, signals: Signals, earlier: Sequence[Signals] = ()) -> Array:
        """Return the observation, shape (..., n), of signals shaped (..., size) each.

        Args:
            earlier: the remembered signals of the periods before in the same episode, the newest
                first.
        """
        parts: list[Array] = []
        for channel in self._channels:
            parts += channel(signals, earlier)
        return np.concatenate(parts, axis=-1)


@dataclass(frozen=True)
class _Channel:
    """A channel, and the range of its signal's sensor."""

    channel: ObservationChannel
    sensor: tuple[float, float] | None

    def __call__(self, signals: Signals, earlier: Sequence[Signals]) -> list[Array]:
        """Return its values in each period of its history, the oldest first."""
        channel = self.channel
        now = self._values(signals[channel.signal])
        past = [self._values(seen[channel.signal]) for seen in earlier[: channel.history - 1]]
        # Before the first period of an episode everything was as it is in that one.
        first = past[-1] if past else now
        return [first] * (channel.history - 1 - len(past)) + past[::-1] + [now]

    def _values(self, signal: Array) -> Array:
        channel = self.channel
        known = signal if self.sensor is None else np.clip(signal, *self.sensor)
        values: Array = TRANSFORMS[channel.transform][0](known)
        if (channel.scale, channel.offset) != (1.0, 0.0):
            values = channel.scale * values + channel.offset
        return values if channel.clip is None else np.clip(values, -channel.clip, channel.clip)
