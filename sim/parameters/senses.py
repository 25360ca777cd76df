"""What is measured of true signals: delay, scale, bias, noise, and a pose that is reckoned.

Everything follows from the true signals and from named rows, so that a copy's readings do not
depend on other copies, and repeat after a restore.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.errors import ConfigError
from holdfast.signals import Array, Signals
from holdfast.sim.parameters.amounts import COMMAND, NOTHING, Amounts
from holdfast.sim.parameters.catalogue import Parameters
from holdfast.sim.parameters.targets import Targets

Which = NDArray[np.intp] | slice

POSE = ("position", "heading")
SPEEDS = ("forward_speed", "yaw_rate")
"""Signals without which no pose can be reckoned. A lateral speed that is not measured is none."""


class Senses:
    """Measures the signals of N copies.

    Args:
        parameters: what differs.
        targets: knows the signals that are measured, and their sizes.
        copies: N.
        tick_s: time between two calls of `notice`, s.
        ticks: calls of `notice` per control period, in which a signal's delay is counted.

    Attributes:
        rows: named arrays (N, ...), one row per copy, from which all else follows.
        remembers: whether `notice` has to be called, at a start and after each tick.

    Raises:
        ConfigError: a signal is not measured; or a pose should be reckoned without speeds.
    """

    def __init__(
        self, parameters: Parameters, targets: Targets, copies: int, tick_s: float, ticks: int = 1
    ) -> None:
        sizes, self._tick_s, self._ticks = targets.signals, tick_s, ticks
        self._parameters = parameters
        noise, bias, scale = parameters.noise, parameters.bias, parameters.scale
        for name in ("noise", "bias", "scale"):
            targets.wanted(getattr(parameters, name), name)
        self._parts = _parts((*noise.by_target, *bias.by_target, *scale.by_target), sizes)
        self._size = sum(sizes[name] for name, _ in self._parts)
        self._reckons = parameters.pose == "reckoned"
        self._require_pose(targets)
        self.rows: dict[str, NDArray[Any]] = {}
        if bias:
            self.rows["bias"] = np.zeros((copies, self._size))
        if scale:
            self.rows["scale"] = np.ones((copies, self._size))
        if noise or parameters.drift:
            self.rows["noise"] = np.zeros(copies, dtype=np.int64)
        if parameters.drift:
            self.rows["drift"] = np.zeros((copies, 3))
        if noise:
            self.rows["deviation"] = np.zeros((copies, self._size))
        if self._reckons:
            self.rows["pose"] = np.zeros((copies, 3))
        self._late = self._delays(targets, copies)
        self.remembers = self._reckons or bool(self._late)

    def _require_pose(self, targets: Targets) -> None:
        parameters, where = self._parameters, targets.where
        for name in targets.wanted(parameters.drift, "drift"):
            if name not in POSE or not self._reckons:
                raise ConfigError(
                    f"{where}: drift: should be of position and heading alone, with pose: "
                    f"reckoned; received '{name}' with pose: {parameters.pose}"
                )
        if self._reckons and (missing := [n for n in (*POSE, *SPEEDS) if n not in targets.signals]):
            raise ConfigError(
                f"{where}: pose: reckoned needs {', '.join((*POSE, *SPEEDS))}; what is measured "
                f"lacks {', '.join(missing)}"
            )

    def _delays(self, targets: Targets, copies: int) -> tuple[str, ...]:
        late = {n: a for n, a in self._parameters.delay.items() if n != COMMAND}
        for name, amount in late.items():
            targets.places("delay", "signal", name)
            depth = amount.most_whole * self._ticks + 1
            self.rows[f"late.{name}"] = np.zeros(copies, dtype=np.int64)
            self.rows[f"past.{name}"] = np.zeros((copies, depth, targets.signals[name]))
        return tuple(late)

    def draw(
        self, which: NDArray[np.intp], rng: np.random.Generator, parameters: Parameters
    ) -> None:
        """Draw new amounts for some copies."""
        rows, n = self.rows, len(which)
        if "bias" in rows:
            rows["bias"][which] = _Spread(parameters.bias, self._parts).draw(rng, n)
        if "noise" in rows:
            rows["noise"][which] = rng.integers(2**63, size=n)
        for name, part in self._parts:
            if amount := parameters.scale.by_target.get(name):
                rows["scale"][which, part] = amount.draw(rng, (n, 1))
            if amount := parameters.noise.by_target.get(name):
                rows["deviation"][which, part] = np.maximum(amount.draw(rng, (n, 1)), 0.0)
        for name, part in (("position", slice(0, 2)), ("heading", slice(2, 3))):
            if amount := parameters.drift.by_target.get(name):
                rows["drift"][which, part] = np.maximum(amount.draw(rng, (n, 1)), 0.0)
        for name in self._late:
            delay = parameters.delay.by_target.get(name, NOTHING)
            rows[f"late.{name}"][which] = delay.draw_whole(rng, n)

    def notice(self, signals: Signals, elapsed: NDArray[np.int64], which: Which) -> None:
        """Remember true signals; to be called once for each tick, and at an episode's start.

        Args:
            signals: of some copies.
            elapsed: their ticks since the episode's start (n,), 0 at the start.
            which: these copies.
        """
        rows, begins = self.rows, elapsed == 0
        if self._reckons:
            self._reckon(signals, elapsed, which, begins)
            signals = {**signals, **self._reckoned(which)}
        for name in self._late:
            past = rows[f"past.{name}"]
            depth = past.shape[1]
            at = np.arange(len(rows[f"late.{name}"]))[which]
            past[at, elapsed % depth] = signals[name]
            past[at[begins]] = signals[name][begins, None]

    def _reckon(
        self, signals: Signals, elapsed: NDArray[np.int64], which: Which, begins: NDArray[np.bool_]
    ) -> None:
        """Add the motion of one tick, as the robot measures its speeds without noise."""
        pose, dt = self.rows["pose"][which], self._tick_s
        forward, turn = (self._told(signals, name, which)[:, 0] for name in SPEEDS)
        lateral = np.zeros_like(forward)
        if "lateral_speed" in signals:
            lateral = self._told(signals, "lateral_speed", which)[:, 0]
        middle = pose[:, 2] + turn * dt / 2.0
        cos, sin = np.cos(middle), np.sin(middle)
        moved = np.stack(
            (forward * cos - lateral * sin, forward * sin + lateral * cos, turn), axis=-1
        )
        pose = pose + moved * dt
        if "drift" in self.rows:
            walk = np.sqrt(np.hypot(forward, lateral) * dt)[:, None]
            errors = gaussian(self.rows["noise"][which], -1 - elapsed, 3)
            pose += walk * errors * self.rows["drift"][which]
        at_start = np.concatenate([signals[name] for name in POSE], axis=1)
        self.rows["pose"][which] = np.where(begins[:, None], at_start, pose)

    def _reckoned(self, which: Which) -> Signals:
        pose = self.rows["pose"][which]
        heading = np.remainder(pose[:, 2:] + np.pi, 2.0 * np.pi) - np.pi
        return {"position": pose[:, :2], "heading": heading}

    def _told(self, signals: Signals, name: str, which: Which) -> Array:
        value = signals[name]
        part = dict(self._parts).get(name)
        if part is not None:
            value = value * self.rows["scale"][which, part] if "scale" in self.rows else value
            value = value + self.rows["bias"][which, part] if "bias" in self.rows else value
        return value

    def perceived(self, signals: Signals, elapsed: NDArray[np.int64], which: Which) -> Signals:
        """Return what is measured of the true signals of some copies.

        Args:
            elapsed: ticks of these copies. A reading depends on them alone, so that a repeated
                call returns the same reading.
        """
        rows, found = self.rows, dict(signals)
        if self._reckons:
            found |= self._reckoned(which)
        for name in self._late:
            past, late = rows[f"past.{name}"], rows[f"late.{name}"][which] * self._ticks
            at = np.arange(len(past))[which]
            found[name] = past[at, (elapsed - late) % past.shape[1]]
        if not self._parts:
            return found
        off = np.zeros((len(elapsed), self._size))
        if "bias" in rows:
            off += rows["bias"][which]
        if "deviation" in rows:
            off += rows["deviation"][which] * gaussian(rows["noise"][which], elapsed, self._size)
        for name, part in self._parts:
            scaled = found[name] * rows["scale"][which, part] if "scale" in rows else found[name]
            found[name] = scaled + off[:, part]
        return found


def _parts(names: tuple[str, ...], sizes: Mapping[str, int]) -> list[tuple[str, slice]]:
    """Return where each named signal's values are in a row of them all."""
    found, end = [], 0
    for name in dict.fromkeys(names):
        found.append((name, slice(end, end + sizes[name])))
        end += sizes[name]
    return found


