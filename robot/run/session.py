"""The session: one state machine for the episodes of a run, whoever starts them.

    idle ──start──▶ starting ──the monitor agrees──▶ armed ──last step, stop or end──▶ idle

Episodes are started by count (`by_count`, for the command line) or by request (`by_request`, for
the services of a ROS node). Faults are treated, and episodes numbered, recorded and reported, here
alone.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence

from holdfast.contract import Contract
from holdfast.errors import HoldfastError, LinkError, LogError, RefusedError, RunError
from holdfast.log.format import NO_STEP, EpisodeResult
from holdfast.plain import counted
from holdfast.robot.run.deployment import Deployment
from holdfast.robot.run.loop import Loop
from holdfast.safety_monitor.messages import Reason, State, Verdict
from holdfast.safety_monitor.reasons import FALLBACK_ENDED, OF_THE_EPISODE

_log = logging.getLogger(__name__)


class Interrupted(Exception):
    """A person or a program ends the run, without fault."""


class MonitorFault(RunError):
    """The monitor stopped the robot because of a fault; after a reset the robot may be armed again.

    Attributes:
        verdict: the verdict that stopped the robot.
    """

    def __init__(self, message: str, code: str, verdict: Verdict) -> None:
        super().__init__(message, code)
        self.verdict = verdict


CODES = (
    (Interrupted, "interrupted"),
    (RefusedError, "robot_refused"),
    (LinkError, "link_lost"),
    (LogError, "log_lost"),
)
"""Codes of errors in the log, the first that fits; a RunError brings its own code."""


class Session:
    """Runs episodes: begin, arm, tick, end, account.

    A driver calls `wait` and `tick` in every period, and passes whatever these raise to `stop`.

    Args:
        loop: the control loop over a connected robot.
        ready_wait_s: longest time from `start` until the monitor lets the robot be armed, s.
        report: called after each episode, also after one that was cut short; the robot stands
            then.
        deployment: counts each episode as evidence; None: no evidence is kept.

    Attributes:
        loop: the control loop.
        ready_wait_s: as given.
        number: number of the present episode, from 0, as in the log; between two episodes it is
            that of the last one.
        starting: an episode was started, and the robot is not armed yet.
        refusals: why the robot was not armed at the last tick, a sentence each.
        result: how the last episode ended; None before the first end.
    """

    def __init__(
        self,
        loop: Loop,
        ready_wait_s: float,
        report: Callable[[EpisodeResult], None],
        deployment: Deployment | None = None,
    ) -> None:
        self.loop = loop
        self.number = 0
        self.starting = False
        self.refusals: tuple[str, ...] = ()
        self.result: EpisodeResult | None = None
        self.ready_wait_s, self._report, self._deployment = ready_wait_s, report, deployment
        self._step = NO_STEP
        self._begun = 0  # episodes
        self._fresh = False  # the accounts are zero, for an episode that was not armed yet
        self._resets = False
        self._ready_until_s = 0.0

    @property
    def armed(self) -> bool:
        """Whether an episode is under way: the robot may move."""
        return self._step != NO_STEP

    # Starting an episode.

    def begin(self) -> None:
        """Zero the accounts for the next episode, unless they are zero already.

        The monitor's opinion of the new episode is known after the next tick.
        """
        if not self._fresh:
            self.number, self._begun = self._begun, self._begun + 1
            self.loop.begin_episode()
            self._fresh = True

    def start(self, reset: bool) -> None:
        """Begin an episode, and arm the robot as soon as the monitor agrees, or give up.

        Args:
            reset: also reset a monitor that is stopped; otherwise a stop is a refusal.
        """
        self.begin()
        self.starting, self._resets = True, reset
        self._ready_until_s = self.loop.now_s + self.ready_wait_s

    def reset(self) -> tuple[str, ...]:
        """Ask the monitor to be reset; nothing moves by that.

        Returns:
            Why it was refused, a sentence each; empty if it was done.
        """
        return self.loop.robot.faults() or _texts(self.loop.reset())

    def _try_to_arm(self) -> None:
        refusals: tuple[str, ...] = ()
        if self._resets and self.loop.monitor.state is State.STOPPED:
            refusals = self.reset()
        self.refusals = refusals = refusals or _texts(self.loop.arm())
        if not refusals:
            self.loop.robot.arm()
            self.starting, self._fresh, self._step = False, False, 0
            return
        hopeless = self.loop.monitor.state is State.STOPPED and not self._resets
        self.starting = not hopeless and self.loop.now_s <= self._ready_until_s

    # A period.

    def wait(self) -> None:
        """Wait for the next period."""
        self.loop.wait(self.armed)

    def tick(self) -> Verdict:
        """Run the period that `wait` waited for; arm the robot, or end the episode, where due.

        Raises:
            MonitorFault: the monitor stopped the robot because of a fault.
            LinkError: the link to the robot was lost, or the robot refused to be armed.
            LogError: the log can no longer be written.
            RunError: the evidence can no longer be written.
        """
        verdict = self.loop.tick(self.number, self._step)
        if self.starting:
            self._try_to_arm()
        elif self.armed and verdict.state is State.STOPPED:
            self._end_by_monitor(verdict)
        elif self._step == self.loop.contract.episode_steps:
            self.end()
        elif self.armed:
            self._step += 1
        return verdict

    # Ends.

    def end(self, code: str = "", text: str = "") -> None:
        """Disarm the robot; an episode that was under way ends without fault.

        Args:
            code, text: why the episode was cut short; empty: it was completed.
        """
        self.starting = False
        self.loop.robot.disarm()
        self._close(code, text)

    def _end_by_monitor(self, verdict: Verdict) -> None:
        """End an episode that the monitor stopped, or raise MonitorFault.

        The first cause comes first: a disarm that fails afterwards does not replace it.
        """
        cause, fault = causes(verdict)
        failed = ""
        try:
            self.loop.robot.disarm()
        except LinkError as error:
            failed = f"; then the robot could not be disarmed: {error}"
        if not (fault or failed):
            self._close(cause.code, cause.text)
            return
        sentence, proposer = f"the monitor stopped the robot: {cause.text}", self.loop.proposer
        if fault and (proposer.ended or proposer.late):
            sentence = f"{proposer.status_text()}; {sentence}"
        raise MonitorFault(sentence + failed, cause.code, verdict)

    def _close(self, code: str, text: str) -> None:
        self.loop.disarm()
        self._account(code, text)

    def stop(self, error: Exception) -> None:
        """Disarm the robot and latch the monitor's stop, because of a fault or an interruption.

        An episode that was under way ends with the error's code and sentence. Only a reset and a
        start let the robot move again.

        Args:
            error: what a driver caught, or `Interrupted`.
        """
        code, text = _code(error), sentence_of(error)
        self.starting = False
        with contextlib.suppress(Exception):  # the robot may be what failed; it stops by itself
            self.loop.robot.disarm()
        if isinstance(error, LogError):
            self.loop.recorder = None
        with contextlib.suppress(LogError):
            self.loop.stop(code, text)
        try:
            self._account(code, text)
        except Exception as second:  # the first error decides; the second must be known too
            _log.error("%s", sentence_of(second))

    def _account(self, code: str, text: str) -> None:
        """Record, report and count how an episode ended, if a period of it was logged."""
        if not self.armed:
            return
        self._step = NO_STEP
        if not self.loop.account.begun:
            return
        result = self.result = self.loop.account.result(self.number, code, text)
        try:
            self.loop.record(result)
        finally:
            self._report(result)
            if self._deployment is not None:
                self._deployment.add(result)


def causes(verdict: Verdict) -> tuple[Reason, Reason | None]:
    """Return why the robot was stopped, and that again if it was a fault."""
    held = [r for r in verdict.reasons if r.state <= State.FALLBACK]
    held.sort(key=lambda reason: (reason.code == FALLBACK_ENDED.code, reason.state))
    fault = next((r for r in held if r.check not in OF_THE_EPISODE), held[0])
    if fault.code == FALLBACK_ENDED.code or fault.check in OF_THE_EPISODE:
        return held[0], None
    return fault, fault


def sentence_of(error: Exception) -> str:
    """Return an error for people; one that is no HoldfastError is a mistake in a program."""
    return str(error) if isinstance(error, HoldfastError | Interrupted) else repr(error)


def _code(error: Exception) -> str:
    known = (code for kind, code in CODES if isinstance(error, kind))
    return next(known, error.code if isinstance(error, RunError) else "run_failed")


def _texts(refusals: Sequence[Reason]) -> tuple[str, ...]:
    return tuple(reason.text for reason in refusals)


def episode_text(
    result: EpisodeResult, contract: Contract, episode_cap: Mapping[str, float]
) -> str:
    """Return how an episode went, for people; its number is that of the log."""
    parts = (
        f"{result.steps} steps",
        *return_texts(result.reward_return),
        *cost_texts(result.costs, contract, episode_cap),
        counted(result.interventions, "intervention"),
        f"{result.deadline_misses} deadline misses",
        result.ended + (f": {result.text}" if result.text else ""),
    )
    return f"episode {result.episode}: {', '.join(parts)}"


def return_texts(reward_return: float | None) -> tuple[str, ...]:
    """Return a text for a reward return; none where it is not known."""
    return () if reward_return is None else (f"return {reward_return:g}",)


def cost_texts(
    values: Sequence[float], contract: Contract, episode_cap: Mapping[str, float]
) -> tuple[str, ...]:
    """Return a text for each cost: its value, its limit d and its episode cap."""
    return tuple(
        f"{cost.name} {value:g} (d {cost.limit:g}, episode cap {episode_cap[cost.name]:g})"
        for cost, value in zip(contract.costs, values, strict=True)
    )
