"""The limit in force and the budget left in simulated copies."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from holdfast.bundle.limit_range import under
from holdfast.errors import TrainingError
from holdfast.policy.learn.settings import TrainSettings, contract_of
from holdfast.sim.batch.budgets import Budgets
from holdfast.sim.registry import resolve

DRIVE = resolve("DriveCircle-v0")
RANGED = contract_of(TrainSettings(task=DRIVE, limit_range=((2.0, 20.0),)))
OUT = np.array([1.0, 0.0])


def batch(contract=RANGED, copies=8, seed=0):
    short = dataclasses.replace(contract, episode_steps=60)
    return DRIVE.batch(copies, seed, threads=1, contract=short)


def test_what_is_left_is_the_limit_less_what_was_billed_before():
    copies = batch()
    left, spent = [copies.reset()[:, -1]], np.zeros(8)
    limit = copies.limit[:, 0].copy()
    np.testing.assert_array_equal(left[0], limit)
    for _ in range(59):
        step = copies.step(np.tile(OUT, (8, 1)))
        np.testing.assert_array_equal(step.observation[:, -1], limit - spent)
        spent += step.costs[:, 0]
    assert (spent > 0.0).any()
    step = copies.step(np.tile(OUT, (8, 1)))  # the last one: the next episode has its own limit
    np.testing.assert_array_equal(step.final_observation[:, -1], limit - spent)
    np.testing.assert_array_equal(step.observation[:, -1], copies.limit[:, 0])
    assert (copies.limit[:, 0] != limit).any()
    copies.close()


def test_each_part_of_the_range_has_a_copy_and_each_end_a_tenth_of_them():
    copies = batch(copies=20)
    for _ in range(3):
        copies.reset()
        limit = np.sort(copies.limit[:, 0])
        assert limit[:2].tolist() == [2.0, 2.0]
        assert limit[-2:].tolist() == [20.0, 20.0]
        place = np.log(limit[2:-2] / 2.0) / np.log(10.0)
        assert (16 * place).astype(int).tolist() == list(range(16))
    copies.close()


def test_one_limit_in_force_is_that_limit():
    copies = batch(under(RANGED, (7.0,)))
    assert (copies.reset()[:, -1] == 7.0).all()
    copies.close()


def test_a_contract_without_a_range_draws_nothing():
    budgets, rng = Budgets(DRIVE.contract, 3), np.random.default_rng(0)
    before = rng.bit_generator.state
    budgets.begin(np.arange(3), rng)
    assert rng.bit_generator.state == before
    assert budgets.limit.tolist() == [[10.0]] * 3


def test_a_state_has_the_limits_and_what_was_spent():
    one, other = batch(seed=1), batch(seed=2)
    one.reset()
    for _ in range(40):
        seen = one.step(np.tile(OUT, (8, 1))).observation
    np.testing.assert_array_equal(other.restore(one.state()), seen)
    for copies in (one, other):
        copies.close()


def test_limits_of_an_environment_of_gymnasiums_kind():
    task = resolve("gym:tests.helpers.gym.gym_envs:Walk-v0")
    contract = contract_of(TrainSettings(task=task, limit=(3.0,), limit_range=((1.0, 9.0),)))
    copies = task.batch(4, 0, contract=contract)
    first = copies.reset()[:, -1]
    np.testing.assert_array_equal(first, copies.limit[:, 0])
    assert len(set(first)) >= 3
    limit, spent = copies.limit.copy(), 0.0
    for _ in range(5):
        step = copies.step(np.ones((4, 1)))
        np.testing.assert_array_equal(step.final_observation[:, -1:], limit - spent)
        spent += step.costs
    copies.close()


@pytest.mark.parametrize("given", [((2.0, 9.0),), ((2.0, 9.0), (1.0, 2.0))])
def test_ranges_that_do_not_fit_a_task(given):
    with pytest.raises(TrainingError, match="limit"):
        contract_of(TrainSettings(task=DRIVE, limit_range=given))
