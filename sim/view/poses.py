"""The newest pose of a simulated robot, in memory that two processes share.

The writer neither waits nor learns whether anybody reads. A new pose replaces the one before, so a
reader that is slow, hangs or is gone costs the writer nothing.
"""

from __future__ import annotations

import mmap
import os
import zlib
from dataclasses import dataclass

import mujoco
import numpy as np

from holdfast.signals import Array

CHECKSUM = 4  # bytes


@dataclass(frozen=True)
class Pose:
    """Where a robot is.

    Attributes:
        time_s: simulated time.
        starts: how often it has been put at a start pose.
        position, orientation: of each body (bodies, 3), m, and (bodies, 4), quaternions w, x, y, z.
        size: of each geom (geoms, 3), m, as MuJoCo has sizes; a gap may draw them at each start.
    """

    time_s: float
    starts: int
    position: Array
    orientation: Array
    size: Array


class Poses:
    """One pose in a file in memory.

    Args:
        fd: descriptor of the file, which both processes have.
        model: the robot's model, by which a pose has its length.
    """

    def __init__(self, fd: int, model: mujoco.MjModel) -> None:
        self._bodies, self._geoms = model.nbody, model.ngeom
        length = 8 * (2 + 7 * self._bodies + 3 * self._geoms) + CHECKSUM
        os.ftruncate(fd, length)
        self._memory = mmap.mmap(fd, length)

    def write(self, time_s: float, starts: int, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """Replace the pose."""
        parts = ([time_s, starts], data.xpos.flat, data.xquat.flat, model.geom_size.flat)
        record = np.concatenate(parts).tobytes()
        self._memory[:] = record + _checksum(record)

    def read(self) -> Pose | None:
        """Return the newest pose; None: there is none yet, or it is being written."""
        whole = self._memory[:]
        record = whole[:-CHECKSUM]
        if _checksum(record) != whole[-CHECKSUM:]:
            return None
        numbers = np.frombuffer(record)
        ends = np.cumsum([2, 3 * self._bodies, 4 * self._bodies])
        (time_s, starts), position, orientation, size = np.split(numbers, ends)
        return Pose(
            float(time_s),
            int(starts),
            position.reshape(-1, 3),
            orientation.reshape(-1, 4),
            size.reshape(-1, 3),
        )


def _checksum(record: bytes) -> bytes:
    return zlib.crc32(record).to_bytes(CHECKSUM, "little")
