"""How a ROS graph is found, and what it is told about us: domains, names, types, nodes.

Names and types as rmw_dds_common 3 has them (ROS 2 Jazzy), which Humble understands.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Protocol, TypeVar, cast
from uuid import UUID

from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsPublication
from cyclonedds.core import Entity, InstanceState, Policy, Qos
from cyclonedds.domain import Domain, DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.internal import InvalidSample
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration

from holdfast.errors import ConfigError
from holdfast.log import messages
from holdfast.robot.dds.types import structure

RANGES = ("SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT")

MAX_PARTICIPANTS = 32
"""Processes on one computer that find each other where multicast is off; ROS's own number."""

TAKEN = 50
"""Samples taken at once."""

INFO = "rmw_dds_common/ParticipantEntitiesInfo"

T = TypeVar("T")


class Gid(Protocol):
    """rmw_dds_common/Gid: the id of an endpoint."""

    data: Sequence[int]


class NodeInfo(Protocol):
    """rmw_dds_common/NodeEntitiesInfo: a node and its publishers."""

    node_namespace: str
    node_name: str
    writer_gid_seq: Sequence[Gid]


class ParticipantInfo(Protocol):
    """rmw_dds_common/ParticipantEntitiesInfo: the nodes of one participant."""

    node_entities_info_seq: Sequence[NodeInfo]


def domain_id(environment: Mapping[str, str]) -> int:
    """Return ROS_DOMAIN_ID.

    Raises:
        ConfigError: it is no number from 0 to 232.
    """
    text = environment.get("ROS_DOMAIN_ID", "") or "0"
    if not text.isdecimal() or int(text) > 232:
        raise ConfigError(f"ROS_DOMAIN_ID should be a number from 0 to 232, received '{text}'")
    return int(text)


def configuration(environment: Mapping[str, str]) -> str:
    """Return Cyclone DDS's configuration for the range in which ROS finds others.

    That is ROS_AUTOMATIC_DISCOVERY_RANGE and ROS_STATIC_PEERS, or Humble's ROS_LOCALHOST_ONLY;
    CYCLONEDDS_URI, if it is set, has the last word.

    Raises:
        ConfigError: no such range.
    """
    default = "LOCALHOST" if environment.get("ROS_LOCALHOST_ONLY") == "1" else "SUBNET"
    reach = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE") or default
    if reach not in RANGES:
        raise ConfigError(
            f"ROS_AUTOMATIC_DISCOVERY_RANGE should be one of {', '.join(RANGES)}, "
            f"received '{reach}'"
        )
    static = [peer for peer in environment.get("ROS_STATIC_PEERS", "").split(";") if peer]
    settings = {
        "SUBNET": _AUTO + _peers(static),
        "LOCALHOST": _loopback(bool(static)) + _AUTO + _peers(["localhost", *static]),
        "OFF": _ALONE.format(pid=os.getpid()),
        "SYSTEM_DEFAULT": "",
    }[reach]
    config = settings and f"<CycloneDDS><Domain>{settings}</Domain></CycloneDDS>"
    return ",".join(filter(None, (config, environment.get("CYCLONEDDS_URI", ""))))


_NO_MULTICAST = "<AllowMulticast>false</AllowMulticast>"
_AUTO = (
    "<Discovery><ParticipantIndex>auto</ParticipantIndex>"
    f"<MaxAutoParticipantIndex>{MAX_PARTICIPANTS}</MaxAutoParticipantIndex></Discovery>"
)
_ALONE = (
    f"<General>{_NO_MULTICAST}</General><Discovery><ParticipantIndex>none</ParticipantIndex>"
    "<Tag>ros_discovery_off_{pid}</Tag></Discovery>"
)


def _peers(addresses: list[str]) -> str:
    listed = "".join(f'<Peer address="{address}"/>' for address in addresses)
    return f"<Discovery><Peers>{listed}</Peers></Discovery>" if listed else ""


def _loopback(others: bool) -> str:
    """Use the loopback, and another network if there are `others` to reach by it.

    Cyclone DDS 11 ignores what comes by a network that it does not use; ROS's own, which is
    older, uses another but greets its neighbours by way of the loopback.
    """
    networks = '<NetworkInterface address="127.0.0.1"/>'
    networks += '<NetworkInterface autodetermine="true"/>' if others else ""
    return f"<General>{_NO_MULTICAST}<Interfaces>{networks}</Interfaces></General>"


