"""What goes into the monitor and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from holdfast.signals import Array


@dataclass(frozen=True)
class Reading:
    """What one source (a device, a topic) said last.

    Attributes:
        stamp_s: when it was measured, on the clock that `now_s` is read from.
        sequence: rises by at least one with every new reading of that source.
        signals: by catalogue name, shape (size,) each, SI units.
    """

    stamp_s: float
    sequence: int
    signals: Mapping[str, Array]


@dataclass(frozen=True)
class Proposal:
    """An action that somebody would like to send.

    Attributes:
        action: shape (actions,), physical units, as sampled: not clipped.
        contract_hash: of the contract that the proposer runs under.
    """

    stamp_s: float
    sequence: int
    action: Array
    contract_hash: str


class State(IntEnum):
    """The monitor's states, from least to most free. Only the last three move the robot."""

    STOPPED = 0
    READY = 1
    FALLBACK = 2
    LIMITED = 3
    ACTIVE = 4


STOPPED, READY, FALLBACK, LIMITED, ACTIVE = State
"""Aliases for the hot path: reading an Enum member from its class is slow on Python 3.11."""


class Check(IntEnum):
    """Which check spoke, in the order in which they run; EVENT is a person or a program."""

    FINITE = 1
    FRESH = 2
    CONTRACT = 3
    ENVELOPE = 4
    BUDGET = 5
    FAMILIARITY = 6
    EVENT = 7


@dataclass(frozen=True)
class Reason:
    """Why a verdict is what it is: a code for programs, a sentence for people.

    Attributes:
        code: stable, lower_snake_case, e.g. "proposal_stale".
        state: the most that this reason allows.
    """

    check: Check
    code: str
    state: State
    text: str


class BudgetStatus(NamedTuple):
    """Costs in the contract's order.

    Attributes:
        spent: so far in this episode.
        predicted: spent plus what is predicted to come; NaN where the critics say nothing.
        episode_cap: the hard stop in force.
    """

    spent: tuple[float, ...]
    predicted: tuple[float, ...]
    episode_cap: tuple[float, ...]


class Verdict(NamedTuple):
    """The monitor's answer to one step.

    Attributes:
        action: what may be sent, shape (actions,), physical units.
        costs: billed at this step, in the contract's order.
        intervened: the action differs from `contract.admissible(previous, proposed)`.
    """

    action: Array
    state: State
    reasons: tuple[Reason, ...]
    budget: BudgetStatus
    costs: tuple[float, ...]
    intervened: bool
