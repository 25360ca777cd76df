"""A ROS graph over plain DDS: names, types and discovery, over real sockets."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("cyclonedds", reason="without Cyclone DDS: pip install 'holdfast-robot[dds]'")

from cyclonedds.builtin import (
    BuiltinDataReader,
    BuiltinTopicDcpsParticipant,
    BuiltinTopicDcpsPublication,
)
from cyclonedds.core import Policy

from holdfast.errors import ConfigError
from holdfast.log import messages
from holdfast.robot.dds import discovery
from holdfast.robot.dds.robot import parse_address
from holdfast.robot.dds.types import REQUEST_ID, message_class, structure
from holdfast.robot.topics.graph import COMMAND, PLAIN, SENSOR, STATUS, Qos
from tests.helpers.ros import graphs

STRING = "std_msgs/msg/String"


@pytest.fixture
def two():
    with graphs.graph("one") as one, graphs.graph("two", "/somewhere") as two:
        yield one, two


@pytest.mark.parametrize("name", messages.DEFINITIONS)
def test_every_message_survives_the_wire(name):
    made = structure(name)()
    again = structure(name).deserialize(made.serialize())
    assert again.serialize() == made.serialize()


def test_instances_share_nothing():
    first, second = (message_class("sensor_msgs/msg/JointState")() for _ in range(2))
    first.position.append(1.0)
    first.header.frame_id = "there"
    assert (second.position, second.header.frame_id) == ([], "")


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (("rt", "", "node", "odom"), "rt/odom"),
        (("rt", "/robot", "node", "odom"), "rt/robot/odom"),
        (("rt", "/robot", "node", "/tf"), "rt/tf"),
        (("rt", "/robot", "node", "~/status"), "rt/robot/node/status"),
        (("rq", "", "node", "~/arm", "Request"), "rq/node/armRequest"),
    ],
)
def test_names(where, name):
    assert discovery.topic_name(*where) == name


def test_a_message_arrives(two):
    one, two = two
    heard = graphs.Heard(two, "/chatter", STRING, PLAIN)
    publish = one.advertise("chatter", STRING, PLAIN)
    message = one.message_class(STRING)()
    message.data = "hello"
    graphs.until(lambda: publish(message) or heard)
    assert heard[0].data == "hello"


def test_what_is_latched_arrives_late(two):
    one, two = two
    publish = one.advertise("latched", STRING, STATUS)
    message = one.message_class(STRING)()
    for message.data in ("old", "new"):
        publish(message)
    heard = graphs.Heard(two, "/latched", STRING, STATUS)
    graphs.until(lambda: heard)
    assert [m.data for m in heard] == ["new"]


def test_one_message_that_cannot_be_used_does_not_deafen(two, caplog):
    one, two = two
    heard = []

    def choke(message):
        heard.append(message.data)
        if message.data == "bad":
            raise ValueError(message.data)

    two.subscribe("/chatter", STRING, PLAIN, choke)
    publish = one.advertise("chatter", STRING, PLAIN)
    for data in ("bad", "good"):
        message = one.message_class(STRING)()
        message.data = data
        graphs.until(lambda m=message: publish(m) or m.data in heard)
    assert "a message could not be used" in caplog.text


def test_a_writer_that_leaves_is_no_message():
    with graphs.graph("ears") as ears:
        heard = graphs.Heard(ears, "chatter", STRING, SENSOR)
        with graphs.graph("mouth") as mouth:
            publish = mouth.advertise("chatter", STRING, PLAIN)
            message = mouth.message_class(STRING)()
            graphs.until(lambda: publish(message) or heard)
        count = len(heard)
        with graphs.graph("other") as other:
            publish = other.advertise("chatter", STRING, PLAIN)
            message.data = "again"
            graphs.until(lambda: publish(message) or heard[-1].data == "again")
        assert all(m.data in ("", "again") for m in heard)
        assert count


def test_a_closed_graph_is_gone(two):
    """Also while somebody still holds what publishes."""
    one, two = two
    with graphs.graph("leaves") as leaves:
        publish = leaves.advertise("/parting", STRING, STATUS)
        publish(message := leaves.message_class(STRING)(data="gone"))
        heard = graphs.Heard(two, "/parting", STRING, STATUS)
        graphs.until(lambda: heard)
    publish(message)
    heard = graphs.Heard(two, "/parting", STRING, STATUS)
    publish = one.advertise("/parting", STRING, STATUS)
    publish(one.message_class(STRING)(data="here"))
    graphs.until(lambda: "here" in [each.data for each in heard])
    assert [each.data for each in heard] == ["here"]


def test_a_service_answers(two):
    """As a ROS client over Cyclone DDS asks: its id and number first, and back again."""
    one, two = two
    one.serve("~/go", lambda: (False, "not now"))
    request, response = "std_srvs/Trigger_Request", "std_srvs/Trigger_Response"
    answers = []
    reader = two._reader("rr/one/goReply", response, structure(response, REQUEST_ID), PLAIN)
    two._topic_reader.add(reader, 10, answers.append)
    asking = structure(request, REQUEST_ID)
    writer = two._writer("rq/one/goRequest", request, asking, PLAIN)
    graphs.until(writer.get_matched_subscriptions)
    writer.write(asking(guid=77, seq=5))
    graphs.until(lambda: answers)
    (answer,) = answers
    assert (answer.guid, answer.seq) == (77, 5)
    assert (answer.success, answer.message) == (False, "not now")


def test_ros_is_told_who_we_are(two):
    """Node names, entities and type hashes, as rmw reads them."""
    one, two = two
    one.advertise("odom", "nav_msgs/msg/Odometry", COMMAND)
    infos = []
    info, of_all = discovery.INFO, Qos(reliable=True, latched=True, depth=50)
    reader = two._reader("ros_discovery_info", info, structure(info), of_all)
    two._topic_reader.add(reader, 50, infos.append)

    def of_one():
        nodes = [(n, i) for i in infos for n in i.node_entities_info_seq]
        return [(n, i) for n, i in nodes if n.node_name == "one" and n.writer_gid_seq]

    node, whole = graphs.until(of_one)[-1]
    assert node.node_namespace == "/"
    assert len(whole.gid.data) == 16
    participants = BuiltinDataReader(two._participant.participant, BuiltinTopicDcpsParticipant)
    graphs.until(
        lambda: [
            p for p in participants.take(10) if p.qos and Policy.Userdata(b"enclave=/;") in p.qos
        ]
    )
    publications = BuiltinDataReader(two._participant.participant, BuiltinTopicDcpsPublication)
    wanted = discovery.user_data("nav_msgs/Odometry")
    assert wanted.data.decode() == f"typehash={messages.type_hash('nav_msgs/Odometry')};"
    graphs.until(
        lambda: [
            p
            for p in publications.take(50)
            if p.topic_name == "rt/odom" and p.qos and wanted in p.qos
        ]
    )


def test_who_else_publishes_a_topic(two):
    """By GUID, with the name of the node; gone when it leaves."""
    one, two = two
    assert one.publishers("/somewhere/chatter") == {}
    one.advertise("/somewhere/chatter", STRING, PLAIN)
    two.advertise("chatter", "std_msgs/msg/Bool", SENSOR)  # of another type, and best effort
    graphs.until(lambda: list(two.publishers("chatter").values()) == ["/one"])
    graphs.until(lambda: list(one.publishers("/somewhere/chatter").values()) == ["/somewhere/two"])
    assert one.publishers("chatter") == {}
    with graphs.graph("one") as third:  # the same name, another node
        third.advertise("/somewhere/chatter", STRING, PLAIN)
        graphs.until(lambda: sorted(two.publishers("chatter").values()) == ["/one", "/one"])
        assert len(graphs.until(lambda: one.publishers("/somewhere/chatter"))) == 2
    graphs.until(lambda: len(two.publishers("chatter")) == 1)


OTHER = """
from tests.helpers.ros import graphs
from holdfast.robot.topics.graph import PLAIN
with graphs.graph("other") as other:
    heard = graphs.Heard(other, "chatter", "std_msgs/msg/String", PLAIN)
    graphs.until(lambda: heard)
    print(heard[0].data)
