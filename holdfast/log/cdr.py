"""CDR of constant size: a ROS 2 message definition compiled to a NumPy record layout.

Within one run every array of a message has a constant length, so each field has a constant offset.
The writer fills a buffer in place; the reader views thousands of messages as one array. Strings of
varying length (reasons, texts) come last in a definition and are packed one by one.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

ENCAPSULATION = b"\x00\x01\x00\x00"
"""Little-endian plain CDR; alignment counts from the byte after it."""

PRIMITIVES = {
    "bool": "?",
    "uint8": "<u1",
    "int32": "<i4",
    "uint32": "<u4",
    "uint64": "<u8",
    "float64": "<f8",
}
_FIELD = re.compile(r"(?P<type>[\w/]+)(?P<array>\[(?P<count>\d*)\])?\s+(?P<name>\w+)$")
_SEPARATOR = "=" * 80


class Layout:
    """The offset and type of each field of a message.

    Args:
        definition: ros2msg text, the definitions it uses appended after separator lines.
        constants: each sequence's length and each string's text, by dotted field name. Strings
            at the end may be left out: `pack_strings` and `unpack_tail` handle them.

    Attributes:
        dtype: one message's record, nested fields under dotted names ("stamp.sec").
        tail: the strings at the end, in order, with True for a list of strings.

    Raises:
        ValueError: the definition has a field without a constant size.
    """

    def __init__(self, definition: str, constants: Mapping[str, int | str]) -> None:
        main, *others = definition.split(_SEPARATOR + "\n")
        self._definitions = {}
        for other in others:
            title, _, body = other.partition("\n")
            self._definitions[title.removeprefix("MSG: ")] = body
        self._constants = constants
        self._template = bytearray()
        self._fields: list[tuple[str, Any, int]] = []
        self.tail: dict[str, bool] = {}
        self._add_message(main, "")
        if self.tail:
            self._align(4)
        names, formats, offsets = zip(*self._fields, strict=True)
        self._template[:0] = ENCAPSULATION
        self._constant = self._constant_bytes()
        self.dtype = np.dtype(
            {
                "names": list(names),
                "formats": list(formats),
                "offsets": [offset + len(ENCAPSULATION) for offset in offsets],
                "itemsize": len(self._template),
            }
        )

    def record(self) -> tuple[bytearray, NDArray[Any]]:
        """Return a message's bytes with lengths and constant strings in place, and its fields.

        The second is a 0-d record array over the first: assigning a field writes the bytes.
        """
        buffer = bytearray(self._template)
        return buffer, np.frombuffer(buffer, self.dtype)[0:1].reshape(())

    def unpack(self, messages: Sequence[bytes]) -> NDArray[Any]:
        """Return the messages' fields as one record array; strings at the end are left out.

        Raises:
            ValueError: a message is shorter than the layout, or has other lengths or constant
                strings.
        """
        size = self.dtype.itemsize
        if min(map(len, messages), default=size) < size:
            raise ValueError(f"messages should have at least {size} bytes")
        data = b"".join([message[:size] for message in messages])
        columns = np.frombuffer(data, np.uint8).reshape(len(messages), size)
        template = np.frombuffer(self._template, np.uint8)
        for place in self._constant:
            if (columns[:, place] != template[place]).any():
                raise ValueError("messages should have the lengths and texts of this layout")
        return np.frombuffer(data, self.dtype, len(messages))

    def unpack_tail(self, message: bytes) -> tuple[str | tuple[str, ...], ...]:
        """Return the strings at the end of a message, in the definition's order.

        Raises:
            ValueError: the message is too short, or a string is not UTF-8.
        """
        offset = self.dtype.itemsize
        values: list[str | tuple[str, ...]] = []
        for several in self.tail.values():
            count = 1
            if several:
                offset += -offset % 4
                count, offset = _uint32(message, offset), offset + 4
            texts = []
            for _ in range(count):
                offset += -offset % 4
                length = _uint32(message, offset)
                text, offset = message[offset + 4 : offset + 4 + length], offset + 4 + length
                if not length or len(text) < length or text[-1]:
                    raise ValueError("a string should end with a zero, inside of the message")
                texts.append(text[:-1].decode())
            values.append(tuple(texts) if several else texts[0])
        return tuple(values)

    def _constant_bytes(self) -> tuple[slice, ...]:
        """Return the positions of lengths and constant strings, which do not vary."""
        places, start = [], 0
        for _, (item, shape), offset in self._fields:
            place = len(ENCAPSULATION) + offset
            places.append(slice(start, place))
            start = place + item.itemsize * int(np.prod(shape, dtype=int))
        places.append(slice(start, len(self._template)))
        return tuple(place for place in places if place.start < place.stop)

    def _add_message(self, body: str, prefix: str) -> None:
        for raw in body.splitlines():
            line = raw.partition("#")[0].strip()
            if not line or "=" in line:  # an empty line, or a constant, which is not sent
                continue
            match = _FIELD.match(line)
            if match is None:
                raise ValueError(f"cannot read field '{line}'")
            self._add_field(prefix + match["name"], match["type"], match["array"], match["count"])

    def _add_field(self, name: str, kind: str, array: str | None, count: str | None) -> None:
        constant = self._constants.get(name)
        if kind == "string" and constant is None:
            self.tail[name] = array is not None
            return
        if self.tail:
            raise ValueError(f"field '{name}' comes after strings without a constant size")
        if kind == "string":
            text = str(constant).encode() + b"\x00"
            self._align(4)
            self._template += struct.pack("<I", len(text)) + text
        elif kind in PRIMITIVES:
            item = np.dtype(PRIMITIVES[kind])
            shape: tuple[int, ...] = ()
            if array and not count:
                if not isinstance(constant, int):
                    raise ValueError(f"sequence '{name}' needs a constant length")
                self._align(4)
                self._template += struct.pack("<I", constant)
                shape = (constant,)
            elif array:
                shape = (int(count or 0),)
            if 0 not in shape:
                self._align(item.itemsize)
            self._fields.append((name, (item, shape), len(self._template)))
            self._template += bytes(item.itemsize * int(np.prod(shape, dtype=int)))
        elif array is None and kind in self._definitions:
            self._add_message(self._definitions[kind], name + ".")
        else:
            raise ValueError(f"field '{name}' has unknown type '{kind}{array or ''}'")

    def _align(self, size: int) -> None:
        self._template += bytes(-len(self._template) % size)


def _uint32(message: bytes, offset: int) -> int:
    if len(message) < offset + 4:
        raise ValueError("a message ends before its strings do")
    return int.from_bytes(message[offset : offset + 4], "little")


def pack_strings(values: Iterable[str | Sequence[str]]) -> bytes:
    """Return strings and lists of strings in CDR, for an offset that is a multiple of 4."""
    data = bytearray()
    for value in values:
        data += bytes(-len(data) % 4)
        if isinstance(value, str):
            texts: Sequence[str] = (value,)
        else:
            texts = value
            data += struct.pack("<I", len(texts))
        for text in texts:
            data += bytes(-len(data) % 4)
            encoded = text.encode() + b"\x00"
            data += struct.pack("<I", len(encoded)) + encoded
    return bytes(data)
