"""Each algorithm: its formula by hand, that it goes on exactly, that it learns."""

import copy
import dataclasses
import re

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector

from holdfast.cli import main
from holdfast.errors import TrainingError
from holdfast.policy.algorithms import ALGORITHMS
from holdfast.policy.algorithms.algorithm import BatchEstimate
from holdfast.policy.algorithms.lagrangian import Lagrangian, Multiplier, MultiplierSettings
from holdfast.policy.algorithms.off_policy import OffPolicy, Trajectories
from holdfast.policy.algorithms.penalty import FixedPenalty
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import TrainSettings
from holdfast.policy.learn.shaping import ShapingSettings
from holdfast.policy.models import checkpoint
from holdfast.policy.models.gaussian import GaussianPolicy, kl
from holdfast.policy.sampling.samples import Samples, surrogates
from holdfast.sim.registry import resolve
from tests.helpers.data.behaviour import behave, setup_of

NAMES = tuple(ALGORITHMS)
ESTIMATE = BatchEstimate(np.array([12.0]), np.array([10.0]), 100.0, reward_scale=2.0)


PENALTIES = [name for name, kind in ALGORITHMS.items() if issubclass(kind, FixedPenalty)]
PRIMAL_DUAL = [name for name, kind in ALGORITHMS.items() if issubclass(kind, Lagrangian)]
OWN = {"trpo-vine": {"states": 50, "branch_steps": 10}} | {
    name: {"penalty": (3.0,)} for name in PENALTIES
}
"""Settings of one algorithm's own that the tests give it."""


STEP = {"cpo", "pcpo", "trpo", "trpo-vine", "pdo", "trpo-penalty"}
READERS = {
    "delta": STEP,
    "fisher-rows": STEP,
    "slack": {"cpo"},
    "correction": {"cpo", "pcpo"},
    "projection": {"pcpo"},
    "temperature": {"focops"},
    "branches": {"trpo-vine"},
    "clip": {"ppo", "ppo-lagrangian", "ppo-penalty"},
    "epochs": {"ppo", "ppo-kl", "ppo-lagrangian", "ppo-penalty", "focops"},
    "kl-rate": {"ppo-kl"},
    "ki": {"pdo", "ppo-lagrangian"},
    "penalty": {"trpo-penalty", "ppo-penalty"},
    "behaviour": {"off-policy"},
}
"""Options, and the algorithms that read them."""


def own_of(name, **own):
    return ALGORITHMS[name].Settings(**{**OWN.get(name, {}), **own})


def settings_of(name, own=None, **changes):
    fields = {"task": resolve("PointCircle-v0"), "seed": 3, **changes}
    return TrainSettings(algorithm=name, own=own_of(name, **(own or {})), **fields)


@pytest.fixture
def samples(policy):
    """Reward for a large first action; cost for a large second one and some of the first."""
    x, u, deviation, log_prob = behave(policy, 4000, torch.Generator().manual_seed(1))
    advantages = deviation @ torch.tensor([[2.0, 0.5], [0.0, 1.0]], dtype=torch.float64)
    return Samples(x, u, log_prob, advantages, torch.ones(4000, dtype=torch.float64))


def episodes_of(samples):
    """The same as episodes of one step each."""
    reward, nothing = samples.advantages[None, :, 0].numpy(), np.zeros((1, len(samples)))
    ended = np.ones((1, len(samples)), dtype=bool)
    return Trajectories(
        **vars(samples), reward=reward, value=nothing, following=nothing, ended=ended, gamma=1.0
    )


def made(name, policy, **own):
    """Return an algorithm of a policy; no rollout is made."""
    return ALGORITHMS[name](setup_of(policy, seed=2), own_of(name, **own))


def changed(policy, samples, algorithm, estimate=ESTIMATE):
    """Update; return the report, the change of both surrogates, and the KL."""
    before, mean = surrogates(policy, samples)
    log_std = policy.log_std.detach().clone()
    if isinstance(algorithm, OffPolicy):
        samples = episodes_of(samples)
    report = algorithm.update(samples, estimate)
    after, new_mean = surrogates(policy, samples)
    divergence = float(kl(mean, log_std, new_mean, policy.log_std.detach()))
    return report, *(after - before).tolist(), divergence


