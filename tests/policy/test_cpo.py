"""The constrained step on real networks, and what must never happen."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector

from holdfast.policy.algorithms.algorithm import BatchEstimate, UpdateResult
from holdfast.policy.algorithms.cpo import CostTracker, CPOSettings, cpo_step
from holdfast.policy.models.gaussian import GaussianPolicy, kl
from holdfast.policy.optimise.trust_region import StepSettings
from holdfast.policy.sampling.samples import Samples, surrogates
from tests.helpers.data.behaviour import behave

SETTINGS = StepSettings(fisher_rows=10_000, damping=1e-3, cg_iterations=50)


@pytest.fixture
def samples(policy):
    """Reward for a large first action; cost for a large second one and some of the first."""
    x, u, deviation, log_prob = behave(policy, 4000, torch.Generator().manual_seed(1))
    advantage, cost = deviation[:, 0], deviation @ torch.tensor([0.5, 1.0]).double()
    weight = torch.ones(4000, dtype=torch.float64)
    return Samples(x, u, log_prob, torch.stack((advantage, cost), dim=1), weight)


def vector(policy):
    return parameters_to_vector(policy.parameters()).detach().clone()


def change(policy, samples, excess=(0.0,), **arguments):
    """Take a step; return its report and how much the surrogates and the KL really changed."""
    values_0, mean_0 = surrogates(policy, samples)
    log_std_0 = policy.log_std.detach().clone()
    usual = {"limit": np.full(len(excess), 10.0), "episode_steps": 100.0, "slack": 0.1}
    usual |= {"settings": SETTINGS, **arguments}
    report = cpo_step(policy, samples, np.array(excess), **usual)
    values, mean = surrogates(policy, samples)
    divergence = kl(mean_0, log_std_0, mean, policy.log_std.detach())
    gain, *rises = (values - values_0).tolist()
    return report, gain, rises[0] if len(rises) == 1 else rises, float(divergence)


def test_step_on_the_boundary(policy, samples):
    report, gain, rise, divergence = change(policy, samples, slack=0.02)
    assert report.case == "boundary"
    assert gain > 0.0
    assert rise <= 0.02 * 10.0 / 100.0
    assert 0.0 < divergence <= SETTINGS.delta
    assert (gain, rise, divergence) == pytest.approx(
        (report.reward_change, *report.cost_change, report.kl)
    )


def test_excess_is_scaled_to_the_gradient(policy, samples):
    """An excess of 2 per episode of 100 steps asks for a fall of 0.02 in the mean per step.

    Unscaled, c = 2 could not be met inside the region, and the step would be a recovery.
    """
    report, _, rise, _ = change(policy, samples, [2.0])
    assert report.case == "boundary"
    assert rise == pytest.approx(-0.02, rel=0.2)


def test_recovery_lowers_the_cost_whatever_the_reward(policy, samples):
    report, gain, rise, divergence = change(policy, samples, [1e4])
    assert report.case == "recovery"
    assert rise < -0.03
    assert gain < 0.0  # cost and reward share the first action
    assert divergence <= SETTINGS.delta


def test_without_limits_it_is_as_far_below_them(policy, samples):
    before = vector(policy)
    change(policy, samples, [-1e4])
    constrained = vector(policy)
    torch.nn.utils.vector_to_parameters(before, policy.parameters())
    alone = dataclasses.replace(samples, advantages=samples.advantages[:, :1])
    report = cpo_step(policy, alone, np.zeros(0), np.zeros(0), 100.0, SETTINGS, slack=0.1)
    assert report.case == "reward"
    # Conjugate gradients stop after a few steps, and round otherwise for one column than for two.
    difference = torch.linalg.vector_norm(vector(policy) - constrained)
    assert difference <= 0.05 * torch.linalg.vector_norm(constrained - before)


def test_a_broken_limit_in_reach_may_cost_reward(policy, samples):
    """What lowers the cost enough lowers the reward too: the step is taken all the same."""
    advantages = torch.stack((samples.advantages[:, 1], samples.advantages[:, 1]), dim=1)
    both = dataclasses.replace(samples, advantages=advantages)
    report, gain, rise, _ = change(policy, both, [2.0])
    assert report.case == "boundary"
    assert report.accepted is not None
    assert rise == pytest.approx(-0.02, rel=0.2)
    assert gain == pytest.approx(rise)


@pytest.fixture
def two_costs(samples):
    """The first action pays; the first cost is of it, the second of the other action."""
    z = samples.u
    advantages = torch.stack((z[:, 0] + z[:, 1], z[:, 0], z[:, 1]), dim=1)
    return dataclasses.replace(samples, advantages=advantages - advantages.mean(0))


@pytest.mark.parametrize("binding", [0, 1])
def test_of_two_limits_the_one_that_binds_is_kept(policy, two_costs, binding):
    excess = [-1e4, -1e4]
    excess[binding] = 0.0
    report, gain, rises, divergence = change(policy, two_costs, excess, slack=0.02)
    assert report.case == "boundary"
    assert gain > 0.0
    assert rises[binding] <= 0.02 * 10.0 / 100.0
    assert rises[1 - binding] > 0.01
    assert 0.0 < divergence <= SETTINGS.delta
    assert report.nu[binding] > 0.0
    assert report.nu[1 - binding] == 0.0


def test_both_limits_bind(policy, two_costs):
    report, _, rises, _ = change(policy, two_costs, [1.0, 2.0], slack=0.0)
    assert report.case == "boundary"
    np.testing.assert_allclose(rises, [-0.01, -0.02], rtol=0.3)


def test_recovery_lowers_the_worst_of_two(policy, two_costs):
    report, gain, rises, _ = change(policy, two_costs, [1e4, 0.0])
    assert report.case == "recovery"
    assert rises[0] < -0.03
    assert gain < 0.0


def test_summed_kl_is_what_is_bounded(policy, samples):
    """With twenty equal dimensions the mean KL would be a twentieth, and the step far too long."""
    wide = GaussianPolicy(3, 20, (8,), 0.5, torch.Generator().manual_seed(0)).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        mean = wide(samples.x)
        u = mean + 0.5 * torch.randn(mean.shape, generator=generator, dtype=torch.float64)
        log_prob = wide.log_prob(mean, u)
    gain = (u - mean).sum(-1)
    batch = Samples(samples.x, u, log_prob, torch.stack((gain, -gain), dim=1), samples.weight)
    _, _, _, divergence = change(wide, batch, [-1e4])
    assert 0.3 * SETTINGS.delta < divergence <= SETTINGS.delta


@pytest.mark.parametrize("field", ["x", "advantages", "log_prob"])
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
    report, *_ = change(policy, samples, [excess])
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
    wild = samples.advantages.clone()
    wild[::3] = 1e6
    before = vector(policy)
    change(policy, dataclasses.replace(samples, advantages=wild, weight=weight))
    moved = vector(policy)
    torch.nn.utils.vector_to_parameters(before, policy.parameters())
    kept = weight > 0.0
    part = samples.rows(kept)
    change(policy, part)
    torch.testing.assert_close(vector(policy), moved, rtol=1e-6, atol=1e-9)


def test_what_a_step_promises_is_its_linear_model(policy, samples):
    """On the boundary that is the request itself, -2 in 100 steps, whatever the surrogate says."""
    report, *_ = change(policy, samples, [2.0])
    assert report.case == "boundary"
    assert report.more["cost_promised"] == pytest.approx((-0.02,), rel=1e-6)


def test_far_from_a_limit_the_promise_is_the_reach(policy, samples):
    """In recovery no step of the region keeps the request, so none is promised."""
    report, _, rise, _ = change(policy, samples, [1e4])
    assert report.more["cost_promised"][0] == pytest.approx(rise, rel=0.3)


def result(promised, accepted=0):
    """A step's result in an episode of 100 steps."""
    return UpdateResult("", accepted=accepted, more={"cost_promised": tuple(promised / 100.0)})


