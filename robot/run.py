"""The run: episodes of a policy on a robot, behind the monitor, one period after another."""

from __future__ import annotations

import contextlib
import gc
import math
import select
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from holdfast.errors import ConfigError, LinkError, LogError, RunError
from holdfast.policy.bundle import Bundle
from holdfast.robot.base import Robot
from holdfast.robot.config import RobotConfig
from holdfast.robot.log_format import COMPLETED, NO_STEP, STOPPED, EpisodeResult
from holdfast.robot.policy_process import PolicyProcess
from holdfast.robot.recorder import Recorder, Tick
from holdfast.safety_monitor.messages import Check, Reading, Reason, State, Verdict
from holdfast.safety_monitor.monitor import Monitor
from holdfast.signals import Array

SOURCE = "robot"
"""What the monitor and the log call the one source of signals."""

LATE_S = 1e-3
"""A period that begins later than this after its deadline has missed it."""

OF_THE_EPISODE = frozenset({Check.ENVELOPE, Check.BUDGET, Check.FAMILIARITY})
"""Checks that stop an episode; what any other check stops, ends the run."""


class Interrupted(Exception):
    """Somebody wants the run to end: SIGINT, SIGTERM or SIGHUP."""

    code = "interrupted"


@dataclass
class _Account:
    """What is counted while an episode goes on; `costs` are sums."""

    costs: Array
    steps: int = 0
    interventions: int = 0
    deadline_misses: int = 0
    begun: bool = False