# What all do.


@pytest.mark.parametrize("name", NAMES)
def test_help_shows_what_the_algorithm_reads_and_nothing_else(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--algorithm", name, "--help"])
    shown = set(re.findall(r"^\W*--([\w-]+)", capsys.readouterr().out, flags=re.MULTILINE))
    read = {option for option, readers in READERS.items() if name in readers}
    assert shown & set(READERS) == read


def test_an_option_of_another_algorithm_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["train", "--algorithm", "trpo", "--slack", "0.3"])
    assert "--slack" in capsys.readouterr().err


def test_settings_of_another_algorithm_are_refused():
    with pytest.raises(TrainingError, match="own should be PPOSettings for ppo, received CPOSe"):
        TrainSettings(algorithm="ppo", own=own_of("cpo"))


@pytest.mark.parametrize("name", NAMES)
def test_an_update_improves_what_it_pursues(policy, samples, name):
    """Far below its limit, and at the penalty's price, that is the reward."""
    far = dataclasses.replace(ESTIMATE, cost=np.array([-1e4]))
    estimate = ESTIMATE if name in PENALTIES else far
    price = np.array([1.5, 0.0]) if name in PENALTIES else np.zeros(2)  # 3.0 / reward_scale
    report, gain, rise, divergence = changed(policy, samples, made(name, policy), estimate)
    assert gain - price[0] * rise > 0.05
    assert 0.0 < divergence < 0.1
    assert report.kl == pytest.approx(divergence)
    assert report.accepted is not None
    assert len(report.nu) == len(report.cost_change) == 1


@pytest.mark.parametrize("name", NAMES)
def test_nan_in_the_batch_changes_nothing(policy, samples, name):
    before = parameters_to_vector(policy.parameters()).detach().clone()
    for field in ("advantages", "log_prob", "x"):
        values = getattr(samples, field).clone()
        values.view(-1)[0] = float("nan")
        report, *_ = changed(
            policy, dataclasses.replace(samples, **{field: values}), made(name, policy)
        )
        assert report.accepted is None
        assert "finite" in report.reason
        assert torch.equal(parameters_to_vector(policy.parameters()), before)


def stripped(record):
    return {k: v for k, v in record.items() if k not in ("seconds", "steps_per_s")}


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_goes_on_bit_for_bit(tmp_path, name):
    """With a predictor, so that all that can be fitted is; what is saved says it all."""
    shaping = ShapingSettings(horizon=4, predictor_steps=3)
    settings = settings_of(name, batch=1040, critic_steps=5, shaping=shaping)
    whole, half = Learner(settings), Learner(settings)
    records = [whole.iterate() for _ in range(4)]
    for _ in range(2):
        half.iterate()
    half.save(tmp_path / "c.safetensors")
    resumed = Learner.load(tmp_path / "c.safetensors")
    rest = [resumed.iterate() for _ in range(2)]
    assert [stripped(r) for r in rest] == [stripped(r) for r in records[2:]]
    saved = []
    for learner in (whole, resumed):
        learner.save(tmp_path / "again")
        saved.append(checkpoint.load(tmp_path / "again"))
    assert saved[0][1] == saved[1][1]
    assert saved[0][0].keys() == saved[1][0].keys()
    for key, value in saved[0][0].items():
        assert torch.equal(saved[1][0][key], value), key
    for learner in (whole, half, resumed):
        learner.close()


@pytest.mark.parametrize("name", NAMES)
def test_two_costs(two_costs, name):
    """Every algorithm takes a task with two costs, and reports both by name."""
    own = {"penalty": (1.0, 2.0)} if name in PENALTIES else {}
    settings = settings_of(name, own, task=two_costs, batch=1300, critic_steps=3)
    learner = Learner(settings)
    record = learner.iterate()
    learner.close()
    for key in ("costs", "cost_spread", "nu", "cost_change"):
        assert list(record[key]) == ["near", "far"], key
    assert set(record["explained_variance"]["costs_to_go"]) == {"near", "far"}


# Each of them.


