"""The policy's closed-form derivatives against automatic differentiation; KL by hand."""

import math

import pytest
import torch
from torch.func import functional_call, jacrev

from holdfast.policy.models.gaussian import (
    FisherMatrix,
    GaussianPolicy,
    Linearisation,
    kl,
    set_gradient,
)
from holdfast.policy.models.layers import tanh_


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
    fisher = FisherMatrix(policy, x, damping=0.25)
    for k in (1, 2, 5):  # side by side
        v = torch.randn(k, len(flat), generator=generator, dtype=torch.float64)
        torch.testing.assert_close(fisher(v), v @ hessian + 0.25 * v, rtol=1e-8, atol=1e-10)


def test_fisher_of_the_mean_is_jacobian_form(policy):
    x = torch.randn(1, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    body = dict(policy.body.named_parameters())
    jacobian = jacrev(lambda p: torch.tanh(functional_call(policy.body, p, (x,)))[0])(body)
    j = torch.cat([block.reshape(3, -1) for block in jacobian.values()], dim=1)
    expected = j.T @ torch.diag(torch.exp(-2 * policy.log_std.detach())) @ j
    size = 3 + j.shape[1]
    product = FisherMatrix(policy, x, 0.0)(torch.eye(size, dtype=torch.float64))
    torch.testing.assert_close(product[3:, 3:], expected)


def test_a_fisher_matrix_in_parts_is_the_whole(policy):
    """More observations than go through at a time: the mean over all of them."""
    x = torch.randn(2500, 5, dtype=torch.float64)
    v = torch.randn(2, sum(p.numel() for p in policy.parameters()), dtype=torch.float64)
    whole = Linearisation(policy, x).fisher_sum(v) / 2500 + 0.1 * v
    torch.testing.assert_close(FisherMatrix(policy, x, 0.1)(v), whole)


def gradient(value, policy):
    parts = torch.autograd.grad(value, list(policy.parameters()), retain_graph=True)
    return torch.cat([part.reshape(-1) for part in parts])


def test_score_is_the_gradient_of_the_log_density(policy):
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(13, 5, generator=generator, dtype=torch.float64)
    u = torch.randn(13, 3, generator=generator, dtype=torch.float64)
    weight = torch.randn(13, 2, generator=generator, dtype=torch.float64)
    density = policy.log_prob(policy(x), u)
    found = Linearisation(policy, x).score(u, weight)
    for k in range(2):
        torch.testing.assert_close(found[k], gradient((weight[:, k] * density).sum(), policy))


def test_kl_gradient(policy):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(13, 5, generator=generator, dtype=torch.float64)
    old_mean = 0.5 * torch.randn(13, 3, generator=generator, dtype=torch.float64)
    old_log_std = torch.tensor([0.2, -0.4, 0.1], dtype=torch.float64)
    found = Linearisation(policy, x).kl_gradient(old_mean, old_log_std)
    divergence = kl(old_mean, old_log_std, policy(x), policy.log_std)
    torch.testing.assert_close(found, gradient(divergence, policy))


def test_set_gradient_lays_a_vector_out(policy):
    vector = torch.arange(float(sum(p.numel() for p in policy.parameters()))).double()
    set_gradient(policy, vector)
    assert torch.equal(torch.cat([p.grad.reshape(-1) for p in policy.parameters()]), vector)


def test_means_are_what_forward_says(policy):
    x = torch.randn(9000, 5, dtype=torch.float64)  # more than one chunk
    torch.testing.assert_close(policy.means(x), policy(x).detach())


def test_fast_tanh():
    z = torch.linspace(-20.0, 20.0, 100_001)
    assert (tanh_(z.clone()) - torch.tanh(z)).abs().max() < 3e-7


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
