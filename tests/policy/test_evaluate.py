"""Intervals over episodes, and a task with two costs through export."""

from __future__ import annotations

import numpy as np

from holdfast.bundle import reader as bundle
from holdfast.log.intervals import interval
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import TrainSettings
from holdfast.policy.ship import verify
from holdfast.policy.ship.export import export


def test_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        found = interval(rng.exponential(10.0, 80), resamples=400)
        covered += found["low"] <= 10.0 <= found["high"]
    assert 0.89 <= covered / 300 <= 0.98


def test_a_task_with_two_costs_ships_both(two_costs, tmp_path):
    """Named in the provenance, and a column each of the bundle's cost-to-go."""
    learner = Learner(TrainSettings(task=two_costs, batch=1300, critic_steps=3))
    learner.iterate()
    learner.save(tmp_path / "state.safetensors")
    learner.close()
    export(tmp_path / "state.safetensors", tmp_path / "policy.onnx", episodes=20)
    held = bundle.load(tmp_path / "policy.onnx")
    assert set(held.provenance["measured"]["costs"]) == {"near", "far"}
    assert set(held.provenance["prediction"]) == {"near", "far"}
    assert held.cost_to_go(held.golden.observation[0]).shape == (2,)
    assert verify.command(tmp_path / "policy.onnx") == 0
