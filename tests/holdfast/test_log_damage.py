"""Damaged and hostile logs: noticed, and refused in a sentence or read up to there."""

from __future__ import annotations

import json
import os
import random
import re
import struct
import time
import zlib

import lz4.frame
import pytest
import zstandard
from mcap.stream_reader import StreamReader
from mcap.writer import CompressionType, Writer

from holdfast.errors import LogError
from holdfast.log import format as log_format
from holdfast.log import mcap_file
from holdfast.log import writer as recorder
from holdfast.log.mcap_file import MAGIC
from holdfast.log.reader import read
from holdfast.log.writer import Recorder
from tests.helpers.data.mended import rewritten
from tests.helpers.data.recordings import info, record_episode

RECORD = struct.Struct("<BQ")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A small log of many chunks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorder, "MAX_CHUNK", 3000)
        log = Recorder(tmp_path_factory.mktemp("log") / "run", info())
        for episode in range(3):
            record_episode(log, episode, 5)
        log.close()
    return log.path.read_bytes()


def outcome(path, data, whole):
    """Return how damage shows; any error but a LogError is a failure."""
    path.write_bytes(data)
    try:
        log = read(path)
    except LogError as error:
        return "a page of text" if "\n" in str(error) else "refused"
    if log.tear:
        assert log.steps.tobytes() == whole.steps[: len(log.steps)].tobytes()
        return "torn"
    return "unnoticed"


def test_a_single_flipped_bit_is_always_noticed(data, tmp_path):
    path = tmp_path / "x_0.mcap"
    path.write_bytes(data)
    whole, rng = read(path), random.Random(1)
    found = {"refused": 0, "torn": 0, "unnoticed": 0}
    for _ in range(2000):
        damaged = bytearray(data)
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        found[outcome(path, damaged, whole)] += 1
    assert found["unnoticed"] == 0
    assert found["torn"] > 100


