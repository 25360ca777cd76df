"""The checks of one step. Each appends its reasons; none changes anything."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from holdfast.contract import Contract
from holdfast.errors import ConfigError, ContractError
from holdfast.safety_monitor.costs import CostModel
from holdfast.safety_monitor.limits import WHERE, Limits
from holdfast.safety_monitor.messages import Check, Proposal, Reading, Reason, State
from holdfast.safety_monitor.scalar import finite
from holdfast.signals import CATALOGUE, Array

Values = Mapping[str, list[float]]
"""Usable signals as Python numbers: scalar arithmetic beats tiny arrays eight to nine times."""

Stamps = Mapping[str, float]
"""When each of them was measured, s, on the clock of `now_s`."""

MOTION = ("position", "linear_velocity", "forward_speed", "heading", "yaw_rate", "angular_velocity")
"""Signals that tell how the robot moves, looked at wherever there are any."""

TURNING = frozenset({"yaw_rate", "heading", "angular_velocity"})
"""Signals of which one at least must be known: else a robot that turns would seem to stand."""


def require_a_robot(contract: Contract) -> None:
    """Raise ContractError if a contract observes or bills what exists in a simulation alone."""
    names = dict.fromkeys((*contract.observed_signals, *CostModel(contract).signals))
    if simulated := [name for name in names if name in CATALOGUE and CATALOGUE[name].simulated]:
        raise ContractError(
            f"contract of task '{contract.task}': needs {' and '.join(simulated)}, which a "
            "simulation alone can tell, so it runs on no robot"
        )


def required_signals(contract: Contract, also: Iterable[str], limits: Limits) -> frozenset[str]:
    """Return the signals without which the robot may not move."""
    names = {*contract.observed_signals, *also, *limits.tracking_error}
    for limit, needs in (
        (limits.geofence, ("position",)),
        (limits.forward_speed_m_s, ("forward_speed",)),
        (limits.yaw_rate_rad_s, ("yaw_rate",)),
        (limits.tilt_rad, ("tilt",)),
        (limits.joint_position_rad, ("joint_position",)),
        (limits.joint_velocity_rad_s, ("joint_velocity",)),
        (limits.footprint_radius_m, ("scan", "heading")),
        (limits.following, ("forward_speed", "yaw_rate")),
    ):
        if limit is not None:
            names.update(needs)
    # What is commanded is to be measured. A speed along any other axis than the base's x shows
    # in nothing but the velocity.
    speeds = {channel.name for channel in contract.action if channel.unit == "m/s"}
    if speeds - {"forward_speed"}:
        names.add("linear_velocity")
    if "forward_speed" in speeds and "linear_velocity" not in names:
        names.update(("forward_speed", "heading"))
    if not names & TURNING:
        names.add("yaw_rate")
    return frozenset(names)


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
    arrays: dict[str, Array],
    values: dict[str, list[float]],
    stamps: dict[str, float],
    reasons: list[Reason],
) -> None:
    """Sort the used signals of all sources: the usable into `arrays`, `values` and `stamps`, or a
    reason."""
    unheard = dict(shapes)
    for source, reading in sources.items():
        for name, array in reading.signals.items():
            shape = unheard.pop(name, None)
            if shape is None:
                if name in shapes:
                    text = f"{source} repeats signal {name}"
                    stop(reasons, Check.CONTRACT, "signal_ambiguous", text)
                continue
            numbers = real_numbers(array, shape, "signal", name, reasons)
            if numbers is None:
                continue
            # A sum is finite only if all of it is, and takes less time to look at.
            if math.isfinite(sum(numbers)) or finite(numbers):
                arrays[name], values[name], stamps[name] = array, numbers, reading.stamp_s
            elif name == "scan" and (blind := sum(map(math.isnan, numbers))):
                text = f"the scan is blind in {blind} of {len(numbers)} sectors"
                stop(reasons, Check.FINITE, "scan_blind", text)
            else:
                stop(reasons, Check.FINITE, "signal_not_finite", f"{name} is {numbers}")
    if missing := required.intersection(unheard):
        text = f"no source carries {', '.join(sorted(missing))}"
        stop(reasons, Check.CONTRACT, "signal_missing", text)
    if "linear_velocity" in unheard and ("forward_speed" in unheard or "heading" in unheard):
        text = "no source carries linear_velocity, or forward_speed and heading"
        stop(reasons, Check.CONTRACT, "signal_missing", text)


def real_numbers(
    array: Array, shape: tuple[int], kind: str, name: str, reasons: list[Reason]
) -> list[float] | None:
    """Return an array's numbers, or None, with a reason, if it holds anything else.

    Args:
        kind: begins the reason's code.
        name: what people call it.
    """
    # Python's float holds whatever these hold; of the others, wider ones need not be finite in it.
    if (
        not isinstance(array, np.ndarray)
        or array.dtype.kind not in "fiu"
        or array.dtype.itemsize > 8
    ):
        what = f"type {getattr(array, 'dtype', type(array).__name__)}"
        text = f"{name} should be an array of real numbers, received {what}"
        stop(reasons, Check.CONTRACT, f"{kind}_type", text)
        return None
    if array.shape != shape:
        text = f"{name} should have shape {shape}, received {array.shape}"
        stop(reasons, Check.CONTRACT, f"{kind}_shape", text)
        return None
    numbers: list[float] = array.tolist()
    return numbers


def velocity(values: Values) -> tuple[float, float] | None:
    """Return the velocity in the odom frame, m/s; None if it is not known."""
    if "linear_velocity" in values:
        x, y = values["linear_velocity"]
        return x, y
    if "forward_speed" in values and "heading" in values:
        (speed,), (heading,) = values["forward_speed"], values["heading"]
        return speed * math.cos(heading), speed * math.sin(heading)
    return None


def check_clock(
    now_s: float, last_s: float, moving: bool, limits: Limits, reasons: list[Reason]
) -> None:
    """The monitor's own clock: finite, never backwards, never asleep while the robot moves."""
    if not math.isfinite(now_s):
        stop(reasons, Check.FINITE, "clock_not_finite", f"the clock says {now_s}")
    elif now_s < last_s:
        text = f"the clock went back by {last_s - now_s:.3f} s"
        stop(reasons, Check.FRESH, "clock_backwards", text)
    elif moving and now_s - last_s > limits.max_step_gap_s:
        text = f"the monitor did not run for {now_s - last_s:.3f} s"
        stop(reasons, Check.FRESH, "step_late", text)


