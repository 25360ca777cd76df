"""A contract, limits and a small kinematic robot for the monitor's tests."""

from __future__ import annotations

import dataclasses
import math
import types

import numpy as np

from holdfast.contract import ActionChannel, Contract, Cost, ObservationChannel
from holdfast.safety_monitor import Limits, Look, Monitor, Proposal, Reading, State, Verdict
from holdfast.safety_monitor.checks import CHECKS
from holdfast.safety_monitor.judge import Judge
from holdfast.safety_monitor.limits import BLOCKS
from holdfast.safety_monitor.look import Seen, speed_signals, velocity

PERIOD_S = 0.05

CONTRACT = Contract(
    robot="rig",
    task="test",
    period_s=PERIOD_S,
    episode_steps=40,
    observation=(
        ObservationChannel("position", 2, "m", "position"),
        ObservationChannel("heading", 2, "1", "heading", "cos_sin"),
        ObservationChannel("applied_action", 2, "1", "applied_action"),
        ObservationChannel("episode_left", 1, "1", "episode_left"),
    ),
    action=(
        ActionChannel("forward_speed", "m/s", -1.0, 1.0, 4.0),
        ActionChannel("yaw_rate", "rad/s", -2.0, 2.0, 20.0),
    ),
    costs=(
        Cost("outside", "abs(position.x) > 1.0", 2.0, 6.0, 0.99, 0.95),
        Cost("far_outside", "abs(position.x) > 2.0", 1.0, 3.0, 0.99, 0.95),
    ),
)

PLAIN_LIMITS = {
    "motion": {
        "deceleration_m_s2": 2.0,
        "reaction_time_s": 0.25,
        "slow_margin_m": 0.5,
        "standing_speed_m_s": 0.0625,
        "standing_yaw_rate_rad_s": 0.125,
        "limited_scale": 0.5,
    },
    "freshness": {
        "source_max_age_s": 0.25,
        "source_lost_s": 0.5,
        "proposal_max_age_s": 0.125,
        "proposal_lost_s": 0.375,
        "future_tolerance_s": 0.03125,
        "max_step_gap_s": 0.5,
        "max_skipped": 3,
    },
    "ladder": {"trigger_steps": 1, "release_steps": 3, "fallback_max_s": 1.0},
    "budget": {"episode_coverage": 0.5, "on_prediction": "slow"},
    "envelope": {
        "forward_speed_m_s": {"limited": 1.25, "stopped": 1.5},
        "yaw_rate_rad_s": {"limited": 2.5, "stopped": 3.0},
        "tilt_rad": {"limited": 0.25, "stopped": 0.5},
    },
    "geofence": {
        "keep_in_m": [[-4.0, -3.0], [5.0, -3.0], [5.0, 2.0], [-4.0, 2.0]],
        "keep_out_m": [],
    },
    "tracking": {
        "tracking_error": {"forward_speed": 0.375, "yaw_rate": 0.75},
        "tracking_s": {"limited": 0.25, "stopped": 0.5},
    },
}
AGREEMENT = {
    "distance_share": 0.125,
    "axle_m": -0.25,
    "creep_m_s": 0.0625,
    "floor_m_s2": 1.5,
    "along_m": 0.5,
    "across_m": 0.25,
    "turn_share": 0.25,
    "creep_rad_s": 0.125,
    "heading_rad": 0.5,
}
"""A block `consistency`, which the rig's limits lack."""
LIMITS = Limits.from_mapping(PLAIN_LIMITS)
BLOCK_OF = {each.name: block for block, kind in BLOCKS.items() for each in dataclasses.fields(kind)}
WHOLE = ("geofence", "consistency", "following")
"""Blocks that tests change as a whole."""


def limits(**changes) -> Limits:
    """Return the rig's limits with some of them changed, each by its name alone.

    What is None, or empty, is not checked; a block in which nothing is left is off.
    """
    made = LIMITS
    for name, value in changes.items():
        block = name if name in WHOLE else BLOCK_OF.get(name, name)
        if block not in CHECKS:
            if block != "recovery":
                value = dataclasses.replace(getattr(made, block), **{name: value})  # noqa: PLW2901
            made = dataclasses.replace(made, **{block: value})
            continue
        if block not in WHOLE:
            fields = {**vars(made.checks.get(block, NOTHING)), name: value}
            needed = [value] if name in NEEDED else fields.values()
            empty = all(each is None or each == {} for each in needed)
            value = None if empty else CHECKS[block].block(**fields)  # noqa: PLW2901
        checks = {**made.checks, block: value}
        checks = {name: each for name, each in checks.items() if each is not None}
        made = dataclasses.replace(made, checks=checks)
    return made


NOTHING = types.SimpleNamespace()
NEEDED = {"tracking_error", "footprint_radius_m", "coasting_s"}
"""Limits without which there is nothing to check."""


