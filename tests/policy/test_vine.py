"""Vine: states restored exactly, branches that share their luck, equation 16, that it learns."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from holdfast.cli import main
from holdfast.errors import TrainingError
from holdfast.policy.algorithms.trpo_vine import Branches, VineSettings
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import TrainSettings
from holdfast.policy.models.gaussian import GaussianPolicy
from holdfast.policy.sampling.samples import surrogate_gradients, surrogates
from holdfast.sim.registry import resolve
from tests.helpers.robots.parameters import parameters

VINE = VineSettings(states=50, branches=4, branch_steps=10)
SMALL = TrainSettings(
    task=resolve("PointCircle-v0"),
    algorithm="trpo-vine",
    seed=3,
    batch=1040,
    critic_steps=5,
    own=VINE,
)


WILD = parameters(mass=[0.5, 2.0], delay=[0, 2], noise={"position": 0.1})


@pytest.fixture
def collected(request):
    """A learner whose vine has kept its states, and the rollout that they are of."""
    learner = Learner(dataclasses.replace(SMALL, **getattr(request, "param", {})))
    steps = learner.contract.episode_steps
    learner.algorithm.vine.draw(steps)
    made = learner.collector.collect(learner.policy, learner.normaliser, steps)
    yield learner, made
    learner.close()


def times(learner):
    """Return of each state that was drawn its step and its copy."""
    return np.divmod(learner.algorithm.vine._drawn, learner.batch.copies)


@pytest.mark.parametrize(
    "collected",
    [
        {},
        {"task": resolve("PointGather-v0")},
        {"task": resolve("DriveGoal-v0"), "batch": 2000},
        {"randomise": WILD},
    ],
    ids=["circle", "gather", "goal", "randomised"],
    indirect=True,
)
def test_a_restored_state_goes_on_bit_for_bit(collected):
    """The same actions from each state that was kept, until its episode's end."""
    learner, made = collected
    contract, k = learner.contract, VINE.branches
    at, copy = (np.repeat(part, k) for part in times(learner))
    seen = learner.algorithm.vine._restored()
    np.testing.assert_array_equal(seen.astype(np.float32), made.observation[at, copy])
    compared, going = 0, np.ones(len(at), dtype=bool)
    for t in range(min(30, contract.episode_steps)):
        now = np.minimum(at + t, contract.episode_steps - 1)
        u = made.u[now, copy]
        step = learner.algorithm.vine.branches.step(
            contract.action_center + contract.action_half_range * u
        )
        np.testing.assert_array_equal(step.reward[going], made.reward[now, copy][going])
        np.testing.assert_array_equal(step.costs[going], made.costs[now, copy][going])
        ended = step.terminated | step.truncated
        np.testing.assert_array_equal(ended[going], made.ended[now, copy][going])
        going &= ~ended
        following = made.observation[np.minimum(now + 1, contract.episode_steps - 1), copy]
        np.testing.assert_array_equal(step.observation.astype(np.float32)[going], following[going])
        compared += int(going.sum())
    assert compared > 500


def test_states_are_drawn_from_all_steps_and_none_twice(collected):
    learner, _ = collected
    drawn = []
    for _ in range(200):
        learner.algorithm.vine.draw(65)
        assert len(set(learner.algorithm.vine._drawn)) == VINE.states
        drawn.append(learner.algorithm.vine._drawn)
    counts = np.bincount(np.concatenate(drawn), minlength=1040)
    assert counts.mean() == pytest.approx(200 * 50 / 1040)
    assert counts.var() == pytest.approx(200 * 50 / 1040 * (1 - 50 / 1040), rel=0.2)  # binomial


def spread(branches):
    """Return the mean over states of the variance of Q̂ between their branches."""
    return branches.advantages[:, 0].view(-1, VINE.branches).var(1).mean()


def test_branches_with_the_same_first_action_bring_the_same(collected):
    """What differs between the branches of a state is the first action alone: exactly."""
    learner, _ = collected
    randn = torch.randn

    def alike(size, generator):
        noise = randn(size, generator=generator)
        if len(noise) == VINE.states * VINE.branches:  # the first actions'
            noise = noise[:: VINE.branches].repeat_interleave(VINE.branches, dim=0)
        return noise

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn", alike)
        branches = learner.algorithm.vine.grow(learner.networks)
    assert not branches.advantages.any()
    assert spread(learner.algorithm.vine.grow(learner.networks)) > 0.0


def test_common_random_numbers_narrow_the_differences(collected, monkeypatch):
    """Against noise of each branch's own: 1 : 10 here, over four draws of each."""
    learner, _ = collected
    common = np.mean([spread(learner.algorithm.vine.grow(learner.networks)) for _ in range(4)])
    each, size = learner.algorithm.vine.generator, VINE.states * VINE.branches
    monkeypatch.setattr(
        learner.algorithm.vine, "_shared", lambda m: torch.randn((size, m), generator=each)
    )
    own = np.mean([spread(learner.algorithm.vine.grow(learner.networks)) for _ in range(4)])
    assert common < 0.3 * own


