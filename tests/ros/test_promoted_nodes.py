"""The nodes run what a registry promoted, refuse what it does not allow, and write receipts."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="without ROS 2: pip install 'holdfast-robot[ros]'")

from holdfast.cli import main
from holdfast.robot import config as configs
from holdfast.robot.promote import receipts
from tests.helpers.data.bundles import drive_contract, write_bundle
from tests.helpers.ros.system import MONITOR, POLICY, TWIN, Client, Node, system, until

pytestmark = pytest.mark.alone

NAMESPACE = "promoted"


@pytest.fixture
def robot(tmp_path):
    """A robot's file with a registry, in which a policy that circles is promoted."""
    config = tmp_path / "robot.yaml"
    config.write_text("extends: drive\nregistry: {folder: registry, hardware_id: unit-7}\n")
    contract = drive_contract(episode_steps=72_000)
    for name, speed in (("first", 0.3), ("circle", 0.4)):
        policy = write_bundle(tmp_path / f"{name}.onnx", contract, action=(speed, 1.0))
        words = ["promote", str(policy), "--config", str(config), "--anyway", "a test"]
        assert main(words) == 0
    return config


def opened(config):
    registry = configs.load(config).open_registry()
    assert registry is not None
    return registry


def test_the_promoted_policy_runs_and_has_receipts(robot, tmp_path):
    both = {"policy": "promoted", "robot_config": str(robot)}
    monitor = {**both, "enable_motion": True, "log_dir": "run", "hardware_id": "unit-7"}
    with system(
        tmp_path, NAMESPACE, (TWIN, {"scan_rays": 36}), (MONITOR, monitor), (POLICY, both)
    ) as (client, _):
        client.drives()
        (began,) = receipts.runs(opened(robot).entries(), {})
        assert (began.slot, began.run, began.ended) == ("promoted", "run", "")
        # Another policy is promoted meanwhile: the nodes have to be configured anew for it.
        assert main(["rollback", "--config", str(robot), "--why", "a test"]) == 0
        assert client.change(MONITOR, "deactivate")
        assert not client.change(MONITOR, "activate")
    (ran,) = receipts.runs(opened(robot).entries(), {})
    assert ran.ended
    assert ran.how == "the node was deactivated, shut down or interrupted"
    assert ran.bundle != opened(robot).state.slot("promoted").bundle


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hardware_id": "unit-8"}, "registry is of unit-7, and this robot says that it is unit-8"),
        ({"policy": "canary"}, "a canary runs its trial with `holdfast deploy --canary` alone"),
        ({"explore": True}, "was admitted without --explore, and should run so"),
        ({"evidence": "e.json"}, "give neither --episode-cap nor --evidence"),
        ({"robot_config": ""}, "--config should name the robot's file"),
    ],
)
def test_what_the_monitor_s_node_refuses(robot, tmp_path, changes, sentence):
    given = {"policy": "promoted", "robot_config": str(robot), "hardware_id": "unit-7"}
    client = Client(NAMESPACE)
    node = Node(MONITOR, tmp_path, NAMESPACE, **{**given, **changes})
    try:
        assert not client.change(MONITOR, "configure")
        until(lambda: sentence in node.said())
        assert len(list(opened(robot).entries())) == 2
    finally:
        node.close()
        client.close()


def test_the_policy_s_node_refuses_an_unsigned_bundle(tmp_path):
    config = tmp_path / "robot.yaml"
    keys = "trusted_keys: {alice: 'ed25519:" + "0" * 64 + "'}"
    section = f"{{folder: registry, hardware_id: unit-7, {keys}}}"
    config.write_text(f"extends: drive\nregistry: {section}\n")
    policy = write_bundle(tmp_path / "policy.onnx")
    client = Client(NAMESPACE)
    node = Node(POLICY, tmp_path, NAMESPACE, policy=str(policy), robot_config=str(config))
    try:
        assert not client.change(POLICY, "configure")
        until(lambda: "should be signed by one of alice, it has no signature" in node.said())
    finally:
        node.close()
        client.close()
