"""The viewer of a simulated robot: a process of its own, which serves the page.

It gets the model once, and then reads poses from memory that it shares with the simulation.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping

import mujoco
import numpy as np

from holdfast import child
from holdfast.errors import ConfigError, HoldfastError
from holdfast.robot.view.server import Server
from holdfast.sim.view.poses import Poses
from holdfast.sim.view.watched_twin import WatchedTwin

HOST, PORT = "127.0.0.1", 8766
FILE = "model.mjb"
FRAME_S = 0.04
"""Least time between two poses that are shown."""

NICE = 10
"""By how much the viewer yields the processor to the simulation."""


class Viewer:
    """The simulation's side: writes poses, and starts and ends the process.

    Args:
        model: the robot's model.
        base: the body that the picture follows.
        about: texts for the page's head.
        host, port: where the page is served.

    Attributes:
        url: the page's address.

    Raises:
        ConfigError: nothing can listen there.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        base: int,
        about: Mapping[str, object],
        host: str = HOST,
        port: int = PORT,
    ) -> None:
        with tempfile.TemporaryFile() as file:
            self._poses = Poses(file.fileno(), model)
            self._process = child.start(
                "holdfast.sim.view.viewer",
                *(str(file.fileno()), host, str(port)),
                at_end=signal.SIGKILL,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(file.fileno(),),
                start_new_session=True,  # Ctrl-C is the simulation's
            )
            self._process.stdin.write(json.dumps([base, dict(about)]).encode() + b"\n")
            self._process.stdin.write(_binary(model))
            self._process.stdin.close()
            self.url = self._process.stdout.readline().decode().strip()
        if not self.url.startswith("http"):
            self.close()
            raise ConfigError(self.url or "the viewer's process ended as it started")
        self._next_s = 0.0

    def show(
        self,
        time_s: float,
        starts: int,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        at_once: bool = False,
    ) -> None:
        """Show where the robot is, unless another pose was shown a moment ago.

        Args:
            time_s: simulated time.
            starts: how often the robot has been put at a start pose.
            at_once: show it in any case.
        """
        now_s = time.monotonic()
        if at_once or now_s >= self._next_s:
            self._next_s = now_s + FRAME_S
            self._poses.write(time_s, starts, model, data)

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


def _binary(model: mujoco.MjModel) -> bytes:
    """Return a model as MuJoCo writes it to a file."""
    content = np.zeros(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, content)
    return content.tobytes()


def main() -> None:
    """Serve the page; print its address, or why it cannot be served."""
    os.nice(NICE)
    _, fd, host, port = sys.argv
    base, about = json.loads(sys.stdin.buffer.readline())
    model = mujoco.MjModel.from_binary_path(FILE, {FILE: sys.stdin.buffer.read()})
    watched = WatchedTwin(Poses(int(fd), model), model, about, base)
    try:
        server = Server(watched, host, int(port))
    except HoldfastError as error:
        print(error)
        return
    print(server.url, flush=True)
    server.run()


if __name__ == "__main__":
    main()
