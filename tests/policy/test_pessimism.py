"""Pessimism in training: who sees which cost, what a checkpoint keeps, and what is refused."""

import dataclasses

import numpy as np
import pytest

from holdfast.cli import main
from holdfast.policy.improve.improve import ImproveSettings, improve
from holdfast.policy.learn.cluster import Worker, versions_here
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.pessimism import addition
from holdfast.policy.learn.settings import TrainSettings, contract_of
from holdfast.policy.models import checkpoint
from holdfast.policy.probe import unconstrained
from holdfast.policy.sampling.shards import Shard
from holdfast.policy.ship.export import checkpoint_of, export
from holdfast.policy.train import too_careful
from holdfast.sim.registry import resolve
from tests.helpers.robots.parameters import parameters

RANGES = parameters(mass=[0.5, 2.0], gain=[0.8, 1.2], delay=[0, 2])
SETTINGS = TrainSettings(
    task=resolve("PointCircle-v0"), seed=3, iterations=4, batch=1040, critic_steps=5,
    limit=(60.0,), randomise=RANGES, pessimism=2.0,
)  # fmt: skip
NAME = "outside_corridor"


def stripped(record):
    return {k: v for k, v in record.items() if k not in ("seconds", "steps_per_s")}


def test_the_limit_is_held_to_the_sum_and_the_true_cost_is_reported():
    """With a factor that no policy can meet, the step must see a broken limit: recovery."""
    mild, wild = (
        Learner(dataclasses.replace(SETTINGS, pessimism=factor)) for factor in (1e-3, 1e3)
    )
    one, other = mild.iterate(), wild.iterate()
    assert one["costs"] == other["costs"]
    assert one["return"] == other["return"]
    assert one["disagreement"] == other["disagreement"] > 0.05
    assert one["case"] != "recovery" == other["case"]
    for record, factor in ((one, 1e-3), (other, 1e3)):
        added = factor * record["disagreement"] * 60.0
        assert record["shaped_costs"][NAME] == pytest.approx(record["costs"][NAME] + added)
    mild.close()
    wild.close()


def test_the_cost_to_go_that_is_exported_is_of_the_true_cost():
    learner = Learner(SETTINGS)
    rollout = learner.collector.collect(learner.policy, learner.normaliser, 65)
    targets = []
    for factor in (0.0, 5.0):
        learner.settings = dataclasses.replace(SETTINGS, pessimism=factor)
        targets.append(learner.evaluate(rollout).estimates.target)
    np.testing.assert_array_equal(targets[0][..., [0, 2]], targets[1][..., [0, 2]])
    assert (targets[1][..., 1] > targets[0][..., 1]).all()
    learner.close()


def test_the_addition_by_hand():
    """Half a limit of 60 for a disagreement of 0.25 at each of 65 steps, by a factor of 2."""
    learner = Learner(SETTINGS)
    rollout = learner.collector.collect(learner.policy, learner.normaliser, 65)
    learner.close()
    rollout = dataclasses.replace(rollout, disagreement=np.full((65, 16), 0.25))
    added = addition(rollout, 2.0, 65)
    assert added.shape == rollout.costs.shape
    np.testing.assert_allclose(added.sum(axis=0), 30.0)
    tight = dataclasses.replace(rollout, limit=rollout.limit / 3.0)
    np.testing.assert_allclose(addition(tight, 2.0, 65).sum(axis=0), 10.0)


def test_without_a_factor_nothing_is_measured_and_nothing_drawn():
    plain = dataclasses.replace(SETTINGS, pessimism=0.0)
    assert "pessimism" not in plain.to_data()  # as before there was such a setting
    learner = Learner(plain)
    bare = plain.task.batch(16, 3, contract=learner.contract, randomise=RANGES)
    state = learner.batch.snapshot().rows
    assert state.keys() == bare.snapshot().rows.keys()
    for name, array in bare.snapshot().rows.items():
        np.testing.assert_array_equal(array, state[name])
    record = learner.iterate()
    assert not {"shaped_costs", "disagreement"} & record.keys()
    learner.close()


