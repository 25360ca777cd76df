"""The monitor: one pure, deterministic step from what is known to what may be sent."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from holdfast.contract import Contract
from holdfast.errors import ConfigError
from holdfast.observer import Observer
from holdfast.safety_monitor.action import ActionLimits
from holdfast.safety_monitor.budget import Budget
from holdfast.safety_monitor.costs import CostModel
from holdfast.safety_monitor.evidence import Evidence
from holdfast.safety_monitor.familiarity import Drift, Familiarity
from holdfast.safety_monitor.freshness import Freshness
from holdfast.safety_monitor.judge import Judge, Motion, When
from holdfast.safety_monitor.ladder import Ladder
from holdfast.safety_monitor.limits import Limits
from holdfast.safety_monitor.look import (
    Look,
    Numbers,
    Seen,
    check_cost_to_go,
    check_proposal,
    require_a_robot,
    required_signals,
    speed_signals,
    validate_signals,
    velocity,
    wanted_shapes,
)
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
    PROPOSAL_NOT_ZERO,
    ROBOT_MOVES,
    WRONG_STATE,
    find,
)
from holdfast.safety_monitor.recovery import RecoveryController
from holdfast.safety_monitor.standing import Standing
from holdfast.signals import APPLIED_ACTION, BUDGET_LEFT, EPISODE_LEFT, Array, Signals


class Monitor:
    """Decides, once per control period, which action may reach the motors.

    It has no clock, thread or file: time is an argument, and the same calls give the same
    verdicts. It starts in STOPPED. A period goes like this::

        look = monitor.look(now_s, sources)     # look.observation is shown to the policy
        verdict = monitor.step(look, proposal, cost_to_go)
        robot.send(verdict.action, ...)

    `step` is called in every state; in STOPPED and READY it answers zero, and keeps track of
    stamps, sequence numbers and proposals so that `reset` and `arm` can be judged.

    An observation with history has the signals of the periods since the arming. Before it each
    period is shown as if it were an episode's first, as in training.

    Costs are billed at every step that begins in a moving state, except an episode's first:
    a step bills the state that the action before it led to, as in training. So an episode of
    n actions takes n + 1 calls of `step`, then `disarm`; the action of the last is not sent.
    A period in which no new reading came is billed on the last one all the same: being out of
    the corridor costs by the period, not by the message. A moving step whose signals cannot
    be billed, or are older than `source_max_age_s`, costs the most that a step can.

    Args:
        contract: what the policy was trained under.
        limits: of this robot.
        episode_cap: by cost name; may tighten the contract's, never loosen it.
        familiarity: of the bundle; None: strange observations are not noticed.
        evidence: of the deployment's episodes so far; an alarm in it refuses `reset` and `arm`.
            The caller adds each episode to it, and saves it.
        prediction: of the bundle; None: an episode is predicted to cost what the critics expect.
        complain: is told where limits contradict the contract, which then is no error: a log is
            replayed under the limits that were legal in its day. None, as for every robot: it is.

    Raises:
        ContractError: an episode cap that is loosened, unknown or below one step's cost; a
            recovery that is not known; signals that exist in a simulation alone.
        ConfigError: limits that contradict the contract, or name a recovery that is not known.
        BundleError: a familiarity of other observations; a prediction of other costs, or on
            too few episodes for the coverage that the limits ask for.
    """

    def __init__(
        self,
        contract: Contract,
        limits: Limits,
        episode_cap: Mapping[str, float] | None = None,
        familiarity: Familiarity | None = None,
        evidence: Evidence | None = None,
        prediction: Prediction | None = None,
        complain: Callable[[str], None] | None = None,
    ) -> None:
        require_a_robot(contract)
        if familiarity is not None:
            familiarity.require_size(contract.observation_size)
        margin = None
        if prediction is not None:
            prediction.require_size(len(contract.costs))
            margin = prediction.margin(limits.budget.episode_coverage)
        self._contract, self._evidence = contract, evidence
        self._limited_scale = limits.motion.limited_scale
        self._observer = Observer(contract)
        self._earlier: tuple[Signals, ...] = ()  # the newest first
        self._cost_model = CostModel(contract)
        self._budget = Budget(
            contract,
            self._cost_model.largest,
            episode_cap,
            limits.budget.slowdown_budget,
            margin,
            limits.budget.on_prediction,
        )
        self._recovery = RecoveryController(contract, limits.recovery)
        self._actions = ActionLimits(contract)
        self._ladder = Ladder(limits.ladder)
        self._standing = Standing(limits.motion)
        self._freshness = Freshness(limits.freshness, limits.motion)
        self._take_checks(limits, familiarity, complain)
        observed = contract.observed_signals
        self._unknown = {name: np.full(self._shapes[name], math.nan) for name in observed}
        self._zero = np.zeros(contract.action_size)
        self._zero.setflags(write=False)
        self._nothing = (0.0,) * len(contract.costs)
        self._applied = self._zero
        self._elapsed = 0
        self._proposal: Proposal | None = None
        self._ramp_only = False  # in this fallback

    def _take_checks(
        self,
        limits: Limits,
        familiarity: Familiarity | None,
        complain: Callable[[str], None] | None,
    ) -> None:
        """Make the checks that are on, and see whether their limits fit the contract."""
        contract, judges = self._contract, limits.judges()
        parts: tuple[Motion | Judge, ...] = (limits.motion, self._freshness, *judges)
        for part in parts:
            try:
                part.require(contract)
            except ConfigError as error:
                if complain is None:
                    raise
                complain(str(error))
        also = (*self._cost_model.signals, *self._recovery.signals)
        needed = (name for judge in judges for name in judge.signals)
        self._required = required_signals(contract, (*also, *needed))
        self._shapes = wanted_shapes(contract, self._required)
        self._speeds = speed_signals(contract)
        if familiarity is not None:
            judges = (*judges, Drift(familiarity, contract.observed_signals))
        self._at_look, self._at_step, self._in_motion = (
            tuple(judge for judge in judges if judge.when is when) for when in When
        )

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

    def look(self, now_s: float, sources: Mapping[str, Reading]) -> Look:
        """Look at the world, once in a control period; nothing is judged by it. Never raises.

        Args:
            now_s: on the clock that stamps are on.
            sources: what each source said last; it need not be new.
        """
        arrays: dict[str, Array] = {}
        values: dict[str, list[float]] = {}
        stamps: dict[str, float] = {}
        reasons: list[Reason] = []
        failed = False
        try:
            validate_signals(
                sources, self._required, self._shapes, self._speeds, arrays, values, stamps, reasons
            )
        except Exception as error:  # something there is no reading at all
            reasons.append(MONITOR_FAILED(error=type(error).__name__, message=error))
            arrays.clear()
            failed = True
        observation = self._observation(arrays)
        return Look(now_s, sources, observation, arrays, values, stamps, tuple(reasons), failed)

    def _observation(self, measured: Mapping[str, Array]) -> Array:
        return self._observer(self._observed(measured), self._earlier)

    def _observed(self, measured: Mapping[str, Array]) -> Signals:
        left = 1.0 - self._elapsed / self._contract.episode_steps
        own = {
            APPLIED_ACTION: self._contract.normalised(self._applied),
            EPISODE_LEFT: np.array([max(left, 0.0)]),
            BUDGET_LEFT: self._contract.limits - self._budget.spent,
        }
        return {**self._unknown, **measured, **own}

    def _remember(self, look: Look) -> None:
        """Keep what later observations show of this period."""
        if self._observer.remembered:
            signals = self._observed(look.arrays)
            # Copies: a source may write its next reading into the same array.
            kept = {name: signals[name].copy() for name in self._observer.remembered}
            self._earlier = (kept, *self._earlier[: self._observer.depth - 2])

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
        self._earlier = ()
        self._proposal = None
        self._ramp_only = False
        self._freshness.start(now_s)
        self._freshness.forget()
        self._standing.forget()
        for check in (*self._at_step, *self._in_motion):
            check.forget()

    def reset(self, look: Look) -> tuple[Reason, ...]:
        """STOPPED to READY. Returns why not; empty means done.

        Refused while any check allows no more than FALLBACK, while the newest proposal is not
        fresh and zero, and while the robot moves. In READY there is nothing to do.
        """
        if self.state is READY:
            return ()
        refusals = self._refusals(look, STOPPED)
        if not refusals:
            self._ladder.enter(READY)
        return refusals

    def arm(self, look: Look) -> tuple[Reason, ...]:
        """READY to ACTIVE, refused as a reset is. Returns why not; empty means done."""
        refusals = self._refusals(look, READY)
        if not refusals:
            self._ladder.enter(ACTIVE)
            self._freshness.start(look.now_s)
            self._ramp_only = False
            self._earlier = ()
            for check in self._in_motion:
                check.forget()
        return refusals

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
        self, look: Look, proposal: Proposal | None, cost_to_go: Array | None = None
    ) -> Verdict:
        """Judge one control period.

        Args:
            look: of this period.
            proposal: the newest one; None says that none came since, as repeating it does.
            cost_to_go: the cost critics' prediction at this observation, shape (costs,).

        Returns:
            The action to send, and why. Never raises: a failure in here stops the robot.
        """
        was, moving = self._ladder.state, self._ladder.moving
        proposal = self._proposal if proposal is None else proposal
        seen = self._judge(look, proposal, cost_to_go, stepping=True)
        costs, left = self._nothing, max(self._contract.episode_steps - self._elapsed, 0)
        if moving:
            if self._elapsed:
                costs = seen.costs or self._budget.largest
                self._budget.add(costs)
            self._remember(look)
            self._elapsed += 1
            self._budget.judge_run(seen.reasons)
        predicted = self._budget.judge_episode(seen.cost_to_go, left, seen.reasons)
        seen.reasons.sort(key=_by_check)
        self._ladder.judge(look.now_s, seen.reasons, lambda: self._stands(seen))
        self._applied, intervened = self._act(was, seen)
        reasons, budget = self._explain(seen.reasons), self._budget.status(predicted)
        return Verdict(self._applied, self._ladder.state, reasons, budget, costs, intervened)

    def _judge(
        self, look: Look, proposal: Proposal | None, cost_to_go: Array | None, stepping: bool
    ) -> Seen:
        """Run the checks that need no account; remember what was heard only if `stepping`."""
        seen = Seen(
            look.now_s,
            look.sources,
            look.observation,
            look.arrays,
            look.values,
            look.stamps,
            velocity(look.values, self._speeds),
            self._ladder.state,
            self._ladder.moving,
            self._applied.tolist(),
            proposal,
            list(look.reasons),
        )
        if look.failed:
            return seen
        try:
            self._check(seen, cost_to_go)
            if stepping:
                self._freshness.accept(seen)
                self._proposal = proposal
                self._watch_motion(seen)
        except Exception as error:
            seen.reasons.append(MONITOR_FAILED(error=type(error).__name__, message=error))
        return seen

    def _check(self, seen: Seen, cost_to_go: Array | None) -> None:
        seen.costs = self._price(seen.values, seen.reasons)
        self._freshness.judge(seen)
        if seen.doubted and any(self._bills(seen.sources[name]) for name in seen.doubted):
            seen.costs = None  # where the robot was is not where it is
        if seen.proposal is not None:
            seen.action = check_proposal(seen.proposal, self._contract, seen.reasons)
        for check in self._at_look:
            check.judge(seen)
        if cost_to_go is not None:
            seen.cost_to_go = check_cost_to_go(cost_to_go, len(self._nothing), seen.reasons)

    def _watch_motion(self, seen: Seen) -> None:
        """Run the checks that remember how the robot moved."""
        self._standing.listen(seen)
        seen.stands = self._standing.stands(seen)
        for check in self._at_step:
            check.judge(seen)
        if seen.moving:
            for check in self._in_motion:
                check.judge(seen)

    def _bills(self, reading: Reading) -> bool:
        """Whether costs are billed on a reading."""
        return not reading.signals.keys().isdisjoint(self._cost_model.signals)

    def _price(self, values: Numbers, reasons: list[Reason]) -> tuple[float, ...] | None:
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

    def _act(self, was: State, seen: Seen) -> tuple[Array, bool]:
        """Return the action of the present state, and whether it intervenes."""
        if was <= READY:
            return self._zero, False
        state = self._ladder.state
        if not self._ladder.moving:
            return self._zero, True
        if state is not FALLBACK:
            self._ramp_only = False
        limits, previous, wanted = self._actions, self._applied.tolist(), seen.action
        if state is FALLBACK or wanted is None:
            action = limits.admissible(previous, self._fall_back(seen))
            intervened = (
                wanted is None
                or was is not FALLBACK
                or action != limits.admissible(previous, wanted)
            )
        else:
            action = free = limits.admissible(previous, wanted)
            if state is LIMITED:
                # Clipped first: a proposal far outside the limits would not be slowed otherwise.
                slow = [self._limited_scale * value for value in limits.clip(wanted)]
                action = limits.admissible(previous, slow)
            intervened = action != free
        applied = np.array(action)
        applied.setflags(write=False)  # the next one is compared with it
        return applied, intervened

    def _fall_back(self, seen: Seen) -> list[float]:
        """Return what the robot heads for: the recovery's action where it can be trusted, or zero.

        A robot that does not know where it is, or that could run into something, only stops; and
        it goes on to stop when that reason is gone, or it would move in turns with it.
        """
        action = None
        if not all(r.state > FALLBACK or find(r.code).leaves_recovery for r in seen.reasons):
            self._ramp_only = True
        if not self._ramp_only:
            action = self._recovery.act(seen.values)
        return self._zero.tolist() if action is None else action

    def _stands(self, seen: Seen) -> bool:
        """Whether the robot stands, and was last sent zero."""
        return seen.stands and not self._applied.any()

    def _explain(self, reasons: list[Reason]) -> tuple[Reason, ...]:
        """Return this step's reasons, then what else keeps the state down."""
        explained = reasons.copy()
        for cause in self._ladder.causes:
            if all(cause.code != reason.code for reason in reasons):
                explained.append(cause)
        return tuple(explained)

    def _refusals(self, look: Look, needed: State) -> tuple[Reason, ...]:
        """Return what forbids the robot to be made ready or armed."""
        if self.state is not needed:
            return (WRONG_STATE(needed=needed.name, state=self.state.name),)
        seen = self._judge(look, self._proposal, None, stepping=False)
        refusals = [reason for reason in seen.reasons if reason.state <= FALLBACK]
        self._budget.judge_run(refusals)
        if self._evidence is not None:
            self._evidence.judge(refusals)
        if seen.action is not None and any(seen.action):
            refusals.append(PROPOSAL_NOT_ZERO(action=seen.action))
        if not self._standing.stands(seen):
            refusals.append(ROBOT_MOVES())
        return tuple(refusals)


def _by_check(reason: Reason) -> Check:
    return reason.check
