"""Torch on one thread, as in training: on networks of this size more are slower."""

import dataclasses

import pytest
import torch

from holdfast.contract import Cost
from holdfast.sim import registry as tasks
from tests.helpers.data.behaviour import small_policy

torch.set_num_threads(1)


def billed_twice(task_id):
    """PointCircle that is billed beyond 2.5 m from the middle, and beyond 6 m."""
    task = tasks.resolve("PointCircle-v0").make()
    usual = {"gamma": 0.99, "lam": 1.0}
    task.contract = dataclasses.replace(
        task.contract,
        task=task_id,
        costs=(
            Cost("near", "abs(position.x) > 2.5", limit=5.0, episode_cap=15.0, **usual),
            Cost("far", "abs(position.x) > 6.0", limit=20.0, episode_cap=40.0, **usual),
        ),
    )
    return task


@pytest.fixture
def policy():
    """A small one, to be changed."""
    return small_policy()


@pytest.fixture
def two_costs(monkeypatch):
    """A task with two costs, registered while the test runs."""
    monkeypatch.setitem(tasks.TASKS, "holdfast/TwoCosts-v0", billed_twice)
    return tasks.resolve("TwoCosts-v0")
