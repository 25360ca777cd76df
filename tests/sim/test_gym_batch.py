"""Other people's environments: what they make a contract of, how they run, what they do wrong."""

import dataclasses
import re
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from holdfast.errors import ConfigError, TrainingError
from holdfast.sim.registry import resolve
from tests.helpers.robots.parameters import parameters

ENVS = "gym:tests.helpers.gym.gym_envs"
WALK, NAMED = f"{ENVS}:Walk-v0", f"{ENVS}:WalkNamed-v0"
SIX = "gym:tests.helpers.gym.gym_six:SixTuple-v0"
EXAMPLE = Path(__file__).parents[2] / "examples" / "pendulum.py"
PENDULUM = f"gym:{EXAMPLE}:PendulumTooFast-v0"


def actions(contract, steps, copies, seed=0):
    shape = (steps, copies, contract.action_size)
    return np.random.default_rng(seed).uniform(contract.action_low, contract.action_high, shape)


# The contract.


def test_a_contract_is_made_of_the_spaces_the_time_limit_and_the_costs():
    contract = resolve(NAMED).contract
    assert (contract.robot, contract.task) == ("simulation", "gym:WalkNamed-v0")
    assert [(c.signal, c.size) for c in contract.observation] == [
        ("observation", 2),
        ("episode_left", 1),
    ]
    (action,) = contract.action
    assert (action.low, action.high, contract.action_max_step[0]) == (-1.0, 1.0, 2.0)
    assert contract.episode_steps == 30
    assert [(c.name, c.expression, c.at_most) for c in contract.costs] == [
        ("beyond", "reported_cost[0]", None),
        ("far", "reported_cost[1]", None),
    ]


def test_a_file_may_register_it_and_where_that_lay_is_not_in_the_contract(tmp_path):
    (tmp_path / "own.py").write_text(
        "import gymnasium\nfrom tests.helpers.gym import gym_envs\n"
        "gymnasium.register('WalkOwn-v0', entry_point=gym_envs.Walk, max_episode_steps=30)\n"
    )
    where = f"gym:{tmp_path / 'own.py'}:WalkOwn-v0"
    resolve(where).check()
    contract = resolve(where).contract
    assert contract == dataclasses.replace(resolve(WALK).contract, task="gym:WalkOwn-v0")


@pytest.mark.parametrize("where", [WALK, NAMED, SIX, PENDULUM])
def test_what_is_sound_passes_the_checker(where):
    resolve(where).check()


# The batch.


@pytest.mark.parametrize(
    ("where", "names"),
    [
        (WALK, ["cost"]),
        (NAMED, ["beyond", "far"]),
        (SIX, ["beyond", "far"]),
        (PENDULUM, ["cost"]),
    ],
)
def test_a_copy_is_what_the_environment_does_by_itself(where, names):
    """The third copy, step by step beside one that Gymnasium makes, over more than an episode."""
    contract = resolve(where).contract
    assert [cost.name for cost in contract.costs] == names
    batch = resolve(where).batch(4, seed=5)
    seeds = np.random.default_rng(5)
    if "six" in where:
        from tests.helpers.gym import gym_six

        alone = gym_six.make("SixTuple-v0")
    else:
        alone = gymnasium.make(where.rpartition(":")[2])
    expected, _ = alone.reset(seed=seeds.integers(2**31, size=4).tolist()[2])
    observation = batch.reset()
    for k, action in enumerate(actions(contract, contract.episode_steps, 4)):
        np.testing.assert_array_equal(observation[2, :-1], expected)
        left = 1.0 - k / contract.episode_steps
        np.testing.assert_allclose(observation[:, -1], left)
        step = batch.step(action)
        result = alone.step(action[2].astype(np.float32))
        expected, reward = result[:2]
        cost = result[2] if len(result) == 6 else result[-1]["cost"]
        assert step.reward[2] == reward
        assert step.costs[2].tolist() == (list(cost.values()) if len(names) > 1 else [cost])
        np.testing.assert_array_equal(step.final_observation[2, :-1], expected)
        observation = step.observation
    assert step.truncated.all()
    assert not step.terminated.any()
    expected, _ = alone.reset(seed=seeds.integers(2**31, size=4).tolist()[2])
    np.testing.assert_array_equal(observation[2, :-1], expected)
    batch.close()


def test_a_copy_that_fell_starts_over_by_itself():
    batch = resolve(WALK).batch(3, seed=0)
    batch.reset()
    push = np.array([[1.0], [0.0], [-1.0]])
    ended = []
    for _ in range(30):
        step = batch.step(push)
        ended.append(step.terminated)
    assert np.argmax(np.array(ended)[:, 0]) in (24, 25, 26)  # 2.5 m at 0.1 a step
    assert not np.array(ended)[:, 1].any()
    assert (np.array(ended).sum(axis=0) == [1, 0, 1]).all()


def test_a_batch_bills_under_the_limits_that_it_is_given():
    contract = resolve(WALK).contract
    tighter = dataclasses.replace(contract, episode_steps=7)
    batch = resolve(WALK).batch(2, seed=0, contract=tighter)
    batch.reset()
    for _ in range(7):
        step = batch.step(np.zeros((2, 1)))
    assert step.truncated.all()


