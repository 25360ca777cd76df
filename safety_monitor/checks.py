"""The checks of one step. Each appends its reasons; none changes anything."""

from __future__ import annotations

import math
from collections.abc import Mapping

from holdfast.contract import Contract
from holdfast.safety_monitor.limits import Limits, Tiers
from holdfast.safety_monitor.messages import Check, Proposal, Reading, Reason, State
from holdfast.signals import CATALOGUE, Array

Values = Mapping[str, list[float]]
"""Usable signals as Python numbers: scalar arithmetic beats tiny arrays eight to nine times."""

MOTION = ("linear_velocity", "forward_speed", "heading", "yaw_rate")
"""Signals that tell how the robot moves, wherever there are any."""


def required_signals(contract: Contract, billed: tuple[str, ...], limits: Limits) -> frozenset[str]:
    """Return the signals without which the robot may not move."""
    names = {*contract.signals, *billed, *limits.tracking_error}
    for name, limit in (
        ("position", limits.position_box_m),
        ("forward_speed", limits.forward_speed_m_s),
        ("yaw_rate", limits.yaw_rate_rad_s),
        ("tilt", limits.tilt_rad),
    ):
        if limit is not None:
            names.add(name)
    return frozenset(names)


def measure(
    sources: Mapping[str, Reading],
    required: frozenset[str],
    arrays: dict[str, Array],
    values: dict[str, list[float]],
    reasons: list[Reason],
) -> None:
    """Sort the used signals of all sources: the usable into `arrays` and `values`, or a reason."""
    found: dict[str, Array] = {}
    for source, reading in sources.items():
        for name, array in reading.signals.items():
            if name in found:
                _stop(
                    reasons, Check.CONTRACT, "signal_ambiguous", f"{source} repeats signal {name}"
                )
            elif name in required or name in MOTION:
                found[name] = array
    for name, array in found.items():
        size = CATALOGUE[name].size
        if array.shape != (size,):
            text = f"{name} should have shape ({size},), received {array.shape}"
            _stop(reasons, Check.CONTRACT, "signal_shape", text)
            continue
        numbers: list[float] = array.tolist()
        if all(map(math.isfinite, numbers)):
            arrays[name], values[name] = array, numbers
        else:
            _stop(reasons, Check.FINITE, "signal_not_finite", f"{name} is {numbers}")
    missing = required - found.keys()
    if missing:
        text = f"no source carries {', '.join(sorted(missing))}"
        _stop(reasons, Check.CONTRACT, "signal_missing", text)
    if not ("linear_velocity" in found or {"forward_speed", "heading"} <= found.keys()):
        text = "no source carries linear_velocity, or forward_speed and heading"
        _stop(reasons, Check.CONTRACT, "signal_missing", text)


def velocity(values: Values) -> tuple[float, float] | None:
    """Return the velocity in the odom frame, m/s; None if it is not known."""
    if "linear_velocity" in values:
        x, y = values["linear_velocity"]
        return x, y
    if "forward_speed" in values and "heading" in values:
        (speed,), (heading,) = values["forward_speed"], values["heading"]
        return speed * math.cos(heading), speed * math.sin(heading)
    return None


def standing(values: Values, limits: Limits) -> bool:
    """Whether the robot stands still, as far as is known; not knowing is moving."""
    moving = velocity(values)
    turning = values.get("yaw_rate", [0.0])[0]
    return (
        moving is not None
        and math.hypot(*moving) <= limits.standing_speed_m_s
        and abs(turning) <= limits.standing_yaw_rate_rad_s
    )


def check_clock(
    now_s: float, last_s: float, moving: bool, limits: Limits, reasons: list[Reason]
) -> None:
    """The monitor's own clock: finite, never backwards, never asleep while the robot moves."""
    if not math.isfinite(now_s):
        _stop(reasons, Check.FINITE, "clock_not_finite", f"the clock says {now_s}")
    elif now_s < last_s:
        text = f"the clock went back by {last_s - now_s:.3f} s"
        _stop(reasons, Check.FRESH, "clock_backwards", text)
    elif moving and now_s - last_s > limits.max_step_gap_s:
        text = f"the monitor did not run for {now_s - last_s:.3f} s"
        _stop(reasons, Check.FRESH, "step_late", text)


