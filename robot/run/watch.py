"""The watch: the monitor's loop while others steer it. They arm, reset and stop it by request.

It begins stopped, commands zero in every period in which nothing is armed, and goes on until it
is closed. Whatever fails stops the robot; nothing but a reset and an arming lets it move again.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable

from holdfast.errors import HoldfastError, LinkError, LogError
from holdfast.log.format import NO_STEP, EpisodeResult
from holdfast.robot.run.loop import Loop, causes
from holdfast.robot.topics.requests import Request, Requests
from holdfast.safety_monitor.messages import Reason, State, Verdict

_log = logging.getLogger(__name__)

ANSWER_MARGIN_S = 5.0
"""Wall time that an answer may take beyond what the robot may take to stand still."""


class Watch:
    """Runs a loop in a thread of its own.

    Args:
        loop: over a connected robot.
        ready_wait_s: for how long an arming waits for the monitor to agree.
        episodes: how many follow one another after an arming, each from where the last one
            ended. A stop of any kind ends them all.
        said: called in the thread after every period, with the episode's number and its
            verdict.
        report: called in the thread after each episode.
    """

    def __init__(
        self,
        loop: Loop,
        ready_wait_s: float,
        episodes: int,
        said: Callable[[int, Verdict], None],
        report: Callable[[EpisodeResult], None],
    ) -> None:
        self._loop, self._ready_wait_s, self._episodes = loop, ready_wait_s, episodes
        self._said, self._report = said, report
        self._requests = Requests("the safety monitor's loop")
        self._closing = threading.Event()
        self._number, self._step = 0, NO_STEP
        self._begun = 0
        self._fresh = False  # the monitor's accounts are zero, for an episode yet to come
        self._left = 0  # episodes that the last arming still allows
        self._arming: Request | None = None
        self._resetting: Request | None = None
        self._arm_until_s = 0.0
        self._unfit = ""  # why this watch arms nothing any more
        self._thread = threading.Thread(target=self._run, name="safety monitor", daemon=True)

    # From any thread.

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def arm(self) -> tuple[bool, str]:
        """Let the robot move, if the monitor agrees. Returns success and a sentence."""
        return self._ask("arm")

    def disarm(self) -> tuple[bool, str]:
        """End what was armed, without fault: the robot stops, and may be armed again."""
        return self._ask("disarm")

    def reset(self) -> tuple[bool, str]:
        """Take a stop back, if its cause is gone. Nothing moves by that."""
        return self._ask("reset")

    def close(self) -> None:
        """Stop the robot and end; waits for it."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _ask(self, kind: str) -> tuple[bool, str]:
        request = self._requests.put(kind)
        return self._requests.result(request, self._ready_wait_s + ANSWER_MARGIN_S)

    # The thread.

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._period()
            except Exception as error:  # whatever it is, the robot stops and the watch goes on
                with contextlib.suppress(Exception):  # a log that is lost, most likely
                    self._fail(error)
                self._closing.wait(self._loop.contract.period_s)
        self._shut()

    def _period(self) -> None:
        armed = self._step != NO_STEP
        self._loop.wait(armed)
        for request in self._requests.drain():
            self._obey(request)
        step = self._step
        verdict = self._loop.tick(self._number, step)
        if step == NO_STEP:
            self._loop.robot.disarm()  # zero, again and again: its driver may be waiting for it
            if self._resetting is not None:
                self._try_to_reset(self._resetting)
            if self._left:
                self._try_to_arm()
        elif verdict.state is State.STOPPED:
            cause, _ = causes(verdict)
            self._end(cause.code, cause.text)
        elif step == self._loop.contract.episode_steps:
            self._end()
        else:
            self._step += 1
        self._said(self._number, verdict)

    def _obey(self, request: Request) -> None:
        if request.kind == "reset":
            if self._step != NO_STEP:
                request.answer(False, "the robot is armed; it needs no reset")
                return
            self._begin()  # what an episode spent stopped it, and is the next one's no more
            self._resetting = request
        elif request.kind == "disarm":
            if self._step != NO_STEP:
                self._end("disarmed", "somebody disarmed it")
            self._give_up("somebody disarmed it")
            request.answer(True, "disarmed")
        elif self._arming is not None or self._step != NO_STEP:
            request.answer(False, "it is armed already, or about to be")
        elif self._unfit:
            request.answer(False, self._unfit)
        elif self._loop.monitor.state is not State.READY:
            request.answer(False, "the monitor is stopped; it should be reset first")
        else:
            self._arming, self._left = request, self._episodes
            self._begin()
            self._arm_until_s = self._loop.now_s + self._ready_wait_s

    def _begin(self) -> None:
        """Zero the accounts; what the monitor thinks of it is seen after the next period."""
        if not self._fresh:
            self._number, self._begun = self._begun, self._begun + 1
            self._loop.open_account()
            self._loop.begin_episode()
            self._fresh = True

    def _try_to_reset(self, request: Request) -> None:
        faults = self._loop.robot.faults()
        refusals = () if faults else self._loop.reset()
        request.answer(*_answer((*faults, *_texts(refusals)), "ready; nothing moves yet"))
        self._resetting = None

    def _try_to_arm(self) -> None:
        refusals = self._loop.arm()
        if not refusals:
            self._loop.robot.arm()
            self._left -= 1
            self._step, self._fresh = 0, False
            if self._arming is not None:
                self._arming.answer(True, "armed")
                self._arming = None
        elif self._loop.now_s > self._arm_until_s or self._loop.monitor.state is State.STOPPED:
            self._give_up("; ".join(_texts(refusals)))

    def _give_up(self, why: str) -> None:
        self._left = 0
        if self._resetting is not None:
            self._resetting.answer(False, why)
            self._resetting = None
        if self._arming is not None:
            self._arming.answer(False, why)
            self._arming = None

    def _end(self, code: str = "", text: str = "") -> None:
        """End an episode; the next one begins if there is one left and nothing stopped this."""
        self._step = NO_STEP
        self._loop.robot.disarm()
        self._loop.disarm()
        result = self._loop.account.result(self._number, code, text)
        if code:
            self._left = 0
        self._loop.record(result)
        self._report(result)
        if self._left:
            self._begin()
            self._arm_until_s = self._loop.now_s + self._ready_wait_s

    def _fail(self, error: Exception) -> None:
        """Stop the robot; unless it was the robot that refused, nothing is armed any more."""
        sentence = str(error)
        if not isinstance(error, HoldfastError):
            sentence = repr(error)
            _log.error("the watch failed", exc_info=error)
        with contextlib.suppress(Exception):  # it may be what failed
            self._loop.robot.disarm()
        was_armed, self._step = self._step != NO_STEP, NO_STEP
        if not isinstance(error, LinkError):
            self._unfit = f"{sentence}; deactivate and activate again"
        if isinstance(error, LogError):
            self._loop.recorder = None
        self._give_up(sentence)
        self._loop.stop("watch_failed", sentence)
        if was_armed:
            self._report(self._loop.account.result(self._number, "watch_failed", sentence))

    def _shut(self) -> None:
        self._loop.robot.disarm()
        self._give_up("the safety monitor ends")
        for request in self._requests.drain():
            request.answer(False, "the safety monitor ends")
        if self._step != NO_STEP:
            self._end("interrupted", "the safety monitor was deactivated")
        self._loop.stop("deactivated", "the safety monitor was deactivated")


def _texts(refusals: tuple[Reason, ...]) -> tuple[str, ...]:
    return tuple(reason.text for reason in refusals)


def _answer(refusals: tuple[str, ...], good: str) -> tuple[bool, str]:
    return not refusals, "; ".join(refusals) or good
