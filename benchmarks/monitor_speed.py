"""How long a step of the safety monitor takes, and whether it keeps memory.

    python -m benchmarks.monitor_speed [--attempts N] [--growth]

A step of a 24-value observation from four sources with three costs: lean (finite, fresh, the
contract, magnitudes, tracking, budgets), usual (a geofence too, as config/drive.yaml has it) and
all (joints, a scan of 36 ranges and familiarity too). Hot, one after another, and cold, paced at
200 Hz, so that caches and clocks have gone to sleep in between.

On a shared machine the best of several attempts says most; "arithmetic" is a loop of plain
additions that takes about as long as a lean step: how much later than its median its 99th
percentile is, and how much longer it takes cold, is the machine's own doing.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from holdfast.contract import ActionChannel, Contract, Cost, ObservationChannel
from holdfast.safety_monitor import (
    Evidence,
    Familiarity,
    Limits,
    Monitor,
    Prediction,
    Proposal,
    Reading,
    State,
)

PERIOD_S = 0.005
SIGNALS = {
    "odometry": {"position": [0.1, 0.2], "heading": [0.3]},
    "base": {
        "forward_speed": [0.1],
        "yaw_rate": [0.0],
        "joint_position": [0.1, -0.2, 0.3, 0.4, -0.5, 0.6],
        "joint_velocity": [1.0, -2.0, 3.0, 1.0, -2.0, 3.0],
    },
    "imu": {"tilt": [0.01, 0.02], "height": [0.1]},
    "lidar": {"scan": [4.0] * 36},
}
CHANNELS = (
    ("position", 2, "m", "position", "identity"),
    ("heading", 2, "1", "heading", "cos_sin"),
    ("forward_speed", 1, "m/s", "forward_speed", "identity"),
    ("yaw_rate", 1, "rad/s", "yaw_rate", "identity"),
    ("tilt", 2, "rad", "tilt", "identity"),
    ("height", 1, "m", "height", "identity"),
    ("joint_position", 6, "rad", "joint_position", "identity"),
    ("joint_velocity", 6, "rad/s", "joint_velocity", "identity"),
    ("applied_action", 2, "1", "applied_action", "identity"),
    ("episode_left", 1, "1", "episode_left", "identity"),
)


def make_contract() -> Contract:
    return Contract(
        robot="benchmark",
        task="benchmark",
        period_s=PERIOD_S,
        episode_steps=1000,
        observation=tuple(ObservationChannel(*channel) for channel in CHANNELS),
        action=(
            ActionChannel("forward_speed", "m/s", -1.0, 1.0, 4.0),
            ActionChannel("yaw_rate", "rad/s", -2.0, 2.0, 20.0),
        ),
        costs=tuple(
            Cost(f"cost{i}", f"abs(position.x) > {float(i + 1)}", 10.0, 30.0, 1.0, 0.95)
            for i in range(3)
        ),
    )


EVERYTHING = Limits.from_mapping({
    "motion": {
        "deceleration_m_s2": 2.0,
        "reaction_time_s": 0.2,
        "slow_margin_m": 0.3,
        "standing_speed_m_s": 0.15,
        "standing_yaw_rate_rad_s": 0.1,
        "limited_scale": 0.5,
    },
    "freshness": {
        "source_max_age_s": 0.1,
        "source_lost_s": 0.5,
        "proposal_max_age_s": 0.1,
        "proposal_lost_s": 0.5,
        "future_tolerance_s": 0.01,
        "max_step_gap_s": 60.0,
        "max_skipped": 10,
    },
    "ladder": {"trigger_steps": 2, "release_steps": 10, "fallback_max_s": 1.5},
    "budget": {"episode_coverage": 0.9},
    "envelope": {
        "forward_speed_m_s": {"limited": 1.2, "stopped": 2.0},
        "yaw_rate_rad_s": {"limited": 2.5, "stopped": 4.0},
        "tilt_rad": {"limited": 0.3, "stopped": 0.6},
        "joint_position_rad": [{"low": -1.0, "high": 1.0, "margin": 0.1}] * 6,
        "joint_velocity_rad_s": [{"limited": 5.0, "stopped": 9.0}] * 6,
    },
    "geofence": {
        "keep_in_m": [[-3.0, -3.0], [3.0, -3.0], [3.0, 3.0], [-3.0, 3.0]],
        "keep_out_m": [],
    },
    "obstacles": {"footprint_radius_m": 0.3},
    "coasting": {"coasting_s": 1e9},
    "tracking": {
        "tracking_error": {"forward_speed": 0.4, "yaw_rate": 0.9},
        "tracking_s": {"limited": 0.4, "stopped": 0.8},
    },
    "consistency": {
        "distance_share": 0.13,
        "axle_m": 0.08,
        "creep_m_s": 0.1,
        "floor_m_s2": 1.5,
        "along_m": 1e9,
        "across_m": 1e9,
        "turn_share": 0.1,
        "creep_rad_s": 0.1,
        "heading_rad": 1e9,
    },
    "frozen": {"pose_frozen_s": 1e9, "velocity_frozen_s": 1e9},
})  # fmt: skip
JOINTLESS = dataclasses.replace(
    EVERYTHING.checks["envelope"], joint_position_rad=None, joint_velocity_rad_s=None
)
USUAL = dataclasses.replace(
    EVERYTHING, checks={**EVERYTHING.without("obstacles").checks, "envelope": JOINTLESS}
)
LEAN = USUAL.without("geofence")
SETUPS = {"lean": (LEAN, False), "usual": (USUAL, False), "all": (EVERYTHING, True)}
"""Limits, and whether familiarity is used."""


class Rig:
    """Feeds a monitor with four sources that are always fresh."""

    def __init__(self, limits: Limits, familiar: bool) -> None:
        self.contract = make_contract()
        n, costs = self.contract.observation_size, len(self.contract.costs)
        assert (n, costs) == (24, 3)
        eye = tuple(tuple(float(i == j) for j in range(n)) for i in range(n))
        known = Familiarity((0.0,) * n, eye, 100.0, 5.0, 0.01, 100, 0)
        self.monitor = Monitor(
            self.contract,
            limits,
            familiarity=known if familiar else None,
            evidence=Evidence(self.contract),
            prediction=Prediction(((1.0,) * 20,) * costs),
        )
        self.signals = {
            source: {name: np.array(values) for name, values in signals.items()}
            for source, signals in SIGNALS.items()
        }
        self.count = 0
        for event in (None, self.monitor.reset, self.monitor.arm):
            look, proposal, cost_to_go = self.inputs(0.0)
            self.monitor.step(look, proposal, cost_to_go)
            if event is not None:
                assert event(look) == ()
        assert self.monitor.state is State.ACTIVE

    def readings(self):
        """Return what a look is given: now_s and sources."""
        self.count += 1
        now_s = self.count * PERIOD_S
        return now_s, {
            name: Reading(now_s, self.count, signals) for name, signals in self.signals.items()
        }

    def inputs(self, forward: float = 0.1):
        """Return what a step is given: look, proposal, cost_to_go."""
        look = self.monitor.look(*self.readings())
        now_s = look.now_s
        action = np.array([forward, 0.0])
        proposal = Proposal(now_s, self.count, action, self.contract.hash)
        return look, proposal, np.array([1.0, 2.0, 3.0])

    def step_us(self) -> float:
        """Return how long one step takes, its look and the other inputs made beforehand."""
        inputs = self.inputs()
        begun = time.perf_counter_ns()
        verdict = self.monitor.step(*inputs)
        took = time.perf_counter_ns() - begun
        assert verdict.state is State.ACTIVE, verdict.reasons
        return took / 1e3

    def look_us(self) -> float:
        """Return how long a look takes: signals are sorted, and the policy's observation made."""
        readings = self.readings()
        begun = time.perf_counter_ns()
        self.monitor.look(*readings)
        return (time.perf_counter_ns() - begun) / 1e3


