"""Cost shaping: labels by hand, a predictor that learns them, and who sees which cost."""

import dataclasses

import numpy as np
import pytest
import torch

from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import ShapingSettings, TrainSettings
from holdfast.policy.learn.shaping import Predictor, cost_within, fit_predictor
from holdfast.sim.registry import resolve

SHAPING = ShapingSettings(horizon=3, shaping=0.5)


def test_soon_by_hand():
    """One copy, a cost at step 4; within two steps it is foretold from step 3 on."""
    costs = np.zeros((6, 1, 1))
    costs[4] = 2.0
    ended = np.zeros((6, 1), bool)
    assert cost_within(costs, ended, 1)[:, 0, 0].tolist() == [False] * 4 + [True, False]
    assert cost_within(costs, ended, 2)[:, 0, 0].tolist() == [False] * 3 + [True, True, False]
    assert cost_within(costs, ended, 9)[:, 0, 0].tolist() == [True] * 5 + [False]


def test_nothing_is_foretold_beyond_an_episode_s_end():
    costs = np.zeros((4, 2, 1))
    costs[3] = 1.0
    ended = np.array([[False, False], [True, False], [False, False], [True, True]])
    expected = [[False, True], [False, True], [True, True], [True, True]]
    assert cost_within(costs, ended, 4)[..., 0].tolist() == expected


def test_a_cost_at_an_episode_s_last_step_is_foretold_in_it():
    costs, ended = np.zeros((3, 1, 1)), np.zeros((3, 1), bool)
    costs[1], ended[1] = 1.0, True
    assert cost_within(costs, ended, 5)[:, 0, 0].tolist() == [True, True, False]


@pytest.fixture
def predictor():
    return Predictor(1, 2, SHAPING, torch.Generator().manual_seed(0))


def test_it_learns_probabilities(predictor):
    """P(first | x) = σ(4x), and the second never: each network learns its own."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(20_000, 1, generator=generator)
    label = torch.rand(20_000, 1, generator=generator) < torch.sigmoid(4.0 * x)
    both = torch.cat((label, torch.zeros_like(label)), dim=1).float()
    optimiser = torch.optim.Adam(predictor.parameters(), lr=1e-2)
    for _ in range(8):
        fit_predictor(predictor, optimiser, x, both, generator)
    at = torch.tensor([[-1.0], [0.0], [1.0]])
    found = torch.sigmoid(predictor(at)).detach()
    torch.testing.assert_close(found[:, 0], torch.sigmoid(4.0 * at)[:, 0], atol=0.05, rtol=0)
    assert (found[:, 1] < 0.05).all()


def test_shaped_cost_by_hand(predictor):
    costs, x = np.array([[[1.0, 0.0]], [[0.0, 0.0]]]), torch.randn(2, 1)
    np.testing.assert_array_equal(predictor.shaped(costs, x), costs)  # not fitted yet
    predictor.fitted.fill_(True)
    likely = torch.sigmoid(predictor(x)).detach().numpy()
    np.testing.assert_allclose(predictor.shaped(costs, x), costs + 0.5 * likely[:, None], rtol=1e-6)


def test_the_limit_is_held_to_the_shaped_cost_and_the_true_one_is_reported():
    """Shaped with a weight that no batch can meet, the step must see a broken limit: recovery."""
    settings = TrainSettings(
        task=resolve("PointCircle-v0"), batch=1300, critic_steps=5, limit=(60.0,),
        shaping=ShapingSettings(horizon=5, shaping=1000.0),
    )  # fmt: skip
    learner = Learner(settings)
    first, second = learner.iterate(), learner.iterate()
    assert first["shaped_costs"] == first["costs"]  # nothing is predicted yet
    assert first["case"] != "recovery"
    name = "outside_corridor"
    assert second["shaped_costs"][name] > 60.0 > second["costs"][name]
    assert second["case"] == "recovery"
    learner.close()


def test_what_is_exported_is_the_true_cost_to_go():
    """The discounted critic is fitted to the shaped cost, the one that is exported is not."""
    shaping = ShapingSettings(horizon=5, shaping=50.0)
    settings = TrainSettings(
        task=resolve("PointCircle-v0"), batch=6500, critic_steps=300, shaping=shaping
    )
    learner = Learner(settings)
    for _ in range(3):
        record = learner.iterate()
    start = learner.normaliser(torch.zeros(1, 5) + torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0]))
    _, shaped, to_go = learner.networks.critic.values(start)[0].tolist()
    true = record["costs"]["outside_corridor"]
    assert abs(to_go - true) < 0.5 * true + 5.0
    assert shaped > 5.0 * to_go
    learner.close()


def test_without_a_horizon_there_is_no_predictor():
    settings = TrainSettings(task=resolve("PointCircle-v0"), batch=650, critic_steps=2)
    learner = Learner(dataclasses.replace(settings, shaping=ShapingSettings(horizon=0)))
    assert learner.predictor is None
    assert "shaped_costs" not in learner.iterate()
    learner.close()
