"""Reads an ONNX file without the package `onnx`: strictly, within bounds, a bundle's fields alone.

The Protocol Buffers wire format is a sequence of fields, each a number and a value. Every field
that a bundle does not need is refused, so ONNX Runtime gets only fields that were checked.
"""

from __future__ import annotations

import struct
from typing import Any

from holdfast.errors import BundleError

Message = dict[str, Any]
"""A message's fields by name: a value, or a list of values where the field may be repeated."""

FIELDS = 100_000
"""Largest number of fields in one file. A bundle has about 1,000, read in a millisecond."""

INT, FLOAT, TEXT, BYTES = "an integer", "a float", "text", "bytes"
_VARINT, _LENGTH, _FIXED32 = 0, 2, 5
_WIRE_TYPES = {INT: _VARINT, FLOAT: _FIXED32}


class Refused(str):
    """A kind of field that no bundle may have, with the name of its content."""


# A kind of field is one of the above, the table of a message's fields, or a list of one of
# these where the field is repeated. Numbers and names are those of onnx.proto.
_ENTRY = {1: ("key", TEXT), 2: ("value", TEXT)}
_DIM = {1: ("dim_value", INT), 2: ("dim_param", TEXT)}
_SHAPE = {1: ("dim", [_DIM])}
_TENSOR_TYPE = {1: ("elem_type", INT), 2: ("shape", _SHAPE)}
_OTHER_TYPE = Refused("a value that is no tensor")
_TYPE = {
    1: ("tensor_type", _TENSOR_TYPE),
    4: ("sequence_type", _OTHER_TYPE),
    5: ("map_type", _OTHER_TYPE),
    8: ("sparse_tensor_type", _OTHER_TYPE),
    9: ("optional_type", _OTHER_TYPE),
}
_VALUE_INFO = {1: ("name", TEXT), 2: ("type", _TYPE)}
_TENSOR = {
    1: ("dims", [INT]),
    2: ("data_type", INT),
    8: ("name", TEXT),
    9: ("raw_data", BYTES),
    13: ("external_data", Refused("data in another file")),
    14: ("data_location", Refused("data in another file")),
}
_SUBGRAPH = Refused("a graph within an operator")
_ATTRIBUTE = {
    1: ("name", TEXT),
    2: ("f", FLOAT),
    3: ("i", INT),
    6: ("g", _SUBGRAPH),
    8: ("ints", [INT]),
    11: ("graphs", _SUBGRAPH),
    20: ("type", INT),
}
_NODE = {
    1: ("input", [TEXT]),
    2: ("output", [TEXT]),
    3: ("name", TEXT),
    4: ("op_type", TEXT),
    5: ("attribute", [_ATTRIBUTE]),
    7: ("domain", TEXT),
}
_GRAPH = {
    1: ("node", [_NODE]),
    2: ("name", TEXT),
    5: ("initializer", [_TENSOR]),
    11: ("input", [_VALUE_INFO]),
    12: ("output", [_VALUE_INFO]),
    13: ("value_info", [_VALUE_INFO]),
    15: ("sparse_initializer", Refused("sparse weights")),
}
_OPSET = {1: ("domain", TEXT), 2: ("version", INT)}
_MODEL = {
    1: ("ir_version", INT),
    2: ("producer_name", TEXT),
    3: ("producer_version", TEXT),
    7: ("graph", _GRAPH),
    8: ("opset_import", [_OPSET]),
    14: ("metadata_props", [_ENTRY]),
    20: ("training_info", Refused("a training graph")),
    25: ("functions", Refused("functions of its own")),
}


def read_model(data: bytes) -> Message:
    """Return the ModelProto in a file's bytes; an absent repeated field is [].

    Raises:
        BundleError: the bytes are cut off, or hold a field that no bundle has.
    """
    if data[4:8] == b"ORTM":  # ONNX Runtime would read the file as its own format
        raise BundleError("its file should be in ONNX's format, not in ONNX Runtime's")
    return _Reader(data).message("the model", _MODEL, 0, len(data))


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._fields = data, 0

    def message(self, where: str, table: dict[int, Any], at: int, end: int) -> Message:
        """Return the message in data[at:end]."""
        found: Message = {name: [] for name, kind in table.values() if isinstance(kind, list)}
        while at < end:
            self._fields += 1
            if self._fields > FIELDS:
                raise BundleError(f"its ONNX file should have at most {FIELDS} fields")
            tag, at = self._varint(at, end)
            number, wire_type = tag >> 3, tag & 7
            if number not in table:
                raise BundleError(f"{where} should not have field {number} of onnx.proto")
            name, kind = table[number]
            if isinstance(kind, Refused):
                raise BundleError(f"{where} should not have {kind} ('{name}')")
            if not isinstance(kind, list):
                if name in found:
                    raise BundleError(f"{where} should have '{name}' once")
                found[name], at = self._value(name, kind, wire_type, at, end)
            elif kind == [INT] and wire_type == _LENGTH:
                start, at = self._span(at, end)
                while start < at:
                    value, start = self._varint(start, at)
                    found[name].append(_signed(value))
                    self._fields += 1
            else:
                value, at = self._value(name, kind[0], wire_type, at, end)
                found[name].append(value)
        return found

    def _value(self, name: str, kind: Any, wire_type: int, at: int, end: int) -> tuple[Any, int]:
        """Return a field's value and the position of the next field."""
        wanted = _LENGTH if isinstance(kind, dict) else _WIRE_TYPES.get(kind, _LENGTH)
        if wire_type != wanted:
            raise BundleError(f"'{name}' should be written otherwise than as wire type {wire_type}")
        if kind == INT:
            value, at = self._varint(at, end)
            return _signed(value), at
        if kind == FLOAT:
            if end - at < 4:
                raise _cut_off()
            return struct.unpack_from("<f", self._data, at)[0], at + 4
        start, at = self._span(at, end)
        if isinstance(kind, dict):
            return self.message(f"'{name}'", kind, start, at), at
        if kind == BYTES:
            return self._data[start:at], at
        try:
            return self._data[start:at].decode(), at
        except UnicodeDecodeError:
            raise BundleError(f"'{name}' should be text in UTF-8") from None

    def _span(self, at: int, end: int) -> tuple[int, int]:
        """Return the start and the end of a field of bytes, whose length is stored here."""
        length, at = self._varint(at, end)
        if length > end - at:
            raise _cut_off()
        return at, at + length

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 64, 7):
            if at >= end:
                raise _cut_off()
            byte = self._data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
        raise BundleError("its ONNX file holds a number of more than 64 bits")


def _signed(value: int) -> int:
    """Return a number of 64 bits in two's complement as a signed one."""
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value


def _cut_off() -> BundleError:
    return BundleError("its ONNX file is cut off, or is no ONNX file")