class _Spread:
    """Draws the biases of all signals at once; each of a signal's values has its own."""

    def __init__(self, bias: Amounts, parts: list[tuple[str, slice]]) -> None:
        amounts = [
            bias.by_target.get(name, NOTHING)
            for name, part in parts
            for _ in range(part.stop - part.start)
        ]
        self._low = np.array([amount.low for amount in amounts])
        self._high = np.array([amount.high for amount in amounts])
        self._told = [(i, amount) for i, amount in enumerate(amounts) if amount.spread]

    def draw(self, rng: np.random.Generator, n: int) -> Array:
        found: Array = rng.uniform(self._low, self._high, (n, len(self._low)))
        for i, amount in self._told:
            found[:, i] = amount.draw(rng, (n,))
        return found


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def gaussian(key: NDArray[np.int64], step: NDArray[np.int64], count: int) -> Array:
    """Return standard normal numbers (N, count), a function of keys (N,) and steps (N,) alone.

    The bits are SplitMix64's (Steele, Lea and Flood 2014), made normal by Box and Muller's method
    (1958).
    """
    pairs = -(-count // 2)
    nth = step[:, None] * (2 * pairs) + np.arange(2 * pairs) + 1
    bits = key.astype(np.uint64)[:, None] + nth.astype(np.uint64) * _GOLDEN
    for shift, factor in _MIX:
        bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(factor)
    bits ^= bits >> np.uint64(31)
    uniform = ((bits >> np.uint64(11)) + 0.5) * 2.0**-53
    radius = np.sqrt(-2.0 * np.log(uniform[:, :pairs]))
    angle = 2.0 * np.pi * uniform[:, pairs:]
    return np.concatenate((radius * np.cos(angle), radius * np.sin(angle)), axis=1)[:, :count]
