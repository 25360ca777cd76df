"""The constrained step on real networks, and what must never happen."""

import dataclasses
import math

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from holdfast.policy.cpo import Samples, StepSettings, cpo_step, surrogates
from holdfast.policy.networks import GaussianPolicy, kl

SETTINGS = StepSettings(fisher_share=1.0, damping=1e-3, cg_iterations=50)


@pytest.fixture
def policy():
    return GaussianPolicy(3, 2, (8,), 0.5, torch.Generator().manual_seed(0)).double()


@pytest.fixture
def samples(policy):
    """Reward for a large first action; cost for a large second one and some of the first."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4000, 3, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        mean = policy(x)
        u = mean + 0.5 * torch.randn(4000, 2, generator=generator, dtype=torch.float64)
        log_prob = policy.log_prob(mean, u)
    advantage, cost = u[:, 0] - mean[:, 0], (u - mean) @ torch.tensor([0.5, 1.0]).double()
    weight = torch.ones(4000, dtype=torch.float64)
    return Samples(x, u, log_prob, advantage, cost, weight)


def vector(policy):
    return parameters_to_vector(policy.parameters()).detach().clone()


def change(policy, samples, **arguments):
    """Take a step; return its report and how much the surrogates and the KL really changed."""
    with torch.no_grad():
        reward_0, cost_0, mean_0 = surrogates(policy, samples)
        log_std_0 = policy.log_std.clone()
    arguments = {"excess": 0.0, "limit": 10.0, "episode_steps": 100.0, **arguments}
    report = cpo_step(policy, samples, **{"settings": SETTINGS, **arguments})
    with torch.no_grad():
        reward, cost, mean = surrogates(policy, samples)
        divergence = kl(mean_0, log_std_0, mean, policy.log_std)
    return report, float(reward - reward_0), float(cost - cost_0), float(divergence)


def test_step_on_the_boundary(policy, samples):
    settings = dataclasses.replace(SETTINGS, slack=0.02)
    report, gain, rise, divergence = change(policy, samples, settings=settings)
    assert report.case == "boundary"
    assert gain > 0.0
    assert rise <= 0.02 * 10.0 / 100.0
    assert 0.0 < divergence <= SETTINGS.delta
    assert (gain, rise, divergence) == pytest.approx(
        (report.reward_change, report.cost_change, report.kl)
    )


def test_excess_is_scaled_to_the_gradient(policy, samples):
    """An excess of 2 per episode of 100 steps asks for a fall of 0.02 in the mean per step.

    Unscaled, c = 2 could not be met inside the region, and the step would be a recovery.
    """
    report, _, rise, _ = change(policy, samples, excess=2.0)
    assert report.case == "boundary"
    assert rise == pytest.approx(-0.02, rel=0.2)


def test_recovery_lowers_the_cost_whatever_the_reward(policy, samples):
    report, gain, rise, divergence = change(policy, samples, excess=1e4)
    assert report.case == "recovery"
    assert rise < -0.03
    assert gain < 0.0  # cost and reward share the first action
    assert divergence <= SETTINGS.delta


def test_far_below_the_limit_it_is_trpo(policy, samples):
    before = vector(policy)
    change(policy, samples, excess=-1e4)
    constrained = vector(policy)
    torch.nn.utils.vector_to_parameters(before, policy.parameters())
    change(policy, samples, constrained=False)
    torch.testing.assert_close(vector(policy), constrained)


def test_summed_kl_is_what_is_bounded(policy, samples):
    """With twenty equal dimensions the mean KL would be a twentieth, and the step far too long."""
    wide = GaussianPolicy(3, 20, (8,), 0.5, torch.Generator().manual_seed(0)).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        mean = wide(samples.x)
        u = mean + 0.5 * torch.randn(mean.shape, generator=generator, dtype=torch.float64)
        log_prob = wide.log_prob(mean, u)
    gain = (u - mean).sum(-1)
    batch = Samples(samples.x, u, log_prob, gain, -gain, samples.weight)
    _, _, _, divergence = change(wide, batch, excess=-1e4)
    assert 0.3 * SETTINGS.delta < divergence <= SETTINGS.delta


@pytest.mark.parametrize("field", ["x", "advantage", "cost_advantage", "log_prob"])
def test_nan_in_the_batch_changes_nothing(policy, samples, field):
    before = vector(policy)
    values = getattr(samples, field).clone()
    values[7] = math.nan
    report, *_ = change(policy, dataclasses.replace(samples, **{field: values}))
    assert report.accepted is None
    assert "finite" in report.reason
    assert torch.equal(vector(policy), before)


@pytest.mark.parametrize("excess", [math.nan, math.inf])
def test_no_known_cost_changes_nothing(policy, samples, excess):
    """No finished episode in a batch means a mean of nothing: NaN, not "satisfied"."""
    before = vector(policy)
    report, *_ = change(policy, samples, excess=excess)
    assert report.accepted is None
    assert torch.equal(vector(policy), before)


def test_failed_search_restores_exactly(policy, samples):
    before = vector(policy)
    report, *_ = change(policy, samples, trusted=lambda: False)
    assert report.accepted is None
    assert report.case == "boundary"
    assert torch.equal(vector(policy), before)


def test_masked_steps_do_not_count(policy, samples):
    """Steps that the monitor overrode carry no weight, however wild their numbers are."""
    weight = torch.ones_like(samples.weight)
    weight[::3] = 0.0
    wild = samples.advantage.clone()
    wild[::3] = 1e6
    before = vector(policy)
    change(policy, dataclasses.replace(samples, advantage=wild, weight=weight))
    moved = vector(policy)
    torch.nn.utils.vector_to_parameters(before, policy.parameters())
    kept = weight > 0
    part = Samples(*(getattr(samples, f.name)[kept] for f in dataclasses.fields(samples)))
    change(policy, part)
    torch.testing.assert_close(vector(policy), moved, rtol=1e-6, atol=1e-9)
