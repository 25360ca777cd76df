"""The run: episodes of a policy on a robot, behind the monitor, one period after another."""

from __future__ import annotations

import contextlib
import gc
import select
import signal
import sys
from collections.abc import Callable, Iterator

import numpy as np

from holdfast.errors import ConfigError, LinkError, LogError, RunError
from holdfast.log.format import NO_STEP, EpisodeResult
from holdfast.robot.config import RobotConfig
from holdfast.robot.run.loop import Loop, causes
from holdfast.safety_monitor.messages import Reason, State, Verdict
from holdfast.safety_monitor.reasons import LINK_LOST


class Interrupted(Exception):
    """Somebody wants the run to end: SIGINT, SIGTERM or SIGHUP."""

    code = "interrupted"


class Run:
    """Runs episodes. Whatever happens, it leaves the robot stopped, or to its own watchdog.

    Args:
        loop: over a connected robot.
        prompt: ask a person to place a robot that cannot place itself.
        report: called after each episode, also one that was cut short; the robot stands then.
    """

    def __init__(
        self,
        loop: Loop,
        config: RobotConfig,
        prompt: bool,
        report: Callable[[EpisodeResult], None],
    ) -> None:
        self._loop, self._robot, self._config = loop, loop.robot, config
        self._prompt = prompt and not loop.robot.identity.self_placing
        self._report = report
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
        self._loop.open_account()
        try:
            self._make_ready(number)
            stopped = self._act(number)
        except Exception as error:
            self._halt(error)
            with contextlib.suppress(LogError):
                self._end(number, _code(error), str(error))
            raise
        self._loop.disarm()
        self._end(number, stopped.code if stopped else "", stopped.text if stopped else "")

    def _make_ready(self, number: int) -> None:
        """Place the robot, and wait until the monitor lets it be armed."""
        loop = self._loop
        if self._prompt:
            self._ask_person(number)
        if self._prompt or self._robot.identity.self_placing or number == 0:
            self._robot.reset()  # else it goes on from where it stands, and so does its odometry
        loop.begin_episode()
        limit_s = loop.now_s + self._config.ready_wait_s
        self._tick(number, NO_STEP)
        while refusals := self._refusals():
            if loop.now_s > limit_s:
                texts = "; ".join(reason.text for reason in refusals)
                raise RunError(f"the monitor does not let the robot start: {texts}", "not_ready")
            self._tick(number, NO_STEP)
        self._robot.arm()

    def _refusals(self) -> tuple[Reason, ...]:
        """Ask the monitor to be reset, where needed, and armed; return why not."""
        refusals: tuple[Reason, ...] = ()
        if self._loop.monitor.state is State.STOPPED:
            refusals = self._loop.reset()
        return refusals or self._loop.arm()

    def _act(self, number: int) -> Reason | None:
        """Run the episode's steps, and one more that bills the last action.

        Returns:
            What stopped the episode; None if it was completed.
        """
        for step in range(self._loop.contract.episode_steps + 1):
            verdict = self._tick(number, step)
            if verdict.state is State.STOPPED:
                return self._cause(verdict)
        return None

    def _cause(self, verdict: Verdict) -> Reason:
        """Return what stopped the episode, or raise RunError if that should end the run."""
        cause, fault = causes(verdict)
        if fault is None:
            return cause
        sentence, proposer = f"the monitor stopped the robot: {fault.text}", self._loop.proposer
        if proposer.ended or proposer.late:
            sentence = f"{proposer.status_text()}; {sentence}"
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

    def _tick(self, number: int, step: int) -> Verdict:
        self._loop.wait(armed=step != NO_STEP)
        if self._interrupted:
            raise Interrupted("interrupted")
        return self._loop.tick(number, step)

    # Ends.

    def _halt(self, error: Exception) -> None:
        """Stop the robot, as far as the link still lives."""
        loop = self._loop
        with contextlib.suppress(LinkError):
            if isinstance(error, Interrupted):
                if loop.monitor.state >= State.FALLBACK:
                    zero = np.zeros(loop.contract.action_size)
                    self._robot.send(zero, self._config.command_valid_for_s)
                self._robot.disarm()
            else:
                self._robot.stop()
        with contextlib.suppress(LogError):
            loop.stop(_code(error), str(error))

    def _end(self, number: int, code: str, text: str) -> None:
        """Record and report how an episode ended, if it had begun."""
        if not self._loop.account.begun:
            return
        result = self._loop.account.result(number, code, text)
        try:
            self._loop.record(result)
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
    return LINK_LOST.code if isinstance(error, LinkError) else getattr(error, "code", "run_failed")
