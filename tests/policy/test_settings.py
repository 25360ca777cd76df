"""Settings: presets, limits for any number of costs, and what is refused."""

import dataclasses
import itertools
import json

import pytest

from holdfast.errors import ConfigError, TrainingError
from holdfast.policy.algorithms import ALGORITHMS
from holdfast.policy.algorithms.cpo import CPOSettings
from holdfast.policy.algorithms.lagrangian import MultiplierSettings
from holdfast.policy.algorithms.off_policy import OffPolicySettings
from holdfast.policy.algorithms.penalty import TRPOPenaltySettings
from holdfast.policy.algorithms.ppo import PPOSettings
from holdfast.policy.algorithms.ppo_kl import PPOKLSettings
from holdfast.policy.algorithms.trpo_vine import VineSettings
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import TrainSettings, contract_of, defaults, settings_from
from holdfast.policy.learn.shaping import ShapingSettings
from holdfast.policy.optimise.trust_region import StepSettings
from holdfast.sim.registry import resolve

POINT = TrainSettings(task=resolve("PointCircle-v0"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"iterations": 0}, "iterations should be at least 1, received 0"),
        ({"episodes": 0}, "episodes should be at least 1"),
        ({"seed": -1}, r"seed should be in \[0, "),
        ({"seed": 2**64}, r"seed should be in \[0, "),  # no generator of PyTorch takes it
        ({"limit": (-1.0,)}, "limit should be at least 0"),
        ({"limit": (float("nan"),)}, "limit should be a finite number"),
        ({"initial_std": 0.0}, "initial_std should be above 0"),
        ({"gamma": 1.5}, r"gamma should be in \[0, 1\], received 1.5"),
        ({"hidden": (64, 0)}, r"hidden should be in \[1, 4096\], received 0"),
        ({"hidden": (64, 5000)}, r"in \[1, 4096\], received 5000"),  # what no bundle holds
        ({"algorithm": "sac"}, "algorithm should be one of cpo, pcpo, .* received 'sac'"),
        ({"preset": "mine"}, "preset should be one of holdfast, paper, received 'mine'"),
        ({"physics": "bullet"}, "physics should be one of mujoco, warp, received 'bullet'"),
    ],
)
def test_bad_settings_are_refused(change, sentence):
    with pytest.raises(TrainingError, match=sentence):
        dataclasses.replace(POINT, **change)


@pytest.mark.parametrize(
    ("cls", "change", "sentence"),
    [
        (StepSettings, {"delta": 0.0}, "delta should be above 0"),
        (StepSettings, {"damping": -0.1}, "damping should be at least 0"),
        (StepSettings, {"fisher_rows": 0}, "fisher_rows should be at least 1"),
        (CPOSettings, {"slack": -0.1}, "slack should be at least 0"),
        (CPOSettings, {"correction": 1.1}, "correction should be in"),
        (VineSettings, {"states": 0}, "states should be at least 1, received 0"),
        (VineSettings, {"branches": 1}, "branches should be at least 2, received 1"),
        (VineSettings, {"branch_steps": -1}, "branch_steps should be at least 0"),
        (PPOSettings, {"clip": 0.0}, "clip should be above 0"),
        (PPOSettings, {"epochs": 0}, "epochs should be at least 1"),
        (PPOKLSettings, {"kl_rate": -1.0}, "kl_rate should be at least 0"),
        (PPOKLSettings, {"kl_limit": 0.0}, "kl_limit should be above 0"),
        (TRPOPenaltySettings, {"penalty": (-1.0,)}, "penalty should be at least 0"),
        (MultiplierSettings, {"ki": -1.0}, "ki should be at least 0"),
        (OffPolicySettings, {"weights": "x"}, "weights should be one of trajectory, per-decision"),
        (OffPolicySettings, {"wide": "x"}, "wide should be one of refuse, clip, received 'x'"),
        (OffPolicySettings, {"max_weight": 0.0}, "max_weight should be above 0"),
        (OffPolicySettings, {"refresh": 0}, "refresh should be at least 1"),
        (ShapingSettings, {"horizon": -1}, "horizon should be at least 0"),
    ],
)
def test_bad_settings_of_one_algorithm_are_refused(cls, change, sentence):
    with pytest.raises(TrainingError, match=sentence):
        cls(**change)


def test_a_batch_is_whole_episodes_of_copies():
    contract = contract_of(POINT)  # 65 steps
    assert dataclasses.replace(POINT, batch=65).copies(contract) == 1
    assert dataclasses.replace(POINT, batch=66).copies(contract) == 2
    assert dataclasses.replace(POINT, batch=6500, episodes=2).copies(contract) == 50
    with pytest.raises(TrainingError, match=r"batch should be at least an episode of .*, 65 steps"):
        dataclasses.replace(POINT, batch=64).copies(contract)


@pytest.mark.parametrize(("limit", "budget"), [((), 15.0), ((2.0,), 6.0), ((0.0,), 1.0)])
def test_the_episode_cap_follows_the_limit(limit, budget):
    (cost,) = contract_of(dataclasses.replace(POINT, limit=limit)).costs
    assert cost.limit == (limit[0] if limit else 5.0)
    assert cost.episode_cap == budget


