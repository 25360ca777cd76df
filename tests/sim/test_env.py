"""The Gymnasium face."""

import os
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from holdfast.errors import ConfigError
from holdfast.sim.registry import TASKS


@pytest.fixture(params=sorted(TASKS))
def env(request):
    made = gymnasium.make(f"holdfast.sim.env:{request.param}")
    yield made
    made.close()


def test_gymnasium_s_own_checker_passes(env):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for harmless in ("(?s).*infinity.*", "(?s).*normalized.*", "(?s).*render.*"):
            warnings.filterwarnings("ignore", message=harmless)  # advice, not faults
        check_env(env.unwrapped, skip_render_check=True)  # OpenGL may be absent


def test_costs_by_name_and_whole_episodes(env):
    contract = env.unwrapped.contract
    names = [cost.name for cost in contract.costs]
    _, info = env.reset(seed=0)
    assert info["cost"] == dict.fromkeys(names, 0.0)
    total, steps, over = 0.0, 0, False
    while not over:
        _, reward, terminated, truncated, info = env.step(np.zeros(contract.action_size))
        assert np.isfinite(reward)
        total, steps = total + sum(info["cost"].values()), steps + 1
        over = terminated or truncated
    assert terminated or steps == contract.episode_steps
    assert total == 0.0  # doing nothing is safe in all of these tasks


@pytest.mark.parametrize("name", ["PointCircle-v0", "DriveCircle-v0"])
def test_straight_ahead_leaves_the_corridor(name):
    env = gymnasium.make(f"holdfast.sim.env:holdfast/{name}")
    contract = env.unwrapped.contract
    env.reset(seed=0)
    costs = [
        env.step(contract.action_high * [1.0, 0.0])[4]["cost"]["outside_corridor"]
        for _ in range(contract.episode_steps)
    ]
    assert costs[0] == 0.0
    assert costs[-1] == 1.0
    env.close()


def test_misuse_is_refused(env):
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(env.action_space.sample())
    with pytest.raises(ConfigError, match="call reset first"):
        env.unwrapped.step(env.action_space.sample())
    env.reset(seed=0)
    size = env.action_space.shape[0]
    with pytest.raises(ConfigError, match=f"{size} finite numbers"):
        env.unwrapped.step(np.full(size, np.nan))
    with pytest.raises(ConfigError, match=f"{size} finite numbers"):
        env.unwrapped.step(np.zeros(size + 1))


PICTURE = """
import gymnasium, sys
from holdfast.errors import ConfigError
try:
    env = gymnasium.make("holdfast.sim.env:holdfast/DriveCircle-v0", render_mode=sys.argv[1])
except ConfigError as error:
    sys.exit(f"refused: {error}")
env.reset(seed=0)
first = env.render()
for _ in range(20):
    env.step(env.action_space.high)
second = env.render()
assert first.shape == second.shape == (480, 640, 3) and first.dtype == "uint8"
assert first.std() > 5.0 and (first != second).any()
env.close()
"""


def picture(mode, platform):
    """Run a program that renders, with one of MuJoCo's OpenGL platforms."""
    line = [sys.executable, "-W", "ignore", "-c", PICTURE, mode]
    environment = {**os.environ, "MUJOCO_GL": platform}
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)


def test_a_picture_of_the_robot_where_there_is_opengl():
    ended = picture("rgb_array", "egl")
    if "need OpenGL" in ended.stderr:
        pytest.skip("no EGL here")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("mode", "platform", "sentence"),
    [
        (
            "rgb_array",
            "disabled",
            "pictures need OpenGL, which this process cannot",
        ),
        ("ansi", "egl", "render_mode should be 'rgb_array' or None, received 'ansi'"),
    ],
)
def test_what_cannot_be_rendered_is_refused(mode, platform, sentence):
    ended = picture(mode, platform)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(f"refused: {sentence}")


def test_without_a_render_mode_there_is_no_picture():
    env = gymnasium.make("holdfast.sim.env:holdfast/DriveCircle-v0").unwrapped
    assert env.render() is None
    env.close()
