"""Lies that a robot can tell: fresh, well-formed and false, from some time on.

The kinds are those of PX4's failure injection. Each works on any signal, on the stamps of
readings, on the clock of the run and on commands alike: a lie is a function of the time since it
began and of the honest value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from holdfast.signals import Array

PERIOD_S = 0.05
SLOW_S, DELAY_S = 1.0, 0.5
BURST_S, PAUSE_S = (0.2, 1.0), (0.05, 0.2)
"""Seconds for which an intermittent signal is stuck, and for which it is right in between."""


@dataclass(frozen=True)
class Quantity:
    """What a lie is told about.

    Attributes:
        adds_up: it is the integral of another quantity, so that a wrong one goes wrong from where
            it was right last: a mirrored position runs backwards from there.
        span: garbage is anything within plus and minus this.
        rate: by how much "drifts at 1" goes wrong in a second.
        jump: by how much it jumps.
        shows: a lie that is smaller than this is not one yet.
        harms: a lie that stays smaller than this is what the robot's margins are for.
        turns: it is an angle, in rad.
    """

    adds_up: bool
    span: float
    rate: float
    jump: float
    shows: float
    harms: float
    turns: bool = False


QUANTITIES = {
    "position": Quantity(True, 3.0, 1.0, 2.0, 0.05, 0.3),
    "heading": Quantity(True, math.pi, 1.0, 1.5, 0.05, 0.3, turns=True),
    "forward_speed": Quantity(False, 1.0, 1.0, 0.8, 0.05, 0.2),
    "yaw_rate": Quantity(False, 2.0, 1.0, 1.6, 0.05, 0.3),
    "tilt": Quantity(False, 0.5, 0.1, 0.4, 0.02, 0.1),
    "stamps": Quantity(True, 5.0, 1.0, 2.0, 0.03, 0.25),
    "clock": Quantity(True, 5.0, 1.0, 2.0, 0.03, 0.25),
    "command": Quantity(False, 1.0, 1.0, 0.8, 0.05, 0.2),
}
NONE, ABSENT = "none", "absent"
"""The kind that is no fault, and the one in which nothing comes: no signal, message or command.
All others are in `KINDS`."""

Lie = Callable[[float, Array], Array]
"""Takes the time since the lie began (below 0: not yet), s, and the honest value."""


def tell(kind: str, quantity: Quantity, rng: np.random.Generator) -> Lie:
    """Return a lie of a kind; it has to be asked in every period, also before it begins."""
    make = KINDS[kind](quantity, rng)
    first: list[Array] = []

    def lie(since_s: float, value: Array) -> Array:
        if since_s < 0.0:
            make(since_s, value, value)
            return value
        first.append(value)
        told = make(since_s, value, first[0] if quantity.adds_up else np.zeros_like(value))
        if quantity.turns:
            told = turned(told)
        return told

    return lie


def turned(angles: Array) -> Array:
    """Return angles within plus and minus pi, rad; what is not finite stays as it is."""
    return np.array([math.remainder(a, math.tau) if math.isfinite(a) else a for a in angles])


Maker = Callable[[float, Array, Array], Array]
"""Takes the time since the lie began, the honest value, and the value that errors grow from."""


def _scaled(factor: float) -> Callable[[Quantity, np.random.Generator], Maker]:
    return lambda quantity, rng: lambda since_s, value, base: base + factor * (value - base)


def _drifting(rate: float) -> Callable[[Quantity, np.random.Generator], Maker]:
    def make(quantity: Quantity, rng: np.random.Generator) -> Maker:
        turn = rng.uniform(0.0, math.tau)
        speed = rate * quantity.rate
        return lambda since_s, value, base: value + speed * since_s * _direction(turn, value)

    return make


def _direction(turn: float, value: Array) -> Array:
    """Return a unit vector; of one value, plus or minus 1."""
    both = np.array([math.cos(turn), math.sin(turn)])
    return both if value.size == 2 else np.sign(both[:1])


def _jumping(quantity: Quantity, rng: np.random.Generator) -> Maker:
    turn = rng.uniform(0.0, math.tau)
    return lambda since_s, value, base: value + quantity.jump * _direction(turn, value)


def _garbage(quantity: Quantity, rng: np.random.Generator) -> Maker:
    return lambda since_s, value, base: base + rng.uniform(-1.0, 1.0, value.shape) * quantity.span


def _held(times: Callable[[np.random.Generator], tuple[float, float]]) -> Callable[..., Maker]:
    """Return a kind that holds its value for a while, then is right for a while."""

    def make(quantity: Quantity, rng: np.random.Generator) -> Maker:
        held: list[Array] = []
        until = [0.0, 0.0]  # it is held, then right

        def maker(since_s: float, value: Array, base: Array) -> Array:
            if since_s < 0.0:
                return value
            if not held or since_s >= until[1]:
                hold_s, right_s = times(rng)
                until[:] = since_s + hold_s, since_s + hold_s + right_s
                held[:] = [value]
            return held[0] if since_s < until[0] else value

        return maker

    return make


def _delayed(quantity: Quantity, rng: np.random.Generator) -> Maker:
    past: list[tuple[float, Array]] = []

    def maker(since_s: float, value: Array, base: Array) -> Array:
        past.append((since_s, value))
        while len(past) > 1 and past[1][0] <= since_s - DELAY_S + 1e-9:
            past.pop(0)
        return past[0][1]

    return maker


def _constant(number: float) -> Callable[[Quantity, np.random.Generator], Maker]:
    return lambda quantity, rng: lambda since_s, value, base: np.full_like(value, number)


KINDS: dict[str, Callable[[Quantity, np.random.Generator], Maker]] = {
    "off: NaN": _constant(math.nan),
    "off: zero": _constant(0.0),
    "off: unplugged": _scaled(0.0),  # speeds are 0, and what adds them up stays where it was
    "stuck": _held(lambda rng: (math.inf, 0.0)),
    "garbage": _garbage,
    "wrong: mirrored": _scaled(-1.0),
    "wrong: half": _scaled(0.5),
    "wrong: half as much again": _scaled(1.5),
    "wrong: drifts at 0.2": _drifting(0.2),
    "wrong: drifts at 0.5": _drifting(0.5),
    "wrong: jumps": _jumping,
    "slow": _held(lambda rng: (SLOW_S, 0.0)),
    "delayed": _delayed,
    "intermittent": _held(lambda rng: (rng.uniform(*BURST_S), rng.uniform(*PAUSE_S))),
}
