"""`holdfast render`: a logged episode as a moving picture of the robot's model."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from holdfast import files, plain
from holdfast.errors import ConfigError, LogError
from holdfast.log import reader
from holdfast.log.reader import Episode, Log
from holdfast.safety_monitor.messages import State
from holdfast.signals import Array
from holdfast.sim.camera import Camera
from holdfast.sim.registry import registered, resolve
from holdfast.sim.robots.robot import RobotModel

FRAME_S = 0.1
"""Least time between two pictures, s."""

SIZE = (480, 360)
"""Width and height of the pictures, as files of 640 by 480 are large."""

COLOURS = 64
"""Number of colours of each picture; it decides the size of the file."""


def command(
    run: Annotated[Path, tyro.conf.Positional],
    episode: int | None = None,
    out: Path | None = None,
    task: str | None = None,
) -> None:
    """Write a logged episode as a GIF: MuJoCo's picture of the robot's model, in real time.

    The picture shows what the log's signals tell: the base's position and heading, its height,
    its orientation and the joints' angles where they are logged. All else is as at a start. Below
    are the time, the monitor's state and the costs. OpenGL is needed; no screen is: set
    MUJOCO_GL=egl where there is a GPU, or MUJOCO_GL=osmesa after apt-get install libosmesa6.

    Args:
        run: the run's directory or its log file.
        episode: number of the episode. Default: the last one.
        out: file of the GIF, NAME.gif. Default: episode_N.gif in the run's folder.
        task: the task whose robot is shown, as FILE.py:NAME. Logs of a registered task name it
            themselves.
    """
    if out is not None and out.suffix.lower() != ".gif":
        raise ConfigError(f"out should end in .gif, as the picture is a GIF; received {out}")
    log = reader.read(run)
    shown = find(log, episode)
    robot = (registered(log.info.contract.task) if task is None else resolve(task)).make().robot
    if robot.name != log.info.contract.robot:
        raise ConfigError(
            f"task should have the robot '{log.info.contract.robot}' of the log, received "
            f"'{robot.name}'"
        )
    path = out or log.path.parent / f"episode_{shown.result.episode}.gif"
    files.require_output(path, (".gif",), [log.path])
    qpos = posed(robot, shown, str(log.path))
    camera = Camera(robot)
    try:
        period_s = log.info.contract.period_s
        every = math.ceil(FRAME_S / period_s - 1e-9)
        first, *others = pictures(log, shown, qpos, camera, every)
    finally:
        camera.close()
    content = io.BytesIO()
    duration_ms = round(1000.0 * every * period_s)
    first.save(content, "GIF", save_all=True, append_images=others, duration=duration_ms, loop=0)
    files.write(path, content.getvalue())
    print(
        f"{path}: {len(qpos)} periods in {1 + len(others)} pictures, one in {duration_ms} ms"
        f"{log.remarks}"
    )


def find(log: Log, number: int | None) -> Episode:
    """Return an episode by its number, or the last one.

    Raises:
        LogError: the log holds no such episode.
    """
    held = {episode.result.episode: episode for episode in log.episodes}
    if not held:
        raise LogError(f"{log.path}: should hold an episode, received none{log.remarks}")
    number = max(held) if number is None else number
    if number not in held:
        raise LogError(f"{log.path}: episode should be one of {_listed(held)}, received {number}")
    return held[number]


def _listed(numbers: dict[int, Episode]) -> str:
    first, last = min(numbers), max(numbers)
    whole = len(numbers) == last - first + 1
    return f"{first} to {last}" if whole else ", ".join(map(str, sorted(numbers)))


def posed(robot: RobotModel, episode: Episode, where: str) -> Array:
    """Return coordinates (rows, nq) of the robot in each period of an episode.

    Raises:
        LogError: the signals do not tell where the robot is.
    """
    if "position" not in episode.signals:
        raise LogError(f"{where}: should hold the signal position, which tells where the robot is")
    with plain.well_formed(where, LogError):  # signals of a log may have any size
        qpos = robot.posed(episode.signals)
    if not np.isfinite(qpos).all():
        raise LogError(f"{where}: the pose should be finite in every period to be shown")
    return qpos


def pictures(
    log: Log, episode: Episode, qpos: Array, camera: Camera, every: int
) -> Iterator[Image.Image]:
    """Yield each `every`-th period's picture, with a line of what the log says of it."""
    spent = np.cumsum(episode.costs, axis=0)
    paid: NDArray[np.bool_] = np.any(episode.costs > 0.0, axis=1)
    trail = episode.signals["position"]
    for row in range(0, len(qpos), every):
        taken = camera.picture(qpos[row], trail[: row + 1], paid[: row + 1])
        picture = Image.fromarray(taken).resize(SIZE)
        costs = (
            f"{cost.name} {spent[row, k]:g} of {log.info.episode_cap[cost.name]:g}"
            for k, cost in enumerate(log.info.contract.costs)
        )
        state = episode.state[row]
        name = State(state).name if state in list(State) else f"state {state}"
        seconds = f"{episode.now_s[row] - episode.now_s[0]:.2f} s"
        line = "   ".join((f"episode {episode.result.episode}", seconds, name, *costs))
        pen = ImageDraw.Draw(picture)
        pen.rectangle((0, SIZE[1] - 18, *SIZE), fill="black")
        pen.text((6, SIZE[1] - 15), line, fill="white")
        yield picture.quantize(COLOURS, dither=Image.Dither.NONE)
