"""The ROS 2 standard messages that Holdfast uses without ROS.

Each message has one definition: logs embed its text, `holdfast.robot.dds` makes DDS types from it,
and the type's hash, by which ROS nodes recognise equal types, is computed from it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

DEFINITIONS: Mapping[str, str] = {
    "builtin_interfaces/Time": "int32 sec\nuint32 nanosec\n",
    "std_msgs/Header": "builtin_interfaces/Time stamp\nstring frame_id\n",
    "std_msgs/Bool": "bool data\n",
    "std_msgs/String": "string data\n",
    "std_msgs/MultiArrayDimension": "string label\nuint32 size\nuint32 stride\n",
    "std_msgs/MultiArrayLayout": "std_msgs/MultiArrayDimension[] dim\nuint32 data_offset\n",
    "std_msgs/Float64MultiArray": "std_msgs/MultiArrayLayout layout\nfloat64[] data\n",
    "geometry_msgs/Vector3": "float64 x\nfloat64 y\nfloat64 z\n",
    "geometry_msgs/Point": "float64 x\nfloat64 y\nfloat64 z\n",
    "geometry_msgs/PointStamped": "std_msgs/Header header\ngeometry_msgs/Point point\n",
    "geometry_msgs/Quaternion": "float64 x\nfloat64 y\nfloat64 z\nfloat64 w\n",
    "geometry_msgs/Pose": "geometry_msgs/Point position\ngeometry_msgs/Quaternion orientation\n",
    "geometry_msgs/PoseStamped": "std_msgs/Header header\ngeometry_msgs/Pose pose\n",
    "geometry_msgs/PoseWithCovariance": "geometry_msgs/Pose pose\nfloat64[36] covariance\n",
    "geometry_msgs/PoseWithCovarianceStamped": (
        "std_msgs/Header header\ngeometry_msgs/PoseWithCovariance pose\n"
    ),
    "geometry_msgs/Twist": "geometry_msgs/Vector3 linear\ngeometry_msgs/Vector3 angular\n",
    "geometry_msgs/TwistStamped": "std_msgs/Header header\ngeometry_msgs/Twist twist\n",
    "geometry_msgs/TwistWithCovariance": "geometry_msgs/Twist twist\nfloat64[36] covariance\n",
    "geometry_msgs/Transform": (
        "geometry_msgs/Vector3 translation\ngeometry_msgs/Quaternion rotation\n"
    ),
    "geometry_msgs/TransformStamped": (
        "std_msgs/Header header\nstring child_frame_id\ngeometry_msgs/Transform transform\n"
    ),
    "tf2_msgs/TFMessage": "geometry_msgs/TransformStamped[] transforms\n",
    "nav_msgs/Odometry": (
        "std_msgs/Header header\n"
        "string child_frame_id\n"
        "geometry_msgs/PoseWithCovariance pose\n"
        "geometry_msgs/TwistWithCovariance twist\n"
    ),
    "sensor_msgs/Imu": (
        "std_msgs/Header header\n"
        "geometry_msgs/Quaternion orientation\n"
        "float64[9] orientation_covariance\n"
        "geometry_msgs/Vector3 angular_velocity\n"
        "float64[9] angular_velocity_covariance\n"
        "geometry_msgs/Vector3 linear_acceleration\n"
        "float64[9] linear_acceleration_covariance\n"
    ),
    "sensor_msgs/JointState": (
        "std_msgs/Header header\n"
        "string[] name\n"
        "float64[] position\n"
        "float64[] velocity\n"
        "float64[] effort\n"
    ),
    "sensor_msgs/LaserScan": (
        "std_msgs/Header header\n"
        "float32 angle_min\n"
        "float32 angle_max\n"
        "float32 angle_increment\n"
        "float32 time_increment\n"
        "float32 scan_time\n"
        "float32 range_min\n"
        "float32 range_max\n"
        "float32[] ranges\n"
        "float32[] intensities\n"
    ),
    "rosgraph_msgs/Clock": "builtin_interfaces/Time clock\n",
    "std_srvs/Trigger_Request": "",
    "std_srvs/Trigger_Response": "bool success\nstring message\n",
    "rmw_dds_common/Gid": "uint8[16] data\n",
    "rmw_dds_common/NodeEntitiesInfo": (
        "string<=256 node_namespace\n"
        "string<=256 node_name\n"
        "rmw_dds_common/Gid[] reader_gid_seq\n"
        "rmw_dds_common/Gid[] writer_gid_seq\n"
    ),
    "rmw_dds_common/ParticipantEntitiesInfo": (
        "rmw_dds_common/Gid gid\nrmw_dds_common/NodeEntitiesInfo[] node_entities_info_seq\n"
    ),
}
"""Definitions by "package/Name", without comments and constants, which are not sent."""

EMPTY = "uint8 structure_needs_at_least_one_member\n"
"""The field that ROS adds to a message without fields."""

_FIELD = re.compile(
    r"(?P<type>[\w/]+)(<=(?P<text>\d+))?(?P<array>\[(?P<bound><=)?(?P<count>\d*)\])?\s+(?P<name>\w+)"
)


@dataclass(frozen=True)
class Field:
    """A field of a message.

    Attributes:
        type: a primitive type's name, or "package/Name".
        array: whether the field is a list of values.
        count: number of an array's values; 0: any number.
        text: largest number of a string's characters; 0: any number.
    """

    name: str
    type: str
    array: bool = False
    count: int = 0
    text: int = 0


@cache
def fields(name: str) -> tuple[Field, ...]:
    """Return the fields of a message, "package/Name", in order.

    Raises:
        KeyError: the message is not in `DEFINITIONS`.
    """
    matches = map(_FIELD.fullmatch, (DEFINITIONS[name] or EMPTY).splitlines())
    return tuple(
        Field(m["name"], m["type"], bool(m["array"]), int(m["count"] or 0), int(m["text"] or 0))
        for m in matches
        if m is not None
    )


@cache
def parts(name: str) -> tuple[str, ...]:
    """Return the other messages that a message contains, at any depth, in the order of use."""
    found: dict[str, None] = {}
    for field in fields(name):
        if "/" in field.type:
            found.update(dict.fromkeys((field.type, *parts(field.type))))
    return tuple(found)


def full_name(name: str) -> str:
    """Return "package/msg/Name", or "package/srv/Name_Request", for "package/Name"."""
    package, _, short = name.partition("/")
    folder = "srv" if short.endswith(("_Request", "_Response", "_Event")) else "msg"
    return f"{package}/{folder}/{short}"


def schema(definition: str, *used: str) -> str:
    """Return a definition with the definitions of the messages in it, as logs embed it."""
    return ("=" * 80 + "\n").join(
        (definition, *(f"MSG: {name}\n{DEFINITIONS[name]}" for name in used))
    )


# The hash: REP 2016's RIHS01, the SHA-256 of a JSON text that describes the type.

_NESTED, _SEQUENCE, _ARRAY = 1, 144, 48
_TYPE_IDS = {
    **{"int8": 2, "uint8": 3, "int16": 4, "uint16": 5, "int32": 6, "uint32": 7, "int64": 8},
    **{"uint64": 9, "float32": 10, "float64": 11, "bool": 15, "byte": 16, "string": 17},
}
_BOUNDED_STRING = 21


def _described(field: Field) -> dict[str, Any]:
    kind = _NESTED if "/" in field.type else _TYPE_IDS[field.type]
    if field.text:
        kind = _BOUNDED_STRING
    if field.array:
        kind += _ARRAY if field.count else _SEQUENCE
    return {
        "name": field.name,
        "type": {
            "type_id": kind,
            "capacity": field.count,
            "string_capacity": field.text,
            "nested_type_name": full_name(field.type) if "/" in field.type else "",
        },
    }


def _description(name: str) -> dict[str, Any]:
    return {"type_name": full_name(name), "fields": [_described(field) for field in fields(name)]}


@cache
def type_hash(name: str) -> str:
    """Return the hash of a message, "package/Name", as "RIHS01_" and 64 hex digits."""
    described = {
        "type_description": _description(name),
        "referenced_type_descriptions": [_description(part) for part in sorted(parts(name))],
    }
    text = json.dumps(described, separators=(", ", ": "))
    return "RIHS01_" + hashlib.sha256(text.encode()).hexdigest()
