"""Launch files as a user runs them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import contextmanager
from functools import partial

from tests.helpers.ros import graphs

until = partial(graphs.until, limit_s=60.0)
"""Each look is a program of ROS's that starts, asks and ends: seconds."""


def launch(workspace, folder, name, **arguments):
    """Run a launch file to its end; return its exit status and what was said."""
    given = [f"{key}:={value}" for key, value in arguments.items()]
    ended = subprocess.run(
        ["ros2", "launch", "holdfast", f"{name}.launch.py", *given],
        env=workspace,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    return ended.returncode, ended.stdout + ended.stderr


@contextmanager
def launched(environment, folder, name, *arguments, ready):
    """Launch something in the background, and wait until it has said that it is ready."""
    log = folder / f"{name}-{time.time_ns()}.txt"
    with log.open("w") as out:
        process = subprocess.Popen(
            ["ros2", "launch", "holdfast", f"{name}.launch.py", *arguments],
            env=environment,
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until(lambda: ready in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield log
    except BaseException:
        print(log.read_text())  # what it had to say to it
        raise
    finally:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal's Ctrl-C does
        try:
            process.wait(20)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    said = log.read_text()
    assert process.returncode == 0, said
    assert "Traceback" not in said, said