def arithmetic_us() -> float:
    begun = time.perf_counter_ns()
    total = 0
    for i in range(1250):
        total += i
    return (time.perf_counter_ns() - begun) / 1e3


def hot(take: Callable[[], float], count: int) -> np.ndarray:
    return np.array([take() for _ in range(count)])


def cold(take: Callable[[], float], count: int) -> np.ndarray:
    times, due = [], time.perf_counter()
    for _ in range(count):
        due += PERIOD_S
        time.sleep(max(0.0, due - time.perf_counter()))
        times.append(take())
    return np.array(times)


def report(name: str, attempts: list[np.ndarray]) -> None:
    """Print the attempt with the least 99th percentile."""
    best = min(attempts, key=lambda times: np.quantile(times, 0.99))
    median, p99, most = np.quantile(best, (0.5, 0.99, 1.0))
    print(f"{name:<27} median {median:7.1f}   p99 {p99:7.1f}   max {most:8.1f} us", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=20_000, help="hot steps (20,000)")
    parser.add_argument("--paced", type=int, default=2_000, help="cold steps at 200 Hz (2,000)")
    parser.add_argument("--attempts", type=int, default=3, help="of which the best is shown (3)")
    parser.add_argument("--growth", action="store_true", help="also a million steps for memory")
    arguments = parser.parse_args()
    rigs = {name: Rig(*setup) for name, setup in SETUPS.items()}
    gc.collect()
    gc.freeze()
    gc.disable()  # as the run loop does
    tries = range(arguments.attempts)
    takes = {"arithmetic": arithmetic_us} | {name: rig.step_us for name, rig in rigs.items()}
    for name, take in takes.items():
        hot(take, 1000)
        report(f"{name}, hot", [hot(take, arguments.steps) for _ in tries])
        report(f"{name}, paced at 200 Hz", [cold(take, arguments.paced) for _ in tries])
    for name, rig in rigs.items():
        report(f"look of {name}, hot", [hot(rig.look_us, arguments.steps) for _ in tries])
    if arguments.growth:
        growth(rigs["all"])


def growth(rig: Rig) -> None:
    """Nothing may be left behind by a step, even without the garbage collector."""
    tracemalloc.start()
    for step in range(1_000_001):
        rig.monitor.step(*rig.inputs())
        if step % 250_000 == 0:
            print(f"{step:>9,} steps: {tracemalloc.get_traced_memory()[0]:>9,} bytes held")


if __name__ == "__main__":
    main()
