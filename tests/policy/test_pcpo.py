"""PCPO's step: by hand, against an independent solver, and far outside of its limits."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch.nn.utils import parameters_to_vector

from holdfast.policy.algorithms.algorithm import BatchEstimate
from holdfast.policy.algorithms.pcpo import PCPO, PCPOSettings, projection
from holdfast.policy.algorithms.trpo import TRPO, TRPOSettings
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import TrainSettings
from holdfast.policy.models.gaussian import GaussianPolicy, kl
from holdfast.policy.optimise.trust_region import StepSettings
from holdfast.policy.sampling.samples import Samples, surrogates
from holdfast.sim.registry import resolve
from tests.helpers.data.behaviour import behave, setup_of

STEP = StepSettings(fisher_rows=10_000, damping=1e-3, cg_iterations=50)


@pytest.fixture
def samples(policy):
    """Reward for a large first action; cost for a large second one and some of the first."""
    x, u, deviation, log_prob = behave(policy, 4000, torch.Generator().manual_seed(1))
    advantages = deviation @ torch.tensor([[1.0, 0.5], [0.0, 1.0]], dtype=torch.float64)
    return Samples(x, u, log_prob, advantages, torch.ones(4000, dtype=torch.float64))


def vector(policy):
    return parameters_to_vector(policy.parameters()).detach().clone()


def change(policy, samples, excess, settings=None):
    """Update; return the result, the change of both surrogates, and the KL."""
    before, mean = surrogates(policy, samples)
    log_std = policy.log_std.detach().clone()
    estimate = BatchEstimate(10.0 + np.array([excess]), np.array([10.0]), 100.0, reward_scale=2.0)
    algorithm = PCPO(setup_of(policy, seed=2), settings or PCPOSettings(step=STEP))
    result = algorithm.update(samples, estimate)
    after, new_mean = surrogates(policy, samples)
    divergence = float(kl(mean, log_std, new_mean, policy.log_std.detach()))
    return result, *(after - before).tolist(), divergence


@pytest.mark.parametrize(("kind", "metric"), [("kl", [1.1, 1.1, 2.1]), ("l2", [1.0, 1.0, 1.0])])
def test_the_step_by_hand(kind, metric):
    """One weight, of an observation that is ±1, and a bias: H = diag(1, 1) + 0.1 for both.

    Reward is for the bias, the cost for bias and weight together; 2 is the Fisher of log σ.
    """
    policy = GaussianPolicy(1, 1, (), 1.0, torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        policy.body[0].weight.fill_(0.0)
    x = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]]).double()
    u = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]]).double()
    log_prob = policy.log_prob(policy(x), u).detach()
    advantages = torch.cat((0.3 * u, 0.2 * u * (1.0 + x)), dim=1)
    batch = Samples(x, u, log_prob, advantages, torch.ones(4).double())
    settings = PCPOSettings(step=StepSettings(delta=0.001, backtracks=60), projection=kind)
    result, *_ = change(policy, batch, excess=0.1, settings=settings)
    g, b, c = np.array([0.0, 0.3, 0.0]), np.array([0.2, 0.2, 0.0]), 0.1 / 100.0
    inverse = 1.0 / np.array([1.1, 1.1, 2.1])
    y = np.sqrt(2.0 * 0.001 / (g * inverse * g).sum()) * inverse * g
    away = b / np.array(metric)
    expected = y - max(0.0, (c + b @ y) / (b @ away)) * away
    length = (expected**2 / inverse).sum()
    expected *= min(1.0, np.sqrt(2.0 * 0.001 / length)) * 0.8**result.accepted
    found = torch.cat((policy.body[0].weight[0], policy.body[0].bias, policy.log_std)).tolist()
    assert found == pytest.approx(expected.tolist(), rel=1e-5, abs=1e-9)
    assert result.case == "projection"


@pytest.mark.parametrize("limits", [1, 2, 4])
def test_the_projection_is_that_of_an_independent_solver(limits):
    rng = np.random.default_rng(limits)
    for _ in range(60):
        b = rng.normal(size=(limits, 6)) * 10.0 ** rng.uniform(-3, 3, (limits, 1))
        y, c = rng.normal(size=6), rng.normal(size=limits) * np.linalg.norm(b, axis=1)
        unit, offset = (v / np.linalg.norm(b, axis=1, keepdims=True).T for v in (b.T, c))
        solved = minimize(
            lambda x, y=y: ((x - y) ** 2).sum(), y, jac=lambda x, y=y: 2.0 * (x - y),
            constraints={"type": "ineq", "fun": lambda x, a=unit, o=offset[0]: -(o + x @ a),
                         "jac": lambda x, a=unit: -a.T},
            method="SLSQP", options={"ftol": 1e-14, "maxiter": 300},
        )  # fmt: skip
        assert solved.success
        weights = projection(b @ b.T, c + b @ y)
        assert (weights >= 0.0).all()
        np.testing.assert_allclose(y - weights @ b, solved.x, atol=2e-5)


def test_limits_that_exclude_each_other_have_a_finite_projection():
    b = np.array([[1.0, 0.0], [-1.0, 0.0]])
    weights = projection(b @ b.T, np.array([1.0, 1.0]))  # x ≤ −1 and x ≥ 1
    assert np.isfinite(weights).all()
    np.testing.assert_allclose(-weights @ b, 0.0, atol=1e-6)


def test_within_its_limits_it_is_trpo(policy, samples):
    twin = copy.deepcopy(policy)
    result, gain, _, divergence = change(policy, samples, excess=-1e4)
    estimate = BatchEstimate(np.zeros(1), np.ones(1), 100.0, reward_scale=2.0)
    TRPO(setup_of(twin, seed=2), TRPOSettings(step=STEP)).update(samples, estimate)
    torch.testing.assert_close(vector(policy), vector(twin), rtol=1e-3, atol=1e-6)
    assert result.case == "reward"
    assert result.nu == (0.0,)
    assert gain > 0.0
    assert 0.0 < divergence <= STEP.delta


@pytest.mark.parametrize("kind", ["kl", "l2"])
def test_a_step_ends_on_the_limit(policy, samples, kind):
    """An excess of 1 per episode of 100 steps asks for a fall of 0.01 in the mean per step."""
    settings = PCPOSettings(step=STEP, projection=kind)
    result, _, rise, divergence = change(policy, samples, 1.0, settings)
    assert result.case == "projection"
    assert rise == pytest.approx(-0.01 * 0.8**result.accepted, rel=0.3)
    assert 0.0 < divergence <= STEP.delta
    assert result.nu[0] > 0.0


@pytest.mark.parametrize("kind", ["kl", "l2"])
def test_a_limit_out_of_reach_is_approached_inside_the_region(policy, samples, kind):
    """The paper's step would be thousands of times as long; a line search alone would give up."""
    settings = PCPOSettings(step=STEP, projection=kind)
    result, gain, rise, divergence = change(policy, samples, 1e4, settings)
    assert result.accepted is not None
    assert rise < -0.03
    assert gain < 0.0  # cost and reward share the first action
    assert 0.3 * STEP.delta < divergence <= STEP.delta


