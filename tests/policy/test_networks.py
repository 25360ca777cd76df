"""The closed-form Fisher matrix against automatic differentiation; KL by hand."""

import math

import pytest
import torch
from torch.func import functional_call, jacrev

from holdfast.policy.networks import Critic, GaussianPolicy, Normaliser, kl


@pytest.fixture
def policy():
    made = GaussianPolicy(5, 3, (7, 4), 0.6, torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        made.log_std += torch.tensor([0.1, -0.3, 0.2])
    return made


def test_fisher_product_is_the_hessian_of_the_kl(policy):
    """F is the Hessian of KL(old ‖ new) at new = old, parameter by parameter."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(11, 5, generator=generator, dtype=torch.float64)
    names = [name for name, _ in policy.named_parameters()]
    sizes = [p.numel() for p in policy.parameters()]
    shapes = [p.shape for p in policy.parameters()]
    flat = torch.cat([p.detach().reshape(-1) for p in policy.parameters()])
    old_mean, old_log_std = policy(x).detach(), policy.log_std.detach().clone()

    def divergence(vector):
        parts = [v.view(s) for v, s in zip(vector.split(sizes), shapes, strict=True)]
        parameters = dict(zip(names, parts, strict=True))
        mean = functional_call(policy, parameters, (x,))
        return kl(old_mean, old_log_std, mean, parameters["log_std"])

    hessian = torch.func.hessian(divergence)(flat)
    for _ in range(5):
        v = torch.randn(len(flat), generator=generator, dtype=torch.float64)
        torch.testing.assert_close(
            policy.fisher_product(x, v, damping=0.25), hessian @ v + 0.25 * v, rtol=1e-8, atol=1e-10
        )


def test_fisher_of_the_mean_is_jacobian_form(policy):
    x = torch.randn(1, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    body = dict(policy.body.named_parameters())
    jacobian = jacrev(lambda p: torch.tanh(functional_call(policy.body, p, (x,)))[0])(body)
    j = torch.cat([block.reshape(3, -1) for block in jacobian.values()], dim=1)
    expected = j.T @ torch.diag(torch.exp(-2 * policy.log_std.detach())) @ j
    size = 3 + j.shape[1]
    columns = [policy.fisher_product(x, row, 0.0) for row in torch.eye(size, dtype=torch.float64)]
    torch.testing.assert_close(torch.stack(columns)[3:, 3:], expected)


def test_kl_is_summed_over_dimensions_by_hand():
    """Two dimensions, each moved by one σ: ½ + ½; a mean over dimensions would say ½."""
    zero = torch.zeros(1, 2)
    log_std = torch.zeros(2)
    assert float(kl(zero, log_std, zero + 1.0, log_std)) == pytest.approx(1.0)
    # KL(N(0, 1) ‖ N(0, 2²)) = log 2 + 1/8 − 1/2, twice.
    wide = torch.full((2,), math.log(2.0))
    expected = 2.0 * (math.log(2.0) + 0.125 - 0.5)
    assert float(kl(zero, log_std, zero, wide)) == pytest.approx(expected)


def test_log_prob_is_the_density(policy):
    x = torch.randn(4, 5, dtype=torch.float64)
    mean = policy(x).detach()
    u = mean + 0.3
    expected = torch.distributions.Normal(mean, torch.exp(policy.log_std)).log_prob(u).sum(-1)
    torch.testing.assert_close(policy.log_prob(mean, u), expected)


def test_normaliser_is_the_mean_and_deviation_of_all_batches():
    data = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)) * 4.0 + 7.0
    normaliser = Normaliser(3)
    for part in data.split([1, 99, 400, 500]):
        normaliser.update(part)
    torch.testing.assert_close(normaliser.mean, data.double().mean(0))
    torch.testing.assert_close(normaliser.std, data.double().std(0, unbiased=False))


def test_following_the_targets_changes_no_prediction():
    critic = Critic(4, 2, (8,), torch.Generator().manual_seed(0))
    x = torch.randn(6, 4)
    before = critic(x).detach()
    critic.follow(torch.randn(100, 2) * torch.tensor([50.0, 0.5]) + 20.0)
    torch.testing.assert_close(critic(x).detach(), before, rtol=1e-4, atol=1e-4)
