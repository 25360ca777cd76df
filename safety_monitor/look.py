"""One look at the world: what the sources say, sorted into what can be used and why not."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from holdfast.contract import Contract
from holdfast.errors import ConfigError, ContractError
from holdfast.safety_monitor.costs import CostModel
from holdfast.safety_monitor.messages import Proposal, Reading, Reason, State
from holdfast.safety_monitor.reasons import (
    COST_TO_GO_ARRAY,
    PROPOSAL_ARRAY,
    PROPOSAL_CONTRACT,
    PROPOSAL_NOT_FINITE,
    SCAN_BLIND,
    SIGNAL_AMBIGUOUS,
    SIGNAL_ARRAY,
    SIGNAL_MISSING,
    SIGNAL_NOT_FINITE,
    ArrayKinds,
)
from holdfast.safety_monitor.scalar import finite
from holdfast.signals import CATALOGUE, Array

WHERE = "monitor limits"
"""Begins the sentences about them."""

Numbers = Mapping[str, list[float]]
"""Usable signals as Python numbers: scalar arithmetic beats tiny arrays eight to nine times."""

Stamps = Mapping[str, float]
"""When each of them was measured, s, on the clock of `now_s`."""

MOTION = (
    *("position", "linear_velocity", "forward_speed", "lateral_speed"),
    *("heading", "yaw_rate", "angular_velocity"),
)
"""Signals that tell how the robot moves, looked at wherever there are any."""

TURNING = frozenset({"yaw_rate", "heading", "angular_velocity"})
"""Signals of which one at least must be known: else a robot that turns would seem to stand."""


@dataclass(slots=True)
class Look:
    """What is known of the world at one moment, made by `Monitor.look`; nobody changes it.

    Attributes:
        now_s: on the clock that stamps are on.
        observation: what the policy is shown, shape (n,); a signal that cannot be used is NaN.
        arrays, values, stamps: the usable signals as arrays, as numbers, and when they were
            measured, s.
        reasons: why others cannot be used.
        failed: there was something there that is no reading at all.
    """

    now_s: float
    sources: Mapping[str, Reading]
    observation: Array
    arrays: Mapping[str, Array]
    values: Numbers
    stamps: Stamps
    reasons: tuple[Reason, ...]
    failed: bool


@dataclass(slots=True)
class Seen:
    """A look, and what the monitor knows besides: what the checks of one step are told.

    Attributes:
        velocity: in the odom frame, m/s; None if it is not known.
        state: the monitor's, before this step. moving: whether it lets the robot move.
        applied: the command in force, physical units.
        proposal: the newest one; None if there is none.
        reasons: the checks append to it.
        stands: whether the robot stands still, as far as is known.
        doubted: sources whose readings may not be of now.
        action: the proposal's, where it can be used.
        costs: of this step, where they can be told. cost_to_go: the critics', likewise.
    """

    now_s: float
    sources: Mapping[str, Reading]
    observation: Array
    arrays: Mapping[str, Array]
    values: Numbers
    stamps: Stamps
    velocity: tuple[float, float] | None
    state: State
    moving: bool
    applied: list[float]
    proposal: Proposal | None
    reasons: list[Reason]
    stands: bool = False
    doubted: list[str] = field(default_factory=list)
    action: list[float] | None = None
    costs: tuple[float, ...] | None = None
    cost_to_go: list[float] | None = None


def require_a_robot(contract: Contract) -> None:
    """Raise ContractError if a contract observes or bills what exists in a simulation alone."""
    names = dict.fromkeys((*contract.observed_signals, *CostModel(contract).signals))
    if simulated := [name for name in names if name in CATALOGUE and CATALOGUE[name].simulated]:
        raise ContractError(
            f"contract of task '{contract.task}': needs {' and '.join(simulated)}, which a "
            "simulation alone can tell, so it runs on no robot"
        )


def required_signals(contract: Contract, also: Iterable[str]) -> frozenset[str]:
    """Return the signals without which the robot may not move."""
    names = {*contract.observed_signals, *also}
    # What is commanded is to be measured. A speed along any other axis than the base's x has no
    # signal that every robot must have: `require_velocity` looks at what the robot measures.
    if _speeds(contract) == {"forward_speed"} and "linear_velocity" not in names:
        names.update(("forward_speed", "heading"))
    if not names & TURNING:
        names.add("yaw_rate")
    return frozenset(names)


def speed_signals(contract: Contract) -> tuple[str, ...]:
    """Return the signals that together tell the velocity where there is no linear_velocity.

    A base that is commanded along its x axis alone, as one with two driven wheels, does not go
    sideways. Any other one may: its forward speed would hide that.
    """
    if _speeds(contract) <= {"forward_speed"}:
        return "forward_speed", "heading"
    return "forward_speed", "lateral_speed", "heading"


def _speeds(contract: Contract) -> set[str]:
    return {channel.name for channel in contract.action if channel.unit == "m/s"}


def require_velocity(contract: Contract, measured: Collection[str]) -> None:
    """Raise ConfigError unless a robot with these signals measures the velocity it is given."""
    needed = speed_signals(contract)
    missing = [name for name in needed if name not in measured]
    if "linear_velocity" not in measured and missing:
        raise ConfigError(
            f"contract of task '{contract.task}': the robot should measure its velocity, by "
            f"{_either(needed)}; nothing measures {' and '.join(missing)}"
        )


def _either(speeds: tuple[str, ...]) -> str:
    return f"linear_velocity, or {', '.join(speeds[:-1])} and {speeds[-1]}"


def wanted_shapes(contract: Contract, required: frozenset[str]) -> dict[str, tuple[int]]:
    """Return the shape of every signal that is looked at.

    Raises:
        ConfigError: a required one whose size neither the catalogue nor the contract tells.
    """
    shapes: dict[str, tuple[int]] = {}
    for name in (*MOTION, *sorted(required)):
        size = contract.signal_size(name)
        if size is None:
            raise ConfigError(f"{WHERE}: signal {name} is needed; the contract should observe it")
        shapes[name] = (size,)
    return shapes


def validate_signals(
    sources: Mapping[str, Reading],
    required: frozenset[str],
    shapes: Mapping[str, tuple[int]],
    speeds: tuple[str, ...],
    arrays: dict[str, Array],
    values: dict[str, list[float]],
    stamps: dict[str, float],
    reasons: list[Reason],
) -> None:
    """Sort the used signals of all sources: the usable into `arrays`, `values` and `stamps`, or a
    reason. `speeds` are the contract's `speed_signals`."""
    unheard = dict(shapes)
    for source, reading in sources.items():
        for name, array in reading.signals.items():
            shape = unheard.pop(name, None)
            if shape is None:
                if name in shapes:
                    reasons.append(SIGNAL_AMBIGUOUS(source=source, signal=name))
                continue
            numbers = real_numbers(array, shape, SIGNAL_ARRAY, name, reasons)
            if numbers is None:
                continue
            # A sum is finite only if all of it is, and takes less time to look at.
            if math.isfinite(sum(numbers)) or finite(numbers):
                arrays[name], values[name], stamps[name] = array, numbers, reading.stamp_s
            elif name == "scan" and (blind := sum(map(math.isnan, numbers))):
                reasons.append(SCAN_BLIND(blind=blind, sectors=len(numbers)))
            else:
                reasons.append(SIGNAL_NOT_FINITE(signal=name, numbers=numbers))
    if missing := required.intersection(unheard):
        reasons.append(SIGNAL_MISSING(signals=", ".join(sorted(missing))))
    if "linear_velocity" in unheard and not unheard.keys().isdisjoint(speeds):
        reasons.append(SIGNAL_MISSING(signals=_either(speeds)))


