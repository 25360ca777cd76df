"""A robot of topics: it subscribes to signals, publishes commands and serves stops."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from holdfast.contract import Contract
from holdfast.errors import LinkError, RefusedError
from holdfast.robot.base import Identity
from holdfast.robot.topics.config import ALL, RosSection, Source
from holdfast.robot.topics.fields import ActionCodec, SourceReader, nearest
from holdfast.robot.topics.graph import COMMAND, PLAIN, SENSOR, STATUS, Graph, names
from holdfast.robot.topics.message_types import BOOL, Bool, Message
from holdfast.safety_monitor.messages import Reading
from holdfast.signals import Array

E_STOP = "hardware/e_stop"
E_STOP_TRIGGER = "hardware/e_stop_trigger"
E_STOP_RESET = "hardware/e_stop_reset"

STALL_S = 0.5
"""Longest wall time for which simulated time may stand still, s."""

_STOP = {
    True: "{} says that the hardware is stopped",
    None: "{} has not said anything yet",
    False: "",
}

BACK_S = 0.01
"""A clock that goes back by more than this was set, s; NTP's usual corrections change its rate."""


@dataclass
class _Heard:
    """The newest message of a source.

    Attributes:
        reading: the message as a reading; None before the first message.
        problem: why the message may not be used; empty if it may.
        taken: the reading was returned to the loop.
    """

    reading: Reading | None = None
    problem: str = ""
    taken: bool = True

    def is_kept(self) -> bool:
        """Whether the reading is not finite, and the loop has to see it before a later one."""
        if self.taken or self.reading is None:
            return False
        return not all(np.isfinite(values).all() for values in self.reading.signals.values())


