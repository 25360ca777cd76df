"""How a ROS graph is found, and what it is told about us: domains, names, types, nodes.

Names and types as rmw_dds_common 3 has them (ROS 2 Jazzy), which Humble understands.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from typing import Any
from uuid import UUID

from cyclonedds.core import Policy, Qos
from cyclonedds.domain import Domain, DomainParticipant
from cyclonedds.pub import DataWriter
from cyclonedds.topic import Topic
from cyclonedds.util import duration

from holdfast.errors import ConfigError
from holdfast.robot import messages
from holdfast.robot.dds.types import structure

RANGES = ("SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT")

MAX_PARTICIPANTS = 32
"""Processes on one computer that find each other where multicast is off; ROS's own number."""

INFO = "rmw_dds_common/ParticipantEntitiesInfo"


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


class Presence:
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
        self._readers: list[Any] = []
        self._writers: list[Any] = []
        qos = Qos(
            Policy.Reliability.Reliable(duration(seconds=1)),
            Policy.Durability.TransientLocal,
            Policy.History.KeepLast(1),
            user_data(INFO),
        )
        topic = Topic(self.participant, "ros_discovery_info", structure(INFO))
        self._writer = DataWriter(self.participant, topic, qos)
        self._say()

    def add_reader(self, entity: Any) -> None:
        """Say that a reader is the node's."""
        self._readers.append(_gid(entity.guid))
        self._say()

    def add_writer(self, entity: Any) -> None:
        """Say that a writer is the node's."""
        self._writers.append(_gid(entity.guid))
        self._say()

    def _say(self) -> None:
        node = structure("rmw_dds_common/NodeEntitiesInfo")(
            self._namespace, self._node, list(self._readers), list(self._writers)
        )
        self._writer.write(structure(INFO)(_gid(self.participant.guid), [node]))


def _gid(guid: UUID) -> Any:
    return structure("rmw_dds_common/Gid")(list(guid.bytes))
