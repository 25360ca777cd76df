"""The layouts against CDR's rules written out by hand, and against another decoder."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from holdfast.log import format as log_format
from holdfast.log.cdr import Layout, pack_strings
from tests.helpers.data.recordings import info

NESTED = """# comment
uint8 CONSTANT=3
bool flag   # another
inner/Pair pair
float64[] values
string label
uint32 count
uint64[2] fixed
string text
string[] codes
================================================================================
MSG: inner/Pair
int32 a
float64 b
"""


def test_bytes_are_as_cdr_aligns_them():
    layout = Layout(NESTED, {"values": 3, "label": "ab"})
    buffer, fields = layout.record()
    fields["flag"], fields["pair.a"], fields["pair.b"] = True, -5, 1.5
    fields["values"], fields["count"], fields["fixed"] = [1.0, 2.0, 3.0], 7, [8, 9]
    data = bytes(buffer) + pack_strings(["x", ["one", ""]])
    body = struct.pack("<?3xi", True, -5) + struct.pack("<d", 1.5)
    body += struct.pack("<I4x3d", 3, 1.0, 2.0, 3.0)
    body += struct.pack("<I3s", 3, b"ab\0") + b"\0"  # the next field is aligned to 4
    body += struct.pack("<I", 7) + b"\0" * (-(len(body) + 4) % 8) + struct.pack("<2Q", 8, 9)
    body += struct.pack("<I2s2x", 2, b"x\0") + struct.pack("<I", 2)
    body += struct.pack("<I4s", 4, b"one\0") + struct.pack("<I1s", 1, b"\0")
    assert data == b"\x00\x01\x00\x00" + body


def test_what_was_packed_is_unpacked():
    layout = Layout(NESTED, {"values": 2, "label": "ab"})
    messages = []
    for k in range(5):
        buffer, fields = layout.record()
        fields["values"], fields["pair.a"] = [k, -k], k
        messages.append(bytes(buffer) + pack_strings([f"text {k}", ["code"] * k]))
    rows = layout.unpack(messages)
    assert rows["pair.a"].tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(rows["values"][:, 1], [0, -1, -2, -3, -4])
    assert layout.unpack_tail(messages[3]) == ("text 3", ("code", "code", "code"))


def test_an_empty_sequence_needs_no_alignment():
    layout = Layout("float64[] values\nuint32 after\n", {"values": 0})
    buffer, fields = layout.record()
    fields["after"] = 6
    assert bytes(buffer) == b"\x00\x01\x00\x00" + struct.pack("<II", 0, 6)


@pytest.mark.parametrize(
    ("definition", "sentence"),
    [
        ("float64[] values\n", "'values' needs a constant length"),
        ("string text\nuint8 after\n", "'after' comes after strings"),
        ("other/Thing thing\n", "unknown type 'other/Thing'"),
        ("nonsense\n", "cannot read field 'nonsense'"),
    ],
)
def test_what_has_no_constant_size_is_refused(definition, sentence):
    with pytest.raises(ValueError, match=sentence):
        Layout(definition, {})


@pytest.mark.parametrize("topic", log_format.SCHEMAS)
def test_another_decoder_reads_the_same(topic):
    """mcap-ros2-support knows nothing of ours: it goes by the embedded definition alone."""
    dynamic = pytest.importorskip("mcap_ros2._dynamic")
    name, definition = log_format.SCHEMAS[topic]
    layout = log_format.layout(topic, info())
    buffer, fields = layout.record()
    rng = np.random.default_rng(1)
    for field in layout.dtype.names:
        part = fields[field]
        values = rng.integers(0, 2, part.shape) + (0.25 if part.dtype == np.float64 else 0)
        fields[field] = values
    texts = [["a", "bc"] if several else "def" for several in layout.tail.values()]
    decode = dynamic.generate_dynamic(name, definition)[name]
    message = decode(bytes(buffer) + pack_strings(texts))
    for field in layout.dtype.names:
        value = message
        for part in field.split("."):
            value = getattr(value, part)
        np.testing.assert_array_equal(np.asarray(value), fields[field], err_msg=field)
    assert [getattr(message, field) for field in layout.tail] == texts