def test_a_run_goes_on_bit_for_bit_and_keeps_its_factor(tmp_path, capsys):
    whole, half = Learner(SETTINGS), Learner(SETTINGS)
    records = [stripped(whole.iterate()) for _ in range(4)]
    for _ in range(2):
        half.iterate()
    path = tmp_path / "checkpoint.safetensors"
    half.save(path)
    resumed = Learner.load(path)
    assert resumed.settings.pessimism == 2.0
    assert [stripped(resumed.iterate()) for _ in range(2)] == records[2:]
    for learner in (whole, half, resumed):
        learner.close()
    options = ["train", "--out", str(tmp_path), "--resume", "--pessimism", "1"]
    assert main(options) == 1
    assert "was trained with pessimism = 2.0, not 1.0" in capsys.readouterr().err


def test_a_worker_of_a_cluster_measures_as_the_learner_does():
    settings = dataclasses.replace(SETTINGS, shards=2)
    learner = Learner(settings)
    here = Shard(7, 1).run(learner.batch, learner.policy, learner.normaliser, 65)
    worker = Worker()
    worker.prepare(versions_here(), settings.to_data(), contract_of(settings).to_json())
    there = worker.run((learner.policy, learner.normaliser), 65, Shard(7, 1))
    np.testing.assert_array_equal(here.disagreement, there.disagreement)
    assert here.disagreement[5:].min() > 1e-3
    learner.close()


def test_bundles_are_measured_by_the_true_cost_and_a_child_is_trained_without(tmp_path):
    learner = Learner(SETTINGS)
    record = learner.iterate()
    learner.save(tmp_path / "state.safetensors")
    learner.close()
    parent = tmp_path / "policy.onnx"
    made = export(tmp_path / "state.safetensors", parent, episodes=20)
    assert made["measured"]["costs"][NAME]["mean"] < record["shaped_costs"][NAME]
    assert made["settings"]["pessimism"] == 2.0
    out = tmp_path / "child.onnx"
    settings = ImproveSettings(iterations=1, anew=0, rounds=0, episodes=8)
    improve(parent, parameters(mass=1.3), (), out, settings, anyway=True)
    _, data = checkpoint.load(checkpoint_of(out))
    assert "pessimism" not in data["settings"]


def test_a_probe_of_the_task_without_limits_has_no_pessimism():
    assert unconstrained(SETTINGS).pessimism == 0.0


@pytest.mark.parametrize(("disagreement", "steps", "told"), [(0.08, 65, 1), (0.08, 32, 0)])
def test_a_factor_that_leaves_nothing_of_the_limit_is_told(disagreement, steps, told):
    """25 · 0.08 is twice the limit; in episodes of half the length, less than the limit."""
    record = {"disagreement": disagreement, "episode_steps": float(steps)}
    careful = dataclasses.replace(SETTINGS, pessimism=25.0)
    found = [str(each) for each in too_careful([record], contract_of(careful), careful)]
    assert len(found) == told
    for sentence in found:
        assert "robots disagree about costs 2 times the limit d by itself" in sentence
        assert "a factor below 12 would" in sentence
    plain = dataclasses.replace(SETTINGS, pessimism=0.0)
    assert not [*too_careful([{}], contract_of(plain), plain)]


def test_the_warning_is_the_last_word_of_a_training(tmp_path, capsys):
    ranges = tmp_path / "ranges.yaml"
    ranges.write_text("mass: [0.5, 2.0]\n")
    options = ["--task", "PointCircle-v0", "--batch", "650", "--iterations", "1"]
    options += ["--critic-steps", "2", "--randomise", str(ranges), "--pessimism", "1000"]
    assert main(["train", *options, "--out", str(tmp_path / "run")]) == 0
    assert "  warning: what the randomised robots" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "pessimism needs randomised robots whose physics differ; give --randomise a file"),
        (["--algorithm", "trpo"], "trpo ignores limits; leave --pessimism out"),
        (["--limit", "0"], "pessimism adds a share of the limit; give a --limit above 0"),
        (["--pessimism", "-1"], "pessimism should be in [0, 1000], received -1"),
        (["--pessimism", "1e308"], "pessimism should be in [0, 1000], received 1e+308"),
        (
            ["--task", "gym:tests.helpers.gym.gym_envs:Walk-v0", "--limit", "3"],
            "has no model that could be randomised, as pessimism needs; leave --pessimism out",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path, capsys, options, sentence):
    out = tmp_path / "run"
    assert main(["train", "--out", str(out), "--pessimism", "1", *options]) == 1
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1
    assert not (out / "checkpoint.safetensors").exists()
