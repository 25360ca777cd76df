"""The monitor: one pure, deterministic step from what is known to what may be sent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from holdfast.contract import Contract
from holdfast.observer import Observer
from holdfast.safety_monitor import checks
from holdfast.safety_monitor.action import ActionLimits
from holdfast.safety_monitor.budget import Budget
from holdfast.safety_monitor.consistency import Consistency
from holdfast.safety_monitor.costs import CostModel
from holdfast.safety_monitor.envelope import check_envelope
from holdfast.safety_monitor.evidence import Evidence
from holdfast.safety_monitor.familiarity import Drift, Familiarity
from holdfast.safety_monitor.freshness import Freshness
from holdfast.safety_monitor.frozen import Frozen
from holdfast.safety_monitor.ladder import Ladder
from holdfast.safety_monitor.limits import Limits
from holdfast.safety_monitor.messages import (
    ACTIVE,
    FALLBACK,
    LIMITED,
    READY,
    STOPPED,
    Check,
    Proposal,
    Reading,
    Reason,
    State,
    Verdict,
)
from holdfast.safety_monitor.prediction import Prediction
from holdfast.safety_monitor.reasons import (
    COST_INVALID,
    MONITOR_FAILED,
    POLICY,
    PROPOSAL,
    PROPOSAL_MISSING,
    PROPOSAL_NOT_ZERO,
    ROBOT_MOVES,
    SOURCE,
    WRONG_STATE,
    find,
)
from holdfast.safety_monitor.recovery import RecoveryController
from holdfast.safety_monitor.standing import Standing
from holdfast.safety_monitor.tracking import Tracking
from holdfast.signals import APPLIED_ACTION, EPISODE_LEFT, Array


@dataclass(slots=True)
class _Findings:
    """What one look at the world found; nothing in the monitor has changed yet."""

    reasons: list[Reason]
    arrays: dict[str, Array]
    values: dict[str, list[float]]
    stamps: dict[str, float]
    action: list[float] | None = None
    costs: tuple[float, ...] | None = None
    cost_to_go: list[float] | None = None


class Monitor:
    """Decides, once per control period, which action may reach the motors.

    It has no clock, thread or file: time is an argument, and the same calls give the same
    verdicts. It starts in STOPPED. A period goes like this::

        observation = monitor.observe(sources)         # shown to the policy, nothing else is
        verdict = monitor.step(now_s, sources, proposal, cost_to_go)
        robot.send(verdict.action, ...)

    `step` is called in every state; in STOPPED and READY it answers zero, and keeps track of
    stamps, sequence numbers and proposals so that `reset` and `arm` can be judged.

    Costs are billed at every step that begins in a moving state, except an episode's first:
    a step bills the state that the action before it led to, as in training. So an episode of
    n actions takes n + 1 calls of `step`, then `disarm`; the action of the last is not sent.
    A period in which no new reading came is billed on the last one all the same: being out of
    the corridor costs by the period, not by the message. A moving step whose signals cannot
    be billed, or are older than `source_max_age_s`, costs the most that a step can.

    Args:
        contract: what the policy was trained under.
        limits: of this robot.
        run_budget: by cost name; may tighten the contract's, never loosen it.
        familiarity: of the bundle; None: strange observations are not noticed.
        evidence: of the deployment's episodes so far; an alarm in it refuses `reset` and `arm`.
            The caller adds each episode to it, and saves it.
        prediction: of the bundle; None: an episode is predicted to cost what the critics expect.

    Raises:
        ContractError: a run budget that is loosened, unknown or below one step's cost; a
            recovery that is not known; signals that exist in a simulation alone.
        ConfigError: limits that contradict the contract, or name a recovery that is not known.
        BundleError: a familiarity of other observations; a prediction of other costs, or on
            too few episodes for the coverage that the limits ask for.
    """

    def __init__(
        self,
        contract: Contract,
        limits: Limits,
        run_budget: Mapping[str, float] | None = None,
        familiarity: Familiarity | None = None,
        evidence: Evidence | None = None,
        prediction: Prediction | None = None,
    ) -> None:
        checks.require_a_robot(contract)
        limits.require_fit(contract)
        if familiarity is not None:
            familiarity.require_size(contract.observation_size)
        margin = None
        if prediction is not None:
            prediction.require_size(len(contract.costs))
            margin = prediction.margin(limits.episode_coverage)
        self._contract, self._limits, self._evidence = contract, limits, evidence
        self._observer = Observer(contract)
        self._cost_model = CostModel(contract)
        self._budget = Budget(
            contract, self._cost_model.largest, run_budget, limits.episode_budget, margin
        )
        self._recovery = RecoveryController(contract, limits.recovery)
        also = (*self._cost_model.signals, *self._recovery.signals)
        self._actions = ActionLimits(contract)
        self._required = checks.required_signals(contract, also, limits)
        self._shapes = checks.wanted_shapes(contract, self._required)
        self._ladder = Ladder(limits)
        self._tracking = Tracking(contract, limits)
        self._consistency = Consistency(limits)
        self._frozen = Frozen(contract, limits)
        self._standing = Standing(limits)
        self._drift = None if familiarity is None else Drift(familiarity)
        self._unknown = {name: np.full(self._shapes[name], math.nan) for name in contract.signals}
        self._zero = np.zeros(contract.action_size)
        self._zero.setflags(write=False)
        self._nothing = (0.0,) * len(contract.costs)
        self._applied = self._zero
        self._elapsed = 0
        self._last_s = -math.inf
        self._streams: dict[str, Freshness] = {}
        self._proposals = Freshness(PROPOSAL, "", limits)
        self._proposal: Proposal | None = None
        self._ramp_only = False  # in this fallback

    @property
    def contract(self) -> Contract:
        """What it was made for."""
        return self._contract

    @property
    def required(self) -> frozenset[str]:
        """The signals without which the robot may not move, by catalogue name."""
        return self._required

    @property
    def state(self) -> State:
        """The state as of the last step or event."""
        return self._ladder.state

    @property
    def applied(self) -> Array:
        """The action last let through, shape (actions,), physical units."""
        return self._applied

    def observe(self, sources: Mapping[str, Reading]) -> Array:
        """Return the observation, shape (n,); a signal that cannot be used shows as NaN."""
        arrays: dict[str, Array] = {}
        try:
            checks.validate_signals(sources, self._required, self._shapes, arrays, {}, {}, [])
        except Exception:
            arrays.clear()  # something there is no reading at all; `step` stops for it
        return self._observation(arrays)

    def _observation(self, measured: Mapping[str, Array]) -> Array:
        left = 1.0 - self._elapsed / self._contract.episode_steps
        own = {
            APPLIED_ACTION: self._contract.normalised(self._applied),
            EPISODE_LEFT: np.array([max(left, 0.0)]),
        }
        return self._observer({**self._unknown, **measured, **own})

    # Events.

    def begin_episode(self, now_s: float) -> None:
        """Zero the accounts; the clock may start anew here.

        Senders' order is judged afresh, so a device whose clock and numbers restart with the
        episode is fine, and the next `reset` or `arm` needs a proposal that came after this.
        Does not leave STOPPED.

        Raises:
            RuntimeError: the robot is allowed to move.
        """
        if self._ladder.moving:
            raise RuntimeError(f"begin_episode in {self.state.name}; disarm or stop first")
        self._budget.begin()
        self._elapsed = 0
        self._last_s = now_s if math.isfinite(now_s) else -math.inf
        self._streams.clear()
        self._proposals = Freshness(PROPOSAL, "", self._limits)
        self._proposal = None
        self._standing.forget()
        self._forget()

    def reset(self, now_s: float, sources: Mapping[str, Reading]) -> tuple[Reason, ...]:
        """STOPPED to READY. Returns why not; empty means done.

        Refused while any check allows no more than FALLBACK, while the newest proposal is not
        fresh and zero, and while the robot moves. In READY there is nothing to do.
        """
        if self.state is READY:
            return ()
        refusals = self._refusals(now_s, sources, STOPPED)
        if not refusals:
            self._ladder.enter(READY)
        return refusals

    def arm(self, now_s: float, sources: Mapping[str, Reading]) -> tuple[Reason, ...]:
        """READY to ACTIVE, refused as a reset is. Returns why not; empty means done."""
        refusals = self._refusals(now_s, sources, READY)
        if not refusals:
            self._ladder.enter(ACTIVE)
            self._last_s = now_s
            self._forget()
        return refusals

    def _forget(self) -> None:
        self._ramp_only = False
        self._tracking.forget()
        self._consistency.forget()
        self._frozen.forget()
        if self._drift is not None:
            self._drift.forget()

    def disarm(self) -> None:
        """End an episode: a moving state becomes READY, at once and without fault."""
        if self._ladder.moving:
            self._ladder.enter(READY)
            self._applied = self._zero

    def stop(self, code: str, text: str) -> None:
        """Latch STOPPED from any state: an e-stop, an operator, a fault of the device."""
        self._ladder.stop(Reason(Check.EVENT, code, STOPPED, text))
        self._applied = self._zero

    # The step.

    def step(
        self,
        now_s: float,
        sources: Mapping[str, Reading],
        proposal: Proposal | None,
        cost_to_go: Array | None = None,
    ) -> Verdict:
        """Judge one control period.

        Args:
            now_s: on the clock that stamps are on.
            sources: what each source said last; it need not be new.
            proposal: the newest one; None says that none came since, as repeating it does.
            cost_to_go: the cost critics' prediction at this observation, shape (costs,).

        Returns:
            The action to send, and why. Never raises: a failure in here stops the robot.
        """
        was, moving = self._ladder.state, self._ladder.moving
        proposal = self._proposal if proposal is None else proposal
        found = self._look(now_s, sources, proposal, cost_to_go, stepping=True)
        costs, left = self._nothing, max(self._contract.episode_steps - self._elapsed, 0)
        if moving:
            if self._elapsed:
                costs = found.costs or self._budget.largest
                self._budget.add(costs)
            self._elapsed += 1
            self._budget.judge_run(found.reasons)
        predicted = self._budget.judge_episode(found.cost_to_go, left, found.reasons)
        found.reasons.sort(key=_by_check)
        self._ladder.judge(now_s, found.reasons, lambda: self._stands(found))
        self._applied, intervened = self._act(was, found)
        reasons, budget = self._explain(found.reasons), self._budget.status(predicted)
        return Verdict(self._applied, self._ladder.state, reasons, budget, costs, intervened)

    def _look(
        self,
        now_s: float,
        sources: Mapping[str, Reading],
        proposal: Proposal | None,
        cost_to_go: Array | None,
        stepping: bool,
    ) -> _Findings:
        """Run the checks that need no account; remember what was heard only if `stepping`."""
        found = _Findings([], {}, {}, {})
        try:
            self._check(found, now_s, sources, proposal, cost_to_go)
            if stepping:
                self._listen(now_s, sources, proposal)
                self._watch_motion(now_s, found)
        except Exception as error:
            found.reasons.append(MONITOR_FAILED(error=type(error).__name__, message=error))
        return found

    def _check(
        self,
        found: _Findings,
        now_s: float,
        sources: Mapping[str, Reading],
        proposal: Proposal | None,
        cost_to_go: Array | None,
    ) -> None:
        moving, reasons = self._ladder.moving, found.reasons
        arrays, values = found.arrays, found.values
        checks.validate_signals(
            sources, self._required, self._shapes, arrays, values, found.stamps, reasons
        )
        found.costs = self._price(values, reasons)
        checks.check_clock(now_s, self._last_s, moving, self._limits, reasons)
        for name, reading in sources.items():
            doubts = len(reasons)
            self._stream(name).judge(now_s, reading.stamp_s, reading.sequence, moving, reasons)
            if len(reasons) > doubts and self._doubted(reading, reasons[doubts:]):
                found.costs = None  # where the robot was is not where it is
        if proposal is None:
            reasons.append(PROPOSAL_MISSING())
        else:
            self._proposals.judge(now_s, proposal.stamp_s, proposal.sequence, moving, reasons)
            found.action = checks.check_proposal(proposal, self._contract, reasons)
        check_envelope(values, self._limits, reasons)
        if cost_to_go is not None:
            found.cost_to_go = checks.cost_to_go(cost_to_go, len(self._nothing), reasons)

    def _watch_motion(self, now_s: float, found: _Findings) -> None:
        """Run the checks that remember how the robot moved."""
        values, stamps, reasons = found.values, found.stamps, found.reasons
        applied: list[float] = self._applied.tolist()
        self._standing.listen(values, stamps)
        self._standing.judge(now_s, values, any(applied), reasons)
        if not self._ladder.moving:
            return
        self._tracking.judge(now_s, values, applied, self._ladder.state is LIMITED, reasons)
        self._consistency.judge(values, stamps, reasons)
        self._frozen.judge(values, stamps, applied, reasons)
        if self._drift is not None and found.arrays.keys() >= self._unknown.keys():
            self._drift.add(self._observation(found.arrays))
            self._drift.judge(reasons)

    def _doubted(self, reading: Reading, doubts: list[Reason]) -> bool:
        """Whether a reading that costs are billed on may not be of now."""
        bills = not reading.signals.keys().isdisjoint(self._cost_model.signals)
        return bills and any(doubt.state <= FALLBACK for doubt in doubts)

    def _stream(self, name: str) -> Freshness:
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = Freshness(SOURCE, name, self._limits)
        return stream

    def _listen(
        self, now_s: float, sources: Mapping[str, Reading], proposal: Proposal | None
    ) -> None:
        """Remember what the next step is compared with."""
        if math.isfinite(now_s):
            self._last_s = now_s
        for name, reading in sources.items():
            self._stream(name).accept(reading.stamp_s, reading.sequence)
        if proposal is not None:
            self._proposals.accept(proposal.stamp_s, proposal.sequence)
            self._proposal = proposal

    def _price(
        self, values: dict[str, list[float]], reasons: list[Reason]
    ) -> tuple[float, ...] | None:
        """Return the costs of this step, or None if they cannot be told."""
        for name in self._cost_model.signals:
            if name not in values:
                return None
        costs = self._cost_model.step(values)
        for index, most in enumerate(self._cost_model.largest):
            if not 0.0 <= costs[index] <= most:  # NaN fails this comparison too
                break
        else:
            return costs
        largest = list(self._cost_model.largest)
        reasons.append(COST_INVALID(costs=list(costs), largest=largest))
        return None

    def _act(self, was: State, found: _Findings) -> tuple[Array, bool]:
        """Return the action of the present state, and whether it intervenes."""
        if was <= READY:
            return self._zero, False
        state = self._ladder.state
        if not self._ladder.moving:
            return self._zero, True
        if state is not FALLBACK:
            self._ramp_only = False
        limits, previous, wanted = self._actions, self._applied.tolist(), found.action
        if state is FALLBACK or wanted is None:
            action = limits.admissible(previous, self._fall_back(found))
            intervened = (
                wanted is None
                or was is not FALLBACK
                or action != limits.admissible(previous, wanted)
            )
        else:
            action = free = limits.admissible(previous, wanted)
            if state is LIMITED:
                # Clipped first: a proposal far outside the limits would not be slowed otherwise.
                slow = [self._limits.limited_scale * value for value in limits.clip(wanted)]
                action = limits.admissible(previous, slow)
            intervened = action != free
        applied = np.array(action)
        applied.setflags(write=False)  # the next one is compared with it
        return applied, intervened

    def _fall_back(self, found: _Findings) -> list[float]:
        """Return what the robot heads for: the recovery's action where it can be trusted, or zero.

        A robot that does not know where it is, or that could run into something, only stops; and
        it goes on to stop when that reason is gone, or it would move in turns with it.
        """
        action = None
        if not all(r.state > FALLBACK or find(r.code).against is POLICY for r in found.reasons):
            self._ramp_only = True
        if not self._ramp_only:
            action = self._recovery.act(found.values)
        return self._zero.tolist() if action is None else action

    def _stands(self, found: _Findings) -> bool:
        """Whether the robot stands, and was last sent zero."""
        return self._standing.stands(found.values) and not self._applied.any()

    def _explain(self, reasons: list[Reason]) -> tuple[Reason, ...]:
        """Return this step's reasons, then what else keeps the state down."""
        explained = reasons.copy()
        for cause in self._ladder.causes:
            if all(cause.code != reason.code for reason in reasons):
                explained.append(cause)
        return tuple(explained)

    def _refusals(
        self, now_s: float, sources: Mapping[str, Reading], needed: State
    ) -> tuple[Reason, ...]:
        """Return what forbids the robot to be made ready or armed."""
        if self.state is not needed:
            return (WRONG_STATE(needed=needed.name, state=self.state.name),)
        found = self._look(now_s, sources, self._proposal, None, stepping=False)
        refusals = [reason for reason in found.reasons if reason.state <= FALLBACK]
        self._budget.judge_run(refusals)
        if self._evidence is not None:
            self._evidence.judge(refusals)
        if found.action is not None and any(found.action):
            refusals.append(PROPOSAL_NOT_ZERO(action=found.action))
        if not self._standing.stands(found.values):
            refusals.append(ROBOT_MOVES())
        return tuple(refusals)


def _by_check(reason: Reason) -> Check:
    return reason.check
