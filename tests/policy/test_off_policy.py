"""Learning from another policy's trajectories: unbiased, and told how far it may be believed."""

import contextlib
import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from holdfast.cli import main
from holdfast.errors import TrainingError
from holdfast.policy.algorithms.algorithm import BatchEstimate
from holdfast.policy.algorithms.off_policy import OffPolicy, OffPolicySettings, Trajectories, weigh
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import TrainSettings
from holdfast.policy.models import checkpoint
from holdfast.policy.models.gaussian import GaussianPolicy
from holdfast.policy.sampling.samples import surrogate_gradients
from holdfast.policy.ship.evaluate import evaluate
from holdfast.policy.train import CHECKPOINT, PROGRESS
from holdfast.sim.registry import resolve
from tests.helpers.data.behaviour import setup_of

SMALL = TrainSettings(
    task=resolve("PointCircle-v0"), algorithm="off-policy", seed=3, batch=1300, critic_steps=5
)
ESTIMATE = BatchEstimate(np.array([0.0]), np.array([1.0]), 3.0, reward_scale=1.0)

# Weights by hand: copy 0 is an episode of two steps and one that is cut off after one; copy 1
# is one of three.
RATIO = np.array([[2.0, 0.5], [3.0, 0.5], [5.0, 8.0]])
LAST = np.array([[False, False], [True, False], [True, True]])


@pytest.mark.parametrize(
    ("kind", "by_step", "separate"),
    [
        ("trajectory", [[6.0, 2.0], [6.0, 2.0], [5.0, 2.0]], [6.0, 5.0, 2.0]),
        ("per-decision", [[2.0, 0.5], [6.0, 0.25], [5.0, 2.0]], [2.0, 0.5, 6.0, 0.25, 5.0, 2.0]),
        ("surrogate", RATIO, RATIO.ravel()),
    ],
)
def test_weights_and_their_effective_sample_size_by_hand(kind, by_step, separate):
    found = weigh(kind, np.log(RATIO), LAST)
    np.testing.assert_allclose(found.by_step, by_step)
    assert found.count == len(separate)
    assert found.effective == pytest.approx(np.sum(separate) ** 2 / np.sum(np.square(separate)))
    assert found.clipped == 0


def test_clipped_weights_are_counted():
    found = weigh("trajectory", np.log(RATIO), LAST, largest=4.0)
    np.testing.assert_allclose(found.by_step, [[4.0, 2.0], [4.0, 2.0], [4.0, 2.0]])
    assert (found.clipped, found.count) == (2, 3)
    assert found.effective == pytest.approx(10.0**2 / 36.0)


def test_weights_beyond_floats_still_have_an_effective_sample_size():
    log_ratio = np.full((500, 4), 3.0)
    log_ratio[0, 0] += math.log(2.0)
    last = np.zeros((500, 4), dtype=bool)
    last[-1] = True
    assert weigh("trajectory", log_ratio, last).effective == pytest.approx(5.0**2 / 7.0)


# Three steps, always at the same observation, r_t = (a_0 + ... + a_t)². With a ~ N(m, σ²):
# J = Σ_t (t + 1) σ² + (t + 1)² m², so ∂J/∂m = 28 m and ∂J/∂log σ = 12 σ²; m = tanh(b).
STEPS = 3


