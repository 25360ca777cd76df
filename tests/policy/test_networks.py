"""The normaliser and the critics: what they compute, and how critics are fitted."""

import pytest
import torch

from holdfast.policy.learn.fitting import BackgroundFit
from holdfast.policy.learn.settings import TrainSettings
from holdfast.policy.learn.shaping import Predictor, ShapingSettings
from holdfast.policy.models.critic import Critic, fit_critic
from holdfast.policy.models.gaussian import GaussianPolicy
from holdfast.policy.models.networks import Normaliser


def test_normaliser_is_the_mean_and_deviation_of_all_batches():
    data = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)) * 4.0 + 7.0
    normaliser = Normaliser(3)
    for part in data.split([1, 99, 400, 500]):
        normaliser.update(part)
    torch.testing.assert_close(normaliser.mean, data.double().mean(0))
    torch.testing.assert_close(normaliser.std, data.double().std(0, unbiased=False))


def test_networks_remain_the_same_functions_when_the_normaliser_changes():
    """The last channel is constant at first; none is so far away that it is clipped."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([1.0, 50.0, 0.1, 0.0])
    normaliser, seen = Normaliser(4), torch.randn(200, 4, generator=generator) * scale + 3.0
    normaliser.update(seen)
    policy = GaussianPolicy(4, 2, (8, 8), 1.0, generator)
    predictor = Predictor(4, 2, ShapingSettings(horizon=3), generator)
    networks = (policy, Critic(4, 3, (8,), generator), predictor)
    before = [network(normaliser(seen)).detach() for network in networks]
    inputs = normaliser(seen)
    change = normaliser.update(torch.randn(400, 4, generator=generator) * scale.flip(0) + 2.0)
    assert float((normaliser(seen) - inputs).abs().max()) > 0.1
    for network, values in zip(networks, before, strict=True):
        network.absorb(*change)
        torch.testing.assert_close(network(normaliser(seen)).detach(), values, rtol=1e-3, atol=1e-3)


def test_following_the_targets_changes_no_prediction():
    critic = Critic(4, 2, (8,), torch.Generator().manual_seed(0))
    x = torch.randn(6, 4)
    before = critic(x).detach()
    critic.follow(torch.randn(100, 2) * torch.tensor([50.0, 0.5]) + 20.0)
    torch.testing.assert_close(critic(x).detach(), before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("hidden", [(), (8,), (8, 5)])
def test_a_critic_s_descent_is_that_of_automatic_differentiation(hidden):
    critic = Critic(4, 3, hidden, torch.Generator().manual_seed(0)).double()
    generator = torch.Generator().manual_seed(1)
    critic.follow(torch.randn(100, 3, generator=generator).double() * 5.0 + 2.0)
    x = torch.randn(20, 4, generator=generator).double()
    target = torch.randn(20, 3, generator=generator).double()
    scaled = (critic(x) - critic.mean) / critic.std
    expected = torch.autograd.grad(
        ((scaled - target) ** 2).sum(-1).mean(), list(critic.parameters())
    )
    critic.descend(x, target.T)
    for parameter, gradient in zip(critic.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_values_are_what_forward_says():
    critic = Critic(4, 3, (8, 8), torch.Generator().manual_seed(0))
    critic.follow(torch.randn(100, 3) * 5.0 + 2.0)
    x = torch.randn(9000, 4)  # more than one chunk
    torch.testing.assert_close(critic.values(x), critic(x).detach(), rtol=1e-5, atol=1e-5)


def test_critics_learn_their_targets():
    """Three functions of very different size, by one learning rate."""
    generator = torch.Generator().manual_seed(0)
    critic = Critic(2, 3, (32,), generator)
    optimiser = torch.optim.Adam(critic.parameters(), lr=1e-2, fused=True)
    x = torch.randn(2000, 2, generator=generator)
    target = torch.stack((1000.0 * torch.sin(x[:, 0]), 0.1 * x[:, 1], x[:, 0] * x[:, 1]), dim=1)
    fit_critic(critic, optimiser, x, target, 500, 256, generator)
    residual = (critic.values(x) - target).var(0) / target.var(0)
    assert (residual < 0.05).all()


def fitting(settings=None):
    critic = Critic(2, 3, (8,), torch.Generator().manual_seed(0))
    return BackgroundFit(critic, None, settings or TrainSettings(critic_steps=20))


def test_fitting_in_a_thread_is_fitting():
    generator = torch.Generator().manual_seed(1)
    x, target = torch.randn(300, 2, generator=generator), torch.randn(300, 3, generator=generator)
    background, direct = fitting(), fitting()
    background.start(x, target, None)
    background.wait()
    direct._fit(x, target, None)
    for a, b in zip(background.critic.parameters(), direct.critic.parameters(), strict=True):
        assert torch.equal(a, b)
    background.close()


def test_what_goes_wrong_in_the_thread_is_raised_where_it_is_awaited():
    background = fitting()
    background.start(torch.randn(10, 5), torch.randn(10, 3), None)  # 5 observations, not 2
    with pytest.raises(RuntimeError):
        background.wait()
    background.wait()  # once
    background.close()