def estimate(cost, limit):
    return BatchEstimate(np.array(cost), np.array(limit), 100.0, reward_scale=1.0)


def test_tracker_adds_what_steps_fell_short_of():
    tracker = CostTracker(rate=0.5, costs=2)
    now = estimate([12.0, 1.0], [10.0, 1.0])
    np.testing.assert_allclose(tracker.excess(now.cost, now.limit), [2.0, 0.0])
    tracker.follow(now, result(np.array([-2.0, 0.5])))  # promised 10 and 1.5,
    found = tracker.excess(np.array([12.0, 1.5]), now.limit)  # realised 12 and 1.5
    np.testing.assert_allclose(found, [2.0 + 0.5 * 2.0, 0.5])
    off = CostTracker(rate=0.0, costs=2)
    off.follow(now, result(np.array([-2.0, 0.5])))
    np.testing.assert_allclose(off.excess(np.array([12.0, 1.5]), now.limit), [2.0, 0.5])


def test_a_cost_that_is_not_finite_leaves_the_correction_as_it_was():
    tracker = CostTracker(rate=0.5, costs=1)
    tracker.follow(estimate([12.0], [10.0]), result(np.array([-2.0])))
    assert np.isnan(tracker.excess(np.array([np.nan]), np.array([10.0]))).all()
    np.testing.assert_array_equal(tracker.shortfall, [0.0])


