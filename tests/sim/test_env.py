"""The Gymnasium face."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from holdfast.errors import ConfigError
from holdfast.sim.tasks import TASKS


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
        check_env(env.unwrapped)


def test_costs_by_name_and_whole_episodes(env):
    contract = env.unwrapped.contract
    _, info = env.reset(seed=0)
    assert info["cost"] == {"outside_corridor": 0.0}
    ahead = contract.action_high * [1.0, 0.0]
    total, steps, over = 0.0, 0, False
    while not over:
        _, _, terminated, truncated, info = env.step(ahead)
        total, steps = total + info["cost"]["outside_corridor"], steps + 1
        over = terminated or truncated
    assert truncated
    assert steps == contract.episode_steps
    assert total > 0.0  # straight ahead leaves the corridor of either task


def test_misuse_is_refused(env):
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(env.action_space.sample())
    with pytest.raises(ConfigError, match="call reset first"):
        env.unwrapped.step(env.action_space.sample())
    env.reset(seed=0)
    with pytest.raises(ConfigError, match="2 finite numbers"):
        env.unwrapped.step(np.array([np.nan, 0.0]))
    with pytest.raises(ConfigError, match="2 finite numbers"):
        env.unwrapped.step(np.zeros(3))