class TopicRobot:
    """A `holdfast.robot.base.Robot` in a ROS graph.

    A stopped robot is sent zero, whatever the command. If the robot's driver has no emergency stop
    (`hardware/e_stop` is none of the stop topics), this class provides it: every node may call
    `hardware/e_stop_trigger`, and `hardware/e_stop` shows the stop.

    Args:
        section: the robot's topics; must fit the contract.
        robot: name of the robot in contracts.
        hardware_id: name of this unit.
        enable_motion: publish commands; otherwise everything else runs.

    Raises:
        ConfigError: a type or a field does not exist.
        LinkError: another node publishes the command; nothing is published then.
    """

    def __init__(
        self,
        graph: Graph,
        section: RosSection,
        contract: Contract,
        robot: str,
        hardware_id: str,
        enable_motion: bool = True,
    ) -> None:
        self._graph = graph
        command = section.command
        self._codec = ActionCodec("ros.command.fields", command, graph, contract.action_names)
        readers = {
            name: SourceReader(name, source, graph) for name, source in section.sources.items()
        }
        self.identity = Identity(
            robot=robot,
            hardware_id=hardware_id,
            actions=contract.action_names,
            action_low=tuple(contract.action_low.tolist()),
            action_high=tuple(contract.action_high.tolist()),
            watchdog_s=section.command_timeout_s,
            sources=section.signals(),
            lockstep=False,
            self_placing=False,
        )
        self._zero = np.zeros(contract.action_size)
        self._lock = threading.Lock()
        self._heard = {name: _Heard() for name in readers}
        self._hardware: dict[str, bool | None] = dict.fromkeys(section.stop_topics)
        self._pressed = ""  # why the emergency stop is latched; only its reset releases it
        self._stopped = False
        self._stalled = False
        self._newest_s = -math.inf
        self._noted: dict[str, None] = {}  # problems since the loop last asked
        self._lidars = section.lidars
        self._sensors = [source.topic for source in section.sources.values()]
        self._command_topic = command.topic if enable_motion else ""
        if rivals := self._rivals():
            raise LinkError(f"{hardware_id}: {rivals}")
        self._publish: Callable[[Message], None] | None = None
        if enable_motion:
            self._publish = graph.advertise(command.topic, command.message_type, COMMAND)
        self._bool = graph.message_class(BOOL)
        self._say_e_stop: Callable[[Bool], None] | None = None
        if E_STOP not in section.stop_topics:
            self._say_e_stop = graph.advertise(E_STOP, BOOL, STATUS)
            graph.serve(E_STOP_TRIGGER, self._trigger)
            graph.serve(E_STOP_RESET, self._release)
        self._announce()
        for name, source in section.sources.items():
            self._listen(name, source, readers[name])
        for topic, how in section.stop_topics.items():
            qos = STATUS if how == "latched" else PLAIN
            graph.subscribe(topic, BOOL, qos, self._hardware_says(topic))

    def _listen(self, name: str, source: Source, reader: SourceReader) -> None:
        def hear(message: Message) -> None:
            now_s = self._graph.now_s()
            problem, signals = reader.problem(message), reader.read(message)
            with self._lock:
                heard = self._heard[name]
                self._note(problem)
                heard.problem = problem
                if heard.is_kept():
                    return
                number = heard.reading.sequence + 1 if heard.reading else 1
                heard.reading = Reading(reader.stamp_s(message, now_s), number, signals)
                heard.taken = False

        qos = PLAIN if source.reliable else SENSOR
        self._graph.subscribe(source.topic, source.message_type, qos, hear)

    def _hardware_says(self, topic: str) -> Callable[[Bool], None]:
        def hear(message: Bool) -> None:
            with self._lock:
                self._hardware[topic] = bool(message.data)
                if message.data:
                    self._note(_STOP[True].format(topic))
                    self._send(self._zero)  # at once, and not with the next period

        return hear

    def _note(self, problem: str) -> None:
        if problem:
            self._noted[problem] = None

    # The robot's interface.

    def now_s(self) -> float:
        """Return the graph's time."""
        return self._graph.now_s()

    def clock_offset_s(self) -> float:
        """Return 0: bags show the graph's time, simulated time too."""
        return 0.0

    def wait(self, until_s: float) -> None:
        """Return at a time on the graph's clock, or when that clock was set back or stood still.

        The wait is measured on monotonic time, so that no clock can lengthen it. The monitor
        notices a clock that was set back, and stops the robot.
        """
        self._stalled, wall_s = False, time.monotonic()
        while True:
            now_s, before_s = self._graph.now_s(), self._newest_s
            self._newest_s = now_s
            if now_s >= until_s or now_s < before_s - BACK_S:
                return
            if now_s != before_s:
                wall_s = time.monotonic()
            elif time.monotonic() - wall_s > STALL_S:
                self._stalled = True
                return
            self._graph.sleep(until_s)

    def readings(self) -> Mapping[str, Reading]:
        """Return each source's newest message as a reading.

        A message that is not finite is returned before the messages after it. Several lidars are
        one more source.
        """
        with self._lock:
            for heard in self._heard.values():
                heard.taken = True
            found = {name: heard.reading for name, heard in self._heard.items() if heard.reading}
        return self._joined(found)

    def _joined(self, found: dict[str, Reading]) -> dict[str, Reading]:
        """Join the scans of all lidars to one, as old as the oldest; each keeps its own age too."""
        scans = {name: found[name] for name in self._lidars if name in found}
        for name, lidar in scans.items():
            rest = {signal: array for signal, array in lidar.signals.items() if signal != "scan"}
            found[name] = replace(lidar, signals=rest)
        if scans and len(scans) == len(self._lidars):
            name = ALL.join(scans)
            rest = dict(found[name].signals) if name in found else {}
            found[name] = Reading(
                min(lidar.stamp_s for lidar in scans.values()),
                sum(lidar.sequence for lidar in scans.values()),
                {**rest, "scan": nearest([lidar.signals["scan"] for lidar in scans.values()])},
            )
        return found

    def silent(self) -> tuple[str, ...]:
        """Return the topics on which no message has arrived yet."""
        with self._lock:
            heard = (each.reading for each in self._heard.values())
            sensors = [t for t, reading in zip(self._sensors, heard, strict=True) if not reading]
            return (*sensors, *(topic for topic, on in self._hardware.items() if on is None))

    def faults(self) -> tuple[str, ...]:
        """Return a sentence for each fault that forbids motion, or did since the last call."""
        with self._lock:
            found, self._noted = self._noted, {}
            found |= dict.fromkeys(heard.problem for heard in self._heard.values())
            stopped = "the robot was stopped" if self._stopped else ""
            stops = [_STOP[on].format(topic) for topic, on in self._hardware.items()]
            stalled = f"the clock stood still for {STALL_S:g} s" if self._stalled else ""
            found |= dict.fromkeys((self._pressed, stopped, *stops, stalled))
        found |= dict.fromkeys((self._rivals(), *self._senders()))
        return tuple(filter(None, found))

    def _rivals(self) -> str:
        """Return which other nodes command the robot, as a sentence, or ""."""
        topic = self._command_topic
        if not topic or not (others := self._graph.publishers(topic)):
            return ""
        return (
            f"{topic} is published by {names(others)} too; only the safety monitor should command "
            "the robot"
        )

    def _senders(self) -> list[str]:
        """Return a sentence for each topic with several publishers, or whose publisher is gone."""
        found = []
        for topic in (*self._sensors, *self._hardware):
            senders = self._graph.publishers(topic)
            if len(senders) > 1:
                found.append(f"{topic} should have one publisher, it has {names(senders)}")
            elif not senders and self._hardware.get(topic) is not None:
                found.append(f"the publisher of {topic} is gone")
        return found

    def arm(self) -> None:
        """Check that no fault forbids motion, and publish zero, for which drivers wait.

        Raises:
            RefusedError: a fault forbids motion.
        """
        if faults := self.faults():
            raise RefusedError(f"{self.identity.hardware_id}: may not move: {'; '.join(faults)}")
        self.disarm()

    def send(self, action: Array, valid_for_s: float) -> None:
        """Publish a command, or zero while the robot or its hardware is stopped.

        Args:
            valid_for_s: not used; the robot's driver has a time limit of its own.
        """
        with self._lock:
            stopped = self._pressed or self._stopped or True in self._hardware.values()
            self._send(self._zero if stopped else action)

    def disarm(self) -> None:
        """Publish zero."""
        with self._lock:
            self._send(self._zero)

    def stop(self) -> None:
        """Stop until `reset`."""
        with self._lock:
            self._stopped = True
            self._send(self._zero)
        self._announce()

    def reset(self) -> None:
        """Release `stop`, but no emergency stop of another node; publish zero, as `arm` does."""
        with self._lock:
            self._stopped = False
            self._send(self._zero)
        self._announce()

    def close(self) -> None:
        """Stop the robot, and wait until the command has arrived."""
        self.disarm()
        self._graph.flush()

    def _send(self, action: Array) -> None:
        if self._publish is not None:
            self._publish(self._codec.message(action, self._graph.now_s()))

    # The emergency stop.

    def _trigger(self) -> tuple[bool, str]:
        with self._lock:
            self._pressed = f"somebody called {E_STOP_TRIGGER}"
            self._send(self._zero)
        self._announce()
        return True, f"stopped; {E_STOP_RESET} releases it"

    def _release(self) -> tuple[bool, str]:
        """Release the emergency stop; the monitor stays stopped until it is reset."""
        with self._lock:
            self._pressed, self._stopped = "", False
        self._announce()
        return True, "released; the safety monitor has yet to be reset and armed"

    def _announce(self) -> None:
        if self._say_e_stop is None:
            return
        message = self._bool()
        message.data = bool(self._pressed) or self._stopped
        self._say_e_stop(message)
