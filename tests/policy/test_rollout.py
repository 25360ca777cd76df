"""What a rollout sums, and what advantages are estimated from it."""

import dataclasses

import numpy as np
import pytest
import torch

from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import TrainSettings
from holdfast.policy.sampling.rollout import Collector, Rollout, estimate
from holdfast.sim.registry import resolve


def rollout(ended):
    steps, copies = ended.shape
    blank = np.zeros((steps, copies, 1), np.float32)
    none = np.zeros((steps, copies))
    return Rollout(blank, blank, none, none, blank, ended, ended, blank[0], blank[0], blank, none)


def test_episode_sums_by_hand():
    values = np.arange(1.0, 7.0).reshape(3, 2, 1)  # copy 0: 1, 3, 5; copy 1: 2, 4, 6
    ended = np.array([[False, False], [True, False], [False, True]])
    np.testing.assert_array_equal(rollout(ended).episode_sums(values, 1), [[4.0], [12.0]])


def test_episodes_that_began_late_do_not_count():
    """Copy 0 falls after one step and again at once; copy 1 stands. Each counts once."""
    values = np.ones((3, 2, 1))
    ended = np.array([[True, False], [True, False], [True, True]])
    np.testing.assert_array_equal(rollout(ended).episode_sums(values, 1), [[1.0], [3.0]])
    np.testing.assert_array_equal(rollout(ended).episode_sums(values, 2), [[1.0], [1.0], [3.0]])


@pytest.fixture
def learner():
    settings = TrainSettings(task=resolve("PointCircle-v0"), seed=3, batch=1040, critic_steps=5)
    learner = Learner(settings)
    yield learner
    learner.close()


def collect(learner, steps=65):
    collector = Collector(learner.batch, learner.generator)
    return collector.collect(learner.policy, learner.normaliser, steps)


def advantage(learner, made, contract, gamma, shaped=None):
    shaped = made.costs if shaped is None else shaped
    networks = learner.networks
    e = estimate(made, shaped, networks.critic, networks.normaliser, contract, gamma, 0.9)
    return e.advantage


def test_advantages_use_each_cost_s_own_discount(learner):
    """Swapping in the reward's discount for the cost's must change the cost's advantage alone."""
    made, contract = collect(learner), learner.contract
    cost = dataclasses.replace(contract.costs[0], gamma=0.5)
    other = dataclasses.replace(contract, costs=(cost,))
    base = advantage(learner, made, contract, 0.9)
    changed = advantage(learner, made, other, 0.9)
    np.testing.assert_array_equal(changed[..., 0], base[..., 0])
    assert not np.allclose(changed[..., 1], base[..., 1])
    np.testing.assert_array_equal(changed[..., 2], base[..., 2])
    np.testing.assert_array_equal(advantage(learner, made, contract, 0.5)[..., 1], base[..., 1])


def test_shaping_changes_the_discounted_cost_alone(learner):
    made = collect(learner)
    base = advantage(learner, made, learner.contract, 0.9)
    shaped = advantage(learner, made, learner.contract, 0.9, made.costs + 1.0)
    np.testing.assert_array_equal(shaped[..., [0, 2]], base[..., [0, 2]])
    assert (shaped[..., 1] > base[..., 1]).all()


def test_a_rollout_that_is_cut_is_bootstrapped_and_one_that_is_over_is_not(learner):
    """After 64 of 65 steps V(s') follows, after 65 nothing does: δ by hand for the last step."""
    networks, contract = learner.networks, learner.contract
    for steps in (64, 65):
        made = collect(learner, steps)
        x = networks.normaliser(torch.from_numpy(made.observation[-1]))
        value = networks.critic.values(x).double().numpy()
        following = networks.critic.values(
            networks.normaliser(torch.from_numpy(made.last_observation))
        )
        goes_on = 0.0 if steps == 65 else following.double().numpy()[:, 0]
        expected = made.reward[-1] + 0.9 * goes_on - value[:, 0]
        found = advantage(learner, made, contract, 0.9)[-1, :, 0]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_without_the_time_in_sight_an_episode_s_end_is_bootstrapped(learner):
    """The same contract without `episode_left`: what was seen last has a value."""
    made, contract = collect(learner, 70), learner.contract
    assert made.ended[64].all()
    blind = dataclasses.replace(
        contract,
        observation=tuple(c for c in contract.observation if c.name != "episode_left"),
    )
    seen = advantage(learner, made, contract, 0.9)[64, :, 0]
    unseen = advantage(learner, made, blind, 0.9)[64, :, 0]
    networks = learner.networks
    last = networks.critic.values(networks.normaliser(torch.from_numpy(made.final_observation)))
    np.testing.assert_allclose(unseen - seen, 0.9 * last[:, 0].double().numpy(), rtol=1e-5)
