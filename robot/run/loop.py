"""The loop: one control period after another, between a robot, its monitor and who proposes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from holdfast.bundle.reader import Bundle
from holdfast.log.format import COMPLETED, NO_STEP, STOPPED, EpisodeResult
from holdfast.log.writer import Recorder, Tick
from holdfast.robot.base import Robot
from holdfast.robot.config import RobotConfig
from holdfast.safety_monitor.messages import Proposal, Reason, State, Verdict
from holdfast.safety_monitor.monitor import Monitor
from holdfast.safety_monitor.reasons import (
    DEVICE_FAULT,
    FALLBACK_ENDED,
    OF_THE_EPISODE,
    PROPOSER_FAULT,
)
from holdfast.signals import Array

LATE_S = 1e-3
"""A period that begins later than this after its deadline has missed it."""


class Proposer(Protocol):
    """Who proposes actions: a policy, or anything else that would like to move the robot.

    Attributes:
        late: the newest question was not answered in time.
        ended: no answer will ever come.
    """

    late: bool
    ended: bool

    def ask(self, sequence: int, now_s: float, may_move: bool, observation: Array) -> None:
        """Ask for a proposal; does not wait."""

    def answer(self, limit_s: float) -> tuple[Proposal, float] | None:
        """Wait for a proposal; with it comes its log-probability, NaN where none was sampled."""

    def status_text(self) -> str:
        """Say what became of a proposer that ended or is late."""

    def faults(self) -> tuple[str, ...]:
        """Say why nothing that it proposes may be used, a sentence each."""


@dataclass
class Account:
    """What is counted while an episode goes on; `costs` are sums."""

    costs: Array
    steps: int = 0
    interventions: int = 0
    deadline_misses: int = 0
    begun: bool = False

    def result(self, episode: int, code: str, text: str) -> EpisodeResult:
        """Return how the episode ended; without a code it was completed."""
        return EpisodeResult(
            episode=episode,
            steps=self.steps,
            costs=tuple(self.costs.tolist()),
            interventions=self.interventions,
            deadline_misses=self.deadline_misses,
            ended=STOPPED if code else COMPLETED,
            code=code,
            text=text,
        )


class Loop:
    """Control periods: wait, read, propose, judge, act, record.

    Args:
        robot: connected.
        monitor: decides; its contract is the loop's.
        proposer: proposes.
        bundle: for its cost critics; None: costs are not predicted.
        recorder: writes the log; None: nothing is logged.

    Attributes:
        now_s: when the present period began, on the robot's clock.
        look: the monitor's look at what was read in it.
        account: of the present episode.
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
        self._no_prediction = np.full(len(self.contract.costs), math.nan)
        self.now_s = self._next_s = robot.now_s()
        self.look = monitor.look(self.now_s, {})
        self.open_account()

    def open_account(self) -> None:
        """Count anew, for another episode."""
        self.account = Account(np.zeros(len(self.contract.costs)))

    def begin_episode(self) -> None:
        """Zero the monitor's accounts; the next period begins now."""
        self.now_s = self._next_s = self.robot.now_s()
        self.monitor.begin_episode(self.now_s)
        self.event("begin_episode")

    def reset(self) -> tuple[Reason, ...]:
        """Ask the monitor to be reset; return why not."""
        refusals = self.monitor.reset(self.look)
        self.event("reset", *_first(refusals))
        return refusals

    def arm(self) -> tuple[Reason, ...]:
        """Ask the monitor to be armed; return why not."""
        refusals = self.monitor.arm(self.look)
        self.event("arm", *_first(refusals))
        return refusals

    def stop(self, code: str, text: str) -> None:
        """Latch the monitor's stop."""
        self.monitor.stop(code, text)
        self.event("stop", code, text)

    def disarm(self) -> None:
        """End the monitor's motion, without fault."""
        self.monitor.disarm()
        self.event("disarm")

    def event(self, name: str, code: str = "", text: str = "") -> None:
        """Record what was asked of the monitor."""
        if self.recorder is not None:
            self.recorder.event(self.now_s, name, code, text)

    def record(self, result: EpisodeResult) -> None:
        """Record how an episode ended."""
        if self.recorder is not None:
            self.recorder.episode(self.now_s, result)

    def wait(self, armed: bool) -> None:
        """Wait for the next deadline. Deadlines are absolute: being late moves none of them.

        A clock that was set back does: the next period begins at once.
        """
        late_s = self.robot.now_s() - self._next_s
        if late_s > LATE_S:
            self.account.deadline_misses += armed
            period_s = self.contract.period_s
            self._next_s += math.floor(late_s / period_s) * period_s  # those are gone
        elif late_s < -2.0 * self.contract.period_s:
            self._next_s += late_s
        self.robot.wait(self._next_s)
        self._next_s += self.contract.period_s

    def tick(self, number: int, step: int) -> Verdict:
        """One period, after `wait`. The last one of an episode disarms the robot.

        Args:
            number: of the episode.
            step: of the episode; NO_STEP while the robot is not armed.
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
        elif armed:
            self.robot.disarm()

        self._sequence += 1  # first: a log that is lost must not make the next proposal an old one
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
            self._count(step, verdict)
        return verdict

    def _count(self, step: int, verdict: Verdict) -> None:
        account = self.account
        account.begun = True
        account.costs += verdict.costs
        account.interventions += verdict.intervened
        stopped = verdict.state is State.STOPPED
        account.steps += step < self.contract.episode_steps and not stopped

    def _look_for_faults(self) -> None:
        """What robot or proposer say is wrong stops the monitor; said again only if it changes."""
        for code, faults in (
            (DEVICE_FAULT.code, self.robot.faults()),
            (PROPOSER_FAULT.code, self.proposer.faults()),
        ):
            known = self._faults.get(code) == faults and self.monitor.state is State.STOPPED
            if faults and not known:
                self._faults[code] = faults
                self.stop(code, "; ".join(faults))


def causes(verdict: Verdict) -> tuple[Reason, Reason | None]:
    """Return what stopped the robot, and the fault behind it if it was one."""
    held = [r for r in verdict.reasons if r.state <= State.FALLBACK]
    held.sort(key=lambda reason: (reason.code == FALLBACK_ENDED.code, reason.state))
    fault = next((r for r in held if r.check not in OF_THE_EPISODE), held[0])
    if fault.code == FALLBACK_ENDED.code or fault.check in OF_THE_EPISODE:
        return held[0], None
    return fault, fault


def _first(refusals: tuple[Reason, ...]) -> tuple[str, str]:
    return (refusals[0].code, refusals[0].text) if refusals else ("", "")
