"""FOCOPS: its gradient against automatic differentiation, its multipliers, that it learns."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector

from holdfast.policy.algorithms.algorithm import BatchEstimate
from holdfast.policy.algorithms.focops import FOCOPS, FOCOPSSettings
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import TrainSettings
from holdfast.policy.sampling.samples import Samples, surrogates
from holdfast.sim.registry import resolve
from tests.helpers.data.behaviour import behave, setup_of


@pytest.fixture
def samples(policy):
    """Reward for a large first action; cost for a large second one and some of the first."""
    x, u, deviation, log_prob = behave(policy, 4000, torch.Generator().manual_seed(1))
    advantages = deviation @ torch.tensor([[2.0, 0.5], [0.0, 1.0]], dtype=torch.float64)
    return Samples(x, u, log_prob, advantages, torch.ones(4000, dtype=torch.float64))


def estimate_of(cost, limit=10.0):
    return BatchEstimate(np.array([cost]), np.array([limit]), 100.0, reward_scale=2.0)


def made(policy, **own):
    return FOCOPS(setup_of(policy, seed=2), FOCOPSSettings(**own))


def test_its_gradient_is_that_of_the_distance_to_the_best_policy(policy, samples):
    """Away from the old policy, so that some states are too far for the indicator."""
    old_mean, old_log_std = policy(samples.x).detach(), policy.log_std.detach().clone()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in policy.parameters():
            noise = torch.randn(parameter.shape, generator=generator).double()
            parameter.add_(0.05 * noise)
    weight = torch.rand(4000, generator=generator).double()
    samples = dataclasses.replace(samples, weight=weight)
    mean = policy(samples.x)
    now = torch.distributions.Normal(mean, policy.log_std.exp())
    before = torch.distributions.Normal(old_mean, old_log_std.exp())
    distance = torch.distributions.kl_divergence(now, before).sum(1)
    limit = float(distance.detach().sort().values[1999:2001].mean())  # of half of the states
    near = (distance.detach() <= limit).double()
    own = {"temperature": 1.7, "kl_limit": limit}
    found = made(policy, **own).ascent(samples, old_mean, old_log_std)
    ratio = torch.exp(now.log_prob(samples.u).sum(1) - samples.log_prob)
    loss = near * (distance - ratio * samples.advantages[:, 0] / 1.7)
    loss = (loss * weight).sum() / weight.sum()
    parts = torch.autograd.grad(-loss, list(policy.parameters()))
    order = [name for name, _ in policy.named_parameters()]
    assert order[0] == "log_std"
    torch.testing.assert_close(found, parameters_to_vector(parts))


def test_multipliers_follow_the_relative_excess_between_their_bounds(policy, samples):
    algorithm = made(policy, nu_rate=0.5, nu_max=2.0)
    for cost, nu in ((20.0, 0.5), (15.0, 0.75), (60.0, 2.0), (0.0, 1.5), (-90.0, 0.0)):
        result = algorithm.update(samples, estimate_of(cost))
        np.testing.assert_allclose(algorithm.nu, [nu])
        unit = float(samples.advantages[:, 1].std())
        assert result.nu == pytest.approx((2.0 * nu / unit,))
    free = made(policy, nu_rate=0.5)
    free.update(samples, estimate_of(3.0, limit=0.0))
    np.testing.assert_allclose(free.nu, [1.5])


@pytest.mark.parametrize("cost", [np.nan, np.inf])
def test_no_known_cost_changes_nothing(policy, samples, cost):
    before = parameters_to_vector(policy.parameters()).detach().clone()
    algorithm = made(policy)
    result = algorithm.update(samples, estimate_of(cost))
    assert result.accepted is None
    assert "finite" in result.reason
    assert torch.equal(parameters_to_vector(policy.parameters()), before)
    np.testing.assert_array_equal(algorithm.nu, [0.0])


def test_what_is_pursued_is_the_reward_less_the_priced_cost(policy, samples):
    before, _ = surrogates(policy, samples)
    result = made(policy, nu_rate=1.0, nu_max=50.0).update(samples, estimate_of(20.0))
    after, _ = surrogates(policy, samples)
    gain, rise = (after - before).tolist()
    price = 1.0 / float(samples.advantages[:, 1].std())
    assert result.reward_change == pytest.approx(gain - price * rise)
    assert result.reward_change > 0.0
    assert result.cost_change == pytest.approx((rise,))


def test_a_high_multiplier_lowers_the_cost(policy, samples):
    before, _ = surrogates(policy, samples)
    made(policy, nu_rate=1.0, nu_max=20.0).update(samples, estimate_of(1000.0))
    after, _ = surrogates(policy, samples)
    assert float((after - before)[1]) < -0.05


def test_it_stops_when_it_has_gone_far_enough(policy, samples):
    result = made(policy, kl_limit=1e-9).update(samples, estimate_of(5.0))
    assert result.more["epochs"] == 1


@pytest.mark.slow
def test_it_learns_and_its_multiplier_holds_the_cost_down():
    """A strong rate, so that a few batches show it; without a limit the cost passes 30."""
    settings = TrainSettings(
        task=resolve("PointCircle-v0"), algorithm="focops", seed=3, batch=6500, critic_steps=40,
        own=FOCOPSSettings(nu_rate=0.3),
    )  # fmt: skip
    learner = Learner(settings)
    records = [learner.iterate() for _ in range(20)]
    learner.close()
    costs = [record["costs"]["outside_corridor"] for record in records]
    returns = [record["return"] for record in records]
    assert np.mean(costs[-6:]) < 15.0
    assert np.mean(returns[-3:]) > returns[0] + 10.0
