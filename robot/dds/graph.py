"""`DdsGraph`: a node in a ROS graph, over plain DDS."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsParticipant
from cyclonedds.core import (
    InstanceState,
    Policy,
    ReadCondition,
    SampleState,
    ViewState,
    WaitSet,
)
from cyclonedds.core import Qos as DdsQos
from cyclonedds.idl import IdlStruct
from cyclonedds.internal import InvalidSample
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration

from holdfast.robot.dds.discovery import GraphParticipant, topic_name, user_data
from holdfast.robot.dds.types import REQUEST_ID, ServiceRequest, message_class, structure
from holdfast.robot.topics.graph import LONGEST_SLEEP_S, PLAIN, Qos
from holdfast.robot.topics.message_types import M, MessageType

WAKE_S = 0.1
"""How often a thread looks whether it should end."""

FLUSH_S = 0.2
CLIENT_LIMIT_S = 0.5
"""How long a response waits for its client's reader to be found."""

WARN_EVERY_S = 5.0
LOOK_EVERY_S = 1.0

FAST_DDS = b"\x01\x0f"
"""How the ids of Fast DDS's entities begin: the vendor, as it uses to write it."""

_log = logging.getLogger(__name__)


class _ReaderThread:
    """A thread that calls back with what arrives at its readers."""

    def __init__(self, participant: GraphParticipant, name: str) -> None:
        self._waitset = WaitSet(participant.participant)
        self._readers: list[tuple[ReadCondition, Callable[[], None]]] = []
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def add(self, reader: DataReader[M], depth: int, callback: Callable[[M], None]) -> None:
        new = ViewState.Any | InstanceState.Any | SampleState.NotRead
        condition = ReadCondition(reader, new)
        self._readers.append((condition, partial(self._take, reader, depth, callback)))
        self._waitset.attach(condition)

    def close(self) -> None:
        self._closing.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._waitset.wait(duration(seconds=WAKE_S))
            for _, take in list(self._readers):
                take()
                if self._closing.is_set():
                    return

    def _take(self, reader: DataReader[M], depth: int, callback: Callable[[M], None]) -> None:
        for sample in reader.take(depth):
            if self._closing.is_set():
                return
            if isinstance(sample, InvalidSample):  # so a writer that leaves shows
                continue
            try:
                callback(sample)
            except Exception:  # one message that cannot be used must not deafen the node
                _log.exception("a message could not be used")


