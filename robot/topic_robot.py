"""A robot of topics: signals are subscribed to, commands published, stops offered as services."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from holdfast.contract import Contract
from holdfast.errors import LinkError
from holdfast.robot.base import Identity
from holdfast.robot.fields import ActionCodec, SourceReader
from holdfast.robot.graph import COMMAND, PLAIN, SENSOR, STATUS, Graph
from holdfast.robot.topics import RosSection, Source
from holdfast.safety_monitor.messages import Reading
from holdfast.signals import Array

BOOL = "std_msgs/msg/Bool"
E_STOP = "hardware/e_stop"
E_STOP_TRIGGER = "hardware/e_stop_trigger"
E_STOP_RESET = "hardware/e_stop_reset"

STALL_S = 0.5
"""Wall time for which simulated time may stand still."""


@dataclass
class _Heard:
    """What a source said so far."""

    reading: Reading | None = None
    problem: str = ""


class TopicRobot:
    """A `holdfast.robot.base.Robot` in a ROS graph.

    While it is stopped it sends zero, whatever it is told. Where the robot's driver has no
    emergency stop (`hardware/e_stop` is none of its stop topics), this has it: anybody may call
    `hardware/e_stop_trigger`, and `hardware/e_stop` says so.

    Args:
        section: its topics; must fit the contract.
        robot: the name that contracts use.
        hardware_id: this very unit.
        enable_motion: send commands; otherwise everything runs, and nothing is sent.

    Raises:
        ConfigError: a type or a field that does not exist.
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
        self._pressed = ""  # who pressed the emergency stop; only its reset releases it
        self._stopped = False
        self._stalled = False
        self._publish: Callable[[Any], None] | None = None
        if enable_motion:
            self._publish = graph.advertise(command.topic, command.type, COMMAND)
        self._bool = graph.message_class(BOOL)
        self._say_e_stop: Callable[[Any], None] | None = None
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
        def hear(message: Any) -> None:
            now_s = self._graph.now_s()
            problem, signals = reader.wrong_frame(message), reader.read(message)
            with self._lock:
                heard = self._heard[name]
                heard.problem = problem
                number = heard.reading.sequence + 1 if heard.reading else 1
                heard.reading = Reading(reader.stamp_s(message, now_s), number, signals)

        self._graph.subscribe(source.topic, source.type, PLAIN if source.reliable else SENSOR, hear)

    def _hardware_says(self, topic: str) -> Callable[[Any], None]:
        def hear(message: Any) -> None:
            self._hardware[topic] = bool(message.data)

        return hear

    # The robot's interface.

    def now_s(self) -> float:
        """Return the graph's time."""
        return self._graph.now_s()

    def clock_offset_s(self) -> float:
        """Return 0: the graph's time is what its bags show, simulated time too."""
        return 0.0

    def wait(self, until_s: float) -> None:
        """Return at a time on the graph's clock, or once that was set back, or stood still."""
        now_s, wall_s = self._graph.now_s(), time.monotonic()
        self._stalled = False
        while now_s < until_s:
            self._graph.sleep(until_s)
            before_s, now_s = now_s, self._graph.now_s()
            if now_s < before_s:
                return
            if now_s != before_s:
                wall_s = time.monotonic()
            elif time.monotonic() - wall_s > STALL_S:
                self._stalled = True
                return

    def readings(self) -> Mapping[str, Reading]:
        """Return each source's newest message as a reading."""
        with self._lock:
            return {name: heard.reading for name, heard in self._heard.items() if heard.reading}

    def faults(self) -> tuple[str, ...]:
        """Return a sentence for each thing that forbids motion."""
        with self._lock:
            found = [heard.problem for heard in self._heard.values() if heard.problem]
            if self._pressed:
                found.append(self._pressed)
            if self._stopped:
                found.append("the robot was stopped")
        found.extend(self._hardware_stops())
        if self._stalled:
            found.append(f"the clock stood still for {STALL_S:g} s")
        return tuple(found)

    def _hardware_stops(self) -> list[str]:
        says = {True: "says that the hardware is stopped", None: "has not said anything yet"}
        return [f"{topic} {says[on]}" for topic, on in self._hardware.items() if on is not False]

    def arm(self) -> None:
        """Check that nothing forbids motion.

        Raises:
            LinkError: something does, and what.
        """
        if faults := self.faults():
            raise LinkError(f"{self.identity.hardware_id}: may not move: {'; '.join(faults)}")

    def send(self, action: Array, valid_for_s: float) -> None:
        """Publish a command; zero while the robot is stopped. Its driver has its own time limit."""
        with self._lock:
            self._send(self._zero if self._pressed or self._stopped else action)

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
        """Take `stop` back; not what somebody pressed."""
        with self._lock:
            self._stopped = False
        self._announce()

    def close(self) -> None:
        """Stop the robot, and see that it was heard."""
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
        """Release it. That moves nothing: the monitor stays stopped until it is reset."""
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