def check(name: str, limits: Limits = LIMITS, contract: Contract = CONTRACT) -> Judge:
    """Return a check as the monitor makes it."""
    made = CHECKS[name](limits.checks[name], limits.motion)
    made.require(contract)
    return made


def seen(now_s=0.0, values=None, stamps=None, applied=(0.0, 0.0), state=State.ACTIVE) -> Seen:
    """Return what a check is told; everything is stamped `now_s`, or as said."""
    values = values or {}
    stamps = {**dict.fromkeys(values, now_s), **(stamps or {})}
    arrays = {name: np.array(numbers) for name, numbers in values.items()}
    moving = state >= State.FALLBACK
    moves = velocity(values, speed_signals(CONTRACT))
    return Seen(
        now_s, {}, np.zeros(0), arrays, values, stamps, moves, state, moving,
        list(applied), None, [],
    )  # fmt: skip


MOVING = (State.FALLBACK, State.LIMITED, State.ACTIVE)
STILL = (State.STOPPED, State.READY)


class Rig:
    """A monitor, and a robot that does at once what the monitor lets through.

    Everything that a test wants to be wrong is a keyword of `step`.
    """

    def __init__(self, limits: Limits = LIMITS, contract: Contract = CONTRACT, **monitor) -> None:
        self.contract = contract
        self.monitor = Monitor(contract, limits, **monitor)
        self.now_s = 10.0
        self.sequence = 0
        self.x_m, self.y_m, self.heading_rad = 0.0, 0.0, 0.0
        self.action = np.zeros(2)
        self.sources = self.read()

    def signals(self) -> dict[str, np.ndarray]:
        return {
            "position": np.array([self.x_m, self.y_m]),
            "heading": np.array([self.heading_rad]),
            "forward_speed": self.action[:1].copy(),
            "yaw_rate": self.action[1:].copy(),
            "tilt": np.zeros(2),
        }

    def read(self, **changes) -> dict[str, Reading]:
        """Return the newest reading; a keyword replaces a signal, None removes it."""
        signals = self.signals()
        for name, value in changes.items():
            if value is None:
                del signals[name]
            else:
                signals[name] = np.array(value, dtype=float)
        return {"base": Reading(self.now_s, self.sequence, signals)}

    def propose(self, forward=0.0, yaw=0.0) -> Proposal:
        return Proposal(self.now_s, self.sequence, np.array([forward, yaw]), self.contract.hash)

    def tick(self, dt_s: float = PERIOD_S) -> None:
        """Let time pass while the robot does what it was last told."""
        self.now_s += dt_s
        self.sequence += 1
        assert self.sequence < 1000, "what the test waits for does not happen"
        self.heading_rad += self.action[1] * dt_s
        self.x_m += self.action[0] * math.cos(self.heading_rad) * dt_s
        self.y_m += self.action[0] * math.sin(self.heading_rad) * dt_s
        self.sources = self.read()

    def step(self, proposal=(0.0, 0.0), sources=None, cost_to_go=None, dt_s=PERIOD_S) -> Verdict:
        """Tick, then ask the monitor; a proposal of two numbers is made fresh."""
        self.tick(dt_s)
        if isinstance(proposal, tuple):
            proposal = self.propose(*proposal)
        verdict = self.monitor.step(self.look(sources or None), proposal, cost_to_go)
        self.action = np.array(verdict.action)
        return verdict

    def look(self, sources=None) -> Look:
        return self.monitor.look(self.now_s, self.sources if sources is None else sources)

    def to_ready(self) -> Rig:
        self.step()
        assert self.monitor.reset(self.look()) == ()
        assert self.monitor.state is State.READY
        return self

    def to_active(self) -> Rig:
        self.to_ready()
        assert self.monitor.arm(self.look()) == ()
        assert self.monitor.state is State.ACTIVE
        return self

    def to_limited(self) -> Rig:
        self.to_active()
        assert self.step(sources=None, cost_to_go=np.array([9.0, 0.0])).state is State.LIMITED
        return self

    def to_fallback(self) -> Rig:
        """Drive, then let the proposals dry up until the controlled stop begins."""
        self.to_active()
        for _ in range(6):
            self.step((1.0, 0.0))
        while self.monitor.state is State.ACTIVE:
            self.step(None)
        assert self.monitor.state is State.FALLBACK
        return self

    def to(self, state: State) -> Rig:
        """Bring a new rig to any state."""
        if state is State.STOPPED:
            self.step()
            return self
        return getattr(self, f"to_{state.name.lower()}")()


def drift_of(rig):
    """Return the check of familiarity, which comes last."""
    return rig.monitor._in_motion[-1]


def codes(reasons) -> set[str]:
    return {reason.code for reason in reasons}


def states(reasons) -> dict[str, State]:
    return {reason.code: reason.state for reason in reasons}


def reset(rig: Rig) -> set[str]:
    return codes(rig.monitor.reset(rig.look()))


def arm(rig: Rig) -> set[str]:
    return codes(rig.monitor.arm(rig.look()))