"""


def test_another_process_hears():
    with graphs.graph("here") as here:
        publish = here.advertise("chatter", STRING, PLAIN)
        message = here.message_class(STRING)()
        message.data = "across"
        with subprocess.Popen(
            [sys.executable, "-c", OTHER],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
        ) as process:
            graphs.until(lambda: publish(message) or process.poll() is not None)
            assert process.stdout.read() == "across\n"


# Settings from the environment.


def test_the_domain_is_ros_domain_id():
    assert discovery.domain_id({}) == 0
    assert discovery.domain_id({"ROS_DOMAIN_ID": ""}) == 0
    assert discovery.domain_id({"ROS_DOMAIN_ID": "42"}) == 42
    for text in ("-1", "233", "one"):
        with pytest.raises(ConfigError, match=f"from 0 to 232, received '{text}'"):
            discovery.domain_id({"ROS_DOMAIN_ID": text})


@pytest.mark.parametrize(
    ("environment", "there", "absent"),
    [
        ({}, ["<ParticipantIndex>auto<"], ["Multicast", "Peer "]),
        (
            {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"},
            ["<AllowMulticast>false<", 'Peer address="localhost"', "127.0.0.1"],
            ["autodetermine"],
        ),
        ({"ROS_LOCALHOST_ONLY": "1"}, ['Peer address="localhost"'], []),
        (
            {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_STATIC_PEERS": "a.b;c"},
            ['"localhost"', 'Peer address="a.b"', 'Peer address="c"', "autodetermine"],
            [],
        ),
        ({"ROS_STATIC_PEERS": "robot"}, ['Peer address="robot"'], ["localhost", "Multicast"]),
        (
            {"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"},
            ["<ParticipantIndex>none<", "ros_discovery_off_"],
            ["Peer "],
        ),
        ({"CYCLONEDDS_URI": "<Own/>"}, ["</CycloneDDS>,<Own/>"], []),
    ],
    ids=str,
)
def test_how_far_ros_looks(environment, there, absent):
    config = discovery.configuration(environment)
    assert [text for text in there if text not in config] == []
    assert [text for text in absent if text in config] == []


def test_the_systems_own_settings():
    own = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT"}
    assert discovery.configuration(own) == ""
    assert discovery.configuration({**own, "CYCLONEDDS_URI": "<Own/>"}) == "<Own/>"


def test_a_range_that_does_not_exist():
    with pytest.raises(ConfigError, match="should be one of SUBNET, LOCALHOST, OFF"):
        discovery.configuration({"ROS_AUTOMATIC_DISCOVERY_RANGE": "FAR"})


# Addresses.


def test_addresses():
    path, options = parse_address("dds:drive?namespace=robots/one&node=me")
    assert path.name == "drive.yaml"
    assert options == {"namespace": "robots/one", "node": "me"}
    assert str(parse_address("dds:some/where.yaml")[0]) == "some/where.yaml"


@pytest.mark.parametrize("address", ["dds:", "drive", "dds:drive?colour=red", "dds:nobody"])
def test_an_address_that_is_none(address):
    with pytest.raises(ConfigError, match=r"robot should be 'dds:CONFIG|there is no nobody\.yaml"):
        parse_address(address)
