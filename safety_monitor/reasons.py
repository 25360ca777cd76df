"""Reasons: one table of everything that the monitor says, in the order of the checks.

A row is called with the values of its sentence and returns a `Reason`. Everybody who sorts reasons,
in the monitor, in a run or in a log, asks the table. docs/reference/REASONS.md is made from it by
`python tests/house/reasons_page.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from holdfast.safety_monitor.messages import (
    FALLBACK,
    LIMITED,
    STOPPED,
    Check,
    Reason,
    State,
)


class Against(Enum):
    """What a reason casts doubt on.

    ROBOT: its senses, its obedience, or the program that watches it. POLICY: whoever proposes.
    EPISODE: where the robot is, how it moves, or what that costs; another episode may go well.
    OPERATOR: nothing; a person or a program asked for something.
    """

    ROBOT = "robot"
    POLICY = "policy"
    EPISODE = "episode"
    OPERATOR = "operator"


ROBOT, POLICY, EPISODE, OPERATOR = Against

OF_THE_EPISODE = frozenset({Check.ENVELOPE, Check.BUDGET, Check.FAMILIARITY})
"""Checks whose stop ends an episode. A stop by any other ends the run."""


@dataclass(frozen=True)
class Kind:
    """One row of the table.

    Attributes:
        code: for programs; it does not change. `{signal}` in it stands for a signal's name.
        check: the check that speaks.
        states: the most that it allows; where there are several, the most severe one last, the
            caller says which.
        against: what it casts doubt on.
        sentence: for people, with the values' names in braces.
        when: what it means, for the page.
    """

    code: str
    check: Check
    states: tuple[State, ...]
    against: Against
    sentence: str
    when: str

    def __call__(self, state: State | None = None, /, **values: object) -> Reason:
        """Return a reason with these values; `state` where the row has several."""
        code = self.code.format(**values) if "{" in self.code else self.code
        text = self.sentence.format(**values)
        return Reason(self.check, code, self.states[-1] if state is None else state, text)

    @property
    def doubts_what_was_seen(self) -> bool:
        """Whether it says something against the observation, not only against what follows."""
        return self.against is ROBOT or self.check <= Check.ENVELOPE

    @property
    def leaves_recovery(self) -> bool:
        """Whether a recovery controller may still drive: only proposals, or their cost, are bad."""
        return self.against is POLICY or self.code == "slowdown_budget"


TABLE: dict[str, Kind] = {}
"""Every row by its code, in the order of the checks."""


def _row(
    code: str,
    check: Check,
    states: State | tuple[State, ...],
    against: Against,
    sentence: str,
    when: str,
) -> Kind:
    states = states if isinstance(states, tuple) else (states,)
    kind = TABLE[code] = Kind(code, check, states, against, sentence, when)
    return kind


def find(code: str) -> Kind:
    """Return the row of a code. One that is not known speaks against the robot: who can tell?"""
    known = TABLE.get(code)
    if known is not None:
        return known
    for kind in TABLE.values():
        if kind.code.startswith("{") and code.endswith(kind.code.rpartition("}")[2]):
            return kind
    return UNKNOWN


UNKNOWN = Kind("", Check.EVENT, (STOPPED,), ROBOT, "", "")

# Finite.

CLOCK_NOT_FINITE = _row(
    "clock_not_finite", Check.FINITE, STOPPED, ROBOT,
    "the clock says {now_s}",
    "The monitor's own clock is no number.",
)  # fmt: skip
SIGNAL_NOT_FINITE = _row(
    "signal_not_finite", Check.FINITE, STOPPED, ROBOT,
    "{signal} is {numbers}",
    "A used signal holds NaN or an infinity.",
)  # fmt: skip
SCAN_BLIND = _row(
    "scan_blind", Check.FINITE, STOPPED, ROBOT,
    "the scan is blind in {blind} of {sectors} sectors",
    "No ray of some sector of the scan is valid, so something may be there.",
)  # fmt: skip
PROPOSAL_NOT_FINITE = _row(
    "proposal_not_finite", Check.FINITE, STOPPED, POLICY,
    "the proposed action is {action}",
    "The proposed action holds NaN or an infinity.",
)  # fmt: skip


# Fresh.

CLOCK_BACKWARDS = _row(
    "clock_backwards", Check.FRESH, STOPPED, ROBOT,
    "the clock went back by {back_s:.3f} s",
    "`now_s` is before the last one.",
)  # fmt: skip
STEP_LATE = _row(
    "step_late", Check.FRESH, STOPPED, ROBOT,
    "the monitor did not run for {gap_s:.3f} s",
    "The robot may move, and the monitor did not run for `max_step_gap_s`.",
)  # fmt: skip


@dataclass(frozen=True)
class SenderKinds:
    """The rows about the messages of one kind of sender."""

    stamp_not_finite: Kind
    future: Kind
    stale: Kind
    lost: Kind
    out_of_order: Kind
    skipped: Kind


def _sender(kind: str, sender: str, against: Against) -> SenderKinds:
    def row(fault: str, state: State, said: str, when: str, check: Check = Check.FRESH) -> Kind:
        return _row(f"{kind}_{fault}", check, state, against, f"{sender} {said}", when)

    return SenderKinds(
        row(
            "stamp_not_finite", STOPPED,
            "is stamped {stamp_s}",
            f"A {kind}'s stamp is NaN or an infinity.",
            Check.FINITE,
        ),
        row(
            "future", STOPPED,
            "is {ahead_s:.3f} s ahead of the clock",
            f"A {kind} is stamped more than `future_tolerance_s` ahead.",
        ),
        row(
            "stale", FALLBACK,
            "is {age_s:.3f} s old",
            f"A {kind} is older than `{kind}_max_age_s`.",
        ),
        row(
            "lost", STOPPED,
            "is {age_s:.3f} s old while moving",
            f"The robot may move, and a {kind} is older than `{kind}_lost_s`.",
        ),
        row(
            "out_of_order", STOPPED,
            "has sequence {sequence} stamped {stamp_s} after sequence {last} stamped {last_s}",
            f"A {kind}'s sequence number or stamp goes back, or one of them repeats alone.",
        ),
        row(
            "skipped", LIMITED,
            "lost {count} messages at once",
            f"More than `max_skipped` messages of a {kind} were lost at once.",
        ),
    )  # fmt: skip


SOURCE = _sender("source", "{source}", ROBOT)
PROPOSAL = _sender("proposal", "the newest proposal", POLICY)
PROPOSAL_MISSING = _row(
    "proposal_missing", Check.FRESH, FALLBACK, POLICY,
    "nothing was proposed yet",
    "Nothing was proposed in this episode yet.",
)  # fmt: skip


# Contract.

SIGNAL_MISSING = _row(
    "signal_missing", Check.CONTRACT, STOPPED, ROBOT,
    "no source carries {signals}",
    "No source carries a signal that is needed.",
)  # fmt: skip
SIGNAL_AMBIGUOUS = _row(
    "signal_ambiguous", Check.CONTRACT, STOPPED, ROBOT,
    "{source} repeats signal {signal}",
    "Two sources carry one signal.",
)  # fmt: skip


@dataclass(frozen=True)
class ArrayKinds:
    """The rows about an array that is not what it should be."""

    type: Kind
    shape: Kind


def _array(kind: str, against: Against, what: str) -> ArrayKinds:
    return ArrayKinds(
        _row(
            f"{kind}_type", Check.CONTRACT, STOPPED, against,
            "{name} should be an array of real numbers, received type {type}",
            f"{what} is something other than an array of real numbers.",
        ),
        _row(
            f"{kind}_shape", Check.CONTRACT, STOPPED, against,
            "{name} should have shape {shape}, received {received}",
            f"{what} has another size.",
        ),
    )  # fmt: skip


SIGNAL_ARRAY = _array("signal", ROBOT, "A signal")
PROPOSAL_CONTRACT = _row(
    "proposal_contract", Check.CONTRACT, STOPPED, POLICY,
    "the proposer runs under contract {theirs}, the monitor under {ours}",
    "The proposer runs under another contract.",
)  # fmt: skip
PROPOSAL_ARRAY = _array("proposal", POLICY, "The proposed action")
COST_TO_GO_ARRAY = _array("cost_to_go", POLICY, "The critics' prediction")


# Envelope.

JOINT_POSITION_EXCEEDED = _row(
    "joint_position_exceeded", Check.ENVELOPE, (LIMITED, STOPPED), EPISODE,
    "joint_position[{joint}] {position_rad:.3f} rad is {place} of [{low:g}, {high:g}]",
    "A joint is near the end of its range, or outside.",
)  # fmt: skip
EXCEEDED = _row(
    "{signal}_exceeded", Check.ENVELOPE, (LIMITED, STOPPED), EPISODE,
    "{signal}{place} {magnitude:.3f} {unit} exceeds {limit:g}",
    "`forward_speed`, `lateral_speed`, `yaw_rate`, `tilt` or `joint_velocity` is beyond a limit.",
)  # fmt: skip
OUTSIDE_GEOFENCE = _row(
    "outside_geofence", Check.ENVELOPE, STOPPED, EPISODE,
    "position ({x_m:.3f}, {y_m:.3f}) m is outside the geofence",
    "The robot is outside the geofence.",
)  # fmt: skip
GEOFENCE_NOT_STOPPABLE = _row(
    "geofence_not_stoppable", Check.ENVELOPE, FALLBACK, EPISODE,
    "from ({x_m:.3f}, {y_m:.3f}) m the robot could not stop inside the geofence",
    "The robot could no longer stop inside the geofence.",
)  # fmt: skip
GEOFENCE_NEAR = _row(
    "geofence_near", Check.ENVELOPE, LIMITED, EPISODE,
    "the way to standing still is {clearance_m:.3f} m from the geofence",
    "The way to standing still comes nearer to an edge than `slow_margin_m`.",
)  # fmt: skip
OBSTACLE_CONTACT = _row(
    "obstacle_contact", Check.ENVELOPE, STOPPED, EPISODE,
    "something is {range_m:.3f} m away, within the robot's {radius_m:g} m",
    "Something is within `footprint_radius_m`.",
)  # fmt: skip
OBSTACLE_NOT_STOPPABLE = _row(
    "obstacle_not_stoppable", Check.ENVELOPE, FALLBACK, EPISODE,
    "{free_m:.3f} m are free ahead, the robot needs {stop_m:.3f} m to stop",
    "The robot could no longer stop before something.",
)  # fmt: skip
OBSTACLE_NEAR = _row(
    "obstacle_near", Check.ENVELOPE, LIMITED, EPISODE,
    "{free_m:.3f} m are free ahead, {stop_m:.3f} m of them needed to stop",
    "After a stop, `slow_margin_m` or less would be left before something.",
)  # fmt: skip
MOVES_UNCOMMANDED = _row(
    "moves_uncommanded", Check.ENVELOPE, STOPPED, ROBOT,
    "the robot has moved for {lasted_s:.2f} s, though zero is commanded",
    "The robot has moved for `coasting_s` while zero was commanded, in any state: something else "
    "drives it.",
)  # fmt: skip
NOT_TRACKING = _row(
    "{signal}_not_tracking", Check.ENVELOPE, (LIMITED, STOPPED), ROBOT,
    "{signal} has not followed its command for {lasted_s:.2f} s",
    "An action channel's measured signal has been off every command of the last reaction time, by "
    "more than `tracking_error`, for longer than `tracking_s`. Time on track takes off a quarter "
    "of itself.",
)  # fmt: skip
STRAYED = _row(
    "{signal}_strayed", Check.ENVELOPE, STOPPED, ROBOT,
    "{signal} has led {off:.3f} {unit} away from its commands",
    "The measured forward speed, lateral speed or yaw rate has led further away from its commands "
    "than `following` allows.",
)  # fmt: skip
POSITION_INCONSISTENT = _row(
    "position_inconsistent", Check.ENVELOPE, STOPPED, ROBOT,
    "position is {along_m:.3f} m along the way and {across_m:.3f} m across it from where the "
    "speeds lead",
    "The position is not where the measured speeds lead.",
)  # fmt: skip
HEADING_INCONSISTENT = _row(
    "heading_inconsistent", Check.ENVELOPE, STOPPED, ROBOT,
    "heading is {off_rad:.3f} rad from where the yaw rate leads",
    "The heading is not where the measured yaw rate leads.",
)  # fmt: skip


def _frozen(kind: str, what: str) -> Kind:
    return _row(
        f"{kind}_frozen", Check.ENVELOPE, STOPPED, ROBOT,
        "{signals} have not changed for {same_s:.2f} s of motion",
        f"Motion is commanded, and {what} has changed in a bit for `{kind}_frozen_s`.",
    )  # fmt: skip


POSE_FROZEN = _frozen("pose", "neither position nor heading")
VELOCITY_FROZEN = _frozen("velocity", "no measured speed")


# Budget.

COST_INVALID = _row(
    "cost_invalid", Check.BUDGET, STOPPED, ROBOT,
    "costs {costs} should be between 0 and {largest}",
    "A cost is not between 0 and `at_most`.",
)  # fmt: skip
EPISODE_CAP_SPENT = _row(
    "episode_cap_spent", Check.BUDGET, STOPPED, EPISODE,
    "{cost}: {spent:g} of {budget:g} is spent and one step can cost {most:g}",
    "One more step could exceed the episode cap.",
)  # fmt: skip
SLOWDOWN_BUDGET = _row(
    "slowdown_budget", Check.BUDGET, (LIMITED, FALLBACK, STOPPED), EPISODE,
    "{cost}: {predicted:g} predicted for this episode, {budget:g} allowed",
    "The episode's predicted cost exceeds its budget, and `budget.on_prediction` says more than "
    "`go_on`; or the prediction is no finite number.",
)  # fmt: skip
MEAN_COST_EXCEEDED = _row(
    "mean_cost_exceeded", Check.BUDGET, STOPPED, POLICY,
    "{cost}: the mean cost exceeds {limit:g}, evident after {episodes} episodes",
    "Over episodes it is evident that the mean cost is above d. Reset and arming are refused.",
)  # fmt: skip
EPISODE_CAP_OFTEN_HIT = _row(
    "episode_cap_often_hit", Check.BUDGET, STOPPED, POLICY,
    "{cost}: more than {rate:.3g} of episodes hit the episode cap, evident after {episodes} "
    "episodes",
    "Over episodes it is evident that the episode cap is hit too often. Reset and arming are "
    "refused.",
)  # fmt: skip


# Familiarity.

UNFAMILIAR = _row(
    "unfamiliar", Check.FAMILIARITY, (LIMITED, FALLBACK), POLICY,
    "observations have been unlike those of training: {total:.1f}, ordinary up to {threshold:.1f}",
    "Observations have been unlike those that the policy knows.",
)  # fmt: skip


# Event: of the monitor itself, and what a person or a program asks of it.

POWER_ON = _row(
    "power_on", Check.EVENT, STOPPED, OPERATOR,
    "not reset since the monitor started",
    "The monitor was not reset since it started.",
)  # fmt: skip
FALLBACK_ENDED = _row(
    "fallback_ended", Check.EVENT, STOPPED, EPISODE,
    "the controlled stop {how}",
    "The robot stands, or `fallback_max_s` is over.",
)  # fmt: skip
RELEASED = _row(
    "released", Check.EVENT, LIMITED, EPISODE,
    "the fallback ended; slow until {steps} more steps are clean",
    "A fallback ended; the robot is slow until `release_steps` more steps are clean.",
)  # fmt: skip
MONITOR_FAILED = _row(
    "monitor_failed", Check.EVENT, STOPPED, ROBOT,
    "the monitor failed: {error}: {message}",
    "An exception inside the monitor.",
)  # fmt: skip
WRONG_STATE = _row(
    "wrong_state", Check.EVENT, STOPPED, OPERATOR,
    "the monitor should be {needed} for this; it is {state}",
    "A reset or an arming in a state that is not for it is refused.",
)  # fmt: skip
PROPOSAL_NOT_ZERO = _row(
    "proposal_not_zero", Check.EVENT, STOPPED, POLICY,
    "the newest proposal is {action}, not zero",
    "The newest proposal would move the robot: a reset or an arming is refused.",
)  # fmt: skip
ROBOT_MOVES = _row(
    "robot_moves", Check.EVENT, STOPPED, ROBOT,
    "the robot moves, or does not say that it stands",
    "The robot does not stand, or does not say so: a reset or an arming is refused.",
)  # fmt: skip


# Event: stops from outside of the monitor, by the run. Their sentences are the caller's.


def _outside(code: str, against: Against, when: str) -> Kind:
    return _row(code, Check.EVENT, STOPPED, against, "{text}", when)


DEVICE_FAULT = _outside(
    "device_fault", ROBOT,
    "The robot says that something is wrong with it. If its watchdog acted, no command came in "
    "time: the sentence says whether the computer was late (look at its load) or the cable lost "
    "commands.",
)  # fmt: skip
PROPOSER_FAULT = _outside("proposer_fault", POLICY, "The policy's process ended, or hangs.")
LINK_LOST = _outside("link_lost", ROBOT, "The connection to the robot was lost.")
_outside("run_failed", ROBOT, "The run failed for another reason, which its sentence says.")
_outside("robot_refused", ROBOT, "The robot refused to be armed, disarmed or reset.")
_outside("log_lost", OPERATOR, "The log cannot be written.")
_outside("not_ready", ROBOT, "The monitor did not let the robot start within `ready_wait_s`.")
_outside("evidence_lost", OPERATOR, "The file of the evidence cannot be written.")
_outside("interrupted", OPERATOR, "A person or the system ended the run.")
_outside("disarmed", OPERATOR, "A person or a program disarmed the robot.")
