"""Episodes by count, for the command line: a fault or a signal ends the run."""

from __future__ import annotations

import contextlib
import gc
import select
import signal
import sys
from collections.abc import Callable, Iterator

from holdfast.errors import ConfigError, LinkError, RunError
from holdfast.robot.run.session import Interrupted, Session


class EpisodesByCount:
    """Runs a number of episodes. Whatever happens, the robot is left stopped, or to its watchdog.

    Args:
        session: the session whose episodes are run.
        prompt: ask a person to place a robot that cannot place itself.
    """

    def __init__(self, session: Session, prompt: bool) -> None:
        self._session, self._robot = session, session.loop.robot
        self._prompt = prompt and not self._robot.identity.self_placing
        self._interrupted_by = 0  # a signal's number

    def run(self, episodes: int, decided: Callable[[], bool] = lambda: False) -> None:
        """Run episodes. A stop by the envelope, a budget or familiarity ends only its episode.

        Args:
            episodes: most episodes.
            decided: asked after each episode; true: no further one is needed.

        Raises:
            Interrupted: by a signal.
            RunError: a fault ended the run; the robot is in emergency stop.
            LinkError: the link was lost; the device stops by itself.
            LogError: the log can no longer be written.
        """
        with self._signals_caught(), _no_garbage_collection():
            try:
                for number in range(episodes):
                    self._episode(number)
                    gc.collect()  # the robot stands, there is time for it
                    if decided():
                        break
            except Exception as error:
                self._session.stop(error)
                if not isinstance(error, Interrupted):
                    # The monitor's latch ends with this process; the robot's own outlives it.
                    with contextlib.suppress(LinkError):
                        self._robot.stop()
                raise

    def _episode(self, number: int) -> None:
        if self._prompt:
            self._ask_person(number)
        if self._prompt or self._robot.identity.self_placing or number == 0:
            self._robot.reset()  # else it goes on from where it stands, and so does its odometry
        session = self._session
        session.start(reset=True)
        while session.starting or session.armed:
            self._period()
        if session.refusals:
            texts = "; ".join(session.refusals)
            raise RunError(f"the monitor does not let the robot start: {texts}", "not_ready")

    def _ask_person(self, number: int) -> None:
        print(f"Place the robot for episode {number}, then press Enter.", flush=True)
        while not select.select([sys.stdin], [], [], 0.0)[0]:
            self._period()
        if not sys.stdin.readline():
            raise ConfigError(
                "nobody can press Enter: standard input is closed; with --no-prompt, "
                "episodes start where the robot stands"
            )

    def _period(self) -> None:
        self._session.wait()
        if self._interrupted_by:
            name = signal.Signals(self._interrupted_by).name
            raise Interrupted("interrupted" if name == "SIGINT" else f"interrupted by {name}")
        self._session.tick()

    @contextlib.contextmanager
    def _signals_caught(self) -> Iterator[None]:
        """Let signals end the run between two periods, never within one."""

        def interrupt(number: int, _: object) -> None:
            self._interrupted_by = number

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