def check_proposal(
    proposal: Proposal, contract: Contract, reasons: list[Reason]
) -> list[float] | None:
    """A proposal's contract, shape and numbers. Returns its action, or None if it is unusable."""
    usable = proposal.contract_hash == contract.hash
    if not usable:
        text = (
            f"the proposer runs under contract {proposal.contract_hash[:12]}, "
            f"the monitor under {contract.hash[:12]}"
        )
        stop(reasons, Check.CONTRACT, "proposal_contract", text)
    shape = (contract.action_size,)
    numbers = real_numbers(proposal.action, shape, "proposal", "a proposed action", reasons)
    if numbers is None:
        return None
    if not finite(numbers):
        text = f"the proposed action is {numbers}"
        stop(reasons, Check.FINITE, "proposal_not_finite", text)
        return None
    return numbers if usable else None


def cost_to_go(prediction: Array, costs: int, reasons: list[Reason]) -> list[float] | None:
    """Return the cost critics' prediction as numbers; None if it is anything else."""
    return real_numbers(prediction, (costs,), "cost_to_go", "cost-to-go", reasons)


def stop(reasons: list[Reason], check: Check, code: str, text: str) -> None:
    """Append a reason that allows nothing."""
    reasons.append(Reason(check, code, State.STOPPED, text))