def real_numbers(
    array: Array, shape: tuple[int], kinds: ArrayKinds, name: str, reasons: list[Reason]
) -> list[float] | None:
    """Return an array's numbers, or None, with a reason, if it holds anything else.

    Args:
        kinds: the reasons where it holds something else, or has another shape.
        name: what people call it.
    """
    # Python's float holds whatever these hold; of the others, wider ones need not be finite in it.
    if (
        not isinstance(array, np.ndarray)
        or array.dtype.kind not in "fiu"
        or array.dtype.itemsize > 8
    ):
        what = getattr(array, "dtype", type(array).__name__)
        reasons.append(kinds.type(name=name, type=what))
        return None
    if array.shape != shape:
        reasons.append(kinds.shape(name=name, shape=shape, received=array.shape))
        return None
    numbers: list[float] = array.tolist()
    return numbers


def velocity(values: Numbers, speeds: tuple[str, ...]) -> tuple[float, float] | None:
    """Return the velocity in the odom frame, m/s; None if it is not known.

    Args:
        speeds: the contract's `speed_signals`.
    """
    if "linear_velocity" in values:
        x, y = values["linear_velocity"]
        return x, y
    if "forward_speed" in values and "heading" in values:
        (forward,), (heading,) = values["forward_speed"], values["heading"]
        cos, sin = math.cos(heading), math.sin(heading)
        if "lateral_speed" in values:
            (lateral,) = values["lateral_speed"]
            return forward * cos - lateral * sin, forward * sin + lateral * cos
        if "lateral_speed" not in speeds:
            return forward * cos, forward * sin
    return None


def check_proposal(
    proposal: Proposal, contract: Contract, reasons: list[Reason]
) -> list[float] | None:
    """A proposal's contract, shape and numbers. Returns its action, or None if it is unusable."""
    usable = proposal.contract_hash == contract.hash
    if not usable:
        theirs, ours = proposal.contract_hash[:12], contract.hash[:12]
        reasons.append(PROPOSAL_CONTRACT(theirs=theirs, ours=ours))
    shape = (contract.action_size,)
    numbers = real_numbers(proposal.action, shape, PROPOSAL_ARRAY, "a proposed action", reasons)
    if numbers is None:
        return None
    if not finite(numbers):
        reasons.append(PROPOSAL_NOT_FINITE(action=numbers))
        return None
    return numbers if usable else None


def check_cost_to_go(prediction: Array, costs: int, reasons: list[Reason]) -> list[float] | None:
    """Return the cost critics' prediction as numbers; None if it is anything else."""
    return real_numbers(prediction, (costs,), COST_TO_GO_ARRAY, "cost-to-go", reasons)
