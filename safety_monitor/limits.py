"""Limits: what a robot may do under the monitor, a block of them for each check."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from holdfast import plain
from holdfast.contract import Recovery
from holdfast.errors import ConfigError
from holdfast.safety_monitor.budget import BudgetLimits
from holdfast.safety_monitor.checks import CHECKS
from holdfast.safety_monitor.freshness import FreshnessLimits
from holdfast.safety_monitor.judge import Judge, Motion
from holdfast.safety_monitor.ladder import LadderLimits
from holdfast.safety_monitor.look import WHERE
from holdfast.schema import MismatchError, build, to_plain

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
        try:
            return Limits.from_plain(data)
        except MismatchError as wrong:
            raise ConfigError(wrong.sentence(WHERE)) from None

    @staticmethod
    def from_plain(data: Any) -> Limits:
        """Build limits as `from_mapping` does, for `holdfast.schema`.

        Raises:
            MismatchError: the data are no limits.
        """
        if not isinstance(data, Mapping):
            said = f"should be a mapping, received {plain.shown(repr(data))}"
            raise MismatchError((), said)
        if unknown := [name for name in data if name not in BLOCKS]:
            said = f"unknown {plain.shown(unknown[0])}{_meant(unknown[0])}"
            raise MismatchError((), said, (unknown[0],))
        if missing := [name for name in ALWAYS if data.get(name) is None]:
            raise MismatchError((), f"missing {', '.join(missing)}")
        made = {
            name: build(kind, data[name], place=(name,))
            for name, kind in BLOCKS.items()
            if data.get(name) is not None
        }
        checks = {name: made.pop(name) for name in CHECKS if name in made}
        return Limits(**made, checks=MappingProxyType(checks))

    def to_plain(self) -> dict[str, Any]:
        """Return plain data, from which JSON restores every bit."""
        blocks = {name: getattr(self, name) for name in (*ALWAYS, "recovery")} | {**self.checks}
        return {name: to_plain(block) for name, block in blocks.items() if block is not None}

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


def _meant(name: Any) -> str:
    """Return what to do about a block that is not known: it may be a limit outside of its block."""
    for block, kind in BLOCKS.items():
        if name in (each.name for each in dataclasses.fields(kind)):
            return f"; it belongs into the block {block}"
    return plain.meant(str(name), BLOCKS) or f"; known are {', '.join(BLOCKS)}"
