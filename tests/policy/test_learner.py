"""Training end to end on small batches: resuming, refusing, learning."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from holdfast.cli import main
from holdfast.errors import ConfigError, TrainingError
from holdfast.policy import checkpoint
from holdfast.policy.learner import CostTracker, Learner, TrainSettings, contract_of
from holdfast.policy.rollout import Collector, _episode_sums, estimate
from holdfast.policy.train import CHECKPOINT, PROGRESS, command
from holdfast.sim.randomise import Randomisation

SMALL = TrainSettings(task="PointCircle-v0", seed=3, iterations=4, copies=16, critic_steps=5)


def tensors(learner):
    return checkpoint.module_tensors(learner.networks.modules)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def stripped(record):
    return {key: value for key, value in record.items() if key != "seconds"}


RANDOMISED = dataclasses.replace(
    SMALL, randomise=Randomisation(mass=(0.5, 2.0), delay_steps=(0, 2), noise={"position": 0.1})
)


@pytest.mark.parametrize("settings", [SMALL, RANDOMISED], ids=["nominal", "randomised"])
def test_resumed_run_goes_on_bit_for_bit(tmp_path, settings):
    whole = Learner(settings)
    records = [whole.iterate() for _ in range(4)]
    half = Learner(settings)
    for _ in range(2):
        half.iterate()
    half.save(tmp_path / "c.safetensors")
    resumed = Learner.load(tmp_path / "c.safetensors")
    rest = [resumed.iterate() for _ in range(2)]
    assert [stripped(r) for r in rest] == [stripped(r) for r in records[2:]]
    assert same(tensors(resumed), tensors(whole))


def test_same_seed_same_run_other_seed_another():
    a, b = Learner(SMALL), Learner(SMALL)
    c = Learner(dataclasses.replace(SMALL, seed=4))
    records = [stripped(learner.iterate()) for learner in (a, b, c)]
    assert records[0] == records[1]
    assert records[0] != records[2]


def test_command_trains_resumes_and_never_overwrites(tmp_path):
    settings = dataclasses.replace(SMALL, iterations=2)
    command(settings, out=tmp_path)
    before = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(TrainingError, match="exists; give --resume"):
        command(settings, out=tmp_path)
    assert (tmp_path / CHECKPOINT).read_bytes() == before
    with pytest.raises(TrainingError, match="trained with gamma"):
        command(dataclasses.replace(settings, gamma=0.5), out=tmp_path, resume=True)
    with pytest.raises(TrainingError, match="trained with randomise = None, not Randomisation"):
        command(dataclasses.replace(RANDOMISED, iterations=2), out=tmp_path, resume=True)
    # A run that died after its last checkpoint has run iterations that will be run again.
    with (tmp_path / PROGRESS).open("a") as file:
        file.write(json.dumps({"iteration": 3}) + "\n")
    command(dataclasses.replace(settings, iterations=4), out=tmp_path, resume=True)
    lines = [json.loads(line) for line in (tmp_path / PROGRESS).read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [1, 2, 3, 4]
    assert all("cost" in line for line in lines)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"iterations": 0}, "iterations should be at least 1"),
        ({"copies": 0}, "copies should be at least 1"),
        ({"limit": -1.0}, "limit should be at least 0"),
        ({"limit": float("nan")}, "limit should be at least 0"),
        ({"initial_std": 0.0}, "initial_std should be above 0"),
    ],
)
def test_bad_settings_are_refused(change, sentence):
    with pytest.raises(TrainingError, match=sentence):
        dataclasses.replace(SMALL, **change)


@pytest.mark.parametrize(("limit", "budget"), [(None, 15.0), (2.0, 6.0), (0.0, 1.0)])
def test_the_run_budget_follows_the_limit(limit, budget):
    (cost,) = contract_of(dataclasses.replace(SMALL, limit=limit)).costs
    assert cost.limit == (5.0 if limit is None else limit)
    assert cost.run_budget == budget


def test_a_file_says_what_is_randomised_and_the_checkpoint_what_was_in_it(tmp_path):
    file, out = tmp_path / "robots.yaml", tmp_path / "run"
    file.write_text("mass: [0.5, 2.0]\ndelay_steps: [0, 2]\nnoise: {position: 0.1}\n")
    line = ["train", "--task", "PointCircle-v0", "--copies", "16", "--iterations", "1"]
    assert main([*line, "--randomise", str(file), "--out", str(out)]) == 0
    file.unlink()
    assert Learner.load(out / CHECKPOINT).settings.randomise == RANDOMISED.randomise


def test_what_cannot_be_randomised_is_refused(tmp_path, capsys):
    file = tmp_path / "robots.yaml"
    line = ["train", "--task", "PointCircle-v0", "--randomise", str(file), "--out", str(tmp_path)]
    for text, sentence in (
        ("mass: 2\n", f"randomisation {file}: mass: should be [low, high], with low at most high"),
        ("friction: [1, 2]\n", "randomisation: friction: robot 'point' touches nothing; leave it"),
    ):
        file.write_text(text)
        assert main(line) == 1
        assert capsys.readouterr().err.startswith(f"holdfast: {sentence}")
    assert list(tmp_path.iterdir()) == [file]


def test_unknown_task_is_refused():
    with pytest.raises(ConfigError, match="task should be one of holdfast/"):
        Learner(dataclasses.replace(SMALL, task="DriveCircle-v9"))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x00" * 64])
def test_damaged_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "c.safetensors"
    path.write_bytes(content)
    with pytest.raises(TrainingError, match="not a checkpoint"):
        Learner.load(path)


def test_missing_checkpoint_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="no such file"):
        Learner.load(tmp_path / "none.safetensors")


def test_checkpoint_of_another_contract_is_refused(tmp_path):
    learner = Learner(SMALL)
    path = tmp_path / "c.safetensors"
    learner.save(path)
    held, data = checkpoint.load(path)
    data["contract"] = data["contract"].replace('"period_s":0.1', '"period_s":0.2')
    checkpoint.save(path, held, data)
    with pytest.raises(TrainingError, match="what differs is period_s"):
        Learner.load(path)


def test_tracker_adds_what_steps_fell_short_of():
    tracker = CostTracker(rate=0.5)
    assert tracker.excess(12.0, 10.0) == 2.0
    tracker.predicted(12.0, -2.0)  # promised 10,
    assert tracker.excess(12.0, 10.0) == pytest.approx(2.0 + 0.5 * 2.0)  # delivered 12
    off = CostTracker(rate=0.0)
    off.predicted(12.0, -2.0)
    assert off.excess(12.0, 10.0) == 2.0


def test_episode_sums_by_hand():
    values = np.arange(1.0, 7.0).reshape(3, 2, 1)  # copy 0: 1, 3, 5; copy 1: 2, 4, 6
    ended = np.array([[False, False], [True, False], [False, True]])
    np.testing.assert_array_equal(_episode_sums(values, ended), [[4.0, 2.0], [12.0, 3.0]])


def test_advantages_use_each_cost_s_own_discount():
    """Swapping in the reward's discount for the cost's must change the cost's advantage alone."""
    learner = Learner(SMALL)
    rollout = Collector(learner.batch, learner.generator).collect(
        learner.policy, learner.normaliser, 65
    )

    def advantage(contract, gamma):
        e = estimate(rollout, learner.critic, learner.normaliser, contract, gamma, 0.9)
        return e.advantage

    contract = learner.contract
    cost = dataclasses.replace(contract.costs[0], gamma=0.5)
    other = dataclasses.replace(contract, costs=(cost,))
    base = advantage(contract, 0.9)
    np.testing.assert_array_equal(advantage(other, 0.9)[..., 0], base[..., 0])
    assert not np.allclose(advantage(other, 0.9)[..., 1], base[..., 1])
    np.testing.assert_array_equal(advantage(contract, 0.5)[..., 1], base[..., 1])


def test_trpo_learns_to_circle():
    """A dozen unconstrained updates on the point mass: the return rises far above the start's."""
    learner = Learner(
        TrainSettings(task="PointCircle-v0", algorithm="trpo", copies=64, critic_steps=40)
    )
    returns = [learner.iterate()["return"] for _ in range(12)]
    assert returns[-1] > returns[0] + 20.0
    assert returns[-1] == max(returns)
