"""DDS types of ROS's messages, made of their definitions."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

import cyclonedds.idl
from cyclonedds.idl import types

from holdfast.errors import ConfigError
from holdfast.log import messages
from holdfast.log.messages import Field
from holdfast.robot.topics.message_types import M, MessageType

# Both make types at run time, in ways that type checkers do not see.
_IDL: Any = cyclonedds.idl
_DDS: Any = types

_PRIMITIVES: dict[str, tuple[object, object]] = {
    "bool": (bool, False),
    "byte": (_DDS.byte, 0),
    "int32": (_DDS.int32, 0),
    "int64": (_DDS.int64, 0),
    "uint8": (_DDS.uint8, 0),
    "uint32": (_DDS.uint32, 0),
    "uint64": (_DDS.uint64, 0),
    "float32": (_DDS.float32, 0.0),
    "float64": (_DDS.float64, 0.0),
    "string": (str, ""),
}
"""DDS type and default of each of ROS's."""

REQUEST_ID = (Field("guid", "uint64"), Field("seq", "int64"))
"""What ROS's services over Cyclone DDS put before a request and its response."""


class ServiceRequest(Protocol):
    """A request of a service: `REQUEST_ID`, then the request's own fields."""

    guid: int
    seq: int


def message_class(kind: MessageType[M]) -> type[M]:
    """Return the class of a message type; its instances have ROS's defaults.

    Raises:
        ConfigError: its definition is not known here.
    """
    package, _, short = kind.split("/")
    name = f"{package}/{short}"
    if name not in messages.DEFINITIONS:
        known = map(messages.full_name, messages.DEFINITIONS)
        raise ConfigError(
            f"message type '{kind}' is not known without ROS; known are "
            f"{', '.join(sorted(full for full in known if '/msg/' in full))}"
        )
    found: type[M] = structure(name)
    return found


@cache
def structure(name: str, before: tuple[Field, ...] = ()) -> type[Any]:
    """Return the DDS structure of a message, "package/Name", its fields after those of `before`."""
    package, folder, short = messages.full_name(name).split("/")
    typename = f"{package}::{folder}::dds_::{short}_"
    bases = (_IDL.IdlStruct,)
    namespace = _IDL.IdlMeta.__prepare__(short, bases, typename=typename)
    for described in (*before, *messages.fields(name)):
        kind, default = _described(described)
        namespace["__annotations__"][described.name] = kind
        namespace[described.name] = (
            field(default_factory=default) if callable(default) else field(default=default)
        )
    result: type[Any] = dataclass(_IDL.IdlMeta(short, bases, namespace))
    return result


def _described(described: Field) -> tuple[object, object]:
    """Return a field's DDS type, and its default or what makes it."""
    if described.type in _PRIMITIVES:
        kind, default = _PRIMITIVES[described.type]
        if described.text:
            kind = _DDS.bounded_str[described.text]
    else:
        kind = default = structure(described.type)
    if not described.array:
        return kind, default
    if described.count:
        return _DDS.array[kind, described.count], lambda: [default] * described.count
    return _DDS.sequence[kind], list
