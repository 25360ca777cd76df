"""Plausible values of a robot's `monitor` section: a limit far outside switches its check off.

The monitor itself refuses values without a meaning, such as a negative time. The values refused
here have a meaning and are mistakes all the same: a tilt of 20 rad, or a time in milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from holdfast.contract import Contract
from holdfast.errors import ConfigError
from holdfast.safety_monitor.limits import Limits
from holdfast.safety_monitor.look import WHERE
from holdfast.schema import Range

_ANGLE = Range(-math.pi, math.pi)

OF_VALUES: Mapping[str, Range] = {
    "motion.standing_speed_m_s": Range(0.0, 0.5, above=True),
    "motion.standing_yaw_rate_rad_s": Range(0.0, 1.0, above=True),
    "motion.reaction_time_s": Range(0.0, 2.0),
    "freshness.source_max_age_s": Range(0.0, 5.0, above=True),
    "freshness.source_lost_s": Range(0.0, 10.0, above=True),
    "freshness.proposal_max_age_s": Range(0.0, 5.0, above=True),
    "freshness.proposal_lost_s": Range(0.0, 10.0, above=True),
    "freshness.future_tolerance_s": Range(0.0, 0.5),
    "freshness.max_step_gap_s": Range(0.0, 10.0, above=True),
    "freshness.max_skipped": Range(0.0, 10_000.0),
    "ladder.trigger_steps": Range(1.0, 100.0),
    "ladder.release_steps": Range(1.0, 10_000.0),
    # Beyond a quarter turn a robot lies on its side, and pitch has no larger values.
    "envelope.tilt_rad": Range(0.0, math.pi / 2.0, above=True),
    "envelope.joint_position_rad": Range(-1e3, 1e3),  # a sliding joint's are metres, a wheel's turn
    "envelope.joint_velocity_rad_s": Range(0.0, 1e3, above=True),
    "consistency.distance_share": Range(0.0, 0.5),
    "consistency.turn_share": Range(0.0, 0.5),
    "consistency.along_m": Range(0.0, 5.0),
    "consistency.across_m": Range(0.0, 5.0),
    "consistency.creep_m_s": Range(0.0, 0.5),
    "consistency.creep_rad_s": Range(0.0, 1.0),
    "following.way_share": Range(0.0, 0.5),
    "following.turn_share": Range(0.0, 1.0),
    "following.lag_s": Range(0.0, 5.0),
    "following.creep_m_s": Range(0.0, 1.0),
    "following.creep_rad_s": Range(0.0, 1.0),
    "following.most_m": Range(0.0, 5.0),
    "obstacles.footprint_radius_m": Range(0.0, 20.0),
}
"""Ranges of single values, by block and key."""

OF_UNITS: Mapping[str, Range] = {
    "_rad_per_m": Range(-10.0, 10.0),
    "_rad_s": Range(-50.0, 50.0),
    "_m_s2": Range(0.0, 100.0),
    "_m_s": Range(-100.0, 100.0),
    "_rad": _ANGLE,
    "_m": Range(-1e5, 1e5),
    "_s": Range(0.0, 60.0),
}
"""Ranges of all other values, by the unit at the end of the key; the longest unit comes first."""

IN_THE_EPISODE = ("tracking.tracking_s", "frozen.", "coasting.")
"""Times after which a check stops the robot."""

ABOVE_THE_PERIOD = ("source_max_age_s", "source_lost_s", "proposal_max_age_s", "proposal_lost_s")
"""Limits of freshness that messages of every period would exceed."""

TRIAL_S = 5.0
"""A shorter episode is a trial, for which nobody writes the robot's file anew."""

MOST_TIMES_COMMANDED = 10.0
"""How far above the largest command a limit of the measured motion may lie."""


def check(limits: Limits) -> None:
    """Raise ConfigError unless each value of the limits is plausible."""
    for key, value in _values(limits.to_plain()):
        allowed = _range(key)
        if allowed is not None and not allowed.allows(value):
            raise ConfigError(
                f"{WHERE}.{key} should be {allowed} to be plausible, received {value}"
            )


def check_fit(limits: Limits, contract: Contract) -> None:
    """Check limits against a contract.

    Raises:
        ConfigError: every period would exceed a limit of freshness; or no episode, and no motion
            that the contract commands, can reach a limit.
    """
    for name in ABOVE_THE_PERIOD:
        if (value := getattr(limits.freshness, name)) <= contract.period_s:
            raise ConfigError(
                f"{WHERE}.freshness.{name} {value:g} should be above the contract's period_s "
                f"{contract.period_s:g}"
            )
    episode_s = max(contract.episode_steps * contract.period_s, TRIAL_S)
    values = dict(_values(limits.to_plain()))
    for key, value in values.items():
        if key.startswith(IN_THE_EPISODE) and value > episode_s:
            raise ConfigError(
                f"{WHERE}.{key} {value:g} should be at most {episode_s:g}, as the contract's "
                "episode otherwise ends before"
            )
    largest = {channel.name: max(-channel.low, channel.high) for channel in contract.action}
    for name, unit in (("forward_speed", "m_s"), ("lateral_speed", "m_s"), ("yaw_rate", "rad_s")):
        key = f"envelope.{name}_{unit}.limited"
        reached = MOST_TIMES_COMMANDED * largest.get(name, math.inf)
        if key in values and values[key] > reached:
            raise ConfigError(
                f"{WHERE}.{key} {values[key]:g} should be at most {reached:g}, "
                f"{MOST_TIMES_COMMANDED:g} times what the contract commands"
            )


def _values(data: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers of plain data with their places; items of a list have their list's."""
    if isinstance(data, Mapping):
        for name, value in data.items():
            yield from _values(value, f"{key}.{name}" if key else name)
    elif isinstance(data, list):
        for value in data:
            yield from _values(value, key)
    elif isinstance(data, (int, float)):
        yield key, data


def _range(key: str) -> Range | None:
    """Return the range of a value; None where the key says no unit, as for a cost's budget."""
    block, name, *_ = (*key.split("."), "")
    if found := OF_VALUES.get(f"{block}.{name}"):
        return found
    return next((known for unit, known in OF_UNITS.items() if name.endswith(unit)), None)