@pytest.mark.parametrize("steps", [10, 0])
def test_what_branches_bring_is_that_of_each_alone(collected, steps):
    """Without noise after the first action each branch can be run again by hand: to its tenth
    step and the critic's value there, or to the episode's end."""
    learner, _ = collected
    networks, contract = learner.networks, learner.contract
    with torch.no_grad():
        networks.policy.body[-1].weight.mul_(20.0)  # so that states differ
    learner.algorithm.vine.settings = dataclasses.replace(VINE, branch_steps=steps)
    first = torch.linspace(-2.0, 2.0, 400).view(200, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            torch,
            "randn",
            lambda size, generator: first if len(first) == size[0] else torch.zeros(size),
        )
        found = learner.algorithm.vine.grow(networks)
    gammas = np.array([learner.settings.gamma, contract.costs[0].gamma])
    observation, expected = learner.algorithm.vine._restored(), np.zeros((200, 2))
    at = np.repeat(times(learner)[0], VINE.branches)
    for t in range(steps or 65):
        x = networks.normaliser(torch.from_numpy(observation.astype(np.float32)))
        u = (found.u if t == 0 else networks.policy.means(x)).numpy()
        step = learner.algorithm.vine.branches.step(
            contract.action_center + contract.action_half_range * u
        )
        inside = at + t < 65
        gains = np.stack((step.reward, step.costs[:, 0]), axis=1)
        expected[inside] += gammas**t * gains[inside]
        observation = step.observation
    if steps:
        x = networks.normaliser(torch.from_numpy(observation.astype(np.float32)))
        tail = gammas**steps * networks.critic.values(x)[:, :2].double().numpy()
        expected[at + steps < 65] += tail[at + steps < 65]
    expected = expected.reshape(50, 4, 2)
    expected -= expected.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found.advantages.numpy().reshape(50, 4, 2), expected, atol=1e-5)
    assert np.abs(expected).max() > 0.1
    assert learner.algorithm.vine.steps == np.minimum(65 - at, steps or 65).sum()


@pytest.fixture
def policy():
    return GaussianPolicy(3, 2, (8,), 0.5, torch.Generator().manual_seed(0)).double()


@pytest.fixture
def branches(policy):
    """More than a part's rows, three to a state, of a policy that has changed since."""
    generator = torch.Generator().manual_seed(1)
    states = torch.randn(700, 3, generator=generator, dtype=torch.float64)
    x = states.repeat_interleave(3, dim=0)
    with torch.no_grad():
        mean = policy(x)
        u = mean + 0.5 * torch.randn(mean.shape, generator=generator, dtype=torch.float64)
        log_prob = policy.log_prob(mean, u)
        for parameter in policy.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator).double())
    q = torch.randn(2100, 2, generator=generator, dtype=torch.float64)
    return Branches(x, u, log_prob, q, torch.full((2100,), 1.0 / 3.0).double(), 3)


def test_the_surrogate_is_equation_16(policy, branches):
    values, _ = surrogates(policy, branches)
    ratio = torch.exp(policy.log_prob(policy(branches.x), branches.u) - branches.log_prob)
    by_hand = [
        sum(ratio[3 * n + k] * branches.advantages[3 * n + k] for k in range(3))
        / sum(ratio[3 * n + k] for k in range(3))
        for n in range(700)
    ]
    torch.testing.assert_close(values, torch.stack(by_hand).mean(0).detach())
    torch.testing.assert_close(surrogate_gradients(policy, branches, 1)[0], values)


def test_its_gradient_is_that_of_finite_differences(policy, branches):
    _, gradients, _ = surrogate_gradients(policy, branches, 2)
    here = parameters_to_vector(policy.parameters()).detach().clone()
    for i in range(0, len(here), 3):
        sides = []
        for sign in (1.0, -1.0):
            moved = here.clone()
            moved[i] += sign * 1e-5
            vector_to_parameters(moved, policy.parameters())
            sides.append(surrogates(policy, branches)[0])
        slope = (sides[0] - sides[1]) / 2e-5
        torch.testing.assert_close(gradients[:, i], slope, rtol=1e-6, atol=1e-9)


def test_a_constant_on_top_of_a_state_s_returns_changes_no_gradient(policy, branches):
    """So that centring them, state by state, is free."""
    constant = torch.arange(700.0).double().repeat_interleave(3)[:, None]
    lifted = dataclasses.replace(branches, advantages=branches.advantages + constant)
    for a, b in zip(
        surrogate_gradients(policy, branches, 2)[1],
        surrogate_gradients(policy, lifted, 2)[1],
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_more_states_than_steps_are_refused():
    vine = VineSettings(states=1041)
    with pytest.raises(TrainingError, match="states should be at most the 1040 steps of a batch"):
        Learner(dataclasses.replace(SMALL, own=vine))


def test_on_the_command_line(tmp_path, capsys):
    run = ["train", "--algorithm", "trpo-vine", "--task", "PointCircle-v0", "--out", str(tmp_path)]
    small = ["--batch", "650", "--critic-steps", "2", "--iterations", "1"]
    assert main([*run, *small, "--states", "20", "--branches", "1"]) == 1
    assert "branches should be at least 2" in capsys.readouterr().err
    assert main([*run, *small, "--states", "20", "--branches", "3", "--branch-steps", "5"]) == 0


def test_branch_steps_are_counted():
    learner = Learner(SMALL)
    records = [learner.iterate() for _ in range(2)]
    learner.close()
    assert all(0 < record["branch_steps"] <= 50 * 4 * 10 for record in records)
    assert records[1]["steps"] == sum(1040 + record["branch_steps"] for record in records)


def test_it_learns_to_circle():
    """Seven small updates, three seeds: the return rises far above what chance does."""
    vine = VineSettings(states=100, branches=4, branch_steps=20)
    for seed in range(3):
        settings = dataclasses.replace(SMALL, seed=seed, batch=1300, own=vine, critic_steps=30)
        learner = Learner(settings)
        returns = [learner.iterate()["return"] for _ in range(7)]
        learner.close()
        assert np.mean(returns[-2:]) > returns[0] + 25.0


def test_shards_have_no_one_batch_to_branch_from():
    with pytest.raises(TrainingError, match="trpo-vine branches from the states of one batch"):
        Learner(dataclasses.replace(SMALL, shards=2))
