"""Limits: what a robot may do under the monitor, a block of them for each check."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from holdfast import plain
from holdfast.contract import Recovery, strict
from holdfast.errors import ConfigError, ContractError
from holdfast.safety_monitor.budget import BudgetLimits
from holdfast.safety_monitor.checks import CHECKS
from holdfast.safety_monitor.freshness import FreshnessLimits
from holdfast.safety_monitor.judge import Judge, Motion
from holdfast.safety_monitor.ladder import LadderLimits
from holdfast.safety_monitor.look import WHERE

ALWAYS: Mapping[str, type[Any]] = {
    "motion": Motion,
    "freshness": FreshnessLimits,
    "ladder": LadderLimits,
    "budget": BudgetLimits,
}
"""Blocks that every robot has."""

BLOCKS: Mapping[str, type[Any]] = {
    **ALWAYS,
    "recovery": Recovery,
    **{name: check.block for name, check in CHECKS.items()},
}
"""The class of every block."""

FLAT: Mapping[str, tuple[str, ...]] = {
    "motion": (
        "deceleration_m_s2",
        "reaction_time_s",
        "slow_margin_m",
        "standing_speed_m_s",
        "standing_yaw_rate_rad_s",
        "limited_scale",
    ),
    "freshness": (
        "source_max_age_s",
        "source_lost_s",
        "proposal_max_age_s",
        "proposal_lost_s",
        "future_tolerance_s",
        "max_step_gap_s",
        "max_skipped",
    ),
    "ladder": ("trigger_steps", "release_steps", "fallback_max_s"),
    "budget": ("episode_budget", "episode_coverage"),
    "envelope": (
        "forward_speed_m_s",
        "yaw_rate_rad_s",
        "tilt_rad",
        "joint_position_rad",
        "joint_velocity_rad_s",
    ),
    "obstacles": ("footprint_radius_m",),
    "coasting": ("coasting_s",),
    "tracking": ("tracking_error", "tracking_s"),
    "frozen": ("pose_frozen_s", "velocity_frozen_s"),
}
"""Before 2026-12 limits had no blocks but `geofence`, `recovery` and `agreement`: what is in each
block now. Logs of that time are read, see `blocks`."""

BLOCK_OF = {name: block for block, names in FLAT.items() for name in names} | {
    "agreement": "consistency"
}


@dataclass(frozen=True)
class Limits:
    """Everything the monitor compares with. A value at a limit is allowed; beyond it is not.

    Attributes:
        motion, freshness, ladder, budget: of every robot.
        recovery: the robot's own; None: the contract's, if it has one.
        checks: the limits of each check that is on, by its name in `CHECKS`.
    """

    motion: Motion
    freshness: FreshnessLimits
    ladder: LadderLimits
    budget: BudgetLimits
    recovery: Recovery | None = None
    checks: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def from_mapping(data: Any) -> Limits:
        """Build limits from plain data. A block that is missing, or null, is a check that is off.

        Raises:
            ConfigError: a missing or unknown key, a wrong type, or limits that contradict
                each other.
        """
        if not isinstance(data, dict):
            raise ConfigError(f"{WHERE}: should be a mapping, received {plain.shown(repr(data))}")
        for name in data:
            if name not in BLOCKS:
                raise ConfigError(f"{WHERE}: unknown {plain.shown(name)}{_meant(name)}")
        made = {
            name: _block(kind, data[name], f"{WHERE}.{name}")
            for name, kind in BLOCKS.items()
            if data.get(name) is not None
        }
        for name in ALWAYS:
            if name not in made:
                raise ConfigError(f"{WHERE}: missing {name}")
        checks = {name: made.pop(name) for name in CHECKS if name in made}
        return Limits(**made, checks=MappingProxyType(checks))

    def to_mapping(self) -> dict[str, Any]:
        """Return plain data, from which JSON restores every bit."""
        blocks = {name: getattr(self, name) for name in (*ALWAYS, "recovery")} | {**self.checks}
        return {name: _plain(block) for name, block in blocks.items() if block is not None}

    def without(self, *names: str) -> Limits:
        """Return these limits with some checks off."""
        checks = {name: block for name, block in self.checks.items() if name not in names}
        return dataclasses.replace(self, checks=MappingProxyType(checks))

    def judges(self) -> tuple[Judge, ...]:
        """Return a new check of each kind that is on, in the order in which they are asked."""
        return tuple(
            check(self.checks[name], self.motion)
            for name, check in CHECKS.items()
            if name in self.checks
        )


def blocks(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return limits of before 2026-12, as a log may hold them, as blocks.

    What was null there is off. Limits that have blocks already are returned as they are.
    """
    if not flat.keys() & BLOCK_OF.keys():
        return dict(flat)
    made: dict[str, Any] = {}
    for name, value in flat.items():
        block = BLOCK_OF.get(name)
        if name == "agreement":
            made["consistency"] = value
        elif block is None:
            made[name] = value
        elif value is not None:
            made.setdefault(block, {})[name] = value
    if not flat.get("tracking_error"):
        made.pop("tracking", None)
    return made


def _block(kind: type[Any], data: Any, where: str) -> Any:
    """Build one block; what has a default may be missing."""
    fields = dataclasses.fields(kind)
    if isinstance(data, dict):
        for name in data:
            if name not in {each.name for each in fields}:
                known = [each.name for each in fields]
                guess = plain.meant(str(name), known) or f"; known are {', '.join(known)}"
                raise ConfigError(f"{where}: unknown {plain.shown(name)}{guess}")
        data = {
            each.name: each.default for each in fields if each.default is not dataclasses.MISSING
        } | data
    try:
        return strict(kind, data, where)
    except ContractError as error:
        raise ConfigError(str(error)) from None


def _meant(name: Any) -> str:
    """Return what to do about a block that is not known."""
    if name in BLOCK_OF:
        return f"; it has a place in the block {BLOCK_OF[name]} now"
    return plain.meant(str(name), BLOCKS) or f"; known are {', '.join(BLOCKS)}"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
