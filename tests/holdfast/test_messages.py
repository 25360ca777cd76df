"""ROS's messages: what is written down about them is what ROS has."""

from __future__ import annotations

import json
import re

import pytest

from holdfast.log import messages
from tests.helpers.ros import ros2

# From a ROS 2 Jazzy: share/<package>/<msg or srv>/<Name>.json.
HASHES = {
    "std_msgs/String": "df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18",
    "geometry_msgs/TwistStamped": (
        "5f0fcd4f81d5d06ad9b4c4c63e3ea51b82d6ae4d0558f1d475229b1121db6f64"
    ),
    "rmw_dds_common/ParticipantEntitiesInfo": (
        "91a0593bacdcc50ea9bdcf849a938b128412cc1ea821245c663bcd26f83c295e"
    ),
}


@pytest.mark.parametrize("name", HASHES)
def test_a_type_has_the_hash_that_ros_gives_it(name):
    assert messages.type_hash(name) == f"RIHS01_{HASHES[name]}"


@pytest.mark.parametrize("name", messages.DEFINITIONS)
def test_every_line_of_a_definition_is_a_field(name):
    lines = messages.DEFINITIONS[name].splitlines()
    assert len(messages.fields(name)) == max(len(lines), 1)


def test_an_empty_message_has_the_member_that_ros_gives_it():
    (field,) = messages.fields("std_srvs/Trigger_Request")
    assert (field.type, field.name) == ("uint8", "structure_needs_at_least_one_member")


def test_what_follows_a_definition_is_all_that_it_uses():
    text = messages.schema("std_msgs/Header header\n", *messages.parts("nav_msgs/Odometry"))
    used = re.findall(r"MSG: (.*)", text)
    assert len(used) == len(set(used))
    assert {"std_msgs/Header", "geometry_msgs/Quaternion", "builtin_interfaces/Time"} <= set(used)
    assert text.startswith("std_msgs/Header header\n" + "=" * 80 + "\nMSG: ")


def test_names():
    assert messages.full_name("std_msgs/String") == "std_msgs/msg/String"
    assert messages.full_name("std_srvs/Trigger_Request") == "std_srvs/srv/Trigger_Request"


@pytest.mark.parametrize("name", messages.DEFINITIONS)
def test_a_type_is_what_the_installed_ros_has(name):
    package, folder, short = messages.full_name(name).split("/")
    file = re.sub(r"_(Request|Response)$", "", short) + ".json"
    described = json.loads((ros2.share(package) / folder / file).read_text())
    hashes = {h["type_name"]: h["hash_string"] for h in described["type_hashes"]}
    assert messages.type_hash(name) == hashes[messages.full_name(name)]
