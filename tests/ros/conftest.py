"""The package in a workspace of the ROS 2 of this computer, and what is launched there."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import yaml

from holdfast.robot import config as configs
from tests.helpers.data.bundles import drive_contract, write_bundle
from tests.helpers.ros import graphs, ros2

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def workspace(tmp_path_factory):
    """Build the package as a ROS user does; return the environment that using it takes."""
    ros2.environment()  # or skip
    folder = tmp_path_factory.mktemp("workspace")
    colcon = [sys.executable, "-m", "colcon", "--log-base", "log", "build", "--symlink-install"]
    subprocess.run(
        [*colcon, "--base-paths", str(ros2.ROOT)],
        cwd=folder,
        env=ros2.environment(),
        check=True,
        capture_output=True,
    )
    found = ros2.environment(f"{folder}/install/setup.sh")
    helpers = os.pathsep.join((str(HERE), found["PYTHONPATH"]))
    plain = {"PYTHONPATH": helpers, "RCUTILS_COLORIZED_OUTPUT": "0"}
    return {
        **found,
        **graphs.ENVIRONMENT,
        **plain,
        "RMW_IMPLEMENTATION": ros2.middlewares()[0],
    }


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """What is launched: a policy that circles, one that says NaN, a contract, wrong files."""
    made = tmp_path_factory.mktemp("launched")
    long = drive_contract(episode_steps=72_000)
    write_bundle(made / "circle.onnx", long, action=(0.4, 1.0))
    write_bundle(made / "nan.onnx", drive_contract(), action=(0.4, 1.0), nan_at=0.9)
    plain = yaml.safe_load(drive_contract(episode_steps=72_000).to_json())
    (made / "contract.yaml").write_text(yaml.safe_dump(plain))
    good = configs.find("drive").read_text()
    for name, right, wrong in (
        ("wrong_field", "pose.pose.position.x", "pose.pose.position.q"),
        ("wrong_unit", "{unit: m, fields", "{unit: cm, fields"),
    ):
        assert right in good
        (made / f"{name}.yaml").write_text(good.replace(right, wrong))
    # Drivers of Humble take commands without a stamp; proposals have one all the same.
    stamped, proposal = good.index("  command:"), good.index("  proposal:")
    command = good[stamped:proposal].replace("TwistStamped", "Twist").replace("twist.", "")
    (made / "twist.yaml").write_text(good[:stamped] + command + good[proposal:])
    return made


@pytest.fixture
def ros_in(folder):
    """Return what runs `ros2 ...` in an environment, and returns what it said."""

    def run(environment, *arguments, limit_s=40, status=0):
        ended = subprocess.run(
            ["ros2", *arguments],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=limit_s,
        )
        assert ended.returncode == status, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    return lambda environment: partial(run, environment)


@pytest.fixture
def ros(ros_in, workspace):
    return ros_in(workspace)
