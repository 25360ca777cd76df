"""A mistake in a parameter is one sentence, and a status that says so."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="without ROS 2: pip install 'holdfast-robot[ros]'")

from tests.helpers.ros.system import MONITOR, POLICY, TWIN, Client, Node, until

pytestmark = pytest.mark.alone

START = [
    (TWIN, {"task": 3}, "parameter task should be a text"),
    (TWIN, {"seed": -1}, "parameter seed should be a whole number from 0 to 2147483647"),
    (TWIN, {"seed": "one"}, "parameter seed should be a whole number"),
    (TWIN, {"rate_hz": 50}, "parameter rate_hz should be a number with a decimal point"),
    (MONITOR, {"hardware_id": 42}, "should be a text (a number that is a text is written in two"),
    (MONITOR, {"episode_cap": [1.0]}, "parameter episode_cap should be a list of texts"),
    (MONITOR, {"polciy": "x.onnx"}, "has no such one; did you mean policy?"),
    (POLICY, {"enable_motion": True}, "policy_node has no such one"),
]


@pytest.fixture(scope="module")
def started(folder):
    """All of them at once: what takes long is to begin."""
    made = [Node(name, folder, f"mistake_{i}", **given) for i, (name, given, _) in enumerate(START)]
    yield made
    for node in made:
        node.close()


@pytest.mark.parametrize("number", range(len(START)), ids=lambda i: str(START[i][1]))
def test_a_node_that_is_started_wrongly(started, number):
    node, (_, _, sentence) = started[number], START[number]
    assert node.ended(60.0) == 1
    (said,) = (line for line in node.said().splitlines() if line.startswith("error: "))
    assert sentence in said
    assert "Traceback" not in node.said()


MISTAKES = [
    ({}, "parameter policy should name a bundle or a contract, it is empty"),
    ({"policy": "/no/where.onnx"}, "/no/where.onnx: cannot be read (No such file or directory)"),
    ({"policy": "contract.yaml"}, "so policy should name a bundle, an .onnx file"),
    (
        {"policy": "circle.onnx", "proposals": "me"},
        "parameter proposals should be 'policy' or 'external', received 'me'",
    ),
    (
        {"policy": "circle.onnx", "limit": "five"},
        "parameter limit should be numbers with spaces between them, received 'five'",
    ),
    (
        {"policy": "circle.onnx", "limit": "5"},
        "limit: the policy was trained for one limit alone",
    ),
    (
        {"policy": "circle.onnx", "robot_config": "wrong_field.yaml"},
        "pose.pose.position.q: there is no such field in Odometry",
    ),
    (
        {"policy": "circle.onnx", "robot_config": "wrong_unit.yaml"},
        "position: unit should be 'm', received 'cm'",
    ),
]


@pytest.fixture(scope="module")
def monitor(folder):
    client, node = Client("mistaken"), Node(MONITOR, folder, "mistaken")
    yield client, node
    node.close()
    client.close()


DEFAULTS = {"policy": "", "proposals": "policy", "robot_config": "", "log_dir": "", "limit": ""}


@pytest.mark.parametrize(("given", "sentence"), MISTAKES, ids=lambda v: str(v)[:50])
def test_a_node_that_cannot_be_configured(monitor, given, sentence):
    client, node = monitor
    assert client.set(MONITOR, **{**DEFAULTS, **given})[0]
    before = len(node.said())
    assert not client.change(MONITOR, "configure")
    said = until(lambda: [s for s in node.said()[before:].splitlines() if "[ERROR]" in s])
    assert len(said) == 1
    assert sentence in said[0]
    assert client.lifecycle(MONITOR) == "unconfigured"


def test_a_log_is_never_overwritten(monitor, folder):
    client, node = monitor
    (folder / "taken").mkdir(exist_ok=True)
    (folder / "taken" / "taken_0.mcap").touch()
    given = {**DEFAULTS, "policy": "circle.onnx", "log_dir": "taken"}
    assert client.set(MONITOR, **given)[0]
    assert client.change(MONITOR, "configure")
    assert not client.change(MONITOR, "activate")
    assert "a log is never overwritten" in node.said()
    assert client.lifecycle(MONITOR) == "inactive"
    assert client.change(MONITOR, "cleanup")


def test_no_two_logs_without_a_name_have_one(monitor, folder):
    client, node = monitor
    assert client.set(MONITOR, **{**DEFAULTS, "policy": "circle.onnx"})[0]
    assert client.change(MONITOR, "configure")
    for _ in range(3):  # within a second or so
        assert client.change(MONITOR, "activate")
        assert client.change(MONITOR, "deactivate")
    logs = [line for line in node.said().splitlines() if "log: runs/" in line]
    assert len(set(logs)) == 3


def test_a_file_that_a_parameter_names_is_not_run(folder):
    """A parameter may come from a file, or from anybody in the graph."""
    ran = folder / "ran"
    (folder / "task.py").write_text(f"open({str(ran)!r}, 'w')\nTask = None\n")
    client, node = Client("program"), Node(TWIN, folder, "program", task="task.py:Task")
    try:
        assert not client.change(TWIN, "configure")
        until(lambda: "received 'task.py:Task': code that a file names is not run" in node.said())
        assert "Traceback" not in node.said()
        assert not ran.exists()
        assert client.set(TWIN, task="DriveCircle-v0")[0]
        assert client.change(TWIN, "configure")
    finally:
        node.close()
        client.close()
