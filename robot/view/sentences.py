"""Sentences about the monitor's state: what it means, why it is so, and what would release it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast.safety_monitor.limits import Limits
from holdfast.safety_monitor.messages import State
from holdfast.safety_monitor.reasons import (
    EPISODE_CAP_OFTEN_HIT,
    EPISODE_CAP_SPENT,
    MEAN_COST_EXCEEDED,
    OF_THE_EPISODE,
    OPERATOR,
    UNKNOWN,
    find,
)

MEANING: Mapping[State, str] = {
    State.STOPPED: "The robot may not move.",
    State.READY: "The robot stands, and may be armed.",
    State.FALLBACK: "The policy's action is not used: the robot brakes, or its recovery drives.",
    State.LIMITED: "The robot follows the policy at reduced speed.",
    State.ACTIVE: "The robot follows the policy.",
}

EVIDENT = (MEAN_COST_EXCEEDED.code, EPISODE_CAP_OFTEN_HIT.code)


def release(state: State, code: str, limits: Limits | None) -> str:
    """Return what would lead out of a state.

    Args:
        code: the reason for the state, which matters in STOPPED.
        limits: the monitor's; None: they are not known.
    """
    if state is State.STOPPED:
        return _release_of_stop(code)
    if state is State.READY:
        return "An arming starts the next episode."
    if state is State.ACTIVE:
        return ""
    steps = f"{limits.ladder.release_steps} " if limits is not None else ""
    if state is State.LIMITED:
        return f"Full speed returns after {steps}periods in a row without a reason."
    most = f", or after {limits.ladder.fallback_max_s:g} s" if limits is not None else ""
    return (
        f"Reduced speed returns after {steps}periods in a row without a reason. The robot is "
        f"stopped when it stands{most}."
    )


def _release_of_stop(code: str) -> str:
    kind = find(code)
    if code in EVIDENT:
        return (
            "Nothing releases the stop under this evidence. A policy that learned from the alarm "
            "needs a new evidence file."
        )
    if code == "not_ready":
        return "The robot is started again by a new run, once what the sentence names is gone."
    if code == EPISODE_CAP_SPENT.code:
        return "The next episode begins with nothing spent; then a reset releases the stop."
    if kind.against is OPERATOR and kind is not UNKNOWN:
        return "A reset releases the stop; with holdfast deploy, a new run does."
    if kind.check in OF_THE_EPISODE:
        return (
            "A reset releases the stop when its cause is gone and the robot stands; holdfast "
            "deploy asks for it before the next episode."
        )
    return (
        "A reset releases the stop when its cause is gone and the robot stands; holdfast deploy "
        "ends its run after such a stop."
    )


def described(code: str) -> dict[str, Any]:
    """Return what the table of reasons says of a code, as JSON data."""
    kind = find(code)
    if kind is UNKNOWN:
        when = "This version of Holdfast does not know the reason."
        return {"code": code, "check": "", "against": "", "when": when}
    return {
        "code": code,
        "check": kind.check.name.lower(),
        "against": kind.against.value,
        "when": kind.when.replace("`", ""),
    }