def one_armed(mean, std):
    policy = GaussianPolicy(1, 1, (), std, torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        policy.body[0].weight.zero_()
        policy.body[0].bias.fill_(math.atanh(mean))
    return policy


BEHAVIOUR, TARGET = one_armed(0.1, 0.6), one_armed(0.3, 0.5)
TRUE = np.array([12.0 * 0.5**2, 28.0 * 0.3 * (1.0 - 0.3**2)])  # by log σ, by b


def trajectories(policy, episodes, generator, ended=True):
    """Episodes of a policy, t-major; a baseline that knows the time, for it must not matter."""
    x = torch.ones(STEPS * episodes, 1).double()
    mean = policy.means(x).detach()
    std = torch.exp(policy.log_std.detach())
    u = mean + std * torch.randn(mean.shape, generator=generator).double()
    reward = np.cumsum(u.numpy().reshape(STEPS, episodes), axis=0) ** 2
    over = np.zeros((STEPS, episodes), dtype=bool)
    over[-1] = ended
    advantages = torch.from_numpy(reward.reshape(-1, 1)).repeat(1, 2)
    log_prob = policy.log_prob(mean, u).detach()
    return Trajectories(
        x,
        u,
        log_prob,
        advantages,
        torch.ones(len(x)).double(),
        reward=reward,
        value=np.full((STEPS, episodes), [[3.0], [2.0], [1.0]]),
        following=np.zeros((STEPS, episodes)),
        ended=over,
        gamma=1.0,
    )


def algorithm(policy, **own):
    return OffPolicy(setup_of(policy, seed=0), OffPolicySettings(**own))


def estimates(policy, behaviour, batches=50, episodes=2000, **own):
    """Return the gradient of J by log σ and b, estimated from each of several batches."""
    generator, learner = torch.Generator().manual_seed(7), algorithm(policy, **own)
    found = []
    for _ in range(batches):
        batch = trajectories(behaviour, episodes, generator)
        ascent = learner.ascent(batch, learner.weights(batch, policy.means(batch.x)))
        found.append((STEPS * ascent).numpy()[[0, 2]])
    return np.array(found)


@pytest.mark.parametrize("weights", ["trajectory", "per-decision"])
def test_the_weighted_gradient_is_unbiased(weights):
    """Within three standard errors of the known gradient, which is large against them; on the
    policy's own trajectories as on the behaviour policy's."""
    for behaviour in (BEHAVIOUR, TARGET):
        found = estimates(TARGET, behaviour, weights=weights)
        error = found.std(axis=0, ddof=1) / math.sqrt(len(found))
        assert (error < 0.03 * TRUE).all()
        assert (np.abs(found.mean(axis=0) - TRUE) < 3.0 * error).all()


def test_ratios_of_later_actions_left_out_are_variance_left_out():
    """Where only the first step is paid, what is done after it is noise in a product of ratios."""
    generator, found = torch.Generator().manual_seed(8), {"trajectory": [], "per-decision": []}
    for _ in range(100):
        batch = trajectories(one_armed(-0.1, 0.6), 400, generator)
        nothing = np.zeros_like(batch.reward)
        first = np.concatenate((batch.reward[:1], nothing[1:]))
        batch = dataclasses.replace(batch, reward=first, value=nothing)
        for weights, rows in found.items():
            learner = algorithm(TARGET, weights=weights)
            ascent = learner.ascent(batch, learner.weights(batch, TARGET.means(batch.x)))
            rows.append(ascent.numpy()[[0, 2]])
    spread = {weights: np.var(rows, axis=0) for weights, rows in found.items()}
    assert (spread["per-decision"] < 0.75 * spread["trajectory"]).all()


def test_a_single_ratio_is_biased_and_steady():
    """It does not know that the target goes elsewhere."""
    found = {name: estimates(TARGET, BEHAVIOUR, batches=20, weights=name)
             for name in ("per-decision", "surrogate")}  # fmt: skip
    assert (found["surrogate"].var(axis=0) < 0.5 * found["per-decision"].var(axis=0)).all()
    assert (np.abs(found["surrogate"].mean(axis=0) - TRUE) > 0.3 * TRUE).all()


def test_the_surrogate_s_gradient_is_that_of_the_importance_ratio():
    batch = trajectories(BEHAVIOUR, 800, torch.Generator().manual_seed(1))
    learner = algorithm(TARGET, weights="surrogate")
    found = learner.ascent(batch, learner.weights(batch, TARGET.means(batch.x)))
    torch.testing.assert_close(found, surrogate_gradients(TARGET, batch, 1)[1][0])


def test_where_a_trajectory_is_cut_off_the_critic_says_the_rest():
    """One copy, γ = ½: w = (2, 6, 30), and 8 still to come after the last step."""
    one = trajectories(BEHAVIOUR, 1, torch.Generator().manual_seed(1), ended=False)
    one = dataclasses.replace(
        one, reward=np.array([[1.0], [2.0], [3.0]]), following=np.full((3, 1), 8.0), gamma=0.5
    )
    w = np.array([[2.0], [6.0], [30.0]])
    last = 30.0 * (3.0 + 0.5 * 8.0)
    to_go = [2.0 * 1.0 + 0.5 * (6.0 * 2.0 + 0.5 * last), 6.0 * 2.0 + 0.5 * last, last]
    expected = np.array(to_go) - w[:, 0] * [3.0, 2.0, 1.0]
    found = algorithm(TARGET, weights="per-decision")._factor(one, w)
    np.testing.assert_allclose(found[:, 0], expected)


# What is told of wide weights.

FAR = one_armed(0.9, 0.2)


def test_wide_weights_are_refused_and_change_nothing():
    batch = trajectories(BEHAVIOUR, 400, torch.Generator().manual_seed(1))
    policy = one_armed(0.9, 0.2)
    report = algorithm(policy, weights="trajectory", min_share=0.2).update(batch, ESTIMATE)
    assert report.accepted is None
    assert "weights are too wide: an effective sample size of" in report.reason
    assert report.more["effective_share"] < 0.2
    for a, b in zip(policy.parameters(), FAR.parameters(), strict=True):
        assert torch.equal(a, b)


def test_they_are_an_error_where_the_behaviour_policy_will_not_change():
    batch = trajectories(BEHAVIOUR, 400, torch.Generator().manual_seed(1))
    learner = algorithm(one_armed(0.9, 0.2), weights="trajectory")
    learner.own = dataclasses.replace(learner.own, behaviour="b")
    with pytest.raises(
        TrainingError, match=r"behaviour b: weights are too wide: .* of 400, .* or --wide clip"
    ):
        learner.update(batch, ESTIMATE)


def test_clipped_they_are_used_and_told():
    batch = trajectories(BEHAVIOUR, 400, torch.Generator().manual_seed(1))
    learner = algorithm(one_armed(0.9, 0.2), weights="trajectory", wide="clip", max_weight=2.0)
    report = learner.update(batch, ESTIMATE)
    assert (report.accepted, report.more["gradient_steps"]) == (0, 1.0)
    assert 0 < report.more["clipped"] < 400


def test_steps_end_where_weights_become_too_wide():
    batch = trajectories(BEHAVIOUR, 400, torch.Generator().manual_seed(1))
    policy = one_armed(0.1, 0.6)
    learner = algorithm(policy, gradient_steps=500, gradient_rate=0.01, min_share=0.5)
    report = learner.update(batch, ESTIMATE)
    assert 5 < report.more["gradient_steps"] < 500
    assert 0.5 <= report.more["effective_share"] < 0.6
    assert learner.weights(batch, policy.means(batch.x)).share < 0.5
    assert report.more["weighted_return"] == pytest.approx(batch.reward.sum() / 400)


def test_the_behaviour_policy_is_the_learner_s_of_some_iterations_before():
    own = OffPolicySettings(refresh=3, weights="surrogate")
    learner = Learner(dataclasses.replace(SMALL, own=own))
    ages = []
    for _ in range(5):
        learner.iterate()
        ages.append(learner.algorithm.behaviour.age)
    assert ages == [1, 2, 0, 1, 2]
    before = learner.algorithm.behaviour.policy.log_std.clone()
    assert not torch.equal(before, learner.policy.log_std)
    learner.iterate()
    assert torch.equal(learner.algorithm.behaviour.policy.log_std, learner.policy.log_std)
    learner.close()


def test_refused_weights_renew_it():
    """At the start the observations' scale is unknown, and then suddenly known: 65 ratios are
    far from 1. The next batch is the policy's own."""
    own = OffPolicySettings(weights="trajectory", min_share=0.9)
    learner = Learner(dataclasses.replace(SMALL, own=own))
    first, second = learner.iterate(), learner.iterate()
    learner.close()
    assert (first["case"], second["case"]) == ("rejected", "trajectory")


# From a checkpoint.


@pytest.fixture(scope="module")
def older(tmp_path_factory):
    """The checkpoint of a policy that has learned a little."""
    path = tmp_path_factory.mktemp("older") / CHECKPOINT
    settings = TrainSettings(task=resolve("PointCircle-v0"), algorithm="trpo", seed=5, batch=2600)
    learner = Learner(dataclasses.replace(settings, critic_steps=40))
    for _ in range(6):
        learner.iterate()
    learner.save(path)
    learner.close()
    return path


def stripped(record):
    return {k: v for k, v in record.items() if k not in ("seconds", "steps_per_s")}


def test_it_starts_from_the_behaviour_policy_and_resumes_without_it(older, tmp_path):
    copied = tmp_path / "older.safetensors"
    copied.write_bytes(older.read_bytes())
    own = OffPolicySettings(behaviour=str(copied), weights="surrogate", min_share=0.01)
    settings = dataclasses.replace(SMALL, own=own)
    whole, half = Learner(settings), Learner(settings)
    held = checkpoint.load_networks(older)[0].policy.log_std
    assert torch.equal(whole.policy.log_std, held)
    records = [stripped(whole.iterate()) for _ in range(4)]
    assert torch.equal(whole.algorithm.behaviour.policy.log_std, held)
    assert not torch.equal(whole.policy.log_std, held)
    for _ in range(2):
        half.iterate()
    half.save(tmp_path / CHECKPOINT)
    copied.unlink()
    resumed = Learner.load(tmp_path / CHECKPOINT)
    assert [stripped(resumed.iterate()) for _ in range(2)] == records[2:]
    for learner in (whole, half, resumed):
        learner.close()


RUN = ["train", "--algorithm", "off-policy", "--batch", "1300", "--critic-steps", "5"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--task", "PointGather-v0"], "is of holdfast/PointCircle-v0, not of holdfast/PointGat"),
        (["--hidden", "8", "--task", "PointCircle-v0"], "give --hidden 64 64"),
        (["--task", "PointCircle-v0", "--min-share", "2"], "min_share should be in"),
    ],
)
def test_what_does_not_fit_is_one_sentence(older, tmp_path, capsys, options, sentence):
    out = tmp_path / "run"
    assert main([*RUN, "--behaviour", str(older), "--out", str(out), *options]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert sentence in err
    assert not out.exists()


def test_a_run_that_is_refused_keeps_what_it_learned(older, tmp_path, capsys):
    """Long strides from a policy that stays: soon the weights are too wide."""
    strides = ["--weights", "trajectory", "--gradient-rate", "0.03", "--iterations", "9"]
    run = [*RUN, "--task", "PointCircle-v0", "--behaviour", str(older), "--out", str(tmp_path)]
    assert main([*run, *strides]) == 1
    err = capsys.readouterr().err
    assert "weights are too wide" in err
    done = [json.loads(line)["iteration"] for line in (tmp_path / PROGRESS).open()]
    _, data = checkpoint.load(tmp_path / CHECKPOINT)
    assert 1 <= data["iteration"] == done[-1] < 9


def test_missing_behaviour_is_refused(tmp_path):
    own = OffPolicySettings(behaviour=str(tmp_path / "none"))
    with pytest.raises(TrainingError, match="No such file"):
        Learner(dataclasses.replace(SMALL, own=own))


def test_it_learns_from_another_policy_s_batches(older):
    """Three seeds, two batches each at most: far better than the policy that made them, by
    episodes of its own."""
    behaviour = evaluate(checkpoint.load_networks(older)[0], SMALL, 200, seed=9).summary()["return"]
    for seed in range(3):
        own = OffPolicySettings(behaviour=str(older))
        learner = Learner(dataclasses.replace(SMALL, seed=seed, batch=6500, own=own))
        with contextlib.suppress(TrainingError):  # its weights are too wide: far enough
            for _ in range(2):
                learner.iterate()
        learned = evaluate(learner.networks, SMALL, 200, seed=9).summary()["return"]
        learner.close()
        assert learned["low"] > behaviour["high"] + 10.0
