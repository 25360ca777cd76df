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
    task = tasks.make("PointCircle-v0")
    usual = {"function": "corridor", "gamma": 0.99, "lam": 1.0}
    task.contract = dataclasses.replace(
        task.contract,
        task=task_id,
        costs=(
            Cost("near", parameters={"x_limit_m": 2.5}, limit=5.0, run_budget=15.0, **usual),
            Cost("far", parameters={"x_limit_m": 6.0}, limit=20.0, run_budget=40.0, **usual),
        ),
    )
    return task


@pytest.fixture
def policy():
    """A small one, to be changed."""
    return small_policy()


@pytest.fixture
def two_costs(monkeypatch):
    """The id of a task with two costs, there while the test runs."""
    monkeypatch.setitem(tasks.TASKS, "holdfast/TwoCosts-v0", billed_twice)
    return "holdfast/TwoCosts-v0"
