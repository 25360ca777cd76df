"""Limits of a range in training: each knot is a cost of its own to the algorithm."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from holdfast.bundle.limit_range import under
from holdfast.contract import Cost
from holdfast.errors import TrainingError
from holdfast.policy.algorithms.algorithm import OwnSettings
from holdfast.policy.learn.knots import Knots, along, at_knots, knots
from holdfast.policy.learn.learner import EpisodeSums, Learner
from holdfast.policy.learn.settings import TrainSettings, contract_of, settings_from
from holdfast.policy.models.checkpoint import start_from
from holdfast.policy.train import outcome
from holdfast.sim.registry import resolve

DRIVE = resolve("DriveCircle-v0")
RANGE = TrainSettings(
    task=DRIVE, limit_range=((2.0, 20.0),), iterations=2, batch=2000, hidden=(8,), critic_steps=4
)
CONTRACT = contract_of(RANGE)
(OUTSIDE,) = DRIVE.contract.costs
KNOTS = Knots.of(CONTRACT)


def test_the_contract_of_a_range():
    (cost,) = CONTRACT.costs
    assert (cost.limit, cost.episode_cap, cost.limit_range) == (10.0, 30.0, (2.0, 20.0))
    assert CONTRACT.observation[-1].signal == "budget_left"
    assert CONTRACT.observation[:-1] == DRIVE.contract.observation


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"limit_range": ((2.0, 20.0),) * 2}, "limit-range should have two values for each cost"),
        ({"limit_range": ((2.0, 5.0),)}, r"should be in limit_range \[2, 5\], received 10"),
        ({"algorithm": "trpo"}, "trpo ignores limits; leave --limit-range out"),
        ({"limit_range": ((1e-300, 1e300),)}, "limit-range should end at most 1000 times as high"),
        ({"limit_range": ((1.0, 1001.0),)}, "at most 1000 times as high .* received 1 1001"),
    ],
)
def test_ranges_that_cannot_be_trained_for(changes, sentence):
    given = {"task": DRIVE, "limit_range": ((2.0, 20.0),)} | changes
    with pytest.raises(TrainingError, match=sentence):
        contract_of(TrainSettings(**given))


def test_settings_of_before_have_no_range():
    plain = TrainSettings(task=DRIVE)
    assert "limit_range" not in plain.to_data()
    assert settings_from(json.loads(json.dumps(plain.to_data()))) == plain
    assert settings_from(json.loads(json.dumps(RANGE.to_data()))) == RANGE


def test_names_and_owners():
    places = ("2", "2.94", "4.31", "6.32", "9.28", "13.6", "20")
    assert KNOTS.names == tuple(f"outside_corridor at {d}" for d in places)
    assert KNOTS.owner.tolist() == [0] * 7
    assert KNOTS.several
    one = Knots.of(DRIVE.contract)
    assert (one.names, one.several) == (("outside_corridor",), False)


def test_advantages_of_each_knot_by_hand():
    limit = np.array([[2.0], [2.0], [20.0], [20.0]])
    given = torch.tensor([[1.0, 3.0], [2.0, 5.0], [3.0, -1.0], [4.0, -7.0]])
    found = KNOTS.advantages(given, limit)
    assert found[:, 0].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert found[:, 1].tolist() == [-1.0, 1.0, 0.0, 0.0]
    assert found[:, 7].tolist() == [0.0, 0.0, 3.0, -3.0]
    np.testing.assert_allclose(found[:, 2:7], 0.0, atol=1e-6)


def test_means_at_each_knot_by_hand():
    limit, between = np.array([[2.0], [20.0], [0.0]]), 2.0 * 10.0 ** (1.0 / 12.0)
    limit[2] = between
    values = np.array([[4.0], [30.0], [10.0]])
    found = KNOTS.means(values, limit)[:, 0]
    np.testing.assert_allclose(found, [6.0, 10.0, 0.0, 0.0, 0.0, 0.0, 30.0], atol=1e-6)


def test_knots_of_a_range():
    (cost,) = CONTRACT.costs
    np.testing.assert_allclose(knots(cost), 2.0 * 10.0 ** (np.arange(7) / 6.0))
    assert knots(OUTSIDE).tolist() == [10.0]
    assert knots(dataclasses.replace(OUTSIDE, limit=0.0)).tolist() == [0.0]
    assert knots(under(CONTRACT, (5.0,)).costs[0]).tolist() == [5.0]
    assert len(knots(dataclasses.replace(OUTSIDE, limit_range=(7.0, 10.5)))) == 2
    assert len(knots(dataclasses.replace(OUTSIDE, limit_range=(7.0, 10.6)))) == 3


def test_shares_of_knots():
    (cost,) = CONTRACT.costs
    limits = np.array([[2.0], [np.sqrt(2.0 * knots(cost)[1])], [20.0]])[:, 0]
    expected = [[1.0, *[0.0] * 6], [0.5, 0.5, *[0.0] * 5], [*[0.0] * 6, 1.0]]
    np.testing.assert_allclose(at_knots(cost, limits), expected, atol=1e-12)
    anywhere = np.geomspace(2.0, 20.0, 60).reshape(3, 20)
    np.testing.assert_allclose(at_knots(cost, anywhere).sum(axis=-1), 1.0)
    assert at_knots(OUTSIDE, np.full((3, 2), 10.0)).tolist() == np.ones((3, 2, 1)).tolist()


def test_contracts_along_a_range():
    contract = CONTRACT
    found = [each.costs[0].limit for each in along(contract)]
    assert found == knots(contract.costs[0]).tolist()
    assert along(DRIVE.contract) == [DRIVE.contract]
    low, high = contract.costs[0], "abs(position.x) > 1.5"
    far = Cost("far", high, 1.0, 3.0, 1.0, 0.95, limit_range=(1.0, 2.0))
    near = Cost("near", high, 1.0, 3.0, 1.0, 0.95)
    two = dataclasses.replace(
        contract,
        costs=(low, near, far),
        observation=(
            *contract.observation[:-1],
            dataclasses.replace(contract.observation[-1], size=3),
        ),
    )
    ends = [each.limits.tolist() for each in along(two)]
    assert (ends[0], ends[-1], len(ends)) == ([2.0, 1.0, 1.0], [20.0, 1.0, 2.0], 7)


@pytest.fixture(scope="module")
def trained():
    learner = Learner(RANGE)
    records = [learner.iterate() for _ in range(2)]
    yield learner, records
    learner.close()


def test_an_update_holds_the_excess_of_each_knot(trained, monkeypatch):
    learner = Learner(RANGE)
    given = []
    update = learner.algorithm.update
    monkeypatch.setattr(
        learner.algorithm, "update", lambda *both: given.append(both) or update(*both)
    )
    learner.limit = 0.5 * learner.limit
    rollout = learner.collector.collect(*learner.algorithm.acting(), 250)
    evaluated = learner.evaluate(rollout)
    learner.step(evaluated)
    ((samples, estimate),) = given
    sums, share = evaluated.sums, KNOTS.shares(rollout.limit[0])
    np.testing.assert_allclose(sums.limit, rollout.limit[0])
    np.testing.assert_allclose(estimate.cost, (share * sums.costs).mean(axis=0))
    np.testing.assert_allclose(estimate.limit, 0.5 * (share * sums.limit).mean(axis=0))
    assert samples.advantages.shape == (2000, 8)
    np.testing.assert_allclose(samples.advantages.mean(0), 0.0, atol=1e-4)
    assert not torch.equal(samples.advantages[:, 1], samples.advantages[:, 7])
    learner.close()


def test_the_record_has_a_row_for_each_knot(trained):
    _, (first, _) = trained
    assert list(first["by_limit"]) == list(KNOTS.names) == list(first["nu"])
    limits = [row["limit"] for row in first["by_limit"].values()]
    assert limits == sorted(limits)
    assert 2.0 <= limits[0] < 2.94
    assert first["limits"]["outside_corridor"] == pytest.approx(18.0 / np.log(10.0), rel=0.1)
    lines = [str(line) for line in outcome([first], CONTRACT, "cpo")]
    assert len(lines) == 9
    assert f"under limits of {limits[0]:.3g} on average" in lines[1]
    assert [line for line in lines if "--resume" in line] == lines[-1:]  # the advice is there once


def test_a_knot_without_episodes_has_no_row(trained):
    learner, _ = trained
    each = np.ones((3, 1))
    sums = EpisodeSums(each[:, 0], each[:, 0], each, each, 2.0 * each)
    assert list(learner._by_limit(sums)) == ["outside_corridor at 2"]


def test_a_training_goes_on_bit_for_bit(trained, tmp_path):
    _, records = trained
    learner = Learner(RANGE)
    learner.iterate()
    learner.save(tmp_path / "checkpoint.safetensors")
    learner.close()
    again = Learner.load(tmp_path / "checkpoint.safetensors")
    second = again.iterate()
    again.close()
    for key in ("return", "costs", "by_limit", "kl", "nu"):
        assert second[key] == records[1][key]


def test_another_range_begins_with_its_networks(trained, tmp_path):
    learner, _ = trained
    learner.save(tmp_path / "checkpoint.safetensors")
    other = Learner(dataclasses.replace(RANGE, limit=(5.0,), limit_range=((5.0, 9.0),)))
    start_from(tmp_path / "checkpoint.safetensors", other.networks)
    for name, tensor in learner.policy.state_dict().items():
        assert torch.equal(tensor, other.policy.state_dict()[name])
    alone = Learner(dataclasses.replace(RANGE, limit_range=()))
    with pytest.raises(TrainingError, match=r"a range of limits, .* give --limit-range LOW HIGH"):
        start_from(tmp_path / "checkpoint.safetensors", alone.networks)
    for each in (other, alone):
        each.close()


@pytest.mark.parametrize("algorithm", ["pcpo", "focops", "pdo", "ppo-lagrangian"])
def test_algorithms_that_meet_limits_take_a_range(algorithm):
    learner = Learner(dataclasses.replace(RANGE, algorithm=algorithm, own=OwnSettings()))
    record = learner.iterate()
    assert list(record["nu"]) == list(KNOTS.names)
    learner.close()


def test_shards_and_one_range_of_one_value():
    """A range of one value, as fine-tuning leaves it, is trained as a limit."""
    learner = Learner(dataclasses.replace(RANGE, limit=(5.0,), limit_range=((5.0, 5.0),), shards=2))
    record = learner.iterate()
    assert record["limits"] == {"outside_corridor": 5.0}
    assert "by_limit" not in record
    learner.close()