def test_actions_are_limited_by_the_space():
    batch = resolve(WALK).batch(1, seed=0)
    batch.reset()
    assert batch.step(np.array([[50.0]])).reward[0] == pytest.approx(0.1)


def test_it_cannot_be_put_back_in_time_and_says_so():
    batch = resolve(WALK).batch(1, seed=0)
    batch.reset()
    for ask in (batch.snapshot, batch.state):
        with pytest.raises(TrainingError, match="Walk-v0: such an environment cannot be put back"):
            ask()


# What is wrong with them.


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ("WalkDiscrete", "action_space should be a Box, it is Discrete(3)"),
        ("WalkUnbounded", "action_space should be bounded, it is Box(-inf, inf"),
        ("WalkNeverStill", "action channel 'action_0': limits [0.5, 1.0] should include 0"),
        ("WalkForever", "should be registered with max_episode_steps; a limit is of a whole"),
        ("WalkUnseeded", "reset(seed=0) should give the same start each time"),
        ("WalkResetNan", "reset(seed=0) should return a finite observation, received nan at"),
        ("WalkResetInf", "reset(seed=0) should return a finite observation, received inf at"),
        ("WalkResetFails", "reset(seed=0) failed (ValueError: out of luck)"),
        ("WalkResetBare", "reset should return an observation and an info, received "),
        ("WalkStepFails", "step failed (ZeroDivisionError: too far)"),
        ("Nothing", "cannot be made (NameNotFound: Environment `Nothing` doesn't exist"),
    ],
)
def test_what_can_be_seen_before_training_is_told_then(env, sentence):
    with pytest.raises((ConfigError, TrainingError), match=re.escape(sentence)) as caught:
        assert resolve(f"{ENVS}:{env}-v0").contract
    assert str(caught.value).startswith(f"{ENVS}:{env}-v0: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ("WalkShape", "an observation should have the shape (2,) of its space, received (3,)"),
        ("WalkNan", "step returned a non-finite observation"),
        ("WalkRewardInf", "step returned a non-finite reward"),
        ("WalkCostNan", "step returned a non-finite cost"),
        ("WalkCostNegative", "a cost should be at least 0, received -1.0"),
        ("WalkCostText", "cost 'cost' should be a number, received 'much'"),
        ("WalkCostList", "cost 'cost' should be a number, received [1.0, 2.0]"),
        ("WalkForgets", "step's info should have 'cost', a number or numbers by name; it has noth"),
        ("WalkRenamed", "costs should be cost at each step as at the first, received other"),
    ],
)
def test_what_goes_wrong_on_the_way_is_told_in_a_sentence(env, sentence):
    batch = resolve(f"{ENVS}:{env}-v0").batch(2, seed=0)
    batch.reset()
    for _ in range(3):
        batch.step(np.zeros((2, 1)))
    with pytest.raises(TrainingError, match=re.escape(sentence)) as caught:
        batch.step(np.zeros((2, 1)))
    assert str(caught.value).startswith(f"{ENVS}:{env}-v0: ")
    assert "\n" not in str(caught.value)
    with pytest.raises(TrainingError):
        resolve(f"{ENVS}:{env}-v0").check()


def test_an_episode_that_is_truncated_before_its_time_is_refused():
    with pytest.raises(TrainingError, match="an episode was truncated after 7 of 30 steps"):
        resolve(f"{ENVS}:WalkEarly-v0").check()


def test_four_values_are_not_enough():
    with pytest.raises(TrainingError, match=r"step should return 5 values, or 6 with a cost, rec"):
        assert resolve("gym:tests.helpers.gym.gym_six:FourTuple-v0").contract


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ("gym:Walk-v0", "an environment should be given as gym:MODULE:ID, received 'gym:Walk-v0'"),
        (f"{ENVS}:", "an environment should be given as gym:MODULE:ID"),
        (
            "gym:not_there:X-v0",
            r"module not_there cannot be imported \(ModuleNotFoundError: No mod",
        ),
        ("gym:not_there.py:X-v0", r"there is no file not_there\.py"),
        (
            "gym:tests.helpers.gym.gym_six:Other-v0",
            r"gym:tests.helpers.gym.gym_six:Other-v0: cannot be made \(KeyError: 'no Other-v0",
        ),
    ],
)
def test_what_cannot_be_found_is_told_in_a_sentence(where, sentence):
    with pytest.raises(ConfigError, match=sentence):
        assert resolve(where).contract


def test_what_it_has_not_is_refused():
    with pytest.raises(ConfigError, match="Walk-v0: has no model that could be randomised"):
        resolve(WALK).batch(1, seed=0, randomise=parameters(mass=[0.5, 1.0]))
    with pytest.raises(ConfigError, match="Walk-v0: is an environment without a robot"):
        resolve(WALK).make()


def test_actions_that_are_not_finite_are_refused():
    batch = resolve(WALK).batch(1, seed=0)
    batch.reset()
    with pytest.raises(TrainingError, match="actions should be finite"):
        batch.step(np.array([[np.nan]]))