@pytest.mark.parametrize("excess", [np.nan, np.inf])
def test_no_known_cost_changes_nothing(policy, samples, excess):
    before = vector(policy)
    result, *_ = change(policy, samples, excess)
    assert result.accepted is None
    assert torch.equal(vector(policy), before)


def test_a_cost_that_no_direction_changes_is_left_alone(policy, samples):
    advantages = samples.advantages * torch.tensor([1.0, 0.0]).double()
    result, gain, rise, _ = change(
        policy, dataclasses.replace(samples, advantages=advantages), excess=5.0
    )
    assert result.case == "reward"
    assert gain > 0.0
    assert rise == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kl", "l2"])
def test_it_learns_within_its_limit(kind):
    own = PCPOSettings(projection=kind)
    settings = TrainSettings(
        task=resolve("PointCircle-v0"), algorithm="pcpo", seed=3, batch=6500, critic_steps=40,
        own=own,
    )  # fmt: skip
    learner = Learner(settings)
    records = [learner.iterate() for _ in range(16)]
    learner.close()
    costs = [record["costs"]["outside_corridor"] for record in records]
    returns = [record["return"] for record in records]
    assert np.mean(costs[-6:]) < 1.5 * 5.0
    assert np.mean(returns[-3:]) > returns[0] + 10.0