def test_trpo_is_the_natural_gradient_by_hand():
    """One weight and one observation: mean = tanh(wx + b). The step is √(2δ/gᵀF⁻¹g) F⁻¹g."""
    policy = GaussianPolicy(1, 1, (), 1.0, torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        policy.body[0].weight.fill_(0.0)
    x, u = torch.ones(2, 1).double(), torch.tensor([[1.0], [-1.0]]).double()
    log_prob = policy.log_prob(policy(x), u).detach()
    advantages = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).double()
    batch = Samples(x, u, log_prob, advantages, torch.ones(2).double())
    made("trpo", policy).update(batch, ESTIMATE)
    # g = E[A z] (1, 1) = (1, 1) for weight and bias, 0 for log σ: E[A(z² − 1)] = 0.
    # F = [[1, 1], [1, 1]], damped by 0.1: F⁻¹g = g/2.1, gᵀF⁻¹g = 2/2.1.
    factor = (2.0 * 0.02 / (2.0 / 2.1)) ** 0.5 / 2.1
    found = torch.cat((policy.body[0].weight[0], policy.body[0].bias)).tolist()
    assert found == pytest.approx([factor, factor], rel=1e-6)
    assert float(policy.log_std.detach()) == pytest.approx(0.0, abs=1e-9)


