"""`holdfast render`: the robot is shown where the log's signals say, or a sentence says why not."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from holdfast.cli import main
from holdfast.sim.camera import SCREENS
from holdfast.sim.registry import TASKS, registered
from tests.helpers.web import logs

MOVED = ("position", "heading", "height", "joint_position")


@pytest.mark.parametrize("task", TASKS)
def test_a_robot_is_posed_as_its_signals_say(task):
    robot = registered(task).make().robot
    qpos, qvel = robot.start(np.random.default_rng(0), 5, 1.0)
    signals = robot.signals(qpos, qvel)
    known = {name: signals[name] for name in MOVED if name in signals}
    again = robot.signals(robot.posed(known), np.zeros_like(qvel))
    for name, values in known.items():
        np.testing.assert_allclose(again[name], values, atol=1e-9, err_msg=name)


def test_what_no_signal_tells_is_as_at_a_start():
    robot = registered("DriveCircle-v0").make().robot
    (qpos,) = robot.posed({"position": np.array([[2.0, 3.0]])})
    np.testing.assert_array_equal(qpos[:2], (2.0, 3.0))
    np.testing.assert_array_equal(qpos[2:], robot.stance[2:])


@pytest.fixture
def run(tmp_path):
    logs.record(tmp_path / "run", steps=20).close()
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--episode", "2"], "episode should be one of 0 to 1, received 2"),
        (["--task", "PointCircle-v0"], "the robot 'drive' of the log, received 'point'"),
        (["--task", "NoSuch-v0"], "NoSuch-v0"),
        (["--out", "a.png"], "out should end in .gif, as the picture is a GIF; received a.png"),
    ],
)
def test_what_cannot_be_shown_is_refused(run, capsys, options, sentence):
    assert main(["render", str(run), *options]) == 1
    assert sentence in capsys.readouterr().err


def rendered(run, platform, *options):
    """Render in a process of its own: MuJoCo chooses its renderer when it is imported."""
    return subprocess.run(
        [sys.executable, "-m", "holdfast", "render", str(run), *options],
        env={**os.environ, "MUJOCO_GL": platform},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("platform", ["disabled", "glfw", "", "no such"])
def test_without_opengl_there_is_a_sentence(run, monkeypatch, platform):
    for screen in SCREENS:
        monkeypatch.delenv(screen, raising=False)
    done = rendered(run, platform)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("holdfast: pictures need OpenGL, which this process cannot use")
    assert done.stderr.count("\n") == 1
    assert not list(run.glob("*.gif"))


def drawn(run, *options):
    """Render with whatever renderer there is."""
    for platform in ("osmesa", "egl"):
        done = rendered(run, platform, *options)
        if done.returncode == 0:
            return done
        assert "pictures need OpenGL" in done.stderr
    return pytest.skip("needs a renderer: apt-get install libosmesa6")


def test_an_episode_is_a_moving_picture_where_there_is_a_renderer(run):
    done = drawn(run, "--episode", "0")
    assert done.stdout == f"{run}/episode_0.gif: 21 periods in 11 pictures, one in 100 ms\n"
    with Image.open(run / "episode_0.gif") as picture:
        assert (picture.n_frames, picture.size) == (11, (480, 360))
        assert picture.info["duration"] == 100
        frames = []
        for frame in (0, 10):
            picture.seek(frame)
            frames.append(np.asarray(picture.convert("RGB"), dtype=float))
    assert frames[0].std() > 5.0
    assert np.abs(frames[1] - frames[0]).max() > 50.0
    blue = frames[1][:340, :, 2] - frames[1][:340, :, 0]
    assert (blue > 80.0).sum() > 200  # robot and path


@pytest.mark.parametrize(("share", "said"), [(0.5, "received none (torn: "), (0.95, "ms (torn: ")])
def test_a_torn_log_is_said_to_be_torn(run, share, said):
    (path,) = run.glob("*.mcap")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    done = rendered(run, "osmesa") if share < 0.9 else drawn(run)
    assert said in done.stdout + done.stderr