def test_a_rejected_step_promised_nothing():
    tracker = CostTracker(rate=0.5, costs=1)
    tracker.shortfall = np.array([3.0])
    tracker.follow(estimate([12.0], [10.0]), UpdateResult("boundary", accepted=None))
    np.testing.assert_allclose(tracker.excess(np.array([14.0]), np.array([10.0])), [7.0])
    np.testing.assert_allclose(tracker.shortfall, [3.0])


@pytest.mark.parametrize("error", [4.0, 0.0, -2.0])
@pytest.mark.parametrize("kept", [0.25, 1.0, 1.6])
def test_errors_that_stay_do_not_move_the_mean_cost_above_the_limit(error, kept):
    """A step keeps a share of its promise, as it fits noise, and adds `error`. Without the
    correction the cost ends above the limit by error/kept; with it, at the limit or below."""
    rng, limit = np.random.default_rng(0), np.array([10.0])
    for rate, off in ((0.0, error / kept), (CPOSettings().correction, min(error / kept, 0.0))):
        tracker, cost, costs = CostTracker(rate, 1), 2.0, []
        for _ in range(4000):
            seen = cost + 0.5 * rng.normal()
            promised = -tracker.excess(np.array([seen]), limit)
            tracker.follow(estimate([seen], [10.0]), result(promised))
            cost += kept * promised[0] + error
            costs.append(cost)
        assert np.mean(costs[-2000:]) == pytest.approx(10.0 + off, abs=0.5)


def test_a_long_way_back_to_the_limit_leaves_no_wind_up():
    """From 200 down to 10 by at most 4 a step, each of which falls short by 1."""
    tracker, cost, costs, limit = CostTracker(0.1, 1), 200.0, [], np.array([10.0])
    for _ in range(200):
        promised = np.maximum(-tracker.excess(np.array([cost]), limit), -4.0)
        tracker.follow(estimate([cost], [10.0]), result(promised))
        cost += promised[0] + 1.0
        costs.append(cost)
    arrived = int(np.argmax(np.array(costs) < 11.0))
    assert min(costs[arrived:]) > 9.0
    assert costs[-1] == pytest.approx(10.0, abs=0.1)


def test_no_step_aims_above_the_limit():
    tracker, limit = CostTracker(1.0, 1), np.array([10.0])
    for realised, shortfall in ((60.0, 60.0), (-60.0, 0.0)):
        tracker.follow(estimate([0.0], [10.0]), result(np.zeros(1)))
        tracker.excess(np.array([realised]), limit)
        np.testing.assert_allclose(tracker.shortfall, [shortfall])
