"""The metric's solver, and the line search that changes nothing unless it is accepted."""

import dataclasses

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from holdfast.policy.models.gaussian import FisherMatrix
from holdfast.policy.optimise.trust_region import StepSettings, TrustRegion, conjugate_gradient
from holdfast.policy.sampling.samples import Samples, surrogate_gradients, surrogates
from tests.helpers.data.behaviour import behave


def test_conjugate_gradient_solves_side_by_side():
    """One of three is solved at the start, one after a few iterations: both stay where they are."""
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(20, 20, generator=generator, dtype=torch.float64)
    matrix = root @ root.T + torch.eye(20, dtype=torch.float64)
    b = torch.randn(3, 20, generator=generator, dtype=torch.float64)
    b[1] = 0.0
    b[2] = torch.linalg.eigh(matrix).eigenvectors[:, 3]  # one iteration
    x = conjugate_gradient(lambda v: v @ matrix, b, iterations=60, tolerance=1e-24)
    torch.testing.assert_close(x @ matrix, b, rtol=1e-9, atol=1e-9)
    assert not x[1].any()


@pytest.fixture
def samples(policy):
    generator = torch.Generator().manual_seed(1)
    x, u, _, log_prob = behave(policy, 5000, generator)  # more than a chunk
    log_prob += 0.1 * torch.randn(5000, generator=generator).double()
    advantages = torch.randn(5000, 3, generator=generator, dtype=torch.float64)
    weight = (torch.rand(5000, generator=generator) < 0.8).double()
    return Samples(x, u, log_prob, advantages, weight)


def test_surrogates_and_their_gradients_are_those_of_automatic_differentiation(policy, samples):
    mean = policy(samples.x)
    ratio = torch.exp(policy.log_prob(mean, samples.u) - samples.log_prob)
    weighted = (ratio * samples.weight)[:, None] * samples.advantages
    expected = weighted.sum(0) / samples.weight.sum()
    parameters = list(policy.parameters())
    values, gradients, means = surrogate_gradients(policy, samples, 2)
    torch.testing.assert_close(values, expected.detach())
    torch.testing.assert_close(surrogates(policy, samples)[0], expected.detach())
    torch.testing.assert_close(means, mean.detach())
    for k in range(2):
        parts = torch.autograd.grad(expected[k], parameters, retain_graph=True)
        torch.testing.assert_close(gradients[k], parameters_to_vector(parts))


def test_the_natural_gradient_undoes_the_metric(policy, samples):
    """With many conjugate-gradient steps, and Fisher products on all samples that count."""
    settings = StepSettings(fisher_rows=10_000, cg_iterations=200, damping=0.1)
    region = TrustRegion(policy, samples, 3, settings)
    natural = region.natural()
    fisher = FisherMatrix(policy, samples.x[samples.weight > 0], 0.1)
    torch.testing.assert_close(fisher(natural), region.gradients, atol=1e-4, rtol=0)


def test_the_search_takes_the_longest_accepted_copy(policy, samples):
    region = TrustRegion(policy, samples, 1, StepSettings(delta=1e9, backtrack=0.5))
    step = torch.ones_like(region.old) * 0.01
    tried = []

    def third(trial):
        tried.append(trial)
        return len(tried) == 3

    tries, trial = region.search(step, third)
    assert tries == 2
    torch.testing.assert_close(parameters_to_vector(policy.parameters()), region.old + 0.25 * step)
    values, _ = surrogates(policy, samples)
    torch.testing.assert_close(trial.change, values - region.surrogates)


def test_a_search_that_fails_restores_exactly(policy, samples):
    region = TrustRegion(policy, samples, 1, StepSettings())
    before = parameters_to_vector(policy.parameters()).detach().clone()
    assert region.search(torch.ones_like(before), lambda trial: False) is None
    assert torch.equal(parameters_to_vector(policy.parameters()), before)


def test_not_finite_is_noticed_wherever_it_is(policy, samples):
    assert TrustRegion(policy, samples, 1, StepSettings()).finite
    for name in ("x", "u", "log_prob", "advantages"):
        values = getattr(samples, name).clone()
        values.view(-1)[-1] = float("nan")
        weight = torch.ones_like(samples.weight)
        broken = dataclasses.replace(samples, **{name: values, "weight": weight})
        assert not TrustRegion(policy, broken, 1, StepSettings()).finite, name