def test_ppo_s_gradient_is_that_of_the_clipped_surrogate(policy, samples):
    """Away from the behaviour policy, so that some ratios are clipped, on either side."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).double())
    algorithm = made("ppo", policy)
    found = algorithm.ascent(samples, torch.zeros(0), torch.zeros(0))
    ratio = torch.exp(policy.log_prob(policy(samples.x), samples.u) - samples.log_prob)
    clipped = ratio.clamp(0.8, 1.2)
    share = float((ratio != clipped).double().mean())
    assert 0.1 < share < 0.9
    advantage = samples.advantages[:, 0]
    objective = torch.minimum(ratio * advantage, clipped * advantage).mean()
    parts = torch.autograd.grad(objective, list(policy.parameters()))
    torch.testing.assert_close(found, parameters_to_vector(parts))


def test_ppo_stops_when_it_has_gone_far_enough(policy, samples):
    near = made("ppo", policy, kl_limit=1e-9)
    report, *_ = changed(policy, samples, near)
    assert report.more["epochs"] == 1


def test_ppo_kl_s_gradient_is_that_of_the_penalised_surrogate(policy, samples):
    old_mean, old_log_std = policy(samples.x).detach() + 0.1, policy.log_std.detach() - 0.2
    algorithm = made("ppo-kl", policy)
    algorithm.lam = 2.5
    found = algorithm.ascent(samples, old_mean, old_log_std)
    mean = policy(samples.x)
    ratio = torch.exp(policy.log_prob(mean, samples.u) - samples.log_prob)
    objective = (ratio * samples.advantages[:, 0]).mean()
    objective = objective - 2.5 * kl(old_mean, old_log_std, mean, policy.log_std)
    parts = torch.autograd.grad(objective, list(policy.parameters()))
    torch.testing.assert_close(found, parameters_to_vector(parts))


def test_ppo_kl_s_multiplier_descends_on_the_dual(policy, samples):
    algorithm = made("ppo-kl", policy, kl_limit=0.01, kl_rate=0.5)
    report, _, _, divergence = changed(policy, samples, algorithm)
    assert report.lam == 1.0
    assert algorithm.lam == pytest.approx(max(0.0, 1.0 + 0.5 * (divergence / 0.01 - 1.0)))


def test_ppo_kl_keeps_to_its_limit(policy, samples):
    """Over batch after batch of a reward that goes on, the multiplier finds what keeps KL at δ."""
    algorithm = made("ppo-kl", policy, kl_limit=0.01, kl_rate=0.2)
    divergences = []
    for _ in range(40):
        mean, std = policy.means(samples.x), torch.exp(policy.log_std.detach())
        u = mean + std * torch.randn(mean.shape, generator=algorithm.generator).double()
        score = (u - mean) / std
        fresh = Samples(
            samples.x, u, policy.log_prob(mean, u).detach(), score, torch.ones(4000).double()
        )
        divergences.append(changed(policy, fresh, algorithm)[-1])
    assert 0.005 < np.mean(divergences[-10:]) < 0.015


def test_multiplier_by_hand():
    multiplier = Multiplier(MultiplierSettings(kp=0.5, ki=0.1, kd=2.0), 2)
    # Δ = (1, −1): I = (1, 0); no rise yet.
    np.testing.assert_allclose(multiplier.follow(np.array([1.0, -1.0])), [0.5 + 0.1, 0.0])
    # Δ = (2, 1): I = (3, 1), rises by (1, 2).
    found = multiplier.follow(np.array([2.0, 1.0]))
    np.testing.assert_allclose(found, [1.0 + 0.3 + 2.0, 0.5 + 0.1 + 4.0])
    # Δ = (−2, 0): I = (1, 1), no rise: −1 + 0.1 is not below 0.
    np.testing.assert_allclose(multiplier.follow(np.array([-2.0, 0.0])), [0.0, 0.1])


@pytest.mark.parametrize("name", PRIMAL_DUAL)
def test_a_primal_dual_update_trades_reward_for_cost(policy, samples, name):
    """At ten times the limit, a cost of d weighs K_P·9 standard deviations of the advantage."""
    far = dataclasses.replace(ESTIMATE, cost=np.array([100.0]))
    twin = copy.deepcopy(policy)
    algorithm = made(name, policy, multiplier=MultiplierSettings(kp=2.0, ki=0.0, kd=0.0))
    report, gain, rise, _ = changed(policy, samples, algorithm, far)
    assert rise < -0.01
    free = made(name.replace("pdo", "trpo").split("-")[0], twin)
    assert gain < changed(twin, samples, free)[1]
    assert report.nu == (pytest.approx(2.0 * 9.0 / 10.0 * ESTIMATE.reward_scale),)


@pytest.mark.parametrize("name", PENALTIES)
def test_a_penalty_s_update_is_that_of_the_penalised_reward(policy, samples, name):
    """A_r/σ − p/σ·A_C with σ the reward scale: as its inner algorithm on that advantage."""
    twin = copy.deepcopy(policy)
    penalised = samples.advantages[:, 0] - 3.0 / 2.0 * samples.advantages[:, 1]
    report = made(name, policy).update(samples, ESTIMATE)
    made(name.split("-")[0], twin).update(samples.pursuing(penalised), ESTIMATE)
    for a, b in zip(policy.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)
    assert report.nu == (3.0,)


def test_a_penalty_needs_a_price(policy):
    with pytest.raises(TrainingError, match="penalty should have a price for each cost"):
        made("ppo-penalty", policy, penalty=())


# That they learn: short, and above what chance does.


def learned(name, iterations=12, **own):
    learner = Learner(settings_of(name, own, batch=6500, critic_steps=40))
    records = [learner.iterate() for _ in range(iterations)]
    learner.close()
    costs = [record["costs"]["outside_corridor"] for record in records]
    return [record["return"] for record in records], costs


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trpo", "ppo", "ppo-kl"])
def test_without_a_limit_it_learns_to_circle(name):
    """The return rises far above the start's, and with it the cost that nothing holds."""
    returns, costs = learned(name)
    assert np.mean(returns[-3:]) > returns[0] + 50.0
    assert costs[-1] > 30.0


@pytest.mark.slow
def test_cpo_learns_within_its_limit():
    returns, costs = learned("cpo", iterations=16)
    assert np.mean(costs[-6:]) < 1.5 * 5.0
    assert np.mean(returns[-3:]) > returns[0] + 10.0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pdo", "ppo-lagrangian"])
def test_a_multiplier_holds_the_cost_down(name):
    """Strong gains, so that a few batches show it: far less than what the reward alone costs."""
    multiplier = MultiplierSettings(kp=1.0, ki=0.2, kd=0.0)
    returns, costs = learned(name, multiplier=multiplier)
    assert np.mean(costs[-4:]) < 15.0
    assert np.mean(returns[-3:]) > returns[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trpo-penalty", "ppo-penalty"])
def test_a_high_price_is_over_conservative_and_a_low_one_too_weak(name):
    _, strict = learned(name, penalty=(100.0,))
    _, weak = learned(name, penalty=(0.01,))
    assert strict[-1] < 10.0
    assert weak[-1] > 30.0