class DdsGraph:
    """A `holdfast.robot.topics.graph.Graph` over plain DDS.

    Known to work with nodes that run on rmw_cyclonedds_cpp, services included. With
    rmw_fastrtps_cpp topics work and services do not: it sends request ids in another way.

    Args:
        node: the node's name.
        namespace: "" or begins with "/".
    """

    def __init__(self, node: str, namespace: str = "") -> None:
        self._node, self._namespace = node, namespace
        self._participant = GraphParticipant(namespace, node)
        self._topic_reader = _ReaderThread(self._participant, "topics")
        self._service_reader = _ReaderThread(self._participant, "services")
        self._wait_for_acks: list[Callable[[int], object]] = []  # of each writer
        self._closing = threading.Event()
        self._warned_s: dict[str, float] = {}
        self._others = BuiltinDataReader(self._participant.participant, BuiltinTopicDcpsParticipant)
        self._looking = threading.Thread(target=self._look_around, name="neighbours", daemon=True)
        self._looking.start()

    def _look_around(self) -> None:
        """Say once if there is somebody who will not hear this node's services."""
        while not self._closing.wait(LOOK_EVERY_S):
            if any(other.key.bytes.startswith(FAST_DDS) for other in self._others.take(50)):
                self.warn(
                    "a node on rmw_fastrtps_cpp is in this graph: topics reach it, services do "
                    "not; to call hardware/e_stop_trigger and its like, run ROS on "
                    "rmw_cyclonedds_cpp"
                )
                return

    def now_s(self) -> float:
        """Return Unix time."""
        return time.time()

    def sleep(self, until_s: float) -> None:
        """Return at a time or earlier, or when the graph is closed."""
        left_s = until_s - time.time()
        if left_s > 0.0:
            self._closing.wait(min(left_s, LONGEST_SLEEP_S))

    def message_class(self, kind: MessageType[M]) -> type[M]:
        """Return the class of "package/msg/Name".

        Raises:
            ConfigError: it is not known without ROS.
        """
        return message_class(kind)

    def subscribe(
        self, topic: str, kind: MessageType[M], qos: Qos, callback: Callable[[M], None]
    ) -> None:
        """Call back with every message that arrives, in the topics' thread."""
        name = topic_name("rt", self._namespace, self._node, topic)
        reader = self._reader(name, _short(kind), message_class(kind), qos)
        self._topic_reader.add(reader, qos.depth, callback)

    def advertise(self, topic: str, kind: MessageType[M], qos: Qos) -> Callable[[M], None]:
        """Return what publishes a message, from any thread."""
        name = topic_name("rt", self._namespace, self._node, topic)
        writer = self._writer(name, _short(kind), message_class(kind), qos)

        def publish(message: M) -> None:
            if not self._closing.is_set():
                writer.write(message)

        return publish

    def publishers(self, topic: str) -> Mapping[str, str]:
        """Return node name by GUID of a topic's publishers beside this node's own."""
        return self._participant.publishers.of(topic_name("rt", self._namespace, self._node, topic))

    def serve(self, name: str, answer: Callable[[], tuple[bool, str]]) -> None:
        """Offer a std_srvs/srv/Trigger; `answer` is called in the services' thread."""
        request, response = "std_srvs/Trigger_Request", "std_srvs/Trigger_Response"
        where = (self._namespace, self._node, name)
        requests = self._reader(
            topic_name("rq", *where, "Request"), request, structure(request, REQUEST_ID), PLAIN
        )
        reply = structure(response, REQUEST_ID)
        writer = self._writer(topic_name("rr", *where, "Reply"), response, reply, PLAIN)

        def respond(asked: ServiceRequest) -> None:
            success, sentence = answer()
            deadline_s = time.monotonic() + CLIENT_LIMIT_S
            while not writer.get_matched_subscriptions() and time.monotonic() < deadline_s:
                time.sleep(0.005)
            writer.write(reply(asked.guid, asked.seq, success, sentence))

        self._service_reader.add(requests, PLAIN.depth, respond)

    def flush(self) -> None:
        """Wait, within a limit, until what was published has arrived."""
        for wait_for_acks in self._wait_for_acks:
            with contextlib.suppress(Exception):  # a reader that left acknowledges nothing
                wait_for_acks(duration(seconds=FLUSH_S))

    def warn(self, sentence: str) -> None:
        """Log a warning, the same one at most every few seconds."""
        now_s = time.monotonic()
        if now_s - self._warned_s.get(sentence, -WARN_EVERY_S) >= WARN_EVERY_S:
            self._warned_s[sentence] = now_s
            _log.warning(sentence)

    def close(self) -> None:
        """Leave the graph: nobody sees the node any more, and what it publishes is dropped."""
        self._closing.set()
        self._looking.join()
        self._topic_reader.close()
        self._service_reader.close()
        self._participant.close()

    def _reader(self, name: str, type_name: str, cls: type[M], qos: Qos) -> DataReader[M]:
        policies = _policies(qos, type_name)
        topic = Topic(self._participant.participant, name, cast("type[IdlStruct]", cls))
        made = DataReader(self._participant.participant, topic, policies)
        reader = cast("DataReader[M]", made)
        self._participant.add_reader(reader)
        return reader

    def _writer(self, name: str, type_name: str, cls: type[M], qos: Qos) -> DataWriter[M]:
        policies = _policies(qos, type_name)
        topic = Topic(self._participant.participant, name, cast("type[IdlStruct]", cls))
        made = DataWriter(self._participant.participant, topic, policies)
        writer = cast("DataWriter[M]", made)
        self._participant.add_writer(writer)
        self._wait_for_acks.append(writer.wait_for_acks)
        return writer


def _short(type_name: str) -> str:
    """Return "package/Name" for "package/msg/Name"."""
    package, _, name = type_name.split("/")
    return f"{package}/{name}"


def _policies(qos: Qos, type_name: str) -> DdsQos:
    reliable = Policy.Reliability.Reliable(duration(milliseconds=100))
    latched, volatile = Policy.Durability.TransientLocal, Policy.Durability.Volatile
    return DdsQos(
        reliable if qos.reliable else Policy.Reliability.BestEffort,
        latched if qos.latched else volatile,
        Policy.History.KeepLast(qos.depth),
        Policy.DataRepresentation(use_cdrv0_representation=True),
        user_data(type_name),
    )