class Run:
    """Runs episodes. Whatever happens, it leaves the robot stopped, or to its own watchdog.

    Args:
        robot: connected.
        bundle: for the cost critics; the policy itself runs in `policy`'s process.
        prompt: ask a person to place a robot that cannot place itself.
        report: called after each episode, also one that was cut short; the robot stands then.
    """

    def __init__(
        self,
        robot: Robot,
        bundle: Bundle,
        monitor: Monitor,
        policy: PolicyProcess,
        recorder: Recorder,
        config: RobotConfig,
        prompt: bool,
        report: Callable[[EpisodeResult], None],
    ) -> None:
        self._robot, self._bundle, self._monitor = robot, bundle, monitor
        self._policy, self._recorder, self._config = policy, recorder, config
        self._prompt = prompt and not robot.identity.self_placing
        self._report = report
        self._contract = bundle.contract
        lockstep = robot.identity.lockstep
        self._proposal_wait_s = config.lockstep_wait_s if lockstep else config.proposal_wait_s
        self._sequence = 0
        self._now_s = self._next_s = robot.now_s()
        self._sources: Mapping[str, Reading] = {}
        self._account = _Account(np.zeros(len(self._contract.costs)))
        self._interrupted = False

    def run(self, episodes: int) -> None:
        """Run episodes.

        Raises:
            Interrupted: by a signal.
            RunError: a fault ended the run.
            LinkError: the link was lost; the device stops by itself.
            LogError: the log can no longer be written.
        """
        with self._signals_caught(), _no_garbage_collection():
            for number in range(episodes):
                self._episode(number)
                gc.collect()  # the robot stands, there is time for it

    # Episodes.

    def _episode(self, number: int) -> None:
        self._account = _Account(np.zeros(len(self._contract.costs)))
        try:
            self._make_ready(number)
            stopped = self._act(number)
        except Exception as error:
            self._halt(error)
            with contextlib.suppress(LogError):
                self._end(number, _code(error), str(error))
            raise
        self._monitor.disarm()
        self._recorder.event(self._now_s, "disarm")
        self._end(number, stopped.code if stopped else "", stopped.text if stopped else "")

    def _make_ready(self, number: int) -> None:
        """Place the robot, and wait until the monitor lets it be armed."""
        if self._prompt:
            self._ask_person(number)
        if self._prompt or self._robot.identity.self_placing or number == 0:
            self._robot.reset()  # else it goes on from where it stands, and so does its odometry
        self._now_s = self._next_s = self._robot.now_s()
        self._monitor.begin_episode(self._now_s)
        self._recorder.event(self._now_s, "begin_episode")
        limit_s = self._now_s + self._config.ready_wait_s
        self._tick(number, NO_STEP)
        while refusals := self._refusals():
            if self._now_s > limit_s:
                texts = "; ".join(reason.text for reason in refusals)
                raise RunError(f"the monitor does not let the robot start: {texts}", "not_ready")
            self._tick(number, NO_STEP)
        self._robot.arm()

    def _refusals(self) -> tuple[Reason, ...]:
        """Ask the monitor to be reset, where needed, and armed; return why not."""
        refusals: tuple[Reason, ...] = ()
        if self._monitor.state is State.STOPPED:
            refusals = self._monitor.reset(self._now_s, self._sources)
            self._recorder.event(self._now_s, "reset", *_first(refusals))
        if not refusals:
            refusals = self._monitor.arm(self._now_s, self._sources)
            self._recorder.event(self._now_s, "arm", *_first(refusals))
        return refusals

    def _act(self, number: int) -> Reason | None:
        """Run the episode's steps, and one more that bills the last action.

        Returns:
            What stopped the episode; None if it was completed.
        """
        account, steps = self._account, self._contract.episode_steps
        for step in range(steps + 1):
            verdict = self._tick(number, step)
            account.begun = True
            account.costs += verdict.costs
            account.interventions += verdict.intervened
            if verdict.state is State.STOPPED:
                return self._cause(verdict)
            account.steps += step < steps
        return None

    def _cause(self, verdict: Verdict) -> Reason:
        """Return what stopped the episode, or raise RunError if that should end the run."""
        held = [r for r in verdict.reasons if r.state <= State.FALLBACK]
        held.sort(key=lambda reason: (reason.code == "fallback_ended", reason.state))
        fault = next((r for r in held if r.check not in OF_THE_EPISODE), held[0])
        if fault.code == "fallback_ended" or fault.check in OF_THE_EPISODE:
            return held[0]
        sentence = f"the monitor stopped the robot: {fault.text}"
        if self._policy.ended:
            sentence = f"the policy process {self._policy.fate()}; {sentence}"
        elif self._policy.late:
            sentence = f"the policy process hangs; {sentence}"
        raise RunError(sentence, fault.code)

    def _ask_person(self, number: int) -> None:
        print(f"Place the robot for episode {number + 1}, then press Enter.", flush=True)
        while not select.select([sys.stdin], [], [], 0.0)[0]:
            self._tick(number, NO_STEP)
        if not sys.stdin.readline():
            raise ConfigError(
                "nobody can press Enter: standard input is closed; with --no-prompt, "
                "episodes start where the robot stands"
            )

    # A period.

    def _tick(self, number: int, step: int) -> Verdict:
        """One period: wait, read, propose, judge, act, record. The last one of an episode disarms.

        Args:
            step: of the episode; NO_STEP while the robot is not armed.
        """
        armed = step != NO_STEP
        final = step == self._contract.episode_steps

        self._wait(armed)
        if self._interrupted:
            raise Interrupted("interrupted")

        reading = self._robot.read()
        now_s = self._now_s = self._robot.now_s()
        sources = self._sources = {SOURCE: reading}
        if faults := self._robot.faults():
            self._monitor.stop("device_fault", "; ".join(faults))
            self._recorder.event(now_s, "stop", "device_fault", "; ".join(faults))
        observation = self._monitor.observe(sources)

        self._policy.ask(self._sequence, now_s, armed and not final, observation)
        cost_to_go = self._bundle.cost_to_go(observation)  # while the policy thinks
        hangs = self._policy.late and self._robot.identity.lockstep
        answer = self._policy.answer(0.0 if hangs else self._proposal_wait_s)
        proposal, log_prob = answer or (None, math.nan)

        verdict = self._monitor.step(now_s, sources, proposal, cost_to_go)

        final = final or (armed and verdict.state is State.STOPPED)
        if armed and not final:
            self._robot.send(verdict.action, self._config.command_valid_for_s)
        elif armed:
            self._robot.disarm()

        self._recorder.step(
            Tick(
                now_s=now_s,
                sources=sources,
                observation=observation,
                proposal=proposal,
                log_prob=log_prob,
                cost_to_go=cost_to_go,
                verdict=verdict,
                episode=number,
                step=step,
                final=final,
            )
        )
        self._sequence += 1
        return verdict

    def _wait(self, armed: bool) -> None:
        """Wait for the next deadline. Deadlines are absolute: being late moves none of them."""
        late_s = self._robot.now_s() - self._next_s
        if late_s > LATE_S:
            self._account.deadline_misses += armed
            period_s = self._contract.period_s
            self._next_s += math.floor(late_s / period_s) * period_s  # those are gone
        self._robot.wait(self._next_s)
        self._next_s += self._contract.period_s

    # Ends.

    def _halt(self, error: Exception) -> None:
        """Stop the robot, as far as the link still lives."""
        with contextlib.suppress(LinkError):
            if isinstance(error, Interrupted):
                if self._monitor.state >= State.FALLBACK:
                    zero = np.zeros(self._contract.action_size)
                    self._robot.send(zero, self._config.command_valid_for_s)
                self._robot.disarm()
            else:
                self._robot.stop()
        self._monitor.stop(_code(error), str(error))
        with contextlib.suppress(LogError):
            self._recorder.event(self._now_s, "stop", _code(error), str(error))

    def _end(self, number: int, code: str, text: str) -> None:
        """Record and report how an episode ended, if it had begun."""
        account = self._account
        if not account.begun:
            return
        result = EpisodeResult(
            episode=number,
            steps=account.steps,
            costs=tuple(account.costs.tolist()),
            interventions=account.interventions,
            deadline_misses=account.deadline_misses,
            ended=STOPPED if code else COMPLETED,
            code=code,
            text=text,
        )
        try:
            self._recorder.episode(self._now_s, result)
        finally:
            self._report(result)

    @contextlib.contextmanager
    def _signals_caught(self) -> Iterator[None]:
        """Let signals end the run between two periods, never within one."""

        def interrupt(*_: object) -> None:
            self._interrupted = True

        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # SIGHUP: the terminal went
        before = {number: signal.signal(number, interrupt) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A full collection would cost 30 to 300 ms in the middle of a period."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def _code(error: Exception) -> str:
    """Return what the log calls an error."""
    return "link_lost" if isinstance(error, LinkError) else getattr(error, "code", "run_failed")


def _first(refusals: tuple[Reason, ...]) -> tuple[str, str]:
    return (refusals[0].code, refusals[0].text) if refusals else ("", "")
