"""Logs written anew, as other tools do it, or by somebody who changes what they say."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mcap.exceptions import EndOfFile
from mcap.records import Channel, DataEnd, Message, Metadata, Schema
from mcap.stream_reader import StreamReader
from mcap.writer import CompressionType, Writer


def rewritten(
    source: Path,
    target: Path,
    compression: CompressionType = CompressionType.NONE,
    change: Callable[[bytes], bytes] = bytes,
    keep: Callable[[bytes], bool] = lambda _: True,
    times: int = 1,
    **options: Any,
) -> Path:
    """Write a log anew: `mcap recover` and compress, `ros2 bag convert`.

    Args:
        change: of each message's content. keep: whether it is written.
        times: how often each message is written, one after another.
        options: of mcap's Writer.
    """
    with source.open("rb") as old, target.open("wb") as new:
        writer = Writer(new, compression=compression, **options)
        writer.start("ros2", "another")
        schemas, channels = {}, {}
        with contextlib.suppress(EndOfFile, struct.error):
            for record in StreamReader(old).records:
                if isinstance(record, DataEnd):
                    break
                if isinstance(record, Schema):
                    schemas[record.id] = writer.register_schema(record.name, "ros2msg", record.data)
                elif isinstance(record, Channel):
                    channels[record.id] = writer.register_channel(
                        record.topic, "cdr", schemas[record.schema_id]
                    )
                elif isinstance(record, Message) and keep(record.data):
                    for _ in range(times):
                        writer.add_message(
                            channels[record.channel_id],
                            record.log_time,
                            change(record.data),
                            record.publish_time,
                        )
                elif isinstance(record, Metadata):
                    writer.add_metadata(record.name, record.metadata)
        writer.finish()
    return target


def forged(log: Any, index: int, target: Path, **values: Any) -> Path:
    """Write a log with fields of one step changed, every checksum right."""
    old = log.steps[index : index + 1].tobytes()
    # Not a copy of the array: that leaves out what lies between fields, lengths and texts.
    new = bytearray(old)
    other = np.frombuffer(new, log.steps.dtype)
    for name, value in values.items():
        other[name] = value
    changes = []

    def change(data: bytes) -> bytes:
        if data.startswith(old):
            changes.append(data)
            return bytes(new) + data[len(old) :]
        return data

    rewritten(log.path, target, change=change)
    assert len(changes) == 1
    return target
