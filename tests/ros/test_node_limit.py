"""A policy for a range of limits, under one of them, in both nodes."""

from __future__ import annotations

import dataclasses
import time

import pytest

pytest.importorskip("rclpy", reason="without ROS 2: pip install 'holdfast-robot[ros]'")

from holdfast.bundle.limit_range import under
from holdfast.contract import ObservationChannel
from holdfast.log.reader import read
from tests.helpers.data.bundles import drive_contract, write_bundle
from tests.helpers.ros.system import MONITOR, POLICY, TWIN, system

pytestmark = pytest.mark.alone


def test_both_nodes_are_told_the_limit(folder):
    plain = drive_contract(episode_steps=72_000)
    (cost,) = plain.costs
    left = ObservationChannel("left", 1, "1", "budget_left")
    contract = dataclasses.replace(
        plain,
        observation=(*plain.observation, left),
        costs=(dataclasses.replace(cost, limit_range=(2.0, 20.0)),),
    )
    write_bundle(folder / "ranged.onnx", contract, action=(0.4, 1.0))
    both = {"policy": "ranged.onnx", "limit": "5"}
    log = f"limit-{time.time_ns()}"
    monitor = {**both, "enable_motion": True, "log_dir": log, "hardware_id": "unit-7"}
    with system(folder, "limited", (TWIN, {}), (MONITOR, monitor), (POLICY, both)) as made:
        client, _ = made
        client.drives()
        done, sentence = client.ask("disarm")
        assert done, sentence
        assert client.change(MONITOR, "deactivate")
    assert read(folder / log).info.contract == under(contract, (5.0,))
