"""Reads the messages of any MCAP file, plain or chunked, within bounds and with checksums.

Every length is compared with the file's size before it is used, and every checksum is compared. The
first damage ends the file like a tear.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Collection, Iterator
from io import BytesIO
from typing import Any, BinaryIO

import lz4.frame
import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Channel, Schema

from holdfast.errors import LogError

MAGIC = b"\x89MCAP0\r\n"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
"""First bytes of a file that was compressed as a whole, as `ros2 bag record` can do."""

MAX_RECORD = 256 * 2**20
"""Largest record or chunk, bytes, packed or unpacked. Usual ones have 1 MB."""

MAX_TOTAL = 8 * 2**30
"""Largest unpacked size of one file, bytes."""

_BLOCK = 2**20  # bytes per read

_RECORD = struct.Struct("<BQ")  # opcode, length
_RECORD_IN_CHUNK = struct.Struct("<BQH")  # with the channel of a message
_CHANNEL = struct.Struct("<H")
_MESSAGE, _DATA_END = (
    int(Opcode.MESSAGE),
    int(Opcode.DATA_END),
)  # reading a member from an Enum is slow
_MESSAGE_HEAD = 22  # bytes: channel, sequence, log time, publish time
_CHUNK = struct.Struct("<QQQII")  # first and last time, size, checksum, length of the compression
_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")
_FOOTER = struct.Struct("<BQQQI")  # opcode, length, summary's start, offsets' start, checksum

_IN_DATA = frozenset(map(int, {
    Opcode.HEADER, Opcode.SCHEMA, Opcode.CHANNEL, Opcode.MESSAGE, Opcode.CHUNK,
    Opcode.MESSAGE_INDEX, Opcode.ATTACHMENT, Opcode.METADATA, Opcode.DATA_END,
}))  # fmt: skip
_PRIVATE = 0x80
"""First opcode of records that belong to other programs, which are skipped."""


class _Tear(Exception):
    """The file cannot be read further; the text gives the reason."""


class _Unfinished(_Tear):
    """The file ends before its end record, as it does while it is being written."""


class McapReader:
    """Reads one file, once; a file that grows is read on from where it ended.

    Args:
        file: at its start.
        topics: topics whose messages are wanted.

    Attributes:
        tear: why the file could not be read to its end; "" if it could.
        unfinished: the file ends before its end record; `messages` reads what is appended.
        checked: whether every message had a checksum, and all checksums were right.

    Raises:
        LogError: not an MCAP file.
    """

    def __init__(self, file: BinaryIO, topics: Collection[str]) -> None:
        self.tear = ""
        self.unfinished = False
        self.checked = True
        self._file, self._topics = file, frozenset(topics)
        self._channels: dict[int, str] = {}
        self._size = os.fstat(file.fileno()).st_size
        self._unpacked = 0
        # What is at hand of the file, where in it the next record begins, how many bytes came
        # before it, and their checksum.
        self._block, self._at, self._before, self._checksum = file.read(_BLOCK), len(MAGIC), 0, 0
        start = self._block[: len(MAGIC)]
        if start.startswith(ZSTD_MAGIC):
            raise LogError("is compressed as a whole; unpack it first, with `zstd -d`")
        if start != MAGIC:
            raise LogError("not an MCAP file")

    def messages(self) -> Iterator[tuple[str, bytes]]:
        """Yield topic and content of each wanted message, in the file's order.

        Called again while `unfinished`, it yields what was appended since.

        Raises:
            LogError: the checksum of all data is wrong, so the place of the damage is not known; or
                the data are larger than `MAX_TOTAL`.
        """
        self.tear, self.unfinished = "", False
        self._size = os.fstat(self._file.fileno()).st_size
        try:
            for opcode, body in self._records():
                if opcode == _MESSAGE:
                    self.checked = False  # until the checksum of all data shows otherwise
                    topic = self._topic(body)
                    if topic in self._topics:
                        yield topic, body[_MESSAGE_HEAD:]
                elif opcode == Opcode.CHUNK:
                    block, checksum = self._unpack(body)
                    self.checked = self.checked and checksum
                    yield from self._in_chunk(block)
                elif opcode == Opcode.CHANNEL:
                    self._add_channel(body)
                elif opcode == Opcode.MESSAGE_INDEX:
                    _require_index(body)
        except _Tear as tear:
            self.tear, self.unfinished = str(tear), isinstance(tear, _Unfinished)

    def _records(self) -> Iterator[tuple[int, bytes]]:
        """Yield opcode and content of each record of the data, then check the file's end."""
        while True:
            if len(self._block) - self._at < _RECORD.size:
                self._read_on(_RECORD.size, "it has no end, as after a crash or a loss of power")
            opcode, length = _RECORD.unpack_from(self._block, self._at)
            if opcode not in _IN_DATA and opcode < _PRIVATE:
                place = self._before + self._at
                raise _Tear(f"at byte {place} is no record of a log's data (kind {opcode})")
            end = self._at + _RECORD.size + length
            if end > len(self._block):
                self._read_on(_RECORD.size + length, "its last record is cut short")
                end = self._at + _RECORD.size + length
            body = self._block[self._at + _RECORD.size : end]
            if opcode == _DATA_END:
                self._check_data(body)
                self._check_summary(end)
                return
            self._at = end
            yield opcode, body

    def _read_on(self, count: int, lacking: str) -> None:
        """Read until `count` bytes are available; raise if the file ends before."""
        if self._before + self._at + count > self._size:
            raise _Unfinished(lacking)
        if count > MAX_RECORD:
            raise _Tear(f"a record should have at most {MAX_RECORD} bytes, received {count}")
        self._checksum = zlib.crc32(memoryview(self._block)[: self._at], self._checksum)
        self._before += self._at
        self._block = self._block[self._at :] + self._file.read(max(count, _BLOCK))
        self._at = 0
        if len(self._block) < count:
            raise _Unfinished(lacking)

    def _check_data(self, body: bytes) -> None:
        if len(body) < _CHECKSUM.size:
            raise _Tear("its end record is damaged")
        (wanted,) = _CHECKSUM.unpack_from(body)
        received = zlib.crc32(memoryview(self._block)[: self._at], self._checksum)
        if not wanted:  # in this format 0 means no checksum
            return
        if wanted != received:
            raise LogError(
                f"its data should have the checksum {wanted:08x}, received {received:08x}: "
                "a part of them was damaged or changed after it was written"
            )
        self.checked = True

    def _check_summary(self, at: int) -> None:
        """Check the rest of the file from `at` on: indexes, which are not used, and the footer."""
        place = self._before + at
        if self._size - place > MAX_RECORD:
            raise _Tear(f"its summary should have at most {MAX_RECORD} bytes")
        self._block += self._file.read()
        rest = self._block[at:]
        footer = len(rest) - len(MAGIC) - _FOOTER.size
        if footer < 0 or not rest.endswith(MAGIC):
            raise _Unfinished("its summary is cut short or damaged")
        opcode, length, start, _, wanted = _FOOTER.unpack_from(rest, footer)
        checked = rest[: footer + _FOOTER.size - _CHECKSUM.size]
        whole = (opcode, length) == (Opcode.FOOTER, 20) and start in (0, place)
        if not whole or (wanted and zlib.crc32(checked) != wanted):
            raise _Tear("its summary is damaged")

    def _unpack(self, body: bytes) -> tuple[bytes, bool]:
        """Return a chunk's content, and whether it had a checksum."""
        try:
            *_, size, wanted, length = _CHUNK.unpack_from(body)
            at = _CHUNK.size + length
            compression = body[_CHUNK.size : at].decode()
            (length,) = _LENGTH.unpack_from(body, at)
        except (struct.error, UnicodeDecodeError):
            raise _Tear("a chunk's head is damaged") from None
        packed = memoryview(body)[at + _LENGTH.size :]
        if length != len(packed):
            raise _Tear(f"a chunk should hold {length} packed bytes, received {len(packed)}")
        if size > MAX_RECORD:
            raise _Tear(f"a chunk should have at most {MAX_RECORD} bytes, received {size}")
        block = _decompressed(compression, packed, size)
        if len(block) != size:
            raise _Tear(f"a chunk does not unpack to the {size} bytes that it says")
        if wanted and zlib.crc32(block) != wanted:
            raise _Tear("a chunk does not have its checksum")
        self._unpacked += size
        if self._unpacked > MAX_TOTAL:
            raise LogError(f"should unpack to at most {MAX_TOTAL // 2**30} GiB")
        return block, bool(wanted)

    def _in_chunk(self, block: bytes) -> Iterator[tuple[str, bytes]]:
        # One unpacking per record, and local names: reading a log spends its time here.
        channels, topics = self._channels, self._topics
        unpack, head, least = _RECORD_IN_CHUNK.unpack_from, _RECORD.size, _RECORD_IN_CHUNK.size
        place, size = 0, len(block)
        while place < size:
            if size - place < least:
                raise _Tear("a chunk ends within a record")
            opcode, length, channel = unpack(block, place)
            place += head
            end = place + length
            if end > size:
                raise _Tear("a chunk ends within a record")
            if opcode == _MESSAGE:
                if length < _MESSAGE_HEAD or channel not in channels:
                    self._topic(block[place:end])  # raises the error
                topic = channels[channel]
                if topic in topics:
                    yield topic, block[place + _MESSAGE_HEAD : end]
            elif opcode == Opcode.CHANNEL:
                self._add_channel(block[place:end])
            elif opcode == Opcode.SCHEMA:
                _parsed(Schema, block[place:end])
            elif opcode < _PRIVATE:
                raise _Tear(f"a chunk holds a record that no chunk may hold (kind {opcode})")
            place = end

    def _topic(self, body: bytes) -> str:
        """Return the topic of a message."""
        if len(body) < _MESSAGE_HEAD:
            raise _Tear("a message is cut short")
        (channel,) = _CHANNEL.unpack_from(body)
        topic = self._channels.get(channel)
        if topic is None:
            raise _Tear(f"a message is of channel {channel}, which the file does not describe")
        return topic

    def _add_channel(self, body: bytes) -> None:
        channel = _parsed(Channel, body)
        if self._channels.setdefault(channel.id, channel.topic) != channel.topic:
            raise _Tear(f"channel {channel.id} is described twice, as two topics")


