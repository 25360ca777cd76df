"""Episodes by request, for the services of a ROS node: others arm, disarm and reset the robot.

A thread of its own runs period after period until it is closed. The robot is commanded to stand in
every period in which it is not armed. Whatever fails stops the robot, and the thread goes on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from holdfast.errors import HoldfastError, LinkError
from holdfast.robot.run.session import Interrupted, MonitorFault, Session, sentence_of
from holdfast.robot.topics.requests import Request, Requests
from holdfast.safety_monitor.messages import State, Verdict

_log = logging.getLogger(__name__)

ANSWER_MARGIN_S = 5.0
"""Wall time that an answer may take beyond what the robot may take to stand still."""


class EpisodesByRequest:
    """Runs a session in a thread of its own.

    Args:
        session: the session whose episodes are run.
        episodes: how many follow one another after an arming, each from where the last one
            ended. A stop of any kind ends them all.
        said: called in the thread after every period, with the number of the episode and the
            verdict.
    """

    def __init__(
        self, session: Session, episodes: int, said: Callable[[int, Verdict], None]
    ) -> None:
        self._session, self._episodes, self._said = session, episodes, said
        self._requests = Requests("the safety monitor's loop")
        self._closing = threading.Event()
        self._left = 0  # episodes that the last arming still allows, the present one included
        self._arming: Request | None = None
        self._resetting: Request | None = None
        self._unfit = ""  # why nothing is armed any more
        self._thread = threading.Thread(target=self._run, name="safety monitor", daemon=True)

    # From any thread.

    def begin(self) -> None:
        """Start the thread."""
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
        """Stop the robot and end the thread; waits for both."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _ask(self, kind: str) -> tuple[bool, str]:
        limit_s = self._session.ready_wait_s + ANSWER_MARGIN_S
        return self._requests.result(self._requests.put(kind), limit_s)

    # The thread.

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._period()
            except Exception as error:  # after any error the robot stops and the thread goes on
                self._fail(error)
                self._closing.wait(self._session.loop.contract.period_s)
        self._shut()

    def _period(self) -> None:
        session = self._session
        session.wait()
        for request in self._requests.drain():
            try:
                self._obey(request)
            except Exception as error:
                request.answer(False, sentence_of(error))
                raise
        was_armed = session.armed
        try:
            verdict = session.tick()
        except MonitorFault as fault:
            self._stop(fault)
            verdict = fault.verdict
        if not session.armed:
            session.loop.robot.disarm()  # zero, again and again: its driver may be waiting for it
        self._answer_reset()
        self._go_on(was_armed)
        self._said(session.number, verdict)

    def _obey(self, request: Request) -> None:
        session = self._session
        if request.kind == "reset":
            if session.armed:
                request.answer(False, "the robot is armed; it needs no reset")
                return
            self._resetting = request
            session.begin()  # what an episode spent stopped it, and is the next one's no more
        elif request.kind == "disarm":
            session.end("disarmed", "the robot was disarmed on request")
            self._give_up("the robot was disarmed on request")
            request.answer(True, "disarmed")
        elif session.starting or session.armed:
            request.answer(False, "it is armed already, or about to be")
        elif self._unfit:
            request.answer(False, self._unfit)
        elif session.loop.monitor.state is not State.READY:
            request.answer(False, "the monitor is stopped; it should be reset first")
        else:
            self._arming, self._left = request, self._episodes
            session.start(reset=False)

    def _answer_reset(self) -> None:
        if self._resetting is not None:
            refusals = self._session.reset()
            self._resetting.answer(not refusals, "; ".join(refusals) or "ready; nothing moves yet")
            self._resetting = None

    def _go_on(self, was_armed: bool) -> None:
        """Answer an arming, or start the next of its episodes."""
        session = self._session
        if session.armed:
            if self._arming is not None:
                self._arming.answer(True, "armed")
                self._arming = None
        elif was_armed:
            ended = session.result
            self._left = 0 if ended is None or ended.code else self._left - 1
            if self._left:
                session.start(reset=False)
        elif self._left and not session.starting:
            self._give_up("; ".join(session.refusals))

    def _give_up(self, why: str) -> None:
        """Answer whoever waits; no episode follows."""
        self._left = 0
        for request in (self._resetting, self._arming):
            if request is not None:
                request.answer(False, why)
        self._resetting = self._arming = None

    def _stop(self, error: Exception) -> None:
        self._session.stop(error)
        self._give_up(sentence_of(error))

    def _fail(self, error: Exception) -> None:
        """Stop the robot; unless it was the robot that refused, nothing is armed any more."""
        if not isinstance(error, LinkError):
            self._unfit = f"{sentence_of(error)}; deactivate and activate again"
        if not isinstance(error, HoldfastError):
            _log.error("the session failed", exc_info=error)
        self._stop(error)

    def _shut(self) -> None:
        self._session.stop(Interrupted("the safety monitor was deactivated"))
        self._give_up("the safety monitor ends")
        for request in self._requests.drain():
            request.answer(False, "the safety monitor ends")