def check_proposal(proposal: Proposal, contract: Contract, reasons: list[Reason]) -> bool:
    """A proposal's contract, shape and numbers. Returns whether its action can be used."""
    usable = True
    if proposal.contract_hash != contract.hash:
        text = (
            f"the proposer runs under contract {proposal.contract_hash[:12]}, "
            f"the monitor under {contract.hash[:12]}"
        )
        _stop(reasons, Check.CONTRACT, "proposal_contract", text)
        usable = False
    if proposal.action.shape != (contract.action_size,):
        text = (
            f"a proposed action should have shape ({contract.action_size},), "
            f"received {proposal.action.shape}"
        )
        _stop(reasons, Check.CONTRACT, "proposal_shape", text)
        return False
    numbers = proposal.action.tolist()
    if not all(map(math.isfinite, numbers)):
        text = f"the proposed action is {numbers}"
        _stop(reasons, Check.FINITE, "proposal_not_finite", text)
        usable = False
    return usable


def cost_to_go(prediction: Array, costs: int, reasons: list[Reason]) -> list[float] | None:
    """Return the cost critics' prediction as numbers; None if it has another shape."""
    if prediction.shape == (costs,):
        numbers: list[float] = prediction.tolist()
        return numbers
    text = f"cost-to-go should have shape ({costs},), received {prediction.shape}"
    _stop(reasons, Check.CONTRACT, "cost_to_go_shape", text)
    return None


def check_envelope(values: Values, limits: Limits, reasons: list[Reason]) -> None:
    """Where the robot is and how it moves, against the limits that are set."""
    _check_tiers(values, "forward_speed", limits.forward_speed_m_s, reasons)
    _check_tiers(values, "yaw_rate", limits.yaw_rate_rad_s, reasons)
    _check_tiers(values, "tilt", limits.tilt_rad, reasons)
    moving = velocity(values)
    if limits.position_box_m is not None and "position" in values and moving is not None:
        _check_box(values["position"], moving, limits, reasons)


def _check_tiers(values: Values, name: str, tiers: Tiers | None, reasons: list[Reason]) -> None:
    if tiers is None or name not in values:
        return
    magnitude = max(map(abs, values[name]))
    if magnitude <= tiers.limited:
        return
    state, limit = State.LIMITED, tiers.limited
    if magnitude > tiers.stopped:
        state, limit = State.STOPPED, tiers.stopped
    text = f"{name} {magnitude:.3f} {CATALOGUE[name].unit} exceeds {limit:g}"
    reasons.append(Reason(Check.ENVELOPE, f"{name}_exceeded", state, text))


def _check_box(
    position: list[float], moving: tuple[float, float], limits: Limits, reasons: list[Reason]
) -> None:
    box = limits.position_box_m
    assert box is not None
    x, y = position
    if not box.holds(x, y):
        text = f"position ({x:.3f}, {y:.3f}) m is outside the position box"
        _stop(reasons, Check.ENVELOPE, "outside_box", text)
        return
    # The stopping distance is v t + v^2 / (2 a), along v.
    stop_s = limits.reaction_time_s + math.hypot(*moving) / (2.0 * limits.deceleration_m_s2)
    x, y = x + moving[0] * stop_s, y + moving[1] * stop_s
    if not box.holds(x, y):
        text = f"the robot could stop no earlier than at ({x:.3f}, {y:.3f}) m, outside the box"
        reasons.append(Reason(Check.ENVELOPE, "box_not_stoppable", State.FALLBACK, text))
    elif not box.holds(x, y, limits.slow_margin_m):
        text = f"the stopping point ({x:.3f}, {y:.3f}) m is near the edge of the box"
        reasons.append(Reason(Check.ENVELOPE, "box_near", State.LIMITED, text))


def _stop(reasons: list[Reason], check: Check, code: str, text: str) -> None:
    reasons.append(Reason(check, code, State.STOPPED, text))