def _require_index(body: bytes) -> None:
    """Raise unless a record is a message index: damage may have turned a chunk into one."""
    if len(body) < 6 or len(body) != 6 + int.from_bytes(body[2:6], "little"):
        raise _Tear("a message index is damaged")


def _parsed(kind: Any, body: bytes) -> Any:
    """Return a record as MCAP's own class."""
    try:
        return kind.read(ReadDataStream(BytesIO(body)))
    except (McapError, struct.error, ValueError):  # a UnicodeDecodeError is one
        raise _Tear(f"a record ({kind.__name__}) is damaged") from None


def _decompressed(compression: str, packed: memoryview, size: int) -> bytes:
    """Return unpacked data, at most one byte more than a chunk should have."""
    try:
        if compression == "":
            return bytes(packed[: size + 1])
        if compression == "lz4":
            unpacked: bytes = lz4.frame.LZ4FrameDecompressor().decompress(packed, size + 1)
            return unpacked
        if compression == "zstd":
            return zstandard.ZstdDecompressor().stream_reader(packed).read(size + 1)
    except (RuntimeError, EOFError, zstandard.ZstdError) as error:
        raise _Tear(f"a chunk cannot be unpacked ({error})") from None
    raise _Tear(f"a chunk's compression should be none, lz4 or zstd, received '{compression}'")