def user_data(name: str) -> Policy.Userdata:
    """Return what tells ROS nodes the hash of an endpoint's message type, "package/Name"."""
    return Policy.Userdata(f"typehash={messages.type_hash(name)};".encode())


def topic_name(kind: str, namespace: str, node: str, name: str, suffix: str = "") -> str:
    """Return the DDS name of a ROS topic or of half a service.

    Args:
        kind: "rt" for topics, "rq" for requests, "rr" for responses.
        namespace: "" or begins with "/".
        name: relative, absolute ("/"), or private ("~/").
    """
    if name.startswith("~/"):
        full = f"{namespace}/{node}/{name[2:]}"
    elif name.startswith("/"):
        full = name
    else:
        full = f"{namespace}/{name}"
    return kind + full + suffix


@cache
def _domain(number: int, config: str) -> Domain:
    """Make a domain, which a process has once; it lives on for participants yet to come."""
    return Domain(number, config)


class GraphParticipant:
    """A participant that ROS sees as a node.

    Args:
        namespace: "" or begins with "/".
        node: its name.
    """

    def __init__(self, namespace: str, node: str) -> None:
        number = domain_id(os.environ)
        _domain(number, configuration(os.environ))
        enclave = Policy.Userdata(b"enclave=/;")
        self.participant = DomainParticipant(number, Qos(enclave))
        self._namespace, self._node = namespace or "/", node
        self._readers: list[Gid] = []
        self._writers: list[Gid] = []
        topic = Topic(self.participant, "ros_discovery_info", structure(INFO))
        self._writer = DataWriter(self.participant, topic, _latched(1))
        self.publishers = Publishers(self.participant, topic)
        self._say()

    def add_reader(self, reader: Entity) -> None:
        """Say that a reader is the node's."""
        self._readers.append(_gid(reader.guid))
        self._say()

    def add_writer(self, writer: Entity) -> None:
        """Say that a writer is the node's."""
        self._writers.append(_gid(writer.guid))
        self._say()

    def close(self) -> None:
        """Leave, with every reader and writer of the participant.

        Left to itself, cyclonedds deletes an entity when the last reference to it is gone.
        """
        self.participant.__del__()

    def _say(self) -> None:
        node = structure("rmw_dds_common/NodeEntitiesInfo")(
            self._namespace, self._node, list(self._readers), list(self._writers)
        )
        self._writer.write(structure(INFO)(_gid(self.participant.guid), [node]))


class Publishers:
    """The publishers that discovery has found, but those of the participant itself."""

    def __init__(self, participant: DomainParticipant, info: Topic[IdlStruct]) -> None:
        self._own = participant.guid
        self._endpoints = BuiltinDataReader(participant, BuiltinTopicDcpsPublication)
        infos = DataReader(participant, info, _latched(TAKEN))
        self._infos = cast("DataReader[ParticipantInfo]", infos)
        self._lock = threading.Lock()
        self._topics: dict[UUID, str] = {}
        self._nodes: dict[bytes, str] = {}

    def of(self, topic: str) -> dict[str, str]:
        """Return node name by GUID of those that publish a topic, a DDS name, now."""
        with self._lock:
            self._look()
            return {
                guid.hex: self._nodes.get(guid.bytes, "")
                for guid, name in self._topics.items()
                if name == topic
            }

    def _look(self) -> None:
        for found in _drain(self._endpoints):
            if found.sample_info.instance_state != InstanceState.Alive:
                self._topics.pop(found.key, None)
                self._nodes.pop(found.key.bytes, None)
            elif found.participant_key != self._own:
                self._topics[found.key] = found.topic_name
        for info in _drain(self._infos):
            for node in info.node_entities_info_seq:
                name = f"{node.node_namespace.rstrip('/')}/{node.node_name}"
                self._nodes |= {bytes(gid.data): name for gid in node.writer_gid_seq}


def _drain(reader: DataReader[T]) -> Iterator[T]:
    while taken := reader.take(TAKEN):
        yield from (sample for sample in taken if not isinstance(sample, InvalidSample))


def _latched(depth: int) -> Qos:
    return Qos(
        Policy.Reliability.Reliable(duration(seconds=1)),
        Policy.Durability.TransientLocal,
        Policy.History.KeepLast(depth),
        user_data(INFO),
    )


def _gid(guid: UUID) -> Gid:
    made: Gid = structure("rmw_dds_common/Gid")(list(guid.bytes))
    return made
