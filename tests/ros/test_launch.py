"""What a launch file does with mistakes, parameter files and the dead."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time

import pytest
import yaml

from tests.helpers.ros.launching import launch, launched, until

pytestmark = pytest.mark.alone

MISTAKES = [
    ({}, "parameter policy should name a bundle or a contract, it is empty"),
    ({"policy": "circle.onnx", "port": "/dev/nowhere"}, "/dev/nowhere: there is no such port"),
    ({"params_file": "/no/where.yaml"}, "params_file /no/where.yaml: cannot be read"),
    ({"episodes": "some"}, "parameter episodes should be a whole number from 1 to 1000000"),
    ({"params_file": "misspelt.yaml"}, "parameter espisodes: safety_monitor_node has no such one"),
]


def parameters(folder, name, **given):
    """Write a parameter file for the monitor; return its name."""
    section = {"/**/safety_monitor_node": {"ros__parameters": given}}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(section))
    return f"{name}.yaml"


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("arguments", "sentence"), MISTAKES, ids=lambda v: str(v)[:50])
def test_a_mistake_is_one_sentence_and_the_launch_ends(workspace, folder, arguments, sentence):
    parameters(folder, "misspelt", espisodes=2)
    status, said = launch(workspace, folder, "deploy", **arguments)
    assert status == 1
    assert sum(sentence in line for line in said.splitlines()) == 1, said


@pytest.mark.timeout(300)
def test_what_is_launched_obeys_the_parameter_file_and_then_its_user(workspace, folder, ros):
    """The file beats the defaults of the launch; after the bring-up a person changes states."""
    file = parameters(folder, "motion", enable_motion=True, episodes=7, log_dir="given")
    arguments = ("policy:=circle.onnx", f"params_file:={file}", "hardware_id:=42")
    monitor = "/safety_monitor_node"
    with (
        launched(workspace, folder, "twin", ready="twin_node]: active"),
        launched(workspace, folder, "deploy", *arguments, ready="policy_node]: active") as log,
    ):
        assert "True" in ros("param", "get", monitor, "enable_motion")
        assert "is: 42" in ros("param", "get", monitor, "hardware_id")
        ros("lifecycle", "set", monitor, "deactivate")
        ros("lifecycle", "set", monitor, "cleanup")
        ros("lifecycle", "set", monitor, "configure")
        time.sleep(1.0)
        assert ros("lifecycle", "get", monitor).strip() == "inactive [2]", "nobody activates it"
        ros("lifecycle", "set", monitor, "activate")
        time.sleep(1.0)
        assert ros("lifecycle", "get", "/policy_node").strip() == "active [3]"
        assert "has died" not in log.read_text()


@pytest.mark.timeout(120)
def test_the_death_of_the_monitor_is_a_failure_of_the_launch(workspace, folder):
    log = folder / "death.txt"
    with log.open("w") as out:
        process = subprocess.Popen(
            ["ros2", "launch", "holdfast", "deploy.launch.py", "policy:=circle.onnx"],
            env=workspace,
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: "policy_node]: active" in log.read_text())
        started = re.search(
            r"safety_monitor_node-\d+\]: process started with pid \[(\d+)", log.read_text()
        )
        os.kill(int(started[1]), signal.SIGKILL)
        assert process.wait(20) == 1, log.read_text()
    finally:
        process.kill()