def test_a_flipped_bit_in_a_torn_log_never_changes_a_step(data, tmp_path):
    """There is no checksum of the whole, but each chunk has its own."""
    path = tmp_path / "x_0.mcap"
    torn = data[: len(data) * 3 // 4]
    path.write_bytes(torn)
    whole, rng = read(path), random.Random(2)
    for _ in range(500):
        damaged = bytearray(torn)
        damaged[rng.randrange(len(torn))] ^= 1 << rng.randrange(8)
        assert outcome(path, damaged, whole) in ("torn", "refused")


@pytest.mark.parametrize("seed", range(3))
def test_pages_that_never_reached_the_disk(data, tmp_path, seed):
    """Zeros, noise, gone bytes: what a loss of power or a bad sector leaves."""
    path = tmp_path / "x_0.mcap"
    path.write_bytes(data)
    whole, rng = read(path), random.Random(seed)
    for _ in range(100):
        at, damaged = rng.randrange(len(data)), bytearray(data)
        size = rng.choice((8, 512, 4096))
        how = rng.choice(("zeros", "noise", "gone", "end"))
        if how == "gone":
            del damaged[at : at + size]
        elif how == "end":
            damaged = damaged[:at] + bytes(size)
        else:
            size = len(damaged[at : at + size])
            damaged[at : at + size] = bytes(size) if how == "zeros" else rng.randbytes(size)
        if damaged != data:
            assert outcome(path, damaged, whole) != "unnoticed"


def test_a_log_of_the_format_before_is_refused(data, tmp_path):
    """The log's contract is of another format, and no message says the log's run."""
    path, old = tmp_path / "x_0.mcap", tmp_path / "old_0.mcap"
    path.write_bytes(data)
    format_4(path, old)
    with pytest.raises(LogError, match="not a log of format 6 of Holdfast's"):
        read(old)


def format_4(source, target):
    """Write a log as Holdfast did: no chunks, no checksums, the run's data as MCAP's metadata."""
    with source.open("rb") as old, target.open("wb") as new:
        writer = Writer(new, use_chunking=False)
        writer.start("ros2", "holdfast")
        entries = {**json.loads(info().to_json()), "format": "4"}
        writer.add_metadata("holdfast", entries)
        schema = writer.register_schema("any", "ros2msg", b"")
        topics = {}
        for record in StreamReader(old).records:
            kind = type(record).__name__
            if kind == "DataEnd":
                break
            if kind == "Channel" and record.topic != log_format.RUN_TOPIC:
                topics[record.id] = writer.register_channel(record.topic, "cdr", schema)
            elif kind == "Message" and record.channel_id in topics:
                writer.add_message(topics[record.channel_id], record.log_time, record.data, 0)
        writer.finish()


def chunk(content, compression="", size=None, packed=None, checksum=None):
    """Return the bytes of a chunk record that says whatever it is told to say."""
    body = struct.pack(
        "<QQQII", 0, 0, len(content) if size is None else size,
        zlib.crc32(content) if checksum is None else checksum, len(compression),
    )  # fmt: skip
    packed = content if packed is None else packed
    body += compression.encode() + struct.pack("<Q", len(packed)) + packed
    return RECORD.pack(6, len(body)) + body


ZEROS = bytes(2**24)


@pytest.mark.parametrize(
    ("tail", "sentence"),
    [
        (chunk(b"", size=2**62), "at most 268435456 bytes"),
        (chunk(b"abc", size=2), "does not unpack to the 2 bytes"),
        (chunk(ZEROS, "zstd", 10, zstandard.compress(ZEROS)), "does not unpack to the 10 bytes"),
        (chunk(ZEROS, "lz4", 10, lz4.frame.compress(ZEROS)), "does not unpack to the 10 bytes"),
        (chunk(b"abc", "zstd"), "cannot be unpacked"),
        (chunk(b"abc", "lz4"), "does not unpack to the 3 bytes"),
        (chunk(b"abc", "bz2"), "compression should be none, lz4 or zstd, received 'bz2'"),
        (chunk(b"abc", checksum=1), "does not have its checksum"),
        (chunk(b"abc"), "ends within a record"),
        (chunk(chunk(chunk(b""))), r"no chunk may hold \(kind 6\)"),
        (chunk(RECORD.pack(5, 2**63)), "ends within a record"),
        (chunk(RECORD.pack(5, 22) + b"\x99\x09" + bytes(20)), "channel 2457, which the file"),
        (chunk(RECORD.pack(5, 4) + bytes(4)), "a message is cut short"),
        (RECORD.pack(5, 4) + bytes(4), "a message is cut short"),
        (RECORD.pack(4, 4) + bytes(4), r"a record \(Channel\) is damaged"),
        (RECORD.pack(7, 6) + b"\xff" * 6, "a message index is damaged"),
        (RECORD.pack(6, 3) + bytes(3), "a chunk's head is damaged"),
        (RECORD.pack(5, 2**63), "its last record is cut short"),
        (RECORD.pack(2, 20) + bytes(20), r"no record of a log's data \(kind 2\)"),
        (RECORD.pack(15, 0), "its end record is damaged"),
        (RECORD.pack(15, 4) + bytes(4), "its summary is cut short or damaged"),
        (RECORD.pack(15, 4) + bytes(4) + b"\x02" + bytes(28) + MAGIC, "its summary is damaged"),
        (b"", "it has no end"),
    ],
)
def test_what_no_writer_writes_ends_the_log_there(data, tmp_path, tail, sentence):
    path = tmp_path / "x_0.mcap"
    path.write_bytes(data[: data.rindex(RECORD.pack(15, 4))])
    steps = len(read(path).steps)
    with path.open("ab") as file:
        file.write(tail)
    log = read(path)
    assert re.search(sentence, log.tear)
    assert len(log.steps) == steps


def test_ten_gigabytes_of_nothing_take_no_time(data, tmp_path):
    path = tmp_path / "x_0.mcap"
    for start in (b"", MAGIC, data[: len(data) // 2], data):
        path.write_bytes(start)
        os.truncate(path, 10 * 2**30)
        began_s = time.monotonic()
        if len(start) < 100:
            with pytest.raises(LogError):
                read(path)
        else:
            assert read(path).torn
        assert time.monotonic() - began_s < 5.0


def test_what_unpacks_without_end_is_refused(data, tmp_path, monkeypatch):
    monkeypatch.setattr(mcap_file, "MAX_TOTAL", 10_000)
    path = tmp_path / "x_0.mcap"
    path.write_bytes(data)
    with pytest.raises(LogError, match="should unpack to at most"):
        read(path)


def test_a_log_compressed_as_a_whole(data, tmp_path):
    path = tmp_path / "x_0.mcap"
    path.write_bytes(zstandard.compress(data))
    with pytest.raises(LogError, match="unpack it first, with `zstd -d`"):
        read(path)


def part(number):
    """Return what keeps eight messages of a bag."""
    seen = iter(range(10**6))
    return lambda _: next(seen) // 8 == number


def test_a_bag_that_is_split(data, tmp_path):
    """As `ros2 bag` does beyond a size: the later parts do not say again whose they are."""
    whole = tmp_path / "whole_0.mcap"
    whole.write_bytes(data)
    bag = tmp_path / "bag"
    bag.mkdir()
    for number in range(12):  # more than nine: parts are in order of their numbers
        rewritten(whole, bag / f"bag_{number}.mcap", keep=part(number))
    log = read(bag)
    assert log.steps.tobytes() == read(whole).steps.tobytes()
    assert [e.result for e in log.episodes] == [e.result for e in read(whole).episodes]
    (bag / "bag_3.mcap").unlink()
    with pytest.raises(LogError, match="should hold the parts 0 to 11"):
        read(bag)


def test_two_runs_merged_into_one_file(data, tmp_path):
    path = tmp_path / "x_0.mcap"
    path.write_bytes(data)
    runs = iter(range(10**6))

    def change(message):
        return message.replace(b'"run": "run"', b'"run": "two"') if next(runs) == 1 else message

    twice = rewritten(path, tmp_path / "twice_0.mcap", change=change, times=2)
    with pytest.raises(LogError, match=r"holds 2 runs \(run, two\) in one"):
        read(twice)


def test_periods_out_of_order(data, tmp_path):
    path = tmp_path / "x_0.mcap"
    path.write_bytes(data)
    twice = rewritten(path, tmp_path / "twice_0.mcap", CompressionType.LZ4, times=2)
    with pytest.raises(LogError, match="not in order: number 0 follows number 0"):
        read(twice)


@pytest.mark.parametrize("cut", [1, 40])
def test_messages_of_another_layout(data, tmp_path, cut):
    path = tmp_path / "x_0.mcap"
    path.write_bytes(data)
    short = rewritten(path, tmp_path / "s_0.mcap", change=lambda m: m if b"{" in m else m[:-cut])
    with pytest.raises(LogError, match="holds what no run of its contract logs"):
        read(short)
