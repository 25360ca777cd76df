"""The control loop: one period after another, between robot, safety monitor and proposer."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from holdfast.bundle.reader import Bundle
from holdfast.log.format import COMPLETED, NO_STEP, STOPPED, EpisodeResult
from holdfast.log.writer import Recorder, Tick
from holdfast.robot.base import Robot
from holdfast.robot.config import RobotConfig
from holdfast.robot.run.reward import RewardModel
from holdfast.safety_monitor.messages import Proposal, Reason, State, Verdict
from holdfast.safety_monitor.monitor import Monitor
from holdfast.safety_monitor.reasons import (
    DEVICE_FAULT,
    PROPOSER_FAULT,
)
from holdfast.signals import Array

LATE_S = 1e-3
"""A period that begins later than this after its deadline has missed the deadline, s."""


class Proposer(Protocol):
    """A source of proposed actions: a policy, a teleoperation or a navigation.

    Attributes:
        late: the newest question was not answered in time.
        ended: no answer will ever come.
    """

    late: bool
    ended: bool

    def ask(self, sequence: int, now_s: float, may_move: bool, observation: Array) -> None:
        """Ask for a proposal, without waiting."""

    def answer(self, limit_s: float) -> tuple[Proposal, float] | None:
        """Wait for a proposal and its log-probability, which is NaN where nothing was sampled."""

    def status_text(self) -> str:
        """Return in words what is wrong with a proposer that ended or is late."""

    def faults(self) -> tuple[str, ...]:
        """Return why no proposal may be used, a sentence for each reason."""


@dataclass
class Account:
    """The counts of an episode under way.

    Attributes:
        costs: sums so far, shape (costs,).
        reward: sum so far; NaN where the contract has no reward, or a step's was not known.
        begun: a period of the episode was run.
    """

    costs: Array
    reward: float
    steps: int = 0
    interventions: int = 0
    deadline_misses: int = 0
    begun: bool = False

    def result(self, episode: int, code: str, text: str) -> EpisodeResult:
        """Return the result of the episode; without a code it was completed."""
        return EpisodeResult(
            episode=episode,
            steps=self.steps,
            costs=tuple(self.costs.tolist()),
            interventions=self.interventions,
            deadline_misses=self.deadline_misses,
            ended=STOPPED if code else COMPLETED,
            code=code,
            text=text,
            reward_return=self.reward if math.isfinite(self.reward) else None,
        )


class Loop:
    """Runs control periods: wait, read, propose, judge, act, record.

    Args:
        robot: the connected robot.
        monitor: the safety monitor; its contract is the loop's.
        proposer: the source of proposals.
        bundle: the bundle whose cost critics predict costs; None: costs are not predicted.
        recorder: writes the log; None: nothing is logged.
        config: the robot's configuration, for its time limits.

    Attributes:
        now_s: start of the present period, on the robot's clock.
        look: the monitor's look at the readings of the present period.
        account: counts of the present episode.
        changed_by: number of periods of all episodes in which the monitor changed the action, by
            the code of each reason that held.
    """

    def __init__(
        self,
        robot: Robot,
        monitor: Monitor,
        proposer: Proposer,
        bundle: Bundle | None,
        recorder: Recorder | None,
        config: RobotConfig,
    ) -> None:
        self.robot, self.monitor, self.proposer = robot, monitor, proposer
        self.recorder = recorder
        self._bundle, self._config = bundle, config
        self.contract = monitor.contract
        lockstep = robot.identity.lockstep
        self._proposal_wait_s = config.lockstep_wait_s if lockstep else config.proposal_wait_s
        self._sequence = 0
        self._faults: dict[str, tuple[str, ...]] = {}
        self._reward = RewardModel(self.contract)
        self._no_prediction = np.full(len(self.contract.costs), math.nan)
        self.now_s = self._next_s = robot.now_s()
        self.look = monitor.look(self.now_s, {})
        self.account = self._new_account()
        self.changed_by: Counter[str] = Counter()

    def _new_account(self) -> Account:
        nothing = math.nan if self.contract.reward is None else 0.0
        return Account(np.zeros(len(self.contract.costs)), nothing)

    def begin_episode(self) -> None:
        """Zero the accounts of the loop and of the monitor; the next period begins now."""
        self.account = self._new_account()
        self.now_s = self._next_s = self.robot.now_s()
        self.monitor.begin_episode(self.now_s)
        self.event("begin_episode")

    def reset(self) -> tuple[Reason, ...]:
        """Ask the monitor for a reset; return why it was refused."""
        refusals = self.monitor.reset(self.look)
        self.event("reset", *_first(refusals))
        return refusals

    def arm(self) -> tuple[Reason, ...]:
        """Ask the monitor for an arming; return why it was refused."""
        refusals = self.monitor.arm(self.look)
        self.event("arm", *_first(refusals))
        return refusals

    def stop(self, code: str, text: str) -> None:
        """Latch the stop of the monitor."""
        self.monitor.stop(code, text)
        self.event("stop", code, text)

    def disarm(self) -> None:
        """End the monitor's permission to move, without fault."""
        self.monitor.disarm()
        self.event("disarm")

    def event(self, name: str, code: str = "", text: str = "") -> None:
        """Record an event of the monitor."""
        if self.recorder is not None:
            self.recorder.event(self.now_s, name, code, text)

    def record(self, result: EpisodeResult) -> None:
        """Record how an episode ended."""
        if self.recorder is not None:
            self.recorder.episode(self.now_s, result)

    def wait(self, armed: bool) -> None:
        """Wait for the next deadline. Deadlines are absolute: a late period moves none of them.

        After the clock was set back, the next period begins at once.
        """
        late_s = self.robot.now_s() - self._next_s
        if late_s > LATE_S:
            self.account.deadline_misses += armed
            period_s = self.contract.period_s
            self._next_s += math.floor(late_s / period_s) * period_s  # missed deadlines
        elif late_s < -2.0 * self.contract.period_s:
            self._next_s += late_s
        self.robot.wait(self._next_s)
        self._next_s += self.contract.period_s

    def tick(self, number: int, step: int) -> Verdict:
        """Run one period, after `wait`.

        The last period of an episode, and one in which the monitor stops the robot, send nothing:
        the caller has to disarm the robot.

        Args:
            number: number of the episode.
            step: number of the action in its episode; NO_STEP while the robot is not armed.
        """
        armed = step != NO_STEP
        final = step == self.contract.episode_steps

        sources = self.robot.readings()
        now_s = self.now_s = self.robot.now_s()
        self._look_for_faults()
        look = self.look = self.monitor.look(now_s, sources)
        observation = look.observation

        self.proposer.ask(self._sequence, now_s, armed and not final, observation)
        cost_to_go = None if self._bundle is None else self._bundle.cost_to_go(observation)
        hangs = self.proposer.late and self.robot.identity.lockstep
        answer = self.proposer.answer(0.0 if hangs else self._proposal_wait_s)
        proposal, log_prob = answer or (None, math.nan)

        verdict = self.monitor.step(look, proposal, cost_to_go)

        final = final or (armed and verdict.state is State.STOPPED)
        if armed and not final:
            self.robot.send(verdict.action, self._config.command_valid_for_s)

        self._sequence += 1  # first: if the log is lost, the next question still needs a new number
        if self.recorder is not None:
            self.recorder.step(
                Tick(
                    now_s=now_s,
                    sources=sources,
                    observation=observation,
                    proposal=proposal,
                    log_prob=log_prob,
                    cost_to_go=self._no_prediction if cost_to_go is None else cost_to_go,
                    verdict=verdict,
                    episode=number,
                    step=step,
                    final=final,
                )
            )
        if armed:
            self._count(step, verdict, self._reward.step(sources))
        return verdict

    def _count(self, step: int, verdict: Verdict, reward: float) -> None:
        account = self.account
        account.begun = True
        account.costs += verdict.costs
        if step > 0:  # no action of this episode led to its first reading
            account.reward += reward
        if verdict.intervened:
            account.interventions += 1
            self.changed_by.update(reason.code for reason in verdict.reasons)
        stopped = verdict.state is State.STOPPED
        account.steps += step < self.contract.episode_steps and not stopped

    def _look_for_faults(self) -> None:
        """Stop the monitor for faults of robot and proposer; again only after they changed."""
        for code, faults in (
            (DEVICE_FAULT.code, self.robot.faults()),
            (PROPOSER_FAULT.code, self.proposer.faults()),
        ):
            known = self._faults.get(code) == faults and self.monitor.state is State.STOPPED
            if faults and not known:
                self._faults[code] = faults
                self.stop(code, "; ".join(faults))


def _first(refusals: tuple[Reason, ...]) -> tuple[str, str]:
    return (refusals[0].code, refusals[0].text) if refusals else ("", "")