def test_each_cost_has_its_limit(two_costs):
    """The second's hard stop was at twice its limit of 20, and stays there in proportion."""
    settings = TrainSettings(task=two_costs, limit=(1.0, 2.0))
    near, far = contract_of(settings).costs
    assert (near.limit, far.limit) == (1.0, 2.0)
    assert (near.episode_cap, far.episode_cap) == (3.0, 4.0)
    for limit in ((1.0,), (1.0, 2.0, 3.0)):
        with pytest.raises(
            TrainingError,
            match=f"limit should have a value for .* near, far; received {len(limit)}",
        ):
            contract_of(dataclasses.replace(settings, limit=limit))


def test_discounts_of_costs_are_the_task_s_unless_set():
    (own,) = resolve("PointCircle-v0").contract.costs
    (kept,) = contract_of(POINT).costs
    assert (kept.gamma, kept.lam) == (own.gamma, own.lam)
    (changed,) = contract_of(dataclasses.replace(POINT, cost_gamma=0.5, cost_lam=0.25)).costs
    assert (changed.gamma, changed.lam) == (0.5, 0.25)


def test_settings_survive_json():
    for preset, algorithm in itertools.product(("holdfast", "paper"), ALGORITHMS):
        usual = defaults(preset, resolve("PointCircle-v0"), algorithm)
        settings = dataclasses.replace(usual, limit=(3.0,))
        carried = json.loads(json.dumps(settings.to_data()))
        assert settings_from(carried) == settings


FORMAT_2 = {
    "step": {**vars(StepSettings()), "delta": 0.03},
    "cpo": {"slack": 0.2, "correction": 0.3},
    "vine": {"states": 9, "branches": 3, "branch_steps": 2},
    "ppo": {**vars(PPOSettings()), "clip": 0.4, "kl_rate": 0.7},
    "multiplier": vars(MultiplierSettings(ki=0.5)),
    "penalty": [2.0],
    "off_policy": vars(OffPolicySettings()),
}
"""What a checkpoint of format 2 held of every algorithm's settings."""


LATER = ("pcpo", "focops", "off-policy")
"""Algorithms that format 2 did not have, or whose settings it does not give."""


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name not in LATER])
def test_settings_of_an_earlier_checkpoint_are_converted(algorithm):
    shared = json.loads(json.dumps(POINT.to_data()))
    del shared["own"], shared["physics"]  # the first of them had no choice of physics
    settings = settings_from({**shared, **FORMAT_2, "algorithm": algorithm})
    assert settings.physics == "mujoco"
    own = settings.own
    held = {"step": StepSettings(delta=0.03), "multiplier": MultiplierSettings(ki=0.5)}
    held |= {"penalty": (2.0,), **FORMAT_2["cpo"], **FORMAT_2["vine"], **FORMAT_2["ppo"]}
    assert vars(own) == {name: held[name] for name in vars(own)}
    assert len(vars(own)) > 0


def test_an_off_policy_run_of_an_earlier_checkpoint_is_refused():
    shared = json.loads(json.dumps(POINT.to_data()))
    del shared["own"]
    with pytest.raises(TrainingError, match="off-policy run of checkpoint format 2 cannot"):
        settings_from({**shared, **FORMAT_2, "algorithm": "off-policy"})


def test_the_paper_s_settings_for_the_point():
    settings = defaults("paper", resolve("PointCircle-v0"))
    assert (settings.gamma, settings.lam, settings.own.step.delta) == (0.995, 0.95, 0.01)
    assert (settings.hidden, settings.batch) == ((64, 32), 50_000)
    assert (settings.cost_gamma, settings.cost_lam) == (0.995, 1.0)
    shaping = settings.shaping
    assert (shaping.horizon, shaping.predictor_steps, shaping.shaping) == (5, 25, 1.0)
    assert shaping.predictor_hidden == 32
    assert settings.own == CPOSettings(StepSettings(delta=0.01), slack=0.0, correction=0.0)


@pytest.mark.parametrize(
    ("task", "batch", "lam", "shaping"),
    [
        ("AntCircle-v0", 100_000, 0.5, (20, 25, 1.0)),
        ("AntGather-v0", 100_000, 0.5, (20, 10, 0.01)),
        ("HumanoidCircle-v0", 50_000, 0.5, (20, 25, 1.0)),
    ],
)
def test_the_paper_s_settings_for_legged_robots(task, batch, lam, shaping):
    settings = defaults("paper", resolve(task))
    assert (settings.batch, settings.cost_lam) == (batch, lam)
    s = settings.shaping
    assert (s.horizon, s.predictor_steps, s.shaping) == shaping


def test_the_paper_s_point_gather_has_no_failure_predictor():
    assert defaults("paper", resolve("PointGather-v0")).shaping.horizon == 0


def test_unknown_task_is_refused():
    with pytest.raises(ConfigError, match="task should be one of holdfast/PointCircle-v0"):
        resolve("DriveCircle-v9")


@pytest.mark.parametrize("name", ["AntCircle-v0", "HumanoidCircle-v0"])
def test_a_legged_robot_begins_with_actions_that_throw_it_over_later(name):
    usual = defaults("holdfast", resolve(name), "trpo")
    steps = []
    for std in (usual.initial_std, POINT.initial_std):
        learner = Learner(dataclasses.replace(usual, batch=5000, initial_std=std))
        steps.append(learner.iterate()["episode_steps"])
        learner.close()
    assert steps[0] > 1.2 * steps[1]
